# SPDX-License-Identifier: GPL-2.0-only
"""A driver for the bench, and what is expected of it.

A case is a folder with a driver, or one that says which driver of a kernel
tree it is.  Without a case.toml nothing is expected of the old form, and all
that can be expected of the converted one.
"""
from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cocci_dma import Trouble

from .kernel import PROFILES
from .qemu import MODES
from .verdict import ORACLES, Verdict

FILE = 'case.toml'

#: Bytes of the messages that the guest program sends, and how many rounds.
SIZES = (1024, 256, 64, 7, 1)
ROUNDS = 2


@dataclass(frozen=True)
class Wrong:
    """A deliberately wrong conversion, and the oracle that must catch it."""

    name: str
    source: Path        # a patch upon the converted form, or files for it
    oracle: str
    mode: str


@dataclass(frozen=True)
class Tree:
    """Where in a kernel tree a driver is.

    release: of Linux, a profile of the kernel.  paths: what is converted, in
    that tree.  patch: upon both forms, without which it cannot be run.
    """

    release: str
    paths: tuple[str, ...]
    patch: Path | None = None


@dataclass(frozen=True)
class Machine:
    """What a driver is for: values of -device, further words for QEMU."""

    devices: tuple[str, ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A driver and its expectations.

    works: mode -> does the old form work there; None: nothing is known.
    oracles: those that must speak of the old form.  needs: rules without
    which there is nothing to be seen.  tree: None when the driver is in the
    folder itself.  machine: None for that of the whole bench.  programs: what
    drives the device in the guest, one after the other, instead of that of the
    whole bench; a C file is compiled.
    """

    name: str
    folder: Path
    summary: str = ''
    works: dict[str, bool] | None = None
    oracles: tuple[str, ...] = ()
    sizes: tuple[int, ...] = SIZES
    rounds: int = ROUNDS
    node: str = ''
    needs: tuple[str, ...] = ()
    wrong: tuple[Wrong, ...] = field(default=())
    tree: Tree | None = None
    machine: Machine | None = None
    programs: tuple[Path, ...] = ()

    def old_is_as_expected(self, verdicts: dict[str, Verdict]
                           ) -> dict[str, str]:
        """mode -> what is not as expected of the old form, or ''.

        Where it works, only dma-debug may speak; where it does not, one of
        its other oracles must, and each must in some mode.  dma-debug looks
        at calls, not at what becomes of them: it speaks in every mode or in
        none.
        """
        if self.works is None:
            return dict.fromkeys(verdicts, '')
        visible = set(self.oracles) - {'dma-debug'}
        heard = {oracle for verdict in verdicts.values()
                 for oracle in verdict.said}
        return {mode: self._unexpected(set(verdict.said), mode,
                                       visible - heard)
                for mode, verdict in verdicts.items()}

    def expected_of_old(self, mode: str) -> str:
        """The same in words, or '' when nothing is known."""
        if self.works is None:
            return ''
        words = 'must work' if self.works[mode] else 'must fail'
        return words + (', and be reported' if 'dma-debug' in self.oracles
                        else '')

    def _unexpected(self, said: set[str], mode: str, mute: set[str]) -> str:
        assert self.works is not None
        other = said - set(self.oracles)
        if other:
            return '%s: not expected' % ', '.join(sorted(other))
        if 'dma-debug' in self.oracles and 'dma-debug' not in said:
            return 'dma-debug is silent'
        said = said - {'dma-debug'}
        if self.works[mode]:
            return '%s: should work here' % ', '.join(sorted(said)) \
                if said else ''
        if mute or not said:
            return 'should fail; silent: %s' % ', '.join(
                sorted(mute or set(self.oracles) - {'dma-debug'}))
        return ''


def read(folder: Path) -> Case:
    """The case in a folder.  Trouble when it is none, or its file is wrong."""
    if not folder.is_dir():
        raise Trouble('%s: no such folder: name the folder of a driver'
                      % folder)
    folder = folder.resolve()
    if not any((folder / name).is_file() for name in ('Kbuild', 'Makefile')):
        raise Trouble('%s: neither Kbuild nor Makefile in it: the bench needs '
                      'what builds the module' % folder)
    path = folder / FILE
    if not path.exists():
        return Case(_name(folder), folder)
    try:
        return _parse(folder, tomllib.loads(path.read_text('utf-8')))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Trouble('%s: is no TOML: %s' % (path, error)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Trouble('%s: %s: see docs/runtime.md' % (path, error)) from None


def _name(folder: Path) -> str:
    """A word for make, for KTAP, and for paths in the guest."""
    return re.sub(r'[^\w.+-]+', '_', folder.name, flags=re.ASCII)


def _parse(folder: Path, table: dict[str, Any]) -> Case:
    known = {'summary', 'needs', 'old', 'guest', 'wrong', 'tree', 'machine'}
    _only(table, known, 'the file')
    old = table.get('old')
    works = None
    oracles: tuple[str, ...] = ()
    if old is not None:
        _only(old, {*MODES, 'oracles'}, '[old]')
        works = {mode: {'pass': True, 'fail': False}[old[mode]]
                 for mode in MODES}
        oracles = tuple(map(_oracle, old['oracles']))
    guest = table.get('guest', {})
    _only(guest, {'sizes', 'transfers', 'node', 'programs'}, '[guest]')
    return Case(_name(folder), folder, str(table.get('summary', '')), works,
                oracles, tuple(map(int, guest.get('sizes', SIZES))),
                int(guest.get('transfers', ROUNDS)),
                str(guest.get('node', '')),
                tuple(map(str, table.get('needs', ()))),
                tuple(_wrong(folder, name, one)
                      for name, one in table.get('wrong', {}).items()),
                _tree(folder, table.get('tree')),
                _machine(table.get('machine')),
                tuple(_file(folder, name)
                      for name in guest.get('programs', ())))


def _tree(folder: Path, table: dict[str, Any] | None) -> Tree | None:
    if table is None:
        return None
    _only(table, {'release', 'paths', 'patch'}, '[tree]')
    release, paths = table['release'], tuple(map(str, table['paths']))
    if release not in PROFILES or not PROFILES[release].release:
        raise ValueError('there is no kernel of Linux %s' % release)
    if not paths:
        raise ValueError('paths in [tree] names no driver')
    patch = table.get('patch')
    return Tree(release, paths, _file(folder, patch) if patch else None)


def _machine(table: dict[str, Any] | None) -> Machine | None:
    if table is None:
        return None
    _only(table, {'devices', 'options'}, '[machine]')
    return Machine(tuple(map(str, table['devices'])),
                   tuple(map(str, table.get('options', ()))))


def _file(folder: Path, name: str) -> Path:
    """A file that the case names, which is relative to its folder."""
    if not (folder / name).is_file():
        raise ValueError('%s is missing' % name)
    return folder / name


def _only(table: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ValueError('unknown key %s in %s' % (unknown[0], where))


def _oracle(name: str) -> str:
    if name not in ORACLES:
        raise ValueError('unknown oracle %s' % name)
    return name


#: Where an oracle speaks, if it speaks at all.
_MODE_OF = {'data': 'swiotlb', 'iommu': 'iommu'}


def _wrong(folder: Path, name: str, table: dict[str, Any]) -> Wrong:
    _only(table, {'oracle', 'mode', 'summary'}, '[wrong.%s]' % name)
    oracle = _oracle(table['oracle'])
    mode = table.get('mode', _MODE_OF.get(oracle, 'direct'))
    if mode not in MODES:
        raise ValueError('unknown mode %s' % mode)
    for source in (folder / 'wrong' / (name + '.patch'),
                   folder / 'wrong' / name):
        if source.exists():
            return Wrong(name, source, oracle, mode)
    raise ValueError('wrong/%s.patch is missing' % name)

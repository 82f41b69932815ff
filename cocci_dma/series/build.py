# SPDX-License-Identifier: GPL-2.0-only
"""Compile what a patch touches, before and after it.

The sources are a copy of the commit in the user's cache, the objects lie in a
folder beside it (`make O=`): the user's tree is neither written to nor built
in.  Both are kept, since to prepare a kernel takes minutes.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence

import filelock

from runtime import kernel_source

from .. import Trouble, process
from . import repository
from .steps import Unit

from evidence import kbuild  # from cocci/: see the package's __init__

#: Debian packages to build a kernel's objects.
PACKAGES = ('gcc', 'make', 'bc', 'bison', 'flex', 'libelf-dev', 'libssl-dev')

#: Upon allmodconfig: what only costs time, or makes an error of each warning.
_FRAGMENT = '''\
CONFIG_COMPILE_TEST=y
CONFIG_DEBUG_INFO_NONE=y
# CONFIG_DEBUG_INFO is not set
# CONFIG_DEBUG_INFO_BTF is not set
# CONFIG_GCC_PLUGINS is not set
# CONFIG_GCOV_KERNEL is not set
# CONFIG_KASAN is not set
# CONFIG_KCOV is not set
# CONFIG_KCSAN is not set
# CONFIG_RUST is not set
# CONFIG_WERROR is not set
'''

_SAID = re.compile(r'(?P<path>[^\s:]+):\d+:(?:\d+:)? '
                   r'(?P<said>(?:warning|(?:fatal )?error): .*)')


#: What make says before it compiles or checks a file.
_DOES = re.compile(r'  (?:CC|CHECK) +(?:\[M\] +)?(\S+)\.[co]$')

#: Object -> its warnings, without line numbers; '': not known whose.
Warnings = dict[str, Counter[str]]


@dataclass(frozen=True)
class Outcome:
    """What came of compiling some files.

    reason: why there is not an object of each, ''.  warnings: those of the
    compiler; sparse: those of sparse, None: not run.
    """

    reason: str = ''
    warnings: Warnings = field(default_factory=dict)
    sparse: Warnings | None = None


def objects(unit: Unit, changed: Iterable[str],
            content: Callable[[str], bytes]) -> list[str]:
    """The objects that hold something of files of a driver, as make names
    them.  content: of a file, by its path."""
    found: set[str] = set()
    for module in unit.modules:
        sources = {path for path in module if path.endswith('.c')}
        sources -= {os.path.normpath(os.path.join(os.path.dirname(path), name))
                    for path in module
                    for name in (n[1:-1] for n in kbuild.includes(
                        content(path)))}
        for path in changed:
            if path in sources:
                found.add(path)
            elif path in module:
                found |= sources
    return sorted(path[:-2] + '.o' for path in found)


class Builder:
    """A tree and a folder for objects, ready to compile in.

    config: what the configuration is made of.  compiler: its version.
    """

    def __init__(self, folder: Path, scratch: repository.Scratch,
                 config: Path | None, settings: Sequence[str], jobs: int):
        self._tree, self._out = folder / 'source', folder / 'objects'
        self._index = folder / 'index'
        self._scratch, self._settings, self._jobs = scratch, settings, jobs
        self._config = config
        self.config = config.name if config else 'allmodconfig'
        self.compiler = ''
        self.has_sparse = shutil.which('sparse') is not None

    def prepare(self) -> None:
        """Make the tree hold the base, and all that an object needs.  Raises
        Trouble."""
        # of a git that was killed: nobody else works here
        self._index.with_suffix('.lock').unlink(missing_ok=True)
        ready = self._out / 'prepared'
        state = '%s\n' % self._scratch.base
        self.hold(self._scratch.base)
        if not ready.is_file() or ready.read_text('ascii') != state:
            self._out.mkdir(exist_ok=True)
            ready.unlink(missing_ok=True)
            self._configure()
            self._make('prepare')
            ready.write_text(state, 'ascii')
        found = re.search(r'^CONFIG_CC_VERSION_TEXT="(.*)"$',
                          (self._out / '.config').read_text('utf-8'), re.M)
        self.compiler = found[1] if found else 'compiler unknown'

    def hold(self, commit: str) -> None:
        """Make the tree hold a commit."""
        self._tree.mkdir(exist_ok=True)
        self._scratch.check_out(self._tree, self._index, commit)

    def build(self, names: Sequence[str]) -> Outcome:
        """Compile objects anew, with W=1, and have sparse look at them."""
        for name in names:
            (self._out / name).unlink(missing_ok=True)
        said = self._said('W=1', *names)
        missing = [name for name in names if not (self._out / name).is_file()]
        if missing:
            return Outcome(self._plain(kernel_source.reason(said))
                           or 'make gives no %s' % missing[0])
        warnings = self._warnings(said)
        if not self.has_sparse:
            return Outcome('', warnings)
        return Outcome('', warnings, self._warnings(
            self._said('C=2', 'CHECK=sparse', *names)))

    def _configure(self) -> None:
        target = self._out / '.config'
        if self._config is None:
            fragment = self._out / 'fragment'
            fragment.write_text(_FRAGMENT, 'ascii')
            self._make('KCONFIG_ALLCONFIG=%s' % fragment, 'allmodconfig')
            return
        lines = self._config.read_bytes().split(b'\n')
        target.write_bytes(b'\n'.join(
            line for line in lines if not line.startswith(
                b'CONFIG_WERROR=')) + b'\n# CONFIG_WERROR is not set\n')
        self._make('olddefconfig')

    def _command(self, *arguments: str) -> list[str]:
        return ['make', '-C', str(self._tree), 'O=%s' % self._out,
                '-j%d' % self._jobs, *self._settings, *arguments]

    def _make(self, *arguments: str) -> None:
        """Raises Trouble."""
        code, said = self._run(self._command('-s', *arguments))
        if code:
            raise Trouble('the kernel cannot be prepared for building (%s): '
                          'see that %s are installed, or give --no-build'
                          % (self._plain(kernel_source.reason(said))
                             or 'make %s fails' % arguments[-1],
                             ', '.join(PACKAGES)))

    def _said(self, *arguments: str) -> str:
        return self._run(self._command('-k', '-O', *arguments))[1]

    @staticmethod
    def _run(command: Sequence[str]) -> tuple[int, str]:
        try:
            return process.run(command)
        except FileNotFoundError:
            raise Trouble('make is missing: apt-get install %s, or give '
                          '--no-build' % ' '.join(PACKAGES)) from None

    def _plain(self, said: str) -> str:
        """What make says, with paths as the kernel has them."""
        return said.replace('%s/' % self._tree, '').replace(
            '%s/' % self._out, '').replace('../source/', '')

    def _warnings(self, said: str) -> Warnings:
        """What make said with its output synchronised."""
        warnings: Warnings = {}
        name = ''
        for line in self._plain(said).splitlines():
            if found := _DOES.match(line):
                name = found[1] + '.o'
            elif found := _SAID.match(line):
                warnings.setdefault(name, Counter())[
                    '%s: %s' % found.group('path', 'said')] += 1
        return warnings


@contextlib.contextmanager
def opened(scratch: repository.Scratch, kdir: str, config: Path | None,
           settings: Sequence[str], jobs: int) -> Iterator[Builder]:
    """A Builder for a tree, prepared.  Raises Trouble.

    config: a configuration; None: that of the tree, or allmodconfig.
    settings: variables for make, as NAME=VALUE.
    """
    if config is None and os.path.isfile(os.path.join(kdir, '.config')):
        config = Path(kdir, '.config')
    try:
        told = config.read_bytes() if config else _FRAGMENT.encode()
    except OSError as error:
        raise Trouble('%s: cannot be read: %s'
                      % (config, error.strerror)) from None
    key = hashlib.sha256(b'\0'.join([os.fsencode(kdir), told, *map(
        os.fsencode, settings)])).hexdigest()[:16]
    folder = kernel_source.cache('series') / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder.with_suffix('.lock'), timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise Trouble('%s: another cocci-dma builds there: run again when it '
                      'is done' % folder) from None
    except OSError as error:
        raise Trouble(kernel_source.trouble(error, folder)) from None
    try:
        builder = Builder(folder, scratch, config, settings, jobs)
        builder.prepare()
        yield builder
    except OSError as error:
        raise Trouble(kernel_source.trouble(error, folder)) from None
    finally:
        lock.release()

# SPDX-License-Identifier: GPL-2.0-only
"""From what the user named to drivers, ready to be worked on."""
from __future__ import annotations

import functools
import hashlib
import os
import re
import zlib
from dataclasses import dataclass
from typing import (Callable, Iterable, Iterator, Mapping, NamedTuple,
                    TypeVar)

from . import Trouble, config, source
from .cache import Cache
from .facts import Facts, Signature, signature
from .findings import Coverage
from .rules import Rule

from evidence import kbuild  # from cocci/: see the package's __init__


@dataclass(frozen=True)
class Tree:
    """The folder that shown paths are relative to.

    base is the current folder, or the kernel tree that was named; when a file
    of a driver lies outside, it is `/`, and paths are shown absolute.  root is
    the top of the project: what is kept of findings speaks of paths below it,
    wherever the tool is called.
    """

    base: str
    root: str = ''

    def rooted(self, path: str) -> str:
        """A path relative to base, as one relative to the project."""
        return os.path.relpath(self.absolute(path), self.root or self.base)

    def relative(self, path: str) -> str:
        """The path of a file below base."""
        return os.path.relpath(path, self.base)

    def absolute(self, path: str) -> str:
        """The reverse of `relative`."""
        return os.path.join(self.base, path)

    def shown(self, path: str) -> str:
        """How the user is told of a path that is relative to base."""
        return os.path.join('/', path) if self.base == '/' else path


class Files(Mapping[str, source.Source]):
    """Files by path relative to base, read when somebody wants one."""

    def __init__(self, tree: Tree, paths: Iterable[str]):
        """paths: absolute."""
        self._paths = {tree.relative(path): path for path in paths}
        self._read: dict[str, source.Source] = {}

    def __getitem__(self, path: str) -> source.Source:
        if path not in self._read:
            self._read[path] = source.read(self._paths[path])
        return self._read[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def forget(self) -> None:
        """Give back the memory of what was read."""
        self._read.clear()


@dataclass
class Work:
    """A driver.  words: those of the facts that occur in its files."""

    name: str
    files: Mapping[str, source.Source]
    size: int
    words: frozenset[str] = frozenset()

    def forget(self) -> None:
        """Give back the memory of what was read."""
        if isinstance(self.files, Files):
            self.files.forget()


def kernel_tree(folder: str) -> str:
    """The absolute path of a kernel tree; Trouble when it is none."""
    if not all(os.path.exists(os.path.join(folder, name))
               for name in ('Kbuild', 'scripts/coccicheck')):
        raise Trouble('%s is no kernel tree (no Kbuild, scripts/coccicheck): '
                      'name the top folder of the kernel sources' % folder)
    return os.path.realpath(folder)


def find(paths: Iterable[str], kdir: str | None, facts: Facts,
         cache: Cache) -> tuple[Tree, list[kbuild.Driver]]:
    """The drivers that `paths` name, and the folder to show paths from.

    A path that does not exist is looked up in `kdir` as well.
    """
    top = kernel_tree(kdir) if kdir else None
    named = [_located(path, top) for path in paths]
    drivers = _drivers(named, facts, cache)
    files = {file for driver in drivers for file in driver.files}
    base = next((base for base in (top, os.getcwd())
                 if base and all(_below(file, base) for file in files)), '/')
    return Tree(base, top or _root(os.path.commonpath(named), base)), drivers


def _root(folder: str, base: str) -> str:
    """The top of the project that a folder lies in; else `base`."""
    while folder != '/':
        if any(os.path.exists(os.path.join(folder, name))
               for name in ('.git', config.NAME)):
            return folder
        folder = os.path.dirname(folder)
    return base


class _Seen(NamedTuple):
    """What grouping depends on: it holds while none of this changes."""

    folders: dict[str, bytes]           # what they list
    files: dict[str, Signature]         # what was read
    includes: bytes                     # of all sources that were named


def _drivers(named: list[str], facts: Facts,
             cache: Cache) -> list[kbuild.Driver]:
    """The drivers below absolute paths, each once."""
    sources = list(_sources(named))
    kbuild.known_includes.update(_includes(sources, facts))
    includes = hashlib.sha1(repr([
        (path, kbuild.known_includes.get(path)) for path in sources]
    ).encode('utf-8', 'surrogateescape')).digest()
    kept: tuple[_Seen, list[kbuild.Driver]] | None = cache.get(
        'drivers', named)
    if kept is not None:
        seen, drivers = kept
        if seen.includes == includes \
                and all(_listed(f) == was for f, was in seen.folders.items()) \
                and all(signature(f) == was for f, was in seen.files.items()):
            return drivers
    drivers = []
    for path in named:
        drivers += kbuild.drivers([path])
        if not any(_below(file, path) for driver in drivers
                   for file in driver.files):
            raise Trouble('%s: no C files in it: name a folder that holds '
                          'the source of a driver' % path)
    drivers = list({driver.files: driver for driver in drivers}.values())
    seen = _Seen({folder: _listed(folder) for folder in kbuild.looked_in},
                 {path: signature(path) for path in kbuild.read_files},
                 includes)
    cache.put((seen, drivers), 'drivers', named)
    return drivers


def _sources(named: Iterable[str]) -> Iterator[str]:
    """The C files at or below paths, in order."""
    for path in named:
        if not os.path.isdir(path):
            yield path
        for folder, subfolders, names in os.walk(path):
            subfolders[:] = sorted(name for name in subfolders
                                   if not name.startswith('.'))
            for name in sorted(names):
                if name.endswith(('.c', '.h')):
                    yield os.path.join(folder, name)


def _includes(sources: Iterable[str],
              facts: Facts) -> Iterator[tuple[str, tuple[str, ...]]]:
    for path in sources:
        try:
            yield path, facts.of(path).includes
        except Trouble:     # told when it turns out to belong to a driver
            continue


def _listed(folder: str) -> bytes:
    """A digest of what a folder holds, as far as it matters to Kbuild."""
    digest = hashlib.sha1()
    try:
        with os.scandir(folder or '.') as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(('.c', '.h')) or entry.name in (
                        'Kbuild', 'Makefile', 'MAINTAINERS', '.git') \
                        or entry.is_dir(follow_symlinks=False):
                    digest.update(b'%d%s\0' % (entry.is_symlink(),
                                               os.fsencode(entry.name)))
    except OSError:
        return b''
    return digest.digest()


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip('/') + '/')


def shard(tree: Tree, drivers: list[kbuild.Driver], number: int,
          of: int) -> list[kbuild.Driver]:
    """The drivers of one of `of` parts (from 1); those that share a file are
    in one."""
    return [driver for chain in chains(drivers, lambda d: d.files)
            if zlib.crc32(os.fsencode(tree.relative(min(
                min(driver.files) for driver in chain)))) % of == number - 1
            for driver in chain]


_Any = TypeVar('_Any')


def chains(every: Iterable[_Any],
           files: Callable[[_Any], Iterable[str]]) -> list[list[_Any]]:
    """Drivers that share a file (a header), put together, in order."""
    above: dict[str, str] = {}

    def top(path: str) -> str:
        while above.setdefault(path, path) != path:
            above[path] = path = above[above[path]]
        return path

    members = [(driver, list(files(driver))) for driver in every]
    for _, paths in members:
        for path in paths[1:]:
            above[top(path)] = top(paths[0])
    chain_of: dict[str, list[_Any]] = {}
    for driver, paths in members:
        chain_of.setdefault(top(paths[0]), []).append(driver)
    return list(chain_of.values())


def _located(path: str, top: str | None) -> str:
    """The real path of what the user named."""
    if not os.path.exists(path) and top and os.path.exists(
            os.path.join(top, path)):
        path = os.path.join(top, path)
    if not os.path.exists(path):
        where = ' (nor in %s)' % top if top else ''
        raise Trouble('%s: no such file or folder%s: check the path'
                      % (path, where))
    if os.path.isdir(path):
        if not os.access(path, os.R_OK | os.X_OK):
            raise Trouble('%s: cannot be read: check its permissions' % path)
    elif not os.path.isfile(path):
        raise Trouble('%s: neither a file nor a folder' % path)
    elif not path.endswith(('.c', '.h')):
        raise Trouble('%s: not a C source file (.c or .h)' % path)
    return os.path.realpath(path)


#: What spatch may be given as the name of a file.  It makes commands for a
#: shell of it, so that a file `$(reboot).c` would do what it says; the rest it
#: does not find again, and loses what it made of it.
_NAME = re.compile(r'(?!-)[\w./+,=:@%-]+')


_real = functools.lru_cache(maxsize=65536)(os.path.realpath)


def _problem_of_name(tree: Tree, path: str) -> str:
    """Why spatch must not see a file of this name, or ''."""
    if _NAME.fullmatch(tree.relative(path)):
        folder = os.path.dirname(path)
        if _real(folder) == folder:
            return ''
        return 'it is reached through a symbolic link: name the folder that ' \
            'the link leads to'
    return 'its name holds signs that mean something to a shell: rename it, ' \
        'or go to a folder below which all names are of letters, digits, ' \
        '_, - and .'


def read(tree: Tree, drivers: Iterable[kbuild.Driver], rules: list[Rule],
         coverage: Coverage, facts: Facts,
         also: frozenset[str] = frozenset()) -> Iterator[Work]:
    """Drivers that a rule may concern, or that hold a word of `also`; the
    others are only counted.

    A driver with a file that is no text is skipped whole, and noted: what
    cannot be seen in full must not be judged.
    """
    counted: set[str] = set()
    for driver in drivers:
        usable = True
        words: frozenset[str] = frozenset()
        size = 0
        for path in driver.files:
            fact = facts.of(path)
            words |= fact.words
            size += fact.size
            problem = fact.problem or _problem_of_name(tree, path)
            usable = usable and not problem
            if path in counted:
                continue
            counted.add(path)
            if problem:
                coverage.skipped.append(
                    (tree.shown(tree.relative(path)), '%s%s' % (
                        problem, '; the other files of its driver are '
                        'left, too' if len(driver.files) > 1 else '')))
            else:
                coverage.files += 1
                coverage.functions += fact.functions
        if usable and (words & also or any(
                not rule.keywords or not words.isdisjoint(rule.keywords)
                for rule in rules)):
            yield Work(driver.name, Files(tree, driver.files), size, words)

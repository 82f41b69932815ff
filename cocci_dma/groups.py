# SPDX-License-Identifier: GPL-2.0-only
"""From what the user named to drivers, read and ready to be worked on."""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Iterable, Iterator

from . import Trouble, source
from .findings import Coverage
from .rules import Rule

from evidence import kbuild  # from cocci/: see the package's __init__


@dataclass(frozen=True)
class Tree:
    """The folder that shown paths are relative to.

    base is the current folder, or the kernel tree that was named; when a file
    of a driver lies outside, it is `/`, and paths are shown absolute.
    """

    base: str

    def relative(self, path: str) -> str:
        """The path of a file below base."""
        return os.path.relpath(path, self.base)

    def absolute(self, path: str) -> str:
        """The reverse of `relative`."""
        return os.path.join(self.base, path)

    def shown(self, path: str) -> str:
        """How the user is told of a path that is relative to base."""
        return os.path.join('/', path) if self.base == '/' else path


@dataclass
class Work:
    """A driver whose files have been read (keys: paths relative to base)."""

    name: str
    files: dict[str, source.Source]
    size: int


def kernel_tree(folder: str) -> str:
    """The absolute path of a kernel tree; Trouble when it is none."""
    if not all(os.path.exists(os.path.join(folder, name))
               for name in ('Kbuild', 'scripts/coccicheck')):
        raise Trouble('%s is no kernel tree (no Kbuild, scripts/coccicheck): '
                      'name the top folder of the kernel sources' % folder)
    return os.path.realpath(folder)


def find(paths: Iterable[str],
         kdir: str | None = None) -> tuple[Tree, list[kbuild.Driver]]:
    """The drivers that `paths` name, and the folder to show paths from.

    A path that does not exist is looked up in `kdir` as well.
    """
    top = kernel_tree(kdir) if kdir else None
    named = [_located(path, top) for path in paths]
    drivers: list[kbuild.Driver] = []
    for path in named:
        drivers += kbuild.drivers([path])
        if not any(_below(file, path) for driver in drivers
                   for file in driver.files):
            raise Trouble('%s: no C files in it: name a folder that holds '
                          'the source of a driver' % path)
    drivers = list({driver.files: driver for driver in drivers}.values())
    files = {file for driver in drivers for file in driver.files}
    for base in (top, os.getcwd()):
        if base and all(_below(file, base) for file in files):
            return Tree(base), drivers
    return Tree('/'), drivers


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip('/') + '/')


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


def read(tree: Tree, drivers: Iterable[kbuild.Driver], rules: list[Rule],
         coverage: Coverage) -> Iterator[Work]:
    """Drivers that a rule may concern, read; the others are only counted.

    A driver with a file that is no text is skipped whole, and noted: what
    cannot be seen in full must not be judged.
    """
    counted: set[str] = set()
    skipped: set[str] = set()
    for driver in drivers:
        files: dict[str, source.Source] = {}
        usable = True
        for path in driver.files:
            try:
                files[tree.relative(path)] = source.read(path)
            except source.Unusable as why:
                usable = False
                if path not in skipped:
                    skipped.add(path)
                    coverage.skipped.append(
                        (tree.shown(tree.relative(path)), '%s%s' % (
                            why, '; the other files of its driver are left, '
                            'too' if len(driver.files) > 1 else '')))
        for path, file in files.items():
            if path not in counted:
                counted.add(path)
                coverage.files += 1
                coverage.functions += source.count_functions(file.content)
        concerned = any(rule.concerns(file.original)
                        for file in files.values() for rule in rules)
        if usable and concerned:
            yield Work(driver.name, files,
                       sum(len(file.original) for file in files.values()))

# SPDX-License-Identifier: GPL-2.0-only
"""Is everything installed that is needed, and if not, which package has it?"""
from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from dataclasses import dataclass
from typing import Iterator

from . import Trouble, spatch

#: Python module -> Debian package.  Without these nothing runs.
MODULES = {
    'click': 'python3-click',
    'diskcache': 'python3-diskcache',
    'filelock': 'python3-filelock',
    'pathspec': 'python3-pathspec',
    'rich': 'python3-rich',
}

#: The same for what only pages and patches need, and only `make test`.
RUNTIME_MODULES = {
    'jinja2': 'python3-jinja2',
    'pygments': 'python3-pygments',
}
TEST_MODULES = {
    'html5lib': 'python3-html5lib',
    'hypothesis': 'python3-hypothesis',
    'jsonschema': 'python3-jsonschema',
    'pytest': 'python3-pytest',
    'xdist': 'python3-pytest-xdist',
    'yaml': 'python3-yaml',
}

#: Program -> Debian package: to show diffs.
PROGRAMS = {'diff': 'diffutils'}

#: To apply diffs, and to build and boot what was converted.
RUNTIME_PROGRAMS = {
    'patch': 'patch',
    'perl': 'perl',
    'make': 'make',
    'gcc': 'gcc',
    'flex': 'flex',
    'bison': 'bison',
    'bc': 'bc',
    'qemu-system-x86_64': 'qemu-system-x86',
    'busybox': 'busybox-static',
}

#: To make patches, beside what builds kernels.
PATCHES_PROGRAMS = {
    'git': 'git',
    'sparse': 'sparse',
}

#: To look at the bench's pages and at patches as people do, and for `check
#: --diff, --hosts`.
TEST_PROGRAMS = {
    'b4': 'b4',
    'chromium': 'chromium',
    'git': 'git',
    'parallel': 'parallel',
    'reuse': 'reuse',
    'rsync': 'rsync',
    'ssh': 'openssh-client',
}


#: The oldest spatch that all rules work with, as their headers say.
OLDEST = (1, 1, 1)

_DEBIAN_PYTHON = '/usr/bin/python3'


@dataclass(frozen=True)
class Item:
    """One thing that is needed; detail says what it is, or how to get it.

    Without an optional one only the bench, patches and the tests cannot run,
    or not in full.  A trap is nothing to be installed: what is not good there
    is good to know.
    """

    name: str
    good: bool
    detail: str
    optional: bool = False
    trap: bool = False


def examine() -> Iterator[Item]:
    """Look at everything, the most important first."""
    try:
        version, python = spatch.probe()
        yield Item('spatch', _number(version) >= OLDEST, '%s, with Python %s'
                   '%s' % (version, python, '' if _number(version) >= OLDEST
                           else ': %d.%d.%d or newer is needed' % OLDEST))
        yield from _traps(version)
    except Trouble as trouble:
        yield Item('spatch', False, str(trouble))
    yield Item('Python', sys.version_info >= (3, 11),
               '%s (%d.%d; 3.11 or newer is needed)'
               % (sys.executable, *sys.version_info[:2]))
    for modules, optional in ((MODULES, False), (RUNTIME_MODULES, True),
                              (TEST_MODULES, True)):
        for module, package in modules.items():
            good = importlib.util.find_spec(module) is not None
            yield Item('module ' + module, good,
                       'found' if good else _install(package), optional)
    optional_programs = RUNTIME_PROGRAMS | PATCHES_PROGRAMS | TEST_PROGRAMS
    for programs, optional in ((PROGRAMS, False), (optional_programs, True)):
        for program, package in programs.items():
            path = shutil.which(program)
            yield Item(program, path is not None, path or _install(package),
                       optional)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r'\d+', version)[:3]))


def _traps(version: str) -> Iterator[Item]:
    """What differs between releases of spatch, and between `cocci-dma`, which
    takes care of it, and the kernel's own coccicheck, which does not."""
    if _number(version) < (1, 3):
        yield Item('guard() and __free()', False, 'spatch %s parses few '
                   'functions that use them, which are then named; 1.3 parses '
                   'more' % version, trap=True)
    first = shutil.which('python3')
    if first and os.path.realpath(first) != os.path.realpath(_DEBIAN_PYTHON):
        yield Item('python3 on PATH', False, '%s: spatch takes the Python '
                   'library of that one. cocci-dma sees to it that it does '
                   'not; for `make coccicheck` in a kernel tree, put /usr/bin '
                   'first' % first, trap=True)
    if 'HOME' not in os.environ:
        yield Item('HOME', False, 'is not set: under the kernel\'s coccicheck '
                   'spatch dies of it', trap=True)


def _install(package: str) -> str:
    return 'apt-get install ' + package

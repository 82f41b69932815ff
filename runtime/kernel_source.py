# SPDX-License-Identifier: GPL-2.0-only
"""Debian's kernel source, and folders of the cache that are made from it.

Used by the bench (kernel.py) and by the tree that the tests compile drivers
against (tests/kernel_tree.py).  What is made once is kept in

    ${XDG_CACHE_HOME:-~/.cache}/cocci-dma/KIND/KEY

where KEY is a hash of all that shapes it.  A folder of that name is complete:
it is made under another one, and renamed.
"""
from __future__ import annotations

import errno
import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import Callable, Sequence

import filelock

from cocci_dma import Trouble, process

SOURCE_PACKAGE = 'linux-source-6.12'
TARBALL = Path('/usr/src') / (SOURCE_PACKAGE + '.tar.xz')

#: Debian packages for unpacking, configuring and building a kernel and its
#: modules.
PACKAGES = (SOURCE_PACKAGE, 'bc', 'bison', 'flex', 'gcc', 'libc6-dev',
            'libelf-dev', 'lz4', 'make', 'perl', 'xz-utils')

#: The kernel is built with so many jobs at most.
JOBS = min(os.cpu_count() or 1, 4)


def cache(kind: str) -> Path:
    """The folder in the user's cache for things of a kind."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'cocci-dma' / kind


def key(*parts: str, tree: Path | None = None) -> str:
    """A name for what is made of a kernel tree, the compiler, and `parts`.

    tree: the source where it lies and stays; by default Debian's package.
    Trouble when there is no source, or no compiler.
    """
    if tree is not None:
        makefile = (tree / 'Makefile').read_text(encoding='utf-8')
        version = '%s %s' % (tree, ' '.join(re.findall(
            r'^(?:VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)', makefile, re.M)))
    elif TARBALL.is_file():
        state = TARBALL.stat()
        version = '%s %d %d' % (SOURCE_PACKAGE, state.st_size,
                                state.st_mtime_ns)
    else:
        raise Trouble('%s is missing: apt-get install %s'
                      % (TARBALL, SOURCE_PACKAGE))
    compiler = run(['gcc', '--version']).splitlines()[0]
    text = '\n'.join((version, compiler, *parts))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def made(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, a complete one; `make` fills another that is then renamed.

    Only one process makes it, others wait.  What a killed one left is removed.
    """
    if folder.is_dir():
        return folder
    work = folder.with_suffix('.tmp')
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_suffix('.lock')):
            if folder.is_dir():
                return folder
            process.remove(work)
            work.mkdir()
            try:
                make(work)
                work.rename(folder)
            except BaseException:
                process.remove(work)
                raise
    except OSError as error:
        raise Trouble(trouble(error, folder)) from None
    return folder


def trouble(error: OSError, folder: Path) -> str:
    """Why a folder of the cache cannot be made, and what to do."""
    if error.errno == errno.ENOSPC:
        return ('no space left for %s: make room, or set XDG_CACHE_HOME to '
                'another disk' % folder)
    return ('%s: cannot be made (%s): set XDG_CACHE_HOME to a folder that you '
            'may write' % (folder, error.strerror))


def missing_packages(packages: Sequence[str] = PACKAGES) -> list[str]:
    """Those that are not installed; all of them on a machine without dpkg."""
    absent = []
    for package in packages:
        try:
            status = subprocess.run(
                ['dpkg-query', '--show', '--showformat=${db:Status-Status}',
                 package], capture_output=True, text=True,
                check=False).stdout
        except FileNotFoundError:
            return list(packages)
        if status.strip() != 'installed':
            absent.append(package)
    return absent


def require_packages() -> None:
    """Trouble when a package for building a kernel is missing."""
    absent = missing_packages()
    if absent:
        raise Trouble('the kernel cannot be built: apt-get install %s'
                      % ' '.join(absent))


def unpack(folder: Path) -> None:
    """Unpack the source into `folder`.  Raises Trouble."""
    require_packages()
    run(['tar', '-x', '-f', str(TARBALL), '--strip-components=1', '-C',
         str(folder), '--use-compress-program=xz -T0'])


def configure(folder: Path, fragment: str, tree: Path | None = None) -> None:
    """Make folder/.config of tinyconfig and `fragment`.

    tree: the source, when `folder` is only what is built of it.
    Trouble when a line of the fragment does not survive.
    """
    make = ['make', '-s', '-C', str(folder)]
    if tree is None:
        tree = folder
        run([*make, 'tinyconfig'])
    else:
        run(['make', '-s', '-C', str(tree), 'O=%s' % folder, 'tinyconfig'])
    lines = folder / 'fragment.config'
    lines.write_text(fragment, encoding='utf-8')
    run(['sh', '-c', 'cd "$1" && "$2/scripts/kconfig/merge_config.sh" -m '
         '.config fragment.config', 'sh', str(folder), str(tree)])
    run([*make, 'olddefconfig'])
    settings = (folder / '.config').read_text(encoding='utf-8').splitlines()
    for name, value in _wanted(fragment).items():
        line = '%s=%s' % (name, value)
        if value == 'n' and any(one.startswith(name + '=')
                                for one in settings):
            raise Trouble('the kernel insists on %s' % name)
        if value != 'n' and line not in settings:
            raise Trouble('the kernel does not accept %s: what does it '
                          'depend on?' % line)


def _wanted(fragment: str) -> dict[str, str]:
    """option -> value; the last line for an option counts."""
    wanted = {}
    for line in fragment.splitlines():
        found = re.fullmatch(r'(CONFIG_\w+)=(.*)', line.strip())
        if found:
            wanted[found[1]] = found[2]
        elif found := re.fullmatch(r'# (CONFIG_\w+) is not set',
                                   line.strip()):
            wanted[found[1]] = 'n'
    return wanted


def run(command: Sequence[str], check: bool = True,
        on_line: Callable[[str], None] | None = None) -> str:
    """Run a command of the build; what it said.

    Trouble when it is not there, or (with `check`) when it fails: one line
    that names the first error.
    """
    try:
        code, said = process.run(command, on_line)
    except FileNotFoundError:
        raise Trouble('%s is missing: apt-get install %s'
                      % (command[0], ' '.join(PACKAGES))) from None
    if code and 'No space left' in said:
        raise Trouble('no space left: make room, or set XDG_CACHE_HOME '
                      '(kernel) and TMPDIR (drivers) to another disk; %s'
                      % reason(said))
    if code and check:
        raise Trouble('%s failed: %s' % (' '.join(command), reason(said)
                                         or 'exit %d' % code))
    return said


def reason(said: str) -> str:
    """The line of a build's output that says why it failed, or ''."""
    lines = [line.strip() for line in said.splitlines()]
    for sign in ('No space left', ' error: ', 'ERROR: modpost: ', '***'):
        for line in lines:
            if sign in line:
                return line
    return ''

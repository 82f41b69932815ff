# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that the bench boots: its own builds of Debian's sources.

Linux 6.12, or for drivers that are a part of it, the release that they are of.
Built once (3 to 5 minutes with two jobs) and kept in the cache: the image,
what building a module against it needs, and gen_init_cpio.
"""
from __future__ import annotations

import hashlib
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import rich.console
import rich.progress

from cocci_dma import Trouble

from . import FOLDER, kernel_source, trees


@dataclass(frozen=True)
class Profile:
    """What a kernel is made of.

    fragments: of its configuration, the later upon the earlier.  release: one
    of trees.RELEASES; '' for SOURCE_PACKAGE.
    """

    fragments: tuple[str, ...]
    release: str = ''


PROFILES = {
    'default': Profile(('kernel.config',)),
    'kasan': Profile(('kernel.config', 'kasan.config')),
    '5.10': Profile(('kernel.config', 'linux-5.10.config'), '5.10'),
}

#: What building a module needs of a kernel that was built beside its source.
_FOR_MODULES = ('.config', 'Makefile', 'Module.symvers', 'arch/x86/include',
                'include', 'scripts', 'source', 'tools/objtool/objtool')

_MANIFEST = 'manifest'

#: Lines that make prints for a build; for the progress bar only.
_ACTIONS = 1150


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted and built against.

    tree: its source, when that is more than what is built against.
    """

    profile: str
    folder: Path
    tree: Path | None = None

    @property
    def image(self) -> Path:
        """What QEMU loads."""
        return self.folder / 'bzImage'

    @property
    def build_folder(self) -> Path:
        """What `make -C` takes to build a module."""
        return self.folder / 'build'

    @property
    def gen_init_cpio(self) -> Path:
        """The kernel's own program that makes an initramfs."""
        return self.folder / 'gen_init_cpio'


def prepare(profile: str = 'default', extra: str = '') -> Kernel:
    """The kernel of a profile; built on the first use.

    extra: further lines for its configuration.  Raises Trouble.
    """
    if profile not in PROFILES:
        raise Trouble('unknown profile %s: RUNTIME_PROFILE is one of %s'
                      % (profile, ', '.join(PROFILES)))
    parts = PROFILES[profile]
    fragment = ''.join((FOLDER / name).read_text(encoding='utf-8')
                       for name in parts.fragments) + extra
    # Resolved: so are the paths of what is converted in it
    tree = trees.tree(parts.release).resolve() if parts.release else None
    folder = kernel_source.cache('runtime') / kernel_source.key(fragment,
                                                                tree=tree)

    def build(work: Path) -> None:
        with _progress(profile) as on_line:
            if tree is None:
                _build(work, fragment, on_line)
            else:
                _build_beside(tree, work, fragment, on_line)
            (work / _MANIFEST).write_text(_manifest(work), encoding='utf-8')

    kernel_source.made(folder, build)
    _require_whole(folder)
    return Kernel(profile, folder, tree)


def _build(work: Path, fragment: str, on_line: Callable[[str], None]) -> None:
    """Fill the folder `work`; the source in it goes when all is done."""
    source, build = work / 'source', work / 'build'
    source.mkdir()
    build.mkdir()
    on_line('unpacking the source')
    kernel_source.unpack(source)
    kernel_source.configure(source, fragment)
    make = ['make', '-C', str(source)]
    kernel_source.run([*make, '-j%d' % kernel_source.JOBS, 'bzImage',
                       'modules'], on_line=on_line)
    # The kernel's own choice of what a module build needs, as its packages
    # for distributions have it
    kernel_source.run([*make, 'run-command', 'KBUILD_RUN_COMMAND='
                       'scripts/package/install-extmod-build %s' % build])
    shutil.copy(source / 'arch/x86/boot/bzImage', work / 'bzImage')
    shutil.copy(source / 'usr/gen_init_cpio', work / 'gen_init_cpio')
    shutil.copy(source / '.config', build / '.config')
    shutil.rmtree(source)


def _build_beside(tree: Path, work: Path, fragment: str,
                  on_line: Callable[[str], None]) -> None:
    """The same of a source that stays where it is, and is only read."""
    kernel_source.require_packages()
    whole, build = work / 'whole', work / 'build'
    whole.mkdir()
    kernel_source.configure(whole, fragment, tree)
    kernel_source.run(['make', '-C', str(whole), '-j%d' % kernel_source.JOBS,
                       'bzImage', 'modules'], on_line=on_line)
    shutil.copy(whole / 'arch/x86/boot/bzImage', work / 'bzImage')
    shutil.copy(whole / 'usr/gen_init_cpio', work / 'gen_init_cpio')
    for name in _FOR_MODULES:
        (build / name).parent.mkdir(parents=True, exist_ok=True)
        (whole / name).rename(build / name)
    shutil.rmtree(whole)


def _manifest(folder: Path) -> str:
    """A line for every file, with a hash of what it holds."""
    return ''.join(
        '%s %s\n' % (hashlib.sha256(path.read_bytes()).hexdigest(),
                     path.relative_to(folder))
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.name != _MANIFEST)


def _require_whole(folder: Path) -> None:
    """Trouble when the folder no longer holds what was put into it."""
    try:
        good = _manifest(folder) == (folder / _MANIFEST).read_text()
    except (OSError, UnicodeDecodeError):
        good = False
    if not good:
        raise Trouble('the kernel in the cache is damaged: rm -r %s, and it '
                      'is built again' % folder)


@contextmanager
def _progress(profile: str) -> Iterator[Callable[[str], None]]:
    """Something to call with each line of make's output."""
    what = 'kernel' if profile == 'default' else 'kernel (%s)' % profile
    print('building the %s of the bench: once, 3 to 5 minutes' % what,
          file=sys.stderr, flush=True)
    if not sys.stderr.isatty():
        yield lambda line: None
        return
    columns = (rich.progress.TextColumn('{task.description}'),
               rich.progress.BarColumn(),
               rich.progress.TimeElapsedColumn())
    with rich.progress.Progress(*columns, transient=True,
                                console=rich.console.Console(stderr=True)
                                ) as bar:
        task = bar.add_task(what, total=_ACTIONS)

        def on_line(line: str) -> None:
            words = line.split()
            bar.update(task, advance=1, description='%-40.40s' %
                       (words[-1] if words else ''))

        yield on_line

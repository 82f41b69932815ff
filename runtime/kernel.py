# SPDX-License-Identifier: GPL-2.0-only
"""The kernel that the bench boots: its own build of linux-source-6.12.

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

from . import FOLDER, kernel_source

#: name -> fragments, the later upon the earlier.
PROFILES = {
    'default': ('kernel.config',),
    'kasan': ('kernel.config', 'kasan.config'),
}

_MANIFEST = 'manifest'

#: Lines that make prints for a build; for the progress bar only.
_ACTIONS = 1150


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted and built against."""

    profile: str
    folder: Path

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
    fragment = ''.join((FOLDER / name).read_text(encoding='utf-8')
                       for name in PROFILES[profile]) + extra
    folder = kernel_source.cache('runtime') / kernel_source.key(fragment)
    if not folder.is_dir():
        with _progress(profile) as on_line:
            kernel_source.made(folder,
                               lambda work: _build(work, fragment, on_line))
    _require_whole(folder)
    return Kernel(profile, folder)


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
    (work / _MANIFEST).write_text(_manifest(work), encoding='utf-8')


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

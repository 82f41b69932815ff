# SPDX-License-Identifier: GPL-2.0-only
"""What a guest finds when it starts.  Made by gen_init_cpio, without root."""
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Mapping, Sequence

from cocci_dma import Trouble

from . import FOLDER, kernel_source
from .kernel import Kernel


def build_init(folder: Path) -> Path:
    """Compile the guest program into `folder`, static.  Raises Trouble."""
    return compile_program(folder / 'init', sorted(FOLDER.glob('guest/*.c')))


def compile_program(program: Path, sources: Sequence[Path]) -> Path:
    """Make a program that needs no library of C files.  Raises Trouble."""
    kernel_source.run(['gcc', '-static', '-O2', '-Wall', '-Wextra', '-Werror',
                       '-D_GNU_SOURCE', '-o', str(program),
                       *map(str, sources)])
    return program


def is_static(program: Path) -> bool:
    """Is it a program that needs no library, of which a guest has none?"""
    done = subprocess.run(['readelf', '--program-headers', '--wide',
                           str(program)], capture_output=True, text=True,
                          check=False)
    return done.returncode == 0 and 'LOAD' in done.stdout \
        and 'INTERP' not in done.stdout


def busybox() -> Path:
    """The static shell for guest scripts; Trouble when there is none."""
    found = shutil.which('busybox')
    if found is None or not is_static(Path(found)):
        raise Trouble('a guest script needs a static shell: apt-get install '
                      'busybox-static')
    return Path(found)


def write(kernel: Kernel, target: Path, files: Mapping[str, Path]) -> None:
    """Write an initramfs: path in the guest -> file here.

    All files are executable and belong to root.  Raises Trouble.
    """
    lines = ['dir %s 0755 0 0' % folder for folder in sorted(
        {str(parent) for path in files for parent in Path(path).parents
         if str(parent) != '/'} | {'/dev'})]
    # The kernel opens it for init before devtmpfs is there
    lines.append('nod /dev/console 0600 0 0 c 5 1')
    lines += ['file %s %s 0755 0 0' % pair for pair in files.items()]
    listed = target.with_suffix('.list')
    listed.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    with target.open('wb') as archive:
        done = subprocess.run([kernel.gen_init_cpio, listed], stdout=archive,
                              stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise Trouble('%s: no initramfs could be made: %s' % (
            target, done.stderr.decode('utf-8', 'replace').strip()))

# SPDX-License-Identifier: GPL-2.0-only
"""Write the files that the user asked for: each whole, or as it was."""
from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Iterator

from cocci_dma import Trouble


def require(path: Path) -> None:
    """Trouble when a file could not be written.

    To be asked before the work whose result it is to hold.
    """
    with _told(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not _is_stream(path):
            with tempfile.TemporaryFile(dir=_target(path).parent):
                pass


def write(path: Path, content: bytes) -> None:
    """Write a file, or leave what was there.  Raises Trouble."""
    with _told(path):
        if _is_stream(path):
            path.write_bytes(content)
        else:
            _replace(_target(path), content)


def _replace(target: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix='.cocci-dma-', dir=target.parent)
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(content)
            os.fchmod(file.fileno(), _mode(target))
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _mode(target: Path) -> int:
    """The mode of the file that is there, or of a new one."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _is_stream(path: Path) -> bool:
    """Is it a device or a pipe, of which nothing can take the place?"""
    return path.exists() and not path.is_file()


def _target(path: Path) -> Path:
    """What symbolic links lead to."""
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors as Trouble that names the file."""
    try:
        yield
    except OSError as error:
        raise Trouble('%s: cannot be written: %s'
                      % (path, error.strerror)) from None

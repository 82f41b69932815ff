# SPDX-License-Identifier: GPL-2.0-only
"""Write converted files: all of them or none, and never a half one."""
from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from typing import Iterable, Iterator, Sequence

import filelock

from . import Trouble
from .run import Edit

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def locked(paths: Iterable[str]) -> Iterator[None]:
    """Hold the locks of the trees at `paths`; Trouble if another run does.

    The lock files lie in the user's cache, never among the sources.
    """
    cache = Path(os.environ.get('XDG_CACHE_HOME') or
                 os.path.expanduser('~/.cache'), 'cocci-dma', 'locks')
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble('%s: cannot be made (%s): set XDG_CACHE_HOME to a '
                      'folder that you may write'
                      % (cache, error.strerror)) from None
    with contextlib.ExitStack() as stack:
        for path in sorted({_tree_of(path) for path in paths}):
            name = hashlib.sha1(os.fsencode(path)).hexdigest()
            lock = filelock.FileLock(cache / name, timeout=0)
            try:
                stack.enter_context(lock)
            except filelock.Timeout:
                raise Trouble('%s: another cocci-dma is converting it: run '
                              'again when it is done' % path) from None
            except OSError as error:
                raise Trouble('%s: cannot be locked (%s)'
                              % (cache / name, error.strerror)) from None
        yield


def _tree_of(path: str) -> str:
    """The folder that stands for all of a tree: that of a file is its own."""
    path = os.path.realpath(path)
    return path if os.path.isdir(path) else os.path.dirname(path)


def require_writable(paths: Iterable[str]) -> None:
    """Trouble when a file cannot be replaced; asked before any work."""
    for path in paths:
        for place in (path, os.path.dirname(path)):
            if not os.access(place, os.W_OK):
                raise Trouble('%s: is read-only: change its permissions, or '
                              'take the diff that is printed without '
                              '--in-place' % place)


def write(edits: Sequence[Edit]) -> None:
    """Give every file its new content; Trouble, and nothing written, if not.

    All new files are complete on disk before the first takes its place, and
    the old ones come back if one cannot.  A file that is no longer what was
    read is not overwritten.
    """
    prepared: list[tuple[Path, Path, Path]] = []    # file, its new, its old
    try:
        for edit in edits:
            path = Path(edit.source.path)
            prepared.append(_prepare(path, edit))
        _replace(prepared, edits)
    except OSError as error:
        raise Trouble('%s: cannot be written (%s): nothing was changed'
                      % (error.filename or 'file', error.strerror)) from None
    finally:
        for _, new, old in prepared:
            for left in (new, old):
                with contextlib.suppress(OSError):
                    left.unlink()


def _prepare(path: Path, edit: Edit) -> tuple[Path, Path, Path]:
    """Write the new content beside the file, with its mode and owner."""
    status = path.stat()
    handle, name = tempfile.mkstemp(prefix='.cocci-dma-', dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(handle, 'wb') as stream:
            stream.write(edit.content)
            stream.flush()
            with contextlib.suppress(PermissionError):
                os.fchown(stream.fileno(), status.st_uid, status.st_gid)
            os.fchmod(stream.fileno(), stat.S_IMODE(status.st_mode))
            os.fsync(stream.fileno())
    except BaseException:
        new.unlink()
        raise
    return path, new, Path(name + '.old')


def _replace(prepared: Sequence[tuple[Path, Path, Path]],
             edits: Sequence[Edit]) -> None:
    """Put the new files in place, or leave all old ones there."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        for edit in edits:
            path = Path(edit.source.path)
            if path.read_bytes() != edit.source.original:
                raise Trouble('%s: was changed while it was being converted; '
                              'nothing was written: run again' % path)
        done: list[tuple[Path, Path]] = []
        try:
            for path, new, old in prepared:
                try:
                    os.link(path, old)
                except OSError:
                    shutil.copy2(path, old)     # no hard links there
                os.replace(new, path)
                done.append((path, old))
        except BaseException:
            for path, old in done:
                os.replace(old, path)
            raise
        for folder in {path.parent for path, _ in done}:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

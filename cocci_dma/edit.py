# SPDX-License-Identifier: GPL-2.0-only
"""Write converted files: all of them or none, and never a half one.

No system call changes several files at once.  So a journal beside the locks
says which files are to change, before the first one does: a run that was
killed between two renames is brought to its end by the next (settle()).
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterable, Iterator, Sequence

import filelock

from . import Trouble
from .run import Edit

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


#: What the name of a journal ends in; before it stands that of its lock.
_JOURNAL = '.journal'


def _cache() -> Path:
    """Where locks and journals are."""
    return Path(os.environ.get('XDG_CACHE_HOME') or
                os.path.expanduser('~/.cache'), 'cocci-dma', 'locks')


@contextlib.contextmanager
def locked(paths: Iterable[str]) -> Iterator[Path]:
    """Hold the locks of the trees at `paths`; Trouble if another run does.

    The lock files lie in the user's cache, never among the sources.  Gives the
    place of the journal for what is written meanwhile.
    """
    cache = _cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble('%s: cannot be made (%s): set XDG_CACHE_HOME to a '
                      'folder that you may write'
                      % (cache, error.strerror)) from None
    with contextlib.ExitStack() as stack:
        first = ''
        for path in sorted({_tree_of(path) for path in paths}):
            name = hashlib.sha1(os.fsencode(path)).hexdigest()
            first = first or name
            lock = filelock.FileLock(cache / name, timeout=0)
            try:
                stack.enter_context(lock)
            except filelock.Timeout:
                raise Trouble('%s: another cocci-dma is converting it: run '
                              'again when it is done' % path) from None
            except OSError as error:
                raise Trouble('%s: cannot be locked (%s)'
                              % (cache / name, error.strerror)) from None
        yield cache / (first + _JOURNAL)


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


@dataclass(frozen=True)
class _Step:
    """A file that changes: digests of what it held and shall hold, and where
    the new one lies complete, and the old one is kept, until all is done."""

    path: str
    new: str
    old: str
    before: str
    after: str

    @property
    def now(self) -> str:
        """The digest of what the file holds; '' when it is not there."""
        try:
            return _digest(Path(self.path).read_bytes())
        except FileNotFoundError:
            return ''

    @property
    def done(self) -> bool:
        """Has the new file taken its place (and perhaps left it again)?"""
        return not os.path.lexists(self.new)


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def write(edits: Sequence[Edit], journal: Path) -> None:
    """Give every file its new content; Trouble, and nothing written, if not.

    All new files are complete on disk before the first takes its place, and
    the old ones come back if one cannot.  A file that is no longer what was
    read is not overwritten.  journal: see locked().
    """
    if not edits:
        return
    token = secrets.token_hex(4)
    steps = []
    for number, edit in enumerate(edits):
        folder, path = os.path.split(edit.source.path)
        new = os.path.join(folder, '.cocci-dma-%s-%d' % (token, number))
        steps.append(_Step(edit.source.path, new, new + '.old',
                           _digest(edit.source.original),
                           _digest(edit.content)))
    try:
        _record(journal, steps, complete=False)
        for step, edit in zip(steps, edits):
            _prepare(step, edit.content)
        _sync_folders(steps)
        _replace(steps, journal)
    except OSError as error:
        raise Trouble('%s: cannot be written (%s): %s' % (
            error.filename or 'file', error.strerror,
            'mend that and run again: it goes on from here' if _torn(steps)
            else 'nothing was changed')) from None
    finally:
        if not _torn(steps):
            _clean(steps, journal)


def _record(journal: Path, steps: Sequence[_Step], complete: bool) -> None:
    """complete: are all new files ready?"""
    new = journal.with_suffix('.new')
    with new.open('w', encoding='ascii') as stream:
        json.dump({'complete': complete,
                   'steps': [asdict(step) for step in steps]}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(journal)
    _sync(journal.parent)


def _prepare(step: _Step, content: bytes) -> None:
    """Write the new content beside the file, with its mode and owner."""
    status = os.stat(step.path)
    with open(step.new, 'xb') as stream:
        stream.write(content)
        stream.flush()
        with contextlib.suppress(PermissionError):
            os.fchown(stream.fileno(), status.st_uid, status.st_gid)
        os.fchmod(stream.fileno(), stat.S_IMODE(status.st_mode))
        os.fsync(stream.fileno())


def _replace(steps: Sequence[_Step], journal: Path) -> None:
    """Put the new files in place, or leave all old ones there."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        for step in steps:
            if step.now != step.before:
                raise Trouble('%s: was changed while it was being converted; '
                              'nothing was written: run again' % step.path)
        _record(journal, steps, complete=True)
        try:
            for step in steps:
                _put(step)
        except BaseException:
            for step in steps:
                if step.done:
                    os.replace(step.old, step.path)
            raise
        _sync_folders(steps)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _torn(steps: Iterable[_Step]) -> bool:
    """Have some files changed, and others not?  (An undoing that failed.)"""
    return len({step.now == step.after for step in steps}) > 1


def _put(step: _Step) -> None:
    """Let the new file take its place."""
    if not os.path.lexists(step.old):
        try:
            os.link(step.path, step.old)
        except OSError:
            shutil.copy2(step.path, step.old)       # no hard links there
    os.replace(step.new, step.path)


def _clean(steps: Sequence[_Step], journal: Path) -> None:
    """Remove what was needed on the way; the journal last."""
    for step in steps:
        for left in (step.new, step.old):
            with contextlib.suppress(OSError):
                os.unlink(left)
    with contextlib.suppress(OSError):
        journal.unlink()


def _sync_folders(steps: Iterable[_Step]) -> None:
    for folder in {os.path.dirname(step.path) for step in steps}:
        _sync(Path(folder))


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def settle() -> Iterator[str]:
    """Bring to an end what runs that were killed have begun to write.

    Tells what was done, in a sentence for each.  Where all files that had not
    changed yet are still what they were, they change now; else those that had
    become what they were.
    """
    cache = _cache()
    for journal in sorted(cache.glob('*' + _JOURNAL)):
        lock = filelock.FileLock(cache / journal.stem, timeout=0)
        try:
            with lock:
                yield from _settled(journal)
        except filelock.Timeout:
            continue            # that run still works
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield '%s: a conversion was cut short, and cannot be brought to ' \
                'an end (%s): remove this file when all is well' \
                % (journal, error)


def _settled(journal: Path) -> Iterator[str]:
    told = json.loads(journal.read_text(encoding='ascii'))
    steps = [_Step(**step) for step in told['steps']]
    left = [step for step in steps if not step.done]
    if told['complete'] and left != steps:
        undone = [s for s in steps if s.done and s.now == s.before]
        if not undone and all(s.now == s.before for s in left):
            for step in left:
                _put(step)
            if left:
                yield '%s: a conversion that was cut short is done now' \
                    % ', '.join(step.path for step in left)
        else:
            for step in steps:
                if step.done and step.now == step.after:
                    os.replace(step.old, step.path)
                elif step.done and step.now != step.before:
                    yield '%s: was changed after a conversion that was cut ' \
                        'short: look at it' % step.path
            yield '%s: a conversion that was cut short is undone' \
                % ', '.join(step.path for step in steps)
        _sync_folders(steps)
    _clean(steps, journal)

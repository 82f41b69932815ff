# SPDX-License-Identifier: GPL-2.0-only
"""What a branch brought in: findings that the code before it had not.

The earlier state of the drivers that changed is taken out of git, checked as
well, and compared by what the code says, not by line numbers.
"""
from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence

from . import Trouble, git
from .findings import Finding

#: What belongs to the source of a driver.
_SOURCE = re.compile(r'(?:\.[chS]|(?:^|/)(?:Makefile|Kbuild|MAINTAINERS))$')


class Branch:
    """The changes between a revision and the files as they are now."""

    def __init__(self, revision: str, folder: str):
        """folder: one in the repository.  Raises Trouble."""
        self.top = _git(folder, 'rev-parse', '--show-toplevel').rstrip('\n')
        commit = _git(folder, 'rev-parse', '--verify', '--quiet',
                      '--end-of-options', revision + '^{commit}',
                      remedy='%s: no such revision' % revision).strip()
        with contextlib.suppress(Trouble):
            # what the other branch did since is not ours
            commit = _git(folder, 'merge-base', commit, 'HEAD').strip()
        self._commit = commit
        self._before: dict[str, str] = {}       # renamed: new -> old
        self._changed: set[str] = set()
        self._compare()

    def _compare(self) -> None:
        words = iter(_git(self.top, 'diff', '--name-status', '-M', '-z',
                          self._commit, '--').split('\0'))
        for status in words:
            if not status:
                break
            path = next(words)
            self._changed.add(path)
            if status[0] == 'R':
                old, path = path, next(words)
                self._before[path] = old
                self._changed.add(path)
        self._changed.update(filter(None, _git(
            self.top, 'ls-files', '--others', '--exclude-standard', '-z'
        ).split('\0')))

    def touches(self, files: Iterable[str]) -> bool:
        """Did one of a driver's files (absolute) change, or its Kbuild?"""
        for file in files:
            path = os.path.relpath(file, self.top)
            folder = os.path.dirname(path)
            if path in self._changed or any(
                    os.path.join(folder, name) in self._changed
                    for name in ('Kbuild', 'Makefile')):
                return True
        return False

    def old(self, path: str) -> str:
        """The earlier name of a file; both relative to the repository."""
        return self._before.get(path, path)

    @contextlib.contextmanager
    def checked_out(self, files: Sequence[str],
                    scratch: str) -> Iterator[list[str]]:
        """Make the earlier state of files (relative to the repository, by
        their names of today) and of what lies around them the current folder.

        Yields which of them there were, relative to it.
        """
        tree = os.path.join(scratch, 'before')
        index = os.path.join(scratch, 'index')
        listed = _git(self.top, 'ls-tree', '-r', '--name-only', '-z',
                      self._commit).split('\0')
        old = [self.old(path) for path in files]
        wanted = {os.path.dirname(path) for path in old}
        wanted |= {os.path.dirname(folder) for folder in wanted}
        some = [path for path in listed if _SOURCE.search(path)
                and not wanted.isdisjoint(_above(path))]
        os.mkdir(tree)
        _git(self.top, 'read-tree', self._commit, index=index)
        _git(self.top, 'checkout-index', '-z', '--stdin',
             '--prefix=%s/' % tree, index=index, data='\0'.join(some))
        with contextlib.chdir(tree):
            yield [path for path in dict.fromkeys(old)
                   if Path(path).is_file()]


def _above(path: str) -> Iterator[str]:
    """The folder of a file, the one above, and for Kbuild files all below
    which it may speak of."""
    folder = os.path.dirname(path)
    yield folder
    yield os.path.dirname(folder)


def _git(folder: str, *arguments: str, remedy: str = '', index: str = '',
         data: str = '') -> str:
    """What git prints.  Raises Trouble."""
    env = git.environment()
    if index:
        env['GIT_INDEX_FILE'] = index
    try:
        return os.fsdecode(git.run(['-C', folder, *arguments], env,
                                   os.fsencode(data)))
    except git.Failed as error:
        raise Trouble('--diff: %s' % (
            remedy or '%s: %s' % (folder, error))) from None


def introduced(now: Sequence[Finding], before: Sequence[Finding],
               old: Callable[[str], str]) -> list[Finding]:
    """The findings of `now` that `before` has no match for.

    old: the earlier path of a file.  Looked for in turn: the same line of the
    same function; the same message in the function (the line was edited); the
    same line elsewhere in the file (the function was renamed or split).
    """
    def exact(f: Finding, path: str) -> tuple[str, ...]:
        return f.rule, path, f.function, f.code

    def message(f: Finding, path: str) -> tuple[str, ...]:
        return f.rule, path, f.function, re.sub(r'\d+', '', f.message)

    def line(f: Finding, path: str) -> tuple[str, ...]:
        return f.rule, path, f.code

    left, had = list(now), list(before)
    for key in (exact, message, line):
        count = Counter(key(f, f.path) for f in had)
        matched: Counter[tuple[str, ...]] = Counter()
        new = []
        for finding in left:
            same = key(finding, old(finding.path))
            if matched[same] < count[same]:
                matched[same] += 1
            else:
                new.append(finding)
        rest = []
        for finding in had:
            same = key(finding, finding.path)
            if matched[same]:
                matched[same] -= 1
            else:
                rest.append(finding)
        left, had = new, rest
    return left

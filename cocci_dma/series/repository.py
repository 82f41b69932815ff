# SPDX-License-Identifier: GPL-2.0-only
"""The user's repository, which is only read, and one of our own beside it.

Nothing is written below the user's .git, no index refreshed, no object, ref or
worktree added: new commits are made by plumbing commands in a scratch
repository that borrows the user's objects.
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping, Sequence

from .. import Trouble, git

#: The branch of the scratch repository.
BRANCH = 'refs/heads/series'


@dataclass(frozen=True)
class Person:
    """Whom a commit is by."""

    name: str
    email: str


class Repository:
    """The user's.  Every method only reads."""

    def __init__(self, folder: str):
        """folder: the top of a kernel tree.  Trouble when no series can be
        made of it; the text says what to do."""
        self.top = folder
        if not os.path.lexists(os.path.join(folder, '.git')):
            raise Trouble('%s: is no git repository: patches are made against '
                          'a commit, so clone the kernel with git' % folder)
        try:
            top = self._git('rev-parse', '--show-toplevel')
        except git.Failed as error:
            raise Trouble('%s: git cannot read it: %s'
                          % (folder, error)) from None
        if os.path.realpath(top) != folder:
            raise Trouble('%s: is a folder of the repository %s: patches of it '
                          'would not apply to a kernel' % (folder, top))
        self._require_usable()
        self.objects = self._git('rev-parse', '--path-format=absolute',
                                 '--git-path', 'objects')
        self.format = self._git('rev-parse', '--show-object-format')

    def _git(self, *command: str) -> str:
        return os.fsdecode(git.run(['-C', self.top, *command],
                                   git.environment())).rstrip('\n')

    def _require_usable(self) -> None:
        try:
            self.branch = self._git('symbolic-ref', '--short', 'HEAD')
        except git.Failed:
            raise Trouble('%s: HEAD is detached: switch to a branch, so that '
                          'it is clear what the series is based on'
                          % self.top) from None
        try:
            self.head = self._git('rev-parse', '--verify', 'HEAD^{commit}')
        except git.Failed:
            raise Trouble('%s: the branch %s has no commit: commit the tree '
                          'first' % (self.top, self.branch)) from None
        if self._git('rev-parse', '--is-shallow-repository') == 'true':
            raise Trouble('%s: its history is shallow, and tells neither how '
                          'subjects are written nor where a bug began: git '
                          'fetch --unshallow' % self.top)
        try:
            self._git('config', '--get-regexp', r'^(extensions\.partialclone|'
                      r'remote\..*\.promisor)$')
        except git.Failed:
            pass
        else:
            raise Trouble('%s: is a partial clone, and reading it would fetch '
                          'into it: use a full clone' % self.top)
        self.require_clean()

    def require_clean(self) -> None:
        """Trouble when tracked files differ from HEAD."""
        # not diff-index: it takes a file with a new date for changed
        changed = [line[3:] for line in self._git(
            'status', '--porcelain', '-z', '--no-renames',
            '--untracked-files=no').split('\0')[:-1]]
        if changed:
            more = ' and %d more' % (len(changed) - 1) \
                if len(changed) > 1 else ''
            raise Trouble('%s: has changes that are not committed (%s%s): '
                          'commit or stash them' % (self.top, changed[0], more))

    def require_same(self) -> None:
        """Trouble when HEAD or a tracked file is not what it was."""
        try:
            now = (self._git('symbolic-ref', '--short', 'HEAD'),
                   self._git('rev-parse', 'HEAD'))
        except git.Failed:
            now = ('', '')
        if now != (self.branch, self.head):
            raise Trouble('%s: HEAD moved while the series was made: run '
                          'again' % self.top)
        try:
            self.require_clean()
        except Trouble as error:
            raise Trouble('%s; it was clean when the series was begun'
                          % error) from None

    def person(self) -> Person:
        """Who makes commits here.  Trouble when git does not know."""
        try:
            said = self._git('var', 'GIT_AUTHOR_IDENT')
        except git.Failed:
            raise Trouble('git does not know who you are: git config --global '
                          'user.name and user.email') from None
        name, _, rest = said.partition(' <')
        return Person(name, rest.partition('>')[0])


class Scratch:
    """A bare repository of our own with all objects of the user's."""

    def __init__(self, folder: str, user: Repository):
        self.folder = os.path.join(folder, 'series.git')
        self.base = user.head
        person = user.person()
        self._env = {
            name: text for name, text in git.environment().items()
            if not name.startswith('GIT_CONFIG')} | {
            'GIT_CONFIG_GLOBAL': '/dev/null', 'GIT_CONFIG_NOSYSTEM': '1',
            'GIT_DIR': self.folder, 'GIT_INDEX_FILE':
            os.path.join(folder, 'series.index'),
            **{'GIT_%s_%s' % (role, part): value
               for role in ('AUTHOR', 'COMMITTER') for part, value in (
                   ('NAME', person.name), ('EMAIL', person.email))}}
        git.run(['init', '--quiet', '--bare', '--template=',
             '--object-format=' + user.format, self.folder],
            {name: text for name, text in self._env.items()
             if name != 'GIT_DIR'})
        info = Path(self.folder, 'objects', 'info')
        info.mkdir(exist_ok=True)
        (info / 'alternates').write_text(user.objects + '\n',
                                         encoding='utf-8')

    def git(self, *command: str, data: bytes = b'',
            **env: str) -> bytes:
        """What a git command prints here.  Raises git.Failed."""
        return git.run(command, self._env | env, data)

    def text(self, *command: str) -> str:
        """The same as text, without the last line's end."""
        return self.git(*command).decode('utf-8', 'surrogateescape').rstrip(
            '\n')

    def blobs(self, paths: Iterable[str]) -> dict[str, tuple[str, str]]:
        """(mode, object) of files at the base, by path; those that are not
        tracked are left out."""
        listed = self.git('ls-tree', '-z', '--full-tree', self.base, '--',
                          *paths)
        found = {}
        for line in os.fsdecode(listed).split('\0')[:-1]:
            about, path = line.split('\t', 1)
            mode, _, name = about.split(' ')
            found[path] = mode, name
        return found

    def require_tracked(self, contents: Mapping[str, bytes]) -> None:
        """Trouble when files are not what the base has of them."""
        known = self.blobs(contents)
        for path, content in contents.items():
            if path not in known:
                raise Trouble('%s: is not in git: add and commit it, or leave '
                              'it out' % path)
            if self._hash(content) != known[path][1]:
                raise Trouble('%s: differs from what is committed: it was '
                              'changed just now, or a filter of git changes '
                              'it: run again' % path)

    def _hash(self, content: bytes, write: bool = False) -> str:
        return self.git('hash-object', *(['-w'] if write else []), '--stdin',
                        data=content).decode().strip()

    def commit(self, parent: str, contents: Mapping[str, bytes],
               message: str) -> str:
        """A commit upon `parent` whose files at some paths are these."""
        known = self.blobs(contents)
        self.git('read-tree', parent)
        self.git('update-index', '-z', '--index-info', data=b''.join(
            b'%s %s\t%s\0' % (
                known[path][0].encode(), self._hash(content, True).encode(),
                os.fsencode(path)) for path, content in contents.items()))
        tree = self.text('write-tree')
        return self.git('commit-tree', '-p', parent, tree, data=message.encode(
            'utf-8', 'surrogateescape')).decode().strip()

    def subjects(self, paths: Sequence[str], count: int) -> list[str]:
        """The subjects of the newest commits that touched files."""
        return self.text('log', '--no-merges', '-n', str(count),
                         '--format=%s', self.base, '--', *paths).split('\n')

    def diff(self, before: str, after: str) -> bytes:
        """What a commit changes, as checkpatch reads it."""
        return self.git('diff-tree', '-p', '--no-renames', before, after)

    def check_out(self, tree: Path, index: Path,
                  commit: str) -> None:
        """Make a folder of files hold a commit; index: what it holds now."""
        env = {'GIT_WORK_TREE': str(tree), 'GIT_INDEX_FILE': str(index)}
        self.git('read-tree', '--reset', '-u', commit, **env)

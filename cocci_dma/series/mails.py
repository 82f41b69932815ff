# SPDX-License-Identifier: GPL-2.0-only
"""Commits as mails: what git makes of them, with what was tried below the
`---`, recipients, and a cover letter."""
from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Sequence

from .. import Trouble, git
from . import proof, repository, wording
from .steps import Patch, Unit

#: Patches that a series has at most.
MOST = 15

#: Recipients of a cover letter: lists refuse mails with more.
_RECIPIENTS = 30


@dataclass
class Series:
    """Patches that are sent together.

    folder: where its mails are, '' for the only one.  proofs: by commit.
    """

    folder: str
    units: list[Unit]
    proofs: dict[str, proof.Proof] = field(default_factory=dict)
    mails: dict[str, bytes] = field(default_factory=dict)

    @property
    def patches(self) -> list[Patch]:
        """What is sent, in order."""
        return [patch for unit in self.units for patch in unit.patches
                if patch.commit]

    @property
    def dropped(self) -> list[Patch]:
        """What is not, since it was not good."""
        return [patch for unit in self.units for patch in unit.patches
                if patch.dropped]

    def rows(self) -> list[tuple[str, ...]]:
        """Number, driver, change, places, compile, sparse, checkpatch of each
        patch."""
        out = []
        for number, patch in enumerate(self.patches, 1):
            known = self.proofs[patch.commit]
            out.append((str(number), patch.unit.name, patch.kind.name,
                        str(len(patch.fixes)),
                        *map(_brief, (known.build, known.sparse)),
                        ', '.join(one for one in known.checkpatch.split(', ')
                                  if not one.startswith('no ')) or 'clean'))
        return out


HEAD = ('', 'driver', 'change', 'places', 'W=1', 'sparse', 'checkpatch')


def _brief(said: str) -> str:
    """`N warnings before, M after` in a table."""
    found = re.search(r'(\d+) warnings? before, (\d+) after$', said)
    return '%s -> %s' % found.groups() if found else said


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = HEAD) -> str:
    """Columns, two blanks apart, indented by two."""
    every = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*every)]
    return ''.join('  ' + '  '.join(
        cell.ljust(width) for cell, width in zip(row, widths)).rstrip() + '\n'
        for row in every)


def split(units: Sequence[Unit]) -> list[Series]:
    """Series of at most MOST patches; a driver's stay together."""
    parts: list[list[Unit]] = []
    size = MOST
    for unit in units:
        if size + len(unit.patches) > MOST:
            parts.append([])
            size = 0
        parts[-1].append(unit)
        size += len(unit.patches)
    if len(parts) == 1:
        return [Series('', parts[0])]
    return [Series('%02d-%s' % (number, re.sub(
        r'[^\w.-]', '-', part[0].name)), part)
        for number, part in enumerate(parts, 1)]


@dataclass(frozen=True)
class Options:
    """version: of the series.  changes: what is new in it.  previous: the
    folder with the mails of the version before."""

    version: int = 1
    changes: str = ''
    previous: Path | None = None


def options(version: int, changes: Path | None,
            previous: Path | None) -> Options:
    """What the command line says of them.  Raises Trouble."""
    if version == 1 and (changes or previous):
        raise Trouble('--changes and --previous tell of a version after the '
                      'first: give its number, -v 2')
    if previous is not None and not previous.is_dir():
        raise Trouble('%s: no such folder: name the one with the mails of the '
                      'version before' % previous)
    try:
        told = changes.read_text('utf-8') if changes else ''
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble('%s: cannot be read: %s' % (changes, error)) from None
    if version > 1 and not told.strip():
        raise Trouble('-v %d: reviewers ask what is new: write it to a file, '
                      'and name it with --changes' % version)
    return Options(version, told, previous)


def write(scratch: repository.Scratch, series: Series, options: Options,
          cover: str, notes: Mapping[str, str]) -> None:
    """Fill in the mails of a series.

    cover: the text of the cover letter, its subject first; of one patch there
    is none.  notes: what goes below the `---` of a commit.  Raises Trouble.
    """
    patches = series.patches
    tip = patches[-1].commit
    with_cover = len(patches) > 1
    command = ['format-patch', '--base=' + scratch.base, '--thread=shallow',
               '--no-signature', '--abbrev=12',
               '--no-renames', '--stat=72', '--output-directory',
               os.path.join(scratch.folder, 'mails', series.folder or '.')]
    if with_cover:
        command += ['--cover-letter', '--cover-from-description=none']
    if options.version > 1:
        command += ['-v', str(options.version)]
        if options.previous is not None:
            older = _older(scratch, options.previous)
            command += ['--range-diff=%s..%s' % older]
    scratch.git('update-ref', repository.BRANCH, tip)
    paths = scratch.text(*command, '%s..%s' % (scratch.base, tip)).split('\n')
    commits: list[str] = [patch.commit for patch in patches]
    if with_cover:
        commits.insert(0, '')
    changes = wording.render('changes.txt', options=options) \
        if options.version > 1 else ''
    for path, commit in zip(paths, commits):
        content = Path(path).read_bytes()
        if commit:
            known = series.proofs[commit]
            to, cc = known.to, known.cc
            below = notes[commit] + ('\n' + changes if not with_cover
                                     and changes else '')
            content = content.replace(
                b'\n---\n', b'\n---\n' + _bytes(below) + b'\n', 1)
        else:
            to, cc = _everybody(series)
            subject, body = cover.split('\n\n', 1)
            content = content.replace(b'*** SUBJECT HERE ***', _bytes(subject)
                                      ).replace(
                b'*** BLURB HERE ***\n', _bytes(
                    body + ('\n' + changes if changes else '')))
        series.mails[os.path.basename(path)] = _addressed(content, to, cc)


def _bytes(said: str) -> bytes:
    return said.encode('utf-8', 'surrogateescape')


def _older(scratch: repository.Scratch, folder: Path) -> tuple[str, str]:
    """(base, tip) of the series whose mails are in a folder."""
    mails = sorted(path for path in folder.glob('*.patch')
                   if not re.match(r'(?:v\d+-)?0000-', path.name))
    told = b''.join(path.read_bytes() for path in folder.glob('*.patch'))
    found = re.search(rb'^base-commit: ([0-9a-f]{40,64})$', told, re.M)
    if not mails or found is None:
        raise Trouble('%s: holds no series with its base-commit: name the '
                      'folder with the mails of the version before' % folder)
    base = tip = found[1].decode()
    try:
        scratch.git('read-tree', base)
        for path in mails:
            scratch.git('apply', '--cached', str(path.resolve()))
            said = os.path.join(scratch.folder, 'said')
            about = scratch.git('mailinfo', '--encoding=UTF-8', said,
                                '/dev/null', data=path.read_bytes())
            subject = re.search(rb'^Subject: (.*)$', about, re.M)
            tip = scratch.git(
                'commit-tree', '-p', tip, scratch.text('write-tree'),
                data=(subject[1] if subject else b'') + b'\n\n'
                + Path(said).read_bytes()).decode().strip()
    except git.Failed as error:
        raise Trouble('%s: does not apply to its base-commit any more (%s): '
                      'leave out --previous' % (folder, error)) from None
    return base, tip


def require_applies(scratch: repository.Scratch, series: Series) -> None:
    """Trouble when mails do not give the commits that they were made of."""
    scratch.git('read-tree', scratch.base)
    mails = [mail for name, mail in sorted(series.mails.items())
             if b'\ndiff --git ' in mail]
    for patch, mail in zip(series.patches, mails):
        scratch.git('apply', '--cached', data=mail)
        if scratch.text('write-tree') != scratch.text(
                'rev-parse', patch.commit + '^{tree}'):
            raise Trouble('%s: the patch does not give what it was made of: '
                          'this is a fault of cocci-dma' % patch.subject)


def _everybody(series: Series) -> tuple[list[str], list[str]]:
    """Whom the cover letter of a series goes to."""
    known = [series.proofs[patch.commit] for patch in series.patches]
    to = list(dict.fromkeys(who for one in known for who in one.to))
    cc = [who for who in dict.fromkeys(
        who for one in known for who in one.cc) if who not in to]
    if len(to) + len(cc) > _RECIPIENTS:     # the lists reach the others
        cc = [who for who in to + cc if '<' not in who]
        to = []
    return (to, cc) if to else (cc, [])


def _addressed(mail: bytes, to: Sequence[str], cc: Sequence[str]) -> bytes:
    """A mail with its recipients, and its subject on one line: b4 0.12 fails
    on one of two in a mailbox."""
    head, body = mail.split(b'\n\n', 1)
    head = re.sub(rb'^Subject:.*(?:\n[ \t].*)*', lambda found: re.sub(
        rb'\n[ \t]+', b' ', found[0]), head, flags=re.M)
    for name, people in (('To', to), ('Cc', cc)):
        if people:
            head += ('\n%s: %s' % (name, ',\n\t'.join(people))).encode('ascii')
    if not body.isascii() and b'\nContent-Type:' not in head:
        # git says so of a message; of sources, git send-email would ask
        head += b'\nMIME-Version: 1.0\nContent-Type: text/plain; charset=' \
            + _charset(body) + b'\nContent-Transfer-Encoding: 8bit'
    return head + b'\n\n' + body


def _charset(text: bytes) -> bytes:
    try:
        text.decode('utf-8')
    except UnicodeDecodeError:
        return b'ISO-8859-1'
    return b'UTF-8'

# SPDX-License-Identifier: GPL-2.0-only
"""What was really tried of a patch, and whom it goes to.

Only what ran in this call is told; what did not is said to be `not run`.
"""
from __future__ import annotations

import email.utils
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Iterable, Sequence

from .. import Trouble, process
from . import repository
from .build import Builder, Warnings, objects
from .steps import Patch, Unit

#: The kernel's own scripts, in its tree.
MAINTAINERS = 'scripts/get_maintainer.pl'
CHECKPATCH = 'scripts/checkpatch.pl'

NOT_RUN = 'not run'


@dataclass
class Proof:
    """What is known of a patch.

    build: how it was compiled, and what came of it.  style: what checkpatch
    complains of; before: of the lines that it replaces.
    """

    build: str = NOT_RUN
    sparse: str = NOT_RUN
    style: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    to: list[str] = field(default_factory=list)
    cc: list[str] = field(default_factory=list)

    @property
    def checkpatch(self) -> str:
        """What checkpatch said, in a few words."""
        counts = Counter(line.split(':', 1)[0] for line in self.style)
        return ', '.join('%s %s%s' % (
            counts[kind] or 'no', kind.lower(), 's' * (counts[kind] != 1))
            for kind in ('ERROR', 'WARNING', 'CHECK'))

    @property
    def inherited(self) -> int:
        """How many of these complaints the replaced lines deserve, too."""
        return (Counter(map(_type, self.style))
                & Counter(map(_type, self.before))).total()

    @property
    def faults(self) -> list[str]:
        """The errors and warnings of checkpatch."""
        return [line for line in self.style if not line.startswith('CHECK')]


def _type(complaint: str) -> str:
    """`WARNING:LONG_LINE` of what checkpatch says."""
    return ':'.join(complaint.split(':')[:2])


def require_scripts(kdir: str) -> None:
    """Trouble when the tree lacks a script that is needed."""
    for script in (MAINTAINERS, CHECKPATCH):
        if not os.path.isfile(os.path.join(kdir, script)):
            raise Trouble('%s: has no %s, which says %s: take a whole kernel '
                          'tree' % (kdir, script, 'whom the patches go to'
                                    if script is MAINTAINERS
                                    else 'whether their style is right'))


# --- Compiling --------------------------------------------------------------

class Broken(Exception):
    """A driver does not build as it is; the text says why, and what to do."""


class Compiled:
    """A driver before any patch, to compare its patches with."""

    def __init__(self, builder: Builder, scratch: repository.Scratch,
                 unit: Unit):
        """Raises Broken."""
        self._builder, self._scratch = builder, scratch
        self._unit = unit
        names = self._objects(scratch.base, unit.changed)
        builder.hold(scratch.base)
        before = builder.build(names)
        if before.reason:
            raise Broken('%s does not build before any change (%s, %s): give '
                         'a --build-config in which it does, or --no-build'
                         % (names[0] if names else unit.name, before.reason,
                            builder.config))
        self._warnings, self._sparse = before.warnings, before.sparse

    def _objects(self, commit: str, changed: Iterable[str]) -> list[str]:
        known: dict[str, bytes] = {}

        def content(path: str) -> bytes:
            if path not in known:
                known[path] = self._scratch.git('cat-file', 'blob', '%s:%s'
                                                % (commit, path))
            return known[path]

        return objects(self._unit, changed, content)

    def prove(self, patch: Patch, proof: Proof) -> str:
        """Compile what a patch touches; why it is not good, or ''."""
        names = self._objects(patch.commit, patch.contents)
        self._builder.hold(patch.commit)
        after = self._builder.build(names)
        if after.reason:
            return 'it does not build: %s' % after.reason
        told = []
        for known, now in ((self._warnings, after.warnings),
                           (self._sparse, after.sparse)):
            if known is None or now is None:
                continue
            before, later = _of(known, names), _of(now, names)
            more = _kinds(later) - _kinds(before)
            if more:
                return 'it adds a warning: %s' % min(
                    said for said in later if _kind(said) in more)
            told.append('%d warning%s before, %d after' % (
                before.total(), 's' if before.total() != 1 else '',
                later.total()))
            known |= {name: now.get(name, Counter()) for name in (*names, '')}
        proof.build = '%s: %s, %s, W=1: %s' % (
            _short(names), self._builder.config, self._builder.compiler,
            told[0])
        if len(told) > 1:
            proof.sparse = told[1]
        return ''


def _kind(said: str) -> str:
    """Where a warning is and what for, since what it says may name a function
    that a patch replaces."""
    flag = re.search(r'\[-W\S+\]$', said)
    return said.split(':', 1)[0] + flag[0] if flag else said


def _kinds(warnings: Counter[str]) -> Counter[str]:
    return Counter(_kind(said) for said in warnings.elements())


def _of(warnings: Warnings, names: Iterable[str]) -> Counter[str]:
    """The warnings of objects, and those of which it is not known."""
    return sum((warnings.get(name, Counter()) for name in (*names, '')),
               Counter())


def _short(names: Sequence[str]) -> str:
    """The names of objects, the first with its folder."""
    return ' '.join([*names[:1], *map(os.path.basename, names[1:])])


# --- The kernel's own scripts -----------------------------------------------

_COMPLAINT = re.compile(r'(?:.*?:\d+: )?((?:ERROR|WARNING|CHECK):.*)')
_ROLE = re.compile(r'(?P<who>.+?)(?: \((?P<role>[^()]*(?:\([^()]*\)[^()]*)*)'
                   r'\))?$')


def style(kdir: str, patch: str, *options: str) -> list[str]:
    """What checkpatch has against a patch in a file; the lack of a sign-off
    is the sender's to mend."""
    code, said = _perl(kdir, CHECKPATCH, '--strict', '--no-signoff',
                       '--no-summary', '--terse', '--show-types',
                       '--color=never', '-q', *options, patch)
    found = [match[1] for match in map(_COMPLAINT.match, said.splitlines())
             if match]
    if code and not found:
        raise Trouble('%s fails: %s' % (CHECKPATCH, _last(said)))
    return found


def recipients(kdir: str, mail: str) -> tuple[list[str], list[str]]:
    """(whom a mail in a file goes to, who gets a copy)."""
    code, said = _perl(kdir, MAINTAINERS, '--no-git-fallback', '--rolestats',
                       mail)
    if code:
        raise Trouble('%s fails: %s' % (MAINTAINERS, _last(said)))
    to: list[str] = []
    cc: list[str] = []
    for line in said.splitlines():
        match = _ROLE.fullmatch(line.strip())
        name, address = email.utils.parseaddr(match['who']) if match \
            else ('', '')
        if not match or '@' not in address:
            continue
        known = to if (match['role'] or '').startswith(
            ('maintainer', 'supporter')) else cc
        known.append(email.utils.formataddr((name, address)))
    return (to, cc) if to else (cc, [])


def _perl(kdir: str, script: str, *arguments: str) -> tuple[int, str]:
    try:
        return process.run(['perl', os.path.join(kdir, script), *arguments],
                           cwd=kdir, GIT_OPTIONAL_LOCKS='0')
    except FileNotFoundError:
        raise Trouble('perl is not on PATH: apt-get install perl') from None


def _last(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1] if lines else 'no message'

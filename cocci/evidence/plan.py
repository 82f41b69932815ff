# SPDX-License-Identifier: GPL-2.0-only
"""From sites that SmPL saw to units that are converted whole or not at all.

A rule's SmPL first shows every site (`sees`).  At the first question after
that the rule's decision is taken once for the driver; a unit with a site that
SmPL did not show, or that stands in a file out of reach, is refused.  Then
SmPL asks site by site whether it may rewrite (`converts`) and with what
(`value`).
"""
from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Mapping

from . import cparse as c
from . import kbuild, report
from .driver import Driver

#: What a rule may write for a moment, to find a place again; none may be left.
MARK = re.compile(rb'\bc\d{9,}\b')

#: Places, `PATH:LINE`, and marks that spatch failed to rewrite, one a line.
AVOID_VARIABLE = 'COCCI_DMA_AVOID'

Key = tuple[str, int, int]      # real path, line, column as spatch counts


def mark(number: int, like: str) -> str:
    """A name for a place, as long as the one to come: spatch aligns with it."""
    return 'c' + str(number).zfill(max(len(like) - 1, 9))


@dataclass
class Edit:
    """One place that changes: its kind names the SmPL branch that does it."""

    kind: str
    path: str
    token: c.Token              # the token that carries the position
    function: str
    message: str
    values: dict[str, str] = field(default_factory=dict)
    severity: str = 'warning'


@dataclass
class Addition:
    """A change that is found by names rather than by a position.

    key is what SmPL asks with, for example ('field', 'struct foo', 'ring').
    declaration is one that SmPL must have matched before: (kind, owner, name).
    """

    key: tuple[str, ...]
    path: str
    values: dict[str, str] = field(default_factory=dict)
    declaration: tuple[str, ...] = ()


@dataclass
class Note:
    """Something said of a place: a refusal, or a finding without a fix."""

    kind: str                   # refusal or finding
    path: str
    token: c.Token
    function: str
    message: str
    severity: str = 'warning'
    evidence: list[report.Step] = field(default_factory=list)


@dataclass
class Unit:
    """What is converted as a whole: a buffer, a mapping, an allocation.

    anchor is the edit or note that stands for the unit when it must be
    refused after all; sites are all places of the unit.
    """

    edits: list[Edit] = field(default_factory=list)
    additions: list[Addition] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    evidence: list[report.Step] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        return any(n.kind == 'refusal' for n in self.notes)

    def refuse(self, path: str, token: c.Token, function: str, message: str,
               evidence: list[report.Step] | None = None,
               severity: str = 'warning') -> None:
        """Leave the unit as it is, for a reason that stands at one place.

        severity: a note, where nothing is wrong with the code as it is.
        """
        self.notes.append(Note('refusal', path, token, function, message,
                               severity, evidence or []))


Decide = Callable[[Driver, frozenset[str]], list[Unit]]


def decided(name: str, decide: Decide, driver: Driver,
            options: frozenset[str]) -> list[Unit]:
    """The units of a rule; those that a comment allows are refused."""
    units = decide(driver, options)
    for unit in units:
        for edit in unit.edits:
            said = driver.allowed(name, edit.path, edit.token.line)
            if said:
                unit.refuse(edit.path, edit.token, edit.function,
                            'the comment at line %d allows it: %s'
                            % (said.line, said.reason))
                break
    return units


def events(name: str, confidence: str, units: list[Unit],
           shown: Mapping[str, str], partly: str = '') -> list[report.Event]:
    """What a rule says of a driver, in order, each once.

    shown: real path -> the path to tell.  partly: see Rule.
    """
    def event(kind: str, at: Edit | Note, severity: str,
              evidence: list[report.Step]) -> report.Event:
        path = shown.get(os.path.realpath(at.path), at.path)
        return report.Event(name, kind, path, at.token.line,
                            at.token.column + 1, at.function, at.message,
                            severity, confidence, evidence)

    found: list[report.Event] = []
    left = [n for unit in units for n in unit.notes if n.kind == 'refusal']
    done = any(unit.edits and not unit.refused for unit in units)
    if partly and left and done:
        first = replace(left[0], token=left[0].token._replace(column=0),
                        message=partly)
        found.append(event('finding', first, 'note', []))
    for unit in units:
        found += (event(note.kind, note, note.severity,
                        note.evidence + unit.evidence) for note in unit.notes)
        if not unit.refused:
            found += (event('fix', edit, edit.severity, unit.evidence)
                      for edit in unit.edits if edit.message)
    found.sort(key=lambda e: (e.path, e.line, e.column))
    told: dict[tuple[str, int, int, str], report.Event] = {}
    for each in found:
        told.setdefault((each.path, each.line, each.column, each.message),
                        each)
    return list(told.values())


class _Group:
    """The state for one group of files that spatch works on together."""

    def __init__(self, files: list[str]):
        self.shown = {os.path.realpath(f): f for f in files}
        self.seen: set[tuple[str, Key]] = set()
        self.declared: set[tuple[str, ...]] = set()
        self.edits: dict[Key, Edit] | None = None
        self.additions: dict[tuple[str, ...], dict[str, str]] = {}
        self.units: list[Unit] = []
        self.driver: Driver | None = None


class Rule:
    """What a .cocci file talks to."""

    def __init__(self, name: str, decide: Decide, files: Callable[[], list[str]],
                 confidence: str = 'High',
                 parses: Callable[[str], bool] = lambda words: True,
                 partly: str = ''):
        """parses: does spatch take these words for an expression?

        partly: what to say of a driver some units of which are refused while
        others are converted; '' where units have nothing to do with one
        another.
        """
        self.name, self.decide, self.confidence = name, decide, confidence
        self._partly = partly
        self._parses = functools.cache(parses)
        self._files = files
        self._group: _Group | None = None
        self._of: tuple[str, ...] = ()
        self._options: set[str] = set()

    # -- what SmPL says

    def option(self, name: str) -> None:
        """A further virtual rule was given on the command line (-D name)."""
        self._options.add(name)

    def may_convert(self) -> bool:
        """Is there anything to convert?  If not, no site need be shown."""
        return any(unit.edits and not unit.refused
                   for unit in self._decided().units)

    def sees(self, kind: str, p: Any) -> bool:
        """SmPL matched a site; always True."""
        self._current().seen.add((kind, _key(p)))
        return True

    def declares(self, *key: str) -> bool:
        """SmPL can match this declaration, (kind, owner, name); always True."""
        self._current().declared.add(key)
        return True

    # -- what SmPL asks

    def says(self, p: Any) -> bool:
        """Is there a finding at a position?"""
        return any((os.path.realpath(n.path), n.token.line, n.token.column)
                   == _key(p) for unit in self._decided().units
                   for n in unit.notes)

    def wants(self, name: str) -> bool:
        """Does an addition change a declaration of this name?"""
        return any(a.declaration[-1:] == (name,)
                   for unit in self._decided().units for a in unit.additions)

    def converts(self, kind: str, p: Any) -> bool:
        edit = self._settled().edits.get(_key(p))
        return edit is not None and edit.kind == kind

    def value(self, p: Any, name: str) -> str:
        """One piece of the new code at a position; '0' when it has none.

        SmPL needs every metavariable bound, whichever branch will use it.
        """
        edit = self._settled().edits.get(_key(p))
        return edit.values.get(name, '0') if edit else '0'

    def adds(self, *key: str) -> bool:
        return key in self._settled().additions

    def addition(self, name: str, *key: str) -> str:
        return self._settled().additions[key][name]

    # -- what is said at the end

    def report(self, mode: str) -> None:
        """Say everything about this group; mode as in `report.emit`."""
        group = self._settled()
        found = events(self.name, self.confidence, group.units, group.shown,
                       self._partly)
        if not os.environ.get('COCCI_DMA_DRIVER'):
            # one file at a time: what stands elsewhere is said there
            found = [e for e in found
                     if os.path.realpath(e.path) in group.shown]
        for event in found:
            report.emit(event, mode)

    # -- one decision a group

    def _current(self) -> _Group:
        files = tuple(self._files())
        if self._group is None or files != self._of:
            self._of = files
            self._group = _Group(list(files))
        return self._group

    def _decided(self) -> _Group:
        """The group with its units, before it is known what SmPL matches."""
        group = self._current()
        if group.driver is None:
            group.driver = _driver(tuple(
                _driver_files(list(group.shown.values()))))
            group.units = decided(self.name, self.decide, group.driver,
                                  frozenset(self._options))
        return group

    def _settled(self) -> _Group:
        group = self._decided()
        if group.edits is None:
            group.edits = {}
            for unit in group.units:
                self._settle(group, unit)
        return group

    def _unreadable(self, unit: Unit) -> str:
        """A piece of new code that is no expression to spatch; ''."""
        for change in [*unit.edits, *unit.additions]:
            for words in change.values.values():
                if words and not words.endswith((';', '}')) \
                        and not self._parses(words):
                    return words
        return ''

    def _settle(self, group: _Group, unit: Unit) -> None:
        """Refuse a unit that SmPL cannot rewrite whole; else open its edits."""
        if unit.refused or not (unit.edits or unit.additions):
            return
        here = [e for e in unit.edits if os.path.realpath(e.path) in group.shown]
        away = next((e for e in unit.edits + unit.additions
                     if os.path.realpath(e.path) not in group.shown), None)
        if away:
            where = away.path if isinstance(away, Addition) \
                else '%s:%d' % (away.path, away.token.line)
            for edit in here or unit.edits[:1]:
                unit.refuse(edit.path, edit.token, edit.function,
                            'also needs a change at %s, out of reach when files '
                            'are looked at one at a time: run cocci-dma convert '
                            'on the driver' % where)
            return
        for edit in unit.edits:
            key = (os.path.realpath(edit.path), edit.token.line,
                   edit.token.column)
            if (edit.kind, key) not in group.seen:
                unit.refuse(edit.path, edit.token, edit.function,
                            'spatch does not match this place (%s)' % (
                                'function %s was not parsed, or the code comes '
                                'from a macro' % edit.function
                                if edit.function else
                                'no function, and no macro that is an '
                                'expression or a statement'))
                return
            taken = group.edits.get(key)
            if taken and (taken.kind, taken.values) != (edit.kind, edit.values):
                unit.refuse(edit.path, edit.token, edit.function,
                            'two conversions want to change this place')
                return
        stuck = next((e for e in unit.edits if _avoided(e, unit)), None)
        if stuck:
            unit.refuse(stuck.path, stuck.token, stuck.function, 'spatch does '
                        'not get this rewritten whole (a macro is expanded '
                        'here, or an argument is no expression to it): write '
                        'it by hand')
            return
        odd = self._unreadable(unit)
        if odd:
            edit = unit.edits[0]
            unit.refuse(edit.path, edit.token, edit.function,
                        'spatch cannot read `%s`, which the new code needs: '
                        'give it a name first, in a variable or a macro' % odd)
            return
        for addition in unit.additions:
            if addition.declaration and addition.declaration not in group.declared:
                edit = unit.edits[0]
                unit.refuse(edit.path, edit.token, edit.function,
                            'spatch cannot change the declaration of `%s`%s: '
                            'give the struct a tag, and declare it on its own, '
                            'without variables or a second typedef behind it'
                            % (addition.declaration[-1],
                               ' in %s' % addition.declaration[1]
                               if addition.declaration[1] else ''))
                return
        for edit in unit.edits:
            group.edits[os.path.realpath(edit.path), edit.token.line,
                        edit.token.column] = edit
        for addition in unit.additions:
            group.additions[addition.key] = addition.values


def _avoided(edit: Edit, unit: Unit) -> bool:
    """Has spatch failed to rewrite this place before?"""
    avoided = set(os.environ.get(AVOID_VARIABLE, '').split('\n')) - {''}
    return '%s:%d' % (edit.path, edit.token.line) in avoided or any(
        word in avoided for a in unit.additions for word in a.key)


def _key(p: Any) -> Key:
    """spatch's position list (or one of it) as a key."""
    at = p[0] if isinstance(p, (list, tuple)) else p
    return _real(at.file), int(at.line), int(at.column)


@functools.cache
def _real(path: str) -> str:
    """SmPL asks about every statement of a few files."""
    return os.path.realpath(path)


@functools.lru_cache(maxsize=2)
def _driver(files: tuple[str, ...]) -> Driver:
    """One file at a time, coccicheck comes back to the same driver.

    What spatch is given may be cut down to what it must see; the decision is
    always taken on whole files.
    """
    return Driver(list(files), folder=os.environ.get('COCCI_DMA_WHOLE', ''))


def _driver_files(given: list[str]) -> list[str]:
    """All files of the driver: as the front door lists them, else as Kbuild."""
    listed = os.environ.get('COCCI_DMA_DRIVER')
    if listed:
        with open(listed, encoding='utf-8') as handle:
            drivers = json.load(handle)
        # spatch leaves out files of a group that no rule can match
        return max(drivers, key=lambda d: len(set(given) & set(d[0])))[1]
    out: list[str] = []
    for path in given:
        driver = kbuild.driver_of(path)
        out += [str(p) for p in (*driver.sources, *driver.headers)]
    return list(dict.fromkeys(given + out)) if not out else list(
        dict.fromkeys(out))

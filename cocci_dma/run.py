# SPDX-License-Identifier: GPL-2.0-only
"""Rules over drivers: what `check` and `convert` come down to.

Everything happens on scratch copies; the user's files are only read here.
"""
from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import os
import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import (Callable, Iterable, Iterator, NamedTuple, Sequence,
                    TypeVar)

import filelock

from . import (Trouble, allow, cache, groups, layout, policy, process,
               since, source)
from .cache import Cache, tool_digest
from .config import Config
from .facts import Facts
from .findings import (Change, Coverage, Finding, Evidence, Known, finish, from_event,
                       mapped)
from .lint import Lint
from .rules import Rule
from .spatch import BIG, TIME_LIMIT, Group, Run, Spatch, to_parse

from evidence.plan import MARK  # from cocci/: see the package's __init__

#: What the names of scratch folders begin with, the lock in each that says that
#: its run lives, and the seconds after which it certainly has it.
_SCRATCH = 'cocci-dma-'
_ALIVE = '.alive'
_SETTLED = 10

#: A conversion that still changes something in this round will never settle.
ROUNDS = 4

#: Bytes of source for one run of spatch on several drivers: starting it costs
#: as much time as parsing about a tenth of this.
BUNDLE = 1 << 20

Contents = dict[str, bytes]
#: Called with the number of bytes done and of all; None: nobody watches.
Progress = Callable[[int, int], None]


@dataclass
class Options:
    """How to run; the same for every driver.

    cache: keep answers between runs.  known_rules: the names that there are,
    whether they run or not.
    """

    jobs: int = os.cpu_count() or 1
    net: bool = False
    verbose: bool = False
    time_limit: float = TIME_LIMIT
    progress: Progress | None = None
    cache: bool = False
    config: Config = field(default_factory=Config)
    known_rules: Sequence[str] = ()
    shard: tuple[int, int] | None = None
    fixes: bool = False
    passing: bool = False


@dataclass(frozen=True)
class Edit:
    """A file that a conversion changed, with what it shall hold."""

    path: str
    source: source.Source
    content: bytes


@dataclass
class Result:
    """What came of a run; edits and output only where the mode makes some.

    suppressed: findings that are not shown, and why.  notes: what the user
    should know of the run itself.  drivers: that of each file that was looked
    at, by paths as they are shown; of several, the first.
    """

    tree: groups.Tree
    findings: list[Finding] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    output: bytes = b''
    coverage: Coverage = field(default_factory=Coverage)
    suppressed: list[Known] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    drivers: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Did every run come to its end?"""
        return not (self.coverage.timeouts or self.coverage.failures)

    def leave_needless(self) -> None:
        """Take out refusals to change what is right as it is; a note counts
        them."""
        def needless(finding: Finding) -> bool:
            return finding.kind == 'refusal' and finding.severity == 'note'

        count = Counter(f.rule for f in self.findings if needless(f))
        self.notes += [
            '%s: leaves %d places as they are, which is no fault of theirs: '
            '--rule %s says why' % (rule, number, rule)
            for rule, number in sorted(count.items())]
        self.findings = [f for f in self.findings if not needless(f)]


@dataclass
class _Part:
    """A Result in the making, of one or several drivers."""

    findings: list[Finding] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    output: bytes = b''
    coverage: Coverage = field(default_factory=Coverage)


class _Failed(Exception):
    """Nothing can be said of this driver."""


class _Copy:
    """A scratch copy of one or several drivers."""

    def __init__(self, spatch: Spatch, scratch: str, part: _Part):
        self._spatch = spatch
        self._part = part
        self._folder = tempfile.mkdtemp(dir=scratch)
        self._held: Contents = {}

    def hold(self, contents: Contents) -> None:
        """Make the files of the copy hold `contents`."""
        for path, content in contents.items():
            if self._held.get(path) != content:
                target = Path(self._folder, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        self._held = dict(contents)

    def contents(self) -> Contents:
        """What the files hold now."""
        self._held = {path: Path(self._folder, path).read_bytes()
                      for path in self._held}
        return dict(self._held)

    def run(self, rule: Rule, mode: str, name: str, group: Group) -> Run:
        """Run a rule; raises _Failed, noted in coverage, if it did not end."""
        return self._ended(rule, name, self._spatch.run(
            rule, mode, self._folder, [group]))

    def rewrite(self, rule: Rule, name: str, group: Group) -> Run:
        """Run a conversion.  Where spatch stumbles over a place, that is
        refused, and the rest is converted; raises _Failed as `run` does."""
        before = dict(self._held)
        avoided: frozenset[str] = frozenset()
        while True:
            run = self._spatch.run(rule, 'patch', self._folder, [group],
                                   avoided)
            after = self.contents()
            found = {run.stuck} if run.stuck else _half_done(before, after)
            if not found:
                return self._ended(rule, name, run)
            if avoided.issuperset(found):
                self._part.coverage.failures.append(
                    '%s: %s; nothing of this driver was changed [%s]' % (
                        name, run.failure or 'spatch left a call half '
                        'rewritten', rule.name))
                raise _Failed
            avoided |= found
            self.hold(before)

    def _ended(self, rule: Rule, name: str, run: Run) -> Run:
        if run.timed_out:
            self._part.coverage.timeouts.append(
                '%s [%s]' % (name, rule.name))
            raise _Failed
        if run.failure:
            self._part.coverage.failures.append(
                '%s: %s [%s]' % (name, run.failure, rule.name))
            raise _Failed
        return run

    def run_all(self, rule: Rule, mode: str,
                drivers: Sequence[tuple[str, Group]]) -> Iterator[Run]:
        """Run a rule on several drivers at once; one by one if that fails,
        so that it is known which of them it was."""
        if len(drivers) > 1:
            run = self._spatch.run(rule, mode, self._folder,
                                   [group for _, group in drivers])
            if not (run.timed_out or run.failure):
                yield run
                return
        for name, group in drivers:
            try:
                yield self.run(rule, mode, name, group)
            except _Failed:
                continue


def _half_done(before: Contents, after: Contents) -> set[str]:
    """The marks that a conversion left."""
    return {mark.decode() for path, content in after.items()
            for mark in MARK.findall(content)
            if mark not in before.get(path, b'')}


def _concerned(rule: Rule, contents: Contents) -> bool:
    return any(rule.concerns(content) for content in contents.values())


# --- Check ------------------------------------------------------------------

def _report(works: Sequence[groups.Work], rules: Sequence[Rule], mode: str,
            copy: _Copy, part: _Part) -> None:
    """Run all rules on the drivers that they apply to, changing nothing."""
    held = [{path: file.content for path, file in work.files.items()}
            for work in works]
    copy.hold({path: content for contents in held
               for path, content in contents.items()})
    for rule in rules:
        if mode not in rule.virtuals:
            continue
        concerned = [(work.name, to_parse(rule, contents))
                     for work, contents in zip(works, held)
                     if _concerned(rule, contents)]
        for run in copy.run_all(rule, mode, concerned):
            part.output += run.stdout
            part.coverage.unparsed |= run.unparsed
            part.findings += map(from_event, run.events)


def check(paths: Iterable[str], rules: Sequence[Rule], options: Options,
          kdir: str | None = None, revision: str | None = None) -> Result:
    """What `rules` tell of the drivers at `paths`; only what came in since
    a git revision, if one is named.  Raises Trouble."""
    with _Session(paths, rules, options, kdir) as session:
        branch = since.Branch(revision, session.tree.base) \
            if revision else None
        if branch is not None:
            session.works = [work for work in session.works if branch.touches(
                map(session.tree.absolute, work.files))]
        _check(session, rules, options)
        if branch is not None:
            _leave_new(session, branch, rules, options)
        return session.result


def _leave_new(session: _Session, branch: since.Branch,
               rules: Sequence[Rule], options: Options) -> None:
    """Take out the findings that were there before a branch."""
    def place(path: str) -> str:
        return os.path.relpath(os.path.join(session.tree.base, path),
                               branch.top)

    settings = options.config
    files = [place(path) for work in session.works for path in work.files]
    before: list[Finding] = []
    with branch.checked_out(files, session.scratch) as old:
        if old:
            there = os.path.join(os.getcwd(), os.path.relpath(
                settings.folder or branch.top, branch.top))
            earlier = check(old, rules, replace(
                options, shard=None, fixes=False, passing=True,
                config=replace(settings, folder=there)))
            before = earlier.findings
            session.result.coverage.failures += (
                '--diff: before the branch: %s' % failure
                for failure in earlier.coverage.failures
                + earlier.coverage.timeouts)
    found = {id(f): f for f in session.result.findings}
    now = [replace(f, path=place(f.path)) for f in found.values()]
    origin = dict(zip(map(id, now), found))
    session.result.findings = [
        found[origin[id(f)]]
        for f in since.introduced(now, before, branch.old)]


def _check(session: _Session, rules: Sequence[Rule],
           options: Options) -> None:
    decided = [rule for rule in rules if rule.decides]
    others = [rule for rule in rules if not rule.decides]
    result = session.result
    lint = Lint(session.tree, decided, session.spatch, session.cache,
                session.facts, tool=session.tool, scratch=session.scratch,
                jobs=options.jobs, net=options.net,
                time_limit=options.time_limit, progress=options.progress)
    answers = lint.answers(session.works)
    findings: list[Finding] = []
    fixes: list[tuple[groups.Work, str, int]] = []
    for work, answer in zip(session.works, answers):
        result.coverage.unparsed |= answer.unparsed
        result.coverage.timeouts += ('%s [%s]' % (work.name, name)
                                     for name in answer.timeouts)
        result.coverage.failures += (
            '%s: %s [%s]' % (work.name, why, name)
            for name, why in answer.failures.items())
        for name, events in answer.events.items():
            found = list(map(from_event, events))
            first = next((f for f in found if f.kind == 'fix'), None)
            if first is not None:
                fixes.append((work, name, len(findings) + found.index(first)))
            findings += found
    if options.fixes:
        _add_changes(session, findings, fixes)
    if others:
        part = session.each(_bundles, lambda works, part: _report(
            works, others, 'report', session.copy(part), part))
        findings += part.findings
        result.coverage.merge(part.coverage)
    session.gather(findings)


def _add_changes(session: _Session, findings: list[Finding],
                 fixes: Iterable[tuple[groups.Work, str, int]]) -> None:
    """Put what a rule makes of a driver to its first fix there.

    fixes: (driver, name of the rule, index of the finding).
    """
    rules = {rule.name: rule for rule in session.rules}

    def one(fix: tuple[groups.Work, str, int]) -> tuple[int, list[Change]]:
        work, name, index = fix
        part = _Part()
        original = {path: file.content for path, file in work.files.items()}
        try:
            after = _convert(
                functools.partial(_apply, session.copy(part), work), work,
                [rules[name]], original, original, part)
        except _Failed:     # told when somebody converts; here it is no fix
            after = original
        work.forget()
        return index, [change for path in sorted(after)
                       for change in _changes(path, original[path],
                                              after[path])]

    for index, changes in session.parallel(one, fixes):
        findings[index] = replace(findings[index], changes=tuple(changes))


def _changes(path: str, before: bytes, after: bytes) -> Iterator[Change]:
    # not splitlines(): see source.lines()
    old, new = (re.findall(r'[^\n]*\n|[^\n]+\Z', text.decode(
        'utf-8', 'surrogateescape')) for text in (before, after))
    if old == new:
        return
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(
            None, old, new, autojunk=False).get_opcodes():
        if tag != 'equal':
            yield Change(path, i1 + 1, i2 - i1, ''.join(new[j1:j2]))


def context(paths: Iterable[str], rules: Sequence[Rule], options: Options,
            kdir: str | None = None) -> Result:
    """The places that `rules` match, as spatch marks them, in `output`."""
    with _Session(paths, rules, options, kdir) as session:
        part = session.each(_bundles, lambda works, part: _report(
            works, rules, 'context', session.copy(part), part))
        session.result.output = part.output
        session.result.coverage.merge(part.coverage)
        session.gather(part.findings)
        return session.result


# --- Convert ----------------------------------------------------------------

def _line_map(before: bytes, after: bytes) -> Callable[[int], int]:
    """From line numbers of `after` to those of `before`."""
    if before == after:
        return lambda line: line
    old, new = source.lines(before), source.lines(after)
    # difflib is slow on long equal texts: leave out what both begin and end
    # with.
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head \
            and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    matcher = difflib.SequenceMatcher(
        None, old[head:len(old) - tail], new[head:len(new) - tail])
    opcodes = matcher.get_opcodes()

    def line_before(line: int) -> int:
        index = line - 1 - head
        if index < 0:
            return line
        for tag, i1, i2, j1, j2 in opcodes:
            if j1 <= index < j2:
                # A line that was rewritten: the one in its place, if any.
                shift = index - j1
                if tag != 'equal':
                    shift = min(shift, max(i2 - i1 - 1, 0))
                return min(i1 + shift + head + 1, len(old))
        return line - len(new) + len(old)

    return line_before


class _Lines:
    """Line numbers of one state of the files, told as those of another."""

    def __init__(self, before: Contents, after: Contents):
        self._before, self._after = before, after
        self._maps: dict[str, Callable[[int], int]] = {}

    def __call__(self, path: str, line: int) -> int:
        if path not in self._before or path not in self._after:
            return line
        if path not in self._maps:
            self._maps[path] = _line_map(self._before[path],
                                         self._after[path])
        return self._maps[path](line)


class _Applied(NamedTuple):
    """What a rule made of one state of a driver, with lines of that."""

    after: Contents
    findings: list[Finding]
    unparsed: set[tuple[str, int, str]]


def _apply(copy: _Copy, work: groups.Work, rule: Rule,
           state: Contents) -> _Applied:
    """Convert by one rule, once.  Raises _Failed."""
    copy.hold(state)
    run = None
    if work.size >= BIG and not rule.by_file:
        # Rewriting needs every file parsed: not for a refusal alone.
        run = copy.run(rule, 'report', work.name, to_parse(rule, state))
    if run is None or any(event.get('kind') == 'fix' for event in run.events):
        run = copy.rewrite(rule, work.name, to_parse(rule, state)
                           if rule.by_file
                           else Group(tuple(state), tuple(state)))
    return _Applied({path: layout.tidy(state.get(path, b''), content)
                     for path, content in copy.contents().items()},
                    list(map(from_event, run.events)), run.unparsed)


#: Converts by a rule; raises _Failed.
_Apply = Callable[[Rule, Contents], _Applied]


def _remembering(apply: _Apply) -> _Apply:
    """The same, but no rule meets the same state twice."""
    known: dict[tuple[Rule, bytes], _Applied] = {}

    def again(rule: Rule, state: Contents) -> _Applied:
        digest = hashlib.sha1()
        for path, content in state.items():
            digest.update(b'%s\0%d\0%s' % (os.fsencode(path), len(content),
                                           content))
        key = rule, digest.digest()
        if key not in known:
            known[key] = apply(rule, state)
        return known[key]

    return again


def _convert(apply: _Apply, work: groups.Work, rules: Sequence[Rule],
             original: Contents, start: Contents,
             part: _Part) -> Contents:
    """Run the conversions on one driver until nothing changes.

    original: what the user has (line numbers are told in it).  start: what to
    begin with (a header that a previous driver changed differs).  Raises
    _Failed when a run failed or the conversions do not settle.
    """
    state = start
    seen: dict[str, Contents] = {}          # rule -> the state it last ran on
    latest: dict[str, list[Finding]] = {}
    fixes: list[Finding] = []
    for _ in range(ROUNDS):
        changed = False
        for rule in rules:
            if seen.get(rule.name) == state:
                continue
            seen[rule.name] = state
            latest[rule.name] = []
            if not _concerned(rule, state):
                continue
            after, found, unparsed = apply(rule, state)
            told = _Lines(original, state)
            found = [mapped(finding, told) for finding in found]
            if after == state:
                latest[rule.name] = found
            else:
                changed = True
                # a note belongs to a fix: it says what is left to do
                fixes += (f for f in found
                          if f.kind == 'fix' or f.severity == 'note')
            shift = _Lines(original, after)
            part.coverage.unparsed |= {(path, shift(path, line), name)
                                       for path, line, name in unparsed}
            state = after
        if not changed:
            break
    else:
        part.coverage.failures.append(
            '%s: the conversions do not settle in %d rounds; nothing of it '
            'was changed' % (work.name, ROUNDS))
        raise _Failed
    part.findings += fixes
    for found in latest.values():
        part.findings += found
    return state


def convert(paths: Iterable[str], rules: Sequence[Rule], options: Options,
            kdir: str | None = None,
            writable: Callable[[Iterable[str]], None] | None = None) -> Result:
    """Run the conversions among `rules` over the drivers at `paths`.

    The result has the edits to make; nothing is written.  Its findings with
    kind `fix` were converted; refusals are what is left.  Raises Trouble.
    writable: asked, before any work, about all files that may be changed.
    """
    rules = [rule for rule in rules if rule.converts]
    with _Session(paths, rules, options, kdir) as session:
        if writable is not None:
            writable(sorted({file.path for work in session.works
                             for file in work.files.values()}))
        part = session.each(_chains, lambda works, part: _chain(
            works, rules, session.copy, part))
        session.result.edits = part.edits
        session.result.coverage.merge(part.coverage)
        session.gather(part.findings)
        return session.result


def _chain(works: Sequence[groups.Work], rules: Sequence[Rule],
           copy: Callable[[_Part], _Copy], part: _Part) -> None:
    """Convert drivers one after the other."""
    sources: dict[str, source.Source] = {}
    contents: Contents = {}
    for work in works:
        sources.update(work.files)
        original = {path: file.content for path, file in work.files.items()}
        start = {path: contents.get(path, content)
                 for path, content in original.items()}
        try:
            contents |= _convert(functools.partial(_apply, copy(part), work),
                                 work, rules, original, start, part)
        except _Failed:
            continue
    part.edits += (Edit(path, sources[path], sources[path].restore(content))
                   for path, content in sorted(contents.items())
                   if content != sources[path].content)


# --- Convert step by step ---------------------------------------------------

@dataclass
class Step:
    """What one step of a conversion did.

    contents: the files that differ from what the user has, as they are after
    it.  fixes: what it converted, with lines of the files before it; left:
    what it refuses, likewise.
    """

    contents: Contents = field(default_factory=dict)
    fixes: list[Finding] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)


@dataclass
class Stepped:
    """Drivers that share files, converted step by step.

    drivers: (name, files) of each.  sources: its files as they were read.
    others: the steps by other rules; none where the first gives the same.
    """

    drivers: list[tuple[str, tuple[str, ...]]]
    sources: dict[str, source.Source]
    steps: list[Step]
    others: list[Step]


_Steps = Sequence[Sequence[Rule]]


def stepwise(paths: Iterable[str], steps: _Steps, others: _Steps,
             options: Options, kdir: str | None = None
             ) -> tuple[Result, list[Stepped]]:
    """Convert drivers by the rules of one step after the other.

    A step begins with what the step before it made.  The result has the
    findings of the last step, with lines of the user's files.  A driver that
    fails in one step is left out, with those that share a file with it.
    Raises Trouble.
    """
    every = list(dict.fromkeys(rule for step in steps for rule in step))
    with _Session(paths, every, options, kdir) as session:
        chains: list[Stepped] = []

        def job(works: Sequence[groups.Work], part: _Part) -> None:
            with contextlib.suppress(_Failed):
                chains.append(_stepped(works, steps, others, session.copy,
                                       part))

        part = session.each(_chains, job)
        chains.sort(key=lambda chain: min(chain.sources))
        session.result.coverage.merge(part.coverage)
        session.gather(part.findings)
        return session.result, chains


def _stepped(works: Sequence[groups.Work], steps: _Steps, others: _Steps,
             copy: Callable[[_Part], _Copy], part: _Part) -> Stepped:
    """Take drivers that share files through all steps.  Raises _Failed."""
    sources = {path: file for work in works
               for path, file in work.files.items()}
    original = {path: file.content for path, file in sources.items()}
    applies = [_remembering(functools.partial(_apply, copy(part), work))
               for work in works]

    def step(rules: Sequence[Rule], before: Contents
             ) -> tuple[Contents, Step]:
        """Of all drivers, one after the other."""
        after, done = before, Step()
        for work, apply in zip(works, applies):
            start = {path: after[path] for path in work.files}
            told = _Part(coverage=part.coverage)
            after = after | _convert(apply, work, rules, start, start, told)
            for finding in told.findings:
                (done.fixes if finding.kind == 'fix' else done.left).append(
                    mapped(finding, _Lines(before, start)))
        done.contents = {path: sources[path].restore(content)
                         for path, content in after.items()
                         if content != original[path]}
        done.fixes, done.left = (sorted(set(found), key=Finding.key)
                                 for found in (done.fixes, done.left))
        return after, done

    chain = Stepped([(work.name, tuple(work.files)) for work in works],
                    sources, [], [])
    before = after = original
    for rules in steps:
        before = after
        after, done = step(rules, before)
        chain.steps.append(done)
    lines = _Lines(original, before)
    part.findings += (mapped(f, lines) for f in chain.steps[-1].left)
    after = original
    for rules in others:
        after, done = step(rules, after)
        if not chain.others \
                and done.contents == chain.steps[0].contents:
            break
        chain.others.append(done)
    return chain


def moved(finding: Finding, before: bytes, after: bytes) -> Finding:
    """A finding in one state of a file, told with lines of a later one."""
    return mapped(finding, _Lines({finding.path: after},
                                  {finding.path: before}))


# --- Many drivers at once ---------------------------------------------------

def _bundles(works: Sequence[groups.Work]) -> list[list[groups.Work]]:
    """Drivers for one run of spatch: small ones together, large ones alone."""
    bundles: list[list[groups.Work]] = []
    size = BUNDLE
    for work in sorted(works, key=lambda work: -work.size):
        if size + work.size > BUNDLE:
            bundles.append([])
            size = 0
        bundles[-1].append(work)
        size += work.size
    return bundles


_Item = TypeVar('_Item')
_Made = TypeVar('_Made')
_Bundle = Callable[[Sequence[groups.Work]], list[list[groups.Work]]]
_Job = Callable[[Sequence[groups.Work], _Part], None]


def _chains(works: Sequence[groups.Work]) -> list[list[groups.Work]]:
    """Drivers that share a file: they are converted one after the other, so
    that the second sees what the first did to the header."""
    return groups.chains(works, lambda work: work.files)


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A folder for scratch copies, gone at the end whatever happens.

    Of a run that was killed, the next one removes it: its lock is free.
    """
    _remove_abandoned()
    folder = tempfile.mkdtemp(prefix=_SCRATCH)
    try:
        with filelock.FileLock(os.path.join(folder, _ALIVE)):
            yield folder
    finally:
        process.remove(folder)


def _remove_abandoned() -> None:
    for lock in Path(tempfile.gettempdir()).glob(_SCRATCH + '*/' + _ALIVE):
        try:
            if lock.stat().st_uid != os.geteuid() \
                    or time.time() - lock.stat().st_mtime < _SETTLED:
                continue
            with filelock.FileLock(lock, timeout=0):
                process.remove(lock.parent)
        except (OSError, filelock.Timeout):
            continue        # it lives, or somebody else removes it


class _Session:
    """One run over drivers: what was found out first, and what all share."""

    def __init__(self, paths: Iterable[str], rules: Sequence[Rule],
                 options: Options, kdir: str | None):
        self._paths = list(paths)
        self.rules = rules
        self._options = options
        self._config = options.config
        also = frozenset(word for policy in self._config.policies
                         for word in policy.forbid) | {allow.WORD}
        self.tool = tool_digest()
        self.cache = Cache(cache.folder() if options.cache else None)
        lasting = Cache(None) if options.passing else self.cache
        known = ('facts', sorted(map(os.path.realpath, self._paths)),
                 sorted({word for rule in rules for word in rule.keywords}
                        | also), self.tool)
        self.facts = Facts(known[2], lasting.get(*known))
        self._keep_facts = lambda: lasting.put(self.facts.known, *known)
        self._kept = dict(self.facts.known)
        self.tree, drivers = groups.find(self._paths, kdir, self.facts,
                                         lasting)
        if options.shard is not None:
            drivers = groups.shard(self.tree, drivers, *options.shard)
        self.result = Result(self.tree)
        self.works = list(groups.read(self.tree, drivers, list(rules),
                                      self.result.coverage, self.facts,
                                      also))
        self._keep()
        self._also = also
        self._lines: dict[str, list[str]] = {}
        self._held = contextlib.ExitStack()
        self.scratch = ''
        self.spatch: Spatch

    def __enter__(self) -> _Session:
        self.scratch = self._held.enter_context(scratch())
        self.spatch = Spatch(self.scratch, self.tree.base,
                             net=self._options.net,
                             time_limit=self._options.time_limit,
                             verbose=self._options.verbose)
        return self

    def _keep(self) -> None:
        """Keep the facts for the next run, if there are new ones."""
        if self.facts.known != self._kept:
            self._keep_facts()
            self._kept = dict(self.facts.known)

    def __exit__(self, *error: object) -> None:
        self._held.close()
        self._keep()
        self.result.notes += self.cache.notes
        self.cache.close()

    def copy(self, part: _Part) -> _Copy:
        """A scratch copy whose runs are accounted for in `part`."""
        return _Copy(self.spatch, self.scratch, part)

    def parallel(self, one: Callable[[_Item], _Made],
                 items: Iterable[_Item]) -> Iterator[_Made]:
        """See process.parallel()."""
        return process.parallel(self.spatch.live, self._options.jobs, one,
                                items)

    def each(self, bundle: _Bundle, job: _Job) -> _Part:
        """Do `job` for all drivers, in parallel, the largest first."""
        batches = bundle(self.works)
        batches.sort(key=lambda batch: -sum(work.size for work in batch))
        total = sum(work.size for work in self.works)

        def one(batch: Sequence[groups.Work]) -> tuple[int, str, _Part]:
            part = _Part()
            job(batch, part)
            return (sum(work.size for work in batch), min(batch[0].files),
                    part)

        parts: list[tuple[str, _Part]] = []
        done = 0
        for size, name, part in self.parallel(one, batches):
            parts.append((name, part))
            done += size
            if self._options.progress:
                self._options.progress(done, total)
        # Not in the order in which they were done: output must not depend on
        # it.
        whole = _Part()
        for _, part in sorted(parts, key=lambda item: item[0]):
            whole.findings += part.findings
            whole.edits += part.edits
            whole.output += part.output
            whole.coverage.merge(part.coverage)
        return whole

    def gather(self, findings: list[Finding]) -> None:
        """Put findings into their final form: see Result."""
        result, shown = self.result, self.tree.shown
        texts = dict(self._texts())
        findings += policy.findings(self._config, self.tree.base, texts)
        kept = []
        for finding in findings:
            if finding.kind == 'unparsed':
                result.coverage.unparsed.add(
                    (finding.path, finding.line, finding.function))
            else:
                kept.append(finding)
        kept = self._config.apply(kept, self.tree.base)
        ran = [rule.name for rule in self.rules] + [policy.RULE]
        known = [*self._options.known_rules, policy.RULE]
        kept, allowed = allow.sift(self._finished(kept), texts,
                                   ran if result.complete else (), known)
        # what the comments themselves are told of has no fingerprint yet
        kept = sorted([f for f in kept if f.fingerprint]
                      + self._finished(f for f in kept if not f.fingerprint),
                      key=Finding.key)
        result.findings = [_shown(f, shown) for f in kept]
        result.suppressed = [replace(a, finding=_shown(a.finding, shown))
                             for a in allowed]
        for work in self.works:
            folder = os.path.dirname(next(iter(work.files)))
            for path in work.files:
                result.drivers.setdefault(
                    shown(path), shown(os.path.join(folder, work.name)))
        named: dict[tuple[str, str], int] = {}
        for path, line, function in sorted(result.coverage.unparsed):
            named.setdefault((shown(path), function), line)
        result.coverage.unparsed = {
            (path, line, function)
            for (path, function), line in named.items()}
        result.coverage.failures.sort()
        result.coverage.timeouts.sort()
        result.coverage.skipped.sort()
        _require_parsed(result, self.works,
                        map(os.path.realpath, self._paths))

    def _finished(self, findings: Iterable[Finding]) -> list[Finding]:
        return finish(findings, self._line, self.tree.rooted)

    def _texts(self) -> Iterator[tuple[str, str]]:
        """The files (as Latin-1) with a word that is not of a rule."""
        for work in self.works:
            if work.words.isdisjoint(self._also):
                continue
            for path in work.files:
                fact = self.facts.of(self.tree.absolute(path))
                if not fact.words.isdisjoint(self._also):
                    yield path, work.files[path].content.decode('latin-1')

    def _line(self, path: str, line: int) -> str:
        """A line of a file; '' when there is none."""
        if path not in self._lines:
            try:
                file = source.read(self.tree.absolute(path))
                self._lines[path] = source.lines(file.content)
            except (Trouble, source.Unusable):
                self._lines[path] = []
        lines = self._lines[path]
        return lines[line - 1] if 0 < line <= len(lines) else ''


def _require_parsed(result: Result, works: Iterable[groups.Work],
                    named: Iterable[str]) -> None:
    """A file that the user named and that does not parse at all is an error.

    In a folder it is one of many, and told by the coverage alone.
    """
    named = set(named)
    for work in works:
        for path in work.files:
            shown = result.tree.shown(path)
            if result.tree.absolute(path) not in named:
                continue
            lost = {name for where, _, name in result.coverage.unparsed
                    if where == shown}
            every = {name for name, _, _ in source.functions(
                work.files[path].content)}
            if lost and every <= lost:
                result.coverage.failures.append(
                    '%s: spatch cannot parse any of it: is it C, and does it '
                    'compile?' % shown)


def _shown(finding: Finding, shown: Callable[[str], str]) -> Finding:
    evidence = tuple(Evidence(shown(e.path), e.line, e.message)
                     for e in finding.evidence)
    changes = tuple(replace(c, path=shown(c.path)) for c in finding.changes)
    return replace(finding, path=shown(finding.path), evidence=evidence,
                   changes=changes)

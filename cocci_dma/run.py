# SPDX-License-Identifier: GPL-2.0-only
"""Rules over drivers: what `check` and `convert` come down to.

Everything happens on scratch copies; the user's files are only read here.
"""
from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
from concurrent import futures
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence

from . import groups, layout, process, source
from .findings import (Coverage, Finding, Evidence, finish, from_event,
                       mapped)
from .rules import Rule
from .spatch import TIME_LIMIT, Group, Run, Spatch

from evidence.plan import MARK  # from cocci/: see the package's __init__

#: A conversion that still changes something in this round will never settle.
ROUNDS = 4

#: Of larger drivers, only the files that hold a keyword are parsed to report.
BIG = 1 << 20

#: Bytes of source for one run of spatch on several drivers: starting it costs
#: as much time as parsing about a tenth of this.
BUNDLE = 1 << 20

Contents = dict[str, bytes]
#: Called with the number of bytes done and of all; None: nobody watches.
Progress = Callable[[int, int], None]


@dataclass
class Options:
    """How to run; the same for every driver."""

    jobs: int = os.cpu_count() or 1
    net: bool = False
    verbose: bool = False
    time_limit: float = TIME_LIMIT
    progress: Progress | None = None


@dataclass(frozen=True)
class Edit:
    """A file that a conversion changed, with what it shall hold."""

    path: str
    source: source.Source
    content: bytes


@dataclass
class Result:
    """What came of a run; edits and output only where the mode makes some."""

    tree: groups.Tree
    findings: list[Finding] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    output: bytes = b''
    coverage: Coverage = field(default_factory=Coverage)

    @property
    def complete(self) -> bool:
        """Did every run come to its end?"""
        return not (self.coverage.timeouts or self.coverage.failures)


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


def _to_parse(rule: Rule, work: groups.Work, contents: Contents) -> Group:
    """The files that spatch must see for a report."""
    files = tuple(contents)
    if rule.by_file:
        return Group(tuple(path for path, content in contents.items()
                           if rule.concerns(content)), files)
    if work.size < BIG:
        return Group(files, files)
    return Group(tuple(path for path, content in contents.items()
                       if path.endswith('.h') or rule.concerns(content)),
                 files)


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
        concerned = [(work.name, _to_parse(rule, work, contents))
                     for work, contents in zip(works, held)
                     if _concerned(rule, contents)]
        for run in copy.run_all(rule, mode, concerned):
            part.output += run.stdout
            part.coverage.unparsed |= run.unparsed
            part.findings += map(from_event, run.events)


def check(paths: Iterable[str], rules: Sequence[Rule], options: Options,
          kdir: str | None = None, mode: str = 'report') -> Result:
    """Run `rules` over the drivers at `paths`; nothing is changed.

    mode: `report` fills findings, `context` fills output.  Raises Trouble.
    """
    def together(works: Sequence[groups.Work], spatch: Spatch, scratch: str,
                 part: _Part) -> None:
        _report(works, rules, mode, _Copy(spatch, scratch, part), part)

    return _over_drivers(paths, rules, options, kdir, together, _bundles)


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


def _convert(copy: _Copy, work: groups.Work, rules: Sequence[Rule],
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
            copy.hold(state)
            run = None
            if work.size >= BIG and not rule.by_file:
                # Rewriting needs every file parsed: not for a refusal alone.
                run = copy.run(rule, 'report', work.name,
                               _to_parse(rule, work, state))
            if run is None or any(event.get('kind') == 'fix'
                                  for event in run.events):
                run = copy.rewrite(rule, work.name, _to_parse(
                    rule, work, state) if rule.by_file
                    else Group(tuple(state), tuple(state)))
            after = {path: layout.tidy(state.get(path, b''), content)
                     for path, content in copy.contents().items()}
            told = _Lines(original, state)
            found = [mapped(from_event(event), told) for event in run.events]
            if after == state:
                latest[rule.name] = found
            else:
                changed = True
                # a note belongs to a fix: it says what is left to do
                fixes += (f for f in found
                          if f.kind == 'fix' or f.severity == 'note')
            shift = _Lines(original, after)
            part.coverage.unparsed |= {(path, shift(path, line), name)
                                       for path, line, name in run.unparsed}
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

    def chain(works: Sequence[groups.Work], spatch: Spatch, scratch: str,
              part: _Part) -> None:
        sources: dict[str, source.Source] = {}
        contents: Contents = {}
        for work in works:
            sources.update(work.files)
            original = {path: file.content
                        for path, file in work.files.items()}
            start = {path: contents.get(path, content)
                     for path, content in original.items()}
            copy = _Copy(spatch, scratch, part)
            try:
                contents |= _convert(copy, work, rules, original, start, part)
            except _Failed:
                continue
        part.edits += (
            Edit(path, sources[path], sources[path].restore(content))
            for path, content in sorted(contents.items())
            if content != sources[path].content)

    return _over_drivers(paths, rules, options, kdir, chain, _chains,
                         before=writable)


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


_Job = Callable[[Sequence[groups.Work], Spatch, str, _Part], None]


def _chains(works: Sequence[groups.Work]) -> list[list[groups.Work]]:
    """Drivers that share a file (a header), put together.

    They are converted one after the other, so that the second sees what the
    first did to the header.
    """
    chain_of: dict[str, list[groups.Work]] = {}
    chains: list[list[groups.Work]] = []
    for work in works:
        mine = [work]
        for path in work.files:
            other = chain_of.get(path)
            if other is not None and other is not mine:
                mine[:0] = other
                chains.remove(other)
                for member in other:
                    chain_of.update(dict.fromkeys(member.files, mine))
        chain_of.update(dict.fromkeys(work.files, mine))
        chains.append(mine)
    return chains


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A folder for scratch copies, gone at the end whatever happens."""
    folder = tempfile.mkdtemp(prefix='cocci-dma-')
    try:
        yield folder
    finally:
        process.remove(folder)


def _over_drivers(paths: Iterable[str], rules: Sequence[Rule],
                  options: Options, kdir: str | None, job: _Job,
                  bundle: Callable[[Sequence[groups.Work]],
                                   list[list[groups.Work]]],
                  before: Callable[[Iterable[str]], None] | None = None
                  ) -> Result:
    """Do `job` for all drivers at `paths`, in parallel, the largest first."""
    paths = list(paths)
    tree, drivers = groups.find(paths, kdir)
    result = Result(tree)
    works = list(groups.read(tree, drivers, list(rules), result.coverage))
    if before is not None:
        before(sorted({file.path for work in works
                       for file in work.files.values()}))
    batches = bundle(works)
    batches.sort(key=lambda batch: -sum(work.size for work in batch))
    total = sum(work.size for work in works)
    with scratch() as folder:
        spatch = Spatch(folder, tree.base, net=options.net,
                        time_limit=options.time_limit,
                        verbose=options.verbose)

        def one(batch: Sequence[groups.Work]) -> _Part:
            part = _Part()
            job(batch, spatch, folder, part)
            return part

        with futures.ThreadPoolExecutor(max(1, options.jobs)) as pool:
            parts: list[tuple[str, _Part]] = []
            try:
                pending = {pool.submit(one, batch): batch for batch in batches}
                done = 0
                for future in futures.as_completed(pending):
                    batch = pending[future]
                    parts.append((min(batch[0].files), future.result()))
                    done += sum(work.size for work in batch)
                    if options.progress:
                        options.progress(done, total)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                spatch.stop()
                raise
    # Not in the order in which they were done: output must not depend on it.
    findings: list[Finding] = []
    for _, part in sorted(parts, key=lambda item: item[0]):
        findings += part.findings
        result.edits += part.edits
        result.output += part.output
        result.coverage.merge(part.coverage)
    _gather(result, works, findings)
    _require_parsed(result, works, map(os.path.realpath, paths))
    return result


def _require_parsed(result: Result, works: Iterable[groups.Work],
                    named: Iterable[str]) -> None:
    """A file that the user named and that does not parse at all is an error.

    In a folder it is one of many, and told by the coverage alone.
    """
    named = set(named)
    for work in works:
        for path, file in work.files.items():
            shown = result.tree.shown(path)
            lost = {name for where, _, name in result.coverage.unparsed
                    if where == shown}
            every = {name for name, _, _ in source.functions(file.content)}
            if file.path in named and lost and every <= lost:
                result.coverage.failures.append(
                    '%s: spatch cannot parse any of it: is it C, and does it '
                    'compile?' % shown)


def _gather(result: Result, works: Iterable[groups.Work],
            findings: Iterable[Finding]) -> None:
    """Put findings into their final form; unparsed sites go to coverage."""
    sources = {path: file for work in works
               for path, file in work.files.items()}
    split: dict[str, list[str]] = {}

    def line_text(path: str, line: int) -> str:
        if path not in sources:
            return ''
        if path not in split:
            split[path] = source.lines(sources[path].content)
        return split[path][line - 1] if 0 < line <= len(split[path]) else ''

    shown = result.tree.shown
    kept: list[Finding] = []
    for finding in finish(findings, line_text):
        if finding.kind == 'unparsed':
            result.coverage.unparsed.add(
                (finding.path, finding.line, finding.function))
        else:
            kept.append(_shown(finding, shown))
    result.findings = kept
    named: dict[tuple[str, str], int] = {}
    for path, line, function in sorted(result.coverage.unparsed):
        named.setdefault((shown(path), function), line)
    result.coverage.unparsed = {(path, line, function)
                                for (path, function), line in named.items()}


def _shown(finding: Finding, shown: Callable[[str], str]) -> Finding:
    evidence = tuple(Evidence(shown(e.path), e.line, e.message)
                     for e in finding.evidence)
    return replace(finding, path=shown(finding.path), evidence=evidence)

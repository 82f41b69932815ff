# SPDX-License-Identifier: GPL-2.0-only
"""From what a boot said to one verdict a driver: which oracles spoke."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Iterator

from . import ktap

#: oracle -> what it means that it speaks, in the order in which it is told.
ORACLES = {
    'data': 'what was read is not what was written, or the transfer failed',
    'iommu': 'the device used an address that nobody mapped for it',
    'dma-debug': 'CONFIG_DMA_API_DEBUG reports a misuse, or mappings are left',
    'kasan': 'KASAN reports an access to memory that is not the driver\'s',
    'slub': 'the allocator reports a double free or an overwritten object',
    'kmemleak': 'memory that nobody can free any more',
    'sleep': 'the driver sleeps where it must not',
    'lockdep': 'a lock is held or taken where it must not be',
    'warning': 'any other warning or bug in the kernel\'s log',
    'load': 'the module cannot be loaded or unloaded, or binds no device',
    'crash': 'the guest dies or hangs',
}

#: Those that speak only when the kernel checks memory.
MEMORY_ORACLES = ('kasan', 'slub', 'kmemleak')

#: The first pattern that is found in a line decides.
_PATTERNS = tuple((re.compile(pattern), oracle) for pattern, oracle in (
    (r'^DMAR: \[.*[Ff]ault|^dmar_fault: \d+ callbacks suppressed', 'iommu'),
    (r'^DMA-API: (?!Mapped at:|preallocated |debugging enabled)',
     'dma-debug'),
    (r'^WARNING: .* at kernel/dma/debug\.c:', 'dma-debug'),
    (r'^BUG: KASAN: ', 'kasan'),
    (r'^BUG: sleeping function called from invalid context'
     r'|^BUG: scheduling while atomic', 'sleep'),
    (r'^(?:WARNING|BUG): .*\b(?:lock|locking|locks)\b(?!\.)', 'lockdep'),
    (r'^BUG [\w-]+ (?:\(|: )', 'slub'),
    (r'^kmemleak: \d+ new suspected', 'kmemleak'),
    (r'^Kernel panic - not syncing', 'crash'),
    (r'^(?:WARNING|BUG|Oops|INFO: task|general protection fault)\b'
     r'|^(?:list_(?:add|del) corruption|refcount_t: |Bad page |BUG: Bad )'
     r'|swiotlb buffer is full', 'warning'),
))

#: The first function of a module in what follows a report.
_PLACE = re.compile(r'^(?:RIP: 0010:| (?:\? )?)(\w+\+0x\w+/0x\w+ \[\w+\])')

#: Reports after which what follows in the same boot says nothing any more.
_CORRUPTS = re.compile(r'^DMA-API: .* frees DMA memory')

#: What guest/init.c says when it makes a call fail, and what came of that.
_CALLS = re.compile(r'^  # (\d+) of \d+ calls shall fail$')
_CALL = re.compile(r'^  # (\w+ \d+) fails$')
_OUTCOME = re.compile(r'^  # ((?:load|transfer): .*)$')

#: How a step says that mappings are left, and what CONFIG_DMA_API_DEBUG has
#: counted.
_LEFT = re.compile(r'^mappings: ')
_ERRORS = re.compile(r'^dma-debug: (\d+) errors')

_LAST_LINES = 6


@dataclass
class Verdict:
    """said: oracle -> the lines with which it spoke.

    transferred: was data moved and compared at all?  corrupted: may what
    this driver did have spoilt the machine for the next one?
    """

    said: dict[str, list[str]] = field(default_factory=dict)
    transferred: bool = False
    corrupted: bool = False
    log: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """No oracle spoke."""
        return not self.said

    @property
    def oracles(self) -> tuple[str, ...]:
        """Those that spoke, in their order."""
        return tuple(name for name in ORACLES if name in self.said)

    def say(self, oracle: str, line: str) -> None:
        """Note that an oracle spoke."""
        lines = self.said.setdefault(oracle, [])
        if line not in lines:
            lines.append(line)

    def add(self, other: Verdict) -> None:
        """Take in what came of the rest of a run, in another boot."""
        for oracle, lines in other.said.items():
            for line in lines:
                self.say(oracle, line)
        self.transferred |= other.transferred
        self.corrupted |= other.corrupted
        self.log = self.log + other.log


def judge(run: ktap.Run, end: str | None = None) -> Verdict:
    """The verdict on one run.

    end: how the boot ended; None while it goes on, or when we ended it.
    """
    verdict = Verdict(log=run.log)
    for step in run.steps:
        if step.name.startswith('transfer') and not step.skipped:
            verdict.transferred = True
        if not step.good:
            verdict.say(_oracle_of(step), _failed(step))
    reported = ''
    for line in run.log:
        for pattern, oracle in _PATTERNS:
            if pattern.search(line):
                verdict.say(oracle, line)
                reported = oracle
                break
        else:
            place = _PLACE.match(line)
            if place and reported:
                verdict.say(reported, _in(place))
                reported = ''
        verdict.corrupted |= _CORRUPTS.search(line) is not None
    if not run.ended and end is not None:
        verdict.say('crash', end)
        for line in run.log[-_LAST_LINES:]:
            verdict.say('crash', line)
    return verdict


@dataclass(frozen=True)
class FailedCall:
    """A call that was made to fail.

    outcome: what came of it at first.  oracles: those that spoke, at that time
    or until the driver was used again, and not before any call failed.
    """

    call: str
    outcome: str
    oracles: tuple[str, ...]


def evidence(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Each line of the log, and the oracle that speaks by it, or ''."""
    oracles = {line: oracle for oracle, lines in verdict.said.items()
               for line in lines}
    for line in verdict.log:
        step, place = ktap.step(line), _PLACE.match(line)
        said = _failed(step) if step and not step.good else \
            _in(place) if place else line
        yield line, oracles.get(said, '')


def failed_calls(verdict: Verdict) -> Iterator[FailedCall]:
    """The calls that were made to fail, and what came of each."""
    starts = [number for number, line in enumerate(verdict.log)
              if _CALL.match(line)]
    always = _judge_lines(verdict.log[:starts[0]], True).said if starts else {}
    for start, end in zip(starts, [*starts[1:], len(verdict.log)]):
        # Not what was looked for, or done in another boot, when all was over
        log = list(takewhile(lambda line: not ktap.is_subtest(line),
                             verdict.log[start:end]))
        found = _CALL.match(log[0])
        assert found is not None
        outcome = next(filter(None, map(_OUTCOME.match, log)), None)
        judged = _judge_lines(log, outcome is not None)
        yield FailedCall(
            found[1], outcome[1] if outcome else 'the guest ends',
            tuple(oracle for oracle in judged.oracles if oracle not in always
                  or any(map(_LEFT.match, judged.said[oracle]))))


def _judge_lines(log: list[str], ended: bool) -> Verdict:
    """The verdict on a part of a run."""
    steps = [step for step in map(ktap.step, log) if step]
    return judge(ktap.Run('', steps, log, ended), 'the guest ends')


def calls_done(log: list[str]) -> tuple[int, int]:
    """How many calls shall fail in a run, and how many have in its boot."""
    total = next(filter(None, map(_CALLS.match, log)), None)
    return (int(total[1]) if total else 0,
            sum(1 for line in log if _CALL.match(line)))


def dma_errors(verdict: Verdict) -> int:
    """How many errors CONFIG_DMA_API_DEBUG has counted in a run."""
    return sum(int(found[1]) for found in map(
        _ERRORS.match, verdict.said.get('dma-debug', ())) if found)


def _failed(step: ktap.Step) -> str:
    """A step as an oracle says it."""
    return '%s: %s' % (step.name, step.message)


def _in(place: re.Match[str]) -> str:
    """A place in a module as an oracle says it."""
    return 'in ' + place[1]


def _oracle_of(step: ktap.Step) -> str:
    """Which oracle a failed step is."""
    word = step.name.split(' ')[0]
    if 'hangs for ' in step.message:
        return 'crash'
    if word in ('load', 'unload', 'bind', 'inject'):
        return 'load'
    if word == 'mappings':
        return 'dma-debug'
    if word in ORACLES:
        return word
    return 'data'       # transfer, or a call that was made to fail

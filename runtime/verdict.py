# SPDX-License-Identifier: GPL-2.0-only
"""From what a boot said to one verdict a driver: which oracles spoke."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
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
_CALL = re.compile(r'^  # (\w+ \d+) fails$')
_OUTCOME = re.compile(r'^  # ((?:load|transfer): .*)$')

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


def evidence(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Each line of the log, and the oracle that speaks by it, or ''."""
    oracles = {line: oracle for oracle, lines in verdict.said.items()
               for line in lines}
    for line in verdict.log:
        step, place = ktap.step(line), _PLACE.match(line)
        said = _failed(step) if step and not step.good else \
            _in(place) if place else line
        yield line, oracles.get(said, '')


def failed_calls(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """The calls that were made to fail, and what came of each."""
    call = ''
    for line in verdict.log:
        if begin := _CALL.match(line):
            call = begin[1]
        elif call and (end := _OUTCOME.match(line)):
            yield call, end[1]
            call = ''
    if call:
        yield call, 'the guest ends'


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

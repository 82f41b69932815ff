# SPDX-License-Identifier: GPL-2.0-only
"""Finds GFP flags of DMA memory that are wrong, too weak or without effect.

Nothing is rewritten: GFP_KERNEL in atomic context is a bug whose repair is a
decision, and so is whether an allocation that may sleep should.
"""
from __future__ import annotations

from typing import Callable, Iterator

from . import context
from . import cparse as c
from .driver import Driver
from .plan import Note, Unit
from .report import Step

#: The argument with the flags.
FLAGS = {'dma_alloc_coherent': 3, 'dmam_alloc_coherent': 3,
         'dma_alloc_attrs': 3, 'dmam_alloc_attrs': 3,
         'dma_pool_alloc': 1, 'dma_pool_zalloc': 1}
_SLEEP = frozenset('GFP_KERNEL GFP_KERNEL_ACCOUNT GFP_USER GFP_NOIO '
                   'GFP_NOFS'.split())
_NO_SLEEP = frozenset('GFP_ATOMIC GFP_NOWAIT'.split())
_ZONES = frozenset('GFP_DMA GFP_DMA32 __GFP_DMA __GFP_DMA32 '
                   '__GFP_HIGHMEM'.split())


def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
    """A unit for each allocation of which there is something to say."""
    units = []
    for func in driver.functions_with(*sorted(FLAGS)):
        for call in func.calls():
            index = FLAGS.get(call.name, -1)
            if 0 <= index < len(call.args):
                notes = list(_notes(driver, func, call, call.args[index]))
                if notes:
                    units.append(Unit(notes=notes))
    return units


def _notes(driver: Driver, func: c.Function, call: c.Call,
           flags: c.Expr) -> Iterator[Note]:
    """What there is to say of one call."""
    names = {n.name for n in flags.walk() if isinstance(n, c.Id)}
    if any(isinstance(n, c.Ternary) for n in flags.walk()):
        return              # the driver chooses by something that it knows

    def note(message: str, severity: str, steps: tuple[Step, ...] = ()) -> Note:
        return Note('finding', func.path, call.first, func.name, message,
                    severity, list(steps))

    known = context.of(driver)
    if names & _SLEEP:
        steps = known.must_not_sleep(func, call)
        if steps:
            yield note('%s() with %s in atomic context: %s; use GFP_ATOMIC, '
                       'or allocate where the code may sleep'
                       % (call.name, min(names & _SLEEP),
                          context.said(steps[0])), 'error', steps)
    elif names & _NO_SLEEP:
        verdict = known.may_sleep(func, call)
        if verdict.sleeps:
            yield note('%s() with %s where the code may sleep: GFP_KERNEL '
                       'does not fail as easily: %s'
                       % (call.name, min(names & _NO_SLEEP),
                          context.said(verdict.steps[0])), 'note',
                       verdict.steps)
    yield from _effects(call, names, note)


def _effects(call: c.Call, names: set[str],
             note: Callable[[str, str], Note]) -> Iterator[Note]:
    """Flags that do nothing, or harm."""
    if '__GFP_COMP' in names:
        yield note('%s() with __GFP_COMP warns and fails since Linux 6.2: DMA '
                   'memory is no compound page; drop the flag' % call.name,
                   'error')
    zones = sorted(names & _ZONES)
    if zones:
        yield note('%s() ignores %s: the coherent DMA mask of the device says '
                   'which addresses it reaches; set that, and drop the flag'
                   % (call.name, ' and '.join(zones)), 'warning')
    if '__GFP_ZERO' in names and call.name != 'dma_pool_alloc':
        yield note('%s() always gives zeroed memory: __GFP_ZERO has no effect; '
                   'drop the flag' % call.name, 'note')


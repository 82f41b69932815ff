# SPDX-License-Identifier: GPL-2.0-only
"""Finds coherent memory that is freed while interrupts are disabled.

dma_free_coherent() may have to unmap pages, which waits for other processors:
it warns when interrupts are off, whatever the device.
"""
from __future__ import annotations

import re

from . import context
from . import cparse as c
from .checks import parents
from .driver import Driver
from .plan import Note, Unit

#: Functions that end in dma_free_attrs(); dma_pool_free() does not.
FREES = frozenset('dma_free_coherent dma_free_attrs dma_free_wc '
                  'dmam_free_coherent'.split())


def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
    """A unit for each free that is proven to run with interrupts off."""
    units = []
    known = context.of(driver)
    for func in driver.functions_with(*sorted(FREES)):
        for call in func.calls():
            steps = known.interrupts_off(func, call) \
                if call.name in FREES and not _left_out(driver, func, call) \
                else ()
            if steps:
                units.append(Unit(notes=[Note(
                    'finding', func.path, call.first, func.name,
                    '%s() with interrupts off, where it warns and may not work:'
                    ' %s; free it later, or from a work item'
                    % (call.name, context.said(steps[0])), 'warning',
                    list(steps))]))
    return units


def _left_out(driver: Driver, func: c.Function, call: c.Call) -> bool:
    """Is it below `#if X` with an X that the driver defines as 0?"""
    for above in parents(func).chain(call):
        if isinstance(above, c.Branches) and call.first.start \
                < above.body[0].last.end:
            line = driver.text_of(func.path)[above.first.start:above.first.end]
            found = re.match(r'#\s*if\s+(\w+)\s*$', line)
            macro = driver.macro(found[1]) if found else None
            if macro is not None and macro.body.strip() == '0':
                return True
    return False

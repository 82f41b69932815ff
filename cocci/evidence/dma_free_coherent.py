# SPDX-License-Identifier: GPL-2.0-only
"""Finds coherent memory that is freed while interrupts are disabled.

dma_free_coherent() may have to unmap pages, which waits for other processors:
it warns when interrupts are off, whatever the device.
"""
from __future__ import annotations

from . import context
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
                if call.name in FREES else ()
            if steps:
                units.append(Unit(notes=[Note(
                    'finding', func.path, call.first, func.name,
                    '%s() with interrupts off, where it warns and may not work:'
                    ' %s; free it later, or from a work item'
                    % (call.name, context.said(steps[0])), 'warning',
                    list(steps))]))
    return units

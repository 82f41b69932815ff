# SPDX-License-Identifier: GPL-2.0-only
"""Which addresses the device is said to reach: the masks that probe sets.

GFP_DMA put memory where the device reaches it.  dma_alloc_coherent() goes by
the mask for coherent memory alone.
"""
from __future__ import annotations

import os
import re
from typing import NamedTuple

from .driver import Driver, Place, strip, text
from .reach import Reach

#: What sets the mask for coherent memory; it is the last argument.
_SETTERS = ('dma_set_mask_and_coherent', 'dma_set_coherent_mask',
            'dma_coerce_mask_and_coherent', 'pci_set_consistent_dma_mask')


class Mask(NamedTuple):
    """A mask that is set; bits are None where they are not known."""

    text: str
    bits: int | None
    place: Place

    def __str__(self) -> str:
        return '%s (%s:%d)' % (self.text, os.path.basename(self.place.path),
                               self.place.line)


def masks(driver: Driver, reach: Reach) -> list[Mask]:
    """The masks that probe sets, itself or through its helpers."""
    return [Mask(text(call.args[-1]), bits(driver, text(strip(call.args[-1]))),
                 Place(func.path, func, call))
            for func in driver.functions_with(*_SETTERS)
            if func.body and any(entry.root.kind in ('probe', 'init')
                                 for entry in reach.entries(func))
            for call in func.calls()
            if call.name in _SETTERS and len(call.args) == 2]


def limit(found: list[Mask], zone: str, dev: str) -> str:
    """What is left to do about the limit of GFP_DMA or GFP_DMA32, in words."""
    width = 32 if '32' in zone else 24
    said = '%s asked for memory that the device reaches: coherent memory ' \
        'obeys the DMA mask instead' % zone
    if not found:
        return '%s, so probe must set it with dma_set_mask_and_coherent(%s, ' \
            'DMA_BIT_MASK(%d))' % (said, dev, width)
    said += ', which probe sets to ' + ' or '.join(map(str, found))
    if all(mask.bits is not None and mask.bits <= width for mask in found):
        return '%s: the %d bits of %s are covered' % (said, width, zone)
    if any(mask.bits is not None and mask.bits > width for mask in found):
        return '%s: the %d bits of %s are not covered, lower it if the ' \
            'device reaches no more' % (said, width, zone)
    return '%s: it is not known whether that covers the %d bits of %s' \
        % (said, width, zone)


def bits(driver: Driver, words: str) -> int | None:
    """How many bits a mask has, if these words are a constant."""
    value = _number(driver, words)
    if value is not None:
        return value.bit_length()
    found = re.fullmatch(r'DMA_BIT_MASK\((\w+)\)', _meaning(driver, words))
    return _number(driver, found[1]) if found else None


def _meaning(driver: Driver, words: str) -> str:
    """A constant, with the names of macros replaced that are but a name."""
    for _ in range(4):
        macro = driver.macro(words) if words.isidentifier() else None
        if macro is None or macro.params is not None:
            break
        words = re.sub(r'^\((.*)\)$', r'\1', macro.body.strip())
    return words


def _number(driver: Driver, words: str) -> int | None:
    found = re.fullmatch(r'(0[xX][0-9a-fA-F]+|[1-9]\d*)[uUlL]*',
                         _meaning(driver, words))
    return int(found[1], 0) if found else None

# SPDX-License-Identifier: GPL-2.0-only
"""With which GFP flags may memory be allocated at a place?

GFP_ATOMIC is never wrong.  GFP_KERNEL is, where the caller may not sleep: it
needs a proof, and the proof can be read.
"""
from __future__ import annotations

from typing import NamedTuple

from . import cparse as c
from .atomic import why_atomic
from .driver import Driver
from .report import Step


class Gfp(NamedTuple):
    """The flags of one allocation.

    flag: GFP_KERNEL, GFP_ATOMIC, or the name of a parameter of type gfp_t.
    message: what stood in the way of GFP_KERNEL, '' when nothing did.
    evidence: the steps of the proof, or the place that stood in its way.
    """

    flag: str
    message: str
    evidence: tuple[Step, ...]


def decide(driver: Driver, func: c.Function, node: c.Node) -> Gfp:
    """The flags for an allocation at `node` in `func`."""
    gfp = next((p.name for p in func.params if p.type.base == 'gfp_t'
                and not p.type.pointers), '')
    if gfp:
        return Gfp(gfp, 'the callers of %s() choose by its parameter %s'
                   % (func.name, gfp), ())
    why = why_atomic(driver, func, node)
    if why:
        return Gfp('GFP_ATOMIC', why, ())
    return Gfp('GFP_KERNEL', '', ())

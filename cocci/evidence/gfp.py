# SPDX-License-Identifier: GPL-2.0-only
"""With which GFP flags may memory be allocated at a place?"""
from __future__ import annotations

from typing import NamedTuple

from . import cparse as c
from .driver import Driver
from .report import Step


class Gfp(NamedTuple):
    """The flags of one allocation, and why it is not GFP_KERNEL."""

    flag: str
    message: str
    evidence: tuple[Step, ...]


def decide(driver: Driver, func: c.Function, node: c.Node) -> Gfp:
    """The flags for an allocation at `node` in `func`."""
    return Gfp('GFP_ATOMIC', 'the calling context is not analysed', ())

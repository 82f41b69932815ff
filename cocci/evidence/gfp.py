# SPDX-License-Identifier: GPL-2.0-only
"""With which GFP flags may memory be allocated at a place?

GFP_ATOMIC is never wrong.  GFP_KERNEL is, where the caller may not sleep: it
needs a proof, and the proof can be read.
"""
from __future__ import annotations

from typing import NamedTuple

from . import context
from . import cparse as c
from .driver import Driver
from .includes import missing
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
    return decided(context.of(driver), func, node)


def decided(known: context.Context, func: c.Function, node: c.Node) -> Gfp:
    """The same with contexts that are at hand."""
    verdict = known.may_sleep(func, node)
    unseen = _missing_header(known.driver) if verdict.sleeps else None
    if unseen is not None:
        return Gfp('GFP_ATOMIC', context.said(unseen), (unseen,))
    if verdict.sleeps:
        return Gfp('GFP_KERNEL', '', verdict.steps)
    gfp = _parameter(func)
    if gfp and not known.locks.at(func, node).held:
        return Gfp(gfp, verdict.reason, (verdict.obstacle,))
    return Gfp('GFP_ATOMIC', verdict.reason, (verdict.obstacle,))


def _missing_header(driver: Driver) -> Step | None:
    """A header of the driver's own that was not found: its macros may lock,
    its functions may be called from anywhere."""
    return next((Step(path, token.line, 'the header %s was not found, and what '
                      'it holds is not known' % name)
                 for path, name, token in missing(driver)), None)


def _parameter(func: c.Function) -> str:
    """A parameter of type gfp_t that nothing changes or hides; ''."""
    for param in func.params:
        if param.type.base == 'gfp_t' and not param.type.pointers \
                and not any(_takes(node, param.name) for node in func.nodes):
            return param.name
    return ''


def _takes(node: c.Node, name: str) -> bool:
    """Does a node set a variable, take its address, or declare another one of
    the name?"""
    if isinstance(node, c.Variable):
        return node.name == name
    target = node.left if isinstance(node, c.Assign) else node.arg \
        if isinstance(node, c.Unary) and node.op in (
            '&', '++', '--', 'p++', 'p--') else None
    return isinstance(target, c.Id) and target.name == name

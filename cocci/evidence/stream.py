# SPDX-License-Identifier: GPL-2.0-only
"""A buffer that is allocated, sent or received, and freed in one function.

Such a buffer is mapped for its one transfer.  Only the plain shape is taken:
one call of the driver gets the address and waits for the device, the data is
copied from the user before or to the user after it, and its failure goes to a
label that the failure to map can use too.
"""
from __future__ import annotations

from dataclasses import dataclass

from . import cparse as c
from .checks import graph, parents
from .driver import Driver, strip, text
from .pointer import Use

_WAITS = frozenset('''
    wait_for_completion wait_for_completion_timeout wait_event
    wait_for_completion_interruptible_timeout wait_event_timeout
    wait_for_completion_killable_timeout wait_event_interruptible_timeout
    readl_poll_timeout readl_poll_timeout_atomic read_poll_timeout
    ioread32_poll_timeout regmap_read_poll_timeout'''.split())
_FROM_USER = frozenset(('copy_from_user', '__copy_from_user'))
_TO_USER = frozenset(('copy_to_user', '__copy_to_user'))


class NoStream(Exception):
    """The transfer has another shape; args are message and node."""


@dataclass
class Transfer:
    """The pieces of a streaming mapping around one statement."""

    direction: str
    failure: str            # what follows dma_mapping_error()


def is_transfer(uses: list[Use]) -> bool:
    """Does the function copy the buffer from or to the user?"""
    return any(isinstance(u.node, c.Call)
               and u.node.name in _FROM_USER | _TO_USER for u in uses)


def transfer(driver: Driver, func: c.Function, site, sites: list,
             uses: list[Use]) -> Transfer:
    """How to map a buffer for the call that gets its address."""
    if len(sites) != 1 or site.address.terms:
        raise NoStream('its address is taken at more than one place, or inside '
                       'of it', site.call)
    statement, call = _statement(func, site.call)
    callee = driver.resolve(call.name, func) if call.name else None
    if callee is None or not _waits(driver, callee, 2):
        raise NoStream('%s() is not proven to wait for the device, so it is not '
                       'known where to unmap' % (call.name or 'the call'),
                       site.call)
    return Transfer(_direction(func, statement, uses),
                    _failure(func, statement))


def _statement(func: c.Function, node: c.Node) -> tuple[c.ExprStmt, c.Call]:
    above = parents(func)
    call = above.of(node)
    while isinstance(call, (c.Paren, c.Cast)):
        call = above.of(call)
    statement = above.of(call)
    if isinstance(statement, c.Assign) and strip(statement.right) is call:
        statement = above.of(statement)
    if not isinstance(call, c.Call) or not isinstance(statement, c.ExprStmt) \
            or not isinstance(above.of(statement), c.Block):
        raise NoStream('the address is not simply an argument of a function of '
                       'the driver', node)
    return statement, call


def _waits(driver: Driver, func: c.Function, depth: int) -> bool:
    if func.words & _WAITS:
        return True
    return depth > 0 and any(
        callee is not None and _waits(driver, callee, depth - 1)
        for callee in (driver.resolve(call.name, func) for call in func.calls()
                       if call.name))


def _direction(func: c.Function, statement: c.ExprStmt,
               uses: list[Use]) -> str:
    steps = graph(func)
    here = steps.step_of(statement)
    later = {id(s) for s in steps.reachable([s for s, _ in here.next])}
    if id(here) in later:
        raise NoStream('the transfer is in a loop', statement)
    before, after = False, False
    for use in uses:
        if use.kind != 'read':
            continue
        name = use.node.name if isinstance(use.node, c.Call) else ''
        step = steps.step_of(use.node)
        if name in _FROM_USER and id(step) not in later:
            before |= id(step) in steps.dominators().get(id(here), ())
        elif name in _TO_USER and id(step) in later:
            after = True
        else:
            raise NoStream('the direction of the transfer is not proven: the '
                           'buffer is also used here', use.node)
    if before and after:
        return 'DMA_BIDIRECTIONAL'
    if not before and not after:
        raise NoStream('the direction of the transfer is not proven', statement)
    return 'DMA_TO_DEVICE' if before else 'DMA_FROM_DEVICE'


def _failure(func: c.Function, statement: c.ExprStmt) -> str:
    """What to do when mapping fails: as when the transfer itself fails."""
    block = parents(func).of(statement)
    following = block.body[block.body.index(statement) + 1:]
    result = statement.expr.left if isinstance(statement.expr, c.Assign) else None
    if result is not None and following and isinstance(following[0], c.If):
        cond = strip(following[0].cond)
        if isinstance(cond, c.Binary) and cond.op == '<' \
                and text(cond.right) == '0':
            cond = strip(cond.left)
        then = following[0].then
        if isinstance(then, c.Block) and len(then.body) == 1:
            then = then.body[0]
        if text(cond) == text(result) and isinstance(then, c.Goto):
            return '{ %s = -ENOMEM; goto %s; }' % (text(result), then.name)
    raise NoStream('the call is not followed by `if (ret) goto label;`, so it is '
                   'not known how to leave when mapping fails', statement)

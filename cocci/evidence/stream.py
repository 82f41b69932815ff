# SPDX-License-Identifier: GPL-2.0-only
"""A buffer that is allocated, sent or received, and freed in one function.

Such a buffer is mapped for its one transfer.  Only the plain shape is taken:
one call of the driver gets the address, starts the transfer and waits for it,
and the data is copied from the user before or to the user after it.
"""
from __future__ import annotations

from dataclasses import dataclass

from . import cparse as c
from .checks import graph, parents
from .driver import Driver, strip, text
from .exits import Unwinder
from .pointer import Use
from .resources import Refused
from .unwind import Builder
from .waiting import may_wait, waiting

_FROM_USER = frozenset(('copy_from_user', '__copy_from_user'))
_TO_USER = frozenset(('copy_to_user', '__copy_to_user'))


class NoStream(Exception):
    """The transfer has another shape; args are message, node and its file."""


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
             uses: list[Use], handle: str) -> Transfer:
    """How to map a buffer for the call that gets its address.

    handle is the variable for it; NoStream says why the buffer is refused.
    """
    if len(sites) != 1 or site.address.terms:
        raise NoStream('its address is taken at more than one place, or inside '
                       'of it', site.call, func.path)
    statement, call = _statement(func, site.call)
    _waited_for(driver, func, statement, call, site.call)
    return Transfer(_direction(func, statement, uses),
                    _failure(driver, func, statement, handle))


def _waited_for(driver: Driver, func: c.Function, statement: c.ExprStmt,
                call: c.Call, address: c.Call) -> None:
    """The transfer must be over when the call that gets the address is."""
    callee = driver.resolve(call.name, func) if call.name else None
    index = next(i for i, arg in enumerate(call.args) if strip(arg) is address)
    how = waiting(driver, callee, index) if callee is not None else None
    if how is None or not how.starts or not how.waits:
        raise NoStream('%s() is not proven to wait for the device, so it is not '
                       'known where to unmap' % (call.name or 'the call'),
                       address, func.path)
    if how.unanswered is not None:
        raise NoStream(
            '%s() waits for the device%s %s, so it is not known where to unmap'
            % (callee.name, ', but not on every path after' if how.late else
               ' only before', _what(how.unanswered)), how.unanswered,
            callee.path)
    steps = graph(func)
    for step in steps.reachable([
            s for s, _ in steps.step_of(statement).next]):
        if may_wait(driver, func, step):
            raise NoStream('%s() waits for the device, but %s() does so again: '
                           'it is not known where to unmap'
                           % (callee.name, func.name), step.tree, func.path)


def _what(node: c.Node) -> str:
    """What may start a transfer, for a message."""
    if isinstance(node, c.Call):
        return '%s(), which may start the transfer' % (node.name
                                                       or text(node.func))
    if isinstance(node, c.Assign):
        return '`%s`, which may start the transfer' % text(node)
    return 'code that cannot be looked into'


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
                       'the driver', node, func.path)
    return statement, call


def _direction(func: c.Function, statement: c.ExprStmt,
               uses: list[Use]) -> str:
    steps = graph(func)
    here = steps.step_of(statement)
    later = {id(s) for s in steps.reachable([s for s, _ in here.next])}
    if id(here) in later:
        raise NoStream('the transfer is in a loop', statement, func.path)
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
                           'buffer is also used here', use.node, func.path)
    if before and after:
        return 'DMA_BIDIRECTIONAL'
    if not before and not after:
        raise NoStream('the direction of the transfer is not proven', statement,
                       func.path)
    return 'DMA_TO_DEVICE' if before else 'DMA_FROM_DEVICE'


def _failure(driver: Driver, func: c.Function, statement: c.ExprStmt,
             handle: str) -> str:
    """What to do when mapping fails: release what is held before the call."""
    try:
        return Builder(Unwinder(driver, func), statement, [handle], 'mapping',
                       begins=True).build().code
    except Refused as why:
        raise NoStream('it is not known how to leave when mapping fails: %s'
                       % why, statement, func.path) from None

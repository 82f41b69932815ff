# SPDX-License-Identifier: GPL-2.0-only
"""A buffer that is allocated, sent or received, and freed in one function.

Such a buffer is mapped for its one transfer.  Two plain shapes are taken: one
call of the driver gets the address, starts the transfer and waits for it; or
the device gets the address here, and a later call waits.  The data is copied
from the user before or to the user after it.
"""
from __future__ import annotations

from dataclasses import dataclass

from . import cparse as c
from .checks import graph, parents
from .driver import Driver, strip, text
from .exits import Unwinder
from .handle import Handle
from .pointer import Use
from .resources import Refused
from .sink import is_register
from .unwind import Builder
from .waiting import always_waits, may_wait, takes_time, waiting

_FROM_USER = frozenset(('copy_from_user', '__copy_from_user'))
_TO_USER = frozenset(('copy_to_user', '__copy_to_user'))


class NoStream(Exception):
    """The transfer has another shape; args are message, node and its file."""


@dataclass
class Transfer:
    """The pieces of a streaming mapping around one statement."""

    direction: str
    failure: str            # what follows dma_mapping_error()
    wait: c.Call | None     # behind it is the unmap; None: behind the address


def is_transfer(uses: list[Use]) -> bool:
    """Does the function copy the buffer from or to the user?"""
    return any(isinstance(u.node, c.Call)
               and u.node.name in _FROM_USER | _TO_USER for u in uses)


def transfer(driver: Driver, func: c.Function, site, sites: list,
             uses: list[Use], handle: Handle) -> Transfer:
    """How to map a buffer for the call that gets its address.

    handle is what holds it; NoStream says why the buffer is refused.
    """
    if len(sites) != 1 or site.address.terms:
        raise NoStream('its address is taken at more than one place, or inside '
                       'of it', site.call, func.path)
    kept = handle.assigned_by(site) is not None
    statement, call = _statement(func, site.call, kept)
    wait = _waited_for(driver, func, statement, call, site.call)
    return Transfer(_direction(func, statement, wait or statement, uses),
                    _failure(driver, func, statement, handle.name),
                    _call_of(wait) if wait is not None else None)


def _waited_for(driver: Driver, func: c.Function, statement: c.ExprStmt,
                call: c.Call | None, address: c.Call) -> c.ExprStmt | None:
    """The statement that waits for the transfer; None: that of the address.

    call is the one that gets the address; None when a variable does.
    """
    if call is None:
        found = _later_wait(driver, func, statement)
        if found is None:
            raise NoStream('nothing that is known to wait for the device '
                           'follows: it is not known where to unmap', address,
                           func.path)
        return found
    callee = driver.resolve(call.name, func) if call.name else None
    index = next(i for i, arg in enumerate(call.args) if strip(arg) is address)
    how = waiting(driver, callee, index) if callee is not None else None
    if how is None and is_register(call.name) \
            or how is not None and not how.waits:
        found = _later_wait(driver, func, statement)
        if found is not None:
            return found
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
    again = _waits_behind(driver, func, statement)
    if again is not None:
        raise NoStream('%s() waits for the device, but %s() does so again: '
                       'it is not known where to unmap'
                       % (callee.name, func.name), again, func.path)
    return None


def _later_wait(driver: Driver, func: c.Function,
                statement: c.ExprStmt) -> c.ExprStmt | None:
    """The statement behind that of the address, in the same block, that waits
    last for the device; None if there is no such one.

    NoStream: there is a wait, but not in a place behind which an unmap can
    stand.
    """
    block = parents(func).of(statement)
    index = next(i for i, s in enumerate(block.body) if s is statement)
    steps = graph(func)
    last = None
    for later in block.body[index + 1:]:
        call = _call_of(later)
        if call is not None and always_waits(driver, func, call):
            last = later
    behind = _waits_behind(driver, func, last or statement)
    if behind is not None:
        raise NoStream('the wait for the device is %s: it is not known where '
                       'to unmap' % (
                           'followed by another one' if last else
                           'no statement of its own behind the address'),
                       behind, func.path)
    if last is None:
        return None
    for step in steps.reachable([s for s, _ in steps.step_of(last).next]):
        if takes_time(driver, func, step):
            raise NoStream('behind the wait for the device more time passes: '
                           'it is not known where to unmap', step.tree,
                           func.path)
    end = steps.step_of(last)
    between = steps.reachable(
        [s for s, _ in steps.step_of(statement).next], lambda s: s is end)
    if steps.exit in between:
        raise NoStream('not every path waits for the device: it is not known '
                       'where to unmap', last, func.path)
    return last


def _call_of(statement: c.Stmt) -> c.Call | None:
    """The call of `f();` or `r = f();`"""
    if not isinstance(statement, c.ExprStmt):
        return None
    expr = strip(statement.expr)
    if isinstance(expr, c.Assign) and expr.op == '=':
        expr = strip(expr.right)
    return expr if isinstance(expr, c.Call) else None


def _waits_behind(driver: Driver, func: c.Function,
                  statement: c.ExprStmt) -> c.Node | None:
    """Where the function waits for the device once more."""
    steps = graph(func)
    for step in steps.reachable([
            s for s, _ in steps.step_of(statement).next]):
        if may_wait(driver, func, step):
            return step.tree
    return None


def _what(node: c.Node) -> str:
    """What may start a transfer, for a message."""
    if isinstance(node, c.Call):
        return '%s(), which may start the transfer' % (node.name
                                                       or text(node.func))
    if isinstance(node, c.Assign):
        return '`%s`, which may start the transfer' % text(node)
    return 'code that cannot be looked into'


def _statement(func: c.Function, node: c.Call, kept: bool
               ) -> tuple[c.ExprStmt, c.Call | None]:
    """The statement with the address, and the call that gets it.

    kept: the statement only keeps it in a variable.
    """
    above = parents(func)
    if kept:
        return above.statement(node), None
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


def _direction(func: c.Function, begin: c.ExprStmt, end: c.ExprStmt,
               uses: list[Use]) -> str:
    """Which way the data goes between two statements.  Raises NoStream."""
    steps = graph(func)
    here, there = steps.step_of(begin), steps.step_of(end)
    later = {id(s) for s in steps.reachable([s for s, _ in there.next])}
    if id(here) in later:
        raise NoStream('the transfer is in a loop', begin, func.path)
    during = {id(s) for s in steps.reachable(
        [s for s, _ in here.next], lambda s: s is there)} \
        if here is not there else set()
    before, after = False, False
    for use in uses:
        step = steps.step_of(use.node)
        if id(step) in during and step is not here:
            raise NoStream('the buffer is used here during the transfer',
                           use.node, func.path)
        if use.kind != 'read':
            continue
        name = use.node.name if isinstance(use.node, c.Call) else ''
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
        raise NoStream('the direction of the transfer is not proven', begin,
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

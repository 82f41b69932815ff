# SPDX-License-Identifier: GPL-2.0-only
"""Finds tests of handles and of DMA memory that do not tell failure.

A mapping that is not tested otherwise is the business of dma_mapping_error,
which also says by what it is tested in vain (checks.py decides); here are
the tests beside a right one, tests with another device, and those of memory.
"""
from __future__ import annotations

import re
from typing import Iterator

from . import checks
from . import cparse as c
from . import dmacalls, report
from .driver import Driver, Place, strip, text
from .flow import Step
from .plan import Note, Unit
from .quantity import Values
from .reach import Definitions, Reach
from .sources import Sources, said, unseen

_ERROR_POINTERS = frozenset('IS_ERR PTR_ERR_OR_ZERO'.split())
#: Functions that return a pointer that is NULL when they failed.
_MEMORY = frozenset(dmacalls.ALLOCS)


def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
    """A unit for each test that does not test what it should."""
    return [Unit(notes=[note]) for note in _Tests(driver).notes()]


class _Tests:
    """The tests of one driver."""

    def __init__(self, driver: Driver):
        self.driver = driver
        reach, definitions = Reach(driver), Definitions(driver)
        self.values = Values(driver, reach, definitions)
        self.handles = Sources(
            reach, definitions,
            lambda call: call.name in dmacalls.MAPS, dmacalls.fills_handle)

    def notes(self) -> Iterator[Note]:
        for func in self.driver.functions_with('dma_mapping_error'):
            for call in func.calls():
                if call.name == 'dma_mapping_error' and len(call.args) == 2:
                    yield from self._mapping_error(call, func)
        for func in self.driver.functions_with(*sorted(_MEMORY)):
            for call in func.calls():
                if call.name in _MEMORY:
                    yield from self._memory(call, func)
        for site in checks.sites(self.driver, checks.MAPS):
            if site.shape == 'assign':
                yield from self._beside(site)

    # -- dma_mapping_error()

    def _mapping_error(self, call: c.Call, func: c.Function) -> Iterator[Note]:
        found = self.handles.behind(call.args[1], func)
        if not found.sure or unseen(self.driver, found.through):
            return
        places = found.places()
        if all(p.node.name in dmacalls.ALLOCS for p in places):
            yield _note(call, func, '`%s` is no mapping, but the handle of %s: '
                        'whether that failed is told by the pointer that it '
                        'returned, which is NULL then'
                        % (text(call), said(places)), 'warning', places)
            return
        for place in places:
            form = dmacalls.form(place.node)
            if not self.values.devices_differ(
                    (call.args[0], func),
                    (form.argument(place.node, 'device'), place.function)):
                return
        yield _note(call, func, '`%s` with another device than that of %s, '
                    '`%s`: DMA debugging takes the mapping for untested'
                    % (text(call), said(places), text(places[0].node.args[0])),
                    'warning', places)

    # -- memory

    def _memory(self, call: c.Call, func: c.Function) -> Iterator[Note]:
        site = checks.site_of(func, call)
        names = {text(strip(t)) for t in site.targets}
        if not names:
            return
        here = Place(func.path, func, call)
        tests = [test for test in _behind(func, call, names)
                 if isinstance(test, c.Call) and test.name in _ERROR_POINTERS]
        for test in tests:
            yield _note(test, func, '`%s` never finds an error: %s returns '
                        'NULL when it fails' % (text(test), said([here])),
                        'warning', [here])
        handle = strip(dmacalls.form(call).argument(call, 'handle'))
        if not isinstance(handle, c.Unary) or handle.op != '&' or tests \
                or self._asked_for(names, func):
            return
        for test in _behind(func, call, {text(strip(handle.arg))}):
            if not isinstance(test, c.Call):
                yield _note(test, func, '`%s` does not tell that %s failed, '
                            'whose handle is not set then: test `%s`'
                            % (text(test), said([here]), sorted(names)[0]),
                            'warning', [here])

    def _asked_for(self, names: set[str], func: c.Function) -> bool:
        """Is a pointer tested, returned or handed on?  A field by anyone."""
        if any(isinstance(n, c.Return) and n.value is not None
               and text(strip(n.value)) in names for n in func.nodes):
            return True
        last = {re.findall(r'\w+', re.sub(r'\[.*?\]', '', name))[-1]
                for name in names}
        return any(_names_in_condition(other, last)
                   for other in ([func] if names == last else
                                 self.driver.functions_with(*sorted(last))))

    # -- beside a right test

    def _beside(self, site: checks.Site) -> Iterator[Note]:
        func, call = site.function, site.call
        names = {text(strip(t)) for t in site.targets}
        tests = [t for t in _behind(func, call, names)
                 if not isinstance(t, c.Call) and _with_right(func, t, names)]
        if not tests or any(v.kind not in ('checked', 'outside') for v in
                            checks.verdict(self.driver, site)):
            return
        here = Place(func.path, func, call)
        for test in tests:
            if 'DMA_MAPPING_ERROR' in text(test):
                message = '`%s` is no test that CONFIG_DMA_API_DEBUG knows; ' \
                    'dma_mapping_error() is enough for %s'
            else:
                message = '`%s` takes a valid address for a failure of %s: ' \
                    'dma_mapping_error() alone tells that'
            yield _note(test, func, message % (text(test), said([here])),
                        'note', [here])


def _behind(func: c.Function, call: c.Call,
            names: set[str]) -> Iterator[c.Expr]:
    """Tests of a result that only come after the call, and before another
    value is stored: `!x`, `x == 0` and the like, and calls of IS_ERR(x)."""
    found = [test for test in func.nodes
             if test.first.start > call.last.end and _is_test(test, names)]
    steps = checks.graph(func)
    start = steps.step_of(call)
    if not found or start is None or steps.incomplete:
        return
    dominators = steps.dominators()
    parts = names | set(re.findall(r'\w+', ' '.join(names)))

    def sets(step: Step) -> bool:
        """Does it set what is tested, or what that is a part of?"""
        return step is not start and step.tree is not None and any(
            text(strip(n.left if isinstance(n, c.Assign) else n.arg)) in parts
            for n in step.tree.walk() if isinstance(n, c.Assign)
            or isinstance(n, c.Unary) and n.op in ('++', '--', 'p++', 'p--'))

    reached = {id(s) for s in steps.reachable([start], sets)}
    for test in found:
        step = steps.step_of(test)
        if step is not None and step is not start and id(step) in reached \
                and id(start) in dominators.get(id(step), ()) \
                and not sets(step) and not _gives_back(func, test, names):
            yield test


def _is_test(node: c.Node, names: set[str]) -> bool:
    if isinstance(node, c.Unary) and node.op == '!':
        return _is(node.arg, names)
    if isinstance(node, c.Binary) and node.op in ('==', '!='):
        return any(_is(side, names) and checks.is_special(strip(other))
                   for side, other in ((node.left, node.right),
                                       (node.right, node.left)))
    return isinstance(node, c.Call) and node.name in _ERROR_POINTERS \
        and len(node.args) == 1 and _is(node.args[0], names)


def _is(expr: c.Expr, names: set[str]) -> bool:
    return text(strip(expr)) in names


def _gives_back(func: c.Function, test: c.Expr, names: set[str]) -> bool:
    """Does a test only ask whether there is something to give back?"""
    stmt = checks.parents(func).statement(test)
    return isinstance(stmt, c.If) and any(
        isinstance(n, c.Call) and ('unmap' in n.name or 'free' in n.name)
        and any(_is(a, names) for a in n.args) for n in stmt.walk())


def _with_right(func: c.Function, test: c.Expr, names: set[str]) -> bool:
    """Does dma_mapping_error() stand in the same condition?  A test of its own
    may have another reason: firmware that does not take the address 0."""
    stmt = checks.parents(func).statement(test)
    return isinstance(stmt, c.If) and any(
        isinstance(n, c.Call) and checks.TEST.search(n.name)
        and any(_is(a, names) for a in n.args) for n in stmt.cond.walk())


def _names_in_condition(func: c.Function, last: set[str]) -> bool:
    """Does a condition or a test name one of these variables or fields?"""
    for node in func.nodes:
        if isinstance(node, (c.If, c.Loop, c.Ternary, c.Switch)):
            cond = node.cond
        elif isinstance(node, c.Unary) and node.op == '!':
            cond = node.arg
        elif isinstance(node, c.Binary) and node.op in (
                '==', '!=', '&&', '||'):
            cond = node
        elif isinstance(node, c.Call) and node.name.isupper():
            cond = node
        else:
            continue
        if cond is not None and any(
                isinstance(n, (c.Id, c.Member)) and n.name in last
                for n in cond.walk()):
            return True
    return False


def _note(test: c.Expr, func: c.Function, message: str, severity: str,
          places: list[Place]) -> Note:
    if isinstance(test, c.Unary):
        at = test.arg.first
    else:
        at = test.first
    return Note('finding', func.path, at, func.name, message, severity, [
        report.Step(p.path, p.line, '%s() is called' % p.node.name)
        for p in places])

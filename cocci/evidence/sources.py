# SPDX-License-Identifier: GPL-2.0-only
"""Which calls does a pointer or a handle come from?

Every assignment of the driver counts, in whatever order they run: what is
traced to some calls alone comes from one of them.
"""
from __future__ import annotations

import os
import re
from typing import Callable, Iterable, NamedTuple

from . import cparse as c
from .driver import Driver, Object, Place, strip
from .reach import Definitions, Reach, is_null, unmap_field
from .roots import set_elsewhere

_OTHER_ALLOCATOR = re.compile(r'alloc|get_free_page|ioremap|get_zeroed_page'
                              r'|kmemdup|kstrdup|vmap')
_BYTE_ORDER = re.compile(r'^(__)?(cpu_to_[bl]e\d+|[bl]e\d+_to_cpu)$')
_GETTERS = frozenset('dma_unmap_addr dma_unmap_len pci_unmap_addr '
                     'pci_unmap_len'.split())
_EXCHANGES = frozenset('swap xchg cmpxchg get_user __get_user'.split())


class Found(NamedTuple):
    """calls: those asked for, by id; other: allocations of another kind;
    unknown: what could not be traced; through: the objects on the way."""

    calls: dict[int, Place]
    other: list[Place]
    unknown: list[Place]
    through: list[Object]

    @property
    def sure(self) -> bool:
        """Does the value come from those calls, and from nowhere else?"""
        return bool(self.calls) and not self.other and not self.unknown

    def places(self) -> list[Place]:
        """The calls in source order."""
        return sorted(self.calls.values(), key=lambda p: (p.path, p.line))


class Sources:
    """Traces values back to calls.

    wanted: is it one of the calls that are asked for?  fills: does a call
    store what is asked for through its argument of that index?
    """

    def __init__(self, reach: Reach, definitions: Definitions,
                 wanted: Callable[[c.Call], bool],
                 fills: Callable[[c.Call, int], bool] = lambda call, i: False):
        self.driver, self.reach = reach.driver, reach
        self.definitions = definitions
        self.wanted, self.fills = wanted, fills

    def behind(self, expr: c.Expr, func: c.Function) -> Found:
        """Where a value comes from."""
        found = Found({}, [], [], [])
        self._trace(expr, func, set(), found)
        return found

    def _trace(self, expr: c.Expr | None, func: c.Function | None,
               seen: set[object], found: Found) -> None:
        expr = strip(expr)
        if is_null(expr):
            return
        if isinstance(expr, c.Assign):
            expr = strip(expr.right)
        if isinstance(expr, c.Call) and expr.name in _GETTERS \
                and len(expr.args) == 2:
            expr = unmap_field(expr)
        here = Place(func.path if func else '', func, expr)
        if func is None or expr is None:
            found.unknown.append(here)
        elif isinstance(expr, c.Call):
            self._call(expr, func, seen, found)
        elif isinstance(expr, c.Ternary):
            for part in (expr.then or expr.cond, expr.other):
                self._trace(part, func, seen, found)
        elif isinstance(expr, (c.Id, c.Member, c.Index)) \
                or isinstance(expr, c.Unary) and expr.op == '*':
            self._lvalue(expr, func, seen, found)
        else:
            found.unknown.append(here)

    def _call(self, expr: c.Call, func: c.Function, seen: set[object],
              found: Found) -> None:
        here = Place(func.path, func, expr)
        if self.wanted(expr):
            found.calls[id(expr)] = here
            return
        if _BYTE_ORDER.match(expr.name) and len(expr.args) == 1:
            self._trace(expr.args[0], func, seen, found)
            return
        callee = self.driver.resolve(expr.name, func) if expr.name else None
        if callee is None:
            (found.other if _OTHER_ALLOCATOR.search(expr.name) else
             found.unknown).append(here)
        elif callee.body is None:
            found.unknown.append(here)
        elif id(callee) not in seen:
            seen.add(id(callee))
            for node in callee.nodes:
                if isinstance(node, c.Return) and node.value:
                    self._trace(node.value, callee, seen, found)

    def _lvalue(self, expr: c.Expr, func: c.Function, seen: set[object],
                found: Found) -> None:
        item = self.driver.object_of(expr, func)
        here = Place(func.path, func, expr)
        if item is None or item.kind == 'field' and item.owner is None:
            found.unknown.append(here)
            return
        level = levels(expr)
        if (item, level) in seen:
            return
        seen.add((item, level))
        found.through.append(item)
        known = False
        index = parameter(expr, func)
        if index is not None:
            callers = self.reach.callers(func)
            known = bool(callers) and not any(self.driver.direct_roots(func))
            for place in callers if known else ():
                if index < len(place.node.args):
                    self._trace(place.node.args[index], place.function, seen,
                                found)
        if isinstance(expr, c.Unary) or self._set_by_macro(item, func):
            found.unknown.append(here)  # what it points to, not what it is
        for value, place in self.definitions.of(item):
            if _assigned_level(place.node) == level:
                known = True
                self._trace(value, place.function, seen, found)
        for place in self.definitions.elements(item) if level \
                else self.definitions.addresses(item):
            known = True
            self._stored_through(place, seen, found)
        if not known:
            found.unknown.append(here)

    @staticmethod
    def _set_by_macro(item: Object, func: c.Function) -> bool:
        """Is a local the cursor of a list, or set by swap() and the like?"""
        if item.kind != 'local':
            return False
        loops = {id(n.cond) for n in func.nodes
                 if isinstance(n, c.Loop) and n.kind == 'macro'}
        return any(
            (id(call) in loops or call.name in _EXCHANGES)
            and any(isinstance(strip(a), c.Id) and strip(a).name == item.name
                    for a in call.args) for call in func.calls())

    def _stored_through(self, place: Place, seen: set[object],
                        found: Found) -> None:
        """`&pointer` is an argument: what does the callee store there?"""
        for call in place.function.calls() if place.function else ():
            for index, arg in enumerate(call.args):
                if strip(arg) is not place.node:
                    continue
                if self.fills(call, index):
                    found.calls[id(call)] = place._replace(node=call)
                    return
                callee = self.driver.resolve(call.name, place.function)
                if callee and index < len(callee.params):
                    self._through(callee, callee.params[index].name, seen,
                                  found)
                    return
        found.unknown.append(place)

    def _through(self, callee: c.Function, name: str, seen: set[object],
                 found: Found) -> None:
        """What a function stores where its parameter points to."""
        item = Object('local', callee.name, name)
        if (item, 1) in seen:
            return
        seen.add((item, 1))
        for value, at in self.definitions.of(item):
            if _assigned_level(at.node) == 1:
                self._trace(value, at.function, seen, found)
        for call in callee.calls():
            for index, arg in enumerate(call.args):
                inner = strip(arg)
                if not isinstance(inner, c.Id) or inner.name != name:
                    continue
                if self.fills(call, index):
                    found.calls[id(call)] = Place(callee.path, callee, call)
                    continue
                below = self.driver.resolve(call.name, callee)
                if below and index < len(below.params):
                    self._through(below, below.params[index].name, seen, found)


def levels(expr: c.Expr | None) -> int:
    """How often an lvalue goes from a pointer or array to what is there."""
    out = 0
    expr = strip(expr)
    while isinstance(expr, c.Index) or isinstance(expr, c.Unary) \
            and expr.op == '*':
        expr = strip(expr.base if isinstance(expr, c.Index) else expr.arg)
        out += 1
    return out


def _assigned_level(node: c.Node) -> int:
    if isinstance(node, c.Assign):
        return levels(node.left)
    return levels(node.arg) if isinstance(node, c.Unary) else 0


def parameter(expr: c.Expr, func: c.Function) -> int | None:
    """The index of the parameter that an expression is."""
    if isinstance(expr, c.Id):
        for index, param in enumerate(func.params):
            if param.name == expr.name:
                return index
    return None


def unseen(driver: Driver, items: Iterable[Object]) -> Place | None:
    """Where one of these may be set by code that has no syntax tree here."""
    for item in items:
        struct = driver.struct(item.owner) if item.owner and item.kind \
            == 'field' else None
        if struct is not None and set_elsewhere(driver, struct, item.name):
            return Place(struct.path, None, c.Node(struct.first, struct.last))
        word = re.compile(r'(?:->|\.)\s*%s\b[^=;]*=(?!=)|&[^;,]*\b%s\b|##'
                          % (re.escape(item.name), re.escape(item.name)))
        for source in driver.files_with(item.name):
            for token in source.dead:
                if token.text == item.name:
                    return Place(source.path, None, c.Node(token, token))
            for func in source.all_functions():
                if func.body is None and item.name in func.words:
                    return Place(source.path, func, c.Node(
                        func.name_token, func.name_token))
            for macro in source.macros.values():
                if re.search(r'\b%s\b' % re.escape(item.name), macro.body) \
                        and word.search(macro.body):
                    return Place(source.path, None, c.Node(*[next(
                        t for t in source.raw if t.line == macro.line)] * 2))
    return None


def said(places: list[Place]) -> str:
    """Calls and where they stand: `kmalloc() (x.c:4) or kzalloc() (x.c:7)`."""
    return ' or '.join('%s() (%s:%d)' % (
        p.node.name, os.path.basename(p.path), p.line) for p in places[:3])

# SPDX-License-Identifier: GPL-2.0-only
"""Addresses that a driver turns back into pointers.

No DMA interface can do that: memory whose address may come back this way must
stay as it is.  A driver does it with a function (bus_to_virt() and the like),
with the offset of the kernel's linear map, or with a plain cast.
"""
from __future__ import annotations

import re
from typing import NamedTuple

from . import cparse as c
from .addresscall import declares
from .buffer import Site
from .checks import parents
from .driver import Driver, Object, text
from .pointer import Pointers

#: Functions that make a pointer of an address.
_BACK = ('bus_to_virt', 'isa_bus_to_virt', 'phys_to_virt', '__va',
         '__phys_to_virt', '__bus_to_virt', 'pfn_to_kaddr', 'pfn_to_virt')
#: Where the linear map begins: who adds it makes a pointer, too.
_OFFSETS = ('PAGE_OFFSET', '__PAGE_OFFSET', 'PHYS_OFFSET', 'KSEG0', 'KSEG1',
            'CKSEG0', 'CKSEG1', 'CAC_BASE', 'UNCAC_BASE')
_MAKES_POINTER = re.compile(
    r'(phys|bus|pfn|dma|isa)_?(to|2)_?(virt|page|kaddr|ptr)|^__va$|KSEG\dADDR|'
    r'^(ioremap|memremap)')
#: Functions that only change the byte order of an address, or its width.
_REFORM = re.compile(
    r'^(__)?(cpu_to_[bl]e(16|32|64)|[bl]e(16|32|64)_to_cpu|hton[ls]|ntoh[ls]|'
    r'swab(16|32|64)|lower_32_bits|upper_32_bits|likely|unlikely|'
    r'READ_ONCE)$')


class WayBack(NamedTuple):
    """Where and how an address becomes a pointer."""

    how: str
    path: str
    line: int


def inverse(call: c.Call) -> str:
    """Why a call that makes a pointer of an address is left alone."""
    if _names_resource(call.args[0]):
        return ('%s() of a device resource is no memory: use ioremap() or '
                'pci_iomap()' % call.name)
    return ('%s() takes an address back from the device (round trip): keep '
            'the CPU pointer, and find it by an index or by its handle'
            % call.name)


# ------------------------------------------------ anywhere in the driver

def way_back(driver: Driver) -> WayBack | None:
    """Where the driver makes a pointer of some address, if it does."""
    for source in driver.files_with(*_BACK, *_OFFSETS):
        harmless = {call.first.start for func in source.all_functions()
                    if func.words & set(_BACK) for call in func.calls()
                    if call.name in _BACK and _elsewhere(driver, call, func)}
        for tok, after in [*zip(source.tokens, source.tokens[1:]),
                           *zip(source.dead, source.dead[1:])]:
            if tok.kind != 'id':
                continue
            if tok.text in _OFFSETS:
                return WayBack(tok.text, source.path, tok.line)
            inside = source.function_at(tok.line)
            if tok.text in _BACK and after.text == '(' \
                    and tok.start not in harmless \
                    and (inside is None or inside.name_token is not tok) \
                    and not declares(source, tok):
                return WayBack(tok.text + '()', source.path, tok.line)
        for macro in source.macros.values():
            for tok in c.tokenize(macro.body):
                if tok.kind == 'id' and tok.text in _BACK + _OFFSETS:
                    return WayBack(tok.text + '()' * (tok.text in _BACK),
                                   source.path, macro.line)
    return None


def _elsewhere(driver: Driver, call: c.Call, func: c.Function) -> bool:
    """Does it make a pointer of a constant, or of a device's own memory?"""
    if len(call.args) != 1:
        return False
    if _names_resource(call.args[0]):
        return True
    for node in call.args[0].walk():
        if isinstance(node, (c.Member, c.Call)):
            return False
        if isinstance(node, c.Id) and (driver.object_of(node, func)
                                       or not node.name.isupper()):
            return False
        macro = driver.macro(node.name) if isinstance(node, c.Id) else None
        if macro and any(t.kind == 'id' and not t.text.isupper()
                         for t in c.tokenize(macro.body)):
            return False
    return True


def _names_resource(expr: c.Expr) -> bool:
    return any(isinstance(node, c.Call) and (
        'resource' in node.name or node.name == 'ioremap')
               for node in expr.walk())


# ------------------------------------------------------ from one buffer

def turned_back(driver: Driver, pointers: Pointers,
                sites: list[Site]) -> WayBack | None:
    """Where a copy of a buffer's address becomes a pointer again.

    The copies are followed through variables, fields, arguments and results.
    """
    search = _Search(driver, pointers)
    for site in sites:
        search.value(site.call, site.func)
    return search.found


class _Search:
    """What becomes of a value, and of its copies."""

    def __init__(self, driver: Driver, pointers: Pointers):
        self.driver, self.pointers = driver, pointers
        self.found: WayBack | None = None
        self._seen: set[tuple[Object, str]] = set()

    def value(self, node: c.Expr, func: c.Function) -> None:
        """Follow one value upwards to where it is stored or cast."""
        above = parents(func)
        while self.found is None:
            up = above.of(node)
            if isinstance(up, c.Cast) and up.type.pointers:
                self._note('a cast to `%s`' % str(up.type), func, up)
            elif isinstance(up, c.Binary) and up.op == '-' \
                    and up.right is node or isinstance(up, c.Binary) \
                    and up.op in ('==', '!=', '<', '>', '<=', '>=', '&&', '||'):
                return                    # a difference, or a test
            elif isinstance(up, (c.Paren, c.Cast, c.Binary)) \
                    or isinstance(up, c.Unary) and up.op in '~-+' \
                    or isinstance(up, c.Ternary) and up.cond is not node:
                node = up
            elif isinstance(up, c.Call) and up.func is not node:
                if not _REFORM.match(up.name):
                    return self._argument(up, node, func)
                node = up
            elif isinstance(up, c.Assign) and up.right is node:
                self._stored(up.left, up, func)
                node = up                 # a = b = address
            elif isinstance(up, c.Variable):
                return self._stored(c.Id(up.first, up.first, up.name), up,
                                    func)
            elif isinstance(up, c.Return):
                for place in self.driver.calls_to(func):
                    if place.function is not None:
                        self.value(place.node, place.function)
                return
            else:
                return

    def _stored(self, left: c.Expr, at: c.Node, func: c.Function) -> None:
        kind = self.driver.type_of(left, func)
        if kind is not None and kind.pointers and not kind.dims:
            return self._note('the pointer `%s`' % text(left), func, at)
        found = self.driver.object_of(left, func)
        if found is not None and not (found.kind == 'field'
                                      and found.owner is None):
            self._copies(found, func)

    def _copies(self, found: Object, func: c.Function) -> None:
        """Every read of a variable or field that holds the address."""
        key = found, func.path if found.kind == 'local' else ''
        if key in self._seen:
            return
        self._seen.add(key)
        for inside, node in self.pointers.mentions(found.name):
            if found.kind == 'local' and inside is not func \
                    or self.driver.object_of(node, inside) != found:
                continue
            up = parents(inside).of(node)
            while isinstance(up, (c.Index, c.Paren)) and not (
                    isinstance(up, c.Index) and up.index is node):
                node, up = up, parents(inside).of(up)
            if not (isinstance(up, c.Assign) and up.left is node):
                self.value(node, inside)

    def _argument(self, call: c.Call, node: c.Expr, func: c.Function) -> None:
        name = call.name
        callee = self.driver.resolve(name, func) if name else None
        index = next((i for i, a in enumerate(call.args) if a is node), -1)
        if callee is not None and 0 <= index < len(callee.params):
            param = callee.params[index]
            if param.type.pointers:
                self._note('%s(), which takes it as a pointer' % name, func,
                           call)
            elif callee.body is not None:
                self._copies(Object('local', callee.name, param.name), callee)
            return
        macro = self.driver.macro(name) if name else None
        if _MAKES_POINTER.search(name) or macro and re.search(
                r'\*\s*\)', macro.body):
            self._note('%s()' % name, func, call)

    def _note(self, how: str, func: c.Function, at: c.Node) -> None:
        self.found = WayBack(how, func.path, at.first.line)

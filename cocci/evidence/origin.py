# SPDX-License-Identifier: GPL-2.0-only
"""Where the memory comes from whose address is taken.

From a site to the object (a field, a local or global variable) that the
memory was allocated into, and from there to its allocations.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from . import alias
from . import cparse as c
from .address import Address, Locator, NoBuffer
from .allocation import ALLOCATIONS
from .buffer import Refused, Site, called
from .checks import parents
from .driver import Driver, Object, strip, text
from .helper import Helpers
from .pointer import Use
from .reach import Definitions, is_null


@dataclass(eq=False)
class Carrier:
    """A local variable that memory is allocated into, and `x->p = variable`."""

    func: c.Function
    name: str
    store: c.Assign


class Origins:
    """Finds the memory behind the sites of one driver."""

    def __init__(self, driver: Driver, definitions: Definitions):
        self.driver, self.definitions = driver, definitions
        self._locator = Locator(driver, definitions)
        self._helpers = Helpers(driver, definitions, self._locator)

    def of(self, site: Site) -> Object:
        """The object that a site's memory is allocated into.

        Sets the site's address; NoBuffer says why there is none.
        """
        address = site.address = self._just_set(self._locator.locate(
            site.call.args[0], site.func), site)
        base = strip(address.base)
        if isinstance(base, c.Id) and any(p.name == base.name
                                          for p in site.func.params):
            address.base = self._helpers.lift(base, site.func)
            address.parameter = base.name
        site.address = self._derived(address, site.func)
        return self._object(site)

    def _just_set(self, address: Address, site: Site) -> Address:
        """The statement before may say what the pointer is: `q->p = x + n;`."""
        above = parents(site.func)
        statement = above.statement(site.call)
        block = above.of(statement) if statement is not None else None
        if not isinstance(block, c.Block) \
                or not isinstance(statement, (c.ExprStmt, c.Decl)):
            return address
        index = next(i for i, s in enumerate(block.body) if s is statement)
        before = block.body[index - 1] if index else None
        if not isinstance(before, c.ExprStmt):
            return address
        expr = before.expr
        if not isinstance(expr, c.Assign) or expr.op != '=' \
                or text(expr.left) != text(address.base) or any(
                    isinstance(n, (c.Call, c.Assign)) or isinstance(n, c.Unary)
                    and n.op not in '&*-' for n in expr.right.walk()):
            return address
        try:
            inner = self._locator.locate(expr.right, site.func)
        except NoBuffer:
            return address
        if inner.base is not strip(expr.right) or inner.terms:
            return Address(inner.base, inner.terms + address.terms,
                           inner.aliases + address.aliases)
        return address

    def _derived(self, address: Address, func: c.Function) -> Address:
        """`x->rx`, which is only ever `x->tx + N`, is a place behind `x->tx`."""
        base = strip(address.base)
        obj = self.driver.object_of(base, func)
        if not isinstance(base, c.Member) or obj is None or obj.owner is None \
                or self.definitions.addresses(obj):
            return address
        values = [(v, p) for v, p in self.definitions.of(obj) if not is_null(v)]
        if len(values) != 1 or values[0][1].function is None \
                or not isinstance(values[0][1].node, c.Assign):
            return address
        value, place = values[0]
        left = strip(place.node.left)
        try:
            inner = self._locator.locate(value, place.function)
        except NoBuffer:
            return address
        block = strip(inner.base)
        found = self.driver.object_of(block, place.function)
        if not isinstance(left, c.Member) or not isinstance(block, c.Member) \
                or found is None or found.owner != obj.owner or found == obj \
                or text(left.base) != text(block.base) \
                or not _constant_terms(inner, block):
            return address
        there = c.Member(base.first, base.last, base.base, base.arrow, block.name)
        terms = [(s, t.replace(text(block), text(there))) for s, t in inner.terms]
        return Address(there, terms + address.terms, address.aliases,
                       address.parameter)

    def _object(self, site: Site) -> Object:
        base = site.address.base
        obj = self.driver.object_of(base, site.func)
        if obj is None or obj.kind == 'field' and obj.owner is None:
            raise NoBuffer('`%s` belongs to a struct that the driver does not '
                           'define: its memory is not allocated here'
                           % text(base))
        return obj

    def released(self, use: Use, obj: Object) -> Use:
        """A free of a copy of the pointer, with the lvalue it is a copy of.

        The use as it is where that is not known.
        """
        pointer = strip(use.pointer)
        if use.of == obj or not use.exact or not isinstance(pointer, c.Id):
            return use
        try:
            if any(p.name == pointer.name for p in use.func.params):
                place = self._helpers.lift(pointer, use.func)
            else:
                place = self._copied(pointer, use, obj)
        except NoBuffer:
            return use
        if place is None or self.driver.object_of(place, use.func) != obj:
            return use
        return use._replace(of=obj, place=place)

    def _copied(self, pointer: c.Id, use: Use, obj: Object) -> c.Expr | None:
        """`x->p` of `p = x->p; x->p = NULL; kfree(p);`"""
        setting = alias.reaching(self.driver, pointer.name, use.func, pointer)
        if setting is None or len(setting.values) != 1:
            return None
        value = strip(setting.values[0])
        if not isinstance(value, c.Member) or not alias.is_pure(value) \
                or any('lock' in call.name for step in setting.since
                       for call in step.calls()):
            return None
        cleared = [step for step in setting.since
                   if isinstance(step.tree, c.ExprStmt)
                   and isinstance(strip(step.tree.expr), c.Assign)
                   and is_null(strip(step.tree.expr).right)
                   and text(strip(step.tree.expr).left) == text(value)]
        since = [s for s in setting.since if s not in cleared]
        return None if alias.changes(self.driver, self.definitions, value,
                                     use.func, since, use.node) else value

    def kept(self, obj: Object, func: c.Function) -> Object | None:
        """The field or global that a local variable hands its memory to."""
        found = {self.driver.object_of(node.left, func)
                 for node in func.body.walk() if isinstance(node, c.Assign)
                 and _hands_over(node.right) == obj.name}
        kept = [o for o in found if o and o.kind != 'local'
                and (o.kind != 'field' or o.owner)]
        carrier = self.carrier(kept[0]) if len(kept) == 1 else None
        return kept[0] if carrier and (carrier.func, carrier.name) == (
            func, obj.name) else None

    def carrier(self, obj: Object) -> Carrier | None:
        """The local variable that hands an object its memory: `x->p = p`."""
        found: list[Carrier] = []
        for value, place in self.definitions.of(obj):
            value = strip(value)
            if is_null(value):
                continue
            while isinstance(value, c.Assign) and value.op == '=':
                value = strip(value.left)            # x->p = p = kmalloc()
            if not isinstance(value, c.Id) or not isinstance(place.node, c.Assign) \
                    or place.function is None:
                return None
            var = place.function.locals.get(value.name)
            if var is None or any(p is var for p in place.function.params):
                return None
            found.append(Carrier(place.function, value.name, place.node))
        return found[0] if len(found) == 1 else None

    def allocations(self, obj: Object, uses: list[Use]) -> list[Use]:
        """The allocations that the pointer gets its memory from."""
        out: list[Use] = []
        for use in uses:
            if use.kind != 'assigned' or use.of != obj:
                continue
            value = strip(use.node)
            if is_null(value):
                continue
            if isinstance(value, c.Call) and value.name in ALLOCATIONS \
                    and use.func is not None:
                out.append(use._replace(node=value))
                continue
            raise Refused(self._origin(obj, value, use), use.path,
                          use.node.first.line)
        if not out:
            raise Refused('no allocation of `%s` was found in the driver'
                          % called(self.driver, obj))
        return out

    def _origin(self, obj: Object, value: c.Expr, use: Use) -> str:
        name = called(self.driver, obj)
        if isinstance(value, c.Call) and value.name:
            if 'ALIGN' in value.name.upper():
                return ('`%s` is aligned by hand: dma_alloc_coherent() gives '
                        'whole pages, so keep one pointer and drop the '
                        'alignment first' % name)
            if value.name.startswith(('netdev_priv', 'shost_priv', 'ieee80211')):
                return ('it lies in the private data of %s(), shared with '
                        'CPU-only state: split it out into memory of its own '
                        'first' % value.name)
            if self.driver.resolve(value.name, use.func):
                return ('`%s` comes from the local allocator %s(): inline it or '
                        'convert it first' % (name, value.name))
            if value.name in ('dma_alloc_coherent', 'dma_alloc_attrs',
                              'dma_pool_alloc', 'dmam_alloc_coherent'):
                return ('`%s` comes from %s(), but its handle is not always at '
                        'hand here' % (name, value.name))
            return ('`%s` gets its memory from %s(), which is no allocation '
                    'that can be converted' % (name, value.name))
        if isinstance(value, c.Member) and value.name in ('data', 'head'):
            kind = self.driver.type_of(value.base, use.func)
            if kind and kind.base == 'struct sk_buff':
                return ('`%s` points to the data of an skb (streaming buffer): '
                        'needs dma_map_single() with dma_mapping_error(), a '
                        'place for the handle, and dma_unmap_single() where the '
                        'transfer ends' % name)
        return ('`%s` is set to `%s`, not only to memory that is allocated for '
                'it: it needs a handle that is set together with it, from the '
                'handle of that memory' % (name, text(value)))


def _hands_over(value: c.Expr) -> str:
    """`p` of `x = p`, and of `x = p = kmalloc()`."""
    value = strip(value)
    return text(value.left if isinstance(value, c.Assign) else value)


def _constant_terms(address: Address, block: c.Member) -> bool:
    """Are all offsets made of constants (and the size of an element)?"""
    for _, term in address.terms:
        rest = term.replace('sizeof(*%s)' % text(block), '1')
        rest = re.sub(r'(sizeof|offsetof)\([^()]*\)', '1', rest)
        if re.search(r'\b[a-z_]\w*|->|\[', rest):
            return False
    return True

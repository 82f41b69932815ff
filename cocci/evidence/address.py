# SPDX-License-Identifier: GPL-2.0-only
"""From the address of some memory to the pointer that it was allocated into.

`&ring->desc[i]` lies in the block that `ring` points to, this many bytes from
its beginning.  A handle for the block plus the same bytes is its bus address.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from . import alias
from . import cparse as c
from .driver import Driver, strip, text
from .flow import Step
from .pointer import holds_pointer
from .reach import Definitions, is_null

_BYTES = frozenset(('void', 'char', 'u8', 's8', '__u8', 'uint8_t', 'int8_t',
                    'unsigned char', 'signed char', 'unchar', 'UCHAR', 'bool'))


#: A multiple of a size: `count * sizeof(x)`, or the size itself.
_MULTIPLE = re.compile(r'^(?:(?P<count>.+) \* )?(?P<size>sizeof\([^()]*\))$')


class NoBuffer(Exception):
    """The memory is not a block behind a pointer of the driver."""


@dataclass
class Address:
    """The pointer to a block, and the bytes from there as (sign, text).

    aliases are the local variables that were looked through on the way,
    parameter the one of a helper that always is this block.
    """

    base: c.Expr
    terms: list[tuple[str, str]] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    parameter: str = ''
    _struct: str = ''           # of the member that the address ends in
    _path: str = ''
    _zero: bool = False         # is it at the beginning?

    def member(self, struct: str, name: str, first: bool) -> 'Address':
        """Go to a member of the struct at this address."""
        self.close()
        self._struct, self._path, self._zero = struct, name, first
        return self

    def inside(self, suffix: str, first: bool = False) -> bool:
        """Go to `.name` or `[i]` of the member; False: it ends in none."""
        if self._path:
            self._path += suffix
            self._zero &= first
        return bool(self._path)

    def close(self) -> 'Address':
        """Count the member in bytes."""
        if self._path and not self._zero:
            if '@' in self._struct:
                raise NoBuffer('`%s` is in a struct without a name'
                               % self._path)
            self.terms.append(('+', 'offsetof(%s, %s)'
                               % (self._struct, self._path)))
        self._path = ''
        return self

    def plus(self, sign: str, term: str) -> 'Address':
        """Some bytes further (or back); multiples of one size are added up."""
        self.close()
        last = _MULTIPLE.match(self.terms[-1][1]) if self.terms else None
        more = _MULTIPLE.match(term)
        if last and more and last['size'] == more['size'] \
                and self.terms[-1][0] == '+' and last['count']:
            count = '%s %s %s' % (_bare(last['count']), sign,
                                  more['count'] or '1')
            self.terms[-1] = '+', '(%s) * %s' % (count, last['size'])
        elif term:
            self.terms.append((sign, term))
        return self

    def of(self, handle: str) -> str:
        """The same place, counted from a handle."""
        return handle + ''.join(' %s %s' % t for t in self.terms)


class Locator:
    """Finds the blocks that pointers point into, in one driver."""

    def __init__(self, driver: Driver, definitions: Definitions):
        self.driver, self.definitions = driver, definitions

    def locate(self, expr: c.Expr | None, func: c.Function) -> Address:
        """Where a pointer points to; NoBuffer says why that is not known."""
        while isinstance(expr, (c.Paren, c.Cast)):
            expr = expr.inner if isinstance(expr, c.Paren) else expr.arg
        if isinstance(expr, c.Unary) and expr.op == '&':
            return self._place(expr.arg, func).close()
        if isinstance(expr, c.Binary) and expr.op in '+-':
            return self._sum(expr, func)
        if isinstance(expr, (c.Id, c.Member, c.Index)):
            kind = self.driver.type_of(expr, func)
            if kind is None:
                raise NoBuffer(_unknown(self.driver, expr, func))
            if kind.dims:
                return self._place(expr, func).close()
            found = self.driver.object_of(expr, func)
            if not kind.pointers and found and (
                    found.owner if found.kind == 'field' else holds_pointer(
                        self.driver.type_of(strip(expr), func))):
                # unsigned long page = __get_free_page(...)
                return self._alias(expr, func) or Address(expr)
            if not kind.pointers:
                raise NoBuffer('`%s` is an integer (%s), not a pointer: what '
                               'it points to was allocated out of sight'
                               % (text(expr), kind))
            if kind.base == 'struct sk_buff':
                raise NoBuffer('`%s` is a struct sk_buff: a cookie for the '
                               'device must be an index or a handle, not an '
                               'address of kernel data' % text(expr))
            return self._alias(expr, func) or Address(expr)
        if isinstance(expr, c.Call):
            raise NoBuffer(_called(expr))
        raise NoBuffer('`%s` is no pointer that can be followed to an '
                       'allocation' % text(expr))

    def _alias(self, expr: c.Expr, func: c.Function) -> Address | None:
        """The place in a block that a local variable stands for here."""
        if not isinstance(expr, c.Id) or expr.name not in func.locals \
                or func.locals[expr.name].static \
                or any(p.name == expr.name for p in func.params):
            return None
        setting = alias.reaching(self.driver, expr.name, func, expr)
        if setting is not None and len(setting.values) == 1:
            found = self._same_place(setting.values[0], func, setting.since,
                                     expr)
            if found is not None:
                found.aliases.append(expr.name)
                return found
        return self._cursor(expr, func)

    def _same_place(self, value: c.Expr | None, func: c.Function,
                    since: list[Step], at: c.Node) -> Address | None:
        """Where a value pointed to, if it would still point there."""
        inner = strip(value)
        if not isinstance(inner, (c.Id, c.Member, c.Index, c.Unary, c.Binary)) \
                or is_null(value) or not alias.is_pure(value) \
                or alias.changes(self.driver, self.definitions, value, func,
                                 since, at):
            return None
        if isinstance(inner, (c.Id, c.Member, c.Index)):
            kind = self.driver.type_of(inner, func)
            if not _pointer(kind) and not holds_pointer(kind):
                return None
        try:
            return self.locate(value, func)
        except NoBuffer:
            return None

    def _cursor(self, expr: c.Id, func: c.Function) -> Address | None:
        """A pointer that walks through one block: so far from its start."""
        kind = self.driver.type_of(expr, func)
        setting = alias.reaching(self.driver, expr.name, func, expr, moves=True)
        if not kind or not kind.pointers or kind.dims or setting is None:
            return None
        try:
            begins = [self.locate(v, func) for v in setting.values
                      if not is_null(v)]
        except NoBuffer:
            return None
        if len({text(a.base) for a in begins}) != 1:
            return None
        base = begins[0].base
        if base is strip(expr) or self.driver.object_of(base, func) is None \
                or alias.changes(self.driver, self.definitions, base, func,
                                 setting.since, expr):
            return None
        if self.driver.type_of(base, func) != kind:
            return Address(base, [('+', '((void *)%s - (void *)%s)'
                                   % (expr.name, text(base)))])
        count = '(%s - %s)' % (expr.name, text(base))
        size = _element(kind, expr)
        return Address(base, [('+', count + (size and ' * ' + size))])

    def _sum(self, expr: c.Binary, func: c.Function) -> Address:
        pointer, number = expr.left, expr.right
        kind = self.driver.type_of(pointer, func)
        if not _pointer(kind) and expr.op == '+' \
                and _pointer(self.driver.type_of(number, func)):
            pointer, number = number, pointer
            kind = self.driver.type_of(pointer, func)
        inner = strip(pointer)
        cast = _outer_cast(pointer)
        if cast is not None and not _pointer(cast):
            base = self.locate(inner, func)       # (unsigned long)p + n
            return base.plus(expr.op, _factor(number, ''))
        if holds_pointer(kind):
            return self.locate(inner, func).plus(expr.op, _factor(number, ''))
        if not _pointer(kind):
            raise NoBuffer(_unknown(self.driver, inner, func)
                           if isinstance(inner, c.Member)
                           else 'the type of `%s` is not known' % text(pointer))
        inner = pointer.inner if isinstance(pointer, c.Paren) else pointer
        if isinstance(inner, c.Binary) and inner.op == '+' \
                and _pointer(self.driver.type_of(inner.left, func)):
            # p + n - 1 is (n - 1) further
            number = c.Binary(number.first, number.last, expr.op, inner.right,
                              number)
            return self._sum(c.Binary(inner.first, inner.last, '+', inner.left,
                                      number), func)
        if kind.dims and _outer_cast(pointer) is None:
            base = self._place(strip(pointer), func)
            if expr.op == '+' and alias.is_pure(number) \
                    and base.inside('[%s]' % text(number, casts=True)):
                return base.close()
        else:
            base = self.locate(pointer, func)
        return base.plus(expr.op, _factor(number, self._step(
            kind, pointer, base, func)))

    def _step(self, kind: c.Type, pointer: c.Expr, base: Address,
              func: c.Function) -> str:
        """The size of an element, without the name of an alias if possible."""
        core = strip(pointer)
        if not isinstance(core, c.Id) or core.name not in base.aliases \
                or _outer_cast(pointer) is not None or kind.dims:
            return _element(kind, pointer)
        if self.driver.type_of(base.base, func) == kind:
            return _element(kind, base.base)
        if '@' in kind.base:
            raise NoBuffer('the size of what `%s` points to has no name'
                           % core.name)
        return _element(kind, c.Cast(core.first, core.last, kind, core))

    def _place(self, lvalue: c.Expr, func: c.Function) -> Address:
        """Where an lvalue is."""
        lvalue = strip(lvalue)
        if isinstance(lvalue, c.Index):
            kind = self.driver.type_of(lvalue.base, func)
            if kind is None:
                raise NoBuffer(_unknown(self.driver, strip(lvalue.base), func))
            base = self._place(lvalue.base, func) if kind.dims \
                else self.locate(lvalue.base, func)
            if kind.dims and alias.is_pure(lvalue.index) and base.inside(
                    '[%s]' % text(lvalue.index, casts=True)):
                return base
            return base.plus('+', _factor(lvalue.index, self._step(
                kind, lvalue.base, base, func)))
        if isinstance(lvalue, c.Member):
            owner = self.driver.type_of(lvalue.base, func)
            struct = self.driver.struct_of(owner)
            base = self.locate(lvalue.base, func) if lvalue.arrow \
                else self._place(lvalue.base, func)
            if struct is None or lvalue.name not in struct.fields:
                raise NoBuffer(_unknown(self.driver, lvalue, func))
            first = lvalue.name == next(iter(struct.fields))
            if lvalue.arrow or not base.inside('.' + lvalue.name, first):
                base.member(owner.base if '@' in struct.tag else struct.tag,
                            lvalue.name, first)
            return base
        if isinstance(lvalue, c.Unary) and lvalue.op == '*':
            return self.locate(lvalue.arg, func)
        if isinstance(lvalue, c.Id):
            raise NoBuffer(_variable(self.driver, lvalue.name, func))
        raise NoBuffer('`%s` is no place that can be followed to an allocation'
                       % text(lvalue))


def _called(call: c.Call) -> str:
    if call.name.startswith('skb_'):
        return ('streaming buffer (data of an skb): needs dma_map_single() with '
                'dma_mapping_error() here, a place for the handle, and '
                'dma_unmap_single() where the transfer ends')
    return ('the memory comes from %s(), no allocation that can be converted '
            'is visible' % (call.name or text(call.func)))


def _unknown(driver: Driver, expr: c.Expr, func: c.Function) -> str:
    if isinstance(expr, c.Member):
        owner = driver.type_of(expr.base, func)
        inner = expr.base
        while owner is None and isinstance(inner, (c.Member, c.Index)):
            inner = strip(inner.base)
            owner = driver.type_of(inner, func)
        if owner and owner.base == 'struct sk_buff':
            return ('streaming buffer (data of an skb): needs dma_map_single() '
                    'with dma_mapping_error() here, a place for the handle, and '
                    'dma_unmap_single() where the transfer ends')
        if owner:
            return ('`%s` belongs to %s, which the driver does not define: its '
                    'memory is not allocated here, so it must be mapped for '
                    'each transfer with dma_map_single() and unmapped after it'
                    % (text(expr), owner.base))
    return 'the type of `%s` is not known' % text(expr)


def _outer_cast(expr: c.Expr) -> c.Type | None:
    while isinstance(expr, c.Paren):
        expr = expr.inner
    return expr.type if isinstance(expr, c.Cast) else None


def _bare(words: str) -> str:
    """A sum without the parentheses around it; anything else as it is."""
    found = re.fullmatch(r'\(((?:\w|->|\.|\[|\]| [+-] )+)\)', words)
    return found[1] if found else words


def _pointer(kind: c.Type | None) -> bool:
    return bool(kind and (kind.pointers or kind.dims))


def _element(kind: c.Type, pointer: c.Expr) -> str:
    """The size of what a pointer steps over; '' for bytes."""
    if kind.base in _BYTES and kind.pointers + len(kind.dims) == 1:
        return ''
    cast = _outer_cast(pointer)
    if cast is not None:
        return 'sizeof(%s)' % str(c.Type(cast.base, cast.pointers - 1))
    first = strip(pointer)
    while isinstance(first, c.Binary):           # p + n + m
        first = strip(first.left)
    name = text(first)
    if not isinstance(first, (c.Id, c.Member, c.Index)):
        raise NoBuffer('`%s` is not understood as a pointer' % text(pointer))
    return 'sizeof(%s)' % (name + '[0]' if kind.dims else '*' + name)


def _factor(number: c.Expr, size: str) -> str:
    """number * size as a term of a sum; '' when it is nothing."""
    core = number
    while isinstance(core, c.Paren):
        core = core.inner
    if isinstance(core, c.Literal) and core.text == '0':
        return ''
    if size and isinstance(core, c.Literal) and core.text == '1':
        return size
    words = text(core, casts=True)
    if isinstance(core, (c.Ternary, c.Assign)) or isinstance(core, c.Binary) \
            and (size or core.op not in ('*', '/')):
        words = '(%s)' % words
    return '%s * %s' % (words, size) if size else words


def _variable(driver: Driver, name: str, func: c.Function) -> str:
    var = func.locals.get(name)
    if var is not None and not var.static:
        return ('`%s` is on the stack, which must not be used for DMA: allocate '
                'it with kmalloc() and map it with dma_map_single()' % name)
    if var is not None or driver.object_of(
            c.Id(func.name_token, func.name_token, name), func):
        return ('`%s` is static memory of the module, which must not be used for '
                'DMA: allocate it with dma_alloc_coherent()' % name)
    return '`%s` is not declared in the driver' % name

# SPDX-License-Identifier: GPL-2.0-only
"""From the address of some memory to the pointer that it was allocated into.

`&ring->desc[i]` lies in the block that `ring` points to, this many bytes from
its beginning.  A handle for the block plus the same bytes is its bus address.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from . import cparse as c
from .checks import parents
from .driver import Driver, strip, text
from .pointer import ADDRESS, holds_pointer

_BYTES = frozenset(('void', 'char', 'u8', 's8', '__u8', 'uint8_t', 'int8_t',
                    'unsigned char', 'signed char', 'unchar', 'UCHAR', 'bool'))


class NoBuffer(Exception):
    """The memory is not a block behind a pointer of the driver."""


@dataclass
class Address:
    """The pointer to a block, and the bytes from there as (sign, text)."""

    base: c.Expr
    terms: list[tuple[str, str]] = field(default_factory=list)

    def plus(self, sign: str, term: str) -> 'Address':
        if term:
            self.terms.append((sign, term))
        return self

    def of(self, handle: str) -> str:
        """The same place, counted from a handle."""
        return handle + ''.join(' %s %s' % t for t in self.terms)


def locate(driver: Driver, expr: c.Expr | None, func: c.Function) -> Address:
    """Where the pointer `expr` points to; NoBuffer says why it is not known."""
    while isinstance(expr, (c.Paren, c.Cast)):
        expr = expr.inner if isinstance(expr, c.Paren) else expr.arg
    if isinstance(expr, c.Unary) and expr.op == '&':
        return _place(driver, expr.arg, func)
    if isinstance(expr, c.Binary) and expr.op in '+-':
        return _sum(driver, expr, func)
    if isinstance(expr, (c.Id, c.Member, c.Index)):
        kind = driver.type_of(expr, func)
        if kind is None:
            raise NoBuffer(_unknown(driver, expr, func))
        if kind.dims:
            return _place(driver, expr, func)
        found = driver.object_of(expr, func)
        if not kind.pointers and found and (
                found.owner if found.kind == 'field' else holds_pointer(
                    driver.type_of(strip(expr), func))):
            # unsigned long page = __get_free_page(...)
            return _alias(driver, expr, func) or Address(expr)
        if not kind.pointers:
            raise NoBuffer('`%s` is an integer (%s), not a pointer: what it '
                           'points to was allocated out of sight'
                           % (text(expr), kind))
        if kind.base == 'struct sk_buff':
            raise NoBuffer('`%s` is a struct sk_buff: a cookie for the device '
                           'must be an index or a handle, not an address of '
                           'kernel data' % text(expr))
        return _alias(driver, expr, func) or Address(expr)
    if isinstance(expr, c.Call):
        raise NoBuffer(_called(expr))
    raise NoBuffer('`%s` is no pointer that can be followed to an allocation'
                   % text(expr))


def _alias(driver: Driver, expr: c.Expr, func: c.Function) -> Address | None:
    """A local variable that is only ever set to one place in a block."""
    if not isinstance(expr, c.Id) or any(p.name == expr.name
                                         for p in func.params):
        return None
    value = _only_value(expr.name, func)
    if not _used_otherwise(expr.name, func):
        return None                    # the variable would be left without use
    if value is None or not isinstance(strip(value), (c.Member, c.Unary,
                                                      c.Binary)):
        return None
    inner = strip(value)
    if isinstance(inner, c.Member):
        kind = driver.type_of(inner, func)
        if not _pointer(kind) and not holds_pointer(kind):
            return None
    for node in value.walk():
        if isinstance(node, (c.Call, c.Assign)) or isinstance(node, c.Unary) \
                and node.op not in '&*-':
            return None
        if isinstance(node, c.Id) and node.name in func.locals and not any(
                p.name == node.name for p in func.params) \
                and _only_value(node.name, func) is None:
            return None                          # it may have changed since
        if isinstance(node, c.Id) and any(p.name == node.name
                                          for p in func.params) \
                and _assigned(node.name, func):
            return None
    try:
        return locate(driver, value, func)
    except NoBuffer:
        return None


def _used_otherwise(name: str, func: c.Function) -> bool:
    """Is a local variable used for more than to take its address?"""
    above = parents(func)
    for node in func.body.walk():
        if not isinstance(node, c.Id) or node.name != name:
            continue
        chain = list(above.chain(node))
        if isinstance(chain[0], c.Assign) and chain[0].left is node:
            continue
        if not any(isinstance(up, c.Call) and len(up.args) == 1
                   and up.name in ADDRESS for up in chain):
            return True
    return False


def _assigned(name: str, func: c.Function) -> list[c.Expr | None]:
    """The values that a local variable is set to; None for other changes."""
    out: list[c.Expr | None] = []
    for node in func.body.walk():
        if isinstance(node, c.Variable) and node.name == name and node.init:
            out.append(node.init)
        elif isinstance(node, c.Assign) and text(node.left) == name:
            out.append(node.right if node.op == '=' else None)
        elif isinstance(node, c.Unary) and text(node.arg) == name \
                and node.op not in ('*', '!', '-', '~', '+'):
            out.append(None)
    return out


def _only_value(name: str, func: c.Function) -> c.Expr | None:
    values = _assigned(name, func)
    return values[0] if len(values) == 1 else None


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


def _sum(driver: Driver, expr: c.Binary, func: c.Function) -> Address:
    pointer, number = expr.left, expr.right
    kind = driver.type_of(pointer, func)
    if not _pointer(kind) and expr.op == '+' \
            and _pointer(driver.type_of(number, func)):
        pointer, number = number, pointer
        kind = driver.type_of(pointer, func)
    inner = strip(pointer)
    cast = _outer_cast(pointer)
    if cast is not None and not _pointer(cast):
        base = locate(driver, inner, func)       # (unsigned long)p + n
        return base.plus(expr.op, _factor(number, ''))
    if holds_pointer(kind):
        return locate(driver, inner, func).plus(expr.op, _factor(number, ''))
    if not _pointer(kind):
        raise NoBuffer(_unknown(driver, inner, func)
                       if isinstance(inner, c.Member)
                       else 'the type of `%s` is not known' % text(pointer))
    inner = pointer.inner if isinstance(pointer, c.Paren) else pointer
    if isinstance(inner, c.Binary) and inner.op == '+' \
            and _pointer(driver.type_of(inner.left, func)):
        # p + n - 1 is (n - 1) further
        number = c.Binary(number.first, number.last, expr.op, inner.right, number)
        return _sum(driver, c.Binary(inner.first, inner.last, '+', inner.left,
                                     number), func)
    base = locate(driver, pointer, func)
    return base.plus(expr.op, _factor(number, _element(kind, pointer)))


def _outer_cast(expr: c.Expr) -> c.Type | None:
    while isinstance(expr, c.Paren):
        expr = expr.inner
    return expr.type if isinstance(expr, c.Cast) else None


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


def _place(driver: Driver, lvalue: c.Expr, func: c.Function) -> Address:
    """Where an lvalue is."""
    lvalue = strip(lvalue)
    if isinstance(lvalue, c.Index):
        kind = driver.type_of(lvalue.base, func)
        if kind is None:
            raise NoBuffer(_unknown(driver, strip(lvalue.base), func))
        base = _place(driver, lvalue.base, func) if kind.dims \
            else locate(driver, lvalue.base, func)
        return base.plus('+', _factor(lvalue.index,
                                      _element(kind, lvalue.base)))
    if isinstance(lvalue, c.Member):
        owner = driver.type_of(lvalue.base, func)
        struct = driver.struct_of(owner)
        base = locate(driver, lvalue.base, func) if lvalue.arrow \
            else _place(driver, lvalue.base, func)
        if struct is None or lvalue.name not in struct.fields:
            raise NoBuffer(_unknown(driver, lvalue, func))
        if lvalue.name == next(iter(struct.fields)):
            return base                          # at offset 0
        name = owner.base if '@' in struct.tag else struct.tag
        if '@' in name:
            raise NoBuffer('`%s` is in a struct without a name' % text(lvalue))
        return base.plus('+', 'offsetof(%s, %s)' % (name, lvalue.name))
    if isinstance(lvalue, c.Unary) and lvalue.op == '*':
        return locate(driver, lvalue.arg, func)
    if isinstance(lvalue, c.Id):
        raise NoBuffer(_variable(driver, lvalue.name, func))
    raise NoBuffer('`%s` is no place that can be followed to an allocation'
                   % text(lvalue))


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

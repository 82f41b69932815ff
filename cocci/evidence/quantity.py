# SPDX-License-Identifier: GPL-2.0-only
"""Are two sizes, directions or devices provably different?

A size becomes a sum of products of constants and names.  Two sizes differ
for certain if they are made of the same names and their difference is not 0;
whatever holds another name may have the same value.
"""
from __future__ import annotations

import re

from . import cparse as c
from .clex import tokenize
from .driver import Driver, strip, text
from .reach import Definitions, Reach, is_null
from .sources import parameter

#: A sum: the names of each product -> its factor.
Sum = dict[tuple[str, ...], int]

_BYTES = {name: size for size, names in {
    1: 'char u8 s8 __u8 __s8 uint8_t int8_t bool _Bool',
    2: 'short u16 s16 __u16 __s16 uint16_t int16_t __le16 __be16',
    4: 'int unsigned u32 s32 __u32 __s32 uint32_t int32_t __le32 __be32',
    8: 'u64 s64 __u64 __s64 uint64_t int64_t __le64 __be64',
}.items() for name in names.split()}
#: Names that no driver sets, with the value that they most often have: sizes
#: that agree then are not said to differ.
_KNOWN = {'PAGE_SIZE': 4096, 'sizeof(void *)': 8}
_NUMBER = re.compile(r'^(0[xX][0-9a-fA-F]+|\d+)[uUlL]*$')
_DEPTH = 5
_LARGE = 16
_SAME = frozenset(('likely', 'unlikely', 'READ_ONCE'))
_DIRECTIONS = {
    'DMA_BIDIRECTIONAL': 'DMA_BIDIRECTIONAL', '0': 'DMA_BIDIRECTIONAL',
    'DMA_TO_DEVICE': 'DMA_TO_DEVICE', 'DMA_MEM_TO_DEV': 'DMA_TO_DEVICE',
    '1': 'DMA_TO_DEVICE', 'DMA_FROM_DEVICE': 'DMA_FROM_DEVICE',
    'DMA_DEV_TO_MEM': 'DMA_FROM_DEVICE', '2': 'DMA_FROM_DEVICE',
}
#: Structs with a `struct device` of their own, which no other of them shares.
_DEVICES = frozenset(
    'pci_dev platform_device net_device amba_device usb_device usb_interface '
    'i2c_client spi_device auxiliary_device Scsi_Host mdio_device '
    'virtio_device vio_dev pnp_dev'.split())


class Values:
    """The values of the arguments of one driver's calls."""

    def __init__(self, driver: Driver, reach: Reach, definitions: Definitions):
        self.driver, self.reach = driver, reach
        self.definitions = definitions

    # -- what a name stands for

    def settled(self, expr: c.Expr | None, func: c.Function,
                depth: int = _DEPTH) -> tuple[c.Expr | None, c.Function]:
        """An expression after looking through locals that are set once,
        parameters that all callers give alike, and macros without
        parameters."""
        expr = strip(expr)
        while depth:
            depth -= 1
            inner = self._behind(expr, func)
            if inner is None:
                break
            expr, func = strip(inner[0]), inner[1]
        return expr, func

    def _behind(self, expr: c.Expr | None, func: c.Function
                ) -> tuple[c.Expr, c.Function] | None:
        if isinstance(expr, c.Call) and expr.name in _SAME \
                and len(expr.args) == 1:
            return expr.args[0], func
        if not isinstance(expr, c.Id):
            return None
        item = self.driver.object_of(expr, func)
        if item is None:
            body = self._macro(expr.name)
            return (body, func) if body is not None else None
        if item.kind != 'local' or self.definitions.addresses(item):
            return None
        values = self.definitions.of(item)
        index = parameter(expr, func)
        if index is None:
            if len(values) == 1 and values[0][1].function is func \
                    and not isinstance(values[0][1].node, c.Unary):
                node = values[0][1].node
                if not isinstance(node, c.Assign) or node.op == '=':
                    return values[0][0], func
            return None
        callers = self.reach.callers(func)
        if values or len(callers) != 1 or any(self.driver.direct_roots(func)) \
                or index >= len(callers[0].node.args):
            return None
        return callers[0].node.args[index], callers[0].function

    def _macro(self, name: str) -> c.Expr | None:
        macro = self.driver.macro(name)
        if macro is None or macro.params is not None \
                or self._defined_often(name):
            return None
        return c.parse_expression(tokenize(macro.body.replace('\\\n', ' ')))

    def _defined_often(self, name: str) -> bool:
        """May the macro be another one in another file or configuration?"""
        word = re.compile(r'^[ \t]*#[ \t]*define[ \t]+%s\b' % re.escape(name),
                          re.M)
        return sum(len(word.findall(source.text)) for source
                   in self.driver.files_with(name)) != 1

    # -- sizes

    def size(self, expr: c.Expr | None, func: c.Function,
             depth: int = _DEPTH) -> Sum | None:
        """A size as a sum; None when there is no telling."""
        expr, func = self.settled(expr, func)
        if expr is None or depth < 0:
            return None
        if isinstance(expr, c.Literal):
            found = _NUMBER.match(expr.text)
            if not found:
                return None
            return _constant(int(found[1], 8 if re.match(
                r'0\d', found[1]) else 0))
        if isinstance(expr, c.Sizeof) and expr.op == 'sizeof':
            return self._sizeof(expr, func)
        if isinstance(expr, c.Binary):
            return self._binary(expr, func, depth)
        if isinstance(expr, c.Call):
            sums = [self.size(a, func, depth - 1) for a in expr.args]
            if None not in sums and expr.name in (
                    'array_size', 'size_mul', 'array3_size'):
                out = _constant(1)
                for part in sums:
                    out = _product(out, part)
                return out
            if None not in sums and expr.name == 'size_add':
                return _add(sums[0], sums[1], 1)
            return self._name(expr, func)
        if isinstance(expr, (c.Id, c.Member, c.Index)):
            return self._name(expr, func)
        return None

    def _binary(self, expr: c.Binary, func: c.Function,
                depth: int) -> Sum | None:
        left = self.size(expr.left, func, depth - 1)
        right = self.size(expr.right, func, depth - 1)
        if left is None or right is None:
            return None
        if expr.op in '+-':
            return _add(left, right, 1 if expr.op == '+' else -1)
        if expr.op == '*':
            return _product(left, right)
        one, two = _number(left), _number(right)
        if expr.op == '<<' and two is not None and two < 64:
            return _product(left, _constant(1 << two))
        if one is None or two is None:
            return None
        if expr.op == '/' and two:
            return _constant(one // two)
        if expr.op == '>>' and two < 64:
            return _constant(one >> two)
        return None

    def _sizeof(self, expr: c.Sizeof, func: c.Function) -> Sum | None:
        kind = self.driver.expand(expr.type) if expr.type \
            else self.driver.type_of(strip(expr.arg), func)
        if kind is None:
            return None
        out = _constant(1)
        for dim in kind.dims:
            tree = c.parse_expression(tokenize(dim)) if dim else None
            part = self.size(tree, func) if tree is not None else None
            if part is None:
                return None
            out = _product(out, part)
        base = kind.base.replace('unsigned ', '').replace('signed ', '')
        if kind.pointers:
            return _product(out, {('sizeof(void *)',): 1})
        if base in _BYTES:
            return _product(out, _constant(_BYTES[base]))
        return _product(out, {('sizeof(%s)' % kind.base,): 1})

    def _name(self, expr: c.Expr, func: c.Function) -> Sum | None:
        if isinstance(expr, c.Id) and self.driver.object_of(expr, func) is None:
            return {(expr.name,): 1}
        name = self.canonical(expr, func)
        return {(name,): 1} if name else None

    def canonical(self, expr: c.Expr | None, func: c.Function,
                  depth: int = 2 * _DEPTH) -> str:
        """An expression as text that means the same in every function: the
        variable that it begins with is replaced by its type; '' if it has no
        known type.  Two structs of one type count as one."""
        expr = strip(expr)
        if not depth:
            return ''
        depth -= 1
        if isinstance(expr, c.Member):
            item = self.driver.object_of(expr, func)
            if item is not None and item.owner is not None:
                return '%s:%s' % (item.owner, item.name)
            base = self.canonical(expr.base, func, depth)
            return base and '%s.%s' % (base, expr.name)
        if isinstance(expr, c.Index):
            base = self.canonical(expr.base, func, depth)
            return base and base + '[]'
        if isinstance(expr, c.Unary) and expr.op in '&*':
            base = self.canonical(expr.arg, func, depth)
            return base and expr.op + base
        if isinstance(expr, c.Id):
            item = self.driver.object_of(expr, func)
            if item is None or item.kind == 'global':
                return expr.name
            inner, there = self.settled(expr, func)
            if not isinstance(inner, c.Id):
                return self.canonical(inner, there, depth)
            item = self.driver.object_of(inner, there)
            if item is None or item.kind == 'global':
                return inner.name
            fixed = parameter(inner, there) is not None \
                and not self.definitions.of(item)
            return '%s:%s' % (there.name, item.name) if fixed else ''
        if isinstance(expr, c.Call) and expr.name:
            args = [self.canonical(a, func, depth) for a in expr.args]
            return '' if '' in args else '%s(%s)' % (expr.name,
                                                     ', '.join(args))
        return text(expr) if isinstance(expr, c.Literal) else ''

    def sizes_differ(self, one: tuple[c.Expr, c.Function],
                     two: tuple[c.Expr, c.Function]) -> bool:
        """Are two sizes certainly not the same?"""
        left, right = self.size(*one), self.size(*two)
        if left is None or right is None or max(
                len(left), len(right)) > _LARGE:
            return False
        return _names(left) == _names(right) \
            and bool(_usual(_add(left, right, -1)))

    # -- directions

    def direction(self, expr: c.Expr | None, func: c.Function) -> str:
        """The name of a constant direction; '' when it may be another."""
        expr, _ = self.settled(expr, func)
        if isinstance(expr, (c.Id, c.Literal)):
            return _DIRECTIONS.get(text(expr), '')
        return ''

    # -- devices

    def devices_differ(self, one: tuple[c.Expr, c.Function],
                       two: tuple[c.Expr, c.Function]) -> bool:
        """Are two struct device pointers certainly not the same?"""
        left, right = self.settled(*one), self.settled(*two)
        if is_null(left[0]) != is_null(right[0]):
            other = right[0] if is_null(left[0]) else left[0]
            return isinstance(other, c.Unary) and other.op == '&'
        kinds = self._embedded(*left), self._embedded(*right)
        if all(kinds) and kinds[0] != kinds[1]:
            return True
        names = [self.canonical(*side).removeprefix('&')
                 for side in (left, right)]
        return all(names) and (names[0] in _parents(names[1])
                               or names[1] in _parents(names[0]))

    def _embedded(self, expr: c.Expr | None, func: c.Function) -> str:
        """The struct whose own device an expression is; ''."""
        inner = strip(expr.arg) if isinstance(expr, c.Unary) \
            and expr.op == '&' else None
        if not isinstance(inner, c.Member) or inner.name != 'dev':
            return ''
        kind = self.driver.type_of(inner.base, func)
        tag = kind.base.removeprefix('struct ') if kind else ''
        return tag if tag in _DEVICES else ''


def _parents(name: str) -> tuple[str, ...]:
    return name + '.parent', name + '->parent'


def _usual(value: Sum) -> Sum:
    """A sum with the usual values of the names that no driver sets."""
    out: Sum = {}
    for names, factor in value.items():
        for name in names:
            factor *= _KNOWN.get(name, 1)
        rest = tuple(n for n in names if n not in _KNOWN)
        out[rest] = out.get(rest, 0) + factor
    return {names: factor for names, factor in out.items() if factor}


def _constant(value: int) -> Sum:
    return {(): value} if value else {}


def _number(value: Sum) -> int | None:
    """The value of a sum without names."""
    return value.get((), 0) if not _names(value, every=True) else None


def _names(value: Sum, every: bool = False) -> frozenset[str]:
    """The names in a sum; those that no driver sets only on demand."""
    return frozenset(n for names in value for n in names
                     if every or n not in _KNOWN)


def _add(left: Sum, right: Sum, sign: int) -> Sum:
    out = dict(left)
    for names, factor in right.items():
        out[names] = out.get(names, 0) + sign * factor
    return {names: factor for names, factor in out.items() if factor}


def _product(left: Sum, right: Sum) -> Sum:
    out: Sum = {}
    for one, factor in left.items():
        for two, other in right.items():
            names = tuple(sorted(one + two))
            out[names] = out.get(names, 0) + factor * other
    return {names: factor for names, factor in out.items() if factor}

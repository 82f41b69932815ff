# SPDX-License-Identifier: GPL-2.0-only
"""Allocations of kernel memory: how many bytes, with which flags.

kfree() needs no size, dma_free_coherent() does: an allocation's size is
written down anew at each free, where it must provably have the same value.
"""
from __future__ import annotations

import re
from typing import NamedTuple

from . import cparse as c
from .checks import graph, out_of_scope
from .driver import Driver, strip, text
from .gfp import Gfp, decide
from .reach import Definitions, Reach


class _Form(NamedTuple):
    """One allocation function: a size template over arguments, and flags."""

    size: str
    sizes: tuple[int, ...]
    flags: int
    device: int = -1            # argument that is the device of a devm_ form


ALLOCATIONS = {
    'kmalloc': _Form('%s', (0,), 1),
    'kzalloc': _Form('%s', (0,), 1),
    'kcalloc': _Form('array_size(%s, %s)', (0, 1), 2),
    'kmalloc_array': _Form('array_size(%s, %s)', (0, 1), 2),
    'kmalloc_obj': _Form('sizeof(%s)', (0,), 1),
    'kzalloc_obj': _Form('sizeof(%s)', (0,), 1),
    'kmalloc_objs': _Form('array_size(%s, sizeof(%s))', (1, 0), 2),
    'kzalloc_objs': _Form('array_size(%s, sizeof(%s))', (1, 0), 2),
    'devm_kmalloc': _Form('%s', (1,), 2, 0),
    'devm_kzalloc': _Form('%s', (1,), 2, 0),
    'devm_kcalloc': _Form('array_size(%s, %s)', (1, 2), 3, 0),
    'devm_kmalloc_array': _Form('array_size(%s, %s)', (1, 2), 3, 0),
    '__get_free_page': _Form('PAGE_SIZE', (), 0),
    'get_zeroed_page': _Form('PAGE_SIZE', (), 0),
    '__get_free_pages': _Form('PAGE_SIZE << %s', (1,), 0),
    '__get_dma_pages': _Form('PAGE_SIZE << %s', (1,), 0),
    'devm_get_free_pages': _Form('PAGE_SIZE << %s', (2,), 1, 0),
}
PAGES = frozenset(n for n, f in ALLOCATIONS.items() if 'PAGE_SIZE' in f.size)

#: What dma_alloc_coherent() does not take, or does anyway.
_DROPPED = frozenset('GFP_DMA GFP_DMA32 __GFP_DMA __GFP_DMA32 __GFP_COMP '
                     '__GFP_ZERO __GFP_HIGHMEM'.split())
_LOW = frozenset('GFP_DMA GFP_DMA32 __GFP_DMA __GFP_DMA32'.split())
_PURE = frozenset('get_order roundup_pow_of_two rounddown_pow_of_two ALIGN '
                  'PAGE_ALIGN round_up round_down roundup rounddown '
                  'L1_CACHE_ALIGN SMP_CACHE_ALIGN SKB_DATA_ALIGN max min max_t '
                  'min_t array_size array3_size size_mul size_add struct_size '
                  'BIT DIV_ROUND_UP ilog2 order_base_2 ARRAY_SIZE '
                  'offsetof sizeof_field'.split())
_FREES = frozenset(('kfree', 'free_page', 'free_pages', 'devm_kfree'))
_CONSTANT = re.compile(r'^[A-Z_][A-Z0-9_]*$')


class Unfit(Exception):
    """The size cannot be written down at another place."""


class Flags(NamedTuple):
    """GFP flags of the new call, the zone asked for before, and the decision
    where there were no flags to take over."""

    text: str
    low: str
    guess: Gfp | None = None


def flags_of(call: c.Call, driver: Driver, func: c.Function) -> Flags:
    """The flags for dma_alloc_coherent(), decided where none are given."""
    index = ALLOCATIONS[call.name].flags
    low = 'GFP_DMA' if call.name == '__get_dma_pages' else ''
    if index >= len(call.args):
        return Flags('GFP_KERNEL', low)     # kmalloc_obj(x)
    kept = []
    for term in _terms(call.args[index]):
        if term in _LOW:
            low = term.replace('__', '')
        if term not in _DROPPED:
            kept.append(term)
    if not kept:
        guess = decide(driver, func, call)
        return Flags(guess.flag, low, guess)
    return Flags(' | '.join(kept), low)


def _terms(expr: c.Expr) -> list[str]:
    expr = strip(expr)
    if isinstance(expr, c.Binary) and expr.op == '|':
        return _terms(expr.left) + _terms(expr.right)
    return [text(expr)]


def expression(words: str) -> str:
    """Words that spatch takes for an expression: `A * b` is a declaration.

    The rule removes the mark again, which is short for the sake of the layout.
    """
    return '_p(%s)' % words if re.match(
        r'^[A-Za-z_]\w*\s*\*\s*(\*|[A-Za-z_]\w*$)', words) else words


class Size:
    """The size of one allocation."""

    def __init__(self, driver: Driver, definitions: Definitions, reach: Reach,
                 call: c.Call, func: c.Function, pointer: c.Expr):
        self.driver, self.definitions, self.reach = driver, definitions, reach
        self.call, self.func, self.pointer = call, func, pointer
        self.base = _base(pointer)
        self.freed: c.Expr | None = None
        self.free: c.Node | None = None
        self.form = ALLOCATIONS[call.name]
        if max(self.form.sizes, default=-1) >= len(call.args):
            raise Unfit('%s() is not called as usual' % call.name)

    def here(self) -> str:
        """The size as it stands at the allocation."""
        return self._fill([text(self.call.args[i], casts=True)
                           for i in self.form.sizes])

    def at(self, func: c.Function, pointer: c.Expr, free: c.Node) -> str:
        """The size where a function frees the memory, which it calls `pointer`."""
        self.freed, self.free = pointer, free
        base = _base(pointer)
        parts: list[str] = []
        for index in self.form.sizes:
            arg = self.call.args[index]
            typed = 'sizeof(%s)' in self.form.size \
                and index == self.form.sizes[-1]
            parts.append(self._sized(arg, func, base) if typed
                         else self._value(arg, func, base))
        if len(parts) == 1 and re.fullmatch(r'\([^()]*\)', parts[0]):
            parts = [parts[0][1:-1]]
        size = self._fill(parts)
        gone = out_of_scope(func, size, free)
        if gone:
            raise Unfit('its size `%s` needs %s, a variable of a block that is '
                        'over where it is freed' % (size, gone))
        return size

    def _fill(self, parts: list[str]) -> str:
        size = self.form.size
        if size == 'PAGE_SIZE << %s':
            if parts == ['0']:
                return 'PAGE_SIZE'
            if not re.match(r'^\w+(\(.*\))?$', parts[0]):
                parts = ['(%s)' % parts[0]]
        elif size.startswith('array_size(') and self._constant(
                self.call.args[self.form.sizes[0]]):
            size = '%s * sizeof(%s)' if 'sizeof' in size else '%s * %s'
            parts = [p if re.match(r'^\w+(\(.*\))?$', p) else '(%s)' % p
                     for p in parts] if 'sizeof' not in size else [
                         parts[0] if re.match(r'^\w+$', parts[0])
                         else '(%s)' % parts[0], parts[1]]
        return size % tuple(parts)

    def _constant(self, expr: c.Expr) -> bool:
        """No variable in it: the product cannot overflow by surprise."""
        for node in expr.walk():
            if isinstance(node, (c.Call, c.Member, c.Index)):
                return False
            if isinstance(node, c.Id) and (
                    not _CONSTANT.match(node.name)
                    or self.driver.object_of(node, self.func)):
                return False
        return True

    # -- a value that is the same elsewhere

    def _value(self, expr: c.Expr, func: c.Function, base: str) -> str:
        if isinstance(expr, c.Paren):
            return '(%s)' % self._value(expr.inner, func, base)
        if isinstance(expr, c.Literal):
            return expr.text
        if isinstance(expr, c.Sizeof):
            return str_sizeof(expr) if expr.type else 'sizeof(%s)' % self._sized(
                expr.arg, func, base)
        if isinstance(expr, c.TypeArg):
            return str(expr.type)
        if isinstance(expr, c.Cast):
            return '(%s)%s' % (expr.type, self._value(expr.arg, func, base))
        if isinstance(expr, c.Unary) and expr.op in '-~!+':
            return expr.op + self._value(expr.arg, func, base)
        if isinstance(expr, c.Binary) and expr.op != ',':
            return '%s %s %s' % (self._value(expr.left, func, base), expr.op,
                                 self._value(expr.right, func, base))
        if isinstance(expr, c.Ternary) and expr.then is not None:
            return '%s ? %s : %s' % tuple(self._value(e, func, base) for e in
                                          (expr.cond, expr.then, expr.other))
        if isinstance(expr, c.Call):
            return self._called(expr, func, base)
        if isinstance(expr, c.Id):
            return self._name(expr, func, base)
        if isinstance(expr, c.Member):
            return self._field(expr, func, base)
        raise Unfit('its size `%s` cannot be told where it is freed' % text(expr))

    def _called(self, call: c.Call, func: c.Function, base: str) -> str:
        if call.name not in _PURE and not self._macro(call.name, func):
            raise Unfit('its size is computed by %s(), which may give another '
                        'value where it is freed' % (call.name or text(call)))
        return '%s(%s)' % (call.name, ', '.join(
            self._value(a, func, base) for a in call.args))

    def _macro(self, name: str, func: c.Function) -> bool:
        """Is it a macro of the driver, made of constants and its arguments?"""
        macro = self.driver.macro(name)
        if macro is None:
            return False
        if func.path != self.func.path and name in self.driver.file(
                self.func.path).macros and name not in self.driver.file(
                    func.path).macros and self.func.path.endswith('.c'):
            raise Unfit('macro %s of its size is not visible in %s'
                        % (name, func.path))
        for tok in c.tokenize(macro.body):
            if tok.kind != 'id' or tok.text in (macro.params or ()):
                continue
            if self.driver.variable(tok.text) or not (
                    _CONSTANT.match(tok.text) or tok.text in _PURE
                    or tok.text in _TYPE_WORDS
                    or self.driver.struct('struct ' + tok.text)
                    or self.driver.typedef(tok.text)):
                return False
            if self.driver.macro(tok.text) and tok.text != name \
                    and not self._macro(tok.text, func):
                return False
        return True

    def _name(self, expr: c.Id, func: c.Function, base: str) -> str:
        name = expr.name
        found = self.driver.object_of(expr, self.func)
        if found is None:
            if self.driver.macro(name):
                if self._macro(name, func):
                    return name
                raise Unfit('its size is the macro %s, which is no constant'
                            % name)
            if _CONSTANT.match(name):
                return name
            raise Unfit('its size `%s` is not known' % name)
        if found.kind == 'global':
            if self.definitions.of(found)[1:] or self.definitions.addresses(
                    found) or not self.driver.variable(name).init \
                    or self._parameter(name):
                raise Unfit('its size is the variable `%s`, which may change '
                            'before it is freed' % name)
            if self.driver.variable(name).static and func.path != self.func.path:
                raise Unfit('its size `%s` is not visible in %s'
                            % (name, func.path))
            return name
        values = self.definitions.of(found)
        param = any(p.name == name for p in self.func.params)
        if self.definitions.addresses(found):
            raise Unfit('its size `%s` is a variable whose address is taken, so '
                        'it may change before it is freed' % name)
        often = len(values) + param != 1
        if often:
            self._settled(name, func, [place.node for _, place in values])
        if func is self.func and self._frees_before():
            raise Unfit('its size `%s` is that of the new memory where the old '
                        'memory is freed: keep the allocated size in a field'
                        % name)
        sets = [place.node for _, place in values]
        if func is self.func and (param or any(
                self._dominates(node, self.free)
                for node in (sets + [self.call] if often else sets))):
            return name
        if often:
            raise Unfit('its size `%s` may not be set where it is freed' % name)
        if param:
            raise Unfit('its size `%s` is a parameter of %s(), not known where '
                        'it is freed: keep it in a field beside the pointer'
                        % (name, self.func.name))
        try:
            value = self._value(values[0][0], func, base)
        except Unfit:
            raise Unfit('its size `%s` is a local variable of %s(), not known '
                        'where it is freed: keep it in a field beside the '
                        'pointer' % (name, self.func.name)) from None
        return value if re.match(r'^[\w>.-]+$', value) else '(%s)' % value

    def _settled(self, name: str, func: c.Function,
                 writes: list[c.Node]) -> None:
        """Unfit if a variable that is set more than once may be set between
        the allocation and the free."""
        if func is not self.func or not writes:
            raise Unfit('its size `%s` is a local variable of %s() that is set '
                        'more than once, not known where it is freed: keep it '
                        'in a field beside the pointer'
                        % (name, self.func.name))
        steps = graph(func)
        new, free = steps.step_of(self.call), steps.step_of(self.free)
        behind = steps.reachable([new])
        for node in writes:
            step = steps.step_of(node)
            if step is None or func.locals[name].static or step in behind \
                    and free in steps.reachable([step]):
                raise Unfit('its size `%s` may be set anew at line %d before it '
                            'is freed: keep the allocated size in a variable of '
                            'its own' % (name, node.first.line))

    def _parameter(self, name: str) -> bool:
        """Is it a module parameter, that sysfs may change?"""
        return any(call.name.startswith('module_param') and any(
            text(a) == name for a in call.args)
                   for source in self.driver.files_with('module_param')
                   for call in source.toplevel_calls)

    def _field(self, expr: c.Member, func: c.Function, base: str) -> str:
        found = self.driver.object_of(expr, self.func)
        if found is None or found.owner is None:
            raise Unfit('its size `%s` may change before it is freed' % text(expr))
        values = self.definitions.of(found)
        if self.definitions.addresses(found) or len(values) != 1:
            raise Unfit('its size `%s` is set at %d places, so it may change '
                        'before it is freed: keep the allocated size in a field '
                        'of its own' % (text(expr), len(values)))
        if not self._set_before(values[0][1]):
            raise Unfit('its size `%s` may be set anew while the memory is in '
                        'use (%s)' % (text(expr), values[0][1]))
        if func is self.func:
            return text(expr)
        found = re.match(re.escape(self.base) + r'(?:->|\.)(?=\w)', text(expr))
        if not found or not self.base:
            raise Unfit('its size `%s` cannot be named in %s()'
                        % (text(expr), func.name))
        core = strip(self.freed)
        while isinstance(core, c.Index):
            core = strip(core.base)
        return '%s%s%s' % (base, '->' if core.arrow else '.',
                           text(expr)[found.end():])

    def _dominates(self, first: c.Node, then: c.Node) -> bool:
        steps = graph(self.func)
        here, there = steps.step_of(then), steps.step_of(first)
        return bool(here and there and id(there) in steps.dominators().get(
            id(here), ()))

    def _frees_before(self) -> bool:
        """Does the function free older memory before it allocates anew?"""
        steps = graph(self.func)
        free, new = steps.step_of(self.free), steps.step_of(self.call)
        return self._dominates(self.free, self.call) or not self._dominates(
            self.call, self.free) and new in steps.reachable(
                [s for s, _ in free.next])

    def _stale(self, place) -> bool:
        """May the field be set, and older memory be left or freed after it?"""
        steps = graph(self.func)
        new = steps.step_of(self.call)
        todo, seen = [s for s, _ in steps.step_of(place.node).next], set()
        while todo:
            step = todo.pop()
            if step is new or id(step) in seen:
                continue
            seen.add(id(step))
            if step is steps.exit or any(
                    call.name in _FREES and text(self.pointer) in map(
                        text, call.args) for call in step.calls()):
                return True
            todo += [s for s, _ in step.next]
        return False

    def _set_before(self, place) -> bool:
        """Is the field set only before the memory is allocated?"""
        if place.function is None:
            return False
        if all(e.root.kind in ('probe', 'init')
               for e in self.reach.entries(place.function)):
            return True
        return place.function is self.func and self._dominates(
            place.node, self.call) and not self._stale(place)

    def _sized(self, expr: c.Expr, func: c.Function, base: str) -> str:
        """The argument of sizeof: only its type matters."""
        if isinstance(expr, c.TypeArg):
            return str(expr.type)
        if func is self.func and not out_of_scope(func, text(expr), self.free):
            return text(expr)
        if text(expr) == '*' + text(self.pointer):
            return '*' + text(self.freed)
        kind = self.driver.type_of(expr, self.func)
        if kind is None or '@' in kind.base or kind.dims:
            raise Unfit('the type in its size `sizeof(%s)` is not known'
                        % text(expr))
        return str(kind)


_TYPE_WORDS = frozenset('sizeof struct union unsigned int char long short u8 '
                        'u16 u32 u64 void dma_addr_t __le32 __le64 __le16 '
                        'uint32_t uint8_t uint16_t uint64_t size_t'.split())


def _base(pointer: c.Expr | None) -> str:
    """`x` of `x->ring`, '' for a variable."""
    core = strip(pointer)
    while isinstance(core, c.Index):
        core = strip(core.base)
    return text(core.base) if isinstance(core, c.Member) else ''


def str_sizeof(expr: c.Sizeof) -> str:
    return '%s(%s)' % (expr.op, expr.type)

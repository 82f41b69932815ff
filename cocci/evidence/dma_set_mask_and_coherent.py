# SPDX-License-Identifier: GPL-2.0-only
"""Decides where two masks of a device can be set in one step.

dma_set_mask_and_coherent() is dma_set_mask() and, if that works,
dma_set_coherent_mask() with the same mask.  Only plain pairs are merged, and
no condition is ever turned round.  A mask of more bits cannot fail where one
of less bits works, so that a second try with 32 bits is dead code.
"""
from __future__ import annotations

import re
from typing import Iterator, NamedTuple

from . import cparse as c
from .checks import parents
from .driver import Driver, strip, text
from .plan import Edit, Note, Unit
from .pointer import prints

MERGED = 'dma_set_mask_and_coherent'
PAIR = frozenset(('dma_set_mask', 'dma_set_coherent_mask'))
WORDS = PAIR | {MERGED}

_BITS = re.compile(r'DMA_BIT_MASK\((\d+)\)')


class Step(NamedTuple):
    """`result = call;`, `call;` (no result) or `if (call)`."""

    result: str
    call: c.Call


def decide(driver: Driver, options: frozenset[str]) -> list[Unit]:
    """The pairs to merge, and the second tries; no option is known."""
    units: list[Unit] = []
    for func in driver.functions_with(*sorted(WORDS)):
        if func.body is None:
            if PAIR <= func.words:
                unit = Unit()
                unit.refuse(func.path, func.name_token, func.name,
                            '%s() sets a DMA mask and could not be parsed (%s)'
                            % (func.name, func.error))
                units.append(unit)
            continue
        units += _Function(func).units()
    return units


class _Function:
    """The masks that one function sets."""

    def __init__(self, func: c.Function):
        self.func = func
        self.taken: set[int] = set()

    def units(self) -> list[Unit]:
        out: list[Unit] = []
        for node in self.func.nodes:
            if isinstance(node, c.Block):
                out += self._in_block(node.body)
            elif isinstance(node, c.Binary) and node.op in ('||', '&&'):
                out += self._in_condition(node)
        # what is merged first may leave a plain second try: one step a round
        return out + [unit for unit in self._second_tries()
                      if not (out and unit.edits)]

    # -- pairs

    def _in_block(self, body: list[c.Stmt]) -> Iterator[Unit]:
        for index, stmt in enumerate(body):
            first = _step(stmt)
            if first is None or first.call.name not in PAIR \
                    or id(first.call) in self.taken:
                continue
            kind, other = self._second(body[index:], first)
            if kind:
                yield self._merge(kind, first.call, other)

    def _second(self, body: list[c.Stmt],
                first: Step) -> tuple[str, c.Call]:
        """How the other mask of a pair is set behind `first`; '' for not."""
        after = body[1] if len(body) > 1 else None
        if first.result:
            if isinstance(after, c.If) and after.other is None:
                inner = _step(_only(after.then))
                if inner and inner.result == first.result \
                        and _works(after.cond, first.result) \
                        and _pair(first.call, inner.call):
                    return 'if it works', inner.call
            if len(body) > 3 and isinstance(after, c.If) \
                    and isinstance(body[3], c.If):
                later = _step(body[2])
                if later and later.result == first.result \
                        and _fails(after.cond, first.result) \
                        and _fails(body[3].cond, first.result) \
                        and _pair(first.call, later.call) \
                        and _same_action(after, body[3]):
                    return 'tests', later.call
        elif isinstance(body[0], c.If):
            later = _step(after) if isinstance(after, c.If) else None
            if later and _pair(first.call, later.call) \
                    and _same_action(body[0], after):
                return 'two ifs', later.call
        else:
            later = _step(after) if isinstance(after, c.ExprStmt) else None
            if later and not later.result and _pair(first.call, later.call):
                return 'statements', later.call
        return '', first.call

    def _in_condition(self, node: c.Binary) -> Iterator[Unit]:
        left: c.Expr | None = node.left
        inner = strip(left)
        if isinstance(inner, c.Binary) and inner.op == node.op:
            left = inner.right
        one, two = _tested(left), _tested(node.right)
        if one and two and one[0] == two[0] == (node.op == '||') \
                and _pair(one[1], two[1]) and one[2] == two[2]:
            yield self._merge('condition', one[1], two[1])

    def _merge(self, kind: str, first: c.Call, second: c.Call) -> Unit:
        self.taken |= {id(first), id(second)}
        func = self.func
        return Unit(edits=[Edit(
            'pair', func.path, first.first, func.name,
            '%s() and %s() (line %d) with one mask: use %s()' % (
                first.name, second.name, second.first.line, MERGED),
            {'form': kind})])

    # -- a second try with less bits

    def _second_tries(self) -> Iterator[Unit]:
        for node in self.func.nodes:
            if not isinstance(node, c.If):
                continue
            wide = self._tested_mask(node)
            if wide is None:
                continue
            narrow = next((call for call in self.func.calls()
                           if _narrower(call, wide)
                           and node.first.start < call.first.start
                           <= node.last.end and call is not wide), None)
            if narrow is None:
                continue
            message = ('a mask of %d bits cannot be refused where one of %d '
                       'bits is taken: this second try is dead code' % (
                           _bits(wide), _bits(narrow)))
            if self._plain_try(node, wide, narrow):
                yield Unit(edits=[Edit('try', self.func.path, wide.first,
                                       self.func.name, message, {})])
            else:
                yield Unit(notes=[Note(
                    'finding', self.func.path, narrow.first, self.func.name,
                    message + '; remove it by hand, with what depends on '
                    'which mask it was (dma_mask_fallback)')])

    def _tested_mask(self, node: c.If) -> c.Call | None:
        """The call whose result an if tests: in it, or just before it."""
        for part in node.cond.walk():
            if isinstance(part, c.Call) and part.name in WORDS and _bits(part):
                return part
        block = parents(self.func).of(node)
        if isinstance(block, c.Block):
            index = block.body.index(node)
            before = _step(block.body[index - 1]) if index else None
            if before and before.result and before.result in text(
                    node.cond) and _bits(before.call):
                return before.call
        return None

    @staticmethod
    def _plain_try(node: c.If, wide: c.Call, narrow: c.Call) -> bool:
        """`if (r) r = mask(32);`, with messages at most, r from mask(64)."""
        if node.other is not None or wide.name != narrow.name \
                or text(wide.args[0]) != text(narrow.args[0]):
            return False
        rest = [s for s in _statements(node.then) if not _says(s)]
        inner = _step(rest[0]) if rest else None
        return len(rest) == 1 and inner is not None \
            and inner.call is narrow and bool(inner.result) \
            and not isinstance(rest[0], c.If) \
            and _fails(node.cond, inner.result)


# ------------------------------------------------------------------- statements

def _step(stmt: c.Stmt | None) -> Step | None:
    """The mask that a statement sets, or an if without an else tests."""
    if isinstance(stmt, c.ExprStmt):
        expr = strip(stmt.expr)
        if isinstance(expr, c.Assign) and expr.op == '=':
            call = strip(expr.right)
            if isinstance(call, c.Call) and call.name in WORDS \
                    and len(call.args) == 2:
                return Step(text(expr.left), call)
        elif isinstance(expr, c.Call) and expr.name in WORDS \
                and len(expr.args) == 2:
            return Step('', expr)
    elif isinstance(stmt, c.If) and stmt.other is None:
        tested = _tested(stmt.cond)
        if tested and tested[0]:
            return Step('', tested[1])
    return None


def _tested(expr: c.Expr | None) -> tuple[bool, c.Call, str] | None:
    """(true if it failed?, the call, how): `f()`, `f() < 0`, `!f()`."""
    expr = strip(expr)
    how, failed = '', True
    if isinstance(expr, c.Binary) and expr.op in ('<', '!=', '==') \
            and text(expr.right) == '0':
        how, failed = expr.op, expr.op != '=='
        expr = strip(expr.left)
    elif isinstance(expr, c.Unary) and expr.op == '!':
        how, failed = '!', False
        expr = strip(expr.arg)
    if isinstance(expr, c.Call) and expr.name in WORDS \
            and len(expr.args) == 2:
        return failed, expr, how
    return None


def _fails(cond: c.Expr | None, name: str) -> bool:
    """Does a condition hold exactly when the result is an error?"""
    return text(strip(cond)) in (name, name + ' != 0', name + ' < 0')


def _works(cond: c.Expr | None, name: str) -> bool:
    return text(strip(cond)) in ('!' + name, name + ' == 0')


def _pair(one: c.Call, two: c.Call) -> bool:
    """The two functions, with one device and one mask?"""
    return {one.name, two.name} == PAIR \
        and [text(a, casts=True) for a in one.args] \
        == [text(a, casts=True) for a in two.args] \
        and not any(isinstance(n, c.Assign) or isinstance(n, c.Unary)
                    and n.op.endswith(('++', '--'))
                    for a in one.args for n in a.walk())


def _statements(stmt: c.Stmt | None) -> list[c.Stmt]:
    if isinstance(stmt, c.Block):
        return stmt.body
    return [stmt] if stmt is not None else []


def _only(stmt: c.Stmt | None) -> c.Stmt | None:
    """The one statement of a branch, None when there are more."""
    body = _statements(stmt)
    return body[0] if len(body) == 1 else None


def _says(stmt: c.Stmt) -> bool:
    """Is it but a message?"""
    expr = strip(stmt.expr) if isinstance(stmt, c.ExprStmt) else None
    return isinstance(expr, c.Call) and prints(expr)


def _same_action(one: c.If, two: c.If) -> bool:
    """Two error branches that do the same, messages aside, and leave.

    Where nothing but a message is in both, they need not leave.
    """
    if one.other is not None or two.other is not None:
        return False
    left = [s for s in _statements(one.then) if not _says(s)]
    right = [s for s in _statements(two.then) if not _says(s)]
    if [_code(s) for s in left] != [_code(s) for s in right]:
        return False
    return not left or isinstance(left[-1], (c.Return, c.Goto))


def _code(stmt: c.Stmt) -> str:
    """A simple statement as text; one that cannot be compared is unique."""
    if isinstance(stmt, c.ExprStmt):
        return text(stmt.expr, casts=True)
    if isinstance(stmt, c.Return):
        return 'return ' + text(stmt.value, casts=True)
    if isinstance(stmt, c.Goto):
        return 'goto ' + stmt.name
    return 'at %d' % stmt.first.start


def _bits(call: c.Call) -> int:
    """How many bits a mask has; 0 when that is not seen."""
    found = _BITS.fullmatch(text(call.args[1])) if len(call.args) == 2 else None
    return int(found[1]) if found else 0


def _narrower(call: c.Call, than: c.Call) -> bool:
    return call.name in WORDS and 0 < _bits(call) < _bits(than)

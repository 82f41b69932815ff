# SPDX-License-Identifier: GPL-2.0-only
"""Decides what becomes of the result of dma_map_sg().

It is the number of mapped entries: 0 when the mapping failed, never negative,
and less than what was given when entries were merged.
"""
from __future__ import annotations

from typing import Iterator

from . import checks
from . import cparse as c
from .dma_mapping_error import in_macros
from .driver import Driver, strip, text
from .plan import Edit, Unit
from .exits import Unwinder
from .resources import Refused
from .unwind import Builder


def decide(driver: Driver, options: frozenset[str]) -> list[Unit]:
    units: list[Unit] = []
    for func in driver.functions_with(*sorted(checks.SG_MAPS)):
        if func.body is None:
            unit = Unit()
            unit.refuse(func.path, func.name_token, func.name,
                        '%s() maps a scatterlist and could not be parsed (%s)'
                        % (func.name, func.error))
            units.append(unit)
            continue
        for call in func.calls():
            if call.name in checks.SG_MAPS:
                units += _Decision(driver, func, call).units()
    return units + list(in_macros(driver, checks.SG_MAPS))


class _Decision:
    """One call of dma_map_sg()."""

    def __init__(self, driver: Driver, func: c.Function, call: c.Call):
        self.driver, self.func, self.call = driver, func, call
        self.up = checks.parents(func)
        self.site = checks.site_of(func, call)
        self.names = {text(strip(t)) for t in self.site.targets}
        self.done: list[Unit] = []

    def units(self) -> list[Unit]:
        test = self._direct_test()
        if test is not None:
            if test == '<':
                self._negative(self.up.of(self.call))
            return self.done
        if self.site.shape == 'returned':
            return self._returned()
        if self.site.shape == 'ignored':
            self._insert('ignored')
        elif self.site.shape in ('assign', 'init'):
            self._assigned()
        elif self.site.shape != 'condition':
            self._refuse('the number of mapped entries is used without a test '
                         'for 0, in a place where a check has no room')
        return self.done

    # -- where the result is tested

    def _direct_test(self) -> str | None:
        """How the call itself is tested: '' well, '<' for negative."""
        node: c.Node = self.call
        for above in self.up.chain(self.call):
            if isinstance(above, c.Unary) and above.op == '!':
                return ''
            if isinstance(above, c.Binary) and above.op in (
                    '==', '!=', '<', '<=', '>', '>='):
                return '<' if above.op == '<' and above.left is node \
                    and text(above.right) == '0' else ''
            if isinstance(above, (c.If, c.Loop)) or isinstance(above, c.Call) \
                    and above.name in ('BUG_ON', 'WARN_ON', 'unlikely'):
                return ''
            if isinstance(above, c.Ternary) and above.cond is node:
                return ''
            if not isinstance(above, (c.Paren, c.Cast, c.Assign)):
                return None
            node = above
        return None

    def _tests(self) -> Iterator[tuple[str, c.Expr]]:
        """(operator, test) for every test of the result behind the map."""
        for node in self.func.body.walk():
            if node.first.start < self.call.last.end:
                continue
            if isinstance(node, c.Unary) and node.op == '!' \
                    and self._is_count(node.arg):
                yield '!', node
            elif isinstance(node, c.Binary) and node.op in (
                    '==', '!=', '<', '<=', '>', '>=') \
                    and self._is_count(node.left):
                if not self._counts_to(node):
                    yield node.op, node
            elif isinstance(node, c.Binary) and node.op in (
                    '==', '!=', '<', '>') and self._is_count(node.right) \
                    and not self._counts_to(node):
                yield 'other', node
            elif isinstance(node, (c.If, c.Ternary)) \
                    and self._is_count(node.cond):
                yield '!', node.cond
            elif isinstance(node, c.Binary) and node.op in ('&&', '||') and (
                    self._is_count(node.left) or self._is_count(node.right)):
                yield '!', node
            elif isinstance(node, c.Call) and node.name in (
                    'BUG_ON', 'WARN_ON', 'WARN_ON_ONCE', 'unlikely', 'likely') \
                    and node.args and self._is_count(node.args[0]):
                yield '!', node

    def _is_count(self, expr: c.Expr | None) -> bool:
        core = strip(expr)
        if isinstance(core, c.Call) and core.name in ('unlikely', 'likely') \
                and core.args:
            core = strip(core.args[0])
        if isinstance(core, c.Assign):
            core = strip(core.left)
        return core is not None and text(core) in self.names

    def _counts_to(self, test: c.Expr) -> bool:
        """Is it the end of a loop over the entries?"""
        return any(isinstance(x, c.Loop) and x.cond is test
                   for x in self.up.chain(test))

    # -- what follows

    def _assigned(self) -> None:
        found = list(self._tests())
        bad = [t for op, t in found if op == '<' and text(t.right) == '0']
        good = [t for op, t in found if t not in bad]
        if good:
            return
        if bad:
            self._negative(bad[0])
        elif self._left_to_callers():
            return
        else:
            self._insert('check')

    def _left_to_callers(self) -> bool:
        """Is the number handed out, in a field or as the result?"""
        if any(isinstance(n, c.Return) and n.value is not None
               and self._is_count(n.value) for n in self.func.body.walk()):
            return True
        fields = {strip(t).name for t in self.site.targets
                  if isinstance(strip(t), c.Member)}
        if not fields:
            return any(n.startswith('*') for n in self.names)
        for func in self.driver.functions_with(*fields):
            for node in (func.body.walk() if func.body else ()):
                inner: c.Expr | None = None
                if isinstance(node, c.Unary) and node.op == '!':
                    inner = node.arg
                elif isinstance(node, c.Binary) and node.op in ('==', '<=') \
                        and text(node.right) in ('0', '-1'):
                    inner = node.left
                elif isinstance(node, c.If):
                    inner = node.cond
                inner = strip(inner)
                if isinstance(inner, c.Member) and inner.name in fields:
                    return True
        return False

    def _returned(self) -> list[Unit]:
        return self.done

    def _negative(self, test: c.Expr) -> None:
        """`< 0` becomes `!`, and what the branch returns an errno."""
        stmt = self.up.statement(test)
        unit = Unit()
        self.done.append(unit)
        message = ('%s() returns 0 when it fails, never a negative value'
                   % self.call.name)
        at = test.left.first
        unit.edits.append(Edit('negative', self.func.path, at, self.func.name,
                               message, {'action': ';'}))
        if not isinstance(stmt, c.If) or strip(stmt.cond) is not test and not (
                isinstance(strip(stmt.cond), c.Call)):
            unit.refuse(self.func.path, self.call.first, self.func.name,
                        message + '; `%s` (line %d) is part of a larger test'
                        % (text(test), test.first.line))
            return
        for node in stmt.then.walk():
            value = None
            if isinstance(node, c.Return):
                value = node.value
            elif isinstance(node, c.Assign) and node.op == '=':
                value = node.right
            if value is not None and self._is_count(value):
                unit.edits.append(Edit('errno', self.func.path, value.first,
                                       self.func.name, '', {'action': ';'}))
        unwinder = Unwinder(self.driver, self.func)
        found = unwinder.exit_of(stmt)
        if found is None:
            return
        names = {x.name for x in (found.path.value.walk()
                                  if found.path.value is not None else ())
                 if isinstance(x, c.Id)}
        if names & self.names and not isinstance(found.jump, c.Return):
            unit.refuse(self.func.path, self.call.first, self.func.name,
                        message + '; the branch at line %d lets the function '
                        'return %s, which would then be 0: success'
                        % (stmt.first.line, ' '.join(sorted(names & self.names))))

    def _insert(self, kind: str) -> None:
        what = 'is not tested' if kind == 'check' else 'is ignored'
        unit = Unit()
        self.done.append(unit)
        message = 'the result of %s() %s; it is 0 when the mapping failed' % (
            self.call.name, what)
        try:
            if self.site.shape == 'init' or not isinstance(
                    self.site.stmt, c.ExprStmt):
                raise Refused('a check has no room behind the declaration')
            names = [text(strip(self.call.args[1]))]
            found = Builder(Unwinder(self.driver, self.func), self.site.stmt,
                            names, 'scatterlist mapping').build()
        except Refused as why:
            unit.refuse(self.func.path, self.call.first, self.func.name,
                        '%s; no check is inserted: %s' % (message, why))
            return
        unit.edits.append(Edit(kind, self.func.path, self.call.first,
                               self.func.name, message,
                               {'action': found.code}))

    # -- messages

    def _refuse(self, message: str) -> None:
        unit = Unit()
        unit.refuse(self.func.path, self.call.first, self.func.name, message)
        self.done.append(unit)

# SPDX-License-Identifier: GPL-2.0-only
"""Code with a pair of masks set at once, and without what then is left over.

This only proposes: `maskrun.agree()` proves or rejects what comes of it.
"""
from __future__ import annotations

import re
from dataclasses import replace

from . import cparse as c
from . import maskcall
from .checks import ends_in_jump
from .driver import strip, text
from .labels import pure
from .maskrun import FAILED, Machine, Seen, Unsure
from .resources import is_log

_NUMBER = re.compile(r'(?<!\d)(\d+)(?!\d)')
_ROUNDS = 6


def is_message(stmt: c.Stmt) -> bool:
    """Does a statement only print?"""
    return isinstance(stmt, c.ExprStmt) and isinstance(stmt.expr, c.Call) \
        and is_log(stmt.expr.name)


def body(stmt: c.Stmt | None) -> list[c.Stmt]:
    """The statements of a branch."""
    if stmt is None:
        return []
    return list(stmt.body) if isinstance(stmt, c.Block) else [stmt]


def results(stmts: list[c.Stmt]) -> list[str]:
    """The variables that are set to what such a call returns."""
    out: dict[str, None] = {}
    for stmt in stmts:
        for node in stmt.walk():
            if isinstance(node, c.Assign) and isinstance(node.left, c.Id) \
                    and maskcall.setter(strip(node.right)):
                out[node.left.name] = None
            elif isinstance(node, c.Variable) \
                    and maskcall.setter(strip(node.init)):
                out[node.name] = None
    return list(out)


class Fold:
    """One proposal for a run of statements.

    merged: the calls that become dma_set_mask_and_coherent().  failures: also
    remove calls that only ever fail, the fallbacks to a narrower mask.
    result: the variable that holds what they return, where one is needed.
    """

    def __init__(self, machine: Machine, stmts: list[c.Stmt],
                 merged: list[c.Call], failures: bool, result: str):
        self.machine, self.result = machine, result
        self._results = results(stmts)
        self.failures = failures
        self.origin: dict[int, c.Node] = {}     # of what was made anew
        #: (new, old) of the calls that set both masks now, by id of the new
        self.renamed: dict[int, tuple[c.Call, c.Call]] = {}
        self.narrow: set[str] = set()   # numbers of masks not tried any more
        self._made: dict[int, c.Node] = {}      # what is new, by id
        self._merge = {id(call) for call in merged}
        self.stmts = self._stmts(stmts, self._rename)
        for _ in range(_ROUNDS):
            before = self.stmts
            self._seen = self._look()
            self.stmts = self._folded(self.stmts)
            if self._same(before, self.stmts):
                break

    def _look(self) -> Seen:
        seen = Seen()
        for _, _, found in self.machine.worlds(self.stmts):
            seen.add(found)
        return seen

    @staticmethod
    def _same(left: list[c.Stmt], right: list[c.Stmt]) -> bool:
        return len(left) == len(right) and all(
            a is b for a, b in zip(left, right))

    # -- new nodes

    def _new(self, node: c.Node, origin: c.Node | None) -> c.Node:
        """Note that a node is new, and what it stands for."""
        self._made[id(node)] = node
        if origin is not None:
            self.origin[id(node)] = self.origin.get(id(origin), origin)
        return node

    def is_new(self, node: c.Node) -> bool:
        return id(node) in self._made

    def origin_of(self, node: c.Node) -> c.Node | None:
        """The node of the driver that one stands for."""
        if self.is_new(node):
            return self.origin.get(id(node))
        return node

    def _with(self, node: c.Node, **fields: object) -> c.Node:
        """A node with other parts; the same one if they are the same."""
        if all(getattr(node, name) is value for name, value in fields.items()):
            return node
        return self._new(replace(node, **fields), node)

    # -- merged calls get their new name

    def _rename(self, expr: c.Expr) -> c.Expr:
        if isinstance(expr, c.Call):
            if id(expr) not in self._merge:
                return expr
            name = c.Id(expr.func.first, expr.func.last, maskcall.MERGED)
            dev = maskcall.device(self.machine.driver, self.machine.func, expr)
            first = expr.args[0]
            if expr.name.startswith('pci_'):
                first = self._new(c.Id(first.first, first.last, dev.text),
                                  None)
            new = c.Call(expr.first, expr.last, name, [first, expr.args[1]])
            self.renamed[id(new)] = new, expr
            self.machine.stands_for(new, expr)
            return self._new(new, expr)
        return self._inner(expr, self._rename)

    def _inner(self, expr: c.Expr, change) -> c.Expr:
        if isinstance(expr, c.Paren):
            return self._with(expr, inner=change(expr.inner))
        if isinstance(expr, (c.Cast, c.Unary)):
            return self._with(expr, arg=change(expr.arg))
        if isinstance(expr, (c.Binary, c.Assign)):
            return self._with(expr, left=change(expr.left),
                              right=change(expr.right))
        if isinstance(expr, c.Call) and expr.name in ('likely', 'unlikely') \
                and len(expr.args) == 1:
            arg = change(expr.args[0])
            return expr if arg is expr.args[0] else self._with(
                expr, args=[arg])
        if isinstance(expr, c.Ternary):
            if any(maskcall.setter(n) for n in expr.walk()):
                raise Unsure('a ?: decides which mask is set', expr)
        return expr

    def _stmts(self, stmts: list[c.Stmt], change) -> list[c.Stmt]:
        out = [self._stmt(stmt, change) for stmt in stmts]
        return stmts if self._same(stmts, out) else out

    def _stmt(self, stmt: c.Stmt, change) -> c.Stmt:
        if isinstance(stmt, c.Block):
            return self._with(stmt, body=self._stmts(stmt.body, change))
        if isinstance(stmt, c.ExprStmt):
            return self._with(stmt, expr=change(stmt.expr))
        if isinstance(stmt, c.If):
            return self._with(
                stmt, cond=change(stmt.cond),
                then=self._stmt(stmt.then, change),
                other=stmt.other and self._stmt(stmt.other, change))
        if isinstance(stmt, c.Return) and stmt.value is not None:
            return self._with(stmt, value=change(stmt.value))
        if isinstance(stmt, c.Decl):
            variables = [self._with(var, init=change(var.init))
                         if var.init is not None else var
                         for var in stmt.variables]
            if not self._same(variables, stmt.variables):
                return self._with(stmt, variables=variables)
        return stmt

    # -- what is constant

    def _constant(self, expr: c.Expr) -> str | None:
        """The value that an expression has in all worlds, without effect."""
        found = self._seen.values.get(id(expr), set())
        if len(found) != 1:
            return None
        value, = found
        core = strip(expr)
        if maskcall.setter(core):
            if id(core) in self._seen.effects or (
                    value == FAILED and not self.failures):
                return None
            if value == FAILED:
                self._narrower(core)
            return value
        return None

    def _cond(self, expr: c.Expr) -> c.Expr | bool:
        """A condition without what is constant in it."""
        if isinstance(expr, c.Paren):
            inner = self._cond(expr.inner)
            if isinstance(inner, bool) or inner is expr.inner:
                return inner if isinstance(inner, bool) else expr
            if isinstance(inner, (c.Binary, c.Assign)):
                return self._with(expr, inner=inner)
            return inner
        value = self._constant(expr)
        if value is not None:
            return value != '0'
        if isinstance(expr, c.Literal) and self.is_new(expr):
            return expr.text != '0'
        if isinstance(expr, c.Id) and expr.name in self._results:
            found = self._seen.values.get(id(expr), set())
            if found == {'0'} or found == {FAILED} and self.failures:
                return found != {'0'}
        if isinstance(expr, c.Unary) and expr.op == '!':
            inner = self._cond(expr.arg)
            return (not inner) if isinstance(inner, bool) else self._with(
                expr, arg=inner)
        if isinstance(expr, c.Call) and expr.name in ('likely', 'unlikely') \
                and len(expr.args) == 1:
            inner = self._cond(expr.args[0])
            return inner if isinstance(inner, bool) else (
                expr if inner is expr.args[0]
                else self._with(expr, args=[inner]))
        if isinstance(expr, c.Assign) and expr.op == '=' \
                and id(expr) not in self._seen.changes:
            value = self._constant(expr.right)
            if value is not None:
                return value != '0'
        if isinstance(expr, c.Binary) and expr.op in ('&&', '||'):
            return self._junction(expr)
        if isinstance(expr, c.Binary) and expr.op in ('==', '!=', '<') \
                and text(strip(expr.right)) == '0':
            inner = self._cond(expr.left)
            if isinstance(inner, bool):
                return inner != (expr.op == '==')
        return expr

    def _junction(self, expr: c.Binary) -> c.Expr | bool:
        left, right = self._cond(expr.left), self._cond(expr.right)
        absorbing = expr.op == '||'
        if left is absorbing:
            return left
        if left is (not absorbing):
            return self._plain(right)
        if right is (not absorbing):
            return self._plain(left)
        if right is absorbing and pure(left):
            return right
        if isinstance(right, bool):
            return expr
        return self._with(expr, left=left, right=right)

    def _plain(self, cond: c.Expr | bool) -> c.Expr | bool:
        """`dma_set_mask(...) != 0` alone, as a plain truth value."""
        core = strip(cond) if isinstance(cond, c.Expr) else cond
        if isinstance(core, c.Binary) and core.op in ('==', '!=', '<') \
                and text(strip(core.right)) == '0' \
                and maskcall.setter(strip(core.left)):
            call = strip(core.left)
            if core.op == '==':
                return self._new(c.Unary(call.first, call.last, '!', call),
                                 cond)
            return call
        if isinstance(core, c.Binary) and core.op == '&&' \
                or isinstance(core, bool):
            return cond
        if isinstance(core, c.Unary) or maskcall.setter(core):
            return core
        return cond

    # -- statements

    def _folded(self, stmts: list[c.Stmt]) -> list[c.Stmt]:
        out: list[c.Stmt] = []
        for stmt in stmts:
            if id(stmt) not in self._seen.reached \
                    and not isinstance(stmt, (c.Decl, c.Opaque)):
                continue
            out += self._fold(stmt)
        out = self._joined(out)
        return stmts if self._same(stmts, out) else out

    def _fold(self, stmt: c.Stmt) -> list[c.Stmt]:
        if isinstance(stmt, c.ExprStmt):
            return self._expression(stmt)
        if isinstance(stmt, c.If):
            return self._if(stmt)
        if isinstance(stmt, c.Block):
            inner = self._folded(stmt.body)
            return [self._with(stmt, body=inner)] if inner else []
        if isinstance(stmt, c.Return) and stmt.value is not None:
            value = self._constant(stmt.value)
            if value is not None:
                return [self._with(stmt, value=self._new(c.Literal(
                    stmt.value.first, stmt.value.last, value), stmt.value))]
        return [stmt]

    def _expression(self, stmt: c.ExprStmt) -> list[c.Stmt]:
        expr = strip(stmt.expr)
        if isinstance(expr, c.Call):
            return [] if self._idle(expr) else [stmt]
        if not isinstance(expr, c.Assign):
            return [stmt]
        right = strip(expr.right)
        if isinstance(right, c.Call) and self._idle(right) \
                and id(expr) not in self._seen.changes:
            return []
        value = self._constant(expr.right)
        if value is not None:
            if expr.op == '=' and isinstance(expr.right, c.Call):
                literal = self._new(c.Literal(
                    expr.right.first, expr.right.last, value), expr.right)
                return [self._with(stmt, expr=self._with(expr, right=literal))]
        return [stmt]

    def _idle(self, call: c.Call) -> bool:
        """Does a call set nothing that is not set already?"""
        if not maskcall.setter(call) or id(call) in self._seen.effects:
            return False
        if self._seen.values.get(id(call)) == {FAILED}:
            if not self.failures:
                return False
            self._narrower(call)
        return True

    def _narrower(self, call: c.Call) -> None:
        self.narrow.update(_NUMBER.findall(text(call.args[1])))

    def _if(self, stmt: c.If) -> list[c.Stmt]:
        before: list[c.Stmt] = []
        given = self._settled(stmt.cond, stmt, before)
        cond = self._cond(given)
        if cond is True:
            return before + self._flat(stmt.then)
        if cond is False:
            return before + self._flat(stmt.other)
        then = self._folded(body(stmt.then))
        other = self._folded(body(stmt.other))
        call = self._doubled(cond)
        if call is not None and all(map(is_message, then + other)):
            return before
        if not then and not other:
            return before + self._only(cond, stmt)
        changed = cond is not stmt.cond \
            or not self._same(then, body(stmt.then)) \
            or not self._same(other, body(stmt.other))
        if not changed and not self._split(cond):
            return [stmt]
        assign = self._split(cond)
        if assign is not None and self.is_new(assign.right):
            before.append(self._statement(assign, stmt))
            cond = self._replaced(cond, assign, assign.left)
        hoisted = self._hoist(cond, then, other, stmt)
        if hoisted is not None:
            assignment, cond, then, other = hoisted
            before.append(assignment)
            if not then and not other:
                return before
        if not then:
            cond, then, other = self._negated(cond), other, []
        after: list[c.Stmt] = []
        if other and self._tests(cond) is False and ends_in_jump(other[-1]):
            cond, then, after = self._negated(cond), other, then
            other = []
        elif other and self._tests(cond) and ends_in_jump(then[-1]):
            after, other = other, []
        then = self._one_message(then)
        new = c.If(stmt.first, stmt.last, cond, self._branch(then, stmt),
                   self._branch(other, stmt) if other else None)
        return before + [self._new(new, stmt)] + after

    def _settled(self, cond: c.Expr, stmt: c.If, before: list[c.Stmt]
                 ) -> c.Expr:
        """A condition without the assignment of a constant to begin with."""
        assign = self._split(cond)
        if assign is None or id(assign) not in self._seen.changes:
            return cond
        value = self._constant(assign.right)
        if value is None:
            return cond
        literal = self._new(c.Literal(assign.right.first, assign.right.last,
                                      value), assign.right)
        before.append(self._statement(self._with(assign, right=literal), stmt))
        return self._replaced(cond, assign, literal)

    def _flat(self, stmt: c.Stmt | None) -> list[c.Stmt]:
        inner = self._folded(body(stmt))
        if any(isinstance(s, c.Decl) for s in inner):
            raise Unsure('a branch with declarations of its own would have '
                         'to go', stmt)
        return inner

    def _only(self, cond: c.Expr, stmt: c.If) -> list[c.Stmt]:
        """A condition of which no branch is left."""
        if pure(cond):
            return []
        core = strip(cond)
        if isinstance(core, c.Unary) and core.op == '!':
            core = strip(core.arg)
        if isinstance(core, (c.Call, c.Assign)):
            return [self._statement(core, stmt)]
        raise Unsure('nothing but a condition with an effect would be left',
                     stmt)

    def _statement(self, expr: c.Expr, stmt: c.Stmt) -> c.Stmt:
        return self._new(c.ExprStmt(stmt.first, stmt.last, expr), None)

    def _doubled(self, cond: c.Expr) -> c.Call | None:
        """The call of a condition that sets nothing that is not set."""
        core = strip(cond)
        while isinstance(core, (c.Unary, c.Binary)):
            core = strip(core.arg if isinstance(core, c.Unary) else core.left)
        if maskcall.setter(core) and id(core) not in self._seen.effects:
            return core
        return None

    def _branch(self, stmts: list[c.Stmt], origin: c.Stmt) -> c.Stmt:
        if len(stmts) == 1:
            return stmts[0]
        return self._new(c.Block(origin.first, origin.last, stmts), None)

    # -- conditions

    def _is_failure(self, cond: c.Expr) -> bool | None:
        """Does this condition hold when a mask could not be set?  None: it
        is about something else."""
        core = strip(cond)
        if isinstance(core, c.Unary) and core.op == '!':
            inner = self._is_failure(core.arg)
            return None if inner is None else not inner
        if isinstance(core, c.Call) and core.name in ('likely', 'unlikely'):
            return self._is_failure(core.args[0])
        if isinstance(core, c.Binary) and core.op in ('==', '!=', '<') \
                and text(strip(core.right)) == '0':
            inner = self._is_failure(core.left)
            return None if inner is None else inner == (core.op != '==')
        if isinstance(core, c.Id):
            return True if core.name == self.result else None
        return True if maskcall.setter(core) else None

    def _negated(self, cond: c.Expr) -> c.Expr:
        core = strip(cond)
        if isinstance(core, c.Unary) and core.op == '!':
            return core.arg
        if isinstance(core, c.Binary) and core.op in ('==', '!=', '<') \
                and text(strip(core.right)) == '0' \
                and self._is_failure(cond) is not None:
            left = core.left
            if core.op == '==':
                return left
            core = strip(left)
        elif isinstance(core, (c.Binary, c.Ternary, c.Assign)):
            raise Unsure('`%s` would have to be inverted' % text(cond), cond)
        return self._new(c.Unary(cond.first, cond.last, '!', core), None)

    def _split(self, cond: c.Expr) -> c.Assign | None:
        """`(err = dma_set_mask(...))`, where a condition begins with it."""
        core = strip(cond)
        while isinstance(core, (c.Unary, c.Binary)):
            core = strip(core.arg if isinstance(core, c.Unary) else core.left)
        if isinstance(core, c.Assign) and core.op == '=' \
                and isinstance(core.left, c.Id) \
                and maskcall.setter(strip(core.right)):
            return core
        return None

    def _replaced(self, expr: c.Expr, assign: c.Assign, by: c.Expr) -> c.Expr:
        """A condition with something in place of its assignment."""
        core = strip(expr)
        if core is assign:
            return by
        if isinstance(core, c.Unary):
            return self._with(core, arg=self._replaced(core.arg, assign, by))
        if isinstance(core, c.Binary):
            left = self._replaced(core.left, assign, by)
            if core.op in ('==', '!=') and text(strip(core.right)) == '0':
                return left if core.op == '!=' else self._new(
                    c.Unary(core.first, core.last, '!', left), None)
            return self._with(core, left=left)
        return expr

    def _hoist(self, cond: c.Expr, then: list[c.Stmt], other: list[c.Stmt],
               stmt: c.If):
        """Keep the result in the variable that the branches would set."""
        core = strip(cond)
        fails = self._is_failure(cond)
        if fails is None or not self.result:
            return None
        while not maskcall.setter(core):
            if isinstance(core, c.Unary):
                core = strip(core.arg)
            elif isinstance(core, c.Binary):
                core = strip(core.left)
            else:
                return None
        if not any(self._sets_result(s) and self.is_new(s.expr.right)
                   for s in then + other):
            return None
        var = self._new(c.Id(core.first, core.last, self.result), None)
        assign = self._new(c.Assign(core.first, core.last, '=', var, core),
                           None)
        drop = [s for s in then + other if self._sets_result(s)
                and text(strip(s.expr.right)) in ('0', FAILED)]
        left = [s for s in then if not any(s is d for d in drop)]
        right = [s for s in other if not any(s is d for d in drop)]
        test = var if fails else self._new(
            c.Unary(core.first, core.last, '!', var), None)
        return self._statement(assign, stmt), test, left, right

    def _sets_result(self, stmt: c.Stmt) -> bool:
        return isinstance(stmt, c.ExprStmt) \
            and isinstance(stmt.expr, c.Assign) and stmt.expr.op == '=' \
            and text(stmt.expr.left) == self.result

    # -- what stands side by side

    def _joined(self, stmts: list[c.Stmt]) -> list[c.Stmt]:
        """`if (!err) { S } if (err) { T }`, and two tests for the same."""
        out = list(stmts)
        at = 0
        while at + 1 < len(out):
            one, two = out[at], out[at + 1]
            if isinstance(one, c.If) and isinstance(two, c.If) \
                    and (self.is_new(one) or self.is_new(two)) \
                    and one.other is None and two.other is None \
                    and self._tests(one.cond) is not None \
                    and self._tests(two.cond) is True:
                first, second = body(one.then), body(two.then)
                if not first or not second:
                    at += 1
                    continue
                if self._tests(one.cond):
                    if ends_in_jump(first[-1]):
                        at += 1
                        continue
                    both = self._one_message(first + second)
                    out[at:at + 2] = [self._new(c.If(
                        two.first, two.last, two.cond,
                        self._branch(both, two), None), two)]
                    continue
                if ends_in_jump(second[-1]):
                    out[at:at + 2] = [two] + first
                    continue
            at += 1
        return out

    def _tests(self, cond: c.Expr) -> bool | None:
        """Is this a test of the result variable, for failure?"""
        names = {n.name for n in cond.walk() if isinstance(n, c.Id)}
        return self._is_failure(cond) if names == {self.result} else None

    def _one_message(self, stmts: list[c.Stmt]) -> list[c.Stmt]:
        """Of the messages about two attempts, the one about what failed.

        The last, unless it speaks of the mask that is no longer tried.
        """
        said = [s for s in stmts if is_message(s)]
        last = stmts[-1]
        told = isinstance(last, c.Return) and any(
            isinstance(n, c.Call) and is_log(n.name) for n in last.walk())
        if len(said) + told < 2 or not self.narrow or not ends_in_jump(last):
            return stmts
        keep = None if told else said[-1]
        for one in (said[-1], said[0]) if not told else ():
            if not self.narrow & set(_NUMBER.findall(text(one.expr))):
                keep = one
                break
        return [s for s in stmts if s is keep or not is_message(s)]


# ------------------------------------------------------------------- as text

_COMMENT = re.compile(r'/\*[\s\S]*?\*/|//[^\n]*')


class Printer:
    """C text of a proposal: what is not new reads as it was written."""

    def __init__(self, fold: Fold, source: str):
        self.fold, self.source = fold, source
        self.lost = False           # would a comment be lost?

    def expr(self, node: c.Expr) -> str:
        if not self._has_new(node):
            return self._written(node)
        if isinstance(node, c.Paren):
            inner = self.expr(node.inner)
            return inner if not isinstance(strip(node), (
                c.Binary, c.Assign, c.Ternary)) else '(%s)' % inner
        if isinstance(node, c.Id):
            return node.name
        if isinstance(node, c.Literal):
            return node.text
        if isinstance(node, c.Call):
            return '%s(%s)' % (self.expr(node.func),
                               ', '.join(map(self.expr, node.args)))
        if isinstance(node, c.Unary):
            return node.op + self.expr(node.arg)
        if isinstance(node, c.Cast):
            return '(%s)%s' % (node.type, self.expr(node.arg))
        if isinstance(node, (c.Binary, c.Assign)):
            return '%s %s %s' % (self.expr(node.left), node.op,
                                 self.expr(node.right))
        raise Unsure('`%s` cannot be written anew' % text(node), node)

    def _has_new(self, node: c.Node) -> bool:
        return any(self.fold.is_new(n) for n in node.walk()) \
            or any(n.name == maskcall.MERGED and not self._is(n)
                   for n in node.walk() if isinstance(n, c.Id))

    def _is(self, node: c.Id) -> bool:
        return self.source[node.first.start:node.last.end] == node.name

    def _written(self, node: c.Node) -> str:
        words = self.source[node.first.start:node.last.end]
        if _COMMENT.search(re.sub(r'"(?:\\.|[^"\\])*"', '""', words)):
            self.lost = True
        return words

    def stmt(self, node: c.Stmt) -> str:
        if not self._has_new(node):
            return self._written(node)
        if isinstance(node, c.ExprStmt):
            return self.expr(node.expr) + ';'
        if isinstance(node, c.Return):
            return 'return %s;' % self.expr(node.value)
        if isinstance(node, c.Block):
            return '{\n%s\n}' % '\n'.join(map(self.stmt, node.body))
        if isinstance(node, c.If):
            return self._if(node)
        raise Unsure('this cannot be written anew', node)

    def _if(self, node: c.If) -> str:
        braces = any(len(body(arm)) != 1 or isinstance(body(arm)[0], c.If)
                     or self._long(arm) for arm in (node.then, node.other)
                     if arm is not None)
        out = 'if (%s)%s' % (self._bare(node.cond),
                             self._arm(node.then, braces))
        if node.other is None:
            return out
        if not braces or isinstance(node.other, c.If):
            raise Unsure('spatch lays out no else if, and no else without '
                         'braces', node)
        return out + ' else' + self._arm(node.other, braces)

    def _bare(self, cond: c.Expr) -> str:
        """A condition without parentheses around all of it."""
        while isinstance(cond, c.Paren) and self._has_new(cond):
            cond = cond.inner
        return self.expr(cond)

    @staticmethod
    def _long(arm: c.Stmt) -> bool:
        return isinstance(arm, c.Block) and len(arm.body) == 1 \
            and arm.body[0].first.line != arm.body[0].last.line

    def _arm(self, arm: c.Stmt, braces: bool) -> str:
        if not braces:
            return '\n' + self.stmt(body(arm)[0])
        return ' {\n%s\n}' % '\n'.join(map(self.stmt, body(arm)))

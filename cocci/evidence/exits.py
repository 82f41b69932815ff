# SPDX-License-Identifier: GPL-2.0-only
"""The ways out of a function: what they release, and what they return."""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from . import cparse as c
from .checks import ends_in_jump, parents
from .driver import Driver, strip, text
from .resources import (ASKS, FILLERS, PURE, RESULT_NAME, VAGUE, VERBS, Held,
                        field_name, is_log, outside, releases)


@dataclass
class Action:
    """One statement of an exit that releases something."""

    call: c.Call
    loop: c.Loop | None = None
    guard: str = ''

    @property
    def key(self) -> tuple[str, ...]:
        gone = releases(self.call)
        guard = self.guard
        if gone and self.guard:
            plain = re.sub(r'^\(|\)$', '', guard)
            if plain in (gone[1], gone[1] + ' != NULL', '!IS_ERR(%s)' % gone[1]):
                guard = ''
        loop = 'loop' if self.loop else ''
        if gone:
            return (gone[0], gone[1], loop, guard)
        return ('call', text(self.call), loop, guard)

    def __str__(self) -> str:
        return text(self.call)


@dataclass
class Path:
    """What happens from one statement on until the function is left."""

    actions: list[Action] = field(default_factory=list)
    end: str = ''              # return, break, continue, or a reason
    value: c.Expr | None = None
    assigned: dict[str, c.Expr] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    resets: list[c.Assign] = field(default_factory=list)
    changes: list[c.Expr] = field(default_factory=list)     # and other effects
    sure: set[str] = field(default_factory=set)     # assigned on every way

    @property
    def keys(self) -> set[tuple[str, ...]]:
        return {a.key for a in self.actions}


@dataclass
class Exit:
    """A conditional way out: `if (test) branch`."""

    stmt: c.If
    path: Path
    jump: c.Stmt
    failure: bool
    held: list[Held] = field(default_factory=list)


#: What transmit functions return.
XMIT = ('netdev_tx_t', 'enum netdev_tx')


class Unwinder:
    """The questions for one function."""

    def __init__(self, driver: Driver, func: c.Function):
        self.driver, self.func = driver, func
        self.up = parents(func)
        self._labels: dict[str, c.Label] = {}
        self._released: dict[str, str] | None = None
        self._common: set[str] | None = None
        self.known: dict[str, bool] = {}    # conditions known at the point
        for node in func.body.walk():
            if isinstance(node, c.Label):
                self._labels[node.name] = node

    @property
    def words(self) -> frozenset[str]:
        """Every word of the driver's functions."""
        found = self.driver.__dict__.get('_unwind_words')
        if found is None:
            found = frozenset().union(*(
                re.findall(r'[A-Za-z_]\w*', self.driver.text_of(path))
                for path in self.driver.paths))
            self.driver.__dict__['_unwind_words'] = found
        return found

    @property
    def released(self) -> dict[str, str]:
        """Objects that the function releases somewhere -> their kind."""
        if self._released is None:
            self._released = {}
            for call in self.func.calls():
                gone = releases(call)
                if gone:
                    self._released[gone[1]] = gone[0]
        return self._released

    def counts_down(self, lvalue: str) -> bool:
        """Does the driver take back what it adds to a field of this name?

        Statistics only go up; what also goes down counts what is pending.
        """
        name = field_name(lvalue)
        known = self.driver.__dict__.setdefault('_counts_down', {})
        if name not in known:
            down = re.compile(
                r'--[\w>.\[\]-]*\b{0}\b|\b{0}(\[\w*\])?\s*(--|-=)|'
                r'_(dec|sub)\w*\s*\([^;]*\b{0}\b'.format(re.escape(name)))
            known[name] = name in self.words and any(
                down.search(self.driver.text_of(path))
                for path in self.driver.paths)
        return known[name]

    @property
    def null_tested(self) -> set[str]:
        """The lvalues that the function compares with NULL."""
        return {text(strip(x.arg)) for x in self.func.body.walk()
                if isinstance(x, c.Unary) and x.op == '!'}

    def counterparts(self, name: str) -> tuple[str, ...]:
        """Functions of the driver that by their name undo another one."""
        words = name.lower().split('_')
        out = []
        for word in words:
            for other in (*VERBS.get(word, '').split(), 'un' + word,
                          'de' + word, 'dis' + word):
                rest = set(words) - {word}
                for known, parts in self._undoers.get(other, ()):
                    stem = parts - {other}
                    exact = rest - FILLERS <= stem
                    if stem and stem <= rest and (exact or word not in VAGUE) \
                            and (len(stem) > 1 or len(rest) == 1):
                        out.append(known)
        return tuple(sorted(set(out)))

    @staticmethod
    def vague(name: str) -> bool:
        """Does a name take something in a way that is mostly no taking?"""
        return not set(name.lower().split('_')) & (VERBS.keys() - VAGUE)

    def undoes(self, names: tuple[str, ...]) -> bool:
        """Is one of these functions called here, or anywhere in the driver
        when a mapping has failed?"""
        if any(x.name in names for x in self.func.calls()):
            return True
        return any(
            x.name in names
            for func in self.driver.functions_with(*names)
            if 'dma_mapping_error' in func.words and func.body
            for node in func.body.walk() if isinstance(node, c.If)
            and 'dma_mapping_error' in text(node.cond)
            for x in node.then.walk() if isinstance(x, c.Call))

    def undo_of(self, item: Held) -> str:
        """The call that gives back what is held, '' where that is unsure.

        The functions that undo are known by their names, their arguments
        from the other calls.
        """
        if not item.undo:
            found = [(func, other) for name in item.undoers
                     for func in self.driver.functions_with(name)
                     if func.name != item.call.name
                     for other in func.calls() if other.name == name]
            forms = {self._undo_form(item, func, other)
                     for func, other in found}
            if item.result and all(len(o.args) == 1 for _, o in found):
                # what takes several types takes a void pointer
                if len({str(self.driver.type_of(o.args[0], func))
                        for func, o in found}) > 1:
                    forms = {'%s(%s)' % (o.name, item.result)
                             for _, o in found}
                forms -= {''} if len(forms) > 1 else set()
            if len(forms) == 1:
                item.undo = forms.pop()
        return item.undo

    def _undo_form(self, item: Held, func: c.Function, undo: c.Call) -> str:
        """How something is undone, when in `func` it is done with `undo`."""
        def last(expr: c.Expr) -> str:
            return re.split(r'->|\.|&', text(strip(expr)))[-1]

        given = [text(arg, True) for arg in item.call.args]
        names = [last(arg) for arg in item.call.args]
        theirs = [last(arg) for arg in undo.args]
        if not item.result:
            if theirs != names[:len(theirs)]:
                return ''
            given = given[:len(theirs)]
        elif len(theirs) == 1 and self._alike(item.result, func, undo.args[0]):
            given = [item.result]
        elif len(theirs) == 2 and names and theirs[0] == names[0]:
            given = [given[0], item.result]
        elif len(theirs) == 2 and names and theirs[1] == names[0]:
            given = [item.result, given[0]]
        else:
            return ''
        return '%s(%s)' % (undo.name, ', '.join(given))

    def _alike(self, name: str, func: c.Function, expr: c.Expr) -> bool:
        """Have a local variable or field here and an expression of another
        function one type, or at least one name?"""
        if field_name(name) == field_name(text(strip(expr))):
            return True
        var = self.func.locals.get(name)
        return var is not None and self.driver.type_of(expr, func) == var.type

    @property
    def _undoers(self) -> dict[str, list[tuple[str, set[str]]]]:
        """Every word of the driver by the verb of undoing in it."""
        found = self.driver.__dict__.get('_undoers')
        if found is None:
            verbs = {v for vs in VERBS.values() for v in vs.split()}
            found = {}
            for word in self.words:
                parts = set(word.lower().split('_'))
                if len(parts) > 1 and (
                        word.isupper() or not PURE.match(word)):
                    for verb in parts:
                        if verb not in verbs and not verb.startswith(
                                ('un', 'de', 'dis')):
                            continue
                        found.setdefault(verb, []).append((word, parts))
            self.driver.__dict__['_undoers'] = found
        return found

    # -- following an exit

    def xmit_skb(self) -> str:
        """The parameter that a transmit function has to free."""
        if self.func.returns.base not in XMIT:
            return ''
        for param in self.func.params:
            if param.type.base == 'struct sk_buff' and param.type.pointers == 1:
                return param.name
        return ''

    def asked_for(self, lvalue: str, here: bool = False) -> bool:
        """Does another function (or this one: `here`) ask whether this field holds something?

        Then it must not keep what was released.
        """
        found = re.search(r'(?:->|\.)(\w+)(\[.*\])?$', lvalue)
        if not found:
            return False
        asked = self.driver.__dict__.setdefault('_asked_for', {})
        name = found.group(1)
        if name not in asked:
            asked[name] = {
                func.name for func in self.driver.functions_with(name)
                if func.body and any(
                    _asks(node, name) for node in func.body.walk())}
        return bool(asked[name] - (set() if here else {self.func.name}))

    def unmapped_if_set(self, lvalue: str) -> bool:
        """Does a function unmap this field if it is not 0?"""
        found = re.search(r'(?:->|\.)(\w+)(?:\[.*\])?$', lvalue)
        if not found:
            return False
        name = found.group(1)
        return any(
            isinstance(node, c.If) and _asks(node, name) and any(
                (releases(x) or ('',))[0] == 'mapping'
                and re.search(r'(->|\.)%s(\[.*\])?$' % name, releases(x)[1])
                for x in node.then.walk() if isinstance(x, c.Call))
            for func in self.driver.functions_with(name) if func.body
            for node in func.body.walk())

    def cleared(self, lvalue: str) -> bool:
        """Does the driver somewhere set this field to 0?"""
        found = re.search(r'(?:->|\.)(\w+)(?:\[.*\])?$', lvalue)
        return found is not None and any(
            isinstance(node, c.Assign) and node.op == '='
            and text(strip(node.right)) == '0'
            and isinstance(strip(node.left), c.Member)
            and strip(node.left).name == found.group(1)
            for func in self.driver.functions_with(found.group(1))
            if func.body for node in func.body.walk())

    def released_elsewhere(self, lvalue: str) -> bool:
        """Does another function release a field of this name?"""
        name = field_name(lvalue)
        return any(
            field_name(gone[1]) == name
            for func in self.driver.functions_with(name)
            if func is not self.func
            for gone in map(releases, func.calls()) if gone)

    def path_from(self, stmts: list[c.Stmt]) -> Path:
        path = Path()
        self._follow(stmts, path, None, '')
        return path

    def path_of_label(self, name: str) -> Path:
        path = Path()
        label = self._labels.get(name)
        if label is None:
            path.end = 'unknown label'
            return path
        path.labels.append(name)
        self._continue_at(label, path)
        return path

    def _continue_at(self, stmt: c.Stmt, path: Path) -> None:
        """Follow what comes after a statement, outwards."""
        node: c.Node = stmt
        while not path.end:
            above = self.up.of(node)
            if above is None:
                path.end = 'return'
                return
            if isinstance(above, c.Block):
                index = next(i for i, s in enumerate(above.body) if s is node)
                self._follow(above.body[index + 1:], path, None, '')
            elif isinstance(above, (c.Loop, c.Switch)):
                path.end = 'in a ' + ('loop' if isinstance(above, c.Loop)
                                      else 'switch')
                return
            node = above

    def _follow(self, stmts: list[c.Stmt], path: Path, loop: c.Loop | None,
                guard: str) -> None:
        for stmt in stmts:
            if path.end:
                return
            self._one(stmt, path, loop, guard)

    def _one(self, stmt: c.Stmt, path: Path, loop: c.Loop | None,
             guard: str) -> None:
        if isinstance(stmt, c.Block):
            self._follow(stmt.body, path, loop, guard)
        elif isinstance(stmt, c.Label):
            path.labels.append(stmt.name)
        elif isinstance(stmt, c.Goto):
            if guard and not loop and self._goes_back(stmt):
                pass        # `if (more) goto again;`: what follows counts
            elif guard or loop:
                path.end = 'branches'
            elif stmt.name in path.labels or len(path.labels) > 30:
                path.end = 'loops'
            else:
                path.labels.append(stmt.name)
                label = self._labels.get(stmt.name)
                if label is None:
                    path.end = 'unknown label'
                else:
                    self._continue_at(label, path)
        elif isinstance(stmt, c.Return):
            if guard or loop:
                path.end = 'branches'
                return
            if stmt.value is not None:
                self._calls(stmt.value, path, loop, guard)
            path.end, path.value = 'return', stmt.value
        elif isinstance(stmt, c.Jump):
            if loop is None and not guard:
                path.end = stmt.kind
            elif loop is None:
                path.end = 'branches'
        elif isinstance(stmt, c.If):
            self._calls(stmt.cond, path, loop, guard)
            inner = text(strip(stmt.cond))
            decided = self.known.get(inner)
            if decided is not None:
                branch = stmt.then if decided else stmt.other
                if branch is not None:
                    self._one(branch, path, loop, guard)
                return
            inner = guard + ' && ' + inner if guard else inner
            self._one(stmt.then, path, loop, inner)
            if stmt.other and not path.end:
                self._one(stmt.other, path, loop, '!(%s)' % inner)
        elif isinstance(stmt, c.Loop):
            for part in (stmt.init, stmt.cond, stmt.step):
                if part is not None:
                    self._calls(part, path, stmt, guard)
            self._one(stmt.body, path, stmt, guard)
        elif isinstance(stmt, (c.Switch, c.Branches)):
            path.end = 'branches'
        else:
            self._calls(stmt, path, loop, guard)

    def _goes_back(self, stmt: c.Goto) -> bool:
        label = self._labels.get(stmt.name)
        return label is not None and label.first.start < stmt.first.start

    def _calls(self, node: c.Node, path: Path, loop: c.Loop | None,
               guard: str) -> None:
        inner: set[int] = set()
        for sub in node.walk():
            if self._changes(sub, node):
                path.changes.append(sub)
            if isinstance(sub, c.Call):
                if id(sub) in inner or is_log(sub.name):
                    inner.update(id(x) for x in sub.walk())
                    continue
                if PURE.match(sub.name) and not releases(sub) \
                        or sub.name.startswith('list_for_each') \
                        or 'for_each' in sub.name:
                    continue
                inner.update(id(x) for x in sub.walk() if x is not sub)
                path.actions.append(Action(sub, loop, guard))
            elif isinstance(sub, c.Assign) and sub.op == '=':
                target = strip(sub.left)
                if isinstance(target, c.Id):
                    path.assigned[target.name] = sub.right
                    if not guard and loop is None:
                        path.sure.add(target.name)
                else:
                    path.resets.append(sub)

    def _changes(self, sub: c.Node, whole: c.Node) -> bool:
        """Does an expression change more than a local variable?

        Of calls, only those that are no action of the path.
        """
        if isinstance(sub, c.Call):
            return isinstance(whole, c.ExprStmt) and strip(whole.expr) is sub \
                and releases(sub) is None \
                and bool(is_log(sub.name) or PURE.match(sub.name))
        if isinstance(sub, c.Assign):
            target = strip(sub.left)
        elif isinstance(sub, c.Unary) and sub.op.strip('p') in ('++', '--'):
            target = strip(sub.arg)
        else:
            return False
        return not isinstance(target, c.Id) \
            or target.name not in self.func.locals

    @property
    def common(self) -> set[str]:
        """The calls that success makes as well, on its way out by a label."""
        if self._common is None:
            self._common = set()
            succeeds = True         # is this still the way of success?
            for stmt in self.func.body.body:
                if isinstance(stmt, c.Label) and succeeds:
                    self._common |= {
                        key[1] for key in self.path_of_label(stmt.name).keys
                        if key[0] == 'call'}
                succeeds = succeeds and not ends_in_jump(stmt)
        return self._common

    # -- the exits around a point

    def exits_after(self, stmt: c.Stmt) -> list[Exit]:
        """All failing exits that stand behind a statement."""
        out = []
        for node in self.func.body.walk():
            if isinstance(node, c.If) and node.first.start > stmt.last.end:
                found = self.exit_of(node)
                if found is not None and found.failure \
                        and not isinstance(found.jump, c.Jump):
                    out.append(found)
        return out

    def exit_of(self, stmt: c.Stmt) -> Exit | None:
        """The exit that a statement is, when it is an `if` that leaves."""
        if not isinstance(stmt, c.If) or not ends_in_jump(stmt.then):
            return None
        branch = stmt.then
        jump = branch.body[-1] if isinstance(branch, c.Block) else branch
        while isinstance(jump, c.Block):
            jump = jump.body[-1]
        path = self.path_from([branch])
        return Exit(stmt, path, jump, self._is_failure(stmt, path))

    @property
    def success(self) -> str:
        """What the function returns at the end of the way without jumps."""
        for stmt in self.func.body.body:
            if isinstance(stmt, c.Return):
                return text(stmt.value)
            if ends_in_jump(stmt):
                return text(self.path_from([stmt]).value)
        return ''

    def _is_failure(self, stmt: c.If, path: Path) -> bool:
        value = text(path.value)
        if self.func.returns.base != 'void' and value \
                and re.match(r'^(\d+|[A-Z]\w+|true|false)$', value) \
                and value != 'NULL' and not self.xmit_skb() \
                and value == self.success:
            return False
        for value in [path.value, *path.assigned.values()]:
            if value is not None and error_value(value, self.func):
                return True
        branch = stmt.then
        if isinstance(branch, c.Block):
            branch = branch.body[-1]
        if isinstance(branch, c.Return) and branch.value is not None:
            value = strip(branch.value)
            if isinstance(value, c.Literal) and value.text == '0' \
                    and not self.func.returns.pointers:
                return False
            if self.func.returns.pointers and isinstance(value, c.Id) \
                    and 'IS_ERR' not in text(stmt.cond):
                return False
        return _failure_test(stmt.cond)


def _asks(node: c.Node, name: str) -> bool:
    """Is a field used as a truth value here?"""
    if isinstance(node, (c.If, c.Ternary)):
        found = [node.cond]
    elif isinstance(node, c.Unary) and node.op == '!':
        found = [node.arg]
    elif isinstance(node, c.Binary) and node.op in ('&&', '||'):
        found = [node.left, node.right]
    elif isinstance(node, c.Binary) and node.op in ('==', '!='):
        found = [node.left] if text(node.right) in ('0', 'NULL') else []
    else:
        return False
    for expr in found:
        expr = strip(expr)
        while isinstance(expr, c.Index):
            expr = strip(expr.base)
        if isinstance(expr, c.Member) and expr.name == name:
            return True
    return False


def error_value(value: c.Expr, func: c.Function) -> bool:
    value = strip(value)
    if isinstance(value, c.Unary) and value.op == '-':
        return True
    if isinstance(value, c.Call):
        return value.name in ('ERR_PTR', 'PTR_ERR', 'ERR_CAST')
    if isinstance(value, c.Id):
        return value.name == 'NULL' and bool(func.returns.pointers)
    return False


def _failure_test(cond: c.Expr) -> bool:
    cond = strip(cond)
    if isinstance(cond, c.Call):
        if cond.name in ('unlikely', 'WARN_ON', 'WARN_ON_ONCE', 'likely'):
            return bool(cond.args) and _failure_test(cond.args[0])
        return cond.name.startswith('IS_ERR') or 'error' in cond.name \
            or not ASKS.search(cond.name)
    if isinstance(cond, c.Unary) and cond.op == '!':
        return isinstance(strip(cond.arg), (c.Id, c.Member, c.Index, c.Call,
                                            c.Assign))
    if isinstance(cond, c.Binary):
        if cond.op in ('||', '&&'):
            return _failure_test(cond.left) and _failure_test(cond.right)
        right = strip(cond.right)
        if cond.op in ('<', '<=', '!=', '=='):
            if isinstance(right, c.Id) and right.name == 'NULL':
                return cond.op == '=='
            if isinstance(right, c.Unary) and right.op == '-':
                return True
            if isinstance(right, c.Literal) and right.text == '0':
                left = strip(cond.left)
                if isinstance(left, c.Assign):
                    left = strip(left.left)
                return cond.op == '<' or isinstance(left, c.Id) and bool(
                    RESULT_NAME.match(left.name))
        return False
    if isinstance(cond, c.Assign):
        return _failure_test(cond.left)
    return isinstance(cond, c.Id) and bool(RESULT_NAME.match(cond.name))


def releases_field(driver: Driver, func: c.Function, kind: str,
                   fields: set[str], depth: int,
                   given: frozenset[str] = frozenset()) -> bool:
    """Does a function release something that is kept in such a field?

    given: its parameters that have the value of one.
    """
    copies = set(given)

    def kept(expr: c.Expr | None) -> bool:
        expr = strip(expr)
        while isinstance(expr, c.Index) or isinstance(expr, c.Unary) \
                and expr.op == '&':
            expr = strip(expr.base if isinstance(expr, c.Index) else expr.arg)
        return isinstance(expr, c.Member) and expr.name in fields \
            or isinstance(expr, c.Id) and expr.name in copies

    for node in func.body.walk():
        if isinstance(node, c.Assign) and kept(node.right):
            copies.add(text(strip(node.left)))
        elif isinstance(node, c.Variable) and kept(node.init):
            copies.add(node.name)
    for call in func.calls():
        gone = releases(call)
        if gone:
            if gone[0] == kind and (gone[1] in copies or outside(gone[1])
                                    and field_name(gone[1]) in fields):
                return True
        elif depth:
            callee = driver.resolve(call.name, func) if call.name else None
            if callee is not None and callee.body is not None \
                    and callee is not func and releases_field(
                        driver, callee, kind, fields, depth - 1, frozenset(
                            p.name for p, arg in zip(callee.params, call.args)
                            if kept(arg))):
                return True
    return False

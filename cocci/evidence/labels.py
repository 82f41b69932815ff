# SPDX-License-Identifier: GPL-2.0-only
"""What else has to go when statements of a function go.

A `Cut` is told which statements disappear and works out the conditions and
loops that become empty with them, the labels that mark nothing any more and
where their gotos lead instead, the variables that nobody reads any more, and
whether the function itself is empty afterwards.
"""
from __future__ import annotations

from functools import cached_property
from typing import Iterator

from . import cparse as c
from .driver import text


class CannotCut(Exception):
    """A statement cannot be removed cleanly; node says where."""

    def __init__(self, reason: str, node: c.Node):
        super().__init__(reason)
        self.reason, self.node = reason, node


#: Functions without an effect that anybody would miss.
_PURE = frozenset(
    'platform_get_drvdata dev_get_drvdata pci_get_drvdata amba_get_drvdata '
    'spi_get_drvdata i2c_get_clientdata auxiliary_get_drvdata usb_get_intfdata '
    'netdev_priv container_of to_platform_device to_pci_dev dev_get_platdata '
    'PAGE_ALIGN ALIGN ARRAY_SIZE array_size array3_size size_mul size_add '
    'DIV_ROUND_UP round_up roundup roundup_pow_of_two min max min_t max_t '
    'struct_size get_order ilog2 BIT likely unlikely '
    'shost_priv dev_to_shost iio_priv spi_controller_get_devdata '
    'spi_master_get_devdata mmc_priv snd_soc_component_get_drvdata '
    'IS_ERR IS_ERR_OR_NULL IS_ENABLED'.split())


def pure(expr: c.Node | None, known: frozenset[str] = frozenset()) -> bool:
    """Can an expression be dropped without losing an effect?"""
    if expr is None:
        return True
    for node in expr.walk():
        if isinstance(node, (c.Assign, c.StmtExpr)):
            return False
        if isinstance(node, c.Unary) and node.op in ('++', '--', 'p++', 'p--'):
            return False
        if isinstance(node, c.Call) and node.name not in _PURE \
                and node.name not in known and not node.name.startswith('to_'):
            return False
    return True


class Cut:
    """The removal of statements from one function."""

    def __init__(self, func: c.Function, statements: list[c.Stmt],
                 pure_calls: frozenset[str] = frozenset(),
                 in_macros: frozenset[str] = frozenset()):
        self.func = func
        self.pure_calls = pure_calls
        self.in_macros = in_macros              # names that its macros mention
        self.removed: dict[int, c.Stmt] = {}
        self._by_label: set[int] = set()        # removed along with a label
        self._returns_value: set[int] = set()   # gotos that become return e
        for stmt in statements:
            self._remove(stmt)
        self.labels: dict[str, str] = {}        # label -> what replaces a goto
        self.last: set[str] = set()             # labels that take the return
        self.folded: list[c.Assign] = []        # `v = e; return v;`
        self.unbraced: list[tuple[c.If, str]] = []
        self.unused: list[str] = []
        if not self.empty:
            self._settle_labels()
            self._settle_returns()
            self._settle_variables()
            self._settle_braces()

    # -- statements

    @cached_property
    def _parent(self) -> dict[int, c.Node]:
        out = {}
        for node in self.func.body.walk():
            for child in node.children():
                out[id(child)] = node
        return out

    def _remove(self, stmt: c.Stmt) -> None:
        """Remove a statement, and what is empty without it."""
        self.removed[id(stmt)] = stmt
        parent = self._parent.get(id(stmt))
        inner: c.Stmt = stmt
        if isinstance(parent, c.Block):
            if isinstance(self._parent.get(id(parent)), c.Loop):
                for left in parent.body:
                    if self._only_continues(left):
                        self.removed.setdefault(id(left), left)
            if isinstance(self._parent.get(id(parent)), c.Switch) and all(
                    id(s) in self.removed or self._does_nothing(s)
                    for s in parent.body):
                raise CannotCut('nothing would be left of the switch', stmt)
            if parent is self.func.body or any(
                    id(s) not in self.removed for s in parent.body):
                return
            inner, parent = parent, self._parent.get(id(parent))
        if isinstance(parent, c.If):
            if parent.other is not None:
                raise CannotCut('it is one arm of an if/else', stmt)
            if not pure(parent.cond, self.pure_calls):
                raise CannotCut('it depends on a condition with an effect',
                                stmt)
            self._remove(parent)
        elif isinstance(parent, c.Loop) and parent.body is inner:
            if parent.kind == 'do':
                raise CannotCut('it is the body of a do loop', stmt)
            if parent.kind != 'macro' and not (
                    self._counts(parent.init) and self._counts(parent.step)
                    and self._condition(parent.cond)):
                raise CannotCut('it stands in a loop that has other effects',
                                stmt)
            self._remove(parent)
        else:
            raise CannotCut('nothing would be left of the block around it',
                            stmt)

    def _only_continues(self, stmt: c.Stmt) -> bool:
        """`if (!ring[i]) continue;` in a loop that is left with nothing else."""
        body = self._parent[id(stmt)].body
        return all(id(s) in self.removed or self._early(s, c.Jump)
                   for s in body) and self._early(stmt, c.Jump)

    def _early(self, stmt: c.Stmt, kind: type) -> bool:
        """A condition without effect, and nothing but a jump behind it."""
        if not isinstance(stmt, c.If) or stmt.other is not None \
                or not pure(stmt.cond, self.pure_calls):
            return False
        then = stmt.then
        if isinstance(then, c.Block) and len(then.body) == 1:
            then = then.body[0]
        return isinstance(then, kind) and getattr(then, 'value', None) is None

    @staticmethod
    def _does_nothing(stmt: c.Stmt) -> bool:
        return isinstance(stmt, (c.Case, c.Jump)) \
            or isinstance(stmt, c.ExprStmt) and text(stmt.expr) == 'fallthrough'

    def _counts(self, node: c.Node | None) -> bool:
        """A loop's init or step that only changes a local variable."""
        if isinstance(node, c.ExprStmt):
            node = node.expr
        if isinstance(node, c.Decl):
            return all(pure(v.init, self.pure_calls) for v in node.variables)
        if isinstance(node, c.Assign):
            return isinstance(node.left, c.Id) and pure(node.right,
                                                        self.pure_calls)
        if isinstance(node, c.Unary) and '+' in node.op or \
                isinstance(node, c.Unary) and '-' in node.op:
            return isinstance(node.arg, c.Id)
        return node is None

    def _condition(self, node: c.Expr | None) -> bool:
        """A loop condition that at most counts a local variable."""
        if node is None or pure(node, self.pure_calls):
            return node is not None
        parts = [n for n in node.walk() if isinstance(n, c.Unary)
                 and n.op in ('--', '++', 'p--', 'p++')]
        calls = [n for n in node.walk()
                 if isinstance(n, (c.Assign, c.StmtExpr))]
        return bool(parts) and not calls and all(
            isinstance(p.arg, c.Id) for p in parts) and all(
                n.name in _PURE for n in node.walk() if isinstance(n, c.Call))

    @property
    def outermost(self) -> list[c.Stmt]:
        """The removed statements that are not part of another."""
        return [s for s in self.removed.values() if not self._inside(s)
                and id(s) not in self._by_label]

    def _inside(self, node: c.Node) -> bool:
        parent = self._parent.get(id(node))
        while parent is not None:
            if id(parent) in self.removed:
                return True
            parent = self._parent.get(id(parent))
        return False

    @property
    def empty(self) -> bool:
        """Is nothing left that the function does?"""
        for stmt in self.func.body.body:
            if id(stmt) in self.removed:
                continue
            if isinstance(stmt, c.Decl):
                if all(pure(v.init, self.pure_calls) for v in stmt.variables):
                    continue
                return False
            if isinstance(stmt, c.Return) and (
                    stmt.value is None or isinstance(stmt.value, c.Literal)):
                continue
            if self._early(stmt, c.Return):
                continue
            return False
        return True

    # -- labels

    def _settle_labels(self) -> None:
        for node in self.func.body.walk():
            if isinstance(node, c.Block):
                self._labels_of(node)
        for node in self.func.body.walk():
            if isinstance(node, c.Label) and node.name in self.labels \
                    and node.name in self.in_macros:
                raise CannotCut('a macro jumps to label %s' % node.name, node)

    def _labels_of(self, block: c.Block) -> None:
        """Where gotos to the labels of a block lead now, the last label first.

        Only labels with a removed statement right behind them are changed.
        """
        body = block.body
        for at in range(len(body) - 1, -1, -1):
            label = body[at]
            if not isinstance(label, c.Label):
                continue
            rest = at + 1
            while rest < len(body) and (id(body[rest]) in self.removed
                                        or isinstance(body[rest], c.Label)):
                rest += 1
            skipped = body[at + 1:rest]
            if not any(id(s) in self.removed for s in skipped):
                continue
            if rest < len(body) and isinstance(body[rest], c.Decl):
                raise CannotCut('label %s would stand before a declaration'
                                % label.name, label)
            below = [s for s in skipped if isinstance(s, c.Label)]
            if below:
                last = below[-1].name
                self.labels[label.name] = self.labels.get(
                    last, 'goto %s;' % last)
            elif rest == len(body):
                if block is not self.func.body:
                    raise CannotCut('label %s would end a block' % label.name,
                                    label)
                self.labels[label.name] = 'return;'
            elif isinstance(body[rest], c.Return) \
                    and self._plain(body[rest].value):
                self._direct_return(label, body, at, body[rest])

    def _direct_return(self, label: c.Label, body: list[c.Stmt], at: int,
                       stmt: c.Return) -> None:
        """Replace gotos by the return that is all the label leads to."""
        self.labels[label.name] = 'return %s;' % text(stmt.value, True) \
            if stmt.value else 'return;'
        if self._never_falls(body, at):
            self.last.add(label.name)
            self.removed.setdefault(id(stmt), stmt)
            self._by_label.add(id(stmt))

    def _plain(self, value: c.Expr | None) -> bool:
        """A returned value that reads the same wherever the goto stands."""
        if value is None or isinstance(value, c.Literal):
            return True
        if isinstance(value, c.Unary) and value.op == '-':
            return isinstance(value.arg, (c.Id, c.Literal))
        if not isinstance(value, c.Id):
            return False
        return sum(isinstance(n, c.Variable) and n.name == value.name
                   for n in self.func.body.walk()) <= 1

    def _never_falls(self, body: list[c.Stmt], at: int) -> bool:
        """Does control never come to body[at] from the statements above?"""
        above = [s for s in body[:at] if id(s) not in self.removed]
        while above and isinstance(above[-1], c.Label):
            following = body[body.index(above[-1]) + 1]
            if id(following) not in self.removed \
                    and not isinstance(following, c.Label):
                return False
            above.pop()
        return bool(above) and isinstance(above[-1], (c.Goto, c.Return,
                                                      c.Jump))

    def _settle_returns(self) -> None:
        """Where `v = e; goto label;` becomes `return e;`."""
        for goto in self._gotos():
            to = self.labels.get(goto.name, '')
            above = self._above(goto)
            if not isinstance(above, c.ExprStmt) \
                    or not isinstance(above.expr, c.Assign):
                continue
            assign = above.expr
            if assign.op == '=' and isinstance(assign.left, c.Id) \
                    and to == 'return %s;' % assign.left.name:
                self.folded.append(assign)
                self.removed[id(above)] = above
                self._by_label.add(id(above))
                self._returns_value.add(id(goto))

    def _gotos(self) -> list[c.Goto]:
        return [n for n in self.func.body.walk() if isinstance(n, c.Goto)
                and id(n) not in self.removed and not self._inside(n)]

    def _above(self, stmt: c.Stmt) -> c.Stmt | None:
        parent = self._parent[id(stmt)]
        if not isinstance(parent, c.Block):
            return None
        at = parent.body.index(stmt)
        return parent.body[at - 1] if at else None

    # -- braces

    def _settle_braces(self) -> None:
        """Conditions with one statement left in their braces."""
        for node in self.func.body.walk():
            if isinstance(node, c.If) and id(node) not in self.removed \
                    and not node.other and isinstance(node.then, c.Block) \
                    and isinstance(self._parent[id(node)], c.Block):
                left = [s for s in node.then.body if id(s) not in self.removed]
                if len(left) == 1 and len(node.then.body) > 1 \
                        and isinstance(left[0], (c.ExprStmt, c.Goto, c.Return)) \
                        and left[0].first.line == left[0].last.line:
                    self.unbraced.append((node, self._said(left[0])))

    def _said(self, stmt: c.Stmt) -> str:
        """A statement as it reads in the end."""
        if isinstance(stmt, c.Goto):
            if id(stmt) in self._returns_value:
                above = self._above(stmt)
                return 'return %s;' % text(above.expr.right, True)
            return self.labels.get(stmt.name, 'goto %s;' % stmt.name)
        if isinstance(stmt, c.Return):
            return 'return %s;' % text(stmt.value, True) if stmt.value \
                else 'return;'
        return text(stmt.expr, True) + ';'

    # -- variables

    def _kept(self, node: c.Node) -> Iterator[c.Node]:
        """Everything below a node that stays."""
        for child in node.children():
            if id(child) not in self.removed:
                yield child
                yield from self._kept(child)
            elif isinstance(child, c.ExprStmt) and child.expr in self.folded:
                yield child.expr.right
                yield from child.expr.right.walk()

    def _settle_variables(self) -> None:
        """Find locals that only removed code read, until there are no more."""
        touched = {n.name for s in self.removed.values() for n in s.walk()
                   if isinstance(n, c.Id)}
        returned = {self.labels[g.name] for g in self._gotos()
                    if g.name in self.labels
                    and id(g) not in self._returns_value}
        mentioned = set(touched)
        touched -= {name for name in touched
                    if 'return %s;' % name in returned}
        while touched:
            found = [name for name in sorted(touched) if name not in self.unused
                     and self._is_unused(name)]
            if not found:
                break
            for name in found:
                touched |= self._drop(name)
        for name in sorted((mentioned | touched) - set(self.unused)):
            self._check_conditional(name)

    def _check_conditional(self, name: str) -> None:
        """Would a variable only be read where some `#if` is true?"""
        variables = [v for v in self._variables([name]) if not self._inside(v)]
        reads = [n for n in self._kept(self.func.body) if isinstance(n, c.Id)
                 and n.name == name and not self._only_sets(n)]
        reads += [g for g in self._gotos() if id(g) not in self._returns_value
                  and self.labels.get(g.name) == 'return %s;' % name]
        if len(variables) == 1 and reads and name not in self.in_macros \
                and not variables[0].attributes \
                and not self._conditional(variables[0]) \
                and all(self._conditional(n) for n in reads):
            raise CannotCut('variable %s would be unused where an #if is false'
                            % name, variables[0])

    def _conditional(self, node: c.Node) -> bool:
        parent = self._parent.get(id(node))
        while parent is not None and not isinstance(parent, c.Branches):
            parent = self._parent.get(id(parent))
        return parent is not None

    def _is_unused(self, name: str) -> bool:
        """A local that is still declared and set, but read nowhere."""
        variables = [v for v in self._variables([name])
                     if not self._inside(v)]
        if name in self.in_macros or not variables:
            return False
        if len(variables) > 1:
            self._check_scopes(variables)
            return False
        dead = {id(i) for v in self._variables(self.unused) if v.init
                for i in v.init.walk()}
        for node in self._kept(self.func.body):
            if isinstance(node, c.Id) and node.name == name \
                    and id(node) not in dead:
                if not self._only_sets(node):
                    return False
        return True

    def _check_scopes(self, variables: list[c.Variable]) -> None:
        """Of several variables of one name, is each still read?"""
        for var in variables:
            scope = self._parent.get(id(self._parent[id(var)]))
            if scope is None or not any(
                    isinstance(n, c.Id) and n.name == var.name
                    and not self._only_sets(n) for n in self._kept(scope)):
                raise CannotCut('variable %s would be unused, and there are '
                                'several of that name' % var.name, var)

    def _variables(self, names: list[str]) -> list[c.Variable]:
        return [n for n in self.func.body.walk()
                if isinstance(n, c.Variable) and n.name in names]

    def _only_sets(self, node: c.Id) -> bool:
        """Is this mention `name = value;` and nothing else?"""
        parent = self._parent.get(id(node))
        return (isinstance(parent, c.Assign) and parent.left is node
                and parent.op == '='
                and isinstance(self._parent.get(id(parent)), c.ExprStmt))

    def _drop(self, name: str) -> set[str]:
        """Remove a variable and what sets it; the names that it mentioned."""
        var = self._variables([name])[0]
        if any(a.startswith('__free') for a in var.attributes):
            raise CannotCut('variable %s would be unused' % name, var)
        if not pure(var.init, self.pure_calls):
            raise CannotCut('variable %s would be unused, but `%s` may have '
                            'an effect' % (name, text(var.init)), var)
        mentioned = {n.name for n in (var.init.walk() if var.init else ())
                     if isinstance(n, c.Id)}
        self.unused.append(name)
        for node in list(self._kept(self.func.body)):
            if isinstance(node, c.Id) and node.name == name \
                    and self._only_sets(node):
                assign = self._parent[id(node)]
                if not pure(assign.right, self.pure_calls):
                    raise CannotCut('variable %s would be set but not used'
                                    % name, node)
                mentioned |= {n.name for n in assign.right.walk()
                              if isinstance(n, c.Id)}
                self._remove(self._parent[id(assign)])
        return mentioned

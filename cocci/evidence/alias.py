# SPDX-License-Identifier: GPL-2.0-only
"""What a local variable is set to when a place in its function is reached.

`d = card->ring + i;` makes `d` another name for a place in the ring, for as
long as neither `d` nor anything in `card->ring + i` is set anew.
"""
from __future__ import annotations

from typing import Iterator, NamedTuple

from . import cparse as c
from .checks import graph, parents
from .driver import Driver, Object, strip, text
from .flow import Step
from .reach import Definitions

#: Macros of the kernel that set an argument, and operators that do so.
_SETS = frozenset('swap get_user __get_user'.split())
_ASSIGNING = frozenset('= += -= ++ -- |= &= ^= <<= >>= *='.split())
_CHANGES = ('++', '--', 'p++', 'p--')


class Setting(NamedTuple):
    """What a variable may hold at a place, and the steps since it was set.

    value is None where it is changed in another way than by `=`.
    """

    values: list[c.Expr | None]
    since: list[Step]


def assigned(driver: Driver, name: str,
             func: c.Function) -> list[c.Expr | None]:
    """All values that a local variable is set to; None for other changes."""
    return [value for value in _settings(driver, func.body, name)
            if value is not _BARE]


def declaration(name: str, func: c.Function) -> c.Decl | None:
    """The declaration of a local variable; None for a parameter."""
    return next((n for n in func.body.walk() if isinstance(n, c.Decl)
                 and any(v.name == name for v in n.variables)), None)


def reaching(driver: Driver, name: str, func: c.Function, node: c.Node,
             moves: bool = False) -> Setting | None:
    """What a variable may hold at a place; None when that is not known.

    moves: look through `p++` and the like, at what it moved away from.
    """
    def sets(step: Step) -> list[c.Expr | None]:
        return [value for value in _settings(driver, step.tree, name)
                if not moves or not _moves(value, name)]

    steps = graph(func)
    here = steps.step_of(node)
    if here is None or steps.incomplete or sets(here) \
            or any(isinstance(n, c.Unary) and n.op == '&'
                   and text(n.arg) == name for n in func.body.walk()):
        return None
    values: list[c.Expr | None] = []
    since, seen = [here], {id(here)}
    todo = [step for step, _ in here.before]
    while todo:
        step = todo.pop()
        if id(step) in seen:
            continue
        seen.add(id(step))
        if step is steps.entry:
            return None
        if isinstance(step.stmt, c.Loop) and step.stmt.kind == 'macro' \
                and step.tree is not None and _names(step.tree, name):
            return None                    # the cursor of a list
        found = sets(step)
        if len(found) > 1:
            return None                    # in which order?
        if found:
            values += [value for value in found if value is not _BARE]
            continue
        since.append(step)
        todo += [before for before, _ in step.before]
    return Setting(values, since)


def is_pure(value: c.Expr) -> bool:
    """Would the expression give the same once more, if nothing changes?"""
    return not any(isinstance(n, (c.Call, c.Assign, c.StmtExpr))
                   or isinstance(n, c.Unary) and n.op in _CHANGES
                   for n in value.walk())


def changes(driver: Driver, definitions: Definitions, value: c.Expr,
            func: c.Function, since: list[Step], at: c.Node) -> bool:
    """May anything that a value is made of be set anew in these steps?

    at is where it is used: what encloses that comes after it.
    """
    for node in value.walk():
        if not isinstance(node, (c.Id, c.Member)):
            continue
        found = driver.object_of(node, func)
        if found is None:
            continue
        if found.kind == 'local':
            if any(True for step in since
                   for _ in _settings(driver, step.tree, found.name)):
                return True
        elif _set_in(driver, definitions, found, func, since, at):
            return True
    return False


def used_besides(name: str, func: c.Function, calls: set[int]) -> bool:
    """Is a local variable used elsewhere than in these calls (ids)?"""
    above = parents(func)
    for node in func.body.walk():
        if not isinstance(node, c.Id) or node.name != name:
            continue
        chain = list(above.chain(node))
        if isinstance(chain[0], c.Assign) and chain[0].left is node:
            continue
        if not any(id(up) in calls for up in chain):
            return True
    return False


_BARE = c.Expr(c.Token('op', '', 0, 0, 0, 0), c.Token('op', '', 0, 0, 0, 0))


def _settings(driver: Driver, tree: c.Node | None,
              name: str) -> Iterator[c.Expr | None]:
    """Each setting of a variable in a piece of code; _BARE: declared only."""
    for node in tree.walk() if tree is not None else ():
        if isinstance(node, c.Variable) and node.name == name:
            yield node.init if node.init is not None else _BARE
        elif isinstance(node, c.Assign) and text(node.left) == name:
            yield node.right if node.op == '=' else None
        elif isinstance(node, c.Unary) and text(node.arg) == name \
                and node.op in ('&', *_CHANGES):
            yield None
        elif isinstance(node, c.Call) and any(
                isinstance(a, c.Id) and a.name == name for a in node.args) \
                and (node.name in _SETS or sets_argument(driver, node)):
            yield node                     # to what nobody knows


def sets_argument(driver: Driver, call: c.Call) -> bool:
    """Is it a macro of the driver that sets what it is given?"""
    macro = driver.macro(call.name) if call.name else None
    return macro is not None and any(
        tok.text in _ASSIGNING for tok in c.tokenize(macro.body))


def _moves(value: c.Expr | None, name: str) -> bool:
    """Is this no new value, but `p++`, `p += n` or `p = p + n`?"""
    value = strip(value)
    return value is None or isinstance(value, c.Binary) \
        and value.op in ('+', '-') and text(strip(value.left)) == name


def _names(tree: c.Node, name: str) -> bool:
    return any(isinstance(n, c.Id) and n.name == name for n in tree.walk())


def _set_in(driver: Driver, definitions: Definitions, found: Object,
            func: c.Function, since: list[Step], at: c.Node) -> bool:
    places = definitions.of(found)
    setters = {id(p.function) for _, p in places if p.function is not None}
    for step in since:
        if step.tree is None:
            continue
        nodes = {id(n) for n in step.tree.walk() if not _encloses(n, at)}
        if any(id(p.node) in nodes for _, p in places):
            return True
        if setters and any(id(call) in nodes and _comes_to(
                driver, call, func, setters) for call in step.calls()):
            return True
    return False


def _encloses(node: c.Node, at: c.Node) -> bool:
    return node.first.start <= at.first.start and at.last.end <= node.last.end


def _comes_to(driver: Driver, call: c.Call, func: c.Function,
              wanted: set[int]) -> bool:
    """Does a call lead to one of these functions of the driver?"""
    todo, seen = [(call, func)], set()
    while todo:
        here, caller = todo.pop()
        callee = driver.resolve(here.name, caller) if here.name else None
        if callee is None or id(callee) in seen:
            continue
        if id(callee) in wanted or callee.body is None:
            return True
        seen.add(id(callee))
        todo += [(inner, callee) for inner in callee.calls()]
    return False

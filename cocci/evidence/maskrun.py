# SPDX-License-Identifier: GPL-2.0-only
"""What a piece of a function does, in every world that its masks may meet.

The statements are run with symbols for values.  Wherever something is not
known (does the platform take this mask? is this condition true?) the run is
done for both answers, so that two pieces of code that give the same outcome
in all worlds do the same.  What the kernel promises limits the worlds:

- dma_set_mask() and dma_set_coherent_mask() take the same masks, and -EIO is
  their only failure; dma_set_mask() also fails for a device without dma_mask.
- A platform that takes a mask takes every wider one.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Callable, Iterator

from . import cparse as c
from . import maskcall
from .dmamask import bits
from .driver import Driver, strip, text
from .labels import pure
from .resources import is_log

FAILED = '-EIO'
_PATHS = 400            # worlds that are looked at before giving up
_STEPS = 4000           # expressions in one of them
_HINTS = ('likely', 'unlikely')

Known = dict[tuple[str, ...], bool]


class Unsure(Exception):
    """This code cannot be followed; node says where."""

    def __init__(self, reason: str, node: c.Node | None = None):
        super().__init__(reason)
        self.reason, self.node = reason, node


class _Question(Exception):
    """Something that this world has no answer for yet."""

    def __init__(self, key: tuple[str, ...]):
        super().__init__(key)
        self.key = key


class _Leave(Exception):
    def __init__(self, how: tuple[str, ...]):
        super().__init__(how)
        self.how = how


@dataclass
class Outcome:
    """How a run ended.

    leave is ('end',), ('return', value), ('goto', label), ('break',) or
    ('continue',).  events are the effects in their order, masks what is set
    at the end, told whether any message was printed.
    """

    leave: tuple[str, ...]
    events: list[tuple] = field(default_factory=list)
    masks: dict[tuple[str, str], str] = field(default_factory=dict)
    store: dict[str, str] = field(default_factory=dict)
    told: bool = False
    failed: bool = False        # did a mask fail to be set?


@dataclass
class Seen:
    """What was seen of each place in all worlds, by id of the node."""

    values: dict[int, set[str]] = field(default_factory=dict)
    effects: set[int] = field(default_factory=set)      # calls that set masks
    changes: set[int] = field(default_factory=set)      # assignments that do
    reached: set[int] = field(default_factory=set)
    apart: set[int] = field(default_factory=set)    # another mask was set, too

    def add(self, other: 'Seen') -> None:
        for key, found in other.values.items():
            self.values.setdefault(key, set()).update(found)
        self.effects |= other.effects
        self.changes |= other.changes
        self.reached |= other.reached
        self.apart |= other.apart


class Machine:
    """Runs statements of one function."""

    def __init__(self, driver: Driver, func: c.Function,
                 start: dict[str, str] | None = None, ordered: bool = True,
                 trusting: bool = False):
        """start: values of local variables that are known beforehand.
        ordered: does whoever takes a mask take every wider one?
        trusting: has every device a dma_mask?"""
        self.driver, self.func, self.ordered = driver, func, ordered
        self.trusting = trusting
        self._start = dict(start or {})
        self._stand_ins: dict[int, tuple[c.Call, c.Call]] = {}
        self._local = {
            name for name in func.locals if not any(
                isinstance(node, c.Unary) and node.op == '&'
                and isinstance(strip(node.arg), c.Id)
                and strip(node.arg).name == name for node in func.nodes)
            and not (func.locals[name].static or func.locals[name].type.dims)}

    def worlds(self, stmts: list[c.Stmt], given: Known | None = None
               ) -> Iterator[tuple[Known, Outcome, Seen]]:
        """Every world that agrees with `given`; Unsure for too many."""
        todo: list[Known] = [dict(given or {})]
        done = 0
        while todo:
            known = todo.pop()
            run = _Run(self, known)
            try:
                outcome = run.all(stmts)
            except _Question as question:
                for answer in (False, True):
                    todo.append({**known, question.key: answer})
                continue
            done += 1
            if done > _PATHS:
                raise Unsure('too many ways lead through this code')
            yield known, outcome, run.seen

    def stands_for(self, new: c.Call, old: c.Call) -> None:
        """A call of a proposal is for the device that `old` is for."""
        self._stand_ins[id(new)] = new, old

    def in_driver(self, call: c.Call) -> c.Call:
        """The call of the driver that one stands for."""
        return self._stand_ins.get(id(call), (call, call))[1]

    def start(self) -> dict[str, str]:
        return dict(self._start)

    def is_local(self, name: str) -> bool:
        return name in self._local


class _Run:
    """One run, in one world."""

    def __init__(self, machine: Machine, known: Known):
        self.machine, self.known = machine, known
        self.seen = Seen()
        self.out = Outcome(('end',), store=machine.start())
        self._steps = 0

    def all(self, stmts: list[c.Stmt]) -> Outcome:
        try:
            for stmt in stmts:
                self._stmt(stmt)
        except _Leave as leave:
            self.out.leave = leave.how
        return self.out

    # -- statements

    def _stmt(self, stmt: c.Stmt) -> None:
        self.seen.reached.add(id(stmt))
        if isinstance(stmt, c.Block):
            for inner in stmt.body:
                self._stmt(inner)
        elif isinstance(stmt, c.ExprStmt):
            self._value(stmt.expr)
        elif isinstance(stmt, c.If):
            if self._truth(stmt.cond):
                self._stmt(stmt.then)
            elif stmt.other is not None:
                self._stmt(stmt.other)
        elif isinstance(stmt, c.Decl):
            for var in stmt.variables:
                if var.init is not None:
                    self.out.store[var.name] = self._value(var.init)
                    self.seen.changes.add(id(var))
        elif isinstance(stmt, c.Return):
            raise _Leave(('return', '' if stmt.value is None
                          else self._value(stmt.value)))
        elif isinstance(stmt, c.Goto):
            raise _Leave(('goto', stmt.name))
        elif isinstance(stmt, c.Jump):
            raise _Leave((stmt.kind,))
        elif isinstance(stmt, c.Label):
            raise Unsure('label %s stands in between' % stmt.name, stmt)
        elif isinstance(stmt, c.Branches):
            raise Unsure('an #if stands in between', stmt)
        elif isinstance(stmt, c.Opaque) and stmt.first.text == ';':
            pass
        else:
            self._unknown(stmt)

    def _unknown(self, stmt: c.Stmt) -> None:
        """A loop, switch or the like without masks and without a way out."""
        for node in stmt.walk():
            if isinstance(node, (c.Goto, c.Return, c.Label)) \
                    or maskcall.setter(node):
                raise Unsure('what stands at line %d is too complex'
                             % stmt.first.line, stmt)
            target = None
            if isinstance(node, c.Assign):
                target = strip(node.left)
            elif isinstance(node, c.Unary) and node.op in (
                    '++', '--', 'p++', 'p--'):
                target = strip(node.arg)
            if isinstance(target, c.Id):
                self.out.store[target.name] = '%s@%d' % (
                    target.name, len(self.out.events))
        self._event('code', 'line %d' % stmt.first.line)

    def _event(self, *what: object) -> None:
        self.out.events.append((*what, tuple(sorted(self.out.masks.items()))))

    # -- expressions

    def _truth(self, expr: c.Expr) -> bool:
        return self._true(self._value(expr))

    def _true(self, value: str) -> bool:
        if re.fullmatch(r'(0[xX])?0+[uUlL]*|false|NULL', value):
            return False
        if re.fullmatch(r'-?\d\w*|-E\w+|true', value):
            return True
        return self._ask(('true', value))

    def _ask(self, key: tuple[str, ...]) -> bool:
        if key not in self.known:
            raise _Question(key)
        return self.known[key]

    def _value(self, expr: c.Expr) -> str:
        self._steps += 1
        if self._steps > _STEPS:
            raise Unsure('this code is too long to follow', expr)
        value = self._raw(expr)
        self.seen.values.setdefault(id(expr), set()).add(value)
        return value

    def _raw(self, expr: c.Expr) -> str:
        if isinstance(expr, c.Paren):
            return self._value(expr.inner)
        if isinstance(expr, c.Cast):
            return self._value(expr.arg)
        if isinstance(expr, c.Literal):
            return expr.text
        if isinstance(expr, c.Id):
            return self._name(expr.name)
        if isinstance(expr, (c.Sizeof, c.TypeArg)):
            return text(expr)
        if isinstance(expr, c.Member):
            return '%s%s%s@%d' % (
                self._value(expr.base), '->' if expr.arrow else '.',
                expr.name, len(self.out.events))
        if isinstance(expr, c.Index):
            base = self._value(expr.base)
            return '%s[%s]@%d' % (base, self._value(expr.index),
                                  len(self.out.events))
        if isinstance(expr, c.Unary):
            return self._unary(expr)
        if isinstance(expr, c.Binary):
            return self._binary(expr)
        if isinstance(expr, c.Assign):
            return self._assign(expr)
        if isinstance(expr, c.Ternary) and expr.then is not None:
            return self._value(expr.then if self._truth(expr.cond)
                               else expr.other)
        if isinstance(expr, c.Call):
            return self._call(expr)
        raise Unsure('`%s` cannot be followed' % text(expr), expr)

    def _name(self, name: str) -> str:
        if name in self.out.store:
            return self.out.store[name]
        if name in self.machine.func.locals:
            if self.machine.is_local(name):
                return name
            return '%s@%d' % (name, len(self.out.events))
        if name.isupper() or name in ('true', 'false', 'NULL'):
            return name
        return '%s@%d' % (name, len(self.out.events))

    def _unary(self, expr: c.Unary) -> str:
        if expr.op == '!':
            return '0' if self._truth(expr.arg) else '1'
        if expr.op in ('++', '--', 'p++', 'p--'):
            old = self._value(expr.arg)
            new = '(%s %s 1)' % (old, expr.op[-1])
            self._set(expr, expr.arg, new)
            return new if not expr.op.startswith('p') else old
        if expr.op == '&':
            return '&' + text(expr.arg)
        value = self._value(expr.arg)
        if expr.op == '*':
            return '*%s@%d' % (value, len(self.out.events))
        if expr.op == '-' and value.startswith('-'):
            return value[1:]
        return expr.op + value

    def _binary(self, expr: c.Binary) -> str:
        if expr.op == '&&':
            return '1' if self._truth(expr.left) \
                and self._truth(expr.right) else '0'
        if expr.op == '||':
            return '1' if self._truth(expr.left) \
                or self._truth(expr.right) else '0'
        left, right = self._value(expr.left), self._value(expr.right)
        if expr.op == ',':
            return right
        if right in ('0', 'NULL') and expr.op in ('==', '!=', '<', '>='):
            if expr.op in ('==', '!='):
                found = self._true(left) == (expr.op == '!=')
            else:
                found = self._negative(left) == (expr.op == '<')
            return '1' if found else '0'
        if expr.op == '|' and '0' in (left, right):
            return left if right == '0' else right
        if expr.op == '|' and left == right:
            return left
        return '(%s %s %s)' % (left, expr.op, right)

    def _negative(self, value: str) -> bool:
        if not self._true(value):
            return False
        if re.fullmatch(r'-.*', value):
            return True
        if re.fullmatch(r'\d.*', value):
            return False
        return self._ask(('negative', value))

    def _assign(self, expr: c.Assign) -> str:
        if expr.op == '=':
            value = self._value(expr.right)
        else:
            old, new = self._value(expr.left), self._value(expr.right)
            op = expr.op[:-1]
            if op == '|' and '0' in (old, new):
                value = old if new == '0' else new
            elif op == '|' and old == new:
                value = old
            else:
                value = '(%s %s %s)' % (old, op, new)
        self._set(expr, expr.left, value)
        return value

    def _set(self, at: c.Expr, target: c.Expr, value: str) -> None:
        target = strip(target)
        if isinstance(target, c.Id) and self.machine.is_local(target.name):
            if self._name(target.name) != value:
                self.seen.changes.add(id(at))
            self.out.store[target.name] = value
            return
        self.seen.changes.add(id(at))
        # Nothing that a plain store does depends on the masks.
        self.out.events.append(('store', text(target), value))

    # -- calls

    def _call(self, call: c.Call) -> str:
        if maskcall.setter(call):
            return self._set_mask(call)
        if call.name in _HINTS and len(call.args) == 1:
            return '1' if self._truth(call.args[0]) else '0'
        if call.name == 'DMA_BIT_MASK' and len(call.args) == 1:
            return 'DMA_BIT_MASK(%s)' % self._value(call.args[0])
        values = [self._value(arg) for arg in call.args]
        if is_log(call.name) and not call.name.startswith('BUG'):
            self.out.told = True
            return '0'
        said = '%s(%s)' % (text(call.func), ', '.join(values))
        if pure(call):
            return '%s@%d' % (said, len(self.out.events))
        self._event('call', said)
        return '%s@%d' % (said, len(self.out.events))

    def _set_mask(self, call: c.Call) -> str:
        driver, func = self.machine.driver, self.machine.func
        given = self.machine.in_driver(call)
        found = maskcall.device(driver, func, given)
        name = maskcall.same_device(driver, func, given)
        if found.loads:
            fields = re.findall(r'\w+', name)
            name += '@%d' % sum(
                event[0] != 'store' or re.findall(r'\w+', event[1])[-1:]
                in [[field] for field in fields] for event in self.out.events)
        for node in given.args[0].walk():
            if isinstance(node, c.Id) and node.name in self.out.store:
                name += '=' + self.out.store[node.name]
        if any(isinstance(n, (c.Assign, c.Ternary)) or isinstance(n, c.Unary)
               and n.op not in ('&', '*') for n in given.args[0].walk()):
            raise Unsure('the device of %s() is not plain' % call.name, call)
        mask = self._value(call.args[1])
        takes = self._taken(name, mask)
        kinds = maskcall.setter(call)
        value = FAILED
        if 's' in kinds:
            if takes and (found.has_mask or self.machine.trusting
                          or self._ask(('pointer', name))):
                value = '0'
                self._put(call, name, 's', mask)
                if 'c' in kinds:
                    self._put(call, name, 'c', mask)
        elif takes:
            value = '0'
            self._put(call, name, 'c', mask)
        if value == FAILED:
            self.out.failed = True
        return value

    def _put(self, call: c.Call, dev: str, kind: str, mask: str) -> None:
        if self.out.masks.get((dev, kind)) != mask:
            self.seen.effects.add(id(call))
        self.out.masks[dev, kind] = mask
        if self.out.masks.get((dev, 's'), mask) != mask:
            self.seen.apart.add(id(call))

    def _taken(self, dev: str, mask: str) -> bool:
        """Does the platform take this mask?"""
        key = 'takes', dev, mask
        if key in self.known:
            return self.known[key]
        width = bits(self.machine.driver, mask)
        for other, answer in self.known.items():
            if width is None or other[:2] != key[:2] \
                    or not self.machine.ordered:
                continue
            known = bits(self.machine.driver, other[2])
            if known is not None and (
                    answer and known <= width or not answer and known >= width):
                return answer
        raise _Question(key)


def _between(want: list[tuple], got: list[tuple]) -> str:
    """Where the effects of two runs part."""
    for one, two in zip(want, got):
        if one != two:
            return '`%s` stands in between' % one[1]
    return 'an effect would be lost or added'


def agree(machine: Machine, old: list[c.Stmt], new: list[c.Stmt],
          live: Callable[[tuple[str, ...], str], bool]) -> str:
    """Why two pieces of code do not do the same; '' if they do.

    live(leave, name): may a local variable be read once the code was left so?
    Messages need not be the same, but where the old code says something the
    new code must.
    """
    for known, want, _ in machine.worlds(old):
        for _, got, _ in machine.worlds(new, known):
            if want.leave != got.leave:
                return 'it would be left in another way'
            if want.events != got.events:
                return _between(want.events, got.events)
            if want.masks != got.masks:
                return 'another mask would be set'
            if want.told and not got.told and got.leave != ('end',):
                return 'a failure would not be reported'
            for name in {*want.store, *got.store}:
                if want.store.get(name, name) != got.store.get(name, name) \
                        and live(want.leave, name):
                    return '`%s` would have another value' % name
    return ''

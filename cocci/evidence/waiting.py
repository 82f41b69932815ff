# SPDX-License-Identifier: GPL-2.0-only
"""Does a function wait for the transfer that it starts?

What matters is the order: a function that waits for the transfer before and
then starts this one waits as well, but not for this one.  So whatever may
start a transfer must be followed by a wait on every path, and every call that
is not known to be harmless may start one.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator

from . import cparse as c
from .checks import ends_in_jump, graph, parents
from .driver import Driver, strip
from .flow import Step
from .resources import PAIRS, PURE, is_log, releases
from .sink import is_register

_WAITS = frozenset('''
    wait_for_completion wait_for_completion_timeout wait_event
    wait_for_completion_interruptible_timeout wait_event_timeout
    wait_for_completion_killable_timeout wait_event_interruptible_timeout
    readl_poll_timeout readl_poll_timeout_atomic read_poll_timeout
    ioread32_poll_timeout regmap_read_poll_timeout'''.split())
#: What writes to a device, besides the functions for a single register.
_WRITES = re.compile(r'^(regmap_(?!read)\w+|mem(cpy_to|set_)io|writes[bwlq]|'
                     r'(io)?write\w+_rep|outs[bwl]|(?!WRITE_ONCE$)[A-Z0-9_]*'
                     r'(WRITE|OUT|SET|CMD)[A-Z0-9_]*)$')
#: What reads a register of a device.
_READS = re.compile(r'^((__)?(raw_)?read[bwlq](_relaxed|_be)?|ioread\d+(be)?|'
                    r'in[bwl](_p)?|in_[bl]e\d+|sbus_read[bwlq])$')
#: What lets time pass, perhaps for the device.
_TIME = re.compile(r'^(_*[mun]delay|[mu]?sleep\w*|usleep_range\w*|fsleep|'
                   r'ssleep|schedule(_timeout\w*)?|io_schedule\w*|'
                   r'cond_resched|cpu_relax|\w*wait_(event|for|on)\w*)$')
_LOCKS = [pair for pair in PAIRS if pair.kind == 'lock']
#: Functions of the driver are looked into so deep, one called by the other.
_DEPTH = 4


@dataclass
class Waiting:
    """What a function does about waiting.

    starts: it may start a transfer.  waits: there is a wait in it, on some
    path.  always: on every path there is one.  unanswered: the call that may
    start a transfer and is not followed by a wait on every path; late: it is
    followed by one on some path.
    """

    starts: bool = False
    waits: bool = False
    always: bool = False
    unanswered: c.Node | None = None
    late: bool = False


def waiting(driver: Driver, func: c.Function, index: int) -> Waiting:
    """How a function waits that gets an address as argument `index`."""
    return _of(driver, func, frozenset((index,)), frozenset())


def may_wait(driver: Driver, func: c.Function, step: Step) -> bool:
    """Is there a wait in a step of a function, or in what it calls?"""
    return _polls(func, step) or any(
        _called(driver, func, call, frozenset(), frozenset((func.name,))).waits
        for call in step.calls())


def always_waits(driver: Driver, func: c.Function, call: c.Call) -> bool:
    """Does a call wait on every path, and start nothing behind that?"""
    how = _called(driver, func, call, frozenset(), frozenset((func.name,)))
    return how.always and how.unanswered is None


def takes_time(driver: Driver, func: c.Function, step: Step) -> bool:
    """Does a step let time pass, itself or in a function that it calls?"""
    for call in step.calls():
        callee = driver.resolve(call.name, func) if call.name else None
        if _TIME.match(call.name) or callee is not None and any(
                map(_TIME.match, callee.words)):
            return True
    return False


def _polls(func: c.Function, step: Step) -> bool:
    """Is a step the question to the device that keeps a loop going?"""
    if step.kind != 'cond' or not any(_READS.match(call.name)
                                      for call in step.calls()):
        return False
    loop = next((x for x in parents(func).chain(step.tree)
                 if isinstance(x, c.Loop)), None)
    if loop is None or any(
            is_register(x.name) or _WRITES.match(x.name)
            for x in loop.walk() if isinstance(x, c.Call)):
        return False            # it moves data, or starts anew
    return isinstance(step.stmt, c.Loop) or ends_in_jump(step.stmt.then)


def _of(driver: Driver, func: c.Function, indexes: frozenset[int],
        seen: frozenset[str]) -> Waiting:
    if func.body is None or func.split or func.name in seen \
            or len(seen) > _DEPTH or graph(func).incomplete:
        return Waiting(True, bool(func.words & _WAITS), False, func)
    return _Function(driver, func, indexes, seen | {func.name}).waiting()


def _called(driver: Driver, func: c.Function, call: c.Call,
            indexes: frozenset[int], seen: frozenset[str]) -> Waiting:
    """What a call does about waiting; one that is not known may start."""
    if call.name in _WAITS:
        return Waiting(False, True, True)
    callee = driver.resolve(call.name, func) if call.name else None
    if callee is not None:
        return _of(driver, callee, indexes, seen)
    macro = driver.macro(call.name) if call.name else None
    if macro is not None:
        tokens = c.tokenize(macro.body)
        starts = not all(
            _harmless(tok.text) for tok, after in zip(tokens, tokens[1:])
            if tok.kind == 'id' and after.text == '(')
    else:
        starts = releases(call) is None and not _harmless(call.name)
    return Waiting(starts, unanswered=call if starts else None)


def _harmless(name: str) -> bool:
    """Is it known that a function of the kernel starts no transfer?"""
    if is_register(name) or _WRITES.match(name):
        return False
    return bool(is_log(name) or PURE.match(name)
                or any(pair.acquire.match(name) for pair in _LOCKS))


class _Function:
    """The answer for one function of the driver."""

    def __init__(self, driver: Driver, func: c.Function,
                 indexes: frozenset[int], seen: frozenset[str]):
        self.driver, self.func, self.seen = driver, func, seen
        self.graph, self.up = graph(func), parents(func)
        #: locals and fields that hold the address
        self.names = {p.name for i, p in enumerate(func.params)
                      if i in indexes}
        #: structs of the device in whose fields it stands
        self.structs: set[str | None] = set()
        while self._spread():
            pass

    def waiting(self) -> Waiting:
        found = Waiting()
        answers: set[int] = set()
        starts: list[tuple[Step, c.Node]] = []
        waits: set[int] = set()
        for step in self.graph.reachable([self.graph.entry]):
            calls = [(call, self._call(call)) for call in step.calls()]
            start = next(iter(self._stores(step)), None) or next(
                (call for call, how in calls if how.unanswered), None)
            found.starts |= start is not None or any(
                how.starts for _, how in calls)
            polls = _polls(self.func, step)
            if polls or any(how.waits for _, how in calls):
                waits.add(id(step))
            if start is not None:
                starts.append((step, start))
            elif polls or any(how.always and self._certain(call)
                     for call, how in calls):
                answers.add(id(step))
        found.waits = bool(waits)
        found.always = not self._leaves([self.graph.entry], answers)
        for step, start in starts:
            behind = [s for s, _ in step.next]
            if self._leaves(behind, answers):
                found.unanswered = start
                found.late = any(id(s) in waits
                                 for s in self.graph.reachable(behind))
                break
        return found

    def _leaves(self, starts: list[Step], answers: set[int]) -> bool:
        """Does a path lead to the end of the function without a wait?"""
        return self.graph.exit in self.graph.reachable(
            starts, lambda step: id(step) in answers)

    def _call(self, call: c.Call) -> Waiting:
        return _called(self.driver, self.func, call, frozenset(
            i for i, arg in enumerate(call.args) if self._holds(arg)),
            self.seen)

    def _certain(self, call: c.Call) -> bool:
        """Is a call made whenever its statement or condition is reached?"""
        below: c.Node = call
        for above in self.up.chain(call):
            if isinstance(above, c.Binary) and above.op in ('&&', '||') \
                    and above.left is not below \
                    or isinstance(above, c.Ternary) \
                    and above.cond is not below \
                    or isinstance(above, (c.Branches, c.Sizeof)):
                return False
            below = above
        return True

    # -- where the address is

    def _holds(self, expr: c.Node) -> bool:
        return any(isinstance(x, (c.Id, c.Member)) and x.name in self.names
                   for x in expr.walk())

    def _spread(self) -> bool:
        """Note what is set to the address; True if that is new."""
        before = len(self.names)
        for node in self.func.body.walk():
            if isinstance(node, c.Variable) and node.init is not None \
                    and self._holds(node.init):
                self.names.add(node.name)
            elif isinstance(node, c.Assign) and self._holds(node.right):
                target = strip(node.left)
                while isinstance(target, c.Index):
                    target = strip(target.base)
                if isinstance(target, (c.Id, c.Member)):
                    self.names.add(target.name)
                kind = self.driver.type_of(node.left, self.func)
                owner = self.driver.object_of(node.left, self.func)
                if owner is not None and owner.kind == 'field' and kind \
                        and re.match(r'__[bl]e\d', kind.base):
                    self.structs.add(owner.owner)
        return len(self.names) > before

    def _stores(self, step: Step) -> Iterator[c.Node]:
        """Where a step stores the address, or writes to the descriptor."""
        for node in step.tree.walk() if step.tree else ():
            if not isinstance(node, c.Assign):
                continue
            target = strip(node.left)
            local = isinstance(target, c.Id) and target.name in \
                self.func.locals and not self.func.locals[target.name].static
            owner = self.driver.object_of(target, self.func)
            if self._holds(node.right) and not local or owner is not None \
                    and owner.kind == 'field' and owner.owner in self.structs:
                yield node

# SPDX-License-Identifier: GPL-2.0-only
"""Control flow of one function: statements as nodes, gotos resolved.

A condition is one node; its edges carry True or False.  Edges of a switch
carry the Case statement (None: no case fits), those of `#if` the Block of the branch.
Other edges carry None.
"""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable

from . import cparse as c


@dataclass(eq=False)
class Step:
    """One node of the graph.

    kind: entry, exit, stmt, cond (if and loops), switch, label, return.
    tree: what is evaluated there: a statement, or the condition expression.
    stmt: the statement that it belongs to (If, Loop, ... for a cond).
    """

    kind: str
    tree: c.Node | None
    stmt: c.Stmt | None
    next: list[tuple['Step', Any]] = field(default_factory=list)
    before: list[tuple['Step', Any]] = field(default_factory=list)
    _calls: list[c.Call] | None = None

    @property
    def line(self) -> int:
        return self.tree.first.line if self.tree else 0

    def calls(self) -> list[c.Call]:
        if self._calls is None:
            self._calls = [node for node in self.tree.walk() if isinstance(
                node, c.Call)] if self.tree else []
        return self._calls

    def __repr__(self) -> str:
        return '<%s line %d>' % (self.kind, self.line)


class Graph:
    """The control flow graph of a parsed function.

    Unknown goto targets (computed gotos, labels in other branches) go to the
    exit and set `incomplete`.
    """

    def __init__(self, func: c.Function):
        if func.body is None:
            raise ValueError('%s could not be parsed: %s'
                             % (func.name, func.error))
        self.func = func
        self.entry = Step('entry', None, None)
        self.exit = Step('exit', None, None)
        self.steps: list[Step] = [self.entry]
        self.labels: dict[str, Step] = {}
        self.incomplete = False
        self._of: dict[int, Step] = {}
        self._gotos: list[tuple[Step, str]] = []
        self._breaks: list[list[tuple[Step, Any]]] = []
        self._continues: list[list[tuple[Step, Any]]] = []
        self._cases: list[list[tuple[Step, c.Case]]] = []
        ends = self._stmt(func.body, [(self.entry, None)])
        self._link(ends, self.exit)
        for step, name in self._gotos:
            target = self.labels.get(name)
            if target is None:
                self.incomplete = True
                target = self.exit
            self._link([(step, None)], target)
        self.steps.append(self.exit)

    # -- questions

    def step_of(self, node: c.Node) -> Step | None:
        """The step that evaluates an expression or statement."""
        if id(node) in self._of:
            return self._of[id(node)]
        for step in self.steps:
            if step.tree and step.tree.first.start <= node.first.start \
                    and node.last.end <= step.tree.last.end:
                return step
        return None

    def reachable(self, starts: Iterable[Step],
                  stop: Callable[[Step], bool] = lambda step: False,
                  backwards: bool = False) -> list[Step]:
        """Steps reached from `starts` (these included); a step for which
        stop() holds is listed but not left."""
        seen: dict[int, Step] = {}
        todo = deque(starts)
        while todo:
            step = todo.popleft()
            if id(step) in seen:
                continue
            seen[id(step)] = step
            if stop(step):
                continue
            todo.extend(s for s, _ in (step.before if backwards else step.next))
        return list(seen.values())

    def dominators(self) -> dict[int, set[int]]:
        """id(step) -> ids of the steps on every path from entry to it."""
        order = self.reachable([self.entry])
        every = {id(s) for s in order}
        dom = {id(s): set(every) for s in order}
        dom[id(self.entry)] = {id(self.entry)}
        changed = True
        while changed:
            changed = False
            for step in order:
                if step is self.entry:
                    continue
                preds = [dom[id(p)] for p, _ in step.before if id(p) in dom]
                new = set.intersection(*preds) if preds else set()
                new = new | {id(step)}
                if new != dom[id(step)]:
                    dom[id(step)] = new
                    changed = True
        return dom

    def solve(self, start: Any, transfer: Callable[[Step, Any], Any],
              join: Callable[[Any, Any], Any],
              edge: Callable[[Step, Any, Any], Any] | None = None,
              limit: int = 50) -> dict[int, Any]:
        """Forward data flow: id(step) -> the state on entry to that step.

        transfer(step, state) gives the state after it, edge(step, label,
        state) refines it for one outgoing edge (None: the edge is not taken),
        join merges.  States must be comparable; `limit` bounds the visits of
        one step, so that a join that does not settle still ends.
        """
        states: dict[int, Any] = {id(self.entry): start}
        visits: dict[int, int] = {}
        todo = deque([self.entry])
        while todo:
            step = todo.popleft()
            visits[id(step)] = visits.get(id(step), 0) + 1
            if visits[id(step)] > limit:
                continue
            out = transfer(step, states[id(step)])
            for succ, label in step.next:
                new = edge(step, label, out) if edge else out
                if new is None:
                    continue
                if id(succ) in states:
                    new = join(states[id(succ)], new)
                    if new == states[id(succ)]:
                        continue
                states[id(succ)] = new
                todo.append(succ)
        return states

    # -- construction

    def _step(self, kind: str, tree: c.Node | None, stmt: c.Stmt | None,
              ends: list[tuple[Step, Any]]) -> Step:
        step = Step(kind, tree, stmt)
        self.steps.append(step)
        if tree is not None:
            self._of[id(tree)] = step
        if stmt is not None:
            self._of.setdefault(id(stmt), step)
        self._link(ends, step)
        return step

    @staticmethod
    def _link(ends: list[tuple[Step, Any]], target: Step) -> None:
        for step, label in ends:
            step.next.append((target, label))
            target.before.append((step, label))

    def _stmt(self, stmt: c.Stmt,
              ends: list[tuple[Step, Any]]) -> list[tuple[Step, Any]]:
        handler = getattr(self, '_' + type(stmt).__name__.lower(), None)
        if handler:
            return handler(stmt, ends)
        step = self._step('stmt', stmt, stmt, ends)
        return [(step, None)]

    def _block(self, stmt: c.Block, ends):
        for item in stmt.body:
            ends = self._stmt(item, ends)
        return ends

    def _branches(self, stmt: c.Branches, ends):
        head = self._step('stmt', None, stmt, ends)
        out = []
        for arm in stmt.body:
            out += self._stmt(arm, [(head, arm)])
        return out

    def _if(self, stmt: c.If, ends):
        cond = self._step('cond', stmt.cond, stmt, ends)
        out = self._stmt(stmt.then, [(cond, True)])
        if stmt.other:
            return out + self._stmt(stmt.other, [(cond, False)])
        return out + [(cond, False)]

    def _loop(self, stmt: c.Loop, ends):
        self._breaks.append([])
        self._continues.append([])
        if stmt.init:
            ends = self._stmt(stmt.init, ends)
        if stmt.kind == 'do':
            head = self._step('stmt', None, stmt, ends)
            body = self._stmt(stmt.body, [(head, None)])
            cond = self._step('cond', stmt.cond, stmt,
                              body + self._continues.pop())
            if isinstance(stmt.cond, c.Literal) and stmt.cond.text == '0':
                return [(cond, False)] + self._breaks.pop()
            self._link([(cond, True)], head)
            return [(cond, False)] + self._breaks.pop()
        cond = self._step('cond', stmt.cond, stmt, ends)
        body = self._stmt(stmt.body, [(cond, True)])
        back = body + self._continues.pop()
        if stmt.step:
            step = self._step('stmt', stmt.step, stmt, back)
            back = [(step, None)]
        self._link(back, cond)
        forever = stmt.kind in ('for', 'while') and (
            stmt.cond is None or isinstance(stmt.cond, c.Literal)
            and stmt.cond.text not in ('0',)
            or isinstance(stmt.cond, c.Id) and stmt.cond.name == 'true')
        out = [] if forever else [(cond, False)]
        return out + self._breaks.pop()

    def _switch(self, stmt: c.Switch, ends):
        head = self._step('switch', stmt.cond, stmt, ends)
        self._breaks.append([])
        self._cases.append([])
        body = self._stmt(stmt.body, [])
        cases = self._cases.pop()
        for step, case in cases:
            self._link([(head, case)], step)
        out = body + self._breaks.pop()
        if all(case.values for _, case in cases):
            out.append((head, None))
        return out

    def _case(self, stmt: c.Case, ends):
        step = self._step('label', None, stmt, ends)
        if self._cases:
            self._cases[-1].append((step, stmt))
        return [(step, None)]

    def _label(self, stmt: c.Label, ends):
        step = self._step('label', None, stmt, ends)
        self.labels[stmt.name] = step
        return [(step, None)]

    def _goto(self, stmt: c.Goto, ends):
        step = self._step('stmt', stmt, stmt, ends)
        self._gotos.append((step, stmt.name))
        return []

    def _return(self, stmt: c.Return, ends):
        step = self._step('return', stmt, stmt, ends)
        self._link([(step, None)], self.exit)
        return []

    def _jump(self, stmt: c.Jump, ends):
        step = self._step('stmt', stmt, stmt, ends)
        stack = self._breaks if stmt.kind == 'break' else self._continues
        if stack:
            stack[-1].append((step, None))
        else:
            self.incomplete = True
            self._link([(step, None)], self.exit)
        return []

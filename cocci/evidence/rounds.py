# SPDX-License-Identifier: GPL-2.0-only
"""Does a helper undo just what the earlier rounds of a loop have mapped?"""
from __future__ import annotations

import re

from . import cparse as c
from .driver import strip, text
from .exits import Unwinder
from .held import Point
from .resources import outside, releases


class Rounds:
    """The questions for one mapping in a loop.

    stmt is its statement, names the lvalues with the handle, mapped the kind
    of the mapping; point tells what is held there.
    """

    def __init__(self, unwinder: Unwinder, stmt: c.Stmt, loop: c.Loop,
                 point: Point, names: list[str], mapped: str):
        self.of, self.func = unwinder, unwinder.func
        self.stmt, self.loop, self.point = stmt, loop, point
        self.names, self.mapped = names, mapped

    def undone_by(self, call: c.Call) -> bool:
        """Does a function of the driver unmap, in a loop, just what earlier
        rounds have mapped?

        It gets the number of them, or asks for each, and the slot of this
        round is empty.
        """
        callee = self.of.driver.resolve(call.name, self.func) \
            if call.name else None
        if callee is None or callee.body is None or releases(call):
            return False
        given = {p.name: a for p, a in zip(callee.params, call.args)}
        of = Unwinder(self.of.driver, callee)
        unmaps = [x for x in callee.calls() if (releases(x) or ('',))[0]
                  == self.mapped or not releases(x) and any(
                      releases(y) and releases(y)[0] == self.mapped
                      for f in [self.of.driver.resolve(x.name, callee)]
                      if f is not None and f.body for y in f.calls())]
        if not unmaps:
            return False
        for unmap in unmaps:
            loop = next((x for x in of.up.chain(unmap)
                         if isinstance(x, c.Loop)), None)
            if loop is None or not (
                    self._counts_rounds(loop, given)
                    or self._asks_each(of, loop, unmap, given)):
                return False
        return True

    def _counts_rounds(self, loop: c.Loop, given: dict[str, c.Expr]) -> bool:
        """Does a loop of a helper run over what was done before this round?"""
        cond = strip(loop.cond) if loop.cond is not None else None
        if isinstance(cond, c.Binary) and cond.op == '<':
            bound = strip(cond.right)
        elif isinstance(cond, c.Unary) and cond.op == 'p--':
            bound = strip(cond.arg)
        else:
            bound = cond
        arg = strip(given.get(bound.name)) if isinstance(bound, c.Id) else None
        if not isinstance(arg, c.Id) or arg.name not in self.func.locals:
            return False
        if bound is cond and not any(
                isinstance(x, c.Assign) and x.op == '-='
                and text(strip(x.left)) == bound.name
                for x in loop.body.walk()):
            return False
        steps = [x for x in self.loop.walk() if (
            isinstance(x, c.Unary) and x.op in ('++', 'p++')
            and text(strip(x.arg)) == arg.name
            or isinstance(x, c.Assign) and x.op == '+='
            and text(strip(x.left)) == arg.name)]
        after = self.stmt.last.end
        step = self.loop.step
        return bool(steps) and all(
            x.first.start > after
            or step is not None and any(y is x for y in step.walk())
            for x in steps) and not any(
                isinstance(x, c.Assign) and text(strip(x.left)) == arg.name
                and x.op != '+=' for x in self.loop.body.walk())

    def _asks_each(self, of: Unwinder, loop: c.Loop, unmap: c.Call,
                   given: dict[str, c.Expr]) -> bool:
        """Does a loop of a helper ask for each handle, and is there none in
        the slot of this round?"""
        gone = releases(unmap)
        root = re.match(r'\w+', gone[1]) if gone else None
        arg = given.get(root.group()) if root else None
        if arg is None or any(map(outside, self.names)):
            return False
        asked = gone[1] in (text(x) for x in (
            loop.cond.walk() if loop.cond is not None else ()))
        for node in loop.body.walk():
            if isinstance(node, c.If) and text(strip(node.cond)) in (
                    gone[1], '!' + gone[1]):
                asked = True
        array = text(strip(arg))
        emptied = any(
            isinstance(x, c.Assign) and text(strip(x.right)) in ('0', '0x0')
            and text(strip(x.left)).startswith(array + '[')
            and x.last.end < self.stmt.first.start
            for x in self.loop.body.walk())
        return asked and (emptied or any(
            h.obj == array and h.kind == 'memory'
            and re.search('zalloc|calloc', h.call.name)
            for h in self.point.held))

    def released_by(self, call: c.Call, key: tuple[str, ...]) -> bool:
        """Does a helper release just what it is given?"""
        callee = self.of.driver.resolve(call.name, self.func)
        given = {p.name for p, a in zip(callee.params, call.args)
                 if text(strip(a)) == key[1]}
        return any(g and g[0] == key[0] and g[1] in given
                   for g in map(releases, callee.calls()))

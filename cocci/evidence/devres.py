# SPDX-License-Identifier: GPL-2.0-only
"""What a managed buffer lives together with: the order of devm requests.

Managed resources are released in the reverse order of their requests, after
remove.
"""
from __future__ import annotations

import re
from functools import cached_property
from typing import Callable, Iterator

from . import cparse as c
from .checks import graph
from .driver import Object, Place, strip
from .reach import Reach

#: What a driver asks devm for and which then runs code of the driver.
_DEVM_USER = re.compile(r'^devm_(\w*request\w*irq|\w*register\w*'
                        r'|\w*add_action\w*)$')
#: Functions that a devm action may call without touching a DMA buffer.
_HARMLESS_ACTION = re.compile(
    r'^(clk_|regulator_|reset_control_|pm_runtime_|pci_free_irq_vectors|'
    r'pci_disable_device|of_node_put|put_device|mutex_destroy|gpiod_|dev_)')


class Devres:
    """The managed resources of one driver."""

    def __init__(self, reach: Reach):
        self.driver, self.reach = reach.driver, reach

    def upwards(self, func: c.Function, node: c.Node
                ) -> Iterator[tuple[c.Function, c.Node]]:
        """A node, the calls that lead to its function, the calls that lead to
        those, and so on; each with the function that it stands in."""
        todo, seen = [(func, node)], set()
        while todo:
            func, node = todo.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            yield func, node
            todo += [(p.function, p.node) for p in self.reach.callers(func)]

    def users_before(self, func: c.Function, node: c.Node,
                     always: bool = False) -> Iterator[Place]:
        """The devm requests that may come before a node, and whose users
        would outlive what it asks for.

        always: only those that come before it on every path.
        """
        for here, at in self.upwards(func, node):
            steps = graph(here)
            step = steps.step_of(at)
            if step is None:
                continue
            before = steps.reachable([step], backwards=True)
            if always:
                sure = steps.dominators().get(id(step), set())
                before = [b for b in before if id(b) in sure]
            for other in before:
                for call in other.calls():
                    if other is step and call.first.start >= at.first.start:
                        continue
                    place = self._user(call, here, frozenset())
                    if place:
                        yield place

    def _user(self, call: c.Call, func: c.Function,
              seen: frozenset[int]) -> Place | None:
        """The devm request that a call makes, itself or in its callees."""
        if _DEVM_USER.match(call.name):
            if 'action' in call.name and self._harmless(call, func) \
                    or 'irq' in call.name and self._freed_irq:
                return None
            return Place(func.path, func, call)
        callee = self.driver.resolve(call.name, func) if call.name else None
        if callee is None or id(callee) in seen \
                or not any(w.startswith('devm_') or self.driver.definitions(w)
                           for w in callee.words):
            return None
        for inner in callee.calls():
            found = self._user(inner, callee, seen | {id(callee)})
            if found:
                return found
        return None

    def _harmless(self, call: c.Call, func: c.Function) -> bool:
        """Does a devm action only switch off clocks and the like?"""
        action = strip(call.args[1]) if len(call.args) > 1 else None
        if not isinstance(action, c.Id):
            return False
        if _HARMLESS_ACTION.match(action.name):
            return True
        callee = self.driver.resolve(action.name, func)
        return callee is not None and callee.body is not None and all(
            inner.name and (_HARMLESS_ACTION.match(inner.name)
                            or inner.name.endswith('_drvdata'))
            for inner in callee.calls())

    @cached_property
    def _freed_irq(self) -> bool:
        """Does remove free its managed interrupts itself?"""
        return any(call.name == 'devm_free_irq'
                   and self.reach.leads('remove', func)
                   for source in self.driver.files
                   for func in source.all_functions()
                   if 'devm_free_irq' in func.words for call in func.calls())

    def guard(self, func: c.Function, node: c.Node, target: Object | None,
              same: Callable[[c.Function], list[c.Call]]) -> Place | None:
        """The condition on `target` under which alone a node that sets it is
        reached: `if (!p->ring) p->ring = ...`.

        same: the calls in a function that set the target as well.
        """
        if target is None or target.kind == 'local':
            return None
        for here, at in self.upwards(func, node):
            steps = graph(here)
            step = steps.step_of(at)
            if step is None:
                continue
            stops = {id(steps.step_of(call)) for call in same(here)}
            first = {id(s) for s in steps.reachable(
                [steps.entry], lambda s: s is step or id(s) in stops)}
            for before in steps.reachable([step], backwards=True):
                if before.kind == 'cond' and before is not step \
                        and id(before) in first and any(
                            self.driver.object_of(n, here) == target
                            for n in read(before.tree)
                            if isinstance(n, (c.Id, c.Member))):
                    return Place(here.path, here, before.tree)
        return None


def read(tree: c.Node) -> Iterator[c.Node]:
    """What an expression reads: not what it only takes the size of."""
    if isinstance(tree, c.Sizeof) \
            or isinstance(tree, c.Call) and tree.name == 'ARRAY_SIZE':
        return
    yield tree
    for child in tree.children():
        yield from read(child)

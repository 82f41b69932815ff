# SPDX-License-Identifier: GPL-2.0-only
"""Which dma_alloc_coherent() may become dmam_alloc_coherent().

A managed buffer lives until the device is unbound.  That is the same life
that it has now when it is allocated in probe, for the device that is being
probed, and freed only where probe fails and in remove.
"""
from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Iterable, Iterator

from . import cparse as c
from .devres import Devres, read
from .driver import Driver, Object, Place, strip, text
from .labels import CannotCut, Cut, pure
from .plan import Addition, Edit, Note, Unit
from .reach import (ERROR, Bound, Definitions, Entry, NotBound, Outcome, Reach,
                    is_null, UNKNOWN, ZERO)
from .report import Step
from .sources import Sources, parameter

_ALLOCS = {'dma_alloc_coherent': 4, 'dma_alloc_attrs': 5}
_FREES = {'dma_free_coherent': 4, 'dma_free_attrs': 5}
_MANAGED = {'dma_alloc_coherent': 'dmam_alloc_coherent',
            'dma_alloc_attrs': 'dmam_alloc_attrs'}
_HIDDEN = re.compile(r'\bdma_(?:alloc|free)_(?:coherent|attrs)\b')
_OTHER_FREE = re.compile(r'free|release|put_pages')
#: Allocation flags that a managed allocation may have as well: it passes them
#: on to kmalloc(), which complains about __GFP_DMA32 and __GFP_HIGHMEM.
_FLAGS = frozenset('GFP_KERNEL GFP_ATOMIC GFP_NOWAIT GFP_NOIO GFP_NOFS GFP_DMA '
                   'GFP_KERNEL_ACCOUNT __GFP_ZERO __GFP_NOWARN __GFP_NORETRY '
                   '__GFP_RETRY_MAYFAIL __GFP_DMA __GFP_NOFAIL'.split())
#: Names that make the order of release something that cannot be reasoned of.
_HAND_MADE = {
    'of_reserved_mem_device_release':
        'gives the reserved memory back before a managed buffer is released',
    'dma_release_declared_memory':
        'takes the memory away before a managed buffer is released',
    'dma_release_coherent_memory':
        'takes the memory away before a managed buffer is released',
    'arm_iommu_detach_device':
        'detaches the IOMMU before a managed buffer is released',
    'devres_open_group': 'managed resources are grouped by hand',
    'devres_release_group': 'managed resources are released by hand',
    'devres_release_all': 'managed resources are released by hand',
    'device_release_driver': 'the driver unbinds devices itself',
}
_NET_CALLS = frozenset('register_netdev register_netdevice alloc_etherdev '
                       'alloc_etherdev_mq alloc_etherdev_mqs alloc_netdev '
                       'alloc_netdev_mq alloc_netdev_mqs devm_alloc_etherdev '
                       'devm_alloc_etherdev_mqs devm_register_netdev'.split())
#: Calls in a condition that only look at the state of the driver.
_STATE = frozenset('test_bit atomic_read IS_REACHABLE '
                   'device_may_wakeup'.split())
#: Bus drivers whose remove callback may be left out.
_REMOVE_OPTIONAL = frozenset(['struct platform_driver', 'struct pci_driver'])
#: Counters of users, and the operators that change one.
_COUNTING = re.compile(r'^(atomic\w*|refcount|kref)_\w*(inc|dec|add|sub|get|put|'
                       r'read)\w*$')
#: Words in a macro that name no variable and no label.
_NO_NAME = re.compile(r'\b(struct|union|enum)\s+\w+|(->|\.)\s*\w+')
_STEPS = frozenset(['++', '--', 'p++', 'p--'])


class Refused(Exception):
    """A reason not to convert, and the place where it stands."""

    def __init__(self, reason: str, place: Place | None = None):
        super().__init__(reason)
        self.reason, self.place = reason, place


@dataclass(eq=False)
class Call:
    """A dma_alloc_* or dma_free_* call."""

    call: c.Call
    func: c.Function
    parent: dict[int, c.Node] = field(repr=False)

    @property
    def place(self) -> Place:
        return Place(self.func.path, self.func, self.call)

    @property
    def device(self) -> c.Expr:
        return self.call.args[0]

    @property
    def size(self) -> c.Expr:
        return self.call.args[1]

    @property
    def statement(self) -> c.ExprStmt | None:
        """The statement that consists of this call alone."""
        above = self.parent.get(id(self.call))
        while isinstance(above, (c.Paren, c.Cast)):
            above = self.parent.get(id(above))
        return above if isinstance(above, c.ExprStmt) else None

    @cached_property
    def target(self) -> c.Expr | None:
        """The lvalue that an allocation is stored in."""
        node: c.Node = self.call
        above = self.parent.get(id(node))
        while isinstance(above, (c.Paren, c.Cast)):
            node, above = above, self.parent.get(id(above))
        if isinstance(above, c.Assign) and above.op == '=':
            return above.left
        if isinstance(above, c.Variable):
            return c.Id(above.first, above.last, above.name)
        return None


class Promotion:
    """The decision for one driver."""

    def __init__(self, driver: Driver, options: frozenset[str]):
        self.driver, self.options = driver, options
        self.reach = Reach(driver)
        self.definitions = Definitions(driver)
        self.bound = Bound(self.reach, self.definitions)
        self.devres = Devres(self.reach)
        self.allocs = list(self._calls(_ALLOCS))
        self.frees = list(self._calls(_FREES))
        calls = {id(a.call) for a in self.allocs}
        self.buffers = Sources(self.reach, self.definitions,
                               lambda call: id(call) in calls)
        self.frees_of: dict[int, list[Call]] = {id(a.call): []
                                                for a in self.allocs}
        self.lost: list[tuple[Call, Place]] = []    # frees of unknown buffers
        self.shared: dict[int, Place] = {}     # also frees another allocation
        self._match_frees()

    def _calls(self, names: dict[str, int]) -> Iterator[Call]:
        for func in self.driver.functions_with(*names):
            if func.body is None:
                continue
            parent = {id(child): node for node in func.body.walk()
                      for child in node.children()}
            for call in func.calls():
                if names.get(call.name) == len(call.args):
                    yield Call(call, func, parent)

    # -- what cannot be seen

    @cached_property
    def hidden(self) -> list[tuple[str, c.Token]]:
        """Allocations and frees that are not calls in parsed code."""
        known = {(a.func.path, a.call.first.start)
                 for a in self.allocs + self.frees}
        out = []
        for source in self.driver.files_naming(*_ALLOCS, *_FREES):
            for token in source.raw:
                if token.kind == 'id' and (token.text in _ALLOCS
                                           or token.text in _FREES):
                    if (source.path, token.start) not in known:
                        out.append((source.path, token))
                elif token.kind == 'pp' and c.directive(token)[0] == 'define':
                    found = _HIDDEN.search(token.text)
                    if found:
                        out.append((source.path, token._replace(
                            text=found.group())))
        return out

    # -- which free belongs to which allocation

    def _match_frees(self) -> None:
        for free in self.frees:
            found, other, unknown, _ = self.buffers.behind(free.call.args[2],
                                                           free.func)
            for alloc in found:
                self.frees_of[alloc].append(free)
                if other or unknown:
                    self.shared[alloc] = (other + unknown)[0]
            if not found and (unknown or not other):
                self.lost.append((free, unknown[0] if unknown else free.place))

    def groups(self) -> list[list[Call]]:
        """Allocations that share a free belong together."""
        leader = {id(a.call): id(a.call) for a in self.allocs}

        def find(item: int) -> int:
            while leader[item] != item:
                item = leader[item]
            return item

        owners: dict[int, int] = {}
        for alloc in self.allocs:
            for free in self.frees_of[id(alloc.call)]:
                first = owners.setdefault(id(free), id(alloc.call))
                leader[find(id(alloc.call))] = find(first)
        out: dict[int, list[Call]] = {}
        for alloc in self.allocs:
            out.setdefault(find(id(alloc.call)), []).append(alloc)
        return list(out.values())

    # -- the allocation

    def check(self, group: list[Call]) -> list[Call]:
        """The frees that go when the group is promoted; Refused if not."""
        for alloc in group:
            self._check_alloc(alloc)
        frees = list(dict.fromkeys(f for a in group
                                   for f in self.frees_of[id(a.call)]))
        for alloc in group:
            self._check_frees(alloc, self.frees_of[id(alloc.call)])
        return frees

    def _check_alloc(self, alloc: Call) -> None:
        entries = self.reach.entries(alloc.func)
        for entry in entries:
            if entry.root.kind != 'probe':
                raise Refused('also reached outside probe: from %s'
                              % entry.words, _root_place(entry))
        if alloc.target is None:
            raise Refused('the buffer is not stored in a variable here')
        probes = {entry.function.name for entry in entries}
        try:
            owners = self.bound.probes_of(alloc.device, alloc.func)
        except NotBound as why:
            raise Refused(why.reason, why.place) from None
        if owners != probes:
            raise Refused('device `%s` is the one of %s, but the allocation is '
                          'reached from %s' % (
                              text(alloc.device), ', '.join(sorted(owners)),
                              ', '.join(sorted(probes))))
        self._check_flags(alloc)
        self._check_driver()
        self._check_guard(alloc)
        self._check_counted(alloc)
        self._check_fatal(alloc)
        self._check_order(alloc)

    @staticmethod
    def _check_flags(alloc: Call) -> None:
        for node in alloc.call.args[3].walk():
            if isinstance(node, c.Id) and node.name not in _FLAGS:
                raise Refused('flag `%s` may not be passed on to kmalloc(), '
                              'which a managed allocation needs' % node.name)

    def _check_driver(self) -> None:
        for path, token in self.hidden:
            if token.text in _FREES:
                raise Refused('a %s() stands in code that could not be parsed '
                              'or is not a plain call' % token.text,
                              Place(path, None, c.Node(token, token)))
        for func in self.driver.functions_with(*_HAND_MADE):
            for name in sorted(func.words & _HAND_MADE.keys()):
                for call in func.calls():
                    if call.name == name:
                        raise Refused('%s() %s' % (name, _HAND_MADE[name]),
                                      Place(func.path, func, call))

    def _check_fatal(self, alloc: Call) -> None:
        """Probe must fail when the allocation does."""
        outcome = self._outcome(alloc.func, (text(alloc.target),))
        outcome.value_of[id(alloc.call)] = ZERO
        step = outcome.graph.step_of(alloc.call)
        values = outcome.through(step) if step else {UNKNOWN}
        for other in self._same_target(alloc, alloc.func):
            if id(outcome.graph.step_of(other.call)) in outcome.later:
                raise Refused('it is tried again when the allocation fails',
                              other.place)
        bad = self._survives(alloc.func, values, set())
        if bad:
            raise Refused('probe may go on without the buffer: %s does not '
                          'always fail when the allocation fails' % bad.name,
                          Place(bad.path, bad, bad))

    def _same_target(self, alloc: Call, func: c.Function) -> list[Call]:
        """Allocations in `func` that are stored where `alloc` is."""
        target = self.driver.object_of(alloc.target, alloc.func)
        return [a for a in self.allocs if a.func is func
                and a.target is not None
                and self.driver.object_of(a.target, func) == target]

    def _check_guard(self, alloc: Call) -> None:
        """`if (!p->ring) p->ring = ...`: a pointer that may outlive the
        binding would be found set, and the buffer gone, the next time."""
        target = self.driver.object_of(alloc.target, alloc.func)
        place = self.devres.guard(
            alloc.func, alloc.call, target,
            lambda func: [a.call for a in self._same_target(alloc, func)])
        if place is not None:
            raise Refused('it is only allocated if `%s`: the pointer may '
                          'outlive the binding' % text(place.node), place)

    def _check_counted(self, alloc: Call) -> None:
        """`if (users++ == 0)`: one buffer for several devices would go with
        the first of them."""
        todo, seen = [(alloc.func, alloc.call)], set()
        while todo:
            func, node = todo.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            outcome = self._outcome(func)
            step = outcome.graph.step_of(node)
            for cond in outcome.graph.reachable([step], backwards=True) \
                    if step else ():
                if cond.kind == 'cond' and cond is not step \
                        and self._counts(cond.tree, func) \
                        and outcome.through(cond, step) - {ERROR}:
                    raise Refused('it is only allocated if `%s`: devices may '
                                  'share the buffer' % text(cond.tree),
                                  Place(func.path, func, cond.tree))
            todo += [(p.function, p.node) for p in self.reach.callers(func)]

    def _counts(self, cond: c.Expr, func: c.Function) -> bool:
        """Does a condition look at something that outlives probe and that the
        driver counts?"""
        for node in cond.walk():
            if isinstance(node, c.Call) and _COUNTING.match(node.name):
                return True
            if not isinstance(node, (c.Id, c.Member)):
                continue
            item = self.driver.object_of(node, func)
            if item is not None and item.kind != 'local' and any(
                    isinstance(value, c.Unary) and value.op in _STEPS
                    or isinstance(value, c.Assign) and value.op in ('+=', '-=')
                    for value, _ in self.definitions.of(item)):
                return True
        return False

    @staticmethod
    def _outcome(func: c.Function, focus: tuple[str, ...] = ()) -> Outcome:
        if func.body is None:
            raise Refused('function %s could not be parsed' % func.name)
        return Outcome(func, focus)

    def _survives(self, func: c.Function, values: set[str],
                  seen: set[int]) -> c.Function | None:
        """The probe function that may succeed after `func` returned one of
        `values`, None when all ways lead to its failure."""
        if id(func) in seen:
            return None
        seen = seen | {id(func)}
        roots = [self.reach.classify(r) for r in self.driver.direct_roots(func)]
        if any(r.kind == 'probe' for r in roots) and values - {ERROR}:
            return func
        for place in self.reach.callers(func):
            caller = place.function
            if not self.reach.leads('probe', caller):
                continue
            outcome = self._outcome(caller)
            step = outcome.graph.step_of(place.node)
            results: set[str] = set()
            for value in values:
                if value in (ZERO, ERROR):
                    outcome.value_of[id(place.node)] = value
                else:
                    outcome.value_of.pop(id(place.node), None)
                results |= outcome.through(step) if step else {UNKNOWN}
            bad = self._survives(caller, results, seen)
            if bad:
                return bad
        return None

    # -- what was requested before

    def _check_order(self, alloc: Call) -> None:
        for place in self.devres.users_before(alloc.func, alloc.call):
            raise Refused('%s() stands before the allocation, so its user '
                          'would outlive a managed buffer' % place.node.name,
                          place)

    # -- the frees

    def _check_frees(self, alloc: Call, frees: list[Call]) -> None:
        if id(alloc.call) in self.shared:
            place = self.shared[id(alloc.call)]
            raise Refused('what is freed may also be another buffer: `%s`'
                          % text(place.node), place)
        if not frees and self.lost:
            free, place = self.lost[0]
            raise Refused('it is not clear which buffer is freed at %s:%d'
                          % (os.path.basename(free.func.path),
                             free.call.first.line), place)
        self._check_other_free(alloc)
        if not frees:
            raise Refused('the buffer is never freed in this driver: a leak, '
                          'or the device keeps using it')
        for free in frees:
            self._check_free(alloc, free)
        if not any(self.reach.leads('remove', f.func) for f in frees):
            raise Refused('the buffer is not freed in remove: a leak, or the '
                          'device keeps using it')
        for free, place in self.lost:
            if self._alike(alloc, free):
                raise Refused('this free may be of the same buffer: `%s` is '
                              'not traced' % text(place.node), free.place)

    def _alike(self, alloc: Call, free: Call) -> bool:
        """Could a free of an unknown buffer be meant for this allocation?

        Another field is another buffer, unless it has its name or size; a
        parameter or a variable may be any.
        """
        pointer = strip(free.call.args[2])
        while isinstance(pointer, c.Index):
            pointer = strip(pointer.base)
        if not isinstance(pointer, c.Member):
            return True
        names = {n.name for n in free.call.args[2].walk()
                 if isinstance(n, (c.Id, c.Member))}
        last = strip(alloc.target)
        return isinstance(last, (c.Id, c.Member)) and last.name in names \
            or self._size(free) == self._size(alloc)

    def _check_other_free(self, alloc: Call) -> None:
        """kfree(ring) and the like: not the way to free this buffer."""
        target = self.driver.object_of(alloc.target, alloc.func)
        if target is None or target.kind == 'local':
            return
        for func in self.driver.functions_with(target.name):
            for call in func.calls():
                if _OTHER_FREE.search(call.name) \
                        and call.name not in _FREES \
                        and self.driver.resolve(call.name, func) is None \
                        and any(self.driver.object_of(a, func) == target
                                for a in call.args
                                if isinstance(strip(a), (c.Id, c.Member))):
                    raise Refused('%s() is called on the buffer' % call.name,
                                  Place(func.path, func, call))

    def _check_free(self, alloc: Call, free: Call) -> None:
        for entry in self.reach.entries(free.func):
            if entry.root.kind not in ('probe', 'remove'):
                raise Refused('the buffer is also freed from %s'
                              % entry.words, free.place)
        probes = self._drivers(alloc.func, 'probe')
        if probes and self._drivers(free.func, 'remove') - probes:
            raise Refused('it is freed in remove of another driver than the '
                          'one that allocates it', free.place)
        try:
            self.bound.probes_of(free.device, free.func)
        except NotBound as why:
            raise Refused('freed with another device: ' + why.reason,
                          free.place) from None
        self._check_arguments(alloc, free)
        self._check_kept(free)
        if free.statement is None:
            raise Refused('the free is part of an expression', free.place)
        if self.reach.leads('probe', free.func):
            outcome = self._outcome(free.func)
            step = outcome.graph.step_of(free.call)
            values = outcome.through(step) if step else {UNKNOWN}
            bad = self._survives(free.func, values, set())
            if bad:
                raise Refused('%s may succeed after this free: a temporary '
                              'buffer' % bad.name, free.place)

    def _drivers(self, func: c.Function, kind: str) -> set[str]:
        """The struct platform_driver etc. through whose field of some kind a
        function is reached; those that are initialised at file scope."""
        out = set()
        for entry in self.reach.entries(func):
            root = entry.root
            if root.kind == kind and root.path in self.driver.paths:
                out |= {var.name for var in
                        self.driver.file(root.path).globals.values()
                        if isinstance(var.init, c.InitList)
                        and var.init.first.line <= root.line
                        <= var.init.last.line}
        return out

    def _check_kept(self, free: Call) -> None:
        """Does remove keep the buffer when the device could not be stopped?

        Then the free depends on what a call of the teardown returned, and a
        managed buffer would be released all the same.
        """
        todo, seen = [(free.func, free.call)], set()
        while todo:
            func, node = todo.pop()
            if id(node) in seen or not self.reach.leads('remove', func):
                continue
            seen.add(id(node))
            graph = self._outcome(func).graph
            step = graph.step_of(node)
            for cond in graph.reachable([step], backwards=True) if step else ():
                if cond.kind == 'cond' and not (
                        isinstance(cond.stmt, c.Loop)
                        and cond.stmt.kind == 'macro') \
                        and graph.exit in graph.reachable(
                            [cond], lambda s: s is step) \
                        and self._a_result(cond.tree, func):
                    raise Refused('remove only frees it depending on `%s`: the '
                                  'device may be left using it'
                                  % text(cond.tree),
                                  Place(func.path, func, cond.tree))
            todo += [(p.function, p.node) for p in self.reach.callers(func)]

    def _a_result(self, cond: c.Node, func: c.Function) -> bool:
        """Does a condition look at what a call of this function returned?"""
        if not pure(cond, _STATE):
            return any(isinstance(n, c.Call) and not pure(n, _STATE)
                       for n in cond.walk())
        for node in cond.walk():
            var = func.locals.get(node.name) if isinstance(node, c.Id) else None
            if var is not None and not var.type.pointers and any(
                    isinstance(n, c.Call) and not pure(n, _STATE)
                    for value, _ in self.definitions.of(
                        Object('local', func.name, var.name))
                    for n in value.walk()):
                return True
        return False

    def _check_arguments(self, alloc: Call, free: Call) -> None:
        ours, theirs = self._size(alloc), self._size(free)
        if ours != theirs:
            raise Refused('size `%s` of the free is not provably the size `%s` '
                          'of the allocation' % (text(free.size),
                                                 text(alloc.size)), free.place)
        wanted = self._handle(alloc.call.args[2], alloc.func, True)
        given = self._handle(free.call.args[3], free.func, False)
        if not wanted & given:
            raise Refused('handle `%s` of the free is not provably the one of '
                          'the allocation' % text(free.call.args[3]),
                          free.place)
        if len(alloc.call.args) == 5 and len(free.call.args) == 5 \
                and text(alloc.call.args[4]) != text(free.call.args[4]) \
                or len(alloc.call.args) != len(free.call.args):
            raise Refused('the free does not have the attributes of the '
                          'allocation', free.place)

    def _handle(self, expr: c.Expr, func: c.Function, address: bool,
                depth: int = 4) -> set[Object]:
        """Every variable or field that may hold the handle."""
        expr = strip(expr)
        if isinstance(expr, c.Unary) and expr.op == '&' and address:
            return self._handle(expr.arg, func, False, depth)
        item = self.driver.object_of(expr, func)
        if item is None or item.kind == 'field' and item.owner is None:
            return set()
        out = {item}
        if depth == 0:
            return out
        for value, place in self.definitions.of(item):
            if isinstance(strip(value), (c.Id, c.Member, c.Index)) \
                    and place.function:
                out |= self._handle(value, place.function, False, depth - 1)
        index = parameter(expr, func)
        if index is not None:
            for place in self.reach.callers(func):
                if index < len(place.node.args):
                    out |= self._handle(place.node.args[index], place.function,
                                        address, depth - 1)
        return out

    # -- sizes

    def _size(self, call: Call) -> str:
        return self._canonical(call.size, call.func, 6)

    def _canonical(self, expr: c.Expr | None, func: c.Function,
                   depth: int) -> str:
        """An expression in a form that compares across functions."""
        expr = strip(expr)
        if isinstance(expr, c.Binary) and expr.op in '*+':
            parts: list[str] = []
            todo = [expr]
            while todo:
                item = strip(todo.pop())
                if isinstance(item, c.Binary) and item.op == expr.op:
                    todo += [item.left, item.right]
                else:
                    parts.append(self._canonical(item, func, depth))
            return '(%s)' % expr.op.join(sorted(parts))
        if isinstance(expr, c.Binary):
            return '(%s%s%s)' % (self._canonical(expr.left, func, depth),
                                 expr.op,
                                 self._canonical(expr.right, func, depth))
        if isinstance(expr, c.Sizeof):
            kind = expr.type or self.driver.type_of(expr.arg, func)
            return 'sizeof(%s)' % (str(kind) if kind else '%s: %s' % (
                func.name, text(expr.arg)))
        if isinstance(expr, c.Call):
            return '%s(%s)' % (text(expr.func), ','.join(
                self._canonical(a, func, depth) for a in expr.args))
        if isinstance(expr, (c.Id, c.Member, c.Index)):
            return self._canonical_name(expr, func, depth)
        return text(expr)

    def _canonical_name(self, expr: c.Expr, func: c.Function,
                        depth: int) -> str:
        item = self.driver.object_of(expr, func)
        if item is None:
            return text(expr)
        if item.kind != 'local':
            return str(item) if item.owner is not None \
                else '%s: %s' % (func.name, text(expr))
        values = self.definitions.of(item)
        index = parameter(expr, func)
        if depth and index is None and len(values) == 1 \
                and not self.definitions.addresses(item):
            return self._canonical(values[0][0], func, depth - 1)
        if depth and index is not None and not values:
            callers = self.reach.callers(func)
            sizes = {self._canonical(p.node.args[index], p.function, depth - 1)
                     for p in callers if index < len(p.node.args)}
            if len(sizes) == 1:
                return sizes.pop()
        return '%s: %s' % (func.name, text(expr))

    # -- networking

    @cached_property
    def network(self) -> bool:
        tree = os.environ.get('COCCI_DMA_TREE', '')
        if any('drivers/net/' in os.path.join(tree, p)
               or 'drivers/net/' in os.path.realpath(p)
               for p in self.driver.paths):
            return True
        return any(True for _ in self.driver.functions_with(*_NET_CALLS))


def _root_place(entry: Entry) -> Place:
    return Place(entry.function.path, entry.function,
                 c.Node(entry.function.name_token, entry.function.name_token))


def decide(driver: Driver, options: frozenset[str]) -> list[Unit]:
    """Every allocation of the driver: converted whole, or refused."""
    promotion = Promotion(driver, options)
    return Plan(promotion).units()


#: Allocations that share a free, and all their frees.
Group = tuple[list[Call], list[Call]]


class Plan:
    """From groups of allocations to units of edits."""

    def __init__(self, promotion: Promotion):
        self.promotion = promotion
        self.driver = promotion.driver

    def units(self) -> list[Unit]:
        out = self._hidden()
        accepted: list[Group] = []
        for group in self.promotion.groups():
            try:
                frees = self.promotion.check(group)
                self._cuts(frees)
                accepted.append((group, frees))
            except Refused as why:
                out.append(_refusal(group, why.reason, why.place))
        if self.promotion.network and 'net' not in self.promotion.options:
            return out + [_finding(g, f) for g, f in accepted]
        for part in self._components(accepted):
            out.append(self._unit(part))
        return out

    def _components(self, groups: list[Group]) -> list[list[Group]]:
        """Groups that change a function in common are one unit.

        Groups that were joined may leave further functions empty, and so
        change the functions that call them.
        """
        parts = [[group] for group in groups]
        while True:
            joined: list[tuple[set[c.Function], list[Group]]] = []
            for part in parts:
                functions = self._functions(part)
                for other in [j for j in joined if j[0] & functions]:
                    joined.remove(other)
                    functions |= other[0]
                    part = other[1] + part
                joined.append((functions, part))
            if len(joined) == len(parts):
                return [part for _, part in joined]
            parts = [part for _, part in joined]

    def _functions(self, part: list[Group]) -> set[c.Function]:
        """The functions that change when some groups are promoted."""
        out = {a.func for group, _ in part for a in group}
        frees = [f for _, theirs in part for f in theirs]
        try:
            return out | self._cuts(frees).cuts.keys()
        except Refused:
            return out | {f.func for f in frees}

    def _hidden(self) -> list[Unit]:
        """Allocations that cannot be judged, so that none is passed over."""
        out = []
        for path, token in self.promotion.hidden:
            if token.text in _ALLOCS:
                func = self.driver.file(path).function_at(token.line)
                out.append(Unit())
                out[-1].refuse(path, token, func.name if func else '',
                               'not a plain call in code that could be parsed')
        return out

    def _key(self, alloc: Call) -> str:
        """What SmPL finds the allocation by once the file has changed."""
        source = self.driver.file(alloc.func.path)
        return packed('%s,%s' % (source.source(alloc.size),
                                 source.source(alloc.call.args[2])))

    def _twin(self, alloc: Call, allocs: list[Call]) -> Call | None:
        """Another allocation that SmPL would take for this one."""
        for other in self.promotion.allocs:
            if other not in allocs and other.func.name == alloc.func.name \
                    and self._key(other) == self._key(alloc):
                return other
        return None

    # -- what has to go

    def _cuts(self, frees: Iterable[Call]) -> 'Removal':
        try:
            return Removal(self.promotion, frees)
        except CannotCut as why:
            place = Place('', None, why.node)
            raise Refused('the free cannot be taken out cleanly: '
                          + why.reason, place) from None

    def _unit(self, part: list[Group]) -> Unit:
        """One unit of all groups that change the same functions."""
        unit = Unit()
        frees = [f for _, fs in part for f in fs]
        allocs = [a for group, _ in part for a in group]
        try:
            removal = self._cuts(frees)
        except Refused as why:
            return _refusal(allocs, why.reason, why.place)
        for alloc in allocs:
            twin = self._twin(alloc, allocs)
            if twin:
                return _refusal(allocs, 'another allocation of %s reads the '
                                'same and has to stay' % alloc.func.name,
                                twin.place)
        for group, theirs in part:
            for alloc in group:
                own = self.promotion.frees_of[id(alloc.call)]
                unit.edits.append(Edit(
                    'alloc', alloc.func.path, alloc.call.first, alloc.func.name,
                    _message(alloc, own), severity='note'))
                unit.additions.append(Addition(
                    ('alloc', alloc.func.name, self._key(alloc)),
                    alloc.func.path))
        removal.describe(unit)
        return unit


class Removal:
    """All that disappears from the driver together with some frees."""

    def __init__(self, promotion: Promotion, frees: Iterable[Call]):
        self.promotion, self.driver = promotion, promotion.driver
        self.gone: list[c.Function] = []
        self.callbacks: list[c.Function] = []
        self.cuts: dict[c.Function, Cut] = {}
        going: dict[c.Function, list[c.Stmt]] = {}
        for free in frees:
            going.setdefault(free.func, []).append(free.statement)
        for free in frees:
            going[free.func] += self._resets(free, going)
        self.todo = list(going)
        while self.todo:
            func = self.todo.pop()
            self.cuts[func] = Cut(func, going[func],
                                  in_macros=self._in_macros(func))
            if self.cuts[func].empty and func not in self.gone:
                for place in self._without(func):
                    going.setdefault(place.function, []).append(
                        self._statement(place))
                    self.todo.append(place.function)
        self._check_edits()
        self._check_names()
        self._check_directives()
        self._check_helpers()

    def _in_macros(self, func: c.Function) -> frozenset[str]:
        """Names that stand in the macros that a function uses."""
        out: set[str] = set()
        seen: set[str] = set()
        todo = set(func.words)
        while todo:
            name = todo.pop()
            seen.add(name)
            macro = self.driver.macro(name)
            if macro is not None:
                words = set(re.findall(r'[A-Za-z_]\w*',
                                       _NO_NAME.sub('', macro.body)))
                words -= set(macro.params or ())
                out |= words
                todo |= words - seen
        return frozenset(out)

    def _resets(self, free: Call, going: dict[c.Function, list[c.Stmt]]
                ) -> list[c.Stmt]:
        """`p->ring = NULL;` right behind the free, if remove never looks."""
        block = free.parent.get(id(free.statement))
        if not isinstance(block, c.Block):
            return []
        out: list[c.Stmt] = []
        ours = {text(a) for a in free.call.args[2:4]}
        for stmt in block.body[block.body.index(free.statement) + 1:]:
            if isinstance(stmt, c.ExprStmt) and isinstance(stmt.expr, c.Assign) \
                    and stmt.expr.op == '=' and is_null(stmt.expr.right) \
                    and text(stmt.expr.left) in ours:
                if self._looked_at(stmt.expr.left, free.func, going):
                    return []
                out.append(stmt)
            elif stmt not in going[free.func]:
                break
        return out

    def _looked_at(self, left: c.Expr, func: c.Function,
                   going: dict[c.Function, list[c.Stmt]]) -> bool:
        """Does code that runs in remove still read what is set to NULL?"""
        wanted = self.driver.object_of(left, func)
        if wanted is None or wanted.kind != 'field' or wanted.owner is None:
            return True
        for other in self.driver.functions_with(wanted.name):
            if other.body is None:
                return True
            if not self.promotion.reach.leads('remove', other):
                continue
            gone = {id(n) for s in going.get(other, ()) for n in s.walk()}
            if any(isinstance(n, c.Member) and n.name == wanted.name
                   and id(n) not in gone for n in self._reads(other)):
                return True
        return False

    @staticmethod
    def _reads(func: c.Function) -> Iterator[c.Node]:
        """What a function reads, but for tests of what it frees and resets."""
        skip: set[int] = set()
        for node in func.body.walk():
            if isinstance(node, c.Assign) and node.op == '=' \
                    and is_null(node.right):
                skip.add(id(node.left))
            elif isinstance(node, c.If) and any(
                    isinstance(n, c.Call) and n.name in _FREES
                    for n in node.then.walk()):
                skip |= {id(n) for n in node.cond.walk()}
        for node in read(func.body):
            if id(node) not in skip:
                yield node

    @staticmethod
    def _statement(place: Place) -> c.ExprStmt:
        for node in place.function.body.walk():
            if isinstance(node, c.ExprStmt) and strip(node.expr) is place.node:
                return node
        raise CannotCut('%s() would be left empty and its result is used'
                        % place.node.name, place.node)

    def _without(self, func: c.Function) -> list[Place]:
        """The calls that go with a function that is left empty."""
        why = '%s() would be left empty' % func.name
        name = c.Node(func.name_token, func.name_token)
        if not func.static or any(func.name in s.prototypes
                                  for s in self.driver.files_naming(
                                      func.name)):
            raise CannotCut(why + ' and is declared elsewhere', name)
        if not self._own_comment(func):
            raise CannotCut(why + ' and the comments above it may be about '
                            'more', name)
        addresses = self.driver.addresses_of(func)
        if addresses:
            self._check_callback(func, addresses, why, name)
            self.callbacks.append(func)
        self.gone.append(func)
        return self.promotion.reach.callers(func)

    def _own_comment(self, func: c.Function) -> bool:
        """Is nothing above a function but its own comment?  It goes too."""
        source = self.driver.file(func.path)
        start = max((t.end for t in source.raw if t.end <= func.first.start),
                    default=0)
        above = source.text[start:func.first.start].strip(' \t\n')
        return above.count('/*') + above.count('//') <= 1 and (
            not above or source.text[start:func.first.start].endswith('*/\n'))

    def _check_callback(self, func: c.Function, addresses: list[Place],
                        why: str, name: c.Node) -> None:
        roots = self.driver.direct_roots(func)
        plain = all(place.function is None and isinstance(place.node, c.Id)
                    and self._initialises(place) for place in addresses)
        if not plain or len(addresses) != 1 or any(
                r.kind != 'remove' or r.what.rsplit('.', 1)[0]
                not in _REMOVE_OPTIONAL for r in roots):
            raise CannotCut(why + ' and is a callback', name)

    def _initialises(self, place: Place) -> bool:
        """Is this name alone the value of a designated field?"""
        for var in self.driver.file(place.path).globals.values():
            if isinstance(var.init, c.InitList) and any(
                    item is place.node and label in ('remove', 'remove_new')
                    for label, item in zip(var.init.names, var.init.items)):
                return True
        return False

    def _check_edits(self) -> None:
        """Can SmPL remove every statement?"""
        for func, cut in self.cuts.items():
            if func not in self.gone:
                for stmt in cut.outermost:
                    self._edit(func, stmt)

    def _check_names(self) -> None:
        """SmPL finds labels and variables by the function's name."""
        for func, cut in self.cuts.items():
            if (cut.labels or cut.unused or cut.unbraced
                    or func in self.gone) \
                    and len(self.driver.definitions(func.name)) > 1:
                raise CannotCut('the driver has two functions %s' % func.name,
                                c.Node(func.name_token, func.name_token))

    def _check_directives(self) -> None:
        """A directive right beside removed code confuses spatch's layout."""
        for func, cut in self.cuts.items():
            if func in self.gone:
                continue
            raw = self.driver.file(func.path).raw
            labels = [n for n in func.body.walk() if isinstance(n, c.Label)
                      and n.name in cut.labels]
            for stmt in [*cut.outermost, *labels]:
                before = after = None
                for token in raw:
                    if token.end <= stmt.first.start:
                        before = token
                    elif token.start >= stmt.last.end:
                        after = token
                        break
                if 'pp' in (before and before.kind, after and after.kind):
                    raise CannotCut('a preprocessor directive stands beside it',
                                    stmt)

    def _check_helpers(self) -> None:
        """Would a static function be left without any caller?"""
        going = {id(n) for cut in self.cuts.values()
                 for s in cut.removed.values() for n in s.walk()}
        for func in self.gone:
            going |= {id(n) for n in func.body.walk()}
        names = {n.name: n for cut in self.cuts.values()
                 for s in cut.removed.values() for n in s.walk()
                 if isinstance(n, c.Id)}
        for name, node in names.items():
            for func in self.driver.definitions(name):
                if func in self.gone or not func.static \
                        or func.path.endswith('.h'):
                    continue
                places = self.driver.calls_to(func) \
                    + self.driver.addresses_of(func)
                if all(id(p.node) in going for p in places):
                    raise CannotCut('%s() would be left without a caller'
                                    % name, node)

    # -- what SmPL is told

    def describe(self, unit: Unit) -> None:
        """Add the edits and additions that SmPL has to make."""
        for func, cut in self.cuts.items():
            if func in self.gone:
                continue
            for stmt in cut.outermost:
                unit.edits.append(self._edit(func, stmt))
            self._by_name(unit, func, cut)
        for func in self.gone:
            unit.edits.append(Edit('function', func.path, func.name_token,
                                   func.name, ''))
            unit.additions.append(Addition(('function', func.name), func.path))
        for func in self.callbacks:
            unit.additions.append(Addition(('callback', func.name), func.path))

    def _by_name(self, unit: Unit, func: c.Function, cut: Cut) -> None:
        """What SmPL finds by names, the file having changed by then."""
        for label, to in cut.labels.items():
            unit.additions.append(Addition(('goto', func.name, label),
                                           func.path, {'to': to}))
            kind = 'last' if label in cut.last else 'label'
            unit.additions.append(Addition((kind, func.name, label), func.path))
        for name in cut.unused:
            unit.additions.append(Addition(('unused', func.name, name),
                                           func.path))
        source = self.driver.file(func.path)
        for assign in cut.folded:
            unit.additions.append(Addition(
                ('fold', func.name, packed(source.source(assign))), func.path))
        for stmt, left in cut.unbraced:
            if '/*' not in source.source(stmt.then):
                unit.additions.append(Addition(
                    ('brace', func.name, packed(source.source(stmt.cond)),
                     packed(left)), func.path))

    @staticmethod
    def _edit(func: c.Function, stmt: c.Stmt) -> Edit:
        if isinstance(stmt, c.If):
            return Edit('if', func.path, stmt.first, func.name, '')
        if isinstance(stmt, c.Loop) and stmt.kind in ('for', 'while'):
            return Edit('loop', func.path, stmt.first, func.name, '')
        if isinstance(stmt, c.ExprStmt) and isinstance(stmt.expr, c.Assign):
            return Edit('assign', func.path, stmt.first, func.name, '')
        if isinstance(stmt, c.ExprStmt):
            return Edit('free', func.path, strip(stmt.expr).first, func.name,
                        '')
        raise CannotCut('it stands in a loop macro', stmt)


def packed(code: str) -> str:
    """Code without white space and comments."""
    return re.sub(r'/\*.*?\*/|\s+', '', code, flags=re.S)


def _message(alloc: Call, frees: list[Call]) -> str:
    places = ', '.join('%s:%d' % (os.path.basename(f.func.path),
                                  f.call.first.line) for f in frees)
    return '%s() can be %s(): the free%s at %s go%s away' % (
        alloc.call.name, _MANAGED[alloc.call.name],
        's' if len(frees) > 1 else '', places, '' if len(frees) > 1 else 'es')


def _refusal(group: list[Call], reason: str, place: Place | None) -> Unit:
    unit = Unit()
    for alloc in group:
        steps = []
        said = reason
        if place is not None:
            path = place.path or alloc.func.path
            steps = [Step(path, place.line, reason)]
            if place.path and place.path != alloc.func.path:
                said += ' (%s:%d)' % (os.path.basename(path), place.line)
            elif place.line != alloc.call.first.line:
                said += ' (line %d)' % place.line
        unit.refuse(alloc.func.path, alloc.call.first, alloc.func.name, said,
                    steps, 'note')
    return unit


def _finding(group: list[Call], frees: list[Call]) -> Unit:
    """Networking: maintainers want no such clean-ups, so only say it."""
    unit = Unit()
    for alloc in group:
        unit.notes.append(Note(
            'finding', alloc.func.path, alloc.call.first, alloc.func.name,
            _message(alloc, frees) + '; not done in networking drivers unless '
            'asked for (-D net)', 'note'))
    return unit

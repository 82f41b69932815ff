# SPDX-License-Identifier: GPL-2.0-only
"""Finds memory that is used while it belongs to a device, or to nobody.

From dma_map_single() to dma_unmap_single() a buffer is the device's, except
between dma_sync_single_for_cpu() and dma_sync_single_for_device().  Only what
holds on every path of one function that leads to a place is said of it.
"""
from __future__ import annotations

import re
from typing import Iterator, NamedTuple

from . import alias
from . import cparse as c
from .checks import TEST, graph, parents, site_of
from .driver import Driver, strip, text
from .flow import Step
from .plan import Note, Unit
from .pointer import HARMLESS
from .report import Step as Evidence
from .resources import PURE, is_log
from .sink import is_register

_MAPS = frozenset(('dma_map_single', 'pci_map_single'))
_UNMAP = re.compile(r'^(dma|pci)_unmap_(single|page|sg|sgtable|resource|phys)'
                    r'(_attrs)?$')
_SYNC = re.compile(r'^(?:dma|pci_dma)_sync_(?:single|single_range|sg|sgtable)_'
                   r'for_(cpu|device)$')
_FREES = {'dma_free_coherent': 2, 'dma_free_attrs': 2, 'dma_pool_free': 1,
          'dmam_free_coherent': 2, 'pci_free_consistent': 2}
KEYWORDS = frozenset('''dma_map_single pci_map_single dma_unmap_single
    dma_unmap_page dma_unmap_sg dma_unmap_sgtable dma_unmap_single_attrs
    dma_unmap_page_attrs dma_unmap_sg_attrs pci_unmap_single pci_unmap_page
    pci_unmap_sg dma_sync_single_for_cpu dma_sync_single_range_for_cpu
    dma_free_coherent dma_free_attrs dma_pool_free dmam_free_coherent
    pci_free_consistent'''.split())
#: Functions of the kernel that read or write through a pointer: arguments.
_WRITTEN = {name: {0} for name in (
    'memset memcpy memmove memset16 memset32 memset64 memzero_explicit strcpy '
    'strncpy strscpy strscpy_pad strlcpy sprintf snprintf scnprintf '
    'copy_from_user memcpy_fromio get_random_bytes').split()}
_READ = {**{name: {1} for name in (
    'memcpy memmove copy_to_user memcpy_toio skb_put_data strcpy strscpy '
    'skb_copy_to_linear_data').split()},
    'memcmp': {0, 1}, 'strcmp': {0, 1}, 'strncmp': {0, 1}, 'strlen': {0},
    'skb_copy_to_linear_data_offset': {2}}
_OUT_ONLY = frozenset(('DMA_TO_DEVICE', 'PCI_DMA_TODEVICE'))
_BOTH_WAYS = frozenset(('DMA_FROM_DEVICE', 'DMA_BIDIRECTIONAL',
                        'PCI_DMA_FROMDEVICE', 'PCI_DMA_BIDIRECTIONAL'))
#: Kernel functions that move skb->data, or give memory away.
_MOVES = re.compile(r'^(skb_|eth_|__skb|pskb|devm_|crypto_|bitmap)')
_DEVICE, _CPU, _WRITING, _UNMAPPED, _FREED = (
    'device', 'cpu', 'written', 'unmapped', 'freed')
_SAID = {_DEVICE: 'gives it to the device', _CPU: 'takes it back',
         _WRITING: 'takes it back', _UNMAPPED: 'unmaps it',
         _FREED: 'frees it'}
_SETS = ('++', '--', 'p++', 'p--')


class Item(NamedTuple):
    """What is known of one buffer: whose it is, and since which call.

    handle and pointer are lvalues in canonical text, '' where not known; names
    are the variables and fields that they are made of.
    """

    state: str
    call: c.Call
    device: str
    handle: str
    pointer: str
    direction: str
    names: frozenset[str]
    local: bool


def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
    """A unit for each place of which there is something to say."""
    units = []
    ending = _Ending(driver)
    for func in driver.functions_with(*sorted(KEYWORDS)):
        if func.body is None or func.split or graph(func).incomplete:
            continue
        units += [Unit(notes=[note]) for note in _Function(
            driver, func, ending).notes()]
    return units


class _Ending:
    """Which functions of a driver may unmap, sync or free something."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self._known: dict[str, bool] = {}

    def __call__(self, name: str) -> bool:
        """Does a function do so, or what it calls?"""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def _look(self, name: str) -> bool:
        todo, seen = [name], set()
        while todo:
            found = todo.pop()
            if found in seen:
                continue
            seen.add(found)
            if _UNMAP.match(found) or _SYNC.match(found) or found in _FREES:
                return True
            for func in self.driver.definitions(found):
                if func.body is None:
                    return True
                todo += [call.name for call in func.calls() if call.name]
        return False


class _Function:
    """The buffers of one function, followed along its paths."""

    def __init__(self, driver: Driver, func: c.Function, ending: _Ending):
        self.driver, self.func, self.ending = driver, func, ending
        self.graph = graph(func)
        self.tests = self._test_results()
        self._names: dict[str, frozenset[str]] = {}

    def notes(self) -> Iterator[Note]:
        states = self.graph.solve(frozenset(), self._after,
                                  lambda one, two: one & two, self._edge)
        done: set[tuple[int, str]] = set()
        for step in self.graph.steps:
            for item in states.get(id(step), ()):
                for note in self._wrong(step, item):
                    key = id(item.call), note.message \
                        if item.state == _UNMAPPED else item.state
                    if key not in done:
                        done.add(key)
                        yield note

    # -- how the state changes

    def _after(self, step: Step, state: frozenset[Item]) -> frozenset[Item]:
        """The state after a step."""
        if step.tree is None:
            return state
        items = set(state)
        calls = list(step.calls())
        for item in state:
            if self._written(step, item) and item.state == _CPU:
                items.discard(item)
                items.add(item._replace(state=_WRITING))
        for node in step.tree.walk():
            self._set(node, items)
        if isinstance(step.stmt, c.Loop) and step.stmt.kind == 'macro':
            names = {n.name for n in step.tree.walk() if isinstance(n, c.Id)}
            _drop(items, lambda i: not names.isdisjoint(i.names))
        for call in reversed(calls):
            self._call(call, items)
        return frozenset(items)

    def _set(self, node: c.Node, items: set[Item]) -> None:
        """A variable or field is set, or its address is taken."""
        if isinstance(node, c.Assign):
            left = strip(node.left)
        elif isinstance(node, c.Unary) and node.op in ('&', *_SETS):
            left = strip(node.arg)
        elif isinstance(node, c.Variable):
            _drop(items, lambda i: node.name in i.names)
            return
        else:
            return
        if isinstance(node, c.Unary) and node.op == '&' \
                and not isinstance(left, c.Id):
            return
        while isinstance(left, c.Index):
            left = strip(left.base)
        if isinstance(left, (c.Id, c.Member)):
            name = left.name
            _drop(items, lambda i: name in i.names)

    def _call(self, call: c.Call, items: set[Item]) -> None:
        name = call.name
        sync = _SYNC.match(name)
        if name in _MAPS and len(call.args) > 3:
            self._map(call, items)
        elif _UNMAP.match(name) and len(call.args) > 1:
            self._moves_to(_UNMAPPED, call, items)
        elif sync and len(call.args) > 2:
            self._moves_to(_CPU if sync[1] == 'cpu' else _DEVICE, call, items)
        elif name in _FREES and len(call.args) > _FREES[name]:
            pointer = call.args[_FREES[name]]
            if _lvalue(pointer):
                _drop(items, lambda i: i.pointer == text(strip(pointer)))
                items.add(self._item(_FREED, call, '', pointer, ''))
        elif not self._harmless(call):
            ends = self._ends(call)
            _drop(items, lambda i: ends or not i.local)

    def _map(self, call: c.Call, items: set[Item]) -> None:
        site = site_of(self.func, call)
        pointer = call.args[1]
        _drop(items, lambda i: i.pointer == text(strip(pointer)))
        if not site.targets or not _lvalue(pointer) or not _lvalue(
                site.targets[0]):
            return
        item = self._item(_DEVICE, call, text(site.targets[0]), pointer,
                          text(strip(call.args[3])), site.targets[0])
        _drop(items, lambda i: i.handle == item.handle)
        items.add(item)

    def _moves_to(self, state: str, call: c.Call, items: set[Item]) -> None:
        handle = call.args[1]
        name = text(strip(handle))
        for item in list(items):
            if item.handle == name:
                items.discard(item)
                if item.pointer or state == _UNMAPPED:
                    items.add(item._replace(
                        state=state, call=call,
                        device=text(strip(call.args[0]))))
                return
        if state != _DEVICE and _lvalue(handle):
            items.add(self._item(state, call, name, None, '', handle))

    def _item(self, state: str, call: c.Call, handle: str,
              pointer: c.Expr | None, direction: str,
              target: c.Expr | None = None) -> Item:
        nodes = [n for expr in (pointer, target) if expr is not None
                 for n in expr.walk()]
        names = frozenset(n.name for n in nodes
                          if isinstance(n, (c.Id, c.Member)))
        return Item(state, call, text(strip(call.args[0])), handle,
                    text(strip(pointer)) if pointer is not None else '',
                    direction, names, all(
                        isinstance(strip(e), c.Id)
                        and strip(e).name in self.func.locals
                        for e in (pointer, target) if e is not None)
                    and (not self._escapes(handle)
                         or self._undone(call, handle)))

    def _undone(self, call: c.Call, handle: str) -> bool:
        """Does this function itself unmap what it has mapped, on every path
        on which the mapping did not fail?  Then nobody else does."""
        def ends(step: Step) -> bool:
            return step.kind == 'cond' and step.tree is not None \
                and self._tests(step, handle) \
                or any(_UNMAP.match(other.name) and len(other.args) > 1
                       and text(strip(other.args[1])) == handle
                       for other in step.calls())

        start = self.graph.step_of(call)
        if start is None or call.name not in _MAPS:
            return False
        todo, seen = [start], set()
        while todo:
            step = todo.pop()
            if id(step) in seen:
                continue
            seen.add(id(step))
            if step is self.graph.exit:
                return False
            if not ends(step):
                todo += [after for after, _ in step.next]
            elif step.kind == 'cond':
                todo += [after for after, label in step.next
                         if self._succeeded(step.tree, label)]
        return True

    def _tests(self, step: Step, handle: str) -> bool:
        """Does a condition tell whether this handle is good?"""
        return any(isinstance(n, c.Call) and TEST.search(n.name) and handle in {
            text(strip(a)) for a in n.args}
                   or isinstance(n, c.Id) and handle in self.tests.get(
                       n.name, ()) for n in step.tree.walk())

    def _escapes(self, handle: str) -> bool:
        """Is a handle kept where others may find and unmap it?"""
        above = parents(self.func)
        for node in self.func.nodes:
            if not isinstance(node, c.Id) or node.name != handle:
                continue
            for up in above.chain(node):
                if isinstance(up, c.Call) and (
                        TEST.search(up.name) or _UNMAP.match(up.name)
                        or _SYNC.match(up.name) or is_register(up.name)):
                    break
                if isinstance(up, c.Assign) and text(up.left) != handle \
                        or isinstance(up, (c.Call, c.Variable)):
                    return True
        return False

    def _harmless(self, call: c.Call) -> bool:
        """Does a call leave all pointers and mappings as they are?"""
        name = call.name
        return bool(name) and not self.driver.definitions(name) and (
            name in HARMLESS or is_log(name) or is_register(name)
            or bool(PURE.match(name)) and not _MOVES.match(name)) \
            and 'sync' not in name and 'cache' not in name \
            and not alias.sets_argument(self.driver, call)

    def _ends(self, call: c.Call) -> bool:
        """May a call end or change a mapping that only locals know of?"""
        if not call.name or 'sync' in call.name or 'cache' in call.name \
                or alias.sets_argument(self.driver, call):
            return True
        return self.ending(call.name)

    def _edge(self, step: Step, label: object,
              state: frozenset[Item]) -> frozenset[Item]:
        """A mapping that failed is none."""
        if step.kind != 'cond' or step.tree is None or not state:
            return state
        tested: set[str] = set()
        for node in step.tree.walk():
            if isinstance(node, c.Call) and TEST.search(node.name):
                tested |= {text(strip(a)) for a in node.args}
            elif isinstance(node, c.Id) and node.name in self.tests:
                tested |= self.tests[node.name]
            elif isinstance(node, (c.Id, c.Member)):
                tested.add(text(node))
        return frozenset(i for i in state if i.handle not in tested
                         or i.state == _FREED
                         or self._succeeded(step.tree, label))

    def _succeeded(self, cond: c.Node, label: object) -> bool:
        """Is this the branch where nothing failed?"""
        expr, want = strip(cond), False
        while isinstance(expr, c.Unary) and expr.op == '!' \
                or isinstance(expr, c.Call) and expr.name in (
                    'likely', 'unlikely') and expr.args:
            if isinstance(expr, c.Unary):
                expr, want = strip(expr.arg), not want
            else:
                expr = strip(expr.args[0])
        return label is want and (
            isinstance(expr, c.Call) and bool(TEST.search(expr.name))
            or isinstance(expr, c.Id) and expr.name in self.tests
            or isinstance(expr, c.Binary) and expr.op == '||')

    def _test_results(self) -> dict[str, set[str]]:
        """The variables that hold what dma_mapping_error() said, of what."""
        out: dict[str, set[str]] = {}
        for node in self.func.nodes:
            value = node.right if isinstance(node, c.Assign) else \
                node.init if isinstance(node, c.Variable) else None
            for call in value.walk() if value is not None else ():
                if isinstance(call, c.Call) and TEST.search(call.name):
                    name = text(node.left) if isinstance(node, c.Assign) \
                        else node.name
                    out.setdefault(name, set()).update(
                        text(strip(a)) for a in call.args)
        return out

    # -- what is wrong at a step

    def _wrong(self, step: Step, item: Item) -> Iterator[Note]:
        if item.state == _DEVICE:
            yield from self._owned(step, item)
        elif item.state == _FREED:
            for node, _ in self._accesses(step, item):
                yield self._note(node, item, 'error', '`%s` is used after '
                                 '%s() (line %d) gave it back'
                                 % (item.pointer, item.call.name, item.call
                                    .first.line))
        elif item.state == _UNMAPPED:
            yield from self._gone(step, item)
        elif item.state == _WRITING:
            node = self._started(step, item)
            if node is not None:
                yield self._note(
                    node, item, 'warning', '`%s` goes to the device again '
                    'after the CPU has written to the buffer, which is its own '
                    'since %s() (line %d): dma_sync_single_for_device() is '
                    'missing in between' % (item.handle, item.call.name,
                                            item.call.first.line))

    def _owned(self, step: Step, item: Item) -> Iterator[Note]:
        """The CPU uses a buffer that is the device's."""
        for node, writes in self._accesses(step, item):
            if not writes and item.direction not in _BOTH_WAYS:
                continue
            if writes and self._handed_back(step, item):
                continue
            yield self._note(
                node, item, 'warning', '`%s` is %s while it is the device\'s: '
                '%s() (line %d) gave it away; %s'
                % (item.pointer, 'written' if writes else 'read',
                   item.call.name, item.call.first.line,
                   'write before that, or put dma_sync_single_for_cpu() before '
                   'and dma_sync_single_for_device() after' if writes else
                   'unmap it first, or call dma_sync_single_for_cpu()'))

    def _handed_back(self, step: Step, item: Item) -> bool:
        """Does dma_sync_single_for_device() of it come later?"""
        return any('for_device' in call.name or not self._harmless(call)
                   and self._ends(call) and 'sync' in call.name
                   for later in self.graph.reachable([step])
                   for call in later.calls())

    def _gone(self, step: Step, item: Item) -> Iterator[Note]:
        for call in step.calls():
            if _UNMAP.match(call.name) and len(call.args) > 1 \
                    and text(strip(call.args[1])) == item.handle \
                    and text(strip(call.args[0])) == item.device:
                yield self._note(call, item, 'error', '`%s` is unmapped twice:'
                                 ' %s() has done so (line %d)'
                                 % (item.handle, item.call.name,
                                    item.call.first.line))
            elif _SYNC.match(call.name) and len(call.args) > 1 \
                    and text(strip(call.args[1])) == item.handle:
                yield self._note(call, item, 'error', '%s() of `%s`, which %s()'
                                 ' has unmapped (line %d)'
                                 % (call.name, item.handle, item.call.name,
                                    item.call.first.line))
        node = self._started(step, item)
        if node is not None and 'sg' not in item.call.name:
            yield self._note(node, item, 'error', '`%s` goes to the device '
                             'after %s() (line %d): the address is no longer '
                             'that of the buffer'
                             % (item.handle, item.call.name,
                                item.call.first.line))

    def _started(self, step: Step, item: Item) -> c.Node | None:
        """The place in a step where a register gets the handle."""
        for call in step.calls():
            if is_register(call.name) and any(
                    text(n) == item.handle for arg in call.args
                    for n in arg.walk() if isinstance(n, c.Expr)):
                return call
        return None

    def _written(self, step: Step, item: Item) -> bool:
        return any(writes for _, writes in self._accesses(step, item))

    # -- accesses

    def _accesses(self, step: Step,
                  item: Item) -> Iterator[tuple[c.Node, bool]]:
        """Where a step reads or writes the buffer; is it written?"""
        if not item.pointer or step.tree is None:
            return
        names = self._aliases(item.pointer)
        skip: set[int] = set()
        for node in step.tree.walk():
            if id(node) in skip or isinstance(node, c.Sizeof) or isinstance(
                    node, c.Call) and (node.name in _FREES or is_log(node.name)
                                       or _UNMAP.match(node.name)):
                skip |= {id(n) for n in node.children()}
                continue
            if isinstance(node, c.Call):
                for table, writes in ((_WRITTEN, True), (_READ, False)):
                    for index in table.get(node.name, ()):
                        if index < len(node.args) and _pointer(
                                node.args[index]) in names:
                            yield node, writes
            elif isinstance(node, (c.Unary, c.Index, c.Member)):
                base = node.arg if isinstance(node, c.Unary) \
                    and node.op == '*' else node.base if isinstance(
                        node, c.Index) or isinstance(node, c.Member) \
                    and node.arrow else None
                if base is not None and text(strip(base)) in names:
                    yield from self._value(node)

    def _value(self, node: c.Expr) -> Iterator[tuple[c.Node, bool]]:
        """Is a place in the buffer read or written, not just pointed to?"""
        above = parents(self.func)
        while True:
            up = above.of(node)
            if isinstance(up, c.Paren) or isinstance(up, c.Member) \
                    and up.base is node and not up.arrow:
                node = up
            elif isinstance(up, c.Index) and up.base is node:
                kind = self.driver.type_of(node, self.func)
                if kind is None or not kind.dims:
                    break
                node = up
            else:
                break
        kind = self.driver.type_of(node, self.func)
        if isinstance(up, c.Unary) and up.op == '&' or kind is not None \
                and kind.dims:
            return
        writes = isinstance(up, c.Assign) and up.left is node \
            or isinstance(up, c.Unary) and up.op in _SETS
        if kind is None and not writes and not isinstance(node, c.Index) \
                and not isinstance(up, c.Binary):
            return                  # may be an array, which only points
        yield node, writes

    def _aliases(self, pointer: str) -> frozenset[str]:
        """Local variables that only ever hold this pointer, and itself."""
        if pointer not in self._names:
            self._names[pointer] = frozenset((pointer, *(
                name for name, var in self.func.locals.items()
                if var.type.pointers
                and not any(p is var for p in self.func.params)
                and [text(strip(value)) for value in alias.assigned(
                    self.driver, name, self.func)] == [pointer])))
        return self._names[pointer]

    def _note(self, node: c.Node, item: Item, severity: str,
              message: str) -> Note:
        return Note('finding', self.func.path, node.first, self.func.name,
                    message, severity, [Evidence(
                        self.func.path, item.call.first.line,
                        '%s() %s' % (item.call.name, _SAID[item.state]))])


def _drop(items: set[Item], which) -> None:
    for item in [i for i in items if which(i)]:
        items.discard(item)


def _lvalue(expr: c.Expr) -> bool:
    """Is it a variable, a field or an element that can be told again?"""
    expr = strip(expr)
    return isinstance(expr, (c.Id, c.Member, c.Index)) \
        and alias.is_pure(expr)


def _pointer(expr: c.Expr) -> str:
    """`p` of p, p + n, &p[n] and &p->x."""
    expr = strip(expr)
    if isinstance(expr, c.Binary) and expr.op == '+':
        return _pointer(expr.left)
    if isinstance(expr, c.Unary) and expr.op == '&':
        inner = strip(expr.arg)
        while isinstance(inner, c.Member) and not inner.arrow:
            inner = strip(inner.base)
        if isinstance(inner, (c.Member, c.Index)):
            return text(strip(inner.base))
    return text(expr)

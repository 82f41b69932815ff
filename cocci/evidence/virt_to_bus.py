# SPDX-License-Identifier: GPL-2.0-only
"""The decision of virt_to_bus.cocci: which buffers become coherent memory.

A buffer is converted with everything that belongs to it (allocations, frees,
every address that is taken, in all files) or not at all; each place where an
address is taken then says why not.
"""
from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property

from . import cparse as c
from . import report
from .address import Address, NoBuffer, locate
from .allocation import ALLOCATIONS, PAGES, Size, Unfit, flags_of
from .atomic import why_atomic
from .checks import graph, parents
from .dmadevice import Devices, NoDevice
from .driver import Driver, Object, strip, text
from .handle import Handle, NoHandle, choose, existing_allocation
from .plan import Addition, Edit, Note, Unit
from .pointer import ADDRESS, INVERSE, RELEASE, Pointers, Use, prints
from .reach import Definitions, NotBound, Reach, is_null
from .sink import NotDevice, goes_to_device, is_register
from .stream import NoStream, is_transfer, transfer

_NAMES = ADDRESS | INVERSE
_LOOSER = frozenset('== != < > <= >= && || ,'.split())   # than a sum
_BACK = ('bus_to_virt', 'isa_bus_to_virt', 'phys_to_virt', '__va')
_DOES_DMA = ('dma_set_mask', 'dma_set_coherent_mask', 'pci_set_master',
             'pci_set_dma_mask', 'dma_alloc_', 'dma_map_', 'pci_map_',
             'dma_pool_')


class Refused(Exception):
    """Why a buffer stays as it is, and where the reason stands."""

    def __init__(self, message: str, path: str = '', line: int = 0):
        super().__init__(message)
        self.message, self.path, self.line = message, path, line


@dataclass(eq=False)
class _Carrier:
    """A local variable that memory is allocated into, and `x->p = variable`."""

    func: c.Function
    name: str
    store: c.Assign


@dataclass(eq=False)
class Site:
    """One place where an address is taken."""

    path: str
    func: c.Function
    call: c.Call
    address: Address | None = None


@dataclass
class _Buffer(Unit):
    """A buffer; when it is refused, each of its sites says so."""

    sites: list[Site] = field(default_factory=list)

    def refuse(self, path: str, token: c.Token, function: str, message: str,
               evidence: list[report.Step] | None = None) -> None:
        spots = [(s.path, s.call.first, s.func.name) for s in self.sites]
        if not spots or message.startswith('also needs'):
            # said of each place in the file that is looked at
            super().refuse(path, token, function, message, evidence)
            return
        for spot in spots:
            where = '' if spot[:2] == (path, token) else ' (%s:%d)' % (
                os.path.basename(path), token.line)
            self.notes.append(Note('refusal', *spot, message + where,
                                   evidence=evidence or []))


def decide(driver: Driver, options: frozenset[str]) -> list[Unit]:
    """All units of a driver."""
    return _Decision(driver).units()


class _Decision:
    """The state of one decision."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.pointers = Pointers(driver)
        self.reach = Reach(driver)
        self.definitions = Definitions(driver)
        self.devices = Devices(driver, self.reach, self.definitions)
        self._anchors: set[str] = set()
        self._hardware: frozenset[str] = frozenset()

    def units(self) -> list[Unit]:
        units: list[Unit] = []
        buffers: dict[tuple[Object, int], list[Site]] = {}
        for path, func, token, node in self._sites():
            if not isinstance(node, c.Call):
                units.append(self._refusal(path, token, func, node))
            elif node.name in INVERSE:
                units.append(self._refusal(path, token, func.name,
                                           self._inverse(node, func)))
            elif is_null(node.args[0]):
                units.append(_null(path, func, node))
            else:
                site = Site(path, func, node)
                try:
                    site.address = self._derived(self._just_set(
                        locate(self.driver, node.args[0], func), site), func)
                    obj = self._object(site)
                    key = obj, id(func) if obj.kind == 'local' else 0
                    buffers.setdefault(key, []).append(site)
                except NoBuffer as exc:
                    units.append(self._refusal(path, token, func.name,
                                               self._no_buffer(site, str(exc))))
        self._hardware = self._read_by_device(
            [s for sites in buffers.values() for s in sites])
        self._join(buffers)
        return units + [self._unit(key[0], sites)
                        for key, sites in buffers.items()]

    def _join(self, buffers: dict[tuple[Object, int], list[Site]]) -> None:
        """A local pointer that is kept in a field is one buffer with it."""
        for key in [k for k in buffers if k[0].kind == 'local']:
            kept = self._kept(key[0], buffers[key][0].func)
            if kept is not None:
                buffers.setdefault((kept, 0), []).extend(buffers.pop(key))

    def _kept(self, obj: Object, func: c.Function) -> Object | None:
        """The field or global that a local variable hands its memory to."""
        found = {self.driver.object_of(node.left, func)
                 for node in func.body.walk() if isinstance(node, c.Assign)
                 and _hands_over(node.right) == obj.name}
        kept = [o for o in found if o and o.kind != 'local'
                and (o.kind != 'field' or o.owner)]
        carrier = self._carrier(kept[0]) if len(kept) == 1 else None
        return kept[0] if carrier and (carrier.func, carrier.name) == (
            func, obj.name) else None

    def _carrier(self, obj: Object) -> _Carrier | None:
        """The local variable that hands an object its memory: `x->p = p`."""
        found: list[_Carrier] = []
        for value, place in self.definitions.of(obj):
            value = strip(value)
            if is_null(value):
                continue
            while isinstance(value, c.Assign) and value.op == '=':
                value = strip(value.left)            # x->p = p = kmalloc()
            if not isinstance(value, c.Id) or not isinstance(place.node, c.Assign) \
                    or place.function is None:
                return None
            var = place.function.locals.get(value.name)
            if var is None or any(p is var for p in place.function.params):
                return None
            found.append(_Carrier(place.function, value.name, place.node))
        return found[0] if len(found) == 1 else None

    # -- every place that names one of the functions

    def _sites(self):
        """(path, function or its name, token, Call or why it is no site)."""
        for source in self.driver.files:
            calls = {}
            for func in source.all_functions():
                if func.words & _NAMES:
                    for call in func.calls():
                        if call.name in _NAMES and len(call.args) == 1:
                            calls[call.first.start] = func, call
            for tok, after in zip(source.tokens, source.tokens[1:]):
                if tok.kind != 'id' or tok.text not in _NAMES \
                        or after.text != '(':
                    continue
                if tok.start in calls:
                    func, call = calls[tok.start]
                    yield source.path, func, tok, call
                    continue
                inside = source.function_at(tok.line)
                if inside is not None and inside.name_token is tok \
                        or inside is None and _declares(source, tok):
                    continue
                yield (source.path, inside.name if inside else '', tok,
                       'function %s could not be parsed' % inside.name
                       if inside and inside.body is None else
                       'this call stands outside the code that can be parsed')
            for tok, after in zip(source.dead, source.dead[1:]):
                if tok.kind == 'id' and tok.text in _NAMES \
                        and after.text == '(':
                    inside = source.function_at(tok.line)
                    yield (source.path, inside.name if inside else '', tok,
                           'code that is compiled out, or in one branch of an '
                           '#if that cuts a statement: convert or remove it by '
                           'hand')
            yield from _in_macros(source)

    def _just_set(self, address: Address, site: Site) -> Address:
        """The statement before may say what the pointer is: `q->p = x + n;`."""
        above = parents(site.func)
        statement = above.statement(site.call)
        block = above.of(statement) if statement is not None else None
        if not isinstance(block, c.Block) \
                or not isinstance(statement, (c.ExprStmt, c.Decl)):
            return address
        index = next(i for i, s in enumerate(block.body) if s is statement)
        before = block.body[index - 1] if index else None
        if not isinstance(before, c.ExprStmt):
            return address
        expr = before.expr
        if not isinstance(expr, c.Assign) or expr.op != '=' \
                or text(expr.left) != text(address.base) or any(
                    isinstance(n, (c.Call, c.Assign)) or isinstance(n, c.Unary)
                    and n.op not in '&*-' for n in expr.right.walk()):
            return address
        try:
            inner = locate(self.driver, expr.right, site.func)
        except NoBuffer:
            return address
        if inner.base is not strip(expr.right) or inner.terms:
            return Address(inner.base, inner.terms + address.terms)
        return address

    def _derived(self, address: Address, func: c.Function) -> Address:
        """`x->rx`, which is only ever `x->tx + N`, is a place behind `x->tx`."""
        base = strip(address.base)
        obj = self.driver.object_of(base, func)
        if not isinstance(base, c.Member) or obj is None or obj.owner is None \
                or self.definitions.addresses(obj):
            return address
        values = [(v, p) for v, p in self.definitions.of(obj) if not is_null(v)]
        if len(values) != 1 or values[0][1].function is None \
                or not isinstance(values[0][1].node, c.Assign):
            return address
        value, place = values[0]
        left = strip(place.node.left)
        try:
            inner = locate(self.driver, value, place.function)
        except NoBuffer:
            return address
        block = strip(inner.base)
        found = self.driver.object_of(block, place.function)
        if not isinstance(left, c.Member) or not isinstance(block, c.Member) \
                or found is None or found.owner != obj.owner or found == obj \
                or text(left.base) != text(block.base) \
                or not _constant_terms(inner, block):
            return address
        there = c.Member(base.first, base.last, base.base, base.arrow, block.name)
        terms = [(s, t.replace(text(block), text(there))) for s, t in inner.terms]
        return Address(there, terms + address.terms)

    def _no_buffer(self, site: Site, message: str) -> str:
        """For physical addresses it comes first whether this is DMA at all."""
        if 'bus' in site.call.name:
            return message
        try:
            goes_to_device(self.driver, self.definitions, self.pointers, site)
        except NotDevice as exc:
            return str(exc)
        return message

    def _object(self, site: Site) -> Object:
        base = site.address.base
        obj = self.driver.object_of(base, site.func)
        if obj is None or obj.kind == 'field' and obj.owner is None:
            raise NoBuffer('`%s` belongs to a struct that the driver does not '
                           'define: its memory is not allocated here'
                           % text(base))
        if obj.kind == 'local':
            param = next((p for p in site.func.params if p.name == obj.name),
                         None)
            if param is not None:
                calls = self.driver.calls_to(site.func)
                where = ', '.join(str(p) for p in calls[:4])
                raise NoBuffer(
                    'the address of a parameter of %s() is taken%s: pass the '
                    'handle along with the pointer'
                    % (site.func.name, where and ' (called at %s)' % where))
        return obj

    def _inverse(self, call: c.Call, func: c.Function) -> str:
        arg = strip(call.args[0])
        for node in arg.walk():
            if isinstance(node, c.Call) and (
                    'resource' in node.name or node.name == 'ioremap'):
                return ('%s() of a device resource is no memory: use ioremap() '
                        'or pci_iomap()' % call.name)
        return ('%s() takes an address back from the device (round trip): keep '
                'the CPU pointer, and find it by an index or by its handle'
                % call.name)

    # -- one buffer

    def _unit(self, obj: Object, sites: list[Site]) -> Unit:
        unit = _Buffer(sites=sites)
        try:
            self._convert(unit, obj, sites)
        except Refused as exc:
            unit.edits.clear()
            unit.additions.clear()
            for site in sites:
                where = ' (%s:%d)' % (exc.path, exc.line) if exc.line and (
                    exc.path, exc.line) != (site.path, site.call.first.line) \
                    else ''
                unit.notes.append(Note(
                    'refusal', site.path, site.call.first, site.func.name,
                    self._short(exc.message + where),
                    evidence=[report.Step(exc.path, exc.line, 'the reason')]
                    if where else []))
        return unit

    def _short(self, message: str) -> str:
        """Files by their name alone, as one driver has no two of a name."""
        for path in sorted(self.driver.paths, key=len, reverse=True):
            message = message.replace(path + ':', os.path.basename(path) + ':')
        return message

    def _refusal(self, path: str, token: c.Token, function: str,
                 message: str) -> Unit:
        unit = Unit()
        unit.refuse(path, token, function, self._short(message))
        return unit

    def _convert(self, unit: _Buffer, obj: Object, sites: list[Site]) -> None:
        self._container(sites)
        owner = sites[0].func if obj.kind == 'local' else None
        uses = self.pointers.uses(obj, owner)
        handle = existing_allocation(self.driver, self.definitions, obj, uses)
        if handle:
            self._device_sinks(sites)
            for site in sites:
                self._address(unit, site, handle)
            self._no_way_back()
            return
        carrier = self._carrier(obj) if obj.kind != 'local' else None
        source = obj
        if carrier is not None:
            source = Object('local', carrier.func.name, carrier.name)
            uses += [u for u in self.pointers.uses(source, carrier.func)
                     if u.of != obj]
        allocations = self._allocations(source, uses)
        self._harmless({obj, source}, uses, sites, allocations)
        frees = [u for u in uses if u.kind == 'freed']
        self._device_sinks(sites)
        try:
            handle = choose(self.driver, self.definitions, self.pointers, obj,
                            sites, allocations, owner, self._anchors,
                            self._hardware)
        except NoHandle as exc:
            raise Refused(*exc.args) from None
        if obj.kind == 'local' and is_transfer(uses):
            self._stream(unit, obj, sites, uses, allocations, handle)
            return
        if carrier is not None:
            self._carry(handle, carrier, allocations[0])
        plain = [a for a in allocations if not _devm(a)]
        if plain and not frees:
            raise Refused('%s() at %s:%d has no kfree() that could be found: '
                          'dma_free_coherent() would be missing too'
                          % (plain[0].node.name, plain[0].path,
                             plain[0].node.first.line))
        for use in allocations:
            self._allocation(unit, use, obj, handle)
        for use in frees:
            self._free(unit, use, obj, allocations, handle)
        for site in sites:
            self._address(unit, site, handle)
        unit.additions += handle.additions
        self._include(unit)
        self._no_way_back()

    def _stream(self, unit: _Buffer, obj: Object, sites: list[Site],
                uses: list[Use], allocations: list[Use], handle: Handle) -> None:
        """Map a buffer for the one transfer that it is allocated for."""
        site = sites[0]
        func = site.func
        try:
            how = transfer(self.driver, func, site, sites, uses)
        except NoStream as exc:
            raise Refused('streaming buffer `%s`: %s' % (obj.name, exc.args[0]),
                          func.path, exc.args[1].first.line) from None
        if len(allocations) != 1 or _devm(allocations[0]) or any(
                'page' in a.node.name for a in allocations) \
                or not any(u.kind == 'freed' for u in uses):
            raise Refused('streaming buffer `%s`: it is not simply allocated with '
                          'kmalloc() and freed here' % obj.name)
        reason = why_atomic(self.driver, func, site.call)
        try:
            size = self._size(allocations[0]).at(func, site.address.base,
                                                 site.call)
        except Unfit as exc:
            raise Refused(str(exc), func.path, site.call.first.line) from None
        dev = self._device(func, site.call, obj, None)
        name = handle.name
        unit.edits.append(Edit(
            'call', site.path, site.call.first, func.name,
            '%s() of a buffer for one transfer: map it with dma_map_single() '
            '(%s)%s' % (site.call.name, how.direction,
                        ', called ' + reason if reason else ''),
            {'handle': name}))
        unit.additions += handle.additions
        unit.additions.append(Addition(
            ('stream', func.name, name), func.path,
            {'dev': dev, 'size': size, 'cpu': text(site.address.base),
             'direction': how.direction, 'failure': how.failure}))
        unit.additions.append(Addition(('stream', name), func.path))
        self._include(unit, {func.path})
        self._no_way_back()

    def _carry(self, handle: Handle, carrier: _Carrier, use: Use) -> None:
        """Let the handle in the field stand for that of the local pointer."""
        field_ = strip(carrier.store.left)
        base = strip(field_.base) if isinstance(field_, c.Member) else None
        if not isinstance(base, c.Id) or not self._known_before(
                base, carrier.func, use.node):
            raise Refused('`%s` is allocated into `%s` before it is known where '
                          'a handle can be kept: assign the allocation to `%s` '
                          'directly' % (text(carrier.store.left), carrier.name,
                                        text(carrier.store.left)),
                          use.path, use.node.first.line)
        handle.instead[carrier.name] = handle.beside(field_)

    def _known_before(self, base: c.Id, func: c.Function, node: c.Node) -> bool:
        values = self.definitions.of(Object('local', func.name, base.name))
        if any(p.name == base.name for p in func.params):
            return not values
        return base.name in func.locals and len(values) == 1 \
            and self.devices.dominates(func, values[0][1].node, node)

    def _no_way_back(self) -> None:
        """Coherent memory is not found again by bus_to_virt(handle)."""
        if self._way_back is not None:
            name, path, line = self._way_back
            raise Refused('the driver turns addresses back into pointers with '
                          '%s(), perhaps one of this memory: use an index or a '
                          'lookup by handle there first' % name, path, line)

    @cached_property
    def _way_back(self) -> tuple[str, str, int] | None:
        """Where the driver makes a pointer of an address: name, path, line."""
        for source in self.driver.files_with(*_BACK):
            harmless = {call.first.start for func in source.all_functions()
                        if func.words & set(_BACK) for call in func.calls()
                        if call.name in _BACK and _elsewhere(call)}
            for tok, after in [*zip(source.tokens, source.tokens[1:]),
                               *zip(source.dead, source.dead[1:])]:
                inside = source.function_at(tok.line)
                if tok.kind == 'id' and tok.text in _BACK \
                        and after.text == '(' and tok.start not in harmless \
                        and (inside is None or inside.name_token is not tok) \
                        and not _declares(source, tok):
                    return tok.text, source.path, tok.line
            for macro in source.macros.values():
                for tok in c.tokenize(macro.body):
                    if tok.kind == 'id' and tok.text in _BACK:
                        return tok.text, source.path, macro.line
        return None

    def _allocations(self, obj: Object, uses: list[Use]) -> list[Use]:
        """The allocations that the pointer gets its memory from."""
        out: list[Use] = []
        for use in uses:
            if use.kind != 'assigned' or use.of != obj:
                continue
            value = strip(use.node)
            if is_null(value):
                continue
            if isinstance(value, c.Call) and value.name in ALLOCATIONS \
                    and use.func is not None:
                out.append(use._replace(node=value))
                continue
            raise Refused(self._origin(obj, value, use), use.path,
                          use.node.first.line)
        if not out:
            raise Refused('no allocation of `%s` was found in the driver'
                          % self._called(obj))
        return out

    def _origin(self, obj: Object, value: c.Expr, use: Use) -> str:
        name = self._called(obj)
        if isinstance(value, c.Call) and value.name:
            if 'ALIGN' in value.name.upper():
                return ('`%s` is aligned by hand: dma_alloc_coherent() gives '
                        'whole pages, so keep one pointer and drop the '
                        'alignment first' % name)
            if value.name.startswith(('netdev_priv', 'shost_priv', 'ieee80211')):
                return ('it lies in the private data of %s(), shared with '
                        'CPU-only state: split it out into memory of its own '
                        'first' % value.name)
            if self.driver.resolve(value.name, use.func):
                return ('`%s` comes from the local allocator %s(): inline it or '
                        'convert it first' % (name, value.name))
            if value.name in ('dma_alloc_coherent', 'dma_alloc_attrs',
                              'dma_pool_alloc', 'dmam_alloc_coherent'):
                return ('`%s` comes from %s(), but its handle is not always at '
                        'hand here' % (name, value.name))
            return ('`%s` gets its memory from %s(), which is no allocation '
                    'that can be converted' % (name, value.name))
        if isinstance(value, c.Member) and value.name in ('data', 'head'):
            kind = self.driver.type_of(value.base, use.func)
            if kind and kind.base == 'struct sk_buff':
                return ('`%s` points to the data of an skb (streaming buffer): '
                        'needs dma_map_single() with dma_mapping_error(), a '
                        'place for the handle, and dma_unmap_single() where the '
                        'transfer ends' % name)
        return ('`%s` is set to `%s`, not only to memory that is allocated for '
                'it: it needs a handle that is set together with it, from the '
                'handle of that memory' % (name, text(value)))

    def _called(self, obj: Object) -> str:
        """An object's name for a message."""
        if obj.kind == 'field' and obj.owner and '@' in obj.owner:
            for source in self.driver.files:
                for name, kind in source.typedefs.items():
                    if kind.base == obj.owner and not kind.pointers:
                        return '%s.%s' % (name, obj.name)
            return obj.name
        return str(obj).replace('struct ', '')

    def _harmless(self, objects: set[Object], uses: list[Use],
                  sites: list[Site], allocations: list[Use]) -> None:
        """Refuse when the pointer is used in a way that may not stay."""
        obj = min(objects, key=lambda o: o.kind)       # a field before a local
        known = {id(s.call) for s in sites}
        for use in uses:
            if use.kind == 'unknown':
                raise Refused('`%s` cannot be followed everywhere: %s'
                              % (self._called(obj), use.why), use.path, use.node.first.line)
            if use.kind == 'freed' and (not use.exact
                                       or use.of not in objects):
                raise Refused('`%s` is freed through `%s`'
                              % (self._called(obj), text(use.pointer)),
                              use.path, use.node.first.line)
            if use.kind == 'address' and use.of not in objects \
                    and id(use.node) not in known:
                raise Refused('the address of `%s` is also taken through `%s`'
                              % (self._called(obj), text(use.pointer)),
                              use.path, use.node.first.line)
        for use in allocations:
            self._tested(use)

    def _tested(self, use: Use) -> None:
        """The result of the allocation must be tested before it is used."""
        if use.func.body is None:
            raise Refused('function %s could not be parsed' % use.func.name)
        steps = graph(use.func)
        start = steps.step_of(use.node)
        pointer = text(self._target(use))
        if start is None or steps.incomplete:
            raise Refused('the code around %s() is not understood'
                          % use.node.name, use.path, use.node.first.line)
        if start.kind == 'cond':
            return
        todo, seen = [s for s, _ in start.next], set()
        while todo:
            step = todo.pop()
            if id(step) in seen:
                continue
            seen.add(id(step))
            used = step.tree is not None and _names(step.tree, pointer)
            if used and (step.kind == 'cond' or _tests(step.tree, pointer)):
                continue
            if used or step is steps.exit:
                raise Refused('the result of %s() is not tested for NULL before '
                              'it is used' % use.node.name, use.path,
                              use.node.first.line)
            todo += [s for s, _ in step.next]

    @staticmethod
    def _target(use: Use) -> c.Expr:
        """The lvalue (or variable) that an allocation is assigned to."""
        above = parents(use.func)
        for node in above.chain(use.node):
            if isinstance(node, c.Assign):
                return node.left
            if isinstance(node, c.Variable):
                return c.Id(node.first, node.first, node.name)
        raise Refused('the result of %s() is not assigned' % use.node.name,
                      use.path, use.node.first.line)

    def _container(self, sites: list[Site]) -> None:
        """Refuse a block that holds CPU-only state beside what the device sees."""
        for site in sites:
            kind = self.driver.type_of(site.address.base, site.func)
            struct = self.driver.struct_of(kind)
            if struct is None or kind.pointers != 1 or kind.dims:
                continue
            for var in struct.fields.values():
                held = self.driver.expand(var.type)
                if held.pointers or var.function or held.base in (
                        'struct list_head', 'spinlock_t', 'struct mutex',
                        'wait_queue_head_t', 'struct completion',
                        'struct timer_list', 'struct work_struct',
                        'struct device', 'struct rcu_head', 'atomic_t',
                        'struct tasklet_struct', 'struct net_device',
                        'struct kref', 'struct hlist_node'):
                    raise Refused(
                        'what the device reads is part of %s, together with '
                        'CPU-only state (`%s`): split it out into memory of its '
                        'own first' % (self._called(Object(
                            'field', struct.tag, var.name)).split('.')[0],
                                       var.name))

    def _read_by_device(self, sites: list[Site]) -> frozenset[str]:
        """The structs in memory that the device is given the address of."""
        todo = [self.driver.struct_of(self.driver.type_of(
            strip(site.call.args[0]), site.func)) for site in sites]
        tags: set[str] = set()
        while todo:
            struct = todo.pop()
            if struct is None or struct.tag in tags:
                continue
            tags.add(struct.tag)
            todo += [self.driver.struct_of(v.type) for v in
                     struct.fields.values() if not v.type.pointers]
        return frozenset(tags)

    def _device_sinks(self, sites: list[Site]) -> None:
        proof = False
        for site in sites:
            try:
                proof |= goes_to_device(self.driver, self.definitions,
                                        self.pointers, site)
            except NotDevice as exc:
                raise Refused(str(exc), site.path, site.call.first.line) \
                    from None
        if not proof:
            raise Refused('no place was found where a device gets this address '
                          '(it is only printed or compared)')
        phys = next((s for s in sites if 'bus' not in s.call.name), None)
        if phys is not None and not self.driver.files_with(*_DOES_DMA) \
                and not any(self._is_programmed(s) for s in sites):
            raise Refused('%s() is no proof of DMA, and the driver nowhere uses '
                          'the DMA API or sets a DMA mask: firmware may want the '
                          'physical address' % phys.call.name, phys.path,
                          phys.call.first.line)

    def _is_programmed(self, site: Site) -> bool:
        """Is it written to a register, or in a driver for a PCI device?"""
        if self.driver.files_with('pci_driver'):
            return True
        return any(isinstance(up, c.Call) and is_register(up.name)
                   for up in parents(site.func).chain(site.call))

    # -- the pieces of a conversion

    def _device(self, func: c.Function, node: c.Node, obj: Object,
                pointer: c.Expr | None) -> str:
        container = None
        core = strip(pointer)
        while isinstance(core, c.Index):
            core = strip(core.base)
        if isinstance(core, c.Member):
            container = core.base
        try:
            return self.devices.at(func, node, container)
        except NoDevice as exc:
            raise Refused(str(exc), func.path, node.first.line) from None

    def _size(self, use: Use) -> Size:
        try:
            return Size(self.driver, self.definitions, self.reach, use.node,
                        use.func, self._target(use))
        except Unfit as exc:
            raise Refused(str(exc), use.path, use.node.first.line) from None

    def _allocation(self, unit: _Buffer, use: Use, obj: Object,
                    handle: Handle) -> None:
        call, func = use.node, use.func
        target = self._target(use)
        kind = self.driver.type_of(target, func)
        if kind is None or not kind.pointers:
            raise Refused('`%s` is an integer: give it a pointer type first'
                          % text(target), use.path, call.first.line)
        form = ALLOCATIONS[call.name]
        if form.device >= 0:
            try:
                self.devices.master(call.args[form.device], func)
            except NotBound as exc:
                raise Refused(exc.reason, use.path, call.first.line) from None
            dev = text(call.args[form.device], casts=True)
        else:
            dev = self._device(func, call, obj, target)
        flags = flags_of(call, self.driver, func)
        new = 'dmam_alloc_coherent' if form.device >= 0 else 'dma_alloc_coherent'
        size = self._size(use).here()
        at = handle.beside(target)
        unit.edits.append(Edit(
            'call', use.path, call.first, func.name,
            '%s() of memory whose address a device gets: use %s(), which gives '
            'the handle %s' % (call.name, new, at),
            {'dev': dev, 'size': size, 'handle': at, 'gfp': flags.text}))
        if flags.low:
            unit.notes.append(Note(
                'finding', use.path, call.first, func.name,
                '%s asked for memory that the device reaches: coherent memory '
                'obeys the DMA mask instead, so probe must set it with '
                'dma_set_mask_and_coherent(%s, DMA_BIT_MASK(%s))'
                % (flags.low, dev, '32' if '32' in flags.low else '24'),
                'note'))
        if flags.guessed:
            unit.notes.append(Note(
                'finding', use.path, call.first, func.name,
                'no allocation mode was given: %s is taken' % flags.text,
                'note'))
        self._memset(unit, use, text(target), size)

    def _memset(self, unit: _Buffer, use: Use, pointer: str, size: str) -> None:
        """Drop the memset that follows: coherent memory is zeroed already."""
        steps = graph(use.func)
        step = steps.step_of(use.node)
        if step.kind != 'cond':
            if len(step.next) != 1 or step.next[0][0].kind != 'cond':
                return
            step = step.next[0][0]
        for after, _ in step.next:
            stmt = after.tree
            if not isinstance(stmt, c.ExprStmt) or len(after.before) != 1:
                continue
            call = strip(stmt.expr)
            if isinstance(call, c.Call) and call.name == 'memset' \
                    and len(call.args) == 3 and text(call.args[0]) == pointer \
                    and text(call.args[1]) == '0' \
                    and _same_size(text(call.args[2], casts=True), size) \
                    and isinstance(parents(use.func).of(stmt), c.Block):
                unit.edits.append(Edit(
                    'call', use.path, call.first, use.func.name,
                    'memset() of coherent memory that was just allocated: it is '
                    'zeroed already', {}))

    def _free(self, unit: _Buffer, use: Use, obj: Object,
              allocations: list[Use], handle: Handle) -> None:
        call, func = use.node, use.func
        devm = [_devm(a) for a in allocations]
        if any(d != call.name.startswith('devm_') for d in devm):
            raise Refused('%s() frees what %s() allocated' % (
                call.name, allocations[0].node.name), use.path, call.first.line)
        reason = why_atomic(self.driver, func, call)
        if reason:
            raise Refused('dma_free_coherent() must run with interrupts enabled, '
                          'but %s() is called here %s' % (call.name, reason),
                          use.path, call.first.line)
        sizes = set()
        for allocation in allocations:
            try:
                sizes.add(self._size(allocation).at(func, use.pointer, call))
            except Unfit as exc:
                raise Refused(str(exc), use.path, call.first.line) from None
        if len(sizes) != 1:
            raise Refused('it is allocated with different sizes: %s'
                          % ', '.join(sorted(sizes)), use.path, call.first.line)
        size = sizes.pop()
        self._order(call, size, allocations)
        if devm[0]:
            dev = text(call.args[0], casts=True)
        else:
            dev = self._device(func, call, obj, use.pointer)
        unit.edits.append(Edit(
            'call', use.path, call.first, func.name,
            '%s() of what becomes coherent memory' % call.name,
            {'dev': dev, 'size': size, 'cpu': _freed(call, use),
             'handle': handle.beside(use.pointer)}))

    @staticmethod
    def _order(call: c.Call, size: str, allocations: list[Use]) -> None:
        """free_pages(p, order) must fit what was allocated."""
        pages = any(a.node.name in PAGES for a in allocations)
        if pages != ('page' in call.name):
            raise Refused('%s() frees what %s() allocated' % (
                call.name, allocations[0].node.name))
        if call.name == 'free_pages':
            order = text(call.args[1], casts=True)
            if size not in ('PAGE_SIZE << %s' % order,
                            'PAGE_SIZE << (%s)' % order) \
                    and (size, order) != ('PAGE_SIZE', '0'):
                raise Refused('free_pages() has order %s, the allocation has %s '
                              'bytes' % (order, size))

    def _address(self, unit: _Buffer, site: Site, handle: Handle) -> None:
        above = parents(site.func)
        call = site.call
        up = above.of(call)
        if isinstance(up, c.Cast) and up.type == c.Type('dma_addr_t'):
            up = above.of(up)                  # the cast goes, too
        at = handle.beside(site.address.base)
        value = site.address.of(at)
        target = handle.assigned_by(site)
        if target is not None:
            unit.edits.append(Edit(
                'call', site.path, call.first, site.func.name,
                '%s() of coherent memory: %s is its handle from the start'
                % (call.name, at), {'handle': 'cocci_dma_same'}))
            return
        printed = _printed(site, above)
        if printed:
            value = '(%s)%s' % (printed, '(%s)' % value
                                if site.address.terms else value)
        elif site.address.terms and (isinstance(up, (c.Cast, c.Unary))
                                     or isinstance(up, c.Binary)
                                     and up.op not in _LOOSER):
            value = '(%s)' % value
        unit.edits.append(Edit(
            'call', site.path, call.first, site.func.name,
            '%s() gives no address for a device: use the handle %s'
            % (call.name, at), {'handle': value}))

    def _include(self, unit: _Buffer, paths: set[str] | None = None) -> None:
        """Files that call the DMA API include its header."""
        paths = paths or {e.path for e in unit.edits if len(e.values) > 1}
        for path in sorted(paths):
            if not _includes(self.driver, path, set()):
                source = self.driver.file(path)
                if not any(n.startswith('<linux/') for n, _ in source.includes):
                    raise Refused('%s includes no <linux/...> header: add '
                                  '<linux/dma-mapping.h> first' % path)
                unit.additions.append(Addition(
                    ('include', os.path.realpath(path)), path))


# ------------------------------------------------------------------- helpers

def expression(words: str) -> str:
    """Words that spatch takes for an expression: `A * b` is a declaration.

    The rule removes the mark again, which is short for the sake of the layout.
    """
    return '_p(%s)' % words if re.match(
        r'^[A-Za-z_]\w*\s*\*\s*[A-Za-z_]\w*$', words) else words


def _hands_over(value: c.Expr) -> str:
    """`p` of `x = p`, and of `x = p = kmalloc()`."""
    value = strip(value)
    return text(value.left if isinstance(value, c.Assign) else value)


def _devm(use: Use) -> bool:
    return ALLOCATIONS[use.node.name].device >= 0


def _freed(call: c.Call, use: Use) -> str:
    """The pointer that is freed; a cast stays where it drops a qualifier."""
    arg = call.args[RELEASE[call.name]]
    if isinstance(arg, c.Cast) and arg.type.pointers:
        return text(arg, casts=True)
    return text(use.pointer)


def _constant_terms(address: Address, block: c.Member) -> bool:
    """Are all offsets made of constants (and the size of an element)?"""
    for _, term in address.terms:
        rest = term.replace('sizeof(*%s)' % text(block), '1')
        rest = re.sub(r'(sizeof|offsetof)\([^()]*\)', '1', rest)
        if re.search(r'\b[a-z_]\w*|->|\[', rest):
            return False
    return True


def _names(tree: c.Node, pointer: str) -> bool:
    return any(text(n) == pointer for n in tree.walk()
               if isinstance(n, (c.Id, c.Member, c.Index)))


def _tests(tree: c.Node, pointer: str) -> bool:
    """Does a return or an assignment test the pointer?"""
    for node in tree.walk():
        if isinstance(node, c.Ternary) and _names(node.cond, pointer):
            return True
        if isinstance(node, c.Unary) and node.op == '!' \
                and text(node.arg) == pointer:
            return True
        if isinstance(node, c.Call) and node.name in ('BUG_ON',) \
                and _names(node, pointer):
            return True
    return False


def _same_size(one: str, two: str) -> bool:
    def normal(size: str) -> list[str]:
        size = re.sub(r'^array_size\((.*), (.*)\)$', r'\1 * \2', size)
        return sorted(p.strip() for p in size.replace('(', ' ').replace(
            ')', ' ').split('*'))
    return normal(one) == normal(two)


def _printed(site: Site, above) -> str:
    """The type that a format expects, when the address is printed as it is."""
    types = {'virt_to_bus': 'unsigned long', 'isa_virt_to_bus': 'unsigned int',
             '__pa': 'unsigned long', 'virt_to_phys': ''}
    for node in above.chain(site.call):
        if isinstance(node, c.Call):
            return types[site.call.name] if prints(node.name) else ''
        if not isinstance(node, (c.Paren, c.Binary, c.Ternary)):
            return ''
    return ''


def _includes(driver: Driver, path: str, seen: set[str]) -> bool:
    """Does a file get linux/dma-mapping.h, itself or by the driver's headers?"""
    if path in seen:
        return False
    seen.add(path)
    names = [n for n, _ in driver.file(path).includes]
    if '<linux/dma-mapping.h>' in names:
        return True
    local = {os.path.basename(n.strip('"')) for n in names if n.startswith('"')}
    return any(_includes(driver, p, seen) for p in driver.paths
               if os.path.basename(p) in local and p.endswith('.h'))


def _null(path: str, func: c.Function, call: c.Call) -> Unit:
    return Unit(edits=[Edit(
        'call', path, call.first, func.name,
        '%s(NULL) is an end mark and no address: use 0' % call.name,
        {'handle': '0'})])


def _elsewhere(call: c.Call) -> bool:
    """Does it make a pointer of a constant, or of a device's own memory?"""
    words = text(call.args[0]) if call.args else ''
    return 'resource' in words or not re.search(r'\b[a-z_]\w*|->', re.sub(
        r'\b0x\w+', '0', words))


def _declares(source: c.SourceFile, token: c.Token) -> bool:
    """Is this the prototype of a function of that name?"""
    return any(token in tokens for tokens in source.prototypes.values())


def _in_macros(source: c.SourceFile):
    """Calls in the bodies of macros."""
    for tok in source.raw:
        if tok.kind != 'pp' or not re.match(r'#\s*define\b', tok.text):
            continue
        name = re.match(r'#\s*define\s+(\w+)', tok.text)
        skip = name.end() if name else 0
        for found in re.finditer(r'\b(%s)\s*\(' % '|'.join(sorted(_NAMES)),
                                 tok.text[skip:]):
            at = skip + found.start()
            line = tok.line + tok.text.count('\n', 0, at)
            begin = tok.text.rfind('\n', 0, at)
            column = at - begin - 1 if begin >= 0 else tok.column + at
            yield (source.path, '', c.Token('id', found.group(1), tok.start + at,
                                            tok.start + at, line, column),
                   'in the body of macro %s: convert the macro by hand, or turn '
                   'it into a function' % (name.group(1) if name else '?'))

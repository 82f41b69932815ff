# SPDX-License-Identifier: GPL-2.0-only
"""Finds memory and mappings that are not given back as they were taken.

What a call gives back is traced to the calls that it can come from; there is
a finding only if it differs from all of these.  Nothing is rewritten: which
of the two calls is the wrong one is for a person to say.
"""
from __future__ import annotations

import os
from typing import Iterator

from . import cparse as c
from . import dmacalls
from .allocation import ALLOCATIONS
from .checks import parents
from .dmacalls import Form
from .driver import Driver, Object, Place, strip, text
from .plan import Note, Unit
from .quantity import Values
from .reach import Definitions, Reach
from .report import Step
from .resources import PAIRS
from .sources import Found, Sources, said, unseen

#: Frees memory of the kernel: the argument that is the pointer.
KERNEL_FREES = {'kfree': 0, 'kvfree': 0, 'vfree': 0, 'kfree_sensitive': 0,
                'kfree_rcu': 0, 'devm_kfree': 1, 'free_page': 0,
                'free_pages': 0, '__free_pages': 0, 'free_pages_exact': 0}
#: Every call of which this rule may say something.
SITES = frozenset((*dmacalls.FREES, *dmacalls.UNMAPS, *dmacalls.SYNCS,
                   *dmacalls.SG_UNMAPS, *dmacalls.SG_SYNCS, *KERNEL_FREES))
_KINDS = {'coherent': 'coherent memory', 'noncoherent': 'non-coherent memory',
          'pages': 'DMA pages', 'managed': 'device-managed memory',
          'pool': 'memory of a DMA pool'}
_RIGHT = {'coherent': 'dma_free_coherent', 'managed': 'dmam_free_coherent',
          'noncoherent': 'dma_free_noncoherent', 'pages': 'dma_free_pages',
          'pool': 'dma_pool_free', 'single': 'dma_unmap_single',
          'page': 'dma_unmap_page', 'phys': 'dma_unmap_phys',
          'resource': 'dma_unmap_resource', 'scatterlist': 'dma_unmap_sg'}
_KERNEL_MEMORY = tuple(pair.acquire for pair in PAIRS if pair.kind in (
    'memory', 'page', 'exact pages'))
#: Attributes that must be the same where memory is given back.
_ATTRIBUTES = frozenset('DMA_ATTR_NO_KERNEL_MAPPING DMA_ATTR_FORCE_CONTIGUOUS '
                        'DMA_ATTR_PRIVILEGED DMA_ATTR_MMIO'.split())


def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
    """A unit for each call that gives something back in a wrong way."""
    return [Unit(notes=[note]) for note in _Pairs(driver).notes()]


class _Pairs:
    """What one driver takes and gives back."""

    def __init__(self, driver: Driver):
        self.driver = driver
        reach, definitions = Reach(driver), Definitions(driver)
        self.definitions = definitions
        self.values = Values(driver, reach, definitions)
        self.memory = Sources(reach, definitions,
                              lambda call: call.name in dmacalls.ALLOCS)
        self.handles = Sources(
            reach, definitions,
            lambda call: call.name in dmacalls.MAPS, dmacalls.fills_handle)
        self.pools = Sources(reach, definitions, lambda call: call.name in (
            'dma_pool_create', 'dmam_pool_create'))
        self.counts = Sources(reach, definitions, lambda call:
                              call.name in dmacalls.SG_MAPS)

    def notes(self) -> Iterator[Note]:
        for func in self.driver.functions_with(*sorted(
                SITES - set(KERNEL_FREES))):
            for call in func.calls():
                form = dmacalls.form(call)
                if form is None or len(call.args) <= max(form[1:]):
                    continue
                if call.name in dmacalls.FREES:
                    yield from self._freed(call, func, form)
                elif call.name in dmacalls.UNMAPS:
                    yield from self._unmapped(call, func, form)
                elif call.name in dmacalls.SYNCS:
                    yield from self._synchronised(call, func, form)
                elif call.name in dmacalls.SG_UNMAPS \
                        or call.name in dmacalls.SG_SYNCS:
                    yield from self._scatterlist(call, func, form)
        yield from self._by_kfree()

    # -- memory

    def _freed(self, call: c.Call, func: c.Function,
               form: Form) -> Iterator[Note]:
        pointer = form.argument(call, 'memory')
        found = self.memory.behind(pointer, func)
        if self._never_allocated(found, func):
            yield _note(call, func, '%s() of `%s`, which is never allocated: '
                        'nothing is ever stored there but NULL'
                        % (call.name, text(pointer)), 'warning')
        elif not found.calls and found.other and not found.unknown \
                and self._seen(found) and all(map(_is_kernel, found.other)):
            yield _note(call, func, '%s() of memory that %s allocates: free it '
                        'with the counterpart of that' % (
                            call.name, said(found.other)), 'error',
                        _steps(found.other, 'allocates it'))
        if not found.sure or not self._seen(found):
            return
        kinds = {dmacalls.form(p.node).kind for p in found.places()}
        if form.kind not in kinds:
            yield self._wrong_function(call, func, form, found, kinds)
            return
        if form.kind == 'pool':
            yield from self._pool(call, func, form, found)
        else:
            yield from self._size(call, func, form, found, 'allocates')
            yield from self._attributes(call, func, form, found)
            yield from self._device(call, func, form, found, 'allocated')
        yield from self._handle(call, func, form, found)

    def _wrong_function(self, call: c.Call, func: c.Function, form: Form,
                        found: Found, kinds: set[str]) -> Note:
        kind = min(kinds)
        message = '%s() of %s, which %s allocates: use %s()' % (
            call.name, _KINDS[kind], said(found.places()), _RIGHT[kind])
        severity = 'error'
        if kind == 'managed':
            message += '; unbinding the device frees it once more'
        elif form.kind == 'managed':
            message += '; it warns that the device does not manage it'
            severity = 'warning'
        return _note(call, func, message, severity,
                     _steps(found.places(), 'allocates it'))

    def _never_allocated(self, found: Found, func: c.Function) -> bool:
        """Is it a field of the driver's own that nothing is stored in?"""
        if found.calls or found.other or found.unknown \
                or any(i.kind != 'field' for i in found.through):
            return False
        return self._seen(found) and all(map(self._private, found.through))

    def _private(self, item: Object) -> bool:
        """A field of a struct in a .c file, and of no union."""
        struct = self.driver.struct(item.owner or '')
        if struct is None or not struct.path.endswith('.c') \
                or item.name not in struct.fields:
            return False
        decl = struct.fields[item.name]
        return not any(
            tag.startswith('union') and decl in inner.fields.values()
            for tag, inner in self.driver.file(struct.path).structs.items())

    def _pool(self, call: c.Call, func: c.Function, form: Form,
              found: Found) -> Iterator[Note]:
        given = self.pools.behind(form.argument(call, 'device'), func)
        if not given.sure or not self._seen(given):
            return
        taken: list[Place] = []
        for alloc in found.places():
            pools = self.pools.behind(alloc.node.args[0], alloc.function)
            if not pools.sure or not self._seen(pools) \
                    or set(pools.calls) & set(given.calls):
                return
            taken += pools.places()
        yield _note(call, func, '%s() gives memory back to the pool of %s; it '
                    'was taken by %s from that of %s' % (
                        call.name, _lines(given.places()),
                        said(found.places()), _lines(taken)), 'error',
                    _steps(found.places(), 'takes it')
                    + _steps(taken, 'creates the pool that it is from'))

    def _handle(self, call: c.Call, func: c.Function, form: Form,
                found: Found) -> Iterator[Note]:
        handle = form.argument(call, 'handle')
        given = self.handles.behind(handle, func)
        if given.sure and self._seen(given) \
                and not set(given.calls) & set(found.calls):
            yield _note(call, func, '%s() of `%s` with the handle `%s`, which '
                        'is not from %s but from %s' % (
                            call.name, text(form.argument(call, 'memory')),
                            text(handle), said(found.places()),
                            said(given.places())), 'error',
                        _steps(found.places(), 'allocates it')
                        + _steps(given.places(), 'gives that handle'))

    def _attributes(self, call: c.Call, func: c.Function, form: Form,
                    found: Found) -> Iterator[Note]:
        given = self._attribute_names(call, func, form)
        for place in found.places():
            taken = self._attribute_names(
                place.node, place.function, dmacalls.form(place.node))
            if given is None or taken is None or not given ^ taken:
                return
        differ = ' and '.join(sorted(given ^ taken))
        yield _note(call, func, '%s() with other attributes than %s: %s'
                    % (call.name, said(found.places()), differ), 'warning',
                    _steps(found.places(), 'allocates it'))

    def _attribute_names(self, call: c.Call, func: c.Function,
                         form: Form) -> frozenset[str] | None:
        """The attributes of a call that matter; None when not known."""
        attrs = form.argument(call, 'attrs')
        if attrs is None:
            return frozenset()
        attrs, _ = self.values.settled(attrs, func)
        parts = [attrs]
        names = set()
        while parts:
            part = strip(parts.pop())
            if isinstance(part, c.Binary) and part.op == '|':
                parts += [part.left, part.right]
            elif isinstance(part, c.Id) and part.name.startswith('DMA_ATTR_'):
                names.add(part.name)
            elif text(part) != '0':
                return None
        return frozenset(names) & _ATTRIBUTES

    # -- mappings

    def _unmapped(self, call: c.Call, func: c.Function,
                  form: Form) -> Iterator[Note]:
        found = self.handles.behind(form.argument(call, 'handle'), func)
        if not found.sure or not self._seen(found):
            return
        forms = [dmacalls.form(p.node) for p in found.places()]
        kinds = {f.kind for f in forms}
        if form.kind not in kinds and 'phys' not in kinds | {form.kind}:
            mapped = not any(p.node.name in dmacalls.ALLOCS
                             for p in found.places())
            yield _note(call, func, '%s() of what %s %s: use %s()' % (
                call.name, said(found.places()),
                'maps' if mapped else 'allocates', _RIGHT[min(kinds)]),
                'note' if kinds | {form.kind} == {'single', 'page'}
                else 'error', _steps(found.places(), 'takes it'))
            if not mapped:
                return
        yield from self._size(call, func, form, found, 'maps')
        yield from self._direction(call, func, form, found)
        yield from self._device(call, func, form, found, 'mapped')

    def _synchronised(self, call: c.Call, func: c.Function,
                      form: Form) -> Iterator[Note]:
        found = self.handles.behind(form.argument(call, 'handle'), func)
        if found.sure and self._seen(found) and not any(
                p.node.name in dmacalls.ALLOCS for p in found.places()):
            yield from self._direction(call, func, form, found)
            yield from self._device(call, func, form, found, 'mapped')

    def _scatterlist(self, call: c.Call, func: c.Function,
                     form: Form) -> Iterator[Note]:
        yield from self._count(call, func, form)
        found = self._maps_of(call, func, form)
        if found is not None:
            yield from self._direction(call, func, form, found)

    def _count(self, call: c.Call, func: c.Function,
               form: Form) -> Iterator[Note]:
        """The number of mapped entries is no argument for unmap and sync."""
        count = form.argument(call, 'size')
        found = self.counts.behind(count, func)
        if not found.sure or not self._seen(found):
            return
        item = self.driver.object_of(count, func)
        given = []
        for place in found.places():
            wanted = place.node.args[2]
            if item is not None and item == self.driver.object_of(
                    wanted, place.function):
                return
            given.append(text(strip(wanted)))
        if set(given) == {'1'}:
            return                  # one entry stays one
        yield _note(call, func, '%s() gets `%s`, the number that %s returned; '
                    'it must get the number that was given to it, %s' % (
                        call.name, text(strip(count)), said(found.places()),
                        ' or '.join('`%s`' % g for g in dict.fromkeys(given))),
                    'warning', _steps(found.places(), 'maps it'))

    def _maps_of(self, call: c.Call, func: c.Function,
                 form: Form) -> Found | None:
        """The calls that map the scatterlist, None if any may be unknown."""
        wanted, there = self.values.settled(form.argument(call, 'memory'),
                                            func)
        item = self.driver.object_of(wanted, there)
        if item is None or item.kind == 'field' and item.owner is None:
            return None
        calls: dict[int, Place] = {}
        for other in self.driver.functions_with(*dmacalls.SG_MAPS):
            for mapping in other.calls():
                if mapping.name not in dmacalls.SG_MAPS \
                        or len(mapping.args) < 4:
                    continue
                given, where = self.values.settled(mapping.args[1], other)
                known = self.driver.object_of(given, where)
                if known == item and (item.kind != 'local' or where is there):
                    calls[id(mapping)] = Place(other.path, other, mapping)
                elif known is None or known.kind == 'field' \
                        and known.owner is None:
                    return None
                elif known.kind == 'local' and where is not there:
                    return None     # may be this one by another name
        return Found(calls, [], [], [item]) if calls else None

    # -- what both have

    def _size(self, call: c.Call, func: c.Function, form: Form, found: Found,
              does: str) -> Iterator[Note]:
        given = form.argument(call, 'size')
        sizes = []
        for place in found.places():
            taken = dmacalls.form(place.node).argument(place.node, 'size')
            if taken is None or not self.values.sizes_differ(
                    (given, func), (taken, place.function)):
                return
            sizes.append('`%s`' % text(taken))
        yield _note(call, func, '%s() with the size `%s`, but %s %s %s' % (
            call.name, text(given), said(found.places()), does,
            ' or '.join(dict.fromkeys(sizes))), 'warning',
            _steps(found.places(), does + ' it'))

    def _direction(self, call: c.Call, func: c.Function, form: Form,
                   found: Found) -> Iterator[Note]:
        given = self.values.direction(form.argument(call, 'direction'), func)
        sync = call.name in dmacalls.SYNCS or call.name in dmacalls.SG_SYNCS
        names = set()
        for place in found.places():
            taken = self.values.direction(dmacalls.form(place.node).argument(
                place.node, 'direction'), place.function)
            if not given or not taken or taken == given \
                    or sync and taken == 'DMA_BIDIRECTIONAL':
                return
            names.add(taken)
        yield _note(call, func, '%s() with %s, but %s maps with %s' % (
            call.name, given, said(found.places()),
            ' or '.join(sorted(names))), 'warning',
            _steps(found.places(), 'maps it'))

    def _device(self, call: c.Call, func: c.Function, form: Form,
                found: Found, done: str) -> Iterator[Note]:
        given = form.argument(call, 'device')
        for place in found.places():
            taken = dmacalls.form(place.node).argument(place.node, 'device')
            if not self.values.devices_differ((given, func),
                                              (taken, place.function)):
                return
        yield _note(call, func, '%s() with the device `%s`, but it was %s for '
                    '`%s` by %s' % (call.name, text(given), done, text(taken),
                                    said(found.places())), 'warning',
                    _steps(found.places(), 'takes it'))

    # -- kfree() and the like

    def _by_kfree(self) -> Iterator[Note]:
        names = self._kept_in()
        for func in self.driver.functions_with(*sorted(KERNEL_FREES)) \
                if names else ():
            if names.isdisjoint(func.words):
                continue
            for call in func.calls():
                index = KERNEL_FREES.get(call.name, len(call.args))
                if index >= len(call.args) or _last_name(
                        call.args[index]) not in names:
                    continue
                found = self.memory.behind(call.args[index], func)
                if found.sure and self._seen(found):
                    kind = dmacalls.form(found.places()[0].node).kind
                    yield _note(call, func, '%s() of %s, which %s allocates: '
                                'use %s()' % (
                                    call.name, _KINDS[kind],
                                    said(found.places()), _RIGHT[kind]),
                                'error', _steps(found.places(),
                                                'allocates it'))

    def _kept_in(self) -> set[str]:
        """The names of variables and fields that hold DMA memory."""
        names = set()
        for func in self.driver.functions_with(*dmacalls.ALLOCS):
            up = parents(func)
            for call in func.calls():
                if call.name not in dmacalls.ALLOCS:
                    continue
                for above in up.chain(call):
                    if isinstance(above, c.Assign):
                        names.add(_last_name(above.left))
                    elif isinstance(above, c.Variable):
                        names.add(above.name)
                    elif not isinstance(above, (c.Paren, c.Cast)):
                        break
        return names - {''}

    def _seen(self, found: Found) -> bool:
        """Is nothing stored there by code that was not understood?"""
        return unseen(self.driver, found.through) is None


def _last_name(expr: c.Expr) -> str:
    expr = strip(expr)
    while isinstance(expr, c.Index):
        expr = strip(expr.base)
    return expr.name if isinstance(expr, (c.Id, c.Member)) else ''


def _is_kernel(place: Place) -> bool:
    """Is it an allocation of the kernel's own memory?"""
    name = place.node.name if isinstance(place.node, c.Call) else ''
    return name in ALLOCATIONS or any(
        acquire.match(name) for acquire in _KERNEL_MEMORY)


def _lines(places: list[Place]) -> str:
    return ' or '.join(sorted({'%s:%d' % (os.path.basename(p.path), p.line)
                               for p in places}))


def _steps(places: list[Place], does: str) -> tuple[Step, ...]:
    return tuple(Step(p.path, p.line, '%s() %s' % (p.node.name, does))
                 for p in places)


def _note(call: c.Call, func: c.Function, message: str, severity: str,
          steps: tuple[Step, ...] = ()) -> Note:
    return Note('finding', func.path, call.first, func.name, message,
                severity, list(steps))

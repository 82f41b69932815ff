# SPDX-License-Identifier: GPL-2.0-only
"""The decision of virt_to_bus.cocci: which buffers become coherent memory.

A buffer is converted with everything that belongs to it (allocations, frees,
every address that is taken, in all files) or not at all; each place where an
address is taken then says why not.

    addresscall   every place where an address is taken
    origin        the memory behind it; address: how many bytes from its start;
                  alias: through local variables; helper: through parameters
    pointer       everything else that is done with that memory
    obstacle      what forbids the conversion; sink: who gets the address;
                  roundtrip: what would come back as an address
    handle        where the DMA handle lives
    dmadevice     for which device; lifetime: what objects have from their birth
    rewrite       the edits; allocation: sizes and flags; dmamask: the limit of
                  GFP_DMA; stream: one transfer; waiting: until it is over
"""
from __future__ import annotations

import os
from functools import cached_property

from . import cparse as c
from . import report
from .address import NoBuffer
from .addresscall import places
from .buffer import Buffer, NoDma, Refused, Site, devm
from .dmadevice import Devices
from .driver import Driver, Object
from .handle import Handle, NoHandle, choose, existing_allocation
from .obstacle import container, device_sinks, harmless, read_by_device
from .origin import Origins
from .plan import Note, Unit
from .pointer import INVERSE, Pointers
from .reach import Definitions, Reach, is_null
from .rewrite import Rewrite, end_mark
from .roundtrip import WayBack, inverse, turned_back, way_back
from .sink import NotDevice, Sinks
from .stream import is_transfer


def decide(driver: Driver, options: frozenset[str]) -> list[Unit]:
    """All units of a driver."""
    return _Decision(driver).units()


class _Decision:
    """The state of one decision."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.pointers = Pointers(driver)
        self.definitions = Definitions(driver)
        self.origins = Origins(driver, self.definitions)
        self.sinks = Sinks(driver, self.definitions, self.pointers)
        reach = Reach(driver)
        self.rewrite = Rewrite(driver, self.definitions, reach, Devices(
            driver, reach, self.definitions))
        self._anchors: set[str] = set()
        self._hardware: frozenset[str] = frozenset()

    def units(self) -> list[Unit]:
        units: list[Unit] = []
        buffers: dict[tuple[Object, int], list[Site]] = {}
        for path, func, token, node in places(self.driver):
            if not isinstance(node, c.Call):
                units.append(self._refusal(path, token, func, node))
            elif node.name in INVERSE:
                units.append(self._refusal(path, token, func.name,
                                           inverse(node)))
            elif is_null(node.args[0]):
                units.append(end_mark(path, func, node))
            else:
                site = Site(path, func, node)
                try:
                    obj = self.origins.of(site)
                    key = obj, id(func) if obj.kind == 'local' else 0
                    buffers.setdefault(key, []).append(site)
                except NoBuffer as exc:
                    units.append(self._refusal(
                        path, token, func.name,
                        *self._no_buffer(site, str(exc))))
        every = [s for sites in buffers.values() for s in sites]
        self._hardware = read_by_device(self.driver, every)
        self.sinks.read_descriptors(every)
        self._join(buffers)
        return units + [self._unit(key[0], sites)
                        for key, sites in buffers.items()]

    def _join(self, buffers: dict[tuple[Object, int], list[Site]]) -> None:
        """A local pointer that is kept in a field is one buffer with it."""
        for key in [k for k in buffers if k[0].kind == 'local']:
            kept = self.origins.kept(key[0], buffers[key][0].func)
            if kept is not None:
                buffers.setdefault((kept, 0), []).extend(buffers.pop(key))

    def _no_buffer(self, site: Site, message: str) -> tuple[str, str]:
        """Message and severity.  For physical addresses it comes first whether
        this is DMA at all."""
        try:
            if 'bus' not in site.call.name:
                self.sinks.goes_to_device(site)
            if site.address is not None:
                container(self.driver, [site])
        except NotDevice as exc:
            return str(exc), 'note'
        except Refused as exc:
            return str(exc), 'warning'
        return message, 'warning'

    def _unit(self, obj: Object, sites: list[Site]) -> Unit:
        unit = Buffer(sites=sites)
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
                    'note' if isinstance(exc, NoDma) else 'warning',
                    evidence=[report.Step(exc.path, exc.line, 'the reason')]
                    if where else []))
        return unit

    def _convert(self, unit: Buffer, obj: Object, sites: list[Site]) -> None:
        container(self.driver, sites)
        owner = sites[0].func if obj.kind == 'local' else None
        uses = self.pointers.uses(obj, owner)
        handle = existing_allocation(self.driver, self.definitions, obj, uses)
        if handle:
            device_sinks(self.sinks, sites)
            self._addresses(unit, sites, handle)
            self._no_way_back(sites)
            return
        carrier = self.origins.carrier(obj) if obj.kind != 'local' else None
        source = obj
        if carrier is not None:
            source = Object('local', carrier.func.name, carrier.name)
            uses += [u for u in self.pointers.uses(source, carrier.func)
                     if u.of != obj]
        uses = [self.origins.released(use, obj) if use.kind == 'freed' else use
                for use in uses]
        allocations = self.origins.allocations(source, uses)
        harmless(self.driver, {obj, source}, uses, sites, allocations)
        frees = [u for u in uses if u.kind == 'freed']
        device_sinks(self.sinks, sites)
        try:
            handle = choose(self.driver, self.definitions, self.pointers, obj,
                            sites, allocations, owner, self._anchors,
                            self._hardware)
        except NoHandle as exc:
            raise Refused(*exc.args) from None
        if obj.kind == 'local' and is_transfer(uses):
            self.rewrite.stream(unit, obj, sites, uses, allocations, handle)
            self._no_way_back(sites)
            return
        if carrier is not None:
            self.rewrite.carry(handle, carrier, allocations[0])
        plain = [a for a in allocations if not devm(a)]
        if plain and not frees:
            raise Refused('%s() at %s:%d has no kfree() that could be found: '
                          'dma_free_coherent() would be missing too'
                          % (plain[0].node.name, plain[0].path,
                             plain[0].node.first.line))
        for use in allocations:
            self.rewrite.allocation(unit, use, obj, handle)
        for use in frees:
            self.rewrite.free(unit, use, obj, allocations, handle)
        self._addresses(unit, sites, handle)
        unit.additions += handle.additions
        self.rewrite.include(unit)
        self._no_way_back(sites)

    def _addresses(self, unit: Buffer, sites: list[Site],
                   handle: Handle) -> None:
        for site in sites:
            self.rewrite.address(unit, site, handle)
        self.rewrite.aliases(unit, sites)

    def _no_way_back(self, sites: list[Site]) -> None:
        """Coherent memory is not found again by bus_to_virt(handle)."""
        back = turned_back(self.driver, self.pointers, sites)
        if back is not None:
            raise Refused('its address is made a pointer again (round trip) '
                          'with %s: keep the CPU pointer, and find it by an '
                          'index or by its handle' % back.how, back.path,
                          back.line)
        if self._way_back is not None:
            raise Refused('the driver turns addresses back into pointers with '
                          '%s, perhaps one of this memory: use an index or a '
                          'lookup by handle there first' % self._way_back.how,
                          self._way_back.path, self._way_back.line)

    def _short(self, message: str) -> str:
        """Files by their name alone, as one driver has no two of a name."""
        for path in sorted(self.driver.paths, key=len, reverse=True):
            message = message.replace(path + ':', os.path.basename(path) + ':')
        return message

    def _refusal(self, path: str, token: c.Token, function: str,
                 message: str, severity: str = 'warning') -> Unit:
        unit = Unit()
        unit.refuse(path, token, function, self._short(message),
                    severity=severity)
        return unit

    @cached_property
    def _way_back(self) -> WayBack | None:
        return way_back(self.driver)

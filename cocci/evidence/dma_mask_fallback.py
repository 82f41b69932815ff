# SPDX-License-Identifier: GPL-2.0-only
"""Finds DMA masks that are set in vain, unchecked, or too late.

Attempts in vain are those that dma_set_mask_and_coherent does not convert.
"""
from __future__ import annotations

from typing import Iterator

from . import cparse as c
from . import maskcall
from .checks import MAPS, SG_MAPS, graph, parents
from .devres import Devres
from .dma_set_mask_and_coherent import fallbacks
from .dmamask import bits
from .driver import Driver, Place, strip, text
from .plan import Note, Unit
from .reach import Bound, Definitions, NotBound, Reach
from .report import Step

#: What goes by the mask of coherent memory; mappings go by the other one.
_COHERENT = frozenset('dma_alloc_coherent dma_alloc_attrs dmam_alloc_coherent '
                      'dmam_alloc_attrs dma_alloc_noncoherent dma_alloc_wc '
                      'pci_alloc_consistent pci_zalloc_consistent'.split())
_STREAMING = MAPS | SG_MAPS | {'dma_map_sgtable'}
#: Further functions that set a mask, not always of the device that is given.
_OTHERS = frozenset('dma_coerce_mask_and_coherent of_dma_configure '
                    'acpi_dma_configure platform_device_register_full '
                    'pci_set_dma_mask pci_set_consistent_dma_mask'.split())
_MASKS = frozenset(('dma_mask', 'coherent_dma_mask'))
#: A mask of so many bits is taken by every system.
_ALWAYS = 32
_DEPTH = 3              # calls that are followed down to an allocation


def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
    """A unit for each call of which there is something to say."""
    notes = [*fallbacks(driver), *_ignored(driver), *_Late(driver).notes()]
    return [Unit(notes=[note]) for note in notes]


def _ignored(driver: Driver) -> Iterator[Note]:
    """Masks that may be refused, of which nobody looks at the result."""
    for func, call in _setters(driver):
        width = bits(driver, text(strip(call.args[1])))
        if 's' in maskcall.setter(call) and width is not None \
                and width < _ALWAYS \
                and isinstance(parents(func).of(call), c.ExprStmt):
            yield Note('finding', func.path, call.first, func.name,
                       'the result of %s() is ignored: a system without memory '
                       'below %d bits refuses %s, and then the device must not '
                       'do DMA; fail where it is not zero'
                       % (call.name, width, text(strip(call.args[1]))))


def _setters(driver: Driver) -> Iterator[tuple[c.Function, c.Call]]:
    for func in driver.functions_with(*maskcall.SETTERS):
        for call in func.calls():
            if maskcall.setter(call) and not driver.definitions(call.name):
                yield func, call


class _Late:
    """Masks that are set when memory has been allocated by the default one."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.reach = Reach(driver)
        self.bound = Bound(self.reach, Definitions(driver))
        self.devres = Devres(self.reach)

    def notes(self) -> Iterator[Note]:
        setters = list(_setters(self.driver))
        if not setters or any(True for _ in self.driver.functions_with(
                *_OTHERS, *_MASKS)):
            return
        func, call = setters[0]
        width = bits(self.driver, text(strip(call.args[1])))
        # a mask that is no constant may be known by DMA alone
        if width is None or any(other is not func for other, _ in setters) \
                or any(e.root.kind != 'probe'
                       for e in self.reach.entries(func)):
            return
        found = self._before(func, call)
        if found is not None:
            yield self._note(func, call, found, width)

    def _before(self, func: c.Function, call: c.Call) -> Place | None:
        """An allocation for the same device, on every path to a setter."""
        for here, node in self.devres.upwards(func, call):
            steps = graph(here)
            step = steps.step_of(node)
            if step is None or steps.incomplete or here.split:
                return None
            sure = steps.dominators().get(id(step), set())
            for other in steps.steps:
                if other is step or id(other) not in sure:
                    continue
                for before in other.calls():
                    found = self._allocates(before, here, _DEPTH)
                    if found is not None and self._same(found, func, call) \
                            and not self._retries(here, node, before):
                        return found
        return None

    def _allocates(self, call: c.Call, func: c.Function,
                   depth: int) -> Place | None:
        """The allocation that a call makes, itself or in its callees."""
        if call.name in _COHERENT | _STREAMING and call.args:
            return Place(func.path, func, call)
        callee = self.driver.resolve(call.name, func) if call.name else None
        if callee is None or depth == 0 or callee.body is None:
            return None
        return next((found for inner in callee.calls() if (
            found := self._allocates(inner, callee, depth - 1))), None)

    def _same(self, found: Place, func: c.Function, call: c.Call) -> bool:
        """Is it for the same device, and by the mask that is set?"""
        kind = 'c' if found.node.name in _COHERENT else 's'
        if kind not in maskcall.setter(call):
            return False
        if found.function is func:
            return maskcall.same_device(self.driver, func, found.node) \
                == maskcall.same_device(self.driver, func, call)
        try:
            one, two = (self.bound.probes_of(n.args[0], f) for f, n in (
                (found.function, found.node), (func, call)))
        except NotBound:
            return False
        return bool(one) and one == two

    @staticmethod
    def _retries(func: c.Function, node: c.Node, before: c.Call) -> bool:
        """Is the mask set where the allocation failed?"""
        names = {text(up.left) for up in parents(func).chain(before)
                 if isinstance(up, c.Assign)}
        return any(isinstance(up, c.If) and any(
            isinstance(n, c.Expr) and text(n) in names or n is before
            for n in up.cond.walk()) for up in parents(func).chain(node))

    @staticmethod
    def _note(func: c.Function, call: c.Call, found: Place,
              width: int) -> Note:
        return Note('finding', func.path, call.first, func.name,
                    '%s() after %s() (%s) for the same device: what was '
                    'allocated or mapped before goes by the default mask of 32 '
                    'bits%s; set the mask first' % (
                        call.name, found.node.name, found.seen_from(func.path),
                        ', and may be out of reach of the device'
                        if width < _ALWAYS else ''),
                    'warning' if width < _ALWAYS else 'note',
                    [Step(found.path, found.line, '%s() goes by the default '
                          'mask' % found.node.name)])

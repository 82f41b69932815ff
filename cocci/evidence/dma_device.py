# SPDX-License-Identifier: GPL-2.0-only
"""Finds DMA calls whose device is NULL: as a constant, or in a field that the
driver never sets.
"""
from __future__ import annotations

import os
import re
from typing import Iterator

from . import checks
from . import cparse as c
from . import dmacalls
from .driver import Driver, Object, Place, strip, text
from .plan import Note, Unit
from .quantity import Values
from .reach import Definitions, Reach, is_null
from .report import Step
from .sources import unseen

#: Calls whose first argument is a struct device.
CALLS = frozenset(name for name, form in dmacalls.FORMS.items()
                  if form.kind != 'pool') | frozenset(
    'dma_mapping_error dma_map_sgtable dma_unmap_sgtable dma_set_mask '
    'dma_set_coherent_mask dma_set_mask_and_coherent'.split())
_COPIES = frozenset('memcpy memmove kmemdup devm_kmemdup memdup_user '
                    'copy_from_user memcpy_fromio'.split())
_DEVICES = frozenset('device pci_dev platform_device'.split())


def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
    """A unit for each call without a device, and each field that is none."""
    return [Unit(notes=[note]) for note in _Devices(driver).notes()]


class _Devices:
    """The devices of one driver's DMA calls."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.definitions = Definitions(driver)
        self.values = Values(driver, Reach(driver), self.definitions)
        self.unset: dict[Object, bool] = {}
        self.uses: dict[Object, list[Place]] = {}

    def notes(self) -> Iterator[Note]:
        for func in self.driver.functions_with(*sorted(CALLS)):
            for call in func.calls():
                if call.name in CALLS and call.args:
                    yield from self._call(call, func)
        for item, uses in self.uses.items():
            yield self._never(item, uses)

    def _call(self, call: c.Call, func: c.Function) -> Iterator[Note]:
        given, where = self.values.settled(call.args[0], func)
        if is_null(given):
            yield self._null(call, func, given, where)
            return
        field = self._field(given)
        if field is None:
            return
        item = self.driver.object_of(field, where)
        if item is None or item.kind != 'field' or not self._is_device(item) \
                or not self._never_set(item):
            return
        self.uses.setdefault(item, []).append(Place(func.path, func, call))

    @staticmethod
    def _null(call: c.Call, func: c.Function, given: c.Expr,
              where: c.Function) -> Note:
        """A device that is NULL here, or where a variable is set to it."""
        why, steps = '', []
        if given is not strip(call.args[0]):
            why = ' is NULL'
            if where.first.start < given.first.start < where.last.start:
                # and not in the body of a macro
                why += ' (%s:%d)' % (os.path.basename(where.path),
                                     given.first.line)
                steps = [Step(where.path, given.first.line, 'it is NULL')]
        return _note(call, func, '%s() without a device: `%s`%s; it needs the '
                     'struct device that does the DMA' % (
                         call.name, text(call.args[0]), why), steps)

    def _never(self, item: Object, uses: list[Place]) -> Note:
        """One finding for a field, at its first use."""
        struct = self.driver.struct(item.owner)
        line = struct.fields[item.name].first.line
        first = uses[0]
        return _note(
            first.node, first.function, '%s() for `%s`, but nothing ever sets '
            '%s (%s:%d): the device is NULL' % (
                first.node.name, text(first.node.args[0]), item,
                os.path.basename(struct.path), line),
            [Step(struct.path, line, '%s is declared' % str(item))]
            + [Step(use.path, use.line, '%s() has it, too' % use.node.name)
               for use in uses[1:]])

    @staticmethod
    def _field(given: c.Expr | None) -> c.Member | None:
        """The field that holds the pointer: `x->pdev` of `&x->pdev->dev`."""
        if isinstance(given, c.Unary) and given.op == '&':
            inner = strip(given.arg)
            if not isinstance(inner, c.Member) or not inner.arrow \
                    or inner.name != 'dev':
                return None
            given = strip(inner.base)
        return given if isinstance(given, c.Member) else None

    def _is_device(self, item: Object) -> bool:
        struct = self.driver.struct(item.owner or '')
        var = struct.fields.get(item.name) if struct else None
        return var is not None and var.type.pointers == 1 \
            and not var.type.dims \
            and var.type.base.removeprefix('struct ') in _DEVICES

    def _never_set(self, item: Object) -> bool:
        """Is a field of the driver set nowhere, in no way?"""
        if item not in self.unset:
            self.unset[item] = not any(
                not is_null(value) for value, _ in self.definitions.of(item)) \
                and not self.definitions.addresses(item) \
                and not self._elsewhere(item) \
                and unseen(self.driver, [item]) is None
        return self.unset[item]

    def _elsewhere(self, item: Object) -> bool:
        """May it be set where the struct is not known, or as a whole?"""
        unknown = item._replace(owner=None)
        places = [place for _, place in self.definitions.of(unknown)] \
            + self.definitions.addresses(unknown)
        if any(self._may_be(place, item) for place in places):
            return True
        struct = self.driver.struct(item.owner)
        if struct.path.endswith('.h') and self._is_shared(struct):
            return True
        tag = item.owner.removeprefix('struct ')
        whole = re.compile(
            r'\bstruct\s+%s\b[^;{}]*=\s*\{\s*[^.\s}0]|\(struct\s+%s\)\s*\{'
            % (tag, tag))
        named = re.compile(r'[{,]\s*\.\s*%s\s*=(?!=)' % item.name)
        return any(whole.search(source.text) or named.search(source.text)
                   for source in self.driver.files_with(tag, item.name)) \
            or self._copied(item)

    def _may_be(self, place: Place, item: Object) -> bool:
        """May a field of a struct that is not of the driver be this one?"""
        node = place.node
        lvalue = strip(node.left if isinstance(node, c.Assign)
                       else getattr(node, 'arg', None))
        kind = self.driver.type_of(lvalue.base, place.function) \
            if isinstance(lvalue, c.Member) else None
        return kind is None or not kind.base.startswith('struct ') \
            or kind.base == item.owner

    def _copied(self, item: Object) -> bool:
        """Is a struct of this type copied from memory of no known type?"""
        for func in self.driver.functions_with(*sorted(_COPIES)):
            for call in func.calls():
                if call.name not in _COPIES or not call.args:
                    continue
                site = checks.site_of(func, call)
                for target in [call.args[0], *site.targets]:
                    kind = self.driver.type_of(target, func)
                    if kind is not None and kind.base == item.owner:
                        return True
        return False

    def _is_shared(self, struct: c.Struct) -> bool:
        """Does the struct come from a header outside of the driver's folder?"""
        here = {os.path.dirname(p) for p in self.driver.paths
                if p.endswith('.c')}
        return os.path.dirname(struct.path) not in here


def _note(call: c.Call, func: c.Function, message: str,
          steps: list[Step]) -> Note:
    return Note('finding', func.path, call.first, func.name, message, 'error',
                steps)

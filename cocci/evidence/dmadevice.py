# SPDX-License-Identifier: GPL-2.0-only
"""An expression for the struct device that does the DMA.

Only the device that probe was called for counts, and only where it is proven
to be set already.
"""
from __future__ import annotations

from functools import cached_property

from . import cparse as c
from .checks import graph
from .driver import Driver, Object, Place, text
from .flow import Step
from .lifetime import born_with
from .reach import Bound, Definitions, NotBound, Reach, is_null

#: Pointers whose device does DMA itself (an i2c client, say, does not).
_MASTERS = frozenset((
    'struct pci_dev', 'struct platform_device', 'struct amba_device',
    'struct pnp_dev', 'struct parisc_device', 'struct zorro_dev',
    'struct vio_dev', 'struct fsl_mc_device'))


class NoDevice(Exception):
    """No struct device is proven to be at hand."""


class Devices:
    """Finds the device in the functions of one driver."""

    def __init__(self, driver: Driver, reach: Reach, definitions: Definitions):
        self.driver, self.reach, self.definitions = driver, reach, definitions
        self.bound = Bound(reach, definitions)

    def at(self, func: c.Function, node: c.Node, container: c.Expr | None) -> str:
        """The device at a place, as C text; container is `x` of `x->ring`."""
        reasons: list[str] = []
        for expr, kind in self._candidates(func, container):
            try:
                self._proven(expr, func, node)
            except NotBound as exc:
                reasons.append(exc.reason)
                continue
            return _device(text(expr), kind)
        if reasons:
            raise NoDevice('no struct device is proven to be set in %s(): %s'
                           % (func.name, reasons[0]))
        raise NoDevice('no struct device is reachable from %s(): register a '
                       'platform, PCI or ISA device, or keep its struct device '
                       'beside the pointer' % func.name)

    def master(self, expr: c.Expr, func: c.Function) -> None:
        """Prove that a `struct device *` is the bound one, and does DMA."""
        probes = self.bound.probes_of(expr, func)
        for name in probes:
            for probe in self.driver.definitions(name):
                first = probe.params[0].type.base if probe.params else ''
                if first not in _MASTERS and first != 'struct device':
                    raise NotBound('a %s does no DMA itself, its bus controller '
                                   'does' % first)

    def _candidates(self, func: c.Function, container: c.Expr | None):
        """(expression, type) of everything in sight that may be the device."""
        name = func.name_token
        order = [v for v in func.locals.values() if not any(
            v is p for p in func.params)] + list(func.params)
        for var in order:
            kind = self.driver.expand(var.type)
            if kind.pointers == 1 and not kind.dims \
                    and kind.base == 'struct device':
                yield c.Id(name, name, var.name), kind.base
        for var in reversed(order):
            kind = self.driver.expand(var.type)
            if kind.pointers == 1 and not kind.dims and kind.base in _MASTERS:
                yield c.Id(name, name, var.name), kind.base
        if container is not None:
            yield from self._members(container, func)
            yield from self._behind(container, func)
        for var in reversed(order):
            kind = self.driver.expand(var.type)
            if kind.pointers == 1 and not kind.dims:
                yield from self._members(c.Id(name, name, var.name), func)
        for source in self.driver.files:
            for var in source.globals.values():
                kind = self.driver.expand(var.type)
                if kind.pointers == 1 and not kind.dims and (
                        not var.static or source.path == func.path) \
                        and (kind.base in _MASTERS
                             or kind.base == 'struct device'):
                    yield c.Id(name, name, var.name), kind.base

    def _members(self, base: c.Expr, func: c.Function):
        kind = self.driver.type_of(base, func)
        struct = self.driver.struct_of(kind)
        if struct is None or kind.dims or kind.pointers > 1:
            return
        for var in struct.fields.values():
            held = self.driver.expand(var.type)
            if held.pointers == 1 and not held.dims and (
                    held.base in _MASTERS or held.base == 'struct device'):
                yield c.Member(base.first, base.last, base, kind.pointers == 1,
                               var.name), held.base

    def _behind(self, base: c.Expr, func: c.Function):
        """The devices of what the container points to: `s->card->pdev`."""
        kind = self.driver.type_of(base, func)
        struct = self.driver.struct_of(kind)
        if struct is None or kind.dims or kind.pointers > 1:
            return
        for var in struct.fields.values():
            if var.type.pointers == 1 and not var.type.dims \
                    and not var.function:
                yield from self._members(c.Member(
                    base.first, base.last, base, kind.pointers == 1,
                    var.name), func)

    # -- is it the bound device, and is it set?

    def _proven(self, expr: c.Expr, func: c.Function, node: c.Node) -> None:
        self.master(expr, func)
        found = self.driver.object_of(expr, func)
        if found is None:
            raise NotBound('`%s` is not understood' % text(expr))
        if found.kind == 'local' and any(p.name == found.name
                                         for p in func.params):
            return
        if not self._set(found, func, node, frozenset()):
            raise NotBound('`%s` is not proven to be set before %s:%d'
                           % (text(expr), func.path, node.first.line))
        inner = expr.base if isinstance(expr, c.Member) else None
        while isinstance(inner, c.Member):
            held = self.driver.object_of(inner, func)
            kind = self.driver.type_of(inner, func)
            if kind and kind.pointers and not self._set(held, func, node,
                                                        frozenset()):
                raise NotBound('`%s` is not proven to be set before %s:%d'
                               % (text(inner), func.path, node.first.line))
            inner = inner.base

    def _set(self, found: Object, func: c.Function, node: c.Node,
             seen: frozenset[str]) -> bool:
        """Is the object assigned on every way to a place?"""
        places = [p for v, p in self.definitions.of(found)
                  if p.function is not None]
        if any(is_null(v) for v, p in self.definitions.of(found)):
            return False
        here = [p for p in places if p.function is func]
        if any(self.dominates(func, p.node, node) for p in here):
            return self._source_set(found, here, func)
        if found.kind == 'local' or func.name in seen:
            return False
        if found.kind == 'field' and born_with(self.driver, self.definitions,
                                               found, func):
            return True
        if any(self._by_helper(call, p, func, node) for p in places
               for call in self.driver.calls_to(p.function)
               if p.function is not func):
            return True
        return self._before_call(found, func, places, seen | {func.name})

    def _source_set(self, found: Object, here: list[Place],
                    func: c.Function) -> bool:
        """A local `pdev = x->pdev` is set only if the field was."""
        if found.kind != 'local':
            return True
        for place in here:
            value = place.node.init if isinstance(place.node, c.Variable) \
                else place.node.right
            for part in value.walk():
                inner = self.driver.object_of(part, func) \
                    if isinstance(part, c.Member) else None
                kind = self.driver.type_of(part, func) \
                    if isinstance(part, c.Member) else None
                if inner and kind and kind.pointers == 1 and (
                        kind.base in _MASTERS or kind.base == 'struct device') \
                        and not self._set(inner, func, place.node, frozenset()):
                    return False
        return True

    def _by_helper(self, call: Place, place: Place, func: c.Function,
                   node: c.Node) -> bool:
        """A function that always sets it was called before."""
        return call.function is func \
            and self._always(place) and self.dominates(func, call.node, node)

    def _always(self, place: Place) -> bool:
        """Does the function set it whenever it succeeds?"""
        steps = graph(place.function)
        step = steps.step_of(place.node)
        if step is None or steps.incomplete:
            return False
        dominators = steps.dominators()
        plain = any(_zero(end) for end, _ in steps.exit.before)
        for end, _ in steps.exit.before:
            if end.kind == 'return' and _fails(end, plain):
                continue
            if id(end) in dominators and id(step) not in dominators[id(end)]:
                return False
        return True

    def _before_call(self, found: Object, func: c.Function,
                     places: list[Place], seen: frozenset[str]) -> bool:
        calls = [p for p in self.driver.calls_to(func) if p.function]
        roots = list(self.driver.direct_roots(func))
        if not calls and not roots:
            return False
        if roots and not self._after_probe(roots, places):
            return False
        return all(self._set(found, p.function, p.node, seen) for p in calls)

    def _after_probe(self, roots, places: list[Place]) -> bool:
        """Entry points that run after probe, which always sets the object."""
        if any(r.kind in ('probe', 'init', 'exit', 'unknown') for r in roots):
            return False
        if len(self._probes) != 1:
            return False             # another probe may not set it
        return any(self._always(p) and all(
            e.root.kind == 'probe' for e in self.reach.entries(p.function))
            for p in places)

    @cached_property
    def _probes(self) -> set[str]:
        return {func.name for source in self.driver.files
                for func in source.all_functions()
                if any(r.kind == 'probe'
                       for r in self.driver.direct_roots(func))}

    @staticmethod
    def dominates(func: c.Function, first: c.Node, then: c.Node) -> bool:
        steps = graph(func)
        one, two = steps.step_of(first), steps.step_of(then)
        if one is None or two is None:
            return False
        if one is two:
            return first.last.end <= then.first.start
        return id(one) in steps.dominators().get(id(two), ())


def _zero(end: Step) -> bool:
    return end.kind == 'return' and end.tree.value is not None \
        and is_null(end.tree.value)


def _fails(end: Step, plain: bool) -> bool:
    """Is this the return of a failure? plain: success is `return 0` here."""
    value = end.tree.value
    if value is None:
        return False
    name = text(value)
    if end.before and all(
            label is True and step.kind == 'cond'
            and text(step.tree) in (name, name + ' < 0', name + ' != 0')
            for step, label in end.before):
        return True                              # if (ret) return ret;
    if isinstance(value, c.Unary) and value.op == '-':
        return True
    return isinstance(value, c.Call) and value.name in (
        'ERR_PTR', 'dev_err_probe') or plain and isinstance(value, c.Id)


def _device(expr: str, kind: str) -> str:
    return expr if kind == 'struct device' else '&%s->dev' % expr

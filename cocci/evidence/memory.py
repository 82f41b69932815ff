# SPDX-License-Identifier: GPL-2.0-only
"""What memory does a pointer point to, where a device may not have it?

Only what is proven is told: every value that a local pointer may hold there,
and every value that is ever stored in a field, must be such memory.  A
parameter is what the callers in the driver give, each for itself.
"""
from __future__ import annotations

from typing import NamedTuple

from . import alias
from . import cparse as c
from .checks import graph, parents
from .driver import Driver, Place, strip, text
from .reach import Definitions, is_null

STACK, STATIC, LITERAL, VMALLOC, KVMALLOC, COHERENT, REGISTERS = (
    'stack', 'static', 'literal', 'vmalloc', 'kvmalloc', 'coherent',
    'registers')
_ALLOCATORS = {
    VMALLOC: 'vmalloc vzalloc vmalloc_node vzalloc_node vmalloc_user '
             'vmalloc_32 vmalloc_32_user vmalloc_array vcalloc vmap vm_map_ram '
             '__vmalloc vmalloc_array_noprof',
    KVMALLOC: 'kvmalloc kvzalloc kvmalloc_node kvzalloc_node kvmalloc_array '
              'kvcalloc kvmalloc_obj kvmalloc_objs kvzalloc_obj kvzalloc_objs '
              'kvmalloc_flex kvzalloc_flex vmemdup_user vmemdup_array_user '
              'kvmemdup devm_kvmalloc devm_kvzalloc',
    COHERENT: 'dma_alloc_coherent dmam_alloc_coherent dma_alloc_attrs '
              'dmam_alloc_attrs dma_alloc_wc dma_pool_alloc dma_pool_zalloc '
              'pci_alloc_consistent pci_zalloc_consistent',
    REGISTERS: 'ioremap ioremap_wc ioremap_cache ioremap_uc memremap '
               'devm_ioremap devm_ioremap_wc devm_ioremap_resource '
               'devm_memremap devm_platform_ioremap_resource of_iomap '
               'pci_iomap pcim_iomap pci_ioremap_bar',
}
_KIND_OF = {name: kind for kind, names in _ALLOCATORS.items()
            for name in names.split()}
#: Whoever asks these questions knows of memory that may not be mapped.
_ASKS = frozenset('is_vmalloc_addr is_vmalloc_or_module_addr virt_addr_valid '
                  'object_is_on_stack vmalloc_to_page'.split())
_CALLS = 4              # calls that are followed upwards
_VALUES = 16            # copies that are followed


class Memory(NamedTuple):
    """Memory that a device may not have.

    name: what it is called where it is declared or allocated, which is place;
    through: the calls that pass it on to where it was asked for, outermost
    first.
    """

    kind: str
    name: str
    place: Place
    through: tuple[Place, ...] = ()


class Memories:
    """Looks for such memory in one driver."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.definitions = Definitions(driver)

    def behind(self, pointer: c.Expr, func: c.Function) -> list[Memory]:
        """The memory that a pointer points to; empty: nothing is wrong, or
        nothing is known."""
        return list(dict.fromkeys(self._points(pointer, func, _VALUES, ())))

    # -- pointers

    def _points(self, pointer: c.Expr | None, func: c.Function, left: int,
                through: tuple[Place, ...]) -> list[Memory]:
        expr = strip(pointer)
        if left < 0 or func.body is None or not _ASKS.isdisjoint(func.words):
            return []
        if isinstance(expr, c.Literal):
            return [Memory(LITERAL, expr.text, Place(func.path, func, expr),
                           through)] if expr.text.startswith('"') else []
        if isinstance(expr, c.Unary) and expr.op == '&':
            return self._lies(expr.arg, func, left - 1, through)
        if isinstance(expr, c.Assign) and expr.op == '=':
            return self._points(expr.right, func, left - 1, through)
        if isinstance(expr, c.Binary) and expr.op in '+-':
            kind = self.driver.type_of(expr.left, func)
            return self._points(expr.left, func, left - 1, through) \
                if kind and (kind.pointers or kind.dims) else []
        if isinstance(expr, c.Ternary):
            return self._all([(v, func) for v in (
                expr.then or expr.cond, expr.other)], left, through)
        if isinstance(expr, c.Call):
            return self._called(expr, func, left, through)
        if not isinstance(expr, (c.Id, c.Member, c.Index)):
            return []
        kind = self.driver.type_of(expr, func)
        if kind is not None and kind.dims \
                and not self._is_parameter(expr, func):
            return self._lies(expr, func, left - 1, through)
        if kind is None or not kind.pointers:
            return []
        if isinstance(expr, c.Id) and expr.name in func.locals:
            return self._local(expr, func, left, through)
        return self._stored(expr, func, left, through)

    def _called(self, call: c.Call, func: c.Function, left: int,
                through: tuple[Place, ...]) -> list[Memory]:
        if call.name == 'PTR_ALIGN' and call.args:
            return self._points(call.args[0], func, left - 1, through)
        if call.name in _KIND_OF and not self.driver.definitions(call.name):
            return [Memory(_KIND_OF[call.name], _target(call, func),
                           Place(func.path, func, call), through)]
        return []

    def _local(self, expr: c.Id, func: c.Function, left: int,
               through: tuple[Place, ...]) -> list[Memory]:
        """What a local pointer points to where it is used."""
        if func.locals[expr.name].static:
            return []
        parameter = self._is_parameter(expr, func)
        if parameter and not alias.assigned(self.driver, expr.name, func):
            return self._given(expr, func, left, through)
        setting = alias.reaching(self.driver, expr.name, func, expr)
        if setting is None or not setting.values or None in setting.values:
            return []
        return self._all([(v, func) for v in setting.values], left, through)

    def _given(self, expr: c.Id, func: c.Function, left: int,
               through: tuple[Place, ...]) -> list[Memory]:
        """What the callers in the driver give for a parameter."""
        if len(through) >= _CALLS or func.split:
            return []
        index = next(i for i, p in enumerate(func.params)
                     if p.name == expr.name)
        if self._depends(func, expr, through[0].node if through else expr) \
                or through and _by_state(func, through[0].node):
            return []
        out: list[Memory] = []
        for place in self.driver.calls_to(func):
            if place.function is None or index >= len(place.node.args) \
                    or any(place.node is p.node for p in through):
                continue
            out += self._points(place.node.args[index], place.function,
                                left - 1, (place, *through))
        return out

    def _depends(self, func: c.Function, param: c.Id, node: c.Node) -> bool:
        """Does it depend on something else that the callers say?"""
        steps = graph(func)
        here = steps.step_of(node)
        if here is None or steps.incomplete:
            return True
        said = self._said(func, param.name)
        for cond in steps.reachable([here], backwards=True):
            if cond.kind not in ('cond', 'switch') or cond is here \
                    or cond.tree is None:
                continue
            leads = [after for after, _ in cond.next if any(
                s is here for s in steps.reachable(
                    [after], lambda s, c=cond: s is c))]
            if len(leads) < len(cond.next) and any(
                    isinstance(n, c.Id) and n.name in said
                    for n in cond.tree.walk()):
                return True
        return False

    @staticmethod
    def _said(func: c.Function, param: str) -> set[str]:
        """The numbers that callers give, and what is made of them."""
        said = {p.name for p in func.params if p.name != param
                and not p.type.pointers and not p.type.dims}
        size = -1
        while size < len(said):
            size = len(said)
            for node in func.nodes:
                value = node.right if isinstance(node, c.Assign) else \
                    node.init if isinstance(node, c.Variable) else None
                if value is not None and any(
                        isinstance(n, c.Id) and n.name in said
                        for n in value.walk()):
                    said.add(text(node.left) if isinstance(node, c.Assign)
                             else node.name)
        return said

    def _stored(self, expr: c.Expr, func: c.Function, left: int,
                through: tuple[Place, ...]) -> list[Memory]:
        """What a field or a global pointer points to, whenever it is set."""
        found = self.driver.object_of(expr, func)
        if found is None or found.kind == 'field' and found.owner is None \
                or self.definitions.addresses(found):
            return []
        values = [(v, p.function) for v, p in self.definitions.of(found)
                  if not is_null(v)]
        if not values or any(f is None or strip(v) is not None and
                             not isinstance(strip(v), c.Call)
                             for v, f in values):
            return []
        return self._all(values, left, through)

    def _all(self, values: list[tuple[c.Expr, c.Function]], left: int,
             through: tuple[Place, ...]) -> list[Memory]:
        """The memory that all values lead to; empty if one is not known."""
        out: list[Memory] = []
        for value, func in values:
            if is_null(value):
                continue
            found = self._points(value, func, left - 1, through)
            if not found or len(values) > 1 and len(found[0].through) != len(
                    through):
                return []
            out += found
        return out

    # -- lvalues

    def _lies(self, lvalue: c.Expr, func: c.Function, left: int,
              through: tuple[Place, ...]) -> list[Memory]:
        """Where an lvalue lies whose address is taken."""
        expr = strip(lvalue)
        if isinstance(expr, c.Member):
            return self._points(expr.base, func, left - 1, through) \
                if expr.arrow else self._lies(expr.base, func, left - 1,
                                              through)
        if isinstance(expr, c.Index):
            return self._points(expr.base, func, left - 1, through)
        if isinstance(expr, c.Unary) and expr.op == '*':
            return self._points(expr.arg, func, left - 1, through)
        if not isinstance(expr, c.Id) or self.driver.macro(expr.name):
            return []
        var = func.locals.get(expr.name)
        if var is not None:
            return [Memory(STATIC if var.static else STACK, expr.name,
                           Place(func.path, func, var), through)]
        for source in self.driver.files_with(expr.name):
            var = source.globals.get(expr.name)
            if var is not None and var is self.driver.variable(expr.name):
                return [Memory(STATIC, expr.name, Place(source.path, None, var),
                               through)]
        return []

    @staticmethod
    def _is_parameter(expr: c.Expr, func: c.Function) -> bool:
        return isinstance(expr, c.Id) and any(p.name == expr.name
                                              for p in func.params)


def _target(call: c.Call, func: c.Function) -> str:
    """What the result of an allocation is stored in; else the call itself."""
    for up in parents(func).chain(call):
        if isinstance(up, c.Assign):
            return text(up.left)
        if isinstance(up, c.Variable):
            return up.name
        if not isinstance(up, (c.Paren, c.Cast)):
            break
    return text(call)


def _by_state(func: c.Function, node: c.Node) -> bool:
    """Does a node stand in a branch that what is stored somewhere chooses?

    In what state the callers call is not known.
    """
    return any(isinstance(above, c.If) and above.cond is not node
               and any(isinstance(n, c.Member) for n in above.cond.walk())
               for above in parents(func).chain(node))

# SPDX-License-Identifier: GPL-2.0-only
"""From which entry points code is reached, and what holds on the way there.

Three questions that rules about lifetimes share: through which entry points
of the driver can this function be reached (`Reach.entries`), is this device
the one that probe was called for (`Bound.probes_of`), and does every path
from here make probe fail (`Outcome`).
"""
from __future__ import annotations

import os
from typing import Iterable, Iterator, NamedTuple

from . import cparse as c
from .driver import Driver, Object, Place, Root, strip, text
from .flow import Graph, Step

#: What sets a field that keeps something until it is unmapped.
UNMAP_SETTERS = frozenset('dma_unmap_addr_set dma_unmap_len_set '
                          'pci_unmap_addr_set pci_unmap_len_set'.split())

#: Drivers whose probe and remove are called by the driver core when a device
#: is bound and unbound, so that devm resources live exactly in between; with
#: the type of probe's first parameter.
BUS_DRIVERS = {
    'struct platform_driver': 'struct platform_device',
    'struct pci_driver': 'struct pci_dev',
    'struct amba_driver': 'struct amba_device',
    'struct auxiliary_driver': 'struct auxiliary_device',
    'struct spi_driver': 'struct spi_device',
    'struct i2c_driver': 'struct i2c_client',
    'struct mdio_driver': 'struct mdio_device',
    'struct virtio_driver': 'struct virtio_device',
    'struct vio_driver': 'struct vio_dev',
    'struct pnp_driver': 'struct pnp_dev',
    'struct isa_driver': 'struct device',
    'struct parisc_driver': 'struct parisc_device',
    'struct zorro_driver': 'struct zorro_dev',
    'struct fsl_mc_driver': 'struct fsl_mc_device',
    'struct ps3_system_bus_driver': 'struct ps3_system_bus_device',
    'struct of_platform_driver': 'struct platform_device',
}
_BUS_DEVICES = frozenset(BUS_DRIVERS.values())
_SAME_DEVICE = frozenset(
    'get_device pci_dev_get to_pci_dev to_platform_device to_amba_device '
    'to_spi_device to_i2c_client to_auxiliary_dev to_pnp_dev '
    'to_vio_dev'.split())
_PROBE_CALLS = frozenset('platform_driver_probe module_platform_driver_probe '
                         'builtin_platform_driver_probe'.split())


class Entry(NamedTuple):
    """One entry point: the driver's function and how it is called."""

    function: c.Function
    root: Root

    @property
    def words(self) -> str:
        """How it is entered, for a message."""
        if self.root.kind == 'unknown':
            return self.root.what
        return '%s, called as %s (%s:%d)' % (
            self.function.name, self.root.what,
            os.path.basename(self.root.path), self.root.line)


class NotBound(Exception):
    """The device is not, or not provably, the one that is being probed."""

    def __init__(self, reason: str, place: Place | None = None):
        super().__init__(reason)
        self.reason, self.place = reason, place


class Reach:
    """Entry points of functions, cached for one driver."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self._entries: dict[int, list[Entry]] = {}

    def entries(self, func: c.Function) -> list[Entry]:
        """Every entry point through which `func` can be reached.

        A root of kind probe or remove that the driver core does not call for
        the binding of a device is turned into kind `callback`.
        """
        if id(func) not in self._entries:
            found = [Entry(f, self.classify(r)) for f, r in
                     self.driver.entries(func)]
            self._entries[id(func)] = list(dict.fromkeys(found))
        return self._entries[id(func)]

    def leads(self, kind: str, func: c.Function) -> bool:
        """Can `func` be reached from an entry point of this kind?"""
        return any(e.root.kind == kind for e in self.entries(func))

    def callers(self, func: c.Function) -> list[Place]:
        return [p for p in self.driver.calls_to(func) if p.function]

    @staticmethod
    def classify(root: Root) -> Root:
        """A root, with probe and remove only where the driver core binds."""
        if root.kind == 'callback' and root.what in _PROBE_CALLS:
            return root._replace(kind='probe')
        if root.kind in ('probe', 'remove'):
            struct = root.what.rsplit('.', 1)[0]
            if struct not in BUS_DRIVERS and struct != 'struct device_driver':
                return root._replace(kind='callback')
        return root


class Definitions:
    """What is ever stored in a field, a local or a global."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self._of: dict[Object, list[tuple[c.Expr, Place]]] = {}
        self._addresses: dict[Object, list[Place]] = {}
        self._elements: dict[Object, list[Place]] = {}
        self._done: set[str] = set()
        self._nodes: dict[int, dict[str, list[c.Node]]] = {}

    def of(self, wanted: Object) -> list[tuple[c.Expr, Place]]:
        """(value, place) of every assignment and initialiser."""
        self._index(wanted.name)
        return self._of.get(wanted, [])

    def addresses(self, wanted: Object) -> list[Place]:
        """Where `&wanted` is written."""
        self._index(wanted.name)
        return self._addresses.get(wanted, [])

    def elements(self, wanted: Object) -> list[Place]:
        """Where `&wanted[i]` is written."""
        self._index(wanted.name)
        return self._elements.get(wanted, [])

    def _index(self, name: str) -> None:
        if name in self._done:
            return
        self._done.add(name)
        for source in self.driver.files_naming(name):
            for func in source.functions_naming(name):
                for node in self._setting(func).get(name, ()):
                    self._node(name, node, source, func)
            for var in source.globals.values():
                for node in var.walk():
                    if name in _set_by(node):
                        self._node(name, node, source, None)

    def _setting(self, func: c.Function) -> dict[str, list[c.Node]]:
        """The nodes that may set something, or take its address, by name."""
        if id(func) not in self._nodes:
            out = self._nodes[id(func)] = {}
            for node in func.nodes:
                if type(node) in _SETTING:
                    for name in _set_by(node):
                        out.setdefault(name, []).append(node)
        return self._nodes[id(func)]

    def _node(self, name: str, node: c.Node, source: c.SourceFile,
              func: c.Function | None) -> None:
        place = Place(source.path, func, node)
        if isinstance(node, c.Assign) and _last(node.left) == name:
            found = self.driver.object_of(node.left, func)
            if found:
                value = node.right if node.op == '=' else node
                self._of.setdefault(found, []).append((value, place))
        elif isinstance(node, c.Variable) and node.name == name and node.init:
            found = Object('local', func.name, name) if func else \
                Object('global', '', name)
            self._of.setdefault(found, []).append((node.init, place))
        elif isinstance(node, c.Unary) and _last(node.arg) == name:
            found = self.driver.object_of(node.arg, func)
            if found and node.op == '&':
                (self._elements if isinstance(strip(node.arg), c.Index)
                 else self._addresses).setdefault(found, []).append(place)
            elif found and node.op in ('++', '--', 'p++', 'p--'):
                self._of.setdefault(found, []).append((node, place))
        elif isinstance(node, c.Variable) and isinstance(node.init, c.InitList):
            self._initialiser(name, node.type.base, node.init, place)
        elif isinstance(node, c.Call) and node.name in UNMAP_SETTERS \
                and len(node.args) == 3 and text(node.args[1]) == name:
            found = self.driver.object_of(unmap_field(node), func)
            self._of.setdefault(found, []).append((node.args[2], place))

    def _initialiser(self, name: str, struct: str, init: c.InitList,
                     place: Place) -> None:
        for label, item in zip(init.names, init.items):
            if label == name:
                self._of.setdefault(Object('field', struct, name), []).append(
                    (item, place))


def unmap_field(call: c.Call) -> c.Member:
    """The field that dma_unmap_addr(p, field) and its setter stand for."""
    return c.Member(call.first, call.last, call.args[0], True,
                    text(call.args[1]))


_SETTING = frozenset((c.Assign, c.Unary, c.Variable, c.Call))


def _set_by(node: c.Node) -> Iterable[str]:
    """The last names of all that a node may set, or take the address of."""
    if isinstance(node, c.Assign):
        return _last(node.left),
    if isinstance(node, c.Unary):
        return _last(node.arg),
    if isinstance(node, c.Variable) and node.init:
        return {node.name, *(node.init.names if isinstance(
            node.init, c.InitList) else ())}
    if isinstance(node, c.Call) and node.name in UNMAP_SETTERS \
            and len(node.args) == 3:
        return text(node.args[1]),
    return ()


def _last(expr: c.Expr) -> str:
    """The name at the end of an lvalue: the field, or the variable."""
    expr = strip(expr)
    while isinstance(expr, c.Index) or isinstance(expr, c.Unary) \
            and expr.op == '*':
        expr = strip(expr.base if isinstance(expr, c.Index) else expr.arg)
    return expr.name if isinstance(expr, (c.Id, c.Member)) else ''


def is_null(expr: c.Expr | None) -> bool:
    expr = strip(expr)
    while isinstance(expr, c.Assign) and expr.op == '=':
        expr = strip(expr.right)                     # x->a = x->b = NULL
    return isinstance(expr, c.Id) and expr.name == 'NULL' \
        or isinstance(expr, c.Literal) and expr.text == '0'


class Bound:
    """Is an expression the device that is being probed?"""

    def __init__(self, reach: Reach, definitions: Definitions):
        self.driver, self.reach = reach.driver, reach
        self.definitions = definitions

    def probes_of(self, expr: c.Expr, func: c.Function) -> frozenset[str]:
        """The probe functions whose own device `expr` is; NotBound if unsure.

        expr is a `struct device *` or a pointer to a bus device.
        """
        return self._of(expr, func, frozenset())

    def _of(self, expr: c.Expr, func: c.Function,
            seen: frozenset[object]) -> frozenset[str]:
        expr = strip(expr)
        if is_null(expr):
            raise NotBound('the device is NULL', Place(func.path, func, expr))
        if isinstance(expr, c.Unary) and expr.op == '&':
            return self._embedded(expr, func, seen)
        if isinstance(expr, c.Id):
            return self._name(expr, func, seen)
        if isinstance(expr, c.Member):
            return self._member(expr, func, seen)
        if isinstance(expr, c.Call):
            return self._call(expr, func, seen)
        raise self._unknown(expr, func)

    @staticmethod
    def _unknown(expr: c.Expr, func: c.Function, why: str = '') -> NotBound:
        return NotBound('device `%s` is not proven to be the one being probed%s'
                        % (text(expr), why and ' (%s)' % why),
                        Place(func.path, func, expr))

    def _embedded(self, expr: c.Unary, func: c.Function,
                  seen: frozenset[object]) -> frozenset[str]:
        inner = strip(expr.arg)
        if isinstance(inner, c.Member) and inner.name == 'dev':
            kind = self.driver.type_of(inner.base, func)
            if kind and kind.base in _BUS_DEVICES:
                return self._of(inner.base, func, seen)
            if kind and not kind.base.startswith('struct '):
                kind = None
            raise self._unknown(expr, func, 'it belongs to a %s' % kind.base
                                if kind else '')
        raise self._unknown(expr, func)

    def _name(self, expr: c.Id, func: c.Function,
              seen: frozenset[object]) -> frozenset[str]:
        var = func.locals.get(expr.name)
        if var is None:
            found = self.driver.object_of(expr, func)
            if found is None:
                raise self._unknown(expr, func)
            return self._stored(found, expr, func, seen)
        local = Object('local', func.name, expr.name)
        if any(p is var for p in func.params):
            if self.definitions.of(local):
                raise self._unknown(expr, func, 'the parameter is reassigned')
            return self._parameter(func.params.index(var), expr, func, seen)
        if self.definitions.addresses(local):
            raise self._unknown(expr, func, 'its address is taken')
        return self._stored(local, expr, func, seen)

    def _parameter(self, index: int, expr: c.Id, func: c.Function,
                   seen: frozenset[object]) -> frozenset[str]:
        key = (id(func), index)
        if key in seen:
            return frozenset()
        seen |= {key}
        out: set[str] = set()
        for entry in self.driver.direct_roots(func):
            entry = self.reach.classify(entry)
            if entry.kind == 'probe' and index == 0:
                out.add(func.name)
            elif entry.kind == 'remove' and index == 0:
                pass            # the device that probe had
            else:
                raise self._unknown(expr, func, 'in %s, called by %s'
                                    % (func.name, entry))
        for place in self.reach.callers(func):
            if index >= len(place.node.args):
                raise self._unknown(expr, func)
            out |= self._of(place.node.args[index], place.function, seen)
        return frozenset(out)

    def _member(self, expr: c.Member, func: c.Function,
                seen: frozenset[object]) -> frozenset[str]:
        name = text(expr)
        if name.endswith('dev.parent'):
            return self._netdev_parent(expr, func, seen)
        if expr.name == 'parent':
            raise NotBound('device `%s` is a parent, not the one being probed'
                           % name, Place(func.path, func, expr))
        found = self.driver.object_of(expr, func)
        if found is None or found.owner is None:
            raise self._unknown(expr, func)
        return self._stored(found, expr, func, seen)

    def _netdev_parent(self, expr: c.Member, func: c.Function,
                       seen: frozenset[object]) -> frozenset[str]:
        base = strip(strip(expr.base).base)
        kind = self.driver.type_of(base, func)
        if not kind or kind.base != 'struct net_device':
            raise NotBound('device `%s` is a parent, not the one being probed'
                           % text(expr), Place(func.path, func, expr))
        out: set[str] = set()
        for other in self.driver.functions_with('SET_NETDEV_DEV'):
            for call in other.calls():
                if call.name == 'SET_NETDEV_DEV' and len(call.args) == 2:
                    out |= self._of(call.args[1], other, seen)
        if not out:
            raise self._unknown(expr, func, 'no SET_NETDEV_DEV was found')
        return frozenset(out)

    def _stored(self, found: Object, expr: c.Expr, func: c.Function,
                seen: frozenset[object]) -> frozenset[str]:
        if found in seen:
            return frozenset()
        seen |= {found}
        if self.definitions.addresses(found):
            raise self._unknown(expr, func, 'the address of %s is taken'
                                % str(found))
        values = [(v, p) for v, p in self.definitions.of(found)
                  if not is_null(v)]
        if not values:
            raise self._unknown(expr, func, 'no assignment of it was found')
        out: set[str] = set()
        for value, place in values:
            if place.function is None:
                raise self._unknown(expr, func)
            out |= self._of(value, place.function, seen)
        return frozenset(out)

    def _call(self, expr: c.Call, func: c.Function,
              seen: frozenset[object]) -> frozenset[str]:
        if expr.name in _SAME_DEVICE and len(expr.args) == 1:
            return self._of(expr.args[0], func, seen)
        callee = self.driver.resolve(expr.name, func) if expr.name else None
        if callee is None or callee.body is None or id(callee) in seen:
            raise self._unknown(expr, func)
        seen |= {id(callee)}
        out: set[str] = set()
        for node in callee.body.walk():
            if isinstance(node, c.Return) and node.value:
                out |= self._of(node.value, callee, seen)
        if not out:
            raise self._unknown(expr, func)
        return frozenset(out)


# ------------------------------------------------------------------ outcomes

#: What a function gives back: zero or NULL, not zero (an error code), nothing,
#: or something that is not known.
ZERO, ERROR, NOTHING, UNKNOWN = 'zero', 'error', 'nothing', 'unknown'
_ERRORS = frozenset('PTR_ERR ERR_PTR ERR_CAST dev_err_probe '
                    'dev_err_ptr_probe'.split())
_LIMIT = 6000
Facts = dict[str, str]


class Outcome:
    """With what value do the paths through a given step leave the function?

    A path-sensitive walk that follows the values 0 and error of the variables
    that are returned or that guard `focus`.
    """

    def __init__(self, func: c.Function, focus: tuple[str, ...] = ()):
        self.graph = Graph(func)
        self.func = func
        self.names = self._relevant(focus)
        self.value_of: dict[int, str] = {}     # id(call) -> assumed result
        self.later: set[int] = set()           # id(step) reached after `step`
        self.visited: set[int] = set()         # id(step) reached at all

    def _relevant(self, focus: tuple[str, ...]) -> frozenset[str]:
        """Returned variables and those that they are copied from."""
        names = set(focus)
        assigns: list[tuple[str, c.Expr]] = []
        for node in self.func.body.walk():
            if isinstance(node, c.Return):
                for part in node.value.walk() if node.value else ():
                    if isinstance(part, c.Id):
                        names.add(part.name)
            elif isinstance(node, c.Assign) and node.op == '=':
                assigns.append((text(node.left), strip(node.right)))
            elif isinstance(node, c.Variable) and node.init:
                assigns.append((node.name, strip(node.init)))
        for _ in range(3):
            for left, right in assigns:
                if left in names and isinstance(right, (c.Id, c.Member)):
                    names.add(text(right))
                elif left in names and isinstance(right, c.Assign):
                    names.add(text(right.left))
        return frozenset(names)

    def through(self, step: Step, without: Step | None = None) -> set[str]:
        """Values returned on the paths from entry that go through a step,
        and not through another.  A step that no path was found to go through
        may do anything."""
        return self._walk(step, without) or (
            set() if without else {UNKNOWN})

    def reaches(self, node: c.Node) -> bool:
        """May a node be reached at all, with what value_of assumes?"""
        self.visited.clear()
        self._walk(self.graph.entry, [])
        step = self.graph.step_of(node)
        return self.graph.incomplete or step is None \
            or id(step) in self.visited

    def without(self, nodes: list[c.Node]) -> set[str]:
        """Values returned on the paths that go through none of the nodes."""
        return self._walk(self.graph.entry,
                          [self.graph.step_of(node) for node in nodes])

    def _walk(self, step: Step, without: Step | list[Step] | None) -> set[str]:
        barred = without if isinstance(without, list) else [without]
        if self.graph.incomplete:
            return {UNKNOWN}
        out: set[str] = set()
        seen: set[tuple[int, frozenset, bool]] = set()
        todo: list[tuple[Step, Facts, bool]] = [(self.graph.entry, {}, False)]
        while todo:
            here, facts, marked = todo.pop()
            if any(here is b for b in barred):
                continue
            self.visited.add(id(here))
            if marked:
                self.later.add(id(here))
            marked = marked or here is step
            key = id(here), frozenset(facts.items()), marked
            if key in seen:
                continue
            seen.add(key)
            if len(seen) > _LIMIT:
                self.visited.update(map(id, self.graph.steps))
                return {UNKNOWN}
            if here.kind == 'return':
                if marked:
                    out.add(self._returned(here.tree.value, facts))
                continue
            if here is self.graph.exit:
                if marked:
                    out.add(NOTHING)
                continue
            for succ, new in self._leave(here, facts):
                todo.append((succ, new, marked))
        return out

    def _leave(self, here: Step, facts: Facts) -> Iterator[tuple[Step, Facts]]:
        if here.kind == 'cond' and here.tree is not None:
            facts = self._assignments(here.tree, facts)
            truth = self._truth(here.tree, facts)
            for succ, label in here.next:
                if label in (True, False) and truth is not None \
                        and truth is not label:
                    continue
                new = dict(facts)
                if label in (True, False):
                    self._refine(here.tree, label, new)
                yield succ, new
            return
        if here.tree is not None:
            facts = self._assignments(here.tree, facts)
        for succ, _ in here.next:
            yield succ, facts

    def _assignments(self, tree: c.Node, facts: Facts) -> Facts:
        for node in tree.walk():
            if isinstance(node, c.Variable) and node.name in self.names:
                facts = self._set(facts, node.name, node.init)
            elif isinstance(node, c.Assign) and text(node.left) in self.names:
                facts = self._set(facts, text(node.left), node.right
                                  if node.op == '=' else None)
            elif isinstance(node, c.Unary) and node.op in (
                    '&', '++', '--', 'p++', 'p--') \
                    and text(node.arg) in self.names:
                facts = self._set(facts, text(node.arg), None)
        return facts

    def _set(self, facts: Facts, name: str, value: c.Expr | None) -> Facts:
        facts = dict(facts)
        known = self.value(value, facts) if value is not None else UNKNOWN
        if known == UNKNOWN:
            facts.pop(name, None)
        else:
            facts[name] = known
        return facts

    def value(self, expr: c.Expr | None, facts: Facts) -> str:
        """ZERO, ERROR or UNKNOWN."""
        expr = strip(expr)
        if id(expr) in self.value_of:
            return self.value_of[id(expr)]
        if expr is None:
            return UNKNOWN
        if is_null(expr) or isinstance(expr, c.Id) and expr.name == 'false':
            return ZERO
        if isinstance(expr, c.Id) and expr.name == 'true':
            return ERROR
        if isinstance(expr, c.Literal):
            return ERROR
        if isinstance(expr, c.Unary) and expr.op == '-':
            inner = strip(expr.arg)
            return ERROR if isinstance(inner, c.Literal) or isinstance(
                inner, c.Id) and inner.name.isupper() else UNKNOWN
        if isinstance(expr, c.Unary) and expr.op == '!':
            inner_value = self.value(expr.arg, facts)
            return {ZERO: ERROR, ERROR: ZERO}.get(inner_value, UNKNOWN)
        if isinstance(expr, c.Call) and expr.name in _ERRORS:
            return ERROR
        if isinstance(expr, c.Assign) and expr.op == '=':
            return self.value(expr.right, facts)
        if isinstance(expr, c.Ternary):
            truth = self._truth(expr.cond, facts)
            if truth is None:
                both = {self.value(expr.then or expr.cond, facts),
                        self.value(expr.other, facts)}
                return both.pop() if len(both) == 1 else UNKNOWN
            return self.value(expr.then or expr.cond, facts) if truth \
                else self.value(expr.other, facts)
        if isinstance(expr, (c.Id, c.Member, c.Index)):
            return facts.get(text(expr), UNKNOWN)
        return UNKNOWN

    def _returned(self, expr: c.Expr | None, facts: Facts) -> str:
        return NOTHING if expr is None else self.value(expr, facts)

    def _truth(self, expr: c.Expr | None, facts: Facts) -> bool | None:
        """The value of a condition, None when it is not known."""
        expr = strip(expr)
        if isinstance(expr, c.Unary) and expr.op == '!':
            inner = self._truth(expr.arg, facts)
            return None if inner is None else not inner
        if isinstance(expr, c.Call) and len(expr.args) == 1:
            if expr.name in ('likely', 'unlikely'):
                return self._truth(expr.args[0], facts)
            known = self.value(expr.args[0], facts)
            if expr.name == 'IS_ERR_OR_NULL' and known != UNKNOWN:
                return True
            if expr.name == 'IS_ERR' and known != UNKNOWN:
                return known == ERROR
            if expr.name in ('WARN_ON', 'WARN_ON_ONCE'):
                return self._truth(expr.args[0], facts)
        if isinstance(expr, c.Binary):
            return self._binary(expr, facts)
        known = self.value(expr, facts)
        return None if known == UNKNOWN else known == ERROR

    def _binary(self, expr: c.Binary, facts: Facts) -> bool | None:
        if expr.op in ('&&', '||'):
            stop = expr.op == '||'
            left = self._truth(expr.left, facts)
            right = self._truth(expr.right, facts)
            if left is stop or right is stop:
                return stop
            return None if None in (left, right) else not stop
        left, right, op = self._sides(expr)
        if not is_null(right):
            return None
        known = self.value(left, facts)
        if known == UNKNOWN:
            return None
        error = known == ERROR
        return {'==': not error, '!=': error, '<': error, '>=': not error,
                '>': False if error else False,
                '<=': True}.get(op)

    @staticmethod
    def _sides(expr: c.Binary) -> tuple[c.Expr, c.Expr, str]:
        """The comparison with a constant zero on its right."""
        if is_null(expr.left):
            turned = {'<': '>', '>': '<', '<=': '>=', '>=': '<='}
            return expr.right, expr.left, turned.get(expr.op, expr.op)
        return expr.left, expr.right, expr.op

    def _refine(self, expr: c.Expr, truth: bool, facts: Facts) -> None:
        """Learn from a condition that was found true or false."""
        expr = strip(expr)
        if isinstance(expr, c.Unary) and expr.op == '!':
            self._refine(expr.arg, not truth, facts)
        elif isinstance(expr, c.Call) and len(expr.args) == 1 and expr.name in (
                'likely', 'unlikely', 'WARN_ON', 'WARN_ON_ONCE'):
            self._refine(expr.args[0], truth, facts)
        elif isinstance(expr, c.Call) and len(expr.args) == 1 \
                and expr.name == 'IS_ERR' and truth:
            self._learn(expr.args[0], ERROR, facts)
        elif isinstance(expr, c.Binary) and expr.op in ('&&', '||'):
            if truth is (expr.op == '&&'):
                self._refine(expr.left, truth, facts)
                self._refine(expr.right, truth, facts)
        elif isinstance(expr, c.Binary):
            left, right, op = self._sides(expr)
            if is_null(right):
                when = {('==', True): ZERO, ('==', False): ERROR,
                        ('!=', True): ERROR, ('!=', False): ZERO,
                        ('<', True): ERROR, ('>=', False): ERROR}
                if (op, truth) in when:
                    self._learn(left, when[op, truth], facts)
        else:
            self._learn(expr, ERROR if truth else ZERO, facts)

    def _learn(self, expr: c.Expr, value: str, facts: Facts) -> None:
        expr = strip(expr)
        if isinstance(expr, c.Assign):
            expr = strip(expr.left)
        if text(expr) in self.names:
            facts[text(expr)] = value

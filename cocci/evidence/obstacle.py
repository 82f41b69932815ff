# SPDX-License-Identifier: GPL-2.0-only
"""What stands in the way of making a buffer coherent memory.

Each function raises Refused with the reason and its place.
"""
from __future__ import annotations

from . import cparse as c
from .buffer import NoDma, Refused, Site, called, lvalue
from .checks import graph
from .driver import Driver, Object, strip, text
from .pointer import Use
from .sink import NotDevice, Sinks

_DOES_DMA = ('dma_set_mask', 'dma_set_coherent_mask', 'pci_set_master',
             'pci_set_dma_mask', 'dma_alloc_', 'dma_map_', 'pci_map_',
             'dma_pool_')


def container(driver: Driver, sites: list[Site]) -> None:
    """Refuse a block that holds CPU-only state beside what the device sees."""
    for site in sites:
        kind = driver.type_of(site.address.base, site.func)
        struct = driver.struct_of(kind)
        if struct is None or kind.pointers != 1 or kind.dims:
            continue
        for var in struct.fields.values():
            held = driver.expand(var.type)
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
                    'own first' % (called(driver, Object(
                        'field', struct.tag, var.name)).split('.')[0],
                                   var.name))


def read_by_device(driver: Driver, sites: list[Site]) -> frozenset[str]:
    """The structs in memory that the device is given the address of."""
    todo = [driver.struct_of(driver.type_of(
        strip(site.call.args[0]), site.func)) for site in sites]
    tags: set[str] = set()
    while todo:
        struct = todo.pop()
        if struct is None or struct.tag in tags:
            continue
        tags.add(struct.tag)
        todo += [driver.struct_of(v.type) for v in
                 struct.fields.values() if not v.type.pointers]
    return frozenset(tags)


def harmless(driver: Driver, objects: set[Object], uses: list[Use],
             sites: list[Site], allocations: list[Use]) -> None:
    """Refuse when the pointer is used in a way that may not stay."""
    obj = min(objects, key=lambda o: o.kind)       # a field before a local
    known = {id(s.call) for s in sites}
    for use in uses:
        if use.kind == 'unknown':
            raise Refused('`%s` cannot be followed everywhere: %s'
                          % (called(driver, obj), use.why), use.path,
                          use.node.first.line)
        if use.kind == 'freed' and (not use.exact
                                   or use.of not in objects):
            raise Refused('`%s` is freed through `%s`'
                          % (called(driver, obj), text(use.pointer)),
                          use.path, use.node.first.line)
        if use.kind == 'address' and use.of not in objects \
                and id(use.node) not in known:
            raise Refused('the address of `%s` is also taken through `%s`'
                          % (called(driver, obj), text(use.pointer)),
                          use.path, use.node.first.line)
    for use in allocations:
        _tested(use)


def _tested(use: Use) -> None:
    """The result of the allocation must be tested before it is used."""
    if use.func.body is None:
        raise Refused('function %s could not be parsed' % use.func.name)
    steps = graph(use.func)
    start = steps.step_of(use.node)
    pointer = text(lvalue(use))
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


def device_sinks(sinks: Sinks, sites: list[Site]) -> None:
    """Refuse unless a device gets the address, and nobody else."""
    proof = False
    for site in sites:
        try:
            proof |= sinks.goes_to_device(site)
        except NotDevice as exc:
            raise (Refused if 'bus' in site.call.name else NoDma)(
                str(exc), site.path, site.call.first.line) from None
    if not proof:
        raise Refused('no place was found where a device gets this address '
                      '(it is only printed or compared)')
    phys = next((s for s in sites if 'bus' not in s.call.name), None)
    driver = sinks.driver
    if phys is not None and not driver.files_with(*_DOES_DMA) \
            and not driver.files_with('pci_driver') \
            and not (sinks.direct and any(id(s.call) in sinks.programmed
                                          for s in sites)):
        raise NoDma('%s() is no proof of DMA, and the driver nowhere uses '
                      'the DMA API or sets a DMA mask: firmware may want the '
                      'physical address' % phys.call.name, phys.path,
                      phys.call.first.line)


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

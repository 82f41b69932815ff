# SPDX-License-Identifier: GPL-2.0-only
"""Finds memory that is mapped for a device and must not be.

A device reaches memory by its physical address and in whole cache lines: the
stack, data of the module and vmalloc() memory have no such address to rely
on, or share their lines with what the CPU writes meanwhile.
"""
from __future__ import annotations

from . import cparse as c
from . import memory
from .checks import SG_MAPS
from .driver import Driver, Place, strip
from .memory import Memories, Memory
from .plan import Note, Unit
from .report import Step

#: The argument that points to memory for a device.
POINTER = {'dma_map_single': 1, 'dma_map_single_attrs': 1,
           'pci_map_single': 1, 'sg_init_one': 1, 'sg_set_buf': 1,
           'dma_map_page': 1, 'dma_map_page_attrs': 1}
_LISTS = frozenset(('sg_init_one', 'sg_set_buf'))
_PAGES = frozenset(('dma_map_page', 'dma_map_page_attrs'))
_SG_MAPS = SG_MAPS | {'dma_map_sgtable'}

_WORDS = {
    memory.STACK: ('error', 'is on the stack', 'a stack may be vmalloc() '
                   'memory, and shares cache lines with what the CPU writes '
                   'meanwhile; allocate the buffer with kmalloc()'),
    memory.STATIC: ('warning', 'is static', 'data of a module is vmalloc() '
                    'memory; allocate the buffer with kmalloc()'),
    memory.LITERAL: ('error', 'is a string constant', 'read-only data of a '
                     'module is vmalloc() memory; copy it with kmemdup()'),
    memory.VMALLOC: ('error', 'comes from %s()', 'dma_map_single() and '
                     'sg_set_buf() need memory of kmalloc() or '
                     'alloc_pages()'),
    memory.KVMALLOC: ('warning', 'comes from %s()', 'this is vmalloc() memory '
                      'when kmalloc() fails; use kmalloc(), or map page by '
                      'page'),
    memory.COHERENT: ('error', 'comes from %s()', 'it has its DMA address '
                      'already, and need not be in the linear mapping; use '
                      'the handle of the allocation'),
    memory.REGISTERS: ('error', 'comes from %s()', 'it is not in the linear '
                       'mapping; dma_map_resource() maps device memory'),
}


def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
    """A unit for each place where such memory is handed over."""
    memories = Memories(driver)
    notes: dict[tuple[str, int, str], Note] = {}
    for func in driver.functions_with(*sorted(POINTER)):
        for call in func.calls():
            pointer = _pointer(driver, func, call)
            if pointer is not None:
                for found in memories.behind(pointer, func):
                    note = _note(found, call, func)
                    notes.setdefault((note.path, note.token.start,
                                      found.kind), note)
    return [Unit(notes=[note]) for note in notes.values()]


def _pointer(driver: Driver, func: c.Function, call: c.Call) -> c.Expr | None:
    """What is mapped, where that is a pointer to memory."""
    index = POINTER.get(call.name, -1)
    if not 0 <= index < len(call.args) or driver.definitions(call.name) \
            or driver.macro(call.name):
        return None
    value = call.args[index]
    if call.name in _LISTS:
        return value if _is_mapped(driver, func, call.args[0]) else None
    if call.name in _PAGES:
        page = strip(value)
        return page.args[0] if isinstance(page, c.Call) \
            and page.name == 'virt_to_page' and page.args else None
    return value


def _is_mapped(driver: Driver, func: c.Function, table: c.Expr) -> bool:
    """Does the driver itself map this scatterlist?"""
    wanted = driver.object_of(_table(table), func)
    if wanted is None or wanted.kind == 'field' and wanted.owner is None:
        return False
    for other in driver.functions_with(*sorted(_SG_MAPS)):
        if wanted.kind == 'local' and other is not func:
            continue
        if any(call.name in _SG_MAPS and len(call.args) > 1
               and driver.object_of(_table(call.args[1]), other) == wanted
               for call in other.calls()):
            return True
    return False


def _table(expr: c.Expr) -> c.Expr | None:
    """The list itself: `sg` of `&sg` and `&sg[1]`."""
    expr = strip(expr)
    return expr.arg if isinstance(expr, c.Unary) and expr.op == '&' else expr


def _note(found: Memory, call: c.Call, func: c.Function) -> Note:
    severity, what, why = _WORDS[found.kind]
    origin = found.place.node
    if isinstance(origin, c.Call):
        what = what % origin.name
    steps = [Step(found.place.path, found.place.line, '`%s` %s'
                  % (found.name, what))]
    steps += [Step(p.path, p.line, '%s() passes it to %s()'
                   % (p.function.name, p.node.name)) for p in found.through]
    mapped = Place(func.path, func, call)
    steps.append(Step(func.path, call.first.line, '%s() maps it with %s()'
                      % (func.name, call.name)))
    at = found.through[0] if found.through else mapped
    by = 'is given to %s()' % call.name if not found.through else \
        '%s() gives it to %s() (%s)' % (found.through[-1].node.name, call.name,
                                        mapped.seen_from(''))
    return Note('finding', at.path, at.node.first, at.function.name,
                '`%s` %s (%s) and %s: %s' % (
                    found.name, what, found.place.seen_from(at.path), by, why),
                severity, steps)

# SPDX-License-Identifier: GPL-2.0-only
"""The edits that turn one buffer into DMA memory.

Each method adds to the buffer what must change at one use, and raises Refused
where that cannot be written down.
"""
from __future__ import annotations

import os
import re

from . import alias, context
from . import cparse as c
from .allocation import (ALLOCATIONS, PAGES, Size, Unfit, expression,
                         flags_of)
from .buffer import Buffer, Refused, Site, devm, lvalue
from .checks import Parents, graph, out_of_scope, parents
from .dmadevice import Devices, NoDevice
from .dmamask import limit, masks
from .driver import Driver, Object, strip, text
from .handle import Handle
from .includes import anchor, reaches
from .origin import Carrier
from .plan import Addition, Edit, Note, Unit
from .pointer import RELEASE, Use, holds_pointer, prints
from .reach import Definitions, NotBound, Reach
from .stream import NoStream, transfer

_LOOSER = frozenset('== != < > <= >= && || ,'.split())   # than a sum


class Rewrite:
    """Writes the edits for the buffers of one driver."""

    def __init__(self, driver: Driver, definitions: Definitions, reach: Reach,
                 devices: Devices):
        self.driver, self.definitions = driver, definitions
        self.reach, self.devices = reach, devices

    def allocation(self, unit: Buffer, use: Use, obj: Object,
                    handle: Handle) -> None:
        call, func = use.node, use.func
        target = lvalue(use)
        kind = self.driver.type_of(target, func)
        if kind is None or not kind.pointers and not holds_pointer(kind):
            raise Refused('`%s` is no pointer%s: declare it `void *` first, and '
                          'cast it where an integer is wanted'
                          % (text(target), kind and ', but %s' % kind.base or ''),
                          use.path, call.first.line)
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
        # of the mark, the rule makes a cast to an integer
        mode = flags.text if kind.pointers else '_l(%s)' % flags.text
        unit.edits.append(Edit(
            'call', use.path, call.first, func.name,
            '%s() of memory whose address a device gets: use %s(), which gives '
            'the handle %s' % (call.name, new, at),
            {'dev': dev, 'size': expression(size), 'handle': at, 'gfp': mode}))
        if flags.low:
            unit.notes.append(Note(
                'finding', use.path, call.first, func.name,
                limit(masks(self.driver, self.reach), flags.low, dev), 'note'))
        if flags.guess is not None:
            why = flags.guess.message
            unit.notes.append(Note(
                'finding', use.path, call.first, func.name,
                'no allocation mode was given: %s is taken%s'
                % (flags.text, ', as ' + why if why else ''), 'note',
                list(flags.guess.evidence)))
        self._memset(unit, use, text(target), size)

    def _memset(self, unit: Buffer, use: Use, pointer: str, size: str) -> None:
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

    def free(self, unit: Buffer, use: Use, obj: Object,
              allocations: list[Use], handle: Handle) -> None:
        call, func = use.node, use.func
        place = use.place or use.pointer
        managed = devm(allocations[0])
        if any(devm(a) != call.name.startswith('devm_') for a in allocations):
            raise Refused('%s() frees what %s() allocated' % (
                call.name, allocations[0].node.name), use.path, call.first.line)
        reason = context.of(self.driver).may_sleep(func, call).reason
        if reason:
            raise Refused('dma_free_coherent() must run with interrupts enabled, '
                          'which is not proven of this %s(): %s'
                          % (call.name, reason), use.path, call.first.line)
        sizes = set()
        for allocation in allocations:
            try:
                sizes.add(self._size(allocation).at(func, place, call))
            except Unfit as exc:
                raise Refused(str(exc), use.path, call.first.line) from None
        if len(sizes) != 1:
            raise Refused('it is allocated with different sizes: %s'
                          % ', '.join(sorted(sizes)), use.path, call.first.line)
        size = sizes.pop()
        self._order(call, size, allocations)
        if managed:
            dev = text(call.args[0], casts=True)
        else:
            dev = self._device(func, call, obj, place)
        unit.edits.append(Edit(
            'call', use.path, call.first, func.name,
            '%s() of what becomes coherent memory' % call.name,
            {'dev': dev, 'size': expression(size), 'cpu': self._freed(call, use),
             'handle': handle.beside(place)}))

    def _freed(self, call: c.Call, use: Use) -> str:
        """The pointer that is freed; a cast stays where it does something."""
        arg = call.args[RELEASE[call.name]]
        if isinstance(arg, c.Cast) and arg.type.pointers:
            return text(arg, casts=True)
        held = holds_pointer(self.driver.type_of(use.pointer, use.func))
        return ('(void *)' if held else '') + text(use.pointer)

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

    def address(self, unit: Buffer, site: Site, handle: Handle) -> None:
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

    def aliases(self, unit: Buffer, sites: list[Site]) -> None:
        """Remove local variables that only served to take an address."""
        names = {(site.func, name) for site in sites
                 for name in site.address.aliases}
        gone = {id(site.call) for site in sites}
        while True:
            left = next(((f, n) for f, n in names
                         if not alias.used_besides(n, f, gone)
                         and not _mentioned(unit, n, f)), None)
            if left is None:
                break
            names.discard(left)
            gone |= self._drop(unit, *left)
        for func, name in {(s.func, s.address.parameter) for s in sites
                           if s.address.parameter}:
            if not alias.used_besides(name, func, gone) \
                    and not _mentioned(unit, name, func):
                unit.notes.append(Note(
                    'finding', func.path, func.name_token, func.name,
                    'parameter `%s` of %s() has no use any more: drop it, and '
                    'the argument of its callers' % (name, func.name), 'note'))

    def _drop(self, unit: Buffer, func: c.Function, name: str) -> set[int]:
        """Remove a variable and its assignments; ids of what goes."""
        above = parents(func)
        decl = alias.declaration(name, func)
        gone = {id(decl)}
        plain = decl is not None and len(decl.variables) == 1
        for node in func.body.walk():
            if isinstance(node, c.Assign) and text(node.left) == name:
                statement = above.of(node)
                plain &= node.op == '=' and isinstance(
                    statement, c.ExprStmt) and isinstance(
                        above.of(statement), c.Block)
                gone.add(id(statement))
            elif isinstance(node, c.Unary) and text(node.arg) == name \
                    and node.op in ('++', '--', 'p++', 'p--'):
                plain = False
        if not plain:
            raise Refused('`%s` would be left without a use: take the address '
                          'of what it points to directly' % name, func.path,
                          func.first.line)
        unit.additions += [
            Addition(('drop', 'local', func.name, name), func.path,
                     declaration=('local', func.name, name)),
            Addition(('drop', name), func.path)]
        return gone

    def stream(self, unit: Buffer, obj: Object, sites: list[Site],
                uses: list[Use], allocations: list[Use], handle: Handle) -> None:
        """Map a buffer for the one transfer that it is allocated for."""
        site = sites[0]
        func = site.func
        try:
            how = transfer(self.driver, func, site, sites, uses, handle)
        except NoStream as exc:
            message, node, path = exc.args
            raise Refused('streaming buffer `%s`: %s' % (obj.name, message),
                          path, node.first.line) from None
        if len(allocations) != 1 or devm(allocations[0]) or any(
                'page' in a.node.name for a in allocations) \
                or not any(u.kind == 'freed' for u in uses):
            raise Refused('streaming buffer `%s`: it is not simply allocated with '
                          'kmalloc() and freed here' % obj.name)
        reason = context.of(self.driver).may_sleep(func, site.call).reason
        try:
            size = self._size(allocations[0]).at(func, site.address.base,
                                                 site.call)
        except Unfit as exc:
            raise Refused(str(exc), func.path, site.call.first.line) from None
        dev = self._device(func, site.call, obj, None)
        name = handle.name
        kept = handle.assigned_by(site) is not None
        unit.edits.append(Edit(
            'call', site.path, site.call.first, func.name,
            '%s() of a buffer for one transfer: map it with dma_map_single() '
            '(%s)%s' % (site.call.name, how.direction,
                        ', where it is not proven to sleep: ' + reason
                        if reason else ''),
            {'handle': 'cocci_dma_mapped' if kept else name}))
        unit.additions += handle.additions
        mapping = {'dev': dev, 'size': expression(size),
                   'direction': how.direction}
        shape = 'kept' if kept else 'stream'
        unit.additions += [
            Addition((shape, func.name, name), func.path, mapping | {
                'cpu': text(site.address.base), 'failure': how.failure}),
            Addition((shape, name), func.path),
            Addition(('ends', func.name, name), func.path, mapping | {
                'waits': name if how.wait is not None else ''}),
            Addition(('ends', name), func.path)]
        if how.wait is not None:
            unit.edits.append(Edit('wait', site.path, how.wait.first, func.name,
                                   '', {'handle': name}))
        self.include(unit, {func.path})

    def include(self, unit: Buffer, paths: set[str] | None = None) -> None:
        """Files that call the DMA API include its header."""
        paths = paths or {e.path for e in unit.edits if len(e.values) > 1}
        for path in sorted(paths):
            if not reaches(self.driver, path, '<linux/dma-mapping.h>'):
                if not anchor(self.driver, path):
                    raise Refused('%s includes no <linux/...> header: add '
                                  '<linux/dma-mapping.h> first' % path)
                unit.additions.append(Addition(
                    ('include', os.path.realpath(path)), path))

    def _device(self, func: c.Function, node: c.Node, obj: Object,
                pointer: c.Expr | None) -> str:
        container = None
        core = strip(pointer)
        while isinstance(core, c.Index):
            core = strip(core.base)
        if isinstance(core, c.Member):
            container = core.base
        try:
            dev = self.devices.at(func, node, container)
        except NoDevice as exc:
            raise Refused(str(exc), func.path, node.first.line) from None
        gone = out_of_scope(func, dev, node)
        if gone:
            raise Refused('%s is a variable of a block that does not reach '
                          'here' % gone, func.path, node.first.line)
        return dev

    def _size(self, use: Use) -> Size:
        try:
            return Size(self.driver, self.definitions, self.reach, use.node,
                        use.func, lvalue(use))
        except Unfit as exc:
            raise Refused(str(exc), use.path, use.node.first.line) from None

    def carry(self, handle: Handle, carrier: Carrier, use: Use) -> None:
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


def end_mark(path: str, func: c.Function, call: c.Call) -> Unit:
    """The address of NULL is 0."""
    return Unit(edits=[Edit(
        'call', path, call.first, func.name,
        '%s(NULL) is an end mark and no address: use 0' % call.name,
        {'handle': '0'})])


def _mentioned(unit: Buffer, name: str, func: c.Function) -> bool:
    """Does the new code name a variable, in the size of an element, say?"""
    word = r'(?<!->)(?<!\.)\b%s\b' % name
    return any(re.search(word, edit.values.get('handle', ''))
               for edit in unit.edits if edit.function == func.name)


def _same_size(one: str, two: str) -> bool:
    def normal(size: str) -> list[str]:
        size = re.sub(r'^array_size\((.*), (.*)\)$', r'\1 * \2', size)
        return sorted(p.strip() for p in size.replace('(', ' ').replace(
            ')', ' ').split('*'))
    return normal(one) == normal(two)


def _printed(site: Site, above: Parents) -> str:
    """The type that a format expects, when the address is printed as it is."""
    types = {'virt_to_bus': 'unsigned long', 'isa_virt_to_bus': 'unsigned int',
             '__pa': 'unsigned long', 'virt_to_phys': ''}
    for node in above.chain(site.call):
        if isinstance(node, c.Call):
            return types[site.call.name] if prints(node) else ''
        if not isinstance(node, (c.Paren, c.Binary, c.Ternary)):
            return ''
    return ''

# SPDX-License-Identifier: GPL-2.0-only
"""Finds managed DMA memory that lives too long, or not long enough.

What dmam_alloc_coherent() gives goes when its device is unbound: not before,
so that code that runs again and again takes more and more of it, and in the
reverse order of the requests, so that an interrupt that was requested before
may still come.
"""
from __future__ import annotations

from typing import Iterator

from . import cparse as c
from .checks import graph, parents, site_of
from .devres import Devres
from .driver import Driver, Object, Place, strip, text
from .plan import Note, Unit
from .reach import Bound, Definitions, Entry, NotBound, Reach, is_null
from .report import Step

ALLOCATIONS = frozenset('dmam_alloc_coherent dmam_alloc_attrs '
                        'dmam_pool_create'.split())
_FREES = {'dmam_free_coherent': 2, 'dmam_pool_destroy': 0}
#: Names that say that the driver has managed resources go early.
_EARLY = frozenset('devres_open_group devres_release_group devres_release_all '
                   'devres_release devres_destroy devm_release_action '
                   'device_release_driver'.split())
#: Fields that are called again and again while a device is bound.
_REPEATED = {tag: frozenset(fields.split()) for tag, fields in {
    'file_operations': 'open release read write read_iter write_iter ioctl '
    'unlocked_ioctl compat_ioctl mmap flush fsync',
    'block_device_operations': 'open release ioctl compat_ioctl',
    'v4l2_file_operations': 'open release read write unlocked_ioctl mmap',
    'device_attribute': 'show store', 'bin_attribute': 'read write',
    'net_device_ops': 'ndo_open ndo_stop ndo_do_ioctl ndo_eth_ioctl '
    'ndo_siocdevprivate ndo_change_mtu ndo_set_features ndo_setup_tc ndo_bpf',
    'ethtool_ops': 'set_ringparam set_channels self_test set_coalesce reset '
    'flash_device',
    'snd_pcm_ops': 'open close hw_params hw_free prepare trigger',
    'snd_soc_component_driver': 'open close hw_params hw_free prepare trigger',
    'snd_soc_dai_ops': 'startup shutdown hw_params hw_free prepare trigger',
    'snd_compress_ops': 'open free set_params',
    'snd_compr_ops': 'open free set_params',
    'vb2_ops': 'queue_setup buf_init buf_prepare start_streaming '
    'prepare_streaming',
    'dma_device': 'device_alloc_chan_resources',
    'uart_ops': 'startup shutdown', 'tty_operations': 'open close install',
    'usb_ep_ops': 'enable', 'usb_gadget_ops': 'udc_start',
    'ieee80211_ops': 'start add_interface sta_add sta_state hw_scan',
    'rproc_ops': 'prepare start load', 'phy_ops': 'power_on init',
    'spi_controller': 'setup transfer_one transfer_one_message',
    'spi_controller_mem_ops': 'exec_op',
    'mmc_host_ops': 'request set_ios', 'mbox_chan_ops': 'startup',
    'skcipher_alg': 'init setkey encrypt decrypt',
    'aead_alg': 'init setkey encrypt decrypt',
    'drm_driver': 'open', 'atmdev_ops': 'open',
    'scsi_host_template': 'slave_alloc slave_configure sdev_init '
    'sdev_configure target_alloc queuecommand',
    'pci_error_handlers': 'slot_reset resume reset_done',
}.items()}
#: devm requests of an interrupt: the arguments that are its handlers.
_HANDLERS = {'devm_request_irq': (2,), 'devm_request_threaded_irq': (2, 3),
             'devm_request_any_context_irq': (2,)}


def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
    """A unit for each allocation of which there is something to say."""
    rule = _Lifetimes(driver)
    units = []
    for func in driver.functions_with(*sorted(ALLOCATIONS)):
        for call in func.calls():
            if call.name in ALLOCATIONS and call.args \
                    and not driver.definitions(call.name):
                notes = list(rule.notes(func, call))
                if notes:
                    units.append(Unit(notes=notes))
    return units


class _Lifetimes:
    """The managed allocations of one driver."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.reach = Reach(driver)
        self.definitions = Definitions(driver)
        self.bound = Bound(self.reach, self.definitions)
        self.devres = Devres(self.reach)

    def notes(self, func: c.Function, call: c.Call) -> Iterator[Note]:
        targets = site_of(func, call).targets
        target = self.driver.object_of(targets[0], func) if targets else None
        if not self._freed(target):
            repeated = self._repeated(func, call, target)
            if repeated is not None:
                yield self._again(func, call, repeated)
                return
            parent = self._parent(func, call)
            if parent is not None:
                yield parent
        if target is not None and target.kind == 'field' and target.owner:
            yield from self._used_by_interrupt(func, call, target)

    # -- too long

    def _freed(self, target: Object | None) -> bool:
        """May the driver itself give it back before the device is unbound?"""
        for _ in self.driver.functions_with(*sorted(_EARLY)):
            return True
        for func in self.driver.functions_with(*_FREES):
            for call in func.calls():
                index = _FREES.get(call.name, -1)
                if not 0 <= index < len(call.args):
                    continue
                pointer = strip(call.args[index])
                found = self.driver.object_of(pointer, func)
                if target is None or target.kind == 'local' \
                        or found is None or found.kind == 'local' \
                        or found.name == target.name:
                    return True
        return any(name in macro.body for name in _FREES
                   for source in self.driver.files_with(name)
                   for macro in source.macros.values())

    def _repeated(self, func: c.Function, call: c.Call,
                  target: Object | None) -> Entry | None:
        """The entry point through which it is reached again and again."""
        if self.devres.guard(func, call, target, lambda _: []) is not None:
            return None
        found = [e for e in self.reach.entries(func) if _is_repeated(e)]
        return next((e for e in found if not self._once(func, call, e)), None)

    def _once(self, func: c.Function, call: c.Call, entry: Entry) -> bool:
        """May a condition on the way let it happen but once, by a state that
        is set on the way as well?"""
        ways = list(self.devres.upwards(func, call))
        here = {id(f) for f, _ in ways}
        for inside, at in ways:
            steps = graph(inside)
            step = steps.step_of(at)
            if step is None or steps.incomplete or inside.split:
                return True
            for cond in steps.reachable([step], backwards=True):
                if cond.kind not in ('cond', 'switch') or cond is step \
                        or cond.tree is None:
                    continue
                for node in cond.tree.walk():
                    if isinstance(node, (c.Id, c.Member)) and self._set_in(
                            self.driver.object_of(node, inside), here, call):
                        return True
        return not any(f is entry.function for f, _ in ways)

    def _set_in(self, state: Object | None, functions: set[int],
                call: c.Call) -> bool:
        """Is it a state that outlives these functions, and set by them?"""
        if state is None or state.kind == 'local':
            return False
        if state.kind == 'field' and state.owner is None:
            return True
        return any(place.function is not None
                   and id(place.function) in functions
                   and not is_null(value) and strip(value) is not call
                   for value, place in self.definitions.of(state))

    def _again(self, func: c.Function, call: c.Call, entry: Entry) -> Note:
        return Note(
            'finding', func.path, call.first, func.name,
            '%s() in code that runs more than once while the device is bound '
            '(%s): each time it takes more, which goes only when the device is '
            'unbound; allocate in probe, or use %s() and free it where this is '
            'undone' % (call.name, entry.words,
                        call.name.replace('dmam_', 'dma_')), 'warning',
            [Step(entry.root.path, entry.root.line, entry.words)])

    def _parent(self, func: c.Function, call: c.Call) -> Note | None:
        """An allocation for the parent of the device that is being probed."""
        device = call.args[1 if call.name == 'dmam_pool_create' else 0]
        core = strip(device)
        if not isinstance(core, c.Member) or core.name != 'parent':
            return None
        kind = self.driver.type_of(core.base, func)
        child = core.base
        if core.arrow is False:
            kind, child = c.Type('struct device', 1), c.Unary(
                child.first, child.last, '&', child)
        if kind is not None and kind.base != 'struct device':
            return None
        try:
            probes = self.bound.probes_of(child, func)
        except NotBound:
            return None
        entries = self.reach.entries(func)
        if not probes or any(e.root.kind != 'probe' for e in entries):
            return None
        entry = entries[0]
        return Note(
            'finding', func.path, call.first, func.name,
            '%s() for `%s`, the parent of the device that is being probed '
            '(%s): it is not released when this device is unbound, and each '
            'binding takes more; use dma_alloc_coherent() with the parent, and '
            'free it in remove' % (call.name, text(device), entry.words),
            'warning', [Step(entry.root.path, entry.root.line, entry.words)])

    # -- not long enough

    def _used_by_interrupt(self, func: c.Function, call: c.Call,
                           target: Object) -> Iterator[Note]:
        """The buffer goes before an interrupt that uses it is freed."""
        if any(e.root.kind != 'probe' for e in self.reach.entries(func)) \
                or self._stopped():
            return
        for place in self.devres.users_before(func, call, always=True):
            for handler in self._handlers(place):
                use = self._use(handler, target)
                if use is None:
                    continue
                request = Step(place.path, place.line, '%s() requests the '
                               'interrupt' % place.node.name)
                yield Note(
                    'finding', func.path, call.first, func.name,
                    '%s() after %s() (%s): managed resources go in reverse '
                    'order, so `%s` goes while the interrupt may still come, '
                    'and %s() uses it (%s); request the interrupt last'
                    % (call.name, place.node.name, place.seen_from(func.path),
                       target.name, use.function.name,
                       use.seen_from(func.path)), 'warning',
                    [request, Step(use.path, use.line, '%s() uses `%s`'
                                   % (use.function.name, text(use.node)))])
                return

    def _stopped(self) -> bool:
        """May something stop the device before its resources go?"""
        return any(
            self.reach.leads('remove', func) or not func.words.isdisjoint(
                ('devm_add_action', 'devm_add_action_or_reset'))
            for source in self.driver.files for func in source.all_functions())

    def _handlers(self, place: Place) -> Iterator[c.Function]:
        for index in _HANDLERS.get(place.node.name, ()):
            name = strip(place.node.args[index]) \
                if index < len(place.node.args) else None
            found = self.driver.resolve(name.name, place.function) \
                if isinstance(name, c.Id) else None
            if found is not None:
                yield found

    def _use(self, handler: c.Function, target: Object) -> Place | None:
        """Where a handler, or what it calls, reads the pointer."""
        todo, seen = [handler], set()
        while todo:
            func = todo.pop()
            if id(func) in seen:
                continue
            seen.add(id(func))
            for node in func.nodes:
                if isinstance(node, c.Member) and node.name == target.name \
                        and self.driver.object_of(node, func) == target \
                        and not self._set(node, func):
                    return Place(func.path, func, node)
            for call in func.calls():
                callee = self.driver.resolve(call.name, func) \
                    if call.name else None
                if callee is not None:
                    todo.append(callee)
        return None

    @staticmethod
    def _set(node: c.Node, func: c.Function) -> bool:
        up = parents(func).of(node)
        return isinstance(up, c.Assign) and up.left is node


def _is_repeated(entry: Entry) -> bool:
    root = entry.root
    if root.kind == 'resume':
        return True
    tag = root.owner.replace('struct ', '', 1)
    return root.kind == 'callback' and root.member in _REPEATED.get(tag, ())

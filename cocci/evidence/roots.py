# SPDX-License-Identifier: GPL-2.0-only
"""In what context the kernel calls a driver: by field and by registration.

What is in no table here is unknown.  The tables hold what the kernel's own
documentation or its core code guarantees, no more: whoever adds a line states
that every kernel from 5.10 on may sleep there, or never may.
"""
from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Iterator, NamedTuple

from . import cparse as c
from . import kbuild
from .driver import Driver, Place, Root, strip

PROCESS, ATOMIC, UNKNOWN, CALLED = 'process', 'atomic', 'unknown', 'called'


class Way(NamedTuple):
    """One way into a function other than a plain call.

    kind: PROCESS (may sleep), ATOMIC (never may), UNKNOWN, or CALLED: just
    like a call at each of `places`.  what is a sentence about it.  masked:
    with interrupts off, in every configuration that does not thread them.
    """

    kind: str
    what: str
    path: str
    line: int
    places: tuple[Place, ...] = ()
    masked: bool = False


# ------------------------------------------------------------------- tables

_BUS = 'probe probe_new remove remove_new shutdown suspend resume'
_COMPONENT = 'probe remove suspend resume open close hw_params hw_free ' \
    'prepare pcm_construct pcm_destruct pcm_new pcm_free'

#: Fields that are called in process context, by struct.
_PROCESS_FIELDS = {tag: frozenset(fields.split()) for tag, fields in {
    'amba_driver': _BUS, 'auxiliary_driver': _BUS, 'fsl_mc_driver': _BUS,
    'hid_driver': 'probe remove', 'i2c_driver': _BUS, 'isa_driver': _BUS
    + ' match', 'mdio_driver': _BUS, 'of_platform_driver': _BUS,
    'pci_driver': _BUS + ' suspend_late resume_early sriov_configure',
    'pcmcia_driver': _BUS, 'parisc_driver': _BUS, 'platform_driver': _BUS,
    'pnp_driver': _BUS, 'pnp_card_driver': _BUS, 'ps3_system_bus_driver': _BUS,
    'sdio_driver': _BUS, 'spi_driver': _BUS, 'device_driver': _BUS,
    'vio_driver': 'probe remove', 'virtio_driver': 'probe remove freeze '
    'restore', 'zorro_driver': 'probe remove', 'dio_driver': 'probe remove',
    'tc_driver': 'probe remove', 'gio_driver': 'probe remove',
    'macio_driver': 'probe remove suspend resume', 'hv_driver': 'probe remove',
    'xenbus_driver': 'probe remove', 'css_driver': 'probe remove',
    'ccw_driver': 'probe remove set_online set_offline',
    'ccwgroup_driver': 'setup remove set_online set_offline',
    'usb_driver': 'probe disconnect suspend resume reset_resume',
    'usb_composite_driver': 'bind unbind',
    'parport_driver': 'attach detach match_port',
    'comedi_driver': 'attach auto_attach detach',
    'usb_serial_driver': 'probe attach disconnect release port_probe '
    'port_remove open close',
    'component_ops': 'bind unbind',
    'hc_driver': 'reset start stop shutdown pci_suspend pci_resume '
    'bus_suspend bus_resume',
    'snd_soc_component_driver': _COMPONENT,
    'snd_soc_dai_driver': 'probe remove pcm_new',
    'dev_pm_ops': 'suspend resume freeze thaw poweroff restore prepare '
    'complete suspend_late resume_early runtime_suspend runtime_resume '
    'freeze_late thaw_early poweroff_late restore_early',
    'pci_error_handlers': 'slot_reset resume reset_prepare reset_done',
    'file_operations': 'open release read write read_iter write_iter ioctl '
    'unlocked_ioctl compat_ioctl mmap flush fsync llseek',
    'proc_ops': 'proc_open proc_release proc_read proc_write proc_ioctl '
    'proc_compat_ioctl proc_mmap',
    'block_device_operations': 'open release ioctl compat_ioctl',
    'bin_attribute': 'read write', 'device_attribute': 'show store',
    'driver_attribute': 'show store', 'kobj_attribute': 'show store',
    'class_attribute': 'show store',
    'net_device_ops': 'ndo_init ndo_uninit ndo_open ndo_stop ndo_do_ioctl '
    'ndo_eth_ioctl ndo_siocdevprivate ndo_change_mtu ndo_set_features '
    'ndo_setup_tc ndo_bpf ndo_bridge_setlink ndo_dfwd_add_station',
    'net_device': 'init uninit open stop do_ioctl change_mtu',
    'ethtool_ops': 'set_ringparam set_channels self_test set_coalesce '
    'get_eeprom set_eeprom get_module_eeprom flash_device reset '
    'set_pauseparam set_priv_flags get_dump_data set_dump '
    'set_link_ksettings',
    'scsi_host_template': 'detect release ioctl slave_alloc slave_configure '
    'sdev_init sdev_configure target_alloc scan_start scan_finished '
    'host_reset proc_info write_info show_info',
    'ata_port_operations': 'port_start port_stop host_stop',
    'snd_pcm_ops': 'open close hw_params hw_free prepare ioctl mmap',
    'snd_device_ops': 'dev_free dev_register dev_disconnect',
    'snd_kcontrol_new': 'info get put', 'snd_rawmidi_ops': 'open close',
    'snd_soc_dai_ops': 'startup shutdown hw_params hw_free prepare probe '
    'remove pcm_new',
    'snd_compr_ops': 'open free set_params',
    'snd_compress_ops': 'open free set_params',
    'dma_device': 'device_alloc_chan_resources device_free_chan_resources',
    'vb2_ops': 'queue_setup buf_init buf_prepare buf_finish buf_cleanup '
    'start_streaming stop_streaming prepare_streaming',
    'videobuf_queue_ops': 'buf_setup buf_prepare',
    'v4l2_file_operations': 'open release read write unlocked_ioctl mmap',
    'dvb_demux': 'start_feed stop_feed',
    'drm_driver': 'load unload open postclose lastclose dumb_create',
    'skcipher_alg': 'init exit', 'aead_alg': 'init exit',
    'akcipher_alg': 'init exit', 'kpp_alg': 'init exit',
    'crypto_alg': 'cra_init cra_exit',
    'ieee80211_ops': 'start stop add_interface remove_interface suspend '
    'resume hw_scan sta_add sta_remove sta_state start_ap stop_ap',
    'nand_controller_ops': 'attach_chip detach_chip',
    'uart_ops': 'startup shutdown request_port release_port config_port '
    'verify_port',
    'tty_operations': 'open close install ioctl',
    'spi_controller': 'setup cleanup transfer_one transfer_one_message '
    'prepare_transfer_hardware unprepare_transfer_hardware prepare_message '
    'unprepare_message',
    'spi_master': 'setup cleanup transfer_one transfer_one_message '
    'prepare_transfer_hardware unprepare_transfer_hardware prepare_message '
    'unprepare_message',
    'spi_controller_mem_ops': 'exec_op',
    'rproc_ops': 'prepare unprepare start stop attach detach load parse_fw',
    'blk_mq_ops': 'init_hctx exit_hctx init_request exit_request',
    'ib_device_ops': 'create_qp create_cq create_srq alloc_pd alloc_ucontext '
    'reg_user_mr alloc_mr destroy_qp destroy_cq query_device query_port '
    'create_user_cq resize_cq resize_user_cq attach_mcast detach_mcast',
    'sas_function_template': 'get_linkerrors get_enclosure_identifier '
    'get_bay_identifier phy_reset phy_enable set_phy_speed smp_handler',
    'netdev_queue_mgmt_ops': 'ndo_queue_mem_alloc ndo_queue_mem_free',
    'skcipher_engine_alg': 'do_one_request',
    'aead_engine_alg': 'do_one_request', 'ahash_engine_alg': 'do_one_request',
    'fb_ops': 'fb_open fb_release fb_ioctl fb_mmap',
    'atmdev_ops': 'open close ioctl dev_close',
    'phy_ops': 'init exit power_on power_off',
    'fpga_manager_ops': 'write_init write write_complete',
    'devlink_ops': 'reload_down reload_up flash_update eswitch_mode_set',
    'dw_pcie_host_ops': 'init host_init msi_init msi_host_init',
    'usb_gadget_ops': 'udc_start udc_stop',
    'usb_gadget_driver': 'bind unbind', 'uio_info': 'open release',
    'mbox_chan_ops': 'startup shutdown',
}.items()}

#: Fields that are called in an interrupt, or under a spinlock.
_ATOMIC_FIELDS = {tag: frozenset(fields.split()) for tag, fields in {
    'net_device_ops': 'ndo_start_xmit ndo_set_rx_mode ndo_tx_timeout '
    'ndo_set_multicast_list ndo_poll_controller ndo_select_queue '
    'ndo_features_check',
    'net_device': 'hard_start_xmit set_multicast_list tx_timeout poll '
    'poll_controller',
    'scsi_host_template': 'queuecommand', 'napi_struct': 'poll',
    'ata_port_operations': 'qc_issue qc_prep',
    'urb': 'complete', 'timer_list': 'function', 'hrtimer': 'function',
    'tasklet_struct': 'func callback', 'irqaction': 'handler',
    'dma_async_tx_descriptor': 'callback callback_result',
    'hc_driver': 'irq', 'ieee80211_ops': 'tx wake_tx_queue',
    'uart_ops': 'set_mctrl stop_tx start_tx stop_rx',
}.items()}

#: Registering calls: the argument that is a function -> its context.
_WORK = {name: {1: PROCESS} for name in (
    'INIT_WORK INIT_DELAYED_WORK INIT_DEFERRABLE_WORK INIT_WORK_ONSTACK '
    'INIT_DELAYED_WORK_ONSTACK DECLARE_WORK DECLARE_DELAYED_WORK '
    'DECLARE_DEFERRABLE_WORK').split()}
_CALLS: dict[str, dict[int, str]] = {
    'kthread_run': {0: PROCESS}, 'kthread_create': {0: PROCESS},
    'kthread_create_on_node': {0: PROCESS}, 'kernel_thread': {0: PROCESS},
    'kthread_create_on_cpu': {0: PROCESS}, 'kthread_run_on_cpu': {0: PROCESS},
    'kthread_init_work': {1: PROCESS}, 'kthread_init_delayed_work':
    {1: PROCESS}, 'async_schedule': {0: PROCESS},
    'request_threaded_irq': {1: ATOMIC, 2: PROCESS},
    'devm_request_threaded_irq': {2: ATOMIC, 3: PROCESS},
    'pci_request_irq': {2: ATOMIC, 3: PROCESS},
    'request_irq': {1: ATOMIC}, 'devm_request_irq': {2: ATOMIC},
    'request_percpu_irq': {1: ATOMIC}, 'ata_host_activate': {2: ATOMIC},
    'tasklet_init': {1: ATOMIC}, 'tasklet_setup': {1: ATOMIC},
    'DECLARE_TASKLET': {1: ATOMIC}, 'DECLARE_TASKLET_OLD': {1: ATOMIC},
    'DECLARE_TASKLET_DISABLED': {1: ATOMIC}, 'setup_timer': {1: ATOMIC},
    'timer_setup': {1: ATOMIC}, 'timer_setup_on_stack': {1: ATOMIC},
    'DEFINE_TIMER': {1: ATOMIC}, 'hrtimer_setup': {1: ATOMIC},
    'netif_napi_add': {2: ATOMIC}, 'netif_napi_add_weight': {2: ATOMIC},
    'netif_napi_add_tx': {2: ATOMIC}, 'netif_napi_add_config': {2: ATOMIC},
    'usb_fill_bulk_urb': {5: ATOMIC}, 'usb_fill_int_urb': {5: ATOMIC},
    'usb_fill_control_urb': {6: ATOMIC}, 'call_rcu': {1: ATOMIC},
    'smp_call_function': {0: ATOMIC}, 'smp_call_function_single': {1: ATOMIC},
    'on_each_cpu': {0: ATOMIC}, 'irq_poll_init': {2: ATOMIC},
    'platform_driver_probe': {1: PROCESS},
    'module_platform_driver_probe': {1: PROCESS},
    'builtin_platform_driver_probe': {1: PROCESS},
    'request_firmware_nowait': {6: PROCESS},
    'proc_create_single': {3: PROCESS}, 'proc_create_single_data':
    {3: PROCESS}, 'single_open': {1: PROCESS},
    'snd_pcm_hw_rule_add': {3: PROCESS},
    # called before they return, in the context of their caller
    'device_for_each_child': {2: CALLED}, 'bus_for_each_dev': {3: CALLED},
    'driver_for_each_device': {3: CALLED}, 'idr_for_each': {1: CALLED},
    'kref_put': {1: CALLED}, 'devm_add_action': {1: PROCESS},
    'devm_add_action_or_reset': {1: PROCESS},
    **_WORK,
}
#: Calls that register the handler of an interrupt; its argument.
_HANDLERS = {'request_irq': 1, 'devm_request_irq': 2, 'pci_request_irq': 2,
             'request_threaded_irq': 1, 'devm_request_threaded_irq': 2,
             'request_percpu_irq': 1}
_ATTRIBUTE = re.compile(r'^(?:(?:DEVICE|DRIVER|BUS|CLASS|SENSOR_DEVICE)_ATTR'
                        r'|__ATTR|BIN_ATTR)(_RW|_RO|_WO)?(_MODE)?$')
#: A macro with parameters, or anything that one has to look at to tell.
_WITH_PARAMETERS = re.compile(r'#[^\n]*define(?:[ \t\f\v]+\w+\(|[ \t\f\v]*[\\/])'
                              r'|#[^\n]*[\\/]')
_INITCALLS = frozenset(('init', 'exit'))


# ---------------------------------------------------------------- the answer

def ways(driver: Driver, func: c.Function) -> list[Way]:
    """Every way in which `func` is reached, plain calls left out."""
    out = [_classify(driver, root, func)
           for root in driver.direct_roots(func)]
    out += _unseen(driver, func)
    if not out and all(p.function is func for p in driver.calls_to(func)):
        out = list(_from_macro(driver, func)) or [
            Way(UNKNOWN, 'no caller of %s() was found' % func.name,
                func.path, func.name_token.line)]
    return list(dict.fromkeys(out))


def _classify(driver: Driver, root: Root, func: c.Function) -> Way:
    def way(kind: str, what: str, *places: Place) -> Way:
        return Way(kind, what, root.path, root.line, places)

    if root.kind in _INITCALLS and not root.owner:
        return way(PROCESS, '%s() is a %s function of the module'
                   % (func.name, root.kind))
    if root.owner == '#define':
        return _by_macro(driver, root, func)
    if root.kind == 'unknown':
        return way(UNKNOWN, root.what)
    if root.argument >= 0:
        return _registered(driver, root, func)
    if root.owner and driver.struct(root.owner) is not None:
        return _own(driver, root, func)
    tag = root.owner.removeprefix('struct ')
    named = '%s() is the %s of %s' % (func.name, root.member, root.owner)
    if root.member in _ATOMIC_FIELDS.get(tag, ()):
        return way(ATOMIC, named)
    if tag == 'dev_pm_ops':
        return _power(driver, root, func)
    if root.member in _PROCESS_FIELDS.get(tag, ()) or \
            tag == 'v4l2_ioctl_ops' and root.member.startswith('vidioc_'):
        return way(PROCESS, named)
    return way(UNKNOWN, 'it is not known in what context %s() is called as %s'
               % (func.name, root.what))


def _power(driver: Driver, root: Root, func: c.Function) -> Way:
    """A field of dev_pm_ops, or a macro such as SET_RUNTIME_PM_OPS()."""
    runtime = 'runtime' in root.member.lower() or not \
        root.member.islower() and 'SYSTEM' not in root.member \
        and 'SIMPLE' not in root.member
    if root.member.islower() and root.member not in \
            _PROCESS_FIELDS['dev_pm_ops'] or 'NOIRQ' in root.member:
        return Way(UNKNOWN, '%s() is the %s of struct dev_pm_ops'
                   % (func.name, root.member), root.path, root.line)
    if runtime and driver.files_with('pm_runtime_irq_safe'):
        return Way(UNKNOWN, '%s() is called by runtime power management, '
                   'which pm_runtime_irq_safe() lets run with interrupts off'
                   % func.name, root.path, root.line)
    return Way(PROCESS, '%s() is the %s of struct dev_pm_ops'
               % (func.name, root.member), root.path, root.line)


def _registered(driver: Driver, root: Root, func: c.Function) -> Way:
    """A function handed to a call."""
    name = root.member
    what = '%s() is registered by %s()' % (func.name, name)
    kind = UNKNOWN
    if root.kind in ('suspend', 'resume'):         # a macro of dev_pm_ops
        return _power(driver, root, func)
    if _ATTRIBUTE.match(name):
        kind = PROCESS
    elif driver.definitions(name):
        return _handed_on(driver, root, func)
    elif not driver.macro(name):
        kind = _CALLS.get(name, {}).get(root.argument, UNKNOWN)
    if name in _WORK and _bottom_half_work(driver):
        kind = UNKNOWN
    if kind == CALLED:
        return Way(CALLED, what, root.path, root.line, (root.place,)) \
            if root.place else Way(UNKNOWN, what, root.path, root.line)
    if kind == UNKNOWN:
        what = 'it is not known in what context %s() is called, which is ' \
            'handed to %s()' % (func.name, name or 'a function pointer')
    return Way(kind, what, root.path, root.line,
               masked=_HANDLERS.get(name) == root.argument)


def _handed_on(driver: Driver, root: Root, func: c.Function) -> Way:
    """A function handed to a helper of the driver, which calls it itself or
    registers it in turn."""
    what = '%s() is handed to %s()' % (func.name, root.member)
    nowhere = Way(UNKNOWN, 'it is not known in what context %s() is called, '
                  'which is handed to %s()' % (func.name, root.member),
                  root.path, root.line)
    helper, = driver.definitions(root.member) if len(
        driver.definitions(root.member)) == 1 else (None,)
    if helper is None or helper.body is None \
            or root.argument >= len(helper.params):
        return nowhere
    name = helper.params[root.argument].name
    places: list[Place] = []
    kinds: set[str] = set()
    for node in helper.mentions(name):
        call = helper.call_of(node) or next(
            (k for k in helper.calls() if any(strip(a) is node
                                              for a in k.args)), None)
        if call is None:
            return nowhere
        if call is helper.call_of(node):
            places.append(Place(helper.path, helper, call))
            continue
        if driver.definitions(call.name) or driver.macro(call.name):
            return nowhere
        kinds.add(_CALLS.get(call.name, {}).get(next(
            i for i, a in enumerate(call.args) if strip(a) is node), UNKNOWN))
        if call.name in _WORK and _bottom_half_work(driver):
            return nowhere
    if kinds == {PROCESS} and not places:
        return Way(PROCESS, what + ', which registers it for process context',
                   root.path, root.line)
    if places and not kinds:
        return Way(CALLED, what, root.path, root.line, tuple(places))
    return nowhere


def _bottom_half_work(driver: Driver) -> bool:
    """May its work items run in softirq context?"""
    return bool(driver.files_with('system_bh_wq', 'system_bh_highpri_wq',
                                  'WQ_BH'))


def _by_macro(driver: Driver, root: Root, func: c.Function) -> Way:
    """A macro whose body calls the function: called where it is used."""
    macro = driver.macro(root.member)
    unknown = Way(UNKNOWN, 'the macro %s names %s()' % (root.member, func.name),
                  root.path, root.line)
    word = re.escape(func.name)
    if macro is None or macro.params is None or '##' in macro.body or re.search(
            r'\b%s\b(?!\s*\()|lock|irq|atomic|preempt|\bfor\b' % word,
            macro.body):
        return unknown
    places = []
    for source in driver.files_naming(root.member):
        if any(m.name != root.member and re.search(r'\b%s\b' % root.member,
                                                   m.body)
               for m in source.macros.values()) \
                or any(t.text == root.member for t in source.dead):
            return unknown
        for other in source.all_functions():
            if root.member not in other.words:
                continue
            calls = [k for k in other.calls() if k.name == root.member]
            if other.body is None or not calls or len(calls) != len(
                    other.mentions(root.member)):
                return unknown
            places += [Place(other.path, other, k) for k in calls]
    return Way(CALLED, '%s() is called by the macro %s'
               % (func.name, root.member), root.path, root.line, tuple(places))


def set_elsewhere(driver: Driver, struct: c.Struct, member: str) -> bool:
    """May a field be set by another driver that includes its header?"""
    return struct.path.endswith('.h') and any(
        member in _text(user) and re.search(r'\b%s\b' % member, _text(user))
        for user in _shared(struct.path, tuple(driver.paths)))


def _own(driver: Driver, root: Root, func: c.Function) -> Way:
    """A field of a struct of the driver: called wherever the field is."""
    what = '%s() is %s.%s' % (func.name, root.owner, root.member)

    def unknown(why: str) -> Way:
        return Way(UNKNOWN, '%s, %s' % (what, why), root.path, root.line)

    struct = driver.struct(root.owner)
    if set_elsewhere(driver, struct, root.member):
        return unknown('which other drivers use, too')
    places = []
    for source in driver.files_naming(root.member):
        for other in source.all_functions():
            if root.member not in other.words:
                continue
            if other.body is None:
                return unknown('and %s() could not be parsed' % other.name)
            for node in other.nodes:
                if isinstance(node, c.Member) and node.name == root.member:
                    call = _use(other, node)
                    if call is None:
                        return unknown('which is read at %s:%d'
                                       % (other.path, node.last.line))
                    if isinstance(call, c.Call):
                        places.append(Place(other.path, other, call))
        for macro in source.macros.values():
            if re.search(r'(->|\.)\s*%s\b' % root.member, macro.body):
                return unknown('which the macro %s uses' % macro.name)
    macro = _chosen_by_macro(driver, root.member)
    if macro:
        return unknown('which the macro %s may choose' % macro)
    if not places:
        return unknown('which nobody was found to call')
    return Way(CALLED, what, root.path, root.line, tuple(places))


def _chosen_by_macro(driver: Driver, member: str) -> str:
    """A macro that takes the name of a field, and is given (a part of) this
    one somewhere; '' if there is none."""
    for macro in _choosers(driver):
        for user in driver.functions_with(macro.name):
            if user.body is None or any(
                    isinstance(strip(a), c.Id) and strip(a).name in member
                    for call in user.calls() if call.name == macro.name
                    for a in call.args):
                return macro.name
    return ''


@c.once
def _choosers(driver: Driver) -> list[c.Macro]:
    """The macros that are given (a part of) the name of a field."""
    return [macro for source in driver.files_matching(_WITH_PARAMETERS)
            for macro in source.macros.values()
            if any(re.search(r'(->|\.)\s*(\w+\s*##\s*)?%s\b' % re.escape(p),
                             macro.body) for p in macro.params or ())]


def _use(func: c.Function, node: c.Member) -> c.Node | None:
    """The call through a field, another node when it is set or tested only,
    None when its value goes elsewhere."""
    from .checks import parents
    below: c.Node = node
    for above in parents(func).chain(node):
        if isinstance(above, c.Paren) or isinstance(above, c.Unary) \
                and above.op in '*!':
            below = above
            continue
        if isinstance(above, c.Call) and above.func is below:
            return above
        if isinstance(above, c.Assign) and above.left is below \
                or isinstance(above, (c.If, c.Loop)) \
                or isinstance(above, c.Binary) and above.op in (
                    '&&', '||', '==', '!=') \
                or isinstance(above, c.Ternary) and above.cond is below:
            return above
        return None
    return None


@lru_cache(maxsize=64)
def _shared(header: str, paths: tuple[str, ...]) -> list[str]:
    sources = tuple(p for p in paths if p.endswith('.c'))
    return kbuild.other_users(header, kbuild.Driver('', sources, ()))


@lru_cache(maxsize=64)
def _text(path: str) -> str:
    try:
        with open(path, encoding='latin-1', newline='') as handle:
            return handle.read()
    except OSError:
        return ''


def _unseen(driver: Driver, func: c.Function) -> Iterator[Way]:
    """Mentions and callers that the syntax trees do not show."""
    for source in driver.files_naming(func.name):
        for token in source.dead:
            if token.text == func.name:
                yield Way(UNKNOWN, '%s() stands in a branch of a conditional '
                          'that was not looked at' % func.name, source.path,
                          token.line)
                break
    if not func.static and not _module(driver) and not any(
            func.name in f.prototypes for f in driver.files_naming(func.name)):
        yield Way(UNKNOWN, '%s() is not static, and code outside of the driver '
                  'may call it' % func.name, func.path, func.name_token.line)
    yield from _by_other_name(driver, func)
    yield from _pasted(driver, func)
    yield from _unread(driver, func)
    yield from _from_neighbours(driver, func)


def _by_other_name(driver: Driver, func: c.Function) -> Iterator[Way]:
    """An alias of a function, and objects that no compiler of C made."""
    alias = re.compile(r'\b(?:__)?alias(?:__)?\s*\(\s*"?%s"?\s*\)'
                       % re.escape(func.name))
    for source in driver.files_with('alias'):
        found = alias.search(source.text)
        if found:
            yield Way(UNKNOWN, '%s() has another name, given by alias'
                      % func.name, source.path,
                      source.text.count('\n', 0, found.start()) + 1)
    foreign = () if func.static else _foreign(tuple(driver.paths))
    if foreign:
        yield Way(UNKNOWN, '%s() is not static, and %s, which is no C, may call '
                  'it' % (func.name, os.path.basename(foreign[0])), func.path,
                  func.name_token.line)


@lru_cache(maxsize=64)
def _foreign(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(kbuild.foreign_code(p for p in paths if p.endswith('.c')))


def _unread(driver: Driver, func: c.Function) -> Iterator[Way]:
    """What looks like a call, in text that is no code to us: below a macro
    that is no statement, or in a definition that was not understood."""
    for source in driver.files_naming(func.name):
        applied = source.applied.get(func.name)
        if not applied:
            continue
        inside = [f for f in source.functions_naming(func.name)
                  if f.body is not None]
        read = {node.first.start for f in inside
                for node in f.mentions(func.name)}
        read |= {node.first.start for call in source.toplevel_calls
                 for node in call.walk() if isinstance(node, c.Id)}
        for token in applied:
            if token.start not in read and not any(
                    f.body is None and f.first.start <= token.start
                    <= f.last.end for f in source.all_functions()):
                yield Way(UNKNOWN, 'what calls %s() in line %d was not '
                          'understood' % (func.name, token.line), source.path,
                          token.line)
                break


def _from_neighbours(driver: Driver, func: c.Function) -> Iterator[Way]:
    """Sources beside the driver that include its header may call it, too."""
    headers = [func.path] if func.path.endswith('.h') else [
        f.path for f in driver.files_naming(func.name)
        if f.path.endswith('.h') and func.name in f.prototypes] \
        if not func.static else []
    word = re.compile(r'\b%s\b' % re.escape(func.name))
    for header in headers:
        for path in _shared(header, tuple(driver.paths)):
            if func.name in _text(path) and word.search(_text(path)):
                yield Way(UNKNOWN, '%s names %s(), and is no part of the '
                          'driver' % (path, func.name), func.path,
                          func.name_token.line)
                return


def _module(driver: Driver) -> bool:
    """Can it be a module, of which others see only what it exports?"""
    return bool(driver.files_with('MODULE_LICENSE'))


@c.once
def _pastes(driver: Driver) -> tuple[tuple[re.Pattern[str], str, int, str], ...]:
    """Names that macros put together: pattern, file, line, macro."""
    out = []
    for source in driver.files_with('##'):
        for macro in source.macros.values():
            for found in re.findall(r'\w+(?:\s*##\s*\w+)+', macro.body):
                parts = re.split(r'\s*##\s*', found)
                fixed = [p for p in parts if p not in (macro.params or ())]
                if sum(map(len, fixed)) < 3:
                    continue
                out.append((re.compile(''.join(
                    r'(\w+)' if p in (macro.params or ()) else re.escape(p)
                    for p in parts) + '$'), source.path, macro.line,
                            macro.name))
    return tuple(out)


def _pasted(driver: Driver, func: c.Function) -> Iterator[Way]:
    for pattern, path, line, name in _pastes(driver):
        found = pattern.match(func.name)
        if found and all(_given(driver, value) for value in found.groups()):
            yield Way(UNKNOWN, 'the macro %s may put the name %s together'
                      % (name, func.name), path, line)


def _given(driver: Driver, value: str) -> bool:
    """Is a word an argument somewhere?"""
    word = re.compile(r'[(,]\s*%s\s*[,)]' % re.escape(value))
    return any(word.search(driver.text_of(f.path))
               for f in driver.files_naming(value))


def _from_macro(driver: Driver, func: c.Function) -> Iterator[Way]:
    """DEVICE_ATTR_RW(x) of the kernel names x_show and x_store."""
    stem = re.match(r'(.*)_(show|store)$', func.name)
    if not stem:
        return
    for call in driver.file(func.path).toplevel_calls:
        if _ATTRIBUTE.match(call.name) and call.args and isinstance(
                strip(call.args[0]), c.Id) \
                and strip(call.args[0]).name == stem.group(1):
            yield Way(PROCESS, '%s() is named by %s(%s)' % (
                func.name, call.name, stem.group(1)), func.path,
                call.first.line)

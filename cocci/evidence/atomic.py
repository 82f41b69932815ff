# SPDX-License-Identifier: GPL-2.0-only
"""May this code run with interrupts off, or in an interrupt?"""
from __future__ import annotations

import re

from . import cparse as c
from .checks import graph
from .driver import Driver, Root
from .flow import Step

_LOCK = re.compile(r'^_*(raw_)?(spin|read|write)_(try)?lock(_bh|_irq|_irqsave|'
                   r'_nested|_irqsave_nested)?$|^local_irq_(save|disable)$|'
                   r'^local_bh_disable$|^preempt_disable$|^rcu_read_lock$|'
                   r'^netif_tx_lock(_bh)?$|^(save_flags|cli)$|^disable_irq_nosync$')
_UNLOCK = re.compile(r'^_*(raw_)?(spin|read|write)_unlock(_bh|_irq|_irqrestore)?$|'
                     r'^local_irq_(restore|enable)$|^local_bh_enable$|'
                     r'^preempt_enable$|^rcu_read_unlock$|'
                     r'^netif_tx_unlock(_bh)?$|^(restore_flags|sti)$')
#: Functions and fields whose callbacks run in an interrupt or below a lock.
_ATOMIC_ROOT = re.compile(
    r'request_(percpu_)?irq|request_threaded_irq|request_any_context_irq|'
    r'tasklet|timer|call_rcu|kref_put|smp_call|on_each_cpu|netif_napi|napi|'
    r'usb_fill|irq_poll|blk_mq_ops|function|ndo_start_xmit|hard_start_xmit|'
    r'ndo_set_rx_mode|ndo_set_multicast|ndo_tx_timeout|ndo_get_stats|'
    r'queuecommand|queue_rq|eh_|complete|callback$|trigger|pointer|'
    r'scsi_host_template|isr|irq_handler|handler|notifier')
_PROCESS_ROOT = frozenset('probe remove shutdown suspend resume init exit'.split())
_PROCESS_FIELD = re.compile(
    r'(\.|->)(ndo_open|ndo_stop|open|release|close|stop|read|write|ioctl|'
    r'unlocked_ioctl|compat_ioctl|ndo_init|ndo_uninit|ndo_change_mtu|'
    r'ndo_do_ioctl|hw_params|hw_free|prepare|init|uninit|mmap|detach|attach|'
    r'set_ringparam|start|startup|setup|destruct|remove|probe|disconnect|'
    r'unbind|bind|slave_configure|slave_destroy|flush|store|show|'
    r'info|proc_info|priv_destructor|device_free_chan_resources|'
    r'device_alloc_chan_resources)$')


def why_atomic(driver: Driver, func: c.Function, node: c.Node) -> str:
    """Words that say why interrupts may be off there; '' when they are on."""
    return _why(driver, func, node, frozenset())


def _why(driver: Driver, func: c.Function, node: c.Node,
         seen: frozenset[int]) -> str:
    if id(func) in seen:
        return ''
    seen |= {id(func)}
    lock = _held(func, node)
    if lock is not None:
        return 'after %s() at %s:%d' % (lock.name, func.path, lock.first.line)
    for root in driver.direct_roots(func):
        why = _root(root)
        if why:
            return 'in %s(), %s' % (func.name, why)
    for place in driver.calls_to(func):
        if place.function is not None:
            why = _why(driver, place.function, place.node, seen)
            if why:
                return why
    return ''


def _root(root: Root) -> str:
    if root.kind in _PROCESS_ROOT or _PROCESS_FIELD.search(root.what):
        return ''
    if root.kind == 'unknown':
        return 'whose callers are not all known: %s' % str(root)
    if _ATOMIC_ROOT.search(root.what):
        return 'which runs in an interrupt or below a lock: %s' % str(root)
    return 'of which it is not known in what context it runs: %s' % str(root)


def _held(func: c.Function, node: c.Node) -> c.Call | None:
    """A lock that may be held at a place."""
    if not any(_LOCK.match(w) for w in func.words):
        return None
    steps = graph(func)
    states = steps.solve(frozenset(), _after, lambda a, b: a | b)
    step = steps.step_of(node)
    held = states.get(id(step), frozenset()) if step else frozenset()
    return next(iter(held), None)


def _after(step: Step, held: frozenset[c.Call]) -> frozenset[c.Call]:
    for call in step.calls():
        if _LOCK.match(call.name):
            held |= {call}
        elif _UNLOCK.match(call.name):
            held = frozenset()
    return held

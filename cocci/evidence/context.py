# SPDX-License-Identifier: GPL-2.0-only
"""In what context does code run: may it sleep, or certainly not?

A place may sleep when no lock is held there, and either something that sleeps
stands before it on every path, or each way that leads to its function starts
in process context (roots.py) with no lock held on the way (locks.py).  Whatever
is not known stands in the way of that proof.
"""
from __future__ import annotations

import os
import re
from collections import deque
from typing import Callable, NamedTuple

from . import cparse as c
from .checks import parents
from .driver import Driver, Place, strip, text
from .locks import Locks, State, unconditional
from .reach import ERROR, Outcome
from .report import Step
from .roots import ATOMIC, CALLED, PROCESS, UNKNOWN, Way, ways

_SLEEPS = re.compile(r'''^(?:
    mutex_lock(_nested|_interruptible|_killable|_io)?
  | down(_interruptible|_killable|_read|_write|_timeout)?
  | msleep(_interruptible)? | ssleep | fsleep | usleep_range(_state)?
  | schedule(_timeout(_\w+)?)? | might_sleep | cond_resched
  | wait_event(_interruptible|_killable|_freezable|_timeout)?(_timeout)?
  | wait_for_completion(_interruptible|_killable|_timeout|_io)*(_timeout)?
  | (raw_)?_?copy_(to|from)_user
  | (devm_|pci_)?request_(threaded_|any_context_)?irq | free_irq
  | pci_free_irq | devm_free_irq
  | kthread_(stop|run|create|create_on_node|flush_worker|park)
  | flush_(work|workqueue|delayed_work|scheduled_work)
  | cancel_(delayed_)?work_sync
  | (alloc|destroy|create_singlethread|create_freezable|create)_?workqueue
  | synchronize_(rcu|net|srcu|sched|irq|rcu_expedited)
  | vmalloc(_\w+)? | vzalloc(_node)? | vmap
  | pci_enable_device(_mem|_io)? | pcim_enable_device
  | pci_request_(selected_)?regions(_exclusive)? | pci_request_region
  | pcim_iomap_regions(_request_all)? | pci_(enable_msi|enable_msix)(_range|_exact)?
  | pci_alloc_irq_vectors(_affinity)? | (firmware_)?request_firmware(_direct)?
  | firmware_request_nowarn
  | (un)?register_netdev | rtnl_lock | lock_sock | misc_(de)?register
  | device_(create|register|add|del|unregister|destroy)(_file)?
  | cdev_(add|device_add)
  | alloc_(etherdev|netdev)(_mqs?|_mq)? | scsi_(host_alloc|add_host|remove_host)
  | (dma|dmam|pci)_pool_create | kmem_cache_create(_usercopy)?
  | proc_(create|mkdir)(_data)? | debugfs_create_\w+
  | (devm_|pci_|pcim_|devm_platform_|devm_pci_)?ioremap(_\w+)? | pci_iomap(_\w+)?
  | of_iomap | devm_of_iomap
  | (devm_)?request_(mem_)?region(_exclusive)?
  | clk_prepare(_enable)? | clk_(un|disable_un)prepare
  | (devm_)?(clk|regulator|reset_control|gpiod)_get(_optional|_exclusive)?
  | regulator_(enable|disable|bulk_enable|bulk_disable)
  | (devm_)?(snd_card_new|input_allocate_device|input_register_device)
  | snd_(card_new|card_register|pcm_new|ctl_add|device_new)
  | tasklet_kill | napi_disable
  | i2c_(transfer|smbus_read_byte_data|smbus_write_byte_data|master_send|
    master_recv|new_client_device)
  | usb_(control_msg|bulk_msg|kill_urb|set_interface|register_dev)
  | filp_open | kernel_(read|write)
  | dma_async_device_register | dma_request_(chan|channel|slave_channel)
  | (module|platform_driver|pci|usb)_register(_driver)? | pci_unregister_driver
  | mmc_(alloc|add|remove)_host | spi_sync | spi_(alloc_master|register_master)
  | ieee80211_(alloc_hw|register_hw|unregister_hw)(_nm)? | wiphy_(new|register)
)$''', re.X)
#: Takes GFP flags, and sleeps when they allow it.
_ALLOCATES = re.compile(r'alloc|k?(mem|str)n?dup|kasprintf|submit_urb|'
                        r'get_free_page|get_zeroed|skb_(copy|clone)|idr_|ida_|'
                        r'_sg_|genlmsg|nlmsg|kmalloc|pskb')
_MAY_WAIT = frozenset('GFP_KERNEL GFP_KERNEL_ACCOUNT GFP_NOIO GFP_NOFS GFP_USER '
                      'GFP_HIGHUSER'.split())
_NO_WAIT = frozenset('GFP_ATOMIC GFP_NOWAIT'.split())
_ASKS = re.compile(r'^(gfp\w*|\w*_gfp|\w*sleep\w*|\w*atomic\w*|no_?wait|'
                   r'can_?wait|may_?block|can_?block|in_irq|irq_?context|'
                   r'\w*_ctx_?flag|poll(ed|ing)?_mode|wait_flag)$', re.I)
_ADVANCE = 400
#: Over so many calls a chain is believed to be possible: each may depend on a
#: condition that does not hold in the context where the chain begins.
_CERTAIN = 3
#: When a function sleeps: always, or whenever it returns 0.
_EVER, _ZERO = 'always', 'when it does not fail'


class Verdict(NamedTuple):
    """What is known of a place.

    sleeps: proven that it may.  obstacle: what stood in the way of the proof,
    with the place.  steps: the proof.
    """

    sleeps: bool
    obstacle: Step | None
    steps: tuple[Step, ...]

    @property
    def reason(self) -> str:
        """The obstacle in words, with its place; '' when there is none."""
        return said(self.obstacle) if self.obstacle else ''


class Context:
    """The call contexts of one driver.

    hidden: allocators whose flags are no evidence, because they are what is
    being asked for.
    """

    def __init__(self, driver: Driver, hidden: frozenset[str] = frozenset()):
        self.driver, self.hidden = driver, hidden
        self.locks = Locks(driver)
        self._ways: dict[int, list[Way]] = {}
        self._before: dict[int, dict[int, set[int]]] = {}
        self._rests: dict[int, str] = {}
        self._resting: set[int] = set()

    # -- may it sleep?

    def may_sleep(self, func: c.Function, node: c.Node) -> Verdict:
        """Is it proven that code may sleep at a node?"""
        steps: list[Step] = []
        todo = deque([(Place(func.path, func, node), State())])
        seen: set[tuple[int, frozenset]] = set()
        first, proven = True, False
        while todo:
            place, inner = todo.popleft()
            here = place.function
            state, stop = self._local(place, inner, first)
            if stop is not None:
                return Verdict(False, stop, ())
            proof = self._slept(place)
            if proof is not None:
                steps.append(proof)
                first, proven = False, True
                continue
            parameter = asks(here)
            if parameter:
                return Verdict(False, Step(
                    here.path, here.name_token.line,
                    'whether %s() may sleep depends on its parameter %s'
                    % (here.name, parameter)), ())
            first = False
            key = id(here), state.released
            if key in seen:
                continue
            seen.add(key)
            if len(seen) > _ADVANCE:
                return Verdict(False, Step(
                    here.path, here.name_token.line, 'too many functions lead '
                    'to it to look at all of them'), ())
            found = self._callers(here)
            for way in self.ways(here):
                if way.kind == CALLED:
                    found += way.places
                elif way.kind == PROCESS:
                    proven = True
                else:
                    return Verdict(False, Step(
                        way.path, way.line, way.what if way.kind == UNKNOWN
                        else way.what + ', which must not sleep'), ())
                steps.append(Step(way.path, way.line, way.what))
            for caller in found:
                steps.append(Step(
                    caller.path, caller.line, '%s() calls %s() with no lock '
                    'held' % (caller.function.name, here.name)))
                todo.append((caller, state))
        if not proven:
            return Verdict(False, Step(
                func.path, func.name_token.line, 'nothing but a circle of '
                'functions was found to call %s()' % func.name), ())
        return Verdict(True, None, _unique(steps[::-1]))

    def _local(self, place: Place, inner: State,
               first: bool) -> tuple[State, Step | None]:
        """The state at a place together with that of what is called there."""
        func = place.function
        if func.body is None:
            return inner, Step(func.path, func.name_token.line,
                               '%s() could not be parsed (%s)'
                               % (func.name, func.error))
        state = self.locks.at(func, place.node)
        held = state.locks() if first else inner.below(state)
        if held:
            what = 'this place' if first else 'a call that leads here'
            return state, Step(held[0].path or func.path,
                               held[0].line or place.line,
                               '%s() is in force at %s in %s()'
                               % (held[0].name, what, func.name))
        taken = {k for k, _, _ in state.held}
        released = (inner.released - taken) | state.released
        return State(released=released), None

    def _dominators(self, func: c.Function) -> dict[int, set[int]]:
        if id(func) not in self._before:
            self._before[id(func)] = self.locks.graph(func).dominators()
        return self._before[id(func)]

    def _callers(self, func: c.Function) -> list[Place]:
        return [p for p in self.driver.calls_to(func) if p.function]

    def ways(self, func: c.Function) -> list[Way]:
        if id(func) not in self._ways:
            self._ways[id(func)] = ways(self.driver, func)
        return self._ways[id(func)]

    # -- what has slept already

    def _slept(self, place: Place) -> Step | None:
        """Something that sleeps before a place on every path to it."""
        func, node = place.function, place.node
        found = [call for call in func.calls()
                 if call.first.start < node.first.start and call is not node
                 and self._rest(call, func)]
        if not found or self.locks.graph(func).incomplete:
            return None
        steps = self.locks.graph(func)
        here = steps.step_of(node)
        before = self._dominators(func).get(id(here), set()) if here else set()
        for call in reversed(found):
            step = steps.step_of(call)
            if step is None or id(step) not in before \
                    or not unconditional(func, call) \
                    or step is here and call.last.end > node.first.start:
                continue
            if self.locks.at(func, call).locks():
                continue
            words = self._rest(call, func)
            if words != _ZERO or not self._goes_on(func, call, node):
                return Step(func.path, call.first.line, '%s sleeps before it '
                            'on every path in %s()' % (
                                words if words != _ZERO else call.name + '()',
                                func.name))
        return None

    @staticmethod
    def _goes_on(func: c.Function, call: c.Call, node: c.Node) -> bool:
        """May a place be reached after a call has failed?"""
        focus = tuple(text(n.left) for n in parents(func).chain(call)
                      if isinstance(n, c.Assign) and strip(n.right) is call)
        focus += tuple(n.name for n in parents(func).chain(call)
                       if isinstance(n, c.Variable) and strip(n.init) is call)
        outcome = Outcome(func, focus)
        outcome.value_of[id(call)] = ERROR
        return outcome.reaches(node)

    def _rest(self, call: c.Call, func: c.Function) -> str:
        """Words for a call that certainly may sleep; '' for any other."""
        name = call.name
        if not name:
            return ''
        mine = self.driver.definitions(name)
        if mine:
            if all(f.static or f.path == func.path for f in mine) \
                    and not any(f.path == func.path for f in mine) \
                    and not any(f.path.endswith('.h') for f in mine):
                return ''
            inner = {self._rests_in(f) for f in mine}
            return '' if '' in inner else _ZERO if _ZERO in inner \
                else '%s()' % name
        if self.driver.macro(name) is not None:
            return ''
        if _SLEEPS.match(name):
            return '%s()' % name
        if name in self.hidden or not _ALLOCATES.search(name):
            return ''
        for arg in call.args:
            names = {n.name for n in arg.walk() if isinstance(n, c.Id)}
            if names & _MAY_WAIT and not names & _NO_WAIT and not any(
                    isinstance(n, c.Ternary) for n in arg.walk()):
                return '%s(%s)' % (name, min(names & _MAY_WAIT))
        return ''

    def _rests_in(self, func: c.Function) -> str:
        """Does a function of the driver sleep on each of its paths (_EVER), on
        each on which it does not fail (_ZERO), or on others only ('')?"""
        if id(func) in self._rests:
            return self._rests[id(func)]
        if id(func) in self._resting or func.body is None \
                or len(self._resting) > 20:
            return ''
        self._resting.add(id(func))
        out = ''
        if not self.locks.graph(func).incomplete and not func.split:
            sleepers = []
            for call in func.calls():
                step = self.locks.graph(func).step_of(call)
                if step and self._rest(call, func) not in ('', _ZERO) \
                        and unconditional(func, call):
                    state = self.locks.at(func, call)
                    if not state.locks() and not state.released:
                        sleepers.append(call)
            if sleepers:
                steps = self.locks.graph(func)
                leave = self._dominators(func).get(id(steps.exit), set())
                if any(id(steps.step_of(s)) in leave for s in sleepers):
                    out = _EVER
                elif Outcome(func).without(sleepers) == {ERROR}:
                    out = _ZERO
        self._resting.discard(id(func))
        self._rests[id(func)] = out
        return out

    # -- is it certain that it may not?

    def must_not_sleep(self, func: c.Function,
                       node: c.Node) -> tuple[Step, ...]:
        """The steps that prove that a node runs in atomic context; ()."""
        return self._certainly(func, node, '', lambda way: way.kind == ATOMIC)

    def interrupts_off(self, func: c.Function,
                       node: c.Node) -> tuple[Step, ...]:
        """The steps that prove that interrupts are disabled at a node; ()."""
        return self._certainly(func, node, 'irq', lambda way: way.masked)

    def _certainly(self, func: c.Function, node: c.Node, kind: str,
                   proves: Callable[[Way], bool]) -> tuple[Step, ...]:
        """The steps from a lock of some kind, or a way in, to a node; ()."""
        todo = deque([(Place(func.path, func, node), (), frozenset())])
        seen: set[int] = set()
        while todo:
            place, after, below = todo.popleft()
            here = place.function
            if len(after) > _CERTAIN or here.body is None \
                    or self._slept(place) is not None \
                    or asks(here) or _tests_context(here):
                continue
            flags = below | _flags(place)
            if any((name, not value) in flags for name, value in flags):
                continue                # no way leads through both branches
            lock = self.locks.certain(here, place.node, kind)
            if lock is not None:
                return (Step(lock.path or here.path, lock.line,
                             '%s() takes a lock with %s()'
                             % (here.name, lock.name)), *after)
            if id(here) in seen or self.locks.at(here, place.node).released:
                continue
            seen.add(id(here))
            for way in self.ways(here):
                if proves(way):
                    return (Step(way.path, way.line, way.what), *after)
            for caller in self._callers(here):
                step = Step(caller.path, caller.line, '%s() calls %s()'
                            % (caller.function.name, here.name))
                todo.append((caller, (step, *after), flags))
        return ()


def said(step: Step) -> str:
    """A step in words; a driver has no two files of one name."""
    return '%s (%s:%d)' % (step.message, os.path.basename(step.path),
                           step.line)


def _flags(place: Place) -> frozenset[tuple[str, bool]]:
    """The fields that are known to be set, or not, where a place is reached:
    those that the ifs around it ask for, by name."""
    out = set()
    inner = place.node
    for above in parents(place.function).chain(place.node):
        if isinstance(above, c.If) and inner is not above.cond:
            cond, value = strip(above.cond), inner is above.then
            while isinstance(cond, c.Unary) and cond.op == '!':
                cond, value = strip(cond.arg), not value
            if isinstance(cond, c.Member):
                out.add((cond.name, value))
        inner = above
    return frozenset(out)


def asks(func: c.Function) -> str:
    """The parameter by which callers say whether a function may sleep."""
    return next((p.name for p in func.params
                 if p.type.base == 'gfp_t' or _ASKS.match(p.name)), '')


def _tests_context(func: c.Function) -> bool:
    return not func.words.isdisjoint(
        'in_interrupt in_atomic irqs_disabled in_irq in_softirq preemptible '
        'in_task in_hardirq'.split())


def _unique(steps: list[Step]) -> tuple[Step, ...]:
    done: dict[tuple[str, int, str], Step] = {}
    for step in steps:
        done.setdefault((step.path, step.line, step.message), step)
    return tuple(done.values())


@c.once
def of(driver: Driver) -> Context:
    """The contexts of a driver, worked out once."""
    return Context(driver)

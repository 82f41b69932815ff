# SPDX-License-Identifier: GPL-2.0-only
"""Regions in which nobody may sleep: where they begin and end.

A lock is known by its kind and the last name of what is locked: `lock` of
spin_lock(&foo->lock).  What may be held and what is certainly released are
followed through a function, through the helpers of the driver that lock or
unlock for it, and through macros.  A foreign function that is named like a
lock is taken for one.
"""
from __future__ import annotations

import re
from functools import lru_cache
from typing import Iterator, NamedTuple

from . import cparse as c
from .checks import parents
from .clex import Token, tokenize
from .driver import Driver, strip, text
from .flow import Graph, Step

_DEPTH = 3

_SPIN = re.compile(
    r'^_*(?P<raw>raw_)?(?P<family>spin|read|write)_?(?P<try>try)?'
    r'(?P<un>un)?lock(?P<how>_bh|_irqsave|_irqrestore|_irq)?(_nested|_nest_lock)?'
    r'(?:_irqsave_nested)?$')
#: Other begins and ends: name -> (kind, argument that tells which, begin?)
_PAIRS = {
    'local_irq_save': ('irq', 0, True), 'local_irq_restore': ('irq', 0, False),
    'raw_local_irq_save': ('irq', 0, True),
    'raw_local_irq_restore': ('irq', 0, False),
    'local_irq_disable': ('irq', -1, True),
    'local_irq_enable': ('irq', -1, False),
    'local_bh_disable': ('bh', -1, True), 'local_bh_enable': ('bh', -1, False),
    'preempt_disable': ('preempt', -1, True),
    'preempt_enable': ('preempt', -1, False),
    'preempt_disable_notrace': ('preempt', -1, True),
    'preempt_enable_notrace': ('preempt', -1, False),
    'preempt_enable_no_resched': ('preempt', -1, False),
    'get_cpu': ('cpu', -1, True), 'put_cpu': ('cpu', -1, False),
    'get_cpu_var': ('cpu', 0, True), 'put_cpu_var': ('cpu', 0, False),
    'get_cpu_ptr': ('cpu', 0, True), 'put_cpu_ptr': ('cpu', 0, False),
    'rcu_read_lock': ('rcu', -1, True), 'rcu_read_unlock': ('rcu', -1, False),
    'rcu_read_lock_bh': ('rcu', -1, True),
    'rcu_read_unlock_bh': ('rcu', -1, False),
    'rcu_read_lock_sched': ('rcu', -1, True),
    'rcu_read_unlock_sched': ('rcu', -1, False),
    'bit_spin_lock': ('bit', 1, True), 'bit_spin_unlock': ('bit', 1, False),
    'kmap_atomic': ('kmap', -1, True), 'kunmap_atomic': ('kmap', -1, False),
    'pagefault_disable': ('fault', -1, True),
    'pagefault_enable': ('fault', -1, False),
    'save_flags': ('flags', 0, False), 'cli': ('irq', -1, True),
    'sti': ('irq', -1, False), 'restore_flags': ('irq', -1, False),
    'netif_tx_lock': ('tx', 0, True), 'netif_tx_unlock': ('tx', 0, False),
    'netif_tx_lock_bh': ('tx', 0, True),
    'netif_tx_unlock_bh': ('tx', 0, False),
    'netif_addr_lock': ('addr', 0, True),
    'netif_addr_unlock': ('addr', 0, False),
    'netif_addr_lock_bh': ('addr', 0, True),
    'netif_addr_unlock_bh': ('addr', 0, False),
    '__netif_tx_lock': ('tx', 0, True), '__netif_tx_unlock': ('tx', 0, False),
    '__netif_tx_lock_bh': ('tx', 0, True),
    '__netif_tx_unlock_bh': ('tx', 0, False),
    'write_seqlock': ('seq', 0, True), 'write_sequnlock': ('seq', 0, False),
    'write_seqlock_irqsave': ('seq', 0, True),
    'write_sequnlock_irqrestore': ('seq', 0, False),
    'write_seqlock_irq': ('seq', 0, True),
    'write_sequnlock_irq': ('seq', 0, False),
    'write_seqcount_begin': ('seqcount', 0, True),
    'write_seqcount_end': ('seqcount', 0, False),
    'snd_pcm_stream_lock': ('pcm', 0, True),
    'snd_pcm_stream_unlock': ('pcm', 0, False),
    'snd_pcm_stream_lock_irq': ('pcm', 0, True),
    'snd_pcm_stream_unlock_irq': ('pcm', 0, False),
    'snd_pcm_stream_lock_irqsave': ('pcm', 0, True),
    'snd_pcm_stream_unlock_irqrestore': ('pcm', 0, False),
}
#: Named like locks, but one may sleep below them, or they are none.
_HARMLESS = re.compile(
    r'mutex|sema|^(down|up)(_|$)|rwsem|rtnl|lockdep|_is_locked|lock_init|'
    r'^disable_irq|init_lock|locks_init|rwlock_init|device_(try)?(un)?lock|clk|clock|block|'
    r'srcu|lock_sock|release_sock|lock_page|inode_(un)?lock|'
    r'mmap_(read|write)_|modeset|dma_resv|drm_|i2c_|pci_cfg|rescan|'
    r'wiphy|netdev_(un)?lock|usb_(un)?lock_device|console_(un)?lock|cpus_read|cpu_hotplug|'
    r'lock_kernel|regmap|nested_lock|assert|SPIN_LOCK_UNLOCKED|'
    r'hotplug|mdiobus|videobuf|devl_|kmap_local|_dirty_lock|nvmem|v4l2_|media_|mlock|flock|deadlock|'
    r'lock_device_hotplug|relock|phy_lock_mdio|snd_power|_locked$|'
    r'pm_runtime|tasklet|_alloc|alloc_|_free|free_|_create|_destroy|atomic_'
    r'(set|read|inc|dec|add|sub|cmpxchg|xchg|fetch|or|and|long|try|int)|^atomic'
    r'|set_bit|vlock|spi_|spinlock_t|gpio|locks?_?held|_pll|pll_', re.I)
_LOCKISH = re.compile(r'(?:^|_|[a-z](?=[A-Z]))(?P<un>un)?lock(?:_|$|s$|[A-Z])'
                      r'|spin_?lock|critical|irq_?save|irqs?_?(off|disable)|'
                      r'(dis|en)able_?(int|irq)|(interrupts?|ints?)_?(dis|en)able|'
                      r'(?:^|_)(acquire|release)(_|$).*lock|bh_disable|'
                      r'preempt_(dis|en)|kmap_atomic', re.I)
_ENDING = re.compile(r'(?:^|_|(?<=[a-z])(?=[A-Z]))(?:un_?lock|(?i:unlock|'
                     r'release|leave|exit|end|restore|enable|put))'
                     r'(?:_|$|s$|[A-Z])|[a-z]UnLock|irq_?restore$')
_SLEEPY_GUARD = re.compile(r'mutex|rwsem|semaphore|device|pm_runtime|srcu|'
                           r'wiphy|rtnl|console|^$', re.I)


class Lock(NamedTuple):
    """One lock, with the place where it is taken."""

    kind: str
    key: str
    name: str = ''
    path: str = ''
    line: int = 0
    guards: tuple[str, ...] = ()        # the conditions it is taken under

    @property
    def same(self) -> tuple[str, str]:
        return self.kind, self.key


class State(NamedTuple):
    """held: (kind, key) -> how often, and where last; released: locks of a
    caller that are certainly open now; retaken: taken again since."""

    held: frozenset[tuple[tuple[str, str], int, Lock]] = frozenset()
    released: frozenset[tuple[str, str]] = frozenset()
    retaken: frozenset[tuple[str, str]] = frozenset()

    def take(self, lock: Lock) -> 'State':
        held = {k: (n, at) for k, n, at in self.held}
        count = held.get(lock.same, (0, lock))[0]
        held[lock.same] = min(count + 1, _DEPTH), lock
        retaken = self.retaken | {lock.same} \
            if lock.same in self.released else self.retaken
        return State(frozenset((k, n, at) for k, (n, at) in held.items()),
                     self.released - {lock.same}, retaken)

    def drop(self, same: tuple[str, str], certain: bool = True) -> 'State':
        held = {k: (n, at) for k, n, at in self.held}
        if same not in held:
            return self._replace(released=self.released | {same}) \
                if certain else self
        count, at = held.pop(same)
        if not certain:
            return self
        if count > 1:
            held[same] = count - 1, at
        retaken = self.retaken
        released = self.released
        if same in retaken and same not in held:
            retaken, released = retaken - {same}, released | {same}
        return State(frozenset((k, n, at) for k, (n, at) in held.items()),
                     released, retaken)

    def join(self, other: 'State') -> 'State':
        held: dict[tuple[str, str], tuple[int, Lock]] = {}
        for k, n, at in sorted(self.held | other.held):
            count, known = held.get(k, (0, at))
            held[k] = max(count, n), at._replace(guards=tuple(
                g for g in at.guards if g in known.guards))
        retaken = frozenset(
            k for one, two in ((self, other), (other, self))
            for k in one.retaken if k in two.retaken or two.untouched(k))
        return State(frozenset((k, n, at) for k, (n, at) in held.items()),
                     self.released & other.released, retaken)

    def untouched(self, same: tuple[str, str]) -> bool:
        """Is a lock just as the caller left it?"""
        return same not in self.released and all(
            k != same for k, _, _ in self.held)

    def without(self, guard: str) -> 'State':
        """Where a condition does not hold under which locks were taken."""
        return self._replace(held=frozenset(
            h for h in self.held if h[1] > 1 or guard not in h[2].guards))

    def unguarded(self, names: frozenset[str]) -> 'State':
        """After variables got new values: conditions may be others now."""
        return self._replace(held=frozenset(
            (k, n, at._replace(guards=tuple(
                g for g in at.guards if g.startswith('#')
                or not names & set(re.findall(r'\w+', g)))))
            for k, n, at in self.held))

    def locks(self) -> list[Lock]:
        return sorted(at for _, _, at in self.held)

    def below(self, caller: 'State') -> list[Lock]:
        """What is held in a function whose caller holds `caller`'s locks."""
        return [at for k, n, at in sorted(caller.held)
                if n > 1 or k not in self.released]


class Effect(NamedTuple):
    """What a call does to locks: taken and left taken, given back."""

    takes: tuple[Lock, ...] = ()
    drops: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.takes or self.drops)


class Locks:
    """The lock regions of one driver's functions."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self._effects: dict[int, Effect] = {}
        self._open: set[int] = set()
        self._states: dict[int, dict[int, State]] = {}
        self._graphs: dict[int, Graph] = {}
        self._unread: dict[int, list[Lock]] = {}
        self._must: dict[int, dict[int, frozenset[Lock] | None]] = {}

    # -- questions

    def graph(self, func: c.Function) -> Graph:
        """The control flow of a function: always the same object, since what
        is known of its steps goes by their identity."""
        if id(func) not in self._graphs:
            self._graphs[id(func)] = Graph(func)
        return self._graphs[id(func)]

    def at(self, func: c.Function, node: c.Node) -> State:
        """What the function itself holds, or has given back, at a node."""
        scoped = self._scoped(func, node) + self._hidden(func)
        if not self._concerned(func):
            return State(frozenset((k.same, 1, k) for k in scoped))
        steps = self.graph(func)
        step = steps.step_of(node)
        if step is None or steps.incomplete:
            unclear = Lock('unclear', '', '%s(), whose control flow is unclear'
                           % func.name, func.path, func.name_token.line)
            return State().take(unclear)
        state = self._solved(func).get(id(step), State())
        for call in step.calls():
            # in the same statement, before it
            if call.last.end <= node.first.start:
                state = self._call(state, call, func)
        for lock in scoped:
            state = state.take(lock)
        return state

    def certain(self, func: c.Function, node: c.Node,
                kind: str = '') -> Lock | None:
        """A well known lock that is held at a node on every path; kind: of
        this kind, as `irq` for disabled interrupts."""
        if not self._concerned(func) or func.split \
                or self.graph(func).incomplete:
            return None
        if id(func) not in self._must:
            self._must[id(func)] = self.graph(func).solve(
                frozenset(), lambda step, held: self._surely(step, held, func),
                lambda a, b: a & b)
        step = self.graph(func).step_of(node)
        held = self._must[id(func)].get(id(step), frozenset())
        return min((k for k in held if kind in ('', k.kind)), default=None)

    def _surely(self, step: Step, held: frozenset[Lock],
                func: c.Function) -> frozenset[Lock]:
        for call in step.calls():
            effect = self.effect(call, func)
            drops = {kind for kind, _ in effect.drops}
            if drops:
                held = frozenset(k for k in held if k.kind not in drops)
            if self.driver.macro(call.name) is None and (
                    _SPIN.match(call.name) or call.name in _PAIRS) \
                    and 'try' not in call.name:
                held |= frozenset(k for k in effect.takes)
        return held

    def effect(self, call: c.Call, func: c.Function | None,
               depth: int = 0) -> Effect:
        """What one call does to locks."""
        name = call.name
        if not name:
            target = strip(call.func)
            if isinstance(target, c.Call):          # guard(spinlock)(&lock)
                return Effect()
            name = target.name if isinstance(target, c.Member) else ''
            return self._foreign(name, call, func)
        if name == 'disable_irq_nosync':
            return Effect()
        known = _primitive(name, [text(a) for a in call.args],
                           func.path if func else '', call.first.line)
        if known is not None:
            return known
        macro = self.driver.macro(name)
        if macro is not None and not self.driver.definitions(name):
            return self._macro(macro, call, func, depth)
        found = self.driver.definitions(name)
        if found:
            return self._functions(found)
        return self._foreign(name, call, func)

    # -- one function

    def _concerned(self, func: c.Function) -> bool:
        if func.body is None:
            return True
        return func.split or any(self.effect(call, func)
                                 for call in func.calls())

    def _solved(self, func: c.Function) -> dict[int, State]:
        if id(func) not in self._states:
            start = State()
            for token in self._cut(func):
                start = start.take(Lock('unclear', token.text, token.text,
                                        func.path, token.line))
            self._states[id(func)] = self.graph(func).solve(
                start, lambda step, state: self._step(state, step, func),
                State.join,
                lambda step, label, state: self._edge(state, step, label,
                                                      func))
        return self._states[id(func)]

    def _cut(self, func: c.Function) -> Iterator[Token]:
        """Locks in a branch of a conditional that was not looked at."""
        if not func.split:
            return
        for token in self.driver.file(func.path).dead:
            if func.first.start <= token.start <= func.last.end \
                    and token.kind == 'id' and (
                        _SPIN.match(token.text) or token.text in _PAIRS
                        or _LOCKISH.search(token.text)
                        and not _HARMLESS.search(token.text)):
                yield token

    def _step(self, state: State, step: Step, func: c.Function) -> State:
        for call in step.calls():
            state = self._call(state, call, func)
        if any(at.guards for _, _, at in state.held):
            set_ = frozenset(_assigned(step.tree)) if step.tree else frozenset()
            state = state.unguarded(set_) if set_ else state
        return state

    def _edge(self, state: State, step: Step, label: object,
              func: c.Function) -> State | None:
        """Two ifs with one condition agree, and so do two static branches."""
        if isinstance(step.stmt, c.Branches):
            return state if label is step.stmt.body[0] \
                else state.without(self._directive(step.stmt, func))
        if step.kind != 'cond' or label is not False:
            return state
        words = text(strip(step.tree))
        if re.match(r'static_branch_(un)?likely\(', words) and isinstance(
                step.stmt, c.If) and step.stmt.other is None and any(
                    isinstance(n, c.Call) and _SPIN.match(n.name)
                    for n in step.stmt.then.walk()):
            return None
        return state.without(words)

    def _call(self, state: State, call: c.Call, func: c.Function) -> State:
        effect = self.effect(call, func)
        if not effect:
            return state
        certain = unconditional(func, call)
        for same in effect.drops:
            state = state.drop(same, certain)
        for lock in effect.takes:
            state = state.take(lock._replace(
                path=func.path, line=call.first.line,
                guards=tuple(self._guards(func, call))))
        return state

    def _directive(self, stmt: c.Branches, func: c.Function) -> str:
        first = stmt.first
        return self.driver.text_of(func.path)[first.start:first.end]

    def _guards(self, func: c.Function, call: c.Call) -> Iterator[str]:
        """The conditions of the ifs and #ifs right around a statement."""
        up = parents(func)
        below = up.statement(call)
        while below is not None:
            above = up.of(below)
            if isinstance(above, c.If) and above.then is below:
                if _settled(func, above.cond):
                    yield text(strip(above.cond))
            elif isinstance(above, c.Branches) and above.body[0] is below:
                yield self._directive(above, func)
            elif isinstance(above, c.Block):
                yield from _ruled_out(func, above, below)
            else:
                return
            below = above

    def _scoped(self, func: c.Function, node: c.Node) -> list[Lock]:
        """Locks of guard() and scoped_guard() around a node, and macros that
        lock and have the node as an argument."""
        out = []
        below: c.Node = node
        for above in parents(func).chain(node):
            if isinstance(above, c.Block):
                for stmt in above.body:
                    if stmt is below or stmt.first.start >= node.first.start:
                        break
                    out += self._guard(stmt, func)
            if isinstance(above, c.Call) and above is not node and (
                    self.driver.macro(above.name) is not None
                    and self._locks_within(above.name)
                    or re.search(r'lock_irq|atomic', above.name)
                    and not self.driver.definitions(above.name)):
                out.append(Lock('scope', above.name, above.name, func.path,
                                above.first.line))
            below = above
        return out

    def _hidden(self, func: c.Function) -> list[Lock]:
        """Locks that are no calls to us: behind a macro that is no statement,
        in one without parentheses, or in the head of a loop that a macro
        makes.  Where they end is not known."""
        if id(func) not in self._unread:
            seen = {call.func.first.start for call in func.calls()}
            self._unread[id(func)] = [
                Lock('unclear', token.text, token.text, func.path, token.line)
                for token, after in zip(func.tokens, func.tokens[1:])
                if token.kind == 'id' and self._hides(
                    token, token.start in seen or after.text != '(')]
        return self._unread[id(func)]

    def _hides(self, token: Token, known: bool) -> bool:
        if _SPIN.match(token.text) or token.text in _PAIRS:
            return not known
        macro = self.driver.macro(token.text)
        if macro is None or self.driver.definitions(token.text):
            return False
        return (macro.params is None or bool(re.match(r'\s*for\b', macro.body))
                ) and self._locks_within(token.text)

    def _locks_within(self, name: str, depth: int = 4) -> bool:
        """Is a lock named in a macro, or in what that is made of?"""
        macro = self.driver.macro(name)
        if macro is None:
            return False
        words = set(re.findall(r'[A-Za-z_]\w*', macro.body)) - {name}
        return any(_SPIN.match(w) or w in _PAIRS for w in words) or depth > 0 \
            and any(self._locks_within(w, depth - 1) for w in sorted(words))

    def _guard(self, stmt: c.Stmt, func: c.Function) -> Iterator[Lock]:
        if not isinstance(stmt, c.ExprStmt):
            return
        call = strip(stmt.expr)
        if not isinstance(call, c.Call):
            return
        inner = strip(call.func)
        guard = inner if isinstance(inner, c.Call) else call
        if guard.name in ('guard', 'scoped_guard', 'scoped_cond_guard',
                          'CLASS') and guard.args \
                and not _SLEEPY_GUARD.search(text(guard.args[0])):
            yield Lock('scope', text(guard.args[0]), '%s(%s)' % (
                guard.name, text(guard.args[0])), func.path, stmt.first.line)

    # -- what is called

    def _functions(self, found: list[c.Function]) -> Effect:
        effects = [self._function(f) for f in found]
        if len(effects) == 1:
            return effects[0]
        drops = set(effects[0].drops)
        for effect in effects[1:]:
            drops &= set(effect.drops)
        return Effect(tuple(sorted({k for e in effects for k in e.takes})),
                      tuple(sorted(drops)))

    def _function(self, func: c.Function) -> Effect:
        """The locks that a function of the driver leaves taken or open."""
        if id(func) in self._effects:
            return self._effects[id(func)]
        if id(func) in self._open:
            return Effect()
        if func.body is None:
            words = [w for w in sorted(func.words) if _SPIN.match(w)
                     or w in _PAIRS]
            return Effect((Lock('unclear', func.name, func.name, func.path,
                                func.name_token.line),) if words else ())
        self._open.add(id(func))
        if not self._concerned(func):
            out = Effect()
        elif self.graph(func).incomplete:
            out = Effect((Lock('unclear', func.name, func.name, func.path,
                               func.name_token.line),))
        else:
            state = self._solved(func).get(id(self.graph(func).exit),
                                           State())
            out = Effect(
                tuple(at for k, n, at in sorted(state.held)
                      if not (n == 1 and k in state.retaken)),
                tuple(sorted(state.released)))
        self._open.discard(id(func))
        self._effects[id(func)] = out
        return out

    def _macro(self, macro: c.Macro, call: c.Call, func: c.Function | None,
               depth: int) -> Effect:
        """The calls in the body of a macro, one after the other."""
        if depth > 4:
            return Effect()
        given = dict(zip(macro.params or (), (text(a) for a in call.args)))
        state = State()
        for name, args in _calls_in(macro.body):
            args = [_substitute(a, given) for a in args]
            effect = _primitive(name, args, func.path if func else '',
                                call.first.line)
            if effect is None:
                inner = self.driver.macro(name)
                if inner is not None and name != macro.name:
                    effect = self._macro(inner, call, func, depth + 1)
                elif self.driver.definitions(name):
                    effect = self._functions(self.driver.definitions(name))
                else:
                    effect = self._foreign(name, call, func)
            for same in effect.drops:
                state = state.drop(same)
            for lock in effect.takes:
                state = state.take(lock)
        return Effect(tuple(lock._replace(name=macro.name)
                            for lock in state.locks()),
                      tuple(sorted(state.released)))

    def _foreign(self, name: str, call: c.Call,
                 func: c.Function | None) -> Effect:
        """A function from elsewhere that is named like a lock."""
        if not name or not _LOCKISH.search(name) or _HARMLESS.search(name):
            return Effect()
        stem = re.sub(r'(un|try)?_?(lock|acquire|release|enter|leave)s?|'
                      r'irq_?(save|restore)|(dis|en)able|_', '', name, flags=re.I)
        if _ENDING.search(name):
            return Effect(drops=(('foreign', stem),))
        return Effect((Lock('foreign', stem, name, func.path if func else '',
                            call.first.line),))


def _primitive(name: str, args: list[str], path: str,
               line: int) -> Effect | None:
    """The kernel's own locks; None for any other name."""
    if name in _PAIRS:
        kind, index, begin = _PAIRS[name]
        if kind == 'flags':
            return Effect()
        key = _last(args[index]) if 0 <= index < len(args) else ''
        lock = Lock(kind, key, name, path, line)
        return Effect((lock,)) if begin else Effect(drops=(lock.same,))
    found = _SPIN.match(name)
    if not found:
        return None
    family, how = found['family'], found['how'] or ''
    kinds = [Lock(family, _last(args[0]) if args else '', name, path, line)]
    if how in ('_irqsave', '_irqrestore'):
        kinds.append(Lock('irq', _last(args[1]) if len(args) > 1 else '', name,
                          path, line))
    elif how:
        kinds.append(Lock(how.strip('_'), '', name, path, line))
    if found['un']:
        return Effect(drops=tuple(k.same for k in kinds))
    return Effect(tuple(kinds))


def _last(expr: str) -> str:
    """`lock` of `&foo->lock[i]`: the last name of an expression."""
    bare = re.sub(r'\[[^\]]*\]', '', expr)
    names = re.findall(r'[A-Za-z_]\w*', bare)
    return names[-1] if names else expr


def _substitute(words: str, given: dict[str, str]) -> str:
    return re.sub(r'[A-Za-z_]\w*', lambda m: given.get(m[0], m[0]), words)


@lru_cache(maxsize=1024)
def _calls_in(body: str) -> tuple[tuple[str, list[str]], ...]:
    """Calls in the text of a macro: names, and arguments as text."""
    body = body.replace('\\\n', ' ')
    tokens = tokenize(body)
    out = []
    for index, tok in enumerate(tokens[:-1]):
        if tok.kind != 'id' or tokens[index + 1].text != '(':
            continue
        depth, args, begin = 0, [], tokens[index + 1].end
        for after in tokens[index + 1:]:
            if after.kind != 'op':
                continue
            if after.text in '([{':
                depth += 1
            elif after.text in ')]}':
                depth -= 1
                if not depth:
                    args.append(body[begin:after.start])
                    break
            elif after.text == ',' and depth == 1:
                args.append(body[begin:after.start])
                begin = after.end
        out.append((tok.text, args))
    return tuple(out)


def _settled(func: c.Function, cond: c.Expr) -> bool:
    """Can only assignments to local variables change a condition?"""
    for node in cond.walk():
        if isinstance(node, (c.Call, c.Member, c.Index, c.Assign)) \
                or isinstance(node, c.Unary) and node.op not in ('!', '-') \
                or isinstance(node, c.Id) and (
                    node.name not in func.locals and not node.name.isupper()
                    or any(isinstance(n, c.Unary) and n.op == '&' and text(
                        strip(n.arg)) == node.name for n in func.nodes)):
            return False
    return True


def _ruled_out(func: c.Function, block: c.Block,
               stmt: c.Node) -> Iterator[str]:
    """What holds because ifs above a statement leave: `if (locked) return;`"""
    changed: set[str] = set()
    above = block.body[:next(i for i, s in enumerate(block.body) if s is stmt)]
    for earlier in reversed(above):
        if any(isinstance(n, (c.Label, c.Case)) for n in earlier.walk()):
            return
        if isinstance(earlier, c.If) and earlier.other is None \
                and _leaves(earlier.then):
            cond = strip(earlier.cond)
            negated = isinstance(cond, c.Unary) and cond.op == '!'
            core = strip(cond.arg) if negated else cond
            if isinstance(core, c.Id) and core.name not in changed \
                    and _settled(func, core):
                yield core.name if negated else '!' + core.name
        changed.update(_assigned(earlier))


def _leaves(stmt: c.Stmt) -> bool:
    last = stmt.body[-1] if isinstance(stmt, c.Block) and stmt.body else stmt
    return isinstance(last, (c.Goto, c.Return, c.Jump))


def _assigned(tree: c.Node) -> Iterator[str]:
    for node in tree.walk():
        if isinstance(node, c.Assign):
            yield text(strip(node.left))
        elif isinstance(node, c.Unary) and ('++' in node.op or '--' in node.op):
            yield text(strip(node.arg))
        elif isinstance(node, c.Variable):
            yield node.name


def unconditional(func: c.Function, node: c.Node) -> bool:
    """Is a node evaluated whenever its statement is?"""
    below: c.Node = node
    for above in parents(func).chain(node):
        if isinstance(above, c.Stmt):
            return not isinstance(above, c.Opaque)
        if isinstance(above, c.Binary) and above.op in ('&&', '||') \
                and above.left is not below:
            return False
        if isinstance(above, c.Ternary) and above.cond is not below:
            return False
        if isinstance(above, (c.StmtExpr, c.Sizeof)):
            return False
        below = above
    return False

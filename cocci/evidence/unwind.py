# SPDX-License-Identifier: GPL-2.0-only
"""What is held at a point of a function, and how its own exits release it.

A new exit must release exactly what is held there.  Two sources say what that
is: a table of what acquires and what releases, and the function's own exits
before and after the point.  Where they agree the new exit is built from the
function's own labels and statements; everywhere else `Refused` says why not.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from . import cparse as c
from .checks import ends_in_jump, parents
from .driver import Driver, strip, text


class Refused(Exception):
    """No correct exit can be built; the text says why."""


# ---------------------------------------------------- what acquires, releases

class _Pair:
    """One kind of resource; obj says what names it: the result or argument n."""

    def __init__(self, kind: str, acquire: str, obj: int | None, release: str,
                 robj: int = 0):
        self.kind, self.obj, self.robj = kind, obj, robj
        self.acquire = re.compile('^(?:%s)$' % acquire)
        self.release = re.compile('^(?:%s)$' % release)


RESULT = None
_PAIRS = (
    _Pair('memory', r'k[mzc]alloc(_array|_objs?|_flex)?(_node|_noprof)?|'
          r'kzalloc_objs?|kzalloc_flex|kv[mzc]alloc(_array|_objs?)?(_node)?|'
          r'kmem_cache_z?alloc(_node)?|mempool_alloc|kmemdup(_nul|_array)?|'
          r'kstrdup|memdup_user|vmemdup_user|v[mz]alloc(_node|_user|_32)?|'
          r'krealloc|usb_alloc_urb', RESULT,
          r'kfree(_sensitive|_rcu)?|kvfree(_sensitive)?|vfree|kzfree|'
          r'kmem_cache_free|mempool_free|usb_free_urb', -1),
    _Pair('skb', r'(__)?(netdev_|dev_|napi_|)alloc_skb(_ip_align|_fclone|_head)?'
          r'|skb_(copy|clone|realloc_headroom|share_check|copy_expand|unshare)|'
          r'(napi_|slab_|)build_skb|skb_dequeue|skb_get|'
          r'(__)?netdev_alloc_skb_ip_align', RESULT,
          r'(dev_)?(kfree|consume)_skb(_any|_irq|_reason)?|'
          r'dev_kfree_skb_(any|irq)_reason', 0),
    _Pair('page', r'(__)?(dev_)?alloc_pages?(_node)?|__get_free_pages?|'
          r'get_zeroed_page|__dev_alloc_pages?|(page_pool|napi)_(dev_)?alloc\w*|'
          r'netdev_alloc_frag|napi_alloc_frag', RESULT,
          r'__free_pages?|free_pages?|put_page|page_pool_\w*(put|recycle)\w*|'
          r'page_frag_free|skb_free_frag', 0),
    _Pair('coherent memory', r'dma_alloc_(coherent|attrs|noncoherent|'
          r'writecombine|wc|pages)|pci_z?alloc_consistent', RESULT,
          r'dma_free_(coherent|attrs|noncoherent|writecombine|wc|pages)|'
          r'pci_free_consistent', 2),
    _Pair('pool memory', r'(dma|pci)_pool_z?alloc', RESULT,
          r'(dma|pci)_pool_free', 1),
    _Pair('pool', r'(dma|pci)_pool_create|kmem_cache_create', RESULT,
          r'(dma|pci)_pool_destroy|kmem_cache_destroy', 0),
    _Pair('mapping', r'dma_map_(single|page|resource|phys)(_attrs)?|'
          r'(__)?skb_frag_dma_map|pci_map_(single|page)', RESULT,
          r'(dma|pci)_unmap_(single|page|resource|phys)(_attrs)?', 1),
    _Pair('scatterlist mapping', r'(dma|pci)_map_sg(_attrs)?|dma_map_sgtable', 1,
          r'(dma|pci)_unmap_sg(_attrs)?|dma_unmap_sgtable', 1),
    _Pair('lock', r'(raw_)?(spin|read|write)_lock(_irqsave|_irq|_bh|_nested|'
          r'_irqsave_nested)?|mutex_lock(_nested)?|down(_read|_write)?|'
          r'rtnl_lock|rcu_read_lock|local_irq_save|local_bh_disable|'
          r'preempt_disable|mutex_lock_interruptible|mutex_lock_killable|'
          r'down_interruptible|(raw_)?spin_trylock\w*|mutex_trylock|'
          r'local_irq_disable|__netif_tx_lock(_bh)?|netif_tx_lock(_bh)?', 0,
          r'(raw_)?(spin|read|write)_unlock(_irqrestore|_irq|_bh)?|mutex_unlock|'
          r'up(_read|_write)?|rtnl_unlock|rcu_read_unlock|local_irq_restore|'
          r'local_bh_enable|preempt_enable|local_irq_enable|'
          r'__netif_tx_unlock(_bh)?|netif_tx_unlock(_bh)?', 0),
    _Pair('clock', r'clk_(prepare_enable|enable|prepare|bulk_prepare_enable)', 0,
          r'clk_(disable_unprepare|disable|unprepare|bulk_disable_unprepare)', 0),
    _Pair('runtime PM reference', r'pm_runtime_(get(_sync|_noresume)?|'
          r'resume_and_get)', 0, r'pm_runtime_put\w*', 0),
    _Pair('interrupt', r'request(_threaded|_any_context)?_irq', 0, r'free_irq',
          0),
    _Pair('mapping of registers', r'ioremap\w*|pci_iomap|of_iomap|'
          r'pci_ioremap_bar', RESULT, r'iounmap|pci_iounmap', -1),
    _Pair('scatterlist', r'sg_alloc_table\w*', 0, r'sg_free_table\w*', 0),
    _Pair('DMA channel', r'dma_request_(slave_)?chan(nel)?\w*', RESULT,
          r'dma_release_channel', 0),
    _Pair('device', r'alloc_etherdev\w*|alloc_netdev\w*', RESULT, r'free_netdev',
          0),
    _Pair('queue', r'alloc_(ordered_)?workqueue|create_\w*workqueue', RESULT,
          r'destroy_workqueue', 0),
    _Pair('regulator', r'regulator_enable', 0, r'regulator_disable', 0),
    _Pair('reset', r'reset_control_deassert', 0, r'reset_control_assert', 0),
    _Pair('NAPI', r'napi_enable', 0, r'napi_disable', 0),
)

_VERBS = {'start': 'stop', 'init': 'exit deinit uninit fini free cleanup '
          'uninitialize destroy release', 'enable': 'disable', 'alloc':
          'free release dealloc', 'get': 'put free release', 'request':
          'release free', 'register': 'unregister deregister', 'create':
          'destroy free delete remove', 'map': 'unmap', 'prepare':
          'unprepare cleanup', 'acquire': 'release', 'attach': 'detach',
          'connect': 'disconnect', 'lock': 'unlock', 'add': 'del remove',
          'on': 'off', 'setup': 'teardown cleanup free release', 'reserve':
          'release unreserve free', 'open': 'close', 'begin': 'end', 'load':
          'unload', 'up': 'down', 'claim': 'release', 'bind': 'unbind',
          'pin': 'unpin', 'link': 'unlink', 'insert': 'remove', 'set': 'clear',
          'suspend': 'resume', 'fetch': 'free put', 'push': 'pop', 'grab':
          'put release drop', 'build': 'destroy free', 'inc': 'dec',
          'pull': 'push', 'take': 'put release', 'store': 'clear'}

#: Verbs that say little unless all other words of the name agree.
_VAGUE = frozenset('get set build fetch push pull load add store insert on up '
                   'setup init inc link'.split())
_FILLERS = frozenset('try next new one first sync atomic irq all'.split())

_LOG = re.compile(
    r'print|^(dev|netdev|netif|pr|ib|pci|ibdev|drm|dbg|shost|scmd|sdev|vdev|'
    r'wiphy|hid|usb|xhci|mlx5?|sh|dma)_(err|warn|info|dbg|debug|crit|notice|'
    r'alert|emerg|vdbg|cont|err_once|WARN|warn_once)\w*$|trace_|'
    r'^(WARN|BUG|ASSERT)|DEBUG|DBG|dbg|^dprintk|^[A-Z_0-9]*(ERR|WARN|INFO|LOG|'
    r'MSG|TRACE|ERROR)[A-Z_0-9]*$|_(err|warn|info|dbg|debug|log|notice|error)'
    r'(_ratelimited|_once|_rl)?$|^(un)?likely$|ratelimit|^(IS_ERR|PTR_ERR|'
    r'ERR_PTR|ERR_CAST)\w*$|^log_|_log$|^dump_stack$|^netif_msg_')
_STATISTICS = re.compile(r'stat|count|^u64_|_inc$|DEV_STATS|^this_cpu_')
_PURE = re.compile(
    r'^(_*(cpu_to|[lb]e\d+_to)_?\w+|htons?|htonl|ntohs|ntohl|min(_t)?|max(_t)?|'
    r'container_of\w*|netdev_priv|\w*_priv|to_\w+|\w+_to_\w+|upper_32_bits|'
    r'lower_32_bits|(__)?(raw_)?(read|write)[bwlq](_relaxed)?|io(read|write)\d+'
    r'(be)?|(in|out)[bwl]|(in|out)_[bl]e\d+|mem(set|cpy|cmp|move)\w*|'
    r'skb_(headlen|shinfo|put|reserve|push|pull|frag_\w+|is_nonlinear|'
    r'put_padto|padto|tailroom|headroom|get_queue_mapping|tail_pointer|'
    r'end_offset|frag_size|linearize|checksum_\w+|network_header|'
    r'transport_offset|tx_timestamp|vlan_\w+|put_zero|put_data)|'
    r'page_address|virt_to_page|offset_in_page|sg_\w+|for_each_sg|'
    r'dma_(sync|set_|get_)\w+|wmb|rmb|mb|smp_\w+|dma_[rw]?mb|dev_get_drvdata|'
    r'(platform|pci|dev|usb|spi|i2c)_(set|get)_\w*data|of_property\w*|of_get\w*|'
    r'device_property\w*|round_?up|round_?down|ALIGN\w*|DIV_ROUND_UP|swab\w*|'
    r'lockdep_\w+|might_sleep\w*|u?delay|n?delay|[um]sleep\w*|usleep_range|'
    r'\w*_init_completion|init_\w+|INIT_\w+|\w+_lock_init|mutex_init|'
    r'sema_init|kref_init|refcount_set|atomic_set|crypto_\w+|snprintf|sprintf|'
    r'strs?cpy|strlen|strcmp|get_order|is_\w+|\w+_is_\w+|PAGE_ALIGN\w*|'
    r'readl?_poll\w*|test_bit|eth_\w+|ether_\w+|copy_(from|to)_user|get_user|'
    r'put_user|access_ok|dev_name|platform_get_\w+|devm_\w+|pcim_\w+|'
    r'bitmap_\w+|ffs|fls|ilog2|array_size|struct_size|size_\w+|'
    r'reinit_completion|get_unaligned\w*|put_unaligned\w*|'
    r'netif_(running|queue_stopped|carrier_ok|stop_queue|stop_subqueue|'
    r'tx_queue_stopped)|unlikely|likely|sizeof|swap|prefetch\w*|'
    r'skb_queue_empty|dql_\w+|netdev_get_tx_queue|get_cpu_ptr|regmap_\w+|'
    r'[A-Z][A-Z0-9_]*|__builtin\w+|BIT|GENMASK|FIELD_\w+|abs|ktime_get\w*|'
    r'jiffies\w*|nla_\w+|virt_addr_valid|is_vmalloc_addr|vmalloc_to_page|'
    r'vmalloc_to_pfn|pfn_to_page|page_to_\w+|dma_mapping_error|list_empty|'
    r'list_(first|last|next|prev)_\w+|kthread_should_stop|signal_pending|'
    r'scsi_\w*(sglist|count|bufflen)|blk_rq_\w+|rq_data_dir|dev_to_node)$')
_RESULT_NAME = re.compile(
    r'^_?(ret|retval|err|error|rc|res|result|status|r|rval|ret_val|st|retv|'
    r'errcode|ecode|rv|rslt|val|reterr)\d?$')


def is_log(name: str) -> bool:
    return bool(_LOG.search(name)) or bool(_STATISTICS.search(name))


def releases(call: c.Call) -> tuple[str, str] | None:
    """(kind, object) that a call releases, None when it is in no table."""
    for pair in _PAIRS:
        if pair.release.match(call.name):
            return pair.kind, _argument(call, pair.robj)
    return None


def _argument(call: c.Call, index: int) -> str:
    if not call.args:
        return ''
    if index >= len(call.args):
        index = -1
    arg = strip(call.args[index])
    if isinstance(arg, c.Unary) and arg.op == '&':
        arg = arg.arg
    if isinstance(arg, c.Call) and len(arg.args) == 2 and \
            arg.name.startswith(('dma_unmap_addr', 'pci_unmap_addr')):
        return '%s->%s' % (text(strip(arg.args[0])), text(arg.args[1]))
    return text(strip(arg))


# -------------------------------------------------------------- what is held

@dataclass
class Held:
    """One thing that is held; obj is its canonical name."""

    kind: str
    obj: str
    call: c.Call
    known: bool = True        # in the table; else guessed from a pair of names
    guard: str = ''           # held only if this condition was true
    loop: c.Stmt | None = None  # taken in a loop that is over
    others: tuple[str, ...] = ()    # further places that the object went to
    lost: str = ''            # why these places cannot be told any more

    def __str__(self) -> str:
        what = '%s %s' % (self.kind, self.obj) if self.obj else self.kind
        more = ', if %s' % self.guard if self.guard else \
            ', in a loop' if self.loop else ''
        return '%s (line %d%s)' % (what, self.call.first.line, more)


@dataclass
class Action:
    """One statement of an exit that releases something."""

    call: c.Call
    loop: c.Loop | None = None
    guard: str = ''

    @property
    def key(self) -> tuple[str, ...]:
        gone = releases(self.call)
        guard = self.guard
        if gone and self.guard:
            plain = re.sub(r'^\(|\)$', '', guard)
            if plain in (gone[1], gone[1] + ' != NULL', '!IS_ERR(%s)' % gone[1]):
                guard = ''
        loop = 'loop' if self.loop else ''
        if gone:
            return (gone[0], gone[1], loop, guard)
        return ('call', text(self.call), loop, guard)

    def __str__(self) -> str:
        return text(self.call)


@dataclass
class Path:
    """What happens from one statement on until the function is left."""

    actions: list[Action] = field(default_factory=list)
    end: str = ''              # return, break, continue, or a reason
    value: c.Expr | None = None
    assigned: dict[str, c.Expr] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    resets: list[c.Assign] = field(default_factory=list)
    sure: set[str] = field(default_factory=set)     # assigned on every way

    @property
    def keys(self) -> set[tuple[str, ...]]:
        return {a.key for a in self.actions}


@dataclass
class Exit:
    """A conditional way out: `if (test) branch`."""

    stmt: c.If
    path: Path
    jump: c.Stmt
    failure: bool
    held: list[Held] = field(default_factory=list)


#: What transmit functions return.
_XMIT = ('netdev_tx_t', 'enum netdev_tx')


class Unwinder:
    """The questions for one function."""

    def __init__(self, driver: Driver, func: c.Function):
        self.driver, self.func = driver, func
        self.up = parents(func)
        self._labels: dict[str, c.Label] = {}
        self._released: dict[str, str] | None = None
        self.known: dict[str, bool] = {}    # conditions known at the point
        for node in func.body.walk():
            if isinstance(node, c.Label):
                self._labels[node.name] = node

    @property
    def words(self) -> frozenset[str]:
        """Every word of the driver's functions."""
        found = self.driver.__dict__.get('_unwind_words')
        if found is None:
            found = frozenset().union(*(
                re.findall(r'[A-Za-z_]\w*', self.driver.text_of(path))
                for path in self.driver.paths))
            self.driver.__dict__['_unwind_words'] = found
        return found

    @property
    def released(self) -> dict[str, str]:
        """Objects that the function releases somewhere -> their kind."""
        if self._released is None:
            self._released = {}
            for call in self.func.calls():
                gone = releases(call)
                if gone:
                    self._released[gone[1]] = gone[0]
        return self._released

    @property
    def null_tested(self) -> set[str]:
        """The lvalues that the function compares with NULL."""
        return {text(strip(x.arg)) for x in self.func.body.walk()
                if isinstance(x, c.Unary) and x.op == '!'}

    def counterparts(self, name: str) -> list[str]:
        """Functions of the driver that by their name undo another one."""
        words = name.split('_')
        out = []
        for word in words:
            for other in _VERBS.get(word, '').split():
                rest = set(words) - {word}
                for known, parts in self._undoers.get(other, ()):
                    stem = parts - {other}
                    exact = rest - _FILLERS <= stem
                    if stem and stem <= rest and (exact or word not in _VAGUE) \
                            and (len(stem) > 1 or len(rest) == 1):
                        out.append(known)
        return sorted(set(out))

    @property
    def _undoers(self) -> dict[str, list[tuple[str, set[str]]]]:
        """Every word of the driver by the verb of undoing in it."""
        found = self.driver.__dict__.get('_undoers')
        if found is None:
            verbs = {v for vs in _VERBS.values() for v in vs.split()}
            found = {}
            for word in self.words:
                parts = set(word.split('_'))
                if len(parts) > 1 and not _PURE.match(word):
                    for verb in parts & verbs:
                        found.setdefault(verb, []).append((word, parts))
            self.driver.__dict__['_undoers'] = found
        return found

    # -- following an exit

    def xmit_skb(self) -> str:
        """The parameter that a transmit function has to free."""
        if self.func.returns.base not in _XMIT:
            return ''
        for param in self.func.params:
            if param.type.base == 'struct sk_buff' and param.type.pointers == 1:
                return param.name
        return ''

    def asked_for(self, lvalue: str, here: bool = False) -> bool:
        """Does another function (or this one: `here`) ask whether this field holds something?

        Then it must not keep what was released.
        """
        found = re.search(r'(?:->|\.)(\w+)(\[.*\])?$', lvalue)
        if not found:
            return False
        asked = self.driver.__dict__.setdefault('_asked_for', {})
        name = found.group(1)
        if name not in asked:
            asked[name] = {
                func.name for func in self.driver.functions_with(name)
                if func.body and any(
                    _asks(node, name) for node in func.body.walk())}
        return bool(asked[name] - (set() if here else {self.func.name}))

    def unmapped_if_set(self, lvalue: str) -> bool:
        """Does a function unmap this field if it is not 0?"""
        found = re.search(r'(?:->|\.)(\w+)$', lvalue)
        if not found:
            return False
        name = found.group(1)
        return any(
            isinstance(node, c.If) and isinstance(strip(node.cond), c.Member)
            and strip(node.cond).name == name and any(
                (releases(x) or ('',))[0] == 'mapping'
                and re.search(r'(->|\.)%s$' % name, releases(x)[1])
                for x in node.then.walk() if isinstance(x, c.Call))
            for func in self.driver.functions_with(name) if func.body
            for node in func.body.walk())

    def released_elsewhere(self, lvalue: str) -> bool:
        """Does another function release a field of this name?"""
        name = re.sub(r'\[.*', '', re.split(r'->|\.', lvalue)[-1])
        return any(
            re.sub(r'\[.*', '', re.split(r'->|\.', gone[1])[-1]) == name
            for func in self.driver.functions_with(name)
            if func is not self.func
            for gone in map(releases, func.calls()) if gone)

    def path_from(self, stmts: list[c.Stmt]) -> Path:
        path = Path()
        self._follow(stmts, path, None, '')
        return path

    def path_of_label(self, name: str) -> Path:
        path = Path()
        label = self._labels.get(name)
        if label is None:
            path.end = 'unknown label'
            return path
        path.labels.append(name)
        self._continue_at(label, path)
        return path

    def _continue_at(self, stmt: c.Stmt, path: Path) -> None:
        """Follow what comes after a statement, outwards."""
        node: c.Node = stmt
        while not path.end:
            above = self.up.of(node)
            if above is None:
                path.end = 'return'
                return
            if isinstance(above, c.Block):
                index = next(i for i, s in enumerate(above.body) if s is node)
                self._follow(above.body[index + 1:], path, None, '')
            elif isinstance(above, (c.Loop, c.Switch)):
                path.end = 'in a ' + ('loop' if isinstance(above, c.Loop)
                                      else 'switch')
                return
            node = above

    def _follow(self, stmts: list[c.Stmt], path: Path, loop: c.Loop | None,
                guard: str) -> None:
        for stmt in stmts:
            if path.end:
                return
            self._one(stmt, path, loop, guard)

    def _one(self, stmt: c.Stmt, path: Path, loop: c.Loop | None,
             guard: str) -> None:
        if isinstance(stmt, c.Block):
            self._follow(stmt.body, path, loop, guard)
        elif isinstance(stmt, c.Label):
            path.labels.append(stmt.name)
        elif isinstance(stmt, c.Goto):
            if guard or loop:
                path.end = 'branches'
            elif stmt.name in path.labels or len(path.labels) > 30:
                path.end = 'loops'
            else:
                path.labels.append(stmt.name)
                label = self._labels.get(stmt.name)
                if label is None:
                    path.end = 'unknown label'
                else:
                    self._continue_at(label, path)
        elif isinstance(stmt, c.Return):
            if guard or loop:
                path.end = 'branches'
                return
            if stmt.value is not None:
                self._calls(stmt.value, path, loop, guard)
            path.end, path.value = 'return', stmt.value
        elif isinstance(stmt, c.Jump):
            if loop is None and not guard:
                path.end = stmt.kind
            elif loop is None:
                path.end = 'branches'
        elif isinstance(stmt, c.If):
            self._calls(stmt.cond, path, loop, guard)
            inner = text(strip(stmt.cond))
            decided = self.known.get(inner)
            if decided is not None:
                branch = stmt.then if decided else stmt.other
                if branch is not None:
                    self._one(branch, path, loop, guard)
                return
            inner = guard + ' && ' + inner if guard else inner
            self._one(stmt.then, path, loop, inner)
            if stmt.other and not path.end:
                self._one(stmt.other, path, loop, '!(%s)' % inner)
        elif isinstance(stmt, c.Loop):
            for part in (stmt.init, stmt.cond, stmt.step):
                if part is not None:
                    self._calls(part, path, stmt, guard)
            self._one(stmt.body, path, stmt, guard)
        elif isinstance(stmt, (c.Switch, c.Branches)):
            path.end = 'branches'
        else:
            self._calls(stmt, path, loop, guard)

    def _calls(self, node: c.Node, path: Path, loop: c.Loop | None,
               guard: str) -> None:
        inner: set[int] = set()
        for sub in node.walk():
            if isinstance(sub, c.Call):
                if id(sub) in inner or is_log(sub.name):
                    inner.update(id(x) for x in sub.walk())
                    continue
                if _PURE.match(sub.name) and not releases(sub) \
                        or sub.name.startswith('list_for_each') \
                        or 'for_each' in sub.name:
                    continue
                inner.update(id(x) for x in sub.walk() if x is not sub)
                path.actions.append(Action(sub, loop, guard))
            elif isinstance(sub, c.Assign) and sub.op == '=':
                target = strip(sub.left)
                if isinstance(target, c.Id):
                    path.assigned[target.name] = sub.right
                    if not guard and loop is None:
                        path.sure.add(target.name)
                else:
                    path.resets.append(sub)

    # -- the exits around a point

    def exits_after(self, stmt: c.Stmt) -> list[Exit]:
        """All failing exits that stand behind a statement."""
        out = []
        for node in self.func.body.walk():
            if isinstance(node, c.If) and node.first.start > stmt.last.end:
                found = self.exit_of(node)
                if found is not None and found.failure \
                        and not isinstance(found.jump, c.Jump):
                    out.append(found)
        return out

    def exit_of(self, stmt: c.Stmt) -> Exit | None:
        """The exit that a statement is, when it is an `if` that leaves."""
        if not isinstance(stmt, c.If) or not ends_in_jump(stmt.then):
            return None
        branch = stmt.then
        jump = branch.body[-1] if isinstance(branch, c.Block) else branch
        while isinstance(jump, c.Block):
            jump = jump.body[-1]
        path = self.path_from([branch])
        return Exit(stmt, path, jump, self._is_failure(stmt, path))

    def _is_failure(self, stmt: c.If, path: Path) -> bool:
        for value in [path.value, *path.assigned.values()]:
            if value is not None and _error_value(value, self.func):
                return True
        branch = stmt.then
        if isinstance(branch, c.Block):
            branch = branch.body[-1]
        if isinstance(branch, c.Return) and branch.value is not None:
            value = strip(branch.value)
            if isinstance(value, c.Literal) and value.text == '0' \
                    and not self.func.returns.pointers:
                return False
            if self.func.returns.pointers and isinstance(value, c.Id) \
                    and 'IS_ERR' not in text(stmt.cond):
                return False
        return _failure_test(stmt.cond)


def _asks(node: c.Node, name: str) -> bool:
    """Is a field used as a truth value here?"""
    if isinstance(node, (c.If, c.Ternary)):
        found = [node.cond]
    elif isinstance(node, c.Unary) and node.op == '!':
        found = [node.arg]
    elif isinstance(node, c.Binary) and node.op in ('&&', '||'):
        found = [node.left, node.right]
    elif isinstance(node, c.Binary) and node.op in ('==', '!='):
        found = [node.left] if text(node.right) in ('0', 'NULL') else []
    else:
        return False
    for expr in found:
        expr = strip(expr)
        while isinstance(expr, c.Index):
            expr = strip(expr.base)
        if isinstance(expr, c.Member) and expr.name == name:
            return True
    return False


def _error_value(value: c.Expr, func: c.Function) -> bool:
    value = strip(value)
    if isinstance(value, c.Unary) and value.op == '-':
        return True
    if isinstance(value, c.Call):
        return value.name in ('ERR_PTR', 'PTR_ERR', 'ERR_CAST')
    if isinstance(value, c.Id):
        return value.name == 'NULL' and bool(func.returns.pointers)
    return False


def _failure_test(cond: c.Expr) -> bool:
    cond = strip(cond)
    if isinstance(cond, c.Call):
        if cond.name in ('unlikely', 'WARN_ON', 'WARN_ON_ONCE', 'likely'):
            return bool(cond.args) and _failure_test(cond.args[0])
        return cond.name.startswith('IS_ERR') or 'error' in cond.name \
            or not cond.name.startswith('is_')
    if isinstance(cond, c.Unary) and cond.op == '!':
        return isinstance(strip(cond.arg), (c.Id, c.Member, c.Index, c.Call,
                                            c.Assign))
    if isinstance(cond, c.Binary):
        if cond.op in ('||', '&&'):
            return _failure_test(cond.left) and _failure_test(cond.right)
        right = strip(cond.right)
        if cond.op in ('<', '<=', '!=', '=='):
            if isinstance(right, c.Id) and right.name == 'NULL':
                return cond.op == '=='
            if isinstance(right, c.Unary) and right.op == '-':
                return True
            if isinstance(right, c.Literal) and right.text == '0':
                left = strip(cond.left)
                if isinstance(left, c.Assign):
                    left = strip(left.left)
                return cond.op == '<' or isinstance(left, c.Id) and bool(
                    _RESULT_NAME.match(left.name))
        return False
    if isinstance(cond, c.Assign):
        return _failure_test(cond.left)
    return isinstance(cond, c.Id) and bool(_RESULT_NAME.match(cond.name))


# ------------------------------------------------------------------- a point

@dataclass
class Point:
    """What is known of one statement: what is held, which exits are near.

    before is the last exit that every path to the point has passed, since
    what was acquired after it or by what it tests; doubts are changes since
    then that no table knows how to undo.  after is the next exit behind the
    point, between what is acquired on the way to it.
    """

    held: list[Held] = field(default_factory=list)
    before: Exit | None = None
    since: list[Held] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    after: Exit | None = None
    between: list[Held] = field(default_factory=list)
    between_doubts: list[str] = field(default_factory=list)
    loops: list[c.Loop] = field(default_factory=list)
    assigned: dict[str, c.Expr] = field(default_factory=dict)


_LIST = re.compile(r'^(hlist_|llist_|list_)(add|del|move|splice|replace)\w*|'
                   r'^_*skb_(queue|unlink)\w*|^(idr|ida|xa|radix_tree|rb)_\w+|'
                   r'^(atomic\d*|atomic_long|refcount|kref|kobject|local)_(inc|'
                   r'dec|add|sub|get|put)\w*|^(get|put)_(device|page|pid|task)'
                   r'|^(try_)?module_(get|put)|^set_bit|^clear_bit|^\w*kfifo_\w+|'
                   r'^__(set|clear)_bit|^test_and_(set|clear)_bit|^netdev_(sent|'
                   r'tx_sent)_queue|^dmaengine_\w+|^\w*submit\w*|^enable_irq|'
                   r'^disable_irq|^complete$|^wake_up|^schedule|^queue_work')
_CONSUMES = re.compile(r'^(netif_rx\w*|netif_receive_skb|napi_gro_receive|'
                       r'ieee80211_(rx|tx_status)\w*|skb_queue_\w+|'
                       r'__skb_queue_\w+|dev_queue_xmit|usb_submit_urb)$')


class _Walk:
    """Run over statements in source order and keep what is held."""

    def __init__(self, unwinder: Unwinder):
        self.of = unwinder
        self.point = Point()
        self.cut = False

    # -- statements

    def run(self, stmts: list[c.Stmt]) -> None:
        for index, stmt in enumerate(stmts):
            if isinstance(stmt, (c.Label, c.Case)) and index \
                    and ends_in_jump(stmts[index - 1]):
                if isinstance(stmt, c.Label):
                    self.point.doubts.append(
                        'label %s is reached from elsewhere' % stmt.name)
                continue
            self.stmt(stmt, '', None, True)

    def stmt(self, stmt: c.Stmt, guard: str, loop: c.Stmt | None,
             outer: bool) -> None:
        if isinstance(stmt, c.Block):
            for inner in stmt.body:
                self.stmt(inner, guard, loop, outer)
        elif isinstance(stmt, c.If):
            self._if(stmt, guard, loop, outer)
        elif isinstance(stmt, c.Loop):
            for part in (stmt.init, stmt.cond, stmt.step):
                if part is not None:
                    self.events(part, guard, loop)
            self.stmt(stmt.body, guard, loop or stmt, False)
        elif isinstance(stmt, c.Switch):
            self.events(stmt.cond, guard, loop)
            self.stmt(stmt.body, guard or 'a case of a switch', loop, False)
        elif isinstance(stmt, c.Branches):
            for arm in stmt.body:
                self.stmt(arm, guard or '#if', loop, False)
        elif isinstance(stmt, (c.Goto, c.Return, c.Jump)):
            pass
        else:
            self.events(stmt, guard, loop)

    def _if(self, stmt: c.If, guard: str, loop: c.Stmt | None,
            outer: bool) -> None:
        self.events(stmt.cond, guard, loop)
        found = self.of.exit_of(stmt)
        if found:
            if outer and not guard and not loop and self._counts(found):
                self._passed(found)
            else:
                self._conditional(found)
            if stmt.other:
                self.stmt(stmt.other, guard, loop, outer)
            return
        inner = text(strip(stmt.cond))
        before = list(self.point.held)
        both = guard + ' && ' + inner if guard else inner
        self.stmt(stmt.then, both, loop, False)
        after_then = self.point.held
        if stmt.other:
            # what only one branch gives back is still held on the other one
            self.point.held = before
            self.stmt(stmt.other, '!(%s)' % both, loop, False)
            self._merge(after_then, guard)
        else:
            gone = [h for h in before if h not in after_then]
            for item in gone:
                if not _is_null_test(stmt.cond, item.obj):
                    item.guard = item.guard or '!(%s)' % inner
                    self.point.held.append(item)

    def _merge(self, other: list[Held], guard: str) -> None:
        here = self.point.held
        names = {(h.kind, h.obj): h for h in here}
        out = [h for h in here]
        for item in other:
            twin = names.get((item.kind, item.obj))
            if twin is None:
                out.append(item)
            elif twin is not item:
                twin.guard = guard
        self.point.held = out
        self.point.since = [h for h in self.point.since if h in out] + [
            h for h in other if h in self.point.since and h not in out]

    def _counts(self, found: Exit) -> bool:
        """May the exit serve as a model?"""
        if not found.failure:
            return False
        if _retries(found.path):
            return False
        if isinstance(found.jump, c.Jump):
            # `if (!len) continue;` passes over work, it is no failure
            cond = found.stmt.cond
            return bool(self._tested(cond)) or any(
                isinstance(x, c.Call) and 'error' in x.name
                for x in cond.walk())
        return True

    def _conditional(self, found: Exit) -> None:
        pass

    def _passed(self, found: Exit) -> None:
        tested = self._tested(found.stmt.cond)
        found.held = [h for h in self.point.held if h not in tested]
        self.point.before = found
        self.point.since = tested
        self.point.doubts = [d for d in self.point.doubts
                             if d.startswith('label')]
        self.point.assigned.update(
            {} if found.failure else {})

    def _tested(self, cond: c.Expr) -> list[Held]:
        """What is held because this test did not fail."""
        names = _tested_names(cond)
        calls = {id(x) for x in cond.walk() if isinstance(x, c.Call)}
        out = []
        for item in self.point.held:
            result = self._result(item.call)
            if item.obj in names and item.obj == result \
                    or id(item.call) in calls:
                out.append(item)
            elif result and result in names and item.obj != result and \
                    self.point.assigned.get(result) is item.call:
                out.append(item)
        return out

    def _result(self, call: c.Call) -> str:
        """The lvalue that takes a call's result."""
        node: c.Node = call
        for above in self.of.up.chain(call):
            if isinstance(above, c.Assign) and above.right is node:
                return text(strip(above.left))
            if isinstance(above, c.Variable):
                return above.name
            if not isinstance(above, (c.Paren, c.Cast, c.Assign, c.Ternary)):
                break
            node = above
        return ''

    # -- what a statement does

    def events(self, node: c.Node, guard: str, loop: c.Stmt | None) -> None:
        for sub in list(node.walk())[::-1] if isinstance(node, c.Expr) \
                else node.walk():
            if isinstance(sub, c.Call):
                self._call(sub, guard, loop)
            elif isinstance(sub, c.Variable) and sub.init is not None:
                self._value(sub.name, sub.init, bool(guard or loop))
            elif isinstance(sub, c.Assign) and sub.op == '=':
                target = strip(sub.left)
                self._value(text(target), sub.right, bool(guard or loop))
            elif isinstance(sub, c.Assign) or isinstance(sub, c.Unary) \
                    and sub.op in ('++', '--', 'p++', 'p--'):
                target = strip(sub.left if isinstance(sub, c.Assign)
                               else sub.arg)
                self._moves(text(target))
                if not isinstance(target, c.Id) \
                        and not _STATISTICS.search(text(target)) \
                        and not (isinstance(sub, c.Assign)
                                 and sub.op in ('|=', '&=')):
                    self.point.doubts.append('%s changed (line %d)' % (
                        text(target), sub.first.line))

    def _value(self, target: str, right: c.Expr, perhaps: bool) -> None:
        value = strip(right)
        if perhaps:
            self.point.assigned.pop(target, None)
        else:
            self.point.assigned[target] = value
        self._moves(target)
        source = text(value)
        for item in self.point.held:
            if item.obj and source == item.obj and target != source:
                item.others += (target,)

    def _moves(self, name: str) -> None:
        """A variable changes: a place that it indexes is another one now."""
        for item in self.point.held:
            if any(re.search(r'\b%s\b' % re.escape(name), other)
                   for other in item.others) and name != item.obj:
                item.lost = item.lost or '%s was stored in %s, and %s has ' \
                    'changed since' % (item.obj, item.others[-1], name)

    def _call(self, call: c.Call, guard: str, loop: c.Stmt | None) -> None:
        name = call.name
        if is_log(name):
            return
        gone = releases(call)
        if gone:
            self._release(gone, call)
            return
        for pair in _PAIRS:
            if pair.acquire.match(name):
                obj = self._result(call) if pair.obj is RESULT \
                    else _argument(call, pair.obj)
                self._acquire(Held(pair.kind, obj, call, True, guard, loop))
                return
        if _CONSUMES.match(name):
            self.point.doubts.append('%s (line %d)' % (text(call),
                                                       call.first.line))
            for arg in call.args:
                self.point.held = [h for h in self.point.held
                                   if h.obj != text(strip(arg))]
                self.point.since = [h for h in self.point.since
                                    if h.obj != text(strip(arg))]
        if _LIST.match(name):
            self.point.doubts.append('%s (line %d)' % (text(call),
                                                       call.first.line))
            return
        if re.match('[A-Z].*_SET|SET_', name) and call.args and _outside(
                text(strip(call.args[0])) + '->'):
            self.point.doubts.append('%s (line %d)' % (text(call),
                                                       call.first.line))
            return
        if name.startswith(('devm_', 'pcim_', '__devm_')) or _PURE.match(name):
            return
        self._unknown(call, guard, loop)

    def _unknown(self, call: c.Call, guard: str, loop: c.Stmt | None) -> None:
        for item in self.point.held:
            if item.kind in ('skb', 'memory', 'page') and any(
                    text(strip(a)) == item.obj for a in call.args) \
                    and not call.name.startswith(('skb_', '__skb_', 'eth_')):
                item.lost = item.lost or '%s was given to %s() (line %d)' % (
                    item.obj, call.name, call.first.line)
        for held in list(self.point.held):
            if not held.known and call.name in held.kind.split()[1:] or (
                    held.obj and any(text(strip(a)) == held.obj
                                     for a in call.args)
                    and re.search('free|put|release|destroy|drop', call.name)):
                self.point.held.remove(held)
                if held in self.point.since:
                    self.point.since.remove(held)
                return
        result = self._result(call)
        kind = self.of.func.locals.get(result)
        if kind is not None and kind.type.pointers:
            released = self.of.released.get(result)
            if released:
                self._acquire(Held(released, result, call, True, guard, loop))
                return
            if re.search('alloc|_dup|clone|create', call.name):
                self._acquire(Held('%s from %s()' % (result, call.name), result,
                                   call, False, guard, loop))
                return
        elif _outside(result) and re.search('alloc', call.name) \
                and result in self.of.null_tested:
            self._acquire(Held('%s from %s()' % (result, call.name), result,
                               call, False, guard, loop))
            return
        counter = self.of.counterparts(call.name)
        if counter:
            obj = text(strip(call.args[0])) if call.args else ''
            self._acquire(Held('%s() undone by %s' % (
                call.name, ' '.join(counter)), obj, call, False, guard, loop))

    def _acquire(self, item: Held) -> None:
        self.point.held = [h for h in self.point.held
                           if (h.kind, h.obj) != (item.kind, item.obj)
                           or h.guard != item.guard]
        self.point.since = [h for h in self.point.since
                            if h in self.point.held]
        self.point.held.append(item)
        self.point.since.append(item)

    def _release(self, gone: tuple[str, str], call: c.Call) -> None:
        def hit(item: Held) -> bool:
            return item.kind == gone[0] and (
                item.obj == gone[1] or gone[1] in item.others)
        before = self.point.before
        if before is not None and any(hit(h) for h in before.held) \
                or gone[0] != 'lock' and not any(
                    hit(h) for h in self.point.held):
            # the exit before can be no model for what is held now
            self.point.doubts.append('%s (line %d)' % (text(call),
                                                       call.first.line))
        self.point.held = [h for h in self.point.held if not hit(h)]
        self.point.since = [h for h in self.point.since if not hit(h)]


def _is_nonzero_test(cond: c.Expr) -> bool:
    """Is it true for every negative value?"""
    cond = strip(cond)
    if isinstance(cond, c.Call) and cond.name in ('unlikely', 'likely'):
        return bool(cond.args) and _is_nonzero_test(cond.args[0])
    if isinstance(cond, c.Binary):
        return cond.op in ('<', '!=') and text(cond.right) == '0'
    return isinstance(cond, (c.Id, c.Call, c.Assign, c.Member))


def _retries(path: Path) -> bool:
    """Does the caller keep the skb and try again?"""
    values = [path.value, *path.assigned.values()]
    return any(v is not None and text(v) == 'NETDEV_TX_BUSY' for v in values)


def _tested_names(cond: c.Expr) -> set[str]:
    """The lvalues that a test finds to be there, or free of error."""
    cond = strip(cond)
    if isinstance(cond, c.Call):
        return {n for a in cond.args for n in _tested_names(a)} \
            if cond.name.startswith(('IS_ERR', 'unlikely', 'likely', 'WARN')) \
            or 'mapping_error' in cond.name else set()
    if isinstance(cond, c.Unary) and cond.op == '!':
        return _tested_names(cond.arg)
    if isinstance(cond, c.Unary) and cond.op == '*':
        return {text(cond)}
    if isinstance(cond, c.Binary):
        if cond.op in ('||', '&&'):
            return _tested_names(cond.left) | _tested_names(cond.right)
        return _tested_names(cond.left) | _tested_names(cond.right) \
            if cond.op in ('==', '!=', '<', '<=') else set()
    if isinstance(cond, c.Assign):
        return {text(strip(cond.left))}
    return {text(cond)} if isinstance(cond, (c.Id, c.Member, c.Index)) else set()


def _is_null_test(cond: c.Expr, obj: str) -> bool:
    return text(strip(cond)) in (obj, obj + ' != NULL')


def _known(of: Unwinder, stmt: c.Stmt) -> dict[str, bool]:
    """Conditions of the ifs around a statement that nobody changes."""
    out: dict[str, bool] = {}
    below: c.Node = stmt
    written = {text(strip(x.left)) for x in of.func.body.walk()
               if isinstance(x, c.Assign)}
    for above in of.up.chain(stmt):
        if isinstance(above, c.If) and below is not above.cond:
            cond, holds = strip(above.cond), below is above.then
            names = {text(x) for x in cond.walk()
                     if isinstance(x, (c.Id, c.Member))}
            if not names & written and not any(
                    isinstance(x, c.Call) for x in cond.walk()):
                out[text(cond)] = holds
                if isinstance(cond, c.Unary) and cond.op == '!':
                    out[text(strip(cond.arg))] = not holds
                else:
                    out['!' + text(cond)] = not holds
        below = above
    return out


def locate(of: Unwinder, stmt: c.Stmt) -> Point:
    """Everything that precedes a statement on every way to it."""
    of.known = _known(of, stmt)
    walk = _Walk(of)
    skb = of.xmit_skb()
    if skb:
        at = of.func.name_token
        walk.point.held.append(Held('skb', skb, c.Call(
            at, at, c.Id(at, at, of.func.name), [])))
    chain = [stmt, *[x for x in of.up.chain(stmt)]]
    steps: list[tuple[c.Node, c.Node]] = list(zip(chain[1:], chain))[::-1]
    for above, below in steps:
        if isinstance(above, c.Block):
            index = next(i for i, s in enumerate(above.body) if s is below)
            before = above.body[:index]
            owner = of.up.of(above)
            if isinstance(owner, c.Switch):
                cases = [i for i, s in enumerate(before)
                         if isinstance(s, c.Case)]
                start = cases[-1] if cases else 0
                while start > 1 and not ends_in_jump(before[start - 1]) \
                        and any(i < start for i in cases):
                    start = [i for i in cases if i < start][-1]
                before = before[start:]
            walk.run(before)
        elif isinstance(above, c.Loop):
            for part in (above.init, above.cond):
                if part is not None:
                    walk.events(part, '', None)
            walk.point.loops.append(above)
        elif isinstance(above, (c.If, c.Switch)):
            walk.events(above.cond, '', None)
    point = walk.point
    for loop in point.loops:
        # an earlier round may have left another value
        for node in loop.body.walk():
            if isinstance(node, c.Assign):
                point.assigned.pop(text(strip(node.left)), None)
    if point.before is not None:
        # an exit in the body of a loop has settled what earlier rounds hold
        inside = {id(x) for x in of.up.chain(point.before.stmt)}
        point.loops = [x for x in point.loops if id(x) not in inside]
    for item in point.held:
        twin = next((h for h in point.held if (h.kind, h.obj) == (
            item.kind, item.obj) and h.guard == '!(%s)' % item.guard), None)
        if item.guard and twin is not None:
            # taken on either way
            item.guard = ''
            point.held = [h for h in point.held if h is not twin]
            point.since = [h for h in point.since if h is not twin]
            if twin not in point.since and item not in point.since:
                break
    _look_ahead(of, stmt, point)
    return point


def _look_ahead(of: Unwinder, stmt: c.Stmt, point: Point) -> None:
    """Find the next exit behind a statement that every path comes to."""
    walk = _Walk(of)
    node: c.Node = stmt
    while True:
        above = of.up.of(node)
        if isinstance(above, c.Block):
            index = next(i for i, s in enumerate(above.body) if s is node)
            for item in above.body[index + 1:]:
                if isinstance(item, (c.Label, c.Case, c.Goto, c.Return, c.Jump)):
                    return
                found = of.exit_of(item)
                if found is not None and found.failure \
                        and not _retries(found.path):
                    walk.events(item.cond, '', None)
                    tested = walk._tested(item.cond)
                    point.after = found
                    point.between = [h for h in walk.point.held
                                     if h not in tested]
                    point.between_doubts = walk.point.doubts
                    return
                if any(isinstance(x, (c.Return, c.Goto)) for x in item.walk()):
                    return
                walk.stmt(item, '', None, False)
        elif above is None or isinstance(above, (c.Loop, c.Switch)):
            return
        node = above


# ---------------------------------------------------------------- a new exit

@dataclass
class NewExit:
    """What the new check does: statements, the last one of them leaves."""

    lines: list[str]
    why: str = ''

    @property
    def code(self) -> str:
        """As one C statement."""
        return self.lines[0] if len(self.lines) == 1 \
            else '{ %s }' % ' '.join(self.lines)


_SIGNED = frozenset('int long s32 ssize_t s64 int32_t'.split())


#: What a transfer function is called that works without DMA.
_WITHOUT_DMA = ('pio', 'cpu', 'fifo', 'poll', 'polling', 'irq', 'sync')


class Builder:
    """Builds the exit for a map whose result is found to be an error.

    stmt is the statement of the map, names the lvalues with the handle,
    error the value for a function that returns negative errnos.
    """

    def __init__(self, unwinder: Unwinder, stmt: c.Stmt, names: list[str],
                 mapped: str):
        self.of, self.func = unwinder, unwinder.func
        self.stmt, self.names, self.mapped = stmt, names, mapped
        self.point = locate(unwinder, stmt)

    def build(self) -> NewExit:
        if self.func.split:
            raise Refused('an #if cuts through a statement of %s()'
                          % self.func.name)
        self._no_other_way()
        self._trust()
        self._not_replaced()
        needed = self._needed()
        wanted = self._agreed(needed)
        if not self.confirmed:
            self._no_doubts()
        if self.rounds is None:
            self._explain(wanted)
        return self._written(needed, wanted)

    # -- is the point simple enough?

    def _no_other_way(self) -> None:
        """A transfer without DMA may be what is due after a failure."""
        for part in _WITHOUT_DMA:
            name, count = re.subn(r'(^|_)(dma|DMA)(?=_|$)', r'\g<1>' + part,
                                  self.func.name)
            for other in self.of.driver.definitions(name) if count else ():
                if [str(p.type) for p in other.params] == [
                        str(p.type) for p in self.func.params]:
                    raise Refused(self._held_text(
                        '%s() does the same without DMA and may be due when '
                        'the mapping fails' % name))

    def _not_replaced(self) -> None:
        """In a round that has already unmapped a buffer, or handed it on, the
        slot keeps something that is gone: no exit is a model."""
        loop = next((x for x in self.of.up.chain(self.stmt)
                     if isinstance(x, c.Loop)), None)
        if loop is None or self.of.xmit_skb():
            return
        above = {id(x) for x in self.of.up.chain(self.stmt)}
        for stmt in loop.body.walk():
            if not isinstance(stmt, c.ExprStmt) \
                    or stmt.first.start > self.stmt.first.start \
                    or not isinstance(stmt.expr, c.Call):
                continue
            gone = releases(stmt.expr)
            if not (gone and gone[0] == self.mapped
                    or _CONSUMES.match(stmt.expr.name)):
                continue
            for node in self.of.up.chain(stmt):
                if isinstance(node, c.Block) and ends_in_jump(node) \
                        and id(node) not in above:
                    break
                if id(node) in above:
                    raise Refused(self._held_text(
                        '%s() (line %d) has already given away what this '
                        'mapping replaces' % (stmt.expr.name,
                                              stmt.first.line)))

    def _trust(self) -> None:
        point = self.point
        for doubt in point.doubts:
            if doubt.startswith('label'):
                raise Refused(self._held_text(doubt))
        if point.loops and self._keeps_mapping(point.loops[-1]):
            self.rounds = point.loops[-1]
        else:
            self.rounds = None

    def _keeps_mapping(self, loop: c.Loop) -> bool:
        """Do mappings of earlier rounds live when a round fails?"""
        for node in loop.body.walk():
            if isinstance(node, c.Call) and node.first.start > self.stmt.last.end:
                gone = releases(node)
                if gone and gone[0] == self.mapped and gone[1] in self.names:
                    return False
        return True

    def _held_text(self, why: str) -> str:
        held = self.point.held
        what = '; held here: ' + ', '.join(str(h) for h in held) if held \
            else '; nothing is known to be held here'
        return why + what

    # -- what must be released

    def _needed(self) -> list[Held]:
        """What the nearest exit before does not release, because it was taken
        later; without such an exit everything that is held."""
        before = self.point.before
        needed = [h for h in (self.point.since if before else self.point.held)]
        if before:
            needed = [h for h in needed if not self._helper_takes(
                h, before.path)]
        skb = self.of.xmit_skb()
        if before and skb:
            # an exit that does not free it is none of a transmit function's
            needed = [h for h in point_skb(self.point, skb) if not any(
                a.key[:2] == ('skb', skb) for a in before.path.actions)
                and not self._helper_takes(h, before.path)] + [
                    h for h in needed if h.obj != skb]
        return needed

    def _helper_takes(self, item: Held, path: Path) -> bool:
        """Does a function that the exit calls release the object?"""
        places = [p for p in (item.obj, *item.others) if p]
        fields = {re.split(r'->|\.', p)[-1].split('[')[0] for p in places
                  if '->' in p or '.' in p or '[' in p}
        for action in path.actions:
            call = action.call
            if releases(call):
                continue
            if any(text(strip(a)).lstrip('&') in places for a in call.args) \
                    and re.search('free|put|release|destroy|drop|clean',
                                  call.name):
                return True
            if not fields:
                continue
            callee = self.of.driver.resolve(call.name, self.func)
            if callee is None or callee.body is None:
                if re.search('free|clean|release|destroy|fini|exit|close',
                             call.name):
                    raise Refused(self._held_text(
                        '%s() may release %s' % (call.name, item)))
                continue
            if _releases_field(self.of.driver, callee, item.kind, fields, 3):
                if item.kind == self.mapped or not self._unmaps(action):
                    return True
                # it would unmap the failed handle along with the buffer
                self.forget_handle = True
        return False

    def _agreed(self, needed: list[Held]) -> set[tuple[str, ...]]:
        """The keys of all releases, confirmed by the next exit."""
        before, after = self.point.before, self.point.after
        wanted = {self._key(h) for h in needed}
        if before:
            wanted |= self._keys(before.path)
        if after is None or after.path.end not in ('return', 'break',
                                                   'continue'):
            self._no_doubts()
            return wanted
        theirs = self._keys(after.path)
        mine = {k for k in theirs if k[0] == self.mapped
                and k[1] in self.names}
        alone = not any(k[0] == self.mapped for k in wanted)
        mine |= {a.key for a in after.path.actions if alone and not
                 releases(a.call) and a.key not in wanted
                 and self._only_unmaps(a.call, True)}
        helpers = {k for k in theirs - wanted - mine if self._ends_this(k)}
        if helpers:
            raise Refused(self._held_text(
                '%s of the exit at line %d undoes this mapping and maybe more'
                % (sorted(helpers)[0][1], after.stmt.first.line)))
        theirs -= mine
        for item in self.point.between:
            theirs -= {k for k in theirs if k[0] == item.kind
                       and k[1] == item.obj or not item.known
                       and k[0] == 'call' and any(
                           k[1].startswith(n + '(')
                           for n in item.kind.split())}
        if theirs == wanted:
            self.confirmed = True
            return wanted
        return self._differing(wanted, theirs, bool(mine), needed)

    def _explain(self, wanted: set[tuple[str, ...]]) -> None:
        """A label or a later exit that undoes more must undo what comes
        after the map; else something is held that we did not see."""
        paths = []
        for name, label in self.of._labels.items():
            if label.first.start > self.stmt.last.end:
                path = self.of.path_of_label(name)
                if path.end == 'return' and wanted <= path.keys \
                        or path.end == 'branches' and not (
                            path.keys & wanted):
                    paths.append(('label %s' % name, path))
        later = self.of.exits_after(self.stmt)
        if later and self.point.after is None:
            paths.append(('the exit at line %d' % later[0].stmt.first.line,
                          later[0].path))
        for name, path in paths:
            for key in path.keys - wanted:
                if not self._explained(key, later):
                    raise Refused(self._held_text(
                        '%s also does %s, which may be due here'
                        % (name, ' '.join(k for k in key[:2]))))

    def _explained(self, key: tuple[str, ...], later: list[Exit]) -> bool:
        kind, obj = key[:2]
        if kind == self.mapped and (obj in self.names or key[2]):
            return True
        if key[2] and any(
                p.kind == self.mapped and p.acquire.match(call.name)
                and call.first.start > self.stmt.last.end
                and any(isinstance(x, c.Loop)
                        for x in self.of.up.chain(call))
                for call in self.func.calls() for p in _PAIRS):
            return True         # unwinds a loop that is still to come
        if any(key not in e.path.keys for e in later):
            return True
        for call in self.func.calls():
            if call.first.start < self.stmt.last.end:
                continue
            if kind == 'call':
                if obj.split('(')[0] in self.of.counterparts(call.name):
                    return True
            elif any(p.kind == kind and p.acquire.match(call.name)
                     for p in _PAIRS):
                return True
        return False

    confirmed = False
    forget_handle = False

    def _differing(self, wanted, theirs, unmaps, needed):
        after = self.point.after
        lacking = wanted - theirs
        extra = theirs - wanted
        params = {p.name for p in self.func.params}
        guesses = {self._key(h) for h in needed if not h.known}
        if unmaps and not (lacking - guesses) and all(
                self._before_point(k) for k in extra):
            return theirs
        if not lacking and all(k[0] in ('skb', 'memory') and k[1] in params
                               for k in extra):
            return theirs
        raise Refused(self._held_text(
            'the next exit (line %d) does not release the same'
            % after.stmt.first.line))

    def _before_point(self, key: tuple[str, ...]) -> bool:
        """Was what a release undoes surely there before the map?"""
        if any((h.kind, h.obj) == key[:2] for h in self.point.between):
            return False
        return True

    def _ends_this(self, key: tuple[str, ...]) -> bool:
        """Is it a call of a helper that unmaps?"""
        if key[0] != 'call':
            return False
        name = key[1].split('(')[0]
        return 'unmap' in name

    def _no_doubts(self) -> None:
        if self.point.doubts:
            raise Refused(self._held_text('nothing tells how to undo ' +
                                          ', '.join(self.point.doubts)))

    @staticmethod
    def _key(item: Held) -> tuple[str, ...]:
        if not item.known:
            return ('call', item.kind, '', '')
        return (item.kind, item.obj, 'loop' if item.loop else '', item.guard)

    # -- writing it down

    def _written(self, needed: list[Held],
                 wanted: set[tuple[str, ...]]) -> NewExit:
        before, after = self.point.before, self.point.after
        if self.rounds is not None:
            return self._with_rounds(wanted)
        label = self._label(wanted)
        if label and not (before and isinstance(before.jump, c.Jump)):
            return self._goto([], label)
        if before is None and wanted and after is not None and not \
                self._synthesised(needed):
            return self._from_after(wanted)
        lines = self._undo(needed)
        return self._leave(lines, wanted, needed)

    def _synthesised(self, needed) -> bool:
        return all(h.known and not h.loop and not h.guard for h in needed)

    def _from_after(self, wanted):
        raise Refused(self._held_text('no label undoes this'))

    def _label(self, wanted: set[tuple[str, ...]]) -> str:
        """A label whose path releases exactly what is wanted."""
        if not wanted:
            return ''
        near = [e for e in (self.point.before, self.point.after) if e]
        order: list[str] = []
        for found in near:
            order += found.path.labels
        order += [n for n in self.of._labels if n not in order]
        for name in order:
            label = self.of._labels.get(name)
            if label is None or label.first.start < self.stmt.last.end:
                continue
            path = self.of.path_of_label(name)
            keys = self._keys(path)
            if path.end == 'return' and keys == wanted \
                    and not _retries(path) \
                    and all(not k[3] or self._still_known(k[3]) for k in keys):
                return name
        return ''

    def _with_rounds(self, wanted: set[tuple[str, ...]]) -> NewExit:
        """Earlier rounds of a loop hold mappings: only a label that unmaps in
        a loop of its own will do, and only if there is just one."""
        for above in self.of.up.chain(self.stmt):
            if above is self.rounds:
                break
            if isinstance(above, (c.If, c.Switch)):
                raise Refused(self._held_text(
                    'only some rounds of the loop at line %d make this '
                    'mapping, so no label is known to undo the earlier ones'
                    % self.rounds.first.line))
        others = {k for k in wanted if k[2] != 'loop' and k[0] != self.mapped}
        singles = sum(k[0] == self.mapped and k[2] != 'loop' for k in wanted)
        found: dict[frozenset, str] = {}
        for name, label in self.of._labels.items():
            path = self.of.path_of_label(name)
            loops = [a for a in path.actions if a.loop is not None]
            direct = {a.key for a in path.actions if a.loop is None}
            unmaps = {k for k in direct if k[0] == self.mapped}
            if label.first.start > self.stmt.last.end \
                    and path.end == 'return' and not _retries(path) \
                    and any(self._unmaps(a) for a in loops) \
                    and not any(_takes_failed(a.loop) for a in loops) \
                    and direct - unmaps == others and len(unmaps) in (
                        0, singles):
                found.setdefault(frozenset(path.keys), name)
        if len(found) == 1:
            return self._goto([], next(iter(found.values())))
        raise Refused(self._held_text(
            'mappings of earlier rounds of the loop at line %d have to be '
            'undone and no label does just that' % self.rounds.first.line))

    def _unmaps(self, action: Action) -> bool:
        """Is it an unmap, or a call of a function that unmaps?"""
        gone = releases(action.call)
        return gone[0] == self.mapped if gone else \
            'unmap' in action.call.name or self._only_unmaps(action.call, False)

    def _only_unmaps(self, call: c.Call, strict: bool) -> bool:
        """Does a function of the driver unmap (and do nothing else)?"""
        callee = self.of.driver.resolve(call.name, self.func) \
            if call.name else None
        if callee is None or callee.body is None:
            return False
        kinds = [releases(x) for x in callee.calls()]
        other = any(x and x[0] != self.mapped for x in kinds) or any(
            re.search('free|put|release|destroy', x.name)
            for x in callee.calls())
        return any(x and x[0] == self.mapped for x in kinds) and not (
            strict and other)

    def _undo(self, needed: list[Held]) -> list[str]:
        """Statements that release what was taken since the exit before."""
        lines: list[str] = []
        for item in reversed(needed):
            if not item.obj:
                raise Refused(self._held_text('no variable keeps the %s of '
                              'line %d' % (item.kind, item.call.first.line)))
            if item.obj in self.names:
                raise Refused(self._held_text(
                    '%s is overwritten by this mapping' % item.obj))
            if not item.known or item.loop or item.guard \
                    and not self._still_known(item.guard):
                raise Refused(self._held_text('no label undoes %s' % item))
            release = self._release_text(item)
            if item.guard and self.of.known.get(item.guard) is not True:
                release = ['if (%s) %s' % (item.guard, release[0]
                                           if len(release) == 1 else
                                           '{ %s }' % ' '.join(release))]
            lines += release
        return lines

    @property
    def goes_on(self) -> bool:
        """Does the new exit stay in the function, as `break` does?"""
        before = self.point.before
        return before is not None and isinstance(before.jump, c.Jump)

    def _release_text(self, item: Held) -> list[str]:
        if item.lost and (item.others or any(
                k[0] == 'call' for k in (self.point.before.path.keys
                                         if self.point.before else ()))):
            raise Refused(self._held_text(item.lost))
        if any(_outside(o) for o in item.others) and item.obj not in \
                self.of.released and not (self.point.before and isinstance(
                    self.point.before.jump, c.Jump)) and not self.of.xmit_skb():
            raise Refused(self._held_text(
                '%s was already stored in %s, and no exit of %s() releases it'
                % (item.obj, item.others[-1], self.func.name)))
        if _outside(item.obj) and item.kind != 'mapping' \
                and item.obj not in self.of.released \
                and self.of.released_elsewhere(item.obj) \
                and not self.goes_on:
            raise Refused(self._held_text(
                'no exit of %s() releases %s, another function does'
                % (self.func.name, item.obj)))
        self._not_swept(item)
        for call in self.func.calls():
            gone = releases(call)
            if gone == (item.kind, item.obj) and self._simple(call) \
                    and _fits(item.call, call):
                out = [text(call, True) + ';']
                break
        else:
            out = [self._default_release(item)]
        if item.kind in ('skb', 'memory', 'page', 'coherent memory'):
            out += ['%s = NULL;' % o for o in dict.fromkeys(
                (item.obj, *item.others)) if (
                    _outside(o) or o.startswith('*')) and (
                    item.kind == 'skb' or self.of.asked_for(o, self.goes_on)
                    or self.of.released_elsewhere(o))]
        return out

    def _still_known(self, guard: str) -> bool:
        """Can a condition be tested again with the same outcome?"""
        calls = re.findall(r'(\w+)\(', guard)
        if re.search(r'\+\+|--|[^=!<>]=[^=]|#if|a case', guard) \
                or any(not re.match('[A-Z][A-Z0-9_]*$', x) for x in calls):
            return False
        names = set(re.findall(r'[A-Za-z_]\w*', guard))
        if self._loops():
            return False
        for node in self.func.body.walk():
            target = None
            if isinstance(node, c.Assign):
                target = strip(node.left)
            elif isinstance(node, c.Unary) and node.op.strip('p') in (
                    '++', '--', '&'):
                target = strip(node.arg)
            if isinstance(target, (c.Id, c.Member)) and target.name in names \
                    and target.name != 'dev':
                return False
        return True

    def _not_swept(self, item: Held) -> None:
        """Code behind the loop may release every slot that was filled."""
        slots = {x.split('[')[0] for x in (item.obj, *item.others) if '[' in x}
        for call in self.func.calls() if self.goes_on else ():
            gone = releases(call)
            if gone and gone[0] == item.kind and '[' in gone[1] \
                    and gone[1].split('[')[0] in slots \
                    and not any(x is loop for x in self.of.up.chain(call)
                                for loop in self._loops()):
                raise Refused(self._held_text(
                    '%s (line %d) may release it as well'
                    % (text(call), call.first.line)))

    def _loops(self) -> list[c.Loop]:
        return [x for x in self.of.up.chain(self.stmt)
                if isinstance(x, c.Loop)]

    def _simple(self, call: c.Call) -> bool:
        """May a release be copied to another place?"""
        up = self.of.up
        return isinstance(up.of(call), c.ExprStmt)

    def _default_release(self, item: Held) -> str:
        name = item.call.name
        if item.kind == 'skb':
            return 'dev_kfree_skb_any(%s);' % item.obj
        if item.kind == 'memory' and name.startswith('k') and not name.startswith(
                ('kmem_cache', 'kv')):
            return 'kfree(%s);' % item.obj
        if item.kind == 'mapping':
            return self._unmap(item)
        if item.kind == 'page' and name in ('alloc_page', 'dev_alloc_page',
                                            '__dev_alloc_page'):
            if {'put_page', '__free_page'} <= self.of.words or \
                    'put_page' not in self.of.words:
                return '__free_page(%s);' % item.obj
            return 'put_page(%s);' % item.obj
        args = [text(a, True) for a in item.call.args]
        if name.startswith('kmem_cache') and args:
            return 'kmem_cache_free(%s, %s);' % (args[0], item.obj)
        if name in ('alloc_pages', 'alloc_pages_node', 'dev_alloc_pages') \
                and args[-1] == '0':
            words = self.of.words
            return '%s(%s);' % ('put_page' if 'put_page' in words and
                                '__free_page' not in words else '__free_page',
                                item.obj)
        if name == 'dma_alloc_coherent' and len(args) == 4:
            return 'dma_free_coherent(%s, %s, %s, %s);' % (
                args[0], args[1], item.obj, args[2].lstrip('&')
                if args[2].startswith('&') else '*' + args[2])
        if name in ('alloc_pages', 'dev_alloc_pages', '__dev_alloc_pages') \
                and item.kind == 'page':
            if '__free_pages' in self.of.words:
                return '__free_pages(%s, %s);' % (item.obj, args[-1])
        if item.kind == 'lock':
            if name == 'mutex_lock' or name in ('spin_lock', 'spin_lock_bh',
                                                'spin_lock_irq'):
                return '%s;' % text(item.call, True).replace('lock', 'unlock', 1)
            if name == 'spin_lock_irqsave':
                return 'spin_unlock_irqrestore(%s);' % ', '.join(
                    text(a, True) for a in item.call.args)
        raise Refused(self._held_text('no statement of %s() releases %s'
                                      % (self.func.name, item)))

    def _unmap(self, item: Held) -> str:
        call = item.call
        args = [text(a, True) for a in call.args]
        found = re.match(r'dma_map_(single|page)$', call.name)
        if found and len(args) >= 4:
            size, way = (args[2], args[3]) if found.group(1) == 'single' \
                else (args[3], args[4])
            self._unchanged(call.args[2 if found.group(1) == 'single' else 3])
            return 'dma_unmap_%s(%s, %s, %s, %s);' % (
                found.group(1), args[0], item.obj, size, way)
        if call.name == 'skb_frag_dma_map' and len(args) == 5:
            return 'dma_unmap_page(%s, %s, %s, %s);' % (
                args[0], item.obj, args[3], args[4])
        raise Refused(self._held_text('no statement unmaps %s' % item))

    def _unchanged(self, size: c.Expr) -> None:
        """The size at the unmap is the size at the map only if nobody wrote
        to what it is made of in between."""
        names = {x.name for x in size.walk() if isinstance(x, c.Id)}
        for node in self.func.body.walk():
            if node.first.start <= size.last.end \
                    or node.first.start >= self.stmt.last.end:
                continue
            target = None
            if isinstance(node, c.Assign):
                target = strip(node.left)
            elif isinstance(node, c.Unary) and node.op.strip('p') in ('++', '--'):
                target = strip(node.arg)
            if isinstance(target, c.Id) and target.name in names:
                raise Refused(self._held_text('%s changes before the unmap'
                                              % target.name))

    def _leave(self, lines: list[str], wanted, needed) -> NewExit:
        """Leave as the exit before does, after `lines`."""
        before = self.point.before
        if before is None:
            if any(k[0] == 'call' for k in wanted):
                raise Refused(self._held_text('no label undoes this'))
            self._covers(needed, wanted, set())
            return NewExit(lines + self._return())
        copied = self._copied(before)
        self._covers(needed, wanted, self._keys(before.path))
        jump = before.jump
        freed = {m.group(1) for m in (re.match(r'^k?v?free\((\w+)\);$', x)
                                      for x in lines + copied) if m}
        lines = [x for x in lines if not x.endswith(' = NULL;')
                 or x.split('->')[0] not in freed]
        if isinstance(jump, c.Goto):
            return self._goto(lines + copied, jump.name)
        if isinstance(jump, c.Jump):
            self._ends_well(jump)
            return NewExit(lines + copied + ['%s;' % jump.kind])
        return NewExit(lines + copied + self._return())

    def _ends_well(self, jump: c.Jump) -> None:
        """What follows must not map again, nor read the failed handle."""
        loop = next((x for x in self.of.up.chain(self.stmt)
                     if isinstance(x, (c.Loop, c.Switch))), None)
        if loop is None or jump.kind != 'break':
            return
        written: set[str] = set()
        for node in self.func.body.walk():
            if node.first.start <= loop.last.end:
                continue
            if isinstance(node, c.Call) and any(
                    p.kind == self.mapped and p.acquire.match(node.name)
                    for p in _PAIRS):
                raise Refused(self._held_text(
                    'after the loop line %d maps again' % node.first.line))
            if isinstance(node, c.Assign) and node.op == '=':
                written.add(text(strip(node.left)))
            elif isinstance(node, (c.Id, c.Member, c.Index)) \
                    and text(node) in self.names \
                    and text(node) not in written:
                raise Refused(self._held_text(
                    '%s is still used after the loop (line %d)'
                    % (text(node), node.first.line)))

    def _keys(self, path: Path) -> set[tuple[str, ...]]:
        """The releases of a path, without conditions known to hold here."""
        out = set()
        for key in path.keys:
            kept = [t for t in key[3].split(' && ')
                    if self.of.known.get(t) is not True] if '||' not in key[3] \
                else [key[3]]
            out.add((*key[:3], ' && '.join(kept)))
        return out

    def _covers(self, needed, wanted, rest) -> None:
        if {self._key(h) for h in needed} | rest != wanted:
            raise Refused(self._held_text('no label undoes this'))

    def _copied(self, before: Exit) -> list[str]:
        """The statements of the exit before, but for what only it may say."""
        branch = before.stmt.then
        out = []
        for stmt in (branch.body[:-1] if isinstance(branch, c.Block) else []):
            if not isinstance(stmt, c.ExprStmt):
                if isinstance(stmt, c.Opaque):
                    continue
                if any(not is_log(x.name) for x in stmt.walk()
                       if isinstance(x, c.Call)):
                    raise Refused(self._held_text(
                        'the exit at line %d is too complex to copy'
                        % before.stmt.first.line))
                continue
            expr = stmt.expr
            if isinstance(expr, c.Call) and (is_log(expr.name)
                                             or _PURE.match(expr.name)):
                if not re.search('drop', text(expr)):
                    continue
            if isinstance(expr, c.Assign) and isinstance(strip(expr.left), c.Id):
                if _RESULT_NAME.match(strip(expr.left).name) or \
                        _error_value(expr.right, self.func):
                    continue
            if isinstance(expr, c.Unary) and not re.search('drop|fail',
                                                           text(expr)):
                continue
            out.append(text(expr, True) + ';')
        return out

    def _goto(self, lines: list[str], label: str) -> NewExit:
        path = self.of.path_of_label(label)
        status = self._status(path)
        reset = {text(strip(r.left)) for r in path.resets}
        for item in self.point.held:
            # what the label frees must not stay in a slot
            if item.kind == 'skb' and (item.kind, item.obj, '', '') in path.keys:
                lines = lines + ['%s = NULL;' % o for o in
                                 dict.fromkeys(item.others)
                                 if _outside(o) and o not in reset]
        return NewExit(lines + status + ['goto %s;' % label])

    # -- the value that is returned

    def _status(self, path: Path) -> list[str]:
        """The assignment that makes a label's `return ret` return an error."""
        value = path.value
        if value is None:
            if self.func.returns.base == 'void' and not \
                    self.func.returns.pointers:
                return []
            if path.end != 'return':
                return []
        if value is None or self._constant(value):
            return []
        names = [x.name for x in value.walk() if isinstance(x, c.Id)
                 and x.name in self.func.locals]
        for name in dict.fromkeys(names):
            if name in path.sure:
                return []
            kind = self.func.locals[name].type
            special = self._netdev_status(name)
            if special is not None:
                return special
            if kind.base in _SIGNED and not kind.pointers and not kind.dims:
                preset = self.point.assigned.get(name)
                if preset is not None and text(preset) == self._errno():
                    return []
                return ['%s = %s;' % (name, self._errno())]
            if kind.pointers and self.func.returns.pointers:
                return ['%s = %s;' % (name, self._pointer())]
            if kind.base == 'bool' :
                preset = path.assigned.get(name)
        raise Refused(self._held_text(
            'the function returns %s, and nothing tells what that is on failure'
            % text(value)))

    def _netdev_status(self, name: str) -> list[str] | None:
        """A status that is NETDEV_TX_OK or _BUSY: the packet is dropped."""
        given = [text(x.right) for x in self.func.body.walk()
                 if isinstance(x, c.Assign) and text(strip(x.left)) == name]
        var = self.func.locals[name]
        if var.init is not None:
            given.append(text(var.init))
        if not any(g.startswith('NETDEV_TX') for g in given):
            constants = [g for g in given if re.match(r'^[A-Z1-9]', g)]
            if constants:
                raise Refused(self._held_text(
                    'nothing tells which value of %s means that a mapping '
                    'failed' % name))
            return None
        if set(given) == {'NETDEV_TX_OK'}:
            return []
        return ['%s = NETDEV_TX_OK;' % name]

    @staticmethod
    def _constant(value: c.Expr) -> bool:
        return all(not isinstance(x, (c.Call, c.Member, c.Index)) or
                   isinstance(x, c.Call) and x.name == 'ERR_PTR'
                   for x in value.walk()) and all(
            re.match(r'^([A-Z][A-Z0-9_]*|true|false|ERR_PTR)$', x.name)
            for x in value.walk() if isinstance(x, c.Id))

    def _pointer(self) -> str:
        return 'ERR_PTR(-ENOMEM)' if any(
            isinstance(x, c.Return) and x.value is not None
            and 'ERR_PTR' in text(x.value) for x in self.func.body.walk()) \
            or 'ERR_PTR' in self.func.words else 'NULL'

    def _return(self) -> list[str]:
        kind, before = self.func.returns, self.point.before
        if kind.pointers:
            return ['return %s;' % self._pointer()]
        if kind.base == 'void':
            if self.confirmed and (before is not None or isinstance(
                    self.point.after.jump, c.Return)):
                return ['return;']
            raise Refused(self._held_text(
                '%s() returns nothing, so its callers cannot learn of a '
                'failure' % self.func.name))
        if kind.base in _XMIT:
            return self._dropped() + ['return NETDEV_TX_OK;']
        model = before.path.value if before is not None and before.failure \
            else None
        if model is None and self.point.after is not None:
            model = self.point.after.path.value
        if model is not None and self._is_count(model):
            return ['return %s;' % text(model)]
        if kind.base in _SIGNED and (self._errnos() or model is not None
                                     and not self._constant(model)):
            return ['return %s;' % self._errno()]
        if model is not None and self._constant(model):
            return ['return %s;' % text(model)]
        if kind.base == 'bool' and {'true', 'false'} <= self._returned():
            last = self.func.body.body[-1]
            if isinstance(last, c.Return) and last.value is not None \
                    and text(last.value) == 'true':
                return ['return false;']
        if kind.base in _SIGNED and self._callers_test():
            return ['return %s;' % self._errno()]
        raise Refused(self._held_text(
            'nothing tells what %s() returns on failure' % self.func.name))

    def _returned(self) -> set[str]:
        return {text(strip(x.value)) for x in self.func.body.walk()
                if isinstance(x, c.Return) and x.value is not None}

    def _is_count(self, value: c.Expr) -> bool:
        """Is it the number of what was done so far?"""
        value = strip(value)
        if not isinstance(value, c.Id) or value.name not in self.func.locals:
            return False
        return any(
            isinstance(x, c.Unary) and x.op in ('++', 'p++')
            and text(strip(x.arg)) == value.name
            or isinstance(x, c.Assign) and x.op == '+='
            and text(strip(x.left)) == value.name
            for x in self.func.body.walk())

    def _errno(self) -> str:
        """The errno of the function's other tests of mappings."""
        found = set()
        for node in self.func.body.walk():
            if isinstance(node, c.If) and 'mapping_error' in text(node.cond):
                for sub in node.then.walk():
                    if isinstance(sub, c.Unary) and sub.op == '-' and re.match(
                            '-E[A-Z]+$', text(sub)):
                        found.add(text(sub))
        return found.pop() if len(found) == 1 else '-ENOMEM'

    def _callers_test(self) -> bool:
        """Does every caller take a result other than 0 as failure?"""
        places = self.of.driver.calls_to(self.func)
        if self._may_own():
            return False
        for place in places:
            other = Unwinder(self.of.driver, place.function)
            above = other.up
            stmt = above.statement(place.node)
            if isinstance(stmt, c.Return):
                continue
            if isinstance(stmt, c.If):
                found = other.exit_of(stmt)
            else:
                following = _following(above, stmt)
                found = other.exit_of(following) if following else None
                result = _Walk(other)._result(place.node)
                if not result or not found or result not in _tested_names(
                        found.stmt.cond):
                    return False
            if found is None or not found.failure \
                    or not _is_nonzero_test(found.stmt.cond):
                return False
        return bool(places) and not self.of.driver.addresses_of(self.func)

    def _may_own(self) -> bool:
        """Could a parameter be something that this function must free?"""
        for param in self.func.params:
            if param.type.base == 'struct sk_buff':
                return True
            for func in self.of.driver.functions_with('kfree', 'kvfree'):
                if re.search('free|release|destroy', func.name) \
                        and len(func.params) < 3 and any(
                            x.name in ('kfree', 'kvfree') and len(x.args) == 1
                            and text(strip(x.args[0])) in {
                                p.name for p in func.params
                                if p.type == param.type}
                            for x in func.calls()):
                    return True
            for call in self.func.calls():
                if re.search('free|release|destroy|put|drop', call.name) \
                        and any(text(strip(x)) == param.name
                                for x in call.args):
                    return True
        return False

    def _errnos(self) -> bool:
        return any(isinstance(x, c.Unary) and x.op == '-'
                   and isinstance(x.arg, c.Id) and re.match('E[A-Z]', x.arg.name)
                   for x in self.func.body.walk())

    def _dropped(self) -> list[str]:
        if any('dropped' in w or 'tx_err' in w for w in self.func.words):
            for node in self.func.body.walk():
                if isinstance(node, c.ExprStmt) and 'dropped' in text(node.expr) \
                        and isinstance(node.expr, (c.Unary, c.Call)):
                    return [text(node.expr) + ';']
        for param in self.func.params:
            if str(param.type) == 'struct net_device *':
                return ['%s->stats.tx_dropped++;' % param.name]
        return []


def _following(up, stmt: c.Stmt) -> c.Stmt | None:
    """The statement that comes next, also behind the branches of an if."""
    node: c.Node = stmt
    for above in up.chain(stmt):
        if isinstance(above, c.Block):
            index = next(i for i, s in enumerate(above.body) if s is node)
            if index + 1 < len(above.body):
                return above.body[index + 1]
        elif not isinstance(above, c.If):
            return None
        node = above
    return None


def _fits(taken: c.Call, given: c.Call) -> bool:
    """Pages of a higher order go back with their order, others without."""
    if taken.name == 'alloc_page' and given.name == 'put_page':
        return False        # nobody has taken a reference yet
    ordered = re.search('pages', taken.name) and 'page_pool' not in taken.name
    if releases(given) and releases(given)[0] == 'page':
        return bool(ordered) == bool(re.search('free_pages', given.name))
    return True


def point_skb(point: Point, skb: str) -> list[Held]:
    return [h for h in point.held if h.kind == 'skb' and h.obj == skb]


def _releases_field(driver: Driver, func: c.Function, kind: str,
                    fields: set[str], depth: int) -> bool:
    """Does a function release something that is kept in such a field?"""
    copies = {name for name in fields}
    for node in func.body.walk():
        source, target = None, ''
        if isinstance(node, c.Assign):
            source, target = strip(node.right), text(strip(node.left))
        elif isinstance(node, c.Variable) and node.init is not None:
            source, target = strip(node.init), node.name
        while isinstance(source, c.Index):
            source = strip(source.base)
        if isinstance(source, c.Member) and source.name in fields:
            copies.add(target)
    for call in func.calls():
        gone = releases(call)
        if gone:
            last = re.split(r'->|\.', gone[1])[-1].split('[')[0]
            if gone[0] == kind and (last in copies or gone[1] in copies):
                return True
        elif depth:
            callee = driver.resolve(call.name, func) if call.name else None
            if callee is not None and callee.body is not None \
                    and callee is not func and _releases_field(
                        driver, callee, kind, fields, depth - 1):
                return True
    return False


def _outside(name: str) -> bool:
    """Is an lvalue more than a local variable?"""
    return '->' in name or '[' in name or '.' in name


def _takes_failed(loop: c.Loop) -> bool:
    """Does an unwinding loop start with the round that failed?

    `for (; i >= 0; i--)` does, `while (i--)` and `while (--i >= 0)` do not.
    """
    if loop.kind == 'while' and re.match(r'^--\w+$', text(strip(loop.cond))):
        return True         # never ends when the first round failed
    if loop.kind != 'for' or loop.cond is None or loop.step is None:
        return False
    found = re.match(r'^(\w+) >=? ', text(strip(loop.cond)))
    return loop.init is None and bool(found) and text(loop.step) in (
        found.group(1) + '--', '--' + found.group(1))

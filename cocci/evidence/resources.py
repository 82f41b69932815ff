# SPDX-License-Identifier: GPL-2.0-only
"""Which calls acquire something, and which calls give it back."""
from __future__ import annotations

import re
from dataclasses import dataclass

from . import cparse as c
from .driver import strip, text


class Refused(Exception):
    """No correct exit can be built; the text says why."""


class Pair:
    """One kind of resource; obj says what names it: the result or argument n."""

    def __init__(self, kind: str, acquire: str, obj: int | None, release: str,
                 robj: int = 0):
        self.kind, self.obj, self.robj = kind, obj, robj
        self.acquire = re.compile('^(?:%s)$' % acquire)
        self.release = re.compile('^(?:%s)$' % release)


RESULT = None
PAIRS = (
    Pair('memory', r'k[mzc]alloc(_array|_objs?|_flex)?(_node|_noprof)?|'
          r'kzalloc_objs?|kzalloc_flex|kv[mzc]alloc(_array|_objs?)?(_node)?|'
          r'kmem_cache_z?alloc(_node)?|kmemdup(_nul|_array)?|'
          r'kstrdup|memdup_user|vmemdup_user|v[mz]alloc(_node|_user|_32)?|'
          r'bitmap_z?alloc(_node)?|usb_alloc_urb', RESULT,
          r'kfree(_sensitive|_rcu)?|kvfree(_sensitive)?|vfree|kzfree|'
          r'kmem_cache_free|bitmap_free|usb_free_urb', -1),
    Pair('memory', r'mempool_alloc', RESULT, r'mempool_free', 0),
    Pair('folio', r'(__)?folio_alloc', RESULT, r'folio_put', 0),
    Pair('DMA-safe buffer', r'i2c_get_dma_safe_msg_buf', RESULT,
         r'i2c_put_dma_safe_msg_buf', 0),
    Pair('skb', r'(__)?(netdev_|dev_|napi_|)alloc_skb(_ip_align|_fclone|_head)?'
          r'|skb_(copy|clone|realloc_headroom|share_check|copy_expand|unshare)|'
          r'(napi_|slab_|)build_skb|skb_dequeue|skb_get|'
          r'(__)?netdev_alloc_skb_ip_align', RESULT,
          r'(dev_)?(kfree|consume)_skb(_any|_irq|_reason)?|'
          r'dev_kfree_skb_(any|irq)_reason', 0),
    Pair('skb', r'ieee80211_\w*_get|skb_dequeue_tail', RESULT,
         r'ieee80211_free_txskb', 1),
    Pair('page', r'(__)?(dev_)?alloc_pages?(_node)?|__get_free_pages?|'
          r'get_zeroed_page|__dev_alloc_pages?|page_pool_(dev_)?alloc\w*', RESULT,
          r'__free_pages?|free_pages?|put_page|page_pool_\w*(put|recycle)\w*',
          0),
    Pair('exact pages', r'alloc_pages_exact(_nid)?', RESULT,
         r'free_pages_exact', 0),
    Pair('fragment', r'(page|netdev|napi)_(frag_alloc|alloc_frag)(_align)?',
         RESULT, r'skb_free_frag|page_frag_free', 0),
    Pair('coherent memory', r'dma_alloc_(coherent|attrs|noncoherent|'
          r'writecombine|wc|pages)|pci_z?alloc_consistent', RESULT,
          r'dma_free_(coherent|attrs|noncoherent|writecombine|wc|pages)|'
          r'pci_free_consistent', 2),
    Pair('pool memory', r'(dma|pci)_pool_z?alloc', RESULT,
          r'(dma|pci)_pool_free', 1),
    Pair('pool', r'(dma|pci)_pool_create|kmem_cache_create', RESULT,
          r'(dma|pci)_pool_destroy|kmem_cache_destroy', 0),
    Pair('mapping', r'dma_map_(single|page|resource|phys)(_attrs)?|'
          r'(__)?skb_frag_dma_map|pci_map_(single|page)', RESULT,
          r'(dma|pci)_unmap_(single|page|resource|phys)(_attrs)?', 1),
    Pair('scatterlist mapping', r'(dma|pci)_map_sg(_attrs)?|dma_map_sgtable', 1,
          r'(dma|pci)_unmap_sg(_attrs)?|dma_unmap_sgtable', 1),
    Pair('lock', r'(raw_)?(spin|read|write)_lock(_irqsave|_irq|_bh|_nested|'
          r'_irqsave_nested)?|mutex_lock(_nested)?|down(_read|_write)?|'
          r'rtnl_lock|rcu_read_lock|local_irq_save|local_bh_disable|'
          r'preempt_disable|mutex_lock_interruptible|mutex_lock_killable|'
          r'down_interruptible|(raw_)?spin_trylock\w*|mutex_trylock|'
          r'(raw_)?(read|write)_trylock\w*|down_(read|write)_trylock|'
          r'down_trylock|bit_spin_(try)?lock|'
          r'local_irq_disable|__netif_tx_lock(_bh)?|netif_tx_lock(_bh)?', 0,
          r'(raw_)?(spin|read|write)_unlock(_irqrestore|_irq|_bh)?|mutex_unlock|'
          r'up(_read|_write)?|rtnl_unlock|rcu_read_unlock|local_irq_restore|'
          r'local_bh_enable|preempt_enable|local_irq_enable|bit_spin_unlock|'
          r'__netif_tx_unlock(_bh)?|netif_tx_unlock(_bh)?', 0),
    Pair('clock', r'clk_(prepare_enable|enable|prepare|bulk_prepare_enable)', 0,
          r'clk_(disable_unprepare|disable|unprepare|bulk_disable_unprepare)', 0),
    Pair('runtime PM reference', r'pm_runtime_(get\w*|resume_and_get)', 0,
          r'pm_runtime_put\w*', 0),
    Pair('node', r'of_node_get|of_get_(\w*child\w*|parent|next_parent|cpu_node)|'
          r'of_find_\w+|of_parse_phandle', RESULT, r'of_node_put', 0),
    Pair('processor', r'get_cpu(_ptr|_var)?', 0, r'put_cpu(_ptr|_var)?', 0),
    Pair('interrupt', r'request(_threaded|_any_context)?_irq', 0, r'free_irq',
          0),
    Pair('mapping of registers', r'ioremap\w*|pci_iomap|of_iomap|'
          r'pci_ioremap_bar', RESULT, r'iounmap|pci_iounmap', -1),
    Pair('scatterlist', r'sg_alloc_table\w*', 0, r'sg_free_table\w*', 0),
    Pair('DMA channel', r'dma_request_(slave_)?chan(nel)?\w*', RESULT,
          r'dma_release_channel', 0),
    Pair('device', r'alloc_etherdev\w*|alloc_netdev\w*', RESULT, r'free_netdev',
          0),
    Pair('queue', r'alloc_(ordered_)?workqueue|create_\w*workqueue', RESULT,
          r'destroy_workqueue', 0),
    Pair('regulator', r'regulator_enable', 0, r'regulator_disable', 0),
    Pair('reset', r'reset_control_deassert', 0, r'reset_control_assert', 0),
    Pair('transform', r'crypto_alloc_\w+', RESULT, r'crypto_free_\w+', 0),
    Pair('NAPI', r'napi_enable', 0, r'napi_disable', 0),
)

VERBS = {'start': 'stop', 'init': 'exit deinit uninit fini free cleanup '
          'uninitialize destroy release', 'enable': 'disable', 'alloc':
          'free release dealloc', 'get': 'put free release recycle', 'request':
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
          'pull': 'push', 'take': 'put release', 'store': 'clear',
          'zalloc': 'free release', 'save': 'restore'}

#: Verbs that say little unless all other words of the name agree.
VAGUE = frozenset('get set save build fetch push pull load add store insert up '
                   'setup init inc link'.split())
FILLERS = frozenset('try next new one first sync atomic irq all'.split())

_LOG = re.compile(
    r'print|^(dev|netdev|netif|pr|ib|pci|ibdev|drm|dbg|shost|scmd|sdev|vdev|'
    r'wiphy|hid|usb|xhci|mlx5?|sh|dma)_(err|warn|info|dbg|debug|crit|notice|'
    r'alert|emerg|vdbg|cont|err_once|WARN|warn_once)\w*$|trace_|'
    r'^(WARN|BUG|ASSERT|BUILD_BUG|static_assert)|DEBUG|DBG|dbg|^dprintk|^[A-Z_0-9]*(ERR|WARN|INFO|LOG|'
    r'MSG|TRACE|ERROR)[A-Z_0-9]*$|_(err|warn|info|dbg|debug|log|notice|error)'
    r'(_ratelimited|_once|_rl)?$|^(un)?likely$|ratelimit|^(IS_ERR|PTR_ERR|'
    r'ERR_PTR|ERR_CAST)\w*$|^log_|_log$|^dump_stack$|^netif_msg_')
#: Calls that only count, by their names, and fields that may be mere counters.
STATISTICS = re.compile(r'(^|_)stat(s|istics?)?(_|$)|Stat|STAT|^u64_|'
                        r'^this_cpu_(inc|add)')
COUNTER = re.compile(r'stat|count|error|drop|packets|bytes|overrun|fail|'
                     r'\bmib\b')
PURE = re.compile(
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
    r'(platform|pci|dev|usb|spi|i2c)_(set|get)_\w*data|of_property\w*|'
    r'of_get_(property|\w*address|phy_mode)|'
    r'device_property\w*|round_?up|round_?down|ALIGN\w*|DIV_ROUND_UP|swab\w*|'
    r'lockdep_\w+|might_sleep\w*|u?delay|n?delay|[um]sleep\w*|usleep_range|'
    r'\w*_init_completion|init_\w+|INIT_\w+|\w+_lock_init|mutex_init|'
    r'sema_init|kref_init|refcount_set|atomic_set|crypto_\w+|snprintf|sprintf|'
    r'strs?cpy|strlen|strcmp|get_order|is_\w+|\w+_is_\w+|PAGE_ALIGN\w*|'
    r'readl?_poll\w*|test_bit|eth_\w+|ether_\w+|copy_(from|to)_user|get_user|'
    r'put_user|access_ok|dev_name|platform_get_\w+|devm_\w+|pcim_\w+|'
    r'bitmap_(zero|fill|copy|and\w*|or|x?or|empty|full|weight|equal|subset|'
    r'(from|to)_\w+)|ffs|fls|ilog2|array_size|struct_size|size_\w+|'
    r'reinit_completion|get_unaligned\w*|put_unaligned\w*|'
    r'netif_(running|queue_stopped|carrier_ok|tx_queue_stopped)|unlikely|likely|sizeof|swap|prefetch\w*|'
    r'skb_queue_empty|dql_\w+|netdev_get_tx_queue|regmap_\w+|'
    r'[A-Z][A-Z0-9_]*|__builtin\w+|BIT|GENMASK|FIELD_\w+|abs|ktime_get\w*|'
    r'jiffies\w*|nla_\w+|virt_addr_valid|is_vmalloc_addr|vmalloc_to_page|'
    r'vmalloc_to_pfn|pfn_to_page|page_to_\w+|dma_mapping_error|list_empty|'
    r'list_(first|last|next|prev)_\w+|kthread_should_stop|signal_pending|'
    r'scsi_\w*(sglist|count|bufflen)|blk_rq_\w+|rq_data_dir|dev_to_node)$')
#: Those of them that only are so if somebody takes their result.
CONVERTS = re.compile(r'^(\w+_to_\w+|[A-Z][A-Z0-9_]*)$')
#: Calls that only ask, whatever else their names say.
ASKS = re.compile(r'(^|_)(uses?|is|has|can|needs?|may|should|supports?)_')
RESULT_NAME = re.compile(
    r'^_?(ret|retval|err|error|rc|res|result|status|r|rval|ret_val|st|retv|'
    r'errcode|ecode|rv|rslt|val|reterr)\d?$')


def is_log(name: str) -> bool:
    """Does a call only tell or count?  `foo_unmap_on_err()` does not."""
    if re.search('unmap|free|release|unlock|destroy|cleanup|unwind|alloc|'
                 'create|claim|acquire', name):
        return False
    return bool(_LOG.search(name)) or bool(STATISTICS.search(name))


def releases(call: c.Call) -> tuple[str, str] | None:
    """(kind, object) that a call releases, None when it is in no table."""
    for pair in PAIRS:
        if pair.release.match(call.name):
            return pair.kind, argument(call, pair.robj)
    return None


def argument(call: c.Call, index: int) -> str:
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
    given: str = ''           # to whom it was given that may have kept it
    undoers: tuple[str, ...] = ()   # functions that by their names give it back
    helped: bool = False      # an exit's helper would release it
    result: str = ''          # the pointer that the call gave, if it did
    undo: str = ''            # the call of an undoer, once somebody has asked

    def __str__(self) -> str:
        what = '%s %s' % (self.kind, self.obj) if self.obj else self.kind
        more = ', if %s' % self.guard if self.guard else \
            ', in a loop' if self.loop else ''
        return '%s (line %d%s)' % (what, self.call.first.line, more)


def outside(name: str) -> bool:
    """Is an lvalue more than a local variable?"""
    return '->' in name or '[' in name or '.' in name


def field_name(lvalue: str) -> str:
    """The last name in an lvalue, whichever element of an array it is."""
    return re.split(r'->|\.', lvalue)[-1].split('[')[0]

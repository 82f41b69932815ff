# SPDX-License-Identifier: GPL-2.0-only
"""Everything that a driver does with one pointer to memory.

The pointer is followed through copies, fields and calls.  What cannot be
followed is a use of kind `unknown`, with words that say why.
"""
from __future__ import annotations

from typing import NamedTuple

from . import cparse as c
from .alias import sets_argument
from .checks import parents
from .driver import Driver, Object, strip, text
from .reach import is_null

#: Calls that give the address of memory for a device.
ADDRESS = frozenset('virt_to_bus isa_virt_to_bus virt_to_phys __pa'.split())
#: Calls that go from an address back to memory.
INVERSE = frozenset('bus_to_virt isa_bus_to_virt'.split())
#: Calls that free, with the number of the argument that is the pointer.
RELEASE = {'kfree': 0, 'free_page': 0, 'free_pages': 0, 'devm_kfree': 1,
           'devm_free_pages': 1}
_OTHER_RELEASE = frozenset(
    'kfree_sensitive kzfree kvfree vfree kfree_rcu kvfree_rcu kfree_bulk '
    '__free_pages __free_page put_page free_pages_exact kfree_const '
    'kmem_cache_free'.split())
_SLAB = frozenset('krealloc krealloc_array ksize kmemdup kvrealloc virt_to_page '
                  'virt_to_head_page virt_to_folio vmalloc_to_page '
                  'page_address'.split())
_MAPPING = frozenset('dma_map_single dma_map_single_attrs dma_map_page '
                     'pci_map_single sg_init_one sg_set_buf sg_init_table '
                     'dma_map_sg'.split())
#: Functions of the kernel that only look at, or fill, the memory.
HARMLESS = frozenset('''
    memset memcpy memmove memcmp memchr memchr_inv memscan memzero_explicit
    memset32 memset16 memset64 memcpy_fromio memcpy_toio memset_io
    strcpy strncpy strscpy strscpy_pad strlcpy strcat strncat strlen strnlen
    strcmp strncmp strcasecmp strncasecmp strchr strstr strim sprintf snprintf
    scnprintf vsnprintf sscanf copy_from_user copy_to_user __copy_from_user
    __copy_to_user copy_from_user_nofault simple_read_from_buffer
    simple_write_to_buffer put_user get_user copy_to_iter copy_from_iter
    put_unaligned put_unaligned_le16 put_unaligned_le32 put_unaligned_le64
    put_unaligned_be16 put_unaligned_be32 put_unaligned_be64 get_unaligned
    get_unaligned_le16 get_unaligned_le32 get_unaligned_le64
    get_unaligned_be16 get_unaligned_be32 get_unaligned_be64
    le16_to_cpup le32_to_cpup le64_to_cpup be16_to_cpup be32_to_cpup
    be64_to_cpup le32_to_cpus cpu_to_le32s cpu_to_be32s
    cpu_to_le32_array le32_to_cpu_array cpu_to_be32_array be32_to_cpu_array
    print_hex_dump print_hex_dump_debug print_hex_dump_bytes hex_dump_to_buffer
    likely unlikely BUG_ON WARN_ON WARN_ON_ONCE WARN WARN_ONCE IS_ALIGNED
    READ_ONCE WRITE_ONCE ACCESS_ONCE prefetch prefetchw
    csum_partial ip_compute_csum ip_fast_csum crc32 crc32_le crc32_be crc16
    crc_ccitt ether_crc ether_addr_copy skb_put_data skb_copy_to_linear_data
    skb_copy_from_linear_data skb_copy_bits skb_copy_and_csum_dev
    sg_copy_to_buffer sg_copy_from_buffer sg_pcopy_to_buffer
    sg_pcopy_from_buffer scsi_sg_copy_from_buffer scsi_sg_copy_to_buffer
    set_bit clear_bit change_bit test_bit test_and_set_bit test_and_clear_bit
    __set_bit __clear_bit find_first_bit find_first_zero_bit find_next_bit
    bitmap_zero bitmap_set bitmap_clear
    insb insw insl outsb outsw outsl ioread8_rep ioread16_rep ioread32_rep
    iowrite8_rep iowrite16_rep iowrite32_rep readsb readsw readsl writesb
    writesw writesl sizeof ARRAY_SIZE barrier eth_type_trans IS_ERR_OR_NULL
    eth_copy_and_sum seq_write seq_printf seq_puts get_random_bytes'''.split())
#: Integers that hold a pointer on every machine.
_WIDE = frozenset(('unsigned long', 'unsigned long int', 'long unsigned int',
                   'long', 'long int', 'ulong', 'uintptr_t'))
_PRINT_PREFIXES = ('pr_', 'dev_', 'netdev_', 'netif_', 'printk', 'pci_', 'trace_')
_PRINT_ENDINGS = ('err', 'warn', 'info', 'dbg', 'notice', 'alert', 'crit',
                  'emerg', 'debug', 'warning', 'once', 'ratelimited', 'printk',
                  'vdbg', 'cont')


def prints(call: c.Call) -> bool:
    """Does it print: a function of the kernel, or a macro with a format?"""
    name = call.name
    return any(isinstance(node, c.Literal) and node.text.startswith('"')
               and '%' in node.text for node in call.args) or name in ('printk', 'panic', 'seq_printf', 'sprintf', 'snprintf',
                    'scnprintf', 'sysfs_emit', 'WARN', 'WARN_ONCE') \
        or name.startswith(_PRINT_PREFIXES) and name.endswith(_PRINT_ENDINGS)


def holds_pointer(kind: c.Type | None) -> bool:
    """Is this an integer that a pointer fits in, as __get_free_page() gives?"""
    return kind is not None and not kind.pointers and not kind.dims \
        and kind.base in _WIDE


class Use(NamedTuple):
    """One use of a pointer.

    kind: assigned (node: the value), freed (node: the call), address (node:
    the call), tested, read (dereferenced, printed, compared, handed to a
    function that only works on the memory), stored (a copy that was followed),
    unknown.  exact: the pointer itself, not a place in its memory.  place: the
    lvalue that `pointer` is a copy of, where it is one.
    """

    kind: str
    func: c.Function | None
    path: str
    node: c.Node
    pointer: c.Expr             # the expression that is the pointer here
    exact: bool
    why: str = ''
    of: Object | None = None    # the object through which it was reached
    place: c.Expr | None = None

    def __str__(self) -> str:
        return '%s:%d' % (self.path, self.node.first.line)


def assigned_to(use: Use) -> c.Expr | None:
    """The lvalue (or variable) that the value of a use is assigned to."""
    for node in parents(use.func).chain(use.node):
        if isinstance(node, c.Assign):
            return node.left
        if isinstance(node, c.Variable):
            return c.Id(node.first, node.first, node.name)
    return None


class Pointers:
    """Finds the uses of pointers in one driver."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self._mentions: dict[str, list[tuple[c.Function, c.Expr]]] = {}

    # -- mentions of a name

    def mentions(self, name: str) -> list[tuple[c.Function, c.Expr]]:
        """Every Id and Member of this name in parsed functions."""
        if name not in self._mentions:
            found = self._mentions[name] = []
            for func in self.driver.functions_with(name):
                for node in func.nodes:
                    if isinstance(node, (c.Id, c.Member)) \
                            and node.name == name:
                        found.append((func, node))
        return self._mentions[name]

    def hidden(self, name: str) -> str:
        """Where the name stands in code that cannot be looked into; ''."""
        for source in self.driver.files_naming(name):
            for func in source.all_functions():
                if name in func.words and func.body is None:
                    return ('%s:%d: function %s could not be parsed'
                            % (source.path, func.first.line, func.name))
            for macro in source.macros.values():
                if any(t.kind == 'id' and t.text == name
                       for t in c.tokenize(macro.body)) and (
                           macro.params is None
                           or name not in macro.params):
                    return ('%s:%d: macro %s mentions it'
                            % (source.path, macro.line, macro.name))
            for tok in source.dead:
                if tok.text == name:
                    return ('%s:%d: compiled out, or in one branch of an #if '
                            'only' % (source.path, tok.line))
        return ''

    # -- uses

    def uses(self, obj: Object, func: c.Function | None) -> list[Use]:
        """All uses of a pointer object (func: the function of a local)."""
        out: list[Use] = []
        seen: set[tuple[Object, int]] = set()
        self._object(obj, func, obj, out, seen)
        return out

    def _object(self, obj: Object, func: c.Function | None, origin: Object,
                out: list[Use], seen: set[tuple[Object, int]]) -> None:
        key = obj, id(func) if obj.kind == 'local' else 0
        if key in seen:
            return
        seen.add(key)
        if obj.kind != 'local':
            hidden = self.hidden(obj.name)
            if hidden:
                where = func.path if func else ''
                out.append(Use('unknown', func, where, _NOWHERE, _NOWHERE, True,
                               'it is also named where it cannot be followed '
                               '(%s)' % hidden, obj))
        for inside, node in self.mentions(obj.name):
            found = self.driver.object_of(node, inside)
            if obj.kind == 'local' and (inside is not func or found != obj):
                continue
            if obj.kind == 'field' and isinstance(node, c.Member) \
                    and (found is None or found.owner is None):
                out.append(Use('unknown', inside, inside.path, node, node, True,
                               '`%s` may be the same field, the type of its '
                               'struct is not known' % text(node), obj))
            elif found == obj and isinstance(node, c.Member) \
                    == (obj.kind == 'field'):
                self._mention(node, inside, obj, origin, out, seen)
        if obj.kind == 'local' and func is not None:
            var = func.locals.get(obj.name)
            if var is not None and var.init is not None:
                out.append(Use('assigned', func, func.path, var.init, var.init,
                               True, of=obj))
        elif obj.kind == 'global':
            for source in self.driver.files_naming(obj.name):
                var = source.globals.get(obj.name)
                if var is not None and var.init is not None:
                    out.append(Use('assigned', None, source.path, var.init,
                                   var.init, True, of=obj))

    def _mention(self, node: c.Expr, func: c.Function, obj: Object,
                 origin: Object, out: list[Use],
                 seen: set[tuple[Object, int]]) -> None:
        kind = self.driver.type_of(node, func)
        above = parents(func)
        while kind is not None and kind.dims:
            up = above.of(node)
            while isinstance(up, c.Paren):
                node, up = up, above.of(up)
            if isinstance(up, c.Index) and up.base is node:
                node, kind = up, self.driver.type_of(up, func)
            elif isinstance(up, (c.Sizeof, c.Call)) and (
                    isinstance(up, c.Sizeof) or up.name == 'ARRAY_SIZE'):
                return
            else:
                out.append(Use('unknown', func, func.path, node, node, True,
                               'the whole array `%s` is used' % text(node), obj))
                return
        integer = kind is not None and not kind.pointers
        self._follow(node, func, True, integer, obj, origin, out, seen)

    def _follow(self, node: c.Expr, func: c.Function, exact: bool,
                integer: bool, obj: Object, origin: Object, out: list[Use],
                seen: set[tuple[Object, int]]) -> None:
        """What becomes of the value of `node`, a pointer into the memory.

        integer: the pointer is held as a number, so that it must be cast
        before the memory is used.
        """
        above = parents(func)
        pointer = node
        while True:
            up = above.of(node)

            def use(kind: str, at: c.Node, why: str = '') -> None:
                out.append(Use(kind, func, func.path, at, pointer, exact, why,
                               obj))

            if isinstance(up, c.Paren):
                node = up
            elif isinstance(up, c.Cast):
                if up.type.pointers:
                    integer = False
                elif up.type.base != 'void':
                    integer = True
                    if not holds_pointer(self.driver.expand(up.type)):
                        return use('unknown', up, 'cast to %s' % up.type.base)
                node = up
            elif isinstance(up, c.Sizeof):
                return
            elif isinstance(up, c.Assign) and up.left is node:
                if not exact:
                    return use('read', up)
                if up.op == '=':
                    use('assigned', up.right)
                    node = up              # the value of the assignment
                    if isinstance(above.of(up), c.Stmt) or is_null(up):
                        return None
                    continue
                if obj == origin:
                    return use('unknown', up, '`%s` moves the pointer' % text(up))
                return use('read', up)
            elif isinstance(up, c.Assign):
                return self._store(up.left, up, func, integer, pointer, exact,
                                   obj, origin, out, seen)
            elif isinstance(up, c.Variable):
                if not (up.type.pointers or up.type.dims or holds_pointer(
                        self.driver.expand(up.type))):
                    return use('unknown', up, 'kept as an integer in `%s`'
                               % up.name)
                use('stored', up)
                return self._object(Object('local', func.name, up.name), func,
                                    origin, out, seen)
            elif isinstance(up, c.Unary) and up.op == '&':
                return use('unknown', up, 'the address of `%s` itself is taken'
                           % text(node))
            elif isinstance(up, c.Unary) and up.op in ('++', '--', 'p++', 'p--'):
                if obj == origin:
                    return use('unknown', up, '`%s` moves the pointer' % text(up))
                node = up
                exact = False
            elif isinstance(up, c.Unary) and up.op == '!':
                return use('tested', up)
            elif isinstance(up, c.Unary) and up.op == '*' \
                    or isinstance(up, c.Member) and up.base is node \
                    or isinstance(up, c.Index) and up.base is node:
                use('read', up)
                inner = self._inside(up, func)
                if inner is None:
                    return None
                node, exact = inner, False
            elif isinstance(up, c.Index):
                return use('unknown' if integer else 'read', up,
                           'it is used as an index')
            elif isinstance(up, c.Call) and up.func is not node:
                return self._call(up, node, func, integer, pointer, exact, obj,
                                  origin, out, seen)
            elif isinstance(up, c.Call):
                return use('read', up)
            elif isinstance(up, c.Binary) and integer and up.op == '+':
                node, exact = up, False
            elif isinstance(up, c.Binary) and integer and up.op not in (
                    '==', '!=', '&&', '||', '<', '>', '<=', '>=', ','):
                return use('unknown', up, 'it is computed with as an integer '
                           '(%s)' % text(up))
            elif isinstance(up, c.Binary) and up.op in '+-':
                kind = self.driver.type_of(up, func)
                if not (kind and kind.pointers):
                    return use('read', up)
                node, exact = up, False
            elif isinstance(up, c.Binary) and up.op == ',':
                if up.left is node:
                    return None
                node = up
            elif isinstance(up, c.Binary):
                return use('tested' if up.op in ('==', '!=', '&&', '||')
                           else 'read', up)
            elif isinstance(up, c.Ternary):
                if up.cond is node and up.then is not None:
                    return use('tested', up)
                node = up
            elif isinstance(up, c.Return):
                return use('unknown', up, '%s() returns it' % func.name)
            elif isinstance(up, c.InitList):
                return use('unknown', up, 'it is stored by an initialiser')
            elif isinstance(up, c.ExprStmt):
                return None
            elif isinstance(up, (c.If, c.Loop, c.Switch)):
                return use('tested', node)
            elif up is None:
                return use('unknown', node, 'it is used in a way that is not '
                           'understood')
            else:
                return use('unknown', up, 'it is used in a way that is not '
                           'understood')

    def _inside(self, node: c.Expr, func: c.Function) -> c.Expr | None:
        """A place in the memory: the expression that points to it, if any.

        `&p->x` and the array `p->x` point into the memory, `p->x` is a value
        of it.
        """
        above = parents(func)
        while True:
            kind = self.driver.type_of(node, func)
            up = above.of(node)
            if isinstance(up, c.Paren):
                node = up
            elif isinstance(up, c.Unary) and up.op == '&':
                return up
            elif isinstance(up, c.Member) and up.base is node and not up.arrow:
                node = up
            elif isinstance(up, c.Index) and up.base is node and kind \
                    and kind.dims:
                node = up
            elif kind is not None and kind.dims:
                return node
            else:
                return None

    def _store(self, left: c.Expr, at: c.Node, func: c.Function, integer: bool,
               pointer: c.Expr, exact: bool, obj: Object, origin: Object,
               out: list[Use], seen: set[tuple[Object, int]]) -> None:
        """The pointer is copied into another object."""
        target = self.driver.object_of(left, func)
        kind = self.driver.type_of(left, func)

        def use(what: str, why: str = '') -> None:
            out.append(Use(what, func, func.path, at, pointer, exact, why, obj))

        core = strip(left)
        if target is None or target.kind == 'field' and target.owner is None \
                or isinstance(core, c.Unary):
            return use('unknown', 'it is stored in `%s`, which cannot be followed'
                       % text(left))
        if not kind or not (kind.pointers or kind.dims
                            or target.kind == 'local' and holds_pointer(kind)):
            # the device may read a field
            return use('unknown', 'it is kept as an integer in `%s`' % text(left))
        use('stored')
        return self._object(target, func if target.kind == 'local' else None,
                            origin, out, seen)

    def _call(self, call: c.Call, arg: c.Expr, func: c.Function, integer: bool,
              pointer: c.Expr, exact: bool, obj: Object, origin: Object,
              out: list[Use], seen: set[tuple[Object, int]]) -> None:
        name = call.name
        index = next(i for i, a in enumerate(call.args) if a is arg)

        def use(kind: str, why: str = '') -> None:
            out.append(Use(kind, func, func.path, call, pointer, exact, why, obj))

        if name in RELEASE and RELEASE[name] == index:
            return use('freed')
        if name in ADDRESS:
            return use('address')
        if name in _OTHER_RELEASE:
            return use('unknown', 'it is freed with %s()' % name)
        if name in _SLAB:
            return use('unknown', '%s() needs memory of the slab or page '
                       'allocator' % name)
        if name in _MAPPING:
            return use('unknown', 'it is also mapped with %s()' % name)
        if name in ('likely', 'unlikely', 'IS_ERR_OR_NULL', 'BUG_ON', 'WARN_ON',
                    'WARN_ON_ONCE'):
            return use('tested')
        if name in HARMLESS or prints(call):
            return use('read')
        callee = self.driver.resolve(name, func) if name else None
        if callee is not None:
            return self._into(callee, index, call, use, origin, out, seen)
        macro = self.driver.macro(name) if name else None
        if macro is not None and not integer \
                and not sets_argument(self.driver, call):
            words = {t.text for t in c.tokenize(macro.body) if t.kind == 'id'}
            if not words & (ADDRESS | _OTHER_RELEASE | _SLAB | _MAPPING
                            | RELEASE.keys()) and not any(
                                self.driver.definitions(w) for w in words):
                return use('read')
        return use('unknown', '%s() gets it and may keep or free it'
                   % (name or text(call.func)))

    def _into(self, callee: c.Function, index: int, call: c.Call, use,
              origin: Object, out: list[Use],
              seen: set[tuple[Object, int]]) -> None:
        """The pointer is an argument of a function of this driver."""
        if callee.body is None or index >= len(callee.params):
            return use('unknown', '%s() gets it and could not be parsed'
                       % callee.name)
        param = callee.params[index]
        if not param.type.pointers and not param.type.dims \
                and not holds_pointer(self.driver.expand(param.type)):
            return use('unknown', '%s() takes it as an integer' % callee.name)
        use('stored')
        return self._object(Object('local', callee.name, param.name), callee,
                            origin, out, seen)


_NOWHERE = c.Expr(c.Token('op', '', 0, 0, 0, 0), c.Token('op', '', 0, 0, 0, 0))

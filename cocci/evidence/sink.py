# SPDX-License-Identifier: GPL-2.0-only
"""Where an address goes: to a device, or to someone who needs it as it is.

virt_to_bus() says by its name that a device gets the address.  virt_to_phys()
and __pa() are also used for page tables, firmware and mmap: there the value
must be followed to a device register or to a descriptor.
"""
from __future__ import annotations

import re
from collections.abc import Iterable

from . import cparse as c
from .buffer import Site
from .checks import parents
from .driver import Driver, Object, strip, text
from .pointer import Pointers, prints
from .reach import Definitions

_REGISTER = re.compile(
    r'^(__raw_)?(write[bwlq](_relaxed|_be|_u)?|iowrite(8|16|32|64)(be)?|'
    r'lo_hi_writeq|hi_lo_writeq|out[bwl](_p)?|out_(be|le)(8|16|32|64)|'
    r'sbus_write[bwlq]|gsc_write[bwl]|regmap_write|pci_write_config_dword|'
    r'au_write[l]?|set_dma_addr)$')
_REFORM = re.compile(r'^(__)?(cpu_to_[bl]e(16|32|64)|hton[ls]|swab(16|32|64)|'
                     r'lower_32_bits|upper_32_bits|FIELD_PREP|'
                     r'likely|unlikely)$')
_ORDER = re.compile(r'^(__)?cpu_to_[bl]e(16|32|64)$|^hton[ls]$')
_WRITER = re.compile(r'(^|_)(write|wr|out|set_reg|reg_set|poke|store)')
_COHERENT = frozenset('dma_alloc_coherent dmam_alloc_coherent dma_alloc_attrs '
                      'dmam_alloc_attrs dma_pool_alloc dma_pool_zalloc'.split())
_NO_DMA = {
    'remap_pfn_range': 'it is mapped to user space with remap_pfn_range(): '
                       'dma_mmap_coherent() would be needed there',
    'io_remap_pfn_range': 'it is mapped to user space with io_remap_pfn_range()'
                          ': dma_mmap_coherent() would be needed there',
    'vm_iomap_memory': 'it is mapped to user space with vm_iomap_memory(): '
                       'dma_mmap_coherent() would be needed there',
    'ioremap': 'the address is mapped again with ioremap(), no DMA',
    'memblock_reserve': 'the address is given to memblock, no DMA',
    'release_mem_region': 'the address names a region, no DMA',
}


class NotDevice(Exception):
    """The address is not, or not provably, given to a device."""


def is_register(name: str) -> bool:
    """Does a function of the kernel with this name write device registers?"""
    return bool(_REGISTER.match(name))


class Sinks:
    """Follows addresses to where they go.

    descriptors: the structs that the device is proven to read, for it is
    given the address of such memory: what is stored in them is for it.
    programmed: ids of the calls whose result gets into a register or a
    descriptor; direct: some call is itself an argument of a register write,
    so that physical addresses are for the device, not for firmware.
    """

    def __init__(self, driver: Driver, definitions: Definitions,
                 pointers: Pointers):
        self.driver = driver
        self.definitions = definitions
        self.pointers = pointers
        self.descriptors: set[str] = set()
        self.programmed: set[int] = set()
        self.direct = False
        self._own = ''          # the struct whose address is followed
        self._register = False

    def read_descriptors(self, sites: Iterable[Site]) -> None:
        """Note the structs in coherent memory, and those whose address gets
        into a register."""
        for func in self.driver.functions_with(*_COHERENT):
            for node in func.body.walk() if func.body is not None else ():
                if isinstance(node, c.Assign) and isinstance(
                        strip(node.right), c.Call) \
                        and strip(node.right).name in _COHERENT:
                    struct = self.driver.struct_of(
                        self.driver.type_of(node.left, func))
                    if struct is not None:
                        self.descriptors.add(struct.tag)
        for site in sites:
            self.direct |= any(isinstance(up, c.Call) and is_register(up.name)
                               for up in parents(site.func).chain(site.call))
            struct = self.driver.struct_of(self.driver.type_of(
                strip(site.call.args[0]), site.func))
            if struct is None or struct.tag in self.descriptors:
                continue
            self._own = struct.tag
            try:
                if self.goes_to_device(site, sure=False):
                    self.descriptors.add(struct.tag)
            except NotDevice:
                pass
            self._own = ''

    def goes_to_device(self, site: Site, sure: bool | None = None) -> bool:
        """Does a device get the address of this site?

        sure: it is known that it does; None: the name of the call tells.
        False: it does not by itself (printed, compared).  NotDevice: it is
        not known, or somebody else gets it.
        """
        if sure is None:
            sure = 'bus' in site.call.name
        self._register = False
        found = self._value(site.call, site.func, sure, False, frozenset())
        if self._register:
            self.programmed.add(id(site.call))
        return found

    def _value(self, node: c.Expr, func: c.Function, sure: bool, order: bool,
               seen: frozenset[object]) -> bool:
        """What becomes of a value that holds the address.

        sure: whatever it is stored in is meant for a device; order: it has
        been put into the device's byte order.
        """
        above = parents(func)
        while True:
            up = above.of(node)
            if isinstance(up, c.Cast) and (up.type.pointers or up.type.dims):
                raise NotDevice('the address is made a pointer again (%s)'
                                % str(up.type))
            if isinstance(up, (c.Paren, c.Cast)):
                node = up
            elif isinstance(up, c.Unary) and up.op in '~-':
                node = up
            elif isinstance(up, c.Binary) and up.op in ('>>', '/', '%'):
                _not_divided(up, node)
                node = up
            elif isinstance(up, c.Binary) and up.op in (
                    '==', '!=', '<', '>', '<=', '>='):
                if up.op not in ('==', '!='):
                    raise NotDevice('the address is compared with a limit, '
                                    'which a DMA mask must express: '
                                    'dma_set_mask()')
                return sure
            elif isinstance(up, c.Binary) and up.op in ('&&', '||'):
                return False
            elif isinstance(up, c.Binary):
                node = up
            elif isinstance(up, c.Ternary) and up.cond is not node:
                node = up
            elif isinstance(up, c.Call) and up.func is not node:
                if _REFORM.match(up.name):
                    order |= bool(_ORDER.match(up.name))
                    node = up
                    continue
                return self._argument(up, node, func, sure, seen)
            elif isinstance(up, c.Assign) and up.right is node:
                return self._stored(up.left, func, sure, order, seen)
            elif isinstance(up, c.Variable):
                return self._object(Object('local', func.name, up.name), func,
                                    sure, seen)
            elif isinstance(up, c.Return):
                if sure:
                    return True
                raise NotDevice('%s() returns the address: it is not proven '
                                'that a device gets it' % func.name)
            elif isinstance(up, (c.If, c.Loop, c.ExprStmt, c.Switch)) \
                    or isinstance(up, c.Unary) and up.op == '!':
                return False
            elif isinstance(up, c.InitList):
                if sure:
                    return True
                raise NotDevice('the address is stored by an initialiser: it '
                                'is not proven that a device gets it')
            else:
                raise NotDevice('the use of the address is not understood')

    def _argument(self, call: c.Call, node: c.Expr, func: c.Function,
                  sure: bool, seen: frozenset[object]) -> bool:
        name = call.name
        _not_other(name)
        if is_register(name):
            self._register = True
            return True
        if prints(call):
            return False
        callee = self.driver.resolve(name, func) if name else None
        index = next((i for i, a in enumerate(call.args) if a is node), -1)
        if callee is not None and callee.body is not None \
                and 0 <= index < len(callee.params):
            param = callee.params[index]
            if param.type.pointers or param.type.dims:
                raise NotDevice('%s() takes the address as a pointer' % name)
            if sure:
                return True
            return self._object(Object('local', callee.name, param.name),
                                callee, sure, seen)
        if sure and name:
            return True
        if name and self.driver.macro(name) and _WRITER.search(name.lower()):
            return True
        raise NotDevice('%s() gets the address: it is not proven that a device '
                        'uses it for DMA' % (name or text(call.func)))

    def _stored(self, left: c.Expr, func: c.Function, sure: bool, order: bool,
                seen: frozenset[object]) -> bool:
        kind = self.driver.type_of(left, func)
        if kind is not None and kind.pointers and not kind.dims:
            raise NotDevice('the address is stored in the pointer `%s`'
                            % text(left))
        if sure or order or kind is not None and re.match(
                r'__[bl]e(16|32|64)$', kind.base):
            return True
        found = self.driver.object_of(left, func)
        if found is None or found.kind == 'field' and found.owner is None:
            raise NotDevice('the address is stored in `%s`: it is not proven '
                            'that a device gets it' % text(left))
        return self._object(found, func, sure, seen)

    def _object(self, found: Object, func: c.Function, sure: bool,
                seen: frozenset[object]) -> bool:
        """The address is kept in a variable or field: follow what is read."""
        if found in seen:
            return False
        seen |= {found}
        proof = sure
        if found.kind == 'field' and found.owner in self.descriptors:
            proof = self._register = True
        for inside, node in self.pointers.mentions(found.name):
            if found.kind == 'local' and inside is not func:
                continue
            if self.driver.object_of(node, inside) != found:
                continue
            up = parents(inside).of(node)
            while isinstance(up, c.Index) and up.base is node:
                node, up = up, parents(inside).of(up)
            if isinstance(up, c.Assign) and up.left is node:
                continue
            if sure:
                continue
            proof |= self._value(node, inside, sure, False, seen)
        if not proof and not (found.kind == 'field'
                              and found.owner == self._own):
            raise NotDevice('the address is kept in `%s`, of which it is not '
                            'proven that a device gets it' % str(found))
        return proof


def _not_divided(up: c.Binary, node: c.Expr) -> None:
    """Raise NotDevice unless a value is only shifted."""
    if up.op != '>>':
        raise NotDevice('the address is divided, which a 64 bit dma_addr_t '
                        'does not allow on 32 bit machines')
    if 'PAGE_SHIFT' in text(up.right) or 'PFN' in text(up.right):
        raise NotDevice('a page frame number is made of the address: no DMA, '
                        'or dma_mmap_coherent() is needed')
    if up.left is not node:
        raise NotDevice('`%s` is not understood' % text(up))


def _not_other(name: str) -> None:
    """Raise NotDevice if a function of this name is for somebody else."""
    if name in _NO_DMA:
        raise NotDevice(_NO_DMA[name])
    if re.search(r'hcall|hypercall|hvcall|_smc|smccc|firmware|opal|phyp|'
                 r'lv1_', name):
        raise NotDevice('the address is given to firmware or a hypervisor '
                        'with %s(), not to a device' % name)
    if 'PFN' in name or 'pfn' in name or 'page' in name:
        raise NotDevice('%s() makes a page of the address: no DMA' % name)
    if re.search(r'dma_cache|cache_(clear|push|inv|wback)|flush_.*cache|'
                 r'dma_sync|dma_unmap|phys_to_virt|bus_to_virt|__va', name):
        raise NotDevice('%s() works on the address itself: the cache handling '
                        'must go, or become dma_map_single(), together with it'
                        % name)

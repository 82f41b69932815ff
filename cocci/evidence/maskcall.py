# SPDX-License-Identifier: GPL-2.0-only
"""The calls that set a DMA mask, and for which device."""
from __future__ import annotations

from typing import NamedTuple

from . import cparse as c
from .driver import Driver, strip, text

MERGED = 'dma_set_mask_and_coherent'
#: name -> what it sets: s the mask of streaming mappings, c that of coherent
#: memory.  The pci_ forms are given the PCI device itself.
SETTERS = {'dma_set_mask': 's', 'pci_set_dma_mask': 's',
           'dma_set_coherent_mask': 'c', 'pci_set_consistent_dma_mask': 'c',
           MERGED: 'sc'}
#: Their devices have a dma_mask pointer from the moment they are made.
_WITH_MASK = frozenset(('struct pci_dev', 'struct platform_device'))


class Device(NamedTuple):
    """The device of a call, as `struct device *` in C.

    loads: is anything but a local variable read for it?  has_mask: does its
    dma_mask point to a mask for certain?  Without, dma_set_mask() fails.
    """

    text: str
    loads: bool
    has_mask: bool


def setter(node: c.Node | None) -> str:
    """What a call sets, as in SETTERS; '' for anything else."""
    if isinstance(node, c.Call) and len(node.args) == 2:
        return SETTERS.get(node.name, '')
    return ''


def device(driver: Driver, func: c.Function, call: c.Call) -> Device:
    """The device that a call sets a mask of."""
    arg = strip(call.args[0])
    if call.name.startswith('pci_'):
        if isinstance(arg, c.Call) and arg.name == 'to_pci_dev' \
                and len(arg.args) == 1:
            inner = strip(arg.args[0])
            return Device(text(inner), not isinstance(inner, c.Id), True)
        return Device(_dev_of(arg), not isinstance(arg, c.Id), True)
    alias = _initial(func, arg)
    if alias is not None:
        base = alias.arg.base
        return Device(text(arg), False, _has_mask(driver, func, base))
    if isinstance(arg, c.Unary) and arg.op == '&' \
            and isinstance(arg.arg, c.Member):
        base = arg.arg.base
        return Device(text(arg), not isinstance(strip(base), c.Id),
                      _has_mask(driver, func, base)
                      and arg.arg.name == 'dev')
    return Device(text(arg), not isinstance(arg, c.Id), False)


def same_device(driver: Driver, func: c.Function, call: c.Call) -> str:
    """A text that is equal for calls of one device: `dev` that was set to
    `&pdev->dev` where it is declared reads so."""
    found = device(driver, func, call)
    alias = _initial(func, strip(call.args[0]))
    return text(alias) if alias is not None else found.text


def _dev_of(expr: c.Expr) -> str:
    inner = strip(expr)
    if isinstance(inner, c.Unary) and inner.op == '&':
        return '&%s.dev' % text(inner.arg)
    return '&%s->dev' % text(inner)


def _has_mask(driver: Driver, func: c.Function, base: c.Expr) -> bool:
    kind = driver.type_of(base, func)
    return kind is not None and kind.base in _WITH_MASK


def _initial(func: c.Function, arg: c.Expr | None) -> c.Unary | None:
    """`&pdev->dev`, of a local variable that never is anything else."""
    if not isinstance(arg, c.Id):
        return None
    var = func.locals.get(arg.name)
    init = strip(var.init) if var is not None else None
    if not isinstance(init, c.Unary) or init.op != '&' \
            or not isinstance(init.arg, c.Member) or init.arg.name != 'dev' \
            or not isinstance(strip(init.arg.base), c.Id):
        return None
    if set_anew(func, arg.name) or set_anew(func, strip(init.arg.base).name):
        return None
    return init


def set_anew(func: c.Function, name: str) -> bool:
    """Is a variable assigned, counted, or its address taken anywhere?"""
    for node in func.nodes:
        if isinstance(node, c.Assign):
            target = strip(node.left)
        elif isinstance(node, c.Unary) and node.op in (
                '&', '++', '--', 'p++', 'p--'):
            target = strip(node.arg)
        else:
            continue
        if isinstance(target, c.Id) and target.name == name:
            return True
    return False

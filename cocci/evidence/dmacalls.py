# SPDX-License-Identifier: GPL-2.0-only
"""The calls that allocate, map, give back and synchronise DMA memory.

For each the kind of memory or mapping, and which argument is what.
"""
from __future__ import annotations

from typing import NamedTuple

from . import cparse as c


class Form(NamedTuple):
    """One function: indices of its arguments, -1 for what it has not.

    device: the struct device, or the pool.  memory: the CPU's pointer or the
    scatterlist.  handle: where the address for the device is stored or given.
    """

    kind: str
    device: int = 0
    size: int = -1
    memory: int = -1
    handle: int = -1
    direction: int = -1
    attrs: int = -1

    def argument(self, call: c.Call, name: str) -> c.Expr | None:
        """One of the arguments by its name here; None when there is none."""
        index = getattr(self, name)
        return call.args[index] if 0 <= index < len(call.args) else None


ALLOCS = {
    'dma_alloc_coherent': Form('coherent', 0, 1, handle=2),
    'dma_alloc_attrs': Form('coherent', 0, 1, handle=2, attrs=4),
    'dma_alloc_wc': Form('coherent', 0, 1, handle=2),
    'dma_alloc_noncoherent': Form('noncoherent', 0, 1, handle=2, direction=3),
    'dma_alloc_pages': Form('pages', 0, 1, handle=2, direction=3),
    'dmam_alloc_coherent': Form('managed', 0, 1, handle=2),
    'dmam_alloc_attrs': Form('managed', 0, 1, handle=2, attrs=4),
    'dma_pool_alloc': Form('pool', 0, handle=2),
    'dma_pool_zalloc': Form('pool', 0, handle=2),
}
FREES = {
    'dma_free_coherent': Form('coherent', 0, 1, 2, 3),
    'dma_free_attrs': Form('coherent', 0, 1, 2, 3, attrs=4),
    'dma_free_wc': Form('coherent', 0, 1, 2, 3),
    'dma_free_noncoherent': Form('noncoherent', 0, 1, 2, 3, 4),
    'dma_free_pages': Form('pages', 0, 1, 2, 3, 4),
    'dmam_free_coherent': Form('managed', 0, 1, 2, 3),
    'dma_pool_free': Form('pool', 0, memory=1, handle=2),
}
MAPS = {
    'dma_map_single': Form('single', 0, 2, 1, direction=3),
    'dma_map_single_attrs': Form('single', 0, 2, 1, direction=3),
    'dma_map_page': Form('page', 0, 3, 1, direction=4),
    'dma_map_page_attrs': Form('page', 0, 3, 1, direction=4),
    'skb_frag_dma_map': Form('page', 0, 3, 1, direction=4),
    'dma_map_phys': Form('phys', 0, 2, 1, direction=3),
    'dma_map_resource': Form('resource', 0, 2, 1, direction=3),
}
UNMAPS = {
    'dma_unmap_single': Form('single', 0, 2, handle=1, direction=3),
    'dma_unmap_single_attrs': Form('single', 0, 2, handle=1, direction=3),
    'dma_unmap_page': Form('page', 0, 2, handle=1, direction=3),
    'dma_unmap_page_attrs': Form('page', 0, 2, handle=1, direction=3),
    'dma_unmap_phys': Form('phys', 0, 2, handle=1, direction=3),
    'dma_unmap_resource': Form('resource', 0, 2, handle=1, direction=3),
}
SYNCS = {
    'dma_sync_single_for_cpu': Form('sync', 0, handle=1, direction=3),
    'dma_sync_single_for_device': Form('sync', 0, handle=1, direction=3),
    'dma_sync_single_range_for_cpu': Form('sync', 0, handle=1, direction=4),
    'dma_sync_single_range_for_device': Form('sync', 0, handle=1, direction=4),
}
#: size is the number of entries here.
SG_MAPS = {
    'dma_map_sg': Form('scatterlist', 0, 2, 1, direction=3),
    'dma_map_sg_attrs': Form('scatterlist', 0, 2, 1, direction=3),
}
SG_UNMAPS = {
    'dma_unmap_sg': Form('scatterlist', 0, 2, 1, direction=3),
    'dma_unmap_sg_attrs': Form('scatterlist', 0, 2, 1, direction=3),
}
SG_SYNCS = {
    'dma_sync_sg_for_cpu': Form('scatterlist', 0, 2, 1, direction=3),
    'dma_sync_sg_for_device': Form('scatterlist', 0, 2, 1, direction=3),
}
FORMS = {**ALLOCS, **FREES, **MAPS, **UNMAPS, **SYNCS, **SG_MAPS, **SG_UNMAPS,
         **SG_SYNCS}


def form(call: c.Call) -> Form | None:
    """What a call is of all these; None for any other call."""
    return FORMS.get(call.name)


def fills_handle(call: c.Call, index: int) -> bool:
    """Does a call store a handle through its argument of that index?"""
    found = ALLOCS.get(call.name)
    return found is not None and found.handle == index

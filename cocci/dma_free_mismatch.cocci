// SPDX-License-Identifier: GPL-2.0-only
/// Find DMA memory and mappings that are not given back as they were taken:
/// with the wrong function, size, handle, direction, device, pool or number of
/// entries.
///
//# What is given back is traced to all calls that it can come from; nothing is
//# said if one of them is unknown, or agrees.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_alloc_coherent, dma_alloc_attrs, dma_alloc_wc, dma_alloc_noncoherent, dma_alloc_pages, dmam_alloc_coherent, dmam_alloc_attrs, dma_pool_alloc, dma_pool_zalloc, dma_free_coherent, dma_free_attrs, dma_free_wc, dma_free_noncoherent, dma_free_pages, dmam_free_coherent, dma_pool_free, dma_map_single, dma_map_single_attrs, dma_map_page, dma_map_page_attrs, skb_frag_dma_map, dma_map_phys, dma_map_resource, dma_map_sg, dma_map_sg_attrs, dma_unmap_single, dma_unmap_single_attrs, dma_unmap_page, dma_unmap_page_attrs, dma_unmap_phys, dma_unmap_resource, dma_unmap_sg, dma_unmap_sg_attrs, dma_sync_single_for_cpu, dma_sync_single_for_device, dma_sync_single_range_for_cpu, dma_sync_single_range_for_device, dma_sync_sg_for_cpu, dma_sync_sg_for_device

virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_free_mismatch
rule = plan.Rule("dma_free_mismatch", dma_free_mismatch.decide, cocci.files)

// ----------------------------------------------------------------------
// 1. Sites
// ----------------------------------------------------------------------

@site@
identifier f = {dma_free_coherent, dma_free_attrs, dma_free_wc, dma_free_noncoherent, dma_free_pages, dmam_free_coherent, dma_pool_free, dma_unmap_single, dma_unmap_single_attrs, dma_unmap_page, dma_unmap_page_attrs, dma_unmap_phys, dma_unmap_resource, dma_sync_single_for_cpu, dma_sync_single_for_device, dma_sync_single_range_for_cpu, dma_sync_single_range_for_device, dma_unmap_sg, dma_unmap_sg_attrs, dma_sync_sg_for_cpu, dma_sync_sg_for_device, kfree, kvfree, vfree, kfree_sensitive, kfree_rcu, devm_kfree, free_page, free_pages, __free_pages, free_pages_exact};
position p : script:python() { rule.says(p) };
@@
f@p(...)

@depends on context@
identifier site.f;
position site.p;
@@
* f@p(...)

// ----------------------------------------------------------------------
// 2. Messages
// ----------------------------------------------------------------------

@script:python depends on context@
@@
rule.report("context")

@script:python depends on org@
@@
rule.report("org")

@script:python depends on report@
@@
rule.report("report")

// SPDX-License-Identifier: GPL-2.0-only
/// Find DMA calls whose device is NULL: as a constant, or in a field that nothing
/// ever sets.
///
//# Structs that other drivers use too are left alone.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_alloc_attrs, dma_alloc_coherent, dma_alloc_noncoherent, dma_alloc_pages, dma_alloc_wc, dma_free_attrs, dma_free_coherent, dma_free_noncoherent, dma_free_pages, dma_free_wc, dma_map_page, dma_map_page_attrs, dma_map_phys, dma_map_resource, dma_map_sg, dma_map_sg_attrs, dma_map_sgtable, dma_map_single, dma_map_single_attrs, dma_mapping_error, dma_set_coherent_mask, dma_set_mask, dma_set_mask_and_coherent, dma_sync_sg_for_cpu, dma_sync_sg_for_device, dma_sync_single_for_cpu, dma_sync_single_for_device, dma_sync_single_range_for_cpu, dma_sync_single_range_for_device, dma_unmap_page, dma_unmap_page_attrs, dma_unmap_phys, dma_unmap_resource, dma_unmap_sg, dma_unmap_sg_attrs, dma_unmap_sgtable, dma_unmap_single, dma_unmap_single_attrs, dmam_alloc_attrs, dmam_alloc_coherent, dmam_free_coherent, skb_frag_dma_map

virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_device
rule = plan.Rule("dma_device", dma_device.decide, cocci.files)

// ----------------------------------------------------------------------
// 1. Sites
// ----------------------------------------------------------------------

@site@
identifier f = {dma_alloc_attrs, dma_alloc_coherent, dma_alloc_noncoherent, dma_alloc_pages, dma_alloc_wc, dma_free_attrs, dma_free_coherent, dma_free_noncoherent, dma_free_pages, dma_free_wc, dma_map_page, dma_map_page_attrs, dma_map_phys, dma_map_resource, dma_map_sg, dma_map_sg_attrs, dma_map_sgtable, dma_map_single, dma_map_single_attrs, dma_mapping_error, dma_set_coherent_mask, dma_set_mask, dma_set_mask_and_coherent, dma_sync_sg_for_cpu, dma_sync_sg_for_device, dma_sync_single_for_cpu, dma_sync_single_for_device, dma_sync_single_range_for_cpu, dma_sync_single_range_for_device, dma_unmap_page, dma_unmap_page_attrs, dma_unmap_phys, dma_unmap_resource, dma_unmap_sg, dma_unmap_sg_attrs, dma_unmap_sgtable, dma_unmap_single, dma_unmap_single_attrs, dmam_alloc_attrs, dmam_alloc_coherent, dmam_free_coherent, skb_frag_dma_map};
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

// SPDX-License-Identifier: GPL-2.0-only
/// Find memory that is used while it belongs to a device, or to nobody:
/// between dma_map_single() and dma_unmap_single() without
/// dma_sync_single_for_cpu(), after the CPU wrote without
/// dma_sync_single_for_device(), after it was unmapped or freed.
///
//# Only what one function does on every path is looked at.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_map_single, pci_map_single, dma_unmap_single, dma_unmap_page, dma_unmap_sg, dma_unmap_sgtable, dma_unmap_single_attrs, dma_unmap_page_attrs, dma_unmap_sg_attrs, pci_unmap_single, pci_unmap_page, pci_unmap_sg, dma_sync_single_for_cpu, dma_sync_single_range_for_cpu, dma_free_coherent, dma_free_attrs, dma_pool_free, dmam_free_coherent, pci_free_consistent

virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_sync
rule = plan.Rule("dma_sync", dma_sync.decide, cocci.files)

// ----------------------------------------------------------------------
// 1. Sites: what gives a buffer away or takes it back
// ----------------------------------------------------------------------

@site@
identifier f = {dma_map_single, pci_map_single, dma_unmap_single, dma_unmap_page, dma_unmap_sg, dma_unmap_sgtable, dma_unmap_single_attrs, dma_unmap_page_attrs, dma_unmap_sg_attrs, pci_unmap_single, pci_unmap_page, pci_unmap_sg, dma_sync_single_for_cpu, dma_sync_single_range_for_cpu, dma_free_coherent, dma_free_attrs, dma_pool_free, dmam_free_coherent, pci_free_consistent};
@@
f(...)

// where it is used is an expression, or a call
@depends on context && site@
expression e;
position p : script:python() { rule.says(p) };
@@
* e@p

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

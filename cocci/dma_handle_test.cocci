// SPDX-License-Identifier: GPL-2.0-only
/// Find tests of DMA handles and of DMA memory that do not tell failure: of the
/// handle where the pointer is NULL, for error pointers, for the address 0, and
/// with another device than the one that was mapped for.
///
//# A mapping that is not tested otherwise is left to dma_mapping_error, which
//# corrects it.
//
// Confidence: Moderate
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_map_single, dma_map_single_attrs, dma_map_page, dma_map_page_attrs, skb_frag_dma_map, dma_map_phys, dma_map_resource, dma_mapping_error, dma_alloc_coherent, dma_alloc_attrs, dma_alloc_wc, dma_alloc_noncoherent, dma_alloc_pages, dmam_alloc_coherent, dmam_alloc_attrs, dma_pool_alloc, dma_pool_zalloc

virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_handle_test
rule = plan.Rule("dma_handle_test", dma_handle_test.decide, cocci.files, "Moderate")

// ----------------------------------------------------------------------
// 1. Sites
// ----------------------------------------------------------------------

@site@
identifier f = {dma_mapping_error, IS_ERR, PTR_ERR_OR_ZERO};
expression x, y;
position p : script:python() { rule.says(p) };
@@
(
f@p(...)
|
! x@p
|
x@p == y
|
x@p != y
)

@depends on context@
position site.p;
expression x;
@@
* x@p

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

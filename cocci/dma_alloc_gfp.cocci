// SPDX-License-Identifier: GPL-2.0-only
/// Find GFP flags of DMA memory that are wrong: GFP_KERNEL where the code
/// certainly must not sleep, GFP_ATOMIC where it certainly may, and flags that
/// these allocations ignore or refuse.
///
//# What may be reached from elsewhere (exported functions, callbacks that are
//# handed to unknown functions) is never said to be certain.
//
// Confidence: Moderate
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_alloc_coherent, dmam_alloc_coherent, dma_alloc_attrs, dmam_alloc_attrs, dma_pool_alloc, dma_pool_zalloc

virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_alloc_gfp
rule = plan.Rule("dma_alloc_gfp", dma_alloc_gfp.decide, cocci.files, "Moderate")

// ----------------------------------------------------------------------
// 1. Sites
// ----------------------------------------------------------------------

@site@
identifier f = {dma_alloc_coherent, dmam_alloc_coherent, dma_alloc_attrs, dmam_alloc_attrs, dma_pool_alloc, dma_pool_zalloc};
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

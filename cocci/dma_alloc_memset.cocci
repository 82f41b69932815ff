// SPDX-License-Identifier: GPL-2.0-only
/// Find memset() of DMA memory that was allocated zeroed, or could have been.
///
//# A memset() of other memory than that of the line before it is left alone.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_alloc_coherent, dma_alloc_attrs, dma_alloc_wc, dmam_alloc_coherent, dmam_alloc_attrs, dma_pool_alloc, dma_pool_zalloc

virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_alloc_memset
rule = plan.Rule("dma_alloc_memset", dma_alloc_memset.decide, cocci.files)

// ----------------------------------------------------------------------
// 1. Sites
// ----------------------------------------------------------------------

@site@
position p : script:python() { rule.says(p) };
@@
memset@p(...)

@depends on context@
position site.p;
@@
* memset@p(...)

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

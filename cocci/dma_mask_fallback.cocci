// SPDX-License-Identifier: GPL-2.0-only
/// Find DMA masks that are set in vain (a narrower one where a wider one was
/// refused), whose result is ignored although it may be refused, or that are
/// set when memory has been allocated already.
///
//# That a narrower mask is refused where a wider one was is what
//# Documentation/core-api/dma-api-howto.rst says.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_set_mask, dma_set_coherent_mask, dma_set_mask_and_coherent, pci_set_dma_mask, pci_set_consistent_dma_mask

virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_mask_fallback
rule = plan.Rule("dma_mask_fallback", dma_mask_fallback.decide, cocci.files)

// ----------------------------------------------------------------------
// 1. Sites
// ----------------------------------------------------------------------

@site@
identifier f = {dma_set_mask, dma_set_coherent_mask, dma_set_mask_and_coherent, pci_set_dma_mask, pci_set_consistent_dma_mask};
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

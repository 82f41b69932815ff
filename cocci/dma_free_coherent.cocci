// SPDX-License-Identifier: GPL-2.0-only
/// Find dma_free_coherent() where interrupts are disabled: in interrupt handlers,
/// and under spin_lock_irq(), spin_lock_irqsave() and local_irq_disable().
///
//# What may be reached from elsewhere is never said to be certain.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_free_coherent, dma_free_attrs, dma_free_wc, dmam_free_coherent

virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_free_coherent
rule = plan.Rule("dma_free_coherent", dma_free_coherent.decide, cocci.files)

// ----------------------------------------------------------------------
// 1. Sites
// ----------------------------------------------------------------------

@site@
identifier f = {dma_free_coherent, dma_free_attrs, dma_free_wc, dmam_free_coherent};
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

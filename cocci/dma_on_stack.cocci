// SPDX-License-Identifier: GPL-2.0-only
/// Find memory that is mapped for a device and must not be: on the stack,
/// static, from vmalloc() or dma_alloc_coherent(); also where a helper of the
/// driver maps what it is given.
///
//# What is passed through pointers to functions is not seen.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_map_single, dma_map_single_attrs, pci_map_single, dma_map_page, dma_map_page_attrs, sg_init_one, sg_set_buf

virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_on_stack
rule = plan.Rule("dma_on_stack", dma_on_stack.decide, cocci.files)

// ----------------------------------------------------------------------
// 1. Sites: what maps, and the calls that pass on what is mapped
// ----------------------------------------------------------------------

@site@
identifier f = {dma_map_single, dma_map_single_attrs, pci_map_single, dma_map_page, dma_map_page_attrs, sg_init_one, sg_set_buf};
@@
f(...)

@depends on context && site@
identifier f;
position p : script:python() { rule.says(p) };
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

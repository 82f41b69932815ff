// SPDX-License-Identifier: GPL-2.0-only
/// Find managed DMA memory with the wrong lifetime: taken anew by code that
/// runs more than once while the device is bound, taken for the parent of the
/// device, or gone before the interrupt whose handler uses it.
///
//# Whether a condition lets it happen once only is judged by names.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dmam_alloc_coherent, dmam_alloc_attrs, dmam_pool_create

virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dmam_lifetime
rule = plan.Rule("dmam_lifetime", dmam_lifetime.decide, cocci.files)

// ----------------------------------------------------------------------
// 1. Sites
// ----------------------------------------------------------------------

@site@
identifier f = {dmam_alloc_coherent, dmam_alloc_attrs, dmam_pool_create};
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

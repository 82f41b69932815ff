// SPDX-License-Identifier: GPL-2.0-only
/// dma_set_mask() and dma_set_coherent_mask() with one mask become
/// dma_set_mask_and_coherent(); a second try with less bits is dead code.
///
//# Only a plain pair is merged: one device, one mask, the same way out when it
//# fails, nothing between the two. No condition is turned round. Where more
//# depends on which mask it was, the second try is only reported. It errs
//# where a branch calls a message function that does more than to print.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// URL: https://docs.kernel.org/core-api/dma-api-howto.html
// Keywords: dma_set_mask, dma_set_coherent_mask, dma_set_mask_and_coherent
// Scope: file
// Options: --no-includes --include-headers
// Requires: 1.1.1

virtual patch
virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_set_mask_and_coherent as decision
rule = plan.Rule("dma_set_mask_and_coherent", decision.decide, cocci.files)

// ----------------------------------------------------------------------------
// Detection
// ----------------------------------------------------------------------------

@site@
position p : script:python() { rule.sees("pair", p) and rule.sees("try", p) };
identifier f = {dma_set_mask, dma_set_coherent_mask,
                dma_set_mask_and_coherent};
@@
f@p(...)

// ----------------------------------------------------------------------------
// Decision
// ----------------------------------------------------------------------------

@change@
position p : script:python() { rule.converts("pair", p) or rule.converts("try", p) };
identifier f;
@@
f@p(...)

// ----------------------------------------------------------------------------
// Context
// ----------------------------------------------------------------------------

@depends on context@
position change.p;
identifier f;
@@
* f@p(...)

// ----------------------------------------------------------------------------
// Patch
// ----------------------------------------------------------------------------

@depends on patch@
position change.p;
position two : script:python() { rule.converts("pair", two) };
position more : script:python() { rule.converts("try", more) };
identifier f, g;
expression r, e, dev, mask, less;
statement S, T;
@@
(
// the second only if the first works
- r = f@p@two(dev, mask);
+ r = dma_set_mask_and_coherent(dev, mask);
- if (\(!r \| r == 0\)) { r = g(dev, mask); }
|
- r = f@p@two(dev, mask);
+ r = dma_set_mask_and_coherent(dev, mask);
- if (\(!r \| r == 0\)) r = g(dev, mask);
|
// each with its test
- r = f@p@two(dev, mask);
+ r = dma_set_mask_and_coherent(dev, mask);
  if (\(r \| r != 0 \| r < 0\)) S
- r = g(dev, mask);
- if (\(r \| r != 0 \| r < 0\)) T
|
  if (\(
- f@p@two
+ dma_set_mask_and_coherent
  (dev, mask)
  \|
- f@p@two
+ dma_set_mask_and_coherent
  (dev, mask) < 0
  \|
- f@p@two
+ dma_set_mask_and_coherent
  (dev, mask) != 0
  \)) S
- if (\(g(dev, mask) \| g(dev, mask) < 0 \| g(dev, mask) != 0\)) T
|
// nobody tests
- f@p@two(dev, mask);
+ dma_set_mask_and_coherent(dev, mask);
- g(dev, mask);
|
- f@p@two(dev, mask) || g(dev, mask)
+ dma_set_mask_and_coherent(dev, mask)
|
- f@p@two(dev, mask) < 0 || g(dev, mask) < 0
+ dma_set_mask_and_coherent(dev, mask) < 0
|
- f@p@two(dev, mask) != 0 || g(dev, mask) != 0
+ dma_set_mask_and_coherent(dev, mask) != 0
|
- (f@p@two(dev, mask) != 0) || (g(dev, mask) != 0)
+ dma_set_mask_and_coherent(dev, mask) != 0
|
- (f@p@two(dev, mask) < 0) || (g(dev, mask) < 0)
+ dma_set_mask_and_coherent(dev, mask) < 0
|
- !f@p@two(dev, mask) && !g(dev, mask)
+ !dma_set_mask_and_coherent(dev, mask)
|
- e && !f@p@two(dev, mask) && !g(dev, mask)
+ e && !dma_set_mask_and_coherent(dev, mask)
|
// a second try that follows
  r = f@p@more(dev, mask);
- if (\(r \| r != 0 \| r < 0\)) { ... r = f(dev, less); ... }
|
  r = f@p@more(dev, mask);
- if (\(r \| r != 0 \| r < 0\)) r = f(dev, less);
)

// ----------------------------------------------------------------------------
// Report
// ----------------------------------------------------------------------------

@script:python depends on patch@
@@
rule.report("patch")

@script:python depends on context@
@@
rule.report("context")

@script:python depends on org@
@@
rule.report("org")

@script:python depends on report@
@@
rule.report("report")

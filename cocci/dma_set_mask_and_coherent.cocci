// SPDX-License-Identifier: GPL-2.0-only
/// Set both DMA masks of a device at once: dma_set_mask() and
/// dma_set_coherent_mask() with the same mask become
/// dma_set_mask_and_coherent(), and the attempt to set a narrower mask where a
/// wider one failed goes: it fails as well.
///
/// Both forms are run in all worlds that the masks may meet; only what does
/// the same in each of them is converted.  No condition is ever inverted.
//
//# Messages may differ: of those about two attempts one is kept.
//# That dma_set_mask() takes every mask wider than one that it takes is what
//# Documentation/core-api/dma-api-howto.rst says, not what is looked up for
//# the architecture at hand.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Scope: file
// Requires: 1.1.1
// Keywords: dma_set_mask, dma_set_coherent_mask, dma_set_mask_and_coherent, pci_set_dma_mask, pci_set_consistent_dma_mask

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

// ----------------------------------------------------------------------
// 1. Sites: what SmPL can rewrite, told to Python by kind
// ----------------------------------------------------------------------

// Most drivers have nothing to convert; then nothing need be matched.
@script:python worth@
@@
if not rule.may_convert():
    cocci.include_match(False)

@seen_call depends on worth@
position p : script:python() { rule.sees("call", p) };
identifier f = {dma_set_mask, dma_set_coherent_mask, pci_set_dma_mask, pci_set_consistent_dma_mask};
@@
f@p(...)

@seen_join depends on worth@
position p : script:python() { rule.sees("join", p) };
expression e1, e2;
@@
(
e1 ||@p e2
|
e1 &&@p e2
)

@seen_statement depends on worth@
position p : script:python() { rule.sees("statement", p) };
expression x, e;
statement s1, s2;
identifier f;
@@
(
if@p (e) s1 else s2
|
if@p (e) s1
|
x@p = e;
|
x@p |= e;
|
  (void)f@p(...);
|
f@p(...);
|
return@p e;
)

// ----------------------------------------------------------------------
// 2. Decision
// ----------------------------------------------------------------------

@place depends on worth@
position p : script:python() { rule.value(p, "form") != "0" };
identifier f;
expression x, e, e1, e2;
statement s1, s2;
@@
(
if@p (e) s1 else s2
|
if@p (e) s1
|
x@p = e;
|
x@p |= e;
|
return@p e;
|
f@p(...)
|
e1 ||@p e2
|
e1 &&@p e2
)

@script:python made@
p << place.p;
dev; cond; st1; st2; st3; st4;
@@
coccinelle.dev = cocci.make_expr(rule.value(p, "dev"))
coccinelle.cond = cocci.make_expr(rule.value(p, "cond"))
for name in ("st1", "st2", "st3", "st4"):
    words = rule.value(p, name)
    setattr(coccinelle, name, cocci.make_stmt(";" if words == "0" else words))

@depends on context@
position place.p;
identifier f;
@@
* f@p(...)

// ----------------------------------------------------------------------
// 3. Patch: one rule, because positions mean nothing once a file has changed
// ----------------------------------------------------------------------

@depends on patch@
position place.p;
position call : script:python() { rule.value(call, "form") == "call" };
position join : script:python() { rule.value(join, "form") == "join" };
position drop : script:python() { rule.value(drop, "form") == "drop" };
position one : script:python() { rule.value(one, "form") == "one" };
position two : script:python() { rule.value(two, "form") == "two" };
position three : script:python() { rule.value(three, "form") == "three" };
position four : script:python() { rule.value(four, "form") == "four" };
identifier f;
expression x, e, mask, e1, e2, made.dev, made.cond;
statement s1, s2, made.st1, made.st2, made.st3, made.st4;
@@
(
- if@p@drop (e) s1 else s2
|
- if@p@drop (e) s1
|
- x@p@drop = e;
|
- x@p@drop |= e;
|
-  (void)f@p@drop(...);
|
- f@p@drop(...);
|
- if@p@one (e) s1 else s2
+ st1
|
- if@p@one (e) s1
+ st1
|
- x@p@one = e;
+ st1
|
- return@p@one e;
+ st1
|
- if@p@two (e) s1 else s2
+ st1
+ st2
|
- if@p@two (e) s1
+ st1
+ st2
|
- if@p@three (e) s1 else s2
+ st1
+ st2
+ st3
|
- if@p@three (e) s1
+ st1
+ st2
+ st3
|
- if@p@four (e) s1 else s2
+ st1
+ st2
+ st3
+ st4
|
- if@p@four (e) s1
+ st1
+ st2
+ st3
+ st4
|
- f@p@call(x, mask)
+ dma_set_mask_and_coherent(dev, mask)
|
- e1 ||@p@join e2
+ cond
|
- e1 &&@p@join e2
+ cond
)

// A label that nothing leads to any more
@label depends on patch@
identifier l;
position p;
@@
l@p:

@script:python stale@
p << label.p;
l << label.l;
@@
if not rule.adds("label", p[0].current_element, l):
    cocci.include_match(False)

@depends on patch && stale@
identifier label.l;
position label.p;
@@
- l@p:

// ----------------------------------------------------------------------
// 4. Messages
// ----------------------------------------------------------------------

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

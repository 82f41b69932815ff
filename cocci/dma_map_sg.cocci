// SPDX-License-Identifier: GPL-2.0-only
/// Find calls of dma_map_sg() whose result is ignored, not tested, or tested
/// for a negative value, and correct them.
///
/// dma_map_sg() returns the number of mapped entries and 0 when it failed; it
/// never returns a negative value.  (dma_map_sgtable() does, and is left
/// alone.)
//
//# A number that is stored in a field is taken for tested when any function of
//# the driver tests that field.
//
// Confidence: Moderate
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_map_sg, dma_map_sg_attrs, pci_map_sg

virtual patch
virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_map_sg
rule = plan.Rule("dma_map_sg", dma_map_sg.decide, cocci.files, "Moderate")
kinds = ("check", "ignored", "negative", "errno")

// ----------------------------------------------------------------------
// 1. Sites: what SmPL can rewrite, told to Python by kind
// ----------------------------------------------------------------------

@assigned@
position p : script:python() { rule.sees("check", p) };
identifier f = {dma_map_sg, dma_map_sg_attrs, pci_map_sg};
expression x;
@@
x = f@p(...);

@ignored@
position p : script:python() { rule.sees("ignored", p) };
identifier f = {dma_map_sg, dma_map_sg_attrs, pci_map_sg};
@@
f@p(...);

@negative@
position p : script:python() { rule.sees("negative", p) };
expression x;
@@
x@p < 0

@returned@
position p : script:python() { rule.sees("errno", p) };
expression x;
@@
return x@p;

@passed_on@
position p : script:python() { rule.sees("errno", p) };
expression x, y;
@@
y = x@p

// ----------------------------------------------------------------------
// 2. Decision
// ----------------------------------------------------------------------

@place@
position p : script:python() { any(rule.converts(k, p) for k in kinds) };
identifier f;
expression x;
@@
(
f@p(...)
|
x@p < 0
|
x@p
)

@script:python check@
p << place.p;
action;
@@
coccinelle.action = cocci.make_stmt(rule.value(p, "action"))

@depends on context@
position place.p;
expression x;
@@
* x@p

// ----------------------------------------------------------------------
// 3. Patch
// ----------------------------------------------------------------------

@depends on patch@
position place.p;
position plain : script:python() { rule.converts("check", plain) };
position alone : script:python() { rule.converts("ignored", alone) };
position less : script:python() { rule.converts("negative", less) };
position given : script:python() { rule.converts("errno", given) };
expression x;
expression list args;
identifier f;
statement check.action;
@@
(
  x = f@p@plain(...);
+ if (!x) action
|
- f@p@alone(args);
+ if (!f(args)) action
|
- x@p@less < 0
+ !x
|
- x@p@given
+ -ENOMEM
)

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

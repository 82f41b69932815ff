// SPDX-License-Identifier: GPL-2.0-only
/// Find streaming DMA mappings whose handle reaches the device unchecked,
/// and insert the missing dma_mapping_error().
///
/// A mapping can fail: no IOMMU space, no bounce buffer, an address out of
/// the device's reach.  The handle is then DMA_MAPPING_ERROR, and a device
/// that is given it reads or writes wherever that is.  Neither 0 nor ~0 is
/// the value to compare with: only dma_mapping_error() knows.
///
/// The check is inserted where the function's own error exits show how to
/// undo exactly what is held there; everywhere else the message lists it.
//
//# A check that stands in another module, or behind a function pointer, is
//# not seen: the mapping is then reported though it is checked.
//# One check on one path is taken for enough.
//
// Confidence: Moderate
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
// Requires: 1.1.1
// Keywords: dma_map_single, dma_map_single_attrs, dma_map_page, dma_map_page_attrs, dma_map_resource, dma_map_phys, skb_frag_dma_map, __skb_frag_dma_map, pci_map_single, pci_map_page

virtual patch
virtual context
virtual org
virtual report

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, dma_mapping_error
rule = plan.Rule("dma_mapping_error", dma_mapping_error.decide, cocci.files,
                 "Moderate")
kinds = ("check", "init", "split", "test")

// ----------------------------------------------------------------------
// 1. Sites: what SmPL can rewrite, told to Python by kind
// ----------------------------------------------------------------------

// the handle is assigned: a check can follow the statement
@assigned@
position p : script:python() { rule.sees("check", p) };
identifier f = {dma_map_single, dma_map_single_attrs, dma_map_page, dma_map_page_attrs, dma_map_resource, dma_map_phys, skb_frag_dma_map, __skb_frag_dma_map, pci_map_single, pci_map_page};
expression x;
@@
x = <+... f@p(...) ...+>;

// the handle initialises the last variable of a block
@initialised@
position p : script:python() { rule.sees("init", p) };
identifier f = {dma_map_single, dma_map_single_attrs, dma_map_page, dma_map_page_attrs, dma_map_resource, dma_map_phys, skb_frag_dma_map, __skb_frag_dma_map, pci_map_single, pci_map_page};
identifier x;
type T;
@@
T x = f@p(...);

// the handle is used at once: the statement can be split
@nested@
position p : script:python() { rule.sees("split", p) };
identifier f = {dma_map_single, dma_map_single_attrs, dma_map_page, dma_map_page_attrs, dma_map_resource, dma_map_phys, skb_frag_dma_map, __skb_frag_dma_map, pci_map_single, pci_map_page};
expression x;
@@
(
x = <+... f@p(...) ...+>;
|
x(..., <+... f@p(...) ...+>, ...);
)

// the handle is tested, but with a value that a good handle may have
@tested@
position p : script:python() { rule.sees("test", p) };
expression x, y;
@@
(
!x@p
|
x@p == y
)

// ----------------------------------------------------------------------
// 2. Decision: Python has seen the whole driver now
// ----------------------------------------------------------------------

@place@
position p : script:python() { any(rule.converts(k, p) for k in kinds) };
identifier f;
expression x, y;
@@
(
f@p(...)
|
!x@p
|
x@p == y
)

@script:python check@
p << place.p;
dev; handle; fresh_dma; action;
@@
coccinelle.dev = cocci.make_expr(rule.value(p, "dev"))
coccinelle.handle = cocci.make_expr(rule.value(p, "handle"))
coccinelle.fresh_dma = cocci.make_ident(rule.value(p, "name"))
coccinelle.action = cocci.make_stmt(rule.value(p, "action"))

@depends on context@
position place.p;
identifier f;
@@
* f@p(...)

// ----------------------------------------------------------------------
// 3. Patch
// ----------------------------------------------------------------------

@depends on patch@
position place.p;
position plain : script:python() { rule.converts("check", plain) };
position early : script:python() { rule.converts("init", early) };
position inner : script:python() { rule.converts("split", inner) };
position wrong : script:python() { rule.converts("test", wrong) };
expression x, y, check.dev, check.handle;
expression list args;
identifier f, v, check.fresh_dma;
statement check.action;
type T;
@@
(
  x = <+... f@p@plain(...) ...+>;
+ if (dma_mapping_error(dev, handle)) action
|
  T v = f@p@early(...);
+
+ if (dma_mapping_error(dev, handle)) action
|
+ fresh_dma = f(args);
+ if (dma_mapping_error(dev, fresh_dma)) action
  x = <+...
- f@p@inner(args)
+ fresh_dma
  ...+>;
|
+ fresh_dma = f(args);
+ if (dma_mapping_error(dev, fresh_dma)) action
  x(..., <+...
- f@p@inner(args)
+ fresh_dma
  ...+>, ...);
|
- !x@p@wrong
+ dma_mapping_error(dev, x)
|
- x@p@wrong == y
+ dma_mapping_error(dev, x)
)

// a variable for the handle of a statement that was split
@declared depends on patch@
type T;
identifier v;
expression e;
position q : script:python() { rule.adds("function", q[0].current_element) };
@@
(
T v@q;
|
T v@q = e;
)

@script:python local_handle@
q << declared.q;
v << declared.v;
fresh_dma;
@@
if rule.adds("local", q[0].current_element, v):
    coccinelle.fresh_dma = cocci.make_ident(
        rule.addition("name", "local", q[0].current_element, v))
else:
    cocci.include_match(False)

@depends on patch@
identifier declared.v, local_handle.fresh_dma;
position declared.q;
type T;
expression e;
@@
(
  T v@q;
+ dma_addr_t fresh_dma;
|
  T v@q = e;
+ dma_addr_t fresh_dma;
)

@bare depends on patch@
identifier fn : script:python() { rule.adds("bare", fn) };
@@
fn(...)
{
...
}

@script:python first_local@
fn << bare.fn;
fresh_dma;
@@
coccinelle.fresh_dma = cocci.make_ident(rule.addition("name", "local", fn, ""))

@depends on patch@
identifier bare.fn, first_local.fresh_dma;
@@
fn(...)
{
+ dma_addr_t fresh_dma;
+
...
}

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

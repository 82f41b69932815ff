// SPDX-License-Identifier: GPL-2.0-only
/// Make coherent buffers that live from probe to remove managed: they are
/// released with the binding of the device, so that the error paths of probe
/// and remove need not free them.
///
//# An allocation is promoted only when all of this is proven over the whole
//# driver: it is reached from probe alone, for the device that is being
//# probed; probe fails when it fails; every free of it stands in an error path
//# of probe or in remove, with the same size and handle; and no managed
//# interrupt, action or registration was made before it.  All frees of a
//# buffer go, or none.  Names are resolved without preprocessing: a free that
//# hides in a macro of another folder is not seen.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// Keywords: dma_alloc_coherent, dma_alloc_attrs
// Options: --no-includes --include-headers
// Requires: 1.1.1

virtual patch
virtual context
virtual org
virtual report
// drivers/net: maintainers want no such clean-ups, they are done on request
virtual net

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import dmam_alloc_coherent, plan
rule = plan.Rule("dmam_alloc_coherent", dmam_alloc_coherent.decide, cocci.files)

@script:python depends on net@
@@
rule.option("net")

// ----------------------------------------------------------------------------
// What SmPL can rewrite: each place tells the plan that it was seen
// ----------------------------------------------------------------------------

// Most drivers have nothing to convert; then nothing need be matched.
@script:python worth@
@@
if not rule.may_convert():
    cocci.include_match(False)

@seen_alloc depends on worth@
position p : script:python() { rule.sees("alloc", p) };
@@
(
 dma_alloc_coherent@p(...)
|
 dma_alloc_attrs@p(...)
)

@seen_call depends on worth@
identifier f;
position p : script:python() { rule.sees("free", p) };
@@
f@p(...);

@seen_if depends on worth@
expression e;
statement s;
position p : script:python() { rule.sees("if", p) };
@@
if@p (e) s

@seen_for depends on worth@
statement s;
position p : script:python() { rule.sees("loop", p) };
@@
for@p (...;...;...) s

@seen_while depends on worth@
expression e;
statement s;
position p : script:python() { rule.sees("loop", p) };
@@
while@p (e) s

@seen_assign depends on worth@
expression x, e;
position p : script:python() { rule.sees("assign", p) };
@@
x@p = e;

@seen_function depends on worth@
identifier f;
position p : script:python() { rule.sees("function", p) };
@@
f@p(...) { ... }

// ----------------------------------------------------------------------------
// Context
// ----------------------------------------------------------------------------

@depends on context@
position p : script:python() { rule.converts("alloc", p) };
@@
(
* dma_alloc_coherent@p(...)
|
* dma_alloc_attrs@p(...)
)

@depends on context@
identifier f;
position p : script:python() { rule.converts("free", p) };
@@
* f@p(...);

// ----------------------------------------------------------------------------
// Patch: the frees go, with the conditions and loops around them.  One rule,
// because positions mean nothing any more once the file has changed.
// ----------------------------------------------------------------------------

@depends on patch@
identifier f;
expression e, x;
statement s;
position p1 : script:python() { rule.converts("free", p1) };
position p2 : script:python() { rule.converts("if", p2) };
position p3 : script:python() { rule.converts("loop", p3) };
position p4 : script:python() { rule.converts("assign", p4) };
@@
(
- f@p1(...);
|
- if@p2 (e) s
|
- for@p3 (...;...;...) s
|
- while@p3 (e) s
|
- x@p4 = e;
)

// ----------------------------------------------------------------------------
// Functions that did nothing but free, and their registration
// ----------------------------------------------------------------------------

@depends on patch@
identifier f : script:python() { rule.adds("function", f) };
type T;
parameter list ps;
@@
- T f(ps) { ... }

@depends on patch@
identifier f : script:python() { rule.adds("callback", f) };
identifier driver;
@@
(
  struct platform_driver driver = {
-	.remove = f,
  };
|
  struct platform_driver driver = {
-	.remove_new = f,
  };
|
  struct pci_driver driver = {
-	.remove = f,
  };
)

// ----------------------------------------------------------------------------
// Allocations, known by function and arguments from here on
// ----------------------------------------------------------------------------

@alloc depends on patch@
identifier f = {dma_alloc_coherent, dma_alloc_attrs};
expression dev, size, handle;
position p;
@@
f@p(dev, size, handle, ...)

@script:python managed@
p << alloc.p;
size << alloc.size;
handle << alloc.handle;
@@
if not rule.adds("alloc", p[0].current_element,
                 dmam_alloc_coherent.packed(size + "," + handle)):
    cocci.include_match(False)

@depends on patch && managed@
expression alloc.dev, alloc.size, alloc.handle;
expression gfp, attrs;
position alloc.p;
@@
(
- dma_alloc_coherent@p(dev, size, handle, gfp)
+ dmam_alloc_coherent(dev, size, handle, gfp)
|
- dma_alloc_attrs@p(dev, size, handle, gfp, attrs)
+ dmam_alloc_attrs(dev, size, handle, gfp, attrs)
)

// ----------------------------------------------------------------------------
// Labels that mark nothing any more
// ----------------------------------------------------------------------------

@jump depends on patch@
identifier l;
position p;
@@
goto@p l;

@script:python target@
p << jump.p;
l << jump.l;
to;
@@
key = "goto", p[0].current_element, l
if rule.adds(*key) and rule.addition("to", *key).startswith("goto "):
    coccinelle.to = cocci.make_ident(rule.addition("to", *key)[5:-1])
else:
    cocci.include_match(False)

// the name alone: for a whole statement spatch 1.3 would add braces
@depends on patch && target@
identifier jump.l, target.to;
position jump.p;
@@
  goto@p
- l
+ to
  ;

@leave depends on patch@
identifier l;
position p;
@@
goto@p l;

@script:python way_out@
p << leave.p;
l << leave.l;
to;
@@
key = "goto", p[0].current_element, l
if rule.adds(*key) and not rule.addition("to", *key).startswith("goto "):
    coccinelle.to = cocci.make_stmt(rule.addition("to", *key))
else:
    cocci.include_match(False)

@depends on patch && way_out@
identifier leave.l;
position leave.p;
statement way_out.to;
@@
- goto@p l;
+ to

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

// A label that only led to a return takes it along
@last depends on patch@
identifier l;
position p;
@@
l@p:

@script:python ending@
p << last.p;
l << last.l;
@@
if not rule.adds("last", p[0].current_element, l):
    cocci.include_match(False)

@depends on patch && ending@
identifier last.l;
position last.p;
expression e;
@@
(
- l@p: return e;
|
- l@p: return;
)

// `ret = -ENOMEM; return ret;`
@stored depends on patch@
identifier x;
expression e;
position p;
@@
x@p = e;
return x;

@script:python folded@
p << stored.p;
x << stored.x;
e << stored.e;
@@
if not rule.adds("fold", p[0].current_element,
                 dmam_alloc_coherent.packed(x + "=" + e)):
    cocci.include_match(False)

@depends on patch && folded@
identifier stored.x;
expression stored.e;
position stored.p;
@@
- x@p = e;
- return x;
+ return e;

// Braces around the one statement that is left
@braces depends on patch@
expression e;
statement s;
position p;
@@
if@p (e) { s }

@script:python bare@
p << braces.p;
e << braces.e;
s << braces.s;
left;
@@
if rule.adds("brace", p[0].current_element, dmam_alloc_coherent.packed(e),
             dmam_alloc_coherent.packed(s)):
    coccinelle.left = cocci.make_stmt(s)
else:
    cocci.include_match(False)

@depends on patch && bare@
expression braces.e;
statement braces.s, bare.left;
position braces.p;
@@
- if@p (e) { s }
+ if (e) left

// ----------------------------------------------------------------------------
// Variables that only the frees used
// ----------------------------------------------------------------------------

@declared depends on patch@
type T;
identifier x;
expression e;
position p;
@@
(
T x@p;
|
T x@p = e;
)

@script:python unused@
p << declared.p;
x << declared.x;
@@
if not rule.adds("unused", p[0].current_element, x):
    cocci.include_match(False)

@depends on patch && unused@
type declared.T;
identifier declared.x;
expression e;
position declared.p;
@@
(
- T x@p;
|
- T x@p = e;
)

// ----------------------------------------------------------------------------
// What is said
// ----------------------------------------------------------------------------

@script:python depends on patch@
@@
rule.report("patch")

@script:python depends on context@
@@
rule.report("context")

@script:python depends on report@
@@
rule.report("report")

@script:python depends on org@
@@
rule.report("org")

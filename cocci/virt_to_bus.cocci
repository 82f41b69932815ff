// SPDX-License-Identifier: GPL-2.0-only
/// Memory whose address a driver computes with virt_to_bus(), virt_to_phys(),
/// isa_virt_to_bus() or __pa() for a device becomes coherent DMA memory, and
/// the address becomes the handle that dma_alloc_coherent() gives.
///
//# What an address needs depends on code far away: the allocation, every free,
//# the struct device, in all files of the driver. A buffer is rewritten whole
//# or not at all; in the latter case each place says what is missing. It errs
//# where a field is reached in ways that C does not show, for example through
//# a copy of the struct that is made by other code than the driver.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// URL: https://docs.kernel.org/core-api/dma-api-howto.html
// Keywords: virt_to_bus, virt_to_phys, isa_virt_to_bus, __pa, bus_to_virt, isa_bus_to_virt
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
from evidence import plan, virt_to_bus


def parses(words):
    try:
        cocci.make_expr(words)
    except Exception:
        return False
    return True


rule = plan.Rule("virt_to_bus", virt_to_bus.decide, cocci.files, parses=parses)

// ----------------------------------------------------------------------------
// Sites: allocations, frees, addresses; what decides comes from Python
// ----------------------------------------------------------------------------

// Most drivers have nothing to convert; then nothing need be matched.
@script:python worth@
@@
if not rule.may_convert():
    cocci.include_match(False)

@site depends on worth@
position p : script:python() { rule.sees("call", p) };
identifier f = {virt_to_bus, isa_virt_to_bus, virt_to_phys, __pa, kmalloc,
                kzalloc, kcalloc, kmalloc_array, kmalloc_obj, kzalloc_obj,
                kmalloc_objs, kzalloc_objs, devm_kmalloc, devm_kzalloc,
                devm_kcalloc, devm_kmalloc_array, __get_free_page,
                get_zeroed_page, __get_free_pages, __get_dma_pages,
                devm_get_free_pages, kfree, free_page, free_pages, devm_kfree,
                devm_free_pages, memset};
@@
f@p(...)

@wait_site depends on worth@
position p : script:python() { rule.sees("wait", p) };
identifier f;
@@
f@p(...)

// the declarations beside which a handle shall stand, as far as they match;
// without a semicolon, a struct matches whatever is declared with it
@declared_member@
identifier s;
identifier v : script:python() { rule.wants(v) };
type T;
@@
struct s { ... T v; ... }

@script:python@
s << declared_member.s;
v << declared_member.v;
@@
rule.declares("field", s, v)

@declared_unnamed@
identifier v : script:python() { rule.wants(v) };
type T, S;
@@
typedef struct { ... T v; ... } S;

@script:python@
s << declared_unnamed.S;
v << declared_unnamed.v;
@@
rule.declares("typedef", s, v)

@declared_variable@
identifier v : script:python() { rule.wants(v) };
type T;
expression e;
position q;
@@
(
T v@q;
|
T v@q = e;
)

@script:python@
q << declared_variable.q;
v << declared_variable.v;
@@
rule.declares("local", q[0].current_element, v)

@declared_file_variable@
identifier v : script:python() { rule.wants(v) };
type T;
expression e;
@@
(
static T v;
|
static T v = e;
)

@script:python@
v << declared_file_variable.v;
@@
rule.declares("global", "", v)

@change@
position p : script:python() { rule.converts("call", p)
                               or rule.converts("wait", p) };
identifier f;
@@
f@p(...)

@script:python piece@
p << change.p;
dev; size; cpu; handle; gfp;
@@
coccinelle.dev = cocci.make_expr(rule.value(p, "dev"))
coccinelle.size = cocci.make_expr(rule.value(p, "size"))
coccinelle.cpu = cocci.make_expr(rule.value(p, "cpu"))
coccinelle.handle = cocci.make_expr(rule.value(p, "handle"))
coccinelle.gfp = cocci.make_expr(rule.value(p, "gfp"))

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
expression piece.dev, piece.size, piece.cpu, piece.handle, piece.gfp;
typedef dma_addr_t;
type T;
identifier alloc = {kmalloc, kzalloc, kcalloc, kmalloc_array, kmalloc_obj,
                    kzalloc_obj, kmalloc_objs, kzalloc_objs, __get_free_page,
                    get_zeroed_page, __get_free_pages, __get_dma_pages};
identifier managed = {devm_kmalloc, devm_kzalloc, devm_kcalloc,
                      devm_kmalloc_array, devm_get_free_pages};
identifier release = {kfree, free_page, free_pages};
identifier release_managed = {devm_kfree, devm_free_pages};
identifier address = {virt_to_bus, isa_virt_to_bus, virt_to_phys, __pa};
identifier wait;
expression list es;
@@
(
- (T)alloc@p(...)
+ dma_alloc_coherent(dev, size, &handle, gfp)
|
- alloc@p(...)
+ dma_alloc_coherent(dev, size, &handle, gfp)
|
- (T)managed@p(...)
+ dmam_alloc_coherent(dev, size, &handle, gfp)
|
- managed@p(...)
+ dmam_alloc_coherent(dev, size, &handle, gfp)
|
- release@p(...)
+ dma_free_coherent(dev, size, cpu, handle)
|
- release_managed@p(...)
+ dmam_free_coherent(dev, size, cpu, handle)
|
- (dma_addr_t)address@p(...)
+ handle
|
- (T)address@p(...)
+ (T)handle
|
- address@p(...)
+ handle
|
// coherent memory is zeroed: a mark, the statement goes below
- memset@p(...)
+ cocci_dma_zeroed()
|
// and here it is unmapped
+ cocci_dma_waits(handle,
  wait@p(es)
+ )
)

// an integer that holds the pointer needs a cast
@depends on patch@
expression dev, size, handle, gfp;
@@
- dma_alloc_coherent(dev, size, handle, _l(gfp))
+ (unsigned long)dma_alloc_coherent(dev, size, handle, gfp)

@depends on patch@
expression dev, size, handle, gfp;
@@
- dmam_alloc_coherent(dev, size, handle, _l(gfp))
+ (unsigned long)dmam_alloc_coherent(dev, size, handle, gfp)

@depends on patch@
@@
- cocci_dma_zeroed();

// an existing handle is set by the allocation, not after it
@depends on patch@
symbol cocci_dma_same;
expression handle;
type T;
@@
(
- handle = (T)cocci_dma_same;
|
- handle = cocci_dma_same;
)

// ----------------------------------------------------------------------------
// A handle beside the pointer, in its struct. It stands before the pointer where
// a comment follows that, so as not to part the two.
// ----------------------------------------------------------------------------

@member_after depends on patch@
identifier s;
identifier v : script:python() { rule.adds("after", "field", v) };
type T;
@@
struct s { ... T v; ... }

@script:python handle_after@
s << member_after.s;
v << member_after.v;
n;
@@
if rule.adds("after", "field", s, v):
    coccinelle.n = cocci.make_ident(rule.addition("handle", "after", "field", s, v))
else:
    cocci.include_match(False)

@depends on patch@
identifier member_after.s, member_after.v, handle_after.n;
type T;
@@
struct s {
...
T v;
+ dma_addr_t n;
...
}

@member_before depends on patch@
identifier s;
identifier v : script:python() { rule.adds("before", "field", v) };
type T;
@@
struct s { ... T v; ... }

@script:python handle_before@
s << member_before.s;
v << member_before.v;
n;
@@
if rule.adds("before", "field", s, v):
    coccinelle.n = cocci.make_ident(rule.addition("handle", "before", "field", s, v))
else:
    cocci.include_match(False)

@depends on patch@
identifier member_before.s, member_before.v, handle_before.n;
type T;
@@
struct s {
...
+ dma_addr_t n;
T v;
...
}

// an array of pointers gets an array of handles
@member_array depends on patch@
identifier s;
identifier v : script:python() { rule.adds("array", "field", v) };
type T;
@@
struct s { ... T v; ... }

@script:python handle_array@
s << member_array.s;
v << member_array.v;
n; count;
@@
if rule.adds("array", "field", s, v):
    coccinelle.n = cocci.make_ident(rule.addition("handle", "array", "field", s, v))
    coccinelle.count = cocci.make_expr(rule.addition("count", "array", "field", s, v))
else:
    cocci.include_match(False)

@depends on patch@
identifier member_array.s, member_array.v, handle_array.n;
expression handle_array.count;
type T;
@@
struct s {
...
+ dma_addr_t n[count];
T v;
...
}

// typedef struct { ... } foo_t;
@unnamed depends on patch@
identifier v : script:python() { rule.adds("before", "typedef", v) };
type T, S;
@@
typedef struct { ... T v; ... } S;

@script:python unnamed_before@
s << unnamed.S;
v << unnamed.v;
n;
@@
if rule.adds("before", "typedef", s, v):
    coccinelle.n = cocci.make_ident(rule.addition("handle", "before", "typedef", s, v))
else:
    cocci.include_match(False)

@depends on patch@
identifier unnamed.v, unnamed_before.n;
type T, unnamed.S;
@@
typedef struct {
...
+ dma_addr_t n;
T v;
...
} S;

// ----------------------------------------------------------------------------
// A handle beside the pointer, in its function or file
// ----------------------------------------------------------------------------

@variable depends on patch@
identifier v : script:python() { rule.adds("after", "local", v) };
type T;
expression e;
position q;
@@
(
T v@q;
|
T v@q = e;
)

@script:python variable_after@
q << variable.q;
v << variable.v;
n;
@@
if rule.adds("after", "local", q[0].current_element, v):
    coccinelle.n = cocci.make_ident(rule.addition("handle", "after", "local", q[0].current_element, v))
else:
    cocci.include_match(False)

@depends on patch@
position variable.q;
identifier variable.v, variable_after.n;
type T;
expression e;
@@
(
T v@q;
+ dma_addr_t n;
|
T v@q = e;
+ dma_addr_t n;
)

@variable2 depends on patch@
identifier v : script:python() { rule.adds("before", "local", v) };
type T;
expression e;
position q;
@@
(
T v@q;
|
T v@q = e;
)

@script:python variable_before@
q << variable2.q;
v << variable2.v;
n;
@@
if rule.adds("before", "local", q[0].current_element, v):
    coccinelle.n = cocci.make_ident(rule.addition("handle", "before", "local", q[0].current_element, v))
else:
    cocci.include_match(False)

@depends on patch@
position variable2.q;
identifier variable2.v, variable_before.n;
type T;
expression e;
@@
(
+ dma_addr_t n;
T v@q;
|
+ dma_addr_t n;
T v@q = e;
)

@file_variable depends on patch@
identifier v : script:python() { rule.adds("before", "global", v) };
type T;
expression e;
@@
(
static T v;
|
static T v = e;
)

@script:python file_variable_before@
v << file_variable.v;
n;
@@
if rule.adds("before", "global", "", v):
    coccinelle.n = cocci.make_ident(rule.addition("handle", "before", "global", "", v))
else:
    cocci.include_match(False)

@depends on patch@
identifier file_variable.v, file_variable_before.n;
type T;
expression e;
@@
(
+ static dma_addr_t n;
static T v;
|
+ static dma_addr_t n;
static T v = e;
)

// ----------------------------------------------------------------------------
// A buffer for one transfer is mapped before the call that gets its address,
// and unmapped behind it or behind the call that waits
// ----------------------------------------------------------------------------

@kept depends on patch@
identifier h : script:python() { rule.adds("kept", h) };
symbol cocci_dma_mapped;
type T;
position q;
@@
(
h@q = cocci_dma_mapped;
|
h@q = (T)cocci_dma_mapped;
)

@script:python keeping@
q << kept.q;
h << kept.h;
dev; size; cpu; direction; failure;
@@
where = ("kept", q[0].current_element, h)
if rule.adds(*where):
    coccinelle.dev = cocci.make_expr(rule.addition("dev", *where))
    coccinelle.size = cocci.make_expr(rule.addition("size", *where))
    coccinelle.cpu = cocci.make_expr(rule.addition("cpu", *where))
    coccinelle.direction = cocci.make_expr(rule.addition("direction", *where))
    coccinelle.failure = cocci.make_stmt(rule.addition("failure", *where))
else:
    cocci.include_match(False)

@depends on patch@
position kept.q;
identifier kept.h;
type T;
expression keeping.dev, keeping.size, keeping.cpu, keeping.direction;
statement keeping.failure;
@@
(
- h@q = cocci_dma_mapped;
+ h = dma_map_single(dev, cpu, size, direction);
+ if (dma_mapping_error(dev, h)) failure
|
- h@q = (T)cocci_dma_mapped;
+ h = dma_map_single(dev, cpu, size, direction);
+ if (dma_mapping_error(dev, h)) failure
)

@transfer depends on patch@
identifier h : script:python() { rule.adds("stream", h) };
identifier g != cocci_dma_waits;
expression r;
position q;
@@
(
r = g@q(..., <+... h ...+>, ...);
|
g@q(..., <+... h ...+>, ...);
)

@script:python mapping@
q << transfer.q;
h << transfer.h;
dev; size; cpu; direction; failure;
@@
if rule.adds("stream", q[0].current_element, h):
    where = ("stream", q[0].current_element, h)
    coccinelle.dev = cocci.make_expr(rule.addition("dev", *where))
    coccinelle.size = cocci.make_expr(rule.addition("size", *where))
    coccinelle.cpu = cocci.make_expr(rule.addition("cpu", *where))
    coccinelle.direction = cocci.make_expr(rule.addition("direction", *where))
    coccinelle.failure = cocci.make_stmt(rule.addition("failure", *where))
else:
    cocci.include_match(False)

@depends on patch@
position transfer.q;
identifier transfer.h;
identifier g;
expression r;
expression mapping.dev, mapping.size, mapping.cpu, mapping.direction;
statement mapping.failure;
@@
(
+ h = dma_map_single(dev, cpu, size, direction);
+ if (dma_mapping_error(dev, h)) failure
r = g@q(...);
|
+ h = dma_map_single(dev, cpu, size, direction);
+ if (dma_mapping_error(dev, h)) failure
g@q(...);
)

@ended depends on patch@
identifier h : script:python() { rule.adds("ends", h) };
identifier g;
expression r;
position q;
@@
(
r = g@q(..., <+... h ...+>, ...);
|
g@q(..., <+... h ...+>, ...);
)

@script:python unmapping@
q << ended.q;
h << ended.h;
g << ended.g;
dev; size; direction;
@@
where = ("ends", q[0].current_element, h)
if rule.adds(*where) and (g == "cocci_dma_waits"
                          or not rule.addition("waits", *where)):
    coccinelle.dev = cocci.make_expr(rule.addition("dev", *where))
    coccinelle.size = cocci.make_expr(rule.addition("size", *where))
    coccinelle.direction = cocci.make_expr(rule.addition("direction", *where))
else:
    cocci.include_match(False)

@depends on patch@
position ended.q;
identifier ended.h;
identifier g;
expression r, e;
expression unmapping.dev, unmapping.size, unmapping.direction;
@@
(
  r =
- cocci_dma_waits@q(h,
  e
- )
  ;
+ dma_unmap_single(dev, h, size, direction);
|
- cocci_dma_waits@q(h,
  e
- )
  ;
+ dma_unmap_single(dev, h, size, direction);
|
r = g@q(...);
+ dma_unmap_single(dev, h, size, direction);
|
g@q(...);
+ dma_unmap_single(dev, h, size, direction);
)

// ----------------------------------------------------------------------------
// An existing handle gets the type of one
// ----------------------------------------------------------------------------

@old_member depends on patch@
identifier s;
identifier v : script:python() { rule.adds("retype", v) };
type T;
@@
struct s { ... T v; ... }

@script:python old_member_type@
s << old_member.s;
v << old_member.v;
@@
if not rule.adds("retype", "field", s, v):
    cocci.include_match(False)

@depends on patch && old_member_type@
identifier old_member.s, old_member.v;
type T;
@@
struct s {
...
- T
+ dma_addr_t
  v;
...
}

@old_variable depends on patch@
identifier v : script:python() { rule.adds("retype", v) };
type T;
expression e;
position q;
@@
(
T v@q;
|
T v@q = e;
)

@script:python old_variable_type@
q << old_variable.q;
v << old_variable.v;
@@
if not (rule.adds("retype", "local", q[0].current_element, v)
        or rule.adds("retype", "global", "", v)):
    cocci.include_match(False)

@depends on patch && old_variable_type@
position old_variable.q;
identifier old_variable.v;
type T;
expression e;
@@
(
- T
+ dma_addr_t
  v@q;
|
- T
+ dma_addr_t
  v@q = e;
)

// ----------------------------------------------------------------------------
// A local variable that only served to take an address goes
// ----------------------------------------------------------------------------

@unused depends on patch@
identifier v : script:python() { rule.adds("drop", v) };
type T;
expression e;
position q;
@@
(
T v@q;
|
T v@q = e;
|
v@q = e;
)

@script:python unused_here@
q << unused.q;
v << unused.v;
@@
if not rule.adds("drop", "local", q[0].current_element, v):
    cocci.include_match(False)

@depends on patch && unused_here@
position unused.q;
identifier unused.v;
type T;
expression e;
@@
(
- T v@q;
|
- T v@q = e;
|
- v@q = e;
)

// ----------------------------------------------------------------------------
// A product, which alone would be taken for a declaration by spatch
// ----------------------------------------------------------------------------

@depends on patch@
expression e;
@@
- _p(e)
+ e

// ----------------------------------------------------------------------------
// The header of the DMA API
// ----------------------------------------------------------------------------

@include depends on patch@
position q : script:python() { rule.adds("include", os.path.realpath(q[0].file)) };
@@
  #include <linux/...>@q
+ #include <linux/dma-mapping.h>

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

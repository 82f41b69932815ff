// SPDX-License-Identifier: GPL-2.0-only
/// The DMA functions and constants that only PCI had, which Linux 5.18 removed
/// (pci_alloc_consistent(), pci_map_single(), PCI_DMA_TODEVICE ...), become
/// those of the DMA API.
///
//# A wrapper and its successor are one function, so every place is converted
//# on its own. pci_alloc_consistent() meant GFP_ATOMIC; it becomes GFP_KERNEL
//# only where it is proven that the caller may sleep. It errs where a macro that
//# it does not see builds the name of a wrapper.
//
// Confidence: High
// Copyright: (C) 2026 cocci-dma developers
// URL: https://docs.kernel.org/core-api/dma-api-howto.html
// Keywords: pci_alloc_consistent, pci_zalloc_consistent, pci_free_consistent, pci_map_single, pci_unmap_single, pci_map_page, pci_unmap_page, pci_map_sg, pci_unmap_sg, pci_dma_sync_single_for_cpu, pci_dma_sync_single_for_device, pci_dma_sync_sg_for_cpu, pci_dma_sync_sg_for_device, pci_dma_mapping_error, pci_set_dma_mask, pci_set_consistent_dma_mask, pci_pool, pci_pool_create, pci_pool_destroy, pci_pool_alloc, pci_pool_zalloc, pci_pool_free, PCI_DMA_BIDIRECTIONAL, PCI_DMA_TODEVICE, PCI_DMA_FROMDEVICE, PCI_DMA_NONE, PCI_DMA_, pci_, pci_map_, pci_unmap_, pci_dma_, pci_dma_sync_, pci_pool_, dma_zalloc_coherent, pci_set_dma_max_seg_size, pci_set_dma_seg_boundary, pci_dma_supported, dma_cache_sync, dma_alloc_noncoherent, dma_free_noncoherent, pci_dma_sync_single, pci_dma_sync_sg, DECLARE_PCI_UNMAP_ADDR, DECLARE_PCI_UNMAP_LEN, pci_unmap_addr, pci_unmap_addr_set, pci_unmap_len, pci_unmap_len_set, pci-dma-compat
// Scope: file
// Options: --no-includes --include-headers
// Requires: 1.1.1

virtual patch
virtual context
virtual org
virtual report
// Leave GFP_ATOMIC, which the wrappers meant, everywhere: a series of patches
// renames first, and says of its own why some allocations may sleep
virtual atomic

@initialize:python@
@@
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(cocci.cocci_file)))
from evidence import plan, pci_dma_compat


def parses(words):
    try:
        cocci.make_expr(words)
    except Exception:
        return False
    return True


rule = plan.Rule("pci_dma_compat", pci_dma_compat.decide, cocci.files,
                 parses=parses, partly="the driver is converted in part "
                 "only: what is refused must be written by hand before it "
                 "builds without the wrappers")

@script:python depends on atomic@
@@
rule.option("atomic")

// ----------------------------------------------------------------------------
// Detection: every word that SmPL can replace
// ----------------------------------------------------------------------------

@seen@
position p : script:python() { rule.sees("word", p) };
identifier word = {pci_alloc_consistent, pci_zalloc_consistent,
                   pci_free_consistent, pci_map_single, pci_unmap_single,
                   pci_map_page, pci_unmap_page, pci_map_sg, pci_unmap_sg,
                   pci_dma_sync_single_for_cpu, pci_dma_sync_single_for_device,
                   pci_dma_sync_sg_for_cpu, pci_dma_sync_sg_for_device,
                   pci_dma_mapping_error, pci_set_dma_mask,
                   pci_set_consistent_dma_mask, pci_pool_create,
                   pci_pool_destroy, pci_pool_alloc, pci_pool_zalloc,
                   pci_pool_free, dma_zalloc_coherent,
                   pci_set_dma_max_seg_size, pci_set_dma_seg_boundary,
                   PCI_DMA_BIDIRECTIONAL, PCI_DMA_TODEVICE,
                   PCI_DMA_FROMDEVICE, PCI_DMA_NONE};
@@
word@p

@seen_text@
position p : script:python() { rule.sees("text", p) };
constant char[] said;
@@
said@p

// ----------------------------------------------------------------------------
// Decision
// ----------------------------------------------------------------------------

@change@
position p : script:python() { rule.converts("word", p) };
identifier word;
@@
word@p

@script:python piece@
p << change.p;
next;
@@
coccinelle.next = cocci.make_ident(rule.value(p, "word"))

@message@
position p : script:python() { rule.converts("text", p) };
constant char[] said;
@@
said@p

@script:python message_of@
p << message.p;
next;
@@
coccinelle.next = cocci.make_expr(rule.value(p, "text"))

// ----------------------------------------------------------------------------
// Context
// ----------------------------------------------------------------------------

@depends on context@
position change.p;
identifier change.word;
@@
* word@p

// ----------------------------------------------------------------------------
// Patch: first all words, for no position survives a change. A call gets a
// name of its own, by which its arguments are found.
// ----------------------------------------------------------------------------

@depends on patch@
position change.p;
identifier change.word, piece.next;
@@
- word@p
+ next

@depends on patch@
constant char[] message.said;
expression message_of.next;
@@
- said
+ next

@first depends on patch@
identifier mark : script:python() { rule.adds("first", mark) };
@@
mark(...)

@script:python first_of@
mark << first.mark;
next; device;
@@
coccinelle.next = cocci.make_ident(rule.addition("new", "first", mark))
coccinelle.device = cocci.make_expr(rule.addition("dev", "first", mark))

@depends on patch@
identifier first.mark, first_of.next;
expression first_of.device, old;
@@
- mark
+ next
  (
- old
+ device
  , ...)

@second depends on patch@
identifier mark : script:python() { rule.adds("second", mark) };
@@
mark(...)

@script:python second_of@
mark << second.mark;
next; device;
@@
coccinelle.next = cocci.make_ident(rule.addition("new", "second", mark))
coccinelle.device = cocci.make_expr(rule.addition("dev", "second", mark))

@depends on patch@
identifier second.mark, second_of.next;
expression second_of.device, old, name;
@@
- mark
+ next
  (name,
- old
+ device
  , ...)

@allocation depends on patch@
identifier mark : script:python() { rule.adds("allocation", mark) };
@@
mark(...)

@script:python allocation_of@
mark << allocation.mark;
next; device; flag;
@@
coccinelle.next = cocci.make_ident(rule.addition("new", "allocation", mark))
coccinelle.device = cocci.make_expr(rule.addition("dev", "allocation", mark))
coccinelle.flag = cocci.make_expr(rule.addition("flag", "allocation", mark))

// What is a void * needs no cast where it is assigned.
@depends on patch@
identifier allocation.mark;
expression to;
type T;
@@
  to =
- (T *)
  mark(...)

@depends on patch@
identifier allocation.mark, allocation_of.next;
expression allocation_of.device, allocation_of.flag, old, size, handle;
@@
- mark
+ next
  (
- old
+ device
  , size, handle
+ , flag
  )

@script:python pools depends on patch@
@@
if not rule.adds("pool"):
    cocci.include_match(False)

@depends on patch && pools@
@@
- struct pci_pool
+ struct dma_pool

// ----------------------------------------------------------------------------
// The header of the DMA API
// ----------------------------------------------------------------------------

@depends on patch@
position q : script:python() { rule.adds("header", os.path.realpath(q[0].file)) };
@@
- #include <linux/pci-dma-compat.h>@q
+ #include <linux/dma-mapping.h>

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

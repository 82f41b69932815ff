// SPDX-License-Identifier: GPL-2.0-only
/// What one writes first to find mappings that nobody checks.
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
virtual report

@checked exists@
expression x, dev;
position p;
@@
 x = \(dma_map_single@p\|dma_map_page@p\|dma_map_resource@p\|dma_map_single_attrs@p\|dma_map_page_attrs@p\|skb_frag_dma_map@p\)(...)
 ... when any
 dma_mapping_error(dev, x)

@unchecked@
expression x;
position p != checked.p;
@@
 x = \(dma_map_single@p\|dma_map_page@p\|dma_map_resource@p\|dma_map_single_attrs@p\|dma_map_page_attrs@p\|skb_frag_dma_map@p\)(...)

@script:python depends on report@
p << unchecked.p;
@@
print("%s:%s: unchecked" % (p[0].file, p[0].line))

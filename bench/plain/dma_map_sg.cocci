// SPDX-License-Identifier: GPL-2.0-only
/// Sees the calls that the rule dma_map_sg is about, and nothing else: what parsing costs.
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
virtual report

@site@
position p;
@@
 \(dma_map_sg@p\|dma_map_sg_attrs@p\)(...)

@script:python depends on report@
p << site.p;
@@
print("%s:%s: site" % (p[0].file, p[0].line))

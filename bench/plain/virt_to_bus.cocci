// SPDX-License-Identifier: GPL-2.0-only
/// Sees the calls that the rule virt_to_bus is about, and nothing else: what parsing costs.
// Copyright: (C) 2026 cocci-dma developers
// Options: --no-includes --include-headers
virtual report

@site@
position p;
@@
 \(virt_to_bus@p\|virt_to_phys@p\|isa_virt_to_bus@p\|__pa@p\)(...)

@script:python depends on report@
p << site.p;
@@
print("%s:%s: site" % (p[0].file, p[0].line))

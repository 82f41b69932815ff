# SPDX-License-Identifier: GPL-2.0-only
"""The bench: drivers before and after their conversion, on QEMU's devices.

One module a step; docs/runtime.md says how they fit.  Nothing here knows how
a driver is converted.
"""
from __future__ import annotations

from pathlib import Path

#: Where the guest program, the kernel fragments and the modules' sources are.
FOLDER = Path(__file__).resolve().parent

#: Force-included when a driver is built: interfaces that 6.12 has no more.
COMPAT_HEADER = FOLDER / 'cocci_dma_compat.h'

# SPDX-License-Identifier: GPL-2.0-only
"""Which headers a file of a driver gets."""
from __future__ import annotations

import os

from .driver import Driver


def reaches(driver: Driver, path: str, *headers: str) -> bool:
    """Does a file include one of the headers, itself or by the driver's own?

    headers: as written, `<linux/dma-mapping.h>`.
    """
    return _reaches(driver, path, frozenset(headers), set())


def _reaches(driver: Driver, path: str, headers: frozenset[str],
             seen: set[str]) -> bool:
    if path in seen:
        return False
    seen.add(path)
    names = [name for name, _ in driver.file(path).includes]
    if not headers.isdisjoint(names):
        return True
    local = {os.path.basename(n.strip('"')) for n in names if n.startswith('"')}
    return any(_reaches(driver, p, headers, seen) for p in driver.paths
               if os.path.basename(p) in local and p.endswith('.h'))

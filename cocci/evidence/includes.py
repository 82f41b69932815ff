# SPDX-License-Identifier: GPL-2.0-only
"""Which headers a file of a driver gets, and which were not found."""
from __future__ import annotations

import os
import re
from typing import Iterator, NamedTuple

from . import cparse as c
from .conditions import Conditions
from .clex import Token
from .driver import Driver

#: The kernel's headers lie in these folders, or are the compiler's.
_KERNEL = re.compile(
    r'^(acpi|asm|asm-generic|clocksource|config|crypto|cxl|drm|dt-bindings|'
    r'generated|hyperv|keys|kunit|kvm|linux|mach|math-emu|media|memory|misc|'
    r'mtd|net|pcmcia|plat|ras|rdma|rv|scsi|soc|sound|target|trace|uapi|ufs|'
    r'platforms|sysdev|vdso|video|xen|\.\.)/|^std\w+\.h$')

_NAMES = re.compile(r'^[ \t]*#[ \t]*include[ \t]*("[^"\n]+"|<[^>\n]+>)', re.M)


class Include(NamedTuple):
    """One directive; name is as written, `<linux/pci.h>`."""

    path: str
    name: str
    token: Token


def reaches(driver: Driver, path: str, *headers: str) -> bool:
    """Does a file include one of the headers, itself or by the driver's own?

    headers: as written, `<linux/dma-mapping.h>`.  What only old kernels
    include does not count.
    """
    return any(include.name in headers for include in _all(driver, path))


def anchor(driver: Driver, path: str) -> bool:
    """Does a file have an `#include <linux/...>` that SmPL adds another to?

    SmPL does not look into conditionals.
    """
    source = driver.file(path)
    conditions = Conditions(source, frozenset())
    return any(name.startswith('<linux/') and not conditions.around(token.line)
               for name, token in source.includes)


@c.once
def missing(driver: Driver) -> tuple[Include, ...]:
    """The includes of headers that are neither the driver's, as far as they
    were found, nor the kernel's."""
    names = {name for path in driver.paths
             for name in _NAMES.findall(driver.text_of(path))}
    unknown = {name for name in names if not _KERNEL.match(name[1:-1])
               and not _meant(driver, name)}
    return tuple(include for path in driver.paths
                 if any(name in driver.text_of(path) for name in unknown)
                 for include in _included(driver.file(path))
                 if include.name in unknown)


@c.once
def _included(source: c.SourceFile) -> tuple[Include, ...]:
    """What a file includes on a current kernel, as far as that is known."""
    conditions = Conditions(source, frozenset())
    return tuple(Include(source.path, name, token) for name, token in source.includes
                 if not any(b.live is False or b.live is None
                            and b.group.by_kernel
                            for b in conditions.around(token.line)))


def _all(driver: Driver, path: str) -> Iterator[Include]:
    """What a file includes, itself and by headers of the driver."""
    todo, seen = [path], {path}
    while todo:
        for include in _included(driver.file(todo.pop())):
            yield include
            found = [p for p in _meant(driver, include.name) if p not in seen]
            seen.update(found)
            todo += found


def _meant(driver: Driver, name: str) -> list[str]:
    """The files of a driver that `#include name` may mean.

    In a scratch copy there are no makefiles to say which.
    """
    if name[0] == '"':
        base = os.path.basename(name[1:-1])
        return [p for p in driver.paths if os.path.basename(p) == base]
    return [p for p in driver.paths if ('/' + p).endswith('/' + name[1:-1])]

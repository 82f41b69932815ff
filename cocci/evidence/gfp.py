# SPDX-License-Identifier: GPL-2.0-only
"""With which GFP flags may memory be allocated at a place?

GFP_ATOMIC is never wrong.  GFP_KERNEL is, where the caller may not sleep: it
needs a proof, and the proof can be read.
"""
from __future__ import annotations

import os
import re
from typing import Iterator, NamedTuple

from . import context
from . import cparse as c
from .driver import Driver
from .report import Step

#: Headers of the kernel's that stand in no folder, or are named in quotes.
_KERNEL = re.compile(r'^(linux|asm|asm-generic|net|uapi|generated|media|sound|'
                     r'scsi|rdma|drm|video|crypto|trace|xen|dt-bindings)/|'
                     r'^std\w+\.h$')
_INCLUDE = re.compile(r'include\b[ \t]*([^\n]*)')
_NAME = re.compile(r'("[^"]*"|<[^>]*>)\s*(?:/[/*].*)?$')


class Gfp(NamedTuple):
    """The flags of one allocation.

    flag: GFP_KERNEL, GFP_ATOMIC, or the name of a parameter of type gfp_t.
    message: what stood in the way of GFP_KERNEL, '' when nothing did.
    evidence: the steps of the proof, or the place that stood in its way.
    """

    flag: str
    message: str
    evidence: tuple[Step, ...]


def decide(driver: Driver, func: c.Function, node: c.Node) -> Gfp:
    """The flags for an allocation at `node` in `func`."""
    return decided(context.of(driver), func, node)


def decided(known: context.Context, func: c.Function, node: c.Node) -> Gfp:
    """The same with contexts that are at hand."""
    verdict = known.may_sleep(func, node)
    missing = _missing_header(known.driver) if verdict.sleeps else None
    if missing is not None:
        return Gfp('GFP_ATOMIC', context.said(missing), (missing,))
    if verdict.sleeps:
        return Gfp('GFP_KERNEL', '', verdict.steps)
    gfp = _parameter(func)
    if gfp and not known.locks.at(func, node).held:
        return Gfp(gfp, verdict.reason, (verdict.obstacle,))
    return Gfp('GFP_ATOMIC', verdict.reason, (verdict.obstacle,))


@c.once
def _missing_header(driver: Driver) -> Step | None:
    """A header of the driver's own that was not found: its macros may lock,
    its functions may be called from anywhere.  The kernel's lie in folders."""
    known = {os.path.basename(path) for path in driver.paths}
    for path in driver.paths:
        if not any(_foreign(name, known)
                   for name in _included(driver.text_of(path))):
            continue
        for name, token in driver.file(path).includes:
            if _foreign(name, known):
                return Step(path, token.line, 'the header %s was not '
                            'found, and what it holds is not known' % name)
    return None


def _included(text: str) -> Iterator[str]:
    """What may be included, as far as one can tell without parsing: some of
    it stands in comments, or is no name."""
    for found in _INCLUDE.finditer(text):
        name = _NAME.match(found[1])
        if name and '//' not in name[1] and '/*' not in name[1]:
            yield name[1]
        elif '#' in text[text.rfind('\n', 0, found.start()) + 1:
                         found.start()]:
            yield found[1]


def _foreign(name: str, known: set[str]) -> bool:
    """Is what is included neither a file of the driver nor the kernel's?"""
    return os.path.basename(name[1:-1]) not in known and (
        name[:1] == '"' or '/' not in name) and not _KERNEL.match(name[1:-1])


def _parameter(func: c.Function) -> str:
    """A parameter of type gfp_t that is not assigned to; ''."""
    for param in func.params:
        if param.type.base == 'gfp_t' and not param.type.pointers:
            if not any(isinstance(n, c.Assign) and isinstance(n.left, c.Id)
                       and n.left.name == param.name for n in func.nodes):
                return param.name
    return ''

# SPDX-License-Identifier: GPL-2.0-only
"""The struct device of what a driver passes as its struct pci_dev."""
from __future__ import annotations

import re

from . import cparse as c
from .driver import Driver, text


_NULL = re.compile(r'^(\(\s*(void|struct pci_dev)\s*\*\s*\)\s*)?'
                   r'(NULL|0[xX]?0*[uUlL]*)$')


class NoPciDevice(Exception):
    """The argument names no device."""


def device(driver: Driver, func: c.Function | None, expr: c.Expr,
           written: str, parameters: frozenset[str] = frozenset()) -> str:
    """`&e->dev` for an expression of type struct pci_dev *, as C text.

    written: the expression as it stands in the source.  parameters: those of
    the macro in whose body it stands; there parentheses have a use.  Raises
    NoPciDevice for NULL, and where a macro's parameter is called dev.
    """
    core = _bare(expr)

    def flat(node: c.Expr) -> str:
        return _flat(written, expr.first.start, node, bool(parameters))

    macro = driver.macro(core.name) if isinstance(core, (c.Id, c.Call)) \
        and core.name else None
    if _NULL.match(text(core)) or macro is not None \
            and _NULL.match(macro.body.strip('() \t')):
        raise NoPciDevice('there is no device, it is NULL: pass the struct '
                          'device that does the DMA')
    if isinstance(core, c.Call) and core.name == 'to_pci_dev' \
            and len(core.args) == 1:
        return flat(core.args[0])
    if 'dev' in parameters:
        raise NoPciDevice('the macro has a parameter `dev`, which would also '
                          'replace the name of the member in `->dev`: rename '
                          'the parameter')
    if isinstance(core, c.Unary) and core.op == '&' \
            and isinstance(core.arg, (c.Id, c.Member, c.Index)) \
            and not parameters:
        return '&%s.dev' % flat(core.arg)
    if isinstance(core, c.Id) and core.name in parameters \
            or macro is not None or not isinstance(core, (c.Id, c.Member, c.Call, c.Index)):
        return '&(%s)->dev' % flat(core)
    kind = driver.type_of(core, func)
    if kind is not None and kind.base == 'void' and kind.pointers == 1:
        return '&((struct pci_dev *)%s)->dev' % flat(core)
    return '&%s->dev' % flat(core)


def _bare(expr: c.Expr) -> c.Expr:
    while isinstance(expr, c.Paren):
        expr = expr.inner
    return expr


def _flat(written: str, start: int, node: c.Expr, whole: bool) -> str:
    """A part of what is written, on one line.

    start: where that begins in the file.  whole: with all parentheses, and not
    but those that have a use.
    """
    letters = list(written)
    for part in node.walk():
        if not whole and isinstance(part, c.Paren) and isinstance(
                part.inner, (c.Id, c.Member, c.Index, c.Call)):
            letters[part.first.start - start] = ''
            letters[part.last.start - start] = ''
    return ' '.join(''.join(letters[node.first.start - start:
                                    node.last.end - start]).split())

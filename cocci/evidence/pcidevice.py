# SPDX-License-Identifier: GPL-2.0-only
"""The struct device of what a driver passes as its struct pci_dev."""
from __future__ import annotations

from . import cparse as c
from .driver import Driver, strip, text


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
    if text(core) in ('NULL', '0') or isinstance(strip(core), c.Id) \
            and text(core) == 'NULL':
        raise NoPciDevice('there is no device, it is NULL: pass the struct '
                          'device that does the DMA')
    if isinstance(core, c.Call) and core.name == 'to_pci_dev' \
            and len(core.args) == 1:
        return text(core.args[0], casts=True)
    if 'dev' in parameters:
        raise NoPciDevice('the macro has a parameter `dev`, which would also '
                          'replace the name of the member in `->dev`: rename '
                          'the parameter')
    if isinstance(core, c.Id):
        return '&(%s)->dev' % core.name if core.name in parameters \
            else _of(driver, func, core, core.name)
    if isinstance(core, c.Unary) and core.op == '&' \
            and isinstance(core.arg, (c.Id, c.Member, c.Index)):
        return '&%s.dev' % text(core.arg)
    if isinstance(core, (c.Member, c.Call, c.Index)):
        return _of(driver, func, core, _flat(written, core, expr))
    return '&(%s)->dev' % _flat(written, core, expr)


def _bare(expr: c.Expr) -> c.Expr:
    while isinstance(expr, c.Paren):
        expr = expr.inner
    return expr


def _flat(written: str, core: c.Expr, expr: c.Expr) -> str:
    """The expression without outer parentheses, on one line."""
    start, end = expr.first.start, core.last.end
    return ' '.join(written[core.first.start - start:end - start].split())


def _of(driver: Driver, func: c.Function | None, core: c.Expr,
        written: str) -> str:
    kind = driver.type_of(core, func)
    if kind is not None and kind.base == 'void' and kind.pointers == 1:
        return '&((struct pci_dev *)%s)->dev' % written
    return '&%s->dev' % written

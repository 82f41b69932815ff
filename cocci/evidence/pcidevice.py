# SPDX-License-Identifier: GPL-2.0-only
"""The struct device of what a driver passes as its struct pci_dev."""
from __future__ import annotations

import os
import re

from . import cparse as c
from .driver import Driver, strip, text


_NULL = re.compile(r'^(\(\s*(void|struct pci_dev)\s*\*\s*\)\s*)?'
                   r'(NULL|0[xX]?0*[uUlL]*)$')
_NONE = 'there is no device, it is NULL: pass the struct device that does ' \
        'the DMA'


class NoPciDevice(Exception):
    """The argument names no device."""


def device(driver: Driver, func: c.Function | None, expr: c.Expr,
           written: str, parameters: frozenset[str] = frozenset()) -> str:
    """`&e->dev` for an expression of type struct pci_dev *, as C text.

    written: the expression as it stands in the source.  parameters: those of
    the macro in whose body it stands; there parentheses have a use.  Raises
    NoPciDevice for NULL, also by a variable or a caller, and where a macro's
    parameter is called dev.
    """
    core = _bare(expr)

    def flat(node: c.Expr) -> str:
        return _flat(written, expr.first.start, node, bool(parameters))

    macro = driver.macro(core.name) if isinstance(core, (c.Id, c.Call)) \
        and core.name else None
    if macro is not None and _NULL.match(macro.body.strip('() \t')):
        raise NoPciDevice(_NONE)
    _has_device(driver, func, core)
    untyped = isinstance(core, c.Cast) \
        and driver.expand(core.type).base == 'void'
    if untyped:
        core = _bare(core.arg)
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
    whole = flat(core)
    if isinstance(core, c.Id) and core.name in parameters or macro is not None \
            or not isinstance(core, (c.Id, c.Member, c.Call, c.Index)):
        whole = '(%s)' % whole
    kind = driver.type_of(core, func)
    if untyped and (kind is None or kind.base != 'struct pci_dev') \
            or kind is not None and kind.base == 'void' and kind.pointers == 1:
        return '&((struct pci_dev *)%s)->dev' % whole
    return '&%s->dev' % whole


def _has_device(driver: Driver, func: c.Function | None,
                expr: c.Expr) -> None:
    """Raises NoPciDevice where a value is NULL, or may be on purpose."""
    core = strip(expr)
    if _NULL.match(text(core)):
        raise NoPciDevice(_NONE)
    if isinstance(core, c.Ternary):
        for arm in (core.then, core.other):
            if arm is not None and _NULL.match(text(strip(arm))):
                raise NoPciDevice('the device is NULL in one case of `%s`: '
                                  'pass a struct device in both' % text(core))
    if not isinstance(core, c.Id) or func is None or func.body is None:
        return
    index = next((i for i, p in enumerate(func.params)
                  if p.name == core.name), None)
    if index is not None:
        _passed(driver, func, core.name, index)
    elif core.name in func.locals:
        values = _values(func.nodes, core.name)
        if values and all(_NULL.match(text(strip(v))) for v in values):
            raise NoPciDevice('`%s` is NULL: pass the struct device that does '
                              'the DMA' % core.name)


def _values(nodes: list[c.Node], name: str) -> list[c.Expr | None]:
    """All that a local variable is set to; [] if somebody else may set it."""
    values: list[c.Expr | None] = []
    for node in nodes:
        if isinstance(node, c.Variable) and node.name == name and node.init:
            values.append(node.init)
        elif isinstance(node, c.Assign) and text(node.left) == name:
            values.append(node.right)
        elif isinstance(node, c.Unary) and node.op == '&' \
                and text(node.arg) == name:
            return []
    return values


def _passed(driver: Driver, func: c.Function, name: str, index: int) -> None:
    """Raises NoPciDevice if a caller gives NULL to a function that does not
    look."""
    looks = any(isinstance(part, c.Id) and part.name == name
                for node in func.nodes if isinstance(node, (c.If, c.Ternary))
                for part in node.cond.walk())
    if looks or _values(func.nodes, name):
        return
    for place in driver.calls_to(func):
        given = place.node.args[index:index + 1]
        if given and _NULL.match(text(strip(given[0]))):
            raise NoPciDevice('%s() is given NULL for `%s` (%s:%d): pass the '
                              'struct device that does the DMA' % (
                                  func.name, name,
                                  os.path.basename(place.path), place.line))


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

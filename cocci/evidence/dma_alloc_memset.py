# SPDX-License-Identifier: GPL-2.0-only
"""Finds memory that is zeroed by hand although it is, or could come, zeroed.

Only a memset() that nothing but the test of the allocation stands before
counts: one that empties a buffer which was in use has a purpose.
"""
from __future__ import annotations

from typing import Iterator

from . import checks
from . import cparse as c
from . import dmacalls
from .driver import Driver, Place, strip, text
from .plan import Note, Unit
from .report import Step
from .resources import is_log
from .sources import said

#: Since Linux 5.0 these give zeroed memory.
_ZEROED = frozenset(('dma_alloc_coherent', 'dma_alloc_attrs', 'dma_alloc_wc',
                     'dmam_alloc_coherent', 'dmam_alloc_attrs',
                     'dma_pool_zalloc'))
_POOL = 'dma_pool_alloc'


def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
    """A unit for each memset() that is not needed."""
    units = []
    for func in driver.functions_with('memset'):
        if func.words.isdisjoint((*_ZEROED, _POOL)):
            continue
        for call in func.calls():
            if call.name in _ZEROED or call.name == _POOL:
                units += [Unit(notes=[n]) for n in _notes(func, call)]
    return units


def _notes(func: c.Function, call: c.Call) -> Iterator[Note]:
    """What there is to say of the memset() behind one allocation."""
    site = checks.site_of(func, call)
    names = {text(strip(t)) for t in site.targets}
    if not names or site.shape not in ('assign', 'init', 'condition') \
            and not isinstance(site.stmt, c.If):
        return
    if call.name == _POOL and any(
            isinstance(n, c.Id) and n.name == '__GFP_ZERO'
            for n in call.args[1].walk()):
        where = 'gives zeroed memory with __GFP_ZERO'
    elif call.name == _POOL:
        where = ''
    else:
        where = 'gives zeroed memory'
    zeroing = _behind(func, site.stmt, names)
    if zeroing is None:
        return
    place = Place(func.path, func, call)
    message = 'memset() of what %s has just allocated: that %s; drop the ' \
        'memset()' % (said([place]), where) if where else \
        'memset() of what %s has just allocated: dma_pool_zalloc() gives ' \
        'zeroed memory' % said([place])
    yield Note('finding', func.path, zeroing.first, func.name, message, 'note',
               [Step(func.path, call.first.line, '%s() allocates it'
                     % call.name)])


def _behind(func: c.Function, stmt: c.Stmt | None,
            names: set[str]) -> c.Call | None:
    """A memset(p, 0, ...) right behind an allocation of p."""
    up = checks.parents(func)
    block = up.of(stmt) if stmt is not None else None
    if not isinstance(block, c.Block):
        return None
    index = next(i for i, s in enumerate(block.body) if s is stmt)
    for after in block.body[index + 1:]:
        found = _clears(after, names)
        if found is not None:
            return found
        if isinstance(after, c.If) and after.other is None \
                and _asks(after.cond, names):
            first = after.then.body[:1] if isinstance(after.then, c.Block) \
                else [after.then]
            found = _clears(first[0], names) if first else None
            if found is not None:
                return found
            if checks.ends_in_jump(after.then):
                continue
            return None
        if not _leaves_alone(after, names):
            return None
    return None


def _clears(stmt: c.Stmt, names: set[str]) -> c.Call | None:
    call = strip(stmt.expr) if isinstance(stmt, c.ExprStmt) else None
    if isinstance(call, c.Call) and call.name == 'memset' \
            and len(call.args) == 3 and text(strip(call.args[0])) in names \
            and text(strip(call.args[1])) in ('0', '0x0', '0x00'):
        return call
    return None


def _asks(cond: c.Expr, names: set[str]) -> bool:
    """Does a condition look at the pointer, without a call but unlikely()?"""
    return any(isinstance(n, c.Expr) and text(n) in names
               for n in cond.walk()) and all(
        not isinstance(n, (c.Assign, c.Call)) or isinstance(n, c.Call)
        and n.name in ('likely', 'unlikely', 'WARN_ON', 'WARN_ON_ONCE')
        for n in cond.walk())


def _leaves_alone(stmt: c.Stmt, names: set[str]) -> bool:
    """Does a statement neither write to the memory nor change the pointer?

    An assignment of something else, a message, or another allocation.
    """
    if isinstance(stmt, c.If):
        return checks.ends_in_jump(stmt.then) and stmt.other is None \
            and not any(isinstance(n, c.Call) and not is_log(n.name)
                        and n.name not in dmacalls.ALLOCS
                        for n in stmt.cond.walk())
    if not isinstance(stmt, (c.ExprStmt, c.Decl)):
        return False
    for node in stmt.walk():
        if isinstance(node, c.Call) and not is_log(node.name) \
                and node.name not in dmacalls.ALLOCS \
                and node.name != 'memset':
            return False
        if isinstance(node, (c.Assign, c.Unary)) and (
                not isinstance(node, c.Unary)
                or node.op in ('++', '--', 'p++', 'p--', '&')):
            left = node.left if isinstance(node, c.Assign) else node.arg
            if any(isinstance(n, c.Expr) and text(n) in names
                   for n in left.walk()):
                return False
    return True

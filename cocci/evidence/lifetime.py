# SPDX-License-Identifier: GPL-2.0-only
"""Fields that every object of a struct has from its birth.

An object that one function allocates, and gives away only after it has set a
field, has that field wherever else it is seen.
"""
from __future__ import annotations

import re

from . import cparse as c
from .checks import graph, parents
from .driver import Driver, Object, strip, text
from .pointer import RELEASE
from .reach import Definitions, is_null

#: Names of functions that may give a new object.
_MAKES = re.compile(r'alloc|dup|priv$|priv_|create|_objs?$|page')


def born_with(driver: Driver, definitions: Definitions, field: Object,
              func: c.Function) -> bool:
    """Is the field set in every object that `func` may see?

    False as well where the object is not allocated by one function of the
    driver, or where that is `func` itself.
    """
    values = definitions.of(field)
    if len(values) != 1 or is_null(values[0][0]) \
            or definitions.addresses(field) or _embedded(driver, field.owner):
        return False
    place = values[0][1]
    birth = place.function
    if birth is None or birth is func or not isinstance(place.node, c.Assign):
        return False
    target = strip(place.node.left)
    owner = strip(target.base) if isinstance(target, c.Member) else None
    if not isinstance(owner, c.Id) or owner.name not in birth.locals:
        return False
    return _births(driver, field.owner) == {(birth.path, birth.name,
                                             owner.name)} \
        and _kept_until(birth, owner.name, place.node)


def _births(driver: Driver, tag: str) -> set[tuple[str, str, str]]:
    """Where objects are allocated: path, function, variable (or '')."""
    out: set[tuple[str, str, str]] = set()
    for func in (f for s in driver.files for f in s.all_functions()):
        if not any(map(_MAKES.search, func.words)):
            continue
        for call in func.calls():
            if not _MAKES.search(call.name):
                continue
            name, kind, kept = '', None, False
            for up in parents(func).chain(call):
                if isinstance(up, c.Assign):
                    kind, name = driver.type_of(up.left, func), text(up.left)
                    kept = True
                elif isinstance(up, c.Variable):
                    kind, name = driver.expand(up.type), up.name
                elif isinstance(up, c.Return):
                    kind, kept = driver.expand(func.returns), True
                elif not isinstance(up, (c.Paren, c.Cast)):
                    break
            if kind is None and kept or kind and kind.base == tag:
                out.add((func.path, func.name, name))
    return out


def _embedded(driver: Driver, tag: str) -> bool:
    """Is an object of the struct part of something else, or static?"""
    variables = [v for source in driver.files for v in (
        *source.globals.values(),
        *(f for s in source.structs.values() for f in s.fields.values()),
        *(v for f in source.all_functions() for v in f.locals.values()))]
    return any(not kind.pointers and kind.base == tag
               for kind in map(lambda v: driver.expand(v.type), variables))


def _kept_until(func: c.Function, name: str, setting: c.Node) -> bool:
    """Does nobody else get the variable before the field is set?"""
    steps = graph(func)
    dominators = steps.dominators()
    first = steps.step_of(setting)
    above = parents(func)
    for node in func.body.walk():
        if not isinstance(node, c.Id) or node.name != name:
            continue
        up = above.of(node)
        while isinstance(up, (c.Paren, c.Cast)):
            node, up = up, above.of(up)
        if isinstance(up, (c.Member, c.Sizeof, c.If)) \
                or isinstance(up, c.Unary) and up.op in ('!', '*') \
                or isinstance(up, c.Binary) \
                or isinstance(up, c.Assign) and up.left is node \
                or isinstance(up, c.Call) and up.name in RELEASE:
            continue
        here = steps.step_of(node)
        if first is None or here is None \
                or id(first) not in dominators.get(id(here), ()):
            return False
    return True

# SPDX-License-Identifier: GPL-2.0-only
"""A helper that is always given the same buffer, in its own words.

When every caller of `write_base(card, p)` passes `card->ring`, then `p` is
`card->ring` in the helper too, whatever the callers call the card.
"""
from __future__ import annotations

from . import cparse as c
from .address import Locator, NoBuffer
from .alias import assigned, changes
from .checks import graph
from .driver import Driver, Place, strip, text
from .reach import Definitions

_MANY = 6               # callers that a message lists


class _Elsewhere(NoBuffer):
    """A caller passes memory that cannot be converted anyway."""


class Helpers:
    """Looks from the parameters of functions at what callers pass."""

    def __init__(self, driver: Driver, definitions: Definitions,
                 locator: Locator):
        self.driver, self.definitions = driver, definitions
        self.locator = locator

    def lift(self, base: c.Id, func: c.Function,
             seen: frozenset[str] = frozenset()) -> c.Expr:
        """What a parameter is; NoBuffer says why that is not known."""
        calls = self.driver.calls_to(func)
        index = next(i for i, p in enumerate(func.params)
                     if p.name == base.name)
        if func.name in seen or not calls or self._hidden(func):
            raise self._unknown(func, calls, index, '')
        lifted: dict[str, c.Expr] = {}
        for place in calls:
            try:
                found = self._argument(place, index, func, seen)
            except _Elsewhere:
                raise
            except NoBuffer as exc:
                raise self._unknown(func, calls, index, str(exc)) from None
            lifted[text(found)] = found
        if len(lifted) != 1 or assigned(self.driver, base.name, func):
            raise self._unknown(func, calls, index, '')
        whole = lifted.popitem()[1]
        if changes(self.driver, self.definitions, whole, func,
                   graph(func).steps, base):
            raise self._unknown(func, calls, index, '`%s` is set in it'
                                % text(whole))
        return whole

    def _argument(self, place: Place, index: int, func: c.Function,
                  seen: frozenset[str]) -> c.Expr:
        """The buffer that one caller passes, as the helper can name it."""
        args, caller = place.node.args, place.function
        if len(args) != len(func.params):
            raise NoBuffer('')
        try:
            at = self.locator.locate(args[index], caller)
        except NoBuffer as exc:
            raise _Elsewhere('%s() is given `%s` at %s: %s' % (
                func.name, text(args[index]), place, exc)) from None
        if at.terms:
            raise NoBuffer('a place inside of `%s` is passed' % text(at.base))
        core = strip(at.base)
        if isinstance(core, c.Id) and any(p.name == core.name
                                          for p in caller.params):
            core = self.lift(core, caller, seen | {func.name})
        given = [(param, arg) for i, (param, arg) in enumerate(
            zip(func.params, args)) if i != index
                 and not assigned(self.driver, param.name, func)]
        return self._named(core, given, func, caller)

    def _named(self, expr: c.Expr, given: list[tuple[c.Variable, c.Expr]],
               func: c.Function, caller: c.Function) -> c.Expr:
        """A caller's lvalue, in terms of the helper's parameters."""
        token = func.name_token
        for param, arg in given:
            if text(arg) == text(expr):
                return c.Id(token, token, param.name)
        if isinstance(expr, c.Member):
            for param, arg in given:
                if not expr.arrow and text(arg) == '&' + text(expr.base):
                    return c.Member(token, token, c.Id(
                        token, token, param.name), True, expr.name)
            return c.Member(token, token, self._named(
                expr.base, given, func, caller), expr.arrow, expr.name)
        if isinstance(expr, c.Paren):
            return self._named(expr.inner, given, func, caller)
        if isinstance(expr, c.Id):
            found = self.driver.object_of(expr, caller)
            var = self.driver.variable(expr.name)
            if found is not None and found.kind == 'global' \
                    and var is not None and expr.name not in func.locals \
                    and (not var.static or caller.path == func.path):
                return c.Id(token, token, expr.name)
        raise NoBuffer('no parameter of %s() leads to `%s`'
                       % (func.name, text(expr)))

    def _hidden(self, func: c.Function) -> bool:
        """May it be called from where nothing is seen?"""
        return any(True for _ in self.driver.direct_roots(func)) or any(
            tok.text == func.name for source in self.driver.files_naming(
                func.name) for tok in source.dead)

    def _unknown(self, func: c.Function, calls: list[Place], index: int,
                 why: str) -> NoBuffer:
        given = ['`%s` at %s' % (text(p.node.args[index]), p) for p in calls
                 if index < len(p.node.args)]
        if len(given) > _MANY:
            given[_MANY:] = ['%d more' % (len(given) - _MANY)]
        return NoBuffer(
            'the address of a parameter of %s() is taken%s%s: pass the handle '
            'along with the pointer'
            % (func.name, ' (called with %s)' % ', '.join(given)
               if given else '', why and ', and ' + why))

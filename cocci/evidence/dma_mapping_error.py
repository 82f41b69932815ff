# SPDX-License-Identifier: GPL-2.0-only
"""Decides which mappings get a check, and which check.

checks.py finds the mappings whose handle nobody tests, unwind.py builds the
way out; here both become edits, or a refusal that says what is held.
"""
from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from . import checks
from . import cparse as c
from . import pcidevice
from .driver import Driver, strip, text
from .plan import Addition, Edit, Unit
from .exits import Unwinder
from .resources import Refused
from .unwind import Builder, NewExit

#: Types that hold every handle.
_WIDE = frozenset('dma_addr_t u64 __u64 uint64_t'.split())


def decide(driver: Driver, options: frozenset[str]) -> list[Unit]:
    units: list[Unit] = []
    seen: set[tuple[str, int]] = set()
    for site in checks.sites(driver, checks.MAPS):
        at = site.function.path, site.call.first.start
        if at not in seen:
            seen.add(at)
            units += _Decision(driver, site).units()
    return units + _unparsed(driver)


def _unparsed(driver: Driver) -> list[Unit]:
    """Mappings in functions and macros that cannot be looked into."""
    units = []
    for func in driver.functions_with(*sorted(checks.MAPS)):
        if func.body is None:
            unit = Unit()
            unit.refuse(func.path, func.name_token, func.name,
                        '%s() maps memory and could not be parsed (%s)'
                        % (func.name, func.error))
            units.append(unit)
    return units + list(in_macros(driver, checks.MAPS))


def in_macros(driver: Driver, names: Collection[str]) -> Iterator[Unit]:
    """Mappings in the bodies of macros, where no check can be inserted."""
    calls = re.compile(r'\b(%s)\s*\(' % '|'.join(sorted(names)))
    for source in driver.files_with(*sorted(names)):
        for macro in source.macros.values():
            found = calls.search(macro.body)
            if found and macro.name not in names \
                    and not checks.TEST.search(macro.body):
                at = next((t for t in source.raw if t.kind == 'pp'
                           and t.line == macro.line), source.raw[0])
                unit = Unit()
                unit.refuse(source.path, at, macro.name,
                            '%s() is called in the body of macro %s, where no '
                            'check is inserted' % (found.group(1), macro.name))
                yield unit


class _Decision:
    """One mapping."""

    def __init__(self, driver: Driver, site: checks.Site):
        self.driver, self.site = driver, site
        self.func, self.call = site.function, site.call
        self.unit = Unit()

    def units(self) -> list[Unit]:
        for verdict in checks.verdict(self.driver, self.site):
            getattr(self, '_' + verdict.kind)(verdict)
        return [self.unit] if self.unit.edits or self.unit.notes else []

    # -- one method a verdict

    def _checked(self, verdict: checks.Verdict) -> None:
        pass

    def _outside(self, verdict: checks.Verdict) -> None:
        self._say('finding', 'the handle is returned to callers outside of '
                  'this driver, which have to test it', 'note')

    def _lost(self, verdict: checks.Verdict) -> None:
        self._refuse('the result of %s() is thrown away: it can be neither '
                     'tested nor unmapped' % self.call.name)

    def _caller(self, verdict: checks.Verdict) -> None:
        place = verdict.place
        unit_call = place.node
        self.unit.refuse(
            place.path, unit_call.first, place.function.name,
            '%s() returns the handle of a mapping, which is used without '
            'dma_mapping_error()' % unit_call.name)

    def _idle(self, verdict: checks.Verdict) -> None:
        self._refuse('line %d tests the handle, but the device gets it all the '
                     'same' % verdict.place.line)

    def _late(self, verdict: checks.Verdict) -> None:
        self._refuse('the device gets the handle in line %d, before it is '
                     'tested' % verdict.place.line)

    def _wrong(self, verdict: checks.Verdict) -> None:
        test = verdict.place.node
        replaced = self._exact_test(test)
        try:
            device = self._device()
        except Refused as why:
            self._refuse(str(why))
            return
        if replaced is None:
            self._refuse('the handle is tested with `%s` (line %d), which does '
                         'not tell failure: use dma_mapping_error()'
                         % (text(test), test.first.line))
            return
        self.unit.edits.append(Edit(
            'test', self.func.path, replaced.first, self.func.name,
            ('`%s` is no test that CONFIG_DMA_API_DEBUG knows: use '
             'dma_mapping_error()' if 'DMA_MAPPING_ERROR' in text(test) else
             '`%s` does not tell that a mapping failed: use '
             'dma_mapping_error()') % text(test),
            {'dev': device, 'handle': text(replaced, True),
             'action': ';', 'name': 'dma'}))

    def _exact_test(self, test: c.Expr) -> c.Expr | None:
        """The handle in a test that is true exactly if the map is meant to
        have failed, and that follows the map without a branch."""
        above = checks.parents(self.func)
        guard = above.statement(test)
        block = above.of(guard)
        if not isinstance(guard, c.If) or guard.other \
                or not isinstance(block, c.Block) \
                or above.of(self.site.stmt) is not block:
            return None
        start = next(i for i, s in enumerate(block.body)
                     if s is self.site.stmt)
        end = next(i for i, s in enumerate(block.body) if s is guard)
        if any(not isinstance(s, c.ExprStmt)
               for s in block.body[start + 1:end]):
            return None
        if isinstance(test, c.Unary) and test.op == '!':
            return test.arg
        if isinstance(test, c.Binary) and test.op == '==':
            names = {text(t) for t in self.site.targets}
            return test.left if text(strip(test.left)) in names else None
        return None

    def _unchecked(self, verdict: checks.Verdict) -> None:
        try:
            self._insert()
        except Refused as why:
            self._refuse('the handle of %s() is not tested%s; no check is '
                         'inserted: %s' % (self.call.name, self._instead(),
                                           why))

    def _instead(self) -> str:
        """What is tested by mistake, in words; ''."""
        test = checks.mistaken(self.site)
        return '' if test is None else ' (line %d tests `%s` instead)' % (
            test.first.line, text(test.args[1]))

    # -- insertion

    def _insert(self) -> None:
        shape, stmt = self.site.shape, self.site.stmt
        above = checks.parents(self.func).of(stmt)
        if isinstance(above, c.If) and above.other is not None:
            raise Refused('the mapping is a branch without braces of an if '
                          'with an else')
        if shape == 'condition':
            raise Refused('the mapping is part of a condition')
        if shape == 'init':
            self._init()
        elif shape == 'assign' and isinstance(stmt, c.ExprStmt):
            handle = self._handle()
            if handle is None:
                self._split()
            else:
                self._edit('check', self._action(), text(handle, True))
        elif shape in ('nested', 'argument') and isinstance(stmt, c.ExprStmt):
            self._split()
        else:
            raise Refused('the mapping is in a place where a check has no '
                          'room')

    def _handle(self) -> c.Expr | None:
        """A target that takes the whole handle, None when it is cut."""
        for target in self.site.targets:
            if self._holds_all(target):
                return target
        return None

    def _holds_all(self, target: c.Expr) -> bool:
        plain = strip(target)
        if any(isinstance(x, c.Unary) and x.op.strip('p') in ('++', '--')
               for x in plain.walk()):
            return False
        kind = self.driver.type_of(target, self.func)
        if kind is None and isinstance(plain, c.Member):
            # a struct of the kernel's own: its field for a handle is wide
            return 'dma' in plain.name
        return kind is not None and not kind.pointers and kind.base in _WIDE

    def _action(self) -> str:
        names = [text(strip(t)) for t in self.site.targets + self.site.copies]
        unwinder = Unwinder(self.driver, self.func)
        builder = Builder(unwinder, self.site.stmt, names, 'mapping')
        found = builder.build()
        return NewExit(self._forgotten(builder.goes_on or builder.forget_handle)
                       + found.lines).code

    def _forgotten(self, goes_on: bool) -> list[str]:
        """A field that elsewhere is 0 when nothing is mapped is so here."""
        out = []
        for target in self.site.targets:
            name = text(strip(target))
            unwinder = Unwinder(self.driver, self.func)
            if unwinder.asked_for(name, goes_on) \
                    or unwinder.unmapped_if_set(name) \
                    or target is self._handle() and unwinder.cleared(name):
                out.append('%s = 0;' % text(target, True))
        return out + ['%s = 0;' % text(place, True)
                      for place in self._later_fields()
                      if unwinder.unmapped_if_set(text(strip(place)))]

    def _later_fields(self) -> Iterator[c.Expr]:
        """The fields that get the handle further on: they may have an old one
        when it fails."""
        block = checks.parents(self.func).of(self.site.stmt)
        names = {text(strip(t)) for t in self.site.targets}
        changed: set[str] = set()
        for stmt in block.body if isinstance(block, c.Block) else ():
            if stmt.first.start < self.site.stmt.last.end:
                continue
            if not isinstance(stmt, c.ExprStmt):
                return
            expr = stmt.expr
            if isinstance(expr, c.Assign):
                words = {x.name for x in expr.left.walk()
                         if isinstance(x, c.Id)}
                if expr.op == '=' and text(strip(expr.right)) in names \
                        and isinstance(strip(expr.left), c.Member) \
                        and not words & changed:
                    yield expr.left
                changed.add(text(strip(expr.left)))

    def _edit(self, kind: str, action: str, handle: str, **more: str) -> None:
        self.unit.edits.append(Edit(
            kind, self.func.path, self.call.first, self.func.name,
            'the handle of %s() is not tested%s' % (self.call.name,
                                                    self._instead()),
            {'dev': self._device(), 'handle': handle, 'action': action,
             'name': 'dma', **more}))

    def _init(self) -> None:
        block = checks.parents(self.func).of(self.site.stmt)
        var = self.site.variable
        if isinstance(block, c.Block) and isinstance(self.site.stmt, c.Decl):
            index = next(i for i, s in enumerate(block.body)
                         if s is self.site.stmt)
            if len(self.site.stmt.variables) == 1 and not any(
                    isinstance(s, c.Decl) for s in block.body[index + 1:]) \
                    and var.type.base in _WIDE and not var.type.pointers:
                self._edit('init', self._action(), var.name)
                return
        raise Refused('the mapping initialises a variable with more '
                      'declarations behind it, and a check cannot stand '
                      'between them')

    def _split(self) -> None:
        stmt = self.site.stmt
        inside = {id(x) for x in self.call.walk()}
        for node in stmt.walk():
            if id(node) in inside:
                continue
            if isinstance(node, c.Unary) and node.op.strip('p') in ('++', '--'):
                raise Refused('`%s` in the same statement' % text(node))
            if isinstance(node, c.Ternary):
                raise Refused('the mapping is one branch of a ?: expression')
        if len(self.driver.definitions(self.func.name)) > 1:
            raise Refused('the driver has several functions called %s(): SmPL '
                          'would declare the handle in each' % self.func.name)
        name = self._new_name()
        beside = self._declaration()
        self._edit('split', self._action(), name, name=name)
        self.unit.additions += [
            Addition(('local', self.func.name, beside), self.func.path,
                     {'name': name}),
            Addition(('function' if beside else 'bare', self.func.name),
                     self.func.path)]

    def _declaration(self) -> str:
        """The variable behind whose declaration a new one can stand; '' if the
        function has none at all."""
        if not any(isinstance(x, c.Decl) for x in self.func.body.body):
            return ''
        names = [v.name for n in self.func.body.walk()
                 if isinstance(n, c.Decl) for v in n.variables]
        for stmt in reversed(self.func.body.body):
            if isinstance(stmt, c.Decl) and len(stmt.variables) == 1:
                var = stmt.variables[0]
                if not var.type.dims and not var.static \
                        and not var.function and names.count(var.name) == 1 \
                        and var.type.base not in ('struct', 'union'):
                    return var.name
        raise Refused('%s() has no declaration behind which the handle could '
                      'be declared' % self.func.name)

    def _new_name(self) -> str:
        for name in ('dma', 'mapping', 'dma_addr', 'dma_handle', 'map_addr'):
            if name not in self.func.words and name not in self.func.locals \
                    and not self.driver.macro(name):
                return name
        raise Refused('no name is free for the handle')

    def _device(self) -> str:
        device = self.call.args[0]
        if not self.call.name.startswith('pci_'):
            return text(device, True)
        written = self.driver.file(self.func.path).source(device)
        try:
            return pcidevice.device(self.driver, self.func, device, written)
        except pcidevice.NoPciDevice as why:
            raise Refused(str(why)) from None

    # -- messages

    def _say(self, kind: str, message: str, severity: str) -> None:
        from .plan import Note
        self.unit.notes.append(Note(kind, self.func.path, self.call.first,
                                    self.func.name, message, severity))

    def _refuse(self, message: str) -> None:
        self.unit.refuse(self.func.path, self.call.first, self.func.name,
                         message)

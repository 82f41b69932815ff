# SPDX-License-Identifier: GPL-2.0-only
"""Decides where two calls that set a mask are one, and which need not be.

A region is a run of statements with the calls that belong together.
`maskfold` proposes how it may read, `maskrun` runs both forms in all worlds:
only what does the same in each of them is converted.
"""
from __future__ import annotations

import re
from typing import Iterator, NamedTuple

from . import cparse as c
from . import maskcall
from .checks import ends_in_jump, graph, parents
from .driver import Driver, strip, text
from .flow import Step
from .labels import pure
from .maskfold import Fold, Printer, body, is_message, results
from .maskrun import FAILED, Machine, Unsure, agree
from .dmamask import bits
from .plan import Addition, Edit, Note, Unit
from .report import Step as Evidence

#: How a statement is rewritten, by the number of those that it becomes.
_FORMS = ('drop', 'one', 'two', 'three', 'four')
_NEAR = 3               # statements that may stand between two attempts


def decide(driver: Driver, options: frozenset[str]) -> list[Unit]:
    units: list[Unit] = []
    for func in driver.functions_with(*maskcall.SETTERS):
        if func.name in maskcall.SETTERS:
            continue
        if func.body is None:
            if _kinds(func.words) >= {'s', 'c'}:
                unit = Unit()
                unit.refuse(func.path, func.name_token, func.name,
                            '%s() sets both DMA masks and could not be parsed '
                            '(%s)' % (func.name, func.error))
                units.append(unit)
            continue
        units += [region.unit() for region in _regions(driver, func)]
    return [u for u in units if u.edits or u.notes] + list(_in_macros(driver))


def fallbacks(driver: Driver) -> Iterator[Note]:
    """What there is to say of attempts in vain that are not converted."""
    for func in driver.functions_with(*maskcall.SETTERS):
        if func.name not in maskcall.SETTERS and func.body is not None:
            for region in _regions(driver, func):
                region.unit()
                yield from region.left


def _regions(driver: Driver, func: c.Function) -> Iterator['_Region']:
    for run in _runs(driver, func):
        yield _Region(driver, func, *run)


def _kinds(words: frozenset[str]) -> set[str]:
    return {maskcall.SETTERS[word] for word in words
            if word in maskcall.SETTERS}


def _in_macros(driver: Driver) -> Iterator[Unit]:
    """Pairs in the bodies of macros, which are left alone."""
    for source in driver.files_with(*maskcall.SETTERS):
        for macro in source.macros.values():
            found = frozenset(re.findall(r'\w+', macro.body))
            if _kinds(found) >= {'s', 'c'}:
                at = next(t for t in source.raw if t.kind == 'pp'
                          and t.line == macro.line)
                unit = Unit()
                unit.refuse(source.path, at, macro.name,
                            'macro %s sets both DMA masks: make it a function '
                            'first, or use dma_set_mask_and_coherent() in it'
                            % macro.name)
                yield unit


# ------------------------------------------------------------------ regions

class _Pair(NamedTuple):
    """Two calls for one device: of one mask, or a second try of a narrower
    one."""

    first: c.Call
    second: c.Call
    equal: bool


_Span = tuple[c.Block, int, int]        # statements [from, to] of a block


def _pairs(driver: Driver, func: c.Function) -> list[_Pair]:
    """The calls that may belong together, in source order."""
    calls = [call for call in func.calls() if maskcall.setter(call)]
    out: list[_Pair] = []
    open_calls: list[c.Call] = []
    for call in calls:
        key = _key(driver, func, call)
        for other in reversed(open_calls):
            if _key(driver, func, other) == key and {
                    maskcall.setter(call), maskcall.setter(other)} == {
                        's', 'c'} and not _changes(func, other, call):
                open_calls.remove(other)
                out.append(_Pair(other, call, True))
                break
        else:
            open_calls.append(call)
    for at, two in enumerate(calls):
        one = next((call for call in reversed(calls[:at])
                    if set(maskcall.setter(call)) & set(maskcall.setter(two))
                    and _key(driver, func, call)[0]
                    == _key(driver, func, two)[0]), None)
        if one is None:
            continue
        wide, narrow = (bits(driver, text(strip(call.args[1])))
                        for call in (one, two))
        if wide is not None and narrow is not None and narrow < wide:
            out.append(_Pair(one, two, False))
    return out


def _changes(func: c.Function, one: c.Call, two: c.Call) -> bool:
    """Is a variable of the mask set anew between two calls?  Then it is
    another mask, and meant to be."""
    names = {n.name for n in one.args[1].walk() if isinstance(n, c.Id)}
    return any(isinstance(n, c.Assign) and text(n.left) in names
               and one.last.end <= n.first.start < two.first.start
               for n in func.nodes)


def _key(driver: Driver, func: c.Function, call: c.Call) -> tuple[str, str]:
    return (maskcall.same_device(driver, func, call),
            text(strip(call.args[1])))


def _runs(driver: Driver, func: c.Function
          ) -> list[tuple[c.Block, int, int, list[_Pair]]]:
    """The statements [from, to] of a block that hold pairs, outermost."""
    spans: list[tuple[c.Block, int, int, list[_Pair]]] = []
    for pair in _pairs(driver, func):
        found = _around(func, pair)
        if found is None or not pair.equal and found[2] - found[1] > _NEAR:
            continue
        span, group = _with_tests(*found), [pair]
        while other := next((s for s in spans if _overlap(span, s[:3])), None):
            spans.remove(other)
            group = other[3] + group
            span = _with_tests(*_union(span, other[:3]))
        spans.append((*span, group))
    return spans


def _around(func: c.Function, pair: _Pair) -> _Span | None:
    """The innermost block that holds both, and where they stand in it."""
    up = parents(func)
    above = {id(node): node for node in (pair.first, *up.chain(pair.first))}
    for node in (pair.second, *up.chain(pair.second)):
        if id(node) in above and isinstance(node, c.Block):
            def index(call: c.Call, block: c.Block = node) -> int:
                return next(i for i, stmt in enumerate(block.body)
                            if stmt.first.start <= call.first.start
                            and call.last.end <= stmt.last.end)
            return node, index(pair.first), index(pair.second)
    return None


def _extent(span: _Span) -> tuple[int, int]:
    block, start, end = span
    return block.body[start].first.start, block.body[end].last.end


def _overlap(one: _Span, two: _Span) -> bool:
    (a, b), (x, y) = _extent(one), _extent(two)
    return a < y and x < b


def _union(one: _Span, two: _Span) -> _Span:
    if one[0] is two[0]:
        return one[0], min(one[1], two[1]), max(one[2], two[2])
    (a, b), (x, y) = _extent(one), _extent(two)
    return one if a <= x and y <= b else two


def _with_tests(block: c.Block, start: int, end: int) -> _Span:
    """Take along the tests of the result that follow."""
    names = set(results(block.body[start:end + 1]))
    while end + 1 < len(block.body):
        stmt = block.body[end + 1]
        if not isinstance(stmt, c.If) or not any(
                isinstance(n, c.Id) and n.name in names
                for n in stmt.cond.walk()) or not _is_about(stmt.cond, names):
            break
        end += 1
    return block, start, end


def _is_about(cond: c.Expr, names: set[str]) -> bool:
    """Is it about these variables alone?"""
    return all(not isinstance(n, (c.Call, c.Assign))
               or isinstance(n, c.Call) and n.name in ('likely', 'unlikely')
               for n in cond.walk()) and all(
                   n.name in names | {'likely', 'unlikely'}
                   for n in cond.walk() if isinstance(n, c.Id))


# ----------------------------------------------------------------- decision

class _Region:
    """One run of statements, and what becomes of it."""

    def __init__(self, driver: Driver, func: c.Function, block: c.Block,
                 start: int, end: int, pairs: list[_Pair]):
        self.driver, self.func, self.block = driver, func, block
        self.start = start
        self.stmts = block.body[start:end + 1]
        self.equal = [p for p in pairs if p.equal]
        self.narrower = [p for p in pairs if not p.equal]
        self.why: tuple[str, c.Node | None] = ('', None)
        self.left: list[Note] = []      # attempts in vain that stay

    def unit(self) -> Unit:
        """What is converted or said; empty where there is nothing to say."""
        unit = Unit()
        try:
            self._check_text()
            machine = Machine(self.driver, self.func, self._before())
            self._only_pairs(Machine(self.driver, self.func, machine.start(),
                                     ordered=False))
            found = False
            for fold in self._proposals(machine):
                found = True
                if self._taken(unit, fold):
                    return unit
            if self.equal and not found:
                self._blame_device()
        except Unsure as unsure:
            self._because(unsure)
        self._refuse(unit)
        return unit

    def _blame_device(self) -> None:
        """Would it do, if the device had a dma_mask for certain?"""
        trusting = Machine(self.driver, self.func, self._before(),
                           trusting=True)
        why = self.why
        if next(self._proposals(trusting), None) is None:
            self.why = why
            return
        pair = self.equal[0]
        self.why = 'it is not known that the dma_mask of %s is set; where it ' \
            'is not, %s() fails and %s() does not' % ((maskcall.device(
                self.driver, self.func, pair.first).text,) + tuple(
                    sorted((pair.first.name, pair.second.name),
                           key=lambda n: maskcall.SETTERS[n] != 's'))), None

    def _only_pairs(self, machine: Machine) -> None:
        """Forget what are no pairs: calls of two ways through the code, and
        a mask for coherent memory that goes with different masks."""
        together: set[tuple[int, int]] = set()
        apart: set[int] = set()
        for _, _, seen in machine.worlds(self.stmts):
            together |= {(id(p.first), id(p.second)) for p in self.equal
                         if id(p.first) in seen.values
                         and id(p.second) in seen.values}
            apart |= seen.apart
        self.equal = [p for p in self.equal
                      if (id(p.first), id(p.second)) in together
                      and not apart & {id(p.first), id(p.second)}]

    def _because(self, unsure: Unsure) -> None:
        if not self.why[0]:
            self.why = unsure.reason, unsure.node

    def _check_text(self) -> None:
        first, last = self.stmts[0].first.start, self.stmts[-1].last.end
        for tok in self.driver.file(self.func.path).raw:
            if tok.kind == 'pp' and first < tok.start < last:
                raise Unsure('a directive of the preprocessor stands in '
                             'between (line %d)' % tok.line)

    def _refuse(self, unit: Unit) -> None:
        reason, node = self.why
        if node is not None and str(node.first.line) not in reason:
            reason += ' (line %d)' % node.first.line
        for pair in self.equal:
            unit.refuse(
                self.func.path, pair.first.first, self.func.name,
                '%s() and %s() (line %d) set the same mask, but are not '
                'merged: %s' % (pair.first.name, pair.second.name,
                                pair.second.first.line, reason))
        if not self.equal:
            self._fallbacks(self.stmts, reason)

    # -- what is known

    def _before(self) -> dict[str, str]:
        """Values of local variables where the region begins."""
        known: dict[str, str] = {}
        lost: set[str] = set()
        for stmt in reversed(self.block.body[:self.start]):
            if isinstance(stmt, c.If) and stmt.other is None \
                    and ends_in_jump(stmt.then):
                if any(isinstance(n, (c.Assign, c.Unary)) and (
                        isinstance(n, c.Assign) or n.op in (
                            '++', '--', 'p++', 'p--'))
                       for n in stmt.cond.walk()):
                    break
                name = _nonzero(stmt.cond)
                if name and name not in lost:
                    known.setdefault(name, '0')
            elif isinstance(stmt, c.ExprStmt):
                expr = stmt.expr
                if isinstance(expr, c.Assign) and expr.op == '=' \
                        and isinstance(expr.left, c.Id):
                    name = expr.left.name
                    if name not in lost | set(known) and _constant(expr.right):
                        known[name] = text(strip(expr.right))
                    lost.add(name)
                elif any(isinstance(n, (c.Assign, c.Unary)) and (
                        isinstance(n, c.Assign) or n.op in (
                            '++', '--', 'p++', 'p--'))
                         for n in expr.walk()):
                    break
            else:
                break
        return {name: value for name, value in known.items()
                if name in self.func.locals}

    # -- proposals

    def _proposals(self, machine: Machine) -> Iterator[Fold]:
        """What may stand there instead and does the same; best first."""
        names = results(self.stmts)
        tries = [(self.equal, True), (self.equal, False)]
        if len(self.equal) > 1:
            tries += [([pair], failures) for pair in self.equal
                      for failures in (True, False)]
        loose = Machine(self.driver, self.func, machine.start(),
                        ordered=False, trusting=machine.trusting)
        for pairs, failures in tries:
            if not pairs and not failures:
                continue
            for name in (*names, ''):
                fold = self._try(machine if failures else loose, pairs,
                                 failures, name)
                if fold is not None:
                    yield fold

    def _try(self, machine: Machine, pairs: list[_Pair], failures: bool,
             name: str) -> Fold | None:
        try:
            fold = Fold(machine, self.stmts, [p.first for p in pairs],
                        failures, name)
            left = {id(n) for s in fold.stmts for n in s.walk()}
            if any(id(p.second) in left for p in pairs):
                raise Unsure('the second call does something that the first '
                             'does not')
            if self._calls(fold.stmts) >= self._calls(self.stmts):
                return None
            why = agree(machine, self.stmts, fold.stmts, self._live)
            if why:
                raise Unsure(why)
            if fold.narrow and not self._gives_up(machine, fold):
                raise Unsure('the driver goes on where no mask could be set')
            if fold.narrow:
                self._check_fallback(machine)
        except Unsure as unsure:
            self._because(unsure)
            return None
        return fold

    @staticmethod
    def _calls(stmts: list[c.Stmt]) -> int:
        return sum(bool(maskcall.setter(n)) for s in stmts for n in s.walk())

    def _gives_up(self, machine: Machine, fold: Fold) -> bool:
        """Is a fallback gone only where the function then fails?"""
        return all(outcome.leave != ('end',)
                   for _, outcome, _ in machine.worlds(fold.stmts)
                   if outcome.failed)

    def _check_fallback(self, machine: Machine) -> None:
        """Does the way on of a narrower mask do no more than set flags?"""
        loose = Machine(self.driver, self.func, machine.start(),
                        ordered=False, trusting=machine.trusting)
        taken, given = (
            {key for _, _, seen in runs.worlds(self.stmts)
             for key in seen.reached} for runs in (loose, machine))
        for stmt in (n for s in self.stmts for n in s.walk()):
            if id(stmt) not in taken - given \
                    or not isinstance(stmt, c.ExprStmt) or is_message(stmt):
                continue
            expr = strip(stmt.expr)
            if isinstance(expr, c.Assign) and isinstance(expr.left, c.Id) \
                    and machine.is_local(expr.left.name):
                expr = strip(expr.right)
            if not maskcall.setter(expr) and not pure(expr):
                raise Unsure('the fallback does more: `%s`' % text(expr), stmt)

    def _live(self, leave: tuple[str, ...], name: str) -> bool:
        """May a local variable be read once the region was left so?"""
        flow = graph(self.func)
        if leave[0] == 'return':
            return False
        if flow.incomplete or name not in self.func.locals:
            return True
        if leave[0] == 'goto':
            starts = [flow.labels[leave[1]]] if leave[1] in flow.labels else []
        elif leave[0] == 'end':
            starts = self._following()
        else:
            return True
        return not starts or self._read_from(starts, name)

    def _following(self) -> list[Step]:
        """Where control goes from the end of the region."""
        first, last = self.stmts[0].first.start, self.stmts[-1].last.end

        def inside(step: Step) -> bool:
            node = step.tree or step.stmt
            return node is not None \
                and first <= node.first.start and node.last.end <= last

        return [succ for step in graph(self.func).steps if inside(step)
                and not isinstance(step.tree, (c.Goto, c.Return))
                for succ, _ in step.next if not inside(succ)]

    def _read_from(self, starts: list[Step], name: str) -> bool:
        def sets(step: Step) -> bool:
            tree = step.tree
            return isinstance(tree, c.ExprStmt) \
                and isinstance(tree.expr, c.Assign) and tree.expr.op == '=' \
                and text(tree.expr.left) == name \
                and not _reads(tree.expr.right, name)

        return any(step.tree is not None and not sets(step)
                   and (_reads(step.tree, name) or self._hidden(step, name))
                   for step in graph(self.func).reachable(starts, sets))

    def _hidden(self, step: Step, name: str) -> bool:
        """May a macro that is used there read the variable?"""
        for node in step.tree.walk():
            macro = self.driver.macro(node.name) \
                if isinstance(node, c.Id) else None
            if macro is not None and re.search(r'\b%s\b' % re.escape(name),
                                               macro.body):
                return True
        return False

    # -- fallbacks to a narrower mask

    def _fallbacks(self, stmts: list[c.Stmt], why: str,
                   fold: Fold | None = None) -> None:
        for call in self._in_vain(stmts, fold):
            wide = next(p.first for p in self.narrower if p.second is call)
            self.left.append(Note(
                'finding', self.func.path, call.first, self.func.name,
                '%s() cannot take %s where %s failed (line %d), so this '
                'attempt is in vain%s' % (
                    call.name, text(strip(call.args[1])),
                    text(strip(wide.args[1])), wide.first.line,
                    '; it is left because ' + why if why else ''), 'note',
                [Evidence(self.func.path, wide.first.line, '%s() with the '
                          'wider mask' % wide.name)]))

    def _in_vain(self, stmts: list[c.Stmt], fold: Fold | None
                 ) -> list[c.Call]:
        """Calls of the driver that fail whenever they are reached."""
        values: dict[int, set[str]] = {}
        machine = Machine(self.driver, self.func, self._before())
        for new, old in fold.renamed.values() if fold else ():
            machine.stands_for(new, old)
        try:
            for _, _, seen in machine.worlds(stmts):
                for key, found in seen.values.items():
                    values.setdefault(key, set()).update(found)
        except Unsure:
            return []
        narrow = {id(p.second) for p in self.narrower}
        return [machine.in_driver(n) for s in stmts for n in s.walk()
                if maskcall.setter(n) and values.get(id(n)) == {FAILED}
                and id(machine.in_driver(n)) in narrow]

    # -- edits

    def _taken(self, unit: Unit, fold: Fold) -> bool:
        """Work out how SmPL gets there; False if it cannot (see why)."""
        try:
            edits = _Changes(self.driver, self.func, fold).between(
                self.stmts, fold.stmts)
            labels = self._labels(fold)
            self._check_unused(fold)
        except Unsure as unsure:
            self._because(unsure)
            return False
        edits[0].message = self._message(fold)
        unit.edits, unit.additions = edits, labels
        self._fallbacks(fold.stmts, self.why[0], fold)
        return True

    def _message(self, fold: Fold) -> str:
        said = []
        if fold.renamed:
            pair = self.equal[0]
            said.append('%s() and %s() set the same mask: '
                        'dma_set_mask_and_coherent() sets both'
                        % (pair.first.name, pair.second.name))
        if fold.narrow:
            said.append('a narrower mask fails where a wider one did')
        return '; '.join(said)

    def _gone(self, fold: Fold) -> tuple[list[c.Node], list[c.Node]]:
        """(nodes of the region that are no more, all nodes that are left)."""
        left = [n for s in fold.stmts for n in s.walk()]
        kept = {id(fold.origin_of(n)) for n in left}
        kept |= {id(n) for n in left}
        gone = [n for s in self.stmts for n in s.walk() if id(n) not in kept]
        first, last = self.stmts[0].first.start, self.stmts[-1].last.end
        rest = [n for n in self.func.nodes if not (
            first <= n.first.start and n.last.end <= last)]
        return gone, left + rest

    def _labels(self, fold: Fold) -> list[Addition]:
        """Labels that nothing leads to any more."""
        gone, left = self._gone(fold)
        used = {n.name for n in left if isinstance(n, c.Goto)}
        out: list[Addition] = []
        for name in {n.name for n in gone if isinstance(n, c.Goto)} - used:
            label = next((n for n in self.func.nodes
                          if isinstance(n, c.Label) and n.name == name), None)
            if label is None:
                continue
            above = parents(self.func).of(label)
            at = above.body.index(label) if isinstance(above, c.Block) else 0
            if at == 0 or isinstance(above.body[at - 1], (
                    c.Goto, c.Return, c.Jump)):
                raise Unsure('label %s would be left without a use' % name,
                             label)
            out.append(Addition(('label', self.func.name, name),
                                self.func.path))
        return out

    def _check_unused(self, fold: Fold) -> None:
        gone, left = self._gone(fold)
        names = {n.name for n in gone if isinstance(n, c.Id)}
        targets = {id(n.left) for n in left if isinstance(n, c.Assign)
                   and n.op == '='}
        for name in sorted(names & set(self.func.locals)):
            if any(p.name == name for p in self.func.params):
                continue
            if not any(isinstance(n, c.Id) and n.name == name
                       and id(n) not in targets for n in left) \
                    and not any(_mentions(n, name) for n in left):
                raise Unsure('variable %s would be left without a use' % name,
                             self.func.locals[name])


def _mentions(node: c.Node, name: str) -> bool:
    """Does a node that stands for a call by its text name a variable?"""
    return isinstance(node, c.Id) and name in re.findall(r'\w+', node.name) \
        and node.name != name


def _reads(node: c.Node, name: str) -> bool:
    return any(isinstance(n, c.Id) and n.name == name for n in node.walk())


def _nonzero(cond: c.Expr) -> str:
    """`err` of `if (err)`; a variable that is 0 where it does not hold."""
    cond = strip(cond)
    if isinstance(cond, c.Call) and cond.name in ('likely', 'unlikely'):
        cond = strip(cond.args[0])
    if isinstance(cond, c.Binary) and cond.op == '!=' \
            and text(strip(cond.right)) == '0':
        cond = strip(cond.left)
    return cond.name if isinstance(cond, c.Id) else ''


def _constant(expr: c.Expr) -> bool:
    return all(isinstance(n, (c.Literal, c.Paren, c.Unary))
               or isinstance(n, c.Call) and n.name == 'DMA_BIT_MASK'
               or isinstance(n, c.Id) and n.name.isupper()
               or isinstance(n, c.Id) and n.name in ('true', 'false')
               for n in expr.walk())


# -------------------------------------------------------------------- edits

class _Changes:
    """The smallest edits that make one form of a region out of another."""

    def __init__(self, driver: Driver, func: c.Function, fold: Fold):
        self.func, self.fold = func, fold
        self.source = driver.text_of(func.path)
        self.driver = driver

    def between(self, old: list[c.Stmt], new: list[c.Stmt]) -> list[Edit]:
        """Edits of a list of statements."""
        head = self._common(list(zip(old, new)))
        if len(head) == len(old) < len(new):
            head.pop()              # something must be there to be replaced
        rest = len(new) - len(head), len(old) - len(head)
        tail = self._common(list(zip(reversed(old), reversed(new)))[:min(rest)])
        if rest[0] > rest[1] == len(tail):
            tail.pop()
        start, end = len(head), len(old) - len(tail)
        middle = self._middle(old[start:end],
                              new[start:len(new) - len(tail)])
        return [edit for step in (*head, middle, *reversed(tail))
                for edit in step]

    def _common(self, pairs: list[tuple[c.Stmt, c.Stmt]]) -> list[list[Edit]]:
        """Edits of the statements that stay, as far as they do."""
        out: list[list[Edit]] = []
        for old, new in pairs:
            step = self._alike(old, new)
            if step is None:
                break
            out.append(step)
        return out

    def _middle(self, old: list[c.Stmt], new: list[c.Stmt]) -> list[Edit]:
        kept = [stmt for stmt in new if self.fold.origin_of(stmt) in old]
        if len(kept) == len(new):
            places = [old.index(self.fold.origin_of(s)) for s in new]
            steps = [self._alike(old[at], stmt)
                     for at, stmt in zip(places, new)]
            if places == sorted(set(places)) and None not in steps:
                edits = []
                for at, stmt in enumerate(old):
                    edits += steps[places.index(at)] if at in places \
                        else [self._edit('drop', stmt)]
                return edits
        place = next((s for s in old if isinstance(s, c.If)), None)
        if place is None and len(new) == 1:
            place = next((s for s in old if not isinstance(s, c.Block)), None)
        if new and place is None:
            raise Unsure('there is no statement to be replaced', old[0])
        return [self._swap(stmt, new) if stmt is place and new
                else self._edit('drop', stmt) for stmt in old]

    def _edit(self, form: str, node: c.Node, **values: str) -> Edit:
        if isinstance(node, c.ExprStmt):
            node = strip(node.expr)         # not the cast of `(void)f()`
        kind = form if form == 'call' else 'statement'
        return Edit(kind, self.func.path, node.first, self.func.name, '',
                    {'form': form, **values})

    def _swap(self, old: c.Stmt, new: list[c.Stmt]) -> Edit:
        if len(new) >= len(_FORMS):
            raise Unsure('too much would have to be written anew', old)
        printer = Printer(self.fold, self.source)
        words = [printer.stmt(stmt) for stmt in new]
        if printer.lost or self._loses(new, old):
            raise Unsure('a comment would be lost', old)
        if any(isinstance(node, c.If) and self.fold.is_new(node)
               and any(isinstance(n, c.Assign) for n in node.cond.walk())
               for stmt in new for node in stmt.walk()):
            raise Unsure('an assignment would be left in a condition', old)
        return self._edit(_FORMS[len(new)], old, **{
            'st%d' % number: code for number, code in enumerate(words, 1)})

    def _loses(self, new: list[c.Stmt], old: c.Stmt) -> bool:
        """Does a comment stand right beside a statement that is kept?"""
        for stmt in new:
            for node in stmt.walk():
                if isinstance(node, c.Stmt) and not self.fold.is_new(node) \
                        and not isinstance(node, c.Block) \
                        and node.first.start > old.first.start \
                        and (re.search(r'(\*/|//[^\n]*\n)\s*$',
                                       self.source[:node.first.start])
                             or re.match(r'[ \t]*/[/*]',
                                         self.source[node.last.end:])):
                    return True
        return False

    # -- one statement

    def _alike(self, old: c.Stmt, new: c.Stmt) -> list[Edit] | None:
        """Edits inside of a statement that stays; None if it does not."""
        if new is old:
            return []
        if self.fold.origin_of(new) is not old or type(old) is not type(new):
            return None
        if isinstance(old, c.ExprStmt):
            return self._expr(old.expr, new.expr)
        if isinstance(old, c.Decl):
            steps = [[] if one is two else self._expr(one.init, two.init)
                     for one, two in zip(old.variables, new.variables)]
            return None if None in steps else [e for s in steps for e in s]
        if isinstance(old, c.Return) and old.value and new.value:
            return self._expr(old.value, new.value)
        if isinstance(old, c.If):
            if (old.other is None) != (new.other is None):
                return None
            parts = [self._expr(old.cond, new.cond),
                     self._arm(old.then, new.then)]
            if old.other is not None:
                parts.append(self._arm(old.other, new.other))
            if None in parts:
                return None
            return [edit for part in parts for edit in part]
        return None

    def _arm(self, old: c.Stmt, new: c.Stmt) -> list[Edit] | None:
        if not isinstance(old, c.Block):
            return self._alike(old, new) if not isinstance(new, c.Block) \
                else None
        left = body(new)
        if len(left) == 1 and left != old.body \
                and not isinstance(left[0], c.If) \
                and left[0].first.line == left[0].last.line:
            return None                 # without braces then
        try:
            return self.between(old.body, left)
        except Unsure:
            return None

    # -- one expression

    def _expr(self, old: c.Expr, new: c.Expr) -> list[Edit] | None:
        if new is old:
            return []
        if self.fold.renamed.get(id(new), (None, None))[1] is old:
            dev = maskcall.device(self.driver, self.func, old)
            return [self._edit('call', old, dev=dev.text)]
        if type(old) is type(new):
            if isinstance(old, c.Paren):
                return self._expr(old.inner, new.inner)
            if isinstance(old, (c.Unary, c.Cast)) and getattr(
                    old, 'op', '') == getattr(new, 'op', ''):
                return self._expr(old.arg, new.arg)
            if isinstance(old, c.Call) and len(old.args) == len(new.args) == 1:
                return self._expr(old.args[0], new.args[0])
            if isinstance(old, (c.Binary, c.Assign)) and old.op == new.op:
                left = self._expr(old.left, new.left)
                right = self._expr(old.right, new.right)
                if left is not None and right is not None:
                    return left + right
        if isinstance(old, c.Binary) and old.op in ('&&', '||'):
            printer = Printer(self.fold, self.source)
            words = printer.expr(new)
            if printer.lost:
                raise Unsure('a comment would be lost', old)
            if re.search(r'[^=!<>]=[^=]', words):
                return None
            return [Edit('join', self.func.path, self._operator(old),
                         self.func.name, '',
                         {'form': 'join', 'cond': words})]
        return None

    def _operator(self, expr: c.Binary) -> c.Token:
        return next(t for t in self.func.tokens
                    if expr.left.last.end <= t.start and t.text == expr.op)

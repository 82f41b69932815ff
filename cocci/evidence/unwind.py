# SPDX-License-Identifier: GPL-2.0-only
"""A new way out of a function, for something that fails at one point of it.

A new exit must release exactly what is held there.  Two sources say what that
is: a table of what acquires and what releases (resources.py, held.py), and the
function's own exits before and after the point (exits.py).  Where they agree
the new exit is built from the function's own labels and statements, and returns
what the function's failures return (returned.py); everywhere else `Refused`
says why not.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from . import cparse as c
from .checks import ends_in_jump, out_of_scope
from .driver import strip, text
from .exits import (Action, Exit, Path, Unwinder, error_value,
                    releases_field)
from .held import CONSUMES, Point, locate, retries
from .resources import (PAIRS, PURE, RESULT_NAME, Held, Refused, field_name,
                        is_log, outside, releases)
from .returned import Returned, exit_behind, following, plain
from .rounds import Rounds


@dataclass
class NewExit:
    """What the new check does: statements, the last one of them leaves."""

    lines: list[str]

    @property
    def code(self) -> str:
        """As one C statement."""
        return self.lines[0] if len(self.lines) == 1 \
            else '{ %s }' % ' '.join(self.lines)


#: What gives something back, going by its name.
_RELEASING = re.compile('free|release|put|unlock|unmap|destroy|remove|undo|'
                        'unwind|rollback|clean|cancel|restore|drop|unpin')

#: What begins a remedy, going by its name.
_STARTS = re.compile('reset|restart|schedule|recover|queue_(delayed_)?work|'
                     'trigger')

#: What a transfer function is called that works without DMA.
_WITHOUT_DMA = ('pio', 'cpu', 'fifo', 'poll', 'polling', 'irq', 'sync')


class Builder:
    """Builds the exit for a map whose result is found to be an error.

    stmt is the statement of the map, names the lvalues with the handle,
    mapped the kind of the mapping.  begins: the map will stand before stmt,
    which begins what the exits behind it undo, so no label will do that
    changes more than what is held.
    """

    def __init__(self, unwinder: Unwinder, stmt: c.Stmt, names: list[str],
                 mapped: str, begins: bool = False):
        self.of, self.func = unwinder, unwinder.func
        self.stmt, self.names, self.mapped = stmt, names, mapped
        self.known_as = self._later_names()
        self.begins = begins
        self.point = locate(unwinder, stmt)
        self.returned = Returned(unwinder, self.point)
        self.confirmed = False      # the next exit releases the same
        self.wanted: set[tuple[str, ...]] = set()   # what must be released
        self.forget_handle = False  # a helper would unmap the failed handle
        self.rounds: c.Loop | None = None   # a loop with earlier mappings

    def _later_names(self) -> set[str]:
        """The handle's names, and the lvalues that get a copy behind the map."""
        found = set(self.names)
        for node in self.func.body.walk():
            if node.first.start < self.stmt.last.end:
                continue
            if isinstance(node, c.Assign) and node.op == '=' \
                    and text(strip(node.right)) in found:
                found.add(text(strip(node.left)))
            elif isinstance(node, c.Call) and len(node.args) == 3 \
                    and node.name in ('dma_unmap_addr_set',
                                      'pci_unmap_addr_set') \
                    and text(strip(node.args[2])) in found:
                found.add('%s->%s' % (text(strip(node.args[0])),
                                      text(node.args[1])))
        return found

    def build(self) -> NewExit:
        """The new exit; Refused, with what is held, where there is none."""
        try:
            return self._build()
        except Refused as why:
            held = ', '.join(str(h) for h in self.point.held)
            raise Refused('%s; %s' % (why, 'held here: ' + held if held else
                                      'nothing is known to be held here')
                          ) from None

    def _build(self) -> NewExit:
        if self.func.split:
            raise Refused('an #if cuts through a statement of %s()'
                          % self.func.name)
        self._no_other_way()
        self._not_optional()
        self._not_a_fragment()
        self._not_claimed()
        self._trust()
        self._not_replaced()
        label = self._next_in_chain()
        try:
            found = self._from_exits()
        except Refused:
            label = label or self._swept_label()
            if not label:
                raise
            return self._goto([], label)
        if label and self._keys(self.of.path_of_label(label)) != self.wanted:
            raise Refused('label %s stands behind the unmap, but does not '
                          'release the same as the exits' % label)
        return found

    def _next_in_chain(self) -> str:
        """The label right behind the unmap of this mapping, in a chain of
        labels that releases in reverse order; '' if there is none."""
        if self.point.loops or self.rounds is not None:
            return ''
        found = []
        stmts = self.func.body.body
        for stmt, behind in zip(stmts, stmts[1:]):
            if stmt.first.start > self.stmt.last.end \
                    and isinstance(behind, c.Label) \
                    and self._unmaps_this(stmt):
                found.append(behind.name)
        if len(found) != 1:
            return ''
        path = self.of.path_of_label(found[0])
        held = {(h.kind, h.obj) for h in self.point.held
                if h.known and not h.guard}
        if path.end not in ('return', 'branches') or retries(path) \
                or not held <= {k[:2] for k in path.keys}:
            return ''
        return found[0]

    def _swept_label(self) -> str:
        """The label of the next exit, if it leads to a helper that asks for
        each thing before it releases it; '' if there is none.

        All else that it releases must be held here, and all that is held must
        go, on the way or in the helper.
        """
        after = self.point.after
        jump = after.jump if after is not None else None
        if self.point.loops or self.rounds is not None or self.point.doubts \
                or not isinstance(jump, c.Goto) \
                or len(_block(after.stmt.then)) != sum(
                    1 for x in _block(after.stmt.then)
                    if x is jump or _says_only(x)):
            return ''
        path = self.of.path_of_label(jump.name)
        self.forget_handle = False
        helpers = [a for a in path.actions if not a.loop and not a.guard
                   and not releases(a.call) and self._sweeps(a.call)]
        swept = Path(actions=helpers)
        if path.end != 'return' or retries(path) or not helpers \
                or not self.forget_handle \
                or not self.of.up.of(self.of._labels[jump.name]) \
                is self.func.body:
            return ''
        rest = {a.key for a in path.actions if a not in helpers}
        for item in self.point.held:
            self._undone_as(item)
        due = {self._key(h)[:2]: h for h in self.point.held}
        taken = {k for k, h in due.items() if k not in {r[:2] for r in rest}
                 and self._helper_takes(h, swept)}
        if {k[:2] for k in rest} != set(due) - taken \
                or any(due[k[:2]].guard != k[3] for k in rest):
            return ''
        return jump.name

    def _unmaps_this(self, stmt: c.Stmt) -> bool:
        """Is it the unmap of this mapping, perhaps if it is set?"""
        if isinstance(stmt, c.If) and stmt.other is None:
            around = {text(strip(x.cond)) for x in self.of.up.chain(self.stmt)
                      if isinstance(x, c.If)}
            if text(strip(stmt.cond)) not in around | set(self.names):
                return False
            stmt = stmt.then
        if isinstance(stmt, c.Block) and len(stmt.body) == 1:
            stmt = stmt.body[0]
        gone = releases(stmt.expr) if isinstance(stmt, c.ExprStmt) \
            and isinstance(stmt.expr, c.Call) else None
        return gone is not None and gone[0] == self.mapped \
            and gone[1] in self.known_as

    def _from_exits(self) -> NewExit:
        """The new exit that the exits around and the tables ask for."""
        needed = self._needed()
        wanted = self._agreed(needed)
        # what the exits around know nothing of was only guessed from a name
        needed = [h for h in needed if h.known or self._key(h) in wanted]
        if not self.confirmed:
            self._no_doubts()
        if self.rounds is None:
            self._explain(wanted)
        self.wanted = wanted
        return self._written(needed, wanted)

    # -- is the point simple enough?

    def _no_other_way(self) -> None:
        """A transfer without DMA may be what is due after a failure."""
        for part in _WITHOUT_DMA:
            name, count = re.subn(r'(^|_)(dma|DMA)(?=_|$)', r'\g<1>' + part,
                                  self.func.name)
            for other in self.of.driver.definitions(name) if count else ():
                if [str(p.type) for p in other.params] == [
                        str(p.type) for p in self.func.params]:
                    raise Refused(
                        '%s() does the same without DMA and may be due when '
                        'the mapping fails' % name)

    def _not_optional(self) -> None:
        """`if (!bounce) map; ... if (bounce) copy`: setting the flag may be
        what is due."""
        for above in self.of.up.chain(self.stmt):
            cond = plain(above.cond) if isinstance(above, c.If) else None
            if not (isinstance(cond, c.Unary) and cond.op == '!'
                    and isinstance(strip(cond.arg), c.Id)):
                continue
            flag = strip(cond.arg).name
            sets = any(isinstance(x, c.Assign) and text(x.left) == flag
                       and text(x.right) in ('1', 'true')
                       and x.first.start < above.first.start
                       for x in self.func.body.walk())
            for other in self.func.body.walk() if sets else ():
                if isinstance(other, c.If) \
                        and other.first.start > self.stmt.last.end \
                        and text(plain(other.cond)) == flag:
                    raise Refused('line %d does without this mapping if %s is '
                                  'set' % (other.first.line, flag))

    def _not_a_fragment(self) -> None:
        """Refuse if the fragments before this one are mapped by other calls of
        this function, and no caller unmaps them when one fails."""
        calls = [x for x in self.stmt.walk() if isinstance(x, c.Call)]
        if not any('frag' in x.name for x in calls) or self.of.xmit_skb() \
                or any(isinstance(x, c.Loop)
                       for x in self.of.up.chain(self.stmt)):
            return
        for place in self.of.driver.calls_to(self.func):
            caller = Unwinder(self.of.driver, place.function)
            if not any(isinstance(x, c.Loop)
                       for x in caller.up.chain(place.node)):
                continue
            found = exit_behind(caller, place.node)
            if found is None or not any(
                    self._unmaps(a) for a in found.path.actions):
                raise Refused('%s() calls this for each fragment and unmaps '
                              'none when one fails' % place.function.name)

    def _not_claimed(self) -> None:
        """Refuse if another function will unmap what is kept where the handle
        goes, as long as something beside it is set, and this is set here."""
        for name in self.names:
            found = re.match(r'(.*)(?:->|\.)(\w+)$', name)
            if not found:
                continue
            base, handle = found.groups()
            read = {x.name for x in self.func.body.walk()
                    if isinstance(x, c.Member)
                    and x.last.end < self.stmt.first.start
                    and text(strip(x.base)) == base}
            for func in self.of.driver.functions_with(handle):
                if func is self.func or func.body is None:
                    continue
                for call in func.calls():
                    gone = releases(call)
                    if not gone or gone[0] != self.mapped \
                            or field_name(gone[1]) != handle:
                        continue
                    asked = _asked_before(Unwinder(self.of.driver, func), call)
                    ours = {field_name(o) for h in self.point.held
                            for o in (h.obj, *h.others)
                            if re.split(r'(->|\.)\w+$', o)[0] == base}
                    kept = sorted(field_name(g[1]) for g in map(
                        releases, func.calls()) if g and g[0] in (
                            'skb', 'memory', 'page')
                        and field_name(g[1]) in (asked & read) - ours)
                    if handle not in asked and kept \
                            and not self._callers_empty(kept[0]):
                        raise Refused(
                            '%s() unmaps %s as long as %s->%s is set' % (
                                func.name, name, base, kept[0]))

    def _callers_empty(self, name: str) -> bool:
        """Does a caller set a field of this name to NULL if this fails?"""
        for place in self.of.driver.calls_to(self.func):
            of = Unwinder(self.of.driver, place.function)
            stmt = of.up.statement(place.node)
            test = stmt if isinstance(stmt, c.If) else following(of.up, stmt)
            if isinstance(test, c.If) and any(
                    isinstance(x, c.Assign) and text(strip(x.right)) == 'NULL'
                    and field_name(text(strip(x.left))) == name
                    for x in test.then.walk()):
                return True
        return False

    def _not_replaced(self) -> None:
        """In a round that has already unmapped a buffer, or handed it on, the
        slot keeps something that is gone: no exit is a model."""
        loop = next((x for x in self.of.up.chain(self.stmt)
                     if isinstance(x, c.Loop)), None)
        if loop is None or self.of.xmit_skb():
            return
        above = {id(x) for x in self.of.up.chain(self.stmt)}
        for stmt in loop.body.walk():
            if not isinstance(stmt, c.ExprStmt) \
                    or stmt.first.start > self.stmt.first.start \
                    or not isinstance(stmt.expr, c.Call):
                continue
            gone = releases(stmt.expr)
            if not (gone and gone[0] == self.mapped
                    or CONSUMES.match(stmt.expr.name)):
                continue
            for node in self.of.up.chain(stmt):
                if isinstance(node, c.Block) and ends_in_jump(node) \
                        and id(node) not in above:
                    break
                if id(node) in above:
                    raise Refused(
                        '%s() (line %d) has already given away what this '
                        'mapping replaces' % (stmt.expr.name,
                                              stmt.first.line))

    def _trust(self) -> None:
        point = self.point
        if point.before is not None and any(
                isinstance(x, c.Assign) and text(strip(x.left)) in self.names
                and text(x.right) not in ('0', 'NULL')
                for x in point.before.stmt.then.walk()):
            raise Refused('the exit at line %d goes on with another address'
                          % point.before.stmt.first.line)
        for above in self.of.up.chain(self.stmt):
            if isinstance(above, c.If) and above.other is not None \
                    and isinstance(plain(above.cond), c.Unary):
                for node in above.then.walk():
                    if isinstance(node, c.Assign) \
                            and text(strip(node.left)) in self.names \
                            and isinstance(strip(node.right),
                                           (c.Id, c.Member)):
                        raise Refused('line %d uses another address instead'
                                      % node.first.line)
        for doubt in point.doubts:
            if doubt.startswith('label'):
                raise Refused(doubt)
        if point.loops and self._keeps_mapping(point.loops[-1]):
            self.rounds = point.loops[-1]

    def _keeps_mapping(self, loop: c.Loop) -> bool:
        """Do mappings of earlier rounds live when a round fails?"""
        for node in loop.body.walk():
            if isinstance(node, c.Call) and node.first.start > self.stmt.last.end:
                gone = releases(node)
                if gone and gone[0] == self.mapped and gone[1] in self.names \
                        and not self._on_exit(node, loop):
                    return False
        return True

    def _on_exit(self, node: c.Node, loop: c.Loop) -> bool:
        """Does a branch that leaves stand around it, within the loop?"""
        for above in self.of.up.chain(node):
            if above is loop:
                return False
            if isinstance(above, c.If) and ends_in_jump(
                    above.then if node.first.start < above.then.last.end
                    else above.other):
                return True
        return False

    # -- what must be released

    def _needed(self) -> list[Held]:
        """What the nearest exit before does not release, because it was taken
        later; without such an exit everything that is held."""
        before = self.point.before
        needed = [h for h in (self.point.since if before else self.point.held)]
        if before:
            needed = [h for h in needed if not self._helper_takes(
                h, before.path)]
            for item in list(needed):
                if self._left(item) and self._swept_together(item):
                    needed.remove(item)
                elif self._left(item):
                    raise Refused('%s() leaves %s to its callers when it fails'
                                  % (self.func.name, item))
        skb = self.of.xmit_skb()
        if before and skb:
            # an exit that does not free it is none of a transmit function's
            needed = [h for h in point_skb(self.point, skb) if not any(
                a.key[:2] == ('skb', skb) for a in before.path.actions)
                and not self._helper_takes(h, before.path)] + [
                    h for h in needed if h.obj != skb]
        return needed

    def _left(self, item: Held) -> bool:
        """Does the function leave such things to its callers when it fails?

        Then the exit before has left one of them, or those of earlier rounds.
        """
        before = self.point.before
        places = [p for p in (item.obj, *item.others) if outside(p)]
        if before is None or item.kind not in ('memory', 'skb', 'page') \
                or self.of.xmit_skb() \
                or not any(map(self.of.released_elsewhere, places)):
            return False
        kinds = {k[0] for k in before.path.keys}
        calls = any(not releases(a.call) for a in before.path.actions)
        if item.kind in kinds or calls:
            return False
        if any('[' in p for p in places) and self._loops() and any(
                x is self._loops()[0] for x in self.of.up.chain(before.stmt)):
            return not isinstance(before.jump, c.Jump)
        return any(h.kind == item.kind and h.known and outside(h.obj)
                   for h in before.held)

    def _swept_together(self, item: Held) -> bool:
        """Does one function release both this and what the exit before leaves
        to it?"""
        kind, name = item.kind, field_name(item.obj)
        left = {field_name(h.obj) for h in self.point.before.held
                if h.kind == kind and h.known and outside(h.obj)}
        if not outside(item.obj) or '[' in item.obj or item.others:
            return False
        for func in self.of.driver.functions_with(name):
            gone = {field_name(g[1]) for g in map(releases, func.calls())
                    if g and g[0] == kind and outside(g[1])}
            if func is not self.func and name in gone and left and left <= gone:
                return True
        return False

    def _helper_takes(self, item: Held, path: Path) -> bool:
        """Does a function that the exit calls release the object?"""
        places = [p for p in (item.obj, *item.others) if p]
        fields = {field_name(p) for p in places
                  if '->' in p or '.' in p or '[' in p}
        for action in path.actions:
            call = action.call
            gone = releases(call)
            if gone:
                if action.loop and gone[0] == item.kind \
                        and _takes_current(action.loop) and gone[1].split(
                            '[')[0] in {p.split('[')[0] for p in places
                                        if '[' in p}:
                    self._spares_this(path, action.loop)
                    return True
                continue
            if any(text(strip(a)).lstrip('&') in places for a in call.args) \
                    and re.search('free|put|release|destroy|drop|clean',
                                  call.name):
                return True
            if not fields:
                continue
            callee = self.of.driver.resolve(call.name, self.func)
            if callee is None or callee.body is None:
                if re.search('free|clean|release|destroy|fini|exit|close',
                             call.name) and any(
                        re.match(r'%s(->|\.|\[)' % re.escape(
                            text(strip(a)).lstrip('&')), p)
                        for a in call.args for p in places):
                    raise Refused(
                        '%s() may release %s' % (call.name, item))
                continue
            if releases_field(self.of.driver, callee, item.kind, fields, 3):
                if item.kind == self.mapped or not self._unmaps(action) \
                        or any(map(self.of.unmapped_if_set, self.names)):
                    return True
                # it would unmap the failed handle along with the buffer
                self.forget_handle = item.helped = True
        return False

    def _spares_this(self, path: Path, loop: c.Loop) -> None:
        """Refuse if a loop that sweeps slots would unmap the failed handle."""
        if _takes_failed(loop) and any(
                a.loop is loop and self._unmaps(a) and not a.guard
                for a in path.actions):
            raise Refused('the loop at line %d would unmap what was not mapped'
                          % loop.first.line)

    def _sweeps(self, call: c.Call, depth: int = 2) -> bool:
        """Does it release just what is there, whatever that is?

        A function of the driver that releases more than once, and each time
        asks before.  What this mapping is kept in must be what it asks for.
        """
        callee = self.of.driver.resolve(call.name, self.func) \
            if call.name else None
        if callee is None or callee.body is None:
            return False
        path = Unwinder(self.of.driver, callee).path_from(callee.body.body)
        actions = [a for a in path.actions if releases(a.call)]
        nested = [a.call for a in path.actions if not releases(a.call)
                  and self.of.driver.resolve(a.call.name, callee) is not None]
        if depth and any(_RELEASING.search(x.name) for x in nested):
            inner = [x for x in nested if _RELEASING.search(x.name)]
            if not all(self._sweeps(x, depth - 1) for x in inner):
                return False
            if not actions:
                return True
        last = {field_name(n) for n in self.names}
        for action in actions:
            kind, obj = releases(action.call)
            field = field_name(obj)
            if not _asks_for(action) and (kind not in ('memory', 'skb')
                                          or not outside(obj)):
                return False
            if kind == self.mapped and field in last:
                if not re.search(r'\b%s\b' % re.escape(field), action.guard):
                    return False
                self.forget_handle = True
        return bool(actions)

    def _agreed(self, needed: list[Held]) -> set[tuple[str, ...]]:
        """The keys of all releases, confirmed by the next exit."""
        before, after = self.point.before, self.point.after
        for item in self.point.held:
            self._undone_as(item)
        wanted = {self._key(h) for h in needed}
        if before:
            wanted |= {k for k in self._keys(before.path)
                       if k[:2] not in self.point.dropped}
        if after is None or after.path.end not in ('return', 'break',
                                                   'continue'):
            self._no_doubts()
            return wanted
        theirs = self._keys(after.path)
        if before is None and (needed or
                               'mapping_error' in text(after.stmt.cond)):
            swept = {a.key for a in after.path.actions if self._sweeps(a.call)}
            if swept:
                wanted = swept | {self._key(h) for h in needed
                                  if not self._helper_takes(h, after.path)}
        mine = {k for k in theirs if k[0] == self.mapped
                and k[1] in self.known_as}
        alone = not any(k[0] == self.mapped for k in wanted)
        mine |= {a.key for a in after.path.actions if alone and not
                 releases(a.call) and a.key not in wanted
                 and self._only_unmaps(a.call, True)}
        if before is not None and not needed and not self.point.doubts \
                and not self.point.between_dropped:
            # all as at the exit before: the other one asks for what is there
            mine |= {a.key for a in after.path.actions if alone
                     and a.key not in wanted and self._sweeps(a.call)}
        theirs -= mine
        for item in self.point.between:
            theirs -= {k for k in theirs if k[:2] == (item.kind, item.obj)
                       or k[0] == 'call' and k[1].split('(')[0]
                       in item.undoers}
        if self.point.called:
            # what is stopped there was started on the way
            theirs = {k for k in theirs if k in wanted or k[0] != 'call'
                      or self._may_release(k[1].split('(')[0])}
        theirs = {k for k in theirs if k in wanted or not (
            self._first_behind(k[1]) or self._still_null(k[1]))}
        helped = {self._key(h) for h in needed if h.helped}
        due = {k for k in wanted - helped
               if k[:2] not in self.point.between_dropped}
        if theirs == _asked_by(after.path, due):
            self.confirmed = True
            return wanted
        helpers = {k for k in theirs - due if self._ends_this(k)}
        if helpers:
            raise Refused(
                '%s of the exit at line %d undoes this mapping and maybe more'
                % (sorted(helpers)[0][1], after.stmt.first.line))
        return self._differing(wanted, theirs | (wanted - due), bool(mine),
                               needed)

    def _may_release(self, name: str) -> bool:
        """Does a function release something, by its name or in its body?"""
        callee = self.of.driver.resolve(name, self.func)
        return bool(_RELEASING.search(name)) or callee is not None \
            and callee.body is not None and any(map(releases, callee.calls()))

    def _undone_as(self, item: Held) -> None:
        """If an exit calls what undoes a guess, it is undone just so."""
        calls = {text(call) for call in self.func.calls()
                 if call.name in item.undoers}
        if len(calls) == 1:
            item.undo = calls.pop()

    def _explain(self, wanted: set[tuple[str, ...]]) -> None:
        """A label or a later exit that undoes more must undo what comes
        after the map; else something is held that we did not see."""
        paths = []
        for name, label in self.of._labels.items():
            if label.first.start > self.stmt.last.end:
                path = self.of.path_of_label(name)
                if self._retried(label):
                    continue        # on the way of success
                if path.end == 'return' and wanted <= path.keys \
                        or path.end == 'branches' and not (
                            path.keys & wanted):
                    paths.append(('label %s' % name, path))
        later = self.of.exits_after(self.stmt)
        if later and self.point.after is None:
            paths.append(('the exit at line %d' % later[0].stmt.first.line,
                          later[0].path))
        for name, path in paths:
            extra = sorted(path.keys - wanted)
            for key in extra:
                if not self._explained(key, later):
                    raise Refused(
                        '%s also does %s, which may be due here'
                        % (name, ' '.join(k for k in key[:2])))
            if extra:
                self._not_reset(name, path)

    def _not_reset(self, name: str, path: Path) -> None:
        """Refuse if a path empties a place that was filled before the map."""
        places = {p for h in self.point.held for p in (h.obj, *h.others)}
        for reset in path.resets:
            place = text(strip(reset.left))
            if text(strip(reset.right)) == 'NULL' \
                    and place not in self.known_as | places \
                    and place in self.point.filled:
                raise Refused('%s also does %s, which may be due here'
                              % (name, text(reset)))

    def _retried(self, label: c.Label) -> bool:
        """Does a jump lead back to the label?"""
        return any(isinstance(x, c.Goto) and x.name == label.name
                   and x.first.start > label.first.start
                   for x in self.func.body.walk())

    def _first_behind(self, obj: str) -> bool:
        """Is it, or what a call gets, a local variable that gets its first
        value behind the map?  Of a call's arguments, pointers tell."""
        for name in re.findall(r'(?:^|[(,] ?)&?([A-Za-z_]\w*)(?=$|[,)])', obj):
            var = self.func.locals.get(name)
            if var is None or var.static or name in {
                    p.name for p in self.func.params} \
                    or name != obj and not var.type.pointers:
                continue
            given = [x for x in self.func.body.walk() if name in (
                text(strip(x.left)) if isinstance(x, c.Assign) else
                text(strip(x.arg)) if isinstance(x, c.Unary)
                and x.op.strip('p') in ('&', '++', '--') else
                x.name if isinstance(x, c.Variable) and x.init is not None
                else '',)]
            around = self._loops()
            if given and all(x.first.start > self.stmt.last.end and not any(
                    y in around for y in self.of.up.chain(x)) for x in given):
                return True
        return False

    def _still_null(self, obj: str) -> bool:
        """Is it a local variable that is NULL here?"""
        value = self.point.assigned.get(obj)
        return obj in self.func.locals and value is not None \
            and text(value) == 'NULL'

    def _nothing_mapped(self) -> bool:
        """Is no mapping held here, as far as is known, nor a doubt?"""
        return not self.point.doubts and self.rounds is None and not any(
            h.kind == self.mapped or 'map' in h.kind for h in self.point.held)

    def _explained(self, key: tuple[str, ...], later: list[Exit]) -> bool:
        kind, obj = key[:2]
        if self._first_behind(obj):
            return True
        if kind == self.mapped and (obj in self.known_as or key[2]
                                    or self._nothing_mapped()):
            return True
        if key[2] and any(
                p.kind == self.mapped and p.acquire.match(call.name)
                and call.first.start > self.stmt.last.end
                and any(isinstance(x, c.Loop)
                        for x in self.of.up.chain(call))
                for call in self.func.calls() for p in PAIRS):
            return True         # unwinds a loop that is still to come
        if kind == 'call':
            name = obj.split('(')[0]
            if obj in self.of.common and not _RELEASING.search(name):
                return True
            if any(name in self.of.counterparts(call.name)
                   and call.first.start > self.stmt.last.end
                   for call in self.func.calls()):
                return True
            calls = [x for x in self.func.calls() if text(x) == obj]
            if calls and self._only_unmaps(calls[0], True) and (
                    self._concerns_this(calls[0]) or self._nothing_mapped()):
                return True
            later = [e for e in later if not _RELEASING.search(name) or any(
                k[0] == self.mapped and k[1] in self.names
                for k in e.path.keys)]
        if any(key not in e.path.keys for e in later):
            return True
        return any(p.kind == kind and p.acquire.match(call.name)
                   for call in self.func.calls() for p in PAIRS
                   if call.first.start > self.stmt.last.end)

    def _concerns_this(self, call: c.Call) -> bool:
        """Is it given what keeps the handle?"""
        given = {text(strip(a)).lstrip('&') for a in call.args}
        return any(re.match(r'%s(->|\.|\[|$)' % re.escape(arg), name)
                   for arg in given for name in self.names)

    def _differing(self, wanted, theirs, unmaps, needed):
        after = self.point.after
        lacking = wanted - theirs
        extra = theirs - wanted
        params = {p.name for p in self.func.params}
        guesses = {self._key(h) for h in needed if not h.known and not any(
            x.name in h.undoers for x in self.func.calls())}
        if unmaps and not (lacking - guesses) and all(
                self._before_point(k) for k in extra):
            return theirs
        if not lacking and all(k[0] in ('skb', 'memory') and k[1] in params
                               for k in extra):
            return theirs
        raise Refused(
            'the next exit (line %d) does not release the same'
            % after.stmt.first.line)

    def _before_point(self, key: tuple[str, ...]) -> bool:
        """Was what a release undoes surely there before the map?"""
        if any((h.kind, h.obj) == key[:2] for h in self.point.between):
            return False
        return True

    def _ends_this(self, key: tuple[str, ...]) -> bool:
        """Is it a call of a helper that unmaps?"""
        if key[0] != 'call':
            return False
        name = key[1].split('(')[0]
        return 'unmap' in name

    def _no_doubts(self) -> None:
        if self.point.doubts:
            raise Refused('nothing tells how to undo ' +
                                          ', '.join(self.point.doubts))

    def _key(self, item: Held) -> tuple[str, ...]:
        if not item.known:
            return ('call', self.of.undo_of(item) or item.kind,
                    'loop' if item.loop else '', item.guard)
        return (item.kind, item.obj, 'loop' if item.loop else '', item.guard)

    # -- writing it down

    def _written(self, needed: list[Held],
                 wanted: set[tuple[str, ...]]) -> NewExit:
        before, after = self.point.before, self.point.after
        if self.rounds is not None:
            return self._with_rounds(wanted)
        label = self._label(wanted)
        if label and not (before and isinstance(before.jump, c.Jump)):
            return self._goto([], label)
        if before is None and wanted and after is not None and not \
                self._synthesised(needed):
            raise Refused('no label undoes this')
        lines = self._undo(needed)
        return self._leave(lines, wanted, needed)

    def _synthesised(self, needed) -> bool:
        return all((h.known or self.of.undo_of(h)) and not h.loop and not h.guard
                   for h in needed)

    def _label(self, wanted: set[tuple[str, ...]]) -> str:
        """A label whose path releases exactly what is wanted."""
        if not wanted:
            return ''
        near = [e for e in (self.point.before, self.point.after) if e]
        order: list[str] = []
        for found in near:
            order += found.path.labels
        order += [n for n in self.of._labels if n not in order]
        for name in order:
            label = self.of._labels.get(name)
            if label is None or label.first.start < self.stmt.last.end:
                continue
            path = self.of.path_of_label(name)
            keys = self._keys(path)
            if path.end == 'return' and keys == _asked_by(path, wanted) \
                    and not retries(path) \
                    and not (self.begins and self._changes_more(path)) \
                    and all(not k[3] or self._still_known(k[3]) for k in keys):
                return name
        return ''

    def _changes_more(self, path: Path) -> bool:
        """Does a path change what neither is held nor changed by the exit
        before?"""
        before = self.point.before
        known = {text(x) for x in before.path.changes} if before else set()
        places = {p for h in self.point.held for p in (h.obj, *h.others)}
        return any(text(x) not in known and not (
            isinstance(x, c.Assign) and text(strip(x.left)) in places)
                   for x in path.changes)

    def _with_rounds(self, wanted: set[tuple[str, ...]]) -> NewExit:
        """Earlier rounds of a loop hold mappings: only a label that unmaps in
        a loop of its own will do, and only if there is just one."""
        asks = self._some_rounds()
        rounds = Rounds(self.of, self.stmt, self.rounds, self.point,
                        self.names, self.mapped)
        others = {k for k in wanted if k[2] != 'loop' and k[0] != self.mapped}
        singles = sum(k[0] == self.mapped and k[2] != 'loop' for k in wanted)
        found: dict[frozenset, str] = {}
        for name, label in self.of._labels.items():
            path = self.of.path_of_label(name)
            loops = [a for a in path.actions if a.loop is not None]
            direct = {a.key for a in path.actions if a.loop is None}
            unmaps = {k for k in direct if k[0] == self.mapped}
            helpers = [a for a in path.actions if a.loop is None
                       and not a.guard and rounds.undone_by(a.call)]
            if helpers and label.first.start > self.stmt.last.end \
                    and path.end == 'return' and not retries(path) \
                    and not asks and not loops and not singles \
                    and direct - {a.key for a in helpers} == {
                        k for k in others if not any(
                            rounds.released_by(a.call, k) for a in helpers)}:
                found.setdefault(frozenset(path.keys), name)
            if label.first.start > self.stmt.last.end \
                    and path.end == 'return' and not retries(path) \
                    and any(self._unmaps(a) for a in loops) \
                    and all(releases(a.call) or self._unmaps(a)
                            or _RELEASING.search(a.call.name)
                            or not isinstance(self.of.up.of(a.call), c.ExprStmt)
                            for a in loops) \
                    and not any(_takes_failed(a.loop) for a in loops) \
                    and not (asks and any(self._unmaps(a) and (
                        not a.guard or a.key[3]) for a in loops)) \
                    and direct - unmaps == others and len(unmaps) in (
                        0, singles):
                found.setdefault(frozenset(path.keys), name)
        if len(found) == 1:
            return self._goto([], next(iter(found.values())))
        if asks:
            raise Refused(
                'only some rounds of the loop at line %d make this mapping, so '
                'no label is known to undo the earlier ones'
                % self.rounds.first.line)
        raise Refused(
            'mappings of earlier rounds of the loop at line %d have to be '
            'undone and no label does just that' % self.rounds.first.line)

    def _some_rounds(self) -> bool:
        """Is the mapping made in some rounds of the loop only?  Then what
        unwinds them must ask which."""
        for above in self.of.up.chain(self.stmt):
            if above is self.rounds:
                break
            if isinstance(above, c.Switch) or isinstance(above, c.If) \
                    and text(strip(above.cond)) not in self.of.known:
                return True
        return False

    def _unmaps(self, action: Action) -> bool:
        """Is it an unmap, or a call of a function that unmaps?"""
        gone = releases(action.call)
        return gone[0] == self.mapped if gone else \
            'unmap' in action.call.name or self._only_unmaps(action.call, False)

    def _only_unmaps(self, call: c.Call, strict: bool) -> bool:
        """Does a function of the driver unmap (and do nothing else)?"""
        callee = self.of.driver.resolve(call.name, self.func) \
            if call.name else None
        if callee is None or callee.body is None:
            return False
        kinds = [releases(x) for x in callee.calls()]
        other = any(x and x[0] != self.mapped for x in kinds) or any(
            re.search('free|put|release|destroy', x.name)
            for x in callee.calls())
        return any(x and x[0] == self.mapped for x in kinds) and not (
            strict and other)

    def _undo(self, needed: list[Held]) -> list[str]:
        """Statements that release what was taken since the exit before."""
        lines: list[str] = []
        for item in reversed(needed):
            if not item.obj and not self.of.undo_of(item):
                raise Refused('no variable keeps the %s of '
                              'line %d' % (item.kind, item.call.first.line))
            if item.obj in self.names:
                raise Refused(
                    '%s is overwritten by this mapping' % item.obj)
            if not (item.known or self.of.undo_of(item)) or item.loop or item.guard \
                    and not self._still_known(item.guard,
                                              item.call.first.start):
                raise Refused('no label undoes %s' % item)
            release = self._release_text(item)
            if release and item.guard and self.of.known.get(item.guard) is not True:
                guard = re.sub(r'!\(([\w>.-]+)\)', r'!\1', item.guard)
                other = lines[-1] if lines else ''
                if guard.startswith('!') and other.startswith(
                        'if (%s) ' % re.sub(r'^!\((.*)\)$|^!', r'\1', guard)):
                    lines[-1] += ' else ' + NewExit(release).code
                    continue
                release = ['if (%s) %s' % (guard, NewExit(release).code)]
            lines += release
        return _under_lock(lines)

    @property
    def goes_on(self) -> bool:
        """Does the new exit stay in the function, as `break` does?"""
        before = self.point.before
        return before is not None and isinstance(before.jump, c.Jump)

    def _release_text(self, item: Held) -> list[str]:
        if outside(item.obj) and self._only_if_empty(item):
            return []       # the slot keeps it for the next try
        if item.lost:
            raise Refused(item.lost)
        if item.given and (item.others or any(
                k[0] == 'call' for k in (self.point.before.path.keys
                                         if self.point.before else ()))):
            raise Refused(item.given)
        self._in_scope(item.obj)
        # Whoever else releases it must find that it is gone.
        if item.kind not in ('skb', 'memory', 'mapping') \
                and item.obj not in self.of.released and not self.goes_on \
                and any(outside(o) and self.of.released_elsewhere(o)
                        and not self.of.asked_for(o)
                        for o in (item.obj, *item.others)):
            raise Refused('no exit of %s() releases %s, another function does'
                          % (self.func.name, item.obj))
        self._not_swept(item)
        for call in self.func.calls():
            gone = releases(call)
            if gone == (item.kind, item.obj) and self._simple(call) \
                    and _fits(item.call, call):
                out = [text(call, True) + ';']
                break
        else:
            out = [self._default_release(item)]
        for name in re.findall(r'(?<![\w.>])[A-Za-z_]\w*', out[0]):
            self._in_scope(name)
        if item.kind in ('skb', 'memory', 'page', 'exact pages', 'fragment',
                         'coherent memory', 'pool memory'):
            out += ['%s = NULL;' % o for o in dict.fromkeys(
                (item.obj, *item.others)) if (
                    outside(o) or o.startswith('*')) and (
                    item.kind == 'skb' or self.of.asked_for(o, self.goes_on)
                    or self.of.released_elsewhere(o))]
            out += self._set_with(item)
        return out

    def _set_with(self, item: Held) -> list[str]:
        """Fields that were set after an object was taken, and that the driver
        sets to 0 where it releases such an object: they are so here, too."""
        name = field_name(item.obj)
        if not re.search(r'(->|\.)\w+$', item.obj):
            return []
        zeroed = {
            strip(node.left).name
            for func in self.of.driver.functions_with(name)
            if func is not self.func and func.body is not None and any(
                field_name(gone[1]) == name
                for gone in map(releases, func.calls()) if gone)
            for node in func.body.walk()
            if isinstance(node, c.Assign) and node.op == '='
            and text(node.right) == '0'
            and isinstance(strip(node.left), c.Member)} - {name}
        return list(dict.fromkeys(
            '%s = 0;' % text(node.left, True)
            for node in self.func.body.walk()
            if isinstance(node, c.Assign) and node.op == '='
            and item.call.last.end < node.first.start < self.stmt.first.start
            and isinstance(strip(node.left), c.Member)
            and strip(node.left).name in zeroed
            and text(strip(strip(node.left).base)) == re.sub(
                r'(->|\.)\w+$', '', item.obj)
            and text(node.right) != '0'))

    def _in_scope(self, name: str) -> None:
        """Refuse if the variable is one of a block that is over."""
        found = re.match(r'\w+', name.lstrip('*&('))
        gone = found and out_of_scope(self.func, found.group(), self.stmt)
        if gone:
            raise Refused('%s is a variable of a block that is over' % gone)

    def _only_if_empty(self, item: Held) -> bool:
        """Was it taken because its slot was empty?"""
        test = '!' + item.obj
        here = {id(x) for x in self.of.up.chain(self.stmt)}
        return any(
            isinstance(x, c.If) and x.other is None and id(x) not in here
            and text(strip(x.cond)) == test
            for x in self.of.up.chain(item.call))

    def _still_known(self, guard: str, since: int = 0) -> bool:
        """Can a condition be tested again with the same outcome as it had at
        a place of the function?"""
        calls = re.findall(r'(\w+)\(', guard)
        if re.search(r'\+\+|--|[^=!<>]=[^=]|#if|a case', guard) \
                or any(not re.match('[A-Z][A-Z0-9_]*$', x) for x in calls):
            return False
        names = set(re.findall(r'[A-Za-z_]\w*', guard))
        if self._loops():
            return False
        for node in self.func.body.walk():
            target = None
            if node.last.end < since:
                continue
            if isinstance(node, c.Assign):
                target = strip(node.left)
            elif isinstance(node, c.Unary) and node.op.strip('p') in (
                    '++', '--', '&'):
                target = strip(node.arg)
            if isinstance(target, (c.Id, c.Member)) and target.name in names \
                    and target.name != 'dev':
                return False
        return True

    def _not_swept(self, item: Held) -> None:
        """Code behind the loop may release every slot that was filled."""
        slots = {x.split('[')[0] for x in (item.obj, *item.others) if '[' in x}
        for call in self.func.calls() if self.goes_on else ():
            gone = releases(call)
            if gone and gone[0] == item.kind and '[' in gone[1] \
                    and gone[1].split('[')[0] in slots \
                    and not any(x is loop for x in self.of.up.chain(call)
                                for loop in self._loops()):
                raise Refused(
                    '%s (line %d) may release it as well'
                    % (text(call), call.first.line))

    def _loops(self) -> list[c.Loop]:
        return [x for x in self.of.up.chain(self.stmt)
                if isinstance(x, c.Loop)]

    def _simple(self, call: c.Call) -> bool:
        """May a release be copied to another place?"""
        up = self.of.up
        return isinstance(up.of(call), c.ExprStmt)

    def _default_release(self, item: Held) -> str:
        name = item.call.name
        args = [text(a, True) for a in item.call.args]
        if item.undo:
            return item.undo + ';'
        if item.kind == 'skb':
            return 'dev_kfree_skb_any(%s);' % item.obj
        if item.kind == 'mapping':
            return self._unmap(item)
        if item.kind == 'page':
            return self._free_page(item)
        if item.kind == 'fragment':
            return 'skb_free_frag(%s);' % item.obj
        if item.kind == 'memory' and name.startswith('kmem_cache') and args:
            return 'kmem_cache_free(%s, %s);' % (args[0], item.obj)
        if name == 'mempool_alloc' and args:
            return 'mempool_free(%s, %s);' % (item.obj, args[0])
        if item.kind == 'folio':
            return 'folio_put(%s);' % item.obj
        if item.kind == 'DMA-safe buffer' and args:
            # nothing was received into it
            return 'i2c_put_dma_safe_msg_buf(%s, %s, false);' % (item.obj,
                                                                args[0])
        if item.kind == 'memory' and name.startswith('k') \
                and not name.startswith('kv'):
            return '%s(%s);' % (self._kfree(item), item.obj)
        if name == 'alloc_pages_exact':
            self._unchanged(item.call.args[0])
            return 'free_pages_exact(%s, %s);' % (item.obj, args[0])
        if name == 'dma_alloc_coherent' and len(args) == 4:
            self._unchanged(item.call.args[1])
            return 'dma_free_coherent(%s, %s, %s, %s);' % (
                args[0], args[1], item.obj, args[2].lstrip('&')
                if args[2].startswith('&') else '*' + args[2])
        if item.kind == 'lock':
            if name == 'mutex_lock' or name in ('spin_lock', 'spin_lock_bh',
                                                'spin_lock_irq'):
                return '%s;' % text(item.call, True).replace('lock', 'unlock', 1)
            if name == 'spin_lock_irqsave':
                return 'spin_unlock_irqrestore(%s);' % ', '.join(
                    text(a, True) for a in item.call.args)
        raise Refused('no statement of %s() releases %s'
                                      % (self.func.name, item))

    def _free_page(self, item: Held) -> str:
        """The release of pages that nobody else has a reference to yet."""
        call = item.call
        found = re.match(r'(?:__)?(?:dev_)?alloc_page(s?)(_node)?$', call.name)
        if not found:
            raise Refused('no statement of %s() releases %s'
                                          % (self.func.name, item))
        order = call.args[-1] if found.group(1) else None
        if order is not None and text(order) != '0':
            self._unchanged(order)
            return '__free_pages(%s, %s);' % (item.obj, text(order, True))
        words = self.of.words
        return '%s(%s);' % ('put_page' if 'put_page' in words and
                            '__free_page' not in words else '__free_page',
                            item.obj)

    def _kfree(self, item: Held) -> str:
        """kfree_sensitive() where the driver frees this field or variable so."""
        last = field_name(item.obj)
        undoers = self.of.counterparts(self.func.name)
        for func in self.of.driver.functions_with('kfree_sensitive'):
            for call in func.calls():
                gone = releases(call)
                if call.name == 'kfree_sensitive' and gone and (
                        field_name(gone[1]) == last
                        or func.name in undoers):
                    return call.name
        return 'kfree'

    def _unmap(self, item: Held) -> str:
        call = item.call
        args = [text(a, True) for a in call.args]
        found = re.match(r'dma_map_(single|page)$', call.name)
        if found and len(args) >= 4:
            size, way = (args[2], args[3]) if found.group(1) == 'single' \
                else (args[3], args[4])
            self._unchanged(call.args[2 if found.group(1) == 'single' else 3])
            return 'dma_unmap_%s(%s, %s, %s, %s);' % (
                found.group(1), args[0], item.obj, size, way)
        if call.name == 'dma_map_single_attrs' and len(args) == 5:
            self._unchanged(call.args[2])
            return 'dma_unmap_single_attrs(%s, %s, %s, %s, %s);' % (
                args[0], item.obj, args[2], args[3], args[4])
        if call.name == 'skb_frag_dma_map' and len(args) == 5:
            return 'dma_unmap_page(%s, %s, %s, %s);' % (
                args[0], item.obj, args[3], args[4])
        raise Refused('no statement unmaps %s' % item)

    def _unchanged(self, size: c.Expr) -> None:
        """The size at the unmap is the size at the map only if nobody wrote
        to what it is made of in between."""
        names = {x.name for x in size.walk() if isinstance(x, c.Id)}
        for node in self.func.body.walk():
            if node.first.start <= size.last.end \
                    or node.first.start >= self.stmt.last.end:
                continue
            target = None
            if isinstance(node, c.Assign):
                target = strip(node.left)
            elif isinstance(node, c.Unary) and node.op.strip('p') in ('++', '--'):
                target = strip(node.arg)
            if isinstance(target, c.Id) and target.name in names:
                raise Refused('%s changes before the unmap'
                                              % target.name)

    def _leave(self, lines: list[str], wanted, needed) -> NewExit:
        """Leave as the exit before does, after `lines`."""
        before = self.point.before
        self._stays_in_loop()
        if before is None:
            self._covers(needed, wanted, set())
            lines += self._set_by_all()
            return NewExit(lines + self.returned.statements(self.confirmed))
        copied = self._copied(before)
        self._covers(needed, wanted, {
            k for k in self._keys(before.path)
            if k[:2] not in self.point.dropped})
        lines = [x for x in lines if x not in copied]
        jump = before.jump
        freed = {m.group(1) for m in (re.match(r'^k?v?free\((\w+)\);$', x)
                                      for x in lines + copied) if m}
        lines = [x for x in lines if not x.endswith(' = NULL;')
                 or x.split('->')[0] not in freed]
        if isinstance(jump, c.Goto):
            path = self.of.path_of_label(jump.name)
            gone = {k[:2] for k in path.keys} & self.point.dropped
            if gone:
                raise Refused('label %s releases %s, which is gone already'
                              % (jump.name, sorted(gone)[0][1]))
            self._not_a_part(lines, jump.name)
            return self._goto(lines + copied, jump.name)
        if isinstance(jump, c.Jump):
            self._ends_well(jump)
            return NewExit(lines + copied + ['%s;' % jump.kind])
        return NewExit(lines + copied + self.returned.statements(self.confirmed))

    def _not_a_part(self, lines: list[str], target: str) -> None:
        """Refuse if a label that leads to `target` does what the lines do, and
        something besides that is not this mapping's."""
        done = {line.rstrip(';') for line in lines}
        then = self.of.path_of_label(target).keys
        later = self.of.exits_after(self.stmt)
        for name in self.of._labels:
            path = self.of.path_of_label(name)
            texts = {text(a.call, True) for a in path.actions}
            if self._on_the_way(name, target) and any(
                    isinstance(x, c.Call) and text(x, True) in done
                    for s in self._on_the_way(name, target)
                    for x in s.walk()) and any(
                    isinstance(s, c.Branches)
                    for s in self._on_the_way(name, target)):
                raise Refused('label %s does this and more' % name)
            if name != target and target in path.labels and done & texts \
                    and any(text(a.call, True) not in done
                            and a.key not in then
                            and not self._explained(a.key, later)
                            for a in path.actions):
                raise Refused('label %s does this and more' % name)

    def _set_by_all(self) -> list[str]:
        """A state that every early exit of the function sets alike."""
        sets = []
        for node in self.func.body.body:
            if not isinstance(node, c.If) or not ends_in_jump(node.then):
                continue
            sets.append({
                text(x.expr, True) + ';' for x in _block(node.then)
                if isinstance(x, c.ExprStmt) and isinstance(x.expr, c.Assign)
                and x.expr.op == '=' and outside(text(strip(x.expr.left)))
                and re.match(r'^(-?\d+|[A-Z]\w*|true|false)$',
                             text(strip(x.expr.right)))})
        return sorted(set.intersection(*sets)) if len(sets) > 1 else []

    def _on_the_way(self, label: str, target: str) -> list[c.Stmt]:
        """The statements between two labels of one block."""
        block = self.of.up.of(self.of._labels[label])
        stmts = block.body if isinstance(block, c.Block) else []
        first, last = (next((i for i, s in enumerate(stmts) if s is x), -1)
                       for x in (self.of._labels[label],
                                 self.of._labels.get(target)))
        return stmts[first:last] if 0 <= first < last else []

    def _stays_in_loop(self) -> None:
        """Refuse to leave a loop in a way that no exit in it does, if behind
        it there is more to do."""
        before, after = self.point.before, self.point.after
        loop = self.point.loops[-1] if self.point.loops else None
        if loop is None or any(
                isinstance(e.jump, (c.Return, c.Goto))
                for e in (before, after) if e is not None
                and any(x is loop for x in self.of.up.chain(e.stmt))):
            return
        for call in self.func.calls():
            if call.first.start > loop.last.end and not is_log(call.name) \
                    and not PURE.match(call.name):
                raise Refused('%s (line %d) may be due for earlier rounds of '
                              'the loop at line %d' % (
                                  text(call), call.first.line,
                                  loop.first.line))

    def _ends_well(self, jump: c.Jump) -> None:
        """What follows must not map again, nor read the failed handle."""
        loop = next((x for x in self.of.up.chain(self.stmt)
                     if isinstance(x, (c.Loop, c.Switch))), None)
        if loop is None or jump.kind != 'break':
            return
        written: set[str] = set()
        for node in self.func.body.walk():
            if node.first.start <= loop.last.end:
                continue
            if isinstance(node, c.Call) and any(
                    p.kind == self.mapped and p.acquire.match(node.name)
                    for p in PAIRS):
                raise Refused(
                    'after the loop line %d maps again' % node.first.line)
            if isinstance(node, c.Assign) and node.op == '=':
                written.add(text(strip(node.left)))
            elif isinstance(node, (c.Id, c.Member, c.Index)) \
                    and text(node) in self.names \
                    and text(node) not in written:
                raise Refused(
                    '%s is still used after the loop (line %d)'
                    % (text(node), node.first.line))

    def _keys(self, path: Path) -> set[tuple[str, ...]]:
        """The releases of a path, without conditions known to hold here."""
        out = set()
        for key in path.keys:
            if key[0] == 'call' and key[1] in self.of.common \
                    and not _RELEASING.search(key[1].split('(')[0]):
                continue
            kept = [t for t in key[3].split(' && ')
                    if self.of.known.get(t) is not True] if '||' not in key[3] \
                else [key[3]]
            out.add((*key[:3], ' && '.join(kept)))
        return out

    def _covers(self, needed, wanted, rest) -> None:
        if {self._key(h) for h in needed} | rest != wanted:
            raise Refused('no label undoes this')

    def _copied(self, before: Exit) -> list[str]:
        """The statements of the exit before, but for what only it may say."""
        branch = before.stmt.then
        out = []
        for stmt in (branch.body[:-1] if isinstance(branch, c.Block) else []):
            if not isinstance(stmt, c.ExprStmt):
                if isinstance(stmt, c.Opaque):
                    continue
                if any(not is_log(x.name) for x in stmt.walk()
                       if isinstance(x, c.Call)):
                    raise Refused(
                        'the exit at line %d is too complex to copy'
                        % before.stmt.first.line)
                continue
            expr = stmt.expr
            if isinstance(expr, c.Call) and releases(expr) \
                    in self.point.dropped:
                continue
            if isinstance(expr, c.Call) and releases(expr) is None and (
                    is_log(expr.name) or PURE.match(expr.name)):
                if not re.search('drop', text(expr)):
                    continue
            elif isinstance(expr, c.Call) and releases(expr) is None \
                    and not self.confirmed and _STARTS.search(expr.name):
                raise Refused('the exit at line %d also does %s, which may be '
                              'due to what it tests'
                              % (before.stmt.first.line, text(expr)))
            if isinstance(expr, c.Assign) and re.match(
                    '-E[A-Z]+$', text(expr.right)) \
                    and not isinstance(strip(expr.left), c.Id):
                # a status of its own
                out.append('%s = %s;' % (text(expr.left, True),
                                         self.returned.errno()))
                continue
            if isinstance(expr, c.Assign) and isinstance(strip(expr.left), c.Id):
                if RESULT_NAME.match(strip(expr.left).name) or \
                        error_value(expr.right, self.func):
                    continue
                if any(isinstance(x, c.Call) and self.of.driver.resolve(
                        x.name, self.func) for x in expr.right.walk()):
                    raise Refused('the exit at line %d also does %s' % (
                        before.stmt.first.line, text(expr)))
            if isinstance(expr, c.Unary) and not re.search('drop|fail',
                                                           text(expr)):
                continue
            out.append(text(expr, True) + ';')
        return out

    def _goto(self, lines: list[str], label: str) -> NewExit:
        path = self.of.path_of_label(label)
        status = self.returned.status(path)
        self._same_way(path, lines + status)
        gone = {key[1] for key in path.keys if key[0] == 'memory'}
        lines = [x for x in lines if not x.endswith(' = NULL;')
                 or x.split('->')[0] not in gone]
        reset = {text(strip(r.left)) for r in path.resets}
        for item in self.point.held:
            # what the label frees must not stay in a slot
            if item.kind == 'skb' and (item.kind, item.obj, '', '') in path.keys:
                lines = lines + ['%s = NULL;' % o for o in
                                 dict.fromkeys(item.others)
                                 if outside(o) and o not in reset]
        return NewExit(lines + status + ['goto %s;' % label])

    def _same_way(self, path: Path, lines: list[str]) -> None:
        """Refuse the label of the exit before if it asks for a variable that
        has another value here."""
        before = self.point.before
        if before is None or not isinstance(before.jump, c.Goto) \
                or before.jump.name != path.labels[0]:
            return
        given = {x.split(' = ')[0] for x in lines if ' = ' in x}
        held = {p for h in self.point.held for p in (h.obj, *h.others)}
        asked = {name for a in path.actions
                 for name in re.findall(r'[A-Za-z_]\w*', a.guard)}
        for node in self.func.body.walk():
            if before.stmt.last.end < node.first.start \
                    < self.stmt.first.start and isinstance(node, c.Assign) \
                    and isinstance(strip(node.left), c.Id) \
                    and text(strip(node.left)) in asked - given - held:
                raise Refused('label %s goes by %s, which has changed in line '
                              '%d' % (before.jump.name, text(node.left),
                                      node.first.line))


def _under_lock(lines: list[str]) -> list[str]:
    """A slot is emptied before the lock is dropped that protects it."""
    unlock = next((i for i, x in enumerate(lines) if 'unlock' in x), None)
    if unlock is None:
        return lines
    empty = [x for x in lines[unlock:] if x.endswith(' = NULL;') and not any(
        x[:-len(' = NULL;')] in y for y in lines[unlock:] if y != x)]
    return lines[:unlock] + empty + [x for x in lines[unlock:]
                                     if x not in empty]


def _asked_by(path: Path, keys: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Keys as a path has them that asks whether something is there: it needs
    not ask why it was taken, if it says of what is gone that it is."""
    told = {text(strip(r.left)) for r in path.resets}
    asks = {a.key[:2] for a in path.actions
            if a.guard and not a.key[3] and a.key[1] in told}
    return {(*k[:3], '') if k[:2] in asks else k for k in keys}


def _asks_for(action: Action) -> bool:
    """Is a release made only if what it is given is there?"""
    given = {text(strip(a)).lstrip('&') for a in action.call.args}
    return any(re.sub(r'^!IS_ERR(_OR_NULL)?\((.*)\)$|^!dma_mapping_error\(.*, '
                      r'(.*)\)$|^(.*) (?:!=|>) (?:NULL|0)$',
                      lambda m: next(x for x in m.groups()[1:] if x), term)
               in given for term in action.guard.split(' && '))


def _asked_before(of: Unwinder, call: c.Call) -> set[str]:
    """The fields that must be set for a call to be made."""
    out: set[str] = set()
    base = releases(call)[1]
    owner = re.sub(r'(->|\.)\w+$', '', base)

    def fields(cond: c.Expr) -> set[str]:
        return {x.name for x in cond.walk() if isinstance(x, c.Member)
                and text(strip(x.base)) == owner}

    for above in of.up.chain(call):
        if isinstance(above, c.If) and call.first.start < above.then.last.end:
            out |= fields(above.cond)
        if isinstance(above, c.Block):
            for stmt in above.body:
                if stmt.first.start > call.first.start:
                    break
                if isinstance(stmt, c.If) and ends_in_jump(stmt.then) \
                        and isinstance(plain(stmt.cond), c.Unary):
                    out |= fields(stmt.cond)
    return out


def _block(stmt: c.Stmt) -> list[c.Stmt]:
    return stmt.body if isinstance(stmt, c.Block) else [stmt]


def _says_only(stmt: c.Stmt) -> bool:
    """A message, or the errno?"""
    expr = stmt.expr if isinstance(stmt, c.ExprStmt) else None
    return isinstance(expr, c.Call) and is_log(expr.name) \
        or isinstance(expr, c.Assign) and isinstance(strip(expr.left), c.Id) \
        and bool(RESULT_NAME.match(strip(expr.left).name)) \
        or isinstance(expr, c.Assign) and text(expr.right) in ('0', 'NULL')


def _fits(taken: c.Call, given: c.Call) -> bool:
    """Pages of a higher order go back with their order, others without."""
    if taken.name == 'alloc_page' and given.name == 'put_page':
        return False        # nobody has taken a reference yet
    if taken.name == 'i2c_get_dma_safe_msg_buf':
        return len(given.args) == 3 and text(strip(given.args[1])) == text(
            strip(taken.args[0])) and text(given.args[2]) == 'false'
    ordered = re.search('pages', taken.name) and 'page_pool' not in taken.name
    if releases(given) and releases(given)[0] == 'page':
        return bool(ordered) == bool(re.search('free_pages', given.name))
    return True


def point_skb(point: Point, skb: str) -> list[Held]:
    return [h for h in point.held if h.kind == 'skb' and h.obj == skb]


def _takes_current(loop: c.Loop) -> bool:
    """Does an unwinding loop release the slot of the round that failed?

    One over all slots does, or one that counts down from this round.
    """
    if loop.kind != 'for' or loop.cond is None:
        return False
    if loop.init is None:
        return _takes_failed(loop)
    start = loop.init
    if isinstance(start, c.ExprStmt):
        start = start.expr
    bound = strip(loop.cond.right) if isinstance(loop.cond, c.Binary) else None
    return isinstance(start, c.Assign) and text(start.right) == '0' \
        and not (isinstance(bound, c.Id) and len(bound.name) == 1)


def _takes_failed(loop: c.Loop) -> bool:
    """Does an unwinding loop start with the round that failed?

    `for (; i >= 0; i--)` does, `while (i--)` and `while (--i >= 0)` do not.
    """
    if loop.kind == 'while' and re.match(r'^--\w+$', text(strip(loop.cond))):
        return True         # never ends when the first round failed
    if loop.kind != 'for' or loop.cond is None or loop.step is None:
        return False
    found = re.match(r'^(\w+) >=? ', text(strip(loop.cond)))
    return loop.init is None and bool(found) and text(loop.step) in (
        found.group(1) + '--', '--' + found.group(1))

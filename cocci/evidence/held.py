# SPDX-License-Identifier: GPL-2.0-only
"""What is held at a statement, and which exits stand before and behind it."""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from . import cparse as c
from .checks import Parents, ends_in_jump
from .driver import Driver, strip, text
from .exits import Exit, Path, Unwinder, releases_field
from .resources import (ASKS, CONVERTS, COUNTER, PAIRS, PURE, RESULT, VAGUE,
                        VERBS, Held, argument, field_name, is_log, outside,
                        releases)


@dataclass
class Point:
    """What is known of one statement: what is held, which exits are near.

    before is the last exit that every path to the point has passed, since
    what was acquired after it or by what it tests; doubts are changes since
    then that no table knows how to undo.  after is the next exit behind the
    point, between what is acquired on the way to it.
    """

    held: list[Held] = field(default_factory=list)
    before: Exit | None = None
    since: list[Held] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    after: Exit | None = None
    between: list[Held] = field(default_factory=list)
    called: set[str] = field(default_factory=set)   # on the way to after
    #: (kind, object) given back since the exit before, and on the way to after
    dropped: set[tuple[str, str]] = field(default_factory=set)
    between_dropped: set[tuple[str, str]] = field(default_factory=set)
    loops: list[c.Loop] = field(default_factory=list)
    assigned: dict[str, c.Expr] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)   # got a value that is not 0


_LIST = re.compile(r'^(hlist_|llist_|list_)(add|del|move|splice|replace)\w*|'
                   r'^_*skb_(queue|unlink)\w*|^(idr|ida|xa|radix_tree|rb)_\w+|'
                   r'^(atomic\d*|atomic_long|refcount|kref|kobject|local)_(inc|'
                   r'dec|add|sub|get|put)\w*|^(get|put)_(device|page|pid|task)'
                   r'|^(try_)?module_(get|put)|^set_bit|^clear_bit|^\w*kfifo_\w+|'
                   r'^__(set|clear)_bit|^test_and_(set|clear)_bit|^netdev_(sent|'
                   r'tx_sent)_queue|^dmaengine_\w+|^\w*submit\w*|^enable_irq|'
                   r'^disable_irq|^complete$|^wake_up|^schedule|^queue_work|^mod_timer|'
                   r'^add_timer|^hrtimer_start|^atomic\w*xchg|^(cmp)?xchg|'
                   r'^bitmap_(set|clear|\w*_region)|^k\w*realloc')
#: What stops the work of others until somebody starts it again.
_STOPS = re.compile(r'^netif_(tx_)?stop_(all_|sub)?queues?$')
#: Calls of the kernel's that by these words take something or change a state.
_TAKING = frozenset(VERBS) - VAGUE - {'alloc', 'zalloc', 'map', 'begin'}
CONSUMES = re.compile(r'^(netif_rx\w*|netif_receive_skb|napi_gro_receive|'
                       r'ieee80211_(rx|tx_status)\w*|skb_queue_\w+|'
                       r'__skb_queue_\w+|dev_queue_xmit|usb_submit_urb)$')


class Walk:
    """Run over statements in source order and keep what is held."""

    def __init__(self, unwinder: Unwinder):
        self.of = unwinder
        self.point = Point()
        self.called: set[str] = set()       # functions in no table
        self._asked: set[str] = set()       # what an exit so far has asked for
        self._read: set[str] = set()        # what a variable has a copy of
        self._doubted: dict[str, Held] = {}     # a doubt -> what was taken

    # -- statements

    def run(self, stmts: list[c.Stmt]) -> None:
        for index, stmt in enumerate(stmts):
            if isinstance(stmt, (c.Label, c.Case)) and index \
                    and ends_in_jump(stmts[index - 1]):
                if isinstance(stmt, c.Label):
                    self.point.doubts.append(
                        'label %s is reached from elsewhere' % stmt.name)
                continue
            if isinstance(stmt, c.Label) and any(
                    h.kind != 'lock' for h in self.point.since) and any(
                    isinstance(x, c.Goto) and x.name == stmt.name
                    for x in self.of.func.body.walk()):
                self.point.doubts.append(
                    'label %s is reached from elsewhere' % stmt.name)
            self.stmt(stmt, '', None, True)

    def stmt(self, stmt: c.Stmt, guard: str, loop: c.Stmt | None,
             outer: bool) -> None:
        if isinstance(stmt, c.Block):
            for inner in stmt.body:
                self.stmt(inner, guard, loop, outer)
        elif isinstance(stmt, c.If):
            self._if(stmt, guard, loop, outer)
        elif isinstance(stmt, c.Loop):
            for part in (stmt.init, stmt.cond, stmt.step):
                if part is not None:
                    self.events(part, guard, loop)
            self.stmt(stmt.body, guard, loop or stmt, False)
        elif isinstance(stmt, c.Switch):
            self.events(stmt.cond, guard, loop)
            self.stmt(stmt.body, guard or 'a case of a switch', loop, False)
        elif isinstance(stmt, c.Branches):
            for arm in stmt.body:
                self.stmt(arm, guard or '#if', loop, False)
        elif isinstance(stmt, (c.Goto, c.Return, c.Jump)):
            pass
        else:
            self.events(stmt, guard, loop)

    def _if(self, stmt: c.If, guard: str, loop: c.Stmt | None,
            outer: bool) -> None:
        before = len(self.point.doubts)
        self.events(stmt.cond, guard, loop)
        tested = tested_names(stmt.cond)
        # what the test finds to have gone well is not undone by its exit
        claims = self.point.doubts[before:] + [
            d for d in self.point.doubts[:before]
            if d in self._doubted and self._doubted[d].result in tested]
        found = self.of.exit_of(stmt)
        if found:
            if outer and not guard and not loop and self._serves(found):
                self._passed(found)
                self.point.doubts += [
                    d for d in claims if d not in self.point.doubts
                    and not self._undone(self._doubted.get(d), found.path)]
            if found.failure:
                self._asked |= {text(x) for x in stmt.cond.walk()
                                if isinstance(x, c.Member)}
            if stmt.other:
                self.stmt(stmt.other, guard, loop, outer)
            return
        inner = text(strip(stmt.cond))
        decided = self.of.known.get(inner)
        if decided is not None:
            taken = stmt.then if decided else stmt.other
            if taken is not None:
                self.stmt(taken, guard, loop, False)
            return
        before = list(self.point.held)
        both = guard + ' && ' + inner if guard else inner
        self.stmt(stmt.then, both, loop, False)
        after_then = self.point.held
        if stmt.other:
            # what only one branch gives back is still held on the other one
            self.point.held = before
            self.stmt(stmt.other, '!(%s)' % both, loop, False)
            self._merge(after_then, guard)
        else:
            gone = [h for h in before if h not in after_then]
            for item in gone:
                if not _is_null_test(stmt.cond, item.obj):
                    item.guard = item.guard or '!(%s)' % inner
                    self.point.held.append(item)

    def _merge(self, other: list[Held], guard: str) -> None:
        here = self.point.held
        names = {(h.kind, h.obj): h for h in here}
        out = [h for h in here]
        for item in other:
            twin = names.get((item.kind, item.obj))
            if twin is None:
                out.append(item)
            elif twin is not item:
                twin.guard = guard
        self.point.held = out
        self.point.since = [h for h in self.point.since if h in out] + [
            h for h in other if h in self.point.since and h not in out]

    def _serves(self, found: Exit) -> bool:
        """May the exit serve as a model?"""
        if not found.failure and not isinstance(found.jump, c.Jump):
            return False
        if retries(found.path):
            return False
        if isinstance(found.jump, c.Jump):
            # `if (!len) continue;` passes over work, it is no failure
            # and `if (!skb) break;` ends a queue that was emptied
            cond = found.stmt.cond
            if any('dequeue' in item.call.name for item in self._tested(cond)):
                return False
            if found.jump.kind == 'break' and self._counted(found):
                return True
            return found.failure and (bool(self._tested(cond)) or any(
                isinstance(x, c.Call) and 'error' in x.name
                for x in cond.walk()))
        return True

    def _counted(self, found: Exit) -> bool:
        """Does the function return how many rounds of the loop were done, so
        that its callers see to the rest?"""
        loop = next((x for x in self.of.up.chain(found.stmt)
                     if isinstance(x, (c.Loop, c.Switch))), None)
        last = self.of.func.body.body[-1]
        value = strip(last.value) if isinstance(last, c.Return) else None
        return isinstance(loop, c.Loop) and isinstance(value, c.Id) \
            and any(isinstance(x, c.Unary) and x.op in ('++', 'p++')
                    and text(strip(x.arg)) == value.name
                    for x in loop.walk())

    def _passed(self, found: Exit) -> None:
        tested = self._tested(found.stmt.cond)
        found.held = [h for h in self.point.held if h not in tested]
        self.point.before = found
        self.point.dropped = set()
        self.point.since = tested
        self.point.doubts = [d for d in self.point.doubts
                             if d.startswith('label')]
        self.point.assigned.update(
            {} if found.failure else {})

    def _tested(self, cond: c.Expr) -> list[Held]:
        """What is held because this test did not fail."""
        names = tested_names(cond)
        calls = {id(x) for x in cond.walk() if isinstance(x, c.Call)}
        out = []
        for item in self.point.held:
            result = self._result(item.call)
            if item.obj in names and item.obj == result \
                    or id(item.call) in calls:
                out.append(item)
            elif result and result in names and item.obj != result and \
                    self.point.assigned.get(result) is item.call \
                    or names & set(item.others):
                out.append(item)
        return out

    def _result(self, call: c.Call) -> str:
        return result_of(self.of.up, call)

    # -- what a statement does

    def events(self, node: c.Node, guard: str, loop: c.Stmt | None) -> None:
        for sub in list(node.walk())[::-1] if isinstance(node, c.Expr) \
                else node.walk():
            if isinstance(sub, c.Call):
                self._call(sub, self._inner(sub, node, guard), loop)
            elif isinstance(sub, c.Variable) and sub.init is not None:
                self._value(sub.name, sub.init, bool(guard or loop))
            elif isinstance(sub, c.Assign) and sub.op == '=':
                target = strip(sub.left)
                self._value(text(target), sub.right, bool(guard or loop))
            elif isinstance(sub, c.Unary) and sub.op == '&':
                # whoever gets the address may write there
                self.point.assigned.pop(text(strip(sub.arg)), None)
            elif isinstance(sub, c.Assign) or isinstance(sub, c.Unary) \
                    and sub.op in ('++', '--', 'p++', 'p--'):
                target = strip(sub.left if isinstance(sub, c.Assign)
                               else sub.arg)
                self._moves(text(target))
                if not isinstance(target, c.Id) \
                        and not self._counts(text(target)) \
                        and not self._own(target) \
                        and not (isinstance(sub, c.Assign)
                                 and sub.op in ('|=', '&=')):
                    self.point.doubts.append('%s changed (line %d)' % (
                        text(target), sub.first.line))

    def _inner(self, call: c.Call, node: c.Node, guard: str) -> str:
        """The condition of a call within an expression, beside its guard."""
        below: c.Node = call
        for above in self.of.up.chain(call):
            if below is node:
                break
            if isinstance(above, c.Ternary) and below is not above.cond \
                    or isinstance(above, c.Binary) and above.op == '&&' \
                    and below is above.right:
                inner = text(strip(above.cond if isinstance(above, c.Ternary)
                                   else above.left))
                if isinstance(above, c.Ternary) and below is above.other:
                    inner = '!(%s)' % inner
                guard = guard + ' && ' + inner if guard else inner
            below = above
        return guard

    def _counts(self, lvalue: str) -> bool:
        """Is it a counter of what has happened, not of what is pending?"""
        return bool(COUNTER.search(lvalue)) and not self.of.counts_down(lvalue)

    def _own(self, lvalue: c.Expr) -> bool:
        """Is it part of something that ends with the function's failure?

        A local struct, or memory that is held and not yet stored anywhere.
        """
        node = strip(lvalue)
        while isinstance(node, (c.Member, c.Index, c.Unary)):
            node = strip(node.arg if isinstance(node, c.Unary) else node.base)
            if any(h.kind == 'memory' and h.obj == text(node)
                   and not h.others for h in self.point.held):
                return True
        var = self.of.func.locals.get(node.name) \
            if isinstance(node, c.Id) else None
        skb = self.of.xmit_skb()
        given = [strip(x.right if isinstance(x, c.Assign) else x.init)
                 for x in self.of.func.body.walk() if isinstance(x, c.Assign)
                 and text(strip(x.left)) == node.name
                 or isinstance(x, c.Variable) and x.name == node.name
                 and x.init is not None] if skb and var is not None else []
        if given and all(isinstance(x, c.Call) and x.name.endswith('_hdr')
                         and [text(a) for a in x.args] == [skb]
                         for x in given):
            return True         # a header of the packet that is dropped
        return var is not None and not var.type.pointers and not var.static \
            and node.name not in {p.name for p in self.of.func.params}

    def _value(self, target: str, right: c.Expr, perhaps: bool) -> None:
        value = strip(right)
        if perhaps:
            self.point.assigned.pop(target, None)
        else:
            self.point.assigned[target] = value
        self._moves(target)
        source = text(value)
        if outside(target) and source not in ('0', 'NULL', 'false'):
            self.point.filled.add(target)
        emptied = source in ('0', 'NULL') and target in self._read
        if emptied or outside(target) and target in self._asked \
                and not isinstance(value, c.Call) and source != 'NULL':
            self.point.doubts.append('%s changed (line %d)' % (
                target, right.first.line))
        if outside(source):
            self._read.add(source)
        for item in self.point.held:
            if item.obj and source == item.obj and target != source \
                    and target not in item.others:
                item.others += (target,)
                if target in self._read and outside(target):
                    item.lost = item.lost or '%s replaces what was in %s ' \
                        'before' % (item.obj, target)

    def _moves(self, name: str) -> None:
        """A variable changes: a place that it indexes is another one now."""
        word = re.compile(r'(?<![\w.>])%s(?=->|\.|\[|\])' % re.escape(name))
        for item in self.point.held:
            if word.search(item.obj) and not item.loop:
                item.lost = item.lost or '%s was taken, and %s has changed ' \
                    'since' % (item.obj, name)
                item.obj += ' of then'
            if any(re.search(r'\b%s\b' % re.escape(name), other)
                   for other in item.others) and name != item.obj:
                item.lost = item.lost or '%s was stored in %s, and %s has ' \
                    'changed since' % (item.obj, item.others[-1], name)

    def _call(self, call: c.Call, guard: str, loop: c.Stmt | None) -> None:
        name = call.name
        if self._resumed(call):
            return
        gone = releases(call)
        if gone:
            self._release(gone, call, guard, loop)
            return
        for pair in PAIRS:
            if pair.acquire.match(name):
                obj = self._result(call) if pair.obj is RESULT \
                    else argument(call, pair.obj)
                others = results_of(self.of.up, call)[1:] \
                    if pair.obj is RESULT else ()
                self._acquire(Held(pair.kind, obj, call, True, guard, loop,
                                   tuple(others)))
                return
        if CONSUMES.match(name):
            self._doubt(call)
            for arg in call.args:
                self.point.held = [h for h in self.point.held
                                   if h.obj != text(strip(arg))]
                self.point.since = [h for h in self.point.since
                                    if h.obj != text(strip(arg))]
        if _LIST.match(name):
            self._listed(call)
            return
        if _STOPS.match(name):
            if not guard:
                self._doubt(call)
            return
        if re.match('[A-Z].*_SET|SET_', name) and call.args and outside(
                text(strip(call.args[0])) + '->'):
            self._doubt(call)
            return
        if name.startswith(('devm_', 'pcim_', '__devm_')):
            return
        if is_log(name) or PURE.match(name) and not (
                CONVERTS.match(name) and self._bare(call)):
            self._effects(call)
            return
        self._unknown(call, guard, loop)

    def _doubt(self, call: c.Call, taken: Held | str = '') -> None:
        """A call that takes or changes something, perhaps known what."""
        doubt = '%s (line %d%s)' % (text(call), call.first.line,
                                    ': %s' % taken if taken else '')
        self.point.doubts.append(doubt)
        kind, obj = (taken.kind, taken.obj) if isinstance(taken, Held) \
            else ('', '')
        self._doubted[doubt] = Held(kind, obj, call, result=self._result(call))

    def failed(self, cond: c.Expr) -> None:
        """The results that a test asks for are not there: nothing was taken
        with them."""
        cond = strip(cond)
        if isinstance(cond, c.Unary) and cond.op == '!' \
                or isinstance(cond, c.Binary) and cond.op == '==':
            gone = tested_names(cond)
            self.point.doubts = [
                d for d in self.point.doubts if d not in self._doubted
                or self._doubted[d].result not in gone]

    def _undone(self, taken: Held | None, path: Path) -> bool:
        """Does a function that an exit calls release what a call took?"""
        if taken is None or not taken.obj:
            return False
        name = field_name(taken.obj)
        return any(
            callee is not None and callee.body is not None
            and releases_field(self.of.driver, callee, taken.kind, {name}, 3)
            for callee in (self.of.driver.resolve(a.call.name, self.of.func)
                           for a in path.actions if a.call.name))

    def _bare(self, call: c.Call) -> bool:
        """Does nobody take the result?"""
        return isinstance(self.of.up.of(call), c.ExprStmt)

    def _listed(self, call: c.Call) -> None:
        """Something goes to a list, or is counted, or started."""
        name = call.name
        if name.startswith(('atomic', 'local')) and call.args \
                and self._counts(text(call)):
            return
        if 'list' in name or 'queue' in name:
            mine = [arg for arg in call.args if self._own(arg)]
            for item in self.point.held:
                if any(re.match(r'&?%s(->|\.|$)' % re.escape(item.obj),
                                text(strip(arg))) for arg in mine):
                    item.lost = item.lost or '%s was put on a list (line ' \
                        '%d)' % (item.obj, call.first.line)
            if mine:
                return
        self._doubt(call)

    def _effects(self, call: c.Call) -> None:
        """What a function or macro of the driver does whose name tells of no
        taking."""
        why = effects(self.of.driver, self.of.func, call)
        if why:
            self._doubt(call, why)

    def _unknown(self, call: c.Call, guard: str, loop: c.Stmt | None) -> None:
        name = call.name
        self.called.add(name)
        for item in self.point.held:
            if item.kind in ('skb', 'memory', 'page') and any(
                    text(strip(a)) == item.obj for a in call.args) \
                    and not call.name.startswith(('skb_', '__skb_', 'eth_')) \
                    and self._may_keep(call, item.obj, 2):
                given = '%s was given to %s() (line %d)' % (
                    item.obj, name, call.first.line)
                if self.of.driver.resolve(name, self.of.func) is None:
                    item.given = item.given or given
                else:
                    item.lost = item.lost or given
        for held in list(self.point.held):
            if call.name in held.undoers or (
                    held.obj and any(text(strip(a)) == held.obj
                                     for a in call.args)
                    and re.search('free|put|release|destroy|drop', call.name)):
                self.point.held.remove(held)
                if held in self.point.since:
                    self.point.since.remove(held)
                return
        item = self._guessed(call) or self._paused(call)
        if item is not None:
            item.guard, item.loop = guard, loop
            self._acquire(item)
        elif self.of.driver.resolve(name, self.of.func) is not None \
                or self.of.driver.macro(name) is not None:
            self._effects(call)
        elif {*name.lower().split('_')[:1], *name.lower().split('_')[-1:]} \
                & _TAKING and not ASKS.search(name):
            self._doubt(call)

    def _may_keep(self, call: c.Call, obj: str, depth: int) -> bool:
        """May a called function keep or release what it is given?"""
        callee = self.of.driver.resolve(call.name, self.of.func) \
            if call.name else None
        if callee is None or callee.body is None or not depth:
            return True
        names = {param.name for param, arg in zip(callee.params, call.args)
                 if text(strip(arg)) == obj}
        for node in callee.body.walk():
            if isinstance(node, c.Assign) and text(strip(node.right)) in names:
                if not isinstance(strip(node.left), c.Id) \
                        or text(strip(node.left)) not in callee.locals:
                    return True
                names.add(text(strip(node.left)))
            elif isinstance(node, c.Variable) and node.init is not None \
                    and text(strip(node.init)) in names:
                names.add(node.name)
            if isinstance(node, c.Call) and not is_log(node.name) \
                    and not PURE.match(node.name) \
                    and not node.name.startswith(('skb_', '__skb_', 'eth_')) \
                    and any(text(strip(a)) in names for a in node.args) \
                    and any(self._may_keep(node, name, depth - 1)
                            for name in names):
                return True
        return False

    def _guessed(self, call: c.Call) -> Held | None:
        """What a call takes, as far as its name and its result tell."""
        result = self._result(call)
        var = self.of.func.locals.get(result)
        pointer = var is not None and var.type.pointers > 0
        if pointer or result in self.of.null_tested and outside(result):
            released = self.of.released.get(result) if pointer else None
            if released:
                return Held(released, result, call)
            if not re.search('alloc|_dup|clone|create|get_skb', call.name):
                result = ''
            elif pointer and var.type.base == 'struct sk_buff':
                return Held('skb', result, call)
            else:
                return Held('%s from %s()' % (result, call.name), result, call,
                            False, undoers=self.of.counterparts(call.name),
                            result=result)
        else:
            result = ''
        names = self.of.counterparts(call.name)
        if not names or ASKS.search(call.name):
            return None
        if not result and self.of.vague(call.name) \
                and not self.of.undoes(names):
            return None
        obj = result or (text(strip(call.args[0])) if call.args else '')
        return Held('%s() undone by %s' % (call.name, ' '.join(names)), obj,
                    call, False, undoers=names, result=self._taken(call))

    def _taken(self, call: c.Call) -> str:
        """The pointer that keeps the result of a call."""
        result = self._result(call)
        var = self.of.func.locals.get(result)
        return result if outside(result) or var is not None \
            and var.type.pointers else ''

    def _acquire(self, item: Held) -> None:
        var = self.of.func.locals.get(item.obj)
        if var is not None and any(x.startswith(('__free', '__cleanup'))
                                   for x in var.attributes):
            return      # goes of itself
        self._overwritten(item)
        self.point.held.append(item)
        self.point.since.append(item)

    def _overwritten(self, item: Held) -> None:
        """What the same variable held before is in other places now."""
        same = [h for h in self.point.held
                if (h.kind, h.obj, h.guard) == (item.kind, item.obj, item.guard)]
        for old in same:
            if item.kind == 'lock' or not item.obj or old.call is item.call:
                self.point.held = [h for h in self.point.held if h is not old]
                self.point.since = [h for h in self.point.since
                                    if h is not old]
            else:
                old.lost = old.lost or '%s is overwritten (line %d)' % (
                    old.obj, item.call.first.line)
                old.obj = old.others[0] if old.others else old.obj + ' of then'

    def _resumed(self, call: c.Call) -> bool:
        """Does it end a pause that this function has made?"""
        given = text(strip(call.args[0])) if call.args else ''
        for item in self.point.held:
            if not item.known and call.name in item.undoers \
                    and item.obj == given and not item.result:
                self.point.held = [h for h in self.point.held if h is not item]
                self.point.since = [h for h in self.point.since
                                    if h is not item]
                return True
        return False

    def _paused(self, call: c.Call) -> Held | None:
        """A pause: what is given back here and taken again further on."""
        gone = releases(call)
        for other in self.of.func.calls():
            if other.first.start < call.last.end:
                continue
            if gone is None:
                found = call.name in self.of.counterparts(other.name) \
                    and [text(x) for x in call.args] == [
                        text(x) for x in other.args]
            else:
                found = any(p.kind == gone[0] and p.obj is not RESULT
                            and p.acquire.match(other.name)
                            and argument(other, p.obj) == gone[1]
                            for p in PAIRS)
            if found:
                return Held('%s() undone by %s' % (call.name, other.name),
                            text(strip(call.args[0])) if call.args else '',
                            call, False, undoers=(other.name,))
        return None

    def _release(self, gone: tuple[str, str], call: c.Call, guard: str,
                 loop: c.Stmt | None) -> None:
        perhaps = bool(guard or loop)
        before = self.point.before
        held = any(_hit(h, gone) for h in self.point.held)
        pause = None if held else self._paused(call)
        if pause is not None:
            pause.guard, pause.loop = guard, loop
            self._acquire(pause)
        elif not perhaps:
            self.point.dropped.add(gone)
        elif before is not None and any(_hit(h, gone) for h in before.held) \
                or gone[0] != 'lock' and not held:
            # the exit before can be no model for what is held now
            self.point.doubts.append('%s (line %d)' % (text(call),
                                                       call.first.line))
        self.point.held = [h for h in self.point.held if not _hit(h, gone)]
        self.point.since = [h for h in self.point.since if not _hit(h, gone)]


def _hit(item: Held, gone: tuple[str, str]) -> bool:
    """Is it what a call releases?"""
    return item.kind == gone[0] and (
        item.obj == gone[1] or gone[1] in item.others)


class _Effects(Walk):
    """A walk over a called function, whose own exits are of no interest."""

    def _passed(self, found: Exit) -> None:
        pass

    def _release(self, gone: tuple[str, str], call: c.Call, guard: str,
                 loop: c.Stmt | None) -> None:
        self.point.held = [h for h in self.point.held
                           if not _hit(h, gone)]


def effects(driver: Driver, func: c.Function, call: c.Call) -> Held | str:
    """What a call of the driver's own takes or changes, '' if nothing.

    What fails in it undoes itself; what counts is what is left when it
    succeeds.
    """
    known: dict[str, Held | str] = driver.__dict__.setdefault('_effects', {})
    callee = driver.resolve(call.name, func) if call.name else None
    key = callee.path + ':' + call.name if callee else call.name
    if key not in known:
        known[key] = ''         # recursion
        if callee is not None and callee.body is not None:
            known[key] = _left_by(driver, callee)
        elif callee is None and call.name and driver.macro(call.name):
            known[key] = _left_by_macro(driver, call.name)
    return known[key]


def _left_by(driver: Driver, callee: c.Function) -> Held | str:
    walk = _Effects(Unwinder(driver, callee))
    body = []
    for stmt in callee.body.body:
        if ends_in_jump(stmt):
            break
        body.append(stmt)
    walk.run(body)
    given = {text(strip(x.value)) for x in callee.body.walk()
             if isinstance(x, c.Return) and x.value is not None} \
        if callee.returns.base == 'struct sk_buff' else set()
    found = [h for h in walk.point.held if not given & {h.obj, *h.others}] + [
        d for d in walk.point.doubts if not d.startswith('label')]
    return found[0] if found else ''


def _left_by_macro(driver: Driver, name: str) -> str:
    """What the body of a macro takes and does not give back."""
    calls = re.findall(r'([A-Za-z_]\w*)\s*\(', driver.macro(name).body)
    for pair in PAIRS:
        if any(map(pair.acquire.match, calls)) \
                and not any(map(pair.release.match, calls)):
            return pair.kind
    return next((x for x in calls if _LIST.match(x)), '')


def result_of(up: Parents, call: c.Call) -> str:
    """The lvalue that takes a call's result, '' if none does."""
    return next(iter(results_of(up, call)), '')


def results_of(up: Parents, call: c.Call) -> list[str]:
    """The lvalues that take a call's result: `a = b = f()` gives b and a."""
    node: c.Node = call
    out: list[str] = []
    for above in up.chain(call):
        if isinstance(above, c.Assign) and above.right is node:
            out.append(text(strip(above.left)))
        elif isinstance(above, c.Variable):
            out.append(above.name)
            break
        elif not isinstance(above, (c.Paren, c.Cast, c.Assign, c.Ternary)):
            break
        node = above
    return out


def retries(path: Path) -> bool:
    """Does the caller keep the skb and try again?"""
    values = [path.value, *path.assigned.values()]
    return any(v is not None and text(v) == 'NETDEV_TX_BUSY' for v in values)


def tested_names(cond: c.Expr) -> set[str]:
    """The lvalues that a test finds to be there, or free of error."""
    cond = strip(cond)
    if isinstance(cond, c.Call):
        return {n for a in cond.args for n in tested_names(a)} \
            if cond.name.startswith(('IS_ERR', 'unlikely', 'likely', 'WARN')) \
            or 'mapping_error' in cond.name else set()
    if isinstance(cond, c.Unary) and cond.op == '!':
        return tested_names(cond.arg)
    if isinstance(cond, c.Unary) and cond.op == '*':
        return {text(cond)}
    if isinstance(cond, c.Binary):
        if cond.op in ('||', '&&'):
            return tested_names(cond.left) | tested_names(cond.right)
        return tested_names(cond.left) | tested_names(cond.right) \
            if cond.op in ('==', '!=', '<', '<=') else set()
    if isinstance(cond, c.Assign):
        return {text(strip(cond.left))}
    return {text(cond)} if isinstance(cond, (c.Id, c.Member, c.Index)) else set()


def _is_null_test(cond: c.Expr, obj: str) -> bool:
    return text(strip(cond)) in (obj, obj + ' != NULL')


def _known(of: Unwinder, stmt: c.Stmt) -> dict[str, bool]:
    """Conditions of the ifs around a statement that nobody changes."""
    out: dict[str, bool] = {}
    below: c.Node = stmt
    written = {text(strip(x.left)) for x in of.func.body.walk()
               if isinstance(x, c.Assign)}
    for above in of.up.chain(stmt):
        if isinstance(above, c.If) and below is not above.cond:
            cond, holds = strip(above.cond), below is above.then
            names = {text(x) for x in cond.walk()
                     if isinstance(x, (c.Id, c.Member))}
            if not names & written and not any(
                    isinstance(x, c.Call) for x in cond.walk()):
                out[text(cond)] = holds
                if isinstance(cond, c.Unary) and cond.op == '!':
                    out[text(strip(cond.arg))] = not holds
                else:
                    out['!' + text(cond)] = not holds
        below = above
    return out


def locate(of: Unwinder, stmt: c.Stmt) -> Point:
    """Everything that precedes a statement on every way to it."""
    of.known = _known(of, stmt)
    walk = Walk(of)
    skb = of.xmit_skb()
    if skb:
        at = of.func.name_token
        walk.point.held.append(Held('skb', skb, c.Call(
            at, at, c.Id(at, at, of.func.name), [])))
    chain = [stmt, *[x for x in of.up.chain(stmt)]]
    steps: list[tuple[c.Node, c.Node]] = list(zip(chain[1:], chain))[::-1]
    for above, below in steps:
        if isinstance(above, c.Block):
            index = next(i for i, s in enumerate(above.body) if s is below)
            before = above.body[:index]
            owner = of.up.of(above)
            if isinstance(owner, c.Switch):
                cases = [i for i, s in enumerate(before)
                         if isinstance(s, c.Case)]
                start = cases[-1] if cases else 0
                while start > 1 and not ends_in_jump(before[start - 1]) \
                        and any(i < start for i in cases):
                    start = [i for i in cases if i < start][-1]
                before = before[start:]
                last = max((i for i, s in enumerate(before)
                            if isinstance(s, c.Case)), default=0)
                # the last case is also reached without the ones above it
                for stmt_above in before[:last]:
                    walk.stmt(stmt_above, 'a case of a switch', None, False)
                before = before[last:]
            walk.run(before)
        elif isinstance(above, c.Loop):
            for part in (above.init, above.cond):
                if part is not None:
                    walk.events(part, '', None)
            walk.point.loops.append(above)
        elif isinstance(above, (c.If, c.Switch)):
            walk.events(above.cond, '', None)
            if isinstance(above, c.If) and below is above.then:
                walk.failed(above.cond)
    point = walk.point
    for loop in point.loops:
        # an earlier round may have left another value
        for node in loop.body.walk():
            if isinstance(node, c.Assign):
                point.assigned.pop(text(strip(node.left)), None)
    if point.before is not None:
        # an exit in the body of a loop has settled what earlier rounds hold
        inside = {id(x) for x in of.up.chain(point.before.stmt)}
        point.loops = [x for x in point.loops if id(x) not in inside]
    for item in point.held:
        twin = next((h for h in point.held if (h.kind, h.obj) == (
            item.kind, item.obj) and h.guard == '!(%s)' % item.guard), None)
        if item.guard and twin is not None:
            # taken on either way
            item.guard = ''
            point.held = [h for h in point.held if h is not twin]
            point.since = [h for h in point.since if h is not twin]
            if twin not in point.since and item not in point.since:
                break
    _look_ahead(of, stmt, point)
    return point


def _look_ahead(of: Unwinder, stmt: c.Stmt, point: Point) -> None:
    """Find the next exit behind a statement that every path comes to."""
    walk = Walk(of)
    node: c.Node = stmt
    while True:
        above = of.up.of(node)
        if isinstance(above, c.Block):
            index = next(i for i, s in enumerate(above.body) if s is node)
            for item in above.body[index + 1:]:
                if isinstance(item, (c.Label, c.Case, c.Goto, c.Return, c.Jump)):
                    return
                found = of.exit_of(item)
                if found is not None and found.failure \
                        and not retries(found.path):
                    walk.events(item.cond, '', None)
                    point.after = found
                    # with what this exit finds not to be there: its label
                    # may undo half of it
                    point.between = walk.point.held
                    point.between_dropped = walk.point.dropped
                    point.called = walk.called
                    return
                if any(isinstance(x, (c.Return, c.Goto)) for x in item.walk()):
                    return
                walk.stmt(item, '', None, False)
        elif above is None or isinstance(above, (c.Loop, c.Switch)):
            return
        node = above

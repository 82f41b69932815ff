# SPDX-License-Identifier: GPL-2.0-only
"""What is held at a point of a function, and how its own exits release it.

A new exit must release exactly what is held there.  Two sources say what that
is: a table of what acquires and what releases, and the function's own exits
before and after the point.  Where they agree the new exit is built from the
function's own labels and statements; everywhere else `Refused` says why not.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from . import cparse as c
from .checks import ends_in_jump
from .driver import Driver, strip, text
from .exits import XMIT, Action, Exit, Path, Unwinder, error_value
from .held import (CONSUMES, Point, Walk, is_nonzero_test, locate, retries,
                   tested_names)
from .resources import (PAIRS, PURE, RESULT_NAME, Held, is_log, outside,
                        releases)


class Refused(Exception):
    """No correct exit can be built; the text says why."""


@dataclass
class NewExit:
    """What the new check does: statements, the last one of them leaves."""

    lines: list[str]
    why: str = ''

    @property
    def code(self) -> str:
        """As one C statement."""
        return self.lines[0] if len(self.lines) == 1 \
            else '{ %s }' % ' '.join(self.lines)


_SIGNED = frozenset('int long s32 ssize_t s64 int32_t'.split())


#: What a transfer function is called that works without DMA.
_WITHOUT_DMA = ('pio', 'cpu', 'fifo', 'poll', 'polling', 'irq', 'sync')


class Builder:
    """Builds the exit for a map whose result is found to be an error.

    stmt is the statement of the map, names the lvalues with the handle,
    error the value for a function that returns negative errnos.
    """

    def __init__(self, unwinder: Unwinder, stmt: c.Stmt, names: list[str],
                 mapped: str):
        self.of, self.func = unwinder, unwinder.func
        self.stmt, self.names, self.mapped = stmt, names, mapped
        self.point = locate(unwinder, stmt)

    def build(self) -> NewExit:
        if self.func.split:
            raise Refused('an #if cuts through a statement of %s()'
                          % self.func.name)
        self._no_other_way()
        self._trust()
        self._not_replaced()
        needed = self._needed()
        wanted = self._agreed(needed)
        if not self.confirmed:
            self._no_doubts()
        if self.rounds is None:
            self._explain(wanted)
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
                    raise Refused(self._held_text(
                        '%s() does the same without DMA and may be due when '
                        'the mapping fails' % name))

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
                    raise Refused(self._held_text(
                        '%s() (line %d) has already given away what this '
                        'mapping replaces' % (stmt.expr.name,
                                              stmt.first.line)))

    def _trust(self) -> None:
        point = self.point
        for doubt in point.doubts:
            if doubt.startswith('label'):
                raise Refused(self._held_text(doubt))
        if point.loops and self._keeps_mapping(point.loops[-1]):
            self.rounds = point.loops[-1]
        else:
            self.rounds = None

    def _keeps_mapping(self, loop: c.Loop) -> bool:
        """Do mappings of earlier rounds live when a round fails?"""
        for node in loop.body.walk():
            if isinstance(node, c.Call) and node.first.start > self.stmt.last.end:
                gone = releases(node)
                if gone and gone[0] == self.mapped and gone[1] in self.names:
                    return False
        return True

    def _held_text(self, why: str) -> str:
        held = self.point.held
        what = '; held here: ' + ', '.join(str(h) for h in held) if held \
            else '; nothing is known to be held here'
        return why + what

    # -- what must be released

    def _needed(self) -> list[Held]:
        """What the nearest exit before does not release, because it was taken
        later; without such an exit everything that is held."""
        before = self.point.before
        needed = [h for h in (self.point.since if before else self.point.held)]
        if before:
            needed = [h for h in needed if not self._helper_takes(
                h, before.path)]
        skb = self.of.xmit_skb()
        if before and skb:
            # an exit that does not free it is none of a transmit function's
            needed = [h for h in point_skb(self.point, skb) if not any(
                a.key[:2] == ('skb', skb) for a in before.path.actions)
                and not self._helper_takes(h, before.path)] + [
                    h for h in needed if h.obj != skb]
        return needed

    def _helper_takes(self, item: Held, path: Path) -> bool:
        """Does a function that the exit calls release the object?"""
        places = [p for p in (item.obj, *item.others) if p]
        fields = {re.split(r'->|\.', p)[-1].split('[')[0] for p in places
                  if '->' in p or '.' in p or '[' in p}
        for action in path.actions:
            call = action.call
            if releases(call):
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
                             call.name):
                    raise Refused(self._held_text(
                        '%s() may release %s' % (call.name, item)))
                continue
            if _releases_field(self.of.driver, callee, item.kind, fields, 3):
                if item.kind == self.mapped or not self._unmaps(action):
                    return True
                # it would unmap the failed handle along with the buffer
                self.forget_handle = True
        return False

    def _agreed(self, needed: list[Held]) -> set[tuple[str, ...]]:
        """The keys of all releases, confirmed by the next exit."""
        before, after = self.point.before, self.point.after
        wanted = {self._key(h) for h in needed}
        if before:
            wanted |= self._keys(before.path)
        if after is None or after.path.end not in ('return', 'break',
                                                   'continue'):
            self._no_doubts()
            return wanted
        theirs = self._keys(after.path)
        mine = {k for k in theirs if k[0] == self.mapped
                and k[1] in self.names}
        alone = not any(k[0] == self.mapped for k in wanted)
        mine |= {a.key for a in after.path.actions if alone and not
                 releases(a.call) and a.key not in wanted
                 and self._only_unmaps(a.call, True)}
        helpers = {k for k in theirs - wanted - mine if self._ends_this(k)}
        if helpers:
            raise Refused(self._held_text(
                '%s of the exit at line %d undoes this mapping and maybe more'
                % (sorted(helpers)[0][1], after.stmt.first.line)))
        theirs -= mine
        for item in self.point.between:
            theirs -= {k for k in theirs if k[0] == item.kind
                       and k[1] == item.obj or not item.known
                       and k[0] == 'call' and any(
                           k[1].startswith(n + '(')
                           for n in item.kind.split())}
        if theirs == wanted:
            self.confirmed = True
            return wanted
        return self._differing(wanted, theirs, bool(mine), needed)

    def _explain(self, wanted: set[tuple[str, ...]]) -> None:
        """A label or a later exit that undoes more must undo what comes
        after the map; else something is held that we did not see."""
        paths = []
        for name, label in self.of._labels.items():
            if label.first.start > self.stmt.last.end:
                path = self.of.path_of_label(name)
                if path.end == 'return' and wanted <= path.keys \
                        or path.end == 'branches' and not (
                            path.keys & wanted):
                    paths.append(('label %s' % name, path))
        later = self.of.exits_after(self.stmt)
        if later and self.point.after is None:
            paths.append(('the exit at line %d' % later[0].stmt.first.line,
                          later[0].path))
        for name, path in paths:
            for key in path.keys - wanted:
                if not self._explained(key, later):
                    raise Refused(self._held_text(
                        '%s also does %s, which may be due here'
                        % (name, ' '.join(k for k in key[:2]))))

    def _explained(self, key: tuple[str, ...], later: list[Exit]) -> bool:
        kind, obj = key[:2]
        if kind == self.mapped and (obj in self.names or key[2]):
            return True
        if key[2] and any(
                p.kind == self.mapped and p.acquire.match(call.name)
                and call.first.start > self.stmt.last.end
                and any(isinstance(x, c.Loop)
                        for x in self.of.up.chain(call))
                for call in self.func.calls() for p in PAIRS):
            return True         # unwinds a loop that is still to come
        if any(key not in e.path.keys for e in later):
            return True
        for call in self.func.calls():
            if call.first.start < self.stmt.last.end:
                continue
            if kind == 'call':
                if obj.split('(')[0] in self.of.counterparts(call.name):
                    return True
            elif any(p.kind == kind and p.acquire.match(call.name)
                     for p in PAIRS):
                return True
        return False

    confirmed = False
    forget_handle = False

    def _differing(self, wanted, theirs, unmaps, needed):
        after = self.point.after
        lacking = wanted - theirs
        extra = theirs - wanted
        params = {p.name for p in self.func.params}
        guesses = {self._key(h) for h in needed if not h.known}
        if unmaps and not (lacking - guesses) and all(
                self._before_point(k) for k in extra):
            return theirs
        if not lacking and all(k[0] in ('skb', 'memory') and k[1] in params
                               for k in extra):
            return theirs
        raise Refused(self._held_text(
            'the next exit (line %d) does not release the same'
            % after.stmt.first.line))

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
            raise Refused(self._held_text('nothing tells how to undo ' +
                                          ', '.join(self.point.doubts)))

    @staticmethod
    def _key(item: Held) -> tuple[str, ...]:
        if not item.known:
            return ('call', item.kind, '', '')
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
            return self._from_after(wanted)
        lines = self._undo(needed)
        return self._leave(lines, wanted, needed)

    def _synthesised(self, needed) -> bool:
        return all(h.known and not h.loop and not h.guard for h in needed)

    def _from_after(self, wanted):
        raise Refused(self._held_text('no label undoes this'))

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
            if path.end == 'return' and keys == wanted \
                    and not retries(path) \
                    and all(not k[3] or self._still_known(k[3]) for k in keys):
                return name
        return ''

    def _with_rounds(self, wanted: set[tuple[str, ...]]) -> NewExit:
        """Earlier rounds of a loop hold mappings: only a label that unmaps in
        a loop of its own will do, and only if there is just one."""
        for above in self.of.up.chain(self.stmt):
            if above is self.rounds:
                break
            if isinstance(above, (c.If, c.Switch)):
                raise Refused(self._held_text(
                    'only some rounds of the loop at line %d make this '
                    'mapping, so no label is known to undo the earlier ones'
                    % self.rounds.first.line))
        others = {k for k in wanted if k[2] != 'loop' and k[0] != self.mapped}
        singles = sum(k[0] == self.mapped and k[2] != 'loop' for k in wanted)
        found: dict[frozenset, str] = {}
        for name, label in self.of._labels.items():
            path = self.of.path_of_label(name)
            loops = [a for a in path.actions if a.loop is not None]
            direct = {a.key for a in path.actions if a.loop is None}
            unmaps = {k for k in direct if k[0] == self.mapped}
            if label.first.start > self.stmt.last.end \
                    and path.end == 'return' and not retries(path) \
                    and any(self._unmaps(a) for a in loops) \
                    and not any(_takes_failed(a.loop) for a in loops) \
                    and direct - unmaps == others and len(unmaps) in (
                        0, singles):
                found.setdefault(frozenset(path.keys), name)
        if len(found) == 1:
            return self._goto([], next(iter(found.values())))
        raise Refused(self._held_text(
            'mappings of earlier rounds of the loop at line %d have to be '
            'undone and no label does just that' % self.rounds.first.line))

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
            if not item.obj:
                raise Refused(self._held_text('no variable keeps the %s of '
                              'line %d' % (item.kind, item.call.first.line)))
            if item.obj in self.names:
                raise Refused(self._held_text(
                    '%s is overwritten by this mapping' % item.obj))
            if not item.known or item.loop or item.guard \
                    and not self._still_known(item.guard):
                raise Refused(self._held_text('no label undoes %s' % item))
            release = self._release_text(item)
            if item.guard and self.of.known.get(item.guard) is not True:
                release = ['if (%s) %s' % (item.guard, release[0]
                                           if len(release) == 1 else
                                           '{ %s }' % ' '.join(release))]
            lines += release
        return lines

    @property
    def goes_on(self) -> bool:
        """Does the new exit stay in the function, as `break` does?"""
        before = self.point.before
        return before is not None and isinstance(before.jump, c.Jump)

    def _release_text(self, item: Held) -> list[str]:
        if item.lost and (item.others or any(
                k[0] == 'call' for k in (self.point.before.path.keys
                                         if self.point.before else ()))):
            raise Refused(self._held_text(item.lost))
        if any(outside(o) for o in item.others) and item.obj not in \
                self.of.released and not (self.point.before and isinstance(
                    self.point.before.jump, c.Jump)) and not self.of.xmit_skb():
            raise Refused(self._held_text(
                '%s was already stored in %s, and no exit of %s() releases it'
                % (item.obj, item.others[-1], self.func.name)))
        if outside(item.obj) and item.kind != 'mapping' \
                and item.obj not in self.of.released \
                and self.of.released_elsewhere(item.obj) \
                and not self.goes_on:
            raise Refused(self._held_text(
                'no exit of %s() releases %s, another function does'
                % (self.func.name, item.obj)))
        self._not_swept(item)
        for call in self.func.calls():
            gone = releases(call)
            if gone == (item.kind, item.obj) and self._simple(call) \
                    and _fits(item.call, call):
                out = [text(call, True) + ';']
                break
        else:
            out = [self._default_release(item)]
        if item.kind in ('skb', 'memory', 'page', 'coherent memory'):
            out += ['%s = NULL;' % o for o in dict.fromkeys(
                (item.obj, *item.others)) if (
                    outside(o) or o.startswith('*')) and (
                    item.kind == 'skb' or self.of.asked_for(o, self.goes_on)
                    or self.of.released_elsewhere(o))]
        return out

    def _still_known(self, guard: str) -> bool:
        """Can a condition be tested again with the same outcome?"""
        calls = re.findall(r'(\w+)\(', guard)
        if re.search(r'\+\+|--|[^=!<>]=[^=]|#if|a case', guard) \
                or any(not re.match('[A-Z][A-Z0-9_]*$', x) for x in calls):
            return False
        names = set(re.findall(r'[A-Za-z_]\w*', guard))
        if self._loops():
            return False
        for node in self.func.body.walk():
            target = None
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
                raise Refused(self._held_text(
                    '%s (line %d) may release it as well'
                    % (text(call), call.first.line)))

    def _loops(self) -> list[c.Loop]:
        return [x for x in self.of.up.chain(self.stmt)
                if isinstance(x, c.Loop)]

    def _simple(self, call: c.Call) -> bool:
        """May a release be copied to another place?"""
        up = self.of.up
        return isinstance(up.of(call), c.ExprStmt)

    def _default_release(self, item: Held) -> str:
        name = item.call.name
        if item.kind == 'skb':
            return 'dev_kfree_skb_any(%s);' % item.obj
        if item.kind == 'memory' and name.startswith('k') and not name.startswith(
                ('kmem_cache', 'kv')):
            return 'kfree(%s);' % item.obj
        if item.kind == 'mapping':
            return self._unmap(item)
        if item.kind == 'page' and name in ('alloc_page', 'dev_alloc_page',
                                            '__dev_alloc_page'):
            if {'put_page', '__free_page'} <= self.of.words or \
                    'put_page' not in self.of.words:
                return '__free_page(%s);' % item.obj
            return 'put_page(%s);' % item.obj
        args = [text(a, True) for a in item.call.args]
        if name.startswith('kmem_cache') and args:
            return 'kmem_cache_free(%s, %s);' % (args[0], item.obj)
        if name in ('alloc_pages', 'alloc_pages_node', 'dev_alloc_pages') \
                and args[-1] == '0':
            words = self.of.words
            return '%s(%s);' % ('put_page' if 'put_page' in words and
                                '__free_page' not in words else '__free_page',
                                item.obj)
        if name == 'dma_alloc_coherent' and len(args) == 4:
            return 'dma_free_coherent(%s, %s, %s, %s);' % (
                args[0], args[1], item.obj, args[2].lstrip('&')
                if args[2].startswith('&') else '*' + args[2])
        if name in ('alloc_pages', 'dev_alloc_pages', '__dev_alloc_pages') \
                and item.kind == 'page':
            if '__free_pages' in self.of.words:
                return '__free_pages(%s, %s);' % (item.obj, args[-1])
        if item.kind == 'lock':
            if name == 'mutex_lock' or name in ('spin_lock', 'spin_lock_bh',
                                                'spin_lock_irq'):
                return '%s;' % text(item.call, True).replace('lock', 'unlock', 1)
            if name == 'spin_lock_irqsave':
                return 'spin_unlock_irqrestore(%s);' % ', '.join(
                    text(a, True) for a in item.call.args)
        raise Refused(self._held_text('no statement of %s() releases %s'
                                      % (self.func.name, item)))

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
        if call.name == 'skb_frag_dma_map' and len(args) == 5:
            return 'dma_unmap_page(%s, %s, %s, %s);' % (
                args[0], item.obj, args[3], args[4])
        raise Refused(self._held_text('no statement unmaps %s' % item))

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
                raise Refused(self._held_text('%s changes before the unmap'
                                              % target.name))

    def _leave(self, lines: list[str], wanted, needed) -> NewExit:
        """Leave as the exit before does, after `lines`."""
        before = self.point.before
        if before is None:
            if any(k[0] == 'call' for k in wanted):
                raise Refused(self._held_text('no label undoes this'))
            self._covers(needed, wanted, set())
            return NewExit(lines + self._return())
        copied = self._copied(before)
        self._covers(needed, wanted, self._keys(before.path))
        jump = before.jump
        freed = {m.group(1) for m in (re.match(r'^k?v?free\((\w+)\);$', x)
                                      for x in lines + copied) if m}
        lines = [x for x in lines if not x.endswith(' = NULL;')
                 or x.split('->')[0] not in freed]
        if isinstance(jump, c.Goto):
            return self._goto(lines + copied, jump.name)
        if isinstance(jump, c.Jump):
            self._ends_well(jump)
            return NewExit(lines + copied + ['%s;' % jump.kind])
        return NewExit(lines + copied + self._return())

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
                raise Refused(self._held_text(
                    'after the loop line %d maps again' % node.first.line))
            if isinstance(node, c.Assign) and node.op == '=':
                written.add(text(strip(node.left)))
            elif isinstance(node, (c.Id, c.Member, c.Index)) \
                    and text(node) in self.names \
                    and text(node) not in written:
                raise Refused(self._held_text(
                    '%s is still used after the loop (line %d)'
                    % (text(node), node.first.line)))

    def _keys(self, path: Path) -> set[tuple[str, ...]]:
        """The releases of a path, without conditions known to hold here."""
        out = set()
        for key in path.keys:
            kept = [t for t in key[3].split(' && ')
                    if self.of.known.get(t) is not True] if '||' not in key[3] \
                else [key[3]]
            out.add((*key[:3], ' && '.join(kept)))
        return out

    def _covers(self, needed, wanted, rest) -> None:
        if {self._key(h) for h in needed} | rest != wanted:
            raise Refused(self._held_text('no label undoes this'))

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
                    raise Refused(self._held_text(
                        'the exit at line %d is too complex to copy'
                        % before.stmt.first.line))
                continue
            expr = stmt.expr
            if isinstance(expr, c.Call) and (is_log(expr.name)
                                             or PURE.match(expr.name)):
                if not re.search('drop', text(expr)):
                    continue
            if isinstance(expr, c.Assign) and isinstance(strip(expr.left), c.Id):
                if RESULT_NAME.match(strip(expr.left).name) or \
                        error_value(expr.right, self.func):
                    continue
            if isinstance(expr, c.Unary) and not re.search('drop|fail',
                                                           text(expr)):
                continue
            out.append(text(expr, True) + ';')
        return out

    def _goto(self, lines: list[str], label: str) -> NewExit:
        path = self.of.path_of_label(label)
        status = self._status(path)
        reset = {text(strip(r.left)) for r in path.resets}
        for item in self.point.held:
            # what the label frees must not stay in a slot
            if item.kind == 'skb' and (item.kind, item.obj, '', '') in path.keys:
                lines = lines + ['%s = NULL;' % o for o in
                                 dict.fromkeys(item.others)
                                 if outside(o) and o not in reset]
        return NewExit(lines + status + ['goto %s;' % label])

    # -- the value that is returned

    def _status(self, path: Path) -> list[str]:
        """The assignment that makes a label's `return ret` return an error."""
        value = path.value
        if value is None:
            if self.func.returns.base == 'void' and not \
                    self.func.returns.pointers:
                return []
            if path.end != 'return':
                return []
        if value is None or self._constant(value):
            return []
        names = [x.name for x in value.walk() if isinstance(x, c.Id)
                 and x.name in self.func.locals]
        for name in dict.fromkeys(names):
            if name in path.sure:
                return []
            kind = self.func.locals[name].type
            special = self._netdev_status(name)
            if special is not None:
                return special
            if kind.base in _SIGNED and not kind.pointers and not kind.dims:
                preset = self.point.assigned.get(name)
                if preset is not None and text(preset) == self._errno():
                    return []
                return ['%s = %s;' % (name, self._errno())]
            if kind.pointers and self.func.returns.pointers:
                return ['%s = %s;' % (name, self._pointer())]
            if kind.base == 'bool' :
                preset = path.assigned.get(name)
        raise Refused(self._held_text(
            'the function returns %s, and nothing tells what that is on failure'
            % text(value)))

    def _netdev_status(self, name: str) -> list[str] | None:
        """A status that is NETDEV_TX_OK or _BUSY: the packet is dropped."""
        given = [text(x.right) for x in self.func.body.walk()
                 if isinstance(x, c.Assign) and text(strip(x.left)) == name]
        var = self.func.locals[name]
        if var.init is not None:
            given.append(text(var.init))
        if not any(g.startswith('NETDEV_TX') for g in given):
            constants = [g for g in given if re.match(r'^[A-Z1-9]', g)]
            if constants:
                raise Refused(self._held_text(
                    'nothing tells which value of %s means that a mapping '
                    'failed' % name))
            return None
        if set(given) == {'NETDEV_TX_OK'}:
            return []
        return ['%s = NETDEV_TX_OK;' % name]

    @staticmethod
    def _constant(value: c.Expr) -> bool:
        return all(not isinstance(x, (c.Call, c.Member, c.Index)) or
                   isinstance(x, c.Call) and x.name == 'ERR_PTR'
                   for x in value.walk()) and all(
            re.match(r'^([A-Z][A-Z0-9_]*|true|false|ERR_PTR)$', x.name)
            for x in value.walk() if isinstance(x, c.Id))

    def _pointer(self) -> str:
        return 'ERR_PTR(-ENOMEM)' if any(
            isinstance(x, c.Return) and x.value is not None
            and 'ERR_PTR' in text(x.value) for x in self.func.body.walk()) \
            or 'ERR_PTR' in self.func.words else 'NULL'

    def _return(self) -> list[str]:
        kind, before = self.func.returns, self.point.before
        if kind.pointers:
            return ['return %s;' % self._pointer()]
        if kind.base == 'void':
            if self.confirmed and (before is not None or isinstance(
                    self.point.after.jump, c.Return)):
                return ['return;']
            raise Refused(self._held_text(
                '%s() returns nothing, so its callers cannot learn of a '
                'failure' % self.func.name))
        if kind.base in XMIT:
            return self._dropped() + ['return NETDEV_TX_OK;']
        model = before.path.value if before is not None and before.failure \
            else None
        if model is None and self.point.after is not None:
            model = self.point.after.path.value
        if model is not None and self._is_count(model):
            return ['return %s;' % text(model)]
        if kind.base in _SIGNED and (self._errnos() or model is not None
                                     and not self._constant(model)):
            return ['return %s;' % self._errno()]
        if model is not None and self._constant(model):
            return ['return %s;' % text(model)]
        if kind.base == 'bool' and {'true', 'false'} <= self._returned():
            last = self.func.body.body[-1]
            if isinstance(last, c.Return) and last.value is not None \
                    and text(last.value) == 'true':
                return ['return false;']
        if kind.base in _SIGNED and self._callers_test():
            return ['return %s;' % self._errno()]
        raise Refused(self._held_text(
            'nothing tells what %s() returns on failure' % self.func.name))

    def _returned(self) -> set[str]:
        return {text(strip(x.value)) for x in self.func.body.walk()
                if isinstance(x, c.Return) and x.value is not None}

    def _is_count(self, value: c.Expr) -> bool:
        """Is it the number of what was done so far?"""
        value = strip(value)
        if not isinstance(value, c.Id) or value.name not in self.func.locals:
            return False
        return any(
            isinstance(x, c.Unary) and x.op in ('++', 'p++')
            and text(strip(x.arg)) == value.name
            or isinstance(x, c.Assign) and x.op == '+='
            and text(strip(x.left)) == value.name
            for x in self.func.body.walk())

    def _errno(self) -> str:
        """The errno of the function's other tests of mappings."""
        found = set()
        for node in self.func.body.walk():
            if isinstance(node, c.If) and 'mapping_error' in text(node.cond):
                for sub in node.then.walk():
                    if isinstance(sub, c.Unary) and sub.op == '-' and re.match(
                            '-E[A-Z]+$', text(sub)):
                        found.add(text(sub))
        return found.pop() if len(found) == 1 else '-ENOMEM'

    def _callers_test(self) -> bool:
        """Does every caller take a result other than 0 as failure?"""
        places = self.of.driver.calls_to(self.func)
        if self._may_own():
            return False
        for place in places:
            other = Unwinder(self.of.driver, place.function)
            above = other.up
            stmt = above.statement(place.node)
            if isinstance(stmt, c.Return):
                continue
            if isinstance(stmt, c.If):
                found = other.exit_of(stmt)
            else:
                following = _following(above, stmt)
                found = other.exit_of(following) if following else None
                result = Walk(other)._result(place.node)
                if not result or not found or result not in tested_names(
                        found.stmt.cond):
                    return False
            if found is None or not found.failure \
                    or not is_nonzero_test(found.stmt.cond):
                return False
        return bool(places) and not self.of.driver.addresses_of(self.func)

    def _may_own(self) -> bool:
        """Could a parameter be something that this function must free?"""
        for param in self.func.params:
            if param.type.base == 'struct sk_buff':
                return True
            for func in self.of.driver.functions_with('kfree', 'kvfree'):
                if re.search('free|release|destroy', func.name) \
                        and len(func.params) < 3 and any(
                            x.name in ('kfree', 'kvfree') and len(x.args) == 1
                            and text(strip(x.args[0])) in {
                                p.name for p in func.params
                                if p.type == param.type}
                            for x in func.calls()):
                    return True
            for call in self.func.calls():
                if re.search('free|release|destroy|put|drop', call.name) \
                        and any(text(strip(x)) == param.name
                                for x in call.args):
                    return True
        return False

    def _errnos(self) -> bool:
        return any(isinstance(x, c.Unary) and x.op == '-'
                   and isinstance(x.arg, c.Id) and re.match('E[A-Z]', x.arg.name)
                   for x in self.func.body.walk())

    def _dropped(self) -> list[str]:
        if any('dropped' in w or 'tx_err' in w for w in self.func.words):
            for node in self.func.body.walk():
                if isinstance(node, c.ExprStmt) and 'dropped' in text(node.expr) \
                        and isinstance(node.expr, (c.Unary, c.Call)):
                    return [text(node.expr) + ';']
        for param in self.func.params:
            if str(param.type) == 'struct net_device *':
                return ['%s->stats.tx_dropped++;' % param.name]
        return []


def _following(up, stmt: c.Stmt) -> c.Stmt | None:
    """The statement that comes next, also behind the branches of an if."""
    node: c.Node = stmt
    for above in up.chain(stmt):
        if isinstance(above, c.Block):
            index = next(i for i, s in enumerate(above.body) if s is node)
            if index + 1 < len(above.body):
                return above.body[index + 1]
        elif not isinstance(above, c.If):
            return None
        node = above
    return None


def _fits(taken: c.Call, given: c.Call) -> bool:
    """Pages of a higher order go back with their order, others without."""
    if taken.name == 'alloc_page' and given.name == 'put_page':
        return False        # nobody has taken a reference yet
    ordered = re.search('pages', taken.name) and 'page_pool' not in taken.name
    if releases(given) and releases(given)[0] == 'page':
        return bool(ordered) == bool(re.search('free_pages', given.name))
    return True


def point_skb(point: Point, skb: str) -> list[Held]:
    return [h for h in point.held if h.kind == 'skb' and h.obj == skb]


def _releases_field(driver: Driver, func: c.Function, kind: str,
                    fields: set[str], depth: int) -> bool:
    """Does a function release something that is kept in such a field?"""
    copies = {name for name in fields}
    for node in func.body.walk():
        source, target = None, ''
        if isinstance(node, c.Assign):
            source, target = strip(node.right), text(strip(node.left))
        elif isinstance(node, c.Variable) and node.init is not None:
            source, target = strip(node.init), node.name
        while isinstance(source, c.Index):
            source = strip(source.base)
        if isinstance(source, c.Member) and source.name in fields:
            copies.add(target)
    for call in func.calls():
        gone = releases(call)
        if gone:
            last = re.split(r'->|\.', gone[1])[-1].split('[')[0]
            if gone[0] == kind and (last in copies or gone[1] in copies):
                return True
        elif depth:
            callee = driver.resolve(call.name, func) if call.name else None
            if callee is not None and callee.body is not None \
                    and callee is not func and _releases_field(
                        driver, callee, kind, fields, depth - 1):
                return True
    return False


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

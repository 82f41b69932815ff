# SPDX-License-Identifier: GPL-2.0-only
"""Do two error branches do the same?  Compared by effect, not by text.

A branch is run symbolically through the control flow graph of its function,
across gotos and labels, until the function is left (or the branch hands over
to code that is no error handling: continue, break, falling through).  Each
path ends in an Outcome: what was called, what was assigned, how it was left.
Two branches are alike when their sets of outcomes are.

Left out of account: messages, statistics, the order of calls, the device in a
dma_unmap_*() call, the variant of the function that frees an skb or a page,
which errno it is (but for _OTHER_ERRNO), a test for NULL around a release, and
that we clear what is gone: the failed handle, or a pointer to what was just
released; a variable that only messages show.  A slot that was given a local
variable's value is that variable.

Three differences are told, but not held against us, since they can be proven:
the human unmaps the very handle that is none; the human loses the last pointer
to what was just allocated (_lost_by); we release what a helper that both call
would find in the slot, and leave the slot empty for it (_left_for).
"""
from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping

from evidence import cparse as c
from evidence.driver import strip, text
from evidence.flow import Graph, Step
from evidence.resources import (PAIRS, PURE, RESULT, field_name, is_log,
                                releases)

NEGATIVE = 'negative errno'
ZERO = '0'
#: These tell a caller to do something else than to give up.
_OTHER_ERRNO = frozenset('EAGAIN EPROBE_DEFER EINPROGRESS ERESTARTSYS'.split())
_ZEROS = frozenset('0 NULL false FALSE NETDEV_TX_OK BLK_STS_OK IRQ_NONE'.split())
_ONES = frozenset('1 true TRUE'.split())
_MAX_PATHS = 400

_PRINTS = re.compile(
    r'^(?:dev|net|netdev|netif|netif_msg|pr|drm|wiphy|ibdev|sdev|scmd|shost|'
    r'ata|v4l2|mlx\w*|ath\w*|wil|mt76|hw|en|efx|ntb|trace)_\w*'
    r'(?:err|error|warn|warning|info|dbg|debug|notice|crit|vdbg|alert|once)$|'
    r'printk|^trace_|ratelimit|^WARN|^DBG|^DEBUG|_DBG$|_dbg$|_dprintk$|^dprintk|'
    r'^netif_msg_|^dump_|_msg$')
_STATISTICS = re.compile(
    r'stat|counter|drop|err|fail|miss|lost|busy', re.I)
_COUNTING = re.compile(r'^(?:u64_stats_|this_cpu_|atomic(?:64|_long)?_(?:inc|add)$|'
                       r'DEV_STATS_|dev_core_stats_|\w*_stats?(?:_\w*)?$|'
                       r'(?:\w+_)?(?:STATS?|CTR)(?:_\w*)?$)')
_PURE = re.compile(
    r'^(?:ERR_PTR|PTR_ERR|IS_ERR(?:_OR_NULL)?|ERR_CAST|dma_mapping_error|'
    r'(?:un)?likely|min|max|min_t|max_t|ARRAY_SIZE|container_of|netdev_priv|'
    r'(?:cpu_to_|__cpu_to_)?[bl]e(?:16|32|64)(?:_to_cpu)?|cpu_to_\w+|'
    r'\w+_get_drvdata|\w*_priv|to_\w+|skb_headlen|skb_frag_\w+|skb_shinfo|'
    r'dma_unmap_(?:addr|len)|DIV_ROUND_UP|ALIGN|upper_32_bits|lower_32_bits|'
    r'READ_ONCE|test_bit|BIT|sizeof)$')
_SKB_FREE = re.compile(r'^(?:dev_)?(?:kfree|consume)_skb(?:_any|_irq)?(?:_reason)?$|'
                       r'^napi_consume_skb$|^kfree_skb_reason$|^sk_skb_reason_drop$')
#: A page that was just allocated has one reference.
_PAGE_FREE = re.compile(r'^(?:__free_pages?|put_page)$')
#: These take NULL and do nothing.
_FREES_NULL = re.compile(r'^(?:kv?free(?:_sensitive)?|vfree|'
                         r'(?:dev_)?(?:kfree|consume)_skb(?:_any|_irq)?)$')
RELEASE = re.compile(
    r'free|unmap|put|release|unlock|destroy|kill|disable|unregister|del|remove|'
    r'clean|uninit|tear|unwind|undo|stop|complete|return|recycle|unprepare|fini|'
    r'exit|abort|done|drop|consume|restore|flush|cancel|close|detach', re.I)
_ERRNO = re.compile(r'^E[A-Z0-9]+$')
_ADDR_MACRO = re.compile(r'\bdma_unmap_(?:addr|len)\(&?([^(),]+), (\w+)\)')


@dataclass(frozen=True)
class Outcome:
    """What one path did: calls (with counts), assignments, and its end."""

    calls: tuple[str, ...]
    marks: frozenset[str]
    end: str

    def __str__(self) -> str:
        done = list(self.calls) + sorted(self.marks) + [self.end]
        return '; '.join(done)


@dataclass
class _Path:
    """A path under way.

    values: what is known of local variables; aliases: what they stand for.
    local_marks: assignments to locals in the branch; they count if the code
    that a label leads to reads the variable (used).
    """

    values: dict[str, str]
    aliases: dict[str, str]
    calls: list[str] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
    local_marks: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    visits: Counter[int] = field(default_factory=Counter)
    inside: bool = True        # in the branch itself, not at a label

    def copy(self) -> '_Path':
        return _Path(dict(self.values), dict(self.aliases), list(self.calls),
                     dict(self.marks), dict(self.local_marks), set(self.used),
                     Counter(self.visits),
                     self.inside)


# ------------------------------------------------------------ classes of values

def value_class(expr: c.Expr | None, values: dict[str, str],
                local: set[str]) -> str:
    """What sort of value an expression has, as far as callers tell apart."""
    expr = strip(expr)
    if expr is None:
        return 'nothing'
    if isinstance(expr, c.Unary) and expr.op == '-':
        arg = strip(expr.arg)
        if isinstance(arg, c.Id) and _ERRNO.match(arg.name):
            return '-' + arg.name if arg.name in _OTHER_ERRNO else NEGATIVE
        return NEGATIVE if isinstance(arg, c.Literal) else text(expr)
    if isinstance(expr, (c.Literal, c.Id)):
        word = text(expr)
        if word in _ZEROS:
            return ZERO
        if word in _ONES:
            return '1'
        if isinstance(expr, c.Id) and word in local:
            return values.get(word, 'value of %s' % word)
        return word
    if isinstance(expr, c.Call):
        return _call_class(expr, values, local)
    if isinstance(expr, c.Assign) and expr.op == '=':
        return value_class(expr.right, values, local)
    return text(expr)


def _call_class(call: c.Call, values: dict[str, str], local: set[str]) -> str:
    if call.name in ('dma_mapping_error', 'PTR_ERR'):
        return NEGATIVE
    if call.name == 'dev_err_probe' and len(call.args) > 1:
        return value_class(call.args[1], values, local)
    if call.name in ('ERR_PTR', 'ERR_CAST') and call.args:
        inner = value_class(call.args[0], values, local)
        return 'ERR_PTR(%s)' % inner
    if call.name in ('likely', 'unlikely') and call.args:
        return value_class(call.args[0], values, local)
    return text(call)


def _truth(expr: c.Expr, values: dict[str, str], local: set[str]) -> bool | None:
    """Is a condition known to hold, or not to?"""
    expr = strip(expr)
    if isinstance(expr, c.Call) and expr.name in ('likely', 'unlikely'):
        return _truth(expr.args[0], values, local)
    if isinstance(expr, c.Call) and expr.name in ('IS_ERR', 'IS_ERR_OR_NULL') \
            and expr.args:
        known = value_class(expr.args[0], values, local)
        if known.startswith('ERR_PTR'):
            return True
        return False if known == ZERO and expr.name == 'IS_ERR' else None
    if isinstance(expr, c.Unary) and expr.op == '!':
        inner = _truth(expr.arg, values, local)
        return None if inner is None else not inner
    if isinstance(expr, c.Binary) and expr.op in ('&&', '||'):
        left = _truth(expr.left, values, local)
        right = _truth(expr.right, values, local)
        decisive = expr.op == '||'
        if decisive in (left, right):
            return decisive
        return (not decisive) if None not in (left, right) else None
    if isinstance(expr, c.Binary) and expr.op in ('==', '!=', '<', '>=', '>'):
        return _compared(expr, values, local)
    return _nonzero(value_class(expr, values, local))


def _nonzero(known: str) -> bool | None:
    if known == ZERO:
        return False
    if known in ('1', NEGATIVE, 'nonzero') or re.match(r'-[E\d]|ERR_PTR', known):
        return True
    return None


def _compared(expr: c.Binary, values: dict[str, str],
              local: set[str]) -> bool | None:
    if value_class(expr.right, values, local) != ZERO:
        return None
    known = value_class(expr.left, values, local)
    negative = known == NEGATIVE or bool(re.match(r'-[E\d]', known))
    if expr.op in ('==', '!='):
        nonzero = _nonzero(known)
        return None if nonzero is None else nonzero == (expr.op == '!=')
    if negative:
        return expr.op == '<'
    if known in (ZERO, '1'):
        return expr.op == '>=' or expr.op == '>' and known == '1'
    return None


# ------------------------------------------------- what holds before the branch

class _Before:
    """Forward data flow: classes of the local variables at a step."""

    def __init__(self, func: c.Function, graph: Graph):
        self.local = set(func.locals)
        states = graph.solve({}, self._after, self._join, self._edge)
        self._states = states

    def at(self, step: Step) -> dict[str, str]:
        state = self._states.get(id(step), {})
        return {k: v for k, v in state.items() if v != '?'}

    def _after(self, step: Step, state: dict[str, str]) -> dict[str, str]:
        new = dict(state)
        for node in (step.tree.walk() if step.tree else ()):
            name, right = _assigned(node)
            if name in self.local:
                new[name] = '?' if right is None else _settled(
                    value_class(right, new, self.local))
        return new

    @staticmethod
    def _join(one: dict[str, str], two: dict[str, str]) -> dict[str, str]:
        return {k: one[k] if one[k] == two[k] else '?'
                for k in one.keys() & two.keys()}

    def _edge(self, step: Step, label: Any,
              state: dict[str, str]) -> dict[str, str] | None:
        if step.kind != 'cond' or label not in (True, False):
            return state
        cond = strip(step.tree)
        wanted = label
        while isinstance(cond, c.Unary) and cond.op == '!':
            cond, wanted = strip(cond.arg), not wanted
        if isinstance(cond, c.Assign):
            cond = strip(cond.left)
        if isinstance(cond, c.Id) and cond.name in self.local and not wanted:
            return state | {cond.name: ZERO}
        return state


def _settled(known: str) -> str:
    """A class worth keeping across joins; anything else is unknown."""
    if known in (ZERO, '1', NEGATIVE) or re.match(r'-[E\d]|ERR_PTR', known):
        return known
    return '?'


def _assigned(node: c.Node) -> tuple[str, c.Expr | None]:
    """(local variable, its new value or None when not known)."""
    if isinstance(node, c.Assign) and isinstance(strip(node.left), c.Id):
        return strip(node.left).name, node.right if node.op == '=' else None
    if isinstance(node, c.Variable) and node.init:
        return node.name, node.init
    if isinstance(node, c.Unary) and ('++' in node.op or '--' in node.op
                                      or node.op == '&'):
        arg = strip(node.arg)
        if isinstance(arg, c.Id):
            return arg.name, None
    return '', None


def _constant_aliases(func: c.Function) -> dict[str, str]:
    """Locals that only ever name something else (`dev = &pdev->dev`)."""
    found: dict[str, str] = {}
    writes: Counter[str] = Counter()
    for node in func.body.walk():
        name, right = _assigned(node)
        if name:
            writes[name] += 1
            right = strip(right)
            if isinstance(right, c.Unary) and right.op == '&' \
                    or isinstance(right, c.Member):
                found[name] = text(right)
    params = {p.name for p in func.params}
    return {name: source for name, source in found.items()
            if writes[name] == 1 and name not in params}


# ---------------------------------------------------------- running the branch

class Branch:
    """The branch of an `if` that is taken when a mapping failed."""

    def __init__(self, func: c.Function, stmt: c.If,
                 helpers: Mapping[str, c.Function] | None = None):
        """helpers: the functions that a branch may call, by their names."""
        self.func, self.stmt, self.helpers = func, stmt, helpers or {}
        self.graph = Graph(func)
        self.local = set(func.locals)
        self._told = _only_told(func)
        self._aliases = _constant_aliases(func)
        self._first = stmt.then.first.start
        self._last = stmt.then.last.end
        self.cond = self.graph.step_of(stmt.cond)

    def outcomes(self, until: str) -> set[Outcome] | None:
        """The outcomes of all paths; None when there are too many.

        until: `label` (a goto is an end), `hand over` (so are break and
        falling through), or `return` (only continue and going back are).
        """
        before = _Before(self.func, self.graph)
        state = before.at(self.cond)
        for node in self.stmt.cond.walk():
            name, right = _assigned(node)
            if name in self.local and right is not None:
                state[name] = value_class(right, state, self.local)
        path = _Path(state, dict(self._aliases))
        return self._run([(self.cond, succ, path.copy())
                          for succ, label in self.cond.next
                          if label is True], until)

    def _run(self, todo: list[tuple[Step, Step, _Path]],
             until: str) -> set[Outcome] | None:
        ends: set[Outcome] = set()
        steps = 0
        while todo:
            steps += 1
            if len(ends) > _MAX_PATHS or steps > 60 * _MAX_PATHS:
                return None
            came, step, path = todo.pop()
            end = self._end(came, step, until)
            if end is None:
                end = self._visit(step, path)
            if end is not None:
                ends.add(self._outcome(path, end, until))
                continue
            for succ in self._onward(step, path):
                todo.append((step, succ, path.copy()))
        return ends

    def tidied(self, mine: set[Outcome], theirs: set[Outcome],
               handles: set[str]) -> set[Outcome]:
        """Our outcomes without what only clears, unless the human does it too.

        handles: what the human calls the handle.

        The handle that is no address, and whatever pointed to something that
        the branch releases: nobody can make use of them any more.
        """
        asked = {mark for outcome in theirs for mark in outcome.marks}
        plain = _Path({}, dict(self._aliases))
        none = self.handles | handles
        cleared = none | {self._canonical(h, plain) for h in none}
        kept = self._kept()

        def tidy(outcome: Outcome) -> Outcome:
            gone = {arg.strip() for call in outcome.calls
                    if RELEASE.search(call.split('(')[0])
                    for arg in call.partition('(')[2].rstrip(')').split(',')}
            stale = cleared | gone | {place for place, value in kept
                                      if value in gone | cleared}
            marks = frozenset(
                mark for mark in outcome.marks if mark in asked
                or not (mark.endswith(' = ' + ZERO)
                        and mark[:-len(' = ' + ZERO)] in stale))
            return Outcome(outcome.calls, marks, outcome.end)

        return {tidy(outcome) for outcome in mine}

    @property
    def handles(self) -> set[str]:
        """The handle that was found to be none."""
        return {text(strip(call.args[-1])) for call in self.stmt.cond.walk()
                if isinstance(call, c.Call) and call.args
                and call.name == 'dma_mapping_error'}

    def _kept(self) -> set[tuple[str, str]]:
        """(place, value) of every assignment of the function."""
        found = {(text(strip(node.left)), text(strip(node.right)))
                 for node in self.func.body.walk()
                 if isinstance(node, c.Assign) and node.op == '='}
        plain = _Path({}, dict(self._aliases))
        return found | {(self._canonical(place, plain), value)
                        for place, value in found}

    def written_out(self, outcomes: set[Outcome]) -> set[Outcome]:
        """The outcomes with what small helpers do in place of their calls."""
        out: set[Outcome] = set()
        for outcome in outcomes:
            ways: list[tuple[str, ...]] = [()]
            for call in outcome.calls:
                done = self._does(call) or {(call,)}
                ways = [w + d for w in ways for d in done][:_MAX_PATHS]
            out |= {Outcome(tuple(sorted(w)), outcome.marks, outcome.end)
                    for w in ways}
        return out

    def _does(self, call: str) -> set[tuple[str, ...]]:
        """What the ways through a helper call, if it is a helper that only
        calls; else nothing."""
        name, _, rest = call.partition('(')
        func = self.helpers.get(name)
        given = re.split(r', (?![^(]*\))', rest[:-1])
        if func is None or func.body is None \
                or len(given) != len(func.params):
            return set()
        params = [p.name for p in func.params]
        helper = Helper(func)
        ends = helper.outcomes_with({p for p, g in zip(params, given)
                                     if g in ('0', 'NULL', 'false')})
        local = re.compile(r'(?<![\w.>])(%s)\b(?!\()' % '|'.join(
            map(re.escape, set(func.locals) - set(params) | {''})))
        if not ends or any(o.marks or any(m.group(1) for m in local.finditer(
                ' '.join(o.calls))) for o in ends):
            return set()
        values = dict(zip(params, given))
        word = re.compile(r'(?<![\w.>])[A-Za-z_]\w*')
        return {tuple(word.sub(lambda m: values.get(m.group(), m.group()), x)
                      for x in o.calls) for o in ends}

    def forgiven(self, outcomes: set[Outcome]) -> set[Outcome]:
        """Without unmaps of the handle that is none: they are mistakes.

        If a part of its name changes, it is another handle by then.
        """
        here = self.graph.reachable(
            step for step, label in self.cond.next if label is True)
        changed = {_assigned(node)[0] for step in here if step.tree
                   for node in step.tree.walk()} - {''}
        if any(changed & set(re.findall(r'\w+', h)) for h in self.handles):
            return outcomes
        none = {'dma_unmap_%s(%s, ' % (kind, handle)
                for kind in ('single', 'page', 'resource')
                for handle in self.handles}
        return {Outcome(tuple(call for call in o.calls
                              if not call.startswith(tuple(none))),
                        o.marks, o.end) for o in outcomes}

    def renamed(self, outcomes: set[Outcome]) -> set[Outcome]:
        """Releases of a place that was given a local's value: of the local."""
        kept: dict[str, set[str]] = {}
        inner: set[int] = set()
        for node in self.func.body.walk():
            if isinstance(node, c.Assign) and node.op == '=' \
                    and id(node) not in inner:
                value = strip(node.right)
                if isinstance(value, c.Assign):     # local = place = f()
                    inner.add(id(value))
                    kept.setdefault(text(strip(value.left)), set()).add(
                        text(strip(node.left)))
                kept.setdefault(text(strip(node.left)), set()).add(
                    value.name if isinstance(value, c.Id) else '')

        def local(call: str) -> str:
            name, _, rest = call.partition('(')
            values = kept.get(rest[:-1], set()) - {'NULL'}
            value = next(iter(values)) if len(values) == 1 else ''
            return '%s(%s)' % (name, value) if value in self.local \
                and RELEASE.search(name) else call

        return {Outcome(tuple(sorted(map(local, o.calls))), o.marks, o.end)
                for o in outcomes}

    def _inside(self, step: Step) -> bool:
        node = step.tree or step.stmt
        return node is not None and self._first <= node.first.start < self._last

    def _end(self, came: Step, step: Step, until: str) -> str | None:
        """How the branch is left between two steps, if it is left there."""
        if step is self.graph.exit:
            return None if came.kind == 'return' else 'return'
        node = came.tree
        goto = isinstance(node, c.Goto)
        target = step.tree or step.stmt
        if goto and until == 'label':
            return 'goto ' + node.name
        if goto and target and target.first.start < self._first:
            return 'goto %s (backwards)' % node.name
        left = (came is self.cond or self._inside(came)) \
            and not self._inside(step)
        if goto or not left:
            return None
        kind = node.kind if isinstance(node, c.Jump) else 'falls through'
        return None if until == 'return' and kind != 'continue' else kind

    def _visit(self, step: Step, path: _Path) -> str | None:
        """Do what a step does; the end of the path when it is a return."""
        path.visits[id(step)] += 1
        if path.visits[id(step)] > 3:
            return 'loops'
        if step is self.graph.exit:
            return 'return'
        path.inside = self._inside(step)
        tree = step.tree
        if not path.inside and tree and not _tells_only(tree):
            path.used.update(n.name for n in tree.walk()
                             if isinstance(n, c.Id))
        if isinstance(tree, c.Return):
            if tree.value is None:
                return 'return'
            end = 'return ' + value_class(tree.value, path.values, self.local)
            self._effects(tree.value, path)
            return end
        if isinstance(tree, c.ExprStmt):
            self._effects(tree.expr, path)
        elif isinstance(tree, c.Decl):
            for var in tree.variables:
                if var.init:
                    self._set(var.name, var.init, path)
                    self._effects(var.init, path)
        elif isinstance(tree, c.Expr):
            self._condition(tree, path)
        return None

    def _condition(self, tree: c.Expr, path: _Path) -> None:
        """A test asks; only what a call in it releases is an effect."""
        if not any(isinstance(n, c.Call) for n in tree.walk()):
            self._effects(tree, path)
            return
        for node in tree.walk():
            if isinstance(node, c.Call) and RELEASE.search(node.name):
                self._call(node, path)
            elif isinstance(node, c.Assign):
                self._effects(node, path)

    def _onward(self, step: Step, path: _Path) -> Iterator[Step]:
        """The steps that may follow, conditions decided where possible."""
        if step.kind != 'cond':
            yield from (succ for succ, _ in step.next)
            return
        stmt = step.stmt
        if isinstance(stmt, c.Loop):
            again = path.visits[id(step)] < 2
            for succ, label in step.next:
                if label is False or again:
                    yield succ
            if not again and all(label for _, label in step.next):
                yield self.graph.exit
            return
        known = _truth(step.tree, path.values, self.local)
        if known is None and _guards_release(stmt):
            known = True
        for succ, label in step.next:
            if known is None or label is known:
                yield succ

    # -- effects of an expression

    def _effects(self, expr: c.Expr, path: _Path) -> None:
        expr = strip(expr)
        if isinstance(expr, c.Call):
            self._call(expr, path)
        elif isinstance(expr, c.Assign):
            self._effects(expr.right, path)
            left = strip(expr.left)
            if isinstance(left, c.Id) and left.name in self.local \
                    and expr.op == '=':
                self._set(left.name, expr.right, path)
            else:
                self._mark(left, '%s %s' % (expr.op, value_class(
                    expr.right, path.values, self.local)), path)
        elif isinstance(expr, c.Unary) and expr.op.lstrip('p') in ('++', '--'):
            self._mark(strip(expr.arg), expr.op.lstrip('p'), path)
        else:
            for child in expr.children() if expr is not None else ():
                if isinstance(child, c.Expr):
                    self._effects(child, path)

    def _set(self, name: str, value: c.Expr, path: _Path) -> None:
        known = value_class(value, path.values, self.local)
        path.values[name] = known
        source = strip(value)
        path.aliases.pop(name, None)
        names_place = isinstance(source, (c.Member, c.Index)) \
            or isinstance(source, c.Unary) and source.op == '&'
        if names_place and name not in {n.name for n in source.walk()
                                        if isinstance(n, c.Id)}:
            path.aliases[name] = self._canonical(text(source), path)
        elif path.inside and name not in self._told:
            path.local_marks[name] = '%s = %s' % (name, known)

    def _mark(self, target: c.Expr, what: str, path: _Path) -> None:
        name = self._canonical(text(target), path)
        counting = what.startswith(('++', '+='))
        if counting and _STATISTICS.search(name):
            return
        local = isinstance(target, c.Id) and target.name in self.local
        if local:
            path.values.pop(target.name, None)
            path.aliases.pop(target.name, None)
            if path.inside:
                path.local_marks[target.name] = '%s %s' % (target.name, what)
        else:
            path.marks[name] = name + ' ' + what

    def _call(self, call: c.Call, path: _Path) -> None:
        name = call.name
        if ignored(call):
            return
        if _FREES_NULL.match(name) and call.args and value_class(
                call.args[-1], path.values, self.local) == ZERO:
            return
        if _PURE.match(name):
            for arg in call.args:
                self._effects(arg, path)
        else:
            # calls among the arguments are part of the text
            path.calls.append(self._canonical(_normal_call(call), path))

    @staticmethod
    def _canonical(code: str, path: _Path) -> str:
        """Text with aliases and unmap macros replaced by what they name."""
        code = _ADDR_MACRO.sub(lambda m: '%s->%s' % (m.group(1), m.group(2)), code)
        def named(found: re.Match[str]) -> str:
            name, arrow = found.groups()
            source = path.aliases.get(name)
            if source is None or source == name:
                return found.group()
            if arrow and source.startswith('&'):
                return source[1:] + '.'
            return source + (arrow or '')

        for _ in range(3):
            new = re.sub(r'(?<![\w.>])([A-Za-z_]\w*)(?![\w(])(->)?', named, code)
            if new == code:
                break
            code = new
        return code

    def _outcome(self, path: _Path, end: str, until: str) -> Outcome:
        if until == 'label':
            marks = {*path.marks.values(), *path.local_marks.values()}
            return Outcome(tuple(sorted(path.calls)), frozenset(marks), end)
        returned = {end[len('return value of '):]} \
            if end.startswith('return value of ') else set()
        marks = {mark for name, mark in path.local_marks.items()
                 if name in path.used and not _error_value(mark)
                 and name not in returned}
        return Outcome(tuple(sorted(path.calls)),
                       frozenset(marks | set(path.marks.values())), end)


class Helper(Branch):
    """All of a function that returns nothing, run like a branch."""

    def __init__(self, func: c.Function):
        self.func, self.helpers = func, {}
        self.graph = Graph(func)
        self.local = set(func.locals)
        self._told = _only_told(func)
        self._aliases = _constant_aliases(func)
        self._first, self._last = func.body.first.start, func.body.last.end
        self.cond = self.graph.entry

    def outcomes_with(self, zeros: set[str]) -> set[Outcome] | None:
        """The outcomes when these parameters are 0; None for loops."""
        if self.func.returns.base != 'void' or self.func.returns.pointers \
                or any(isinstance(n, (c.Loop, c.Goto))
                       for n in self.func.body.walk()):
            return None
        path = _Path(dict.fromkeys(zeros, ZERO), dict(self._aliases))
        return self._run([(self.cond, succ, path.copy())
                          for succ, _ in self.cond.next], 'return')


def _only_told(func: c.Function) -> set[str]:
    """Locals that nothing but messages reads, and tests around messages."""
    shown: set[int] = set()
    for node in func.body.walk():
        if isinstance(node, c.Call) and ignored(node):
            shown.update(map(id, node.walk()))
        elif isinstance(node, c.If) and node.other is None \
                and prints(node.then):
            shown.update(map(id, node.cond.walk()))
        elif isinstance(node, c.Assign) and node.op == '=':
            shown.add(id(strip(node.left)))
    read = {node.name for node in func.body.walk()
            if isinstance(node, c.Id) and id(node) not in shown}
    return set(func.locals) - read - {p.name for p in func.params}


def _error_value(mark: str) -> bool:
    """An assignment that the returned value tells of."""
    return mark.endswith(('= ' + NEGATIVE, '= ' + ZERO, '= 1')) \
        or re.search(r'= (?:-E|ERR_PTR)', mark) is not None


def _guards_release(stmt: c.Stmt | None) -> bool:
    """`if (p) release(p);`: releasing nothing is as good."""
    if not isinstance(stmt, c.If) or stmt.other:
        return False
    cond = strip(stmt.cond)
    if isinstance(cond, c.Unary) and cond.op == '!' \
            and isinstance(strip(cond.arg), c.Call):
        call = strip(cond.arg)
        cond = strip(call.args[0]) if call.name.startswith('IS_ERR') \
            and call.args else None
    if not isinstance(cond, (c.Id, c.Member, c.Index)):
        return False
    body = stmt.then.body if isinstance(stmt.then, c.Block) else [stmt.then]
    return bool(body) and all(
        isinstance(s, c.ExprStmt) and isinstance(s.expr, c.Call)
        and any(text(cond) == text(arg) for arg in s.expr.args) for s in body)


def _tells_only(tree: c.Node) -> bool:
    """A message, or `return ret` (the outcome's end has its value)."""
    if isinstance(tree, c.Return):
        value = strip(tree.value)
        return isinstance(value, c.Id) or (
            isinstance(value, c.Call) and value.name == 'dev_err_probe')
    return prints(tree)


def prints(tree: c.Node) -> bool:
    """Is it a message, a counter, or several of them?"""
    if isinstance(tree, c.Block):
        return bool(tree.body) and all(map(prints, tree.body))
    return isinstance(tree, c.ExprStmt) and isinstance(tree.expr, c.Call) \
        and ignored(tree.expr)


def ignored(call: c.Call) -> bool:
    """A message or a statistics counter."""
    name = call.name
    if not name:
        return False
    if _PRINTS.search(name) or _COUNTING.match(name):
        return True
    says = any(isinstance(strip(a), c.Literal) and '"' in text(a)
               for a in call.args)
    return says and not RELEASE.search(name)


def _normal_call(call: c.Call) -> str:
    """One spelling for functions that do the same."""
    name, args = call.name, [text(a) for a in call.args]
    if _SKB_FREE.match(name) and args:
        return 'free_skb(%s)' % (args[1] if name.startswith('sk_') and
                                 len(args) > 1 else args[0])
    if name == 'page_frag_free' and args:
        return 'skb_free_frag(%s)' % args[0]
    if name == 'put_page' and args and args[0].startswith('virt_to_head_page('):
        return 'skb_free_frag(%s)' % args[0].partition('(')[2][:-1]
    if _PAGE_FREE.match(name) and args:
        return 'free_page(%s)' % args[0]
    found = re.match(r'dma_unmap_(single|page|sg|resource)(?:_attrs)?$', name)
    if found and len(args) >= 4:
        return 'dma_unmap_%s(%s)' % (found.group(1), ', '.join(args[1:3]))
    return '%s(%s)' % (text(call.func), ', '.join(args))


# ------------------------------------------------------------------ comparing

def compare(human: Branch, ours: Branch) -> tuple[str, str]:
    """('right' | 'wrong?' | 'wrong', why); of `right`, what the human misses."""
    why = None
    for until in ('label', 'hand over', 'return'):
        theirs, mine = human.outcomes(until), ours.outcomes(until)
        if theirs is None or mine is None:
            continue
        marks = set.intersection(*({*o.marks} for o in mine)) if mine else set()
        mine = ours.tidied(mine, theirs, human.handles)
        theirs, mine = human.renamed(theirs), ours.renamed(mine)
        if theirs == mine:
            return 'right', ''
        correct = human.forgiven(theirs)
        if correct == mine or correct == ours.tidied(
                mine, correct, human.handles):
            return 'right', 'the human unmaps what was not mapped'
        if until == 'return' and ours.written_out(mine) \
                == human.written_out(theirs):
            return 'right', 'the same once the helpers are written out'
        missed = _missed_by(human, ours, correct, mine, marks)
        if missed:
            return 'right', missed
        if until == 'hand over':
            why = _difference(theirs, mine)
    return why or ('wrong?', 'too many paths to compare')


def _missed_by(human: Branch, ours: Branch, theirs: set[Outcome],
               mine: set[Outcome], marks: set[str]) -> str:
    """How our branch is right although it releases more, '' if that is not
    proven; marks: what ours assigns on all paths."""
    extra = sorted((_calls(mine) - _calls(theirs)).elements())
    if not extra:
        return ''
    for call in extra:
        if not all(call in o.calls for o in mine):
            return ''
    why = [_lost_by(human, ours, call, theirs)
           or _left_for(human, call, theirs | mine, marks) for call in extra]
    if not all(why):
        return ''
    rest = {Outcome(tuple(sorted((Counter(o.calls) - Counter(extra))
                                 .elements())), o.marks, o.end) for o in mine}
    gone = {_released(call) for call in extra}
    rest = {Outcome(o.calls, frozenset(
        m for m in o.marks if not m.endswith(' = ' + ZERO)
        or m[:-len(' = ' + ZERO)] not in gone), o.end) for o in rest}
    return why[0] if rest == theirs else ''


def _released(call: str) -> str:
    return call.partition('(')[2].rstrip(')').split(', ')[0]


def _lost_by(human: Branch, ours: Branch, call: str,
             theirs: set[Outcome]) -> str:
    """The human loses what a local points to: it was allocated in the same
    block, and nothing but tests and the mapping has seen it since."""
    name = _released(call)
    if name not in human.local or name in {p.name for p in human.func.params}:
        return ''
    kind = {releases(x)[0] for x in ours.stmt.then.walk()
            if isinstance(x, c.Call) and (releases(x) or ('', ''))[1] == name}
    block = next((b.body for b in human.func.body.walk()
                  if isinstance(b, c.Block)
                  and any(s is human.stmt for s in b.body)), [])
    taken = None
    for stmt in block:
        if stmt is human.stmt:
            break
        made = strip(stmt.expr) if isinstance(stmt, c.ExprStmt) else None
        value = strip(made.right) if isinstance(made, c.Assign) else None
        if isinstance(value, c.Call) and text(strip(made.left)) == name:
            taken = any(p.kind in kind and p.obj is RESULT
                        and p.acquire.match(value.name) for p in PAIRS)
        elif taken and not _only_looks(stmt, name):
            return ''
    word = re.compile(r'\b%s\b' % re.escape(name))
    if not taken or any(word.search(str(o)) for o in theirs):
        return ''
    return 'the human loses %s' % name


def _only_looks(stmt: c.Stmt, name: str) -> bool:
    """Does a statement keep no copy of a pointer, nor give it to anybody but
    a mapping?"""
    if isinstance(stmt, c.If) and stmt.other is None and isinstance(
            stmt.then.body[-1] if isinstance(stmt.then, c.Block)
            and stmt.then.body else stmt.then, (c.Goto, c.Return, c.Jump)):
        stmt = stmt.cond        # the exit for what was not allocated
    for node in stmt.walk():
        if isinstance(node, c.Call) and any(
                isinstance(n, c.Id) and n.name == name
                for a in node.args for n in a.walk()):
            if not (PURE.match(node.name) or is_log(node.name)
                    or re.search(r'dma_map_', node.name)):
                return False
        elif isinstance(node, c.Assign) and not isinstance(
                strip(node.right), c.Call) and any(
                    isinstance(n, c.Id) and n.name == name
                    for n in node.right.walk()):
            return False
    return True


def _left_for(human: Branch, call: str, outcomes: set[Outcome],
              marks: set[str]) -> str:
    """A helper that both call releases what is in a slot; we have released it
    and left the slot empty, which the helper asks for."""
    name = call.partition('(')[0]
    value = _released(call)
    places = {value, *(place for place, kept in human._kept() if kept == value)}
    empty = [p for p in places if '%s = %s' % (p, ZERO) in marks]
    both = set.intersection(*(set(o.calls) for o in outcomes))
    for place in empty:
        field = field_name(place)
        for helper in sorted(x.partition('(')[0] for x in both):
            func = human.helpers.get(helper)
            if func is None or func.body is None:
                continue
            does = [x for x in func.calls()
                    if _normal_call(x).partition('(')[0] == name
                    and any(field_name(text(strip(a))) == field
                            for a in x.args)]
            asks = any(isinstance(n, c.If) and any(
                isinstance(m, c.Member) and m.name == field
                for m in n.cond.walk()) for n in func.body.walk())
            if does and (asks or all(_FREES_NULL.match(x.name) for x in does)):
                return '%s() would release what we release' % helper
    return ''


def _difference(theirs: set[Outcome], mine: set[Outcome]) -> tuple[str, str]:
    """Verdict and description for outcomes that are not the same."""
    calls_theirs, calls_mine = _calls(theirs), _calls(mine)
    lost = sorted((calls_theirs - calls_mine).elements())
    extra = sorted((calls_mine - calls_theirs).elements())
    ends_theirs, ends_mine = ({o.end for o in side} for side in (theirs, mine))
    said = []
    if lost:
        said.append('does not do: ' + '; '.join(lost))
    if extra:
        said.append('does besides: ' + '; '.join(extra))
    if ends_theirs != ends_mine:
        said.append('ends with %s, not with %s' % (
            ' or '.join(sorted(ends_mine)), ' or '.join(sorted(ends_theirs))))
    if not said:
        return 'wrong?', _marks(theirs, mine)
    if ends_theirs == {'return NETDEV_TX_BUSY'} and ends_mine == {'return 0'}:
        return 'wrong?', 'the human asks for a retry (NETDEV_TX_BUSY); ' \
            + ', '.join(said)
    sure = _sure(lost, extra) or (
        ends_theirs.isdisjoint(ends_mine)
        and _kinds(ends_theirs) != _kinds(ends_mine))
    return ('wrong' if sure else 'wrong?'), ', '.join(said)


def _calls(side: set[Outcome]) -> Counter[str]:
    """Each call with the largest number of times that one path does it."""
    out: Counter[str] = Counter()
    for outcome in side:
        out |= Counter(outcome.calls)
    return out


def _sure(lost: list[str], extra: list[str]) -> bool:
    """A release is missing or added, and is not just written differently."""
    def names(calls: list[str]) -> Counter[str]:
        return Counter(call.split('(')[0] for call in calls
                       if RELEASE.search(call.split('(')[0]))
    return names(lost) != names(extra)


def _kinds(ends: set[str]) -> set[str]:
    """Ends by how much they differ for a caller: errors are of one kind."""
    def kind(end: str) -> str:
        return 'error' if re.match(r'return (?:negative errno|-[E\d])', end) else end
    return {kind(end) for end in ends}


def _marks(theirs: set[Outcome], mine: set[Outcome]) -> str:
    marks_theirs = {m for o in theirs for m in o.marks}
    marks_mine = {m for o in mine for m in o.marks}
    lost, extra = marks_theirs - marks_mine, marks_mine - marks_theirs
    if lost or extra:
        return 'assignments: lacks {%s}, adds {%s}' % (
            '; '.join(sorted(lost)), '; '.join(sorted(extra)))
    return 'the same calls on different paths'

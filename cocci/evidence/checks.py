# SPDX-License-Identifier: GPL-2.0-only
"""Is a DMA handle tested before it can do harm?

A site is one call that maps.  From there the handle is followed forward,
through copies, fields and calls, to a call that tests it.  One test on one
path is enough: a driver that tests in some other place than we expect must
not be reported.
"""
from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Iterable, Iterator

from . import cparse as c
from .driver import Driver, Place, strip, text
from .flow import Graph, Step
from .resources import is_log

#: Functions that return a handle for which dma_mapping_error() is the test.
MAPS = frozenset(
    'dma_map_single dma_map_single_attrs dma_map_page dma_map_page_attrs '
    'dma_map_resource dma_map_phys skb_frag_dma_map __skb_frag_dma_map '
    'pci_map_single pci_map_page'.split())
#: Functions that return the number of mapped entries, 0 when they failed.
SG_MAPS = frozenset('dma_map_sg dma_map_sg_attrs pci_map_sg'.split())

TEST = re.compile(r'mapping_error|map(ping)?_err(or)?$')
_SETTER = {'dma_unmap_addr_set': 2, 'pci_unmap_addr_set': 2}
_GETTER = frozenset(('dma_unmap_addr', 'pci_unmap_addr'))
_DEPTH = 3
#: An alias with more selectors than this is not followed: in a ring,
#: `d->next->prev = d` gives ever longer ones.
_SELECTORS = 5
#: What stands between a descriptor and the bit that gives it to the device.
_BARRIERS = frozenset(('wmb', 'dma_wmb', 'smp_wmb'))
#: A handle that only goes here does not reach the device.
_NO_USE = re.compile(r'unmap|^dma_sync_|^dev_|^pr_|^netdev_|^netif_|printk|'
                     r'trace_|dbg|^(un)?likely$|^IS_ERR|_err$|_warn$', re.I)


@dataclass(eq=False)
class Site:
    """One call that maps, and what becomes of its result.

    shape: assign (also chained and in a ternary), init, nested, returned,
    tested, ignored, argument, condition.  stmt is the statement around it,
    targets the lvalues that hold the plain handle, copies those that hold it
    in another form (in another byte order, or cut to 32 bits).
    """

    function: c.Function
    call: c.Call
    stmt: c.Stmt | None
    shape: str
    targets: list[c.Expr] = field(default_factory=list)
    copies: list[c.Expr] = field(default_factory=list)
    variable: c.Variable | None = None


@dataclass
class Verdict:
    """checked, unchecked, wrong (a test that does not tell failure), idle (a
    test after which all goes on the same), late (a test after the device has
    got the handle), lost (thrown away), outside (returned to callers that are
    not in the driver); place is the test, the use or the caller's place."""

    kind: str
    place: Place | None = None


class Parents:
    """Who is above a node of a function."""

    def __init__(self, func: c.Function):
        self._of: dict[int, c.Node] = {}
        todo: list[c.Node] = [func.body] if func.body else []
        while todo:
            node = todo.pop()
            for child in node.children():
                self._of[id(child)] = node
                todo.append(child)

    def of(self, node: c.Node) -> c.Node | None:
        return self._of.get(id(node))

    def chain(self, node: c.Node) -> Iterator[c.Node]:
        """The nodes above a node, innermost first."""
        above = self.of(node)
        while above is not None:
            yield above
            above = self.of(above)

    def statement(self, node: c.Node) -> c.Stmt | None:
        if isinstance(node, c.Stmt):
            return node
        return next((n for n in self.chain(node) if isinstance(n, c.Stmt)),
                    None)


@c.once
def parents(func: c.Function) -> Parents:
    return Parents(func)


@c.once
def graph(func: c.Function) -> Graph:
    return Graph(func)


def out_of_scope(func: c.Function, words: str, node: c.Node) -> str:
    """The first name in `words` of a variable whose block does not hold a node
    of the function; ''."""
    names = set(re.findall(r'(?<![\w.>])[A-Za-z_]\w*', words))
    above = parents(func)
    around = {id(x) for x in above.chain(node)}
    seen: dict[str, bool] = {}
    for decl in func.body.walk():
        if isinstance(decl, c.Decl):
            for var in decl.variables:
                if var.name in names:
                    seen[var.name] = seen.get(var.name, False) \
                        or id(above.of(decl)) in around
    return next((name for name, inside in seen.items() if not inside), '')


def norm(expr: c.Expr | None) -> str:
    """An lvalue's text; all elements of an array count as one."""
    plain = text(strip(expr)).replace('++', '').replace('--', '')
    if '[' not in plain:
        return plain
    return re.sub(r'\[[^][]*\]', '[]', re.sub(
        r'\[[^][]*\[[^][]*\][^][]*\]', '[]', plain))


def ends_in_jump(stmt: c.Stmt | None) -> bool:
    """Does control leave at the end of a statement?"""
    if isinstance(stmt, c.Block):
        return bool(stmt.body) and ends_in_jump(stmt.body[-1])
    return isinstance(stmt, (c.Goto, c.Return, c.Jump))


# ------------------------------------------------------------------- sites

def sites(driver: Driver, names: frozenset[str]) -> Iterator[Site]:
    for func in driver.functions_with(*sorted(names)):
        for call in func.calls():
            if call.name in names:
                yield site_of(func, call)


def site_of(func: c.Function, call: c.Call) -> Site:
    """Where the result of a call goes, read from what stands around it."""
    above = parents(func)
    site = Site(func, call, above.statement(call), 'ignored')
    node: c.Node = call
    plain, nested = True, False
    for up in above.chain(call):
        if isinstance(up, c.Assign) and up.right is node:
            (site.targets if plain else site.copies).append(up.left)
            if up.op != '=':
                plain = False
        elif isinstance(up, c.Variable):
            site.shape = 'init'
            site.variable = up
            target = c.Id(up.first, up.first, up.name)
            (site.targets if plain else site.copies).append(target)
            if not plain:
                site.shape = 'nested'
            return site
        elif isinstance(up, c.Ternary):
            if node is up.cond:
                plain, nested = False, True
        elif isinstance(up, c.Binary) and up.op == ',':
            if node is up.left and not site.targets:
                break
        elif isinstance(up, c.Call):
            if TEST.search(up.name):
                site.shape = 'tested'
                return site
            plain, nested = False, True
        elif isinstance(up, c.Stmt):
            if isinstance(up, c.Return):
                site.shape = 'returned'
                return site
            if isinstance(up, (c.If, c.Loop, c.Switch)):
                site.shape = 'condition'
                return site
            break
        elif not isinstance(up, (c.Paren, c.Cast)):
            if not (isinstance(up, c.Assign)):
                plain, nested = False, True
        node = up
    if site.targets and not nested:
        site.shape = 'assign'
    elif site.targets or site.copies:
        site.shape = 'nested'
    elif nested:
        site.shape = 'argument'
    return site


# ------------------------------------------------------------- one function

class _Search:
    """Follow handles through one function, from one step on.

    aliases are normalised texts.  The result says whether some path tests
    one of them; what was learnt on the way serves the questions that follow:
    wrong tests, calls that got the handle, where it is left behind.
    """

    def __init__(self, driver: Driver, func: c.Function, depth: int,
                 seen: frozenset[tuple[str, str]]):
        self.driver, self.func, self.depth, self.seen = driver, func, depth, seen
        self.test: c.Node | None = None
        self.wrong: c.Node | None = None
        self.idle: c.Node | None = None
        self.returned = False
        self.everything: set[str] = set()
        self.after = 0
        self.tests: list[Step] = []
        self.untested: dict[int, Step] = {}
        self.every_path = False
        self.elements: dict[str, str] = {}
        self.looped: set[str] = set()   # elements that a loop has filled
        self.site: c.Node | None = None

    def run(self, start: Step, aliases: frozenset[str],
            origin: c.Node | None) -> None:
        self.after = origin.last.end if origin else 0
        self.site = origin
        todo = deque([(start, aliases)])
        best: dict[int, frozenset[str]] = {}
        first = True
        while todo and (self.test is None or self.every_path):
            step, names = todo.popleft()
            had = best.get(id(step))
            if had is not None and names <= had:
                continue
            best[id(step)] = names | (had or frozenset())
            found, self.test = self.test, None
            names = self._step(step, best[id(step)], origin if first else None)
            if self.test is not None:
                self.tests.append(step)
                names = frozenset()
            elif not first:
                self.untested[id(step)] = step
            self.test = found or self.test
            first = False
            if names:
                todo.extend((s, names) for s, _ in step.next)

    def _step(self, step: Step, names: frozenset[str],
              origin: c.Node | None) -> frozenset[str]:
        self.everything |= names
        if step.tree is None:
            return names
        out = set(names)
        # what stands before the map in the same statement is no test of it
        for node in step.tree.walk():
            if isinstance(node, c.Call):
                self._call(node, out, origin)
            elif isinstance(node, c.Assign):
                self._assign(node.left, node.right, node.op, out, origin)
            elif isinstance(node, c.Variable) and node.init:
                self._assign(c.Id(node.first, node.first, node.name),
                             node.init, '=', out, origin)
            elif isinstance(node, c.Unary) and node.op == '!':
                if norm(node.arg) in out:
                    self._suspect(node)
            elif isinstance(node, c.Binary) and node.op in ('==', '!='):
                for side, other in ((node.left, node.right),
                                    (node.right, node.left)):
                    if norm(side) in out and is_special(strip(other)):
                        self._suspect(node)
            if self.test is not None:
                return frozenset()
        if isinstance(step.tree, c.Return) and step.tree.value \
                and self._mentions(step.tree.value, out):
            self.returned = True
        self.everything |= out
        return frozenset(out)

    def _suspect(self, node: c.Node) -> None:
        """A test that does not tell failure: it guards a way out."""
        test = parents(self.func).statement(node)
        if self.wrong is None and isinstance(test, c.If) \
                and node.first.start > self.after and ends_in_jump(test.then):
            self.wrong = node

    def _mentions(self, expr: c.Node, names: set[str]) -> bool:
        return any(_is_one(node, names) for node in expr.walk()
                   if isinstance(node, c.Expr))

    def _assign(self, left: c.Expr, right: c.Expr, op: str, names: set[str],
                origin: c.Node | None) -> None:
        target = norm(left)
        if _carries(right, names, origin):
            names.add(target)
            return
        whole = norm(right)
        copied = _short(_within(target, whole, rest)
                        for rest in _rests(names, whole))
        if isinstance(strip(right), (c.Id, c.Member, c.Index, c.Unary)) and copied:
            names |= copied
            return
        if isinstance(strip(right), c.Unary) and strip(right).op == '&':
            # p = &x->y: x->y.dma is p->dma from here on
            inner = norm(strip(right).arg)
            names |= _short(target + '->' + n[len(inner) + 1:] for n in names
                            if n.startswith(inner + '.'))
        if op == '=' and '[]' not in target:
            names.discard(target)

    def _call(self, call: c.Call, names: set[str],
              origin: c.Node | None) -> None:
        if call is origin:
            return
        if call.name in _SETTER and len(call.args) == 3:
            if self._mentions(call.args[2], names) or (
                    origin is not None
                    and any(n is origin for n in call.args[2].walk())):
                names.add(_unmap_field(call.args))
            return
        if TEST.search(call.name) and not self._by_body(call):
            if _of_another(self.func, call, origin or self.site) \
                    or _spares_unmap(self.func, call):
                return
            if any(self._tests(a, names) for a in call.args) or (
                    origin is not None and any(n is origin for n in call.walk())):
                if self._idle(call):
                    self.idle = self.idle or call
                else:
                    self.test = call
            return
        if call.name and self.driver.macro(call.name):
            if any(self._mentions(a, names) or _rests(names, norm(a))
                   for a in call.args) \
                    and _macro_tests(self.driver, call.name):
                self.test = call
            return
        # pair setters: foo_set_dma(desc, handle) is not followed into headers
        if self.depth:
            self._into(call, names, origin)

    def _by_body(self, call: c.Call) -> bool:
        """Does a function's body tell what its name only promises?"""
        callee = self.driver.resolve(call.name, self.func)
        return callee is not None and callee.body is not None

    def _idle(self, call: c.Call) -> bool:
        """Is nothing done about the outcome of a test but to tell it, or only
        in a kernel of some configurations?"""
        up = parents(self.func)
        stmt = up.statement(call)
        if isinstance(stmt, c.ExprStmt):
            whole = strip(stmt.expr)
            return whole is call or isinstance(whole, c.Call) \
                and whole.name.startswith('WARN')
        if isinstance(stmt, c.If) and stmt.other is None \
                and _only_tells(stmt.then):
            return True
        here = {id(x) for x in up.chain(self.site or self.func.body)}
        return any(isinstance(x, c.Branches) and id(x) not in here and not all(
            any(isinstance(n, c.Call) and TEST.search(n.name)
                for n in arm.walk()) for arm in x.body)
            or isinstance(x, c.Branches) and id(x) not in here
            and len(x.body) == 1 for x in up.chain(call))

    def _tests(self, arg: c.Expr, names: set[str]) -> bool:
        """Does the argument of a test name a handle, and the very element?"""
        if self.looped and any(
                _is_one(node, names) and _constant_element(node)
                and norm(node) in self.looped
                for node in arg.walk() if isinstance(node, c.Expr)):
            return False
        return any(_is_one(node, names) and self.elements.get(
            norm(node), text(strip(node))) in (text(strip(node)), norm(node))
            or _is_one(node, names) and not _constant_element(node)
            for node in arg.walk() if isinstance(node, c.Expr))

    def _into(self, call: c.Call, names: set[str],
              origin: c.Node | None) -> None:
        callee = self.driver.resolve(call.name, self.func) if call.name else None
        if callee is None or callee.body is None:
            return
        passed: set[str] = set()
        fields = _fields(self.driver, self.func, names)
        for arg, param in zip(call.args, callee.params):
            if not param.name:
                continue
            if self._mentions(arg, names) or (
                    origin is not None and any(n is origin for n in arg.walk())):
                passed.add(param.name)
                passed.add('*' + param.name)
            whole = text(strip(arg))
            pointer = whole.startswith('&')
            whole = norm(strip(arg))[1:] if pointer else norm(arg)
            for name in names:
                rest = name[len(whole):]
                if not name.startswith(whole):
                    continue
                if pointer and rest.startswith('.'):
                    passed.add(param.name + '->' + rest[1:])
                elif pointer and not rest:
                    passed.add('*' + param.name)
                elif rest.startswith(('->', '.', '[')):
                    passed.add(param.name + rest)
        if not passed and not (fields and call.args):
            return
        if tests_in(self.driver, callee, frozenset(passed), frozenset(fields),
                    self.depth - 1):
            self.test = call


_PURE = re.compile(r'^(__)?(cpu_to_[lb]e|[lb]e\d+_to_cpu|(lower|upper)_\d+_bits|'
                   r'swab|hton|ntoh|TO_LE|PAGE_ALIGN|ALIGN|max|min|READ_ONCE|'
                   r'dma_unmap_addr|pci_unmap_addr|[A-Z0-9_]+$)')


def _is_one(expr: c.Expr, names: set[str]) -> bool:
    """Is the expression one of these handles?"""
    if isinstance(expr, c.Call):
        if expr.name in _GETTER and len(expr.args) == 2:
            return _unmap_field(expr.args) in names
    elif not isinstance(expr, (c.Id, c.Member, c.Index, c.Unary)):
        return False
    return norm(expr) in names


def _carries(expr: c.Expr, names: set[str], origin: c.Node | None) -> bool:
    """Is a handle in the value of an expression?

    What functions other than byte swaps make of a handle is no handle.
    """
    if expr is origin or _is_one(expr, names):
        return True
    if isinstance(expr, c.Call):
        return bool(_PURE.search(expr.name)) and any(
            _carries(a, names, origin) for a in expr.args)
    if isinstance(expr, (c.Id, c.Member, c.Index, c.Literal)):
        return False
    if isinstance(expr, c.Binary) and expr.op not in (
            '+', '-', '|', '&', '>>', '<<', ','):
        return False
    if isinstance(expr, c.Ternary):
        return any(_carries(e, names, origin)
                   for e in (expr.then, expr.other) if e)
    return any(_carries(e, names, origin) for e in expr.children()
               if isinstance(e, c.Expr))


def _unmap_field(args: list[c.Expr]) -> str:
    base = strip(args[0])
    if isinstance(base, c.Unary) and base.op == '&':
        return norm(base.arg) + '.' + text(args[1])
    return norm(base) + '->' + text(args[1])


def _within(target: str, source: str, rest: str) -> str:
    """The alias after `target = source`: a field of `*p` is `p->field`."""
    if target.startswith('*'):
        return target[1:] + '->' + rest.lstrip('->.')
    if source.startswith('*'):
        return target + '.' + rest.lstrip('->.')
    return target + rest


def _rests(names: Iterable[str], whole: str) -> list[str]:
    """The selectors of the names that lie within an expression."""
    if whole.startswith('*'):
        inner = whole[1:]
        return [n[len(inner):] for n in names if n.startswith(inner + '->')]
    return [n[len(whole):] for n in names
            if n.startswith((whole + '.', whole + '->'))]


def _short(names: Iterable[str]) -> set[str]:
    return {n for n in names if n.count('->') + n.count('.') <= _SELECTORS}


def _constant_element(expr: c.Expr) -> bool:
    """Is it an array element whose number stands there?"""
    return any(isinstance(n, c.Index) and _is_constant(strip(n.index))
               for n in expr.walk())


def _is_constant(expr: c.Expr | None) -> bool:
    return isinstance(expr, c.Literal) or (
        isinstance(expr, c.Id) and expr.name.isupper())


def _macro_tests(driver: Driver, name: str, depth: int = 3) -> bool:
    """Does a macro test, itself or with what it calls?"""
    macro = driver.macro(name)
    if macro is None:
        return any(any(map(TEST.search, f.words))
                   for f in driver.definitions(name))
    words = set(re.findall(r'[A-Za-z_]\w*', macro.body)) - {name}
    if any(map(TEST.search, words)):
        return True
    called = set(re.findall(r'([A-Za-z_]\w*)\s*\(', macro.body)) - {name}
    return depth > 0 and any(_macro_tests(driver, w, depth - 1)
                             for w in sorted(called))


def _last_field(name: str) -> str:
    found = re.search(r'(?:->|\.)(\w+)(?:\[\])*$', name)
    return found.group(1) if found else ''


#: A field: the struct's tag (None: not known) and the name.
Field = tuple[str | None, str]


def _fields(driver: Driver, func: c.Function,
            names: Iterable[str]) -> frozenset[Field]:
    """The fields in which handles lie."""
    return frozenset((_owner(driver, func, n), _last_field(n))
                     for n in names if _last_field(n))


def _owner(driver: Driver, func: c.Function, name: str) -> str | None:
    """The struct that has the last field of an alias."""
    words = re.findall(r'\w+', name)
    if not re.fullmatch(r'\w+(?:(?:->|\.)\w+|\[\])+', name):
        return None
    var = func.locals.get(words[0]) or driver.variable(words[0])
    for word in words[1:]:
        struct = driver.struct_of(var.type) if var else None
        if struct is None or word not in struct.fields:
            return None
        var = struct.fields[word]
    return struct.tag


def _same_field(driver: Driver, func: c.Function, node: c.Member,
                fields: frozenset[Field]) -> bool:
    """Is it one of the fields?  What is not known may be the same."""
    if all(name != node.name for _, name in fields):
        return False
    found = driver.object_of(node, func)
    owner = found.owner if found else None
    return any(name == node.name and (owner is None or tag in (None, owner))
               for tag, name in fields)


def is_special(expr: c.Expr | None) -> bool:
    """Zero, all ones, or a constant that says `no address`."""
    if isinstance(expr, c.Unary) and expr.op in '~-':
        return is_special(strip(expr.arg)) or isinstance(expr.arg, c.Literal)
    if isinstance(expr, c.Literal):
        return bool(re.fullmatch(r'0|0x0+|0[uUlL]+|0x[fF]{8,16}[uUlL]*|1',
                                 expr.text))
    if isinstance(expr, c.Id):
        return expr.name == 'NULL' or bool(
            re.fullmatch(r'[A-Z][A-Z0-9_]*', expr.name)
            and re.search('ERR|INVALID|BAD|NONE|NULL', expr.name))
    return False


def tests_in(driver: Driver, func: c.Function, names: frozenset[str],
             fields: frozenset[Field], depth: int) -> bool:
    """Does a function test what it gets, or a field of one of these names?"""
    known = driver.__dict__.setdefault('_tests_in', {})
    key = (func.path, func.name, names, fields, depth)
    if key not in known:
        known[key] = False            # recursion: not tested on that way
        known[key] = _tests_in(driver, func, names, fields, depth)
    return known[key]


def _tests_in(driver, func, names, fields, depth) -> bool:
    if func.body is None:
        return False
    for call in func.calls():
        if TEST.search(call.name) and not _of_another(func, call, None) \
                and not _spares_unmap(func, call):
            for arg in call.args:
                for node in arg.walk():
                    if isinstance(node, c.Member) \
                            and _same_field(driver, func, node, fields):
                        return True
                    if isinstance(node, c.Call) and node.name in _GETTER \
                            and any(text(node.args[-1]) == name
                                    for _, name in fields):
                        return True
    if names:
        search = _Search(driver, func, depth, frozenset())
        search.run(graph(func).entry, names, None)
        return search.test is not None
    return False


# ------------------------------------------------------------------ verdict

def verdict(driver: Driver, site: Site, depth: int = _DEPTH) -> list[Verdict]:
    """What becomes of a handle; several when several callers get it."""
    func = site.function
    here = Place(func.path, func, site.call)
    if site.shape == 'tested':
        return [Verdict('checked', here)]
    if site.shape == 'ignored':
        return [Verdict('lost', here)]
    if site.shape == 'returned':
        return _callers(driver, func, None, depth)
    names = frozenset(norm(t) for t in site.targets + site.copies)
    names |= _pointed_to(func, names) | _stored(driver, site)
    start = graph(func).step_of(site.call)
    if start is None:
        return [Verdict('unchecked', here)]
    search = _Search(driver, func, 2, frozenset())
    search.every_path = True
    search.elements = {norm(t): text(strip(t)) for t in site.targets
                       if _constant_element(t)}
    if any(isinstance(x, c.Loop) for x in parents(func).chain(site.call)):
        search.looped = {norm(t) for t in site.targets if '[' in norm(t)
                         and not _constant_element(t)}
    search.run(start, names, site.call)
    if search.test is not None:
        late = _late(driver, func, start, search, names)
        if late is not None:
            return [Verdict('late', Place(func.path, func, late))]
        use = None if search.returned else _untested_use(func, search, names)
        if use is not None:
            return [Verdict('unchecked', Place(func.path, func, use))]
        return [Verdict('checked', Place(func.path, func, search.test))]
    if search.returned and _returns_handle(func):
        return _callers(driver, func, None, depth)
    if search.wrong is not None:
        return [Verdict('wrong', Place(func.path, func, search.wrong))]
    if search.idle is not None:
        return [Verdict('idle', Place(func.path, func, search.idle))]
    if _global_test(driver, func, names):
        return [Verdict('checked', here)]
    used = next((call for step in search.untested.values()
                 for call in step.calls() if _through_pointer(call)
                 and any(_is_one(a, set(names)) for a in call.args)), None)
    if used is None and _left_to_callers(
            driver, func, search.everything,
            _fields(driver, func, search.everything), 2):
        return [Verdict('checked', here)]
    return [Verdict('unchecked', here)]


def _through_pointer(call: c.Call) -> bool:
    """Is a function called that a struct points to?"""
    return isinstance(strip(call.func), c.Member)


def _untested_use(func: c.Function, search: _Search,
                  names: frozenset[str]) -> c.Node | None:
    """A use of the handle that only untested ways lead to, or after which
    the descriptor is given to the device before the test.

    A use that lies before or behind a test on any way at all may depend on
    the same condition as the test, and says nothing.
    """
    around = {id(s) for back in (False, True) for s in graph(func).reachable(
        search.tests, backwards=back)}
    for step in search.untested.values():
        if step.tree is None:
            continue
        if id(step) not in around:
            use = _use(step.tree, names)
            if use is not None:
                return use
    return _given_away(func, search, names)


#: Calls that give a value to the device.
_TO_DEVICE = re.compile(r'^(__)?(raw_)?(write[bwlq]|iowrite\d+|out[bwl]|'
                        r'out_[bl]e\d+)(_relaxed|be)?$')


def _late(driver: Driver, func: c.Function, start: Step, search: _Search,
          names: frozenset[str]) -> c.Node | None:
    """A write of the handle to the device that every way to a test passes."""
    written = [(step, call) for step in search.untested.values()
               for call in step.calls()
               if (_TO_DEVICE.match(call.name) or driver.macro(call.name) and any(
                   map(_TO_DEVICE.match, re.findall(
                       r'\w+', driver.macro(call.name).body))))
               and any(_carries(a, names, None) for a in call.args)]
    for step, call in written:
        without = {id(s) for s in _reached(start, step)}
        if not any(id(test) in without for test in search.tests):
            return call
    return None


def _reached(start: Step, wall: Step) -> Iterator[Step]:
    """The steps behind one that are reached without passing another one."""
    seen, todo = {id(start)}, [start]
    while todo:
        for step, _ in todo.pop().next:
            if id(step) not in seen and step is not wall:
                seen.add(id(step))
                todo.append(step)
                yield step


def _pointed_to(func: c.Function, names: frozenset[str]) -> set[str]:
    """What a local pointer points to where it takes a handle: `*p` is x after
    `p = &x`, and an element of an array after `p = array`."""
    out: set[str] = set()
    for node in func.body.walk():
        if isinstance(node, c.Assign):
            pointer, value = norm(node.left), strip(node.right)
        elif isinstance(node, c.Variable) and node.init is not None:
            pointer, value = node.name, strip(node.init)
        else:
            continue
        if '*' + pointer not in names:
            continue
        if isinstance(value, c.Unary) and value.op == '&':
            out.add(norm(value.arg))
        elif isinstance(value, (c.Id, c.Member)):
            out.add(norm(value) + '[]')
    return out


def _stored(driver: Driver, site: Site) -> set[str]:
    """The fields in which a function or macro that gets the handle as an
    argument keeps it."""
    above = parents(site.function).of(site.call)
    while isinstance(above, (c.Paren, c.Cast)):
        above = parents(site.function).of(above)
    if not isinstance(above, c.Call) or not above.name:
        return set()
    index = next((i for i, a in enumerate(above.args)
                  if any(n is site.call for n in a.walk())), None)
    callee = driver.resolve(above.name, site.function)
    if index is None:
        return set()
    if callee is not None and callee.body is not None:
        params = [p.name for p in callee.params]
        if index >= len(params):
            return set()
        kept = [norm(x.left) for x in callee.body.walk()
                if isinstance(x, c.Assign) and _carries(
                    x.right, {params[index]}, None)]
    elif driver.macro(above.name) is not None:
        macro = driver.macro(above.name)
        params = list(macro.params or ())
        if index >= len(params):
            return set()
        kept = re.findall(r'([\w.()>-]+)\s*=[^=;]*\b%s\b' % re.escape(
            params[index]), macro.body)
    else:
        return set()
    out = set()
    for lvalue in kept:
        found = re.match(r'\(*(\w+)\)?((?:->|\.).*)$', lvalue)
        if found and found.group(1) in params:
            given = norm(above.args[params.index(found.group(1))])
            out.add((given + found.group(2)).rstrip(')'))
    return out


def _global_test(driver: Driver, func: c.Function,
                 names: frozenset[str]) -> bool:
    """Is a handle in a global variable tested by any function?"""
    outside = {n for n in names if re.fullmatch(r'\w+', n)
               and n not in func.locals and driver.variable(n) is not None}
    return any(
        TEST.search(call.name) and any(norm(a) in outside for a in call.args)
        for other in driver.functions_with(*sorted(outside))
        for call in other.calls()) if outside else False


def _of_another(func: c.Function, test: c.Call, origin: c.Node | None) -> bool:
    """Does a test follow another mapping than `origin` into the same lvalue?"""
    up = parents(func)
    stmt = up.statement(test)
    block = up.of(stmt) if stmt is not None else None
    if not isinstance(block, c.Block):
        return False
    tested = {_element(arg) for arg in test.args}
    index = next(i for i, s in enumerate(block.body) if s is stmt)
    for before in reversed(block.body[:index]):
        for node in before.walk():
            if isinstance(node, c.Assign) and _element(node.left) in tested:
                maps = [x for x in node.right.walk()
                        if isinstance(x, c.Call) and x.name in MAPS]
                return isinstance(before, c.ExprStmt) and bool(maps) \
                    and all(x is not origin for x in maps)
    return False


def mistaken(site: Site) -> c.Call | None:
    """A test right behind a map that asks for another variable, one that was
    not mapped just before; None if there is none."""
    up = parents(site.function)
    block = up.of(site.stmt) if site.stmt is not None else None
    if not isinstance(block, c.Block) or site.shape not in ('assign', 'init'):
        return None
    index = next(i for i, s in enumerate(block.body) if s is site.stmt)
    guard = block.body[index + 1] if index + 1 < len(block.body) else None
    if not isinstance(guard, c.If) or not ends_in_jump(guard.then):
        return None
    test = next((n for n in guard.cond.walk() if isinstance(n, c.Call)
                 and n.name == 'dma_mapping_error' and len(n.args) == 2), None)
    if test is None or not isinstance(
            strip(test.args[1]), (c.Id, c.Member, c.Index)):
        return None
    tested = norm(test.args[1])
    if any(norm(t) == tested for t in site.targets + site.copies):
        return None
    for before in reversed(block.body[:index]):
        nodes = list(before.walk())
        if any(isinstance(n, c.Call) and TEST.search(n.name)
               and any(norm(a) == tested for a in n.args) for n in nodes):
            return test
        if any(isinstance(n, c.Call) and n.name in MAPS for n in nodes):
            return None
    return test


def _element(expr: c.Expr) -> str:
    """An lvalue's text; `a[(i)]` is `a[i]`."""
    return re.sub(r'\[\(([^()]*)\)\]', r'[\1]', text(strip(expr)))


def _spares_unmap(func: c.Function, test: c.Call) -> bool:
    """`if (!dma_mapping_error(dev, x)) dma_unmap_single(dev, x, ...)` tells who
    is to be unmapped, and protects nobody."""
    up = parents(func)
    above = up.of(test)
    stmt = up.statement(test)
    if not (isinstance(above, c.Unary) and above.op == '!'
            and isinstance(stmt, c.If) and stmt.other is None):
        return False
    body = stmt.then.body if isinstance(stmt.then, c.Block) else [stmt.then]
    return bool(body) and all(
        isinstance(x, c.ExprStmt) and isinstance(strip(x.expr), c.Call)
        and 'unmap' in strip(x.expr).name for x in body)


def _only_tells(branch: c.Stmt) -> bool:
    """Does a branch leave all as it is, but for messages and counters?"""
    return all(
        isinstance(x, (c.Block, c.ExprStmt, c.Id, c.Literal, c.Member, c.Index,
                       c.Unary)) or isinstance(x, c.Call) and is_log(x.name)
        for x in branch.walk())


def _use(tree: c.Node, names: frozenset[str]) -> c.Node | None:
    """Where a statement hands a handle on to a function or a field."""
    for node in tree.walk():
        if isinstance(node, c.Call) and not _NO_USE.search(node.name or ''):
            if not _PURE.search(node.name or '') and any(
                    _carries(a, names, None) for a in node.args):
                return node
        elif isinstance(node, c.Assign) and isinstance(
                strip(node.left), (c.Member, c.Index)):
            if _carries(node.right, names, None):
                return node
    return None


def _given_away(func: c.Function, search: _Search,
                names: frozenset[str]) -> c.Node | None:
    """The handle is in a descriptor, behind a barrier comes the word that
    gives this to the device, and the test comes later."""
    bases = {n[:n.rfind('->')] for n in search.everything
             if '->' in n and _last_field(n)}
    for step in search.untested.values():
        if not any(call.name in _BARRIERS for call in step.calls()):
            continue
        for after, _ in step.next:
            tree = after.tree.expr if isinstance(after.tree, c.ExprStmt) \
                else None
            if isinstance(tree, c.Assign) and id(after) in search.untested:
                left = norm(tree.left)
                if '->' in left and left[:left.rfind('->')] in bases \
                        and left not in search.everything:
                    return tree
    return None


def _returns_handle(func: c.Function) -> bool:
    return not func.returns.pointers and func.returns.base not in (
        'int', 'void', 'bool', 'struct sk_buff')


def _callers(driver: Driver, func: c.Function, _: None,
             depth: int) -> list[Verdict]:
    """The handle is the function's result: each caller has to test it."""
    places = driver.calls_to(func)
    out: list[Verdict] = []
    for place in places:
        if depth and place.function is not func:
            for found in verdict(driver, site_of(place.function, place.node),
                                 depth - 1):
                if found.kind == 'unchecked' and found.place.node is place.node:
                    found = Verdict('caller', place)
                out.append(found)
    if not out or driver.addresses_of(func):
        out.append(Verdict('outside', Place(func.path, func, func.body)))
    return out


def _left_to_callers(driver: Driver, func: c.Function, names: set[str],
                     fields: frozenset[Field], depth: int) -> bool:
    """Does a caller test a field or an out parameter that was filled here?"""
    params = {p.name: index for index, p in enumerate(func.params)}
    outs = {params[n[1:]] for n in names if n[:1] == '*' and n[1:] in params}
    if not fields and not outs:
        return False
    for place in driver.calls_to(func):
        caller = place.function
        if caller is func or caller.body is None:
            continue
        passed = set()
        for index in outs:
            if index < len(place.node.args):
                arg = norm(place.node.args[index])
                passed.add(arg[1:] if arg.startswith('&') else '*' + arg)
        if tests_in(driver, caller, frozenset(), fields, 1) \
                and _tested_behind(driver, caller, place.node, fields):
            return True
        if passed:
            step = graph(caller).step_of(place.node)
            search = _Search(driver, caller, 1, frozenset())
            if step is not None:
                search.run(step, frozenset(passed), place.node)
            if search.test is not None:
                return True
        if depth > 1 and _left_to_callers(
                driver, caller, {p for p in passed if p[0] == '*'},
                fields | _fields(driver, caller, passed), depth - 1):
            return True
    return False


def _tested_behind(driver: Driver, caller: c.Function, call: c.Call,
                   fields: frozenset[Field]) -> bool:
    """Can a test of a field come after a call?  One in another function can."""
    steps = graph(caller)
    start = steps.step_of(call)
    tests = [x for x in caller.calls() if TEST.search(x.name) and any(
        isinstance(n, c.Member) and _same_field(driver, caller, n, fields)
        for a in x.args for n in a.walk())]
    if start is None or not tests:
        return True
    behind = {id(s) for s in steps.reachable([start])}
    return any(step is None or id(step) in behind
               for step in map(steps.step_of, tests))

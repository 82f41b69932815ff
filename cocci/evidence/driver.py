# SPDX-License-Identifier: GPL-2.0-only
"""A driver as a whole: its files, types, call graph and entry points.

Names are looked up across all files of the driver.  What cannot be resolved
stays unknown (None, or a Root of kind `unknown`): a rule must refuse there.
"""
from __future__ import annotations

import os
import re
from collections import deque
from functools import cached_property
from typing import Any, Iterable, Iterator, NamedTuple

from . import allow
from . import cparse as c
from .words import Words


class Object(NamedTuple):
    """What an lvalue names: kind is field, local or global.

    owner is the struct's tag (None: not known) or the function's name; for a
    global it is ''.  Two lvalues of one Object may still be two instances.
    """

    kind: str
    owner: str | None
    name: str

    def __str__(self) -> str:
        if self.kind == 'field':
            return '%s.%s' % (self.owner or '?', self.name)
        return self.name


class Place(NamedTuple):
    """A node and where it stands."""

    path: str
    function: c.Function | None
    node: c.Node

    @property
    def line(self) -> int:
        return self.node.first.line

    def __str__(self) -> str:
        return '%s:%d' % (self.path, self.line)

    def seen_from(self, path: str) -> str:
        """Where it is, for a message in a file: the line alone in that one."""
        return 'line %d' % self.line if self.path == path else '%s:%d' % (
            os.path.basename(self.path), self.line)


class Root(NamedTuple):
    """One way into a function from outside the driver.

    kind: probe, remove, shutdown, suspend, resume, init, exit, or callback
    (field or registering call in `what`), or unknown.  A field comes with its
    struct as `owner` ('' when not known) and its name as `member`; a call
    with its name as `member`, the position of the argument, and the node.
    """

    kind: str
    what: str
    path: str
    line: int
    owner: str = ''
    member: str = ''
    argument: int = -1
    place: Place | None = None

    def __str__(self) -> str:
        return '%s (%s:%d)' % (self.what, self.path, self.line)


_DRIVER_FIELDS = {
    'probe': 'probe', 'probe_new': 'probe', 'remove': 'remove',
    'remove_new': 'remove', 'disconnect': 'remove', 'shutdown': 'shutdown',
    'suspend': 'suspend', 'suspend_late': 'suspend', 'freeze': 'suspend',
    'poweroff': 'suspend', 'resume': 'resume', 'resume_early': 'resume',
    'thaw': 'resume', 'restore': 'resume', 'attach': 'callback',
}
_PM_FIELDS = {
    'suspend': 'suspend', 'resume': 'resume', 'freeze': 'suspend',
    'thaw': 'resume', 'poweroff': 'suspend', 'restore': 'resume',
    'suspend_late': 'suspend', 'resume_early': 'resume',
    'suspend_noirq': 'suspend', 'resume_noirq': 'resume',
    'runtime_suspend': 'suspend', 'runtime_resume': 'resume',
}
_PM_MACRO = ('PM_OPS', 'DEFINE_SIMPLE_DEV')
_EXPORTS = ('EXPORT_SYMBOL', 'EXPORT_SYMBOL_GPL', 'EXPORT_SYMBOL_NS',
            'EXPORT_SYMBOL_NS_GPL')


def strip(expr: c.Expr | None) -> c.Expr | None:
    """The expression inside parentheses and casts."""
    while isinstance(expr, (c.Paren, c.Cast)):
        expr = expr.inner if isinstance(expr, c.Paren) else expr.arg
    return expr


def text(node: c.Node | None, casts: bool = False) -> str:
    """An expression as canonical text, for comparing and for messages.

    Parentheses stand only where they are needed; casts are dropped unless
    asked for; `(*p).x` reads `p->x`.
    """
    if node is None:
        return ''
    if isinstance(node, c.Paren):
        inner = text(node.inner, casts)
        core = node.inner if casts else strip(node.inner)
        return '(%s)' % inner if isinstance(
            core, (c.Binary, c.Ternary, c.Assign)) else inner
    if isinstance(node, c.Cast):
        arg = text(node.arg, casts)
        return '(%s)%s' % (node.type, arg) if casts else arg
    if isinstance(node, c.Id):
        return node.name
    if isinstance(node, c.Literal):
        return node.text
    if isinstance(node, c.Call):
        return '%s(%s)' % (text(node.func, casts),
                           ', '.join(text(a, casts) for a in node.args))
    if isinstance(node, c.Member):
        base, arrow = node.base, node.arrow
        inner = strip(base)
        if isinstance(inner, c.Unary) and not arrow and inner.op == '*':
            return '%s->%s' % (text(inner.arg, casts), node.name)
        if isinstance(inner, c.Unary) and arrow and inner.op == '&':
            return '%s.%s' % (text(inner.arg, casts), node.name)
        if isinstance(inner, c.Unary):
            return '(%s)%s%s' % (text(inner, casts), '->' if arrow else '.',
                                 node.name)
        return '%s%s%s' % (text(base, casts), '->' if arrow else '.', node.name)
    if isinstance(node, c.Index):
        return '%s[%s]' % (text(node.base, casts), text(node.index, casts))
    if isinstance(node, c.Unary):
        if node.op.startswith('p'):
            return text(node.arg, casts) + node.op[1:]
        return node.op + text(node.arg, casts)
    if isinstance(node, (c.Binary, c.Assign)):
        sep = '%s ' if node.op == ',' else ' %s '
        return text(node.left, casts) + sep % node.op + text(node.right, casts)
    if isinstance(node, c.Ternary):
        return '%s ? %s : %s' % (text(node.cond, casts), text(node.then, casts),
                                 text(node.other, casts))
    if isinstance(node, c.Sizeof):
        return '%s(%s)' % (node.op, node.type if node.type
                           else text(strip(node.arg), casts))
    if isinstance(node, c.TypeArg):
        return str(node.type)
    if isinstance(node, c.InitList):
        return '{%s}' % ', '.join(text(i, casts) for i in node.items)
    return '?'


class Driver:
    """The files of one driver, read and parsed when they are needed.

    texts: path -> contents, for files that are not what is on disk.  folder:
    what relative paths are looked up in.
    """

    def __init__(self, paths: list[str], texts: dict[str, str] | None = None,
                 folder: str = ''):
        self._folder = folder
        self.paths = list(dict.fromkeys(paths))
        self._files: dict[str, c.SourceFile] = {}
        self._texts: dict[str, str] = dict(texts or {})
        self._allowed: dict[str, list[allow.Comment]] = {}
        self._definitions: dict[str, list[c.Function]] = {}
        self._entries: dict[tuple[str, str], Any] = {}
        self._mentions_of: dict[str, list[Place]] = {}
        self._calls_to: dict[int, list[Place]] = {}
        self._roots_of: dict[int, list[Root]] = {}

    # -- files and names

    def text_of(self, path: str) -> str:
        """A file's text (Latin-1), read once; '' when it is not there."""
        if path not in self._texts:
            try:
                with open(os.path.join(self._folder, path), encoding='latin-1',
                          newline='') as handle:
                    self._texts[path] = handle.read()
            except OSError:
                self._texts[path] = ''
        return self._texts[path]

    def allowed(self, rule: str, path: str,
                line: int) -> allow.Comment | None:
        """The comment with which somebody allows what a rule says there."""
        if path not in self._allowed:
            self._allowed[path] = list(allow.comments(path,
                                                      self.text_of(path)))
        return next((said for said in self._allowed[path] if said.reason
                     and rule in said.rules
                     and said.first <= line <= said.last), None)

    def file(self, path: str) -> c.SourceFile:
        if path not in self._files:
            self._files[path] = c.SourceFile(path, self.text_of(path))
        return self._files[path]

    @cached_property
    def files(self) -> list[c.SourceFile]:
        """Every file, parsed: for a big driver prefer `files_naming`."""
        return [self.file(p) for p in self.paths if self.text_of(p)]

    @cached_property
    def _contents(self) -> list[str]:
        return [self.text_of(path) for path in self.paths]

    @cached_property
    def _words(self) -> Words:
        return Words(self._contents)

    def files_with(self, *pieces: str) -> list[c.SourceFile]:
        """The files whose text holds one of the pieces; only those are
        parsed."""
        return self._numbered(map(self._words.holding, pieces))

    def files_naming(self, *words: str) -> list[c.SourceFile]:
        """The files in which one of the words stands as a whole word; only
        those are parsed."""
        return self._numbered(map(self._words.naming, words))

    def files_matching(self, pattern: re.Pattern[str]) -> list[c.SourceFile]:
        """The files with text that looks so; only those are parsed."""
        return [self.file(path) for path, whole
                in zip(self.paths, self._contents) if pattern.search(whole)]

    def _numbered(self, found: Iterable[Iterable[int]]) -> list[c.SourceFile]:
        return [self.file(self.paths[number])
                for number in sorted(set().union(*found))]

    def functions_with(self, *words: str) -> Iterator[c.Function]:
        """The functions whose body names one of the words."""
        wanted = frozenset(words)
        for source in self.files_naming(*words):
            for func in source.all_functions():
                if not wanted.isdisjoint(func.words):
                    yield func

    def definitions(self, name: str) -> list[c.Function]:
        """Every function of that name; more than one when it is reused."""
        if name not in self._definitions:
            self._definitions[name] = [
                func for source in self.files_naming(name)
                for func in source.functions_called(name)]
        return self._definitions[name]

    def _named(self, kind: str, key: str) -> Any:
        """The entry `key` of a table of the files, first file wins."""
        cached = kind, key
        if cached not in self._entries:
            self._entries[cached] = next(
                (getattr(f, kind)[key] for f in self._sources_of(key)
                 if key in getattr(f, kind)), None)
        return self._entries[cached]

    def _sources_of(self, key: str) -> list[c.SourceFile]:
        """The files that may define what a key of a table stands for."""
        word = key.split(' ')[-1]
        if '@' not in word:
            return self.files_naming(word)
        at = word.partition('@')[2]     # where the body of the struct begins
        if not at.isdigit():
            return self.files
        begin, end = int(at), int(at) + 1
        return [self.file(path) for path, whole
                in zip(self.paths, self._contents)
                if whole[begin:end] == '{']

    def macro(self, name: str) -> c.Macro | None:
        return self._named('macros', name)

    def struct(self, tag: str) -> c.Struct | None:
        return self._named('structs', tag)

    def typedef(self, name: str) -> c.Type | None:
        return self._named('typedefs', name)

    def variable(self, name: str) -> c.Variable | None:
        """A variable of file scope."""
        return self._named('globals', name)

    def resolve(self, name: str, caller: c.Function | None) -> c.Function | None:
        """The function a call from `caller` reaches; None when unknown."""
        found = self.definitions(name)
        if caller:
            same = [f for f in found if f.path == caller.path]
            if same:
                return same[0] if len(same) == 1 else None
        found = [f for f in found
                 if not f.static or not caller or f.path.endswith('.h')]
        return found[0] if len(found) == 1 else None

    # -- types

    def expand(self, kind: c.Type | None) -> c.Type | None:
        """Replace typedefs of this driver."""
        for _ in range(8):
            inner = self._named('typedefs', kind.base) if kind else None
            if inner is None:
                return kind
            kind = c.Type(inner.base, inner.pointers + kind.pointers,
                          kind.dims + inner.dims)
        return kind

    def struct_of(self, kind: c.Type | None) -> c.Struct | None:
        kind = self.expand(kind)
        return self.struct(kind.base) if kind else None

    def type_of(self, expr: c.Expr | None,
                func: c.Function | None) -> c.Type | None:
        """The type of an expression, None when it cannot be told."""
        expr = expr.inner if isinstance(expr, c.Paren) else expr
        if isinstance(expr, c.Paren):
            return self.type_of(expr, func)
        if isinstance(expr, c.Id):
            var = func.locals.get(expr.name) if func else None
            var = var or self._global(expr.name, func)
            return self.expand(var.type) if var else None
        if isinstance(expr, c.Member):
            struct = self.struct_of(self.type_of(expr.base, func))
            var = struct.fields.get(expr.name) if struct else None
            return self.expand(var.type) if var else None
        if isinstance(expr, c.Cast):
            return self.expand(expr.type)
        if isinstance(expr, c.Index):
            return self._deref(self.type_of(expr.base, func))
        if isinstance(expr, c.Unary):
            kind = self.type_of(expr.arg, func)
            if expr.op == '*':
                return self._deref(kind)
            if expr.op == '&' and kind:
                if kind.dims:
                    return None
                return c.Type(kind.base, kind.pointers + 1)
            return kind
        if isinstance(expr, c.Assign):
            return self.type_of(expr.left, func)
        if isinstance(expr, c.Binary) and expr.op in '+-':
            left = self.type_of(expr.left, func)
            right = self.type_of(expr.right, func)
            points = [bool(t and (t.pointers or t.dims)) for t in (left, right)]
            if expr.op == '-' and all(points):
                return c.Type('long')
            if any(points):
                return left if points[0] else right
            return left if left and left == right else None
        if isinstance(expr, c.Ternary):
            return self.type_of(expr.then, func) or self.type_of(expr.other, func)
        if isinstance(expr, c.Call) and expr.name:
            callee = self.resolve(expr.name, func)
            return self.expand(callee.returns) if callee else None
        return None

    def _global(self, name: str, func: c.Function | None) -> c.Variable | None:
        if func and name in self.file(func.path).globals:
            return self.file(func.path).globals[name]
        return self._named('globals', name)

    @staticmethod
    def _deref(kind: c.Type | None) -> c.Type | None:
        if kind is None:
            return None
        if kind.dims:
            return c.Type(kind.base, kind.pointers, kind.dims[1:])
        return c.Type(kind.base, kind.pointers - 1) if kind.pointers else None

    def object_of(self, expr: c.Expr | None,
                  func: c.Function | None) -> Object | None:
        """What an lvalue names (casts and parentheses ignored)."""
        expr = strip(expr)
        if isinstance(expr, c.Id):
            if func and expr.name in func.locals:
                return Object('local', func.name, expr.name)
            if self._global(expr.name, func):
                return Object('global', '', expr.name)
            return None
        if isinstance(expr, c.Member):
            struct = self.struct_of(self.type_of(expr.base, func))
            return Object('field', struct.tag if struct else None, expr.name)
        if isinstance(expr, c.Index):
            return self.object_of(expr.base, func)
        if isinstance(expr, c.Unary) and expr.op == '*':
            return self.object_of(expr.arg, func)
        return None

    # -- who calls whom

    def _mentions(self, name: str) -> list[Place]:
        """Every mention of a function's name, calls and addresses."""
        if name in self._mentions_of:
            return self._mentions_of[name]
        out: list[Place] = []
        for source in self.files_naming(name):
            for func in source.functions_naming(name):
                if not func.body or name in func.locals:
                    continue
                out += [Place(source.path, func, node)
                        for node in func.mentions(name)]
            for var in source.globals.values():
                out += [Place(source.path, None, node)
                        for node in (var.init.walk() if var.init else ())
                        if isinstance(node, c.Id) and node.name == name]
            for call in source.toplevel_calls:
                out += [Place(source.path, None, call) for node in call.walk()
                        if isinstance(node, c.Id) and node.name == name]
        self._mentions_of[name] = out
        return out

    def _hidden_mentions(self, name: str) -> Iterator[Root]:
        """Where a name stands in code without a syntax tree."""
        word = re.compile(r'\b%s\b' % re.escape(name))
        for source in self.files_naming(name):
            for func in source.functions_naming(name):
                if func.body is None:
                    yield Root('unknown', '%s, which could not be parsed'
                               % func.name, source.path, func.first.line)
            for macro in source.macros.values():
                if name in macro.body and word.search(macro.body):
                    yield Root('unknown', 'macro %s' % macro.name, source.path,
                               macro.line, '#define', macro.name)

    def calls_to(self, func: c.Function) -> list[Place]:
        """The Call nodes in this driver that reach a function."""
        if id(func) not in self._calls_to:
            self._calls_to[id(func)] = [
                place._replace(node=call)
                for place in self._mentions(func.name)
                if place.function and self._means(place, func)
                and (call := place.function.call_of(place.node))]
        return self._calls_to[id(func)]

    def addresses_of(self, func: c.Function) -> list[Place]:
        """Where a function's name is used other than to call it."""
        calls = {id(p.node.func) for p in self.calls_to(func)}
        return [p for p in self._mentions(func.name)
                if id(p.node) not in calls and self._means(p, func)]

    def _means(self, place: Place, func: c.Function) -> bool:
        if place.path == func.path:
            return True
        if not func.static or func.path.endswith('.h'):
            return not any(f.path == place.path
                           for f in self.definitions(func.name)
                           if f is not func)
        return place.path.endswith('.h')

    # -- entry points

    def roots(self, func: c.Function) -> list[Root]:
        """Every way in which code outside the driver can come to `func`."""
        return list(dict.fromkeys(root for _, root in self.entries(func)))

    def entries(self, func: c.Function) -> list[tuple[c.Function, Root]]:
        """The roots of `func`, each with the function that is entered."""
        out: dict[tuple[c.Function, Root], None] = {}
        seen: set[int] = set()
        todo = deque([func])
        while todo:
            item = todo.popleft()
            if id(item) in seen:
                continue
            seen.add(id(item))
            roots = self.direct_roots(item)
            callers = [p.function for p in self.calls_to(item) if p.function]
            if not roots and not callers:
                # a macro may have built the name: DEVICE_ATTR_WO(reset)
                roots = [Root('unknown', 'no caller of %s was found'
                              % item.name, item.path, item.name_token.line)]
            out.update(((item, root), None) for root in roots)
            todo.extend(callers)
        if not out:
            return [(func, Root('unknown', 'no caller of %s was found'
                                % func.name, func.path, func.name_token.line))]
        return list(out)

    def direct_roots(self, func: c.Function) -> list[Root]:
        """How code outside the driver calls `func` itself."""
        if id(func) not in self._roots_of:
            self._roots_of[id(func)] = list(self._direct_roots(func))
        return self._roots_of[id(func)]

    def _direct_roots(self, func: c.Function) -> Iterator[Root]:
        here = func.path, func.name_token.line
        for place in self.addresses_of(func):
            if not self._compared(place):
                yield self._registration(place, func)
        yield from self._hidden_mentions(func.name)
        calls = self.calls_to(func)
        entry = self._module_entry(func)
        if entry:
            yield Root(entry, 'module_%s' % entry, *here)
        elif not func.static and not calls and not self.addresses_of(func):
            yield Root('unknown', '%s is not static and has no caller in the '
                       'driver' % func.name, *here)
        for source in self.files_naming(func.name):
            for call in source.toplevel_calls:
                if call.name in _EXPORTS and call.args \
                        and text(call.args[0]) == func.name:
                    yield Root('unknown', '%s is exported' % func.name,
                               source.path, call.first.line)

    @staticmethod
    def _compared(place: Place) -> bool:
        """Is a name only compared with, as in `ops->open == foo_open`?"""
        return place.function is not None and any(
            isinstance(n, c.Binary) and n.op in ('==', '!=')
            and place.node in (strip(n.left), strip(n.right))
            for n in place.function.nodes)

    def _module_entry(self, func: c.Function) -> str:
        if func.name == 'init_module':
            return 'init'
        if func.name == 'cleanup_module':
            return 'exit'
        return ''

    def _registration(self, place: Place, func: c.Function) -> Root:
        """What is known of a place that takes a function's address."""
        node = place.node
        if place.function is None:
            if isinstance(node, c.Call):
                return self._toplevel(node, place, func)
            found = self._initialised_field(place)
            if found:
                struct, name = found
                return Root(self._field_kind(struct, name),
                            '%s.%s' % (struct, name), place.path, place.line,
                            struct, name)
            return Root('unknown', 'the address of %s' % func.name,
                        place.path, place.line)
        for parent in place.function.body.walk():
            if isinstance(parent, c.Call) and any(
                    _names(a, node) for a in parent.args):
                return Root('callback', parent.name or text(parent.func),
                            place.path, place.line, member=parent.name,
                            argument=next(i for i, arg in enumerate(parent.args)
                                          if _names(arg, node)),
                            place=place._replace(node=parent))
            if isinstance(parent, c.Assign) and _names(parent.right, node):
                left = strip(parent.left)
                owner = self.type_of(left.base, place.function) \
                    if isinstance(left, c.Member) else None
                name = left.name if isinstance(left, c.Member) else text(left)
                kind = self._field_kind(owner.base if owner else '', name)
                return Root(kind, text(parent.left), place.path, place.line,
                            owner.base if owner else '', name if isinstance(
                                left, c.Member) else '')
            if isinstance(parent, c.Variable) and isinstance(
                    parent.init, c.InitList):
                found = self._field_of(parent, node)
                if found:
                    struct, name = found
                    return Root(self._field_kind(struct, name), '%s.%s'
                                % (struct, name), place.path, place.line,
                                struct, name)
        return Root('unknown', 'the address of %s' % func.name,
                    place.path, place.line)

    def _toplevel(self, call: c.Call, place: Place, func: c.Function) -> Root:
        name = call.name
        if name in ('module_init', 'late_initcall', 'device_initcall',
                    'subsys_initcall', 'arch_initcall', 'fs_initcall',
                    'postcore_initcall', 'core_initcall', 'console_initcall'):
            kind = 'init'
        elif name == 'module_exit':
            kind = 'exit'
        elif any(m in name for m in _PM_MACRO):
            kind = 'suspend' if 'suspend' in func.name else 'resume'
        elif name.startswith('EXPORT_SYMBOL'):
            return Root('unknown', '%s is exported' % func.name, place.path,
                        place.line)
        else:
            kind = 'callback'
        return Root(kind, name, place.path, place.line, member=name,
                    argument=next((i for i, arg in enumerate(call.args) if any(
                        isinstance(n, c.Id) and n.name == func.name
                        for n in arg.walk())), -1))

    def _initialised_field(self, place: Place) -> tuple[str, str] | None:
        """(struct, field) of the initialiser in which a name stands."""
        for var in self.file(place.path).globals.values():
            found = self._field_of(var, place.node)
            if found:
                return found
        return None

    def _field_of(self, var: c.Variable,
                  node: c.Node) -> tuple[str, str] | None:
        """The same in the initialiser of one variable."""
        if var.init is None or not (var.init.first.start <= node.first.start
                                    <= var.init.last.end):
            return None
        struct, name = var.type.base, ''
        below: c.Node = var.init
        while isinstance(below, c.InitList):
            for label, item in zip(below.names, below.items):
                if item.first.start <= node.first.start \
                        and node.last.end <= item.last.end:
                    if label and not label.startswith('['):
                        if name:
                            inner = self.struct(struct)
                            struct = inner.fields[name].type.base if inner \
                                and name in inner.fields else '?'
                        name = label.split('.')[-1]
                    below = item
                    break
            else:
                break
        if isinstance(below, c.Call) and any(m in below.name
                                             for m in _PM_MACRO):
            return 'struct dev_pm_ops', below.name
        return (struct, name) if name else None

    @staticmethod
    def _field_kind(struct: str, name: str) -> str:
        if struct.endswith('_driver'):
            return _DRIVER_FIELDS.get(name, 'callback')
        if struct == 'struct dev_pm_ops':
            return _PM_FIELDS.get(name, 'suspend')
        return 'callback'


def _names(expr: c.Expr, node: c.Node) -> bool:
    """Is the expression this very name, but for casts and a leading &?"""
    expr = strip(expr)
    if isinstance(expr, c.Unary) and expr.op == '&':
        expr = strip(expr.arg)
    return expr is node

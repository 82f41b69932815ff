# SPDX-License-Identifier: GPL-2.0-only
"""A tolerant parser for kernel C: functions, statements, expressions, structs.

Nothing is preprocessed, so a macro stands as it was written.  A function body
is parsed when it is first asked for; one that cannot be parsed says so
(`Function.error`) and every rule must then treat it as unknown.
"""
from __future__ import annotations

import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache, wraps
from operator import attrgetter
from typing import Any, Callable, Iterator, NamedTuple, TypeVar

from .clex import Selection, Token, directive, select, tokenize


_Answer = TypeVar('_Answer')


def once(question: Callable[[Any], _Answer]) -> Callable[[Any], _Answer]:
    """Keep an answer with what it is about, a driver or a function, so that
    both go together."""
    name = '%s.%s' % (question.__module__, question.__name__)

    @wraps(question)
    def asked(about: Any) -> _Answer:
        if name not in about.__dict__:
            about.__dict__[name] = question(about)
        return about.__dict__[name]

    return asked


class ParseError(Exception):
    """The text is not C that this parser knows."""


# --------------------------------------------------------------- syntax tree

@dataclass(eq=False, slots=True)
class Node:
    """Part of a function; first and last are its outermost tokens."""

    first: Token
    last: Token
    #: Where it stands among all nodes of its function (`_number()`): the list,
    #: its own index, and that behind the last one below it.
    order: tuple[list[Any], int, int] = field(init=False, repr=False)

    def children(self) -> list['Node']:
        """The nodes directly below this one, in source order."""
        out: list[Node] = []
        for value in _below(type(self))(self):
            if type(value) is list:
                out += value
            elif value is not None:
                out.append(value)
        return out

    def walk(self) -> Iterator['Node']:
        """This node and everything below it, outermost first."""
        try:
            nodes, begin, end = self.order
        except AttributeError:
            nodes, begin, end = _number(self)
        return iter(nodes[begin:end])


def _number(top: Node) -> tuple[list[Node], int, int]:
    """Put a node and all below it in order, once; the order of the top."""
    nodes: list[Node] = []
    todo: list[Node | None] = [top]
    open_: list[Node] = []
    while todo:
        node = todo.pop()
        if node is None:                # everything below it is done
            last = open_.pop()
            last.order = nodes, last.order[1], len(nodes)
            continue
        at = len(nodes)
        nodes.append(node)
        node.order = nodes, at, at + 1
        below = [] if type(node) in _LEAVES else node.children()
        if below:
            open_.append(node)
            todo.append(None)
            below.reverse()
            todo += below
    return top.order


def _require_sane(top: Node) -> None:
    """ParseError if a tree is so deep that nobody could go down to its end, or
    of so many statements that their control flow needs gigabytes."""
    nodes, begin, end = _number(top)
    if end - begin > _MAX_STATEMENTS and sum(
            isinstance(node, Stmt) for node in nodes) > _MAX_STATEMENTS:
        raise ParseError('more than %d statements' % _MAX_STATEMENTS)
    open_: list[int] = []       # where each of the nodes around it ends
    for index in range(begin, end):
        while open_ and open_[-1] <= index:
            open_.pop()
        last = nodes[index].order[2]
        if last > index + 1:
            open_.append(last)
            if len(open_) > _MAX_TREE:
                raise ParseError('line %d: nested too deeply'
                                 % nodes[index].first.line)


@lru_cache(maxsize=None)
def _below(kind: type[Node]) -> Callable[[Node], tuple[Any, ...]]:
    """Gets the fields of a class of nodes that may hold nodes."""
    names = [f.name for f in fields(kind) if re.search(
        r'Node|Expr|Stmt|Block|Variable', str(f.type))]
    if len(names) > 1:
        return attrgetter(*names)
    return (lambda node: (getattr(node, names[0]),)) if names \
        else lambda node: ()


@dataclass(eq=False, slots=True)
class Expr(Node):
    pass


@dataclass(eq=False, slots=True)
class Id(Expr):
    name: str


@dataclass(eq=False, slots=True)
class Literal(Expr):
    text: str


#: Most nodes have nothing below them.
_LEAVES = frozenset((Id, Literal))


@dataclass(eq=False, slots=True)
class Call(Expr):
    func: Expr
    args: list[Expr]

    @property
    def name(self) -> str:
        """The called function's name, '' for a call through a pointer."""
        return self.func.name if isinstance(self.func, Id) else ''


@dataclass(eq=False, slots=True)
class Member(Expr):
    base: Expr
    arrow: bool
    name: str


@dataclass(eq=False, slots=True)
class Index(Expr):
    base: Expr
    index: Expr


@dataclass(eq=False, slots=True)
class Unary(Expr):
    """op is & * + - ! ~ ++ --, or p++ p-- for the postfix forms."""

    op: str
    arg: Expr


@dataclass(eq=False, slots=True)
class Binary(Expr):
    op: str
    left: Expr
    right: Expr


@dataclass(eq=False, slots=True)
class Assign(Expr):
    op: str
    left: Expr
    right: Expr


@dataclass(eq=False, slots=True)
class Ternary(Expr):
    cond: Expr
    then: Expr | None
    other: Expr


@dataclass(eq=False, slots=True)
class Cast(Expr):
    type: 'Type'
    arg: Expr


@dataclass(eq=False, slots=True)
class Sizeof(Expr):
    """sizeof, typeof, alignof: of a type or of an expression."""

    op: str
    type: 'Type | None'
    arg: Expr | None


@dataclass(eq=False, slots=True)
class TypeArg(Expr):
    """A type name where an expression is expected (an argument of a macro)."""

    type: 'Type'


@dataclass(eq=False, slots=True)
class InitList(Expr):
    """Braced initialiser; names holds the designator of each item or ''."""

    names: list[str]
    items: list[Expr]


@dataclass(eq=False, slots=True)
class StmtExpr(Expr):
    body: 'Block'


class Type(NamedTuple):
    """A type as written: base name (`struct foo`, `u32`), stars, array sizes."""

    base: str
    pointers: int = 0
    dims: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.base + (' ' + '*' * self.pointers if self.pointers else '') \
            + ''.join('[%s]' % d for d in self.dims)


@dataclass(eq=False, slots=True)
class Stmt(Node):
    pass


@dataclass(eq=False, slots=True)
class Block(Stmt):
    body: list[Stmt]


@dataclass(eq=False, slots=True)
class ExprStmt(Stmt):
    expr: Expr


@dataclass(eq=False, slots=True)
class Variable(Node):
    """One declarator: a local, a parameter, a global or a struct field."""

    name: str
    type: Type
    init: Expr | None = None
    attributes: tuple[str, ...] = ()
    static: bool = False
    function: bool = False     # a pointer to a function


@dataclass(eq=False, slots=True)
class Decl(Stmt):
    variables: list[Variable]


@dataclass(eq=False, slots=True)
class If(Stmt):
    cond: Expr
    then: Stmt
    other: Stmt | None


@dataclass(eq=False, slots=True)
class Loop(Stmt):
    """kind is for, while, do or macro (list_for_each_entry and the like)."""

    kind: str
    init: Stmt | None
    cond: Expr | None
    step: Expr | None
    body: Stmt


@dataclass(eq=False, slots=True)
class Switch(Stmt):
    cond: Expr
    body: Stmt


@dataclass(eq=False, slots=True)
class Case(Stmt):
    values: list[Expr]         # empty for default


@dataclass(eq=False, slots=True)
class Label(Stmt):
    name: str


@dataclass(eq=False, slots=True)
class Goto(Stmt):
    name: str


@dataclass(eq=False, slots=True)
class Return(Stmt):
    value: Expr | None


@dataclass(eq=False, slots=True)
class Jump(Stmt):
    """break or continue."""

    kind: str


@dataclass(eq=False, slots=True)
class Branches(Stmt):
    """`#if` around whole statements: one Block a branch, one of them taken."""

    body: list[Stmt]


@dataclass(eq=False, slots=True)
class Opaque(Stmt):
    """asm and other statements without anything to look into."""


# ------------------------------------------------------------------- parsing

_QUALIFIERS = frozenset(
    'const volatile static register extern inline __inline __inline__ auto '
    '__always_inline noinline __init __exit __devinit __devexit __iomem __user '
    '__rcu __force __kernel __percpu __maybe_unused __always_unused __must_check '
    '__attribute_const__ __pure __cold __hot __used __weak notrace asmlinkage '
    '__read_mostly __ro_after_init __bitwise __restrict restrict __packed '
    '__aligned_u64 __refdata __ref __initdata __initconst __net_init __net_exit '
    '__cpuinit __meminit noinline_for_stack __visible __nocast __private '
    '__free_page_ok __counted_by __typeof_unqual__ _Noreturn __noreturn '
    '__deprecated __sched __printf ____cacheline_aligned '
    '____cacheline_aligned_in_smp __cacheline_aligned'.split())
_TYPE_WORDS = frozenset(
    'void char short int long float double signed unsigned _Bool bool struct '
    'union enum u8 u16 u32 u64 s8 s16 s32 s64 __u8 __u16 __u32 __u64 __s8 __s16 '
    '__s32 __s64 __le16 __le32 __le64 __be16 __be32 __be64 uint ulong ushort '
    'unchar uint8_t uint16_t uint32_t uint64_t int8_t int16_t int32_t int64_t '
    'size_t ssize_t dma_addr_t phys_addr_t resource_size_t gfp_t loff_t '
    'irqreturn_t netdev_tx_t pgoff_t __auto_type typeof __typeof__ __typeof '
    'typeof_member '
    'UINT8 UINT16 UINT32 UINT64 UCHAR USHORT ULONG BOOLEAN'.split())
_TYPEOF = frozenset('typeof __typeof__ __typeof typeof_member'.split())
_NUMERIC = frozenset('void char short int long float double signed unsigned '
                     '_Bool __signed__'.split())
_KEYWORDS = frozenset('if else for while do switch case default break continue '
                      'goto return sizeof asm __asm__'.split())
_BINARY = {'*': 10, '/': 10, '%': 10, '+': 9, '-': 9, '<<': 8, '>>': 8,
           '<': 7, '>': 7, '<=': 7, '>=': 7, '==': 6, '!=': 6, '&': 5, '^': 4,
           '|': 3, '&&': 2, '||': 1}
_ASSIGN = frozenset('= += -= *= /= %= &= |= ^= <<= >>='.split())
_LOOP_NAME = re.compile(r'for_?each|^for_|_for_|^FOR_|FOREACH|FOR_EACH|'
                        r'^(?:LIST_|SLIST_|TAILQ_)FOREACH')
_PARAMETRIC = frozenset('__attribute__ __attribute __aligned __printf __free '
                        '__counted_by __cleanup __acquires __releases __must_hold '
                        '__section __alloc_size __malloc_like __guarded_by '
                        '__counted_by_le __counted_by_be __scanf'.split())
#: How deep code may be nested, and how deep the tree of a function may be: a
#: sum has one level for each of its operands.
_MAX_DEPTH = 200
_MAX_TREE = 500
_MAX_BODIES = 50        # of structs in one another
_MAX_STATEMENTS = 5000  # of a function; drivers of Linux have none that large
# Who goes down a tree needs some frames a level, the parser up to 15.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 5000))
_OPENING, _CLOSING = frozenset('([{'), frozenset(')]}')
_BRACKETS = _OPENING | _CLOSING
_UNARY = frozenset('& * + - ! ~ ++ --'.split())
_MEASURES = frozenset('sizeof __alignof__ typeof __typeof__'.split())
#: Behind these a word is an operand; between it and one of those that follow
#: it is all of an expression.
_SPECIAL = _KEYWORDS | _MEASURES | {'__extension__'}
_ENDS = frozenset(') , ; ]'.split())
_ENDS_ARGUMENT = frozenset('),')
#: A word that may begin a type of more than one word; of another kind than
#: what may follow the first word of a type's name.
_LONG_TYPES = _QUALIFIERS | _PARAMETRIC | _TYPEOF | {
    'struct', 'union', 'enum'}
_IN_TYPES = frozenset('* ( [ :'.split())


def _closing(tokens: list[Token]) -> dict[int, int]:
    """Index of a bracket that opens -> index of the one that closes it.

    Brackets of all kinds count as one kind.
    """
    out: dict[int, int] = {}
    opened: list[int] = []
    for index, tok in enumerate(tokens):
        if tok.text in _OPENING:
            opened.append(index)
        elif opened and tok.text in _CLOSING:
            out[opened.pop()] = index
    return out


class _Parser:
    """Recursive descent over one list of selected tokens."""

    def __init__(self, tokens: list[Token], pos: int, end: int,
                 closing: dict[int, int]):
        """closing: see `_closing()`."""
        self.tokens, self.pos, self.end = tokens, pos, end
        self.closing = closing
        self.depth = 0

    def part(self, pos: int, end: int) -> '_Parser':
        """A parser of some of the tokens."""
        return _Parser(self.tokens, pos, end, self.closing)

    # -- token access

    def text(self, ahead: int = 0) -> str:
        index = self.pos + ahead
        return self.tokens[index].text if index < self.end else ''

    def kind(self, ahead: int = 0) -> str:
        index = self.pos + ahead
        return self.tokens[index].kind if index < self.end else ''

    def peek(self) -> Token:
        if self.pos >= self.end:
            raise ParseError('unexpected end')
        return self.tokens[self.pos]

    def next(self) -> Token:
        tok = self.peek()
        self.pos += 1
        return tok

    def expect(self, text: str) -> Token:
        tok = self.next()
        if tok.text != text:
            raise ParseError("line %d: '%s' where '%s' was expected"
                             % (tok.line, tok.text, text))
        return tok

    @property
    def previous(self) -> Token:
        return self.tokens[self.pos - 1]

    def matching(self, pos: int) -> int:
        """Index of the bracket that closes the one at pos."""
        for index in range(pos, self.end):
            close = self.closing.get(index)
            if close is not None and close < self.end:
                return close
            if self.tokens[index].text in _BRACKETS:
                break
        raise ParseError('line %d: unbalanced bracket' % self.tokens[pos].line)

    # -- statements

    def block(self) -> Block:
        first = self.expect('{')
        body = self.statements('}')
        return Block(first, self.expect('}'), body)

    def statements(self, *stops: str) -> list[Stmt]:
        body: list[Stmt] = []
        while self.pos < self.end and self.text() not in stops:
            body.append(self.statement())
        return body

    def statement(self) -> Stmt:
        return self.deeper(self._statement)

    def deeper(self, parse: Callable[[], _Answer]) -> _Answer:
        """What `parse` makes of that which comes, one level further down."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ParseError('line %d: nested too deeply' % self.peek().line)
        try:
            return parse()
        finally:
            self.depth -= 1

    def _statement(self) -> Stmt:
        tok = self.peek()
        text = tok.text
        if tok.kind == 'pp':
            return self.branches()
        if text == '{':
            return self.block()
        if text == ';':
            self.next()
            return Opaque(tok, tok)
        if tok.kind != 'id':
            return self.expression_statement()
        handler = getattr(self, '_' + text, None) if text in _KEYWORDS else None
        if handler:
            return handler()
        if self.text(1) == ':' and self.text(2) != ':':
            self.next()
            return Label(tok, self.next(), text)
        if self.at_declaration():
            return self.declaration()
        return self.expression_statement()

    def branches(self) -> Stmt:
        first = self.next()
        if first.text != '#if':
            return Opaque(first, first)
        arms: list[Stmt] = []
        while True:
            begin = self.peek()
            body = self.statements('#else', '#endif', '}')
            arms.append(Block(begin, self.previous, body))
            if self.text() == '}':
                raise ParseError('line %d: #if cuts a block' % first.line)
            if self.next().text == '#endif':
                return Branches(first, self.previous, arms)

    def _if(self) -> Stmt:
        first = self.next()
        self.expect('(')
        cond = self.expression()
        self.expect(')')
        then = self.statement()
        other = None
        if self.text() == 'else':
            self.next()
            other = self.statement()
        return If(first, self.previous, cond, then, other)

    def _for(self) -> Stmt:
        first = self.next()
        self.expect('(')
        init = None
        if self.text() == ';':
            self.next()
        elif self.at_declaration():
            init = self.declaration()
        else:
            init = self.expression_statement()
        cond = None if self.text() == ';' else self.expression()
        self.expect(';')
        step = None if self.text() == ')' else self.expression()
        self.expect(')')
        body = self.statement()
        return Loop(first, self.previous, 'for', init, cond, step, body)

    def _while(self) -> Stmt:
        first = self.next()
        self.expect('(')
        cond = self.expression()
        self.expect(')')
        body = self.statement()
        return Loop(first, self.previous, 'while', None, cond, None, body)

    def _do(self) -> Stmt:
        first = self.next()
        body = self.statement()
        self.expect('while')
        self.expect('(')
        cond = self.expression()
        self.expect(')')
        if self.text() == ';':
            self.next()
        return Loop(first, self.previous, 'do', None, cond, None, body)

    def _switch(self) -> Stmt:
        first = self.next()
        self.expect('(')
        cond = self.expression()
        self.expect(')')
        body = self.statement()
        return Switch(first, self.previous, cond, body)

    def _case(self) -> Stmt:
        first = self.next()
        values = [self.ternary()]
        if self.text() == '...':
            self.next()
            values.append(self.ternary())
        return Case(first, self.expect(':'), values)

    def _default(self) -> Stmt:
        first = self.next()
        return Case(first, self.expect(':'), [])

    def _break(self) -> Stmt:
        first = self.next()
        return Jump(first, self.expect(';'), first.text)

    _continue = _break

    def _goto(self) -> Stmt:
        first = self.next()
        name = ''
        while self.text() != ';':
            name += self.next().text
        return Goto(first, self.expect(';'), name)

    def _return(self) -> Stmt:
        first = self.next()
        value = None if self.text() == ';' else self.expression()
        return Return(first, self.expect(';'), value)

    def _asm(self) -> Stmt:
        first = self.next()
        while self.text() != '(':
            self.next()
        self.pos = self.matching(self.pos) + 1
        return Opaque(first, self.expect(';'))

    ___asm__ = _asm

    def expression_statement(self) -> Stmt:
        first = self.peek()
        expr = self.expression()
        if self.text() == ';':
            return ExprStmt(first, self.next(), expr)
        if isinstance(expr, Call):
            if self.text() == '{' or _LOOP_NAME.search(expr.name):
                kind = 'macro' if _LOOP_NAME.search(expr.name) else 'scope'
                head = ExprStmt(first, self.previous, expr)
                body = self.statement()
                if kind == 'scope':
                    return Block(first, self.previous, [head, body])
                return Loop(first, self.previous, 'macro', None, expr, None, body)
            # a macro that brings its own semicolon
            return ExprStmt(first, self.previous, expr)
        raise ParseError("line %d: '%s' after an expression"
                         % (self.peek().line, self.text()))

    # -- declarations

    def at_type(self, pos: int | None = None) -> bool:
        """Does a type name start here? Certain words only, or `a b`, `a *b`."""
        pos = self.pos if pos is None else pos
        if pos >= self.end or self.tokens[pos].kind != 'id':
            return False
        text = self.tokens[pos].text
        return text in _TYPE_WORDS or text in _QUALIFIERS

    def at_declaration(self) -> bool:
        if self.kind() != 'id' or self.text() in _KEYWORDS:
            return False
        if self.at_type():
            return not (self.text() in _TYPE_WORDS and self.text(1) in ('.', '->', '=', '['))
        ahead = 1
        if self.kind(1) == 'id':
            # `u32 x`, `foo_t __free(kfree) *`; not `macro(x) stmt`
            return self.text(1) not in _KEYWORDS
        while self.text(ahead) == '*' or self.text(ahead) in _QUALIFIERS:
            ahead += 1
        return (ahead > 1 and self.kind(ahead) == 'id'
                and self.text(ahead + 1) in ('=', ';', ',', '[', '__free'))

    def specifiers(self) -> tuple[str, bool, list[str]]:
        """Base type, static?, attributes; stops at the declarator."""
        words: list[str] = []
        static, attributes = False, []
        while self.kind() == 'id':
            text = self.text()
            if text in _PARAMETRIC and self.text(1) == '(':
                close = self.matching(self.pos + 1)
                attributes.append(''.join(
                    t.text for t in self.tokens[self.pos:close + 1]))
                self.pos = close + 1
            elif text in _QUALIFIERS:
                static |= text == 'static'
                self.next()
            elif text in ('struct', 'union', 'enum'):
                if words:
                    break
                words = self.tagged()
            elif text in _TYPEOF:
                close = self.matching(self.pos + 1)
                words = [''.join(t.text for t in self.tokens[self.pos:close + 1])]
                self.pos = close + 1
            elif not words or (words[-1] in _NUMERIC and text in _NUMERIC):
                words.append(text)
                self.next()
            else:
                break
        return ' '.join(words), static, attributes

    def tagged(self) -> list[str]:
        kind = self.next().text
        while self.text() in _QUALIFIERS or self.text() in _PARAMETRIC:
            if self.text(1) == '(':
                self.pos = self.matching(self.pos + 1)
            self.next()
        tag = ''
        if self.kind() == 'id':
            tag = self.next().text
        if self.text() == '{':
            tag = tag or '@%d' % self.peek().start
            self.pos = self.matching(self.pos) + 1
        return ['%s %s' % (kind, tag)]

    def declarator(self, base: str) -> Variable:
        """Pointers, name and arrays of one declarator; no initialiser."""
        first = self.tokens[min(self.pos, self.end - 1)]
        pointers, attributes = 0, []
        while True:
            text = self.text()
            if text == '*':
                pointers += 1
            elif text in _PARAMETRIC and self.text(1) == '(':
                close = self.matching(self.pos + 1)
                attributes.append(''.join(
                    t.text for t in self.tokens[self.pos:close + 1]))
                self.pos = close
            elif text not in _QUALIFIERS:
                break
            self.next()
        name, function = '', False
        if self.text() == '(':
            close = self.matching(self.pos)
            inner = self.tokens[self.pos + 1:close]
            names = [t.text for t in inner if t.kind == 'id'
                     and t.text not in _QUALIFIERS]
            stars = sum(t.text == '*' for t in inner)
            name = names[0] if names else ''
            self.pos = close + 1
            if self.text() == '(':
                self.pos = self.matching(self.pos) + 1
                function = True
            else:
                pointers += stars
        elif self.kind() == 'id' and self.text() not in _KEYWORDS:
            name = self.next().text
            if self.text() == '(':
                self.pos = self.matching(self.pos) + 1
                function = True
        dims: list[str] = []
        while self.text() == '[':
            close = self.matching(self.pos)
            dims.append(join(self.tokens[self.pos + 1:close]))
            self.pos = close + 1
        if self.text() == ':' and self.kind(1) in ('num', 'id'):
            self.pos += 1
            self.ternary()
        while self.kind() == 'id' and self.text() != 'sizeof' and (
                self.text() in _PARAMETRIC or self.text() in _QUALIFIERS
                or self.text(1) == '('):
            attribute = self.next().text
            if self.text() == '(':
                close = self.matching(self.pos)
                attribute += join(self.tokens[self.pos:close + 1])
                self.pos = close + 1
            attributes.append(attribute)
        return Variable(first, self.previous, name,
                        Type(base, pointers, tuple(dims)),
                        attributes=tuple(attributes), function=function)

    def declaration(self) -> Decl:
        first = self.peek()
        base, static, attributes = self.specifiers()
        variables: list[Variable] = []
        while self.text() != ';':
            var = self.declarator(base)
            var.static = static
            var.attributes += tuple(attributes)
            if self.text() == '=':
                self.next()
                var.init = self.initialiser()
                var.last = self.previous
            if not var.name:
                raise ParseError('line %d: no name in a declaration' % first.line)
            variables.append(var)
            if self.text() != ',':
                break
            self.next()
        return Decl(first, self.expect(';'), variables)

    def initialiser(self) -> Expr:
        if self.text() != '{':
            return self.assignment()
        first = self.next()
        names: list[str] = []
        items: list[Expr] = []
        while self.text() != '}':
            if self.kind() == 'pp':
                self.next()
                continue
            name = ''
            while self.text() == '.' and self.kind(1) == 'id':
                self.next()
                name += ('.' if name else '') + self.next().text
            if self.text() == '[' :
                close = self.matching(self.pos)
                name += join(self.tokens[self.pos:close + 1])
                self.pos = close + 1
                while self.text() == '.':
                    name += self.next().text + self.next().text
            if self.kind() == 'id' and self.text(1) == ':':
                name = self.next().text
                self.next()
            if name and self.text() == '=':
                self.next()
            names.append(name)
            items.append(self.deeper(self.initialiser))
            if self.text() != ',':
                while self.kind() == 'pp':
                    self.next()
                if self.text() == '}':
                    break
                if isinstance(items[-1], Call):
                    continue         # a macro that brings its own comma
            self.expect(',')
        return InitList(first, self.expect('}'), names, items)

    # -- expressions

    def expression(self) -> Expr:
        expr = self.assignment()
        while self.text() == ',':
            self.next()
            right = self.assignment()
            expr = Binary(expr.first, right.last, ',', expr, right)
        return expr

    def assignment(self) -> Expr:
        if self.depth < _MAX_DEPTH:
            word = self.word()
            if word is not None:
                return word
        return self.deeper(self._assignment)

    def _assignment(self) -> Expr:
        left = self.ternary()
        if self.text() in _ASSIGN and self.kind() == 'op':
            op = self.next().text
            right = self.initialiser() if self.text() == '{' \
                else self.assignment()
            return Assign(left.first, right.last, op, left, right)
        return left

    def word(self) -> Expr | None:
        """The expression, if a name or a literal is all of it: most are."""
        pos = self.pos
        if pos + 1 >= self.end:
            return None
        tok, after = self.tokens[pos], self.tokens[pos + 1]
        if after.text not in _ENDS or tok.kind == 'op' or tok.kind == 'pp' \
                or tok.text in _SPECIAL:
            return None
        self.pos = pos + 1
        return Id(tok, tok, tok.text) if tok.kind == 'id' \
            else Literal(tok, tok, tok.text)

    def ternary(self) -> Expr:
        cond = self.binary(0)
        if self.text() != '?':
            return cond
        self.next()
        then = None if self.text() == ':' else self.expression()
        self.expect(':')
        other = self.deeper(self.ternary)
        if self.text() in _ASSIGN:      # a ? b : c = d
            op = self.next().text
            right = self.assignment()
            other = Assign(other.first, right.last, op, other, right)
        return Ternary(cond.first, other.last, cond, then, other)

    def binary(self, level: int) -> Expr:
        left = self.unary()
        while self.pos < self.end:
            tok = self.tokens[self.pos]
            rank = _BINARY.get(tok.text, 0)
            if rank <= level or tok.kind != 'op':
                return left
            self.pos += 1
            right = self.binary(rank)
            left = Binary(left.first, right.last, tok.text, left, right)
        return left

    def unary(self) -> Expr:
        tok = self.peek()
        text = tok.text
        if tok.kind == 'op':
            if text in _UNARY:
                self.pos += 1
                arg = self.deeper(self.unary)
                return Unary(tok, arg.last, text, arg)
            if text == '&&':             # address of a label
                self.pos += 1
                return Id(tok, tok, '&&' + self.next().text)
            if text == '(' and self.at_cast():
                return self.cast()
        elif text in _MEASURES:
            return self.sizeof()
        elif text == '__extension__':
            self.pos += 1
            return self.deeper(self.unary)
        return self.postfix(self.primary())

    def sizeof(self) -> Expr:
        tok = self.next()
        if self.text() == '(':
            close = self.matching(self.pos)
            kind = self.type_name(self.pos + 1, close)
            if kind:
                self.pos = close + 1
                return Sizeof(tok, self.previous, tok.text, kind, None)
        arg = self.deeper(self.unary)
        return Sizeof(tok, arg.last, tok.text, None, arg)

    def at_cast(self) -> bool:
        close = self.matching(self.pos)
        kind = self.type_name(self.pos + 1, close)
        if not kind or close + 1 >= self.end:
            return False
        after = self.tokens[close + 1]
        sure = self.at_type(self.pos + 1) or kind.pointers
        if after.kind in ('id', 'num', 'str', 'chr'):
            return sure or kind.base.endswith('_t') or after.kind != 'op'
        if sure:
            return after.text in ('(', '&', '*', '-', '+', '!', '~', '{', '++', '--')
        return kind.base.endswith('_t') and after.text in ('(', '&', '*', '~', '{')

    def cast(self) -> Expr:
        first = self.next()
        close = self.matching(self.pos - 1)
        kind = self.type_name(self.pos, close)
        self.pos = close + 1
        if self.text() == '{':
            arg = self.initialiser()
            return self.postfix(Cast(first, arg.last, kind, arg))
        arg = self.deeper(self.unary)
        return Cast(first, arg.last, kind, arg)

    def type_name(self, pos: int, end: int) -> Type | None:
        """The type that is all of tokens[pos:end], if it looks like one."""
        if pos >= end or self.tokens[pos].kind != 'id' \
                or self.tokens[pos].text in _KEYWORDS:
            return None
        text = self.tokens[pos].text
        if text not in _LONG_TYPES:     # most are no types: tell it soon
            if end == pos + 1:
                return Type(text)
            after = self.tokens[pos + 1]
            if after.kind == 'op' and after.text not in _IN_TYPES:
                return None
        sub = self.part(pos, end)
        try:
            base, _, _ = sub.specifiers()
            var = sub.declarator(base)
        except ParseError:
            return None
        if sub.pos != end or var.name or not base:
            return None
        return var.type

    def primary(self) -> Expr:
        tok = self.next()
        if tok.kind == 'id':
            if tok.text in _KEYWORDS:
                raise ParseError("line %d: '%s' in an expression"
                                 % (tok.line, tok.text))
            if self.kind() == 'str':     # a macro that is a string: "a" X "b"
                return self.strings(tok)
            return Id(tok, tok, tok.text)
        if tok.kind == 'str':
            return self.strings(tok)
        if tok.kind in ('num', 'chr'):
            return Literal(tok, tok, tok.text)
        if tok.text == '(':
            if self.text() == '{':
                body = self.block()
                return StmtExpr(tok, self.expect(')'), body)
            inner = self.expression()
            last = self.expect(')')
            return Paren(tok, last, inner)
        raise ParseError("line %d: '%s' in an expression" % (tok.line, tok.text))

    def strings(self, tok: Token) -> Expr:
        text = tok.text
        while self.kind() in ('str', 'id') and self.text() not in _KEYWORDS \
                and (self.kind() == 'str' or self.previous.kind == 'str'):
            text += self.next().text
            if self.text() == '(' and self.previous.kind == 'id':
                self.pos = self.matching(self.pos) + 1
        return Literal(tok, self.previous, text)

    def postfix(self, expr: Expr) -> Expr:
        while self.pos < self.end:
            tok = self.tokens[self.pos]
            text = tok.text
            if tok.kind != 'op':
                return expr
            if text == '(':
                self.pos += 1
                args: list[Expr] = []
                while (text := self.text()) != ')':
                    args.append(self.argument())
                    text = self.text()
                    if text == ',':
                        self.pos += 1
                    elif text != ')':
                        raise ParseError("line %d: '%s' in an argument list"
                                         % (self.peek().line, text))
                expr = Call(expr.first, self.next(), expr, args)
            elif text == '[':
                self.pos += 1
                index = self.expression()
                expr = Index(expr.first, self.expect(']'), expr, index)
            elif text == '.' or text == '->':
                self.pos += 1
                name = self.next()
                expr = Member(expr.first, name, expr, text == '->', name.text)
            elif (text == '++' or text == '--') and not isinstance(expr, Call):
                self.pos += 1
                expr = Unary(expr.first, tok, 'p' + text, expr)
            else:
                return expr
        return expr

    def argument(self) -> Expr:
        """One argument: an expression, or for macros a type, an operator..."""
        if self.depth < _MAX_DEPTH and self.text() not in _TYPE_WORDS:
            word = self.word()
            if word is not None:
                if self.tokens[self.pos].text in _ENDS_ARGUMENT:
                    return word
                self.pos -= 1
        first = self.peek()
        begin = self.pos
        end = begin
        while end < self.end:
            text = self.tokens[end].text
            if text in _OPENING:
                end = min(self.closing.get(end, self.end), self.end - 1)
            elif text in _CLOSING or text == ',':
                break
            end += 1
        if begin == end:
            return Literal(first, first, '')
        calls = self.text(1) == '(' and not self.at_type() \
            and self.text() not in _PARAMETRIC      # `DMA_BIT_MASK(24)`
        if not calls and (end - begin > 1 or self.text() in _TYPE_WORDS):
            kind = self.type_name(begin, end)
            # `dma[i]` would do as a type too, but is an element
            if kind and (not kind.dims or self.at_type()):
                self.pos = end
                return TypeArg(first, self.previous, kind)
        try:
            expr = self.initialiser() if self.text() == '{' \
                else self.assignment()
            if self.pos == end:
                return expr
        except ParseError:
            pass
        self.pos = end
        return Literal(first, self.previous, join(self.tokens[begin:end]))


@dataclass(eq=False, slots=True)
class Paren(Expr):
    inner: Expr


def parse_expression(tokens: list[Token]) -> Expr | None:
    """The expression that all of these tokens are; None when they are none."""
    parser = _Parser(tokens, 0, len(tokens), _closing(tokens))
    try:
        expr = parser.expression()
    except ParseError:
        return None
    return expr if parser.pos == len(tokens) else None


def join(tokens: list[Token]) -> str:
    """Tokens as text: one blank where two words or a comma meet."""
    out: list[str] = []
    last = ''
    for tok in tokens:
        if last and (last[-1].isalnum() or last[-1] == '_') \
                and (tok.text[0].isalnum() or tok.text[0] == '_'):
            out.append(' ')
        elif last == ',':
            out.append(' ')
        out.append(tok.text)
        last = tok.text
    return ''.join(out)


# ------------------------------------------------------------------ one file

@dataclass(eq=False)
class Struct:
    """A struct or union with a body; fields of anonymous members included."""

    tag: str                    # `struct foo`, or a typedef's name
    fields: dict[str, Variable]
    declarations: dict[str, Decl]
    path: str
    first: Token
    last: Token


@dataclass(eq=False)
class Function:
    """A function definition; its body is parsed on first use."""

    name: str
    path: str
    returns: Type
    static: bool
    params: list[Variable]
    first: Token                # of the definition, return type included
    last: Token                 # closing brace
    name_token: Token
    _tokens: list[Token] = field(repr=False)
    _open: int = 0
    _close: int = 0
    _closing: dict[int, int] = field(default_factory=dict, repr=False)
    split: bool = False         # a conditional cuts through a statement

    @cached_property
    def _parsed(self) -> tuple[Block | None, str]:
        parser = _Parser(self._tokens, self._open, self._close + 1,
                         self._closing)
        try:
            block = parser.block()
            _require_sane(block)
            return block, ''
        except ParseError as exc:
            return None, str(exc)

    @property
    def body(self) -> Block | None:
        """The statements; None when they could not be parsed (see error)."""
        return self._parsed[0]

    @property
    def error(self) -> str:
        return self._parsed[1]

    @property
    def tokens(self) -> list[Token]:
        """The tokens between the braces, markers left out."""
        return [t for t in self._tokens[self._open + 1:self._close]
                if t.kind != 'pp']

    @cached_property
    def words(self) -> frozenset[str]:
        """Every identifier in the body: a cheap test before parsing it."""
        return frozenset(t.text for t in self._tokens[self._open:self._close]
                         if t.kind == 'id')

    @cached_property
    def locals(self) -> dict[str, Variable]:
        """Parameters and local variables by name."""
        out = {p.name: p for p in self.params}
        for node in self.nodes:
            if isinstance(node, Variable):
                out.setdefault(node.name, node)
        return out

    @cached_property
    def nodes(self) -> list[Node]:
        """Everything in the body, in source order; empty without a body."""
        return list(self.body.walk()) if self.body else []

    @cached_property
    def _calls(self) -> list[Call]:
        return [node for node in self.nodes if isinstance(node, Call)]

    @cached_property
    def _names(self) -> dict[str, list[Id]]:
        out: dict[str, list[Id]] = {}
        for node in self.nodes:
            if isinstance(node, Id):
                out.setdefault(node.name, []).append(node)
        return out

    def calls(self) -> Iterator[Call]:
        """Every call in the body, in source order, outermost first."""
        return iter(self._calls)

    @cached_property
    def _called(self) -> dict[int, Call]:
        return {id(call.func): call for call in self._calls}

    def call_of(self, name: Id) -> Call | None:
        """The call that calls what a node names; None if it is not called."""
        return self._called.get(id(name))

    def mentions(self, name: str) -> list[Id]:
        """Every place in the body that names something, in source order."""
        return self._names.get(name, [])


class Macro(NamedTuple):
    name: str
    params: tuple[str, ...] | None   # None: not function-like
    body: str
    line: int


_DEFINITION = re.compile(r'(\w+)(\(([^)]*)\))?\s*(.*)', re.S)


def _macro(words: str, line: int) -> Macro | None:
    """What stands behind #define, comments removed."""
    found = _DEFINITION.match(words)
    if not found:
        return None
    params = None if found[2] is None else tuple(
        p.strip() for p in found[3].split(','))
    return Macro(found[1], params, found[4], line)


class SourceFile:
    """One C file or header, read as Latin-1."""

    def __init__(self, path: str, text: str | None = None):
        self.path = path
        if text is None:
            with open(path, encoding='latin-1', newline='') as handle:
                text = handle.read()
        self.text = text
        self.raw = tokenize(text)
        chosen: Selection = select(self.raw)
        self.dead = chosen.dead
        self.split = chosen.split
        self.tokens = chosen.tokens
        self.functions: dict[str, Function] = {}
        self.duplicates: list[Function] = []
        self.structs: dict[str, Struct] = {}
        self.typedefs: dict[str, Type] = {}
        self.globals: dict[str, Variable] = {}
        self.macros: dict[str, Macro] = {}
        self.includes: list[tuple[str, Token]] = []
        self.prototypes: dict[str, list[Token]] = {}
        self.toplevel_calls: list[Call] = []
        self._directives()
        self._scan()

    @cached_property
    def applied(self) -> dict[str, list[Token]]:
        """The words before a parenthesis, but for those outside of braces."""
        out: dict[str, list[Token]] = {}
        depth = 0
        last = None
        for token in self.tokens:
            text = token.text
            if text == '(':
                if depth > 0 and last is not None and last.kind == 'id':
                    out.setdefault(last.text, []).append(last)
            elif text == '{':
                depth += 1
            elif text == '}':
                depth -= 1
            last = token
        return out

    @cached_property
    def _naming(self) -> dict[str, list[Function]]:
        out: dict[str, list[Function]] = {}
        for func in self.all_functions():
            for word in func.words:
                out.setdefault(word, []).append(func)
        return out

    def functions_naming(self, word: str) -> list[Function]:
        """The functions whose body names it, in the order of all."""
        return self._naming.get(word, [])

    def functions_called(self, name: str) -> list[Function]:
        """The definitions of that name."""
        if name not in self.functions:
            return []
        return [self.functions[name], *(func for func in self.duplicates
                                        if func.name == name)]

    def function_at(self, line: int) -> Function | None:
        """The function whose definition covers a line."""
        for func in self.all_functions():
            if func.first.line <= line <= func.last.line:
                return func
        return None

    def all_functions(self) -> Iterator[Function]:
        yield from self.functions.values()
        yield from self.duplicates

    def source(self, node: Node) -> str:
        """The text of a node as written."""
        return self.text[node.first.start:node.last.end]

    def _directives(self) -> None:
        for tok in self.raw:
            if tok.kind != 'pp':
                continue
            name, rest = directive(tok)
            if name == 'include':
                self.includes.append((rest, tok))
            elif name == 'define':
                macro = _macro(rest, tok.line)
                if macro:
                    self.macros[macro.name] = macro

    def _scan(self) -> None:
        tokens = self.tokens
        size = len(tokens)
        start = pos = 0
        self._closing = _closing(tokens)
        brackets = self._parser(0, size)
        while pos < size:
            tok = tokens[pos]
            if tok.kind == 'pp':
                if start == pos:
                    start += 1
                pos += 1
            elif tok.text == ';':
                with suppress(ParseError):
                    self._item(start, pos)
                pos += 1
                start = pos
            elif tok.text in ('(', '['):
                try:
                    pos = brackets.matching(pos) + 1
                except ParseError:
                    pos += 1
            elif tok.text == '{':
                try:
                    close = brackets.matching(pos)
                except ParseError:
                    close = self._recover(pos)
                if self._function(start, pos, close):
                    pos = start = close + 1
                elif tokens[pos - 1].kind == 'str':      # extern "C" {
                    pos += 1
                    start = pos
                else:
                    pos = close + 1
            elif tok.text == '}':
                pos += 1
                start = pos
            else:
                pos += 1

    def _parser(self, pos: int, end: int) -> _Parser:
        return _Parser(self.tokens, pos, end, self._closing)

    def _recover(self, pos: int) -> int:
        """The next closing brace in column 0: an unbalanced body ends there."""
        for index in range(pos + 1, len(self.tokens)):
            if self.tokens[index].text == '}' and not self.tokens[index].column:
                return index
        return len(self.tokens) - 1

    def _function(self, start: int, brace: int, close: int) -> bool:
        tokens = self.tokens
        head = [t for t in tokens[start:brace] if t.kind != 'pp']
        depth, name_at, params_at = 0, -1, -1
        for index in range(start, brace):
            tok = tokens[index]
            if tok.kind != 'op':
                continue
            if tok.text == '=' and not depth:
                return False
            if tok.text == '(':
                if not depth and index > start \
                        and tokens[index - 1].kind == 'id' \
                        and tokens[index - 1].text not in _PARAMETRIC:
                    name_at, params_at = index - 1, index
                depth += 1
            elif tok.text == ')':
                depth -= 1
        if name_at < 0 or not head or head[-1].text not in (')',) \
                and head[-1].text not in _QUALIFIERS and head[-1].kind != 'id':
            return False
        if head[-1].kind == 'id' and head[-1].text not in _QUALIFIERS \
                and tokens[brace - 2].text != ')':
            return False
        try:
            close_params = self._parser(start, brace).matching(params_at)
        except ParseError:
            return False
        params = self._params(params_at + 1, close_params)
        before = [t for t in tokens[start:name_at] if t.kind != 'pp']
        # macros such as MODULE_LICENSE("x") may stand before without semicolon
        for index in range(len(before) - 1, -1, -1):
            if before[index].text == ')' and not any(
                    t.text in _PARAMETRIC for t in before[:index]):
                before = before[index + 1:]
                break
        base = [t.text for t in before if t.kind == 'id'
                and t.text not in _QUALIFIERS and t.text not in _PARAMETRIC]
        returns = Type(' '.join(base), sum(t.text == '*' for t in before))
        first = before[0] if before else tokens[name_at]
        func = Function(tokens[name_at].text, self.path, returns,
                        any(t.text == 'static' for t in before), params, first,
                        tokens[close], tokens[name_at], tokens, brace, close,
                        self._closing,
                        any(first.start <= t.start <= tokens[close].start
                            for t in self.split))
        if func.name in self.functions:
            self.duplicates.append(func)
        else:
            self.functions[func.name] = func
        return True

    def _params(self, pos: int, end: int) -> list[Variable]:
        out: list[Variable] = []
        tokens = self.tokens
        while pos < end:
            depth, stop = 0, pos
            while stop < end:
                text = tokens[stop].text
                if text in '([{' and tokens[stop].kind == 'op':
                    depth += 1
                elif text in ')]}' and tokens[stop].kind == 'op':
                    depth -= 1
                elif text == ',' and not depth:
                    break
                stop += 1
            part = self._parser(pos, stop)
            try:
                base, _, _ = part.specifiers()
                var = part.declarator(base)
                if var.name or str(var.type) not in ('void', ''):
                    out.append(var)
            except ParseError:
                pass
            pos = stop + 1
        return out

    def _item(self, start: int, end: int) -> None:
        """A declaration at top level: tokens[start:end] and a semicolon.

        Raises ParseError when it is none, or none that can be parsed.
        """
        tokens = self.tokens
        while start < end and tokens[start].kind == 'pp':
            start += 1
        if start >= end:
            return
        is_typedef = tokens[start].text == 'typedef'
        if is_typedef:
            start += 1
        self._tagged_bodies(start, end)
        parser = self._parser(start, end + 1)
        if not is_typedef and tokens[start].kind == 'id' \
                and end > start + 1 and tokens[start + 1].text == '(':
            expr = parser.expression()
            if isinstance(expr, Call):
                self.toplevel_calls.append(expr)
            return
        self._static_macro(start, end)
        decl = parser.declaration()
        for var in decl.variables:
            if is_typedef:
                self.typedefs[var.name] = var.type
            elif var.function and not var.init:
                self.prototypes[var.name] = tokens[start:end]
            else:
                self.globals.setdefault(var.name, var)

    def _static_macro(self, start: int, end: int) -> None:
        """`static SIMPLE_DEV_PM_OPS(pm, suspend, resume);` mentions functions."""
        tokens = self.tokens
        while start < end and tokens[start].text in _QUALIFIERS:
            start += 1
        if start + 1 < end and tokens[start].text.isupper() \
                and tokens[start + 1].text == '(':
            try:
                expr = self._parser(start, end + 1).expression()
            except ParseError:
                return
            if isinstance(expr, Call):
                self.toplevel_calls.append(expr)

    def _tagged_bodies(self, start: int, end: int) -> None:
        """Record every struct or union body between start and end."""
        tokens = self.tokens
        open_: list[int] = []       # where the bodies around pos end
        pos = start
        while pos < end:
            if tokens[pos].text in ('struct', 'union'):
                brace = pos + 1
                tag = ''
                while brace < end and (tokens[brace].kind == 'id'
                                       or tokens[brace].text == '('):
                    if tokens[brace].text == '(':
                        brace = self._parser(brace, end).matching(brace)
                    elif tokens[brace].text not in _QUALIFIERS \
                            and tokens[brace].text not in _PARAMETRIC:
                        tag = tokens[brace].text
                    brace += 1
                if brace < end and tokens[brace].text == '{':
                    tag = tag or '@%d' % tokens[brace].start
                    while open_ and open_[-1] < pos:
                        open_.pop()
                    open_.append(self._closing.get(brace, end))
                    if len(open_) > _MAX_BODIES:
                        raise ParseError('line %d: nested too deeply'
                                         % tokens[pos].line)
                    self._struct('%s %s' % (tokens[pos].text, tag), pos, brace)
                    pos = brace
            pos += 1

    def _struct(self, tag: str, keyword: int, brace: int) -> None:
        tokens = self.tokens
        close = self._parser(brace, len(tokens)).matching(brace)
        fields: dict[str, Variable] = {}
        decls: dict[str, Decl] = {}
        pos = brace + 1
        while pos < close:
            if tokens[pos].kind == 'pp':
                pos += 1
                continue
            stop, depth = pos, 0
            while stop < close and (depth or tokens[stop].text != ';'):
                if tokens[stop].kind == 'op' and tokens[stop].text in '{(':
                    depth += 1
                elif tokens[stop].kind == 'op' and tokens[stop].text in '})':
                    depth -= 1
                stop += 1
            try:
                decl = self._parser(pos, stop + 1).declaration()
                if not decl.variables and tokens[stop - 1].text == '}':
                    self._anonymous(pos, stop, fields, decls)
                for var in decl.variables:
                    fields[var.name] = var
                    decls[var.name] = decl
            except ParseError:
                pass
            pos = stop + 1
        self.structs.setdefault(tag, Struct(tag, fields, decls, self.path,
                                            tokens[keyword], tokens[close]))

    def _anonymous(self, pos: int, stop: int, fields: dict[str, Variable],
                   decls: dict[str, Decl]) -> None:
        """Lift the fields of `struct { ... };` into the struct around it."""
        brace = pos
        while self.tokens[brace].text != '{':
            brace += 1
        tag = '%s @%d' % (self.tokens[pos].text, self.tokens[brace].start)
        if tag not in self.structs:
            self._struct(tag, pos, brace)
        inner = self.structs[tag]
        fields.update(inner.fields)
        decls.update(inner.declarations)

# SPDX-License-Identifier: GPL-2.0-only
"""Which lines a current kernel compiles: `#if` with kernel versions."""
from __future__ import annotations

import bisect
import re
from dataclasses import dataclass, field
from typing import Iterator

from . import cparse as c
from .clex import Token, directive, tokenize

#: LINUX_VERSION_CODE of a kernel that no driver knows yet.
_NEWEST = 1 << 62
#: What conditions are called that choose between kernels.
_KERNELS = re.compile(r'VERSION|KERNEL|HAVE_|COMPAT|RHEL|DMA_API|PCI_DMA_')


@dataclass
class Branch:
    """One branch of a conditional; lines first to last, directives excluded.

    live: is it compiled by a current kernel?  None when that is not known.
    """

    text: str                   # `#if LINUX_VERSION_CODE < ...`, or `#else`
    line: int                   # of its directive
    last: int
    live: bool | None
    group: 'Group' = field(repr=False)

    @property
    def others(self) -> Iterator['Branch']:
        """The other branches of the same conditional."""
        return (b for b in self.group.branches if b is not self)


@dataclass
class Group:
    """`#if ... #endif`."""

    branches: list[Branch] = field(default_factory=list)

    @property
    def by_kernel(self) -> bool:
        """Does it choose between kernels, as far as one can tell by names?"""
        return any(_KERNELS.search(b.text) for b in self.branches)


class Conditions:
    """The conditionals of one file.

    gone: names that no current kernel defines.
    """

    def __init__(self, source: c.SourceFile, gone: frozenset[str]):
        self._gone = gone
        self._branches: list[Branch] = []
        self._guard = _include_guard(source.raw)
        stack: list[Group] = []
        for token in source.raw:
            if token.kind != 'pp':
                continue
            name, words = directive(token)
            if name in ('if', 'ifdef', 'ifndef'):
                stack.append(Group())
            if stack and name in ('if', 'ifdef', 'ifndef', 'elif', 'else'):
                self._branch(stack[-1], token, name, words)
            elif stack and name == 'endif':
                self._close(stack.pop(), token.line)
        self._branches.sort(key=lambda b: b.line)
        self._lines = [b.line for b in self._branches]

    def around(self, line: int) -> list[Branch]:
        """The branches in which a line stands, the innermost last."""
        end = bisect.bisect_left(self._lines, line)
        return [b for b in self._branches[:end] if line <= b.last]

    def dead(self, line: int) -> Branch | None:
        """The branch because of which no current kernel compiles a line."""
        return next((b for b in self.around(line) if b.live is False), None)

    def _branch(self, group: Group, token: Token, name: str,
                words: str) -> None:
        self._close(group, token.line)
        before = [b.live for b in group.branches]
        live: bool | None
        if True in before:
            live = False
        elif name == 'else':
            live = None if None in before else True
        else:
            live = self._value(name, words)
            if live and None in before:
                live = None
        group.branches.append(Branch(
            '#%s %s' % (name, words) if words else '#' + name, token.line,
            _NEWEST, live, group))
        self._branches.append(group.branches[-1])

    @staticmethod
    def _close(group: Group, line: int) -> None:
        if group.branches and group.branches[-1].last == _NEWEST:
            group.branches[-1].last = line - 1

    def _value(self, name: str, words: str) -> bool | None:
        if name != 'if' and name != 'elif':
            known = self._defined(words)
            return known if known is None or name == 'ifdef' else not known
        text = re.sub(r'\bdefined\s*\(?\s*(\w+)\s*\)?',
                      lambda found: {True: '1', False: '0', None: '_'}[
                          self._defined(found[1])], words)
        tree = c.parse_expression(tokenize(text))
        value = self._number(tree) if tree is not None else None
        return None if value is None else bool(value)

    def _defined(self, name: str) -> bool | None:
        if name in self._gone or name == self._guard:
            return False
        return True if name in ('LINUX_VERSION_CODE', 'KERNEL_VERSION',
                                '__KERNEL__', 'MODULE') else None

    def _number(self, node: c.Expr) -> int | None:
        """The value of a constant expression; None when it is not known."""
        if isinstance(node, c.Paren):
            return self._number(node.inner)
        if isinstance(node, c.Literal):
            try:
                return int(node.text.rstrip('uUlL'), 0)
            except ValueError:
                return None
        if isinstance(node, c.Id):
            return {'LINUX_VERSION_CODE': _NEWEST}.get(node.name)
        if isinstance(node, c.Call):
            parts = [self._number(arg) for arg in node.args]
            if node.name != 'KERNEL_VERSION' or None in parts:
                return None
            return sum(part << shift for part, shift in zip(parts, (16, 8, 0)))
        if isinstance(node, c.Unary) and node.op == '!':
            value = self._number(node.arg)
            return None if value is None else int(not value)
        if isinstance(node, c.Binary):
            return _binary(node.op, self._number(node.left),
                           self._number(node.right))
        return None


def _include_guard(tokens: list[Token]) -> str:
    """What a header asks for and defines at its top; '' if it does not."""
    head = [directive(token) for token in tokens[:2] if token.kind == 'pp']
    if len(head) == 2 and (head[0][0], head[1][0]) == ('ifndef', 'define') \
            and head[1][1].split()[:1] == [head[0][1]]:
        return head[0][1]
    return ''


def _binary(op: str, left: int | None, right: int | None) -> int | None:
    if op == '&&':
        if 0 in (left, right):
            return 0
        return None if None in (left, right) else 1
    if op == '||':
        if any(side for side in (left, right)):
            return 1
        return None if None in (left, right) else 0
    if left is None or right is None:
        return None
    compare = {'<': left < right, '<=': left <= right, '>': left > right,
               '>=': left >= right, '==': left == right, '!=': left != right}
    return int(compare[op]) if op in compare else None

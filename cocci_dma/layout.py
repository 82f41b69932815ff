# SPDX-License-Identifier: GPL-2.0-only
"""The layout of lines that spatch wrote: tabs, and at most 80 columns."""
from __future__ import annotations

import re

COLUMNS = 80
LIMIT = 100             # checkpatch.pl complains above it
_TAB = 8

#: Where code ends and its layout is no longer ours: strings and comments.
_FOREIGN = re.compile(rb'["\'#]|/[/*]')
#: A cast with a blank behind it: what stands before is an operator, so the
#: parentheses are neither those of an if or a call, nor around a condition.
_CAST = re.compile(rb'(?:[-=(,?:&|+*/<>!~]|\breturn)\s*'
                   rb'\([A-Za-z_]\w*(?: \w+)*(?: ?\*+)?\)( +)(?=[A-Za-z_])')
#: spatch's own `}else`
_ELSE = re.compile(rb'^([ \t]*)\}else\b')
#: After these a line may be broken.
_BREAK = re.compile(rb', | [-+|&]{1,2} ')


def tidy(before: bytes, after: bytes) -> bytes:
    """`after`, with the lines that `before` does not have laid out anew.

    spatch aligns with eight blanks at times, puts one behind a cast, and does
    not break a line inside of an argument that it replaced.
    """
    if after == before:
        return after
    old = set(before.splitlines())
    out: list[bytes] = []
    moved: dict[int, int] = {}
    for line in after.splitlines(keepends=True):
        if line.rstrip(b'\r\n') in old:
            moved = {}
        else:
            loose = _moved(_with_tabs(line), moved)
            line = _ELSE.sub(rb'\1} else', _tight(loose))
            if line != loose:
                moved = dict(zip(_open(loose), _open(line)))
            elif _lead(line) not in moved.values():
                moved = {}
            line = _broken(line)
        out.append(line)
    return b''.join(out)


def _tight(line: bytes) -> bytes:
    """A line without the blanks that spatch writes behind a cast."""
    end = _FOREIGN.search(line)
    code = line[:end.start()] if end else line
    while found := _CAST.search(code):
        code = code[:found.start(1)] + code[found.end(1):]
    return code + (line[end.start():] if end else b'')


def _moved(line: bytes, moved: dict[int, int]) -> bytes:
    """A line that is aligned with a column of a line before that moved."""
    column = moved.get(_lead(line))
    return line if column is None else _indent(column) + line.lstrip(b' \t')


def _lead(line: bytes) -> int:
    """The column in which a line begins."""
    return len(line.expandtabs(_TAB)) - len(line.expandtabs(_TAB).lstrip(b' '))


def _indent(column: int) -> bytes:
    return b'\t' * (column // _TAB) + b' ' * (column % _TAB)


def _with_tabs(line: bytes) -> bytes:
    return re.sub(rb'^\t+(?: {8})+',
                  lambda lead: lead[0].replace(b' ' * _TAB, b'\t'), line)


def _broken(line: bytes) -> bytes:
    """A long line in two, aligned with the parenthesis that is open there.

    Left as it is where that does not make it fit, and where it holds a string
    or a comment.
    """
    code = line.rstrip(b'\r\n')
    whole = len(code.expandtabs(_TAB))
    if whole <= COLUMNS or _FOREIGN.search(code):
        return line
    best: tuple[tuple[bool, int, int], bytes, bytes] | None = None
    for found in _BREAK.finditer(code):
        first = code[:found.start() + len(found[0].rstrip())]
        opened = _open(first)
        if not opened or len(first.expandtabs(_TAB)) > COLUMNS:
            continue
        rest = _indent(opened[-1]) + code[found.end():]
        width = len(rest.expandtabs(_TAB))
        rank = width > COLUMNS, len(opened), -found.end()
        if width <= (COLUMNS if whole <= LIMIT else LIMIT) \
                and (best is None or rank < best[0]):
            best = rank, first, rest
    return best[1] + b'\n' + best[2] + line[len(code):] if best else line


def _open(code: bytes) -> list[int]:
    """The columns behind the parentheses that are open at the end."""
    out: list[int] = []
    for match in re.finditer(rb'[()]', code):
        if match[0] == b'(':
            out.append(len(code[:match.end()].expandtabs(_TAB)))
        elif out:
            out.pop()
    return out

# SPDX-License-Identifier: GPL-2.0-only
"""The layout of lines that spatch wrote: tabs, and at most 80 columns."""
from __future__ import annotations

import difflib
import re
from typing import Iterable, Sequence

COLUMNS = 80
LIMIT = 100             # checkpatch.pl complains above it
_TAB = 8

#: Where code ends and its layout is no longer ours: strings and comments.
_FOREIGN = re.compile(rb'["\'#]|/[/*]')
#: A cast with a blank behind it: what stands before is an operator, so the
#: parentheses are neither those of an if or a call, nor around a condition.
_CAST = re.compile(rb'(?:[-=(,?:&|+*/<>!~]|\breturn)\s*'
                   rb'\([A-Za-z_]\w*(?: \w+)*(?: ?\*+)?\)( +)(?=[A-Za-z_])')
_DEFINE = re.compile(rb'\s*#\s*define\s+\w+(?:\([^)]*\))?')
#: spatch writes `case X :` when it replaces X.
_LABEL = re.compile(rb'^(\s*case \w+) (?=:)')
#: Where a parenthesis means nothing.
_TEXT = re.compile(rb'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\''
                   rb'|/\*.*?(?:\*/|$)|//.*')
#: spatch's own `}else`
_ELSE = re.compile(rb'^([ \t]*)\}else\b')
#: and what it writes behind a branch without braces
_BARE_ELSE = re.compile(rb'^([ \t]*)\t(.*;)else\b')
#: After these a line may be broken.
_BREAK = re.compile(rb', | [-+|&]{1,2} ')


def tidy(before: bytes, after: bytes) -> bytes:
    """`after`, with the lines that `before` does not have laid out anew.

    spatch aligns with eight blanks at times, puts one behind a cast, and does
    not break a line inside of an argument that it replaced.  A line that was
    aligned with a parenthesis follows it.
    """
    if after == before:
        return after
    lines = after.splitlines(keepends=True)
    old = _old_lines(before.splitlines(keepends=True), lines)
    known = set(before.splitlines())
    out: list[bytes] = []
    moved: dict[int, int] = {}
    rest = False
    calls = _Calls()
    for line, was in zip(lines, old):
        line = calls.aligned(was, line)
        if line.rstrip(b'\r\n') in known:
            moved, rest = {}, False
        elif not line.strip():
            line = b'\n'        # an empty line lost what stood beside it
        else:
            loose = _moved(_with_tabs(line), moved)
            line = _ELSE.sub(rb'\1} else', _LABEL.sub(rb'\1', _tight(loose)))
            if line != loose:
                moved = dict(zip(_open(loose), _open(line)))
            elif _lead(line) not in moved.values():
                moved = {}
            if was is not None:
                line = _joined(out, rest, line)
            whole = line
            line = _broken(line, calls.opened)
            if line != whole:
                moved |= zip(_open(whole, calls.opened),
                             _open(line, calls.opened))
            line = _BARE_ELSE.sub(rb'\1\t\2\n\1else', line)
            rest = was is None or line.count(b'\n') > 1
        calls.follow(was, line)
        out += line.splitlines(keepends=True)
    return b''.join(_bare(out, known))


def _bare(lines: list[bytes], known: set[bytes]) -> list[bytes]:
    """Without the braces that spatch 1.3 puts around one statement that it
    replaces."""
    out: list[bytes] = []
    skip = -1
    for index, line in enumerate(lines):
        if index == skip:
            continue
        head = line.rstrip()
        if head.endswith(b') {') and head not in known \
                and head[:-2] in known and index + 2 < len(lines) \
                and lines[index + 1].rstrip().endswith(b';') \
                and lines[index + 2].rstrip() == _lead_of(line) + b'}':
            skip = index + 2
            line = head[:-2] + b'\n'
        out.append(line)
    return out


def _lead_of(line: bytes) -> bytes:
    """The blanks at the start of a line."""
    return line[:len(line) - len(line.lstrip())]


def _joined(out: list[bytes], rest: bool, line: bytes) -> bytes:
    """A line with the rest of the one before it that was broken, if both fit.
    """
    if not rest or not out[-1].endswith(b',\n') \
            or _lead(out[-1]) != _lead(line):
        return line
    whole = out[-1].rstrip() + b' ' + line.lstrip()
    if len(whole.rstrip().expandtabs(_TAB)) > COLUMNS:
        return line
    out.pop()
    return whole


def _old_lines(old: list[bytes], new: list[bytes]) -> list[bytes | None]:
    """For each new line the old one in whose place it stands, if it is known.
    """
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head \
            and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    out: list[bytes | None] = list(old[:head])
    matcher = difflib.SequenceMatcher(
        None, old[head:len(old) - tail], new[head:len(new) - tail],
        autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if i2 - i1 == j2 - j1:
            out += old[head + i1:head + i2]
        else:
            out += _alike(old[head + i1:head + i2], new[head + j1:head + j2])
    return out + list(old[len(old) - tail:])


def _alike(old: list[bytes], new: list[bytes]) -> list[bytes | None]:
    """For each new line an old one that begins like it, in their order."""
    out: list[bytes | None] = []
    at = 0
    for line in new:
        found = next((i for i in range(at, len(old)) if difflib.SequenceMatcher(
            None, old[i].strip(), line.strip()).ratio() > 0.6), None)
        out.append(None if found is None else old[found])
        at = at if found is None else found + 1
    return out


class _Calls:
    """The parentheses that are open, in an old text and in the new one."""

    def __init__(self) -> None:
        self._old: list[int] = []
        self._new: list[int] = []

    @property
    def opened(self) -> list[int]:
        """The columns behind those of the new text, as far as known."""
        return self._new

    def follow(self, was: bytes | None, line: bytes) -> None:
        """Go on behind a line."""
        if was is None:
            self._old, self._new = [], []
            return
        self._old = _open(was, self._old)
        self._new = _open(line, self._new)
        if len(self._old) != len(self._new) or not was.strip():
            self._old, self._new = [], []

    def aligned(self, was: bytes | None, line: bytes) -> bytes:
        """A line in the column of the parenthesis that it was aligned with."""
        if was is None or not self._old or self._old == self._new \
                or _lead(was) != self._old[-1]:
            return line
        return _indent(self._new[-1]) + line.lstrip(b' \t')


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
    """A line indented with as many tabs as go into its blanks."""
    return _indent(_lead(line)) + line.lstrip(b' \t')


def _broken(line: bytes, before: Sequence[int] = ()) -> bytes:
    """A long line in two, aligned with the parenthesis that is open there.

    before: the columns behind those that were open at its beginning.
    Left as it is where that does not make it fit, and where it holds a string
    or a comment.
    """
    code = line.rstrip(b'\r\n')
    whole = len(code.expandtabs(_TAB))
    macro = _DEFINE.match(code)
    if whole <= COLUMNS or _FOREIGN.search(code, macro.end() if macro else 0):
        return line
    end = b'\n'
    if macro or code.endswith(b'\\'):
        end = b' \\\n'
    best: tuple[tuple[bool, int, int], bytes, bytes] | None = None
    for found in _BREAK.finditer(code, macro.end() if macro else 0):
        first = code[:found.start() + len(found[0].rstrip())]
        opened = _open(first, before)
        if not opened or len((first + end).rstrip(b'\n').expandtabs(
                _TAB)) > COLUMNS:
            continue
        rest = _indent(opened[-1]) + code[found.end():]
        width = len(rest.expandtabs(_TAB))
        rank = width > COLUMNS, len(opened), -found.end()
        if width <= (COLUMNS if whole <= LIMIT else LIMIT) \
                and (best is None or rank < best[0]):
            best = rank, first, rest
    return best[1] + end + best[2] + line[len(code):] if best else line


def _open(code: bytes, before: Iterable[int] = ()) -> list[int]:
    """The columns behind the parentheses that are open at the end.

    before: those that were open at its beginning.
    """
    out = list(before)
    code = _TEXT.sub(lambda text: b' ' * len(text[0]), code)
    for match in re.finditer(rb'[()]', code):
        if match[0] == b'(':
            begin = code.rfind(b'\n', 0, match.end()) + 1
            out.append(len(code[begin:match.end()].expandtabs(_TAB)))
        elif out:
            out.pop()
    return out

# SPDX-License-Identifier: GPL-2.0-only
"""The layout of lines that spatch wrote: tabs, and at most 80 columns."""
from __future__ import annotations

import re

COLUMNS = 80
LIMIT = 100             # checkpatch.pl complains above it
_TAB = 8

#: After these a line may be broken.
_BREAK = re.compile(rb', | [-+|&]{1,2} ')


def tidy(before: bytes, after: bytes) -> bytes:
    """`after`, with the lines that `before` does not have laid out anew.

    spatch aligns with eight blanks at times, and does not break a line inside
    of an argument that it replaced.
    """
    if after == before:
        return after
    old = set(before.splitlines())
    return b''.join(line if line.rstrip(b'\r\n') in old
                    else _broken(_with_tabs(line))
                    for line in after.splitlines(keepends=True))


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
    if whole <= COLUMNS or re.search(rb'["\'#]|/[/*]', code):
        return line
    best: tuple[tuple[bool, int, int], bytes, bytes] | None = None
    for found in _BREAK.finditer(code):
        first = code[:found.start() + len(found[0].rstrip())]
        opened = _open(first)
        if not opened or len(first.expandtabs(_TAB)) > COLUMNS:
            continue
        rest = b'\t' * (opened[-1] // _TAB) + b' ' * (opened[-1] % _TAB) \
            + code[found.end():]
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

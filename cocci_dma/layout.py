# SPDX-License-Identifier: GPL-2.0-only
"""The layout of lines that spatch wrote: tabs, and at most 80 columns."""
from __future__ import annotations

import re

COLUMNS = 80
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
    if len(code.expandtabs(_TAB)) <= COLUMNS or re.search(rb'["\'#]|/[/*]', code):
        return line
    best: tuple[int, int, int] | None = None      # depth, end, column of (
    for found in _BREAK.finditer(code):
        end = len(found[0].rstrip()) + found.start()
        opened = _open(code[:end])
        if opened and len(code[:end].expandtabs(_TAB)) <= COLUMNS \
                and (best is None or len(opened) <= best[0]):
            best = len(opened), end, opened[-1]
    if best is None:
        return line
    _, end, column = best
    rest = b'\t' * (column // _TAB) + b' ' * (column % _TAB) \
        + code[end:].lstrip()
    if len(rest.expandtabs(_TAB)) > COLUMNS:
        return line
    return code[:end] + b'\n' + rest + line[len(code):]


def _open(code: bytes) -> list[int]:
    """The columns behind the parentheses that are open at the end."""
    out: list[int] = []
    for match in re.finditer(rb'[()]', code):
        if match[0] == b'(':
            out.append(len(code[:match.end()].expandtabs(_TAB)))
        elif out:
            out.pop()
    return out

# SPDX-License-Identifier: GPL-2.0-only
"""Comments in a source that allow what a rule would tell.

    /* cocci-dma: allow RULE - reason */

On a line of its own it speaks of the statement below it, else of the statement
that it stands in or behind.  Several rules are separated by commas.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, Sequence

from . import clex

_COMMENT = re.compile(
    r'(?:/\*|//)\s*cocci-dma:\s*allow\b[ \t]*([^\n]*?)[ \t]*(?:\*/|$)', re.M)
_SAID = re.compile(r'([\w, \t]*?)[ \t]*(?:(?:--?|:)[ \t]*(\S.*)?)?$')


@dataclass
class Comment:
    """One comment: the rules it names, and the lines that it speaks of."""

    path: str
    line: int
    column: int
    rules: tuple[str, ...]
    reason: str
    first: int
    last: int


def comments(path: str, text: str) -> Iterator[Comment]:
    """The comments of a file, whose text is Latin-1."""
    found = list(_COMMENT.finditer(text))
    if not found:
        return
    tokens = [t for t in clex.tokenize(text) if t.kind != 'pp']
    for each in found:
        line = text.count('\n', 0, each.start()) + 1
        column = each.start() - (text.rfind('\n', 0, each.start()) + 1) + 1
        said = _SAID.match(each[1])
        names = said[1] if said else each[1]
        rules = tuple(name for name in re.split(r'[\s,]+', names) if name)
        first, last = _lines(text, tokens, each.start(), line)
        yield Comment(path, line, column, rules,
                      (said[2] or '') if said else '', first, last)


def _lines(text: str, tokens: Sequence[clex.Token], at: int,
           line: int) -> tuple[int, int]:
    """The first and the last line of the statement that is spoken of."""
    after = next((n for n, t in enumerate(tokens) if t.start > at),
                 len(tokens))
    alone = not text[text.rfind('\n', 0, at) + 1:at].strip()
    begin = after
    if not alone:
        begin -= 1
        while begin > 0 and tokens[begin - 1].text not in (';', '{', '}'):
            begin -= 1
    elif after == len(tokens):
        return line, line
    end, depth = max(begin, 0), 0
    while end < len(tokens) - 1:
        what = tokens[end].text
        depth += (what in ('(', '[')) - (what in (')', ']'))
        if what in (';', '{', '}') and depth <= 0:
            break
        end += 1
    return tokens[max(begin, 0)].line, max(tokens[end].line, line)

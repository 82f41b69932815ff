# SPDX-License-Identifier: GPL-2.0-only
"""Every place that names virt_to_bus(), bus_to_virt() or one of their kind.

Calls in functions that can be parsed, and those that cannot be looked into:
in macros, in code that is compiled out, in functions that do not parse.
"""
from __future__ import annotations

import re
from typing import Iterator

from . import cparse as c
from .driver import Driver
from .pointer import ADDRESS, INVERSE

NAMES = ADDRESS | INVERSE

#: path, function (its name where there is no call), token, and the call or
#: words that say why there is none.
Place = tuple[str, 'c.Function | str', c.Token, 'c.Call | str']


def places(driver: Driver) -> Iterator[Place]:
    """Every place; each of them must be converted or get a message."""
    for source in driver.files_naming(*NAMES):
        calls = {}
        for func in source.all_functions():
            if func.words & NAMES:
                for call in func.calls():
                    if call.name in NAMES and len(call.args) == 1:
                        calls[call.first.start] = func, call
        for tok, after in zip(source.tokens, source.tokens[1:]):
            if tok.kind != 'id' or tok.text not in NAMES \
                    or after.text != '(':
                continue
            if tok.start in calls:
                func, call = calls[tok.start]
                yield source.path, func, tok, call
                continue
            inside = source.function_at(tok.line)
            if inside is not None and inside.name_token is tok \
                    or inside is None and declares(source, tok):
                continue
            yield (source.path, inside.name if inside else '', tok,
                   'function %s could not be parsed' % inside.name
                   if inside and inside.body is None else
                   'this call stands outside the code that can be parsed')
        for tok, after in zip(source.dead, source.dead[1:]):
            if tok.kind == 'id' and tok.text in NAMES \
                    and after.text == '(':
                inside = source.function_at(tok.line)
                yield (source.path, inside.name if inside else '', tok,
                       'code that is compiled out, or in one branch of an '
                       '#if that cuts a statement: convert or remove it by '
                       'hand')
        yield from _in_macros(source)


def declares(source: c.SourceFile, token: c.Token) -> bool:
    """Is this the prototype of a function of that name?"""
    return any(token in tokens for tokens in source.prototypes.values())


def _in_macros(source: c.SourceFile) -> Iterator[Place]:
    """Calls in the bodies of macros."""
    for tok in source.raw:
        if tok.kind != 'pp' or not re.match(r'#\s*define\b', tok.text):
            continue
        name = re.match(r'#\s*define\s+(\w+)', tok.text)
        skip = name.end() if name else 0
        for found in re.finditer(r'\b(%s)\s*\(' % '|'.join(sorted(NAMES)),
                                 tok.text[skip:]):
            at = skip + found.start()
            line = tok.line + tok.text.count('\n', 0, at)
            begin = tok.text.rfind('\n', 0, at)
            column = at - begin - 1 if begin >= 0 else tok.column + at
            yield (source.path, '', c.Token('id', found.group(1), tok.start + at,
                                            tok.start + at, line, column),
                   'in the body of macro %s: convert the macro by hand, or turn '
                   'it into a function' % (name.group(1) if name else '?'))

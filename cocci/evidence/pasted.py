# SPDX-License-Identifier: GPL-2.0-only
"""Names that the driver's own macros build: `PCI_DMA_##dir`, `pci_##op`."""
from __future__ import annotations

import re
from typing import Iterator, NamedTuple

from .clex import Token, arguments, inside
from .conditions import Conditions
from .driver import Driver


class Pasted(NamedTuple):
    """A place where a macro builds a name, or may do so.

    token: the use of the macro, or, where it is not known what names it
    builds, the macro.  name: a name that comes of it.
    """

    path: str
    token: Token
    macro: str
    name: str
    certain: bool


def pasted(driver: Driver, names: frozenset[str]) -> Iterator[Pasted]:
    """Where macros paste together one of `names`."""
    for source in driver.files_with('##'):
        conditions = Conditions(source, names)
        for token in source.raw:
            macro = _macro(token)
            if macro is None or conditions.dead(token.line):
                continue
            for pieces in macro.pieces:
                built = sorted(name for name in names
                               if _may_build(pieces, macro.params, name))
                if built:
                    yield from _of(driver, source.path, token, macro, pieces,
                                   built, names)


class _Macro(NamedTuple):
    name: str
    params: list[str]
    pieces: list[list[str]]         # what stands between ##, for each name


def _macro(token: Token) -> _Macro | None:
    """A macro with parameters that pastes; None for anything else."""
    if token.kind != 'pp' or '##' not in token.text:
        return None
    tokens = inside(token)
    head = [t.text for t in tokens[:3]]
    if len(head) < 3 or head[0] != 'define' \
            or head[2] != '(' or tokens[1].end != tokens[2].start:
        return None
    close = next((i for i, t in enumerate(tokens) if t.text == ')'), 2)
    params = [t.text for t in tokens[3:close] if t.kind == 'id']
    pieces: list[list[str]] = []
    joined = False
    for word in (t.text for t in tokens[close + 1:]):
        if joined and pieces:
            pieces[-1].append(word)
        elif word != '##':
            pieces.append([word])
        joined = word == '##'
    return _Macro(head[1], params, [p for p in pieces if len(p) > 1])


def _may_build(pieces: list[str], params: list[str], name: str) -> bool:
    return re.fullmatch(''.join(r'\w*' if piece in params else re.escape(piece)
                                for piece in pieces), name) is not None


def _of(driver: Driver, path: str, token: Token, macro: _Macro,
        pieces: list[str], built: list[str],
        names: frozenset[str]) -> Iterator[Pasted]:
    """What comes of one macro wherever it is used."""
    used, unknown = False, False
    for user in driver.files_with(macro.name):
        conditions = Conditions(user, names)
        for raw in user.raw:
            inner = inside(raw) if raw.kind == 'pp' \
                and macro.name in raw.text else [raw]
            if conditions.dead(raw.line):
                continue
            tokens = inner if len(inner) > 1 else user.raw
            for use in inner:
                if use.text != macro.name or raw is token \
                        and inner.index(use) == 1:
                    continue
                used = True
                args = arguments(tokens, tokens.index(use) + 1)
                name = _name(pieces, macro.params, args)
                if name in names:
                    yield Pasted(user.path, use, macro.name, name, True)
                elif len(inner) > 1 or args is None:
                    unknown = True      # it is given on by another macro
    if unknown or not used:
        yield Pasted(path, token, macro.name, built[0], False)


def _name(pieces: list[str], params: list[str],
          args: list[list[Token]] | None) -> str:
    """The name that is built of some arguments."""
    given = {param: ''.join(t.text for t in arg)
             for param, arg in zip(params, args or ())}
    return ''.join(given.get(piece, piece) for piece in pieces)

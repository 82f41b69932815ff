# SPDX-License-Identifier: GPL-2.0-only
"""C tokens with the positions that spatch reports, and preprocessor branches.

Text is handled as Latin-1, so that an offset is a byte offset in any encoding
and a column is spatch's column (0-based, a tab counts one).
"""
from __future__ import annotations

import re
from typing import NamedTuple


class Token(NamedTuple):
    """One token; kind is id, num, str, chr, op or pp.

    A pp token is a whole directive in a raw token list.  After `select()` it
    is a marker instead: its text is `#if`, `#else` or `#endif` and it stands
    only where a statement can begin.
    """

    kind: str
    text: str
    start: int
    end: int
    line: int
    column: int


_BLANK = r"""[ \t\r\f\v\x1c-\x1f\x85\xa0]+ | \\\r?\n
    | /\*[^*]*\*+(?:[^/*][^*]*\*+)*/ | //(?:[^\\\n]+|\\\r?\n|\\)*
    | [^\W0-9A-Za-z_]"""
#: What is skipped, its part from the first end of a line on, and one token: a
#: directive only at the begin of a line.  It matches everywhere, so that
#: nothing is looked at twice.
_TOKEN = re.compile(r"""
    ((?:%s)*(\n(?:\n | %s)*)?)
    ( (?(2)\#(?:[^/\\\n]+|/\*[\s\S]*?\*/|//[^\n]*|\\\r?\n|[^\n])*|(?!))
      | [A-Za-z_$][\w$]*
      | \.?\d(?:[eEpP][+-]|[\w.])*
      | "[^"\\\n]*(?:\\.[^"\\\n]*)*"
      | '[^'\\\n]*(?:\\.[^'\\\n]*)*'
      | \.\.\.|<<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%%&|^]=|\#\#
      | [^\s\w]
      | \Z)
""" % (_BLANK, _BLANK), re.X | re.S)
#: By the first character; that of an operator may begin others, too.
_KINDS = {**dict.fromkeys('0123456789', 'num'),
          **{sign: 'op' for sign in map(chr, range(256))
             if not sign.isspace() and not sign.isalnum()},
          **dict.fromkeys('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
                          '_$', 'id')}
_LONGER = {'"': 'str', "'": 'chr', '.': 'num'}


def tokenize(text: str) -> list[Token]:
    """Split C text into tokens; comments and white space are dropped."""
    out: list[Token] = []
    new, add = tuple.__new__, out.append
    # as if a line had ended before; it counts and is nowhere
    end, line, bol = -1, 0, 0
    for skipped, at_line, word in _TOKEN.findall('\n' + text):
        start = end + len(skipped)
        if '\n' in skipped:
            line += skipped.count('\n')
            bol = end + skipped.rindex('\n') + 1
        end = start + len(word)
        if not word:
            break
        kind = _KINDS[word[0]]
        if kind == 'op':
            if at_line and word[0] == '#':
                add(new(Token, ('pp', word, start, end, line, start - bol)))
                if '\n' in word:
                    line += word.count('\n')
                    bol = start + word.rindex('\n') + 1
                continue
            if len(word) > 1 and word != '...':
                kind = _LONGER.get(word[0], kind)
        add(new(Token, (kind, word, start, end, line, start - bol)))
        if kind in ('str', 'chr') and '\n' in word:
            line += word.count('\n')
            bol = start + word.rindex('\n') + 1
    return out


_NAME = re.compile(r'\w*')
_COMMENT = re.compile(r'/\*[\s\S]*?\*/|//[^\n]*')


def directive(token: Token) -> tuple[str, str]:
    """The name and the argument of a raw pp token, comments removed."""
    body = token.text[1:]
    if '\\' in body:
        body = body.replace('\\\n', ' ')
    if '/' in body:
        body = _COMMENT.sub(' ', body)
    body = body.strip()
    name = _NAME.match(body).group()
    return name, body[len(name):].strip()


def inside(token: Token) -> list[Token]:
    """The tokens of a raw pp token, `#` left out, at their places in the file."""
    return [t._replace(start=token.start + t.start, end=token.start + t.end,
                       line=token.line + t.line - 1,
                       column=t.column + (token.column if t.line == 1 else 0))
            for t in tokenize(' ' + token.text[1:])]


def arguments(tokens: list[Token], pos: int) -> list[list[Token]] | None:
    """The arguments of a call whose parenthesis is at `pos`; None when there
    is none, or a directive stands in between."""
    args: list[list[Token]] = [[]]
    depth = 0
    for token in tokens[pos:]:
        if token.kind == 'pp' or not depth and token.text != '(':
            return None
        if token.text in _OPEN and token.kind == 'op':
            depth += 1
            if depth == 1:
                continue
        elif token.text in _CLOSE and token.kind == 'op':
            depth -= 1
            if not depth:
                return args
        if token.text == ',' and depth == 1:
            args.append([])
        else:
            args[-1].append(token)
    return None


_OPEN, _CLOSE = frozenset('([{'), frozenset(')]}')
_ENDS = frozenset(';}:{')
#: Conditionals in one another.  No driver has more than some tens; what stands
#: deeper is looked at as if it were cut off.
_MAX_NESTED = 200


def _balanced(tokens: list[Token]) -> bool:
    depth = 0
    for tok in tokens:
        if tok.kind == 'op':
            if tok.text in _OPEN:
                depth += 1
            elif tok.text in _CLOSE:
                depth -= 1
                if depth < 0:
                    return False
    return depth == 0


def _whole_statements(tokens: list[Token]) -> bool:
    code = [t for t in tokens if t.kind != 'pp']
    return not code or (code[-1].text in ';}:' and _balanced(code)
                        and code[0].text not in ('else', ')', ',', '{'))


class Selection(NamedTuple):
    """Tokens without directives, and what had to be left out for that."""

    tokens: list[Token]
    dead: list[Token]      # `#if 0` and branches that could not be kept
    split: list[Token]     # first tokens of conditionals that cut a statement


class _Group(NamedTuple):
    """A conditional that is open: what stands before it, its branches so far,
    and for each the condition (where it matters) and the directive."""

    before: list[Token]
    branches: list[list[Token]]
    heads: list[tuple[str, Token]]


def select(tokens: list[Token]) -> Selection:
    """Resolve `#if` groups.

    Branches that are whole statements are all kept, between markers.  Where a
    conditional cuts through a statement only one live branch is kept: the
    first, or the one that agrees with an earlier choice for the same macro.
    """
    assumed: dict[str, bool] = {}
    dead: list[Token] = []
    split: list[Token] = []

    def resolved(group: _Group, end: Token | None) -> list[Token]:
        """What remains of a group that ends."""
        before, branches, heads = group
        if len(open_) >= _MAX_NESTED:
            split.append(heads[0][1])
            for branch in branches:
                dead.extend(branch)
            return []
        live = []
        for branch, (cond, head) in zip(branches, heads):
            if cond == '0' or heads[0][0] == '1' and head is not heads[0][1]:
                dead.extend(branch)
            else:
                live.append((branch, head))
        if not live:
            return []
        begins = not before or before[-1].text in _ENDS \
            or before[-1].kind == 'pp'
        if begins and all(_whole_statements(b) for b, _ in live):
            out: list[Token] = []
            if len(live) == 1 and len(branches) > 1:
                return list(live[0][0])
            for number, (branch, head) in enumerate(live):
                mark = '#else' if number else '#if'
                out.append(head._replace(text=mark))
                out.extend(branch)
            if len(live) == 1:
                out.append(live[0][1]._replace(text='#else'))
            last = end or live[-1][1]
            out.append(last._replace(text='#endif'))
            return out
        split.append(live[0][1])
        chosen = choose(live, heads[0][1])
        for branch, _ in live:
            if branch is not chosen:
                dead.extend(branch)
        return [t for t in chosen if t.kind != 'pp']

    def choose(live: list[tuple[list[Token], Token]],
               head: Token) -> list[Token]:
        name, macro = directive(head)
        if name not in ('ifdef', 'ifndef') or live[0][1] is not head:
            return live[0][0]
        first = assumed.setdefault(macro, name == 'ifdef') == (name == 'ifdef')
        if first:
            return live[0][0]
        return live[1][0] if len(live) > 1 else []

    # No recursion: generated files nest hundreds of conditionals.
    out: list[Token] = []
    current = out
    open_: list[_Group] = []

    def close(end: Token | None) -> list[Token]:
        group = open_.pop()
        group.branches.append(current)
        group.before.extend(resolved(group, end))
        return group.before

    for tok in tokens:
        if tok.kind != 'pp':
            current.append(tok)
            continue
        name, argument = directive(tok)
        if name in ('if', 'ifdef', 'ifndef'):
            open_.append(_Group(current, [], [
                (argument if name == 'if' else '?', tok)]))
            current = []
        elif open_ and name in ('elif', 'else'):
            open_[-1].branches.append(current)
            open_[-1].heads.append(('?', tok))
            current = []
        elif open_ and name == 'endif':
            current = close(tok)
    while open_:
        current = close(None)
    return Selection(out, dead, split)

# SPDX-License-Identifier: GPL-2.0-only
"""Source files as bytes: what spatch gets, and what is written back.

Files are never decoded for conversion (old drivers are often Latin-1), so
every byte that spatch does not touch survives.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from . import Trouble


class Unusable(Exception):
    """A file that is no C source for us; the text says why."""


@dataclass(frozen=True)
class Source:
    """A file as it was read."""

    path: str
    original: bytes

    @property
    def crlf(self) -> bool:
        """Do its lines end in CR LF?"""
        return b'\r\n' in self.original

    @property
    def content(self) -> bytes:
        """The bytes for spatch, lines ending in LF."""
        return self.original.replace(b'\r\n', b'\n')

    def restore(self, content: bytes) -> bytes:
        """`content` with the line ends that the file had."""
        return content.replace(b'\n', b'\r\n') if self.crlf else content


#: Bytes of a line.  What is longer takes minutes and holds nothing for us.
_LONGEST = 1_000_000


def read(path: str) -> Source:
    """Read a file.  Raises Trouble (unreadable) or Unusable (not text)."""
    try:
        original = Path(path).read_bytes()
    except OSError as error:
        raise Trouble('%s: cannot be read (%s)'
                      % (path, error.strerror)) from None
    if b'\0' in original:
        raise Unusable('binary (holds NUL bytes)')
    if len(original) > _LONGEST \
            and max(map(len, original.split(b'\n'))) > _LONGEST:
        raise Unusable('a line of more than %d bytes, which no driver has'
                       % _LONGEST)
    ends = original.count(b'\n')
    if original.count(b'\r') != (ends if b'\r\n' in original else 0) \
            or original.count(b'\r\n') not in (0, ends):
        raise Unusable('mixed line ends: run dos2unix or unix2dos on it')
    return Source(path, original)


def lines(content: bytes) -> list[str]:
    """The lines of a file without their ends, every byte kept.

    Not str.splitlines(): old drivers hold form feeds, which end no line.
    """
    return content.decode('utf-8', 'surrogateescape').split('\n')


_NAME = re.compile(rb'\b(\w+)\s*\(')
# The kernel puts the opening brace of a function, and only that, in column 1;
# with a backslash behind it, it is one in a macro.
_BODY = re.compile(rb'^\{[^\\\n]*$', re.M)


def functions(content: bytes) -> list[tuple[str, int, int]]:
    """(name, first line, last line) of the functions of a file.

    Found by layout (brace in column 1), so that functions which no parser
    takes are found too.  The name is `?` where the parameters stand alone.
    """
    text = content.split(b'\n')
    found: list[tuple[str, int, int]] = []
    for index, line in enumerate(text):
        if _BODY.match(line) is None:
            continue
        first = index
        while first > 0 and text[first - 1].strip() \
                and not text[first - 1].startswith((b'}', b'#', b' */')) \
                and not text[first - 1].rstrip().endswith((b';', b'*/')):
            first -= 1
        # `static int __init foo(struct a *b)`: the name ends the declarator
        head = b' '.join(text[first:index]).rstrip()
        name = _NAME.search(head)
        if name is None and not head.endswith(b')'):
            continue
        last = next((number for number in range(index + 1, len(text))
                     if text[number].startswith(b'}')), len(text) - 1)
        found.append((name.group(1).decode('latin-1') if name else '?',
                      first + 1, last + 1))
    return found


def count_functions(content: bytes) -> int:
    """How many functions a file defines, cheaply: see _BODY."""
    count = 1 if _BODY.match(content) else 0
    at = content.find(b'\n{')
    while at >= 0:
        end = content.find(b'\n', at + 1)
        end = len(content) if end < 0 else end
        count += content.find(b'\\', at, end) < 0
        at = content.find(b'\n{', at + 1)
    return count

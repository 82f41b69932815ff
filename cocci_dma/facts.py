# SPDX-License-Identifier: GPL-2.0-only
"""What is known of each source file without parsing it.

Whole kernels are looked at: every question is one pass of bytes.find(), which
is C, over the text.  Facts are kept between runs (cache.py) with the size and
the time stamps of the file, as git keeps them.
"""
from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple

from . import source

from evidence import kbuild  # from cocci/: see the package's __init__

#: (size, time of last change in ns, inode); None: there is no such file.
Signature = tuple[int, int, int] | None


class Fact(NamedTuple):
    """words: those asked for that occur in it.  includes: as they are written.
    problem: why it is no source for us, or ''."""

    signature: Signature
    digest: bytes = b''
    size: int = 0
    functions: int = 0
    words: frozenset[str] = frozenset()
    includes: tuple[str, ...] = ()
    problem: str = ''


#: ns; the coarsest time stamps of files are of two seconds.
_TICK = 2_000_000_000


def signature(path: str) -> Signature:
    """By which a file (or a folder) is known to be unchanged."""
    try:
        told = os.stat(path)
    except OSError:
        return None
    return told.st_size, told.st_mtime_ns, told.st_ino


class Facts:
    """Facts of files by absolute path, learnt when they are asked for."""

    def __init__(self, words: Iterable[str],
                 known: dict[str, Fact] | None = None):
        self.words = frozenset(words)
        self.known = known if known is not None else {}
        self._phrases = [word for word in self.words if '-' in word]
        self._fragments = _fragments(self.words - {*self._phrases})
        self._fresh: set[str] = set()

    def of(self, path: str) -> Fact:
        """The facts of a file.  Raises Trouble when it cannot be read."""
        fact = self.known.get(path)
        if path in self._fresh and fact is not None:
            return fact
        now = signature(path)
        if fact is None or fact.signature != now or now is None:
            fact = self._learn(path, now)
            # written just now, it may be written again within one tick
            young = now and time.time_ns() - now[1] < _TICK
            self.known[path] = fact._replace(signature=None) if young \
                else fact
        self._fresh.add(path)
        return fact

    def _learn(self, path: str, now: Signature) -> Fact:
        try:
            file = source.read(path)
        except source.Unusable as why:
            return Fact(now, includes=kbuild.includes(
                Path(path).read_bytes()), problem=str(why))
        text = file.content
        return Fact(now, hashlib.sha1(file.original).digest(),
                    len(file.original), source.count_functions(text),
                    frozenset(self._words_in(text)), kbuild.includes(text))

    def _words_in(self, text: bytes) -> Iterator[str]:
        found: set[bytes] = set()
        for fragment in self._fragments:
            at = text.find(fragment)
            while at >= 0:
                end = _IDENTIFIER_END.search(text, at).start()
                begin = at
                while begin and text[begin - 1] in _NAME_BYTES:
                    begin -= 1
                found.add(text[begin:end])
                at = text.find(fragment, max(end, at + 1))
        yield from (word for word in self.words if word.encode() in found)
        yield from (word for word in self._phrases if word.encode() in text)


_NAME_BYTES = frozenset(b'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
                        b'0123456789_')
_IDENTIFIER_END = re.compile(rb'[^0-9A-Za-z_]|\Z')


def _fragments(words: Iterable[str]) -> list[bytes]:
    """A few short strings one of which is in each of the words."""
    left = set(words)
    chosen: list[bytes] = []
    while left:
        count: dict[str, int] = {}
        for word in left:
            size = min(4, len(word))
            for piece in {word[i:i + size]
                          for i in range(len(word) - size + 1)}:
                count[piece] = count.get(piece, 0) + 1
        best = max(sorted(count), key=count.__getitem__)
        held = [word for word in left if best in word]
        # the longer, the fewer places to look at in vain
        for piece in (held[0][i:j] for i in range(len(held[0]))
                      for j in range(i + len(best) + 1, len(held[0]) + 1)):
            if len(piece) > len(best) and all(piece in word for word in held):
                best = piece
        chosen.append(best.encode())
        left = {word for word in left if best not in word}
    return chosen

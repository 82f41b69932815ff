# SPDX-License-Identifier: GPL-2.0-only
"""Which files of a driver hold a word.

Some drivers have thousands of files and hundreds of megabytes of register
defines, and rules ask for thousands of words: texts are read through once.
"""
from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from typing import Iterable, Sequence

_WORD = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')
#: Characters.  Of longer texts only hashes of their words are kept: they are
#: lists of registers, and there are hundreds of them.
_LONG = 200_000


class Words:
    """An index of some texts."""

    def __init__(self, texts: Sequence[str]):
        self._texts = texts
        self._files: dict[str, list[int]] = {}
        self._long: dict[int, array[int]] = {}
        self._within: dict[str, frozenset[int]] = {}
        for number, text in enumerate(texts):
            words = set(_WORD.findall(text))
            if len(text) > _LONG:
                self._long[number] = array('q', sorted(map(hash, words)))
                continue
            for word in words:
                self._files.setdefault(word, []).append(number)
        self._all = '\n'.join(('', *self._files, ''))

    def naming(self, word: str) -> Iterable[int]:
        """The texts in which it stands as a whole word (or, rarely, others
        too); of what is no plain word, those in which it stands at all."""
        if not _WORD.fullmatch(word):
            return self.holding(word)
        value = hash(word)
        found = [number for number, hashes in self._long.items()
                 if (at := bisect_left(hashes, value)) < len(hashes)
                 and hashes[at] == value]
        return self._files.get(word, []) + found

    def holding(self, piece: str) -> Iterable[int]:
        """The texts in which it stands, be it as a part of a word."""
        if piece not in self._within:
            plain = _WORD.fullmatch(piece) is not None
            found = {number for number, text in enumerate(self._texts)
                     if (not plain or number in self._long) and piece in text}
            if plain:
                for word in self._containing(piece):
                    found.update(self._files[word])
            self._within[piece] = frozenset(found)
        return self._within[piece]

    def _containing(self, piece: str) -> Iterable[str]:
        """The words of the short texts that hold a piece of a word."""
        at = self._all.find(piece)
        while at >= 0:
            end = self._all.index('\n', at)
            yield self._all[self._all.rindex('\n', 0, at) + 1:end]
            at = self._all.find(piece, end)

# SPDX-License-Identifier: GPL-2.0-only
"""What is kept between runs, so that only what changed is looked at again.

A cache never decides whether a run works: one that is broken is made anew,
one that cannot be written is done without, and either is said once.
"""
from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import diskcache

from . import COCCI

#: Bytes.  The least recently used goes first.
LIMIT = 1 << 30

_TROUBLE = (OSError, sqlite3.Error, diskcache.Timeout, pickle.PickleError,
            EOFError, ValueError, TypeError, AttributeError, ImportError,
            IndexError, KeyError)


def folder() -> Path:
    """Where it is."""
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(home, 'cocci-dma', 'check')


def tool_digest(rules: Path = COCCI) -> str:
    """Changes with every change of the rules and of the program."""
    digest = hashlib.sha1()
    for top in (rules, COCCI, Path(__file__).parent):
        for path in sorted(top.rglob('*')):
            if path.suffix in ('.cocci', '.py'):
                digest.update(path.name.encode() + b'\0' + path.read_bytes())
    return digest.hexdigest()


class Cache:
    """Values by key.  Safe to be used from several threads and processes."""

    def __init__(self, place: Path | None):
        """place: its folder; None: nothing is kept.  notes: what the user
        should know of it."""
        self.notes: list[str] = []
        self._place = place
        self._lock = threading.Lock()
        self._store: diskcache.Cache | None = None
        if place is not None:
            try:
                self._store = self._open(place)
            except _TROUBLE as error:
                self._rebuild(error)

    @staticmethod
    def _open(place: Path) -> diskcache.Cache:
        return diskcache.Cache(str(place), size_limit=LIMIT,
                               eviction_policy='least-recently-used')

    def get(self, *key: Any) -> Any:
        """What was kept for a key; None when there is nothing."""
        if self._store is None:
            return None
        try:
            return self._store.get(_key(key))
        except _TROUBLE as error:
            self._rebuild(error)
            return None

    def put(self, value: Any, *key: Any) -> None:
        """Keep a value."""
        if self._store is None:
            return
        try:
            self._store.set(_key(key), value)
        except _TROUBLE as error:
            self._rebuild(error)

    def close(self) -> None:
        """Let go of the files."""
        if self._store is not None:
            self._store.close()

    def _rebuild(self, error: BaseException) -> None:
        with self._lock:
            first = not self.notes
            self._store = None
            self.notes.append('the cache %s %s (%s): nothing is taken from it'
                              % (self._place, 'is broken and made anew'
                                 if first else 'cannot be used', error))
            if not first or self._place is None:
                return
            shutil.rmtree(self._place, ignore_errors=True)
            try:
                self._store = self._open(self._place)
            except _TROUBLE as again:
                self.notes[:] = ['the cache %s cannot be used (%s): nothing '
                                 'is kept' % (self._place, again)]


def _key(parts: tuple[Any, ...]) -> str:
    return hashlib.sha1(repr(parts).encode('utf-8', 'surrogateescape')
                        ).hexdigest()

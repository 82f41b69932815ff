# SPDX-License-Identifier: GPL-2.0-only
"""One buffer of virt_to_bus.cocci: the sites where its address is taken.

Also what the rooms of that rule say to each other: why a buffer is refused,
and what an object is called in a message.
"""
from __future__ import annotations

import os
from dataclasses import dataclass, field

from . import cparse as c
from . import report
from .address import Address
from .allocation import ALLOCATIONS
from .driver import Driver, Object
from .plan import Note, Unit
from .pointer import Use, assigned_to


class Refused(Exception):
    """Why a buffer stays as it is, and where the reason stands."""

    def __init__(self, message: str, path: str = '', line: int = 0):
        super().__init__(message)
        self.message, self.path, self.line = message, path, line


class NoDma(Refused):
    """Nothing tells that a device gets the address, so nothing need change."""


@dataclass(eq=False)
class Site:
    """One place where an address is taken."""

    path: str
    func: c.Function
    call: c.Call
    address: Address | None = None


@dataclass
class Buffer(Unit):
    """A buffer; when it is refused, each of its sites says so."""

    sites: list[Site] = field(default_factory=list)

    def refuse(self, path: str, token: c.Token, function: str, message: str,
               evidence: list[report.Step] | None = None) -> None:
        spots = [(s.path, s.call.first, s.func.name) for s in self.sites]
        if not spots or message.startswith('also needs'):
            # said of each place in the file that is looked at
            super().refuse(path, token, function, message, evidence)
            return
        for spot in spots:
            where = '' if spot[:2] == (path, token) else ' (%s:%d)' % (
                os.path.basename(path), token.line)
            self.notes.append(Note('refusal', *spot, message + where,
                                   evidence=evidence or []))


def lvalue(use: Use) -> c.Expr:
    """The lvalue (or variable) that an allocation is assigned to."""
    found = assigned_to(use)
    if found is None:
        raise Refused('the result of %s() is not assigned' % use.node.name,
                      use.path, use.node.first.line)
    return found


def devm(use: Use) -> bool:
    """Is an allocation one that the driver core frees?"""
    return ALLOCATIONS[use.node.name].device >= 0


def called(driver: Driver, obj: Object) -> str:
    """An object's name for a message."""
    if obj.kind == 'field' and obj.owner and '@' in obj.owner:
        for source in driver.files_naming('typedef'):
            for name, kind in source.typedefs.items():
                if kind.base == obj.owner and not kind.pointers:
                    return '%s.%s' % (name, obj.name)
        return obj.name
    return str(obj).replace('struct ', '')

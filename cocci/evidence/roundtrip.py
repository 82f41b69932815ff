# SPDX-License-Identifier: GPL-2.0-only
"""Addresses that a driver turns back into pointers.

No DMA interface can do that: memory whose address may come back this way must
stay as it is.
"""
from __future__ import annotations

import re

from . import cparse as c
from .addresscall import declares
from .driver import Driver, strip, text

_BACK = ('bus_to_virt', 'isa_bus_to_virt', 'phys_to_virt', '__va')


def inverse(call: c.Call) -> str:
    """Why a call that makes a pointer of an address is left alone."""
    arg = strip(call.args[0])
    for node in arg.walk():
        if isinstance(node, c.Call) and (
                'resource' in node.name or node.name == 'ioremap'):
            return ('%s() of a device resource is no memory: use ioremap() '
                    'or pci_iomap()' % call.name)
    return ('%s() takes an address back from the device (round trip): keep '
            'the CPU pointer, and find it by an index or by its handle'
            % call.name)


def way_back(driver: Driver) -> tuple[str, str, int] | None:
    """Where the driver makes a pointer of an address: name, path, line."""
    for source in driver.files_with(*_BACK):
        harmless = {call.first.start for func in source.all_functions()
                    if func.words & set(_BACK) for call in func.calls()
                    if call.name in _BACK and _elsewhere(call)}
        for tok, after in [*zip(source.tokens, source.tokens[1:]),
                           *zip(source.dead, source.dead[1:])]:
            inside = source.function_at(tok.line)
            if tok.kind == 'id' and tok.text in _BACK \
                    and after.text == '(' and tok.start not in harmless \
                    and (inside is None or inside.name_token is not tok) \
                    and not declares(source, tok):
                return tok.text, source.path, tok.line
        for macro in source.macros.values():
            for tok in c.tokenize(macro.body):
                if tok.kind == 'id' and tok.text in _BACK:
                    return tok.text, source.path, macro.line
    return None


def _elsewhere(call: c.Call) -> bool:
    """Does it make a pointer of a constant, or of a device's own memory?"""
    words = text(call.args[0]) if call.args else ''
    return 'resource' in words or not re.search(r'\b[a-z_]\w*|->', re.sub(
        r'\b0x\w+', '0', words))

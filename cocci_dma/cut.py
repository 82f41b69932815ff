# SPDX-License-Identifier: GPL-2.0-only
"""Cut a source down to what spatch must see of it.

Parsing is nearly all that spatch does.  To ask it for a few places, the bodies
of the other functions are taken away; every line keeps its number.
"""
from __future__ import annotations

import re
from typing import Collection

from . import source

_CONDITIONAL = re.compile(rb'^[ \t]*#[ \t]*(if|el|endif)', re.M)


def functions(content: bytes, lines: Collection[int]) -> bytes:
    """`content` without the bodies of functions that hold none of `lines`.

    Bodies with a conditional stay: what it cuts off may reach beyond them.
    """
    text = content.split(b'\n')
    for _, first, last in source.functions(content):
        if any(first <= line <= last for line in lines):
            continue
        brace = next((index for index in range(first - 1, last)
                      if text[index].startswith(b'{')), None)
        if brace is None:       # gone with one that does not end before it
            continue
        body = text[brace + 1:last - 1]
        if not _CONDITIONAL.search(b'\n'.join(body)):
            text[brace + 1:last - 1] = [b''] * len(body)
    return b'\n'.join(text)

# SPDX-License-Identifier: GPL-2.0-only
"""The formats of `check`, by name."""
from __future__ import annotations

from typing import Callable, Sequence

from . import junit, report, sarif
from .rules import Rule
from .run import Result

Render = Callable[[Result, Sequence[Rule]], str]

FORMATS: dict[str, Render] = {
    'text': lambda result, rules: report.text(result.findings),
    'github': lambda result, rules: report.github(result),
    'json': lambda result, rules: report.as_json(result),
    'sarif': sarif.render,
    'junit': junit.render,
}

#: Those that another program reads: they must hold even what went wrong.
DOCUMENTS = ('json', 'sarif', 'junit')

# SPDX-License-Identifier: GPL-2.0-only
"""Names that a project forbids in some of its folders (config.Policy)."""
from __future__ import annotations

import os
import re
from typing import Iterator, Mapping

from . import source
from .config import Config
from .findings import Finding

from evidence import clex  # from cocci/: see the package's __init__

#: The rule of these findings.
RULE = 'policy'


def findings(config: Config, base: str,
             sources: Mapping[str, str]) -> Iterator[Finding]:
    """Every use of a forbidden name.  sources: path below base -> text."""
    for path, text in sources.items():
        place = config.relative(os.path.join(base, path))
        forbidden = {name: policy.reason for policy in config.policies
                     if policy.paths.match_file(place)
                     for name in policy.forbid
                     if re.search(r'\b%s\b' % re.escape(name), text)}
        if not forbidden or config.exclude.match_file(place):
            continue
        functions = source.functions(text.encode('latin-1'))
        for token in clex.tokenize(text):
            if token.kind == 'id' and token.text in forbidden:
                yield Finding(
                    RULE, 'finding', path, token.line, token.column + 1,
                    next((name for name, first, last in functions
                          if first <= token.line <= last), ''),
                    'warning', 'High', '%s is not allowed here: %s'
                    % (token.text, forbidden[token.text]))

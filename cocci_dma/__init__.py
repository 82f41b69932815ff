# SPDX-License-Identifier: GPL-2.0-only
"""The front door around the semantic patches in cocci/.

One module a step of the data flow; docs/architecture.md draws it.  Names of
files: a `path` is absolute inside the package, and relative to the base
folder (see groups.Tree) in a scratch copy and in everything shown.
"""
from __future__ import annotations

import sys
from pathlib import Path

VERSION = '0.1.0'

#: The semantic patches, and the library that they share with us.
COCCI = Path(__file__).resolve().parent.parent / 'cocci'

if str(COCCI) not in sys.path:
    sys.path.insert(0, str(COCCI))


class Trouble(Exception):
    """The tool cannot do its job; the text names the cause and the remedy.

    One line for the user and exit code 2, never a traceback.
    """

# SPDX-License-Identifier: GPL-2.0-only
"""Pages for people: webpage.html, webpage.css, and what a page adds to them.

A page is one file that loads nothing, and runs no script but its own.
Whatever it is told is text, never markup.
"""
from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any, Callable, Mapping

from runtime.table import printable

from . import Trouble


def lacks(error: ModuleNotFoundError) -> Trouble:
    """What to tell when a module that pages need is not installed."""
    return Trouble('a page needs the Python module %s: run `make deps`, or '
                   '`apt-get install python3-%s`' % (error.name, error.name))


try:
    import jinja2
    import markupsafe
except ModuleNotFoundError as _missing:
    raise lacks(_missing) from None


def render(template: Path, filters: Mapping[str, Callable[..., Any]],
           script: Path | None = None, **values: Any) -> bytes:
    """A page.

    template: it extends webpage.html; what it includes lies beside it.
    script: the only one that a browser will run there.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent,
                                        Path(__file__).parent]),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_printable)
    environment.filters |= filters
    code = script.read_text('utf-8') if script else ''
    return environment.get_template(template.name).render(
        script=markupsafe.Markup(code), script_digest=base64.b64encode(
            hashlib.sha256(code.encode()).digest()).decode(),
        **values).encode('utf-8')


def _printable(value: Any) -> Any:
    """What goes into the page, without what HTML cannot hold."""
    return type(value)(printable(value)) if isinstance(value, str) else value

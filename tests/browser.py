# SPDX-License-Identifier: GPL-2.0-only
"""How a browser shows a page: what the tests of all pages share."""
from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

#: Shows the page in a frame as wide as a screen, and says what it sees.
_HARNESS = '''<!DOCTYPE html><body style="margin:0">
<iframe style="border:0;width:%dpx;height:900px" srcdoc="%s"></iframe>
<script>
onload = () => {
  const view = document.querySelector('iframe').contentWindow;
  const page = view.document, style = one => view.getComputedStyle(one);
  const all = pattern => [...page.querySelectorAll(pattern)];
  const tell = more => {
    document.body.textContent = JSON.stringify({
      stolen: [view.stolen, window.stolen].some(one => one),
      sideways: page.documentElement.scrollWidth - view.innerWidth,
      page: style(page.documentElement).backgroundColor,
      text: style(page.documentElement).color,
      small: Math.min(...all('body *').filter(one => one.innerText)
        .map(one => parseFloat(style(one).fontSize))),
      ...more,
    });
  };
  %s
};
</script>'''


def look(content: bytes, folder: Path, width: int, dark: bool, script: str
         ) -> dict[str, Any]:
    """What a browser shows of a page, without a network or a profile.

    script: it calls tell() with what it wants to be told beside the rest.
    """
    browser = shutil.which('chromium')
    assert browser, 'chromium is not on PATH: run `make deps`'
    harness = folder / 'look.html'
    harness.write_text(_HARNESS % (width, html.escape(content.decode()),
                                   script), encoding='utf-8')
    done = subprocess.run(
        [browser, '--headless', '--disable-gpu', '--hide-scrollbars',
         '--dump-dom', '--virtual-time-budget=5000',
         '--user-data-dir=%s' % (folder / 'profile'),
         '--window-size=%d,900' % width,
         '--blink-settings=preferredColorScheme=%d' % (0 if dark else 1),
         *(['--no-sandbox'] if os.geteuid() == 0 else []),
         harness.as_uri()], capture_output=True, text=True, check=False,
        timeout=120, env={**os.environ, 'HOME': str(folder)})
    found = re.search(r'<body[^>]*>(\{.*\})</body>', done.stdout, re.S)
    assert found, 'the browser shows nothing: ' + done.stderr[-2000:]
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen


def require_readable(seen: dict[str, Any], dark: bool) -> None:
    """Nothing ran that must not; all can be read in that colour scheme."""
    assert not seen['stolen']
    assert seen['sideways'] <= 0
    assert (_light(seen['page']) < 0.05) == dark
    assert contrast(seen['page'], seen['text']) > 7
    assert seen['small'] >= 10.5


def _light(colour: str) -> float:
    """The relative luminance of rgb(r, g, b), as WCAG has it."""
    parts = [int(part) / 255 for part in re.findall(r'\d+', colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045
                        else ((part + 0.055) / 1.055) ** 2.4
                        for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Of two colours, from 1 to 21."""
    dark, light = sorted((_light(one), _light(other)))
    return (light + 0.05) / (dark + 0.05)

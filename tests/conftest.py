# SPDX-License-Identifier: GPL-2.0-only
"""What several test modules share: the command, and toy rules for it."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'cocci')]

#: Rewrites old_map(x), refuses old_never(x).  What the front door does must
#: not depend on what our real rules happen to do.
TOY = '''// SPDX-License-Identifier: GPL-2.0-only
/// Replace old_map() by new_map()
//# Knows no C at all.
// Confidence: High
// Keywords: old_map, old_never
// Options: --no-includes --include-headers
virtual patch
virtual report
virtual context

@initialize:python@
@@
import json
import os


def emit(kind, p, message):
    event = dict(rule='toy', kind=kind, path=p[0].file, line=int(p[0].line),
                 column=int(p[0].column) + 1, function=p[0].current_element,
                 severity='warning', confidence='High', message=message,
                 evidence=[dict(path=p[0].file, line=1, message='begins')])
    with open(os.environ['COCCI_DMA_EVENTS'], 'a') as stream:
        stream.write(json.dumps(event) + '\\n')

@r@
position p;
expression e;
@@
old_map@p(e)

@script:python@
p << r.p;
@@
emit('fix', p, 'old_map() is gone: use new_map()')

@n@
position p;
expression e;
@@
old_never@p(e)

@script:python@
p << n.p;
@@
emit('refusal', p, 'old_never() has no device')

@depends on patch@
expression e;
@@
-old_map(e)
+new_map(dev, e)

@depends on context@
expression e;
@@
* old_map(e)
'''

#: Never settles: it turns flip() into flop() and back.
FLIP = '''/// Swap flip() and flop()
// Keywords: flip, flop
// Options: --no-includes
virtual patch

@r depends on patch@
@@
(
-flip();
+flop();
|
-flop();
+flip();
)
'''

#: Does not end within any time limit that a test would set.
SLOW = '''/// Wait for ever
// Keywords: slow_call
// Options: --no-includes
virtual patch
virtual report

@r@
position p;
@@
slow_call@p()

@script:python@
p << r.p;
@@
import time
time.sleep(600)
'''

#: A rule with a fault in its Python.
BROKEN = '''/// Raise an exception
// Keywords: broken_call
// Options: --no-includes
virtual patch
virtual report

@r@
position p;
@@
broken_call@p()

@script:python@
p << r.p;
@@
raise ValueError('no such luck')
'''

Run = Callable[..., 'subprocess.CompletedProcess[bytes]']


@pytest.fixture(scope='session')
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of toy rules."""
    folder = tmp_path_factory.mktemp('toys')
    for name, text in (('toy', TOY), ('flip', FLIP), ('slow', SLOW),
                       ('broken', BROKEN)):
        (folder / (name + '.cocci')).write_text(text, encoding='utf-8')
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment whose temporary folder and cache are the test's own."""
    scratch = tmp_path / 'scratch'
    scratch.mkdir()
    return {**os.environ, 'TMPDIR': str(scratch),
            'XDG_CACHE_HOME': str(tmp_path / 'cache'),
            'PYTHONDONTWRITEBYTECODE': '1'}


@pytest.fixture
def command(toys: Path) -> list[str]:
    """The command line of cocci-dma with the toy rules."""
    start = ('import sys, pathlib; sys.path.insert(0, %r); '
             'from cocci_dma.cli import main; '
             'main(sys.argv[2:], pathlib.Path(sys.argv[1]))' % str(ROOT))
    return [sys.executable, '-c', start, str(toys)]


@pytest.fixture
def cocci_dma(command: list[str], environment: dict[str, str],
              tree: Path) -> Run:
    """Run cocci-dma with the toy rules in the folder `tree`.

    Whatever it does, it leaves nothing in the temporary folder.
    """
    def run(*arguments: object, cwd: Path = tree, **more: str
            ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run([*command, *map(str, arguments)], cwd=cwd,
                              env={**environment, **more}, check=False,
                              capture_output=True, timeout=120)
        assert not os.listdir(environment['TMPDIR'])
        return done
    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a driver `drv` of two sources and a header."""
    top = tmp_path / 'tree'
    driver = top / 'drv'
    driver.mkdir(parents=True)
    (driver / 'Kbuild').write_text('obj-m := foo.o\nfoo-y := a.o b.o\n')
    (driver / 'a.c').write_bytes(
        b'#include "foo.h"\n\nint good(void *f)\n{\n\told_map(f);\n'
        b'\t/* caf\xe9 */\n\treturn old_map(1);\n}\n')
    (driver / 'b.c').write_text('int never(void)\n{\n\told_never(1);\n'
                                '\treturn 0;\n}\n')
    (driver / 'foo.h').write_text('static inline int h(void)\n{\n'
                                  '\treturn old_map(3);\n}\n')
    return top

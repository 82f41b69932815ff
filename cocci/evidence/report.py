# SPDX-License-Identifier: GPL-2.0-only
"""The one place where a rule says something.

Under the cocci-dma front door (COCCI_DMA_EVENTS names a file) a message is a
JSON line; under the kernel's own coccicheck it is a line of text or of org.
"""
from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field


@dataclass
class Step:
    """One step of the evidence behind a message."""

    path: str
    line: int
    message: str


@dataclass
class Event:
    """What a rule says of one site.

    kind: fix (may be or was converted), finding (report only), refusal
    (recognised, must not be converted), unparsed (spatch did not see it).
    column is 1-based.
    """

    rule: str
    kind: str
    path: str
    line: int
    column: int
    function: str
    message: str
    severity: str = 'warning'
    confidence: str = 'High'
    evidence: list[Step] = field(default_factory=list)


def emit(event: Event, mode: str) -> None:
    """Write one message; mode is report, org, patch or context."""
    target = os.environ.get('COCCI_DMA_EVENTS')
    if target:
        with open(target, 'a', encoding='utf-8') as handle:
            handle.write(json.dumps(asdict(event)) + '\n')
        return
    if mode in ('patch', 'context') and event.kind not in ('refusal', 'unparsed'):
        return
    words = {'refusal': 'refused: ', 'unparsed': 'not parsed: '}
    said = words.get(event.kind, event.severity + ': ') + event.message
    if mode == 'org':
        print('* TODO [[view:%s::face=ovl-face1::linb=%d::colb=%d::cole=%d][%s]]'
              % (event.path, event.line, event.column - 1, event.column,
                 said.replace('[', '@(').replace(']', ')')))
    else:
        out = sys.stdout if mode == 'report' else sys.stderr
        print('%s:%d:%d-%d: %s [%s]' % (event.path, event.line, event.column,
                                        event.column, said, event.rule),
              file=out, flush=True)

# SPDX-License-Identifier: GPL-2.0-only
"""The one data type that all rules produce and all outputs take."""
from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Iterable, Mapping

from . import Trouble

KINDS = ('fix', 'finding', 'refusal', 'unparsed')
SEVERITIES = ('error', 'warning', 'note')


@dataclass(frozen=True)
class Evidence:
    """One reason for a finding, and where it stands."""

    path: str
    line: int
    message: str


@dataclass(frozen=True)
class Change:
    """Of a file: `lines` lines from `line` on that become `text`."""

    path: str
    line: int
    lines: int
    text: str


@dataclass(frozen=True)
class Finding:
    """A site that a rule recognised.

    kind: `fix` can be converted, `finding` is for a human to mend, `refusal`
    must not be converted (the message says why), `unparsed` is a candidate in
    a function that spatch could not parse.  changes: what its rule makes of
    the driver; where several findings are converted together, the first of
    them has it.  code: the line, without its white space.
    """

    rule: str
    kind: str
    path: str
    line: int
    column: int
    function: str
    severity: str
    confidence: str
    message: str
    evidence: tuple[Evidence, ...] = ()
    fingerprint: str = field(default='', compare=False)
    code: str = field(default='', compare=False)
    changes: tuple[Change, ...] = field(default=(), compare=False)

    def key(self) -> tuple[Any, ...]:
        """Place first: the order in which findings are shown."""
        return (self.path, self.line, self.column, self.rule, self.kind,
                self.message)


def from_event(event: Mapping[str, Any]) -> Finding:
    """A finding from what a rule wrote; Trouble if it breaks the protocol."""
    try:
        if event['kind'] not in KINDS:
            raise ValueError('kind %r' % event['kind'])
        evidence = tuple(
            Evidence(os.path.normpath(e['path']), int(e['line']),
                     str(e['message'])) for e in event.get('evidence') or ())
        return Finding(
            str(event['rule']), event['kind'],
            os.path.normpath(event['path']), int(event['line']),
            int(event.get('column') or 1), str(event.get('function') or ''),
            str(event.get('severity') or 'warning'),
            str(event.get('confidence') or ''), str(event['message']),
            evidence)
    except (KeyError, TypeError, ValueError) as error:
        raise Trouble('a rule wrote an event that is none (%s): %s'
                      % (error, json.dumps(event))) from None


def mapped(finding: Finding, line: Callable[[str, int], int]) -> Finding:
    """The finding with every (path, line) put through `line`, also those that
    messages tell."""
    def told(message: str) -> str:
        return re.sub(
            r'\b(line |%s:)(\d+)' % re.escape(os.path.basename(finding.path)),
            lambda found: found[1] + str(line(finding.path, int(found[2]))),
            message)

    evidence = tuple(replace(e, line=line(e.path, e.line),
                             message=told(e.message))
                     for e in finding.evidence)
    return replace(finding, line=line(finding.path, finding.line),
                   message=told(finding.message), evidence=evidence)


def finish(findings: Iterable[Finding], line_text: Callable[[str, int], str],
           rooted: Callable[[str], str] = str) -> list[Finding]:
    """Sorted, each once, with fingerprints.

    rooted: a path as the project knows it.  The fingerprint survives shifted lines: it is made of the rule, the file,
    the function, the text of the line and which of several equals it is.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    finished: list[Finding] = []
    for finding in sorted(set(findings), key=Finding.key):
        text = ' '.join(line_text(finding.path, finding.line).split())
        same = (finding.rule, rooted(finding.path), finding.function, text)
        digest = hashlib.sha1('\0'.join((*same, str(seen[same])))
                              .encode('utf-8', 'surrogateescape'))
        seen[same] += 1
        finished.append(replace(finding, fingerprint=digest.hexdigest(),
                                code=text))
    return finished


@dataclass(frozen=True)
class Known:
    """A finding that is not shown, for somebody has spoken of it before.

    kind is SARIF's word: `inSource` for a comment, `external` for a baseline.
    """

    finding: Finding
    kind: str
    reason: str


@dataclass
class Coverage:
    """What was looked at, and what could not be."""

    files: int = 0
    functions: int = 0
    unparsed: set[tuple[str, int, str]] = field(default_factory=set)
    timeouts: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def merge(self, other: Coverage) -> None:
        """Add what another run saw of other drivers."""
        self.files += other.files
        self.functions += other.functions
        self.unparsed |= other.unparsed
        self.timeouts += other.timeouts
        self.skipped += other.skipped
        self.failures += other.failures

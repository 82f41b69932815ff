# SPDX-License-Identifier: GPL-2.0-only
"""Findings that a project has accepted, so that only new ones are told.

The file is JSON, sorted, one finding a line: it is made to be committed and
to be read in a diff.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Iterable, Sequence

from . import Trouble
from .findings import Finding, Known

from runtime import output

_FIELDS = ('rule', 'path', 'function', 'message')


class Baseline:
    """The fingerprints in a file."""

    def __init__(self, fingerprints: Iterable[str]):
        self._known = frozenset(fingerprints)

    def sift(self, findings: Iterable[Finding]
             ) -> tuple[list[Finding], list[Known], int]:
        """(new findings, known ones, how many known ones are gone)."""
        new: list[Finding] = []
        known: list[Known] = []
        for finding in findings:
            if finding.fingerprint in self._known:
                known.append(Known(finding, 'external', 'in the baseline'))
            else:
                new.append(finding)
        return new, known, len(self._known) - len(known)


def load(path: Path) -> Baseline:
    """Read a baseline.  Raises Trouble."""
    remedy = 'make it anew with --update-baseline'
    try:
        told = json.loads(path.read_text(encoding='utf-8'))
        return Baseline(str(each['fingerprint']) for each in told['findings'])
    except OSError as error:
        raise Trouble('%s: cannot be read: %s: %s'
                      % (path, error.strerror, remedy)) from None
    except (ValueError, KeyError, TypeError):
        raise Trouble('%s: is no baseline: %s' % (path, remedy)) from None


def save(path: Path, findings: Sequence[Finding]) -> None:
    """Accept these findings, and no others.  Raises Trouble."""
    lines = sorted({json.dumps(
        {name: getattr(f, name) for name in _FIELDS}
        | {'fingerprint': f.fingerprint}) for f in findings})
    output.write(path, ('{"findings": [\n%s\n]}\n'
                        % ',\n'.join(lines)).encode())

# SPDX-License-Identifier: GPL-2.0-only
"""Findings that a project has accepted, so that only new ones are told.

The file is JSON, sorted, one finding a line: it is made to be committed and
to be read in a diff.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Callable, Iterable

from . import Trouble
from .findings import Finding, Known

from runtime import output


class Baseline:
    """What a file accepts: fingerprint -> path in the project."""

    def __init__(self, known: dict[str, str]):
        self._known = known

    def sift(self, findings: Iterable[Finding],
             looked_at: Callable[[str], bool]
             ) -> tuple[list[Finding], list[Known], int]:
        """(new findings, known ones, how many known ones are gone).

        looked_at: was a file (its path in the project) looked at, this time?
        """
        new: list[Finding] = []
        known: list[Known] = []
        for finding in findings:
            if finding.fingerprint in self._known:
                known.append(Known(finding, 'external', 'in the baseline'))
            else:
                new.append(finding)
        told = {each.finding.fingerprint for each in known}
        gone = [path for fingerprint, path in self._known.items()
                if fingerprint not in told and looked_at(path)]
        return new, known, len(gone)


def load(path: Path) -> Baseline:
    """Read a baseline.  Raises Trouble."""
    remedy = 'make it anew with --update-baseline'
    try:
        told = json.loads(path.read_text(encoding='utf-8'))
        return Baseline({str(each['fingerprint']): str(each['path'])
                         for each in told['findings']})
    except OSError as error:
        raise Trouble('%s: cannot be read: %s: %s'
                      % (path, error.strerror, remedy)) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Trouble('%s: is no baseline: %s' % (path, remedy)) from None


def save(path: Path, findings: Iterable[Finding],
         rooted: Callable[[str], str]) -> None:
    """Accept these findings, and no others.

    rooted: a path as the project knows it.  Raises Trouble.
    """
    lines = sorted({json.dumps({
        'rule': f.rule, 'path': rooted(f.path), 'function': f.function,
        'message': f.message, 'fingerprint': f.fingerprint})
        for f in findings})
    output.write(path, ('{"findings": [\n%s\n]}\n'
                        % ',\n'.join(lines)).encode())

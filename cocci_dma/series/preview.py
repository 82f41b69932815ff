# SPDX-License-Identifier: GPL-2.0-only
"""A series as a page for people: the patches, and the reasons beside them."""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

from .. import report, webpage
from ..findings import Finding
from . import mails, repository, wording
from .proof import Proof
from .steps import Patch


@dataclass(frozen=True)
class Hunk:
    """Lines that change, and what is known of them.

    lines: (added, removed or same; the text).
    """

    head: str
    lines: list[tuple[str, str]]
    reasons: list[Finding]


@dataclass(frozen=True)
class File:
    """A file that a patch changes."""

    path: str
    hunks: list[Hunk]


@dataclass(frozen=True)
class Shown:
    """A patch.  body: its message without the subject."""

    anchor: str
    patch: Patch
    body: str
    proof: Proof
    files: list[File]


def render(scratch: repository.Scratch, series: mails.Series,
           left: Sequence[Finding]) -> bytes:
    """The page."""
    return webpage.render(
        Path(__file__).with_name('preview.html'), {'word': report.word},
        title=wording.title(series.units), base=scratch.base,
        head=mails.HEAD, rows=series.rows(), left=left,
        dropped=series.dropped, patches=[
            _shown(scratch, series, number, patch)
            for number, patch in enumerate(series.patches, 1)])


def _shown(scratch: repository.Scratch, series: mails.Series, number: int,
           patch: Patch) -> Shown:
    said = scratch.text('show', '-s', '--format=%b', patch.commit)
    diff = scratch.diff(patch.parent, patch.commit).decode('utf-8', 'replace')
    return Shown('patch-%d' % number, patch, said,
                 series.proofs[patch.commit], list(_files(diff, patch)))


_KINDS = {'+': 'added', '-': 'removed'}


def _files(diff: str, patch: Patch) -> Iterator[File]:
    for part in re.split(r'^diff --git .*\n', diff, flags=re.M)[1:]:
        path = re.search(r'^\+\+\+ b/(.*)$', part, re.M)[1].rstrip('\t')
        yield File(path, list(_hunks(part, [
            fix for fix in patch.fixes if fix.path == path])))


def _hunks(part: str, fixes: Sequence[Finding]) -> Iterator[Hunk]:
    for text in re.split(r'^(?=@@ )', part, flags=re.M)[1:]:
        head, *lines = text.removesuffix('\n').split('\n')
        place = re.match(r'@@ -(\d+)(?:,(\d+))?', head)
        first = int(place[1])
        last = first + int(place[2] or 1)
        yield Hunk(head, [(_KINDS.get(line[:1], 'same'), line)
                          for line in lines],
                   [fix for fix in fixes if first <= fix.line < last])

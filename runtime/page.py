# SPDX-License-Identifier: GPL-2.0-only
"""The results of a matrix as a page for people: page.html, page.css.

One file that loads nothing and runs nothing.  Whatever comes from a driver or
from a log is text, never markup.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from typing import Iterator, Sequence

from cocci_dma import findings, report, webpage

from . import FOLDER, bench, ktap, table, verdict
from .matrix import Row

try:
    import markupsafe
    import pygments
    import pygments.formatters
    import pygments.lexers
except ModuleNotFoundError as _missing:
    raise webpage.lacks(_missing) from None

#: Different lines of an oracle that are shown: in the log, and above it.
_LINES_OF_ORACLE = 8
_LINES_SAID = 3

#: Colour of a cell -> what it means, in the order of the legend.
STATES = {
    'pass': 'works, and no oracle speaks',
    'foretold': 'fails or is reported, as it must',
    'bad': 'not as expected',
    'seen': 'an oracle speaks, and nothing was expected',
    'idle': 'loads and unloads; no data was moved',
}

#: Column -> what is different there.
_PLACES = {
    'direct': 'bus addresses are physical addresses',
    'swiotlb': 'every streaming mapping goes through a bounce buffer',
    'iommu': 'the device reaches only what is mapped for it',
    table.INJECTED: 'each call that can fail fails in turn, with the IOMMU',
}


@dataclass(frozen=True)
class Line:
    """A line of a log; kind: ktap, kernel, evidence, or gap (lines left
    out)."""

    kind: str
    text: str
    oracle: str = ''


@dataclass(frozen=True)
class Cell:
    """A result as it is shown; anchor: where its log is on the page."""

    row: Row
    anchor: str
    state: str
    words: list[str]
    expected: str

    @property
    def said(self) -> list[tuple[str, list[str], int]]:
        """The oracles, the first lines of each, and how many more."""
        said = self.row.verdict.said
        return [(oracle, said[oracle][:_LINES_SAID],
                 len(said[oracle][_LINES_SAID:]))
                for oracle in self.row.verdict.oracles]

    @property
    def log(self) -> list[Line]:
        """The lines that prove the verdict, and what the guest said."""
        return list(_excerpt(self.row.verdict))

    @property
    def failed_calls(self) -> list[verdict.FailedCall]:
        """Each call that was made to fail, and what came of it."""
        return list(verdict.failed_calls(self.row.verdict)) \
            if self.row.inject else []


@dataclass(frozen=True)
class Form:
    """A line of the table.  cells: those of its columns, None: not run."""

    name: str
    cells: list[Cell | None]


@dataclass(frozen=True)
class Driver:
    """A driver with its forms, and what the rules made of it."""

    anchor: str
    name: str
    summary: str
    forms: list[Form]
    added: int
    removed: int
    diff: markupsafe.Markup
    left_over: list[findings.Finding]


def render(results: bench.Results) -> bytes:
    """The page."""
    drivers = list(_drivers(results))
    cells = [cell for driver in drivers for form in driver.forms
             for cell in form.cells if cell]
    return webpage.render(
        FOLDER / 'page.html', {'place': table.place, 'word': report.word},
        drivers=drivers, places=_PLACES, states=STATES,
        counts=Counter(cell.state for cell in cells),
        problems=[cell for cell in cells if cell.row.problem],
        summary=table.summary(results.rows), left_out=results.left_out,
        oracles={oracle: meaning for oracle, meaning
                 in verdict.ORACLES.items() if any(
                     oracle in cell.row.verdict.said for cell in cells)},
        results=results, made=datetime.now(timezone.utc))


# --- From results to what is shown ------------------------------------------

def _drivers(results: bench.Results) -> Iterator[Driver]:
    """All drivers, in the order of the results."""
    numbers = iter(range(1, len(results.rows) + 1))
    for number, (_, mine) in enumerate(groupby(
            results.rows, lambda row: row.form.case.name), 1):
        rows = list(mine)
        case = rows[0].form.case
        forms = [_form([_cell(row, 'run-%d' % next(numbers)) for row in group])
                 for _, group in groupby(rows, lambda row: row.form.name)]
        conversion = results.conversions[case.name]
        yield Driver('driver-%d' % number, case.name, case.summary, forms,
                     *_count(conversion.diff), _coloured(conversion.diff),
                     conversion.left_over)


def _form(cells: Sequence[Cell]) -> Form:
    """The results of one form, column by column."""
    form = cells[0].row.form
    places = {table.place(cell.row): cell for cell in cells}
    return Form(form.label,
                [places.get(place) for place in _PLACES])


def _cell(row: Row, anchor: str) -> Cell:
    if row.form.wrong:
        expected = 'must be caught by ' + row.form.wrong.oracle
    elif row.form.kind == 'old':
        expected = row.form.case.expected_of_old(row.mode)
    else:
        expected = 'must pass'
    if row.problem:
        state = 'bad'
    elif not row.verdict.clean:
        state = 'foretold' if expected else 'seen'
    else:
        state = 'pass' if row.verdict.transferred else 'idle'
    return Cell(row, anchor, state, table.verdict(row).split(), expected)


def _excerpt(judged: verdict.Verdict) -> Iterator[Line]:
    """What the guest said, and by what the oracles spoke."""
    shown: dict[str, set[str]] = defaultdict(set)
    left: list[str] = []
    for text, oracle in verdict.evidence(judged):
        if oracle and text not in shown[oracle] \
                and len(shown[oracle]) < _LINES_OF_ORACLE:
            shown[oracle].add(text)
            kind = 'evidence'
        elif not oracle and ktap.is_spoken(text):
            kind = 'ktap'
        else:
            left.append(text)
            continue
        yield from _gap(left)
        left = []
        yield Line(kind, text, oracle)
    yield from _gap(left)


def _gap(left: Sequence[str]) -> Iterator[Line]:
    """Instead of lines that are left out; a single one costs no more."""
    if len(left) == 1:
        yield Line('kernel', left[0])
    elif left:
        yield Line('gap', '%d more lines' % len(left))


def _count(diff: bytes) -> tuple[int, int]:
    """How many lines a diff adds, and how many it removes."""
    starts = Counter(line[:1] for line in diff.splitlines()
                     if not line.startswith((b'--- ', b'+++ ')))
    return starts[b'+'], starts[b'-']


def _coloured(diff: bytes) -> markupsafe.Markup:
    """A diff as HTML."""
    text = pygments.highlight(
        diff.decode('utf-8', 'replace'),
        pygments.lexers.DiffLexer(stripnl=False, ensurenl=False),
        pygments.formatters.HtmlFormatter(nowrap=True))
    return markupsafe.Markup(text)

# SPDX-License-Identifier: GPL-2.0-only
"""The results of a matrix as a table for people, and as JUnit XML."""
from __future__ import annotations

import io
import re
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Iterable, Sequence
from xml.etree import ElementTree

import rich.box
import rich.console
import rich.table

from . import output
from .matrix import Row
from .qemu import MODES
from .verdict import ORACLES, calls_done, dma_errors, failed_calls

#: The column of the runs in which calls fail.
INJECTED = 'calls fail'

#: All columns.
PLACES = (*MODES, INJECTED)

#: How many lines of evidence are shown for what is not as expected.
_LINES = 4


def text(rows: Sequence[Row], width: int) -> str:
    """A line for each form, a column for each mode; then the problems."""
    table = rich.table.Table(box=rich.box.SIMPLE, pad_edge=False)
    for title in ('driver', 'form', *PLACES):
        table.add_column(title, no_wrap=title in ('driver', 'form'))
    for case, mine in groupby(rows, lambda row: row.form.case.name):
        first = case
        for form, cells in groupby(mine, lambda row: row.form):
            table.add_row(first, form.label, *_cells(list(cells)))
            first = ''
    console = rich.console.Console(file=io.StringIO(), width=width,
                                   force_terminal=False, markup=False,
                                   emoji=False, highlight=False)
    console.print(table)
    lines = [line.rstrip() for line in
             console.file.getvalue().splitlines()]    # type: ignore
    return '\n'.join(line for line in lines if line) + '\n' + \
        ''.join(map(_evidence, rows)) + summary(rows)


def _cells(rows: Sequence[Row]) -> list[str]:
    """What is said of a form in each mode, and where calls fail."""
    by_place = {place(row): row for row in rows}
    return [_cell(by_place[each]) if each in by_place else ''
            for each in PLACES]


def _cell(row: Row) -> str:
    return verdict(row) + (' (!)' if row.problem else '')


def verdict(row: Row) -> str:
    """What came of a run, in a word or a few.

    Of a driver of a kernel tree, which may be left in part as it was, also how
    much: the errors that dma-debug counted, and of the calls that failed, how
    many did no harm, and after how many an oracle spoke; `of` how many, when
    deadly ones left no more time.  kmemleak speaks when all is over, and does
    not know after which.
    """
    if row.form.case.tree and row.inject:
        calls = list(failed_calls(row.verdict))
        heard = Counter(oracle for one in calls for oracle in one.oracles)
        wanted = calls_done(row.verdict.log)[0]
        return ' '.join(('%d/%d' % (sum(not one.oracles for one in calls),
                                    len(calls)),
                         *(['of %d' % wanted] if len(calls) < wanted else []),
                         *('%s:%d' % (oracle, heard[oracle])
                           for oracle in ORACLES if heard[oracle]),
                         *(['kmemleak'] if 'kmemleak' in row.verdict.said
                           else [])))
    if row.form.case.tree and row.verdict.oracles:
        count = dma_errors(row.verdict)
        return ' '.join('%s:%d' % (oracle, count) if oracle == 'dma-debug'
                        and count else oracle
                        for oracle in row.verdict.oracles)
    return ' '.join(row.verdict.oracles) or \
        ('pass' if row.verdict.transferred else 'loads')


def place(row: Row) -> str:
    """The column of a row."""
    return INJECTED if row.inject else row.mode


def _evidence(row: Row) -> str:
    """What is not as expected of a row, and the lines that show it.

    Also of a driver of which nothing was expected.
    """
    if not row.problem and (row.form.case.works is not None
                            or row.verdict.clean):
        return ''
    lines = ['%s: %s' % (row.name, row.problem
                         or ', '.join(row.verdict.oracles))]
    for oracle in row.verdict.oracles:
        said = row.verdict.said[oracle]
        lines += ['  %s: %s' % (oracle, line) for line in said[:_LINES]]
        if len(said) > _LINES:
            lines.append('  %s: and %d more' % (oracle,
                                                len(said) - _LINES))
    return '\n'.join(lines) + '\n'


def summary(rows: Sequence[Row]) -> str:
    """How many results there are, and how many of them are bad: a line."""
    bad = sum(1 for row in rows if row.problem)
    return '%d results, %s\n' % (len(rows), '%d not as expected (!)' % bad
                                 if bad else 'all as expected')


def write_junit(rows: Iterable[Row], path: Path) -> None:
    """Write the results for tools that understand JUnit's XML.

    Raises Trouble.
    """
    suites = ElementTree.Element('testsuites')
    for case, mine in groupby(rows, lambda row: row.form.case.name):
        members = list(mine)
        suite = ElementTree.SubElement(
            suites, 'testsuite', name=printable(case),
            tests=str(len(members)),
            failures=str(sum(1 for row in members if row.problem)))
        for row in members:
            test = ElementTree.SubElement(
                suite, 'testcase', classname=printable(case),
                name=printable('%s %s' % (row.form.label, place(row))))
            if row.problem:
                failure = ElementTree.SubElement(test, 'failure',
                                                 message=printable(
                                                     row.problem))
                failure.text = printable(_evidence(row))
            out = ElementTree.SubElement(test, 'system-out')
            out.text = printable('\n'.join(row.verdict.log))
    ElementTree.indent(suites)
    output.write(path, ElementTree.tostring(suites, 'utf-8',
                                            xml_declaration=True))


def printable(said: str) -> str:
    """What XML and HTML can hold, and shows where it stands.

    Bytes that are no UTF-8, which Python has as surrogates, become U+FFFD.
    """
    return ''.join(c for c in re.sub('[\ud800-\udfff]', '\ufffd', said)
                   if c in '\n\t' or c.isprintable())

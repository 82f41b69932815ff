# SPDX-License-Identifier: GPL-2.0-only
"""The results of a matrix as a table for people, and as JUnit XML."""
from __future__ import annotations

import io
from itertools import groupby
from pathlib import Path
from typing import Iterable, Sequence
from xml.etree import ElementTree

import rich.box
import rich.console
import rich.table

from cocci_dma import Trouble

from .matrix import Row
from .qemu import MODES

_INJECTED = 'calls fail'

#: How many lines of evidence are shown for what is not as expected.
_LINES = 4


def text(rows: Sequence[Row], width: int) -> str:
    """A line for each form, a column for each mode; then the problems."""
    table = rich.table.Table(box=rich.box.SIMPLE, pad_edge=False)
    for title in ('driver', 'form', *MODES, _INJECTED):
        table.add_column(title, no_wrap=title in ('driver', 'form'))
    for case, mine in groupby(rows, lambda row: row.form.case.name):
        first = case
        for form, cells in groupby(mine, lambda row: row.form):
            table.add_row(first, form.name[len(case) + 1:],
                          *_cells(list(cells)))
            first = ''
    console = rich.console.Console(file=io.StringIO(), width=width,
                                   force_terminal=False)
    console.print(table)
    lines = [line.rstrip() for line in
             console.file.getvalue().splitlines()]    # type: ignore
    return '\n'.join(line for line in lines if line) + '\n' + \
        ''.join(map(_evidence, rows)) + _summary(rows)


def _cells(rows: Sequence[Row]) -> list[str]:
    """What is said of a form in each mode, and where calls fail."""
    by_place = {(_INJECTED if row.inject else row.mode): row for row in rows}
    return [_cell(by_place[place]) if place in by_place else ''
            for place in (*MODES, _INJECTED)]


def _cell(row: Row) -> str:
    said = ' '.join(row.verdict.oracles) or \
        ('pass' if row.verdict.transferred else 'loads')
    return said + (' (!)' if row.problem else '')


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


def _summary(rows: Sequence[Row]) -> str:
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
            suites, 'testsuite', name=case, tests=str(len(members)),
            failures=str(sum(1 for row in members if row.problem)))
        for row in members:
            test = ElementTree.SubElement(
                suite, 'testcase', classname=case,
                name='%s %s' % (row.form.name[len(case) + 1:],
                                _INJECTED if row.inject else row.mode))
            if row.problem:
                failure = ElementTree.SubElement(test, 'failure',
                                                 message=_printable(
                                                     row.problem))
                failure.text = _printable(_evidence(row))
            out = ElementTree.SubElement(test, 'system-out')
            out.text = _printable('\n'.join(row.verdict.log))
    tree = ElementTree.ElementTree(suites)
    ElementTree.indent(tree)
    try:
        tree.write(path, encoding='utf-8', xml_declaration=True)
    except OSError as error:
        raise Trouble('%s: cannot be written: %s'
                      % (path, error.strerror)) from None


def _printable(said: str) -> str:
    """What XML can hold."""
    return ''.join(c for c in said if c in '\n\t' or c.isprintable())

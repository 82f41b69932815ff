# SPDX-License-Identifier: GPL-2.0-only
"""Findings and edits as text, JSON, Org lines or a diff.  Knows no rule."""
from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterable

from . import Trouble
from .findings import Change, Coverage, Evidence, Finding, Known
from .groups import Tree
from .run import Edit, Result

#: How many places a line on stderr names; JSON has them all.
_NAMED = 10


def text(findings: Iterable[Finding]) -> str:
    """One line a finding, its evidence in indented lines below."""
    out = []
    for f in findings:
        out.append('%s:%d:%d: %s: %s [%s]\n' % (f.path, f.line, f.column,
                                               word(f), f.message, f.rule))
        out += ('  %s:%d: %s\n' % (e.path, e.line, e.message)
                for e in f.evidence)
    return ''.join(out)


def left_over(findings: Iterable[Finding], evidence: bool = False) -> str:
    """What a conversion tells beside its diff: the sites it refused, and notes
    on what it cannot do itself; with `evidence`, also what it converted for
    which reasons."""
    return text(dict.fromkeys(
        f for f in findings if is_left_over(f)
        or evidence and f.kind == 'fix' and f.evidence))


def is_left_over(finding: Finding) -> bool:
    """Is it something that a conversion leaves to a person?"""
    return finding.kind == 'refusal' or \
        finding.kind == 'finding' and finding.severity == 'note'


def word(finding: Finding) -> str:
    """What kind of message it is."""
    return 'refused' if finding.kind == 'refusal' else finding.severity


def org(findings: Iterable[Finding]) -> str:
    """Findings as Emacs Org entries, as Coccinelle's own org mode has them."""
    return ''.join(
        '* TODO [[view:%s::face=ovl-face1::linb=%d::colb=%d::cole=%d]'
        '[%s (%s)]]\n' % (f.path, f.line, f.column - 1, f.column,
                          f.message.replace('[', '(').replace(']', ')'),
                          f.rule)
        for f in findings)


def as_json(result: Result, diff: bytes | None = None) -> str:
    """The whole result; with the diff, for a conversion."""
    coverage = result.coverage
    whole: dict[str, Any] = {
        'findings': [_as_dict(f) for f in result.findings],
        'suppressed': [{'finding': _as_dict(known.finding),
                        'kind': known.kind, 'reason': known.reason}
                       for known in sorted(result.suppressed,
                                           key=lambda k: k.finding.key())],
        'coverage': {
            'files': coverage.files,
            'functions': coverage.functions,
            'unparsed': [
                {'path': path, 'line': line, 'function': function}
                for path, line, function in sorted(coverage.unparsed)],
            'timeouts': coverage.timeouts,
            'skipped': [{'path': path, 'reason': reason}
                        for path, reason in coverage.skipped],
            'failures': coverage.failures,
        },
    }
    if diff is not None:
        whole['diff'] = diff.decode('utf-8', 'surrogateescape')
    return json.dumps(whole, indent=2) + '\n'


def _as_dict(finding: Finding) -> dict[str, Any]:
    told = asdict(finding)
    del told['code']
    if not finding.changes:
        del told['changes']
    return told


def from_json(tree: Tree, whole: dict[str, Any]) -> Result:
    """The reverse of as_json(), without the diff."""
    told = whole['coverage']
    coverage = Coverage(
        told['files'], told['functions'],
        {(u['path'], u['line'], u['function']) for u in told['unparsed']},
        told['timeouts'], [(s['path'], s['reason']) for s in told['skipped']],
        told['failures'])
    return Result(tree, [_from_dict(f) for f in whole['findings']],
                  coverage=coverage, suppressed=[
                      Known(_from_dict(k['finding']), k['kind'], k['reason'])
                      for k in whole['suppressed']])


def _from_dict(told: dict[str, Any]) -> Finding:
    return Finding(**told | {
        'evidence': tuple(Evidence(**e) for e in told['evidence']),
        'changes': tuple(Change(**c) for c in told.get('changes', ()))})


#: How GitHub's workflow commands are escaped.
_DATA = {'%': '%25', '\r': '%0D', '\n': '%0A'}
_PROPERTY = _DATA | {':': '%3A', ',': '%2C'}


def github(result: Result) -> str:
    """Annotations for a GitHub workflow, which prints them on its stdout."""
    out = []
    for f in result.findings:
        said = '\n'.join([f.message, *('%s:%d: %s' % (e.path, e.line, e.message)
                                       for e in f.evidence)])
        out.append('::%s file=%s,line=%d,col=%d,title=%s::%s\n' % (
            'notice' if f.severity == 'note' else f.severity,
            _escaped(f.path, _PROPERTY), f.line, f.column,
            _escaped('%s [%s]' % (word(f), f.rule), _PROPERTY),
            _escaped(said, _DATA)))
    for failure in (*result.coverage.failures, *(
            '%s: took too long' % name
            for name in result.coverage.timeouts)):
        out.append('::error title=cocci-dma::%s\n' % _escaped(failure, _DATA))
    return ''.join(out)


def _escaped(said: str, escapes: dict[str, str]) -> str:
    return said.translate(str.maketrans(escapes))


def coverage_line(coverage: Coverage) -> str:
    """How much was looked at, and what was not: always told."""
    said = ['coverage: %d files, %d functions, %d not parsed'
            % (coverage.files, coverage.functions, len(coverage.unparsed))
            + _some('%s:%d %s' % place for place in sorted(coverage.unparsed))]
    if coverage.timeouts:
        said.append('%d timed out' % len(coverage.timeouts)
                    + _some(coverage.timeouts))
    if coverage.skipped:
        said.append('%d skipped' % len(coverage.skipped)
                    + _some('%s (%s)' % skip for skip in coverage.skipped))
    return '; '.join(said) + '\n'


def _some(places: Iterable[str]) -> str:
    every = list(places)
    more = len(every) - _NAMED
    said = ', '.join(every[:_NAMED]) + (', and %d more' % more
                                        if more > 0 else '')
    return ': ' + said if said else ''


def diff(edits: Iterable[Edit]) -> bytes:
    """A unified diff of all edits, to be applied with `patch -p1`.

    diff(1) does it: byte for byte, also for a last line without its end.
    """
    out = b''
    with tempfile.TemporaryDirectory(prefix='cocci-dma-') as folder:
        old, new = Path(folder, 'old'), Path(folder, 'new')
        for edit in edits:
            old.write_bytes(edit.source.original)
            new.write_bytes(edit.content)
            command = ['diff', '-u', '-p', '--label', 'a/' + edit.path,
                       '--label', 'b/' + edit.path, str(old), str(new)]
            try:
                run = subprocess.run(command, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, check=False)
            except FileNotFoundError:
                raise Trouble('diff is not on PATH: apt-get install '
                              'diffutils') from None
            out += run.stdout
    return out


def where_to_apply(tree: Tree, edits: Iterable[Edit]) -> str:
    """A hint, when the diff does not apply from the current folder."""
    if not list(edits) or tree.base == os.getcwd():
        return ''
    return 'note: apply this diff with `patch -p1 -d %s`\n' % tree.base

# SPDX-License-Identifier: GPL-2.0-only
"""Findings as SARIF 2.1.0, for code scanning services and editors."""
from __future__ import annotations

import json
import os
import urllib.parse
from typing import Any, Iterable, Sequence

from . import VERSION
from .findings import Change, Finding
from .rules import Rule
from .run import Result

SCHEMA = 'https://json.schemastore.org/sarif-2.1.0.json'
#: The name of our fingerprint; a new number when it is made in another way.
FINGERPRINT = 'cocciDma/v1'
_ROOT = 'SRCROOT'


def render(result: Result, rules: Sequence[Rule]) -> str:
    """The whole result, with all `rules`, also those that found nothing."""
    index = {rule.name: number for number, rule in enumerate(rules)}
    run: dict[str, Any] = {
        'tool': {'driver': {
            'name': 'cocci-dma',
            'semanticVersion': VERSION,
            'rules': [_rule(rule) for rule in rules],
        }},
        'originalUriBaseIds': {_ROOT: {'description': {
            'text': 'the folder that paths are relative to'}}},
        'invocations': [{
            'executionSuccessful': result.complete,
            'toolExecutionNotifications': sorted(_notifications(result),
                                                 key=json.dumps),
        }],
        'results': sorted((
            *(_result(finding, index) for finding in result.findings),
            *(_result(known.finding, index) | {'suppressions': [{
                'kind': known.kind, 'justification':
                _printable(known.reason)}]} for known in result.suppressed)),
            key=order),
    }
    whole = {'$schema': SCHEMA, 'version': '2.1.0', 'runs': [run]}
    return json.dumps(whole, indent=1) + '\n'


def order(told: dict[str, Any]) -> tuple[Any, ...]:
    """By which results are sorted."""
    where = told['locations'][0]['physicalLocation']
    return ('suppressions' in told, where['artifactLocation']['uri'],
            where['region']['startLine'],
            where['region'].get('startColumn', 0), told['ruleId'],
            told['properties']['kind'], told['message']['text'])


def _rule(rule: Rule) -> dict[str, Any]:
    summary, _, rest = rule.summary.partition('\n\n')
    told: dict[str, Any] = {
        'id': rule.name,
        'shortDescription': {'text': ' '.join(summary.split())},
        'defaultConfiguration': {'level': 'warning',
                                 'enabled': rule.default},
        'help': {'text': '\n\n'.join(filter(None, (rest, rule.caveats)))
                 or rule.summary},
        'properties': {'precision': {'High': 'high', 'Moderate': 'medium'}.get(
            rule.confidence, 'low'), 'tags': ['dma', 'linux-kernel']},
    }
    page = rule.page
    if page:
        told['help']['markdown'] = page
    return told


def _result(finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    told: dict[str, Any] = {'ruleId': finding.rule}
    if finding.rule in index:
        told['ruleIndex'] = index[finding.rule]
    place = _place(finding.path, finding.line, finding.column)
    if finding.function:
        place['logicalLocations'] = [{
            'name': _printable(finding.function), 'kind': 'function'}]
    told |= {
        'level': finding.severity,
        'message': {'text': _printable(finding.message)},
        'locations': [place],
        'partialFingerprints': {FINGERPRINT: finding.fingerprint},
        'properties': {'kind': finding.kind,
                       'confidence': finding.confidence},
    }
    if finding.evidence:
        told['relatedLocations'] = [
            _place(step.path, step.line) | {
                'id': number, 'message': {'text': _printable(step.message)}}
            for number, step in enumerate(finding.evidence, 1)]
    if finding.changes:
        told['fixes'] = [_fix(finding.rule, finding.changes)]
    return told


def _fix(rule: str, changes: Iterable[Change]) -> dict[str, Any]:
    files: dict[str, list[dict[str, Any]]] = {}
    for change in changes:
        files.setdefault(change.path, []).append({
            # the end is the begin of the first line that stays
            'deletedRegion': {'startLine': change.line, 'startColumn': 1,
                              'endLine': change.line + change.lines,
                              'endColumn': 1},
            'insertedContent': {'text': _printable(change.text)},
        })
    return {'description': {'text': 'what `cocci-dma convert --rule %s` makes '
                            'of this driver' % rule},
            'artifactChanges': [{'artifactLocation': _file(path),
                                 'replacements': replacements}
                                for path, replacements in files.items()]}


def _place(path: str, line: int, column: int = 0) -> dict[str, Any]:
    region = {'startLine': max(line, 1)}
    if column:
        region['startColumn'] = column
    return {'physicalLocation': {'artifactLocation': _file(path),
                                 'region': region}}


def _file(path: str) -> dict[str, str]:
    if os.path.isabs(path):
        return {'uri': 'file://' + urllib.parse.quote(os.fsencode(path))}
    return {'uri': urllib.parse.quote(os.fsencode(path)), 'uriBaseId': _ROOT}


def _notifications(result: Result) -> Iterable[dict[str, Any]]:
    coverage = result.coverage

    def told(level: str, kind: str, text: str) -> dict[str, Any]:
        return {'level': level, 'descriptor': {'id': kind},
                'message': {'text': _printable(text)}}

    for failure in coverage.failures:
        yield told('error', 'failure', failure)
    for name in coverage.timeouts:
        yield told('error', 'timeout', '%s: took too long' % name)
    for path, reason in coverage.skipped:
        yield told('warning', 'skipped', '%s: %s' % (path, reason)) | {
            'locations': [_place(path, 1)]}
    for path, line, function in sorted(coverage.unparsed):
        yield told('warning', 'unparsed', '%s was not parsed' % function) | {
            'locations': [_place(path, line)]}


def _printable(said: str) -> str:
    """Bytes of a source that are no UTF-8 cannot stand in JSON."""
    return said.encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')


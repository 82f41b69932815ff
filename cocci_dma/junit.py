# SPDX-License-Identifier: GPL-2.0-only
"""Findings as JUnit XML: a suite a rule, a failed test a finding."""
from __future__ import annotations

from typing import Sequence
from xml.etree import ElementTree

from .findings import Finding
from .rules import Rule
from .run import Result

from runtime.table import printable


def render(result: Result, rules: Sequence[Rule]) -> str:
    """The whole result.  A rule that found nothing is one test that passes;
    what the tool could not do is an error of the suite `cocci-dma`."""
    found: dict[str, list[Finding]] = {rule.name: [] for rule in rules}
    for finding in result.findings:
        found.setdefault(finding.rule, []).append(finding)
    root = ElementTree.Element('testsuites', name='cocci-dma')
    _own(root, result)
    for rule, findings in found.items():
        suite = ElementTree.SubElement(
            root, 'testsuite', name=rule, tests=str(max(len(findings), 1)),
            failures=str(len(findings)), errors='0')
        if not findings:
            ElementTree.SubElement(suite, 'testcase', classname=rule,
                                   name='finds nothing')
        for finding in findings:
            _failure(suite, finding)
    ElementTree.indent(root)
    return ElementTree.tostring(root, 'unicode', xml_declaration=True) + '\n'


def _failure(suite: ElementTree.Element, finding: Finding) -> None:
    place = '%s:%d:%d' % (finding.path, finding.line, finding.column)
    test = ElementTree.SubElement(
        suite, 'testcase', classname=finding.rule, name=printable(place),
        file=printable(finding.path), line=str(finding.line))
    failure = ElementTree.SubElement(test, 'failure', type=finding.severity,
                                     message=printable(finding.message))
    failure.text = printable('\n'.join(
        [place, *('%s:%d: %s' % (e.path, e.line, e.message)
                  for e in finding.evidence)]))


def _own(root: ElementTree.Element, result: Result) -> None:
    coverage = result.coverage
    wrong = [*coverage.failures,
             *('%s: took too long' % name for name in coverage.timeouts)]
    suite = ElementTree.SubElement(
        root, 'testsuite', name='cocci-dma', tests=str(max(len(wrong), 1)),
        failures='0', errors=str(len(wrong)))
    for number, said in enumerate(wrong, 1):
        test = ElementTree.SubElement(suite, 'testcase', classname='cocci-dma',
                                      name='run %d' % number)
        ElementTree.SubElement(test, 'error', message=printable(said))
    if not wrong:
        ElementTree.SubElement(suite, 'testcase', classname='cocci-dma',
                               name='every run came to its end')

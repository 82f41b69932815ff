# SPDX-License-Identifier: GPL-2.0-only
"""What holds of every conversion, on drivers that nobody wrote.

Hypothesis puts drivers together from the idioms of tests/grammar.py.  All are
converted by one run and compiled by two; then each is looked at for what must
hold of any.  The same ones every time; COCCI_DMA_PROPERTIES=1000 makes more.
"""
from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from cocci_dma import findings, rules, run

import grammar
import kernel_tree

COUNT = int(os.environ.get('COCCI_DMA_PROPERTIES', '26'))

#: All of it is one run, which the worker that has it keeps.
pytestmark = pytest.mark.xdist_group('properties')

_LEGACY_ALLOC = r'\b%s = (?:\([^()]*\))?(?:k[mzc]alloc|_*get_\w*pages?)\('
_LEGACY_FREE = r'\b(?:kfree|free_pages?)\((?:\(unsigned long\))?card->%s\b'
_LEGACY_USE = r'\b(?:virt_to_bus|virt_to_phys|bus_to_virt)\b[^;]*\b%s\b'


@dataclass
class Outcome:
    """What became of one driver."""

    driver: grammar.Driver
    before: str
    after: str = ''
    again: str = ''
    said: list[findings.Finding] = field(default_factory=list)
    old_build: Counter[str] = field(default_factory=Counter)
    new_build: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return '%r\n%s' % (self.driver, self.after)

    @property
    def buffers(self) -> list[str]:
        """Those that have no handle, as b0."""
        return ['b%d' % number
                for number, buffer in enumerate(self.driver.buffers)
                if '_h' not in buffer.alloc]

    def legacy(self, name: str, text: str) -> tuple[int, int, int]:
        """How often a buffer is allocated, freed, and has its address taken,
        without a handle."""
        return tuple(len(re.findall(pattern % name, text)) for pattern in (
            _LEGACY_ALLOC, _LEGACY_FREE, _LEGACY_USE))  # type: ignore

    def converted(self, name: str) -> bool:
        """Is a buffer's memory coherent now?"""
        return re.search(r'\b%s = dmam?_alloc_coherent\(' % name,
                         self.after) is not None

    def told_of(self, pattern: str) -> bool:
        """Is something said of a line that matches?"""
        lines = self.before.split('\n')
        return any(re.search(pattern, lines[f.line - 1]) for f in self.said
                   if f.kind != 'fix')


def made() -> list[grammar.Driver]:
    """The drivers, each once."""
    seen: dict[grammar.Driver, None] = {}

    @settings(derandomize=True, max_examples=COUNT, database=None,
              phases=[Phase.generate], deadline=None,
              suppress_health_check=list(HealthCheck))
    @given(grammar.drivers())
    def collect(driver: grammar.Driver) -> None:
        seen.setdefault(driver)

    collect()
    return list(seen)


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    top = tmp_path_factory.mktemp('properties')
    found = [Outcome(driver, grammar.text(driver)) for driver in made()]
    names = ['d%d.c' % number for number in range(len(found))]
    for form in ('old', 'new'):
        (top / form).mkdir()
        (top / form / 'Kbuild').write_text('obj-m := %s\n' % ' '.join(
            name[:-2] + '.o' for name in names))
        for name, one in zip(names, found):
            (top / form / name).write_text(one.before)
    by_path = dict(zip(names, found))
    result = run.convert([str(top / 'new')], rules.load(), run.Options())
    assert result.complete, result.coverage
    assert not result.coverage.unparsed and not result.coverage.skipped
    for finding in result.findings:
        by_path[Path(finding.path).name].said.append(finding)
    for edit in result.edits:
        Path(edit.source.path).write_bytes(edit.content)
    for edit in run.convert([str(top / 'new')], rules.load(),
                            run.Options()).edits:
        by_path[Path(edit.path).name].again = edit.content.decode()
    for name, one in by_path.items():
        one.after = (top / 'new' / name).read_text()
    flags = kernel_tree.old_form_flags()
    for form in ('old', 'new'):
        for name, built in kernel_tree.build(top / form,
                                             cflags=flags).files.items():
            said = by_path[name].old_build if form == 'old' \
                else by_path[name].new_build
            said.update(d.message for d in (*built.errors, *built.warnings))
    return found


def test_they_are_of_many_kinds(outcomes: list[Outcome]) -> None:
    """What follows is no proof if nothing is converted, or nothing refused."""
    buffers = [(one, name) for one in outcomes for name in one.buffers]
    converted = sum(one.converted(name) for one, name in buffers)
    assert len(outcomes) >= COUNT * 3 // 4
    assert converted > 1 and len(buffers) - converted > 1


def test_old_form_compiles(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        assert not one.old_build, one


def test_new_form_compiles_without_a_new_warning(outcomes: list[Outcome]
                                                 ) -> None:
    for one in outcomes:
        assert not one.new_build - one.old_build, one


def test_a_second_conversion_changes_nothing(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        assert not one.again, '%s\nbecame\n%s' % (one, one.again)


def test_all_or_nothing(outcomes: list[Outcome]) -> None:
    """Of a converted buffer nothing survives; of another nothing is gone."""
    for one in outcomes:
        for name in one.buffers:
            left = one.legacy(name, one.after)
            if one.converted(name):
                assert left == (0, 0, 0), (name, left, str(one))
            else:
                assert left == one.legacy(name, one.before), (name, str(one))


def test_what_is_not_converted_is_told(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        for name in one.buffers:
            if not one.converted(name):
                assert one.told_of(r'\b%s\b' % name), (name, one.said,
                                                       str(one))


def test_no_wrapper_survives_in_silence(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        left = re.findall(r'\bpci_\w*(?:consistent|map_single)\b', one.after)
        assert not left or one.told_of(r'\bpci_\w*(consistent|map_single)'), \
            str(one)


def _sizes(text: str, name: str) -> tuple[set[str], set[str]]:
    """The sizes with which memory is allocated, and freed."""
    flat = re.sub(r'\s+', ' ', text)
    alloc = set(re.findall(r'\b%s = (?:\([^()]*\))?dma_alloc_coherent\('
                           r'[^,]+, (.+?), &' % name, flat))
    free = set(re.findall(r'dma_free_coherent\([^,]+, ((?:[^;,]|\([^;]*?\))+?)'
                          r', (?:\([^()]*\))?card->%s\b' % name, flat))
    return alloc, free


def test_sizes_are_equal(outcomes: list[Outcome]) -> None:
    compared = 0
    for one in outcomes:
        for number in range(len(one.driver.buffers)):
            alloc, free = _sizes(one.after, 'b%d' % number)
            if alloc:
                assert alloc == free, (number, alloc, free, str(one))
                compared += 1
    assert compared


def _functions(text: str) -> Iterator[str]:
    yield from re.findall(r'^\{\n.*?^\}', text, re.S | re.M)


def test_handles_are_written_before_they_are_used(outcomes: list[Outcome]
                                                  ) -> None:
    for one in outcomes:
        for name in one.buffers:
            for body in _functions(one.after):
                written = re.search(r'&card->%s_\w+' % name, body)
                used = re.search(r'(?<!&)\bcard->%s_(?:dma|handle)\b' % name,
                                 body)
                if written and used:
                    assert written.start() < used.start(), (name, str(one))


def test_mappings_are_checked_or_told(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        for number, mapping in enumerate(one.driver.mappings):
            checked = re.search(r'dma_mapping_error\([^,]+, (card->)?m%d\)'
                                % number, one.after)
            assert checked or one.told_of(r'\bm%d = ' % number), (
                number, str(one))
            # once, whoever put it there
            assert len(re.findall(r'dma_mapping_error\([^,]+, (?:card->)?m%d\)'
                                  % number, one.after)) <= 1, str(one)

# SPDX-License-Identifier: GPL-2.0-only
"""The rules over all drivers of Linux 6.12: nothing crashes, nothing is silent.

Every decision is taken for every driver that a rule concerns.  spatch itself,
which would need most of an hour for all of them, goes over a few folders.
"""
from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cocci_dma import rules
from evidence import kbuild
from evidence.clex import tokenize
from evidence.driver import Driver

import kernel_tree

ROOT = Path(__file__).resolve().parent.parent

#: One process takes all decisions, and uses all cores for it.
pytestmark = pytest.mark.xdist_group('tree')

#: rule -> the calls that it must say something of, wherever they stand
CALLS = {
    'virt_to_bus': {'virt_to_bus', 'bus_to_virt', 'isa_virt_to_bus',
                    'isa_bus_to_virt', 'virt_to_phys', '__pa'},
    'dmam_alloc_coherent': {'dma_alloc_coherent', 'dma_alloc_attrs'},
}
#: Folders of drivers/ for spatch: old and new drivers, alone and of many files
FOLDERS = ('atm', 'dma/ti', 'message/fusion', 'mmc/host', 'net/ethernet/amd',
           'net/ethernet/natsemi', 'net/ethernet/nvidia', 'scsi/aic7xxx',
           'scsi/gvp11.c', 'scsi/isci', 'scsi/snic')
#: Rules that have nothing to find in this kernel: it has no pci_* wrappers,
#: no managed memory with the wrong lifetime, and tests that are right
IDLE = {'pci_dma_compat', 'dmam_lifetime', 'dma_handle_test'}


class Said(NamedTuple):
    """What a rule's decision says of a driver."""

    rule: str
    places: set[tuple[str, int]]
    crash: str


def decide(rule: str, files: tuple[str, ...]) -> Said:
    """The places of which a rule speaks, without spatch."""
    decision = importlib.import_module('evidence.' + rule)
    try:
        units = decision.decide(Driver(list(files)), frozenset())
    except Exception as error:      # pylint: disable=broad-except
        return Said(rule, set(), '%s: %s: %r' % (files[0], rule, error))
    return Said(rule, {(item.path, item.token.line) for unit in units
                       for item in (*unit.notes, *unit.edits)}, '')


@pytest.fixture(scope='session')
def drivers() -> Path:
    return kernel_tree.source() / 'drivers'


@pytest.fixture(scope='session')
def said(drivers: Path) -> list[Said]:
    """All decisions on all drivers that name a keyword of the rule."""
    words = {rule.name: re.compile(r'\b(?:%s)\b' % '|'.join(rule.keywords))
             for rule in rules.load() if rule.converts}
    work = []
    for driver in kbuild.drivers([str(drivers)]):
        text = '\n'.join(Path(path).read_text('latin-1')
                         for path in driver.files)
        work += [(name, driver.files) for name, word in words.items()
                 if word.search(text)]
    with futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(decide, *zip(*work), chunksize=8))


def test_no_decision_crashes(said: list[Said]) -> None:
    crashes = [one.crash for one in said if one.crash]
    assert not crashes, crashes[:10]
    assert {one.rule for one in said if one.places} == {
        rule.name for rule in rules.load() if rule.converts}


@pytest.mark.parametrize('rule', sorted(CALLS))
def test_no_site_is_silent(said: list[Said], drivers: Path, rule: str) -> None:
    """Every call, counted without the rule's help, has a message of its own."""
    places = {place for one in said if one.rule == rule for place in one.places}
    silent = []
    for path in sorted(drivers.rglob('*.[ch]')):
        text = path.read_text('latin-1')
        if not any(call in text for call in CALLS[rule]):
            continue
        tokens = tokenize(text)
        silent += ['%s:%d %s' % (path, token.line, token.text)
                   for token, after in zip(tokens, tokens[1:])
                   if token.text in CALLS[rule] and after.text == '('
                   and (str(path), token.line) not in places]
    assert not silent, '%d: %s' % (len(silent), silent[:10])


def test_spatch_over_some_folders(drivers: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / 'cocci-dma'), 'check', '--format', 'json',
         *(str(drivers / folder) for folder in FOLDERS)],
        cwd=drivers.parent, capture_output=True, check=False)
    assert run.returncode == 1, run.stderr.decode()[-2000:]
    result: dict[str, Any] = json.loads(run.stdout)
    assert not result['coverage']['timeouts']
    found = Counter(f['rule'] for f in result['findings'])
    assert {rule.name for rule in rules.load()} - set(found) == IDLE, found

# SPDX-License-Identifier: GPL-2.0-only
"""The drivers of tests/fixtures/edu, without booting them.

All rules together must convert each of them whole, and what the bench needs
must be there: both forms and the wrong conversions build.  The README of that
folder says what a case is.
"""
from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import tomllib
from concurrent import futures
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Iterable

import filelock
import pytest

from cocci_dma import rules

import kernel_tree

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / 'tests' / 'fixtures' / 'edu'
HEADER = 'edu_hw.h'
RULES = {rule.name for rule in rules.load()}

MODES = ('direct', 'swiotlb', 'iommu')
ORACLES = {'data', 'iommu', 'dma-debug'}
ORACLES_OF_WRONG = ORACLES | {'sleep'}


# --- The cases --------------------------------------------------------------

@dataclass(frozen=True)
class Case:
    """One driver in its old form."""

    folder: Path

    def __str__(self) -> str:
        return self.folder.name

    @cached_property
    def table(self) -> dict[str, Any]:
        """What case.toml says."""
        return tomllib.loads((self.folder / 'case.toml').read_text('utf-8'))

    @property
    def ready(self) -> bool:
        """Are the rules there that it needs?"""
        return RULES.issuperset(self.table.get('needs', ()))

    @property
    def patches(self) -> list[Path]:
        """The wrong conversions."""
        return sorted((self.folder / 'wrong').glob('*'))

    def place(self, folder: Path) -> None:
        """Put a copy into `folder`, and the common header beside it."""
        shutil.copytree(self.folder, folder,
                        ignore=shutil.ignore_patterns('wrong'))
        shutil.copy(FIXTURES / HEADER, folder.parent)


CASES = [Case(path) for path in sorted(FIXTURES.iterdir()) if path.is_dir()]
READY = [case for case in CASES if case.ready]
WRONG = [(case, path.stem) for case in READY for path in case.patches]


# --- What comes of them -----------------------------------------------------

@dataclass
class Outcome:
    """What became of a case; builds: form -> what the compiler says."""

    status: int = 0
    diff: bytes = b''
    refusals: list[str] = field(default_factory=list)
    converted: dict[str, str] = field(default_factory=dict)
    findings: str = ''
    again: tuple[int, bytes] = (0, b'')
    patched: dict[str, str] = field(default_factory=dict)
    builds: dict[str, list[str]] = field(default_factory=dict)
    checkpatch: list[str] = field(default_factory=list)
    style: list[str] = field(default_factory=list)


@pytest.fixture(scope='session')
def outcomes(tmp_path_factory: pytest.TempPathFactory,
             worker_id: str) -> dict[str, Outcome]:
    """Every case, once: the first worker to ask does it for all."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != 'master':
        shared = shared.parent
    kept = shared / 'edu.pickle'
    with filelock.FileLock(str(shared / 'edu.lock')):
        if not kept.exists():
            work = shared / 'edu'
            work.mkdir()
            kept.write_bytes(pickle.dumps(_work_out(work)))
        return pickle.loads(kept.read_bytes())


def _work_out(top: Path) -> dict[str, Outcome]:
    results = {str(case): Outcome() for case in CASES}
    old = [(case, '', _placed(case, top / 'old')) for case in CASES]
    new = [(case, '', _placed(case, top / 'new')) for case in READY]
    with futures.ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda one: _convert(one[2], results[str(one[0])]),
                      new))
    wrong = [(case, name, _spoilt(case, name, top, results[str(case)]))
             for case, name in WRONG]
    _build(top / 'build_old', 'old', old, results,
           kernel_tree.old_form_flags())
    _build(top / 'build_new', 'new', new, results)
    _build(top / 'build_wrong', 'wrong/', wrong, results)
    for path, complaint in kernel_tree.complaints(
            b''.join(results[str(case)].diff for case in READY)):
        results[Path(path).parts[-2]].checkpatch.append(complaint)
    for path, complaint in kernel_tree.complaints(
            b''.join(_as_added(path) for path in
                     sorted(FIXTURES.glob('*/*.[ch]')))):
        results[Path(path).parts[-2]].style.append(complaint)
    return results


def _placed(case: Case, top: Path) -> Path:
    folder = top / str(case)
    case.place(folder)
    return folder


def _convert(folder: Path, outcome: Outcome) -> None:
    """As a user does: the command, patch -p1, the command again."""
    done = _cocci_dma('convert', folder)
    outcome.status, outcome.diff = done.returncode, done.stdout
    outcome.refusals = re.findall(r': refused: .*',
                                  done.stderr.decode())
    subprocess.run(['patch', '-p1', '--quiet'], cwd=folder.parent, check=True,
                   input=done.stdout)
    outcome.converted = {path.name: path.read_text('utf-8')
                         for path in sorted(folder.glob('*.[ch]'))}
    outcome.findings = _cocci_dma(
        'check', *(word for rule in sorted(RULES - {'dmam_alloc_coherent'})
                   for word in ('--rule', rule)), folder).stdout.decode()
    again = _cocci_dma('convert', folder)
    outcome.again = again.returncode, again.stdout


def _cocci_dma(command: str, *words: str | Path
               ) -> subprocess.CompletedProcess[bytes]:
    """Run the command on a folder beside the current one."""
    *options, folder = words
    assert isinstance(folder, Path)
    return subprocess.run(
        [str(ROOT / 'cocci-dma'), command, *map(str, options), folder.name],
        cwd=folder.parent, capture_output=True, check=False, timeout=300)


def _spoilt(case: Case, name: str, top: Path, outcome: Outcome) -> Path:
    """A copy of the converted form with a wrong conversion applied."""
    folder = top / 'wrong' / name / str(case)
    folder.parent.mkdir(parents=True)
    shutil.copytree(top / 'new' / str(case), folder)
    shutil.copy(FIXTURES / HEADER, folder.parent)
    done = subprocess.run(
        ['patch', '-p1', '--batch', '-d', str(folder), '-i',
         str(case.folder / 'wrong' / (name + '.patch'))],
        capture_output=True, text=True, check=False)
    outcome.patched[name] = done.stdout if done.returncode else ''
    return folder


def _build(top: Path, form: str, drivers: Iterable[tuple[Case, str, Path]],
           results: dict[str, Outcome], flags: tuple[str, ...] = ()) -> None:
    """Compile drivers: those of one file in one go, which is much cheaper."""
    flat = top / 'flat'
    flat.mkdir(parents=True)
    shutil.copy(FIXTURES / HEADER, top)
    owners = {}
    for case, name, folder in drivers:
        told = results[str(case)].builds.setdefault(form + name, [])
        sources = list(folder.glob('*.c'))
        if len(sources) > 1:
            _tell(told, kernel_tree.build(folder, cflags=flags).files.values())
            continue
        unique = '%s_%s.c' % (case, name)
        shutil.copy(sources[0], flat / unique)
        owners[unique] = told
    (flat / 'Kbuild').write_text('obj-m := %s\n' % ' '.join(
        name[:-2] + '.o' for name in owners))
    built = kernel_tree.build(flat, cflags=flags)
    for name, told in owners.items():
        _tell(told, [built.files[name]])


def _tell(told: list[str], files: Iterable[kernel_tree.FileResult]) -> None:
    for file in files:
        told += ('%s: %s' % (one.severity, one.message)
                 for one in (*file.warnings, *file.errors))
        if not file.ok:
            told.append('error: no object was made')


def _as_added(path: Path) -> bytes:
    """A diff that adds a whole file."""
    lines = path.read_bytes().splitlines(keepends=True)
    return b'--- /dev/null\n+++ b/%s\n@@ -0,0 +1,%d @@\n' % (
        '/'.join(path.parts[-2:]).encode(), len(lines)) + b''.join(
            b'+' + line for line in lines)


# --- Tests ------------------------------------------------------------------

every_case = pytest.mark.parametrize('case', CASES, ids=str)
every_ready_case = pytest.mark.parametrize('case', READY, ids=str)
every_wrong_one = pytest.mark.parametrize(
    'case, name', WRONG, ids=['%s-%s' % one for one in WRONG])

#: What no converted driver holds any more
_OLD = re.compile(r'\b(?:isa_)?(?:virt_to_bus|bus_to_virt)\b'
                  r'|\bvirt_to_phys\b|\b__pa\b|\bPCI_DMA_\w+'
                  r'|\bpci_\w*(?:consistent|map_(?:single|page|sg))\b'
                  r'|\bpci_set_dma_mask\b')
_COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*', re.S)
_MAP = re.compile(r'\bdma_map_(?:single|page)\(')
_CHECK = re.compile(r'\bdma_mapping_error\(')


def test_sixteen_cases() -> None:
    assert len(READY) >= 16


@every_case
def test_description(case: Case) -> None:
    """case.toml holds what the README says, and nothing else."""
    table = case.table
    assert set(table) <= {'summary', 'needs', 'old', 'guest', 'wrong'}
    assert table['summary'] and '\n' not in table['summary']
    assert set(table['old']) == {*MODES, 'oracles'}
    assert {table['old'][mode] for mode in MODES} <= {'pass', 'fail'}
    assert table['old']['direct'] == 'pass'
    assert set(table['old']['oracles']) <= ORACLES
    fails = 'fail' in {table['old'][mode] for mode in MODES}
    assert fails == bool({'data', 'iommu'} & set(table['old']['oracles']))
    assert set(table.get('guest', ())) <= {'transfers', 'sizes'}
    assert set(table.get('wrong', ())) == {path.stem for path in case.patches}
    for one in table.get('wrong', {}).values():
        assert set(one) == {'summary', 'oracle', 'mode'}
        assert one['oracle'] in ORACLES_OF_WRONG and one['mode'] in MODES


@every_case
def test_one_module_of_that_name(case: Case) -> None:
    text = (case.folder / 'Kbuild').read_text('utf-8')
    assert re.findall(r'^obj-m\s*:?=\s*(.*)$', text, re.M) == ['%s.o' % case]


@every_case
def test_old_form_builds(case: Case, outcomes: dict[str, Outcome]) -> None:
    assert outcomes[str(case)].builds['old'] == []


@every_case
def test_old_form_is_in_kernel_style(case: Case,
                                     outcomes: dict[str, Outcome]) -> None:
    """Such drivers are to be read."""
    assert outcomes[str(case)].style == []


def test_header_is_in_kernel_style() -> None:
    assert kernel_tree.complaints(_as_added(FIXTURES / HEADER)) == []


@every_ready_case
def test_converted_whole(case: Case, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[str(case)]
    assert outcome.status == 0
    assert outcome.diff
    # Memory that lives shorter than the binding is not managed, rightly
    assert [line for line in outcome.refusals
            if not line.endswith('[dmam_alloc_coherent]')] == []
    for name, text in outcome.converted.items():
        code = _COMMENT.sub('', text)
        assert _OLD.findall(code) == [], name
        assert len(_MAP.findall(code)) == len(_CHECK.findall(code)), name
    assert outcome.findings == ''


@every_ready_case
def test_second_conversion(case: Case, outcomes: dict[str, Outcome]) -> None:
    assert outcomes[str(case)].again == (0, b'')


@every_ready_case
def test_converted_form_builds(case: Case,
                               outcomes: dict[str, Outcome]) -> None:
    """Without the header that brings old interfaces back, and warnings."""
    assert outcomes[str(case)].builds['new'] == []


@every_ready_case
def test_checkpatch(case: Case, outcomes: dict[str, Outcome]) -> None:
    assert outcomes[str(case)].checkpatch == []


@every_wrong_one
def test_wrong_conversion(case: Case, name: str,
                          outcomes: dict[str, Outcome]) -> None:
    """It applies to what the rules make now, and builds."""
    outcome = outcomes[str(case)]
    assert outcome.patched[name] == ''
    assert [line for line in outcome.builds['wrong/' + name]
            if line.startswith('error')] == []

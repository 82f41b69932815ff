# SPDX-License-Identifier: GPL-2.0-only
"""Every rule on its fixtures.  Adding a case is adding files, no code.

    tests/fixtures/RULE/CASE.c     the driver
    tests/fixtures/RULE/CASE.res   all of it once converted; without this
                                   file it must stay as it is
    tests/fixtures/RULE/CASE.msg   what must be said, `LINE: kind: part of it`

A driver of several files is a folder CASE/ (with a Kbuild), a folder CASE.res/
that holds the files that change, and a CASE.msg of lines `FILE:LINE: kind:
part of it`.  kind is refused, fix, error, warning or note.  Refusals and
findings that are not listed fail the case; fixes need not be listed.  A case
that has neither .res nor .msg must be left alone in silence.

All old and all converted forms are compiled against a real kernel, and the
diff goes through checkpatch.
"""
from __future__ import annotations

import os
import pickle
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Iterable

import filelock
import pytest

from cocci_dma import findings, report, rules, run

import kernel_tree

FIXTURES = Path(__file__).resolve().parent / 'fixtures'

#: Folders of it that are for all rules together, each with a test of its own
FOR_ALL_RULES = {'edu', 'dkms'}
RULES = {rule.name: rule for rule in rules.load()}


# --- The cases --------------------------------------------------------------

@dataclass(frozen=True)
class Case:
    """One driver in tests/fixtures, and what must come of it."""

    rule: str
    name: str
    path: Path

    def __str__(self) -> str:
        return '%s/%s' % (self.rule, self.name)

    @property
    def _stem(self) -> Path:
        return self.path.with_suffix('') if self.path.is_file() else self.path

    @cached_property
    def original(self) -> dict[str, str]:
        """file -> text; C files and headers."""
        if self.path.is_file():
            return {self.path.name: _text(self.path)}
        return {path.name: _text(path) for path in sorted(self.path.iterdir())
                if path.suffix in ('.c', '.h')}

    @cached_property
    def converted(self) -> dict[str, str]:
        """What `original` must become."""
        golden = self._stem.with_name(self._stem.name + '.res')
        if not golden.exists():
            return dict(self.original)
        if golden.is_file():
            return {self.path.name: _text(golden)}
        return self.original | {path.name: _text(path)
                                for path in golden.iterdir()}

    @property
    def changes(self) -> bool:
        """Must it be converted (in part)?"""
        return self.converted != self.original

    @cached_property
    def messages(self) -> list[tuple[str, int, str, str]]:
        """(file, line, kind, substring) that must be said."""
        path = self._stem.with_name(self._stem.name + '.msg')
        if not path.exists():
            return []
        wanted = []
        for number, line in enumerate(_text(path).splitlines(), 1):
            if not line.strip():
                continue
            found = re.fullmatch(r'(?:([^:]+):)?(\d+): (refused|fix|error|'
                                 r'warning|note): (.+)', line)
            assert found, '%s:%d: not `LINE: kind: text`' % (path, number)
            wanted.append((found[1] or self.path.name, int(found[2]),
                           found[3], found[4].strip()))
        return wanted

    def place(self, folder: Path) -> None:
        """Put the driver into `folder`, with a Kbuild that makes it one."""
        if self.path.is_dir():
            shutil.copytree(self.path, folder)
        else:
            folder.mkdir(parents=True)
            shutil.copy(self.path, folder)
        if not (folder / 'Kbuild').exists():
            objects = [name[:-2] + '.o' for name in self.original
                       if name.endswith('.c')]
            (folder / 'Kbuild').write_text('obj-m := %s\n' % ' '.join(objects))


def _text(path: Path) -> str:
    # Fixtures may be Latin-1; surrogates keep the bytes.
    return path.read_bytes().decode('utf-8', 'surrogateescape')


def _cases() -> list[Case]:
    cases = []
    for folder in sorted(path for path in FIXTURES.iterdir() if path.is_dir()
                         and path.name not in FOR_ALL_RULES):
        for path in sorted(folder.iterdir()):
            if path.suffix == '.c' or (path.is_dir() and not path.suffix):
                cases.append(Case(folder.name, path.stem, path))
    return cases


CASES = _cases()
CONVERTING = [case for case in CASES if case.changes]


# --- What comes of them -----------------------------------------------------

@dataclass
class Outcome:
    """What the rule did to a case."""

    said: list[findings.Finding] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    old_build: list[str] = field(default_factory=list)
    new_build: list[str] = field(default_factory=list)
    checkpatch: list[str] = field(default_factory=list)


@pytest.fixture(scope='session')
def outcomes(request: pytest.FixtureRequest,
             tmp_path_factory: pytest.TempPathFactory,
             worker_id: str) -> dict[str, Outcome]:
    """Every case of a chosen test, once: the first worker to ask does it.

    All cases of a rule are one run of the front door (a folder of drivers),
    and all compilations are one kbuild a form.
    """
    shared = tmp_path_factory.getbasetemp()
    if worker_id != 'master':
        shared = shared.parent
    kept = shared / 'outcomes.pickle'
    with filelock.FileLock(str(shared / 'outcomes.lock')):
        if not kept.exists():
            work = shared / 'cases'
            work.mkdir()
            asked = [item for item in request.session.items
                     if item.path == Path(__file__)
                     and 'outcomes' in getattr(item, 'fixturenames', ())]
            chosen = {id(item.callspec.params['case']) for item in asked}
            compiled = not {item.function for item in asked} <= {
                test_result, test_messages}
            kept.write_bytes(pickle.dumps(_work_out(
                work, [case for case in CASES if id(case) in chosen],
                compiled)))
        return pickle.loads(kept.read_bytes())


def _work_out(top: Path, cases: list[Case],
              compiled: bool) -> dict[str, Outcome]:
    """compiled: does somebody ask what the compiler and checkpatch say?"""
    results = {str(case): Outcome() for case in cases}
    diffs = b''
    for name in sorted({case.rule for case in cases} & set(RULES)):
        diffs += _run_rule([case for case in cases if case.rule == name],
                           top / 'run', results)
    if not compiled:
        return results
    _build(top / 'old', cases, results, converted=False)
    _build(top / 'new', [case for case in cases if case.changes], results,
           converted=True)
    _checkpatch(diffs, results)
    return results


def _run_rule(cases: list[Case], top: Path,
              results: dict[str, Outcome]) -> bytes:
    """Check and convert, twice, cases of one rule; the diff."""
    name = cases[0].rule
    folder = top / name
    for case in cases:
        case.place(folder / case.name)
    rule = RULES[name]
    options = run.Options()

    def of(path: str) -> Outcome:
        # Shown paths: absolute, since the folder is not the current one
        return results[os.sep.join(Path(path).relative_to(top).parts[:2])]

    def trouble(result: run.Result) -> None:
        coverage = result.coverage
        told = [*coverage.failures, *coverage.timeouts]
        told += ('%s is skipped: %s' % skip for skip in coverage.skipped)
        for case in cases:
            results[str(case)].trouble += [line for line in told
                                           if case.name in line]
        assert all(any(case.name in line for case in cases) for line in told)

    checked = run.check([str(folder)], [rule], options)
    trouble(checked)
    for finding in checked.findings:
        of(finding.path).said.append(finding)
    diff = b''
    if rule.converts:
        converted = run.convert([str(folder)], [rule], options)
        trouble(converted)
        diff = report.diff(converted.edits)
        for edit in converted.edits:
            Path(edit.source.path).write_bytes(edit.content)
        again = run.convert([str(folder)], [rule], options)
        for edit in again.edits:
            of(edit.source.path).again.append(edit.path)
    for case in cases:
        results[str(case)].files = {
            file: _text(folder / case.name / file) for file in case.original}
    return diff


def _build(top: Path, cases: list[Case], results: dict[str, Outcome],
           converted: bool) -> None:
    """Compile one form of some cases.

    Single files go into one folder, which costs one kbuild; the others have
    their own.  The converted form is what came out, not the golden file.
    """
    top.mkdir()
    flat = top / 'flat'
    flat.mkdir()
    names: dict[str, Case] = {}
    for case in cases:
        outcome = results[str(case)]
        files = outcome.files if converted else case.original
        if case.path.is_dir():
            folder = top / case.rule / case.name
            case.place(folder)
            _write(folder, files)
            _note(outcome, converted, kernel_tree.build(
                folder, cflags=kernel_tree.old_form_flags()).files.values())
        else:
            unique = '%s__%s.c' % (case.rule, case.name)
            names[unique] = case
            _write(flat, {unique: text for text in files.values()})
    if names:
        (flat / 'Kbuild').write_text('obj-m := %s\n' % ' '.join(
            name[:-2] + '.o' for name in names))
        built = kernel_tree.build(flat, cflags=kernel_tree.old_form_flags())
        for name, case in names.items():
            _note(results[str(case)], converted, [built.files[name]])


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_bytes(text.encode('utf-8', 'surrogateescape'))


def _note(outcome: Outcome, converted: bool,
          built: Iterable[kernel_tree.FileResult]) -> None:
    told = outcome.new_build if converted else outcome.old_build
    for file in built:
        told += ('%s: %s' % (d.severity, d.message)
                 for d in (*file.warnings, *file.errors))
        if not file.ok:
            told.append('error: no object was made')


def _checkpatch(diffs: bytes, results: dict[str, Outcome]) -> None:
    """Complaints about added lines, for the case that they belong to."""
    for path, complaint in kernel_tree.complaints(diffs):
        place = re.match(r'(?:\S*/)?run/([^/]+/[^/]+)/', path)
        assert place, (path, complaint)
        results[place[1]].checkpatch.append(complaint)


# --- Tokens -----------------------------------------------------------------

_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
                    r'|/\*.*?\*/|//[^\n]*|\w+|\S', re.S)


def tokens(text: str) -> list[str]:
    """The tokens of C source: what differs only in layout is equal.

    Releases of spatch break lines differently.
    """
    return _TOKEN.findall(text)


# --- Tests ------------------------------------------------------------------

every_case = pytest.mark.parametrize('case', CASES, ids=str)
every_conversion = pytest.mark.parametrize('case', CONVERTING, ids=str)


@every_case
def test_result(case: Case, outcomes: dict[str, Outcome]) -> None:
    """The conversion gives the expected files, and a second one no change."""
    outcome = outcomes[str(case)]
    assert outcome.trouble == []
    for name, text in case.converted.items():
        got = outcome.files[name]
        if not case.changes:
            assert got == text
        if tokens(got) != tokens(text):
            assert got == text          # shows the lines, not the tokens
    assert outcome.again == []


@every_case
def test_messages(case: Case, outcomes: dict[str, Outcome]) -> None:
    """Everything expected is said, and nothing else is."""
    said = [(Path(f.path).name, f.line,
             {'refusal': 'refused', 'fix': 'fix'}.get(f.kind, f.severity),
             f.message, f.severity) for f in outcomes[str(case)].said]
    unlisted = list(said)
    for name, line, kind, part in case.messages:
        match = [one for one in said if one[:2] == (name, line)
                 and part in one[3]
                 and (one[2] == kind or (one[2] == 'fix' and one[4] == kind))]
        assert match, '%s:%d: %s: %s: not said; said was\n%s' % (
            name, line, kind, part,
            '\n'.join('%s:%d: %s: %s' % one[:4] for one in said))
        unlisted = [one for one in unlisted if one not in match]
    silent = not case.messages and not case.changes
    assert [one for one in unlisted if silent or one[2] != 'fix'] == []


@every_case
def test_old_form_compiles(case: Case, outcomes: dict[str, Outcome]) -> None:
    errors = [line for line in outcomes[str(case)].old_build
              if line.startswith('error')]
    assert errors == []


@every_conversion
def test_converted_form_compiles(case: Case,
                                 outcomes: dict[str, Outcome]) -> None:
    """With W=1, and without a warning that the old form has not."""
    outcome = outcomes[str(case)]
    new = Counter(outcome.new_build) - Counter(outcome.old_build)
    assert sorted(new.elements()) == []


@every_conversion
def test_checkpatch(case: Case, outcomes: dict[str, Outcome]) -> None:
    assert outcomes[str(case)].checkpatch == []


@pytest.mark.parametrize('name', sorted(RULES))
def test_rule_is_covered(name: str) -> None:
    """A misspelt rule matches nothing, without an error: cases prove it."""
    cases = [case for case in CASES if case.rule == name]
    if RULES[name].converts:
        assert any(case.changes for case in cases), 'nothing is converted'
        assert any(kind == 'refused' for case in cases
                   for _, _, kind, _ in case.messages), 'nothing is refused'
    else:
        assert any(case.messages for case in cases), 'nothing is found'
        assert not all(case.messages for case in cases), 'nothing is left'


@pytest.mark.parametrize('name', sorted(RULES))
def test_rule_header(name: str) -> None:
    """What the front door and the kernel's coccicheck read in a rule."""
    rule = RULES[name]
    assert rule.summary and rule.caveats and rule.keywords
    assert rule.confidence in ('High', 'Moderate', 'Low')
    assert {'--no-includes', '--include-headers'} <= set(rule.options)
    assert {'report', 'context', 'org'} <= rule.virtuals


def test_fixtures_belong_to_rules() -> None:
    assert {case.rule for case in CASES} <= set(RULES)

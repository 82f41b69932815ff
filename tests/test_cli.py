# SPDX-License-Identifier: GPL-2.0-only
"""The front door: options, outputs, exit codes, bad input, in-place safety."""
from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cocci_dma import doctor, edit, findings, groups, install, report, run
from cocci_dma import Trouble, rules, source
from cocci_dma.series import build
from conftest import ROOT, Run
from runtime import kernel_source

CONVERTED_A = (b'#include "foo.h"\n\nint good(void *f)\n{\n'
               b'\tnew_map(dev, f);\n\t/* caf\xe9 */\n'
               b'\treturn new_map(dev, 1);\n}\n')


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files below a folder, with what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


def in_trouble(done: 'subprocess.CompletedProcess[bytes]', *said: str) -> None:
    """Exit code 2, and one line on stderr that says all of `said`."""
    lines = [line for line in done.stderr.decode().splitlines()
             if line.startswith('cocci-dma: ')]
    assert done.returncode == 2, done
    assert len(lines) == 1, done.stderr
    assert b'Traceback' not in done.stderr
    for word in said:
        assert word in lines[0]


# --- check ------------------------------------------------------------------

def test_check_text(cocci_dma: Run) -> None:
    done = cocci_dma('check', 'drv')
    assert done.returncode == 1
    assert done.stdout.decode() == (
        'drv/a.c:5:2: warning: old_map() is gone: use new_map() [toy]\n'
        '  drv/a.c:1: begins\n'
        'drv/a.c:7:9: warning: old_map() is gone: use new_map() [toy]\n'
        '  drv/a.c:1: begins\n'
        'drv/b.c:3:2: refused: old_never() has no device [toy]\n'
        '  drv/b.c:1: begins\n'
        'drv/foo.h:3:9: warning: old_map() is gone: use new_map() [toy]\n'
        '  drv/foo.h:1: begins\n')
    assert done.stderr == b'coverage: 3 files, 3 functions, 0 not parsed\n'


def test_check_finds_nothing(cocci_dma: Run, tree: Path) -> None:
    (tree / 'drv' / 'a.c').write_text('int f(void)\n{\n\treturn 0;\n}\n')
    (tree / 'drv' / 'b.c').unlink()
    done = cocci_dma('check', 'drv')
    assert (done.returncode, done.stdout) == (0, b'')


def test_check_json(cocci_dma: Run) -> None:
    done = cocci_dma('check', '--format', 'json', 'drv/a.c')
    assert done.returncode == 1
    whole = json.loads(done.stdout)
    first = whole['findings'][0]
    assert len(first.pop('fingerprint')) == 40
    assert first == {
        'rule': 'toy', 'kind': 'fix', 'path': 'drv/a.c', 'line': 5,
        'column': 2, 'function': 'good', 'severity': 'warning',
        'confidence': 'High', 'message': 'old_map() is gone: use new_map()',
        'evidence': [{'path': 'drv/a.c', 'line': 1, 'message': 'begins'}]}
    assert [f['kind'] for f in whole['findings']] == ['fix', 'fix', 'refusal',
                                                      'fix']
    assert whole['coverage'] == {
        'files': 3, 'functions': 3, 'unparsed': [], 'timeouts': [],
        'skipped': [], 'failures': []}


def test_fingerprints_survive_shifted_lines() -> None:
    def prints(shift: int) -> list[str]:
        some = [findings.Finding('r', 'fix', 'a.c', line + shift, 1, 'f',
                                 'warning', 'High', 'm')
                for line in (3, 5, 7)]
        texts = {3 + shift: '\tx();', 5 + shift: 'x( );', 7 + shift: '  x();'}
        return [f.fingerprint for f in findings.finish(
            some, lambda path, line: texts[line])]

    assert prints(0) == prints(40)
    assert len(set(prints(0))) == 3


def test_unparsed_functions_are_named(cocci_dma: Run, tree: Path) -> None:
    with (tree / 'drv' / 'b.c').open('a') as stream:
        stream.write('\nint bad(void)\n{\n\tFOO(x) {\n\t}}}\n\told_map(1);\n}'
                     '\n')
    done = cocci_dma('check', 'drv')
    assert done.returncode == 1
    assert done.stderr == (b'coverage: 3 files, 4 functions, 1 not parsed: '
                           b'drv/b.c:7 bad\n')
    assert cocci_dma('check', '--strict', 'drv').returncode == 2
    whole = json.loads(cocci_dma('check', '--format', 'json', 'drv').stdout)
    assert whole['coverage']['unparsed'] == [
        {'path': 'drv/b.c', 'line': 7, 'function': 'bad'}]


# --- convert ----------------------------------------------------------------

def test_evidence_of_a_conversion_on_request(cocci_dma: Run) -> None:
    fix = b'drv/a.c:5:2: warning: old_map() is gone: use new_map() [toy]\n' \
        b'  drv/a.c:1: begins\n'
    plain = cocci_dma('convert', 'drv')
    asked = cocci_dma('convert', '--evidence', 'drv')
    assert fix not in plain.stderr and fix in asked.stderr
    assert asked.stdout == plain.stdout


def test_diff_applies_and_conversion_is_idempotent(cocci_dma: Run,
                                                   tree: Path) -> None:
    before = snapshot(tree)
    done = cocci_dma('convert', 'drv')
    assert done.returncode == 0
    assert b'drv/b.c:3:2: refused: old_never() has no device [toy]' \
        in done.stderr
    assert snapshot(tree) == before
    subprocess.run(['patch', '-p1', '-s'], input=done.stdout, cwd=tree,
                   check=True)
    assert (tree / 'drv' / 'a.c').read_bytes() == CONVERTED_A
    again = cocci_dma('convert', 'drv')
    assert (again.returncode, again.stdout) == (0, b'')


def test_in_place(cocci_dma: Run, tree: Path) -> None:
    os.chmod(tree / 'drv' / 'a.c', 0o640)
    done = cocci_dma('convert', '--in-place', 'drv/b.c')
    assert done.returncode == 0
    assert done.stdout == b'drv/a.c: converted\ndrv/foo.h: converted\n'
    assert (tree / 'drv' / 'a.c').read_bytes() == CONVERTED_A
    assert stat.S_IMODE((tree / 'drv' / 'a.c').stat().st_mode) == 0o640
    assert sorted(os.listdir(tree / 'drv')) == ['Kbuild', 'a.c', 'b.c',
                                                'foo.h']


def test_refusals_name_lines_of_the_original(cocci_dma: Run,
                                             tree: Path) -> None:
    path = tree / 'drv' / 'b.c'
    long = 'a_very_long_argument_indeed + another_long_one + a_third_argument'
    path.write_text('int f(void)\n{\n\told_map(%s);\n\told_map(%s);\n'
                    '\told_never(1);\n}\n' % (long, long))
    done = cocci_dma('convert', '--format', 'json', 'drv')
    whole = json.loads(done.stdout)
    assert {f['kind']: f['line'] for f in whole['findings']
            if f['path'] == 'drv/b.c'} == {'fix': 4, 'refusal': 5}
    assert whole['diff'].startswith('--- a/drv/a.c\n+++ b/drv/a.c\n')


def test_conversion_tells_refusals_and_notes_once() -> None:
    def said(kind: str, severity: str) -> findings.Finding:
        return findings.Finding('rule', kind, 'a.c', 1, 2, 'f', severity,
                                'High', '%s %s' % (kind, severity))

    told = report.left_over([
        said('fix', 'warning'), said('fix', 'note'), said('finding', 'warning'),
        said('finding', 'note'), said('refusal', 'warning'),
        said('finding', 'note')])
    assert told == ('a.c:1:2: note: finding note [rule]\n'
                    'a.c:1:2: refused: refusal warning [rule]\n')


def test_shared_header_is_converted_once(cocci_dma: Run, tree: Path) -> None:
    (tree / 'drv' / 'Kbuild').write_text('obj-m := a.o c.o b.o\n')
    (tree / 'drv' / 'c.c').write_text('#include "foo.h"\nint c(void)\n{\n'
                                      '\treturn old_map(9);\n}\n')
    done = cocci_dma('convert', 'drv')
    assert done.stdout.count(b'+++ b/drv/foo.h') == 1
    assert done.stdout.count(b'+++ b/drv/c.c') == 1


def test_crlf_is_kept(cocci_dma: Run, tree: Path) -> None:
    path = tree / 'drv' / 'a.c'
    path.write_bytes(path.read_bytes().replace(b'\n', b'\r\n'))
    assert cocci_dma('convert', '--in-place', 'drv').returncode == 0
    assert path.read_bytes() == CONVERTED_A.replace(b'\n', b'\r\n')


def test_last_line_without_end(cocci_dma: Run, tree: Path) -> None:
    path = tree / 'drv' / 'a.c'
    path.write_bytes(path.read_bytes().rstrip(b'\n'))
    done = cocci_dma('convert', 'drv')
    subprocess.run(['patch', '-p1', '-s'], input=done.stdout, cwd=tree,
                   check=True)
    assert path.read_bytes().rstrip(b'\n') == CONVERTED_A.rstrip(b'\n')


def test_outside_of_the_current_folder(cocci_dma: Run, tree: Path,
                                       tmp_path: Path) -> None:
    away = tmp_path / 'away'
    away.mkdir()
    done = cocci_dma('convert', tree / 'drv', cwd=away)
    assert b'note: apply this diff with `patch -p1 -d /`' in done.stderr
    subprocess.run(['patch', '-p1', '-s', '-d', '/'], input=done.stdout,
                   check=True)
    assert (tree / 'drv' / 'a.c').read_bytes() == CONVERTED_A


def test_kdir(cocci_dma: Run, tree: Path, tmp_path: Path) -> None:
    (tree / 'scripts').mkdir()
    (tree / 'scripts' / 'coccicheck').touch()
    (tree / 'Kbuild').touch()
    done = cocci_dma('check', '--kdir', tree, 'drv', cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith(b'drv/a.c:5:2: ')


# --- coccicheck -------------------------------------------------------------

@pytest.mark.parametrize('mode, line', [
    ('report', b'drv/b.c:3:2: refused: old_never() has no device [toy]'),
    ('patch', b'+\tnew_map(dev, f);'),
    ('context', b'-\told_map(f);'),
    ('org', b'* TODO [[view:drv/b.c::face=ovl-face1::linb=3::colb=1::cole=2]'
            b'[old_never() has no device (toy)]]'),
])
def test_modes(cocci_dma: Run, mode: str, line: bytes) -> None:
    done = cocci_dma('coccicheck', '--mode', mode, 'drv')
    assert done.returncode == 0
    assert line in done.stdout.splitlines()


# --- Bad input --------------------------------------------------------------

@pytest.mark.parametrize('arguments, said', [
    (['check', 'nowhere'], ['nowhere', 'no such file']),
    (['check', 'drv/Kbuild'], ['drv/Kbuild', 'not a C source']),
    (['check', 'empty'], ['empty', 'no C files']),
    (['check', '--rule', 'none', 'drv'], ['none', 'cocci-dma rules']),
    (['check', '--kdir', 'drv', 'drv'], ['drv', 'no kernel tree']),
    (['check', '--jobs', '0', 'drv'], ['--jobs']),
    (['check'], ['PATH']),
    (['explain', 'none'], ['none', 'cocci-dma rules']),
    (['convert', '--rule', '/etc/toy.cocci', 'drv'], ['not one of our rules']),
    (['coccicheck', '--mode', 'chain', 'drv'], ['chain', 'report, patch']),
])
def test_bad_arguments(cocci_dma: Run, tree: Path, arguments: list[str],
                       said: list[str]) -> None:
    (tree / 'empty').mkdir()
    in_trouble(cocci_dma(*arguments), *said)


def test_no_spatch(cocci_dma: Run, tmp_path: Path) -> None:
    (tmp_path / 'bin').mkdir()
    in_trouble(cocci_dma('check', 'drv', PATH=str(tmp_path / 'bin')),
               'spatch is not on PATH', 'apt-get install coccinelle')


@pytest.mark.parametrize('arguments', [['check', 'drv'], ['doctor']])
def test_spatch_without_python(cocci_dma: Run, tmp_path: Path,
                               arguments: list[str]) -> None:
    fake = tmp_path / 'bin' / 'spatch'
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "Py.find_library: unable to find the '
                    'Python library" >&2\nexit 255\n')
    fake.chmod(0o755)
    done = cocci_dma(*arguments, PATH='%s:%s' % (fake.parent,
                                                 os.environ['PATH']))
    assert done.returncode == 2
    assert b'libpython3-dev' in done.stdout + done.stderr


def test_binary_file_is_skipped_and_told(cocci_dma: Run, tree: Path) -> None:
    before = snapshot(tree)
    (tree / 'drv' / 'b.c').write_bytes(b'\x7fELF\0old_map(1)')
    done = cocci_dma('convert', '--in-place', 'drv')
    assert b'1 skipped: drv/b.c (binary (holds NUL bytes); the other files ' \
        b'of its driver are left, too)' in done.stderr
    assert (tree / 'drv' / 'a.c').read_bytes() == before['drv/a.c']


def test_mixed_line_ends_are_refused(cocci_dma: Run, tree: Path) -> None:
    (tree / 'drv' / 'b.c').write_bytes(b'int a;\r\nint b;\n')
    done = cocci_dma('check', '--strict', 'drv')
    assert done.returncode == 2
    assert b'drv/b.c (mixed line ends' in done.stderr


def test_named_file_that_does_not_parse(cocci_dma: Run, tree: Path) -> None:
    junk = tree / 'junk.c'
    junk.write_text('old_map( this is {{{ no C at all\n')
    in_trouble(cocci_dma('convert', '--in-place', junk), 'junk.c',
               'cannot parse')
    assert junk.read_text() == 'old_map( this is {{{ no C at all\n'


def test_rule_that_fails(cocci_dma: Run, tree: Path) -> None:
    (tree / 'bad.c').write_text('int f(void)\n{\n\tbroken_call();\n}\n')
    in_trouble(cocci_dma('convert', 'bad.c'), 'bad: spatch failed',
               'no such luck', '[broken]')


def test_conversions_that_do_not_settle(cocci_dma: Run, tree: Path) -> None:
    (tree / 'flip.c').write_text('void f(void)\n{\n\tflip();\n}\n')
    done = cocci_dma('convert', 'flip.c')
    in_trouble(done, 'flip: the conversions do not settle')
    assert done.stdout == b''


def test_time_limit(toys: Path, tree: Path) -> None:
    (tree / 'slow.c').write_text('void f(void)\n{\n\tslow_call();\n}\n')
    slow = rules.select(rules.load(toys), ['slow'])
    begin = time.monotonic()
    result = run.check([str(tree / 'slow.c')], slow,
                       run.Options(time_limit=2))
    assert time.monotonic() - begin < 20
    assert result.coverage.timeouts == ['slow [slow]']
    assert not result.complete


# --- In place: nothing half, nothing left -----------------------------------

def _start(command: list[str], environment: dict[str, str], tree: Path,
           *arguments: str) -> 'subprocess.Popen[bytes]':
    """Start cocci-dma, and wait until its spatch runs."""
    process = subprocess.Popen([*command, *arguments], cwd=tree,
                               env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    begin = time.monotonic()
    scratch = Path(environment['TMPDIR'])
    while not list(scratch.glob('cocci-dma-*/*/driver')):
        assert process.poll() is None and time.monotonic() - begin < 30
        time.sleep(0.05)
    return process


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupt(command: list[str], environment: dict[str, str],
                   tree: Path, number: signal.Signals) -> None:
    (tree / 'drv' / 'b.c').write_text('void f(void)\n{\n\tslow_call();\n}\n')
    before = snapshot(tree)
    process = _start(command, environment, tree, 'convert', '--in-place',
                     'drv')
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 2
    assert stderr.startswith(b'cocci-dma: interrupted')
    assert snapshot(tree) == before
    assert not os.listdir(environment['TMPDIR'])


def test_two_runs_at_once(command: list[str], environment: dict[str, str],
                          tree: Path, tmp_path: Path) -> None:
    (tree / 'drv' / 'b.c').write_text('void f(void)\n{\n\tslow_call();\n}\n')
    first = _start(command, environment, tree, 'convert', '--in-place', 'drv')
    os.symlink(tree / 'drv', tmp_path / 'alias')
    second = subprocess.run(
        [*command, 'convert', '--in-place', str(tmp_path / 'alias')],
        env=environment, capture_output=True, check=False, timeout=60)
    first.terminate()
    first.communicate(timeout=20)
    in_trouble(second, str(tree / 'drv'), 'another cocci-dma')


def _edits(folder: Path) -> list[run.Edit]:
    edits = []
    for name in ('a.c', 'b.c', 'foo.h'):
        file = source.read(str(folder / name))
        edits.append(run.Edit(name, file, file.original + b'/* new */\n'))
    return edits


def test_changed_meanwhile(tree: Path, tmp_path: Path) -> None:
    edits = _edits(tree / 'drv')
    (tree / 'drv' / 'foo.h').write_text('/* edited */\n')
    before = snapshot(tree)
    with pytest.raises(Trouble, match='foo.h: was changed while'):
        edit.write(edits, tmp_path / 'x.journal')
    assert snapshot(tree) == before


def test_renames_are_undone(tree: Path, tmp_path: Path,
                            monkeypatch: pytest.MonkeyPatch) -> None:
    edits = _edits(tree / 'drv')
    before = snapshot(tree)
    replace = os.replace

    def fail_late(old: Path, new: Path) -> None:
        if Path(new).name == 'foo.h':
            raise OSError(5, 'Input/output error', str(new))
        replace(old, new)

    monkeypatch.setattr(edit.os, 'replace', fail_late)
    with pytest.raises(Trouble, match='foo.h: cannot be written'):
        edit.write(edits, tmp_path / 'x.journal')
    assert snapshot(tree) == before


def test_read_only_is_told_before_any_work(
        tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # os.access() is asked: to root, the mode bits forbid nothing.
    monkeypatch.setattr(edit.os, 'access',
                        lambda path, mode: not str(path).endswith('b.c'))
    with pytest.raises(Trouble, match='b.c: is read-only'):
        edit.require_writable([str(tree / 'drv' / name)
                               for name in ('a.c', 'b.c')])


def test_unreadable_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, 'Permission denied', str(self))

    monkeypatch.setattr(Path, 'read_bytes', refuse)
    with pytest.raises(Trouble, match='a.c: cannot be read .Permission'):
        source.read(str(tree / 'drv' / 'a.c'))


# --- The parts --------------------------------------------------------------

def test_line_map() -> None:
    before = b'a\nb\nc\nd\ne\n'
    after = b'new\na\nb\nC1\nC2\nd\ne\n'
    back = run._line_map(before, after)
    assert [back(line) for line in range(2, 8)] == [1, 2, 3, 3, 4, 5]


def test_function_names() -> None:
    text = (b'/* a comment */\nstatic int __init\nfoo(struct a *b,\n'
            b'    int c)\n{\n}\nstruct x y =\n{\n};\n\nvoid bar(void)\n{\n}\n')
    assert source.functions(text) == [('foo', 2, 6), ('bar', 11, 13)]


def test_drivers_sharing_files_are_chained() -> None:
    def work(name: str, *files: str) -> groups.Work:
        return groups.Work(name, {f: source.Source(f, b'') for f in files}, 0)

    works = [work('a', 'a.c', 'x.h'), work('b', 'b.c'),
             work('c', 'c.c', 'y.h'), work('d', 'd.c', 'x.h', 'y.h')]
    names = sorted(sorted(w.name for w in chain)
                   for chain in run._chains(works))
    assert names == [['a', 'c', 'd'], ['b']]


def test_doctor() -> None:
    done = subprocess.run([str(ROOT / 'cocci-dma'), 'doctor'], check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert 'spatch' in done.stdout.splitlines()[0]


@pytest.mark.parametrize('version, good, traps', [
    ('1.0.8', False, ['guard() and __free()', 'python3 on PATH', 'HOME']),
    ('1.1.1', True, ['guard() and __free()', 'python3 on PATH', 'HOME']),
    ('1.3.0', True, ['python3 on PATH', 'HOME']),
    ('1.3.1-dirty', True, ['python3 on PATH', 'HOME'])])
def test_doctor_knows_the_traps(version: str, good: bool, traps: list[str],
                                tmp_path: Path,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'python3').write_text('#!/bin/sh\n')
    (tmp_path / 'python3').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    monkeypatch.delenv('HOME')
    monkeypatch.setattr(doctor.spatch, 'probe', lambda: (version, '3.13'))
    items = list(doctor.examine())
    assert items[0].good == good and version in items[0].detail
    assert [item.name for item in items if item.trap] == traps
    monkeypatch.setenv('HOME', '/')
    monkeypatch.setenv('PATH', '/usr/bin:/bin')
    assert not any(item.trap for item in doctor.examine()
                   if item.name != 'guard() and __free()')


def test_rules_need_no_newer_spatch_than_doctor() -> None:
    for rule in (ROOT / 'cocci').glob('*.cocci'):
        (needed,) = re.findall(r'^// Requires: (\S+)$', rule.read_text(), re.M)
        assert tuple(map(int, needed.split('.'))) <= doctor.OLDEST


def test_make_deps_installs_what_is_asked_for() -> None:
    """By doctor, and by what builds kernels."""
    makefile = (ROOT / 'Makefile').read_text().replace('\\\n', ' ')
    lists = dict(re.findall(r'^(RUN|RUNTIME|PATCHES|TEST)_PACKAGES := (.*)$',
                            makefile, re.M))
    run_packages, runtime_packages, patches_packages, test_packages = (
        set(lists[name].split())
        for name in ('RUN', 'RUNTIME', 'PATCHES', 'TEST'))
    assert {*doctor.PATCHES_PROGRAMS.values(), *build.PACKAGES,
            'perl', 'python3-jinja2'} <= patches_packages
    assert {*doctor.MODULES.values(), *doctor.PROGRAMS.values(),
            'coccinelle', 'libpython3-dev'} <= run_packages
    assert {*doctor.TEST_MODULES.values(),
            *doctor.TEST_PROGRAMS.values()} <= test_packages
    assert {*doctor.RUNTIME_MODULES.values(),
            *doctor.RUNTIME_PROGRAMS.values(),
            *kernel_source.PACKAGES} <= runtime_packages


# --- make -------------------------------------------------------------------

def _make(*arguments: str) -> 'subprocess.CompletedProcess[str]':
    # The tests may themselves run under make, whose variables would come in.
    env = {name: value for name, value in os.environ.items()
           if name not in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'M', 'KDIR',
                           'MODE', 'COCCI', 'J', 'V', 'O')}
    return subprocess.run(['make', '-s', '-C', str(ROOT), *arguments],
                          capture_output=True, text=True, check=False,
                          env=env)


@pytest.mark.parametrize('arguments, said', [
    (['coccicheck', 'M=/nowhere'], '/nowhere: no such file'),
    (['coccicheck', 'MODE=chain'], 'unknown MODE chain'),
    (['coccicheck', 'KDIR=/nowhere', 'M=x'], '/nowhere is no kernel tree'),
    (['coccicheck', 'KDIR=/nowhere'], 'KDIR is set, M is not'),
    (['coccicheck', 'COCCI=none'], 'unknown rule none'),
    (['patches'], 'KDIR is not set'),
    (['patches', 'KDIR=/nowhere'], 'KDIR is set, M is not'),
    (['patches', 'KDIR=/nowhere', 'M=x'], 'O is not set'),
    (['patches', 'KDIR=/nowhere', 'M=x', 'O=/nowhere/out'],
     '/nowhere is no kernel tree'),
    (['install'], 'name a kernel tree'),
    (['install', 'KDIR=/nowhere'], '/nowhere is no kernel tree'),
])
def test_make_with_bad_variables(arguments: list[str], said: str) -> None:
    done = _make(*arguments)
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines()
            if not line.startswith('make: ')]
    assert len(told) == 1 and said in told[0], done.stderr


def test_make_alone_prints_help() -> None:
    done = _make()
    assert done.returncode == 0
    assert 'make coccicheck' in done.stdout


# --- install ----------------------------------------------------------------

@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """Something that looks like the top of a kernel tree."""
    top = tmp_path / 'linux'
    (top / 'scripts' / 'coccinelle').mkdir(parents=True)
    (top / 'scripts' / 'coccicheck').touch()
    (top / 'Kbuild').touch()
    return top


def test_install_and_uninstall(kernel: Path) -> None:
    before = snapshot(kernel)
    folder = install.install(str(kernel))
    assert install.install(str(kernel)) == folder
    assert (folder / 'evidence' / 'kbuild.py').is_file()
    # The kernel finds rules with `find -name '*.cocci' -type f`.
    assert not [path for path in folder.rglob('*') if path.is_symlink()]
    (folder / 'evidence' / '__pycache__').mkdir()
    assert install.uninstall(str(kernel)) == []
    assert snapshot(kernel) == before
    assert not folder.exists()


def test_install_spares_files_that_are_not_ours(kernel: Path) -> None:
    folder = kernel / 'scripts' / 'coccinelle' / 'dma'
    theirs = folder / 'evidence' / 'kbuild.py'
    theirs.parent.mkdir(parents=True)
    theirs.write_text('# mine\n')
    before = snapshot(kernel)
    with pytest.raises(Trouble, match='is not what we installed'):
        install.install(str(kernel))
    assert snapshot(kernel) == before


def test_uninstall_leaves_what_was_changed(kernel: Path) -> None:
    folder = install.install(str(kernel))
    changed = folder / 'evidence' / 'kbuild.py'
    changed.write_text('# mine\n')
    assert install.uninstall(str(kernel)) == [changed]
    shutil.rmtree(folder / 'evidence')
    assert not any(folder.iterdir())


def test_missing_module_is_named(tmp_path: Path) -> None:
    # An interpreter that sees none of Debian's packages
    done = subprocess.run([sys.executable, '-S', str(ROOT / 'cocci-dma')],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'apt-get install python3-' in done.stderr
    assert 'Traceback' not in done.stderr

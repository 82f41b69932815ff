# SPDX-License-Identifier: GPL-2.0-only
"""The bench: every edu driver in QEMU, and that the bench itself can fail.

The kernel is built on the first run, and taken from the cache afterwards.
RUNTIME_PROFILE=kasan runs everything on the kernel with KASAN.
"""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cocci_dma import Trouble
from runtime import bench, case, kernel, kernel_source, ktap, matrix, qemu
from runtime import FOLDER, page, table, verdict
from conftest import ROOT

import kernel_tree
import test_page

SAMPLE = ROOT / 'driver-sample'
EDU = sorted(path.parent for path in
             (ROOT / 'tests/fixtures/edu').glob('*/Kbuild'))
CASES = [one for one in map(case.read, (SAMPLE, *EDU))
         if not bench.missing_rules(one)]
WRONG = [(one.name, wrong.name) for one in CASES for wrong in one.wrong]
LOGS = ROOT / 'tests' / 'data' / 'runtime'
PROFILE = os.environ.get('RUNTIME_PROFILE', 'default')

#: One process boots everything: it keeps all processors busy.
in_qemu = pytest.mark.xdist_group('runtime')


# --- The matrix -------------------------------------------------------------

@pytest.fixture(scope='session')
def results() -> bench.Results:
    """All cases, in all modes."""
    return bench.bench([one.folder for one in CASES],
                       bench.Options(profile=PROFILE))


def _rows(results: bench.Results, name: str, kind: str) -> list[matrix.Row]:
    return [row for row in results.rows
            if row.form.case.name == name and row.form.kind == kind]


def _problems(rows: list[matrix.Row]) -> str:
    return table.text([row for row in rows if row.problem], 120)


@in_qemu
@pytest.mark.parametrize('name', [one.name for one in CASES])
def test_old_form_fails_where_it_must(results: bench.Results,
                                      name: str) -> None:
    rows = _rows(results, name, 'old')
    assert [row.mode for row in rows] == list(qemu.MODES)
    assert all(row.verdict.transferred for row in rows)
    assert not any(row.problem for row in rows), _problems(rows)


@in_qemu
@pytest.mark.parametrize('name', [one.name for one in CASES])
def test_converted_form_passes_everywhere(results: bench.Results,
                                          name: str) -> None:
    """And returns a clean error whichever call fails."""
    rows = _rows(results, name, 'converted')
    assert [(row.mode, row.inject) for row in rows] == [
        *((mode, False) for mode in qemu.MODES), (matrix.INJECT_MODE, True)]
    assert not any(row.problem for row in rows), _problems(rows)
    assert any('_attrs 1' in step or 'dma_map_sg' in step
               for step in rows[-1].verdict.log), 'no call was made to fail'


@in_qemu
@pytest.mark.parametrize('name, wrong', WRONG)
def test_wrong_conversion_is_caught(results: bench.Results, name: str,
                                    wrong: str) -> None:
    row, = (row for row in _rows(results, name, 'wrong')
            if row.form.wrong.name == wrong)
    assert not row.problem, '%s\n%s' % (_problems([row]),
                                        '\n'.join(row.verdict.log))


#: Faults in memory that dma-debug knows nothing of: name -> (oracle, patch)
MEMORY_FAULTS = {
    'lost': ('kmemleak', """--- a/edu_main.c
+++ b/edu_main.c
@@ -77,5 +77,6 @@
 	bus = dma_map_single(dev, buf, count, DMA_TO_DEVICE);
 	if (dma_mapping_error(dev, bus)) {
 		ret = -ENOMEM;
-		goto out_unlock;
+		mutex_unlock(&edu->lock);
+		return ret;
 	}
"""),
    'twice': ('slub', """--- a/edu_main.c
+++ b/edu_main.c
@@ -91,5 +91,6 @@
 	mutex_unlock(&edu->lock);
 out_free:
 	kfree(buf);
+	kfree(buf);
 	return ret ? ret : count;
 }
"""),
}


@in_qemu
def test_memory_faults_are_caught(driver: Path) -> None:
    (driver / 'wrong').mkdir()
    lines = []
    for name, (oracle, patch) in MEMORY_FAULTS.items():
        (driver / 'wrong' / (name + '.patch')).write_text(patch)
        lines += ['[wrong.%s]' % name, 'oracle = "%s"' % oracle]
    (driver / case.FILE).write_text('\n'.join(lines))
    done = bench.bench([driver], bench.Options())
    wrong = {row.form.wrong.name: row for row in done.rows if row.form.wrong}
    assert set(wrong) == set(MEMORY_FAULTS)
    assert not any(row.problem for row in wrong.values()), _problems(
        list(wrong.values()))
    assert any('unreferenced object' in line
               for line in wrong['lost'].verdict.log)


@in_qemu
def test_page_of_the_matrix(results: bench.Results) -> None:
    """All that was run is on it; test_page.py looks at the page itself."""
    tree = test_page.parse(page.render(results))
    cells = test_page.cells_of(tree)
    assert len(cells) == len(results.rows)
    for row, (name, (state, words, _)) in zip(
            sorted(results.rows, key=_place_of), sorted(cells.items()),
            strict=True):
        assert name == _place_of(row)
        assert words.startswith(table.verdict(row)) and 'must ' in words
        assert state == ('bad' if row.problem else
                         'pass' if row.verdict.clean else 'foretold')
    diffs = [test_page.text_of(one) for one in
             tree.findall('.//pre[@class="code"]')]
    assert diffs == [results.conversions[one.name].diff.decode()
                     for one in CASES]
    left = {test_page.words_of(one).split(': ')[0].split()[-1] for one in
            tree.findall('.//details[@class="left-over"]/ul/li')}
    assert left == {'refused', 'note'}


def _place_of(row: matrix.Row) -> str:
    case_name = row.form.case.name
    return '%s %s %s' % (case_name, row.form.name[len(case_name) + 1:],
                         table.place(row))


# --- KTAP and verdicts ------------------------------------------------------

def _recorded(name: str) -> ktap.Log:
    return ktap.parse((LOGS / (name + '.log')).read_text('utf-8'))


def _judged(name: str) -> dict[str, verdict.Verdict]:
    """run -> verdict, for a recorded boot."""
    return {run.name: verdict.judge(run, 'the guest died')
            for run in _recorded(name).runs}


def test_ktap() -> None:
    log = ktap.parse('Linux version 6.12\nKTAP version 1\n1..2\n'
                     '  KTAP version 1\n  # Subtest: a.old\n  ok 1 load\n'
                     '[    1.25] DMAR: fault\r\n'
                     '  not ok 2 transfer # data: 1 of 2 bytes are wrong\n'
                     '  ok 3 unload # SKIP nothing to do\n  1..3\n'
                     'not ok 1 a.old\nbetween\n'
                     '  KTAP version 1\n  # Subtest: b.old\n  ok 1 load\n'
                     'Kernel panic - not syncing: Oops\n')
    assert log.planned == 2 and not log.trouble
    first, second = log.runs
    assert first.ended and not second.ended
    assert first.steps == [
        ktap.Step('load', True),
        ktap.Step('transfer', False, 'data: 1 of 2 bytes are wrong'),
        ktap.Step('unload', True, 'SKIP nothing to do')]
    assert first.steps[2].skipped
    assert 'DMAR: fault' in first.log
    assert 'between' in log.rest
    assert second.log[-1].startswith('Kernel panic')


@pytest.mark.parametrize('text, planned, trouble', [
    ('', None, ''),
    ('Linux version 6.12\nnothing more\n', None, ''),
    ('KTAP version 1\nBail out! no plan\n', None, 'no plan'),
    ('KTAP version 1\n1..1\n  # Subtest: a\n  ok 1 x\n  ok 3 y\n', 1,
     'a: step 3 follows step 1'),
    ('KTAP version 1\n1..1\n  # Subtest: a\n  ok 1 x\n  1..2\nok 1 a\n', 1,
     'a: 1 steps of 2'),
])
def test_ktap_that_is_none(text: str, planned: int | None,
                           trouble: str) -> None:
    log = ktap.parse(text)
    assert (log.planned, log.trouble) == (planned, trouble)


@pytest.mark.parametrize('line, oracle', [
    ('DMAR: [DMA Write NO_PASID] Request device [00:01.0] fault addr '
     '0x24f2000 [fault reason 0x05] PTE Write access is not set', 'iommu'),
    ('dmar_fault: 23 callbacks suppressed', 'iommu'),
    ('DMA-API: edu 0000:00:01.0: device driver failed to check map '
     'error[device address=0x1] [size=1 bytes] [mapped as single]',
     'dma-debug'),
    ('WARNING: CPU: 0 PID: 19 at kernel/dma/debug.c:1042 '
     'check_unmap+0x5b9/0x6e1', 'dma-debug'),
    ('BUG: KASAN: slab-use-after-free in edu_read+0x1/0x2 [edu]', 'kasan'),
    ('BUG: sleeping function called from invalid context at '
     'include/linux/sched/mm.h:337', 'sleep'),
    ('BUG: scheduling while atomic: init/19/0x00000002', 'sleep'),
    ('BUG kmalloc-64 (Tainted: G           O      ): Object already free',
     'slub'),
    ('WARNING: possible circular locking dependency detected', 'lockdep'),
    ('WARNING: lock held when returning to user space!', 'lockdep'),
    ('BUG: kernel NULL pointer dereference, address: 0000000000000008',
     'warning'),
    ('WARNING: CPU: 0 PID: 28 at drivers/iommu/dma-iommu.c:1230 '
     'iommu_dma_unmap_page+0x32/0x7d', 'warning'),
    ('Kernel panic - not syncing: Fatal exception', 'crash'),
    ('edu: loading out-of-tree module taints kernel.', None),
    ('DMA-API: Mapped at:', None),
    ('edu 0000:00:01.0: probe with driver edu failed with error -12', None),
    ('Warning: Processor Platform Limit event detected', None),
])
def test_what_a_line_says(line: str, oracle: str | None) -> None:
    run = ktap.Run('a.old', [ktap.Step('transfer', True)], [line], True)
    said = verdict.judge(run).oracles
    assert said == ((oracle,) if oracle else ())


@pytest.mark.parametrize('step, oracle', [
    (ktap.Step('load', False, 'No such device'), 'load'),
    (ktap.Step('bind again', False, 'no device is bound'), 'load'),
    (ktap.Step('transfer after it', False, 'write: Input/output error'),
     'data'),
    (ktap.Step('transfer', False, 'hangs for 60 seconds'), 'crash'),
    (ktap.Step('dma_alloc_attrs 2', False, 'no error, but data: 1 of 1'),
     'data'),
    (ktap.Step('mappings', False, '2 more than before'), 'dma-debug'),
    (ktap.Step('dma-debug', False, '2 errors'), 'dma-debug'),
    (ktap.Step('kmemleak', False, 'memory is lost'), 'kmemleak'),
])
def test_what_a_step_says(step: ktap.Step, oracle: str) -> None:
    judged = verdict.judge(ktap.Run('a.old', [step], [], True))
    assert judged.oracles == (oracle,)


def test_recorded_old_form() -> None:
    judged = _judged('old-iommu')['driver-sample.old']
    assert judged.oracles == ('data', 'iommu', 'dma-debug')
    assert judged.transferred and not judged.corrupted
    assert judged.said['data'] == [
        'transfer: data: 1019 of 1024 bytes are wrong, from byte 0 on',
        'transfer again: data: 1017 of 1024 bytes are wrong, from byte 0 on']
    assert 'in edu_write+0x197/0x1e9 [edu]' in judged.said['dma-debug']


def test_recorded_converted_form() -> None:
    every = _judged('converted-iommu')
    assert set(every) == {'driver-sample.converted'}
    assert every['driver-sample.converted'].clean


def test_recorded_injection() -> None:
    log = _recorded('inject')
    judged = _judged('inject')
    assert judged['driver-sample.converted.inject'].clean
    assert judged['kmemleak'].clean
    steps = [step.name for step in log.runs[0].steps]
    for call in ('dma_map_page_attrs 1', 'dma_alloc_attrs 1',
                 'dma_alloc_attrs 2', 'dma_set_mask 1'):
        assert call in steps


def test_recorded_panic() -> None:
    """The place and the last lines are shown."""
    judged = _judged('panic')['panic.converted']
    assert judged.oracles == ('warning', 'crash')
    assert any('in edu_read+' in line for line in judged.said['warning'])
    assert 'the guest died' in judged.said['crash']
    assert any('Kernel panic' in line for line in judged.said['crash'])
    assert judged.log[-1] in judged.said['crash']


def test_recorded_hang() -> None:
    """The guest itself notices, and goes no further."""
    log = _recorded('hang')
    assert '# stopped: the machine is no longer clean' in log.rest
    assert _judged('hang')['hang.converted'].said == {
        'crash': ['transfer: hangs for 60 seconds']}


def test_device_that_gives_up() -> None:
    """QEMU ends when a driver asks edu for what it does not have."""
    text = (LOGS / 'panic.log').read_text('utf-8')
    task = matrix.Task(replace(_task('panic').form, kind='converted'))
    batch = matrix.Batch('direct', (task,))
    said = 'qemu: hardware error: EDU: DMA range out of bounds'
    verdicts, again = matrix.judge_boot(batch, qemu.Boot(text, failure=said))
    assert said in verdicts['panic.converted', 'direct'].said['crash']
    assert not again


def test_a_corrupting_run_spoils_those_after_it() -> None:
    text = ('KTAP version 1\n1..2\n'
            '  # Subtest: a.old\n  ok 1 load\n'
            'DMA-API: edu 0000:00:01.0: device driver frees DMA memory with '
            'different size [device address=0x1] [map size=2] '
            '[unmap size=1]\n  1..1\nok 1 a.old\n'
            '  # Subtest: b.old\n  ok 1 load\n  1..1\nok 2 b.old\n')
    tasks = [_task('a'), _task('b')]
    batch = matrix.Batch('direct', tuple(tasks))
    verdicts, again = matrix.judge_boot(batch, qemu.Boot(text))
    assert [name for name, _ in verdicts] == ['a.old']
    assert again == [matrix.Batch('direct', (tasks[1],))]


def test_lost_memory_is_looked_for_alone() -> None:
    text = ('KTAP version 1\n1..3\n'
            '  # Subtest: a.old\n  ok 1 load\n  1..1\nok 1 a.old\n'
            '  # Subtest: b.old\n  ok 1 load\n  1..1\nok 2 b.old\n'
            '  # Subtest: kmemleak\n'
            '  not ok 1 kmemleak # memory is lost\n  1..1\n'
            'not ok 3 kmemleak\n')
    tasks = [_task('a'), _task('b')]
    batch = matrix.Batch('direct', tuple(tasks), memory_checks=True)
    verdicts, again = matrix.judge_boot(batch, qemu.Boot(text))
    assert not verdicts
    assert [one.tasks for one in again] == [(task,) for task in tasks]
    verdicts, again = matrix.judge_boot(again[0], qemu.Boot(text))
    assert verdicts['a.old', 'direct'].oracles == ('kmemleak',)
    assert not again


def _task(name: str) -> matrix.Task:
    folder = Path('/nowhere')
    return matrix.Task(matrix.Form(case.Case(name, folder), 'old', folder,
                                   folder, folder))


# --- Expectations -----------------------------------------------------------

def _said(*oracles: str) -> verdict.Verdict:
    return verdict.Verdict({oracle: ['line'] for oracle in oracles}, True)


@pytest.mark.parametrize('said, bad', [
    ({}, {}),
    ({'direct': ['data', 'dma-debug']},
     {'direct': 'data: should work here'}),
    ({'iommu': ['data', 'dma-debug']},
     {'iommu': 'should fail; silent: iommu'}),
    ({'iommu': ['dma-debug']}, {'iommu': 'should fail; silent: data, iommu'}),
    ({'direct': []}, {'direct': 'dma-debug is silent'}),
    ({'swiotlb': ['dma-debug', 'kasan']}, {'swiotlb': 'kasan: not expected'}),
])
def test_old_form_is_held_to_its_word(said: dict[str, list[str]],
                                      bad: dict[str, str]) -> None:
    sample = case.read(SAMPLE)
    default = {'direct': ['dma-debug'], 'swiotlb': ['dma-debug'],
               'iommu': ['data', 'iommu', 'dma-debug']}
    found = sample.old_is_as_expected({
        mode: _said(*oracles) for mode, oracles in (default | said).items()})
    assert found == dict.fromkeys(default, '') | bad


def test_junit(tmp_path: Path) -> None:
    form = _task('a').form
    rows = [matrix.Row(form, 'direct', False, _said()),
            matrix.Row(form, 'iommu', False, _said('data'), 'data <&> \x1b')]
    table.write_junit(rows, tmp_path / 'junit.xml')
    suite = ElementTree.parse(tmp_path / 'junit.xml').getroot()[0]
    assert suite.attrib == {'name': 'a', 'tests': '2', 'failures': '1'}
    assert [test.attrib['name'] for test in suite] == ['old direct',
                                                       'old iommu']
    assert len(suite.findall('testcase/failure')) == 1
    with pytest.raises(Trouble, match='nowhere/x.xml: cannot be written'):
        table.write_junit(rows, tmp_path / 'nowhere' / 'x.xml')


# --- Bad input --------------------------------------------------------------

def _bench(*arguments: object, **more: str
           ) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / 'cocci-dma'), 'bench-driver',
         *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**os.environ, **more})


def _in_trouble(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """Exit code 2, and one line on stderr that says all of `said`."""
    lines = [line for line in done.stderr.splitlines()
             if not line.startswith('building the kernel')]
    assert done.returncode == 2, done
    assert len(lines) == 1 and not done.stdout, done
    for word in said:
        assert word in lines[0], lines[0]


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """A copy of the sample driver, to be spoilt."""
    return shutil.copytree(SAMPLE, tmp_path / 'drv')


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for PATH, with links to all programs but QEMU."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for place in ('/bin', '/usr/bin'):
        for path in Path(place).iterdir():
            link = folder / path.name
            if path.name != qemu.PROGRAM and not link.exists():
                link.symlink_to(path)
    return folder


def test_no_folder() -> None:
    _in_trouble(_bench('/nowhere'), '/nowhere: no such folder')


@pytest.mark.parametrize('option', ['--junit', '--html'])
def test_results_that_cannot_be_written(tmp_path: Path, option: str) -> None:
    """Said before anything is built or booted."""
    target = tmp_path / 'nowhere' / 'results'
    _in_trouble(_bench(option, target, SAMPLE, PATH='/nowhere'), str(target),
                'cannot be written: No such file or directory')


@pytest.mark.parametrize('module', ['jinja2', 'pygments'])
def test_no_module_for_pages(tmp_path: Path, module: str) -> None:
    (tmp_path / (module + '.py')).write_text(
        'raise ModuleNotFoundError("no such module", name=__name__)\n')
    _in_trouble(_bench('--html', tmp_path / 'page.html', SAMPLE,
                       PYTHONPATH=str(tmp_path)),
                'a page needs the Python module ' + module,
                'apt-get install python3-' + module)
    assert not (tmp_path / 'page.html').exists()


def test_no_kbuild(tmp_path: Path) -> None:
    _in_trouble(_bench(tmp_path), str(tmp_path), 'neither Kbuild nor Makefile')


@pytest.mark.parametrize('text, said', [
    ('[old', 'is no TOML'),
    ('sumary = "x"', 'unknown key sumary'),
    ('[old]\ndirect = "pass"\n', 'swiotlb'),
    ('[old]\ndirect="pass"\nswiotlb="pass"\niommu="pass"\n'
     'oracles=["nobody"]\n', 'unknown oracle nobody'),
    ('[wrong.x]\noracle = "data"\n', 'wrong/x.patch is missing'),
    ('[tree]\nrelease = "2.4"\npaths = ["x"]\n', 'no kernel of Linux 2.4'),
    ('[tree]\nrelease = "5.10"\npaths = []\n', 'names no driver'),
    ('[tree]\nrelease = "5.10"\npaths = ["x"]\npatch = "y"\n',
     'y is missing'),
    ('[machine]\ndevice = "edu"\n', 'unknown key device'),
    ('[guest]\nprograms = ["x.sh"]\n', 'x.sh is missing'),
])
def test_bad_case_file(driver: Path, text: str, said: str) -> None:
    (driver / case.FILE).write_text(text)
    _in_trouble(_bench(driver), case.FILE, said)


def test_unknown_profile() -> None:
    _in_trouble(_bench(SAMPLE, RUNTIME_PROFILE='fast'), 'profile fast',
                'kasan')


def test_no_qemu(programs: Path) -> None:
    _in_trouble(_bench(SAMPLE, PATH=str(programs)), qemu.PROGRAM,
                'apt-get install ' + qemu.PACKAGE)


def test_no_kernel_source(monkeypatch: pytest.MonkeyPatch,
                          tmp_path: Path) -> None:
    monkeypatch.setattr(kernel_source, 'TARBALL', tmp_path / 'none.tar.xz')
    with pytest.raises(Trouble, match='apt-get install linux-source'):
        kernel.prepare()


def test_no_space(programs: Path, tmp_path: Path) -> None:
    """tar says it as it does when a disk is full."""
    (programs / 'tar').unlink()
    (programs / 'tar').write_text(
        '#!/bin/sh\necho "tar: COPYING: Cannot write: No space left on '
        'device" >&2\nexit 2\n')
    (programs / 'tar').chmod(0o755)
    (programs / qemu.PROGRAM).symlink_to('/usr/bin/' + qemu.PROGRAM)
    cache = tmp_path / 'cache'
    _in_trouble(_bench(SAMPLE, PATH=str(programs), XDG_CACHE_HOME=str(cache)),
                'no space left', 'XDG_CACHE_HOME')
    assert _folders(cache) == []


def _folders(cache: Path) -> list[Path]:
    """What was made, or half made, of kernels in a cache."""
    return [path for path in (cache / 'cocci-dma' / 'runtime').iterdir()
            if path.is_dir()]


def test_cache_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    _in_trouble(_bench(SAMPLE, XDG_CACHE_HOME=str(tmp_path / 'file')),
                'XDG_CACHE_HOME')


@in_qemu
@pytest.mark.parametrize('name', ['bzImage', 'build/Makefile', 'manifest'])
def test_damaged_cache(tmp_path: Path, name: str) -> None:
    folder = kernel.prepare().folder
    copy = tmp_path / 'cocci-dma' / 'runtime' / folder.name
    shutil.copytree(folder, copy, symlinks=True)
    (copy / name).write_bytes((copy / name).read_bytes()[:100])
    _in_trouble(_bench(SAMPLE, XDG_CACHE_HOME=str(tmp_path)), 'damaged',
                'rm -r %s' % copy)


def test_interrupted_kernel_build(tmp_path: Path) -> None:
    """Nothing half built is left in the cache, and no process."""
    child = subprocess.Popen(
        [sys.executable, str(ROOT / 'cocci-dma'), 'bench-driver',
         str(SAMPLE)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, 'XDG_CACHE_HOME': str(tmp_path)}, text=True)
    deadline = time.monotonic() + 120
    while not _there(tmp_path, 'cocci-dma/runtime/*.tmp/source/COPYING'):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=60)
    _in_trouble(subprocess.CompletedProcess([], child.returncode, out, err),
                'interrupted')
    assert _folders(tmp_path) == []
    assert not _processes_naming(tmp_path)


@in_qemu
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_boot(tmp_path: Path, number: signal.Signals) -> None:
    """No machine goes on without us, even if we are killed."""
    child = subprocess.Popen(
        [sys.executable, str(ROOT / 'cocci-dma'), 'bench-driver',
         str(SAMPLE)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, 'TMPDIR': str(tmp_path)}, text=True)
    deadline = time.monotonic() + 120
    while not _there(tmp_path, 'cocci-dma-*/*.log'):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while _processes_naming(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if number == signal.SIGTERM:
        _in_trouble(subprocess.CompletedProcess([], child.returncode, out,
                                                err), 'interrupted')
        assert not list(tmp_path.iterdir())


def test_killed_kernel_build_is_begun_anew(tmp_path: Path) -> None:
    def fill(work: Path) -> None:
        assert list(work.iterdir()) == []
        (work / 'whole').touch()

    left = tmp_path / 'key.tmp'
    left.mkdir()
    (left / 'half').touch()
    made = kernel_source.made(tmp_path / 'key', fill)
    assert [path.name for path in made.iterdir()] == ['whole']
    assert not left.exists()


def _there(folder: Path, pattern: str) -> bool:
    """Whether a path of the pattern exists, though folders come and go."""
    try:
        return bool(list(folder.glob(pattern)))
    except FileNotFoundError:
        return False


def _processes_naming(folder: Path) -> list[str]:
    """Command lines of running processes in which a folder occurs."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = path.read_bytes().decode('utf-8', 'replace')
        except OSError:
            continue
        if str(folder) in words:
            found.append(words.replace('\0', ' '))
    return found


@in_qemu
def test_module_that_does_not_compile(driver: Path) -> None:
    with (driver / 'edu_dma.c').open('a') as file:
        file.write('\nint broken = no_such_thing;\n')
    _in_trouble(_bench(driver), str(driver), 'old form does not build',
                'edu_dma.c', 'no_such_thing')


@in_qemu
def test_module_that_does_not_link(driver: Path) -> None:
    source = driver / 'edu_dma.c'
    source.write_text(source.read_text().replace(
        'irqreturn_t edu_irq(', 'void nobody_has_it(void);\n'
        'irqreturn_t edu_irq(', 1).replace(
        'complete(&edu->done);', 'nobody_has_it();'))
    _in_trouble(_bench(driver), 'does not build', 'nobody_has_it', 'edu.ko',
                'by --config')


@in_qemu
def test_kbuild_without_a_module(driver: Path) -> None:
    (driver / 'Kbuild').write_text('# nothing\n')
    _in_trouble(_bench(driver), str(driver), 'names no module')


@in_qemu
def test_guest_that_never_prints() -> None:
    """It is given no time to."""
    _in_trouble(_bench('--time-limit', '0.1', SAMPLE), 'says nothing')


@in_qemu
def test_unknown_device() -> None:
    _in_trouble(_bench('--device', 'no-such-device', SAMPLE), qemu.PROGRAM,
                'no-such-device')


@pytest.mark.parametrize('content, said', [
    (None, 'cannot be read: No such file or directory'),
    (b'CONFIG_NET=y\xff', 'is no text'),
])
def test_unusable_configuration(tmp_path: Path, content: bytes | None,
                                said: str) -> None:
    config = tmp_path / 'net.config'
    if content is not None:
        config.write_bytes(content)
    _in_trouble(_bench('--config', config, SAMPLE), '%s: %s' % (config, said))


@pytest.mark.parametrize('content, said', [
    (None, 'cannot be read'),
    (b'print(1)\n', 'neither a script nor a static program'),
    (b'#!/usr/bin/python3\n', 'only /bin/sh'),
])
def test_unusable_guest_program(tmp_path: Path, content: bytes | None,
                                said: str) -> None:
    program = tmp_path / 'program'
    if content is not None:
        program.write_bytes(content)
    _in_trouble(_bench('--guest', program, SAMPLE), str(program), said)


# --- A driver of one's own --------------------------------------------------

@in_qemu
def test_own_driver_and_guest_script(driver: Path, tmp_path: Path) -> None:
    """Nothing is expected of the old form; the folder stays as it is."""
    (driver / case.FILE).unlink()
    before = {path: path.read_bytes() for path in driver.iterdir()}
    script = tmp_path / 'script'
    script.write_text('#!/bin/sh\nset -e\necho "driving $1"\n'
                      'echo hello >"$1"\n[ "$(cat "$1")" = hello ]\n')
    done = _bench('--guest', script, '--device', 'edu', '--memory', '160',
                  '--junit', tmp_path / 'junit.xml',
                  '--html', tmp_path / 'page.html', driver)
    assert done.returncode == 0, done
    line = next(line.split() for line in done.stdout.splitlines()
                if 'converted' in line)
    assert line == ['converted', 'pass', 'pass', 'pass', 'pass']
    assert 'drv.old iommu: data, iommu, dma-debug' in done.stdout
    assert {path: path.read_bytes() for path in driver.iterdir()} == before
    assert 'program: driving /dev/edu' in (tmp_path / 'junit.xml').read_text()
    tree = test_page.parse((tmp_path / 'page.html').read_bytes())
    assert {name: state for name, (state, *_) in
            test_page.cells_of(tree).items()} == {
        **{'drv old ' + mode: 'seen' for mode in qemu.MODES},
        **{'drv converted ' + place: 'pass' for place in table.PLACES}}


NODELESS = '''// SPDX-License-Identifier: GPL-2.0-only
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/pci.h>

static int nodeless_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return dma_set_mask(&pdev->dev, DMA_BIT_MASK(28));
}

static const struct pci_device_id nodeless_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};

static struct pci_driver nodeless_driver = {
	.name		= "nodeless",
	.id_table	= nodeless_ids,
	.probe		= nodeless_probe,
};
module_pci_driver(nodeless_driver);

MODULE_DESCRIPTION("edu without a device node");
MODULE_LICENSE("GPL");
'''


@in_qemu
def test_driver_without_a_device_node(tmp_path: Path) -> None:
    """None of the many that other drivers have is taken for its own.

    Nor does the name of its folder trouble make, KTAP or the initramfs.
    """
    folder = tmp_path / 'my [bold]driver'
    folder.mkdir()
    (folder / 'nodeless.c').write_text(NODELESS)
    (folder / 'Makefile').write_text('obj-m := nodeless.o\n')
    done = _bench('--html', tmp_path / 'page.html', folder)
    assert done.returncode == 0, done
    cells = test_page.cells_of(
        test_page.parse((tmp_path / 'page.html').read_bytes()))
    assert len(cells) == 7
    assert {state for state, *_ in cells.values()} == {'idle'}
    assert done.stderr == ('my_bold_driver: note: no data was moved, for the driver '
                           'has no device node: drive it by --guest\n')


@in_qemu
def test_what_is_refused_is_told(driver: Path) -> None:
    """A driver of which nothing is expected, and whose device is not there."""
    (driver / case.FILE).unlink()
    source = driver / 'edu_main.c'
    source.write_text(source.read_text().replace(
        'edu->bounce = kmalloc(EDU_DATA_SIZE, GFP_KERNEL);',
        'edu->bounce = somebody_elses_buffer();').replace(
        'kfree(edu->bounce);', '').replace(
        'static struct edu_dev *edu_of(',
        'static u8 buffer[EDU_DATA_SIZE];\n\n'
        'static void *somebody_elses_buffer(void)\n{\n\treturn buffer;\n}'
        '\n\nstatic struct edu_dev *edu_of(', 1))
    done = _bench(driver)
    assert done.returncode == 1
    assert 'drv: edu_dma.c:' in done.stderr and 'refused' in done.stderr
    assert 'drv.converted iommu: data, iommu' in done.stdout


@pytest.mark.parametrize('target', ['runtime', 'runtime-real'])
@pytest.mark.parametrize('variable, said', [
    ('DRIVERS=/nowhere', '/nowhere: no such folder'),
    ('JUNIT=/nowhere/a b', '/nowhere/a b: cannot be written'),
    ('HTML=/nowhere/a b', '/nowhere/a b: cannot be written'),
])
def test_make_runtime(target: str, variable: str, said: str) -> None:
    """What it is told comes to the command."""
    done = subprocess.run(['make', '-s', '-C', str(ROOT), target, variable],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr


# --- The C sources ----------------------------------------------------------

def test_c_sources_are_in_kernel_style() -> None:
    done = subprocess.run(
        [str(kernel_tree.checkpatch()), '--strict', '--no-tree', '--quiet',
         '-f', *map(str, sorted(FOLDER.glob('*/**/*.[ch]')))],
        capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, '')

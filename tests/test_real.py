# SPDX-License-Identifier: GPL-2.0-only
"""Drivers of a kernel tree on the bench, all but the boots.

`make runtime-real` boots them; that takes too long to be a test.
"""
from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cocci_dma import Trouble, run
from evidence import kbuild
from runtime import (FOLDER, bench, case, forms, kernel, kernel_source, ktap,
                     matrix, qemu, table, verdict)
from conftest import ROOT

FOLDERS = sorted(path.parent for path in FOLDER.glob('real/*/Kbuild'))
CASES = [case.read(folder) for folder in FOLDERS]

NOWHERE = Path('/nowhere')
ONE = case.Case('one', NOWHERE, tree=case.Tree('5.10', ('drivers/one',)))


# --- The cases --------------------------------------------------------------

@pytest.mark.parametrize('one', CASES, ids=lambda one: one.name)
def test_case(one: case.Case) -> None:
    """It is whole; that it works is to be seen on the bench."""
    assert one.tree and one.machine and one.programs and one.summary
    assert kernel.PROFILES[one.tree.release].release == one.tree.release
    for program in one.programs:
        assert program.suffix == '.c' or os.access(program, os.X_OK) \
            and program.read_bytes().startswith(b'#!/bin/sh\n')
    assert re.search(r'^obj-m := \w', (one.folder / 'Kbuild').read_text(),
                     re.M)


def test_make_runs_them() -> None:
    done = subprocess.run(['make', '-n', '-C', str(ROOT), 'runtime-real'],
                          capture_output=True, text=True, check=True)
    assert {'runtime/real/' + one.name for one in CASES} <= set(
        done.stdout.split())


def test_all_of_them_fit_into_one_machine() -> None:
    options = bench.Options()
    devices = bench._devices(CASES, options)
    assert len(set(devices)) == len(devices) < sum(
        len(one.machine.devices) for one in CASES)
    words = bench._machine_options(CASES)
    ids = [re.search(r'\bid=(\w+)', word)[1] for word in words
           if not word.startswith('-')]
    assert len(set(ids)) == len(ids)
    wanted = {found for device in devices
              for found in re.findall(r'(?:netdev|drive)=(\w+)', device)}
    assert set(ids) == wanted
    assert bench._profile(CASES, options) == '5.10'


def test_drivers_with_a_machine_of_their_own_beside_others() -> None:
    sample = case.read(ROOT / 'driver-sample')
    one = replace(sample, machine=case.Machine(('other', 'edu')))
    assert bench._devices([one, sample], bench.Options()) == ['other', 'edu']


def test_drivers_of_several_kernels_at_once() -> None:
    with pytest.raises(Trouble, match='Linux 5.10 run on its kernel'):
        bench._profile([ONE, case.read(ROOT / 'driver-sample')],
                       bench.Options())


# --- The kernel -------------------------------------------------------------

def test_key_of_a_tree(tmp_path: Path) -> None:
    """Another release, another place, another fragment: another kernel."""
    makefile = tmp_path / 'Makefile'
    makefile.write_text('VERSION = 5\nPATCHLEVEL = 10\nSUBLEVEL = 223\n')
    keys = [kernel_source.key('a', tree=tmp_path),
            kernel_source.key('b', tree=tmp_path)]
    makefile.write_text('VERSION = 5\nPATCHLEVEL = 10\nSUBLEVEL = 224\n')
    keys.append(kernel_source.key('a', tree=tmp_path))
    (tmp_path / 'copy').mkdir()
    makefile.rename(tmp_path / 'copy' / 'Makefile')
    keys.append(kernel_source.key('a', tree=tmp_path / 'copy'))
    assert len(set(keys)) == len(keys)
    assert kernel_source.key('a', tree=tmp_path / 'copy') == keys[-1]


def test_cache_behind_a_link(tmp_path: Path,
                             monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree is where the paths of its drivers are said to be."""
    (tmp_path / 'there').mkdir()
    (tmp_path / 'there' / 'Makefile').write_text('VERSION = 5\n')
    (tmp_path / 'link').symlink_to('there')
    monkeypatch.setattr(kernel.trees, 'tree', lambda _: tmp_path / 'link')
    monkeypatch.setattr(kernel_source, 'made', lambda folder, make: folder)
    monkeypatch.setattr(kernel, '_require_whole', lambda folder: None)
    assert kernel.prepare('5.10').tree == tmp_path.resolve() / 'there'


# --- The forms --------------------------------------------------------------

DRIVER = '''#include <linux/pci.h>

int one_open(struct one *one)
{
	one->ring = pci_alloc_consistent(one->pdev, 64, &one->ring_dma);
	return one->ring ? 0 : -ENOMEM;
}
'''

PATCH = '''--- a/drivers/one/one.c
+++ b/drivers/one/one.c
@@ -1,3 +1,3 @@
-#include <linux/pci.h>
+#include "other.h"
 
 int one_open(struct one *one)
'''


@pytest.fixture
def tree(tmp_path: Path) -> kernel.Kernel:
    """A kernel tree with a driver and what is no part of it."""
    folder = tmp_path / 'tree' / 'drivers' / 'one'
    folder.mkdir(parents=True)
    (folder / 'one.c').write_text(DRIVER)
    (folder / 'other.c').write_text(DRIVER)
    (folder / 'Makefile').write_text('obj-$(CONFIG_ONE) += one.o\n'
                                     'obj-$(CONFIG_OTHER) += other.o\n')
    return kernel.Kernel('5.10', NOWHERE, tmp_path / 'tree')


@pytest.fixture
def one(tmp_path: Path) -> case.Case:
    folder = tmp_path / 'one'
    folder.mkdir()
    (folder / 'Kbuild').write_text('obj-m := one.o\n')
    (folder / 'one.patch').write_text(PATCH)
    (folder / case.FILE).write_text(
        '[tree]\nrelease = "5.10"\npaths = ["drivers/one/one.c"]\n'
        'patch = "one.patch"\n')
    return case.read(folder)


def test_forms_of_a_tree(tree: kernel.Kernel, one: case.Case, tmp_path: Path,
                         monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of what makes up the driver, and the Kbuild of the case.

    The conversion is that of the driver in its tree; the patch comes to both
    forms, and the tree stays as it is.
    """
    before = {path: path.read_bytes() for path in
              tree.tree.rglob('*') if path.is_file()}
    monkeypatch.setattr(forms, '_build', lambda *_: None)
    (old, converted), conversions = forms.make([one], tree, tmp_path / 'work',
                                               run.Options())
    for form in (old, converted):
        assert {str(path.relative_to(form.place)) for path in
                form.place.rglob('*') if path.is_file()} == {
            'drivers/one/one.c', 'drivers/one/Kbuild'}
        assert (form.folder / 'Kbuild').read_text() == 'obj-m := one.o\n'
        assert '"other.h"' in (form.folder / 'one.c').read_text()
    assert 'pci_alloc_consistent' in (old.folder / 'one.c').read_text()
    text = (converted.folder / 'one.c').read_text()
    assert 'dma_alloc_coherent(&one->pdev->dev' in text
    assert not converted.unchanged and converted.label == 'converted'
    diff = conversions['one'].diff.decode()
    assert diff.startswith('--- a/drivers/one/one.c\n')
    assert 'other.h' not in diff
    assert before == {path: path.read_bytes() for path in before}


def test_nothing_is_converted(tree: kernel.Kernel, one: case.Case,
                              tmp_path: Path,
                              monkeypatch: pytest.MonkeyPatch) -> None:
    """The table must not claim a conversion."""
    source = tree.tree / 'drivers/one/one.c'
    source.write_text(DRIVER.replace('pci_alloc_consistent', 'my_alloc'))
    monkeypatch.setattr(forms, '_build', lambda *_: None)
    (_, converted), conversions = forms.make([one], tree, tmp_path / 'work',
                                             run.Options())
    assert converted.unchanged and converted.label == 'unchanged'
    assert not conversions['one'].diff


def test_driver_that_is_not_in_the_tree(tree: kernel.Kernel, one: case.Case
                                        ) -> None:
    gone = replace(one, tree=case.Tree('5.10', ('drivers/two',)))
    with pytest.raises(Trouble, match='there is no drivers/two in'):
        forms._sources(gone, tree)


def test_patch_that_does_not_apply(tree: kernel.Kernel, one: case.Case,
                                   tmp_path: Path) -> None:
    (tree.tree / 'drivers/one/one.c').write_text('int x;\n')
    form = forms._place(one, 'old', kbuild.drivers(
        forms._sources(one, tree)), tmp_path / 'work', tree)
    with pytest.raises(Trouble, match='one.patch: does not apply to the old'):
        forms._patch(form.place, one.tree.patch, form.kind)


# --- What is run ------------------------------------------------------------

def _form(kind: str = 'old', one: case.Case = ONE) -> forms.Form:
    return forms.Form(one, kind, NOWHERE, NOWHERE, NOWHERE)


def test_both_forms_have_their_calls_fail() -> None:
    every = [_form('old'), _form('converted')]
    batches = list(matrix._plan(every, False))
    failing = [batch for batch in batches if batch.tasks[0].inject]
    assert [batch.tasks for batch in failing] == [
        (matrix.Task(form, True),) for form in every]
    assert all(batch.memory_checks for batch in failing)
    plain = [(batch.mode, task.form.kind) for batch in batches
             for task in batch.tasks if not task.inject]
    assert sorted(plain) == sorted(
        (mode, kind) for mode in qemu.MODES for kind in ('old', 'converted'))


def test_programs_of_a_case() -> None:
    """They go before that of the whole bench; C comes compiled."""
    own = replace(ONE, programs=(NOWHERE / 'own.sh', NOWHERE / 'own.c'))
    guest = matrix.Guest(NOWHERE / 'init', NOWHERE / 'inject',
                         NOWHERE / 'common',
                         {NOWHERE / 'own.c': NOWHERE / 'compiled'})
    batch = matrix.Batch('direct', (matrix.Task(_form(one=own)),
                                    matrix.Task(_form('converted'))))
    files = matrix._contents(batch, guest, NOWHERE / 'plan')
    assert files['/m/one.old/own.sh'] == NOWHERE / 'own.sh'
    assert files['/m/one.old/own.c'] == NOWHERE / 'compiled'
    assert files['/program'] == NOWHERE / 'common'
    plan = matrix._plan_file(batch, guest).splitlines()
    assert [line for line in plan if line.startswith('program')] == [
        'program /m/one.old/own.sh', 'program /m/one.old/own.c',
        'program /program']


#: A run in which the second of four calls kills the guest.
DEADLY = '''KTAP version 1
1..2
  KTAP version 1
  # Subtest: one.old.inject
  ok 1 load
  ok 2 transfer
  ok 3 unload
  # 4 of 9 calls shall fail
  # dma_alloc_attrs 1 fails
  ok 4 dma_alloc_attrs 1
  # load: Cannot allocate memory
  ok 5 unload after it
  ok 6 dma-debug
  # dma_map_page_attrs 1 fails
BUG: kernel NULL pointer dereference, address: 0000000000000008
Kernel panic - not syncing: Fatal exception
'''

#: The rest of it: the third does harm that is seen, the fourth does none.
REST = '''KTAP version 1
1..2
  KTAP version 1
  # Subtest: one.old.inject
  ok 1 load
  # 4 of 9 calls shall fail
  # dma_map_page_attrs 2 fails
  ok 2 dma_map_page_attrs 2
  # transfer: no error
  not ok 3 transfer after it # the program exits with 1
  not ok 4 dma-debug # 3 errors
  # dma_map_page_attrs 3 fails
  ok 5 dma_map_page_attrs 3
  # transfer: no error
  1..5
not ok 1 one.old.inject
'''


def test_calls_after_a_deadly_one() -> None:
    """They fail in another boot, and all is told as one result."""
    form = _form()
    batch = matrix.Batch('iommu', (matrix.Task(form, True),), True)
    first, again = matrix.judge_boot(batch, qemu.Boot(DEADLY))
    assert again == [replace(batch, tasks=(matrix.Task(form, True, 2, 1),))]
    assert 'skip 2' in matrix._plan_file(
        again[0], matrix.Guest(NOWHERE, NOWHERE)).splitlines()
    second, again = matrix.judge_boot(again[0], qemu.Boot(REST))
    assert not again
    whole = first['one.old.inject', 'iommu']
    whole.add(second['one.old.inject', 'iommu'])
    assert list(verdict.failed_calls(whole)) == [
        verdict.FailedCall('dma_alloc_attrs 1',
                           'load: Cannot allocate memory', ()),
        verdict.FailedCall('dma_map_page_attrs 1', 'the guest ends',
                           ('warning', 'crash')),
        verdict.FailedCall('dma_map_page_attrs 2', 'transfer: no error',
                           ('data', 'dma-debug')),
        verdict.FailedCall('dma_map_page_attrs 3', 'transfer: no error', ())]
    row = matrix.Row(form, 'iommu', True, whole)
    assert table.verdict(row) == \
        '2/4 data:1 dma-debug:1 warning:1 crash:1'


def test_deadly_calls_are_not_tried_for_ever() -> None:
    form = _form()
    batch = matrix.Batch('iommu', (matrix.Task(
        form, True, deadly=matrix._DEADLY - 1),), True)
    verdicts, again = matrix.judge_boot(batch, qemu.Boot(DEADLY))
    assert not again
    row = matrix.Row(form, 'iommu', True, verdicts['one.old.inject', 'iommu'])
    assert table.verdict(row) == '1/2 of 4 warning:1 crash:1'


def test_many_calls_are_more_than_one_boot(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any driver, and that is no fault of theirs."""
    monkeypatch.setattr(matrix, '_CALLS', 2)
    for tree in (None, ONE.tree):
        form = _form(one=replace(ONE, tree=tree))
        batch = matrix.Batch('iommu', (matrix.Task(form, True, 1, 7),), True)
        _, again = matrix.judge_boot(batch, qemu.Boot(DEADLY))
        assert [one.tasks for one in again] == [
            (matrix.Task(form, True, 3, 7),)]


def test_any_other_driver_has_enough_of_one_deadly_call() -> None:
    form = _form(one=replace(ONE, tree=None))
    batch = matrix.Batch('iommu', (matrix.Task(form, True),), True)
    verdicts, again = matrix.judge_boot(batch, qemu.Boot(DEADLY))
    assert 'crash' in verdicts['one.old.inject', 'iommu'].said
    assert not again


# --- What is told -----------------------------------------------------------

def _verdict(*steps: ktap.Step) -> verdict.Verdict:
    return verdict.judge(ktap.Run(
        'one', [ktap.Step('transfer', True), *steps], [], True))


ERRORS = ktap.Step('dma-debug', False, '143 errors')
LOST = ktap.Step('transfer again', False, 'the program exits with 1')


def test_the_errors_are_counted() -> None:
    row = matrix.Row(_form(), 'direct', False, _verdict(ERRORS, LOST))
    assert table.verdict(row) == 'data dma-debug:143'
    other = matrix.Row(_form(one=replace(ONE, tree=None)), 'direct', False,
                       row.verdict)
    assert table.verdict(other) == 'data dma-debug'


@pytest.mark.parametrize('old, converted, problem', [
    ((), (), ''),
    ((ERRORS, LOST), (ERRORS,), ''),
    ((ERRORS,), (ERRORS, LOST), 'data'),
    ((), (ERRORS,), 'dma-debug'),
])
def test_converted_form_is_held_to_the_old_one(
        old: tuple[ktap.Step, ...], converted: tuple[ktap.Step, ...],
        problem: str) -> None:
    """What the rules leave to a person may stay; nothing may get worse."""
    verdicts = {('one.old', 'direct'): _verdict(*old),
                ('one.converted', 'direct'): _verdict(*converted)}
    assert _problems(verdicts) == [('old', ''), ('converted', problem)]


def _problems(verdicts: dict[tuple[str, str], verdict.Verdict]
              ) -> list[tuple[str, str]]:
    return [(row.form.kind, row.problem) for row in matrix._rows(
        [_form('old'), _form('converted')], verdicts)]


#: A call that fails, and what comes of it, by the worst oracle.
CALLS = {
    '': '  # dma_alloc_attrs 1 fails\n  # load: Cannot allocate memory\n',
    'data': '  # dma_alloc_attrs 1 fails\n  # load: no error\n'
            '  not ok 2 transfer after it # the program exits with 1\n',
    'lost': '  # dma_alloc_attrs 1 fails\n  # load: no error\n',
    'crash': '  # dma_alloc_attrs 1 fails\nBUG: something\n',
}


@pytest.mark.parametrize('old, converted, problem', [
    (('', 'crash'), ('', 'data'), ''),
    (('data', 'data'), ('', 'data', ''), ''),
    (('data',), ('', 'data', 'data'), ''),
    (('', ''), ('', 'data'), '1 calls do harm, 0 in the old form'),
    (('data',), ('crash',), '1 calls are deadly, 0 in the old form'),
    (('', 'data'), ('', 'lost'), 'memory is lost, and not in the old form'),
    (('lost',), ('lost',), ''),
])
def test_failing_calls_of_both_forms(old: tuple[str, ...],
                                     converted: tuple[str, ...],
                                     problem: str) -> None:
    def run(calls: tuple[str, ...]) -> verdict.Verdict:
        return verdict.Verdict(
            {'kmemleak': ['memory is lost']} if 'lost' in calls else {},
            log=''.join(CALLS[one] for one in calls).splitlines())

    assert _problems({
        ('one.old.inject', 'iommu'): run(old),
        ('one.converted.inject', 'iommu'): run(converted)}) == [
        ('old', ''), ('converted', problem)]


def test_lost_memory_is_the_doing_of_no_single_call() -> None:
    log = (CALLS[''] + '  # Subtest: kmemleak\n'
           '  not ok 1 kmemleak # memory is lost\n').splitlines()
    lost = verdict.Verdict({'kmemleak': ['memory is lost']}, log=log)
    assert [one.oracles for one in verdict.failed_calls(lost)] == [()]
    assert table.verdict(matrix.Row(_form(), 'iommu', True, lost)) == \
        '1/1 kmemleak'


def test_what_is_heard_without_a_failing_call_is_not_its_doing() -> None:
    """But mappings that it leaves are."""
    said = 'DMA-API: one 0000:00:01.0: device driver failed to check map error'
    log = [said, '  # dma_alloc_attrs 1 fails', said,
           '  # load: Cannot allocate memory',
           '  not ok 2 dma-debug # 1 errors',
           '  # dma_alloc_attrs 2 fails', '  # load: Cannot allocate memory',
           '  not ok 3 mappings # 2 more than before']
    assert [one.oracles for one in verdict.failed_calls(
        verdict.Verdict(log=log))] == [(), ('dma-debug',)]

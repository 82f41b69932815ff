# SPDX-License-Identifier: GPL-2.0-only
"""Cases x forms x modes, and every call that can fail: boots, and verdicts.

As many runs as possible share a boot.  The guest stops after a run that leaves
the machine unclean; the runs that it did not come to get another boot.
"""
from __future__ import annotations

import threading
from concurrent import futures
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Iterable, Iterator, Mapping, Sequence

from cocci_dma import Trouble

from . import initramfs, ktap
from .case import Case, Wrong
from .forms import Form
from .kernel import Kernel
from .qemu import MODES, PROGRAM, Boot, Qemu
from .verdict import (MEMORY_ORACLES, Verdict, calls_done, failed_calls,
                      judge)

#: Where calls are made to fail: there, the device cannot use an address that
#: it was never given without being noticed.
INJECT_MODE = 'iommu'

#: Machines at once.
PARALLEL = 2

#: Runs in one boot, and calls of one run that fail in it: more would make the
#: other processors wait for it.
_RUNS = 40
_CALLS = 40

#: Calls that may end the guest before the rest of them is left alone: each
#: costs a boot.
_DEADLY = 20

#: Called with the number of runs done and of all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Task:
    """One run of a driver in a guest.

    skip: calls that have had their failure in earlier boots.  deadly: how many
    of them left the machine of no more use.
    """

    form: Form
    inject: bool = False
    skip: int = 0
    deadly: int = 0

    @property
    def name(self) -> str:
        """A word for KTAP."""
        return self.form.name + ('.inject' if self.inject else '')


@dataclass(frozen=True)
class Batch:
    """A boot, and what shall run in it.

    memory_checks: look for memory that is lost, freed twice or overwritten,
    which takes longer.  wrong: this form alone, and only until its
    oracle speaks.
    """

    mode: str
    tasks: tuple[Task, ...]
    memory_checks: bool = False
    wrong: Wrong | None = None

    def is_enough(self, said: str) -> bool:
        """Has the guest said what is waited for?"""
        return self.wrong is not None and any(
            self.wrong.oracle in judge(one).said
            for one in ktap.parse(said).runs)


@dataclass
class Row:
    """One result.  problem: what is not as expected, or ''."""

    form: Form
    mode: str
    inject: bool
    verdict: Verdict
    problem: str = ''

    @property
    def name(self) -> str:
        """A name that no other row has."""
        return '%s %s%s' % (self.form.name, self.mode,
                            ' inject' if self.inject else '')


@dataclass(frozen=True)
class Guest:
    """What goes into every initramfs.

    program: the user's own instead of ours for /dev/edu, where a case does
    not bring any.  compiled: what became of those that are C files.  shell:
    for those that are scripts.
    """

    init: Path
    inject: Path
    program: Path | None = None
    compiled: Mapping[Path, Path] = field(default_factory=dict)
    shell: Path | None = None


@dataclass
class Matrix:
    """Runs batches, two at a time.  work: a folder for logs and the like."""

    kernel: Kernel
    qemu: Qemu
    guest: Guest
    work: Path
    progress: Progress | None = None
    _number: int = 0
    _done: int = 0
    _total: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, forms: Sequence[Form]) -> list[Row]:
        """Everything for these forms, and what is not as expected of it.

        Raises Trouble when a guest does not even start.
        """
        batches = list(_plan(forms, self.kernel.profile == 'kasan'))
        self._total = sum(len(batch.tasks) for batch in batches)
        verdicts: dict[tuple[str, str], Verdict] = {}
        with futures.ThreadPoolExecutor(PARALLEL) as pool:
            pending = {pool.submit(self._boot, batch) for batch in batches}
            try:
                while pending:
                    done, pending = futures.wait(
                        pending, return_when=futures.FIRST_COMPLETED)
                    for future in done:
                        found, again = future.result()
                        for key, verdict in found.items():
                            if key in verdicts:
                                verdicts[key].add(verdict)
                            else:
                                verdicts[key] = verdict
                        pending |= {pool.submit(self._boot, batch)
                                    for batch in again}
                        self._tell(len(found))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.qemu.stop()
                raise
        return list(_rows(forms, verdicts))

    def _tell(self, done: int) -> None:
        self._done += done
        if self.progress:
            self.progress(min(self._done, self._total), self._total)

    def _boot(self, batch: Batch) -> tuple[dict[tuple[str, str], Verdict],
                                           list[Batch]]:
        """Boot once: the verdicts, and what is left to be booted."""
        with self._lock:
            self._number += 1
            stem = self.work / str(self._number)
        plan = stem.with_suffix('.plan')
        plan.write_text(_plan_file(batch, self.guest), encoding='utf-8')
        image = stem.with_suffix('.cpio')
        initramfs.write(self.kernel, image,
                        _contents(batch, self.guest, plan))
        boot = self.qemu.boot(batch.mode, image, stem.with_suffix('.log'),
                              batch.memory_checks,
                              batch.is_enough if batch.wrong else None)
        image.unlink()
        return judge_boot(batch, boot)


# --- What is to be run ------------------------------------------------------

def _plan(forms: Sequence[Form], kasan: bool) -> Iterator[Batch]:
    """The boots for these forms, the longest first."""
    def together(mode: str, tasks: Iterable[Task],
                 checks: bool) -> Iterator[Batch]:
        every = tuple(tasks)
        count = -(-len(every) // _RUNS)
        for number in range(count):
            yield Batch(mode, every[number::count], checks)

    converted = [form for form in forms if form.kind == 'converted']
    # Those of a kernel tree have many calls: alone, and the old form, too,
    # whose failures are to be compared
    alone = [form for form in forms if form.case.tree and not form.wrong]
    for form in alone:
        yield Batch(INJECT_MODE, (Task(form, True),), True)
    few = [form for form in converted if form not in alone]
    half = (len(few) + 1) // 2
    for part in (few[:half], few[half:]):
        yield from together(INJECT_MODE, (Task(form, True) for form in part),
                            True)
    for mode in MODES:
        yield from together(mode, map(Task, converted), kasan)
        yield from together(mode, (Task(form) for form in forms
                                   if form.kind == 'old'), False)
    for form in forms:
        if form.wrong:
            yield Batch(form.wrong.mode, (Task(form), Task(form, True)),
                        form.wrong.oracle in MEMORY_ORACLES, form.wrong)


def _plan_file(batch: Batch, guest: Guest) -> str:
    """What guest/init.c reads."""
    lines = ['kmemleak %d' % batch.memory_checks]
    for task in batch.tasks:
        case = task.form.case
        lines.append('run %s' % task.name)
        lines += ('module %s' % path for path in _modules(task.form))
        lines += ('size %d' % size for size in
                  (case.sizes[:1] if task.inject else case.sizes))
        lines.append('rounds %d' % (1 if task.inject else case.rounds))
        lines.append('inject %d' % task.inject)
        # A ring of buffers is one place in the code
        lines += ['skip %d' % task.skip, 'most %d' % _CALLS,
                  'some %d' % bool(case.tree)]
        if case.node:
            lines.append('node %s' % case.node)
        lines += ('program %s' % path for path in _programs(task.form, guest))
    return '\n'.join(lines) + '\n'


def _modules(form: Form) -> dict[str, Path]:
    """path in the guest -> file, in the order in which they are loaded."""
    return {'/m/%s/%s' % (form.name, path.name): path
            for path in form.modules}


def _programs(form: Form, guest: Guest) -> dict[str, Path]:
    """path in the guest -> file of what drives the device, if not we do."""
    if form.case.programs:
        return {'/m/%s/%s' % (form.name, path.name):
                guest.compiled.get(path, path) for path in form.case.programs}
    return {'/program': guest.program} if guest.program else {}


def _contents(batch: Batch, guest: Guest, plan: Path) -> dict[str, Path]:
    """The files of the initramfs."""
    files = {'/init': guest.init, '/plan': plan,
             '/dma_inject.ko': guest.inject}
    if guest.shell:
        files['/bin/busybox'] = files['/bin/sh'] = guest.shell
    for task in batch.tasks:
        files |= _modules(task.form) | _programs(task.form, guest)
    return files


# --- What came of it --------------------------------------------------------

def judge_boot(batch: Batch, boot: Boot
           ) -> tuple[dict[tuple[str, str], Verdict], list[Batch]]:
    """Verdicts of a boot by (task, mode), and what must be booted again."""
    log = ktap.parse(boot.log)
    end = None if boot.enough else 'the guest fell silent' \
        if boot.timed_out else boot.failure or 'the guest died'
    if boot.failure and log.planned is None:
        raise Trouble('%s: %s' % (PROGRAM, boot.failure))
    if log.planned is None:
        raise Trouble('the guest (%s) says nothing%s: %s' % (
            batch.mode, ' until its time is over' if boot.timed_out else '',
            log.trouble or _last(boot.log)))
    runs = {run.name: run for run in log.runs}
    verdicts: dict[tuple[str, str], Verdict] = {}
    spoilt = False
    for task in batch.tasks:
        if task.name not in runs or spoilt:
            continue
        verdict = judge(runs[task.name], end)
        verdicts[task.name, batch.mode] = verdict
        spoilt = verdict.corrupted or 'crash' in verdict.said
    left = tuple(task for task in batch.tasks
                 if (task.name, batch.mode) not in verdicts)
    if not verdicts:
        raise Trouble('the guest (%s) runs nothing: %s' % (
            batch.mode, log.trouble or _last(boot.log)))
    again = []
    if left and not batch.wrong:
        again = [replace(batch, tasks=left)]
    elif 'kmemleak' in runs:
        leaks = judge(runs['kmemleak'], end)
        if leaks.said and len(batch.tasks) > 1 and not batch.wrong:
            # Whose are they?
            return {}, [replace(batch, tasks=(task,))
                        for task in batch.tasks]
        for verdict in verdicts.values():
            for oracle, lines in leaks.said.items():
                verdict.said.setdefault(oracle, []).extend(lines)
            verdict.log = verdict.log + leaks.log
    return verdicts, again + list(_further(batch, runs))


def _further(batch: Batch, runs: dict[str, ktap.Run]) -> Iterator[Batch]:
    """What is left of a run whose calls were too many for a boot.

    Or when one of them has ended it: where that is no driver of a kernel tree,
    it says all.
    """
    for task in batch.tasks:
        if task.name not in runs:
            continue
        total, done = calls_done(runs[task.name].log)
        deadly = task.deadly + (done < _CALLS)
        if 0 < done < total - task.skip and (
                done >= _CALLS or task.form.case.tree and deadly < _DEADLY):
            yield replace(batch, tasks=(replace(
                task, skip=task.skip + done, deadly=deadly),))


def _last(log: str) -> str:
    """The end of a log, in one line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return ' / '.join(lines[-3:]) or 'its console is empty'


def _rows(forms: Sequence[Form],
          verdicts: dict[tuple[str, str], Verdict]) -> Iterator[Row]:
    """All results, case by case, and what is wrong with them."""
    order = list(dict.fromkeys(form.case.name for form in forms))
    for form in sorted(forms, key=lambda form: order.index(form.case.name)):
        mine = {mode: verdicts[form.name, mode] for mode in MODES
                if (form.name, mode) in verdicts}
        injected = verdicts.get((form.name + '.inject', form.wrong.mode
                                 if form.wrong else INJECT_MODE))
        if form.kind == 'old':
            problems = form.case.old_is_as_expected(mine)
            for mode, verdict in mine.items():
                yield Row(form, mode, False, verdict, problems[mode])
            if injected:
                yield Row(form, INJECT_MODE, True, injected)
        elif form.wrong is None:
            # What the old form of a driver does wrong, too, may be what the
            # rules leave to a person: worse than that it must not get
            old = '%s.old' % form.case.name if form.case.tree else ''
            for mode, verdict in mine.items():
                yield Row(form, mode, False, verdict, _unclean(
                    form.case, verdict, verdicts.get((old, mode))))
            if injected:
                old_calls = verdicts.get((old + '.inject', INJECT_MODE))
                yield Row(form, INJECT_MODE, True, injected,
                          _worse(injected, old_calls) if old_calls
                          else _unclean(form.case, injected, None))
        else:
            yield _wrong_row(form, mine, injected)


def _unclean(case: Case, verdict: Verdict, old: Verdict | None) -> str:
    """What is wrong with a converted form, or ''.

    old: the verdict on the old form, if that is all that it is held to.
    """
    oracles = [oracle for oracle in verdict.oracles
               if old is None or oracle not in old.said]
    if oracles:
        return ', '.join(oracles)
    if case.works is not None and not verdict.transferred:
        return 'no data was moved'
    return ''


def _worse(verdict: Verdict, old: Verdict) -> str:
    """What is worse than in the old form when calls fail, or ''.

    In numbers: which call is the n-th is a matter of chance.  Of one form
    fewer may have been tried.
    """
    now, before = ([one.oracles for one in failed_calls(each)]
                   for each in (verdict, old))
    tried = min(len(now), len(before))
    now, before = now[:tried], before[:tried]
    harm = [sum(map(bool, each)) for each in (now, before)]
    crashes = [sum('crash' in one for one in each) for each in (now, before)]
    if harm[0] > harm[1]:
        return '%d calls do harm, %d in the old form' % tuple(harm)
    if crashes[0] > crashes[1]:
        return '%d calls are deadly, %d in the old form' % tuple(crashes)
    if 'kmemleak' in verdict.said and 'kmemleak' not in old.said:
        return 'memory is lost, and not in the old form'
    return ''


def _wrong_row(form: Form, mine: dict[str, Verdict],
               injected: Verdict | None) -> Row:
    """A wrong conversion: its oracle must have spoken, with injected calls
    or without."""
    assert form.wrong is not None
    (mode, verdict), = mine.items()
    by_injection = form.wrong.oracle not in verdict.said and \
        injected is not None
    if injected is not None and by_injection:
        verdict = injected
    problem = '' if form.wrong.oracle in verdict.said else \
        '%s is silent' % form.wrong.oracle
    return Row(form, mode, by_injection, verdict, problem)

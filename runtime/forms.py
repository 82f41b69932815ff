# SPDX-License-Identifier: GPL-2.0-only
"""The forms of a driver that are run: old, converted, wrongly converted.

All are copies.  The converted one is what the rules make of it right now.
"""
from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Iterable, Iterator, Sequence

from cocci_dma import Trouble, report, rules, run
from cocci_dma.findings import Finding
from evidence import kbuild

from . import COMPAT_HEADER, FOLDER, kernel_source
from .case import FILE, Case, Wrong
from .kernel import Kernel

#: What building leaves, and what is no part of a driver.
_IGNORED = shutil.ignore_patterns(
    '*.o', '*.ko', '*.mod', '*.mod.c', '.*.cmd', 'Module.symvers',
    'modules.order', '.git', FILE, 'wrong')


@dataclass
class Form:
    """A copy of a driver.  modules: what was built of it, in their order.

    tree: a folder of copies that are built together; place: this one's
    folder in it, which also holds headers from outside of the driver's.
    """

    case: Case
    kind: str           # old, converted or wrong
    tree: Path
    place: Path
    folder: Path
    wrong: Wrong | None = None
    modules: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """A word that nothing else in a matrix has."""
        tail = '.' + self.wrong.name if self.wrong else ''
        return '%s.%s%s' % (self.case.name, self.kind, tail)


@dataclass
class Conversion:
    """What the rules did to a case, and what they left to a person."""

    diff: bytes = b''
    left_over: list[Finding] = field(default_factory=list)


def make(cases: Sequence[Case], kernel: Kernel, work: Path,
         options: run.Options
         ) -> tuple[list[Form], dict[str, Conversion]]:
    """All forms of all cases, built; and case -> its conversion.

    work: an empty folder for them.  Raises Trouble.
    """
    drivers = {case.name: kbuild.drivers([str(case.folder)])
               for case in cases}
    forms = {kind: [_place(case, kind, drivers[case.name], work / kind / slot)
                    for case, slot in zip(cases, _slots(drivers.values()))]
             for kind in ('old', 'converted')}
    conversions = _convert(forms['converted'], options)
    every = [*forms['old'], *forms['converted'],
             *(_spoil(form, wrong, work / ('wrong.%d' % number)
                      / form.tree.name)
               for form in forms['converted']
               for number, wrong in enumerate(form.case.wrong))]
    trees: dict[Path, list[Form]] = {}
    for form in every:
        trees.setdefault(form.tree, []).append(form)
    for tree, members in trees.items():
        _build(members, kernel, tree)
    return every, conversions


def build_inject(kernel: Kernel, work: Path) -> Path:
    """The module that makes calls fail, built in the new folder `work`."""
    shutil.copytree(FOLDER / 'inject', work)
    kernel_source.run(['make', '-C', str(kernel.build_folder),
                       'M=%s' % work])
    return work / 'dma_inject.ko'


# --- Copies -----------------------------------------------------------------

def _slots(drivers: Iterable[Sequence[kbuild.Driver]]) -> Iterator[str]:
    """For each case the name of a tree: no module is in a tree twice."""
    taken: list[set[str]] = []
    for members in drivers:
        names = {driver.name for driver in members}
        slot = next((number for number, others in enumerate(taken)
                     if not others & names), len(taken))
        if slot == len(taken):
            taken.append(set())
        taken[slot] |= names
        yield str(slot)


def _place(case: Case, kind: str, drivers: Sequence[kbuild.Driver],
           tree: Path) -> Form:
    """Copy a driver, with the headers that it has outside of its folder."""
    files = {Path(file) for driver in drivers for file in driver.files}
    if not files:
        raise Trouble('%s: no C files in it: name a folder that holds the '
                      'source of a driver' % case.folder)
    outside = [path for path in files if case.folder not in path.parents]
    base = Path(os.path.commonpath([case.folder,
                                    *(path.parent for path in outside)]))
    place = tree / case.name
    folder = place / case.folder.relative_to(base)
    shutil.copytree(case.folder, folder, ignore=_IGNORED)
    for path in outside:
        copy = place / path.relative_to(base)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return Form(case, kind, tree, place, folder)


def _convert(forms: Sequence[Form], options: run.Options
             ) -> dict[str, Conversion]:
    """Convert the copies in place, all at once."""
    result = run.convert([str(form.folder) for form in forms], rules.load(),
                         options)
    if not result.complete:
        raise Trouble([*result.coverage.failures, *(
            '%s: the conversion did not end in time' % one
            for one in result.coverage.timeouts)][0])
    conversions = {form.case.name: Conversion() for form in forms}

    def locate(path: str) -> tuple[Conversion, str]:
        """Whose file it is, and where in its place it lies."""
        for form in forms:
            if form.place in Path(path).parents:
                return (conversions[form.case.name],
                        os.path.relpath(path, form.place))
        raise AssertionError(path)

    for edit in result.edits:
        Path(edit.source.path).write_bytes(edit.content)
        conversion, path = locate(edit.source.path)
        conversion.diff += report.diff([replace(edit, path=path)])
    for finding in dict.fromkeys(filter(report.is_left_over,
                                        result.findings)):
        conversion, path = locate(result.tree.absolute(finding.path))
        evidence = tuple(
            replace(one, path=locate(result.tree.absolute(one.path))[1])
            for one in finding.evidence)
        conversion.left_over.append(replace(finding, path=path,
                                            evidence=evidence))
    return conversions


def _spoil(form: Form, wrong: Wrong, tree: Path) -> Form:
    """A copy of a converted form that has a known fault."""
    place = tree / form.case.name
    folder = place / form.folder.relative_to(form.place)
    shutil.copytree(form.place, place)
    if wrong.source.is_dir():
        shutil.copytree(wrong.source, folder, dirs_exist_ok=True)
    else:
        done = subprocess.run(
            ['patch', '-p1', '--batch', '--quiet', '-d', str(folder), '-i',
             str(wrong.source)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble('%s: does not apply to the converted form: %s'
                          % (wrong.source, ' '.join(done.stdout.split())))
    return Form(form.case, 'wrong', tree, place, folder, wrong)


# --- Modules ----------------------------------------------------------------

def _build(forms: Sequence[Form], kernel: Kernel, tree: Path) -> None:
    """Build the forms of a tree in one go: much faster than one by one."""
    if len(forms) == 1:
        # A Kbuild that names $(M) means the folder of the driver
        tree = forms[0].folder
    else:
        (tree / 'Kbuild').write_text(''.join(
            'obj-y += %s/\n' % form.folder.relative_to(tree)
            for form in forms))
    said = kernel_source.run(
        ['make', '-k', '-C', str(kernel.build_folder), 'M=%s' % tree,
         '-j%d' % kernel_source.JOBS,
         'KCFLAGS=-include %s' % COMPAT_HEADER,
         *(option + '=m' for form in forms for option in _options(form))],
        check=False)
    order = tree / 'modules.order'
    built = [tree / Path(line).with_suffix('.ko') for line in
             order.read_text().splitlines()] if order.exists() else []
    for form in forms:
        form.modules = tuple(path for path in built if path.exists()
                             and form.folder in path.parents)
        if not form.modules:
            raise Trouble('%s: its %s form does not build: %s' % (
                form.case.folder, form.kind, _why(said, form, tree)))


def _options(form: Form) -> set[str]:
    """The options that a driver of a kernel tree is built by."""
    texts = [path.read_text('utf-8', 'replace')
             for name in ('Kbuild', 'Makefile')
             for path in form.folder.glob('**/' + name)]
    return set(re.findall(r'^obj-\$[({](CONFIG_\w+)[)}]', '\n'.join(texts),
                          re.M))


def _why(said: str, form: Form, tree: Path) -> str:
    """The line of make's output that says what is wrong with a form."""
    names = (str(form.folder), '[%s/' % form.folder.relative_to(tree))
    mine = [line for line in said.splitlines()
            if tree == form.folder or any(name in line for name in names)]
    for told in ('\n'.join(mine), said):
        reason = kernel_source.reason(told)
        if reason:
            hint = ': if the kernel can have it, turn it on by --config' \
                if reason.endswith('undefined!') else ''
            return reason.replace(str(form.folder) + '/', '') + hint
    return 'its Kbuild names no module (obj-m)'

# SPDX-License-Identifier: GPL-2.0-only
"""The forms of a driver that are run: old, converted, wrongly converted.

All are copies.  The converted one is what comes of the rules right now.
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
    unchanged: it is the converted one, and nothing was converted.
    """

    case: Case
    kind: str           # old, converted or wrong
    tree: Path
    place: Path
    folder: Path
    wrong: Wrong | None = None
    modules: tuple[Path, ...] = ()
    unchanged: bool = False

    @property
    def name(self) -> str:
        """A word that nothing else in a matrix has."""
        tail = '.' + self.wrong.name if self.wrong else ''
        return '%s.%s%s' % (self.case.name, self.kind, tail)

    @property
    def label(self) -> str:
        """What people call it among the forms of its case."""
        return 'unchanged' if self.unchanged else \
            self.name[len(self.case.name) + 1:]


@dataclass
class Conversion:
    """What the rules did to a case, and what they left to a person.

    edits: path -> what the file became.
    """

    diff: bytes = b''
    left_over: list[Finding] = field(default_factory=list)
    edits: dict[str, bytes] = field(default_factory=dict)


def make(cases: Sequence[Case], kernel: Kernel, work: Path,
         options: run.Options
         ) -> tuple[list[Form], dict[str, Conversion]]:
    """All forms of all cases, built; and case -> its conversion.

    work: an empty folder for them.  Raises Trouble.
    """
    drivers = {case.name: kbuild.drivers(_sources(case, kernel))
               for case in cases}
    forms = {kind: [_place(case, kind, drivers[case.name], work / kind / slot,
                           kernel)
                    for case, slot in zip(cases, _slots(drivers.values()))]
             for kind in ('old', 'converted')}
    conversions = _convert(forms['converted'], kernel, options)
    for form in (*forms['old'], *forms['converted']):
        if form.case.tree and form.case.tree.patch:
            _patch(form.place, form.case.tree.patch, form.kind)
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


def _sources(case: Case, kernel: Kernel) -> list[str]:
    """The files and folders that a driver is in.  Trouble when one is not."""
    if case.tree is None:
        return [str(case.folder)]
    assert kernel.tree is not None
    for path in case.tree.paths:
        if not (kernel.tree / path).exists():
            raise Trouble('%s: there is no %s in %s'
                          % (case.folder / FILE, path, kernel.tree))
    return [str(kernel.tree / path) for path in case.tree.paths]


def _place(case: Case, kind: str, drivers: Sequence[kbuild.Driver],
           tree: Path, kernel: Kernel) -> Form:
    """Copy a driver, with the headers that it has outside of its folder.

    Of a kernel tree only the driver's files, and the Kbuild of the case.
    """
    files = {Path(file) for driver in drivers for file in driver.files}
    if not files:
        raise Trouble('%s: no C files in it: name a folder that holds the '
                      'source of a driver' % case.folder)
    place = tree / case.name
    if case.tree is not None:
        assert kernel.tree is not None
        first = kernel.tree / case.tree.paths[0]
        base, outside = kernel.tree, list(files)
        folder = place / (first if first.is_dir() else first.parent
                          ).relative_to(base)
        folder.mkdir(parents=True)
        shutil.copy(case.folder / 'Kbuild', folder)
    else:
        outside = [path for path in files if case.folder not in path.parents]
        base = Path(os.path.commonpath([case.folder,
                                        *(path.parent for path in outside)]))
        folder = place / case.folder.relative_to(base)
        shutil.copytree(case.folder, folder, ignore=_IGNORED)
    for path in outside:
        copy = place / path.relative_to(base)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return Form(case, kind, tree, place, folder)


def _convert(forms: Sequence[Form], kernel: Kernel, options: run.Options
             ) -> dict[str, Conversion]:
    """Convert the copies in place, all at once.

    Drivers of a kernel tree are converted where they are, amid all that there
    is to be seen of them, and the copies get what came out.
    """
    def root(form: Form) -> Path:
        """Where files have the paths that they have in the form's place."""
        if form.case.tree is None:
            return form.place
        assert kernel.tree is not None
        return kernel.tree

    result = run.convert([path for form in forms for path in (
        [str(form.folder)] if form.case.tree is None
        else _sources(form.case, kernel))], rules.load(), options)
    if not result.complete:
        raise Trouble([*result.coverage.failures, *(
            '%s: the conversion did not end in time' % one
            for one in result.coverage.timeouts)][0])
    conversions = {form.case.name: Conversion() for form in forms}

    def relative(path: str) -> str:
        """Where a file lies in the place of who has it."""
        return next(os.path.relpath(path, root(form)) for form in forms
                    if root(form) in Path(path).parents)

    def owners(path: str) -> Iterator[Conversion]:
        """The conversions of those that have a file."""
        for form in forms:
            if root(form) in Path(path).parents \
                    and (form.place / relative(path)).exists():
                yield conversions[form.case.name]

    for edit in result.edits:
        path = relative(edit.source.path)
        diff = report.diff([replace(edit, path=path)])
        for conversion in owners(edit.source.path):
            conversion.diff += diff
            conversion.edits[path] = edit.content
    for form in forms:
        form.unchanged = not conversions[form.case.name].edits
        for path, content in conversions[form.case.name].edits.items():
            (form.place / path).write_bytes(content)
    for finding in dict.fromkeys(filter(report.is_left_over,
                                        result.findings)):
        path = result.tree.absolute(finding.path)
        evidence = tuple(
            replace(one, path=relative(result.tree.absolute(one.path)))
            for one in finding.evidence)
        for conversion in owners(path):
            conversion.left_over.append(replace(
                finding, path=relative(path), evidence=evidence))
    return conversions


def _spoil(form: Form, wrong: Wrong, tree: Path) -> Form:
    """A copy of a converted form that has a known fault."""
    place = tree / form.case.name
    folder = place / form.folder.relative_to(form.place)
    shutil.copytree(form.place, place)
    if wrong.source.is_dir():
        shutil.copytree(wrong.source, folder, dirs_exist_ok=True)
    else:
        _patch(folder, wrong.source, form.kind)
    return Form(form.case, 'wrong', tree, place, folder, wrong)


def _patch(folder: Path, patch: Path, kind: str) -> None:
    """Apply a patch to a form.  Trouble when it does not apply."""
    done = subprocess.run(
        ['patch', '-p1', '--batch', '--quiet', '-d', str(folder), '-i',
         str(patch)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble('%s: does not apply to the %s form: %s'
                      % (patch, kind, ' '.join(done.stdout.split())))


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
         *([] if kernel.tree else ['KCFLAGS=-include %s' % COMPAT_HEADER]),
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

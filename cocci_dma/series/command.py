# SPDX-License-Identifier: GPL-2.0-only
"""`cocci-dma patches`: from drivers to folders of mails."""
from __future__ import annotations

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, Sequence

from .. import Trouble, git, groups, process, report, run, spatch
from ..findings import Finding
from ..rules import Rule
from . import build, mails, preview, proof, repository, steps, wording


@dataclass(frozen=True)
class Options:
    """What is asked for, besides how to run.

    target: the folder for the mails.  build: compile?  config: what for;
    settings: variables for make.
    """

    target: Path
    mails: mails.Options = field(default_factory=mails.Options)
    build: bool = True
    config: Path | None = None
    settings: Sequence[str] = ()


def settings(variables: Sequence[str]) -> tuple[str, ...]:
    """Variables for make.  Raises Trouble."""
    for one in variables:
        if not re.match(r'[A-Za-z_]\w*=', one):
            raise Trouble('--make %s: write NAME=VALUE' % one)
    return tuple(variables)


@dataclass
class Outcome:
    """What came of it.  problems: what is not in the series, and why."""

    result: run.Result
    series: list[mails.Series]
    problems: list[str]


def make(paths: Sequence[str], rules: Sequence[Rule], how: run.Options,
         kdir: str, options: Options) -> Outcome:
    """Write the series; nothing, when there is nothing to convert.

    Raises Trouble, and then nothing was written.
    """
    try:
        return _make(paths, rules, how, groups.kernel_tree(kdir), options)
    except git.Failed as error:
        raise Trouble('git failed (%s): run `git fsck` in %s, and look '
                      'whether its disk, and that of TMPDIR, is full'
                      % (error, kdir)) from None


def _make(paths: Sequence[str], rules: Sequence[Rule], how: run.Options,
          top: str, options: Options) -> Outcome:
    """The same.  top: of the kernel tree.  Raises git.Failed, too."""
    _require_target(options.target, top)
    proof.require_scripts(top)
    user = repository.Repository(top)
    user.person()
    result, units, before = steps.plan(paths, rules, how, top)
    if not units:
        return Outcome(result, [], [])
    with run.scratch() as folder:
        scratch = repository.Scratch(folder, user)
        scratch.require_tracked(before)
        wording.subjects(scratch, units)
        series = mails.split(units)
        made = _Made(scratch, top, how, options)
        with made.builder():
            for one in series:
                made.commits(one)
        series = [one for one in series if one.patches]
        problems = made.problems
        if not series:
            raise Trouble('no patch is left: %s' % '; '.join(problems))
        made.mails(series, result, user)
        with _placed(options.target) as target:
            made.write(target, series, result, user)
            user.require_same()
    return Outcome(result, series, problems)


def _require_target(target: Path, top: str) -> None:
    """Trouble when the folder for the mails cannot be made."""
    place = Path(os.path.realpath(target))
    if place == Path(top) or Path(top) in place.parents:
        raise Trouble('%s: lies in the kernel tree, in which nothing is '
                      'written: name a folder elsewhere' % target)
    if place.exists() and not place.is_dir():
        raise Trouble('%s: is no folder: name a new one' % target)
    if place.is_dir() and any(place.iterdir()):
        raise Trouble('%s: is not empty: name a new folder, or remove what is '
                      'in it' % target)
    above = next(one for one in place.parents if one.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise Trouble('%s: cannot be made: %s is not writable'
                      % (target, above))


@contextlib.contextmanager
def _placed(target: Path) -> Iterator[Path]:
    """A folder to fill, which then takes the place of `target`, whole."""
    place = Path(os.path.realpath(target))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix='.cocci-dma-', dir=place.parent))
    except OSError as error:
        raise Trouble('%s: cannot be made: %s'
                      % (target, error.strerror)) from None
    try:
        yield work
        mask = os.umask(0)
        os.umask(mask)
        work.chmod(0o777 & ~mask)
        work.rename(place)
    except OSError as error:
        raise Trouble('%s: cannot be written: %s'
                      % (target, error.strerror)) from None
    finally:
        if work.exists():
            process.remove(work)


class _Made:
    """A series in the making."""

    def __init__(self, scratch: repository.Scratch, top: str, how: run.Options,
                 options: Options):
        self._scratch, self._top = scratch, top
        self._how, self._options = how, options
        self._builder: build.Builder | None = None
        self._coccinelle, _ = spatch.probe()
        self.problems: list[str] = []

    @contextlib.contextmanager
    def builder(self) -> Iterator[None]:
        """What compiles, if that is wanted."""
        if not self._options.build:
            yield
            return
        with build.opened(self._scratch, self._top, self._options.config,
                          self._options.settings, self._how.jobs) as builder:
            self._builder = builder
            yield

    # -- commits

    def commits(self, series: mails.Series) -> None:
        """Commit what is good of a series, each patch upon the last."""
        tip = self._scratch.base
        for unit in series.units:
            compiled = None
            if self._builder is not None:
                try:
                    compiled = proof.Compiled(self._builder, self._scratch,
                                              unit)
                except proof.Broken as error:
                    self._drop(unit.patches, str(error))
                    continue
            for number, patch in enumerate(unit.patches):
                why = self._commit(series, patch, tip, compiled)
                if why:
                    self._drop([patch], why)
                    self._drop(unit.patches[number + 1:], 'it builds on `%s`, '
                               'which is not there' % patch.subject)
                    break
                tip = patch.commit

    def _drop(self, patches: Sequence[steps.Patch], why: str) -> None:
        for patch in patches:
            patch.commit, patch.dropped = '', why
            self.problems.append('%s: not written: %s' % (patch.subject, why))

    def _commit(self, series: mails.Series, patch: steps.Patch, parent: str,
                compiled: proof.Compiled | None) -> str:
        """Commit a patch; why it is not good, or ''."""
        patch.parent = parent
        before = {path: self._scratch.git('cat-file', 'blob', '%s:%s' % (
            parent, path)) for path in patch.contents}
        patch.commit = self._scratch.commit(
            parent, patch.contents, wording.message(
                self._scratch, patch, self._coccinelle, before))
        known = series.proofs[patch.commit] = proof.Proof()
        return compiled.prove(patch, known) if compiled is not None else ''

    # -- mails

    def mails(self, every: Sequence[mails.Series], result: run.Result,
              user: repository.Repository) -> None:
        """Have the mails of all series made, and checked."""
        for series in every:
            notes = {}
            for patch in series.patches:
                known = series.proofs[patch.commit]
                mail = os.path.join(self._scratch.folder, 'mail')
                Path(mail).write_bytes(self._scratch.git(
                    'format-patch', '--stdout', '-1', patch.commit))
                known.style = proof.style(self._top, mail)
                known.to, known.cc = proof.recipients(self._top, mail)
                if known.style:
                    Path(mail).write_bytes(self._scratch.diff(
                        patch.commit, patch.parent))
                    known.before = proof.style(self._top, mail,
                                               '--ignore=COMMIT_MESSAGE')
                notes[patch.commit] = wording.render('notes.txt', proof=known)
            mails.write(self._scratch, series, self._options.mails,
                        self._cover(series, result), notes)
            mails.require_applies(self._scratch, series)

    def _cover(self, series: mails.Series, result: run.Result) -> str:
        return wording.cover(
            series.units, mails.table(series.rows()), self._builder,
            self._coccinelle, [one for one in _left(series, result)
                               if one.rule not in steps.DMAM.rules])

    # -- what the user gets

    def write(self, target: Path, every: Sequence[mails.Series],
              result: run.Result, user: repository.Repository) -> None:
        """Fill a folder."""
        for series in every:
            folder = target / series.folder
            folder.mkdir(exist_ok=True)
            for name, mail in series.mails.items():
                (folder / name).write_bytes(mail)
            (folder / 'SERIES.txt').write_text(
                self._overview(series, result, user), 'utf-8',
                'surrogateescape')
            (folder / 'index.html').write_bytes(preview.render(
                self._scratch, series, _left(series, result)))
        if len(every) > 1:
            (target / 'PLAN.txt').write_text(_plan(every), 'utf-8',
                                             'surrogateescape')

    def _overview(self, series: mails.Series, result: run.Result,
                  user: repository.Repository) -> str:
        return wording.render(
            'series.txt', title=wording.title(series.units),
            base=user.head, branch=user.branch,
            table=mails.table(series.rows()), mails=sorted(series.mails),
            dropped=['%s: %s' % (patch.subject, patch.dropped)
                     for patch in series.dropped],
            left=['%s:%d: %s [%s]' % (f.path, f.line, f.message, f.rule)
                  for f in _left(series, result)],
            where=os.path.normpath(self._options.target / series.folder))


def _left(series: mails.Series, result: run.Result) -> list[Finding]:
    """What is left to do in the drivers of a series."""
    files = {path for unit in series.units for path in unit.files}
    return [finding for finding in result.findings
            if report.is_left_over(finding) and finding.path in files]


def _plan(every: Sequence[mails.Series]) -> str:
    """Which series there are, and in which order."""
    return wording.render('plan.txt', most=mails.MOST, every=[
        (series.folder, len(series.patches), ', '.join(
            unit.name for unit in series.units)) for series in every])

# SPDX-License-Identifier: GPL-2.0-only
"""Read the KTAP that the guest program speaks, amid the kernel's messages."""
from __future__ import annotations

import re
from dataclasses import dataclass, field

_TIME = re.compile(r'^\[\s*\d+\.\d+\] ?')
_PLAN = re.compile(r'^( *)1\.\.(\d+)$')
_SUBTEST = re.compile(r'^  # Subtest: (\S+)$')
_STEP = re.compile(r'^  (not )?ok (\d+) (.*?)(?: # (.*))?$')
_RESULT = re.compile(r'^(not )?ok (\d+) (\S+)$')
_SPOKEN = re.compile(r'^ *(?:(?:not )?ok \d+ |1\.\.\d|# |KTAP version )')


@dataclass(frozen=True)
class Step:
    """One line `ok` or `not ok` of a run; message: what follows the `#`."""

    name: str
    good: bool
    message: str = ''

    @property
    def skipped(self) -> bool:
        """Was there nothing to do?"""
        return self.message.startswith('SKIP')


@dataclass
class Run:
    """What one driver did.  log: every line from its first to its last."""

    name: str
    steps: list[Step] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    ended: bool = False


@dataclass
class Log:
    """A whole boot.  planned: None when the guest never said anything.

    rest: the lines that belong to no run.  trouble: why the guest gave up,
    or why what it said cannot be KTAP.
    """

    planned: int | None = None
    runs: list[Run] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    trouble: str = ''


def parse(text: str) -> Log:
    """Read a serial console.  Never fails: what is no KTAP is log."""
    log = Log()
    started = False
    for line in text.splitlines():
        line = _TIME.sub('', line.rstrip())
        run = log.runs[-1] if log.runs and not log.runs[-1].ended else None
        if not started:
            started = line == 'KTAP version 1'
            log.rest.append(line)
        elif line.startswith('Bail out!'):
            log.trouble = line[len('Bail out!'):].strip()
        elif found := _SUBTEST.match(line):
            log.runs.append(Run(found[1], log=[line]))
        elif run is None:
            plan = _PLAN.match(line)
            if plan and not plan[1]:
                log.planned = int(plan[2])
            log.rest.append(line)
        else:
            run.log.append(line)
            _in_run(log, run, line)
    return log


def step(line: str) -> Step | None:
    """The step that a line of a run tells, if it does."""
    found = _STEP.match(line)
    return _step(found) if found else None


def _step(found: re.Match[str]) -> Step:
    return Step(found[3], not found[1], found[4] or '')


def is_subtest(line: str) -> bool:
    """Does a run begin with a line?"""
    return _SUBTEST.match(line) is not None


def is_spoken(line: str) -> bool:
    """Is a line KTAP, and not the kernel's?"""
    return _SPOKEN.match(line) is not None


def _in_run(log: Log, run: Run, line: str) -> None:
    """Take in a line of a run that has not ended."""
    if found := _STEP.match(line):
        if int(found[2]) != len(run.steps) + 1 and not log.trouble:
            log.trouble = '%s: step %s follows step %d' % (
                run.name, found[2], len(run.steps))
        run.steps.append(_step(found))
    elif (plan := _PLAN.match(line)) and plan[1] == '  ':
        if int(plan[2]) != len(run.steps) and not log.trouble:
            log.trouble = '%s: %s steps of %s' % (run.name, len(run.steps),
                                                  plan[2])
    elif (found := _RESULT.match(line)) and found[3] == run.name:
        run.ended = True

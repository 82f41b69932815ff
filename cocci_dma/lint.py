# SPDX-License-Identifier: GPL-2.0-only
"""What rules tell of drivers, at the least price.

Each driver is parsed once, for all rules, by a decider (decide.py).  Spatch
looks at what would be rewritten, and only at that: it must be able to match
the place.  Whatever it says otherwise than the decider is taken from a run of
it on whole files.  Answers are kept by content.
"""
from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Callable, Iterable, Iterator, Sequence

from . import Trouble, cut, groups, spatch
from .cache import Cache
from .facts import Fact, Facts, signature
from .process import Live, kill, parallel
from .rules import Rule
from .spatch import Group, Spatch, to_parse

#: Drivers for one run of spatch, which takes half a second to start.
_BUNDLE = 16

Event = dict[str, Any]


@dataclass
class Answer:
    """What is told of one driver; `failures` and `timeouts` name the rule."""

    events: dict[str, list[Event]] = field(default_factory=dict)
    unparsed: set[tuple[str, int, str]] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)
    timeouts: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    edits: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)


class _Died(Exception):
    """A decider ended, or had to be ended."""


class _Decider:
    """One process that decides, started when it is needed."""

    def __init__(self, live: Live, base: str, scratch: str):
        self._live = live
        self._base = base
        self._scratch = scratch
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, job: dict[str, Any], time_limit: float) -> dict[str, Any]:
        """The answer to a job.

        Raises TimeoutError, _Died (why), Interrupted.
        """
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            kill(process)

        timer = threading.Timer(time_limit, give_up)
        timer.start()
        try:
            process.stdin.write(json.dumps(job).encode() + b'\n')
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b''
        finally:
            timer.cancel()
        if not line.endswith(b'\n'):
            self.end()
            if late.is_set():
                raise TimeoutError
            raise _Died('the process that decides ended (%d)'
                        % process.returncode)
        answer: dict[str, Any] = json.loads(line)
        if answer['leaving']:
            self.end()
        return answer

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            kill(self._process)
            self._process.communicate()
            self._live.ended(self._process)
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        program = Path(__file__).with_name('decide.py')
        env = {**os.environ, 'COCCI_DMA_TREE': self._base,
               'PYTHONPYCACHEPREFIX': os.path.join(self._scratch, 'pycache')}
        self._process = self._live.start(
            [sys.executable, str(program)], cwd=self._base, env=env,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL)
        return self._process


class Lint:
    """All that one run of `check` needs to answer for drivers."""

    def __init__(self, tree: groups.Tree, rules: Sequence[Rule],
                 spatch: Spatch, cache: Cache, facts: Facts, *, tool: str,
                 scratch: str,
                 jobs: int, net: bool, time_limit: float,
                 progress: Callable[[int, int], None] | None):
        self._tree = tree
        self._rules = {rule.name: rule for rule in rules}
        self._spatch = spatch
        self._cache = cache
        self._facts = facts
        self._tool = tool
        self._scratch = scratch
        self._jobs = jobs
        self._options = ['net'] if net else []
        self._time_limit = time_limit
        self._progress = progress
        self._folders: dict[str, bytes] = {}

    def answers(self, works: Sequence[groups.Work]) -> list[Answer]:
        """Of each driver, what the rules tell."""
        every: list[Answer | None] = []
        keys = []
        for work in works:
            keys.append(self._key(work))
            every.append(self._kept(keys[-1]))
        todo = [n for n, answer in enumerate(every) if answer is None]
        todo.sort(key=lambda n: -works[n].size)
        total = sum(works[n].size for n in todo)
        done = 0
        fresh: dict[int, Answer] = {}
        for n, answer in self._decided([works[n] for n in todo]):
            fresh[todo[n]] = answer
            if not answer.edits:
                self._keep(answer, keys[todo[n]])
            done += works[todo[n]].size
            if self._progress:
                self._progress(done, total)
        self._confirm({n: works[n] for n in sorted(fresh)}, fresh)
        for n, answer in fresh.items():
            if answer.edits:
                self._keep(answer, keys[n])
        return [fresh[n] if answer is None else answer
                for n, answer in enumerate(every)]

    # -- what is kept

    def _key(self, work: groups.Work) -> tuple[Any, ...]:
        """What an answer depends on, but for what lies outside the driver."""
        return (self._tool, self._names(work), self._options,
                signature(spatch.find()),
                any('drivers/net/' in self._tree.absolute(path)
                    for path in work.files),
                [(path, self._known(path).digest) for path in work.files])

    def _kept(self, key: tuple[Any, ...]) -> Answer | None:
        kept: tuple[Answer, bytes] | None = self._cache.get('answer', key)
        if kept is None or kept[1] != self._outside(kept[0]):
            return None
        return kept[0]

    def _keep(self, answer: Answer, key: tuple[Any, ...]) -> None:
        if not answer.failures and not answer.timeouts:
            self._cache.put((answer, self._outside(answer)), 'answer', key)

    def _outside(self, answer: Answer) -> bytes:
        """Changes with who includes what in the folders that were looked at,
        and with the files of others that were read."""
        found = hashlib.sha1(b''.join(map(self._holds, answer.outside)))
        for path in answer.users:
            found.update(self._known(path).digest)
        return found.digest()

    def _holds(self, folder: str) -> bytes:
        """A digest of what the sources in a folder include, and of its Kbuild
        files."""
        if folder not in self._folders:
            found = hashlib.sha1(os.fsencode(folder))
            place = os.path.join(self._tree.base, folder)
            for name in sorted(os.listdir(place)
                               if os.path.isdir(place) else ()):
                path = os.path.join(place, name)
                if name in ('Kbuild', 'Makefile'):
                    found.update(repr((name, signature(path))).encode())
                elif name.endswith(('.c', '.h')):
                    found.update(repr((name, self._known(path).includes)
                                      ).encode())
            self._folders[folder] = found.digest()
        return self._folders[folder]

    def _known(self, path: str) -> Fact:
        """The facts of a file; none, when there is no such file."""
        try:
            return self._facts.of(os.path.join(self._tree.base, path))
        except Trouble:
            return Fact(None)

    # -- deciding

    def _names(self, work: groups.Work) -> list[str]:
        """The rules that may have something to tell of a driver."""
        return [name for name, rule in self._rules.items()
                if not rule.keywords
                or not work.words.isdisjoint(rule.keywords)]

    def _decided(self, works: Sequence[groups.Work]
                 ) -> Iterator[tuple[int, Answer]]:
        """(index, answer) of each, as they come."""
        deciders: SimpleQueue[_Decider] = SimpleQueue()
        every = [_Decider(self._spatch.live, self._tree.base, self._scratch)
                 for _ in range(self._jobs)]
        for decider in every:
            deciders.put(decider)

        def one(number: int) -> tuple[int, Answer]:
            decider = deciders.get()
            try:
                return number, self._decide(decider, works[number])
            finally:
                deciders.put(decider)

        try:
            yield from parallel(self._spatch.live, self._jobs, one,
                                range(len(works)))
        finally:
            for decider in every:
                decider.end()

    def _decide(self, decider: _Decider, work: groups.Work) -> Answer:
        names = self._names(work)
        answer = Answer()
        try:
            _add(answer, decider.ask(self._job(work, names),
                                     self._time_limit))
            return answer
        except (TimeoutError, _Died):
            pass
        for number, name in enumerate(names):   # which of them was it?
            if number == 2 and len(answer.timeouts) == 2:
                # it is the driver: no need to wait for each of them
                answer.timeouts += names[2:]
                break
            try:
                _add(answer, decider.ask(self._job(work, [name]),
                                         self._time_limit))
            except TimeoutError:
                answer.timeouts.append(name)
            except _Died as why:
                answer.failures[name] = str(why)
        return answer

    def _job(self, work: groups.Work, names: Iterable[str]) -> dict[str, Any]:
        rules = [self._rules[name] for name in names]
        return {'files': list(work.files), 'options': self._options,
                'rules': [(rule.name, rule.confidence) for rule in rules],
                'words': sorted({word for rule in rules
                                 for word in rule.keywords})}

    # -- what spatch says of it

    def _confirm(self, works: dict[int, groups.Work],
                 answers: dict[int, Answer]) -> None:
        """Have spatch match every place that would be rewritten."""
        def one(bundle: tuple[Rule, list[int]]) -> None:
            rule, numbers = bundle
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
                told = self._cut(Path(folder, 'cut'), rule,
                                 {n: works[n] for n in numbers}, answers)
                for n in numbers:
                    if told.get(n) != answers[n].events[rule.name]:
                        self._whole(Path(folder, str(n)), rule, works[n],
                                    answers[n])
            for n in numbers:
                works[n].forget()

        bundles = [(rule, bundle) for rule in self._rules.values()
                   for bundle in _bundles(works, [
                       n for n, answer in answers.items()
                       if rule.name in answer.edits])]
        for _ in parallel(self._spatch.live, self._jobs, one, bundles):
            pass

    def _cut(self, few: Path, rule: Rule, works: dict[int, groups.Work],
             answers: dict[int, Answer]) -> dict[int, list[Event]]:
        """By driver, what spatch tells when it sees but the places."""
        told: dict[int, list[Event]] = {n: [] for n in works}
        owner = {path: n for n, work in works.items() for path in work.files}
        drivers = []
        for n, work in works.items():
            lines: dict[str, list[int]] = {}
            for path, line in answers[n].edits[rule.name]:
                lines.setdefault(path, []).append(line)
            if not all(path in work.files for path in lines):
                return {}
            drivers.append(Group(tuple(lines), tuple(work.files)))
            for path, places in lines.items():
                content = work.files[path].content
                _write(few / path, content if rule.name in answers[n].whole
                       else cut.functions(content, places))
        run = self._spatch.run(rule, 'report', str(few), drivers,
                               whole=self._tree.base)
        if run.timed_out or run.failure or run.unparsed:
            return {}
        for event in run.events:
            if event['path'] not in owner:
                return {}
            told[owner[event['path']]].append(event)
        return told

    def _whole(self, folder: Path, rule: Rule, work: groups.Work,
               answer: Answer) -> None:
        """Take what spatch tells when it sees the driver."""
        contents = {path: file.content for path, file in work.files.items()}
        for path, content in contents.items():
            _write(folder / path, content)
        run = self._spatch.run(rule, 'report', str(folder),
                               [to_parse(rule, contents)])
        answer.unparsed |= run.unparsed
        answer.events[rule.name] = run.events
        if run.timed_out:
            answer.timeouts.append(rule.name)
        elif run.failure:
            answer.failures[rule.name] = run.failure


def _bundles(works: dict[int, groups.Work],
             numbers: Iterable[int]) -> list[list[int]]:
    """Drivers for one run of spatch; no two of them share a file."""
    bundles: list[list[int]] = []
    held: set[str] = set()
    for number in numbers:
        files = works[number].files
        if not bundles or len(bundles[-1]) == _BUNDLE \
                or not held.isdisjoint(files):
            bundles.append([])
            held = set()
        bundles[-1].append(number)
        held.update(files)
    return bundles


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _add(answer: Answer, told: dict[str, Any]) -> None:
    answer.events |= told['events']
    answer.failures |= told['failures']
    answer.unparsed |= {(path, line, name)
                        for path, line, name in told['unparsed']}
    answer.outside = sorted({*answer.outside, *told['outside']})
    answer.users = sorted({*answer.users, *told['users']})
    answer.edits |= {name: [(path, line) for path, line in edits]
                     for name, edits in told['edits'].items()}
    answer.whole += told['whole']

# SPDX-License-Identifier: GPL-2.0-only
"""Run one rule on one driver.  The one module that knows spatch's options."""
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from . import Trouble, source
from .process import Interrupted, Live, kill
from .rules import Rule

from evidence.plan import AVOID_VARIABLE  # from cocci/: see __init__

#: Seconds for one run.  The largest driver of the kernel that parses at all
#: needs 20; one that needs more is in a loop.
TIME_LIMIT = 120.0

#: Where Debian's python3 is: spatch embeds the python3 that is first on PATH.
_DEBIAN = '/usr/bin'


@dataclass
class Run:
    """What came of one run.

    events: what the rule wrote.  unparsed: (path, line, function) that spatch
    could not parse.  failure: why the run is worth nothing, or ''.  stuck: the
    place, `PATH:LINE`, that spatch failed to rewrite, or ''.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    stdout: bytes = b''
    unparsed: set[tuple[str, int, str]] = field(default_factory=set)
    timed_out: bool = False
    failure: str = ''
    stuck: str = ''


class Group(NamedTuple):
    """A driver: the files that spatch shall parse, and all that it has."""

    files: tuple[str, ...]
    driver: tuple[str, ...]


#: Of larger drivers, only the files that hold a keyword are parsed to report.
BIG = 1 << 20


def to_parse(rule: Rule, contents: Mapping[str, bytes]) -> Group:
    """What spatch must see of a driver for a report.  contents: by path."""
    files = tuple(contents)
    if rule.by_file:
        return Group(tuple(path for path, content in contents.items()
                           if rule.concerns(content)), files)
    if sum(map(len, contents.values())) < BIG:
        return Group(files, files)
    return Group(tuple(path for path, content in contents.items()
                       if path.endswith('.h') or rule.concerns(content)),
                 files)


def find() -> str:
    """The path of spatch; Trouble when there is none."""
    found = shutil.which('spatch')
    if found is None:
        raise Trouble('spatch is not on PATH: apt-get install coccinelle')
    return os.path.abspath(found)


class Spatch:
    """Starts spatch, and can stop all that was started.

    scratch is a folder of the caller's for what a run needs besides the
    driver's files.  live: what runs.  Safe to be used from several threads.
    """

    def __init__(self, scratch: str, tree: str, *, net: bool = False,
                 time_limit: float = TIME_LIMIT, verbose: bool = False):
        self._program = find()
        self._scratch = scratch
        self._tree = tree
        self._net = net
        self._time_limit = time_limit
        self._verbose = verbose
        self.live = Live()

    def run(self, rule: Rule, mode: str, cwd: str, drivers: Sequence[Group],
            avoided: Iterable[str] = (), whole: str = '') -> Run:
        """Run `rule` in `mode` on drivers whose files lie below `cwd`.

        In mode patch the files are rewritten, but for `avoided` places: those
        where an earlier run was stuck, or left marks.  Several drivers in one
        run share the half second that Python needs to start.  whole: where the
        drivers lie in full, if files below `cwd` are cut down.  Trouble when
        spatch cannot work at all, on whatever file.
        """
        files = list(dict.fromkeys(f for d in drivers for f in d.files))
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            events = os.path.join(folder, 'events')
            group = os.path.join(folder, 'driver')
            Path(group).write_text(json.dumps(drivers), encoding='utf-8')
            what = list(drivers[0].files)
            if len(drivers) > 1:
                listed = os.path.join(folder, 'groups')
                Path(listed).write_text('\n\n'.join(
                    '\n'.join(d.files) for d in drivers) + '\n',
                    encoding='utf-8', errors='surrogateescape')
                what = ['--file-groups', listed]
            environment = {
                'COCCI_DMA_EVENTS': events,
                'COCCI_DMA_DRIVER': group,
                'COCCI_DMA_TREE': self._tree,
                'COCCI_DMA_WHOLE': whole,
                AVOID_VARIABLE: '\n'.join(avoided),
                'PYTHONPYCACHEPREFIX': os.path.join(self._scratch, 'pycache'),
            }
            result = self._start(self._command(rule, mode) + what, files, cwd,
                                 environment,
                                 self._time_limit * len(drivers))
            if not (result.timed_out or result.failure):
                result.events = _events(events)
        return result

    def _command(self, rule: Rule, mode: str) -> list[str]:
        # Headers are named one by one: with --include-headers spatch would
        # name them relative to the current folder and parse them twice.
        # --quiet, unlike --very-quiet, keeps what --parse-error-msg says.
        options = [option for option in rule.options
                   if option != '--include-headers']
        command = [self._program, '--cocci-file', str(rule.path), '-D', mode,
                   '--quiet', '--parse-error-msg', *options]
        if '--no-includes' not in options:
            command.append('--no-includes')
        for name in sorted(rule.given):
            command += ['-D', name]
        if self._net and 'net' in rule.virtuals:
            command += ['-D', 'net']
        if mode == 'patch':
            command += ['--in-place', '--no-show-diff']
        elif mode != 'context':
            command.append('--no-show-diff')
        return command

    def _start(self, command: list[str], files: list[str], cwd: str,
               environment: dict[str, str], time_limit: float) -> Run:
        env = _environment() | environment
        if self._verbose:
            print('+ ' + shlex.join(command), file=sys.stderr, flush=True)
        try:
            process = self.live.start(command, cwd=cwd, env=env,
                                      stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE)
        except Interrupted:
            return Run(failure='interrupted')
        try:
            stdout, stderr = process.communicate(timeout=time_limit)
        except subprocess.TimeoutExpired:
            kill(process)
            process.communicate()
            return Run(timed_out=True)
        finally:
            self.live.ended(process)
        if process.returncode != 0:
            stuck = _STUCK.search(stderr)
            return Run(failure=_cause(stderr, process.returncode),
                       stuck=b':'.join(stuck.groups()).decode(
                           'utf-8', 'surrogateescape') if stuck else '')
        return Run(stdout=stdout, unparsed=_unparsed(stderr, cwd, files))


#: A token that spatch has put in the place of a macro that it expanded.
_STUCK = re.compile(rb'([^\s"]+): (\d+): try to delete an expanded token')


def _environment() -> dict[str, str]:
    """Ours, with Debian's Python and with what spatch cannot do without."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith('PYTHON')}
    env['PATH'] = _DEBIAN + os.pathsep + env.get('PATH', '')
    # spatch dies of an unset HOME with "Fatal error: exception Not_found".
    env.setdefault('HOME', '/')
    return env


def _events(path: str) -> list[dict[str, Any]]:
    """The JSON lines that a rule wrote; none, when it wrote nothing."""
    try:
        text = Path(path).read_text(encoding='utf-8', errors='surrogateescape')
    except FileNotFoundError:
        return []
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise Trouble('a rule wrote an event that is no JSON: %s'
                      % error) from None


def _cause(stderr: bytes, code: int) -> str:
    """Why spatch failed, in one line.  Trouble if it always will."""
    text = stderr.decode('utf-8', 'replace')
    if 'Py.find_library' in text:
        raise Trouble('spatch finds no Python library: '
                      'apt-get install libpython3-dev')
    noise = ('init_defs_builtins', 'HANDLING', 'bad:', 'BAD:', 'badcount')
    told = [line.strip() for line in text.splitlines()
            if line.strip() and not line.startswith(noise)]
    why = told[-1] if told else 'no message'
    if 'Traceback (most recent call last):' in text:
        # spatch's own last line then says but "Python failure".
        _, traceback = text.rsplit('Traceback', 1)
        why = next((line for line in traceback.splitlines()[1:]
                    if line and not line.startswith(' ')), why)
    how = 'was killed by signal %d' % -code if code < 0 else 'exit %d' % code
    return 'spatch failed (%s): %s' % (how, why)


_PLACE = re.compile(rb'^ = ?(?:error in (.*); set verbose_parsing'
                    rb'|File "(.*)", line )')


def _unparsed(stderr: bytes, cwd: str,
              files: Iterable[str]) -> set[tuple[str, int, str]]:
    """(path, line, name) of the functions of `files` that do not parse.

    spatch prints the source lines that it gave up on, so they are looked up
    in the file; 1.1.1 and 1.3.0 print them alike.  The name is `?` for lines
    that are not found, or stand in a .c file without a function.
    """
    known = set(files)      # spatch also parses its own output: left out
    regions: list[tuple[str, list[bytes]]] = []
    for line in stderr.split(b'\n'):
        place = _PLACE.match(line)
        if place:
            path = (place.group(1) or place.group(2)).decode(
                'utf-8', 'surrogateescape')
            regions.append((os.path.normpath(path), []))
        elif regions and line.startswith(b'bad: '):
            regions[-1][1].append(line[len(b'bad: '):])
        elif regions and line.startswith(b'BAD:!!!!! '):
            regions[-1][1].append(line[len(b'BAD:!!!!! '):])

    found: set[tuple[str, int, str]] = set()
    texts: dict[str, list[bytes]] = {}
    begin: dict[str, int] = {}
    for path, lines in regions:
        if path not in known:
            continue
        if path not in texts:
            texts[path] = Path(cwd, path).read_bytes().split(b'\n')
        text = texts[path]
        size = len(lines)
        # Equal regions come in order; from the top again when spatch does not
        # parse a file for the first time.
        begins = [*range(begin.get(path, 0), len(text)),
                  *range(begin.get(path, 0))]
        start = next((index for index in begins
                      if text[index:index + size] == lines), None)
        if start is None:
            # Never lose one: a region that cannot be found still counts.
            found.add((path, 1, '?'))
            continue
        begin[path] = start + size - 1
        every = source.functions(b'\n'.join(text))
        if not every and path.endswith('.c'):
            found.add((path, start + 1, '?'))
        found.update((path, first, name) for name, first, _ in every
                     if start < first <= start + size)
    return found


_PROBE = """virtual report
@initialize:python@
@@
import sys

@r depends on report@
position p;
@@
probe@p()

@script:python@
p << r.p;
@@
print('python %d.%d' % sys.version_info[:2])
"""


def probe() -> tuple[str, str]:
    """(version of spatch, version of the Python in it).

    Trouble when there is no spatch, or none that can run Python.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'probe.cocci')
        path.write_text(_PROBE, encoding='utf-8')
        Path(folder, 'probe.c').write_text('int f(void) { probe(); }\n',
                                           encoding='utf-8')
        runner = Spatch(folder, folder, time_limit=60)
        version = subprocess.run([find(), '--version'], capture_output=True,
                                 text=True, check=False,
                                 env=_environment()).stdout
        number = re.search(r'version (\S+)', version)
        rule = Rule('probe', path, '', '', '', (), (), '', frozenset())
        result = runner.run(rule, 'report', folder,
                            [Group(('probe.c',), ('probe.c',))])
        if result.timed_out:
            raise Trouble('spatch did not end within a minute')
        if result.failure or not result.stdout.startswith(b'python '):
            raise Trouble('spatch cannot run Python (%s): apt-get install '
                          '--reinstall coccinelle libpython3-dev'
                          % (result.failure or 'no output'))
        return (number.group(1) if number else 'unknown',
                result.stdout.decode().split()[1])

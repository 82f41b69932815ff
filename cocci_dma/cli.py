# SPDX-License-Identifier: GPL-2.0-only
"""The command line: options in, exit code out; the work is done elsewhere.

Exit codes: 0 nothing found or done, 1 findings, 2 the tool could not do its
job (and says in one line why, and what to do).
"""
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NoReturn, Sequence

import click
import rich.console
import rich.progress

from runtime import bench, kernel, table

from . import COCCI, Trouble, doctor, edit, report, rules, run

_MODES = ('report', 'patch', 'context', 'org')


def _options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Several click options as one decorator."""
    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function
    return apply


_common = _options(
    click.argument('paths', metavar='PATH...', nargs=-1, required=True),
    click.option('--rule', '-r', 'names', multiple=True, metavar='RULE',
                 help='Only this rule (may be given several times).'),
    click.option('--kdir', metavar='DIR', help='Kernel tree: a PATH that does '
                 'not exist here is looked up in it.'),
    click.option('--jobs', '-j', type=click.IntRange(1), metavar='N',
                 default=os.cpu_count() or 1, help='Run so many spatch at '
                 'once (default: one a processor).'),
    click.option('--net', is_flag=True, help='Also convert drivers/net where '
                 'a rule would only report it.'),
    click.option('--verbose', '-v', is_flag=True,
                 help='Show every spatch command on stderr.'),
)
_format = click.option('--format', 'format_', default='text',
                       type=click.Choice(('text', 'json')), help='Of stdout.')


@click.group(context_settings={'help_option_names': ['-h', '--help']})
def cli() -> None:
    """Move Linux drivers to the DMA API, or say why not.

    A PATH is a source file or a folder.  A file stands for the whole driver
    that it is built into: its other sources and its headers are looked at,
    and rewritten, with it.
    """


@cli.command()
@_common
@_format
@click.option('--strict', is_flag=True, help='Exit 2 also when a function '
              'was not parsed or a file was skipped.')
def check(paths: Sequence[str], names: Sequence[str], kdir: str | None,
          format_: str, strict: bool, **how: Any) -> int:
    """Show what could or should be changed; change nothing."""
    chosen = rules.select(_rules(), names)
    with _running(**how) as options:
        result = run.check(paths, chosen, options, kdir)
    if format_ == 'json':
        _out(report.as_json(result))
    else:
        _out(report.text(result.findings))
    missed = result.coverage.unparsed or result.coverage.skipped
    return _finish(result, 1 if result.findings else 0,
                   incomplete=strict and bool(missed))


@cli.command()
@_common
@_format
@click.option('--in-place', is_flag=True, help='Rewrite the files.')
@click.option('--evidence', is_flag=True, help='Also say on stderr what was '
              'proven of the converted places, such as why an allocation may '
              'sleep; JSON always holds it.')
def convert(paths: Sequence[str], names: Sequence[str], kdir: str | None,
            format_: str, in_place: bool, evidence: bool, **how: Any) -> int:
    """Convert drivers: a diff on stdout, refusals on stderr."""
    chosen = rules.select(_rules(), names)
    for rule in chosen:
        if names and not rule.converts:
            raise Trouble('rule %s only reports: use `cocci-dma check`'
                          % rule.name)
    with contextlib.ExitStack() as held:
        if in_place:
            held.enter_context(edit.locked(paths))
        with _running(**how) as options:
            result = run.convert(paths, chosen, options, kdir,
                                 writable=edit.require_writable
                                 if in_place else None)
        diff = report.diff(result.edits)
        if in_place:
            edit.write(result.edits)
    if format_ == 'json':
        _out(report.as_json(result, diff))
    elif in_place:
        _out(''.join('%s: converted\n' % result.tree.shown(e.path)
                     for e in result.edits))
    else:
        _out(diff)
        _err(report.where_to_apply(result.tree, result.edits))
    _err(report.left_over(result.findings, evidence))
    return _finish(result, 0)


@cli.command()
@_common
@click.option('--mode', default='report', metavar='|'.join(_MODES))
def coccicheck(paths: Sequence[str], names: Sequence[str], kdir: str | None,
               mode: str, **how: Any) -> int:
    """Do what the kernel's `make coccicheck` does, for whole drivers.

    As there, findings are no failure.
    """
    if mode not in _MODES:
        raise Trouble('unknown MODE %s: it is one of %s'
                      % (mode, ', '.join(_MODES)))
    chosen = rules.select(_rules(), names)
    with _running(**how) as options:
        if mode == 'patch':
            result = run.convert(paths, chosen, options, kdir)
            _out(report.diff(result.edits))
            _err(report.where_to_apply(result.tree, result.edits))
            _err(report.left_over(result.findings))
        elif mode == 'context':
            result = run.check(paths, chosen, options, kdir, mode='context')
            _out(result.output)
        else:
            result = run.check(paths, chosen, options, kdir)
            show = report.org if mode == 'org' else report.text
            _out(show(result.findings))
    return _finish(result, 0)


@cli.command('bench-driver')
@click.argument('folders', metavar='DIR...', nargs=-1, required=True,
                type=click.Path(path_type=Path))
@click.option('--device', 'devices', multiple=True, metavar='LINE',
              help='Value for QEMU\'s -device (default: edu; may be given '
              'several times).')
@click.option('--qemu', 'qemu_options', multiple=True, metavar='OPTION',
              help='One more word for QEMU\'s command line.')
@click.option('--guest', 'program', metavar='FILE',
              type=click.Path(path_type=Path), help='Script (/bin/sh) or '
              'static program that drives the device in the guest, instead '
              'of writing to its device node and reading back.')
@click.option('--config', metavar='FILE', type=click.Path(path_type=Path),
              help='Kernel configuration that the driver needs.')
@click.option('--memory', type=click.IntRange(64), default=bench.MEMORY,
              metavar='MB', help='Of the guest.')
@click.option('--profile', envvar='RUNTIME_PROFILE', default='default',
              metavar='|'.join(kernel.PROFILES), help='Kernel to boot '
              '(default: $RUNTIME_PROFILE).')
@click.option('--time-limit', type=click.FloatRange(0, min_open=True),
              metavar='SECONDS',
              default=bench.TIME_LIMIT, help='For a boot.')
@click.option('--junit', metavar='FILE', type=click.Path(path_type=Path),
              help='Write the results as JUnit XML, too.')
def bench_driver(folders: Sequence[Path], junit: Path | None,
                 **how: Any) -> int:
    """Convert drivers, and run both forms on QEMU's devices.

    DIR holds a driver with its Kbuild; nothing in it is changed.  Exit code
    1: something is not as it should be.  docs/runtime.md says more.
    """
    how['devices'] = how['devices'] or (bench.EDU,)
    with _progress('runs', True) as progress:
        results = bench.bench(folders, bench.Options(progress=progress,
                                                     **how))
    _out(table.text(results.rows, shutil.get_terminal_size((120, 0)).columns))
    _err(''.join(_notes(results)))
    if junit is not None:
        table.write_junit(results.rows, junit)
    return 1 if any(row.problem for row in results.rows) else 0


def _notes(results: bench.Results) -> Iterator[str]:
    """What explains results of drivers of which nothing was expected."""
    for row in results.rows:
        if row.form.kind != 'old' or row.mode != 'direct' \
                or row.form.case.works is not None:
            continue
        name = row.form.case.name
        for line in report.text(results.conversions[name].refusals
                                ).splitlines(keepends=True):
            yield '%s: %s' % (name, line)
        if {'data', 'crash'} & set(row.verdict.said):
            yield ('%s: note: the old form fails even in mode direct; if its '
                   'device does not keep what is written to it, drive it by '
                   '--guest\n' % name)
    for name, missing in results.left_out.items():
        yield '%s: left out: there is no rule %s\n' % (name,
                                                       ', '.join(missing))


@cli.command('rules')
def list_rules() -> int:
    """List the rules."""
    every = _rules()
    width = max(len(rule.name) for rule in every)
    for rule in every:
        summary = rule.summary.split('\n', 1)[0]
        _out('%-*s  %s  %s\n' % (width, rule.name, 'converts' if rule.converts
                                 else 'reports ', summary))
    return 0


@cli.command()
@click.argument('rule')
def explain(rule: str) -> int:
    """Print what RULE does, why, and when it refuses."""
    chosen = rules.select(_rules(), [rule])[0]
    page = COCCI.parent / 'docs' / 'rules' / (chosen.name + '.md')
    if page.exists():
        _out(page.read_text(encoding='utf-8'))
    else:
        _out('%s\n\n%s\n\n%s\n\nConfidence: %s\n'
             % (chosen.name, chosen.summary, chosen.caveats,
                chosen.confidence))
    return 0


@cli.command('doctor')
def diagnose() -> int:
    """Is everything here that is needed, and if not: what to install."""
    missing = False
    for item in doctor.examine():
        missing = missing or not (item.good or item.optional)
        state = ('ok' if item.good else
                 'absent (for `make test`)' if item.optional else 'MISSING')
        _out('%s %s: %s\n' % (state, item.name, item.detail))
    return 2 if missing else 0


# --- Shared by the commands -------------------------------------------------

def _rules() -> list[rules.Rule]:
    """The rules of the folder that main() was given."""
    return rules.load(click.get_current_context().obj)


@contextlib.contextmanager
def _running(jobs: int, net: bool, verbose: bool) -> Iterator[run.Options]:
    """Options for a run, with a progress bar when somebody watches."""
    with _progress('drivers', not verbose) as progress:
        yield run.Options(jobs=jobs, net=net, verbose=verbose,
                          progress=progress)


@contextlib.contextmanager
def _progress(what: str, wanted: bool) -> Iterator[run.Progress | None]:
    """What to call with (done, total); None when nobody watches."""
    if not sys.stderr.isatty() or not wanted:
        yield None
        return
    columns = (rich.progress.BarColumn(),
               rich.progress.TaskProgressColumn(),
               rich.progress.TimeRemainingColumn())
    bar = rich.progress.Progress(*columns, transient=True,
                                 console=rich.console.Console(stderr=True))
    task = bar.add_task(what, total=None)

    def tell(done: int, total: int) -> None:
        bar.start()     # only now: somebody else may have had a bar before
        bar.update(task, completed=done, total=total)

    try:
        yield tell
    finally:
        bar.stop()


def _out(said: str | bytes) -> None:
    """Write to stdout; bytes of sources as they are."""
    if isinstance(said, str):
        said = said.encode('utf-8', 'surrogateescape')
    sys.stdout.buffer.write(said)


def _err(said: str) -> None:
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(said.encode('utf-8', 'surrogateescape'))
    sys.stderr.buffer.flush()


def _finish(result: run.Result, code: int, incomplete: bool = False) -> int:
    """Tell what was covered and what failed; the exit code."""
    _err(report.coverage_line(result.coverage))
    for failure in result.coverage.failures:
        _err('cocci-dma: %s\n' % failure)
    return 2 if incomplete or not result.complete else code


class _Interrupted(BaseException):
    """A signal asks us to end.  (click would answer a KeyboardInterrupt.)"""


def _on_signal(number: int, frame: object) -> NoReturn:
    # Once: a second signal must not cut short the cleaning up.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise _Interrupted


def main(arguments: Iterable[str] | None = None,
         folder: Path = COCCI) -> NoReturn:
    """Run the command line with the rules of `folder`, and exit."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _on_signal)
    try:
        code = cli.main(list(arguments) if arguments is not None else None,
                        prog_name='cocci-dma', standalone_mode=False,
                        obj=folder)
        sys.stdout.flush()
    except click.ClickException as error:
        _err('cocci-dma: %s\n' % error.format_message())
        code = 2
    except Trouble as error:
        _err('cocci-dma: %s\n' % error)
        code = 2
    except _Interrupted:
        _err('cocci-dma: interrupted: every file is either as it was or '
             'converted in full\n')
        code = 2
    except BrokenPipeError:
        # Whoever read us has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 2
    sys.exit(code)

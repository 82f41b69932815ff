# SPDX-License-Identifier: GPL-2.0-only
"""The command line: options in, exit code out; the work is done elsewhere.

Exit codes: 0 nothing found or done, 1 findings, 2 the tool could not do its
job (and says in one line why, and what to do).
"""
from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NoReturn, Sequence

import click
import rich.console
import rich.progress

from runtime import bench, kernel, output, table

from . import (COCCI, VERSION, Trouble, baseline, config, doctor, edit, farm,
               formats, groups, merging, report, rules, run)

_MODES = ('report', 'patch', 'context', 'org')


def _options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Several click options as one decorator."""
    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function
    return apply


_shared = _options(
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
)
_verbose = functools.partial(click.option, is_flag=True, help='Show every '
                             'spatch command on stderr.')
_common = _options(_shared, _verbose('--verbose', '-v'))
_settings = click.option('--config', metavar='FILE',
                         type=click.Path(path_type=Path), help='Settings '
                         '(default: %s here or above, in the repository).'
                         % config.NAME)


def _shard(_context: click.Context, _option: click.Parameter,
           told: str | None) -> tuple[int, int] | None:
    """I/N as numbers."""
    if told is None:
        return None
    found = re.fullmatch(r'(\d+)/(\d+)', told)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter('%s: write I/N, with I from 1 to N' % told)
    return int(found[1]), int(found[2])


@click.group(context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(VERSION, message='%(prog)s %(version)s')
def cli() -> None:
    """Move Linux drivers to the DMA API, or say why not.

    A PATH is a source file or a folder.  A file stands for the whole driver
    that it is built into: its other sources and its headers are looked at,
    and rewritten, with it.
    """


@cli.command()
@_common
@_settings
@click.option('--format', 'format_', default='text',
              type=click.Choice(tuple(formats.FORMATS)), help='Of stdout.')
@click.option('--strict', is_flag=True, help='Exit 2 also when a function '
              'was not parsed or a file was skipped.')
@click.option('--baseline', 'accepted', metavar='FILE',
              type=click.Path(path_type=Path),
              help='Tell only what is not in FILE.')
@click.option('--update-baseline', is_flag=True,
              help='Write what is found to the baseline.')
@click.option('--diff', 'revision', metavar='REV', help='Tell only what came '
              'in since the branch left REV.')
@click.option('--shard', metavar='I/N', callback=_shard, help='Only the '
              'I-th of N parts of the drivers; `merge` puts them together.')
@click.option('--hosts', metavar='FILE', type=click.Path(path_type=Path),
              help='Work on the machines whose ssh logins FILE lists.')
@click.option('--fixes', is_flag=True, help='Also say what conversions would '
              'change, in JSON as always in SARIF.')
@click.option('--no-cache', is_flag=True, help='Use and keep no answers of '
              'other runs.')
def check(paths: Sequence[str], names: Sequence[str], kdir: str | None,
          config: Path | None, format_: str, strict: bool,
          accepted: Path | None, update_baseline: bool, revision: str | None,
          shard: tuple[int, int] | None, hosts: Path | None, fixes: bool,
          no_cache: bool, **how: Any) -> int:
    """Show what could or should be changed; change nothing."""
    settings = _config(config)
    chosen = _chosen(names, settings)
    if accepted is None and settings.baseline:
        accepted = Path(settings.baseline)
    if update_baseline and accepted is None:
        raise Trouble('--update-baseline: name the file with --baseline')
    if update_baseline and (revision or shard):
        raise Trouble('--update-baseline: a baseline is made of all findings: '
                      'leave out --diff and --shard')
    if hosts and (revision or shard):
        raise Trouble('--hosts: works out everything: leave out --diff and '
                      '--shard')
    known = None if accepted is None or update_baseline \
        else baseline.load(accepted)
    with _documented(format_), _running(settings, **how) as options:
        options.cache = not no_cache
        options.shard = shard
        options.fixes = fixes or format_ == 'sarif'
        if hosts:
            result = farm.check(paths, hosts, _elsewhere(chosen, options),
                                kdir)
        else:
            result = run.check(paths, chosen, options, kdir, revision)
        if not names:
            result.leave_needless()
        if update_baseline:
            baseline.save(accepted, result.findings, result.tree.rooted)
            result.findings = []
        gone = 0
        if known is not None:
            result.findings, listed, gone = known.sift(
                result.findings, functools.partial(_named, result.tree, paths))
            result.suppressed += listed
        _out(formats.FORMATS[format_](result, _rules()))
    if gone and not (revision or shard):
        _err('note: %d findings of %s are gone: --update-baseline takes them '
             'out\n' % (gone, accepted))
    missed = result.coverage.unparsed or result.coverage.skipped
    return _finish(result, 1 if result.findings else 0,
                   incomplete=strict and bool(missed))


@cli.command()
@click.argument('files', metavar='FILE...', nargs=-1, required=True,
                type=click.Path(path_type=Path))
def merge(files: Sequence[Path]) -> int:
    """Put the outputs of all shards (JSON or SARIF) together, on stdout."""
    whole, found, complete = merging.merge(files)
    _out(whole)
    return (1 if found else 0) if complete else 2


@cli.command()
@_common
@_settings
@click.option('--format', 'format_', default='text',
              type=click.Choice(('text', 'json')), help='Of stdout.')
@click.option('--in-place', is_flag=True, help='Rewrite the files.')
@click.option('--evidence', is_flag=True, help='Also say on stderr what was '
              'proven of the converted places, such as why an allocation may '
              'sleep; JSON always holds it.')
def convert(paths: Sequence[str], names: Sequence[str], kdir: str | None,
            config: Path | None, format_: str, in_place: bool, evidence: bool,
            **how: Any) -> int:
    """Convert drivers: a diff on stdout, refusals on stderr."""
    settings = _config(config)
    chosen = _chosen(names, settings)
    for rule in chosen:
        if names and not rule.converts:
            raise Trouble('rule %s only reports: use `cocci-dma check`'
                          % rule.name)
    with contextlib.ExitStack() as held:
        options = held.enter_context(_running(settings, **how))
        journal = held.enter_context(edit.locked(paths)) if in_place else None
        result = run.convert(paths, chosen, options, kdir,
                             writable=edit.require_writable
                             if in_place else None)
        diff = report.diff(result.edits)
        if journal is not None:
            edit.write(result.edits, journal)
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
@_shared
@_verbose('--verbose')
@_settings
@click.option('--output', '-o', 'target', metavar='OUTDIR', required=True,
              type=click.Path(path_type=Path), help='A new folder for the '
              'mails.')
@click.option('--version', '-v', 'version', type=click.IntRange(1), default=1,
              metavar='N', help='Of the series: [PATCH vN].')
@click.option('--changes', metavar='FILE', type=click.Path(path_type=Path),
              help='What is new in this version.')
@click.option('--previous', metavar='DIR', type=click.Path(path_type=Path),
              help='Mails of the version before, for a range-diff.')
@click.option('--build-config', metavar='FILE',
              type=click.Path(path_type=Path), help='Kernel configuration to '
              'compile with (default: that of the tree, else allmodconfig).')
@click.option('--make', 'variables', metavar='NAME=VALUE', multiple=True,
              help='A variable for make, such as ARCH=arm (may be given '
              'several times).')
@click.option('--no-build', is_flag=True, help='Do not compile.')
def patches(paths: Sequence[str], names: Sequence[str], kdir: str | None,
            config: Path | None, target: Path, version: int,
            changes: Path | None, previous: Path | None,
            build_config: Path | None, variables: Sequence[str],
            no_build: bool, **how: Any) -> int:
    """Write conversions as a series of patches, to review and to send.

    The kernel tree (--kdir) is a git repository; nothing in it is changed.
    docs/patches.md says more.
    """
    # Here: nothing else needs what this needs
    from .series import command, mails
    if kdir is None:
        raise Trouble('patches are made for a kernel tree: name it, --kdir '
                      'DIR')
    settings = _config(config)
    chosen = _chosen(names, settings)
    options = command.Options(
        target, mails.options(version, changes, previous), not no_build,
        build_config, command.settings(variables))
    with _running(settings, **how) as running:
        done = command.make(paths, chosen, running, kdir, options)
    _err(report.left_over(done.result.findings))
    for series in done.series:
        _out('%s: %d patch%s\n' % (target / series.folder,
                                   len(series.patches), 'es' if len(
                                       series.patches) != 1 else ''))
    if not done.series:
        _out('nothing to convert: no patches\n')
    for problem in done.problems:
        _err('cocci-dma: %s\n' % problem)
    return _finish(done.result, 2 if done.problems else 0)


@cli.command()
@_common
@_settings
@click.option('--mode', default='report', metavar='|'.join(_MODES))
def coccicheck(paths: Sequence[str], names: Sequence[str], kdir: str | None,
               config: Path | None, mode: str, **how: Any) -> int:
    """Do what the kernel's `make coccicheck` does, for whole drivers.

    As there, findings are no failure.
    """
    if mode not in _MODES:
        raise Trouble('unknown MODE %s: it is one of %s'
                      % (mode, ', '.join(_MODES)))
    settings = _config(config)
    chosen = _chosen(names, settings)
    with _running(settings, **how) as options:
        if mode == 'patch':
            result = run.convert(paths, chosen, options, kdir)
            _out(report.diff(result.edits))
            _err(report.where_to_apply(result.tree, result.edits))
            _err(report.left_over(result.findings))
        elif mode == 'context':
            result = run.context(paths, chosen, options, kdir)
            _out(result.output)
        else:
            options.cache = True
            result = run.check(paths, chosen, options, kdir)
            if not names:
                result.leave_needless()
            show = report.org if mode == 'org' else report.text
            _out(show(result.findings))
    return _finish(result, 0)


@cli.command('census')
@_common
@_settings
@click.option('--output', '-o', 'target', metavar='FILE',
              type=click.Path(path_type=Path), default='census.html',
              show_default=True)
@click.option('--link', metavar='URL', help='Where sources are, such as '
              'https://HOST/{path}#L{line} (default: in the files here).')
def write_census(paths: Sequence[str], names: Sequence[str], kdir: str | None,
                 config: Path | None, target: Path, link: str | None,
                 **how: Any) -> int:
    """Write a page for a browser: what there is to do in a tree, and where.

    As for coccicheck, findings are no failure.
    """
    # Here: nothing else needs what this needs
    from . import census
    if link is not None:
        census.require_link(link)
    output.require(target)
    settings = _config(config)
    chosen = _chosen(names, settings)
    with _running(settings, **how) as options:
        options.cache = True
        result = run.check(paths, chosen, options, kdir)
    output.write(target, census.render(result, chosen, paths, link))
    _err('%s: written\n' % target)
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
@click.option('--html', metavar='FILE', type=click.Path(path_type=Path),
              help='Write them as a page for a browser, with logs and diffs.')
def bench_driver(folders: Sequence[Path], junit: Path | None,
                 html: Path | None, **how: Any) -> int:
    """Convert drivers, and run both forms on QEMU's devices.

    DIR holds a driver with its Kbuild; nothing in it is changed.  Exit code
    1: something is not as it should be.  docs/runtime.md says more.
    """
    how['devices'] = how['devices'] or (bench.EDU,)
    for path in (junit, html):
        if path is not None:
            output.require(path)
    if html is not None:
        # Here: nothing else needs what this needs
        from runtime import page
    with _progress('runs', True) as progress:
        options = bench.Options(progress=progress, **how)
        results = bench.bench(folders, options)
    _out(table.text(results.rows, shutil.get_terminal_size((120, 0)).columns))
    _err(''.join(_notes(results)))
    if junit is not None:
        table.write_junit(results.rows, junit)
    if html is not None:
        output.write(html, page.render(results))
    return 1 if any(row.problem for row in results.rows) else 0


def _notes(results: bench.Results) -> Iterator[str]:
    """What explains results of drivers of which nothing was expected."""
    for row in results.rows:
        if row.form.kind != 'old' or row.mode != 'direct' \
                or row.form.case.works is not None:
            continue
        name = row.form.case.name
        for line in report.text(results.conversions[name].left_over
                                ).splitlines(keepends=True):
            yield '%s: %s' % (name, line)
        if {'data', 'crash'} & set(row.verdict.said):
            yield ('%s: note: the old form fails even in mode direct; if its '
                   'device does not keep what is written to it, drive it by '
                   '--guest\n' % name)
        elif row.verdict.clean and not row.verdict.transferred:
            yield ('%s: note: no data was moved, for the driver has no device '
                   'node: drive it by --guest\n' % name)
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
    _out(chosen.page or '%s\n\n%s\n\n%s\n\nConfidence: %s\n' % (
        chosen.name, chosen.summary, chosen.caveats, chosen.confidence))
    return 0


@cli.command('doctor')
def diagnose() -> int:
    """Is everything here that is needed, and if not: what to install."""
    missing = False
    for item in doctor.examine():
        missing = missing or not (item.good or item.optional or item.trap)
        state = ('ok' if item.good else 'note' if item.trap else
                 'absent (for the bench, patches and `make test`)'
                 if item.optional else 'MISSING')
        _out('%s %s: %s\n' % (state, item.name, item.detail))
    return 2 if missing else 0


# --- Shared by the commands -------------------------------------------------

def _rules() -> list[rules.Rule]:
    """The rules of the folder that main() was given."""
    return rules.load(click.get_current_context().obj)


def _elsewhere(chosen: Sequence[rules.Rule],
               options: run.Options) -> list[str]:
    """The options of `check` for another machine."""
    return [*(word for rule in chosen for word in ('--rule', rule.name)),
            *(('--net',) if options.net else ()),
            *(('--fixes',) if options.fixes else ())]


def _named(tree: groups.Tree, paths: Sequence[str], path: str) -> bool:
    """Does a path in the project lie at or below one that was named?"""
    place = os.path.join(tree.root or tree.base, path)
    return any(os.path.commonpath((place, top)) == top
               for top in map(os.path.realpath, paths))


def _config(named: Path | None) -> config.Config:
    """The settings that hold here.  Raises Trouble."""
    return config.load(named or config.find(), _rules())


def _chosen(names: Sequence[str], settings: config.Config
            ) -> list[rules.Rule]:
    """The rules of these names; without one, those of the settings."""
    return rules.select(_rules(), names) if names \
        else settings.rules(_rules())


@contextlib.contextmanager
def _running(settings: config.Config, jobs: int, net: bool, verbose: bool
             ) -> Iterator[run.Options]:
    """Options for a run, with a progress bar when somebody watches.

    What another run began to write, and was killed, is finished before.
    """
    for note in edit.settle():
        _err('note: %s\n' % note)
    with _progress('drivers', not verbose) as progress:
        yield run.Options(jobs=jobs, net=net or settings.net, verbose=verbose,
                          progress=progress, config=settings,
                          known_rules=[rule.name for rule in _rules()])


@contextlib.contextmanager
def _documented(format_: str) -> Iterator[None]:
    """Also say in the document that is made why there is no result."""
    try:
        yield
    except Trouble as error:
        if format_ in formats.DOCUMENTS:
            nothing = run.Result(groups.Tree(os.getcwd()))
            nothing.coverage.failures.append(str(error))
            _out(formats.FORMATS[format_](nothing, _rules()))
        raise


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
    for note in result.notes:
        _err('note: %s\n' % note)
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
    except OSError as error:    # of a scratch copy, say
        _err('cocci-dma: %s: %s: nothing was changed\n'
             % (error.filename or tempfile.gettempdir(), error.strerror))
        code = 2
    sys.exit(code)

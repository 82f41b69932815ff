#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Putting checks back: how good are the checks that dma_mapping_error inserts?

Takes mappings of a kernel tree that people check, removes one check, lets the
rule insert it again, and compares what the two error branches do (judge.py).

    bench/ablation.py --tree ~/linux                   200 sites, a table
    bench/ablation.py --tree ~/linux --only drivers/net/foo.c:123 --read 1
    bench/ablation.py --tree ~/linux --baseline human  must all be right
    bench/ablation.py --tree ~/linux --baseline return-enomem

--tree DIR       the kernel tree (only read)
--sites N        how many sites, at most two a file; 0: all, no such limit
--seed S         the sample is the same for the same tree, N and S
--only FILE:LINE only this site (line of the mapping or of its check; may be
                 given several times; FILE alone: all its sites); no scan
--list           print the sites and stop
--jobs J         so many runs of spatch at once
--whole          give spatch all files of the driver, as the front door does,
                 not just the one that changed (slower)
--decision       without spatch: put in what the decision says, text by text
                 (all of 7.2 in minutes; says nothing about the SmPL part)
--rules DIR      the folder with dma_mapping_error.cocci (default: cocci/)
--read N         print N insertions in full, for reading by hand
--show VERDICT   print all cases of this verdict in full
--report FILE    where all but the right ones go (default: in the temporary folder)
--baseline B     no rule: insert `return-enomem`.  Or, to test the judge, the
                 `human`'s own check or that with each goto replaced by what
                 stands at the label (`inlined`): (nearly) all must be
                 right; or a `mutant` of it, a release or a jump changed:
                 hardly one may be

Verdicts: right (the same is undone and control goes on alike), wrong, wrong?
(not proven alike: read it), refused (with the rule's message), missed (the rule
says nothing about the mapping), failed (spatch did not finish).
"""
from __future__ import annotations

import argparse
import difflib
import hashlib
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Iterable, Iterator

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / 'cocci')]

from cocci_dma import COCCI, Trouble, rules, spatch  # noqa: E402
from evidence import cparse as c, dma_mapping_error, kbuild  # noqa: E402
from evidence.driver import Driver, strip, text  # noqa: E402
import judge  # noqa: E402

MAPS = frozenset(
    'dma_map_single dma_map_page dma_map_resource dma_map_single_attrs '
    'dma_map_page_attrs skb_frag_dma_map'.split())
#: Statements that may stand between a mapping and its check (the handle is
#: often recorded first).
_BETWEEN = 3
VERDICTS = ('right', 'wrong', 'wrong?', 'refused', 'missed', 'failed')


# ----------------------------------------------------------------- the sites

@dataclass(frozen=True)
class Site:
    """A checked mapping.  start, end: where its check is in the file's text."""

    path: str                  # relative to the tree
    line: int                  # of the mapping
    last_line: int
    check_line: int
    function: str
    number: int                # which mapping of the function
    handle: str
    start: int
    end: int
    lonely: str                # labels that only this check jumps to

    def __str__(self) -> str:
        return '%s:%d' % (self.path, self.line)


def candidates(tree: Path) -> list[str]:
    """Files of drivers/ that name dma_mapping_error, sorted."""
    found = subprocess.run(
        ['grep', '-rlw', 'dma_mapping_error', '--include=*.c', '--include=*.h',
         'drivers'], cwd=tree, capture_output=True, text=True, check=False)
    return sorted(found.stdout.split())


def sites_of(tree: Path, path: str) -> Iterator[Site]:
    """The checked mappings of one file, in source order."""
    source = c.SourceFile(str(tree / path))
    for func in source.all_functions():
        if 'dma_mapping_error' in func.words and func.words & MAPS and func.body:
            yield from _sites_in(path, func)


def _sites_in(path: str, func: c.Function) -> Iterator[Site]:
    numbers = {id(call): number for number, call in enumerate(_maps(func))}
    jumps = Counter(n.name for n in func.body.walk() if isinstance(n, c.Goto))
    for block in func.body.walk():
        if not isinstance(block, c.Block):
            continue
        for index, stmt in enumerate(block.body):
            handle, call = _mapping(stmt)
            check = _check_of(handle, block.body[index + 1:]) if call else None
            if check is None:
                continue
            inside = Counter(n.name for n in check.walk()
                             if isinstance(n, c.Goto))
            lonely = [n for n in inside if inside[n] == jumps[n]]
            yield Site(path, call.first.line, stmt.last.line, check.first.line,
                       func.name, numbers[id(call)], handle,
                       check.first.start, check.last.end, ' '.join(lonely))


def _maps(func: c.Function) -> list[c.Call]:
    return sorted((call for call in func.calls() if call.name in MAPS),
                  key=lambda call: call.first.start)


def _mapping(stmt: c.Stmt) -> tuple[str, c.Call | None]:
    """(handle, call) of `handle = dma_map_xxx(...);`."""
    handle, value = '', None
    if isinstance(stmt, c.ExprStmt) and isinstance(stmt.expr, c.Assign) \
            and stmt.expr.op == '=':
        handle, value = text(stmt.expr.left), strip(stmt.expr.right)
    elif isinstance(stmt, c.Decl) and stmt.variables:
        handle = stmt.variables[-1].name
        value = strip(stmt.variables[-1].init)
    if isinstance(value, c.Call) and value.name in MAPS:
        return handle, value
    return '', None


def _check_of(handle: str, following: list[c.Stmt]) -> c.If | None:
    """The check of a handle among the statements after its mapping."""
    for stmt in following[:_BETWEEN + 1]:
        if isinstance(stmt, c.If):
            call = _plain(stmt.cond)
            checks = isinstance(call, c.Call) and len(call.args) == 2 \
                and call.name == 'dma_mapping_error' \
                and text(strip(call.args[1])) == handle
            return stmt if checks and stmt.other is None \
                and not judge.prints(stmt.then) else None
        if not isinstance(stmt, c.ExprStmt) or _mapping(stmt)[1]:
            return None
    return None


def _plain(cond: c.Expr) -> c.Expr:
    """A condition without unlikely() and parentheses."""
    core = strip(cond)
    while isinstance(core, c.Call) and core.name in ('unlikely', 'likely') \
            and core.args:
        core = strip(core.args[0])
    return core


def choose(tree: Path, number: int, seed: int) -> list[Site]:
    """The sample: `number` sites, at most two a file (0: all there are)."""
    every = [site for path in candidates(tree) for site in sites_of(tree, path)]
    if not number:
        return every
    # By hash, so that a parser that finds one site more moves no other.
    every.sort(key=lambda site: hashlib.sha256(
        ('%d %s' % (seed, site)).encode()).digest())
    chosen: list[Site] = []
    files: Counter[str] = Counter()
    for site in every:
        if files[site.path] < 2 and len(chosen) < number:
            files[site.path] += 1
            chosen.append(site)
    return sorted(chosen, key=lambda site: (site.path, site.line))


def named(tree: Path, places: Iterable[str]) -> list[Site]:
    """The sites that --only names; Trouble for a place that is none."""
    chosen: list[Site] = []
    for place in places:
        path, _, line = place.partition(':')
        path = os.path.relpath(path, tree) if os.path.isabs(path) else path
        if not (tree / path).is_file():
            raise Trouble('%s: no such file in %s' % (path, tree))
        found = [site for site in sites_of(tree, path)
                 if not line or int(line) in (site.line, site.check_line)]
        if not found:
            raise Trouble('%s: no checked mapping there' % place)
        chosen += found
    return chosen


# ------------------------------------------------------------------ one case

@dataclass
class Case:
    """A site, and what came of it."""

    site: Site
    verdict: str = ''
    message: str = ''
    human: str = ''            # the branches as written, with their labels
    ours: str = ''


def without(source: str, site: Site, instead: str = '') -> str:
    """The file's text with the check replaced, whole lines if nothing is left."""
    before, after = source[:site.start], source[site.end:]
    if not instead:
        line_begin = before.rfind('\n') + 1
        if not before[line_begin:].strip() and after.startswith('\n'):
            before, after = before[:line_begin], after[1:]
    return before + instead + after


class Runner:
    """Runs the rule on a scratch copy of the driver of a site."""

    def __init__(self, tree: Path, scratch: str, whole: bool, folder: Path):
        self._tree, self._scratch, self._whole = tree, scratch, whole
        self._rule = rules.select(rules.load(folder), ['dma_mapping_error'])[0]
        self._spatch = spatch.Spatch(scratch, str(tree))

    def convert(self, site: Site, ablated: str) -> tuple[str, spatch.Run]:
        """The converted file and what the run said."""
        driver = kbuild.driver_of(str(self._tree / site.path))
        names = [os.path.relpath(path, self._tree) for path in driver.files]
        if site.path not in names:
            names.insert(0, site.path)
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            for name in names:
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._tree / name, target)
            changed = Path(folder, site.path)
            changed.write_text(ablated, encoding='latin-1', newline='')
            run = self._spatch.run(self._rule, 'patch', folder, [spatch.Group(
                tuple(names) if self._whole else (site.path,), tuple(names))])
            with open(changed, encoding='latin-1', newline='') as handle:
                return handle.read(), run


def try_rule(tree: Path, site: Site, runner: Runner) -> Case:
    """Remove a check, let the rule insert it, and judge."""
    original = _read(tree / site.path)
    ablated = without(original, site)
    converted, run = runner.convert(site, ablated)
    if run.timed_out or run.failure:
        return Case(site, 'failed', run.failure or 'out of time')
    case = judged(site, original, ablated, converted)
    if case.verdict == 'missed':
        _explain(case, run)
    return case


def try_decision(tree: Path, site: Site) -> Case:
    """Remove a check, put in what the decision says, and judge."""
    original = _read(tree / site.path)
    ablated = without(original, site)
    path = str(tree / site.path)
    files = [str(file) for file in kbuild.driver_of(path).files]
    driver = Driver([path, *files], {path: ablated})
    units = dma_mapping_error.decide(driver, frozenset())
    for unit in units:
        for edit in unit.edits:
            if edit.path == path and edit.token.line == site.line:
                stmt = _statement_at(driver.file(path), edit.token)
                text_ = '\nif (dma_mapping_error(%s, %s)) %s' % (
                    edit.values['dev'], edit.values['handle'],
                    edit.values['action'])
                return judged(site, original, ablated, ablated[:stmt]
                              + text_ + ablated[stmt:])
        for note in unit.notes:
            if note.path == path and \
                    site.line <= note.token.line <= site.last_line:
                return Case(site, 'refused', note.message,
                            _human(original, site))
    return Case(site, 'missed', human=_human(original, site))


def _human(original: str, site: Site) -> str:
    """The branch that a person wrote, with its labels."""
    source = c.SourceFile(site.path, original)
    func = _function(source, site, site.number)
    return _branch_text(source, func, _check_at(func, site))


def _check_at(func: c.Function, site: Site) -> c.If:
    return next(node for node in func.body.walk()
                if isinstance(node, c.If) and node.first.start == site.start)


def _statement_at(source: c.SourceFile, token: Any) -> int:
    """Where the statement ends that a mapping stands in."""
    func = source.function_at(token.line)
    return min(node.last.end for node in func.body.walk()
               if isinstance(node, (c.ExprStmt, c.Decl))
               and node.first.start <= token.start < node.last.end)


def try_baseline(tree: Path, site: Site, kind: str) -> Case:
    """The same with a check that needs no rule."""
    original = _read(tree / site.path)
    check = original[site.start:site.end]
    if kind == 'return-enomem':
        check = 'if (dma_mapping_error(NULL, %s))\n\t\treturn -ENOMEM;' % site.handle
    elif kind == 'mutant':
        check = '\n' + mutant(original, site)
    elif kind == 'inlined':
        check = '\n' + inlined(original, site)
    else:
        check = '\n' + check
    return judged(site, original, without(original, site),
                  without(original, site, check))


def inlined(original: str, site: Site) -> str:
    """The human's check without goto, where the label leads to a return."""
    func = _function(c.SourceFile(site.path, original), site, site.number)
    check = _check_at(func, site)
    out, done = '', site.start
    for node in check.then.walk():
        if isinstance(node, c.Goto):
            tail = _tail(original, func, node.name)
            if tail:
                out += original[done:node.first.start] + '{' + tail + '}'
                done = node.last.end
    return out + original[done:site.end]


def _tail(original: str, func: c.Function, label: str) -> str:
    """The code from a label of the outermost block to the return."""
    out = ''
    found = False
    for stmt in func.body.body:
        if isinstance(stmt, c.Label):
            found = found or stmt.name == label
        elif found:
            out += original[stmt.first.start:stmt.last.end] + '\n'
            if isinstance(stmt, c.Return):
                return out
    return out + 'return;' if found and func.returns.base == 'void' else ''


def mutant(original: str, site: Site) -> str:
    """The human's check with one thing wrong."""
    func = _function(c.SourceFile(site.path, original), site, site.number)
    check = _check_at(func, site)
    labels = [n.name for n in func.body.walk() if isinstance(n, c.Label)]

    def replaced(node: c.Node, new: str) -> str:
        return original[site.start:node.first.start] + new \
            + original[node.last.end:site.end]

    for node in check.then.walk():
        if isinstance(node, c.ExprStmt) and isinstance(node.expr, c.Call) \
                and judge.RELEASE.search(node.expr.name) \
                and not judge.ignored(node.expr):
            return replaced(node, ';')
    for node in check.then.walk():
        if isinstance(node, c.Goto):
            others = [name for name in labels if name != node.name]
            return replaced(node, 'goto %s;' % others[-1] if others
                            else 'return;')
        if isinstance(node, (c.Return, c.Jump)):
            return replaced(node, ';')
    return original[site.start:check.then.first.start] + 'return;'


def _read(path: Path) -> str:
    with open(path, encoding='latin-1', newline='') as handle:
        return handle.read()


def judged(site: Site, original: str, ablated: str, converted: str) -> Case:
    """Compare the check of `original` with the one that `converted` got."""
    human_source = c.SourceFile(site.path, original)
    our_source = c.SourceFile(site.path, converted)
    human_func = _function(human_source, site, site.number)
    human = _check_at(human_func, site)
    case = Case(site, human=_branch_text(human_source, human_func, human))
    our_func = _function(our_source, site, site.number)
    if our_func is None or our_func.body is None:
        case.verdict, case.message = 'wrong', 'the result does not parse'
        return case
    ours = _inserted(our_func, site, ablated, converted)
    if ours is None:
        case.verdict = 'missed'
        return case
    case.ours = _branch_text(our_source, our_func, ours)
    helpers = {func.name: func for func in human_source.all_functions()}
    case.verdict, case.message = judge.compare(
        judge.Branch(human_func, human, helpers),
        judge.Branch(our_func, ours, helpers))
    return case


def _function(source: c.SourceFile, site: Site,
              number: int) -> c.Function | None:
    """The function of a site (names may be defined twice, under #if)."""
    found = [f for f in source.all_functions() if f.name == site.function]
    for func in found:
        if func.first.line <= site.line <= func.last.line:
            return func
    for func in found:
        if func.body and len(_maps(func)) > number:
            return func
    return found[0] if found else None


def _inserted(func: c.Function, site: Site, ablated: str,
              converted: str) -> c.If | None:
    """The check that was added for the mapping of a site."""
    maps = _maps(func)
    if len(maps) <= site.number:
        return None
    added = _added_lines(ablated, converted)
    begin = maps[site.number].first.start
    # A handle that is cut to 32 bits is tested before, in another variable.
    end = min((call.first.start for call in maps if call.first.start > begin),
              default=func.last.end)
    for node in func.body.walk():
        if isinstance(node, c.If) and begin < node.first.start < end \
                and node.first.line in added and any(
                    isinstance(n, c.Call) and n.name == 'dma_mapping_error'
                    for n in node.cond.walk()):
            return node
    return None


def _added_lines(old: str, new: str) -> set[int]:
    """Numbers of the lines of `new` that `old` does not have."""
    matcher = difflib.SequenceMatcher(None, old.split('\n'), new.split('\n'),
                                      autojunk=False)
    added: set[int] = set()
    for kind, _, _, begin, end in matcher.get_opcodes():
        if kind != 'equal':
            added.update(range(begin + 1, end + 1))
    return added


def _explain(case: Case, run: spatch.Run) -> None:
    """Why nothing was inserted: what the rule said about the mapping."""
    site = case.site
    here = [e for e in run.events if os.path.normpath(e['path']).endswith(site.path)
            and site.line <= e['line'] <= site.last_line]
    for event in here:
        if event['kind'] == 'fix':
            case.verdict = 'wrong'
            case.message = 'said to be fixed, but no check was written: %s' \
                % event['message']
            return
    if here:
        case.verdict, case.message = 'refused', here[0]['message']
    elif any(name == site.function for _, _, name in run.unparsed):
        case.message = 'spatch did not parse %s' % site.function


# ------------------------------------------------------------------- showing

def _branch_text(source: c.SourceFile, func: c.Function, stmt: c.If) -> str:
    """A check as written, followed by the labels that it leads to."""
    lines = source.text.split('\n')
    out = lines[stmt.first.line - 1:stmt.last.line]
    labels = {n.name: n for n in func.body.walk() if isinstance(n, c.Label)}
    for node in stmt.walk():
        if isinstance(node, c.Goto) and node.name in labels:
            first = labels[node.name].first.line
            tail = lines[first - 1:func.last.line - 1]
            stops = [i for i, line in enumerate(tail)
                     if re.match(r'\t?return\b', line)]
            tail = tail[:stops[0] + 1] if stops else tail
            out += ['    ...'] + tail[:40]
    return '\n'.join(out)


def in_full(case: Case, tree: Path) -> str:
    """Everything a person needs to judge a case."""
    site = case.site
    lines = _read(tree / site.path).split('\n')
    shown = lines[max(site.line - 6, 0):site.check_line - 1]
    parts = ['=== %s: %s (function %s)' % (site, case.verdict, site.function)]
    if case.message:
        parts.append('    ' + case.message)
    parts.append('--- before\n' + '\n'.join(shown))
    parts.append('--- human\n' + case.human)
    if case.ours:
        parts.append('--- ours\n' + case.ours)
    return '\n'.join(parts) + '\n'


def table(cases: list[Case], seconds: float) -> str:
    """The figures."""
    counts = Counter(case.verdict for case in cases)
    lonely = Counter(case.verdict for case in cases if case.site.lonely)
    cpu = sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
              for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    out = ['%-8s %5s %7s   %s' % ('verdict', 'cases', '', 'whose label nobody '
                                  'else uses')]
    for verdict in VERDICTS:
        out.append('%-8s %5d %6.1f%%   %d' % (
            verdict, counts[verdict], 100 * counts[verdict] / len(cases),
            lonely[verdict]))
    out.append('%-8s %5d           wall %.0f s, CPU %.0f s'
               % ('all', len(cases), seconds, cpu))
    return '\n'.join(out)


def reasons(cases: list[Case]) -> str:
    """Messages of the refusals, names left out, most frequent first."""
    counts = Counter(
        re.sub(r"[\w/.-]+:\d+|\b\w*[_\d]\w*\b(?:->|\.|\(\))?", '_', case.message)[:100]
        for case in cases if case.verdict == 'refused')
    return '\n'.join('%5d  %s' % (number, said)
                     for said, number in counts.most_common(15))


# ---------------------------------------------------------------------- main

def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tree', required=True, type=Path)
    parser.add_argument('--sites', type=int, default=200)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--only', action='append', default=[])
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--whole', action='store_true')
    parser.add_argument('--decision', action='store_true')
    parser.add_argument('--rules', type=Path, default=COCCI)
    parser.add_argument('--read', type=int, default=0)
    parser.add_argument('--show', action='append', default=[], choices=VERDICTS)
    parser.add_argument('--report', type=Path, default=Path(
        tempfile.gettempdir(), 'cocci-dma-ablation.txt'))
    parser.add_argument('--baseline', choices=(
        'return-enomem', 'human', 'inlined', 'mutant'))
    return parser.parse_args()


def judge_all(args: argparse.Namespace, sites: list[Site]) -> list[Case]:
    """All cases, with progress on a terminal."""
    cases: list[Case] = []
    with tempfile.TemporaryDirectory(prefix='cocci-dma-ablation-') as scratch:
        kind: type[ThreadPoolExecutor | ProcessPoolExecutor] = \
            ProcessPoolExecutor
        if args.baseline:
            one = partial(try_baseline, args.tree, kind=args.baseline)
        elif args.decision:
            one = partial(try_decision, args.tree)
        else:
            # spatch is what takes the time
            kind = ThreadPoolExecutor
            one = partial(try_rule, args.tree, runner=Runner(
                args.tree, scratch, args.whole, args.rules))
        with kind(args.jobs) as pool:
            for case in pool.map(one, sites):
                cases.append(case)
                if sys.stderr.isatty():
                    print('\r%d of %d' % (len(cases), len(sites)), end='',
                          file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return cases


def main() -> int:
    args = arguments()
    args.tree = args.tree.resolve()
    if not (args.tree / 'drivers').is_dir():
        raise Trouble('%s: no kernel tree (it has no drivers/)' % args.tree)
    began = time.monotonic()
    sites = named(args.tree, args.only) if args.only \
        else choose(args.tree, args.sites, args.seed)
    if args.list:
        for site in sites:
            print('%s %s: %s' % (site, site.function, site.handle))
        return 0
    cases = judge_all(args, sites)
    told = [case for case in cases if case.verdict != 'right']
    told.sort(key=lambda case: ('wrong', 'wrong?', 'missed', 'failed',
                                'refused').index(case.verdict))
    args.report.write_text('\n'.join(in_full(case, args.tree) for case in told),
                           encoding='utf-8', errors='replace')
    inserted = [case for case in cases if case.ours]
    random.Random(args.seed).shuffle(inserted)
    for case in inserted[:args.read]:
        print(in_full(case, args.tree))
    for case in cases:
        if case.verdict in args.show:
            print(in_full(case, args.tree))
        elif case.verdict != 'right' or args.only:
            print('%s: %s: %s' % (case.site, case.verdict, case.message))
    print('\n' + table(cases, time.monotonic() - began))
    if any(case.verdict == 'refused' for case in cases):
        print('\nWhy refused:\n' + reasons(cases))
    print('\nAll but the right ones in full: %s' % args.report)
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Trouble as trouble:
        print('ablation: %s' % trouble, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)

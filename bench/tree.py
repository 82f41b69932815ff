#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Rules over a whole kernel tree: sites found, fixed, refused; time and CPU.

    bench/tree.py --tree ~/linux                       all of drivers/, all rules
    bench/tree.py --tree ~/linux --path drivers/scsi --rule dma_mapping_error
    bench/tree.py --tree ~/linux --keep /tmp/7.2 --sample 40
    bench/tree.py --tree ~/linux --keep /tmp/7.2 --reuse --sample 40 --seed 2

--tree DIR     the kernel tree (only read)
--path P       below it (default drivers; may be given several times)
--rule R       only this rule (may be given several times)
--jobs J       for cocci-dma; plain spatch always has one
--keep DIR     keep what cocci-dma and plain spatch said, with the times
--reuse        take from --keep what is there instead of running it again
--no-plain     leave out the comparison with plain spatch
--sample N     print N sites with source, for reading by hand
--kind K       of this kind only (fix, refusal, finding, unparsed)
--seed S       another sample

"plain" is spatch alone with bench/plain/RULE.cocci, which finds the calls that
the rule is about and does nothing: what parsing costs.  The ratio is of CPU.
For dma_mapping_error there is bench/plain/unchecked_map.cocci besides, the
script that one writes first; its reports are compared with ours line by line.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PLAIN = HERE / 'plain'
sys.path.insert(0, str(ROOT))

from cocci_dma import Trouble, rules  # noqa: E402

Place = tuple[str, int]


@dataclass
class Measured:
    """One run of a command: what it said, and what it cost with children;
    memory: bytes, of the largest process."""

    code: int
    out: str
    err: str
    wall: float
    cpu: float
    memory: int = 0


def measure(command: list[str], cwd: Path,
            env: dict[str, str] | None = None) -> Measured:
    """Run a command to its end."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=err,
                                   stdin=subprocess.DEVNULL, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode('utf-8', 'replace'))
    return Measured(process.returncode, said[0], said[1], wall,
                    usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)


class Bench:
    """Runs cocci-dma and plain spatch over the same folders."""

    def __init__(self, args: argparse.Namespace):
        self.tree: Path = args.tree
        self._paths: list[str] = args.path
        self._jobs: int = args.jobs
        self._keep: Path | None = args.keep
        self._reuse: bool = args.reuse

    def ours(self, rule: str) -> Measured:
        """`cocci-dma check` with one rule."""
        command = [str(ROOT / 'cocci-dma'), 'check', *self._absolute(), '--kdir',
                   str(self.tree), '--rule', rule, '--format', 'json', '--no-cache',
                   '--jobs', str(self._jobs)]
        return self._measure(rule, command)

    def plain(self, script: str) -> Measured:
        """spatch alone with a script of bench/plain."""
        total = Measured(0, '', '', 0.0, 0.0)
        for path in self._paths:
            one = self._measure('plain-%s-%s' % (script, path.replace('/', '_')), [
                'spatch', '--very-quiet', '--no-includes', '-D', 'report',
                '--sp-file', str(PLAIN / (script + '.cocci')), '--dir', path])
            total = Measured(total.code or one.code, total.out + one.out,
                             total.err + one.err, total.wall + one.wall,
                             total.cpu + one.cpu)
        return total

    def _absolute(self) -> list[str]:
        return [str(self.tree / path) for path in self._paths]

    def _measure(self, name: str, command: list[str]) -> Measured:
        kept = self._keep / (name + '.json') if self._keep else None
        if kept and self._reuse and kept.exists():
            return Measured(**json.loads(kept.read_text(encoding='utf-8')))
        print('running: ' + name, file=sys.stderr, flush=True)
        result = measure(command, self.tree)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(asdict(result)), encoding='utf-8')
        return result


def findings_of(run: Measured, rule: str) -> dict[str, Any]:
    """What cocci-dma said, as JSON; Trouble when it said none."""
    try:
        return json.loads(run.out)
    except json.JSONDecodeError:
        last = (run.err.strip().splitlines() or ['no message'])[-1]
        raise Trouble('cocci-dma check --rule %s failed: %s'
                      % (rule, last)) from None


def matched_files(tree: Path, paths: Iterable[str], rule: rules.Rule) -> int:
    """How many files hold a keyword of the rule."""
    words = ['-e' + word for word in rule.keywords] or ['-e', '']
    found = subprocess.run(
        ['grep', '-rlwF', '--include=*.c', '--include=*.h', *words, *paths],
        cwd=tree, capture_output=True, text=True, check=False)
    return len(found.stdout.splitlines())


# ------------------------------------------------------------------- the table

HEAD = ('| rule | files | sites | fixed | refused | finding | not parsed '
        '| lost functions | failed | wall s | CPU s | plain CPU s | ratio |\n'
        '|---|' + '--:|' * 12)


def row(rule: str, files: int, said: dict[str, Any], ours: Measured,
        plain: Measured | None) -> str:
    """A line of the table; sites is all that the rule spoke of."""
    kinds = Counter(f['kind'] for f in said['findings'])
    coverage = said['coverage']
    failed = len(coverage['timeouts']) + len(coverage['failures'])
    cells = [rule, files, sum(kinds.values()), kinds['fix'], kinds['refusal'],
             kinds['finding'], kinds['unparsed'], len(coverage['unparsed']),
             failed, '%.0f' % ours.wall, '%.0f' % ours.cpu]
    cells += ['%.0f' % plain.cpu, '%.1f' % (ours.cpu / max(plain.cpu, 0.01))] \
        if plain else ['', '']
    return '| ' + ' | '.join(map(str, cells)) + ' |'


def against_plain(said: dict[str, Any], plain: Measured) -> str:
    """Our unchecked mappings beside those of the plain script."""
    mine = {(f['path'], f['line']) for f in said['findings']}
    theirs = {(os.path.normpath(path), int(line)) for path, line in
              re.findall(r'^(\S+):(\d+): unchecked', plain.out, re.M)}
    return ('Unchecked mappings: ours %d, plain three-rule script %d, both %d, '
            'only ours %d, only plain %d (%.0f s CPU)%s%s' % (
                len(mine), len(theirs), len(mine & theirs), len(mine - theirs),
                len(theirs - mine), plain.cpu,
                _listed('only ours', mine - theirs),
                _listed('only plain', theirs - mine)))


def _listed(title: str, places: set[Place]) -> str:
    return ''.join('\n  %s: %s:%d' % (title, *place)
                   for place in sorted(places))


# ------------------------------------------------------------------- a sample

def sample(findings: list[dict[str, Any]], number: int, seed: int,
           kind: str | None) -> list[dict[str, Any]]:
    """Some of the findings; which ones does not depend on the others."""
    def place(finding: dict[str, Any]) -> bytes:
        return hashlib.sha256(('%d %s' % (seed, finding['fingerprint']))
                              .encode()).digest()

    wanted = [f for f in findings if kind in (None, f['kind'])]
    chosen = sorted(wanted, key=place)[:number]
    return sorted(chosen, key=lambda f: (f['rule'], f['path'], f['line']))


def in_context(finding: dict[str, Any], tree: Path) -> str:
    """A finding with the source around it."""
    path, line = finding['path'], finding['line']
    lines = (tree / path).read_text(encoding='latin-1').split('\n')
    out = ['=== %s:%d: %s [%s] in %s' % (path, line, finding['kind'],
                                        finding['rule'], finding['function']),
           '    ' + finding['message']]
    out += ['    %s:%d: %s' % (e['path'], e['line'], e['message'])
            for e in finding['evidence']]
    for number in range(max(line - 14, 1), min(line + 20, len(lines)) + 1):
        out.append('%s%5d %s' % ('>' if number == line else ' ', number,
                                 lines[number - 1]))
    return '\n'.join(out) + '\n'


# ----------------------------------------------------------------------- main

def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tree', required=True, type=Path)
    parser.add_argument('--path', action='append', default=[])
    parser.add_argument('--rule', action='append', default=[])
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--keep', type=Path)
    parser.add_argument('--reuse', action='store_true')
    parser.add_argument('--no-plain', action='store_true')
    parser.add_argument('--sample', type=int, default=0)
    parser.add_argument('--kind', choices=('fix', 'refusal', 'finding', 'unparsed'))
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()
    args.tree = args.tree.resolve()
    args.path = args.path or ['drivers']
    if args.keep:
        args.keep = args.keep.resolve()
    return args


def main() -> int:
    args = arguments()
    for path in args.path:
        if not (args.tree / path).is_dir():
            raise Trouble('%s: no such folder in %s' % (path, args.tree))
    bench = Bench(args)
    every: list[dict[str, Any]] = []
    notes: list[str] = []
    print(HEAD, flush=True)
    for rule in rules.select(rules.load(), args.rule):
        ours = bench.ours(rule.name)
        said = findings_of(ours, rule.name)
        every += said['findings']
        compared = not args.no_plain and (PLAIN / (rule.name + '.cocci')).exists()
        plain = bench.plain(rule.name) if compared else None
        print(row(rule.name, matched_files(args.tree, args.path, rule), said,
                  ours, plain), flush=True)
        if compared and rule.name == 'dma_mapping_error':
            notes.append(against_plain(said, bench.plain('unchecked_map')))
        notes += ['%s: %s' % (rule.name, failure) for failure in
                  said['coverage']['failures'] + said['coverage']['timeouts']]
    print('\n' + '\n'.join(notes))
    for finding in sample(every, args.sample, args.seed, args.kind):
        print('\n' + in_context(finding, args.tree))
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Trouble as trouble:
        print('tree: %s' % trouble, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)

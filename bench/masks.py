#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Masks that mainline merged between two kernels: what becomes of them here.

Takes every function that sets both DMA masks with two calls in the old tree
and calls dma_set_mask_and_coherent() in the new one, converts the old files
with the rule dma_set_mask_and_coherent, and compares token for token.

    bench/masks.py --old ~/linux-5.10 --new ~/linux-6.1
    bench/masks.py --old ~/linux-5.10 --new ~/linux-6.1 --show other

--old, --new DIR  the kernel trees (only read)
--path P          below them (default drivers; may be given several times)
--jobs J          drivers that are converted at once (default 1)
--show VERDICT    print both forms of all functions with this verdict

Verdicts: equal (but for what mainline changed elsewhere in the function),
messages (equal but for the messages), other (merged, and mainline's form is
another one: read it), refused (with the rule's reason), silent.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Iterable

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / 'cocci')]

from cocci_dma import Trouble, findings, rules, run     # noqa: E402
from evidence import cparse as c                        # noqa: E402
from evidence.maskcall import SETTERS                   # noqa: E402
from evidence.maskfold import is_message                # noqa: E402

RULE = 'dma_set_mask_and_coherent'
VERDICTS = ('equal', 'messages', 'other', 'refused', 'silent')


@dataclass
class Case:
    """One function that mainline merged, in three forms."""

    path: str
    name: str
    old: list[str]
    human: list[str]
    ours: list[str]
    verdict: str = ''
    reason: str = ''


def kinds(func: c.Function) -> list[str]:
    """What the function's calls set."""
    return [SETTERS[token.text] for token in func.tokens
            if token.text in SETTERS]


def functions(text: str) -> dict[str, c.Function]:
    return {func.name: func for func in
            c.SourceFile('', text).all_functions()}


def words(func: c.Function) -> list[str]:
    return [token.text for token in func.tokens]


def merged(old: Path, new: Path, paths: Iterable[str]) -> list[Case]:
    """The functions that mainline merged."""
    found = subprocess.run(
        ['grep', '-rlwE', '--include=*.c',
         '|'.join(n for n, kind in SETTERS.items() if kind == 'c'), *paths],
        cwd=old, capture_output=True, text=True, check=False)
    out: list[Case] = []
    for path in sorted(found.stdout.split()):
        if not (new / path).exists():
            continue
        human = functions(read(new / path))
        for name, func in functions(read(old / path)).items():
            if name not in human or not {'s', 'c'} <= set(kinds(func)):
                continue
            before, after = kinds(func), kinds(human[name])
            if after.count('sc') > before.count('sc') \
                    and len(after) < len(before):
                out.append(Case(path, name, words(func), words(human[name]),
                                words(func)))
    return out


def read(path: Path) -> str:
    return path.read_text(encoding='latin-1')


def convert(old: Path, cases: list[Case], jobs: int) -> None:
    """Fill in what the rule makes of them, or what it says."""
    paths = sorted({str(old / case.path) for case in cases})
    done = run.convert(paths, rules.select(rules.load(), [RULE]),
                       run.Options(jobs=jobs))
    for failure in (*done.coverage.failures, *done.coverage.timeouts):
        raise Trouble('the conversion failed: %s' % failure)
    for edit in done.edits:
        made = functions(edit.content.decode('latin-1'))
        for case in cases:
            if Path(edit.source.path) == old / case.path:
                case.ours = words(made[case.name])
    for case in cases:
        judge(case, [f for f in done.findings if f.function == case.name
                     and Path(f.path).name == Path(case.path).name])


def judge(case: Case, said: list[findings.Finding]) -> None:
    refused = [f.message for f in said if f.kind == 'refusal']
    if case.ours == case.old:
        case.verdict = 'refused' if refused else 'silent'
        case.reason = refused[0] if refused else ''
        return
    human = elsewhere_as_before(case)
    if human == case.ours:
        case.verdict = 'equal'
    elif quiet(human) == quiet(case.ours):
        case.verdict = 'messages'
    else:
        case.verdict = 'other'
    case.human = human


def elsewhere_as_before(case: Case) -> list[str]:
    """Mainline's form, without its changes away from the masks."""
    ours = SequenceMatcher(None, case.old, case.ours, False).get_opcodes()
    places = [op[1:3] for op in ours if op[0] != 'equal']
    low, high = min(p[0] for p in places), max(p[1] for p in places)
    while low and case.old[low - 1] not in ';{}':
        low -= 1
    while high < len(case.old) and case.old[high - 1] not in ';{}':
        high += 1
    changes = SequenceMatcher(None, case.old, case.human, False).get_opcodes()
    for _ in changes:
        for kind, start, end, _, _ in changes:
            if kind != 'equal' and start <= high and low <= end:
                low, high = min(low, start), max(high, end)
    out: list[str] = []
    for kind, start, end, first, last in changes:
        inside = kind != 'equal' and start <= high and low <= end
        out += case.human[first:last] if inside else case.old[start:end]
    return out


def quiet(tokens: list[str]) -> list[str]:
    """A function's tokens without those of messages and empty braces."""
    func = functions('int f(void) {\n%s\n}' % '\n'.join(tokens)).get('f')
    if func is None or func.body is None:
        return tokens
    gone = [(n.first.start, n.last.end) for n in func.nodes
            if isinstance(n, c.Stmt) and is_message(n)]
    left = [t.text for t in func.tokens
            if not any(a <= t.start < b for a, b in gone)]
    return [t for t in left if t not in '{}']


def extract(tokens: list[str], other: list[str]) -> str:
    """The part of one form that is not in the other, with some context."""
    ops = [op for op in SequenceMatcher(None, tokens, other, False)
           .get_opcodes() if op[0] != 'equal']
    low, high = min(op[1] for op in ops), max(op[2] for op in ops)
    return ' '.join(tokens[max(low - 12, 0):high + 12])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--old', required=True, type=Path)
    parser.add_argument('--new', required=True, type=Path)
    parser.add_argument('--path', action='append', default=[])
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--show', choices=VERDICTS)
    args = parser.parse_args()
    paths = args.path or ['drivers']
    for tree in (args.old, args.new):
        for path in paths:
            if not (tree / path).is_dir():
                raise Trouble('%s: no such folder in %s' % (path, tree))
    cases = merged(args.old.resolve(), args.new, paths)
    convert(args.old.resolve(), cases, args.jobs)
    print('| function | verdict | reason |\n|---|---|---|')
    for case in cases:
        print('| %s: %s | %s | %s |' % (case.path, case.name, case.verdict,
                                        case.reason))
    counts = Counter(case.verdict for case in cases)
    print('\n| merged by mainline | %s |\n|---|%s' % (
        ' | '.join(VERDICTS), '--:|' * len(VERDICTS)))
    print('| %d | %s |' % (len(cases), ' | '.join(
        str(counts[verdict]) for verdict in VERDICTS)))
    for case in cases:
        if case.verdict == args.show:
            print('\n=== %s: %s\n--- here\n%s\n--- mainline\n%s' % (
                case.path, case.name, extract(case.ours, case.human),
                extract(case.human, case.ours)))
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Trouble as trouble:
        print('masks: %s' % trouble, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)

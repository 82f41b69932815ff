#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Decisions about GFP flags beside those that people took.

    bench/gfp.py
    bench/gfp.py --tree ~/linux-7.2 --sample 208 --show KERNEL:ATOMIC
    bench/gfp.py --tree ~/linux-5.10 --after ~/linux-6.1

--tree DIR     the kernel tree (only read; default: Linux 7.2, see trees.py)
--path P       below it (default drivers and sound; may be given several times)
--after DIR    a later tree: what became of --tree's pci_alloc_consistent()
--sample N     so many of the files only; --seed S another sample
--show O:H     list the sites where we said O and the human H (KERNEL, ATOMIC,
               passed, other), with what we go by; may be given several times
--jobs J       processes (default 2)

Without --after the flag of each dma_alloc_coherent() is hidden, decided anew
from the rest of its driver, and compared with what stands there.
"""
from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Iterator, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'cocci')]

from cocci_dma import Trouble  # noqa: E402
from evidence import cparse as c  # noqa: E402
from evidence import gfp, kbuild  # noqa: E402
from evidence.context import Context  # noqa: E402
from evidence.driver import Driver, strip, text  # noqa: E402
from runtime import trees  # noqa: E402

MASKED = frozenset(('dma_alloc_coherent',))
WRAPPERS = frozenset(('pci_alloc_consistent', 'pci_zalloc_consistent'))
ALLOCATORS = frozenset(('dma_alloc_coherent', 'dmam_alloc_coherent'))
KINDS = 'KERNEL', 'ATOMIC', 'passed', 'other'


class Site(NamedTuple):
    """One allocation: what the human wrote, what we say and why."""

    path: str
    line: int
    function: str
    human: str
    ours: str
    message: str
    evidence: tuple[str, ...]


def kind_of(flags: str) -> str:
    """Of written flags: may it sleep, may it not, or do callers say so?"""
    if re.search(r'GFP_(KERNEL|USER|NOIO|NOFS|HIGHUSER)', flags):
        return 'other' if 'ATOMIC' in flags else 'KERNEL'
    if re.search(r'GFP_(ATOMIC|NOWAIT)', flags):
        return 'ATOMIC'
    return 'passed' if re.fullmatch(r'[a-z_]\w*', flags) else 'other'


def files_with(tree: Path, paths: list[str], words: frozenset[str]
               ) -> list[str]:
    """The files that hold one of the words, below the tree."""
    found = subprocess.run(
        ['grep', '-rlwF', '--include=*.c', '--include=*.h',
         *('-e' + word for word in sorted(words)), *paths],
        cwd=tree, capture_output=True, text=True, check=False)
    return sorted(found.stdout.split())


def sampled(files: list[str], number: int | None, seed: int) -> list[str]:
    if number is None:
        return files
    return sorted(sorted(files, key=lambda f: hashlib.sha256(
        ('%d %s' % (seed, f)).encode()).digest())[:number])


def sites_of(job: tuple[Path, tuple[str, ...], frozenset[str], frozenset[str]]
             ) -> list[Site]:
    """Every site of one driver that stands in a file that was asked for."""
    tree, files, wanted, names = job
    driver = Driver([str(tree / f) for f in files])
    known = Context(driver, names)
    out = []
    for func in driver.functions_with(*sorted(names)):
        path = str(Path(func.path).relative_to(tree))
        if path not in wanted:
            continue
        for call in func.calls():
            if call.name in names:
                said = gfp.decided(known, func, call)
                human = text(call.args[-1]) if names == MASKED \
                    else target_of(func, call)
                out.append(Site(path, call.first.line, func.name, human,
                                said.flag, said.message.replace(
                                    str(tree) + '/', ''),
                                tuple('%s:%d: %s' % (
                                    Path(s.path).name, s.line, s.message)
                                    for s in said.evidence)))
    return out


def decide(tree: Path, files: list[str], names: frozenset[str],
           jobs: int) -> list[Site]:
    """All sites in the files, each looked at in its driver."""
    drivers: dict[tuple[str, ...], set[str]] = {}
    for file in files:
        found = kbuild.driver_of(str(tree / file))
        paths = tuple(str(Path(p).relative_to(tree)) for p in found.files)
        drivers.setdefault(paths or (file,), set()).add(file)
    work = [(tree, paths, frozenset(wanted), names)
            for paths, wanted in drivers.items()]
    out: dict[tuple[str, int], Site] = {}
    with multiprocessing.Pool(jobs, maxtasksperchild=20) as pool:
        for sites in pool.imap_unordered(sites_of, work):
            for site in sites:
                out.setdefault((site.path, site.line), site)
    return [out[key] for key in sorted(out)]


def later(tree: Path, sites: list[Site]) -> Iterator[Site]:
    """The sites with the flags that the same functions have in a tree.

    Calls of a function are matched by what they store in, and otherwise in
    their order, when there are as many or all have one flag.
    """
    here: dict[tuple[str, str], list[Site]] = {}
    for site in sites:
        here.setdefault((site.path, site.function), []).append(site)
    moved = {Path(f).name: f for f in files_with(
        tree, ['drivers', 'sound'], ALLOCATORS)}
    for (path, function), group in here.items():
        target = tree / path
        if not target.exists():
            target = tree / moved.get(target.name, path)
        func = c.SourceFile(str(target)).functions.get(function) \
            if target.exists() else None
        if func is None or func.body is None:
            continue
        calls = [call for call in func.calls() if call.name in ALLOCATORS]
        flags = [text(call.args[-1]) for call in calls]
        named = {target_of(func, call): flag
                 for call, flag in zip(calls, flags)}
        alike = len(flags) == len(group) or len(set(flags)) == 1
        for site, flag in zip(group, flags * len(group)):
            if site.human in named:
                yield site._replace(human=named[site.human])
            elif alike:
                yield site._replace(human=flag)


def target_of(func: c.Function, call: c.Call) -> str:
    """What the result of a call is stored in, as text."""
    for node in func.nodes:
        if isinstance(node, c.Assign) and strip(node.right) is call:
            return text(node.left)
        if isinstance(node, c.Variable) and strip(node.init) is call:
            return node.name
    return ''


def table(sites: list[Site]) -> str:
    """Our decisions in rows, the human's in columns."""
    count = Counter((kind_of(s.ours), kind_of(s.human)) for s in sites)
    lines = ['| ours \\ human | ' + ' | '.join(KINDS) + ' |',
             '|---|' + '--:|' * len(KINDS)]
    for ours in KINDS[:3]:
        lines.append('| %s | %s |' % (ours, ' | '.join(
            str(count[ours, human]) for human in KINDS)))
    kernel = sum(n for (_, human), n in count.items() if human == 'KERNEL')
    proven = count['KERNEL', 'KERNEL']
    lines.append('\n%d sites in %d files; of %d that a human gave GFP_KERNEL, '
                 '%d are proven (%.0f %%)'
                 % (len(sites), len({s.path for s in sites}), kernel, proven,
                    100 * proven / max(kernel, 1)))
    return '\n'.join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--tree', type=Path)
    parser.add_argument('--path', action='append')
    parser.add_argument('--after', type=Path)
    parser.add_argument('--sample', type=int)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--show', action='append', default=[])
    parser.add_argument('--jobs', type=int, default=2)
    args = parser.parse_args()
    top = trees.tree('7.2', args.tree)
    after = trees.tree('6.1', args.after) if args.after else None
    names = WRAPPERS if args.after else MASKED
    tree = top.resolve()
    files = sampled(files_with(tree, args.path or ['drivers', 'sound'], names),
                    args.sample, args.seed)
    sites = decide(tree, files, names, args.jobs)
    if after:
        every = len(sites)
        sites = list(later(after, sites))
        print('%d of %d sites have a counterpart in %s'
              % (len(sites), every, after.name))
    print(table(sites))
    for site in sites:
        if '%s:%s' % (kind_of(site.ours), kind_of(site.human)) in args.show:
            print('\n%s:%d: %s(): ours %s, human %s%s' % (
                site.path, site.line, site.function, site.ours, site.human,
                ': ' + site.message if site.message else ''))
            print('\n'.join('    ' + step for step in site.evidence))
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Trouble as trouble:
        print('gfp: %s' % trouble, file=sys.stderr)
        sys.exit(2)

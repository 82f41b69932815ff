#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""What `cocci-dma check` costs, beside one pass of plain spatch.

    bench/speed.py --tree ~/linux                      drivers, sound, net, crypto
    bench/speed.py --tree ~/linux --path drivers/scsi
    bench/speed.py --tree ~/linux --path drivers/scsi --coccicheck

--tree DIR     the kernel tree (only read)
--path P       below it (may be given several times)
--jobs J       for cocci-dma (default 1); plain spatch always has one
--coccicheck   also each rule alone through plain spatch, as coccicheck does

All rules run three times: cold, with an empty cache; warm, with the cache of
that; and after one file has changed.  They run on a copy, by hard links where
that can be, with a cache of its own.  Then spatch runs alone with
bench/plain/unchecked_map.cocci, which is what parsing once costs.  Ratios are
of CPU seconds of all processes; memory is that of the largest process.
"""
from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tree import PLAIN, ROOT, Measured, measure

from cocci_dma import Trouble, rules

_PATHS = ('drivers', 'sound', 'net', 'crypto')


def copy(tree: Path, paths: list[str], to: Path) -> None:
    """The folders, and the files by which a kernel tree is known."""
    for path in (*paths, 'scripts'):
        shutil.copytree(tree / path, to / path, symlinks=True,
                        copy_function=_link)
    for file in tree.iterdir():
        if file.is_file():
            _link(str(file), str(to / file.name))


def _link(file: str, to: str) -> None:
    try:
        os.link(file, to)
    except OSError:         # another file system, or not ours to link
        shutil.copy2(file, to)


def change(tree: Path, paths: list[str]) -> Path:
    """Change one file that rules look at; which one."""
    words = {word.encode() for rule in rules.load() for word in rule.keywords}
    for path in paths:
        for file in sorted((tree / path).rglob('*.c')):
            content = file.read_bytes()
            if any(word in content for word in words):
                file.unlink()       # its other names keep what they hold
                file.write_bytes(content + b'/* changed */\n')
                return file.relative_to(tree)
    raise Trouble('no file with a keyword of a rule in %s' % ' '.join(paths))


def ours(tree: Path, paths: list[str], jobs: int, cache: Path) -> Measured:
    """One `cocci-dma check` with all rules."""
    return _checked([str(ROOT / 'cocci-dma'), 'check', '--kdir', str(tree),
                     '--format', 'json', '--jobs', str(jobs),
                     *(str(tree / path) for path in paths)], tree, (0, 1),
                    {**os.environ, 'XDG_CACHE_HOME': str(cache)})


def plain(script: Path, tree: Path, paths: list[str]) -> Measured:
    """spatch alone, folder by folder."""
    every = [_checked(['spatch', '--very-quiet', '--no-includes', '-D',
                       'report', '--sp-file', str(script), '--dir', path],
                      tree, (0,), None) for path in paths]
    return Measured(0, '', '', sum(one.wall for one in every),
                    sum(one.cpu for one in every),
                    max(one.memory for one in every))


def _checked(command: list[str], cwd: Path, good: tuple[int, ...],
             env: dict[str, str] | None) -> Measured:
    run = measure(command, cwd, env)
    if run.code not in good:
        last = (run.err.strip().splitlines() or ['no message'])[-1]
        raise Trouble('%s failed: %s' % (command[0], last))
    return run


def row(name: str, run: Measured, unit: Measured) -> str:
    """A line of the table."""
    return '| %s | %.0f | %.0f | %d | %.2f |' % (
        name, run.cpu, run.wall, run.memory >> 20,
        run.cpu / max(unit.cpu, 0.01))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tree', required=True, type=Path)
    parser.add_argument('--path', action='append', default=[])
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--coccicheck', action='store_true')
    args = parser.parse_args()
    args.tree = args.tree.resolve()
    args.path = args.path or list(_PATHS)
    for path in args.path:
        if not (args.tree / path).is_dir():
            raise Trouble('%s: no such folder in %s' % (path, args.tree))
    return args


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        tree, cache = Path(scratch, 'tree'), Path(scratch, 'cache')
        tree.mkdir()
        copy(args.tree, args.path, tree)
        unit = plain(PLAIN / 'unchecked_map.cocci', tree, args.path)
        print('| run | CPU s | wall s | MB | of a pass |\n|---|--:|--:|--:|--:|')
        print(row('plain spatch, one pass', unit, unit), flush=True)
        for name in ('cold', 'warm'):
            print(row('all rules, ' + name, ours(
                tree, args.path, args.jobs, cache), unit), flush=True)
        changed = change(tree, args.path)
        print(row('all rules, %s changed' % changed, ours(
            tree, args.path, args.jobs, cache), unit), flush=True)
        for rule in rules.load() if args.coccicheck else ():
            print(row('plain spatch, ' + rule.name, plain(
                rule.path, tree, args.path), unit), flush=True)
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Trouble as trouble:
        print('speed: %s' % trouble, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Kill `convert --in-place` at random moments: is a driver ever half new?

    bench/kill.py                       200 times
    bench/kill.py --times 1000 --seed 7

--times N   how often
--seconds N or until that time is over
--seed S    other moments

Half of the kills (SIGKILL, of the one process that writes) come at any moment
of a run, the others within three milliseconds of the first file that is
written.  After each, the next `cocci-dma` runs.  A driver is then as it was, or
as it becomes without a kill, and nothing else is left among the sources.
"""
from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Mapping

ROOT = Path(__file__).resolve().parent.parent

#: Drivers of several files and of one, each a folder of its own.
DRIVERS = ('tests/fixtures/virt_to_bus/header_and_files',
           'tests/fixtures/virt_to_bus/base_and_offset.c',
           'tests/fixtures/virt_to_bus/masked_and_or.c')
#: How often to look whether something is being written, in seconds.
_LOOK = 0.0005

Files = dict[str, bytes]


def files_of(folder: Path) -> Files:
    """What lies below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


class Kills:
    """Runs over copies of some drivers."""

    def __init__(self, work: Path, drivers: tuple[str, ...] = DRIVERS):
        """work: an empty folder."""
        self._tree = work / 'tree'
        self._fresh = work / 'fresh'
        scratch = work / 'scratch'
        scratch.mkdir()
        self._environment: Mapping[str, str] = {
            **os.environ, 'TMPDIR': str(scratch),
            'XDG_CACHE_HOME': str(work / 'cache'),
            'PYTHONDONTWRITEBYTECODE': '1'}
        for name in drivers:
            path = ROOT / name
            target = self._fresh / path.stem
            if path.is_dir():
                shutil.copytree(path, target)
            else:
                target.mkdir(parents=True)
                shutil.copy(path, target)
        self._restore()
        began = time.monotonic()
        self._start().wait()
        self._seconds = time.monotonic() - began
        self._old, self._new = files_of(self._fresh), files_of(self._tree)
        if not all(any(self._old[path] != self._new[path]
                       for path in self._of(driver))
                   for driver in self._drivers()):
            raise RuntimeError('not all of these drivers are converted')

    def _drivers(self) -> list[str]:
        return sorted(path.name for path in self._fresh.iterdir())

    def _of(self, driver: str) -> list[str]:
        return [path for path in self._old if path.startswith(driver + '/')]

    def _restore(self) -> None:
        shutil.rmtree(self._tree, ignore_errors=True)
        shutil.copytree(self._fresh, self._tree)

    def _start(self) -> 'subprocess.Popen[bytes]':
        return subprocess.Popen(
            [sys.executable, str(ROOT / 'cocci-dma'), 'convert', '--in-place',
             str(self._tree)], env=self._environment, cwd=self._tree.parent,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

    def once(self, late: bool, rng: random.Random) -> str:
        """Kill one run; `old`, `new`, `torn` (settled by the next run), each
        with ` late`; Raises AssertionError when something is half done."""
        self._restore()
        process = self._start()
        if late:
            while process.poll() is None and not any(
                    self._tree.rglob('.cocci-dma-*')):
                time.sleep(_LOOK)
            time.sleep(rng.uniform(0, 0.003))
        else:
            time.sleep(rng.uniform(0, self._seconds))
        process.kill()
        process.wait()
        torn = not self._whole(files_of(self._tree))
        done = subprocess.run(
            [sys.executable, str(ROOT / 'cocci-dma'), 'convert',
             str(self._tree)], env=self._environment, cwd=self._tree.parent,
            capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        now = files_of(self._tree)
        assert now.keys() == self._old.keys(), sorted(now)
        assert self._whole(now)
        # the diff of what was left alone; nothing, of what was converted
        assert bool(done.stdout) == (now != self._new), done.stdout
        return '%s%s' % ('torn' if torn else 'new' if now == self._new
                         else 'old', ' late' if late else '')

    def _whole(self, now: Files) -> bool:
        """Is each driver old, or new, in all its files?"""
        return all(any(all(now.get(path) == form[path]
                           for path in self._of(driver))
                       for form in (self._old, self._new))
                   for driver in self._drivers())


def main() -> int:
    """See the module's text; 1 when a driver was torn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--times', type=int, default=200)
    parser.add_argument('--seconds', type=float, default=float('inf'))
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    seen: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kills = Kills(Path(folder))
        for number in range(args.times):
            if time.monotonic() - began > args.seconds:
                break
            try:
                seen[kills.once(bool(number % 2), rng)] += 1
            except AssertionError as error:
                print('%d: %s' % (number, error), flush=True)
                seen['HALF DONE'] += 1
    print('%d kills in %.0f s: %s' % (
        sum(seen.values()), time.monotonic() - began,
        dict(sorted(seen.items()))))
    return 1 if seen['HALF DONE'] else 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""How close to people's own conversion of the pci_* wrappers do we come?

    bench/accuracy.py                         Linux 5.10 against Linux 6.1
    bench/accuracy.py --old DIR --new DIR     the same in trees that are there
    bench/accuracy.py --differences out.txt   what differs, for reading by hand

--jobs J       for cocci-dma and plain spatch alike (default 2)
--keep DIR     keep the converted files
--reuse        take those that are there instead of converting again

Linux 5.10 has the wrappers, Linux 6.1 has what people made of them between
December 2020 and March 2022.  Compared are the bodies of functions that held a
wrapper and that still exist in a file of the same name, token by token: what
people changed there for other reasons counts as a difference, too.

"ours" is cocci-dma with the rules for wrappers and for masks, "wrappers" with
the first alone; people kept many attempts at a narrower mask, which the second
removes: so bodies are also compared with what it makes of mainline's.  "plain"
is spatch alone with bench/plain/pci_dma_compat.cocci: every wrapper, with
GFP_KERNEL for every allocation.

The trees are Debian's packages linux-source-5.10 and -6.1, fetched once (see
trees.py).
"""
from __future__ import annotations

import argparse
import concurrent.futures
import difflib
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Iterable, Iterator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from cocci_dma import Trouble, rules, run  # noqa: E402
from evidence import cparse as c  # noqa: E402
from evidence import pci_dma_compat  # noqa: E402
from evidence.clex import tokenize  # noqa: E402
from runtime import trees  # noqa: E402

PLAIN = HERE / 'plain' / 'pci_dma_compat.cocci'
#: Seconds for one run of spatch.
TIME_LIMIT = 900
#: Where the wrappers are declared, and what is no driver.
NOT_A_DRIVER = ('include/linux/', 'Documentation/', 'tools/', 'scripts/')

#: path -> (function, which of that name) -> the tokens of its body
Bodies = dict[tuple[str, int], list[str]]


# ------------------------------------------------------------------ the files

def files_with_words(top: Path) -> list[str]:
    """The files of a tree that hold a wrapper or a constant."""
    found = subprocess.run(
        ['grep', '-rlwE', '--include=*.[ch]', '|'.join(pci_dma_compat.WORDS),
         '.'], cwd=top, capture_output=True, text=True, check=False)
    paths = (os.path.normpath(p) for p in found.stdout.splitlines())
    return sorted(p for p in paths if not p.startswith(NOT_A_DRIVER))


def read(path: Path) -> str:
    return path.read_bytes().decode('latin-1') if path.is_file() else ''


# -------------------------------------------------------------- the converters

@dataclass
class Converted:
    """What a converter made of the files; the cost with children."""

    texts: dict[str, str]
    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0             # MB, of the largest process so far
    listed: list[tuple[str, int, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def timed(convert, *args) -> Converted:
    """Run a converter, with what it costs."""
    began, before = time.monotonic(), resource.getrusage(
        resource.RUSAGE_CHILDREN)
    result = convert(*args)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result.wall = time.monotonic() - began
    result.cpu = (after.ru_utime + after.ru_stime
                  - before.ru_utime - before.ru_stime)
    result.memory = after.ru_maxrss // 1024
    return result


def ours(names: tuple[str, ...], top: Path, paths: list[str],
         jobs: int) -> Converted:
    """cocci-dma with some rules; a busy machine shall not change the result."""
    result = run.convert([str(top / p) for p in paths],
                         rules.select(rules.load(), names),
                         run.Options(jobs=jobs, time_limit=TIME_LIMIT),
                         str(top))
    texts = {p: read(top / p) for p in paths}
    for edit in result.edits:
        texts[os.path.normpath(edit.path)] = edit.content.decode('latin-1')
    return Converted(
        texts, listed=[(os.path.normpath(f.path), f.line, f.message)
                       for f in result.findings if f.kind != 'fix'],
        failures=result.coverage.failures + result.coverage.timeouts)


def plain(top: Path, paths: list[str], jobs: int) -> Converted:
    """spatch alone, one file after the other."""
    with tempfile.TemporaryDirectory() as work:
        def one(path: str) -> tuple[str, str, str]:
            target = Path(work, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(top / path, target)
            done = subprocess.run(
                ['spatch', '--very-quiet', '--no-includes', '-D', 'patch',
                 '--in-place', '--no-show-diff', '--sp-file', str(PLAIN),
                 str(target)], capture_output=True, text=True, check=False)
            return path, read(target), done.stderr if done.returncode else ''

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            done = list(pool.map(one, paths))
    return Converted({path: text for path, text, _ in done},
                     failures=[path for path, _, why in done if why])


def keep(result: Converted, folder: Path) -> None:
    for path, text in result.texts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode('latin-1'))


# --------------------------------------------------------------- the functions

class Code:
    """The code of one file: its functions, and the words outside comments."""

    def __init__(self, path: str, text: str):
        self._source = c.SourceFile(path, text)

    @cached_property
    def bodies(self) -> Bodies:
        """The tokens of every function's body, comments left out."""
        out: Bodies = {}
        count: Counter[str] = Counter()
        functions = sorted(self._source.all_functions(),
                           key=lambda f: f.first.start)
        for func in functions:
            text = self._source.text[func.name_token.start:func.last.end]
            out[func.name, count[func.name]] = [
                word for token in tokenize(text[text.find('{'):])
                for word in _words(token.text)]
            count[func.name] += 1
        return out

    @cached_property
    def sites(self) -> list[str]:
        """Every wrapper and constant in code."""
        return [word for token in self._source.raw if token.kind in ('id', 'pp')
                for word in _words(_uncommented(token.text))
                if word in pci_dma_compat.WORDS]


def _words(text: str) -> list[str]:
    return [t.text for t in tokenize(text[1:])] if text.startswith('#') \
        and len(text) > 2 else [text]


def _uncommented(text: str) -> str:
    return re.sub(r'/\*[\s\S]*?\*/|//[^\n]*', ' ', text)


@dataclass(frozen=True)
class Function:
    """One function that held a wrapper: before, and after by each."""

    path: str
    name: str
    old: list[str]
    human: list[str]
    folded: list[str]           # the human's, after the rule for masks
    made: dict[str, list[str]]

    def equal(self, who: str) -> bool:
        return self.made[who] == self.human

    def alike(self, who: str) -> bool:
        """Equal but for attempts at a mask that people kept."""
        return self.made[who] in (self.human, self.folded)


def functions(old: dict[str, Code], new: dict[str, Code],
              folded: dict[str, Code], made: dict[str, dict[str, Code]]
              ) -> Iterator[Function]:
    """Functions with a wrapper in the old tree that are still there."""
    for path, code in old.items():
        if path not in new:
            continue
        for key, body in code.bodies.items():
            if pci_dma_compat.WORDS.isdisjoint(body) \
                    or key not in new[path].bodies:
                continue
            yield Function(path, key[0], body, new[path].bodies[key],
                           folded[path].bodies.get(key, []),
                           {who: codes[path].bodies.get(key, [])
                            for who, codes in made.items()})


# ------------------------------------------------------------------ GFP flags

def flags(body: list[str]) -> list[str]:
    """The last argument of every dma_alloc_coherent(), in order."""
    out = []
    for index, word in enumerate(body):
        if word == 'dma_alloc_coherent':
            depth, last = 0, []
            for token in body[index + 1:]:
                depth += (token in '([{') - (token in ')]}')
                if not depth:
                    break
                last = [] if token == ',' and depth == 1 else [*last, token]
            out.append(' '.join(last))
    return out


@dataclass
class Flags:
    """The flags of each allocation that can be compared."""

    table: Counter[tuple[str, str]] = field(default_factory=Counter)
    false_kernel: list[str] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)
    lost: int = 0

    def add(self, function: Function) -> None:
        wrappers = sum(word in ('pci_alloc_consistent', 'pci_zalloc_consistent')
                       for word in function.old)
        if not wrappers:
            return
        mine, theirs = flags(function.made['ours']), flags(function.human)
        if len(mine) != len(theirs) or flags(function.old):
            self.lost += wrappers
            return
        where = '%s %s()' % (function.path, function.name)
        for index, (here, there) in enumerate(zip(mine, theirs)):
            self.table[here, there] += 1
            if here == 'GFP_KERNEL' != there:
                self.false_kernel.append('%s: %s' % (where, there))
            elif there == 'GFP_KERNEL' != here:
                self.not_proven.append('%s: call %d: %s'
                                       % (where, index + 1, here))


# ----------------------------------------------------------------- what is told

def row(*cells: object) -> str:
    return '| ' + ' | '.join(map(str, cells)) + ' |'


def share(part: int, whole: int) -> str:
    return '%d of %d (%.1f %%)' % (part, whole, 100 * part / max(whole, 1))


def tell(made: dict[str, Converted], codes: dict[str, dict[str, Code]],
         old: dict[str, Code], pairs: list[Function]) -> None:
    """Print the tables."""
    sites = sum(len(code.sites) for code in old.values())
    print('Linux 5.10: %d files, %d places in code\n' % (len(old), sites))
    print(row('', *made))
    print('|---|' + '--:|' * len(made))
    left = {who: [(path, word) for path, code in codes[who].items()
                  for word in code.sites] for who in made}
    print(row('places converted', *(
        share(sites - len(left[who]), sites) for who in made)))
    print(row('places left and listed', *(
        sum(bool(made[who].listed) and any(
            path == p and word in message for p, _, message
            in made[who].listed) for path, word in left[who])
        for who in made)))
    print(row('bodies equal to mainline', *(
        share(sum(f.equal(who) for f in pairs), len(pairs)) for who in made)))
    print(row('equal once the rule for masks saw mainline', *(
        share(sum(f.alike(who) for f in pairs), len(pairs)) for who in made)))
    print(row('CPU s / wall s', *('%.0f / %.0f' % (r.cpu, r.wall)
                                  for r in made.values())))
    print(row('largest process, MB', *(r.memory for r in made.values())))
    for who, result in made.items():
        for failure in result.failures:
            print('%s failed: %s' % (who, failure))
        for path, word in left[who]:
            print('%s left: %s in %s' % (who, word, path))


def tell_flags(pairs: Iterable[Function]) -> None:
    """Print what was decided beside what people decided."""
    seen = Flags()
    for pair in pairs:
        seen.add(pair)
    print('\nGFP flags (%d allocations are not compared: their functions were '
          'rewritten, or had others)\n' % seen.lost)
    print(row('ours', 'mainline', 'allocations'))
    print('|---|---|--:|')
    for (here, there), number in sorted(seen.table.items()):
        print(row(here, there, number))
    for title, places in (('false GFP_KERNEL', seen.false_kernel),
                          ('not proven', seen.not_proven)):
        print('\n%s: %d' % (title, len(places)))
        print(''.join('  %s\n' % place for place in places), end='')


def differences(pairs: Iterable[Function]) -> Iterator[str]:
    """Our bodies that differ from mainline's, as diffs of their tokens."""
    for pair in pairs:
        if pair.equal('ours'):
            continue
        yield '=== %s %s()%s\n' % (pair.path, pair.name, ' (plain is equal)'
                                   if pair.equal('plain') else '')
        for line in difflib.unified_diff(
                _lines(pair.made['ours']), _lines(pair.human), 'ours',
                'mainline', lineterm='', n=2):
            yield line + '\n'


def _lines(body: list[str]) -> list[str]:
    text = ' '.join(body)
    return re.sub(r'([;{}]) ', r'\1\n', text).split('\n')


# ------------------------------------------------------------------------ main

def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--old', type=Path)
    parser.add_argument('--new', type=Path)
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--keep', type=Path)
    parser.add_argument('--reuse', action='store_true')
    parser.add_argument('--differences', type=Path)
    args = parser.parse_args()
    if args.reuse and not args.keep:
        raise Trouble('--reuse needs --keep: name the folder')
    return args


def main() -> int:
    args = arguments()
    old_top = trees.tree('5.10', args.old)
    new_top = trees.tree('6.1', args.new)
    paths = files_with_words(old_top)
    still = [p for p in paths if (new_top / p).is_file()]
    made: dict[str, Converted] = {}
    wrappers = ('pci_dma_compat',)
    masks = ('dma_set_mask_and_coherent',)
    for who, convert, top, files in (
            ('ours', partial(ours, wrappers + masks), old_top, paths),
            ('wrappers', partial(ours, wrappers), old_top, paths),
            ('plain', plain, old_top, paths),
            ('mainline', partial(ours, masks), new_top, still)):
        kept = args.keep / who if args.keep else None
        if kept and args.reuse and kept.is_dir():
            made[who] = Converted({p: read(kept / p) for p in files})
            continue
        print('running: ' + who, file=sys.stderr, flush=True)
        made[who] = timed(convert, top, files, args.jobs)
        if kept:
            keep(made[who], kept)
    folded = made.pop('mainline').texts
    old = {p: Code(p, read(old_top / p)) for p in paths}
    new = {p: Code(p, read(new_top / p)) for p in still}
    codes = {who: {p: Code(p, result.texts[p]) for p in paths}
             for who, result in made.items()}
    pairs = list(functions(old, new, {p: Code(p, text) for p, text
                                      in folded.items()}, codes))
    tell(made, codes, old, pairs)
    tell_flags(pairs)
    if args.differences:
        args.differences.write_text(''.join(differences(pairs)),
                                    encoding='utf-8')
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Trouble as trouble:
        print('accuracy: %s' % trouble, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)

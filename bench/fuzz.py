#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Hostile input for the rules: does anything crash, hang or get lost?

    bench/fuzz.py                                      10 minutes, two processes
    bench/fuzz.py --seconds 3600 --tree ~/linux        also of real drivers
    bench/fuzz.py --seed 4711 --count 1 --keep /tmp/x  one input again

--seconds N   stop after that time
--count N     or after so many inputs
--seed S      the first input; each has the number of its own
--jobs J      processes
--limit N     seconds that one input may take
--tree DIR    kernel tree whose drivers are mutated besides the fixtures
--keep DIR    where inputs with a defect are put

Each input is a driver (a fixture, or one of a kernel) that one to three
mutations went over; its number decides everything.  All rules decide it, as
`check` has them do.  A defect is an exception, a decision that takes longer
than the limit, and a call that every rule run must speak of, but nothing was
said of its file: no finding, no function that was not parsed, no reason why
it was left.
"""
from __future__ import annotations

import argparse
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent import futures
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'cocci')]

from cocci_dma import cut, decide, rules, source  # noqa: E402
from evidence import kbuild  # noqa: E402

#: Drivers above this size are left: they cost time, and hold nothing new.
_LARGE = 100_000
#: MB for one process.
_MEMORY = 4096

#: Calls of which something must be said, wherever they stand; behind a type, a
#: name is defined.
SPOKEN_OF = re.compile(rb'(?:\A|[^\w\s*]|\b(?:return|else|do|case))\s*'
                       rb'\b(?:isa_)?(?:virt_to_bus|bus_to_virt)\s*\(')

Mutation = Callable[[bytes, random.Random], bytes]


# ------------------------------------------------------------------ mutations

_WORDS = [word.encode() for word in (
    '{ } ( ) [ ] ; , * & -> . = == ? : # ## \\ \\\n " \' /* */ // #if #else '
    '#endif #define 0 -1 if else for while do switch case default goto return '
    'sizeof struct union enum typedef static const void int u32 dma_addr_t '
    'kmalloc kfree virt_to_bus bus_to_virt dma_map_single dma_unmap_single '
    'dma_alloc_coherent dma_mapping_error pci_alloc_consistent NULL GFP_KERNEL '
    '__attribute__ asm typeof ... <<= >>= \x0c \xa0 \xe9').split(' ')]
_TOKEN = re.compile(rb'\w+|\s+|[^\w\s]')


def _place(text: bytes, rng: random.Random) -> int:
    return rng.randrange(len(text) + 1)


def _insert(text: bytes, at: int, more: bytes) -> bytes:
    return text[:at] + more + text[at:]


def truncated(text: bytes, rng: random.Random) -> bytes:
    """Cut off somewhere."""
    return text[:_place(text, rng)]


def beheaded(text: bytes, rng: random.Random) -> bytes:
    """Without its beginning."""
    return text[_place(text, rng):]


def noise(text: bytes, rng: random.Random) -> bytes:
    """Some bytes are others; never a NUL, which is for `binary`."""
    out = bytearray(text)
    for _ in range(rng.randint(1, 30) if out else 0):
        out[rng.randrange(len(out))] = rng.randint(1, 255)
    return bytes(out)


def binary(text: bytes, rng: random.Random) -> bytes:
    """Random bytes, alone or in the middle."""
    more = rng.randbytes(rng.randint(1, 4000))
    return more if rng.random() < .3 else _insert(text, _place(text, rng),
                                                  more)


def crlf(text: bytes, rng: random.Random) -> bytes:
    """Lines end in CR LF, all or some."""
    if rng.random() < .5:
        return text.replace(b'\n', b'\r\n')
    return b''.join(rng.choice((line, line + b'\r')) + b'\n'
                    for line in text.split(b'\n'))


def tokens(text: bytes, rng: random.Random) -> bytes:
    """Tokens are left out, doubled, swapped, replaced and put in."""
    words = _TOKEN.findall(text)
    for _ in range(rng.randint(1, 8) if len(words) > 2 else 0):
        a, b = (rng.randrange(len(words)) for _ in 'ab')
        how = rng.randrange(5)
        if how == 0:
            words[a] = b''
        elif how == 1:
            words[a] += words[a]
        elif how == 2:
            words[a], words[b] = words[b], words[a]
        elif how == 3:
            words[a] = rng.choice(_WORDS)
        else:
            words[a] += b' ' + rng.choice(_WORDS) + b' '
    return b''.join(words)


def lines(text: bytes, rng: random.Random) -> bytes:
    """Blocks of lines are left out, doubled or moved."""
    every = text.split(b'\n')
    for _ in range(rng.randint(1, 3)):
        a, b = sorted(rng.randrange(len(every) + 1) for _ in 'ab')
        block, rest = every[a:b], every[:a] + every[b:]
        how = rng.randrange(3)
        at = rng.randrange(len(rest) + 1)
        every = rest if how == 0 else every + block if how == 1 \
            else rest[:at] + block + rest[at:]
    return b'\n'.join(every)


def nested(text: bytes, rng: random.Random) -> bytes:
    """Something that nests, deep; closed again or not."""
    depth = rng.choice((50, 199, 250, 1000, 5000, 30000))
    opening, inner, closing = rng.choice((
        (b'(', b'x', b')'), (b'{', b';', b'}'), (b'[', b'1', b']'),
        (b'x(', b'1', b')'), (b'x[', b'1', b']'), (b'if (x) {', b';', b'}'),
        (b'if (x) ', b';', b''), (b'if (x) ; else ', b';', b''),
        (b'!', b'x', b''), (b'*', b'x', b''), (b'-', b'x', b''),
        (b'x = ', b'1', b''), (b'x ? ', b'1', b' : 2'),
        (b'x ? 1 : ', b'1', b''), (b'1 + ', b'1', b''), (b'1, ', b'1', b''),
        (b'(u32)', b'x', b''), (b'sizeof ', b'x', b''), (b'({', b'x;', b'})'),
        (b'for (;;) ', b';', b''), (b'do ', b';', b' while (x);'),
        (b'switch (x) { case 1: ', b';', b'}'), (b'x: ', b';', b''),
        (b'struct { ', b'int a;', b'} b;'), (b'x->', b'y', b''),
        (b'\n#if X\n', b';', b'\n#endif\n'),
        (b'\n#if X\n', b';', b'\n#else\n;\n#endif\n'),
        (b'\n#if 0\n', b';', b'\n#endif\n'), (b'/*', b'', b'*/'),
        (b'"', b'', b'"'), (b'\\\n', b'x', b''), (b'x(y)', b';', b''),
        (b'kmalloc(', b'1', b')'), (b'virt_to_bus(', b'p', b')'),
        (b'typeof(', b'x', b')'), (b'static ', b'int x;', b''),
        (b'int (*', b'f', b')(void)'), (b'__attribute__((', b'x', b'))')))
    more = opening * depth + inner
    if rng.random() < .7:
        more += closing * depth
    # where a statement or an operand may stand, more often than not
    ends = [found.end() for found in re.finditer(rb'[;{=(]', text)]
    at = rng.choice(ends) if ends and rng.random() < .8 \
        else _place(text, rng)
    return _insert(text, at, more + (b';' if rng.random() < .5 else b''))


def one_line(text: bytes, rng: random.Random) -> bytes:
    """A line that is long: the text many times, or one token."""
    size = rng.choice((10_000, 100_000, 1_000_000))
    if rng.random() < .5:
        flat = text.replace(b'\n', b' ')
        return flat * (size // max(1, len(flat)) + 1)
    return _insert(text, _place(text, rng), rng.choice(
        (b'x', b' ', b'\t', b'9', b'x ', b'"', b'+', b'\\\n', b'a.', b'1,',
         b'/', b'\xe9', b'##', b'(*', b'int ', b'x:')) * (size // 4))


def redefined(text: bytes, rng: random.Random) -> bytes:
    """Macros with the names of keywords, of functions, and of each other."""
    names = ('if while return int struct kmalloc kfree virt_to_bus dma_addr_t '
             'dma_map_single dma_mapping_error NULL sizeof else static goto '
             'unlikely A B').split()
    more = ''
    for _ in range(rng.randint(1, 6)):
        name, other = rng.choice(names), rng.choice(names)
        more += '#%s %s%s\n' % (
            rng.choice(('define', 'define', 'undef', 'ifdef', 'pragma')),
            name, rng.choice((
                ' ' + other, '(x) %s(x)' % other, '(x, ...) %s(x, ##__VA_ARGS__'
                ')' % other, '', ' {', ' }', ' (', '(x) do { %s(x); } while (0)'
                % name, '(x) \\\n\t%s \\\n' % other, '(', ' %s %s' % (
                    name, name), '(x, x) x##x #x')))
    at = rng.choice([0] + [found.end() for found in re.finditer(rb'\n', text)])
    return _insert(text, at, more.encode())


def conditional(text: bytes, rng: random.Random) -> bytes:
    """#if and its relatives around what need not be whole."""
    every = text.split(b'\n')
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(every) + 1)
        every.insert(at, rng.choice((
            b'#if 0', b'#if 1', b'#else', b'#endif', b'#elif X', b'#ifdef X',
            b'#ifndef X', b'#if LINUX_VERSION_CODE < KERNEL_VERSION(2, 6, 0)',
            b'#if', b'#', b'# /* x', b'#if defined(X', b'#else /* */ x',
            b'#include "', b'#include <x.h', b'#include "../../../../x.h"')))
    return b'\n'.join(every)


def unterminated(text: bytes, rng: random.Random) -> bytes:
    """A comment, a string or a character that does not end."""
    return _insert(text, _place(text, rng),
                   rng.choice((b'/*', b'"', b"'", b'/* "', b'"\\', b'//\\',
                               b'*/', b'"\\\n', b"'\\", b'R"(')))


def spliced(text: bytes, rng: random.Random) -> bytes:
    """Lines are spliced inside of tokens; trigraphs and digraphs."""
    for _ in range(rng.randint(1, 10)):
        text = _insert(text, _place(text, rng), rng.choice(
            (b'\\\n', b'\\\r\n', b'\\ \n', b'??/\n', b'?\x3f=', b'<%', b'%>',
             b'<:', b'%:', b'\x0c', b'\x0b', b'\x1a', b'\x00', b'\xa0',
             b'\xe2\x80\xa8', b'\xef\xbb\xbf', b'\xc2\x85', b'\xff')))
    return text


def latin1(text: bytes, rng: random.Random) -> bytes:
    """Letters beyond ASCII, in one encoding or another, in names too."""
    for _ in range(rng.randint(1, 10)):
        text = _insert(text, _place(text, rng), rng.choice(
            (b'\xe9', b'\xc3\xa9', b'\xdf', b'\xb5', b'\xaa', b'\xb2',
             b'\xf0\x9f\x92\xa9', b'\xed\xa0\x80', b'\x80', b'\xff\xfe')))
    return text


MUTATIONS: tuple[Mutation, ...] = (
    truncated, beheaded, noise, binary, crlf, tokens, tokens, tokens, lines,
    nested, nested, nested, one_line, redefined, conditional, conditional,
    unterminated, spliced, latin1)


# --------------------------------------------------------------------- inputs

class Input(NamedTuple):
    """A hostile driver, what it was made of, and how."""

    text: bytes
    origin: Path
    how: tuple[str, ...]


def corpus(tree: Path | None = None) -> list[Path]:
    """What mutations start from, always in the same order."""
    found = sorted((ROOT / 'tests' / 'fixtures').glob('*/*.c'))
    if tree is not None:
        words = [word.encode() for rule in rules.load()
                 for word in rule.keywords]
        for path in sorted((tree / 'drivers').rglob('*.c')):
            if path.is_file() and path.stat().st_size < _LARGE:
                text = path.read_bytes()
                if any(word in text for word in words):
                    found.append(path)
    return found


def made(number: int, origins: Sequence[Path]) -> Input:
    """The input of that number."""
    rng = random.Random(number)
    origin = rng.choice(origins)
    text = origin.read_bytes()
    how = []
    for mutation in rng.choices(MUTATIONS, k=rng.choice((1, 1, 2, 3))):
        if len(text) > 3_000_000:       # two long lines are no longer line
            break
        text = mutation(text, rng)
        how.append(mutation.__name__)
    return Input(text, origin, tuple(how))


# --------------------------------------------------------------------- judging

class _Late(BaseException):
    """One input took too long."""


def _on_alarm(*_: object) -> None:
    raise _Late


_COMMENTS = re.compile(rb'/\*.*?(?:\*/|\Z)|//[^\n]*|"(?:\\.|[^"\\\n])*"'
                       rb"|'(?:\\.|[^'\\\n])*'", re.S)
_DIRECTIVES = re.compile(rb'^\s*#[^\n]*', re.M)


def must_be_named(text: bytes) -> bool:
    """Does it hold code of which something must be said?

    Told by nothing that the rules use: comments, strings and directives are
    taken away, and the calls looked for.
    """
    code = _COMMENTS.sub(b' ', text.replace(b'\\\n', b''))
    return SPOKEN_OF.search(_DIRECTIVES.sub(b'', code)) is not None


def judge(path: Path) -> str:
    """Have all rules decide on the driver at `path`; its defect, or ''."""
    try:
        file = source.read(str(path))
    except source.Unusable:
        return ''           # told as skipped
    content = file.content
    functions = source.functions(content)
    source.count_functions(content)
    cut.functions(content, [last for _, _, last in functions[:1]])
    kbuild.includes(content)
    every = rules.load()
    words = sorted({word for rule in every for word in rule.keywords})
    answer = decide.answered({
        'files': [str(path)], 'options': [], 'words': words,
        'rules': [(rule.name, rule.confidence) for rule in every]})
    for rule, why in answer['failures'].items():
        return '%s: %s' % (rule, why)
    if must_be_named(content) and not answer['unparsed'] and not any(
            events for events in answer['events'].values()):
        return 'silent: nothing is said of it'
    return ''


def work(numbers: Sequence[int], origins: Sequence[Path], limit: float,
         keep: Path | None) -> list[tuple[int, str]]:
    """Judge some inputs; the number and the defect of each that has one."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY << 20, _MEMORY << 20))
    signal.signal(signal.SIGALRM, _on_alarm)
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            one = made(number, origins)
            path = Path(folder, 'x.c')
            path.write_bytes(one.text)
            signal.setitimer(signal.ITIMER_REAL, limit)
            try:
                defect = judge(path)
            except _Late:
                defect = 'hang: ' + _where()
            except Exception as error:      # pylint: disable=broad-except
                defect = '%s: %s' % (type(error).__name__, _where())
                del error
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            if defect:
                bad.append((number, '%s [%s of %s]' % (
                    defect, '+'.join(one.how), one.origin.name)))
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    Path(keep, '%d.c' % number).write_bytes(one.text)
    return bad


def _where() -> str:
    """The last places of the exception that is being handled."""
    frames = traceback.extract_tb(sys.exc_info()[2])[-3:]
    return ' < '.join('%s:%d' % (os.path.basename(frame.filename),
                                 frame.lineno or 0)
                      for frame in reversed(frames))


def batches(first: int, count: int, size: int) -> Iterator[range]:
    """Numbers in portions."""
    for begin in range(first, first + count, size):
        yield range(begin, min(begin + size, first + count))


def main() -> int:
    """See the module's text; 1 when there was a defect."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--seconds', type=float, default=600)
    parser.add_argument('--count', type=int, default=1 << 30)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--limit', type=float, default=60)
    parser.add_argument('--tree', type=Path)
    parser.add_argument('--keep', type=Path)
    args = parser.parse_args()
    origins = corpus(args.tree)
    end = time.monotonic() + args.seconds
    done = 0
    kinds: Counter[str] = Counter()
    with futures.ProcessPoolExecutor(args.jobs, max_tasks_per_child=4) as pool:
        pending: set[futures.Future[list[tuple[int, str]]]] = set()
        sizes = {}
        for batch in batches(args.seed, args.count, 25):
            future = pool.submit(work, batch, origins, args.limit, args.keep)
            pending.add(future)
            sizes[future] = len(batch)
            if len(pending) < 2 * args.jobs:
                continue
            finished, pending = futures.wait(
                pending, return_when=futures.FIRST_COMPLETED)
            for each in finished:
                done += sizes.pop(each)
                _tell(each.result(), kinds)
            if time.monotonic() > end:
                break
        for each in futures.as_completed(pending):
            done += sizes.pop(each)
            _tell(each.result(), kinds)
    print('%d inputs of %d drivers, %d defects: %s' % (
        done, len(origins), sum(kinds.values()), dict(kinds)))
    return 1 if kinds else 0


def _tell(bad: list[tuple[int, str]], kinds: Counter[str]) -> None:
    for number, defect in bad:
        print('%d: %s' % (number, defect), flush=True)
        kinds[defect.split(' [', 1)[0]] += 1


if __name__ == '__main__':
    sys.exit(main())

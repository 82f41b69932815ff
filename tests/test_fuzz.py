# SPDX-License-Identifier: GPL-2.0-only
"""Hostile input: nothing crashes, hangs, gets lost, or is ever executed."""
from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, Run

sys.path[:0] = [str(ROOT / 'bench')]

import fuzz  # noqa: E402

VIRT_TO_BUS = ROOT / 'tests/fixtures/virt_to_bus/masked_and_or.c'

#: bench/fuzz.py tries as many as one has time for.
COUNT = int(os.environ.get('COCCI_DMA_FUZZ', '120'))


@pytest.fixture
def ours(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run cocci-dma with our own rules in tmp_path; it never crashes."""
    home = tmp_path / 'home'
    home.mkdir()

    def run(*arguments: object, **how: Any
            ) -> 'subprocess.CompletedProcess[bytes]':
        done = subprocess.run(
            [sys.executable, str(ROOT / 'cocci-dma'), *map(str, arguments)],
            cwd=tmp_path, env={**environment, 'HOME': str(home)}, check=False,
            capture_output=True, timeout=300, **how)
        assert done.returncode in (0, 1, 2), done.stderr
        assert b'Traceback' not in done.stderr, done.stderr
        assert not os.listdir(environment['TMPDIR'])
        assert not os.listdir(home)
        return done
    return run


def one_line_of_trouble(done: 'subprocess.CompletedProcess[bytes]') -> str:
    """What went wrong; exit code 2, and nothing more than that line."""
    lines = [line for line in done.stderr.decode('utf-8', 'replace')
             .splitlines() if line.startswith('cocci-dma: ')]
    assert done.returncode == 2 and len(lines) == 1, done
    return lines[0]


# --- Sources ----------------------------------------------------------------

def test_mutated_drivers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / 'bench/fuzz.py'), '--count', str(COUNT),
         '--seconds', '100000', '--jobs', '1'], check=False,
        capture_output=True, cwd=tmp_path)
    told = done.stdout.decode()
    assert done.returncode == 0, told
    assert told.startswith('%d inputs' % COUNT)


def test_fuzzing_notices_an_exception(tmp_path: Path, monkeypatch:
                                      pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError('told')

    path = tmp_path / 'x.c'
    path.write_bytes(VIRT_TO_BUS.read_bytes())
    assert fuzz.judge(path) == ''
    monkeypatch.setattr('evidence.virt_to_bus.decide', crash)
    assert 'virt_to_bus: ZeroDivisionError' in fuzz.judge(path)


def test_fuzzing_notices_silence(tmp_path: Path, monkeypatch:
                                 pytest.MonkeyPatch) -> None:
    path = tmp_path / 'x.c'
    path.write_bytes(VIRT_TO_BUS.read_bytes())
    monkeypatch.setattr(fuzz.decide, 'answered', lambda job: {
        'failures': {}, 'unparsed': [], 'events': {'virt_to_bus': []}})
    assert fuzz.judge(path).startswith('silent')
    for text in (b'/* virt_to_bus(x) */', b'#define X virt_to_bus(x)',
                 b'// \\\nvirt_to_bus(x)', b'char *s = "virt_to_bus(x)";',
                 b'static int virt_to_bus(x)'):
        path.write_bytes(text + b'\n')
        assert fuzz.judge(path) == '', text


def test_inputs_are_those_of_their_number() -> None:
    origins = fuzz.corpus()
    assert len(origins) > 400
    assert [fuzz.made(n, origins) for n in range(30)] == \
        [fuzz.made(n, origins) for n in range(30)]
    used = {how for n in range(100) for how in fuzz.made(n, origins).how}
    assert used >= {mutation.__name__ for mutation in fuzz.MUTATIONS}


#: What once ended the process that decides, or made it go on for ever; each
#: stands in a function with a call that must not be lost for it.
DEEP = {
    'parentheses': '(' * 9000 + 'x' + ')' * 9000 + ';',
    'negations': 'y = ' + '!' * 9000 + 'x;',
    'casts': 'y = ' + '(u32)' * 9000 + 'x;',
    'sums': 'y = ' + 'x + ' * 9000 + 'x;',
    'else if': 'if (x) ; else ' * 9000 + ';',
    'choices': 'y = ' + 'x ? 1 : ' * 9000 + '2;',
    'members': 'y = x' + '->x' * 9000 + ';',
    'initialisers': 'int y[] = ' + '{' * 9000 + '1' + '}' * 9000 + ';',
    'blocks': '{' * 9000 + ';' + '}' * 9000,
    'conditionals': '\n#if X\n' * 9000 + ';' + '\n#endif\n' * 9000,
    'alternatives': '\n#if X\n;\n#else\n' * 9000 + ';' + '\n#endif\n' * 9000,
    'open call': 'y = x(',
    'structs': 'struct {' * 30000 + '} x;' * 30000,
    'labels': 'x: ' * 30000 + ';',
    'statements': 'x++; ' * 30000,
    'no end': '/* ',
}


@pytest.mark.parametrize('what', DEEP)
def test_deep_nesting_is_told(what: str, tmp_path: Path) -> None:
    path = tmp_path / 'x.c'
    path.write_text('void f(void *p, int x)\n{\n\toutl(virt_to_bus(p), 1);\n\t'
                    '%s\n}\n' % DEEP[what])
    assert fuzz.judge(path) == ''


@pytest.mark.parametrize('text', [
    't struct device *dev)\n{\n\toutl(virt_to_bus(p), 1);\n}\n',
    'void f(void *p\n{\n\toutl(virt_to_bus(p), 1);\n}\n',
    'struct a {\nstruct b ((\n};\nvoid f(void *p)\n{\n\toutl(virt_to_bus(p));\n'
    '}\n',
    'int x = ((;\nvoid f(void *p)\n{\n\toutl(virt_to_bus(p), 1);\n}\n',
    'x' * 300_000 + ' f(void *p)\n{\n\toutl(virt_to_bus(p), 1);\n}\n'],
    ids=len)
def test_what_does_not_parse_hides_nothing(text: str, tmp_path: Path) -> None:
    path = tmp_path / 'x.c'
    path.write_text(text)
    assert fuzz.judge(path) == ''


def test_two_functions_without_an_end(tmp_path: Path) -> None:
    """The second lies in what is cut away of the first."""
    text = b'void f(void)\n{\n\tint a;\nvoid g(void)\n{\n\tint b;\n'
    assert fuzz.cut.functions(text, ()) == b'void f(void)\n{' + b'\n' * 5


def test_a_long_line(ours: Run, tmp_path: Path) -> None:
    (tmp_path / 'x.c').write_bytes(
        b'int a[] = { ' + b'1, ' * 3_400_000 + b'};\n' +
        VIRT_TO_BUS.read_bytes())
    done = ours('check', 'x.c', '--format', 'json')
    assert done.returncode == 0
    (skipped,) = json.loads(done.stdout)['coverage']['skipped']
    assert skipped['path'] == 'x.c' and 'a line of more' in skipped['reason']


def test_lines_that_are_nearly_too_long(tmp_path: Path) -> None:
    path = tmp_path / 'x.c'
    path.write_bytes((b'/*' + b'x' * 999_000 + b'*/\n') * 5)
    assert fuzz.judge(path) == ''


def test_hostile_folder(ours: Run, tmp_path: Path) -> None:
    """Whole runs over drivers that mutations went over: whatever is not told
    of is named, and a second conversion changes nothing."""
    origins = fuzz.corpus()
    folder = tmp_path / 'drivers'
    numbers = range(700, 714)
    for number in numbers:
        place = folder / str(number)
        place.mkdir(parents=True)
        (place / 'x.c').write_bytes(fuzz.made(number, origins).text[:200_000])
    done = ours('check', 'drivers', '--format', 'json')
    told = json.loads(done.stdout)
    assert told['coverage']['timeouts'] == []
    named = str(told['coverage']) + str(told['findings'])
    for number in numbers:
        text = (folder / str(number) / 'x.c').read_bytes()
        if fuzz.must_be_named(text):
            assert 'drivers/%d/x.c' % number in named
    ours('convert', '--in-place', 'drivers')
    assert ours('convert', 'drivers').stdout == b''


# --- Names and what they lead to --------------------------------------------

BAD_NAMES = ('$(cd;touch x).c', '`cd;touch x`.c', ';cd;touch x;.c', 'a b.c',
             'q\'q".c', 'new\nline.c', '-D.c', '--in-place.c', 'a\\b.c', '*.c',
             '~.c', '#a.c', '&a&.c', os.fsdecode(b'\xe9.c'))
GOOD_NAMES = ('a-b.c', 'ü.c', 'a:1:2.c', 'a@b+c=d,%s%n.c')


@pytest.mark.parametrize('inside', [True, False])
def test_names_that_a_shell_would_read(inside: bool, ours: Run,
                                       tmp_path: Path) -> None:
    """spatch makes commands for a shell of them: it never sees such a name."""
    text = VIRT_TO_BUS.read_bytes()
    folder = tmp_path if inside else tmp_path / 'drv'
    folder.mkdir(exist_ok=True)
    for name in BAD_NAMES + GOOD_NAMES:
        (folder / name).write_bytes(text)
    # a driver each, not one of all
    (folder / 'Kbuild').write_text('obj-m := known.o\n')
    (folder / 'known.c').write_text('int known;\n')
    done = ours('convert', '--in-place', '.', '--format', 'json')
    assert done.returncode == 0, done.stderr
    skipped = {os.path.basename(s['path']): s['reason']
               for s in json.loads(done.stdout)['coverage']['skipped']}
    bad = {name for name in BAD_NAMES if inside or name[0] != '-'}
    assert skipped.keys() == bad
    assert all('rename it' in reason for reason in skipped.values())
    for name in bad:
        assert (folder / name).read_bytes() == text
    for name in {*BAD_NAMES, *GOOD_NAMES} - bad:
        assert b'ring_dma' in (folder / name).read_bytes()
    assert not list(tmp_path.rglob('x'))


def test_text_is_never_executed(ours: Run, tmp_path: Path) -> None:
    """Neither by a shell, nor by the Python in a rule."""
    call = '__import__(\'os\').system(\'cd;touch x\')'
    text = VIRT_TO_BUS.read_text()
    for old, new in (
            ('kmalloc(32', 'kmalloc(sizeof("\\");%s;(\\"")' % call),
            ('card->ring', 'card->ring[0 ? (long)"%s" : 0]' % call)):
        assert old in text
        folder = tmp_path / str(len(new))
        folder.mkdir()
        (folder / 'x.c').write_text(
            text.replace(old, new) + '\n/* \'\'\' """ %s $(cd;touch x) '
            '`cd;touch x` */\n' % call)
    ours('convert', '--in-place', '.')
    ours('check', '.')


def test_links_are_not_followed_for_writing(ours: Run, tmp_path: Path
                                            ) -> None:
    """Nor is what a linked folder holds, though Kbuild names it."""
    outside = tmp_path / 'outside'
    outside.mkdir()
    text = VIRT_TO_BUS.read_bytes()
    (outside / 'real.c').write_bytes(text)
    folder = tmp_path / 'given' / 'drv'
    folder.mkdir(parents=True)
    (folder / 'sub').symlink_to(outside)
    (folder / 'link.c').symlink_to(outside / 'real.c')
    (folder / 'own.c').write_bytes(text)
    (folder / 'Kbuild').write_text('obj-m := m.o own.o\n'
                                   'm-y := main.o sub/real.o link.o\n')
    (folder / 'main.c').write_text('#include "sub/real.c"\n')
    done = ours('convert', '--in-place', 'given')
    assert done.returncode == 0
    assert b'drv/sub/real.c (it is reached through a symbolic' in done.stderr
    assert (outside / 'real.c').read_bytes() == text
    assert (folder / 'link.c').is_symlink()
    assert done.stdout == b'given/drv/own.c: converted\n'


# --- Other files that are read ----------------------------------------------

def _mutated(text: bytes, number: int) -> bytes:
    rng = random.Random(number)
    for mutation in rng.choices(fuzz.MUTATIONS, k=2):
        text = mutation(text, rng)[:100_000]
    return text


def test_hostile_makefiles(ours: Run, tmp_path: Path) -> None:
    made = (b'X := $(Y)\nY := $(X) a.o\nobj-m := foo.o\nfoo-y := a.o $(X)\n'
            b'foo-objs := $(foo-y)\nccflags-y := -I$(src)/inc -include x.h\n'
            b'ifeq ($(A),y)\nobj-$(CONFIG_B) += bar.o \\\n\tb.o\nendif\n')
    for number in range(60):
        folder = tmp_path / 'drivers' / str(number)
        folder.mkdir(parents=True)
        (folder / 'a.c').write_bytes(b'#include "x.h"\nint old;\n')
        (folder / ('Kbuild' if number % 2 else 'Makefile')).write_bytes(
            _mutated(made, number))
    done = ours('check', 'drivers')
    assert done.returncode == 0
    assert b'60 files' in done.stderr


def test_makefile_that_makes_more_and_more(ours: Run, tmp_path: Path) -> None:
    lines = ['X%d := $(X%d) $(X%d)\n' % (n, n - 1, n - 1)
             for n in range(1, 60)]
    lines += ['Y%d := $(Y%d)\n' % (n, n - 1) for n in range(1, 3000)]
    (tmp_path / 'Makefile').write_text(
        'X0 := -Ia\nY0 := a.o\n' + ''.join(lines) +
        'ccflags-y := $(X59)\nobj-m := foo.o $(Y2999)\nfoo-y := b.o $(X59)\n')
    for name in 'ab':
        (tmp_path / (name + '.c')).write_text('int old;\n')
    done = ours('check', '.')
    assert done.returncode == 0 and b'2 files' in done.stderr


@pytest.mark.parametrize('number', range(4))
def test_hostile_settings(number: int, ours: Run, tmp_path: Path) -> None:
    (tmp_path / 'a.c').write_text('int old;\n')
    settings = (b'exclude = ["a/", "!b", "**/c"]\nnet = true\n'
                b'[rules.virt_to_bus]\nseverity = "note"\nenabled = true\n'
                b'[[policy]]\nforbid = ["kmalloc"]\nreason = "x"\n')
    (tmp_path / '.cocci-dma.toml').write_bytes(_mutated(settings, number))
    assert '.cocci-dma.toml' in one_line_of_trouble(ours('check', 'a.c'))


@pytest.mark.parametrize('content', [
    b'', b'[', b'[]', b'{"findings": 1}', b'{"findings": [[]]}', b'\xff\xfe',
    b'{"findings": [{"fingerprint": {}}]}', b'{"a":' * 50_000,
    b'[' * 200_000, b'{"findings": [{"fingerprint": 1' + b'0' * 5000 +
    b', "path": 0}]}'], ids=len)
def test_hostile_baseline(content: bytes, ours: Run, tmp_path: Path) -> None:
    (tmp_path / 'a.c').write_text('int old;\n')
    (tmp_path / 'base').write_bytes(content)
    assert 'base: ' in one_line_of_trouble(
        ours('check', 'a.c', '--baseline', 'base'))


# --- A disk that is full, or may not be written -----------------------------

def test_disk_full(ours: Run, tmp_path: Path) -> None:
    """No file may grow beyond 16 KB: nothing is half written, and it is said
    which file it was."""
    shutil.copy(VIRT_TO_BUS, tmp_path / 'x.c')
    (tmp_path / 'x.c').write_bytes(VIRT_TO_BUS.read_bytes() +
                                   b'/* %s */\n' % (b'x' * 20_000))
    before = (tmp_path / 'x.c').read_bytes()

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, 16 << 10))

    done = ours('convert', '--in-place', 'x.c', preexec_fn=limited)
    assert one_line_of_trouble(done)
    assert (tmp_path / 'x.c').read_bytes() == before
    assert not list(tmp_path.glob('.cocci-dma-*'))

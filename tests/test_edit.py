# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of the user's files when a conversion is cut short."""
from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from cocci_dma import Trouble, edit, run, source
from conftest import ROOT, Run

sys.path[:0] = [str(ROOT / 'bench')]

import kill  # noqa: E402

#: Where a kill may hit: what changes something on disk.
CALLS = ('replace', 'link', 'unlink', 'fsync')


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of locks and journals."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'cocci-dma' / 'locks'


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files below a folder, with what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


def edits_of(folder: Path) -> list[run.Edit]:
    """One line more for each source."""
    return [run.Edit(path.name, source.read(str(path)),
                     path.read_bytes() + b'/* new */\n')
            for path in sorted(folder.glob('*.[ch]'))]


def write(folder: Path) -> None:
    """Change all sources of a folder, as `convert --in-place` does."""
    with edit.locked([str(folder)]) as journal:
        edit.write(edits_of(folder), journal)


def test_kills_at_random_moments(tmp_path: Path) -> None:
    """As bench/kill.py does two hundred times."""
    kills = kill.Kills(tmp_path, kill.DRIVERS[:1])
    rng = random.Random(1)
    for number in range(4):
        kills.once(bool(number % 2), rng)


def test_scratch_of_a_killed_run_is_removed(tmp_path: Path, monkeypatch:
                                            pytest.MonkeyPatch) -> None:
    """By the next run; that of one which lives, or of others, is not."""
    monkeypatch.setattr(run.tempfile, 'tempdir', str(tmp_path))
    (tmp_path / 'cocci-dma-of-the-user').mkdir()

    def die() -> None:
        with run.scratch() as folder:
            Path(folder, 'x.c').touch()
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    (left,) = tmp_path.glob('*/x.c')
    with run.scratch():
        assert left.exists()            # it may just have begun
    monkeypatch.setattr(run, '_SETTLED', -1)
    with run.scratch() as alive:
        assert not left.parent.exists()
        with run.scratch():
            assert os.path.exists(alive)
    assert [path.name for path in tmp_path.iterdir()] == [
        'cocci-dma-of-the-user']


def in_child(what: Callable[[], None]) -> int:
    """Do something in a child; how it ended, as subprocess has it."""
    child = os.fork()
    if not child:
        try:
            what()
            os._exit(0)
        except BaseException:       # pylint: disable=broad-except
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(number: int, what: Callable[[], None]) -> bool:
    """Do something in a child that dies before the n-th call of CALLS; did it
    come so far?"""
    def die_late() -> None:
        calls = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **more)
            return call

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        what()

    code = in_child(die_late)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def everything_that_can_be_cut(folder: Path) -> int:
    """How many calls a whole write() makes."""
    before = snapshot(folder)
    number = 1
    while killed_at(number, lambda: write(folder)):
        list(edit.settle())
        for name, content in before.items():
            (folder / name).write_bytes(content)
        number += 1
    for name, content in before.items():
        (folder / name).write_bytes(content)
    return number


def test_a_kill_leaves_all_old_or_all_new(tree: Path, cache: Path) -> None:
    """Whatever was done last before it, once the next run has begun."""
    folder = tree / 'drv'
    old = snapshot(folder)
    new = old | {e.path: e.content for e in edits_of(folder)}
    seen = []
    number = 1
    while killed_at(number, lambda: write(folder)):
        torn = snapshot(folder)
        notes = list(edit.settle())
        after = snapshot(folder)
        assert after in (old, new), number
        assert bool(notes) == (
            {name: torn[name] for name in old} not in (old, new)), number
        assert list(cache.glob('*.journal')) == []
        seen.append(after == new)
        for name, content in old.items():
            (folder / name).write_bytes(content)
        number += 1
    assert snapshot(folder) == new
    # not before any, and then not after any: both were met, in this order
    assert seen == sorted(seen) and len(set(seen)) == 2


def test_a_kill_while_settling(tree: Path, cache: Path) -> None:
    """The run after that finishes what the run that finishes could not."""
    folder = tree / 'drv'
    old = snapshot(folder)
    new = old | {e.path: e.content for e in edits_of(folder)}
    last = everything_that_can_be_cut(folder)
    torn = 0
    for number in range(1, last):
        for again in range(1, 6):
            killed_at(number, lambda: write(folder))
            torn += snapshot(folder).keys() != old.keys()
            killed_at(again, lambda: list(edit.settle()))
            list(edit.settle())
            assert snapshot(folder) in (old, new), (number, again)
            for name, content in old.items():
                (folder / name).write_bytes(content)
    assert torn > last


def _cut_in_the_middle(folder: Path) -> None:
    """A run that dies when one file is new and the others are old."""
    old = snapshot(folder)
    number = 1
    while killed_at(number, lambda: write(folder)):
        now = snapshot(folder)
        if sum(now[name] != old[name] for name in old) == 1:
            return
        list(edit.settle())
        for name, content in old.items():
            (folder / name).write_bytes(content)
        number += 1
    raise AssertionError('never cut between two files')


def test_a_file_edited_since_is_not_overwritten(tree: Path,
                                                cache: Path) -> None:
    folder = tree / 'drv'
    old = snapshot(folder)
    _cut_in_the_middle(folder)
    (folder / 'foo.h').write_bytes(b'/* mine */\n')
    (note,) = edit.settle()
    assert 'a.c' in note and 'cut short is undone' in note
    assert snapshot(folder) == old | {'foo.h': b'/* mine */\n'}


def test_edits_upon_what_was_new_are_told(tree: Path, cache: Path) -> None:
    folder = tree / 'drv'
    old = snapshot(folder)
    _cut_in_the_middle(folder)
    for name in ('a.c', 'foo.h'):
        (folder / name).write_bytes(b'/* mine */\n')
    notes = list(edit.settle())
    assert 'a.c: was changed after a conversion that was cut' in notes[0]
    assert snapshot(folder) == old | dict.fromkeys(('a.c', 'foo.h'),
                                                   b'/* mine */\n')
    assert list(edit.settle()) == []


def test_an_undoing_that_fails_is_finished_by_the_next_run(
        tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree / 'drv'
    old = snapshot(folder)
    replace = os.replace

    def fail(source_: Any, target: Any) -> None:
        if str(target).endswith('.h') or str(source_).endswith('.old'):
            raise OSError(5, 'Input/output error', str(target))
        replace(source_, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, 'replace', fail)
        with pytest.raises(Trouble, match='run again: it goes on from here'):
            write(folder)
    assert snapshot(folder).keys() != old.keys()
    (note,) = edit.settle()
    assert 'cut short is done now' in note
    assert snapshot(folder) == old | {e.path: e.content[:-len('/* new */\n')]
                                      for e in edits_of(folder)}


def test_a_run_that_lives_is_left_alone(tree: Path, cache: Path) -> None:
    with edit.locked([str(tree / 'drv')]) as journal:
        journal.write_text('of a run that has just begun')
        assert list(edit.settle()) == []
        assert journal.exists()


@pytest.mark.parametrize('content', [b'', b'{', b'\xff\xfe', b'[]', b'null',
                                     b'{"complete": true}', b'{"complete": '
                                     b'true, "steps": [{"path": 1}]}'])
def test_a_broken_journal_is_told(content: bytes, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / 'x.journal').write_bytes(content)
    (note,) = edit.settle()
    assert 'x.journal: a conversion was cut short, and' in note


def test_the_next_run_says_what_it_settled(tree: Path, cache: Path,
                                           cocci_dma: Run) -> None:
    _cut_in_the_middle(tree / 'drv')
    done = cocci_dma('check', 'drv')
    assert b'note: ' in done.stderr and b'is done now' in done.stderr
    assert b'note: ' not in cocci_dma('check', 'drv').stderr

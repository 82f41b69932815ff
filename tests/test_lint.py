# SPDX-License-Identifier: GPL-2.0-only
"""`check` as a lint: its formats, and what a project lives with it by."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Iterable
from xml.etree import ElementTree

import jsonschema
import pytest

from cocci_dma import cut, facts, formats, rules, source
from conftest import ROOT, Run

SCHEMA = json.loads((ROOT / 'tests/data/sarif-2.1.0.json').read_text())

#: A function that our rules speak of: dma_map_sg() is never negative.
BAD = '''
int %(name)s(struct device *dev, struct scatterlist *sg)
{
	int count;

	count = dma_map_sg(dev, sg, 4, DMA_TO_DEVICE);
	if (count < 0)
		return -ENOMEM;
	return 0;
}
'''
HEAD = '#include <linux/dma-mapping.h>\n'


def driver(*names: str) -> str:
    """A source with a bad function of each name."""
    return HEAD + ''.join(BAD % {'name': name} for name in names)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder with two drivers of one finding each; the current one."""
    top = tmp_path / 'project'
    for name in ('one', 'two'):
        (top / name).mkdir(parents=True)
        (top / name / 'Kbuild').write_text('obj-m := %s.o\n' % name)
        (top / name / (name + '.c')).write_text(driver(name))
    return top


@pytest.fixture
def lint(environment: dict[str, str], top: Path) -> Run:
    """Run cocci-dma with our own rules in the folder `top`."""
    def run(*arguments: object, cwd: Path = top, **more: str
            ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [sys.executable, str(ROOT / 'cocci-dma'), *map(str, arguments)],
            cwd=cwd, env={**environment, **more}, check=False,
            capture_output=True, timeout=300)
        assert not os.listdir(environment['TMPDIR'])
        assert b'Traceback' not in done.stderr, done.stderr
        return done
    return run


def places(done: 'subprocess.CompletedProcess[bytes]') -> list[str]:
    """path:line of the findings in text."""
    return re.findall(r'^(\S+?:\d+):\d+: \w+: ', done.stdout.decode(), re.M)


def trouble(done: 'subprocess.CompletedProcess[bytes]') -> str:
    """The one line that says what is wrong."""
    lines = [line for line in done.stderr.decode().splitlines()
             if line.startswith('cocci-dma: ')]
    assert done.returncode == 2 and len(lines) == 1, done
    return lines[0]


# --- Formats ----------------------------------------------------------------

def sarif(done: 'subprocess.CompletedProcess[bytes]') -> dict[str, Any]:
    """The run in a SARIF document, which must be valid."""
    told = json.loads(done.stdout)
    jsonschema.Draft7Validator(SCHEMA).validate(told)
    assert len(told['runs']) == 1
    return told['runs'][0]


def test_sarif(lint: Run, top: Path) -> None:
    (top / 'two' / 'b\xe4d%name.c').write_text(driver('odd'))
    done = lint('check', '--format', 'sarif', '.')
    assert done.returncode == 1
    run = sarif(done)
    uris = [r['locations'][0]['physicalLocation']['artifactLocation']['uri']
            for r in run['results']]
    assert uris == ['one/one.c', 'two/b%C3%A4d%25name.c', 'two/two.c']
    assert run['invocations'][0]['executionSuccessful']
    first = run['results'][0]
    assert first['ruleId'] == 'dma_map_sg' and first['level'] == 'warning'
    assert run['tool']['driver']['rules'][first['ruleIndex']]['id'] == \
        'dma_map_sg'
    assert first['locations'][0]['physicalLocation']['region'][
        'startLine'] == 8
    assert first['locations'][0]['logicalLocations'][0]['name'] == 'one'


def test_sarif_lists_every_rule_of_a_clean_run(lint: Run, top: Path) -> None:
    (top / 'one' / 'one.c').write_text('int x;\n')
    done = lint('check', '--format', 'sarif', 'one')
    assert done.returncode == 0
    run = sarif(done)
    assert run['results'] == []
    assert [rule['id'] for rule in run['tool']['driver']['rules']] == \
        [rule.name for rule in rules.load()]


def test_a_fix_in_sarif_is_what_convert_makes(lint: Run, top: Path) -> None:
    run = sarif(lint('check', '--format', 'sarif', 'one'))
    [change] = run['results'][0]['fixes'][0]['artifactChanges']
    lines = (top / 'one/one.c').read_text().splitlines(keepends=True)
    for part in reversed(change['replacements']):
        gone = part['deletedRegion']
        assert gone['startColumn'] == gone['endColumn'] == 1
        lines[gone['startLine'] - 1:gone['endLine'] - 1] = \
            [part['insertedContent']['text']]
    assert lint('convert', '--in-place', 'one').returncode == 0
    assert ''.join(lines) == (top / 'one/one.c').read_text()


@pytest.mark.parametrize('format_', formats.DOCUMENTS)
def test_documents_also_hold_what_went_wrong(lint: Run, format_: str) -> None:
    done = lint('check', '--format', format_, 'nowhere')
    assert 'nowhere: no such file' in trouble(done)
    if format_ == 'sarif':
        [invocation] = sarif(done)['invocations']
        assert not invocation['executionSuccessful']
        [said] = invocation['toolExecutionNotifications']
        assert said['level'] == 'error'
        assert 'nowhere' in said['message']['text']
    elif format_ == 'junit':
        [error] = ElementTree.fromstring(done.stdout).iter('error')
        assert 'nowhere' in error.get('message', '')
    else:
        [said] = json.loads(done.stdout)['coverage']['failures']
        assert 'nowhere' in said


def test_junit(lint: Run, top: Path) -> None:
    (top / 'one/one.c').write_text(driver('a') + '/* \x01 <>& */\n')
    done = lint('check', '--format', 'junit', '.')
    root = ElementTree.fromstring(done.stdout)
    suites = {suite.get('name'): suite for suite in root}
    assert set(suites) == {'cocci-dma', *(r.name for r in rules.load())}
    for name, suite in suites.items():
        tests = list(suite.iter('testcase'))
        failures = list(suite.iter('failure'))
        assert suite.get('tests') == str(len(tests)) != '0'
        assert suite.get('failures') == str(len(failures))
        assert len(failures) == (2 if name == 'dma_map_sg' else 0)


def test_github(lint: Run, top: Path) -> None:
    os.rename(top / 'one', top / 'a,b:c%')
    done = lint('check', '--format', 'github', 'a,b:c%')
    assert done.returncode == 1
    [line] = done.stdout.decode().splitlines()
    assert line.startswith(
        '::warning file=a%2Cb%3Ac%25/one.c,line=8,col=6,title=warning '
        '[dma_map_sg]::dma_map_sg() returns 0 when it fails')


def test_fingerprints_survive_shifted_lines(lint: Run, top: Path) -> None:
    def prints() -> list[str]:
        return [f['fingerprint'] for f in json.loads(lint(
            'check', '--format', 'json', '.').stdout)['findings']]

    before = prints()
    path = top / 'one/one.c'
    path.write_text('/* a\n * comment\n */\n' + path.read_text())
    assert prints() == before and len(set(before)) == 2


# --- Baseline ---------------------------------------------------------------

def test_baseline(lint: Run, top: Path) -> None:
    made = lint('check', '--baseline', 'known.json', '--update-baseline', '.')
    assert (made.returncode, made.stdout) == (0, b'')
    assert lint('check', '--baseline', 'known.json', '.').returncode == 0
    (top / 'one/one.c').write_text(driver('new', 'one'))
    done = lint('check', '--baseline', 'known.json', '.')
    assert places(done) == ['one/one.c:8']
    (top / 'two/two.c').unlink()
    (top / 'two/a.c').write_text('int x;\n')
    done = lint('check', '--baseline', 'known.json', '.')
    assert b'1 findings of known.json are gone' in done.stderr


def test_a_baseline_suppresses_in_sarif(lint: Run) -> None:
    lint('check', '--baseline', 'b.json', '--update-baseline', 'one')
    run = sarif(lint('check', '--format', 'sarif', '--baseline', 'b.json',
                     '.'))
    assert [r.get('suppressions', [{}])[0].get('kind')
            for r in run['results']] == [None, 'external']


@pytest.mark.parametrize('text', ('', '{}', '[]', '{"findings": [1]}',
                                  '\udcff'))
def test_a_broken_baseline(lint: Run, top: Path, text: str) -> None:
    (top / 'b.json').write_bytes(text.encode('utf-8', 'surrogateescape'))
    said = trouble(lint('check', '--baseline', 'b.json', '.'))
    assert 'b.json: is no baseline' in said and '--update-baseline' in said


def test_a_baseline_is_made_of_everything(lint: Run, top: Path) -> None:
    for more in (('--diff', 'HEAD'), ('--shard', '1/2')):
        assert '--update-baseline' in trouble(lint(
            'check', '--baseline', 'b', '--update-baseline', *more, '.'))
    assert not (top / 'b').exists()
    assert '--baseline' in trouble(lint('check', '--update-baseline', '.'))


# --- Comments in the source -------------------------------------------------

ALLOW = '/* cocci-dma: allow %s */'


@pytest.mark.parametrize('where', (
    '\t%s\n\tif (count < 0)\n', '\tif (count < 0) %s\n',
    '\t// cocci-dma: allow dma_map_sg - the API is our own\n'
    '\tif (count < 0)\n', '\t%s\n\n\tif (count\n\t    < 0)\n',
    '\tif (count\n\t    < 0) %s\n'))
def test_a_comment_allows(lint: Run, top: Path, where: str) -> None:
    said = ALLOW % 'dma_map_sg - the API is our own'
    (top / 'one/one.c').write_text(driver('one').replace(
        '\tif (count < 0)\n', where.replace('%s', said)))
    done = lint('check', '--format', 'json', 'one')
    told = json.loads(done.stdout)
    assert (done.returncode, told['findings']) == (0, [])
    [known] = told['suppressed']
    assert known['kind'] == 'inSource'
    assert known['reason'] == 'the API is our own'
    before = (top / 'one/one.c').read_bytes()
    done = lint('convert', '--in-place', 'one')
    assert (done.returncode, done.stdout) == (0, b'')
    assert (top / 'one/one.c').read_bytes() == before


def test_a_comment_is_for_one_statement(lint: Run, top: Path) -> None:
    (top / 'one/one.c').write_text(driver('a', 'b').replace(
        '\tif (', '\t%s\n\tif (' % (ALLOW % 'dma_map_sg - ours'), 1))
    assert places(lint('check', 'one')) == ['one/one.c:19']


@pytest.mark.parametrize('said, told', (
    ('dma_map_sg', 'no reason is given'),
    ('dma_map_sg -', 'no reason is given'),
    ('- because', 'no rule is named'),
    ('dma_map_gs - a slip', 'there is no rule dma_map_gs')))
def test_a_comment_that_allows_nothing(lint: Run, top: Path, said: str,
                                       told: str) -> None:
    (top / 'one/one.c').write_text(driver('one').replace(
        '\tif (', '\t%s\n\tif (' % (ALLOW % said)))
    done = lint('check', 'one')
    assert places(done) == ['one/one.c:8', 'one/one.c:9']
    assert told in done.stdout.decode()


def test_a_comment_that_is_not_needed(lint: Run, top: Path) -> None:
    """Also in a file that no rule has anything to do with."""
    (top / 'one/one.c').write_text('int x; %s\n'
                                   % (ALLOW % 'dma_map_sg, virt_to_bus - x'))
    done = lint('check', 'one')
    assert done.returncode == 1
    assert done.stdout.decode().count('says nothing here') == 2
    # of a rule that does not run, nothing is known
    done = lint('check', '--rule', 'virt_to_bus', 'one')
    assert done.stdout.decode().count('says nothing here') == 1


# --- Settings ---------------------------------------------------------------

def settle(top: Path, text: str) -> None:
    """Write the settings of a project."""
    (top / '.cocci-dma.toml').write_text(textwrap.dedent(text))


def test_settings(lint: Run, top: Path) -> None:
    settle(top, '''
        exclude = ["two/"]
        [rules.dma_map_sg]
        severity = "note"
        ''')
    done = lint('check', '.')
    assert done.stdout.startswith(b'one/one.c:8:6: note: ')
    assert places(done) == ['one/one.c:8']
    settle(top, '[rules.dma_map_sg]\nenabled = false\n')
    assert lint('check', '.').returncode == 0
    assert lint('check', '--rule', 'dma_map_sg', '.').returncode == 1
    settle(top, '[rules.dma_map_sg]\nexclude = ["one/*.c"]\n')
    assert places(lint('check', '.')) == ['two/two.c:8']


def test_settings_of_the_repository(lint: Run, top: Path) -> None:
    """Found from a folder in it, whose paths they are not relative to."""
    settle(top, 'exclude = ["one/"]\nbaseline = "known.json"\n')
    lint('check', '--update-baseline', '.')
    assert (top / 'known.json').exists()
    assert lint('check', '.', cwd=top / 'two').returncode == 0
    (top / 'known.json').write_text('{"findings": []}')
    assert lint('check', '.', cwd=top / 'two').returncode == 1
    assert lint('check', '.', cwd=top / 'one').returncode == 0
    (top / 'one/.git').mkdir()      # a repository of its own
    assert lint('check', '.', cwd=top / 'one').returncode == 1
    assert lint('check', '--config', '../.cocci-dma.toml', '.',
                cwd=top / 'one').returncode == 0


def test_policy(lint: Run, top: Path) -> None:
    settle(top, '''
        [[policy]]
        forbid = ["kmalloc", "printk"]
        paths = ["one/"]
        reason = "use the device"
        ''')
    text = ('int f(void)\n{\n\t/* printk */\n\treturn printk("kmalloc");\n'
            '}\n')
    for name in ('one', 'two'):
        (top / name / (name + '.c')).write_text(text)
    done = lint('check', '.')
    assert done.stdout.decode() == (
        'one/one.c:4:9: warning: printk is not allowed here: use the device '
        '[policy]\n')
    (top / 'one/one.c').write_text(text.replace(
        'c");', 'c"); ' + ALLOW % 'policy - once'))
    assert lint('check', '.').returncode == 0


@pytest.mark.parametrize('text, told', (
    ('exclude = "x"', 'exclude is no list'),
    ('exclude = [1]', 'exclude is no list of strings'),
    ('nonsense = 1', 'unknown setting nonsense'),
    ('[rules.nothing]\nenabled = true', 'no rule nothing'),
    ('[rules.dma_map_sg]\nseverity = "bad"', "'bad' is none of"),
    ('[rules.dma_map_sg]\nenabled = 1', 'enabled is no true or false'),
    ('[rules]\ndma_map_sg = true', 'is no table'),
    ('[[policy]]\nforbid = ["x"]', 'needs `reason`'),
    ('[[policy]]\nreason = "x"', 'needs `forbid`'),
    ('policy = 3', 'policy is no list'),
    ('a = [', 'is no TOML')))
def test_bad_settings(lint: Run, top: Path, text: str, told: str) -> None:
    settle(top, text)
    said = trouble(lint('check', '.'))
    assert '.cocci-dma.toml: ' in said and told in said


def test_settings_that_are_not_there(lint: Run) -> None:
    assert 'x.toml: cannot be read' in trouble(
        lint('check', '--config', 'x.toml', '.'))


# --- Only what a branch brought in ------------------------------------------

def git(top: Path, *arguments: str) -> str:
    """What git prints."""
    return subprocess.run(
        ['git', '-c', 'user.name=t', '-c', 'user.email=t@example.org',
         '-c', 'init.defaultBranch=main', *arguments], cwd=top, check=True,
        capture_output=True, text=True).stdout


@pytest.fixture
def repository(top: Path) -> Path:
    """`top` in git, with a commit."""
    git(top, 'init', '-q')
    git(top, 'add', '.')
    git(top, 'commit', '-qm', 'first')
    return top


def test_diff(lint: Run, repository: Path) -> None:
    one = repository / 'one/one.c'
    before = git(repository, 'status', '--porcelain=v2', '--branch')
    assert lint('check', '--diff', 'HEAD', '.').returncode == 0
    # shifted, moved to another place, a line of it edited, renamed
    one.write_text(HEAD + '\n\n/* more */\n' + BAD % {'name': 'one'})
    assert lint('check', '--diff', 'HEAD', '.').returncode == 0
    one.write_text(driver('one').replace('count', 'number'))
    assert lint('check', '--diff', 'HEAD', '.').returncode == 0
    one.write_text(driver('renamed'))
    assert lint('check', '--diff', 'HEAD', '.').returncode == 0
    # a second one in the same function, and one in a new file
    one.write_text(driver('one', 'two'))
    (repository / 'two/new.c').write_text(driver('n'))
    done = lint('check', '--diff', 'HEAD', '.')
    assert places(done) == ['one/one.c:18', 'two/new.c:8']
    assert lint('check', '--diff', 'HEAD', '.', cwd=repository / 'one'
                ).stdout.startswith(b'one.c:18:')
    git(repository, 'checkout', '-q', '.')
    (repository / 'two/new.c').unlink()
    assert git(repository, 'status', '--porcelain=v2', '--branch') == before


def test_diff_of_a_renamed_file(lint: Run, repository: Path) -> None:
    git(repository, 'mv', 'one/one.c', 'one/uno.c')
    (repository / 'one/Kbuild').write_text('obj-m := uno.o\n')
    assert lint('check', '--diff', 'HEAD', '.').returncode == 0
    (repository / 'one/uno.c').write_text(driver('one', 'new'))
    git(repository, 'add', '.')
    git(repository, 'commit', '-qm', 'rename')
    assert places(lint('check', '--diff', 'HEAD~1', '.')) == ['one/uno.c:18']


def test_diff_is_of_the_branch_alone(lint: Run, repository: Path) -> None:
    """What the other branch mended since is not what this one brought in."""
    git(repository, 'checkout', '-qb', 'topic')
    (repository / 'one/other.h').write_text('int x;\n')
    (repository / 'one/one.c').write_text('#include "other.h"\n'
                                          + driver('one'))
    git(repository, 'add', '.')
    git(repository, 'commit', '-qm', 'topic')
    git(repository, 'checkout', '-q', 'main')
    (repository / 'one/one.c').write_text('int mended;\n')
    git(repository, 'commit', '-qam', 'mend')
    git(repository, 'checkout', '-q', 'topic')
    assert lint('check', '--diff', 'main', '.').returncode == 0


def test_diff_without_a_repository(lint: Run, top: Path) -> None:
    assert '--diff: ' in trouble(lint('check', '--diff', 'HEAD', '.'))
    git(top, 'init', '-q')
    assert 'no such revision' in trouble(lint('check', '--diff', 'x', '.'))
    assert 'no such revision' in trouble(lint('check', '--diff=--all', '.'))


def test_one_new_bug_among_many(lint: Run, repository: Path) -> None:
    path = repository / 'one/one.c'
    path.write_text(driver(*('f%d' % n for n in range(200))))
    git(repository, 'commit', '-qam', 'old bugs')
    lint('check', '--baseline', 'b.json', '--update-baseline', '.')
    path.write_text(driver(*('f%d' % n for n in range(100)), 'new',
                           *('f%d' % n for n in range(100, 200))))
    for how in (('--diff', 'HEAD'), ('--baseline', 'b.json')):
        done = lint('check', '--format', 'github', *how, '.')
        [line] = done.stdout.decode().splitlines()
        assert line.startswith('::warning file=one/one.c,line=%d,'
                               % (8 + 10 * 100))


# --- Parts, jobs, cache -----------------------------------------------------

def many(top: Path) -> None:
    """Eight more drivers, two of which share a header."""
    for number in range(8):
        folder = top / ('d%d' % number)
        folder.mkdir()
        (folder / 'd.c').write_text(driver('f%d' % number))
    for name in ('d0', 'd1'):
        text = (top / name / 'd.c').read_text()
        (top / name / 'd.c').write_text('#include "../both.h"\n' + text)
    (top / 'both.h').write_text('static inline ' + (BAD % {
        'name': 'shared'}).lstrip())


@pytest.mark.parametrize('format_', ('json', 'sarif'))
def test_shards(lint: Run, top: Path, format_: str) -> None:
    many(top)
    whole = lint('check', '--format', format_, '.')
    for count in (1, 4):
        parts = []
        for number in range(1, count + 1):
            part = lint('check', '--format', format_, '--shard',
                        '%d/%d' % (number, count), '.')
            parts.append(top / ('%d.part' % number))
            parts[-1].write_bytes(part.stdout)
        merged = lint('merge', *parts)
        assert merged.stdout == whole.stdout
        assert merged.returncode == whole.returncode == 1


def test_bad_parts(lint: Run, top: Path) -> None:
    for told in ('0/2', '3/2', '1', '1/0', 'a/b'):
        assert 'write I/N' in trouble(lint('check', '--shard', told, '.'))
    (top / 'a').write_text('{}')
    assert 'a: is no output' in trouble(lint('merge', 'a'))
    assert 'b: cannot be read' in trouble(lint('merge', 'b'))
    (top / 'j').write_bytes(lint('check', '--format', 'json', '.').stdout)
    (top / 's').write_bytes(lint('check', '--format', 'sarif', '.').stdout)
    assert 'JSON with JSON' in trouble(lint('merge', 'j', 's'))


def test_a_part_that_failed_is_not_complete(lint: Run, top: Path) -> None:
    good = lint('check', '--format', 'json', 'one').stdout
    bad = lint('check', '--format', 'json', 'nowhere').stdout
    (top / 'a').write_bytes(good)
    (top / 'b').write_bytes(bad)
    assert lint('merge', 'a', 'b').returncode == 2


def told_by(done: 'subprocess.CompletedProcess[bytes]'
            ) -> tuple[int, bytes, bytes]:
    """All that can be told of a run."""
    return done.returncode, done.stdout, done.stderr


def test_the_same_however_it_is_run(lint: Run, top: Path) -> None:
    many(top)
    cold = told_by(lint('check', '--format', 'json', '--jobs', '1', '.'))
    for how in ((), ('--jobs', '2'), ('--no-cache',),
                ('--no-cache', '--jobs', '3')):
        assert told_by(lint('check', '--format', 'json', *how, '.')) == cold


def test_a_warm_run_starts_no_decision(lint: Run, top: Path) -> None:
    many(top)
    cold = lint('check', '.')
    nothing = top / 'bin'
    nothing.mkdir()
    (nothing / 'spatch').symlink_to(subprocess.run(
        ['which', 'spatch'], capture_output=True, text=True,
        check=True).stdout.strip())
    warm = lint('check', '--verbose', '.')
    assert told_by(warm) == told_by(cold)       # no `+ spatch ...` line
    text = (top / 'd3/d.c').read_text()
    (top / 'd3/d.c').write_text('\n' + text)
    again = lint('check', '--verbose', '.')
    started = [line for line in again.stderr.decode().splitlines()
               if line.startswith('+ ')]
    assert len(started) == 1
    assert places(again)[3:6] == ['d2/d.c:8', 'd3/d.c:9', 'd4/d.c:8']


@pytest.mark.parametrize('change', (
    lambda top: (top / 'both.h').write_text('int x;\n'),
    lambda top: (top / 'd0/Kbuild').write_text('obj-m := e.o\ne-y := d.o\n'),
    lambda top: (top / 'd0/d.c').unlink(),
    lambda top: (top / 'd0/e.c').write_text(driver('e')),
    lambda top: (top / 'both.h').rename(top / 'neither.h')))
def test_a_change_is_seen(lint: Run, top: Path, change: Any) -> None:
    many(top)
    lint('check', '.')
    change(top)
    warm = lint('check', '--format', 'json', '.')
    assert told_by(warm) == told_by(lint('check', '--format', 'json',
                                         '--no-cache', '.'))


def damaged(cache: Path) -> Iterable[Path]:
    """Destroy every file of the cache."""
    for path in cache.rglob('*'):
        if path.is_file():
            path.write_bytes(b'not a data base at all' * 100)
            yield path


def test_a_broken_cache(lint: Run, top: Path, tmp_path: Path) -> None:
    first = lint('check', '.')
    assert list(damaged(tmp_path / 'cache/cocci-dma/check'))
    again = lint('check', '.')
    assert (again.returncode, again.stdout) == (1, first.stdout)
    assert b'note: the cache ' in again.stderr
    assert b'made anew' in again.stderr
    assert told_by(lint('check', '.')) == told_by(first)


def test_a_cache_that_cannot_be(lint: Run, tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    done = lint('check', '.', XDG_CACHE_HOME=str(tmp_path / 'file'))
    assert done.returncode == 1 and len(places(done)) == 2
    assert b'nothing is kept' in done.stderr


# --- The parts --------------------------------------------------------------

def test_cut() -> None:
    text = (HEAD + BAD % {'name': 'a'} + BAD % {'name': 'b'}
            + 'int c(void)\n{\n#ifdef X\n\treturn 1;\n}\n#else\n}\n#endif\n'
            ).encode()
    short = cut.functions(text, [16])
    assert short.count(b'\n') == text.count(b'\n')
    assert short.count(b'dma_map_sg') == 1
    assert short.split(b'\n')[13:] == text.split(b'\n')[13:] != b''
    assert [f[:2] for f in source.functions(short)] == \
        [f[:2] for f in source.functions(text)]


def test_facts(tmp_path: Path) -> None:
    path = tmp_path / 'a.c'
    path.write_bytes(b'#include "x.h"\n # include\t"sub/y.h"\n'
                     b'#include <z.h>\n/* include "no" */\n'
                     b'int dma_map_single_not(void)\n{\n\tdma_map_page();\n}\n'
                     b'struct a {\n};\n#define M(x) \\\n{ \\\n}\n')
    known = facts.Facts(['dma_map_single', 'dma_map_page', 'virt_to_bus'])
    fact = known.of(str(path))
    assert fact.words == {'dma_map_page'}
    assert fact.includes == ('"x.h"', '"sub/y.h"', '<z.h>')
    assert fact.functions == 1 == len(source.functions(path.read_bytes()))
    path.write_bytes(b'a\r\nb\n')
    assert 'mixed line ends' in facts.Facts([], known.known).of(
        str(path)).problem


def test_what_need_not_change_is_counted(lint: Run, top: Path) -> None:
    """An allocation that is right as it is can hardly be a finding."""
    path = top / 'one/one.c'
    path.write_bytes((ROOT / 'tests/fixtures/dmam_alloc_coherent'
                      / 'also_from_resume.c').read_bytes())
    done = lint('check', 'one')
    assert (done.returncode, done.stdout) == (0, b'')
    assert b'note: dmam_alloc_coherent: leaves 1 places as they are, which ' \
        b'is no fault of theirs: --rule dmam_alloc_coherent says why' \
        in done.stderr
    done = lint('check', '--rule', 'dmam_alloc_coherent', 'one')
    assert done.returncode == 1
    assert b'also reached outside probe' in done.stdout

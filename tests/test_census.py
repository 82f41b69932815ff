# SPDX-License-Identifier: GPL-2.0-only
"""The census: what it counts, what it draws, and how a browser shows it.

Most of it is made of toy findings, some of which try to be markup.
"""
from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Sequence
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

from cocci_dma import census, groups, rules
from cocci_dma.findings import Evidence, Finding
from cocci_dma.run import Result
from browser import contrast, look, require_readable
from conftest import ROOT, Run
from test_page import HOSTILE, SEEN, parse, text_of, words_of

#: The name space of drawings.
SVG = '{http://www.w3.org/2000/svg}'

#: A path that is no UTF-8, and markup.
ODD = 'drivers/net/caf\udce9 <b>"#?%41&\'.c'

#: File -> its first lines.
FILES = {
    'drivers/net/one/a.c': b'// (c) 2006, Somebody\n',
    'drivers/net/one/b.c': b'/* Copyright (C) 1999-2004 Somebody */\n',
    'drivers/scsi/two.c': b'/* nothing is claimed */\n',
    'top.c': b'/*\n * COPYRIGHT 2013\n */\n',
    ODD: b'/* Caf\xe9 \xa9 1971, Copyright 1998, 2098 */\n',
}


def finding(path: str, line: int = 7, kind: str = 'fix', rule: str = 'alpha',
            severity: str = 'warning', message: str = 'a message',
            evidence: Sequence[Evidence] = ()) -> Finding:
    """A finding like those of rules."""
    return Finding(rule, kind, path, line, 3, 'some_function', severity,
                   'High', message, tuple(evidence))


def rule(name: str, summary: str = '') -> rules.Rule:
    """A rule without a page."""
    return rules.Rule(name, Path('/nowhere'), summary, '', '', ('dma_free',),
                      (), '', frozenset())


RULES = [rule('alpha', 'Do one thing\nwell: really.'), rule('beta'),
         rule('quiet')]


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """Something of each kind, of four drivers and a hostile one."""
    top = tmp_path / 'kernel'
    for path, head in FILES.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(head + b'#include <x.h>\n')
    made = Result(groups.Tree(str(top), str(top)))
    made.drivers = {path: 'drivers/net/one/one' for path in FILES
                    if '/one/' in path}
    made.findings = [
        finding('drivers/net/one/a.c'),
        finding('drivers/net/one/a.c', 9, 'refusal', 'beta', message='size '
                '`a->n` is not known (a.c:3)'),
        finding('drivers/net/one/b.c', 2, 'refusal', 'beta', message='size '
                '`b->len[3]` is not known (b.c:12)'),
        finding('drivers/scsi/two.c', 1, 'finding', severity='error'),
        finding('drivers/scsi/two.c', 3, 'finding', severity='note',
                evidence=[Evidence('drivers/scsi/two.c', 2, 'the reason')]),
        finding('top.c', 4),
        finding(ODD, 5, 'refusal', 'rule ' + HOSTILE, message=HOSTILE,
                evidence=[Evidence(ODD, 6, HOSTILE)]),
    ]
    made.coverage.files = 5
    return made


@pytest.fixture
def page(result: Result) -> bytes:
    """The page of these."""
    return census.render(result, RULES, ['drivers' + HOSTILE])


def plots(tree: Any, section: str) -> dict[str, list[int]]:
    """What a section tells as numbers: label -> those of its columns."""
    found = {}
    for table in tree.findall('.//section[@aria-labelledby="%s"]'
                              '//table[@class="plot"]' % section):
        for line in table.findall('tbody/tr'):
            found[words_of(line.find('th'))] = [
                int(words_of(cell).replace(',', ''))
                for cell in line.findall('td')]
    return found


def listed(tree: Any) -> list[tuple[str, Any]]:
    """(driver, line of the table) of all findings."""
    found, driver = [], ''
    for line in tree.findall('.//table[@id="list"]/tbody/tr'):
        if line.get('class') == 'driver':
            driver = words_of(line)
        else:
            found.append((driver, line))
    return found


# --- What is counted --------------------------------------------------------

def test_numbers(page: bytes) -> None:
    """to convert, for a human, refused, all, drivers."""
    tree = parse(page)
    assert plots(tree, 'subsystems') == {
        'drivers/net': [1, 0, 3, 4, 2],
        'drivers/scsi': [0, 2, 0, 2, 1],
        '(top folder)': [1, 0, 0, 1, 1],
    }
    by_rule = plots(tree, 'rules')
    assert by_rule.pop('alpha Do one thing well') == [2, 2, 0, 4, 3]
    assert by_rule.pop('beta') == [0, 0, 2, 2, 1]
    assert list(by_rule.values()) == [[0, 0, 1, 1, 1]]
    assert plots(tree, 'severities') == {
        'error': [0, 1, 0, 1, 1], 'warning': [2, 0, 3, 5, 3],
        'note': [0, 1, 0, 1, 1]}
    assert plots(tree, 'age') == {
        '1995 to 1999': [0, 0, 1, 1, 1],
        '2005 to 2009': [1, 0, 2, 3, 1],
        '2010 to 2014': [1, 0, 0, 1, 1],
        census.UNDATED: [0, 2, 0, 2, 1]}
    assert [text_of(one) for one in tree.findall('.//dl//strong')] == [
        '2', '2', '3']
    assert 'Nothing was found by quiet.' in words_of(tree)


def test_reasons_are_put_together(page: bytes) -> None:
    tree = parse(page)
    why = plots(tree, 'why-refusal')
    assert why.pop('size … is not known beta') == [2, 1]
    assert list(why.values()) == [[1, 1]]
    assert plots(tree, 'why-finding') == {'a message alpha': [2, 1]}


NAMES = frozenset({'dma_map_single', 'GFP_KERNEL', 'probe'})


@pytest.mark.parametrize('message, said', [
    ('line 12 tests the handle', 'line … tests the handle'),
    ('also reached outside probe: from foo_open, called as struct '
     'file_operations.open (foo.c:852) (line 715)',
     'also reached outside probe: from …, called as struct …'),
    ('dma_map_single() is used in card->ops[n] with GFP_KERNEL: no',
     'dma_map_single() is used in … with GFP_KERNEL: no'),
    ('nothing tells how to undo f(a, g(b)) (line 3: g(b) (line 4)), '
     'x.len changed (line 5)', 'nothing tells how to undo … changed'),
    ('it is not tested; held here: memory card->buf (line 206), memory b_p '
     '(a/b-c.c:208)', 'it is not tested'),
    ('a round trip (by hand) of 24 bits: `x (` and `y`',
     'a round trip (by hand) of … bits: …'),
    ('an unbalanced ) and ( are kept', 'an unbalanced ) and ( are kept'),
    ('', ''),
])
def test_reason(message: str, said: str) -> None:
    assert census.reason(message, NAMES) == said


def test_pages_tell_which_names_are_common() -> None:
    """Names of the API stay in reasons; there is no list of them."""
    every = rules.load()
    assert census.render(Result(groups.Tree('/')), every, ['.'])
    made = Result(groups.Tree('/', '/'))
    made.findings = [finding(
        'x.c', kind='refusal', rule='dma_mapping_error', message='the handle '
        'of dma_map_single() is not tested by card_start()')]
    assert set(plots(parse(census.render(made, every, ['.'])),
                     'why-refusal')) == {
        'the handle of dma_map_single() is not tested by … '
        'dma_mapping_error'}


@pytest.mark.parametrize('head, year', [
    (b'/* Copyright 2001, 2003\n * copyright (C) 2002 */', 2003),
    (b'/*\n * \xc2\xa9 1997\n */', 1997),
    (b'/* written in 2004, Copyright by A. */\n/* 2005 */', 2004),
    (b'/* Copyright 1899 20011 2099 */', 0),
    (b'#include <a.h>\n/* Copyright 2001 */', 0),
    (b'/*\n' + b'x\n' * 5000 + b'Copyright 2001 */', 0),
    (b'', 0),
])
def test_year(result: Result, head: bytes, year: int) -> None:
    path = Path(result.tree.base, 'top.c')
    path.write_bytes(head)
    result.findings = [finding('top.c')]
    tree = parse(census.render(result, RULES, ['.']))
    assert ('%s · 1 finding' % (year or 'undated')) in listed(tree)[0][0]


def test_file_that_is_gone(result: Result) -> None:
    Path(result.tree.base, 'top.c').unlink()
    assert 'top.c undated · 1 finding' in {
        driver for driver, _ in listed(parse(
            census.render(result, RULES, ['.'])))}


def test_folders_of_no_project(result: Result) -> None:
    """Outside of any, what the findings have in common goes."""
    top = result.tree.base
    result.tree = groups.Tree('/', '/')
    result.findings = [
        finding(os.path.join(top, path)) for path in FILES if path != 'top.c']
    tree = parse(census.render(result, RULES, ['.']))
    assert set(plots(tree, 'subsystems')) == {'net', 'net/one', 'scsi'}


# --- What is drawn ----------------------------------------------------------

def test_bars_are_as_long_as_their_numbers(page: bytes) -> None:
    lines = 0
    for table in parse(page).findall('.//table[@class="plot"]'):
        shown = [next(iter(one)).get('class').split()[1]
                 for one in table.findall('thead/tr/th') if len(one)]
        bars = []
        for line in table.findall('tbody/tr'):
            numbers = dict(zip(shown, [
                int(words_of(cell)) for cell in line.findall('td')]))
            drawing = line.find('th/%ssvg' % SVG)
            assert drawing.get('aria-hidden') == 'true'
            left, widths = 0.0, {}
            for rect in drawing:
                assert float(rect.get('x')[:-1]) == pytest.approx(left,
                                                                  abs=.01)
                widths[rect.get('class')] = float(rect.get('width')[:-1])
                left += widths[rect.get('class')]
            bars.append((numbers, widths))
        most = max(sum(numbers.values()) for numbers, _ in bars)
        for numbers, widths in bars:
            lines += 1
            assert widths == pytest.approx({
                kind: 100 * number / most
                for kind, number in numbers.items() if number}, abs=.01)
    assert lines > 12


def test_years_are_drawn_and_told(page: bytes) -> None:
    svg = parse(page).find('.//%ssvg[@class="years"]' % SVG)
    assert svg.get('role') == 'img'
    assert svg.get('aria-label').endswith(': 1998: 1; 2006: 3; 2013: 1')
    columns = {}
    for group in svg.findall(SVG + 'g'):
        year = text_of(group.find(SVG + 'title')).split(':')[0]
        columns[year], low = {}, 88.0
        for one in group.findall(SVG + 'rect'):
            columns[year][one.get('class')] = float(one.get('height')[:-1])
            low -= columns[year][one.get('class')]
            assert float(one.get('y')[:-1]) == pytest.approx(low, abs=.01)
    assert list(columns) == [str(year) for year in range(1998, 2014)]
    drawn = {year: parts for year, parts in columns.items() if parts}
    assert drawn == {'1998': {'refusal': 26}, '2013': {'fix': 26},
                     '2006': {'fix': 26, 'refusal': 52}}
    assert [text_of(one) for one in svg.findall(SVG + 'text')] == [
        '3 findings', '2000', '2005', '2010']


def test_long_plots_are_folded(result: Result) -> None:
    result.findings = [
        finding('drivers/d%02d/x.c' % number, line)
        for number in range(25) for line in range(number + 1)]
    section = parse(census.render(result, RULES, ['.'])).find(
        './/section[@aria-labelledby="subsystems"]')
    assert len(section.findall('table/tbody/tr')) == 20
    assert words_of(section.find('details/summary')) == \
        '5 more with 5 or fewer each'
    assert len(section.findall('details/table/tbody/tr')) == 5


# --- The list ---------------------------------------------------------------

def test_every_finding_is_listed(result: Result, page: bytes) -> None:
    lines = listed(parse(page))
    assert len(lines) == len(result.findings)
    assert Counter(driver for driver, _ in lines) == {
        'drivers/net/one/one 2006 · 3 findings': 3,
        'drivers/net/caf\ufffd <b>"#?%41&\'.c 1998 · 1 finding': 1,
        'drivers/scsi/two.c undated · 2 findings': 2,
        'top.c 2013 · 1 finding': 1}
    two = [line for driver, line in lines if '/two.c' in driver]
    assert [words_of(line) for line in two] == [
        'drivers/scsi/two.c:1 some_function() for a human error '
        'a message alpha',
        'drivers/scsi/two.c:3 some_function() for a human note '
        'a message alpha evidence: 1 drivers/scsi/two.c:2 the reason']


def test_links_lead_to_the_files(result: Result, page: bytes) -> None:
    """Byte for byte, whatever they are called."""
    files = Counter()
    for _, line in listed(parse(page)):
        for link in line.iter('a'):
            url = urlsplit(link.get('href'))
            path = unquote_to_bytes(url.path)
            assert (url.scheme, url.netloc, url.query) == ('file', '', '')
            assert os.path.isfile(path)
            assert text_of(link).endswith(url.fragment.replace('L', ':'))
            files[os.path.relpath(os.fsdecode(path), result.tree.base)] += 1
    assert files == Counter(
        one.path for found in result.findings
        for one in (found, *found.evidence))


def test_links_to_a_server(result: Result) -> None:
    """Their paths are those in the project."""
    result.tree = groups.Tree(result.tree.base + '/drivers',
                              result.tree.base)
    result.findings = [finding('net/one/a.c', 12)]
    tree = parse(census.render(result, RULES, ['.'],
                               'https://x.test/a/{path}?v=1#n{line}'))
    link, = tree.iter('a')
    assert link.get('href') == \
        'https://x.test/a/drivers/net/one/a.c?v=1#n12'


def test_without_the_script_all_is_there(page: bytes) -> None:
    tree = parse(page)
    hidden = [one for one in tree.iter() if 'hidden' in one.attrib]
    assert [one.get('id') for one in hidden] == ['choose']
    assert tree.find('.//table[@id="list"]') not in list(hidden[0].iter())


# --- What a page must not do ------------------------------------------------

def test_text_is_never_markup(page: bytes) -> None:
    tree = parse(page)
    assert not [one for one in tree.iter() if one.tag in ('img', 'b')]
    every = text_of(tree.find('body'))
    # The name; rule, twice; reason, message, evidence; two of its options
    assert every.count(SEEN) >= 7
    assert '49' not in re.findall(r'onerror=stolen=1>(\S*)', every)
    assert not re.search('[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]', every)


def test_nothing_is_loaded(page: bytes) -> None:
    """The one script is ours, and no other would be run."""
    tree = parse(page)
    for element in tree.iter():
        assert element.tag not in ('link', 'img', 'iframe', 'base')
        for name, value in element.attrib.items():
            assert not name.startswith('on') and name not in ('src', 'style')
            assert name != 'href' or value.startswith('file:///')
    style, = tree.iter('style')
    assert 'url(' not in text_of(style) and '@import' not in text_of(style)
    script, = tree.iter('script')
    digest = base64.b64encode(
        hashlib.sha256(text_of(script).encode()).digest()).decode()
    assert tree.find('.//meta[@http-equiv]').get('content') == (
        "default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'sha256-%s'" % digest)


def test_very_long(result: Result) -> None:
    result.findings = [finding('top.c', message='(`x' * 100_000,
                               kind='refusal'),
                       finding('top.c', message='x_y(' * 100_000,
                               kind='refusal')]
    page = census.render(result, RULES, ['.'])
    assert len(page) < 100_000
    assert '… (299000 characters more)' in words_of(parse(page))


def test_nothing_found(result: Result) -> None:
    result.findings = []
    tree = parse(census.render(result, RULES, ['.']))
    assert 'Nothing was found.' in words_of(tree)
    assert not list(tree.iter('table')) and not list(tree.iter(SVG + 'svg'))


def test_one_finding(result: Result) -> None:
    result.findings = result.findings[:1]
    tree = parse(census.render(result, RULES, ['.']))
    assert '1 finding in 1 driver ·' in words_of(tree.find('.//header'))
    assert plots(tree, 'subsystems') == {'drivers/net': [1, 0, 0, 1, 1]}
    assert len(listed(tree)) == 1


def test_what_was_not_looked_at(result: Result, page: bytes) -> None:
    result.coverage.failures.append('a/b.c: ' + HOSTILE)
    result.coverage.timeouts.append('c [alpha]')
    result.coverage.skipped.append(('d.c', 'binary'))
    result.coverage.unparsed.add(('e.c', 3, 'odd'))
    words = words_of(parse(census.render(result, RULES, ['.'])))
    for said in ('a/b.c: </pre>', 'c [alpha]: took too long',
                 'so this census is too small', '1 file skipped d.c binary',
                 '1 function could not be parsed e.c:3 odd'):
        assert said in words
        assert said not in words_of(parse(page))


# --- The command ------------------------------------------------------------

def test_command(cocci_dma: Run, tree: Path) -> None:
    done = cocci_dma('census', 'drv')
    assert done.returncode == 0 and done.stdout == b''
    assert done.stderr.startswith(b'census.html: written\ncoverage: 3 files')
    seen = listed(parse((tree / 'census.html').read_bytes()))
    assert {driver for driver, _ in seen} == {
        'drv/foo undated · 4 findings'}
    assert len(seen) == 4
    broken = tree / 'broken.c'
    broken.write_text('int f(void)\n{\n\treturn broken_call();\n}\n')
    done = cocci_dma('census', 'broken.c', '-o', 'x.html')
    assert done.returncode == 2
    assert 'this census is too small' in words_of(parse(
        (tree / 'x.html').read_bytes()))


@pytest.mark.parametrize('arguments, said', [
    (['-o', 'nowhere/x.html'], 'nowhere/x.html: cannot be written: No such'),
    (['-o', 'drv'], 'drv: cannot be written: Is a directory'),
    (['--link', 'x'], '--link x: is no template of a URL: write https://'),
    (['--link', 'javascript:{path}'], 'is no template'),
    (['--link', 'https://x/{line}'], 'is no template'),
    (['--link', 'https://x/{path}{x}'], 'is no template'),
])
def test_bad_options(cocci_dma: Run, tree: Path, arguments: list[str],
                     said: str) -> None:
    """Said before any work, which could not be done either."""
    (tree / 'census.html').write_text('as it was')
    done = cocci_dma('census', 'no/such/path', *arguments)
    assert done.returncode == 2
    line, = done.stderr.decode().splitlines()
    assert said in line
    assert (tree / 'census.html').read_text() == 'as it was'


def test_path_that_is_not(cocci_dma: Run, tree: Path) -> None:
    (tree / 'census.html').write_text('as it was')
    done = cocci_dma('census', 'no/such/path')
    assert done.returncode == 2
    assert done.stderr.startswith(b'cocci-dma: no/such/path: no such file')
    assert (tree / 'census.html').read_text() == 'as it was'


def test_no_module(cocci_dma: Run, tree: Path, tmp_path: Path) -> None:
    (tmp_path / 'jinja2.py').write_text(
        'raise ModuleNotFoundError("no such module", name=__name__)\n')
    done = cocci_dma('census', 'drv', PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        b'cocci-dma: a page needs the Python module jinja2: run `make deps`, '
        b'or `apt-get install python3-jinja2`\n')
    assert not (tree / 'census.html').exists()


def test_of_the_sample(environment: dict[str, str], tmp_path: Path) -> None:
    """All that `check` tells is there."""
    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ['/usr/bin/python3', str(ROOT / 'cocci-dma'), *arguments],
            env=environment, cwd=ROOT, capture_output=True, check=False,
            timeout=300)

    target = tmp_path / 'sample.html'
    done = run('census', 'driver-sample', '-o', str(target))
    assert done.returncode == 0, done.stderr
    told = json.loads(run('check', 'driver-sample', '--format',
                          'json').stdout)['findings']
    lines = listed(parse(target.read_bytes()))
    assert len(told) == len(lines) > 3
    assert [(words_of(line.find('td/a')), line.get('data-rule'),
             line.get('data-kind')) for _, line in lines] == [
        ('%(path)s:%(line)d' % one, one['rule'], one['kind'])
        for one in told]


# --- A browser --------------------------------------------------------------

#: Uses the choices, and says what is seen.
_LOOK = '''
  const form = page.querySelector('#choose');
  const said = () => form.querySelector('output').value;
  const set = (name, value) => {
    form.elements[name].value = value;
    form.elements[name].dispatchEvent(new view.Event('input',
                                                     {bubbles: true}));
  };
  const drivers = () => all('#list tbody').filter(one => one.offsetHeight)
    .map(one => one.rows[0].firstChild.firstChild.textContent.trim());
  const lines = () => all('#list td.place').filter(one => one.offsetHeight)
    .length;
  const steps = {start: [said(), drivers(), lines()]};
  for (const [name, value] of [
    ['kind', 'refusal'], ['rule', 'beta'], ['kind', ''], ['rule', ''],
    ['words', 'TWO.c  reason'], ['words', ''], ['severity', 'error'],
    ['severity', ''], ['subsystem', '(top folder)'], ['subsystem', ''],
    ['order', 'count'], ['order', 'newest'], ['order', 'oldest'],
  ]) {
    set(name, value);
    steps[name + ' ' + value] = [said(), drivers(), lines()];
  }
  all('details').forEach(one => one.open = true);
  const back = one => {
    for (; one; one = one.parentElement)
      if (style(one).backgroundColor !== 'rgba(0, 0, 0, 0)')
        return style(one).backgroundColor;
  };
  tell({
    sideways: page.documentElement.scrollWidth - view.innerWidth,
    steps, shown: form.offsetHeight > 0,
    wide: all('main *').filter(one =>
      one.getBoundingClientRect().right > view.innerWidth + 1 ||
      one.matches('td, th, select, dd') &&
      one.scrollWidth > one.clientWidth + 1).map(one => one.outerHTML),
    texts: all('body *').filter(one => one.offsetHeight && [...one.childNodes]
        .some(node => node.nodeType === 3 && node.data.trim()))
      .map(one => [one.tagName + '.' + one.className,
                   style(one).color, back(one)]),
    drawn: all('rect').map(one => [one.getAttribute('class'),
                                   style(one).fill, back(one)]),
    keys: all('.key').map(one => [one.classList[1],
                                  style(one).borderTopColor]),
    years: all('.years text.year').map(one => {
      const {left, right} = one.getBoundingClientRect();
      return [left, right];
    }),
  });
'''


@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1280], ids=['phone', 'desktop'])
def test_in_a_browser(page: bytes, tmp_path: Path, width: int,
                      dark: bool) -> None:
    """It can be read at that width in that scheme; its choices work."""
    seen = look(page, tmp_path, width, dark, _LOOK)
    require_readable(seen, dark)
    assert seen['wide'] == [] and seen['shown']
    for what, text, back in seen['texts']:
        assert contrast(text, back) >= 4.5, what
    fills = {kind: (fill, back) for kind, fill, back in seen['drawn']}
    assert set(fills) == set(census.KINDS)
    assert len({fill for fill, _ in fills.values()}) == 3
    for fill, back in fills.values():
        assert contrast(fill, back) >= 3
    assert {kind: fill for kind, (fill, _) in fills.items()} == dict(
        map(tuple, seen['keys']))
    for (_, right), (left, _) in zip(seen['years'], seen['years'][1:]):
        assert right < left
    _require_choices(seen['steps'])


def _require_choices(steps: dict[str, tuple[str, list[str], int]]) -> None:
    """What each choice shows."""
    one, odd, two, top = (
        'drivers/net/one/one', 'drivers/net/caf\ufffd <b>"#?%41&\'.c',
        'drivers/scsi/two.c', 'top.c')
    assert {name: (drivers, lines)
            for name, (_, drivers, lines) in steps.items()} == {
        'start': ([odd, one, two, top], 7),
        'kind refusal': ([odd, one], 3),
        'rule beta': ([one], 2),
        'kind ': ([one], 2),
        'rule ': ([odd, one, two, top], 7),
        'words TWO.c  reason': ([two], 1),
        'words ': ([odd, one, two, top], 7),
        'severity error': ([two], 1),
        'severity ': ([odd, one, two, top], 7),
        'subsystem (top folder)': ([top], 1),
        'subsystem ': ([odd, one, two, top], 7),
        'order count': ([one, two, odd, top], 7),
        'order newest': ([top, one, odd, two], 7),
        'order oldest': ([odd, one, top, two], 7),
    }
    for said, _, lines in steps.values():
        assert said == '%d of 7 findings are shown' % lines


@pytest.mark.parametrize('guarded', [True, False])
def test_policy_holds(page: bytes, tmp_path: Path, guarded: bool) -> None:
    """Even markup that got in would not run; without the policy it would."""
    broken = page.replace(b'</main>', b'<script>stolen=1</script></main>')
    if not guarded:
        broken = broken.replace(b'Content-Security-Policy', b'x-nothing')
    seen = look(broken, tmp_path, 390, False, 'tell({})')
    assert seen['stolen'] == (not guarded)


def test_thousands(result: Result, tmp_path: Path) -> None:
    result.findings = [
        finding('drivers/s%02d/d%03d.c' % (number % 40, number % 700), number,
                ('fix', 'finding', 'refusal')[number % 3],
                message='reason %d of `x%d`' % (number % 9, number))
        for number in range(5000)]
    seen = look(census.render(result, RULES, ['.']), tmp_path, 390, False, '''
      const field = page.querySelector('#choose').elements.words;
      field.value = 'd004.c:4';
      field.dispatchEvent(new view.Event('input', {bubbles: true}));
      const lines = one => {
        const range = page.createRange();
        range.selectNodeContents(one);
        return range.getClientRects().length;
      };
      tell({said: page.querySelector('output').value,
            broken: all('.plot td').filter(one => lines(one) > 1).length});
    ''')
    require_readable(seen, False)
    assert seen['broken'] == 0
    told = sum(1 for one in result.findings if 'd004.c:4' in
               '%s:%d' % (one.path, one.line))
    assert seen['said'] == '%d of 5000 findings are shown' % told

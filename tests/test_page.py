# SPDX-License-Identifier: GPL-2.0-only
"""The bench's page for people: what is on it, and how a browser shows it.

Made of boots that were recorded, and of text that tries to be markup.
"""
from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import pytest

from cocci_dma import Trouble
from cocci_dma.findings import Evidence, Finding
from runtime import bench, case, forms, ktap, matrix, output, page, table
from runtime import verdict
from browser import contrast, look, require_readable
from conftest import ROOT

SAMPLE = case.read(ROOT / 'driver-sample')
LOGS = ROOT / 'tests' / 'data' / 'runtime'
NOWHERE = Path('/nowhere')

#: Markup, a template, a way out of each element that text is in, and what
#: no text may hold.
HOSTILE = ('</pre></span></a></style></title><script>stolen=1</script>'
           '<img src=x onerror=stolen=1>{{ 7 * 7 }}"\'&lt;&'
           '\x00\x1b\u202e\udcff')

#: How HOSTILE is to be seen.
SEEN = HOSTILE.rstrip('\x00\x1b\u202e\udcff')

DIFF = (b'--- a/edu.c\n+++ b/edu.c\n@@ -1,3 +1,3 @@ struct edu {\n'
        b'-\tvirt_to_bus(buf); /* caf\xe9 </pre><script>stolen=1</script> */\n'
        b'+\tbuf_dma;\n \n')

REFUSAL = Finding('virt_to_bus', 'refusal', 'edu <b>.c', 12, 3, 'edu_read',
                  'warning', 'High', 'a reason ' + HOSTILE,
                  (Evidence('edu.h', 7, 'the place ' + HOSTILE),))


def _row(one: case.Case, kind: str, mode: str, log: str,
         problem: str = '', inject: bool = False) -> matrix.Row:
    """The first run of a recorded boot, as a result."""
    form = forms.Form(one, kind, NOWHERE, NOWHERE, NOWHERE)
    run = ktap.parse((LOGS / (log + '.log')).read_text('utf-8')).runs[0]
    return matrix.Row(form, mode, inject, verdict.judge(run, 'silence'),
                      problem)


def _hostile() -> matrix.Row:
    row = _row(replace(SAMPLE, name='drv' + HOSTILE, summary=HOSTILE,
                       works=None), 'old', 'direct', 'old-iommu')
    said = 'DMA-API: ' + HOSTILE
    row.verdict.log[1:1] = [said, HOSTILE, '  ok 9 ' + HOSTILE]
    row.verdict.say('dma-debug', said)
    return row


@pytest.fixture
def results() -> bench.Results:
    """One of everything: as expected and not, of text that is hostile."""
    hostile = _hostile()
    wrong = replace(SAMPLE, name='wrong_one')
    injected = _row(wrong, 'wrong', 'iommu', 'old-iommu', inject=True)
    injected.form.wrong = case.Wrong('slot_kept', NOWHERE, 'iommu', 'iommu')
    rows = [
        _row(SAMPLE, 'old', 'direct', 'converted-iommu',
             'dma-debug is silent'),
        _row(SAMPLE, 'old', 'iommu', 'old-iommu'),
        _row(SAMPLE, 'converted', 'iommu', 'converted-iommu'),
        _row(SAMPLE, 'converted', 'iommu', 'inject', inject=True),
        _row(replace(SAMPLE, name='hangs'), 'converted', 'swiotlb', 'panic',
             'warning, crash'),
        hostile, injected]
    conversions = {row.form.case.name: forms.Conversion(DIFF, [REFUSAL])
                   for row in rows}
    conversions['hangs'] = forms.Conversion()
    return bench.Results(rows, conversions, {'later' + HOSTILE: ['no_rule']},
                         devices=[HOSTILE])


@pytest.fixture
def made(results: bench.Results) -> bytes:
    """The page of these results."""
    return page.render(results)


def parse(content: bytes) -> Any:
    """The page as a tree; an error in it is one of the test."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False
                               ).parse(content)


def text_of(element: Any) -> str:
    """All text in an element."""
    return ''.join(element.itertext())


def words_of(element: Any) -> str:
    """The same, with one blank between two words."""
    return ' '.join(text_of(element).split())


def cells_of(tree: Any) -> dict[str, tuple[str, str, str]]:
    """`driver form column` -> (state, text, anchor), of the matrix."""
    matrix_table = tree.find('.//section/table')
    columns = [words_of(one) for one in matrix_table.findall('thead//th')]
    found, driver = {}, ''
    for line in matrix_table.findall('tbody/tr'):
        head, *cells = line
        if line.get('class') == 'driver':
            driver = words_of(head.find('a'))
            continue
        for column, cell in zip(columns[1:], cells, strict=True):
            if cell.get('class') != 'none':
                found['%s %s %s' % (driver, words_of(head), column)] = (
                    cell.get('class'), words_of(cell),
                    cell.find('a').get('href'))
    return found


def test_every_result_is_there(results: bench.Results, made: bytes) -> None:
    cells = cells_of(parse(made))
    assert len(cells) == len(results.rows)
    sample = {name.removeprefix('driver-sample '): cell[:2]
              for name, cell in cells.items()
              if name.startswith('driver-sample ')}
    assert sample == {
        'old direct': ('bad', 'pass (!) must work, and be reported'),
        'old iommu': ('foretold',
                      'data iommu dma-debug must fail, and be reported'),
        'converted iommu': ('pass', 'pass must pass'),
        'converted calls fail': ('pass', 'pass must pass 4 calls failed'),
    }
    assert cells['hangs converted swiotlb'][:2] == (
        'bad', 'warning crash (!) must pass')
    assert cells['wrong_one wrong.slot_kept calls fail'][0] == 'foretold'
    state, = (cell[0] for name, cell in cells.items()
              if name.startswith('drv'))
    assert state == 'seen'


def test_every_link_leads_to_its_proof(results: bench.Results,
                                       made: bytes) -> None:
    """A run's log shows each line by which an oracle speaks."""
    tree = parse(made)
    names = [one.get('id') for one in tree.iter() if one.get('id')]
    assert len(names) == len(set(names))
    links = {one.get('href') for one in tree.iter('a')}
    assert links <= {'#' + name for name in names}
    assert {one.get('href') for one in tree.findall('.//td/a')} == {
        '#run-%d' % number for number in range(1, len(results.rows) + 1)}
    runs = {one.find('div').get('id'): one for one in tree.iter('details')
            if one.find('div') is not None}
    for number, row in enumerate(results.rows, 1):
        run = runs['run-%d' % number].find('div')
        said = [words_of(one) for one in run.findall('dl/dt')]
        assert said == list(row.verdict.oracles)
        marked = {line.get('data-oracle') for line in run.find('pre')}
        assert marked - {None} == set(said)
        first = ' '.join(table.printable(
            row.verdict.log[0]).split())
        assert words_of(run.find('pre')).startswith(first)
    panic = runs['run-5'].find('div')
    assert 'silence' in words_of(panic.find('dl'))
    assert 'Kernel panic - not syncing' in words_of(panic.find('pre'))
    assert 'open' in runs['run-5'].attrib
    assert 'open' not in runs['run-3'].attrib


def test_calls_that_failed(made: bytes) -> None:
    calls = [[words_of(cell) for cell in line] for line in
             parse(made).findall('.//table[@class="calls"]/tbody/tr')]
    assert calls == [
        ['dma_map_page_attrs 1',
         'transfer: write of 1024 bytes: Cannot allocate memory'],
        ['dma_alloc_attrs 1', 'load: no error'],
        ['dma_alloc_attrs 2', 'load: no error'],
        ['dma_set_mask 1', 'load: no error']]


def test_conversions_and_what_they_leave(made: bytes) -> None:
    tree = parse(made)
    diffs = [text_of(one) for one in
             tree.findall('.//pre[@class="code"]')]
    assert diffs == [DIFF.decode('utf-8', 'replace')] * 3
    assert 'Nothing was converted.' in map(words_of, tree.iter('p'))
    refused = [words_of(one) for one in
               tree.findall('.//details[@class="left-over"]/ul/li')]
    assert len(refused) == 3
    for words in refused:
        assert words.startswith('edu <b>.c:12:3 refused: a reason </pre>')
        assert 'edu.h:7 the place </pre>' in words


def test_text_is_never_markup(made: bytes) -> None:
    tree = parse(made)
    assert not list(tree.iter('script')) and not list(tree.iter('img'))
    every = text_of(tree.find('body'))
    # The name, at its five places; summary, log, refusals
    assert every.count(SEEN) > 10
    assert '49' not in re.findall(r'onerror=stolen=1>(\S*)', every)
    assert not re.search('[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]', every)
    assert '<script' not in made.decode().lower().replace(
        '&lt;script', '')


def test_nothing_is_loaded(made: bytes) -> None:
    """No address of anything else, neither in an attribute nor in CSS."""
    tree = parse(made)
    for element in tree.iter():
        assert element.tag not in ('link', 'script', 'img', 'iframe', 'base')
        for name, value in element.attrib.items():
            assert not name.startswith('on') and name not in ('src', 'style')
            assert name != 'href' or value.startswith('#')
    style, = tree.iter('style')
    assert 'url(' not in text_of(style) and '@import' not in text_of(style)
    policy = tree.find('.//meta[@http-equiv]')
    assert policy.get('content').startswith("default-src 'none';")


def test_one_good_driver() -> None:
    """No problems: no such section, and its diff can be seen at once."""
    results = bench.Results(
        [_row(SAMPLE, 'converted', 'iommu', 'converted-iommu')],
        {SAMPLE.name: forms.Conversion(DIFF)}, {})
    tree = parse(page.render(results))
    assert tree.find('.//*[@id="problems"]') is None
    assert words_of(tree.find('.//header/p')) == '1 results, all as expected'
    assert 'open' in tree.find('.//details[@class="diff"]').attrib


# --- The file ---------------------------------------------------------------

def test_file_is_whole_or_as_it_was(tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'page.html'
    output.require(path)
    assert not list(tmp_path.iterdir())
    output.write(path, b'first')
    path.chmod(0o640)

    def full(handle: int, mode: int) -> None:
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fchmod', full)
        with pytest.raises(Trouble, match='page.html: cannot be written: No'):
            output.write(path, b'second')
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b'first']
    (tmp_path / 'link').symlink_to(path)
    output.write(tmp_path / 'link', b'third')
    assert path.read_bytes() == b'third'
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize('name, said', [
    ('nowhere/page.html', 'No such file or directory'),
    ('file/page.html', 'Not a directory'),
    ('', 'Is a directory'),
    ('x' * 300, 'File name too long'),
])
def test_file_that_cannot_be(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / 'file').touch()
    for use in (output.require, lambda path: output.write(path, b'')):
        with pytest.raises(Trouble, match='cannot be written: ' + said):
            use(tmp_path / name)
    assert [one.name for one in tmp_path.iterdir()] == ['file']


def test_pipe(tmp_path: Path) -> None:
    """Nothing takes its place."""
    output.require(Path('/dev/stdout'))
    done = subprocess.run(
        ['/usr/bin/python3', '-c', 'from runtime import output; '
         'from pathlib import Path; '
         'output.write(Path("/dev/stdout"), b"page")'], cwd=ROOT,
        stdout=subprocess.PIPE, check=True)
    assert done.stdout == b'page'


# --- A browser --------------------------------------------------------------

#: Follows a link, and says what is seen then.
_LOOK = '''
  const run = page.querySelector('#run-3').parentElement;
  let patience = 40;
  const see = () => {
    if (!run.open && --patience)
      return setTimeout(see, 50);
    tell({
      clipped: all('td a').filter(one => one.scrollWidth > one.clientWidth)
        .map(one => one.textContent),
      cells: Object.fromEntries(all('td[class]').map(one => [
        one.className, [style(one).backgroundColor,
                        style(one.querySelector('a') || one).color]])),
      opened: run.open,
      top: run.getBoundingClientRect().top,
    });
  };
  view.location.hash = '#run-3';
  see();
'''


@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1280], ids=['phone', 'desktop'])
def test_in_a_browser(made: bytes, tmp_path: Path, width: int,
                      dark: bool) -> None:
    """It can be read at that width in that scheme, and its links work."""
    seen = look(made, tmp_path, width, dark, _LOOK)
    require_readable(seen, dark)
    assert seen['clipped'] == []
    colours = seen['cells']
    assert {'pass', 'foretold', 'bad', 'seen'} <= set(colours)
    shown = [back for state, (back, _) in colours.items() if state != 'none']
    assert len(set(shown)) == len(shown)
    for state, (back, text) in colours.items():
        assert state == 'none' or contrast(back, text) >= 4.5, state
    assert seen['opened'] and 0 <= seen['top'] < 900

# SPDX-License-Identifier: GPL-2.0-only
"""CONTRIBUTING.md is followed to the letter, in a copy; docs are complete."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cocci_dma import rules
from conftest import ROOT

#: What ends a paragraph with the name of a file, and the block that follows.
_FILE = re.compile(r'`([\w./]+)`:\n\n```\w*\n(.*?)^```$', re.S | re.M)
_COMMANDS = re.compile(r'^```sh\n(.*?)^```$', re.S | re.M)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources, without the other rules' fixtures."""
    top = tmp_path / 'project'
    shutil.copytree(ROOT, top, ignore=shutil.ignore_patterns(
        '.git', 'build', '__pycache__', 'fixtures'))
    (top / 'tests' / 'fixtures').mkdir()
    return top


def test_a_rule_in_an_afternoon(copy: Path, environment: dict[str, str]
                                ) -> None:
    text = (copy / 'CONTRIBUTING.md').read_text()
    steps = text.split('\n## Add a rule')[1]
    files = _FILE.findall(steps)
    assert [name for name, _ in files] == [
        'cocci/dma_bit_mask.cocci', 'cocci/evidence/dma_bit_mask.py',
        'tests/fixtures/dma_bit_mask/bits.c',
        'tests/fixtures/dma_bit_mask/bits.msg',
        'tests/fixtures/dma_bit_mask/mask.c', 'docs/rules/dma_bit_mask.md',
        'docs/rules/README.md']
    for name, content in files:
        path = copy / name
        path.parent.mkdir(exist_ok=True)
        with path.open('a') as stream:      # the index has lines already
            stream.write(content)
    (commands,) = _COMMANDS.findall(steps)
    # the kernel to compile against is where it always is
    environment['XDG_CACHE_HOME'] = os.environ.get(
        'XDG_CACHE_HOME', os.path.expanduser('~/.cache'))
    for name in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'PYTEST_ADDOPTS',
                 'PYTEST_XDIST_WORKER', 'M', 'KDIR'):
        environment.pop(name, None)
    done = subprocess.run(['bash', '-euo', 'pipefail', '-c', commands],
                          cwd=copy, env=environment, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = 'tests/fixtures/dma_bit_mask/bits.c:11:9: error: a mask of 32'
    assert done.stdout.count(found) == 2        # by check, and by coccicheck
    assert '# dma_bit_mask\n' in done.stdout
    # bits: result, messages, compiles; mask: the same; is it covered, header
    assert re.search(r'^8 passed', done.stdout, re.M), done.stdout
    assert rules_of_index(copy) == {
        *(rule.name for rule in rules.load()), 'dma_bit_mask'}


def rules_of_index(top: Path) -> set[str]:
    """The rules that the index of the pages lists; each once."""
    lines = re.findall(r'^\| \[(\w+)\]\((\w+)\.md\) \|',
                       (top / 'docs/rules/README.md').read_text(), re.M)
    assert all(name == page for name, page in lines)
    assert len(set(lines)) == len(lines)
    return {name for name, _ in lines}


def test_index_of_rules_is_complete() -> None:
    every = rules.load()
    assert rules_of_index(ROOT) == {rule.name for rule in every}
    text = (ROOT / 'docs/rules/README.md').read_text()
    readme = (ROOT / 'README.md').read_text()
    for rule in every:
        line = '| [%s](%s.md) | %s |' % (
            rule.name, rule.name, 'converts' if rule.converts else 'reports')
        assert line in text
        assert '| `%s` |' % rule.name in readme
        assert (ROOT / 'docs/rules' / (rule.name + '.md')).exists()


def test_links_of_the_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'),
             ROOT / 'driver-sample/README.md']
    for page in pages:
        text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.S | re.M)
        for link in re.findall(r'\]\((?!https?:)([^)#\s]+)', text):
            assert (page.parent / link).exists(), '%s: %s' % (page, link)


def test_drawing_names_what_is_there() -> None:
    """The modules in the drawing of the architecture exist."""
    text = (ROOT / 'docs/architecture.md').read_text()
    (drawing,) = re.findall(r'^```mermaid\n(.*?)^```$', text, re.S | re.M)
    modules = re.findall(r'\b([a-z/]+\.py)\b', drawing)
    assert len(modules) > 12
    for module in modules:
        assert (ROOT / 'cocci_dma' / module).exists() \
            or (ROOT / 'cocci' / module).exists(), module

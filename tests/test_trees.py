# SPDX-License-Identifier: GPL-2.0-only
"""Where kernel trees of several releases come from (runtime/trees.py)."""
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cocci_dma import Trouble
from runtime import trees

#: Gives the package only to who comes with lists of his own for bullseye.
APT = '''#!/bin/sh
for word; do
	case $word in -oDir::Etc::SourceParts=*) parts=${word#*=} ;; esac
done
[ "$1" = download ] || exit 0
if [ -n "$parts" ] && grep -q bullseye "$parts"/*; then
	cp %s .
else
	echo "E: Unable to locate package $3" >&2
	exit 100
fi
'''


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose apt knows linux-source-5.10 of bullseye only."""
    source = tmp_path / 'linux-source-5.10'
    (source / 'drivers').mkdir(parents=True)
    files = tmp_path / 'deb' / 'usr' / 'src'
    control = tmp_path / 'deb' / 'DEBIAN' / 'control'
    for folder in (files, control.parent):
        folder.mkdir(parents=True)
    subprocess.run(['tar', '-cJf', str(files / 'linux-source-5.10.tar.xz'),
                    '-C', str(tmp_path), source.name], check=True)
    control.write_text('Package: linux-source-5.10\nVersion: 5.10.1-1\n'
                       'Architecture: all\nMaintainer: a <a@b.c>\n'
                       'Description: x\n')
    deb = tmp_path / 'linux-source-5.10_5.10.1-1_all.deb'
    subprocess.run(['dpkg-deb', '--build', str(tmp_path / 'deb'), str(deb)],
                   check=True, stdout=subprocess.DEVNULL)
    program = tmp_path / 'bin' / 'apt-get'
    program.parent.mkdir()
    program.write_text(APT % deb)
    program.chmod(0o755)
    monkeypatch.setenv('PATH', '%s:/usr/bin:/bin' % program.parent)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    sources = tmp_path / 'debian.list'
    sources.write_text('deb http://mirror.example/debian stable main\n')
    monkeypatch.setattr(trees, '_own_sources', lambda: iter([sources]))
    return tmp_path


def test_another_release_is_asked_for_once(apt: Path) -> None:
    got = trees.tree('5.10')
    assert got == apt / 'cache' / 'cocci-dma' / 'source' / 'linux-source-5.10'
    assert (got / 'drivers').is_dir()
    (apt / 'bin' / 'apt-get').unlink()
    assert trees.tree('5.10') == got


def test_a_package_that_nobody_has(apt: Path) -> None:
    with pytest.raises(Trouble, match=r'linux-source-6\.1 was not found .*'
                       r'Unable to locate.*name trees'):
        trees.tree('6.1')
    assert not list((apt / 'cache' / 'cocci-dma' / 'source').glob('*6.1'))


def test_a_folder_that_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match='no kernel tree'):
        trees.tree('5.10', tmp_path)


STANZA = '''Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: %s
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
'''


@pytest.mark.parametrize('text, expected', [
    (STANZA % 'bookworm bookworm-updates', STANZA % 'bullseye'),
    (STANZA % 'bookworm-security\n bookworm', STANZA
     % 'bullseye-security bullseye'),
    (STANZA % 'nodistro', ''),
    ('deb [signed-by=/k arch=amd64] http://mirror.example/d bookworm main x\n'
     '# deb http://mirror.example/d bookworm main\n'
     'deb-src http://mirror.example/d bookworm main\n'
     'deb http://other.example/apt cloud-bookworm main\n'
     'deb http://mirror.example/s stable-security main\n',
     'deb [signed-by=/k arch=amd64] http://mirror.example/d bullseye main x\n'
     '\ndeb http://mirror.example/s bullseye-security main\n')])
def test_sources_for_another_release(text: str, expected: str) -> None:
    assert trees.renamed(text, 'bookworm', 'bullseye') == expected

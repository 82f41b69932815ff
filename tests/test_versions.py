# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of another Debian that cannot be made (tests/versions.py)."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

import versions

DEBOOTSTRAP = '''#!/bin/sh
echo "E: no such suite: $2"
touch "$3/begun"
exit 1
'''


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, on a machine whose debootstrap fails."""
    program = tmp_path / 'bin' / 'debootstrap'
    program.parent.mkdir()
    program.write_text(DEBOOTSTRAP)
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(program.parent), prepend=':')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(versions, '_archive', lambda: 'file:///nowhere')
    return tmp_path / 'cache' / 'cocci-dma' / 'suites'


def test_failure_is_told_and_leaves_nothing(
        cache: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, 'geteuid', lambda: 0)
    assert versions.main(['trixie']) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith('cocci-dma: trixie cannot be made: see ')
    assert [path.name for path in cache.iterdir()] == ['trixie.log']
    assert 'no such suite: trixie' in (cache / 'trixie.log').read_text()


def test_only_root(cache: Path, monkeypatch: pytest.MonkeyPatch,
                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, 'geteuid', lambda: 1000)
    assert versions.main([]) == 2
    assert 'only root can' in capsys.readouterr().err
    assert not cache.exists()

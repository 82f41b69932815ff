# SPDX-License-Identifier: GPL-2.0-only
"""The ready-made CI jobs: their commands, run as the services run them."""
from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from conftest import ROOT
from test_lint import driver, git, repository, sarif, top  # noqa: F401

#: What only the service, or a fresh container, can do.
_OUTSIDE = ('apt-get ', 'git clone ')


@pytest.fixture
def branch(repository: Path) -> Path:  # noqa: F811
    """A clone of a driver repository, on a branch with one new bug."""
    clone = repository.parent / 'clone'
    git(repository, 'clone', '-q', '.', str(clone))
    (clone / '.cocci-dma').symlink_to(ROOT)
    (clone / '.git/info/exclude').write_text('.cocci-dma\ndma.*\n')
    (clone / 'one/one.c').write_text(driver('one', 'new'))
    git(clone, 'commit', '-qam', 'a new function')
    return clone


def run(commands: str, folder: Path, environment: dict[str, str],
        shell: str) -> 'subprocess.CompletedProcess[bytes]':
    """Run the commands of a step, but for those of _OUTSIDE."""
    kept = '\n'.join(line for line in commands.splitlines()
                     if not line.startswith(_OUTSIDE))
    return subprocess.run(shlex.split(shell) + ['-c', kept], cwd=folder,
                          env=environment, check=False, capture_output=True,
                          timeout=300)


def load(name: str) -> Any:
    """A YAML file of the project."""
    return yaml.safe_load((ROOT / name).read_text())


def test_github(branch: Path, environment: dict[str, str],
                tmp_path: Path) -> None:
    environment |= {'GITHUB_BASE_REF': 'main', 'HOME': str(tmp_path)}
    [job] = load('ci/github.yml')['jobs'].values()
    done = [run(step['run'], branch, environment, 'sh -e')
            for step in job['steps'] if 'run' in step]
    assert [each.returncode for each in done] == [0, 0, 1, 0], done
    [line] = done[2].stdout.decode().splitlines()
    assert line.startswith('::warning file=one/one.c,line=18,')
    [upload] = [step['with']['sarif_file'] for step in job['steps']
                if 'upload' in step.get('uses', '')]
    done[3].stdout = (branch / upload).read_bytes()
    assert len(sarif(done[3])['results']) == 3


def test_gitlab(branch: Path, environment: dict[str, str],
                tmp_path: Path) -> None:
    environment |= {'CI_MERGE_REQUEST_TARGET_BRANCH_NAME': 'main',
                    'HOME': str(tmp_path)}
    [job] = load('ci/gitlab.yml').values()
    done = run('\n'.join(job['before_script'] + job['script']), branch,
               environment, 'bash -e')
    assert done.returncode == 1, done.stderr
    root = ElementTree.parse(branch / job['artifacts']['reports']['junit'])
    assert len(list(root.iter('failure'))) == 1


def test_pre_commit(branch: Path, environment: dict[str, str]) -> None:
    """Called as pre-commit calls a hook of language `script`."""
    [hook] = load('.pre-commit-hooks.yaml')
    assert hook['language'] == 'script'
    program, *arguments = shlex.split(hook['entry'])
    command = [str(ROOT / program), *arguments]
    done = subprocess.run([*command, 'one/one.c', 'two/two.c'], cwd=branch,
                          env=environment, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    (branch / 'two/two.c').write_text(driver('two', 'newer'))
    git(branch, 'add', '.')
    done = subprocess.run([*command, 'two/two.c'], cwd=branch,
                          env=environment, check=False, capture_output=True)
    assert done.returncode == 1
    assert done.stdout.startswith(b'two/two.c:18:')

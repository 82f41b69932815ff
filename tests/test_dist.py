# SPDX-License-Identifier: GPL-2.0-only
"""Installing the program, its package, its version and its licence."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cocci_dma import VERSION
from conftest import ROOT

sys.path[:0] = [str(ROOT / 'packaging')]

import dist  # noqa: E402

ENVIRONMENT = {name: value for name, value in os.environ.items()
               if name not in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'KDIR')}


def told(*command: object, **more: str) -> str:
    """What a command prints; it succeeds."""
    done = subprocess.run([*map(str, command)], check=False, text=True,
                          capture_output=True, env=ENVIRONMENT | more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_staged_install_runs_from_there(tmp_path: Path,
                                        environment: dict[str, str]) -> None:
    told('make', '-s', '-C', ROOT, 'install', 'PREFIX=/usr',
         'DESTDIR=%s' % tmp_path)
    usr = tmp_path / 'usr'
    program = usr / 'bin' / 'cocci-dma'
    assert told(program, '--version') == 'cocci-dma %s\n' % VERSION
    assert told(program, 'explain', 'virt_to_bus') == (
        ROOT / 'docs/rules/virt_to_bus.md').read_text()
    shutil.copy(ROOT / 'tests/fixtures/virt_to_bus/masked_and_or.c', tmp_path)
    done = subprocess.run([str(program), 'convert', 'masked_and_or.c'],
                          cwd=tmp_path, env=environment, capture_output=True,
                          check=False)
    assert done.returncode == 0 and b'+\tdma_addr_t ring_dma;' in done.stdout
    assert str(ROOT) not in told('grep', '-r', '.', usr)
    pages = {page.name for page in (usr / 'share/man/man1').iterdir()}
    assert {'cocci-dma.1', 'cocci-dma-convert.1'} <= pages
    assert r'\-\-in\-place' in (
        usr / 'share/man/man1/cocci-dma-convert.1').read_text()


def test_completion(tmp_path: Path) -> None:
    dist.install(tmp_path)
    words = told('bash', '-c', '. %s/share/bash-completion/completions/'
                 'cocci-dma; PATH=%s/bin:$PATH; COMP_WORDS=(cocci-dma ch); '
                 'COMP_CWORD=1; _cocci_dma_completion cocci-dma; '
                 'echo ${COMPREPLY[@]}' % (tmp_path, tmp_path))
    assert words == 'check\n'


def test_uninstall_removes_what_is_ours(tmp_path: Path) -> None:
    other = tmp_path / 'share' / 'man' / 'man1' / 'other.1'
    other.parent.mkdir(parents=True)
    other.touch()
    dist.install(tmp_path)
    dist.install(tmp_path)      # over an older one
    dist.uninstall(tmp_path)
    assert [path for path in tmp_path.rglob('*') if not path.is_dir()] == [
        other]


def test_uninstall_leaves_the_program_of_another(tmp_path: Path) -> None:
    link = tmp_path / 'bin' / 'cocci-dma'
    link.parent.mkdir()
    link.symlink_to('/opt/other')
    dist.uninstall(tmp_path)
    assert link.is_symlink()


def test_relative_prefix_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        ['make', '-s', '-C', str(ROOT), 'install', 'PREFIX=usr'],
        capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 2
    assert 'PREFIX=usr is no absolute path' in done.stderr


def test_version_is_that_of_the_changelog(tmp_path: Path) -> None:
    assert dist.releases()[0][0] == VERSION
    assert all(text.strip() for _, text in dist.releases())
    dist.debian(tmp_path / 'cocci-dma')
    assert told('dpkg-parsechangelog', '-S', 'Version', '-l',
                tmp_path / 'cocci-dma/debian/changelog') == VERSION + '\n'


def test_package_depends_on_what_make_installs() -> None:
    makefile = (ROOT / 'Makefile').read_text().replace('\\\n', ' ')
    run = re.search(r'^RUN_PACKAGES := (.*)$', makefile, re.M)
    control = (ROOT / 'debian/control').read_text()
    depends = re.search(r'^Depends:\n((?: .*\n)+)', control, re.M)
    assert run and depends
    # essential, and put in by dh_python3
    assert set(re.findall(r'[\w.+-]+', depends[1])) - {
        'misc', 'python3', 'Depends'} == set(run[1].split()) - {
            'diffutils', 'python3'}


def test_licences_are_stated() -> None:
    """As the REUSE specification wants it."""
    told('reuse', '--root', ROOT, 'lint')
    for rule in (ROOT / 'cocci').glob('*.cocci'):
        assert rule.read_text().startswith(
            '// SPDX-License-Identifier: GPL-2.0-only\n')

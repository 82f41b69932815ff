#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Install the program, and make what its Debian package needs.

    packaging/dist.py install|uninstall PREFIX [DESTDIR]
    packaging/dist.py debian FOLDER     a copy to be built by dpkg-buildpackage

The program lies in PREFIX/share/cocci-dma as it does in its repository;
PREFIX/bin/cocci-dma is a link to it.  Manual pages and the completion are made
from its command line.
"""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import click.shell_completion  # noqa: E402
import click_man.core  # noqa: E402

from cocci_dma import VERSION, Trouble  # noqa: E402
from cocci_dma.cli import cli  # noqa: E402

NAME = 'cocci-dma'
#: What the program needs when it runs, and what its package is made of.
PROGRAM = ('cocci-dma', 'cocci', 'cocci_dma', 'runtime', 'docs')
SOURCES = (*PROGRAM, 'driver-sample', 'debian', 'packaging', 'LICENSES',
           'Makefile', 'README.md')
_IGNORED = shutil.ignore_patterns('__pycache__', '*.pyc')
_RELEASE = re.compile(r'^## (\S+)[^\n]*\n(.*?)(?=^## |\Z)', re.M | re.S)
_MAINTAINER = re.compile(r'^Maintainer: (.*)$', re.M)


def releases() -> list[tuple[str, str]]:
    """(version, text) of the changelog, the newest first."""
    return _RELEASE.findall((ROOT / 'CHANGELOG.md').read_text('utf-8'))


def install(prefix: Path) -> None:
    """Put everything below `prefix`."""
    share = prefix / 'share'
    _copy(ROOT, share / NAME, PROGRAM)
    link = prefix / 'bin' / NAME
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(Path('..', 'share', NAME, NAME))
    pages = share / 'man' / 'man1'
    pages.mkdir(parents=True, exist_ok=True)
    click_man.core.write_man_pages(NAME, cli, version=VERSION,
                                   target_dir=str(pages))
    completion = _completion(share)
    completion.parent.mkdir(parents=True, exist_ok=True)
    completion.write_text(click.shell_completion.BashComplete(
        cli, {}, NAME, '_COCCI_DMA_COMPLETE').source(), 'utf-8')


def uninstall(prefix: Path) -> None:
    """Remove what install() put there, and nothing else."""
    share = prefix / 'share'
    link = prefix / 'bin' / NAME
    if link.is_symlink() and os.readlink(link).endswith(
            '%s/%s' % (NAME, NAME)):
        link.unlink()
    shutil.rmtree(share / NAME, ignore_errors=True)
    for page in (share / 'man' / 'man1').glob(NAME + '*.1'):
        page.unlink()
    _completion(share).unlink(missing_ok=True)


def _completion(share: Path) -> Path:
    return share / 'bash-completion' / 'completions' / NAME


def debian(folder: Path) -> None:
    """Fill `folder` with the sources, and a changelog as Debian has it."""
    _copy(ROOT, folder, SOURCES)
    maintainer = _MAINTAINER.findall(
        (folder / 'debian' / 'control').read_text('utf-8'))[0]
    date = formatdate(int(os.environ.get('SOURCE_DATE_EPOCH')
                          or _last_change()))
    with (folder / 'debian' / 'changelog').open('w', encoding='utf-8') as out:
        for version, text in releases():
            out.write('%s (%s) unstable; urgency=medium\n\n%s\n -- %s  %s\n\n'
                      % (NAME, version, ''.join(
                          '  %s\n' % re.sub('^- ', '* ', line)
                          for line in text.strip().splitlines() if line),
                         maintainer, date))


def _last_change() -> str:
    """When the newest commit was made; else, when the changelog was."""
    done = subprocess.run(['git', '-C', str(ROOT), 'log', '-1',
                           '--format=%ct'], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() or '%d' % (ROOT / 'CHANGELOG.md'
                                          ).stat().st_mtime


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Copy files and folders, in place of what was there."""
    for name in names:
        there = target / name
        if there.is_dir():
            shutil.rmtree(there)
        if (source / name).is_dir():
            shutil.copytree(source / name, there, ignore=_IGNORED)
        else:
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, there)


def main(arguments: list[str]) -> int:
    """See the module's text; 0 done, 2 not."""
    try:
        action, place = arguments[:2]
        if action == 'debian':
            debian(Path(place))
            return 0
        if not os.path.isabs(place):
            raise Trouble('PREFIX=%s is no absolute path' % place)
        prefix = Path(arguments[2] + place if arguments[2:] else place)
        {'install': install, 'uninstall': uninstall}[action](prefix)
    except Trouble as error:
        print('cocci-dma: %s' % error, file=sys.stderr)
        return 2
    except OSError as error:
        print('cocci-dma: %s: %s' % (error.filename, error.strerror),
              file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))

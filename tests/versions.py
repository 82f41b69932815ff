#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The fixtures with the spatch of several releases of Debian.

    tests/versions.py [SUITE...]                 default: trixie
    tests/versions.py trixie -- -k virt_to_bus   options for pytest

Each suite is a folder with a Debian of its own, made once by debootstrap in the
user's cache folder; packages come from where this machine's apt has them.
Only root may make and enter one.  The project is seen there read-only.  Results
and messages are compared; what comes out is compiled by the tests proper.
"""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from cocci_dma import Trouble  # noqa: E402
from runtime import kernel_source  # noqa: E402

SUITES = ('trixie',)
#: Besides what `make run-deps` installs
_PACKAGES = ('python3-pytest', 'python3-pytest-xdist')
_TESTS = ('tests/test_cocci.py', '-k', 'test_result or test_messages')


def _archive() -> str:
    """Where this machine's apt has Debian itself."""
    done = subprocess.run(
        ['apt-get', 'indextargets', '--format', '$(REPO_URI)',
         'Origin: Debian', 'Label: Debian', 'Component: main'],
        capture_output=True, text=True, check=False)
    for uri in done.stdout.split():
        return uri
    raise Trouble('apt knows no Debian archive: run apt-get update')


def _packages() -> list[str]:
    makefile = (ROOT / 'Makefile').read_text('utf-8').replace('\\\n', ' ')
    listed = re.search(r'^RUN_PACKAGES := (.*)$', makefile, re.M)
    assert listed
    return [*listed[1].split(), *_PACKAGES]


def _made(suite: str) -> Path:
    """The folder of a suite, ready."""
    if os.geteuid() != 0:
        raise Trouble('only root can make and enter another Debian: run it '
                      'with sudo')
    if shutil.which('debootstrap') is None:
        raise Trouble('debootstrap is not on PATH: apt-get install '
                      'debootstrap')
    folder = kernel_source.cache('suites') / suite
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=suite + '.'))
    try:
        print('making a %s in %s' % (suite, folder), file=sys.stderr)
        told = folder.with_suffix('.log')
        with told.open('wb') as log:
            # not by --include: debootstrap knows no order of packages
            for command in (
                    ['debootstrap', '--variant=minbase', suite, work,
                     _archive()],
                    ['chroot', work, 'apt-get', 'install', '-y',
                     '--no-install-recommends', *_packages()]):
                if subprocess.run(
                        command, stdin=subprocess.DEVNULL, stdout=log,
                        stderr=log, check=False,
                        env={**os.environ, 'LC_ALL': 'C',
                             'DEBIAN_FRONTEND': 'noninteractive'}).returncode:
                    raise Trouble('%s cannot be made: see %s' % (suite, told))
        os.chmod(work, 0o755)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _run(folder: Path, *command: str) -> int:
    """Run a command in another Debian.  Its mounts end with it."""
    (folder / 'project').mkdir(exist_ok=True)
    inside = 'mount --bind "$1" "$2/project" && ' \
        'mount -o remount,ro,bind "$2/project" && ' \
        'mount -t proc proc "$2/proc" && ' \
        'mount -t tmpfs tmpfs "$2/tmp" && shift && top=$1 && shift && ' \
        'exec chroot "$top" env -i HOME=/root LC_ALL=C.UTF-8 ' \
        'PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 ' \
        'sh -c \'cd /project && exec "$@"\' sh "$@"'
    return subprocess.run(['unshare', '--mount', 'sh', '-c', inside, 'sh',
                           str(ROOT), str(folder), *command],
                          check=False).returncode


def main(arguments: list[str]) -> int:
    """See the module's text; 0 when all passed, 1 when not, 2 in trouble."""
    split = arguments.index('--') if '--' in arguments else len(arguments)
    suites, more = arguments[:split] or SUITES, arguments[split + 1:]
    bad = False
    try:
        for suite in suites:
            folder = _made(suite)
            print('%s:' % suite, flush=True)
            _run(folder, 'spatch', '--version')
            bad |= _run(folder, '/usr/bin/python3', 'cocci-dma', 'doctor') != 0
            bad |= _run(folder, '/usr/bin/python3', '-m', 'pytest', '-q',
                        '-n', 'auto', '--dist', 'loadgroup', '-p',
                        'no:cacheprovider', *_TESTS, *more) != 0
    except Trouble as error:
        print('cocci-dma: %s' % error, file=sys.stderr)
        return 2
    return int(bad)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: GPL-2.0-only
"""`check` on several machines: GNU Parallel logs in, copies, and collects.

Each machine gets the sources and this program once, and works on one part of
the drivers after the other.  What a lost machine did not finish is done by
the others.  A machine needs rsync and what `make run-deps` installs, and
nothing of ours.
"""
from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Iterator, Sequence

from . import COCCI, Trouble, config, groups, merging, process, report
from .cache import Cache
from .facts import Facts
from .run import Result, scratch

from evidence import kbuild  # from cocci/: see the package's __init__

#: Parts for each machine: what is lost with one is a part.
_PARTS = 4
#: How often a part is tried, each time on another machine if there is one.
_TRIES = 4
_SSH = ('ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 '
        '-o ServerAliveCountMax=3')
_PAYLOAD = 'payload.tar.gz'


def check(paths: Sequence[str], hosts: Path, options: Sequence[str],
          kdir: str | None) -> Result:
    """What `cocci-dma check OPTIONS PATHS` finds, worked out on `hosts`.

    hosts: logins as for GNU Parallel's --sshloginfile, one a line.  options:
    further options of `check`.  Raises Trouble.
    """
    count = _PARTS * len(_logins(hosts))
    tree, drivers = groups.find(paths, kdir, Facts(()), Cache(None))
    root = tree.root or tree.base
    named = [os.path.relpath(os.path.realpath(
        path if os.path.exists(path) else os.path.join(tree.base, path)),
        tree.base) for path in paths]
    if tree.base == '/':
        raise Trouble('--hosts: %s lies outside the current folder: go to a '
                      'folder above all that is named' % paths[0])
    with scratch() as folder:
        _pack(Path(folder, _PAYLOAD), root, drivers)
        here = os.path.relpath(tree.base, root)
        command = 'mkdir unpack.lock 2>/dev/null && { tar xzf %s && touch ' \
            'unpacked || { rmdir unpack.lock; exit 3; }; }; ' \
            'while [ ! -e unpacked ]; do sleep 0.1; done; top=$PWD; ' \
            'cd tree/%s && "$top/program/cocci-dma" check --format json ' \
            '--shard {}/%d %s -- %s || [ $? -ne 255 ]' % (
                _PAYLOAD, shlex.quote(here), count, shlex.join(options),
                shlex.join(named))
        _parallel(folder, hosts, command, count)
        return _collect(tree, Path(folder, 'out'), count)


def _logins(hosts: Path) -> list[str]:
    try:
        lines = hosts.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble('%s: cannot be read: %s' % (hosts, error)) from None
    logins = [line for line in map(str.strip, lines)
              if line and not line.startswith('#')]
    if not logins:
        raise Trouble('%s: names no host: write one ssh login a line' % hosts)
    return logins


def _pack(target: Path, root: str, drivers: Sequence[kbuild.Driver]) -> None:
    """The program, and all files that the drivers' answers depend on."""
    with tarfile.open(target, 'w:gz', compresslevel=1) as tar:
        top = COCCI.parent
        for name in ('cocci-dma', 'cocci', 'cocci_dma', 'runtime', 'docs'):
            tar.add(top / name, 'program/' + name, filter=_source_only)
        for path in sorted(set(_needed(root, drivers))):
            tar.add(path, os.path.join('tree', os.path.relpath(path, root)))
        for name in ('.git', config.NAME):      # what marks a project's top
            if os.path.isdir(os.path.join(root, name)):
                tar.addfile(_folder(os.path.join('tree', name)))


def _source_only(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if '__pycache__' in info.name else info


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def _needed(root: str, drivers: Sequence[kbuild.Driver]) -> Iterator[str]:
    """Files of the drivers, files around them, and what builds them."""
    folders: set[str] = set()
    for driver in drivers:
        yield from driver.files
        folders.update(map(os.path.dirname, driver.files))
    for folder in folders | set(kbuild.looked_in):
        if not _below(folder, root):
            continue
        yield from (path for path in kbuild.neighbours(folder)
                    if _below(path, root))
        while _below(folder, root):
            for name in ('Kbuild', 'Makefile', 'MAINTAINERS', config.NAME):
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    yield path
            folder = os.path.dirname(folder)


def _below(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


def _parallel(folder: str, hosts: Path, command: str, count: int) -> None:
    """Have every part done by some host.  Raises Trouble."""
    program = shutil.which('parallel')
    if program is None:
        raise Trouble('--hosts: GNU Parallel is not on PATH: apt-get install '
                      'parallel')
    # its name is new on every host, and short: it is in each command
    place = '.cache/cocci-dma/farm-%s' % os.path.basename(folder)
    common = [program, '--will-cite', '--sshloginfile', str(hosts.resolve()),
              '--ssh', _SSH]
    live = process.Live()
    started = live.start(
        [*common, '--basefile', _PAYLOAD,
         '--workdir', place, '--jobs', '1', '--retries',
         str(_TRIES), '--results', 'out/{1}', '--quote', 'sh', '-c', command,
         ':::', *map(str, range(1, count + 1))],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE)
    try:
        _, told = started.communicate()
    except BaseException:
        live.stop()
        raise
    finally:
        subprocess.run([*common, '--nonall', 'rm', '-rf', place], check=False,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    if not os.path.isdir(os.path.join(folder, 'out')):
        lines = os.fsdecode(told).strip().splitlines() or ['no message']
        raise Trouble('--hosts: nothing was done: %s' % lines[-1])


def _collect(tree: groups.Tree, folder: Path, count: int) -> Result:
    """One result of all parts; a part that is not there is a failure."""
    parts = []
    lost = []
    for number in range(1, count + 1):
        try:
            told: dict[str, Any] = json.loads(
                (folder / str(number)).read_text(encoding='utf-8'))
            parts.append(told)
        except (OSError, ValueError):
            lost.append('part %d of %d was done by no host' % (number, count))
    result = report.from_json(tree, merging.join(parts))
    result.coverage.failures += lost
    return result

# SPDX-License-Identifier: GPL-2.0-only
"""`check --hosts`: two machines, which are two sshd on loopback addresses."""
from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest

from conftest import Run
from test_lint import (lint, many, told_by, top,  # noqa: F401
                       trouble)

ADDRESSES = ('127.0.0.2', '127.0.0.3')


class Farm:
    """Two sshd, and the file that names them."""

    def __init__(self, folder: Path):
        self.hosts = folder / 'hosts'
        for name in ('key', 'host'):
            subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '',
                            '-f', str(folder / name)], check=True)
        if os.getuid() == 0:        # sshd locks itself up in it
            Path('/run/sshd').mkdir(exist_ok=True)
        port = _free_port()
        sshd = shutil.which('sshd', path='/usr/sbin:/usr/bin')
        assert sshd is not None
        self._servers = [subprocess.Popen(
            [sshd, '-D', '-f', '/dev/null', '-p', str(port), '-h',
             str(folder / 'host'), '-o', 'ListenAddress=' + address, '-o',
             'AuthorizedKeysFile=%s' % (folder / 'key.pub'), '-o',
             'StrictModes=no', '-o', 'PidFile=none', '-o', 'UsePAM=no'],
            stderr=subprocess.DEVNULL) for address in ADDRESSES]
        self.hosts.write_text('# two machines\n' + ''.join(
            'ssh -p %d -i %s -o StrictHostKeyChecking=no -o LogLevel=ERROR -o '
            'UserKnownHostsFile=/dev/null %s\n' % (port, folder / 'key', host)
            for host in ADDRESSES))
        for address in ADDRESSES:
            _wait_for(address, port)

    def kill(self, number: int) -> None:
        """As if its power had failed: the server and all that it runs."""
        server = self._servers[number]
        for pid in [*_below(server.pid), server.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        server.wait()

    def end(self) -> None:
        """End both."""
        for number, server in enumerate(self._servers):
            if server.returncode is None:
                self.kill(number)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((ADDRESSES[0], 0))
        return free.getsockname()[1]


def _wait_for(address: str, port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection((address, port)).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError('no sshd on %s' % address)


def _below(pid: int) -> list[int]:
    """All descendants of a process."""
    parents = {}
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            parents[int(stat.parent.name)] = int(
                stat.read_text().rsplit(')', 1)[1].split()[1])
        except OSError:
            continue
    found = [pid]
    for each in found:
        found += (child for child, above in parents.items() if above == each)
    return found[1:]


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """Two machines."""
    (tmp_path / 'farm').mkdir()
    farm = Farm(tmp_path / 'farm')
    yield farm
    farm.end()


@pytest.mark.parametrize('format_', ('json', 'sarif'))
def test_a_farm_finds_the_same(lint: Run, top: Path, farm: Farm,  # noqa: F811
                               format_: str) -> None:
    many(top)
    (top / '.cocci-dma.toml').write_text('exclude = ["two/"]\n')
    here = lint('check', '--format', format_, '--no-cache', '.')
    there = lint('check', '--format', format_, '--hosts', farm.hosts, '.')
    assert told_by(there) == told_by(here)


def test_a_machine_is_lost(lint: Run, top: Path, farm: Farm,  # noqa: F811
                           tmp_path: Path) -> None:
    """In the middle of a run; its parts are done by the other one."""
    many(top)
    here = lint('check', '--format', 'json', '.')
    watched = tmp_path / 'scratch'
    child = os.fork()
    if not child:
        try:
            while not list(watched.glob('*/out/*.seq')):
                time.sleep(0.05)
            farm.kill(1)
        finally:
            os._exit(0)
    there = lint('check', '--format', 'json', '--hosts', farm.hosts, '.')
    os.waitpid(child, 0)
    assert told_by(there) == told_by(here)


def test_no_machine_is_there(lint: Run, top: Path, farm: Farm,  # noqa: F811
                             ) -> None:
    farm.end()
    done = lint('check', '--hosts', farm.hosts, 'one')
    assert done.returncode == 2
    assert b'was done by no host' in done.stderr \
        or b'nothing was done' in done.stderr


def test_bad_hosts(lint: Run, top: Path) -> None:  # noqa: F811
    (top / 'none').write_text('# nobody\n')
    assert 'none: names no host' in trouble(
        lint('check', '--hosts', 'none', '.'))
    assert 'gone: cannot be read' in trouble(
        lint('check', '--hosts', 'gone', '.'))

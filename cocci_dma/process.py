# SPDX-License-Identifier: GPL-2.0-only
"""Start other programs so that nothing of them is ever left behind."""
from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from concurrent import futures
from typing import Any, Callable, Iterable, Iterator, Sequence, TypeVar

_Item = TypeVar('_Item')
_Made = TypeVar('_Made')

#: Variables that would change what make and gcc do.
_UNWANTED = re.compile(r'MAKE|MFLAGS$|GNUMAKEFLAGS$|K?BUILD_|KCONFIG_|KCFLAGS$'
                       r'|LLVM|ARCH$|CROSS_|CC$|LC_|LANG')


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session of its own, and its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Interrupted(Exception):
    """Nothing more is started."""


class Live:
    """The processes that run, so that all can be ended at once.

    Safe to be used from several threads.
    """

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def start(self, command: Sequence[str],
              **how: Any) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own.  Raises Interrupted."""
        with self._lock:
            if self._stopped:
                raise Interrupted
            process = subprocess.Popen(command, start_new_session=True, **how)
            self._running.add(process)
            return process

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """A process need not be ended any more."""
        with self._lock:
            self._running.discard(process)

    def stop(self) -> None:
        """Kill everything that runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                kill(process)


def parallel(live: Live, jobs: int, one: Callable[[_Item], _Made],
             items: Iterable[_Item]) -> Iterator[_Made]:
    """What `one` makes of each item, as it is done, in several threads.

    Whatever goes wrong ends the processes in `live`, and is raised.
    """
    with futures.ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            pending = [pool.submit(one, item) for item in items]
            for future in futures.as_completed(pending):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            live.stop()
            raise


def remove(folder: str | os.PathLike[str]) -> None:
    """Remove a folder.

    What a killed program had begun to write may still appear for a moment.
    """
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.1)


def plain_environment() -> dict[str, str]:
    """Our environment, free of make variables and of any locale."""
    kept = {name: text for name, text in os.environ.items()
            if not _UNWANTED.match(name)}
    return kept | {'LC_ALL': 'C'}


def run(command: Sequence[str],
        on_line: Callable[[str], None] | None = None,
        cwd: str | None = None, **variables: str) -> tuple[int, str]:
    """Run a command to its end; its exit status, its stdout and stderr.

    on_line: called with each line as it comes.  variables: for its
    environment.  Whatever ends the wait kills the command and its children.
    Raises FileNotFoundError.
    """
    with subprocess.Popen(command, env=plain_environment() | variables,
                          cwd=cwd,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          start_new_session=True) as process:
        assert process.stdout is not None
        try:
            told = _lines(process.stdout, on_line)
            return process.wait(), told
        except BaseException:
            kill(process)
            raise


def _lines(stream: Iterable[bytes],
           on_line: Callable[[str], None] | None) -> str:
    every = []
    for raw in stream:
        every.append(raw.decode('utf-8', 'replace'))
        if on_line is not None:
            on_line(every[-1])
    return ''.join(every)

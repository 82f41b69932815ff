# SPDX-License-Identifier: GPL-2.0-only
"""Boot a kernel in QEMU.  The one module that knows QEMU's command line.

Always with TCG: where KVM cannot be had it would fail, and where it can, the
guest would behave differently.
"""
from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

from cocci_dma import Trouble, process

from .kernel import Kernel

PROGRAM = 'qemu-system-x86_64'
PACKAGE = 'qemu-system-x86'

#: The device that all our own drivers are for.
EDU = 'edu'

#: Seconds for which a guest may say nothing.  It takes two to start; but a
#: machine may be busy.
TIME_LIMIT = 60.0

#: A guest that never falls silent may run so many times as long.
_PATIENCE = 10

#: Seconds between two looks at what a guest says.
_POLL = 0.1

#: Memory, in MB: all of it below the 28 bits that edu can address.
MEMORY = 192

#: mode -> (words for the kernel, options of QEMU)
MODES: dict[str, tuple[str, tuple[str, ...]]] = {
    'direct': ('', ()),
    'swiotlb': ('swiotlb=force', ()),
    'iommu': ('intel_iommu=on iommu.strict=1',
              ('-device', 'intel-iommu,intremap=on')),
}

# Without oops=panic, a power-off after an oops hangs.  On a busy machine the
# timer may be late, which the kernel would take for a broken one.
_APPEND = ('console=ttyS0 loglevel=6 printk.devkmsg=on panic=-1 oops=panic '
           'no_timer_check')


def require() -> None:
    """Trouble when there is no QEMU."""
    if shutil.which(PROGRAM) is None:
        raise Trouble('%s is not on PATH: apt-get install %s'
                      % (PROGRAM, PACKAGE))


@dataclass(frozen=True)
class Boot:
    """What came of a boot: the serial console, and how it ended.

    enough: it was ended because it had said what was waited for.  failure:
    what QEMU said when it could not go on.
    """

    log: str
    timed_out: bool = False
    enough: bool = False
    failure: str = ''


class Qemu:
    """Starts QEMU, and can stop all that was started.

    devices: values for -device.  Safe to be used from several threads.
    """

    def __init__(self, kernel: Kernel, devices: Sequence[str] = (EDU,),
                 options: Sequence[str] = (), memory: int = MEMORY,
                 time_limit: float = TIME_LIMIT):
        self._kernel = kernel
        self._devices = tuple(devices)
        self._options = tuple(options)
        self._memory = memory
        self._time_limit = time_limit
        self._live: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def command(self, mode: str, initramfs: Path, log: Path,
                memory_checks: bool = False) -> list[str]:
        """The command line for a boot in a mode of MODES.

        memory_checks: shall the kernel be able to find lost and overwritten
        memory?  It is slower.
        """
        words, options = MODES[mode]
        words += (' slab_debug=FZP,kmalloc-*' if memory_checks
                  else ' kmemleak=off')
        command = [
            PROGRAM, '-machine', 'q35', '-accel', 'tcg', '-m',
            str(self._memory), '-display', 'none', '-monitor', 'none',
            '-serial', 'file:%s' % log, '-nodefaults', '-no-reboot',
            '-kernel', str(self._kernel.image), '-initrd', str(initramfs),
            '-append', ' '.join((_APPEND, words)).strip(), *options]
        if self._devices == (EDU,):
            # Time passes as fast as the guest can go: a transfer of edu, which
            # takes 100 ms, costs nothing.  Other devices may have to wait for
            # this machine.
            command += ['-icount', 'shift=5,sleep=off']
        for device in self._devices:
            command += ['-device', device]
        return command + list(self._options)

    def boot(self, mode: str, initramfs: Path, log: Path,
             memory_checks: bool = False,
             until: Callable[[str], bool] | None = None) -> Boot:
        """Run a guest until it powers off, panics, or its time is over.

        until: told what the guest has said so far; True ends it.
        """
        command = self.command(mode, initramfs, log, memory_checks)
        said = log.with_suffix('.qemu')
        with said.open('wb') as output, self._lock:
            if self._stopped:
                return Boot('', failure='interrupted')
            # Dies with the thread that waits here, even one that is killed
            child = subprocess.Popen(
                ['setpriv', '--pdeathsig', 'KILL', *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True)
            self._live.add(child)
        try:
            end = self._watch(child, log, until)
        finally:
            process.kill(child)
            child.wait()
            with self._lock:
                self._live.discard(child)
        failure = ''
        if child.returncode and not end:
            failure = _reason(_text(said)) or 'exit %d' % child.returncode
        return Boot(_text(log), end == 'time', end == 'enough', failure)

    def _watch(self, child: subprocess.Popen[bytes], log: Path,
               until: Callable[[str], bool] | None) -> str:
        """Wait for the end: '' by itself, `time` is over, or `enough`."""
        start = last = time.monotonic()
        size = 0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_POLL)
                return ''
            now = time.monotonic()
            said = log.stat().st_size if log.exists() else 0
            if said != size:
                size, last = said, now
                if until is not None and until(_text(log)):
                    return 'enough'
            if now - last > self._time_limit \
                    or now - start > self._time_limit * _PATIENCE:
                return 'time'

    def stop(self) -> None:
        """Kill everything that runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            for child in self._live:
                process.kill(child)


def _reason(said: str) -> str:
    """The line that says why QEMU ended: a device may dump the processor."""
    lines = said.strip().splitlines()
    return next((line for line in lines if 'hardware error' in line),
                lines[-1] if lines else '')


def _text(path: Path) -> str:
    """What a console printed."""
    if not path.exists():
        return ''
    return path.read_text('utf-8', 'replace').replace('\r', '')

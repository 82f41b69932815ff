# SPDX-License-Identifier: GPL-2.0-only
"""Boot a kernel in QEMU.  The one module that knows QEMU's command line.

Always with TCG: where KVM cannot be had it would fail, and where it can, the
guest would behave differently.
"""
from __future__ import annotations

import shlex
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from cocci_dma import Trouble, process

from .kernel import Kernel

PROGRAM = 'qemu-system-x86_64'
PACKAGE = 'qemu-system-x86'

#: The device that all our own drivers are for.
EDU = 'edu'

#: Seconds for a boot; for one of many runs a tenth more for each.  A hundred
#: times what is needed, since a machine may be busy.
TIME_LIMIT = 120.0

#: Memory, in MB: all of it below the 28 bits that edu can address.
MEMORY = 192

#: mode -> (words for the kernel, options of QEMU)
MODES: dict[str, tuple[str, tuple[str, ...]]] = {
    'direct': ('', ()),
    'swiotlb': ('swiotlb=force', ()),
    'iommu': ('intel_iommu=on iommu.strict=1',
              ('-device', 'intel-iommu,intremap=on')),
}

# Without oops=panic, a power-off after an oops hangs.
_APPEND = 'console=ttyS0 loglevel=6 printk.devkmsg=on panic=-1 oops=panic'


@dataclass(frozen=True)
class Boot:
    """What came of a boot: the serial console, and how it ended."""

    log: str
    timed_out: bool
    failure: str = ''       # what QEMU said when it could not go on


class Qemu:
    """Starts QEMU, and can stop all that was started.

    devices: values for -device.  Safe to be used from several threads.
    """

    def __init__(self, kernel: Kernel, devices: Sequence[str] = (EDU,),
                 options: Sequence[str] = (), memory: int = MEMORY,
                 time_limit: float = TIME_LIMIT):
        if shutil.which(PROGRAM) is None:
            raise Trouble('%s is not on PATH: apt-get install %s'
                          % (PROGRAM, PACKAGE))
        self._kernel = kernel
        self._devices = tuple(devices)
        self._options = tuple(options)
        self._memory = memory
        self._time_limit = time_limit
        self._live: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def command(self, mode: str, initramfs: Path, log: Path,
                leaks: bool = False) -> list[str]:
        """The command line for a boot in a mode of MODES.

        leaks: shall the kernel be able to find lost memory?  It is slower.
        """
        words, options = MODES[mode]
        words += '' if leaks else ' kmemleak=off'
        command = [
            PROGRAM, '-machine', 'q35', '-accel', 'tcg', '-m',
            str(self._memory), '-display', 'none', '-monitor', 'none',
            '-serial', 'file:%s' % log, '-nodefaults', '-no-reboot',
            '-kernel', str(self._kernel.image), '-initrd', str(initramfs),
            '-append', '%s %s' % (_APPEND, words.strip()), *options]
        if self._devices == (EDU,):
            # Time passes as fast as the guest can go: a transfer of edu, which
            # takes 100 ms, costs nothing.  Other devices may have to wait for
            # this machine.
            command += ['-icount', 'shift=5,sleep=off']
        for device in self._devices:
            command += ['-device', device]
        return command + list(self._options)

    def boot(self, mode: str, initramfs: Path, log: Path,
             leaks: bool = False, runs: int = 1) -> Boot:
        """Run a guest until it powers off, panics, or its time is over.

        runs: how many drivers it runs, each of which takes time.
        """
        command = self.command(mode, initramfs, log, leaks)
        with self._lock:
            if self._stopped:
                return Boot('', False, 'interrupted')
            # Dies with the thread that waits here, even one that is killed
            child = subprocess.Popen(
                ['setpriv', '--pdeathsig', 'KILL', *command],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True)
            self._live.add(child)
        timed_out = False
        try:
            said, _ = child.communicate(
                timeout=self._time_limit * (1 + runs / 10))
        except subprocess.TimeoutExpired:
            timed_out = True
            process.kill(child)
            said, _ = child.communicate()
        finally:
            with self._lock:
                self._live.discard(child)
        failure = ''
        if child.returncode and not timed_out:
            lines = said.decode('utf-8', 'replace').strip().splitlines()
            failure = '%s: %s' % (shlex.join(command[:1]), lines[-1] if lines
                                  else 'exit %d' % child.returncode)
        text = log.read_text('utf-8', 'replace') if log.exists() else ''
        return Boot(text.replace('\r', ''), timed_out, failure)

    def stop(self) -> None:
        """Kill everything that runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            for child in self._live:
                process.kill(child)

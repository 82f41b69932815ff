# SPDX-License-Identifier: GPL-2.0-only
"""A real Linux 6.12 tree, prepared for building external modules.

The tests use it to prove that the old and the converted form of a driver compile,
and as a large body of drivers to run the rules over. It is unpacked from Debian's
package linux-source-6.12 and prepared once (about 40 s and 1.7 GB), in

    ${XDG_CACHE_HOME:-~/.cache}/cocci-dma/kernel/KEY

where KEY depends on the configuration below, the version of the package and the
compiler. The folder may be removed at any time when no test runs. The whole tree
is unpacked: leaving out what only other architectures need saves no time.

Never write into the tree; build in a folder of your own, see build().
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from cocci_dma import Trouble  # noqa: E402
from runtime import COMPAT_HEADER, kernel_source  # noqa: E402

#: Upon tinyconfig: enough that the headers declare true functions, not stubs.
CONFIG_FRAGMENT = """\
CONFIG_64BIT=y
CONFIG_SMP=y
CONFIG_CC_OPTIMIZE_FOR_PERFORMANCE=y
CONFIG_PRINTK=y
CONFIG_BUG=y
CONFIG_TTY=y
CONFIG_MULTIUSER=y
CONFIG_FUTEX=y
CONFIG_EPOLL=y
CONFIG_POSIX_TIMERS=y
CONFIG_HIGH_RES_TIMERS=y
CONFIG_SYSFS=y
CONFIG_PROC_FS=y
CONFIG_MODULES=y
CONFIG_MODULE_UNLOAD=y
CONFIG_ACPI=y
CONFIG_PM=y
CONFIG_SUSPEND=y
CONFIG_OF=y
CONFIG_PCI=y
CONFIG_PCI_MSI=y
CONFIG_ZONE_DMA=y
CONFIG_SWIOTLB=y
CONFIG_ISA_BUS=y
CONFIG_DMADEVICES=y
CONFIG_BLOCK=y
CONFIG_BLK_DEV=y
CONFIG_SCSI=y
CONFIG_BLK_DEV_SD=y
CONFIG_SCSI_LOWLEVEL=y
CONFIG_ATA=y
CONFIG_FW_LOADER=y
CONFIG_NET=y
CONFIG_INET=y
CONFIG_IPV6=y
CONFIG_NETDEVICES=y
CONFIG_ETHERNET=y
CONFIG_MDIO_DEVICE=y
CONFIG_PHYLIB=y
CONFIG_VLAN_8021Q=y
CONFIG_ATM=y
CONFIG_CRYPTO=y
CONFIG_I2C=y
CONFIG_SPI=y
CONFIG_GPIOLIB=y
CONFIG_REGULATOR=y
CONFIG_MTD=y
CONFIG_MTD_RAW_NAND=y
CONFIG_MMC=y
CONFIG_USB_SUPPORT=y
CONFIG_USB=y
CONFIG_USB_GADGET=y
CONFIG_SOUND=y
CONFIG_SND=y
CONFIG_SND_PCI=y
CONFIG_SND_SOC=y
CONFIG_MEDIA_SUPPORT=y
CONFIG_MEDIA_PCI_SUPPORT=y
CONFIG_PARPORT=y
CONFIG_INFINIBAND=y
CONFIG_DEBUG_INFO_NONE=y
# CONFIG_WERROR is not set
# CONFIG_MODVERSIONS is not set
# CONFIG_MODULE_SIG is not set
"""


@dataclass(frozen=True)
class Diagnostic:
    """One warning or error of the compiler, or (without a line) of objtool."""

    path: str  #: relative to the folder that was built if it lies inside it
    line: int  #: 0 if unknown
    severity: str  #: "warning" or "error"
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.severity}: {self.message}"


@dataclass
class FileResult:
    """What became of one C file; a diagnostic in a header belongs to its includer."""

    ok: bool
    warnings: list[Diagnostic] = field(default_factory=list)
    errors: list[Diagnostic] = field(default_factory=list)


@dataclass
class BuildResult:
    """What became of a folder. `output` is all that make and gcc wrote."""

    files: dict[str, FileResult]
    output: str

    @property
    def ok(self) -> bool:
        """Every file gave an object."""
        return bool(self.files) and all(result.ok for result in self.files.values())

    @property
    def clean(self) -> bool:
        """Every file gave an object, without a warning."""
        return self.ok and not self.warnings

    @property
    def warnings(self) -> list[Diagnostic]:
        """The warnings of all files."""
        return [line for result in self.files.values() for line in result.warnings]

    @property
    def errors(self) -> list[Diagnostic]:
        """The errors of all files."""
        return [line for result in self.files.values() for line in result.errors]


@functools.cache
def prepared() -> Path:
    """The tree, ready for `make -C TREE M=FOLDER`; prepares it on the first use."""
    folder = kernel_source.cache("kernel") / kernel_source.key(CONFIG_FRAGMENT)
    return kernel_source.made(folder, _prepare)


def source() -> Path:
    """The whole source tree, with drivers/ and sound/. Read only."""
    return prepared()


def checkpatch() -> Path:
    """The kernel's scripts/checkpatch.pl."""
    return prepared() / "scripts" / "checkpatch.pl"


def complaints(diff: bytes) -> list[tuple[str, str]]:
    """What checkpatch --strict has against the added lines of `diff`: (file, complaint)."""
    command = ["perl", str(checkpatch()), "--strict", "--no-tree", "--no-signoff"]
    command += ["--ignore=COMMIT_MESSAGE", "--no-summary", "--terse", "--showfile"]
    command += ["--show-types", "--color=never", "-q", "-"]
    done = subprocess.run(
        command, input=diff, cwd=prepared(), capture_output=True, check=False
    )
    said = []
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        place = re.match(r"(\S+?):\d+: (.*)", line)
        assert place, line
        said.append((place[1], place[2]))
    assert done.returncode == (1 if said else 0), done.stderr.decode("utf-8", "replace")
    return said


def build(
    folder: Path, jobs: int = 2, cflags: Sequence[str] = (), keep_going: bool = True
) -> BuildResult:
    """Compile with W=1 every C file of `folder`, which holds a Kbuild naming them.

    Only objects are made: a file that calls what no module exports is still fine, and
    modpost has no say. Many files in one folder are much cheaper than many folders
    (0.6 s a call, 0.2 s a file). The objects stay in `folder`, so that it must be a
    copy. For the old form of a driver give `cflags=old_form_flags()`.
    """
    folder = folder.resolve()
    if not (folder / "Kbuild").is_file() and not (folder / "Makefile").is_file():
        raise Trouble(f"{folder} holds neither Kbuild nor Makefile")
    sources = sorted(p.name for p in folder.glob("*.c") if not p.name.endswith(".mod.c"))
    if not sources:
        raise Trouble(f"{folder} holds no C file")
    objects = {name: (folder / name).with_suffix(".o") for name in sources}
    for path in objects.values():
        path.unlink(missing_ok=True)
    # -O keeps together what one compilation writes, which _assign() relies on
    command = ["make", "-O", "-C", str(prepared()), f"M={folder}", "W=1", f"-j{jobs}"]
    if keep_going:
        command.append("-k")
    if cflags:
        command.append("KCFLAGS=" + " ".join(cflags))
    command += [path.name for path in objects.values()]
    output = kernel_source.run(command, check=False)
    result = BuildResult(
        {name: FileResult(path.is_file()) for name, path in objects.items()}, output
    )
    _assign(result, folder)
    return result


def old_form_flags() -> tuple[str, ...]:
    """The `cflags` of build() that bring back the interfaces which 6.12 no longer has."""
    return ("-include", str(COMPAT_HEADER))


def _prepare(work: Path) -> None:
    """Fill the folder `work`."""
    kernel_source.unpack(work)
    kernel_source.configure(work, CONFIG_FRAGMENT)
    kernel_source.run(["make", "-s", "-C", str(work), f"-j{kernel_source.JOBS}", "modules_prepare"])


_COMPILING = re.compile(r"  CC +(?:\[M\] +)?(?P<path>\S+)\.o$")
_DIAGNOSTIC = re.compile(
    r"(?P<path>[^\s:]+):(?:(?P<line>\d+):(?:\d+:)?)? "
    r"(?:fatal )?(?P<severity>warning|error): (?P<message>.*)"
)


def _assign(result: BuildResult, folder: Path) -> None:
    """Fill warnings and errors of `result` from its output."""
    current = ""
    for line in result.output.splitlines():
        if found := _COMPILING.match(line):
            current = _relative(found["path"] + ".c", folder)
        elif (found := _DIAGNOSTIC.match(line)) and current in result.files:
            path = _relative(found["path"], folder)
            number = int(found["line"] or 0)
            known = result.files[current]
            kind = known.warnings if found["severity"] == "warning" else known.errors
            kind.append(Diagnostic(path, number, found["severity"], found["message"]))
    for name, known in result.files.items():
        if not known.ok and not known.errors:
            known.errors.append(Diagnostic(name, 0, "error", "no object was made, see the output"))


def _relative(path: str, folder: Path) -> str:
    """`path` as seen from `folder`; unchanged if it lies elsewhere."""
    return path.removeprefix(f"{folder}/")

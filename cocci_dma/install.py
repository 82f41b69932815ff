# SPDX-License-Identifier: GPL-2.0-only
"""Put the rules into a kernel tree, for its own `make coccicheck`.

    python3 -m cocci_dma.install install|uninstall KDIR

The kernel's scripts/coccicheck takes regular files only (`find -type f`), so
the rules are copied, not linked.  A manifest beside them tells which files
are ours and what they held: nothing else is ever overwritten or removed.
"""
from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from . import COCCI, Trouble
from .groups import kernel_tree

_MANIFEST = '.cocci-dma-manifest'


def _folder(kdir: str) -> Path:
    return Path(kernel_tree(kdir), 'scripts', 'coccinelle', 'dma')


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _ours() -> list[Path]:
    """What is installed, relative to cocci/: rules and their library."""
    return sorted(path.relative_to(COCCI)
                  for pattern in ('*.cocci', 'evidence/**/*.py')
                  for path in COCCI.glob(pattern))


def _installed(folder: Path) -> dict[Path, set[str]]:
    """file -> what it may hold to be ours."""
    held: dict[Path, set[str]] = {}
    manifest = folder / _MANIFEST
    if manifest.exists():
        for line in manifest.read_text(encoding='utf-8').splitlines():
            digest, name = line.split('  ', 1)
            held.setdefault(Path(name), set()).add(digest)
    return held


def _record(folder: Path, held: dict[Path, set[str]]) -> None:
    new = folder / (_MANIFEST + '.new')
    new.write_text(''.join('%s  %s\n' % (digest, name)
                           for name in sorted(held)
                           for digest in sorted(held[name])),
                   encoding='utf-8')
    new.replace(folder / _MANIFEST)


def install(kdir: str) -> Path:
    """Copy the rules into the tree, replacing an older copy; the folder.

    Trouble when that would overwrite a file that is not ours.
    """
    folder = _folder(kdir)
    held = _installed(folder)
    files = {name: _digest(COCCI / name) for name in _ours()}
    for name in {*files, *held}:
        target = folder / name
        if target.exists() and _digest(target) not in {
                *held.get(name, ()), files.get(name)}:
            raise Trouble('%s: is not what we installed: move it away first'
                          % target)
    folder.mkdir(parents=True, exist_ok=True)
    # Recorded before the first copy: when this is cut short, uninstall still
    # knows every file.
    both = {name: set(digests) for name, digests in held.items()}
    for name, digest in files.items():
        both.setdefault(name, set()).add(digest)
    _record(folder, both)
    for name in held:
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    for name in files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(COCCI / name, target)
    _record(folder, {name: {digest} for name, digest in files.items()})
    return folder


def uninstall(kdir: str) -> list[Path]:
    """Remove what was installed; the files left because they were changed."""
    folder = _folder(kdir)
    changed: list[Path] = []
    folders = {folder}
    for name, digests in _installed(folder).items():
        target = folder / name
        folders.add(target.parent)
        if target.exists():
            if _digest(target) in digests:
                target.unlink()
            else:
                changed.append(target)
    (folder / _MANIFEST).unlink(missing_ok=True)
    for place in sorted(folders, reverse=True):
        shutil.rmtree(place / '__pycache__', ignore_errors=True)
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    return changed


def main(arguments: list[str]) -> int:
    """The command line, see the module's text; 0 done, 2 not."""
    action, kdir = arguments
    try:
        if action == 'install':
            folder = install(kdir)
            print('%d files installed in %s' % (len(_ours()), folder))
        else:
            for path in uninstall(kdir):
                print('%s: was changed, left there' % path)
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

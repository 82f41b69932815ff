# SPDX-License-Identifier: GPL-2.0-only
"""Drivers outside the kernel tree build again after one command.

tests/fixtures/dkms/CASE/ is such a driver as it was, with its Makefile;
CASE.res/ holds the files that change.  All rules together convert it, and the
result must build without what old forms need on a new kernel.
"""
from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cocci_dma import rules, run

import kernel_tree

FIXTURES = Path(__file__).resolve().parent / 'fixtures' / 'dkms'
CASES = sorted(path for path in FIXTURES.iterdir()
               if path.is_dir() and not path.suffix)


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_it_builds_again(case: Path, tmp_path: Path) -> None:
    folder = tmp_path / case.name
    shutil.copytree(case, folder)
    assert not kernel_tree.build(folder).ok

    result = run.convert([str(folder)], rules.load(), run.Options(jobs=1))
    assert result.complete
    assert not [f for f in result.findings if f.kind == 'refusal'
                and f.rule == 'pci_dma_compat']
    for edit in result.edits:
        Path(edit.source.path).write_bytes(edit.content)

    converted = case.with_suffix('.res')
    changed = {Path(edit.source.path).relative_to(folder)
               for edit in result.edits}
    golden = {path.relative_to(converted): path
              for path in converted.rglob('*.[ch]')}
    assert changed == set(golden)
    for name, path in golden.items():
        # releases of spatch break lines differently
        assert (folder / name).read_text().split() == path.read_text().split()
    built = kernel_tree.build(folder)
    assert built.ok and not built.warnings, built.output

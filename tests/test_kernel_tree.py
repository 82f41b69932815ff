# SPDX-License-Identifier: GPL-2.0-only
"""The kernel tree of the tests must tell good code from bad."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import kernel_tree  # noqa: E402

SAMPLE = HERE.parent / "driver-sample"

CLEAN = """\
#include <linux/dma-mapping.h>
#include <linux/module.h>

static int __init clean_init(void)
{
	return 0;
}
module_init(clean_init);
MODULE_LICENSE("GPL");
"""

#: Warns twice, once in the header, once only because of W=1.
WARNS = """\
#include <linux/module.h>
#include "local.h"

static int __init warns_init(void)
{
	int unused;

	unused = 1;
	return 0;
}
module_init(warns_init);
MODULE_LICENSE("GPL");
"""

LOCAL_HEADER = """\
int no_prototype(void);
static inline void local(void)
{
	int unused_in_header;
}
"""

FAILS = """\
#include <linux/module.h>

int fails = no_such_thing;
"""

#: Every interface that the compat header brings back, behind an early pr_fmt.
OLD_FORM = """\
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>

int old_form(struct pci_dev *pdev, void *buf, struct page *page, struct scatterlist *sg);
int old_form(struct pci_dev *pdev, void *buf, struct page *page, struct scatterlist *sg)
{
	int direction = PCI_DMA_TODEVICE;
	dma_addr_t handle;
	void *block;

	if (pci_set_dma_mask(pdev, DMA_BIT_MASK(32)) ||
	    pci_set_consistent_dma_mask(pdev, DMA_BIT_MASK(32)))
		return -EIO;

	block = pci_alloc_consistent(pdev, 64, &handle);
	pci_free_consistent(pdev, 64, block, handle);
	block = pci_zalloc_consistent(pdev, 64, &handle);
	pci_free_consistent(pdev, 64, block, handle);

	handle = pci_map_single(pdev, buf, 64, direction);
	if (pci_dma_mapping_error(pdev, handle))
		return -ENOMEM;
	pci_dma_sync_single_for_cpu(pdev, handle, 64, direction);
	pci_dma_sync_single_for_device(pdev, handle, 64, direction);
	pci_unmap_single(pdev, handle, 64, direction);

	handle = pci_map_page(pdev, page, 0, 64, PCI_DMA_FROMDEVICE);
	pci_unmap_page(pdev, handle, 64, PCI_DMA_FROMDEVICE);

	if (!pci_map_sg(pdev, sg, 1, PCI_DMA_BIDIRECTIONAL))
		return -ENOMEM;
	pci_dma_sync_sg_for_cpu(pdev, sg, 1, PCI_DMA_BIDIRECTIONAL);
	pci_dma_sync_sg_for_device(pdev, sg, 1, PCI_DMA_BIDIRECTIONAL);
	pci_unmap_sg(pdev, sg, 1, PCI_DMA_BIDIRECTIONAL);

	pr_info("%lx\\n", (unsigned long)virt_to_bus(buf) + isa_virt_to_bus(buf));
	return bus_to_virt(virt_to_bus(buf)) == buf ? PCI_DMA_NONE : 0;
}
"""


class KernelTreeTest(unittest.TestCase):
    """Builds in a temporary folder."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="cocci-dma-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)

    def write(self, **files: str) -> None:
        """Write NAME.c for each argument, and a Kbuild with a module for each."""
        for name, text in files.items():
            (self.folder / f"{name}.c").write_text(text, encoding="utf-8")
        kbuild = "".join(f"obj-m += {name}.o\n" for name in files)
        (self.folder / "Kbuild").write_text(kbuild, encoding="utf-8")

    def test_good_and_bad_files_are_told_apart(self) -> None:
        self.write(clean=CLEAN, warns=WARNS, fails=FAILS)
        (self.folder / "local.h").write_text(LOCAL_HEADER, encoding="utf-8")
        result = kernel_tree.build(self.folder)
        self.assertFalse(result.ok)
        self.assertEqual(result.files["clean.c"], kernel_tree.FileResult(True))
        warns = result.files["warns.c"]
        self.assertTrue(warns.ok)
        self.assertEqual(
            [str(warning) for warning in warns.warnings],
            [
                "local.h:4: warning: unused variable 'unused_in_header' [-Wunused-variable]",
                "warns.c:6: warning: variable 'unused' set but not used "
                "[-Wunused-but-set-variable]",
            ],
        )
        self.assertEqual(warns.errors, [])
        fails = result.files["fails.c"]
        self.assertFalse(fails.ok)
        self.assertEqual([(e.path, e.line) for e in fails.errors], [("fails.c", 3)])
        self.assertIn("no_such_thing", fails.errors[0].message)

    def test_a_warning_is_no_failure_but_not_clean(self) -> None:
        self.write(warns=WARNS)
        (self.folder / "local.h").write_text("", encoding="utf-8")
        result = kernel_tree.build(self.folder)
        self.assertTrue(result.ok)
        self.assertFalse(result.clean)

    def test_a_stale_object_does_not_hide_an_error(self) -> None:
        self.write(clean=CLEAN)
        self.assertTrue(kernel_tree.build(self.folder).clean)
        self.write(clean=FAILS)
        self.assertFalse(kernel_tree.build(self.folder).ok)

    def test_old_form_builds_with_the_compat_header_only(self) -> None:
        self.write(old=OLD_FORM)
        result = kernel_tree.build(self.folder, cflags=kernel_tree.old_form_flags())
        self.assertTrue(result.clean, result.output)
        self.assertFalse(kernel_tree.build(self.folder).ok)

    def test_the_sample_driver_is_clean(self) -> None:
        shutil.copytree(SAMPLE, self.folder, dirs_exist_ok=True)
        result = kernel_tree.build(self.folder)
        self.assertEqual(set(result.files), {"edu_main.c", "edu_dma.c"})
        self.assertTrue(result.clean, result.output)
        names = [str(path) for path in sorted(SAMPLE.glob("*.[ch]"))]
        style = subprocess.run(
            [kernel_tree.checkpatch(), "--strict", "--no-tree", "--quiet", "-f", *names],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((style.returncode, style.stdout), (0, ""))

    def test_the_tree_holds_the_drivers(self) -> None:
        tree = kernel_tree.source()
        drivers = sum(1 for _ in (tree / "drivers").rglob("*.c"))
        self.assertGreater(drivers, 10000)


if __name__ == "__main__":
    unittest.main()

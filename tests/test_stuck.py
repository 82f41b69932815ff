# SPDX-License-Identifier: GPL-2.0-only
"""Where spatch fails to rewrite a place, that is refused, the rest converted."""
from __future__ import annotations

from pathlib import Path

import pytest

from cocci_dma import rules, run

#: spatch expands foo_unmap to read what stands before `case`, and dies of
#: rewriting it.
EXPANDED = '''#include <linux/pci.h>

#define FOO_REGS	, foo->regs
#define foo_unmap(foo) { pci_unmap_single(foo, 0, 16, PCI_DMA_TODEVICE); }

void foo_stop(struct pci_dev *foo, int state)
{
	switch (state) {
	foo_unmap(foo)
	case 1:
	foo_unmap(foo)
		break;
	}
	writel(0 FOO_REGS);
}
'''
#: spatch replaces the name, and then does not find the arguments.
ARGUMENT = '''#include <linux/pci.h>

dma_addr_t foo_map(struct pci_dev *pdev, void *data)
{
	return pci_map_single(pdev, FOO_AS(char *) data, 16, PCI_DMA_TODEVICE);
}
'''
OTHER = '''
int foo_masks(pdev)
	struct pci_dev *pdev;
{
	return %s(%s, DMA_BIT_MASK(32));
}
'''


@pytest.mark.parametrize('text, line', [(EXPANDED, 4), (ARGUMENT, 5)],
                         ids=['expanded', 'argument'])
def test_the_rest_is_converted(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / 'foo.c'
    path.write_text(text + OTHER % ('pci_set_dma_mask', 'pdev'))
    result = run.convert([str(path)], rules.select(
        rules.load(), ['pci_dma_compat']), run.Options(jobs=1))
    assert result.complete
    refused = [f for f in result.findings if f.kind == 'refusal']
    assert {f.line for f in refused} == {line}
    assert any('does not get this rewritten whole' in f.message
               for f in refused)
    edit, = result.edits
    assert edit.content.decode() == text + OTHER % ('dma_set_mask',
                                                    '&pdev->dev')

# SPDX-License-Identifier: GPL-2.0-only
"""Two forms of code that sets DMA masks, run in all worlds."""
from __future__ import annotations

import pytest

from evidence import cparse as c
from evidence.driver import Driver
from evidence.maskrun import Machine, Unsure, agree

_CODE = '''
int one(struct pci_dev *pdev, struct device *dev, struct card *card)
{
	int err, dac = 0;
%s
}
'''


def difference(old: str, new: str, dead: frozenset[str] = frozenset(),
               ordered: bool = True) -> str:
    """Why two pieces of code do not do the same."""
    driver = Driver(['old.c', 'new.c'], {
        'old.c': _CODE % old, 'new.c': _CODE.replace('one', 'two') % new})
    one, two = (driver.definitions(name)[0] for name in ('one', 'two'))
    stmts = [[s for s in func.body.body if not isinstance(s, c.Decl)]
             for func in (one, two)]
    return agree(Machine(driver, one, ordered=ordered), *stmts,
                 lambda leave, name: name not in dead)


PAIR = '''
	err = pci_set_dma_mask(pdev, DMA_BIT_MASK(64));
	if (!err)
		err = pci_set_consistent_dma_mask(pdev, DMA_BIT_MASK(64));
'''
MERGED = 'err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(%d));'


def test_a_pair_is_one_call() -> None:
    assert difference(PAIR, MERGED % 64) == ''


def test_the_mask_counts() -> None:
    assert difference(PAIR, MERGED % 32)


def test_the_device_counts() -> None:
    assert difference(PAIR, (MERGED % 64).replace('&pdev->dev', 'dev'))


@pytest.mark.parametrize('condition, same', [('err', True), ('!err', False)])
def test_an_inverted_condition_is_seen(condition: str, same: bool) -> None:
    found = difference(PAIR + 'if (err) return err; return 0;',
                       MERGED % 64 + 'if (%s) return err; return 0;'
                       % condition)
    assert (found == '') is same


def test_a_fallback_is_in_vain_when_wider_masks_are_taken() -> None:
    old = '''
	if (dma_set_mask(&pdev->dev, DMA_BIT_MASK(64))) {
		if (dma_set_mask(&pdev->dev, DMA_BIT_MASK(32)))
			return -EIO;
		dac = 1;
	}
'''
    new = 'if (dma_set_mask(&pdev->dev, DMA_BIT_MASK(64))) return -EIO;'
    assert difference(old, new) == ''
    assert difference(old, new, ordered=False)


def test_a_wider_second_try_is_none() -> None:
    old = '''
	if (dma_set_mask(&pdev->dev, DMA_BIT_MASK(32)))
		if (dma_set_mask(&pdev->dev, DMA_BIT_MASK(64)))
			return -EIO;
'''
    assert difference(
        old, 'if (dma_set_mask(&pdev->dev, DMA_BIT_MASK(32))) return -EIO;')


@pytest.mark.parametrize('device, same', [('&pdev->dev', True),
                                          ('dev', False)])
def test_a_device_may_lack_a_mask(device: str, same: bool) -> None:
    old = 'dma_set_mask(%s, 5); dma_set_coherent_mask(%s, 5);' % (
        device, device)
    assert (difference(old, 'dma_set_mask_and_coherent(%s, 5);' % device)
            == '') is same


def test_a_variable_that_is_read_later_counts() -> None:
    old, new = PAIR + 'dac = 1;', MERGED % 64
    assert 'dac' in difference(old, new)
    assert difference(old, new, frozenset(('dac',))) == ''


def test_a_call_between_sees_the_masks() -> None:
    old = '''
	if (dma_set_mask(&pdev->dev, 7))
		return -EIO;
	card_setup(card);
	dma_set_coherent_mask(&pdev->dev, 7);
'''
    new = '''
	if (dma_set_mask_and_coherent(&pdev->dev, 7))
		return -EIO;
	card_setup(card);
'''
    assert 'card_setup' in difference(old, new)
    plain = '\tcard->dac = 1;\n'
    assert difference(old.replace('\tcard_setup(card);\n', plain),
                      new.replace('\tcard_setup(card);\n', plain)) == ''


def test_a_failure_is_reported() -> None:
    old = PAIR + 'if (err) { dev_err(&pdev->dev, "no"); return err; }'
    assert difference(old, MERGED % 64 + 'if (err) return err;')


@pytest.mark.parametrize('between', [
    'again:', 'for (;;) { return 2; }', 'err = ({ 5; });'])
def test_what_cannot_be_followed_is_said(between: str) -> None:
    with pytest.raises(Unsure):
        difference(PAIR + between + 'dac = 1;', MERGED % 64)

# SPDX-License-Identifier: GPL-2.0-only
"""Which sizes, directions and devices are said to differ."""
from __future__ import annotations

import pytest

from evidence import cparse as c
from evidence.driver import Driver
from evidence.quantity import Values
from evidence.reach import Definitions, Reach

CODE = '''
#define ENTRIES 64
#define BYTES (ENTRIES << 3)
#define TWICE 1
#define TWICE 2
struct item { u64 a; };
struct card {
	struct item *ring;
	struct pci_dev *pdev;
	struct net_device *ndev;
	struct device *dev;
	u32 n, len;
};
void f(struct card *card, struct item *item, size_t given, size_t moved)
{
	size_t once = card->n * sizeof(u32);
	size_t often = 4;
	enum dma_data_direction dir = DMA_TO_DEVICE;
	struct device *own = &card->pdev->dev;

	often += 4;
	moved++;
	use(%s, %s);
}
'''


def sides(one: str, two: str) -> tuple[Values, tuple[c.Expr, c.Function],
                                       tuple[c.Expr, c.Function]]:
    """The values of a driver, and two of its expressions."""
    driver = Driver(['a.c'], {'a.c': CODE % (one, two)})
    func = driver.file('a.c').functions['f']
    call = next(k for k in func.calls() if k.name == 'use')
    values = Values(driver, Reach(driver), Definitions(driver))
    return values, (call.args[0], func), (call.args[1], func)


@pytest.mark.parametrize('one, two', [
    ('BYTES', '256'), ('BYTES', 'sizeof(u64)'), ('PAGE_SIZE', 'BYTES'),
    ('sizeof(card->ring)', 'BYTES'), ('once', 'card->n * 8'),
    ('given * 2', 'given'), ('card->n + 4', 'card->n'),
    ('array_size(card->n, 4)', 'card->n * sizeof(u16)'),
    ('2 * PAGE_SIZE', 'PAGE_SIZE'), ('010', '10')])
def test_sizes_that_differ(one: str, two: str) -> None:
    values, left, right = sides(one, two)
    assert values.sizes_differ(left, right)
    assert values.sizes_differ(right, left)


@pytest.mark.parametrize('one, two', [
    ('BYTES', '512'), ('BYTES', 'ENTRIES * sizeof(u64)'), ('0x10', '16UL'),
    ('PAGE_SIZE', '4096'), ('sizeof(card->ring)', '8'),
    ('once', 'card->n << 2'), ('4 * (card->n + 1)', 'card->n * 4 + 4'),
    ('card->n', 'card->len'), ('card->n * 4', '4'), ('TWICE', '7'),
    ('often', 'often * 2'), ('moved', 'moved + 4'), ('UNKNOWN', '4'),
    ('sizeof(struct item)', 'sizeof(struct card)'),
    ('PAGE_ALIGN(card->n)', 'card->n'), ('card->n ? 4 : 8', '16'),
    ('sizeof(*item)', 'sizeof(*card->ring)')])
def test_sizes_that_may_be_the_same(one: str, two: str) -> None:
    values, left, right = sides(one, two)
    assert not values.sizes_differ(left, right)


@pytest.mark.parametrize('written, known', [
    ('DMA_TO_DEVICE', 'DMA_TO_DEVICE'), ('dir', 'DMA_TO_DEVICE'),
    ('2', 'DMA_FROM_DEVICE'), ('card->n', ''), ('DMA_NONE', '')])
def test_directions(written: str, known: str) -> None:
    values, (expr, func), _ = sides(written, '0')
    assert values.direction(expr, func) == known


@pytest.mark.parametrize('one, two, differ', [
    ('&card->pdev->dev', '&card->ndev->dev', True),
    ('own', '&card->ndev->dev', True), ('own', 'NULL', True),
    ('card->dev', 'card->dev->parent', True),
    ('&card->ndev->dev', 'card->ndev->dev.parent', True),
    ('own', '&card->pdev->dev', False), ('card->dev', 'own', False),
    ('card->dev', 'NULL', False)])
def test_devices(one: str, two: str, differ: bool) -> None:
    values, left, right = sides(one, two)
    assert values.devices_differ(left, right) is differ

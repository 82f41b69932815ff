# SPDX-License-Identifier: GPL-2.0-only
"""Drivers made of the idioms that conversions meet, any with any other.

`drivers()` is a Hypothesis strategy; what it makes compiles.  What a driver
holds is known by name: buffers are b0, b1..., mappings m0, m1...
"""
from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class Buffer:
    """Memory of which a device gets the address, and how.

    alloc and free are templates of C: %(p)s is the pointer, %(gfp)s the
    flags.  use: what card_start() or the interrupt does with it.  where:
    `probe`, or `open` for memory that comes and goes with its user.
    """

    alloc: str
    free: str
    type: str
    gfp: str
    uses: tuple[str, ...]
    where: str
    guarded: bool
    zeroed: bool


@dataclass(frozen=True)
class Mapping:
    """A function that maps what it is given.

    held: what it holds then: nothing, a lock, or memory that is freed at the
    exit or behind a label.
    """

    call: str
    returns: str
    handle: str
    held: str
    conditional: bool
    checked: bool


@dataclass(frozen=True)
class Driver:
    """exits: how probe leaves when something fails: labels, one helper that
    frees all, or returns that free what there is.  device: what the private
    data knows of the device: pdev, dev, both, or none."""

    buffers: tuple[Buffer, ...]
    mappings: tuple[Mapping, ...]
    exits: str
    device: str
    irq: bool


#: alloc, free, type
_FORMS = (
    ('kmalloc(512, %(gfp)s)', 'kfree(%(p)s)', 'void *'),
    ('kzalloc(4096, %(gfp)s)', 'kfree(%(p)s)', '__le32 *'),
    ('kmalloc(RING_SIZE, %(gfp)s)', 'kfree(%(p)s)', 'u8 *'),
    ('kcalloc(16, sizeof(*%(p)s), %(gfp)s)', 'kfree(%(p)s)',
     'struct card_desc *'),
    ('(__le32 *)kmalloc(RING_SIZE * 4, %(gfp)s)', 'kfree(%(p)s)', '__le32 *'),
    ('(void *)get_zeroed_page(%(gfp)s)', 'free_page((unsigned long)%(p)s)',
     'void *'),
    ('(void *)__get_free_pages(%(gfp)s, 2)',
     'free_pages((unsigned long)%(p)s, 2)', 'void *'),
    ('kmalloc(card->len, %(gfp)s)', 'kfree(%(p)s)', 'void *'),
)
_CONSISTENT = (
    ('pci_alloc_consistent(%(pdev)s, 1024, &%(p)s_h)',
     'pci_free_consistent(%(pdev)s, 1024, %(p)s, %(p)s_h)', 'void *'),
    ('pci_zalloc_consistent(%(pdev)s, RING_SIZE, &%(p)s_h)',
     'pci_free_consistent(%(pdev)s, RING_SIZE, %(p)s, %(p)s_h)', '__le32 *'),
    ('dma_alloc_coherent(%(dev)s, RING_SIZE, &%(p)s_h, %(gfp)s)',
     'dma_free_coherent(%(dev)s, RING_SIZE, %(p)s, %(p)s_h)', 'void *'),
)
_USES = (
    'writel(virt_to_bus(%(p)s), card->regs);',
    'writel(virt_to_bus(%(p)s) & 0xffffff, card->regs + 4);',
    'writel(virt_to_bus(%(p)s) + 64, card->regs + 8);',
    'writel(virt_to_phys(%(p)s), card->regs + 12);',
    'writel(virt_to_bus(%(p)s) | RING_END, card->regs + 16);',
    'card->first.addr = cpu_to_le32(virt_to_bus(%(p)s));',
    'card_set(card, virt_to_bus(%(p)s));',
    'if (readl(card->regs) == virt_to_bus(%(p)s))\n\t\treturn;',
    'addr = virt_to_bus(%(p)s);\n\twritel(addr, card->regs + 20);',
    'writew(virt_to_bus(%(p)s) >> 16, card->regs + 24);',
    'writel(virt_to_bus((u8 *)%(p)s + 32), card->regs + 28);',
)
#: What no tool may convert on its own.
_HARD_USES = (
    'if (bus_to_virt(readl(card->regs)) == %(p)s)\n\t\treturn;',
    'card_keep(card, %(p)s);',
)


@st.composite
def _buffers(draw: st.DrawFn) -> Buffer:
    consistent = draw(st.integers(0, 3)) == 3
    alloc, free, kind = draw(st.sampled_from(
        _CONSISTENT if consistent else _FORMS))
    if consistent:
        uses = ['writel(%(p)s_h, card->regs);']
    else:
        uses = draw(st.lists(st.sampled_from(_USES), min_size=1, max_size=3))
        if draw(st.integers(0, 5)) == 5:
            uses.append(draw(st.sampled_from(_HARD_USES)))
    return Buffer(alloc, free, kind,
                  draw(st.sampled_from(('GFP_KERNEL', 'GFP_ATOMIC',
                                        'GFP_KERNEL | __GFP_NOWARN'))),
                  tuple(uses), draw(st.sampled_from(('probe', 'open'))),
                  draw(st.booleans()), draw(st.booleans()))


_mappings = st.builds(
    Mapping,
    st.sampled_from(('dma_map_single(%(dev)s, data, len, DMA_TO_DEVICE)',
                     'pci_map_single(%(pdev)s, data, len, PCI_DMA_TODEVICE)',
                     'dma_map_page(%(dev)s, virt_to_page(data), 0, len, '
                     'DMA_TO_DEVICE)')),
    st.sampled_from(('int', 'void')), st.sampled_from(('local', 'field')),
    st.sampled_from(('nothing', 'lock', 'memory', 'label')), st.booleans(),
    st.booleans())


def drivers() -> st.SearchStrategy[Driver]:
    """Any driver."""
    return st.builds(
        Driver, st.lists(_buffers(), min_size=1, max_size=3).map(tuple),
        st.lists(_mappings, max_size=2).map(tuple),
        st.sampled_from(('labels', 'helper', 'returns')),
        st.sampled_from(('both', 'pdev', 'dev', 'none')), st.booleans())


# ------------------------------------------------------------------ as C text

_HEAD = '''// SPDX-License-Identifier: GPL-2.0-only
/* Made of idioms by tests/grammar.py */

#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#define RING_SIZE 2048
#define RING_END 1

struct card_desc {
	__le32 addr;
	__le32 len;
};

'''
_TAIL = '''static const struct pci_device_id card_ids[] = {
	{ PCI_DEVICE(0x1234, 0x5678) },
	{ }
};

static struct pci_driver card_driver = {
	.name		= "card",
	.id_table	= card_ids,
	.probe		= card_probe,
	.remove		= card_remove,
};
module_pci_driver(card_driver);

MODULE_DESCRIPTION("Made of idioms");
MODULE_LICENSE("GPL");
'''


class _Text:
    """Writes one driver."""

    def __init__(self, driver: Driver):
        self._driver = driver
        known = driver.device
        self._dev = {'both': 'card->dev', 'dev': 'card->dev',
                     'pdev': '&card->pdev->dev', 'none': 'NULL'}[known]
        self._pdev = {'both': 'card->pdev', 'pdev': 'card->pdev',
                      'dev': 'to_pci_dev(card->dev)', 'none': 'NULL'}[known]

    def _names(self, number: int) -> dict[str, str]:
        buffer = self._driver.buffers[number]
        return {'p': 'card->b%d' % number, 'gfp': buffer.gfp,
                'dev': self._dev, 'pdev': self._pdev}

    def _alloc(self, number: int) -> str:
        buffer = self._driver.buffers[number]
        return '\tcard->b%d = %s;\n' % (number,
                                        buffer.alloc % self._names(number))

    def _free(self, number: int) -> str:
        buffer = self._driver.buffers[number]
        free = buffer.free % self._names(number) + ';\n'
        # a page or consistent memory that is not there cannot be given back
        if buffer.guarded or not buffer.free.startswith('kfree'):
            return '\tif (card->b%d)\n\t\t%s' % (number, free)
        return '\t' + free

    def _zero(self, number: int) -> str:
        return '\tmemset(card->b%d, 0, 256);\n' % number \
            if self._driver.buffers[number].zeroed else ''

    def whole(self) -> str:
        """The file."""
        return _HEAD + self._struct() + self._helpers() + self._start() \
            + self._opens() + ''.join(
                self._mapping(number)
                for number in range(len(self._driver.mappings))) \
            + self._probe() + _TAIL

    def _struct(self) -> str:
        driver = self._driver
        lines = ['void __iomem *regs;', 'struct card_desc first;',
                 'size_t len;', 'spinlock_t lock;', 'void *kept;']
        if driver.device in ('both', 'pdev'):
            lines.append('struct pci_dev *pdev;')
        if driver.device in ('both', 'dev'):
            lines.append('struct device *dev;')
        for number, buffer in enumerate(driver.buffers):
            lines.append('%sb%d;' % (buffer.type if buffer.type[-1] == '*'
                                     else buffer.type + ' ', number))
            if '_h' in buffer.alloc:
                lines.append('dma_addr_t b%d_h;' % number)
        lines += ('dma_addr_t m%d;' % number
                  for number, mapping in enumerate(driver.mappings)
                  if mapping.handle == 'field')
        return 'struct card {\n%s};\n\n' % ''.join(
            '\t%s\n' % line for line in lines)

    def _helpers(self) -> str:
        out = ['static void card_set(struct card *card, u32 value)\n{\n'
               '\twritel(value, card->regs + 32);\n}\n\n'
               'static void card_keep(struct card *card, void *mem)\n{\n'
               '\tcard->kept = mem;\n}\n\n']
        if self._driver.exits == 'helper':
            out.append('static void card_free(struct card *card)\n{\n%s}\n\n'
                       % ''.join(map(self._free, self._in('probe'))))
        return ''.join(out)

    def _in(self, where: str) -> list[int]:
        return [number for number, buffer in enumerate(self._driver.buffers)
                if buffer.where == where]

    def _uses(self, where: str) -> str:
        return ''.join('\t%s\n' % (use % self._names(number))
                       for number in self._in(where)
                       for use in self._driver.buffers[number].uses)

    def _start(self) -> str:
        body = '\tu32 addr = 0;\n\n%s\tif (addr)\n\t\tcard->kept = NULL;\n\t' \
            'card_set(card, 0);\n\tcard_keep(card, NULL);\n' \
            % self._uses('probe')
        out = 'static void card_start(struct card *card)\n{\n%s}\n\n' % body
        if self._driver.irq:
            out += 'static irqreturn_t card_irq(int irq, void *data)\n{\n' \
                '\tcard_start(data);\n\n\treturn IRQ_HANDLED;\n}\n\n'
        return out

    def _opens(self) -> str:
        numbers = self._in('open')
        if not numbers:
            return ''
        start = 'static void card_up(struct card *card)\n{\n\tu32 addr = 0;' \
            '\n\n%s\tif (addr)\n\t\tcard->kept = NULL;\n}\n\n' \
            % self._uses('open')
        body = ''
        for at, number in enumerate(numbers):
            undo = ''.join(map(self._free, reversed(numbers[:at])))
            body += self._alloc(number)
            body += '\tif (!card->b%d)' % number
            body += (' {\n%s\t\treturn -ENOMEM;\n\t}\n' % undo.replace(
                '\n\t', '\n\t\t').replace('\t', '\t\t', 1)
                if undo else '\n\t\treturn -ENOMEM;\n') + self._zero(number)
        return start + (
            'int card_open(struct card *card);\n'
            'int card_open(struct card *card)\n{\n%s\tcard_up(card);\n\n'
            '\treturn 0;\n}\n\nvoid card_close(struct card *card);\n'
            'void card_close(struct card *card)\n{\n%s}\n\n' % (
                body, ''.join(map(self._free, reversed(numbers)))))

    def _mapping(self, number: int) -> str:
        mapping = self._driver.mappings[number]
        handle = 'm%d' % number if mapping.handle == 'local' \
            else 'card->m%d' % number
        value = ' -ENOMEM' if mapping.returns == 'int' else ''
        names = {'dev': self._dev, 'pdev': self._pdev}
        head = '%s card_send%d(struct card *card, void *data, size_t len)' % (
            mapping.returns, number)
        out = [head + ';\n', head + '\n{\n']
        if mapping.handle == 'local':
            out.append('\tdma_addr_t m%d;\n' % number)
        if mapping.held in ('memory', 'label'):
            out.append('\tvoid *tmp;\n')
        if mapping.held == 'label' and mapping.returns == 'int':
            out.append('\tint ret = 0;\n')
        out.append('\n')
        if mapping.held == 'lock':
            out.append('\tspin_lock(&card->lock);\n')
        if mapping.held in ('memory', 'label'):
            out.append('\ttmp = kmalloc(len, GFP_ATOMIC);\n\tif (!tmp)\n'
                       '\t\treturn%s;\n' % value)
        call = mapping.call % names
        tab = ''
        if mapping.conditional:
            out.append('\tif (len) {\n')
            tab = '\t'
        out.append('%s\t%s = %s;\n' % (tab, handle, call))
        if mapping.checked:
            leave = {'nothing': '', 'label': '',
                     'lock': '%s\t\tspin_unlock(&card->lock);\n' % tab,
                     'memory': '%s\t\tkfree(tmp);\n' % tab}[mapping.held]
            if mapping.held == 'label':
                if mapping.returns == 'int':
                    leave += '%s\t\tret = -ENOMEM;\n' % tab
                leave += '%s\t\tgoto out;\n' % tab
            else:
                leave += '%s\t\treturn%s;\n' % (tab, value)
            out.append('%s\tif (dma_mapping_error(%s, %s)) {\n%s%s\t}\n' % (
                tab, self._dev, handle, leave, tab))
        out.append('%s\twritel(lower_32_bits(%s), card->regs);\n' % (
            tab, handle))
        out.append('%s\tdma_unmap_single(%s, %s, len, DMA_TO_DEVICE);\n' % (
            tab, self._dev, handle) if 'page' not in mapping.call else
            '%s\tdma_unmap_page(%s, %s, len, DMA_TO_DEVICE);\n' % (
                tab, self._dev, handle))
        if mapping.conditional:
            out.append('\t}\n')
        if mapping.held == 'lock':
            out.append('\tspin_unlock(&card->lock);\n')
        if mapping.held == 'label' and (
                mapping.checked or mapping.returns == 'int'):
            out.append('\tif (len > 64)\n\t\tgoto out;\n\tcard_set(card, 0);\n'
                       'out:\n')
        if mapping.held in ('memory', 'label'):
            out.append('\tkfree(tmp);\n')
        if mapping.returns == 'int':
            out.append('\n\treturn %s;\n' % (
                'ret' if mapping.held == 'label' else '0'))
        out.append('}\n\n')
        return ''.join(out)

    def _probe(self) -> str:
        driver = self._driver
        numbers = self._in('probe')
        out = ['static int card_probe(struct pci_dev *pdev,\n\t\t      const '
               'struct pci_device_id *id)\n{\n\tstruct card *card;\n\tint ret;'
               '\n\n\tret = pcim_enable_device(pdev);\n\tif (ret)\n\t\treturn '
               'ret;\n\n\tcard = devm_kzalloc(&pdev->dev, sizeof(*card), '
               'GFP_KERNEL);\n\tif (!card)\n\t\treturn -ENOMEM;\n\n']
        if driver.device in ('both', 'pdev'):
            out.append('\tcard->pdev = pdev;\n')
        if driver.device in ('both', 'dev'):
            out.append('\tcard->dev = &pdev->dev;\n')
        out.append('\tcard->len = 512;\n\tspin_lock_init(&card->lock);\n'
                   '\tpci_set_drvdata(pdev, card);\n\tcard->regs = '
                   'pcim_iomap(pdev, 0, 0);\n\tif (!card->regs)\n'
                   '\t\treturn -ENOMEM;\n\n')
        labels: list[str] = []
        for at, number in enumerate(numbers):
            out.append(self._alloc(number))
            out.append('\tif (!card->b%d) {\n' % number)
            out.append(self._leave(numbers[:at]))
            out.append('\t}\n')
            out.append(self._zero(number))
            labels.append('err_b%d:\n%s' % (number, self._free(number)))
        if driver.irq:
            out.append('\n\tret = devm_request_irq(&pdev->dev, pdev->irq, '
                       'card_irq, IRQF_SHARED,\n\t\t\t       "card", card);\n'
                       '\tif (ret) {\n%s\t}\n' % self._leave(
                           numbers, 'ret'))
        out.append('\tcard_start(card);\n\n\treturn 0;\n')
        used = labels if driver.irq else labels[:-1]
        if driver.exits == 'labels' and used:
            out.append('\n%s\n\treturn ret;\n' % ''.join(reversed(used)))
        out.append('}\n\nstatic void card_remove(struct pci_dev *pdev)\n{\n'
                   '\tstruct card *card = pci_get_drvdata(pdev);\n\n')
        out += ['\tcard_free(card);\n'] if driver.exits == 'helper' else [
            self._free(number) for number in reversed(numbers)]
        out.append('\tpci_set_drvdata(pdev, NULL);\n\twritel(0, card->regs);\n'
                   '}\n\n')
        return ''.join(out)

    def _leave(self, held: list[int], value: str = '-ENOMEM') -> str:
        """How probe leaves: the inside of the braces."""
        exits = self._driver.exits
        if exits == 'labels' and held:
            return '%s\t\tgoto err_b%d;\n' % (
                '' if value == 'ret' else '\t\tret = %s;\n' % value, held[-1])
        undo = '\tcard_free(card);\n' if exits == 'helper' else ''.join(
            map(self._free, reversed(held)))
        return ''.join('\t%s\n' % line for line in undo.splitlines()) \
            + '\t\treturn %s;\n' % value


def text(driver: Driver) -> str:
    """The driver as a file."""
    return _Text(driver).whole()

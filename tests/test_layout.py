# SPDX-License-Identifier: GPL-2.0-only
"""Lines that spatch wrote are laid out as in the kernel."""
from __future__ import annotations

import pytest

from cocci_dma import layout

LONG = (b'\t\td->next = cpu_to_le32(card->descs_dma + (d - card->descs + 1)'
        b' * sizeof(*d));\n')


@pytest.mark.parametrize('line, laid_out', [
    (LONG, b'\t\td->next = cpu_to_le32(card->descs_dma +\n'
           b'\t\t\t\t      (d - card->descs + 1) * sizeof(*d));\n'),
    (b'\tif ((card->buffer = dma_alloc_coherent(dev, 512, &card->buffer_dma,'
     b' GFP_KERNEL)) == NULL)\n',
     b'\tif ((card->buffer = dma_alloc_coherent(dev, 512, &card->buffer_dma,\n'
     b'\t\t\t\t\t       GFP_KERNEL)) == NULL)\n'),
    (b'\t        foo(a);\n', b'\t\tfoo(a);\n'),
    (b'        foo(a);\n', b'\tfoo(a);\n'),
    (b'\t    \t\tfoo(a);\n', b'\t\t\tfoo(a);\n'),
    (b'\tp->ring = (u8 *) dmam_alloc_coherent(dev, SIZE,\n'
     b'\t\t\t\t\t     &p->ring_dma,\n'
     b'\t\t\t\t\t     GFP_KERNEL);\n\treturn 0;\n',
     b'\tp->ring = (u8 *)dmam_alloc_coherent(dev, SIZE,\n'
     b'\t\t\t\t\t    &p->ring_dma,\n'
     b'\t\t\t\t\t    GFP_KERNEL);\n\treturn 0;\n'),
    (b'\treturn (unsigned long) b;\n', b'\treturn (unsigned long)b;\n'),
    (b'\tx = f((struct a *) b, (long) c);\n',
     b'\tx = f((struct a *)b, (long)c);\n')])
def test_new_lines(line: bytes, laid_out: bytes) -> None:
    assert layout.tidy(b'', line) == laid_out
    assert layout.tidy(b'', laid_out) == laid_out


@pytest.mark.parametrize('line', [
    b'\tpr_info("a long text, with commas, ' + b'x' * 80 + b'", 1, 2);\n',
    b'\tshort(a, b);\n',
    b'\tif (a) b();\n',
    b'\twhile (x && (a)) b();\n',
    b'\tx = (a) * b + f(c) + (d) + e;\n',
    b'\tx = y; /* = (u8 *) z */\n',
    b'\tx = ' + b'a + ' * 30 + b'b;\n'])
def test_left_as_they_are(line: bytes) -> None:
    assert layout.tidy(b'', line) == line


def test_old_lines_stay() -> None:
    assert layout.tidy(b'int a;\n' + LONG, LONG) == LONG


def test_above_the_limit_a_part_may_stay_long() -> None:
    line = (b'\t\td->next = prev ? cpu_to_le32(card->ring_dma +'
            b' (prev - card->ring) * sizeof(*prev)) : 0;\n')
    assert layout.tidy(b'', line) == (
        b'\t\td->next = prev ? cpu_to_le32(card->ring_dma +\n'
        b'\t\t\t\t\t     (prev - card->ring) * sizeof(*prev)) : 0;\n')


@pytest.mark.parametrize('before, after, laid_out', [
    # what was aligned with a parenthesis that moved
    (b'\tx = pci_alloc(a,\n\t\t      b,\n\t\t      c);\n',
     b'\tx = dma(a,\n\t\t      b,\n\t\t      c);\n',
     b'\tx = dma(a,\n\t\tb,\n\t\tc);\n'),
    # and what was not
    (b'\tx = pci_alloc(a,\n\t\t\tb);\n', b'\tx = dma(a,\n\t\t\tb);\n',
     b'\tx = dma(a,\n\t\t\tb);\n'),
    # parentheses in strings are none
    (b'\tpci_say("(",\n\t\tb);\n', b'\tsay("(",\n\t\tb);\n',
     b'\tsay("(",\n\t    b);\n'),
    # the rest of a broken line is followed by the next line
    (b'\t\t\tx = pci_map_single(aaaaaaaaaaaaaaaa->bbbbbbbbbb, cccccc, dd,\n'
     b'\t\t\t\t\t   eee);\n',
     b'\t\t\tx = dma_map_single(&aaaaaaaaaaaaaaaa->bbbbbbbbbb->dev, cccccc,'
     b' dd,\n\t\t\t\t\t   ee);\n',
     b'\t\t\tx = dma_map_single(&aaaaaaaaaaaaaaaa->bbbbbbbbbb->dev,\n'
     b'\t\t\t\t\t   cccccc, dd, ee);\n'),
    # a condition ends where the parentheses of an earlier line do
    (b'\tif (aaaaaaaaaaaaaaaaaaaa && !pci_set_dma_mask(pdev,\n'
     b'\t    mask) && !pci_set_consistent_dma_mask(pdev,\n'
     b'\t    mask))\n',
     b'\tif (aaaaaaaaaaaaaaaaaaaa && !dma_set_mask(&pdev->dev,\n'
     b'\t\t\t\t\t\t  mask) && !dma_set_coherent_mask(&pdev->dev,\n'
     b'\t\t\t\t\t\t\t\t\t\t  mask))\n',
     b'\tif (aaaaaaaaaaaaaaaaaaaa && !dma_set_mask(&pdev->dev,\n'
     b'\t\t\t\t\t\t  mask) &&\n'
     b'\t    !dma_set_coherent_mask(&pdev->dev,\n'
     b'\t\t\t\t   mask))\n'),
    (b'\tcase PCI_A:\n', b'\tcase A :\n', b'\tcase A:\n')])
def test_what_follows_a_change(before: bytes, after: bytes,
                               laid_out: bytes) -> None:
    assert layout.tidy(before, after) == laid_out
    assert layout.tidy(before, laid_out) == laid_out


def test_a_macro_stays_one() -> None:
    line = b'#define foo_alloc(pdev, dma) dma_alloc_coherent(&(pdev)->dev, ' \
        b'PAGE_SIZE, dma, GFP_ATOMIC)\n'
    assert layout.tidy(b'', line) == (
        b'#define foo_alloc(pdev, dma) dma_alloc_coherent(&(pdev)->dev, '
        b'PAGE_SIZE, dma, \\\n' + b'\t' * 6 + b'GFP_ATOMIC)\n')


def test_the_parameters_of_a_macro_stay_on_its_line() -> None:
    line = b'#define foo_unmap(pdev, d) ({ dma_unmap_single(&(pdev)->dev, d, ' \
        b'16, DMA_TO_DEVICE); 0; })\n'
    assert layout.tidy(b'', line) == (
        b'#define foo_unmap(pdev, d) ({ dma_unmap_single(&(pdev)->dev, d, '
        b'16, \\\n' + b'\t' * 5 + b'       DMA_TO_DEVICE); 0; })\n')


def test_else_stands_off_its_brace() -> None:
    assert layout.tidy(b'', b'\t}else {\n') == b'\t} else {\n'
    assert layout.tidy(b'\t}else {\n', b'\t}else {\nx;\n') \
        == b'\t}else {\nx;\n'


def test_an_empty_line_stays_empty() -> None:
    assert layout.tidy(b'\tx;\n\n\treturn 0;\n', b'\t\n\treturn 0;\n') \
        == b'\n\treturn 0;\n'


@pytest.mark.parametrize('before, after, laid_out', [
    (b'\tif (a)\n\t\tgoto out;\n', b'\tif (a) {\n\t\treturn b;\n\t}\n',
     b'\tif (a)\n\t\treturn b;\n'),
    # what was there stays
    (b'\tif (a) {\n\t\tgoto out;\n\t}\n',
     b'\tif (a) {\n\t\treturn b;\n\t}\n',
     b'\tif (a) {\n\t\treturn b;\n\t}\n'),
    # two statements need them, and a branch of an else is not taken apart
    (b'\tif (a)\n\t\tx;\n', b'\tif (a) {\n\t\ty;\n\t\tz;\n\t}\n',
     b'\tif (a) {\n\t\ty;\n\t\tz;\n\t}\n'),
    (b'\tif (a)\n\t\tx;\n\telse\n\t\ty;\n',
     b'\tif (a) {\n\t\tz;\n\t} else\n\t\ty;\n',
     b'\tif (a) {\n\t\tz;\n\t} else\n\t\ty;\n')])
def test_braces_around_one_statement(before: bytes, after: bytes,
                                     laid_out: bytes) -> None:
    assert layout.tidy(before, after) == laid_out

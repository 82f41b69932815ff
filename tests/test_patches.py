# SPDX-License-Identifier: GPL-2.0-only
"""`cocci-dma patches`: mails out of a git repository that is only read.

The kernel here has one driver, headers of a page, a Makefile of ten lines, and
the real scripts/checkpatch.pl and get_maintainer.pl.
"""
from __future__ import annotations

import email
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import html5lib
import pytest

from cocci_dma import findings, run
from cocci_dma.series import build, mails, steps, wording
from browser import look, require_readable
from conftest import ROOT
import kernel_tree

#: One process makes the series that most tests look at.
pytestmark = pytest.mark.xdist_group('patches')

CARD = 'drivers/misc/card/card.c'

#: What the kernel's own scripts want to see at its top.
TOP = ('COPYING', 'CREDITS', 'Kbuild', 'README', 'Documentation/index.rst',
       'arch/.keep', 'fs/.keep', 'init/.keep', 'ipc/.keep', 'kernel/.keep',
       'lib/.keep', 'scripts/coccicheck')

MAKEFILE = '''\
MAKEFLAGS += --no-builtin-rules
obj = $(or $(O),.)

prepare:
	$(if $(SLOW),touch $(SLOW); sleep 60,@:)

allmodconfig olddefconfig:
	@echo 'CONFIG_CC_VERSION_TEXT="gcc of the test"' > $(obj)/.config

%.o: FORCE
	@mkdir -p $(dir $(obj)/$@)
	$(if $(CHANGE),echo >> $(CHANGE),@:)
	@echo '  CC      $@'
	@gcc -Wall -Iinclude $(DEFINE) -c $(@:.o=.c) -o $(obj)/$@

Makefile: ;
.PHONY: FORCE
'''

HEADERS = {
    'pci': '''\
#include <linux/dma-mapping.h>
struct pci_device_id;
struct pci_dev { struct device dev; int irq; };
struct pci_driver {
	const char *name;
	int (*probe)(struct pci_dev *pdev, const struct pci_device_id *id);
	void (*remove)(struct pci_dev *pdev);
};
#define module_pci_driver(d) struct pci_driver *d##_used = &d
#define PCI_DMA_TODEVICE 1
void *pci_alloc_consistent(struct pci_dev *pdev, size_t n, dma_addr_t *h);
void pci_free_consistent(struct pci_dev *pdev, size_t n, void *p,
			 dma_addr_t h);
int pci_set_dma_mask(struct pci_dev *pdev, u64 mask);
int pci_set_consistent_dma_mask(struct pci_dev *pdev, u64 mask);
void pci_unmap_single(struct pci_dev *pdev, dma_addr_t h, size_t n, int dir);
''',
    'dma-mapping': '''\
#include <stddef.h>
typedef unsigned long long u64;
typedef unsigned int u32;
typedef u64 dma_addr_t;
#define GFP_ATOMIC 1
#define GFP_KERNEL 2
#define ENOMEM 12
#define EIO 5
#define PAGE_SIZE 4096
#define DMA_BIT_MASK(n) ((1ULL << (n)) - 1)
#define __iomem
enum dma_data_direction { DMA_BIDIRECTIONAL, DMA_TO_DEVICE };
struct device { void *driver_data; };
void *dma_alloc_coherent(struct device *dev, size_t n, dma_addr_t *h, int gfp);
void dma_free_coherent(struct device *dev, size_t n, void *p, dma_addr_t h);
void *dmam_alloc_coherent(struct device *dev, size_t n, dma_addr_t *h,
			  int gfp);
dma_addr_t dma_map_single(struct device *dev, void *p, size_t n, int dir);
void dma_unmap_single(struct device *dev, dma_addr_t h, size_t n, int dir);
int dma_mapping_error(struct device *dev, dma_addr_t h);
#ifndef NO_MASK
int dma_set_mask_and_coherent(struct device *dev, u64 mask);
#endif
int dma_set_mask(struct device *dev, u64 mask);
int dma_set_coherent_mask(struct device *dev, u64 mask);
void writel(u32 value, void *to);
''',
    'module': '''\
#define MODULE_LICENSE(x) struct module_license
#define MODULE_DESCRIPTION(x) struct module_description
''',
    'interrupt': '''\
typedef int irqreturn_t;
#define IRQ_HANDLED 1
typedef irqreturn_t (*irq_handler_t)(int irq, void *data);
int request_irq(unsigned int irq, irq_handler_t handler, unsigned long flags,
		const char *name, void *data);
''',
}

#: The driver as its first commit has it.
BEGUN = '''\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/pci.h>

struct card {
	struct pci_dev *pdev;
	void *ring;
	dma_addr_t ring_dma;
	void *late;
	dma_addr_t late_dma;
	void *regs;
};

static struct card card;

static irqreturn_t card_irq(int irq, void *data)
{
	card.late = pci_alloc_consistent(card.pdev, PAGE_SIZE, &card.late_dma);
	return IRQ_HANDLED;
}

static int card_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	if (pci_set_dma_mask(pdev, DMA_BIT_MASK(32)) ||
	    pci_set_consistent_dma_mask(pdev, DMA_BIT_MASK(32)))
		return -EIO;
	card.pdev = pdev;
	card.ring = pci_alloc_consistent(pdev, PAGE_SIZE, &card.ring_dma);
	if (!card.ring)
		return -ENOMEM;
	return request_irq(pdev->irq, card_irq, 0, "card", &card);
}

static void card_remove(struct pci_dev *pdev)
{
	pci_free_consistent(pdev, PAGE_SIZE, card.ring, card.ring_dma);
}

static struct pci_driver card_driver = {
	.name	= "card",
	.probe	= card_probe,
	.remove	= card_remove,
};
module_pci_driver(card_driver);

MODULE_DESCRIPTION("card");
MODULE_LICENSE("GPL");
'''

#: What the second commit brings: a mapping that nobody checks.
SEND = '''
int card_send(void *data, size_t size);
int card_send(void *data, size_t size)
{
	dma_addr_t dma;

	dma = %s, data, size, %s);
	writel(dma, card.regs);
	return 0;
}
'''
FIRST_SEND = SEND % ('pci_map_single(card.pdev', 'PCI_DMA_TODEVICE')
LATER_SEND = SEND % ('dma_map_single(&card.pdev->dev', 'DMA_TO_DEVICE')

SUBJECTS = ['misc: card: Add a driver', 'misc: card: Send what it is given',
            'misc: card: Use the DMA API to send']


def git(folder: Path, *command: str, **env: str) -> str:
    """What git prints."""
    date = '2026-01-01T00:00:00+0000'
    return subprocess.run(
        ['git', '-c', 'user.name=A Person', '-c', 'user.email=a@example.org',
         '-C', str(folder), *command], check=True, capture_output=True,
        text=True, env={**os.environ, 'GIT_AUTHOR_DATE': date,
                        'GIT_COMMITTER_DATE': date, **env}).stdout


def commit(folder: Path, subject: str) -> None:
    git(folder, 'add', '-A')
    git(folder, 'commit', '-q', '-m', subject)


@pytest.fixture(scope='session')
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel's repository, to be copied."""
    top = tmp_path_factory.mktemp('kernel') / 'linux'
    scripts = top / 'scripts'
    scripts.mkdir(parents=True)
    for name in ('checkpatch.pl', 'get_maintainer.pl', 'spelling.txt',
                 'const_structs.checkpatch'):
        shutil.copy(kernel_tree.source() / 'scripts' / name, scripts / name)
    for name in TOP:
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).touch()
    (top / 'Makefile').write_text(MAKEFILE)
    (top / 'MAINTAINERS').write_text(
        'CARD DRIVER\nM:\tJosé Núñez <jose@example.org>\n'
        'R:\tReviewer <reviewer@example.org>\nL:\tcard@lists.example.org\n'
        'S:\tMaintained\nF:\tdrivers/misc/card/\n')
    (top / 'include/linux').mkdir(parents=True)
    for name, text in HEADERS.items():
        (top / 'include/linux' / (name + '.h')).write_text(
            '#pragma once\n' + text)
    driver = top / CARD
    driver.parent.mkdir(parents=True)
    (driver.parent / 'Makefile').write_text('obj-m := card.o\n')
    git(top, 'init', '-q', '-b', 'main')
    for key, value in (('user.name', 'A Person'),
                       ('user.email', 'a@example.org')):
        git(top, 'config', key, value)
    head, tail = BEGUN.split('static struct pci_driver')
    commit(top, 'Import of nothing')
    for subject, text in zip(SUBJECTS, ('', FIRST_SEND, LATER_SEND)):
        driver.write_text(head + text.lstrip('\n') + ('\n' if text else '')
                          + 'static struct pci_driver' + tail)
        commit(top, subject)
    return top


@pytest.fixture
def linux(original: Path, tmp_path: Path) -> Path:
    """A kernel's repository of the test's own, with a stash."""
    top = tmp_path / 'linux'
    shutil.copytree(original, top)
    (top / 'README').write_text('stashed\n')
    git(top, 'stash')
    return top


def state(top: Path) -> dict[str, tuple[int, str]]:
    """All of a folder, .git included: what each file holds, and since when."""
    found = {}
    for path in sorted(top.rglob('*')):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(top))] = (
                path.stat().st_mtime_ns,
                hashlib.sha256(path.read_bytes()).hexdigest())
        else:
            found[str(path.relative_to(top))] = (0, '')
    return found


def patches(linux: Path, out: Path, environment: dict[str, str],
            *more: object) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    done = subprocess.run(
        [sys.executable, ROOT / 'cocci-dma', 'patches', 'drivers/misc/card',
         '--kdir', linux, '-o', out, *map(str, more)], cwd=linux.parent,
        env=environment, capture_output=True, text=True, check=False,
        timeout=120)
    assert not os.listdir(environment['TMPDIR'])
    return done


@dataclass(frozen=True)
class Made:
    """A series that was made once for several tests."""

    linux: Path
    out: Path
    said: str
    before: dict[str, tuple[int, str]]
    after: dict[str, tuple[int, str]]

    @property
    def mails(self) -> list[Path]:
        """Its patches."""
        return sorted(path for path in self.out.glob('*.patch')
                      if 'cover-letter' not in path.name)


@pytest.fixture(scope='session')
def made(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The series of the driver, compiled."""
    folder = tmp_path_factory.mktemp('made')
    (folder / 'scratch').mkdir()
    shutil.copytree(original, folder / 'linux')
    before = state(folder / 'linux')
    done = patches(folder / 'linux', folder / 'out', {
        **os.environ, 'TMPDIR': str(folder / 'scratch'),
        'XDG_CACHE_HOME': str(folder / 'cache')})
    assert done.returncode == 0, done.stderr
    return Made(folder / 'linux', folder / 'out', done.stdout + done.stderr,
                before, state(folder / 'linux'))


def body(mail: Path) -> str:
    return email.message_from_bytes(mail.read_bytes()).get_payload()


def subject(mail: Path) -> str:
    return ' '.join(email.message_from_bytes(
        mail.read_bytes())['Subject'].split())


def test_kinds_in_order(made: Made) -> None:
    """One patch a kind, in the order in which they build on one another."""
    assert [subject(mail) for mail in made.mails] == [
        '[PATCH 1/5] misc: card: Use the DMA API instead of its PCI wrappers',
        '[PATCH 2/5] misc: card: Check for failed DMA mappings',
        '[PATCH 3/5] misc: card: Use dma_set_mask_and_coherent()',
        '[PATCH 4/5] misc: card: Allocate DMA memory with GFP_KERNEL',
        '[PATCH 5/5] misc: card: Use dmam_alloc_coherent()']


def test_repository_untouched(made: Made) -> None:
    assert made.before == made.after


def test_applies_and_is_what_convert_makes(made: Made,
                                           tmp_path: Path) -> None:
    """git am takes all; the result is that of `convert`."""
    for name in ('am', 'converted'):
        shutil.copytree(made.linux, tmp_path / name)
    git(tmp_path / 'am', 'am', '-q', *map(str, made.mails))
    subprocess.run([sys.executable, ROOT / 'cocci-dma', 'convert',
                    '--in-place', 'drivers/misc/card'], check=True,
                   cwd=tmp_path / 'converted', capture_output=True)
    assert (tmp_path / 'am' / CARD).read_bytes() == (
        tmp_path / 'converted' / CARD).read_bytes()
    assert git(tmp_path / 'am', 'status', '--porcelain') == ''


def test_flags_have_a_patch(made: Made) -> None:
    """The renames leave GFP_ATOMIC; a later one says why it may sleep."""
    first, last = made.mails[0], made.mails[3]
    assert 'GFP_KERNEL' not in body(first)
    changed = [line for line in body(last).split('\n')
               if re.match(r'[-+]\t', line)]
    assert len(changed) == 2 and 'GFP_KERNEL' in changed[1]
    said = ' '.join(body(last).split())
    assert '- card_probe(): card_probe() is the probe of struct ' \
        'pci_driver' in said
    assert 'These stay GFP_ATOMIC' in said and '- card_irq(): card_irq() ' \
        'is registered by request_irq(), which must not sleep' in said


def test_message(made: Made) -> None:
    for mail in made.mails:
        text, below = body(mail).split('\n---\n', 1)
        assert max(map(len, text.split('\n'))) <= 72
        assert 'Generated by cocci-dma' in text
        assert 'Coccinelle' in text
        assert not re.search(r'^(Signed-off-by|Cc|Assisted-by):', text, re.M)
        assert 'checkpatch --strict: no errors, no warnings' in below
        assert 'gcc of the test' in below
        assert 'in QEMU: not run' in below
        assert len(subject(mail)) <= 75 + len('[PATCH 1/5] ')


def test_semantic_patch_that_fired(made: Made) -> None:
    """Only the wrappers that are there are named."""
    said = body(made.mails[0]).split('\n---\n')[0]
    assert '  - pci_free_consistent(e1, e2, e3, e4)\n' \
        '  + dma_free_coherent(&e1->dev, e2, e3, e4)\n' in said
    assert '+ dma_alloc_coherent(&e1->dev, e2, e3, GFP_ATOMIC)' in said
    assert 'pci_map_page' not in said and 'pci_unmap' not in said


def test_fixes_tag(made: Made) -> None:
    """It names the commit that brought the mapping, not the one that only
    wrote it anew; and only a fix of a bug has one."""
    commits = dict(line.split(' ', 1)[::-1] for line in git(
        made.linux, 'log', '--format=%H %s').splitlines())
    tags = [re.findall(r'^Fixes: (.*)$', body(mail), re.M)
            for mail in made.mails]
    assert tags == [[], ['%s ("%s")' % (commits[SUBJECTS[1]][:12],
                                        SUBJECTS[1])], [], [], []]


def test_recipients(made: Made) -> None:
    for mail in made.out.glob('*.patch'):
        head = email.message_from_bytes(mail.read_bytes())
        (name, code), (address, _) = email.header.decode_header(head['To'])
        assert name.decode(code) == 'José Núñez'
        assert b'jose@example.org' in address
        assert 'reviewer@example.org' in head['Cc']
        assert 'card@lists.example.org' in head['Cc']


def test_cover_and_overview(made: Made) -> None:
    cover = next(made.out.glob('0000-*.patch'))
    assert subject(cover) == '[PATCH 0/5] misc: card: move to the DMA API'
    for text in (body(cover), (made.out / 'SERIES.txt').read_text()):
        rows = re.findall(r'^  (\d)  card +(\w+) +(\d+) +0 -> 0  ', text, re.M)
        assert [kind for _, kind, _ in rows] == ['rename', 'check', 'mask',
                                                 'gfp', 'dmam']
    head = git(made.linux, 'rev-parse', 'HEAD').strip()
    assert 'base-commit: ' + head in body(cover)
    replies = {email.message_from_bytes(mail.read_bytes())['In-Reply-To']
               for mail in made.mails}
    assert replies == {email.message_from_bytes(
        cover.read_bytes())['Message-Id']}


def test_sign_off_as_told(made: Made, tmp_path: Path) -> None:
    """What SERIES.txt says to do does it."""
    out = tmp_path / 'out'
    shutil.copytree(made.out, out)
    told = (out / 'SERIES.txt').read_text()
    command = re.search(r'(git interpret-trailers(?:.*\\\n)+.*\n)', told)[1]
    subprocess.run(['sh', '-c', command.replace(
        'NAME <ADDRESS>', 'A Person <a@example.org>')], cwd=out, check=True)
    shutil.copytree(made.linux, tmp_path / 'linux')
    git(tmp_path / 'linux', 'am', '-q', *(str(out / mail.name)
                                          for mail in made.mails))
    said = git(tmp_path / 'linux', 'log', '-5',
               '--format=%(trailers:key=Signed-off-by)')
    assert said.count('A Person <a@example.org>') == 5


def test_send_email_and_b4_take_it(made: Made, tmp_path: Path) -> None:
    done = subprocess.run(
        ['git', 'send-email', '--dry-run', '--quiet', '--confirm=never',
         '--from=A Person <a@example.org>', '--suppress-cc=all',
         *sorted(map(str, made.out.glob('*.patch')))],
        capture_output=True, text=True, check=False, cwd=made.linux)
    assert done.returncode == 0, done.stderr
    (tmp_path / 'b4').mkdir()
    box = tmp_path / 'mbox'
    box.write_bytes(b''.join(path.read_bytes() + b'\n' for path in sorted(
        made.out.glob('*.patch'))))
    identity = email.message_from_bytes(next(made.out.glob(
        '0000-*')).read_bytes())['Message-Id'].strip('<>')
    done = subprocess.run(
        ['b4', '-n', '--offline-mode', 'am', '-m', str(box), '-o',
         str(tmp_path / 'b4'), identity], capture_output=True, text=True,
        check=False, cwd=made.linux, env={**os.environ,
                                          'HOME': str(tmp_path)})
    assert done.returncode == 0, done.stderr
    taken = list((tmp_path / 'b4').glob('*.mbx'))
    assert len(taken) == 1
    assert taken[0].read_bytes().count(b'\ndiff --git ') == 5


def test_preview(made: Made) -> None:
    """Every hunk is shown, with the reasons of what changes in it."""
    page = (made.out / 'index.html').read_text()
    html5lib.HTMLParser(strict=True).parse(page)
    hunks = sum(body(mail).count('\n@@ ') for mail in made.mails)
    assert page.count('<div class="hunk">') == hunks
    assert 'card_probe() is the probe of struct pci_driver' in page
    assert 'the handle of dma_map_single() is not tested' in page


def test_second_version(made: Made, environment: dict[str, str],
                        tmp_path: Path) -> None:
    """It says what is new, and how it differs from the first."""
    linux = tmp_path / 'linux'
    shutil.copytree(made.linux, linux)
    changes = tmp_path / 'changes'
    changes.write_text('- only the wrappers, as was asked for\n')
    out = tmp_path / 'out'
    done = patches(linux, out, environment, '--rule', 'pci_dma_compat',
                   '--no-build', '-v', 2, '--changes', changes, '--previous',
                   made.out)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in out.glob('*.patch'))
    assert [name[:7] for name in names] == ['v2-0000', 'v2-0001', 'v2-0002']
    cover = body(out / names[0])
    assert 'Changes in v2:\n\n- only the wrappers, as was asked for\n' in cover
    assert 'Range-diff against v1:' in cover
    assert re.search(r'^1: .* = 1: ', cover, re.M)
    assert re.search(r'^3: .* < -: .*dma_set_mask_and_coherent', cover, re.M)
    below = body(out / names[1]).split('\n---\n', 1)[1]
    assert '- compile: not run' in below and '- sparse: not run' in below


def test_version_without_changes(small: Path, environment: dict[str, str],
                                 tmp_path: Path) -> None:
    done = patches(small, tmp_path / 'out', environment, '-v', 2)
    assert done.returncode == 2 and '--changes' in done.stderr
    (tmp_path / 'changes').write_text('all\n')
    done = patches(small, tmp_path / 'out', environment, '-v', 2, '--changes',
                   tmp_path / 'changes', '--previous', tmp_path)
    assert done.returncode == 2
    assert 'holds no series with its base-commit' in done.stderr
    assert not (tmp_path / 'out').exists()


def test_header() -> None:
    """One line for a subject, for b4 0.12 fails on a folded one in a mailbox;
    recipients as mail programs write them."""
    mail = b'From: a\nSubject: [PATCH] one\n two\n three\nX: y\n\nbody\n\nend\n'
    assert mails._addressed(mail, ['A <a@b.org>', 'b@c.org'], []) == (
        b'From: a\nSubject: [PATCH] one two three\nX: y\nTo: A <a@b.org>,\n'
        b'\tb@c.org\n\nbody\n\nend\n')


def test_old_sources_keep_their_bytes(
        small: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Drivers are in Latin-1 at times; the mail says so."""
    old = SMALL.encode().replace(b'\treturn 0;', b'\t/* caf\xe9 */\n\treturn 0;')
    (small / CARD).write_bytes(old)
    commit(small, 'misc: card: Have a coffee')
    done = patches(small, tmp_path / 'out', environment, '--no-build')
    assert done.returncode == 0, done.stderr
    mail, = (tmp_path / 'out').glob('*.patch')
    assert email.message_from_bytes(
        mail.read_bytes()).get_content_charset() == 'iso-8859-1'
    git(small, 'am', '-q', str(mail))
    assert (small / CARD).read_bytes() == old.replace(
        b'pci_unmap_single(pdev', b'dma_unmap_single(&pdev->dev').replace(
            b'PCI_DMA_TODEVICE', b'DMA_TO_DEVICE')
    done = subprocess.run(
        ['git', 'send-email', '--dry-run', '--quiet', '--confirm=never',
         '--from=A Person <a@example.org>', '--suppress-cc=all', str(mail)],
        capture_output=True, check=False, cwd=small,
        stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def _unit(name: str, count: int) -> steps.Unit:
    unit = steps.Unit(name, (name + '.c',), ((name + '.c',),))
    unit.patches = [steps.Patch(steps.RENAME, unit, {name + '.c': b''}, [], [])
                    for _ in range(count)]
    return unit


def test_many_patches_are_several_series() -> None:
    """None has more than 15, and a driver's stay together."""
    every = mails.split([_unit('a', 6), _unit('b', 6), _unit('c', 4),
                         _unit('d', 1)])
    assert [(one.folder, [unit.name for unit in one.units])
            for one in every] == [('01-a', ['a', 'b']), ('02-c', ['c', 'd'])]
    assert [one.folder for one in mails.split([_unit('a', 15)])] == ['']


def _chain(*drivers: tuple[str, ...]) -> run.Stepped:
    return run.Stepped([(os.path.basename(files[0])[:-2], files)
                        for files in drivers], {}, [], [])


@pytest.mark.parametrize('drivers,changed,names', [
    # a folder of modules with one header is one driver
    ([('d/f/a.c', 'd/f/h.h'), ('d/f/b.c', 'd/f/h.h')], ['d/f/a.c', 'd/f/b.c'],
     ['f']),
    # those of several folders are one only if what they share changes
    ([('d/f/a.c', 'd/h.h'), ('d/g/b.c', 'd/h.h')], ['d/f/a.c', 'd/g/b.c'],
     ['a', 'b']),
    ([('d/f/a.c', 'd/h.h'), ('d/g/b.c', 'd/h.h')], ['d/f/a.c', 'd/h.h'],
     ['d']),
    ([('d/f/a.c', 'd/f/a.h')], ['d/f/a.h'], ['a']),
])
def test_what_is_one_driver(drivers, changed, names) -> None:
    made = [(steps.RENAME, {path: b'' for path in changed}, [], [])]
    units = list(steps._units(_chain(*drivers), made))
    assert [unit.name for unit in units] == names
    assert sorted(path for unit in units for path in unit.changed) \
        == sorted(changed)


@pytest.mark.parametrize('history,begin,capital', [
    (['scsi: foo: Fix it', 'scsi: foo: Fix that', 'foo: mend'], 'scsi: foo: ',
     True),
    # what was done to the whole kernel says nothing of a driver
    (['treewide: Spell', 'treewide: Spell', 'foo: mend it'], 'foo: ', False),
    # the name of the driver counts more than how often something stands there
    (['net: Use it', 'net: Use that', 'foo: mend it'], 'foo: ', False),
    (['media: bar: use x', 'media: bar: Use y', 'media: bar: use z'],
     'media: bar: ', False),
    (['Linux 2.6.12-rc2', 'no prefix at all'], 'net: foo: ', False),
])
def test_prefix(history: list[str], begin: str, capital: bool) -> None:
    class History:
        def subjects(self, _paths, _count):
            return history

    unit = _unit('foo', 1)
    unit.patches[0].contents = {'drivers/net/ethernet/foo.c': b''}
    assert wording.prefix(History(), unit) == (begin, capital)


def test_subjects_are_unique_and_fit() -> None:
    class History:
        def subjects(self, _paths, _count):
            return ['media: a-rather-long-prefix: bar: x'] * 3

    units = [_unit('one', 2), _unit('two', 1)]
    for unit in units:
        for patch in unit.patches:
            patch.contents = {'drivers/media/bar/%s.c' % unit.name: b''}
    wording.subjects(History(), units)
    found = [patch.subject for unit in units for patch in unit.patches]
    assert len(set(found)) == 3
    assert all(0 < len(one) <= 75 for one in found)


def test_long_proof_is_told_short() -> None:
    """Where all ways to an allocation begin, not each call on them."""
    calls = ['%s() calls %s() with no lock held' % pair for pair in (
        ('probe', 'start'), ('start', 'ring'), ('work', 'ring'),
        ('ring', 'fill'))]
    fix = findings.Finding(
        'pci_dma_compat', 'fix', 'a.c', 1, 1, 'fill', 'warning', 'High', '',
        tuple(findings.Evidence('a.c', 1, said) for said in (
            'probe() is the probe of struct pci_driver',
            'work() is registered by INIT_WORK() (a.c:12)', *calls)))
    assert wording._proofs([fix]) == [
        'fill(): probe() is the probe of struct pci_driver; work() is '
        'registered by INIT_WORK(); on all ways from there, fill(), ring() '
        'and start() are called with no lock held']


def test_objects_of_a_header() -> None:
    """All that its driver has; what is #included has no object."""
    unit = steps.Unit('foo', (), (('d/a.c', 'd/b.c', 'd/t.c', 'd/h.h'),
                                  ('e/x.c',)))
    texts = {'d/a.c': b'#include "t.c"\n#include "h.h"\n'}
    for changed, names in ((['d/b.c'], ['d/b.o']),
                           (['d/h.h'], ['d/a.o', 'd/b.o']),
                           (['d/t.c'], ['d/a.o', 'd/b.o']),
                           (['e/x.c'], ['e/x.o'])):
        assert build.objects(unit, changed,
                             lambda path: texts.get(path, b'')) == names


@pytest.mark.parametrize('width,dark', [(390, True), (1280, False)])
def test_preview_in_a_browser(width: int, dark: bool, made: Made,
                              tmp_path: Path) -> None:
    seen = look((made.out / 'index.html').read_bytes(), tmp_path, width, dark,
                "tell({shown: all('.hunk').length})")
    require_readable(seen, dark)
    assert seen['shown'] == sum(body(mail).count('\n@@ ')
                                for mail in made.mails)


def test_several_drivers_and_all_kinds(
        small: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Each driver has a patch of its own, in the order of their paths."""
    for rule, name in (('virt_to_bus', 'devm'), ('dma_map_sg', 'ignored')):
        folder = small / 'drivers/misc' / name
        folder.mkdir()
        shutil.copy(ROOT / 'tests/fixtures' / rule / (name + '.c'), folder)
        (folder / 'Makefile').write_text('obj-m := %s.o\n' % name)
    commit(small, 'Import of more')
    done = patches(small, tmp_path / 'out', environment, 'drivers/misc/devm',
                   'drivers/misc/ignored', '--no-build')
    assert done.returncode == 0, done.stderr
    found = {subject(path): ' '.join(body(path).split()) for path in sorted(
        (tmp_path / 'out').glob('*.patch'))}
    assert list(found) == [
        '[PATCH 0/3] misc: move card, devm and ignored to the DMA API',
        '[PATCH 1/3] misc: card: Use the DMA API instead of its PCI wrappers',
        '[PATCH 2/3] misc: devm: replace virt_to_bus() by DMA addresses',
        '[PATCH 3/3] misc: ignored: check for failed DMA mappings']
    told = list(found.values())
    assert 'use the handle' in told[2] and 'Linux 6.0 removed' in told[2]
    assert 'the result of dma_map_sg() is' in told[3]
    assert 'Fixes:' not in told[3]
    assert 'The series builds' not in told[0]


def test_linked_worktree(small: Path, environment: dict[str, str],
                         tmp_path: Path) -> None:
    """A worktree of the user's does as well, and stays as it is, too."""
    git(small, 'worktree', 'add', '-q', '-b', 'other', str(tmp_path / 'tree'))
    before = state(small), state(tmp_path / 'tree')
    (tmp_path / 'out').mkdir()      # an empty folder is as good as none
    done = patches(tmp_path / 'tree', tmp_path / 'out', environment,
                   '--no-build')
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / 'out').glob('*.patch'))) == 1
    assert (state(small), state(tmp_path / 'tree')) == before


def test_one_driver_of_two_does_not_build(
        small: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """It is left out, and told; the other has its patch."""
    (small / 'drivers/misc/other').mkdir()
    (small / 'drivers/misc/other/other.c').write_text('#error\n' + SMALL)
    (small / 'drivers/misc/other/Makefile').write_text('obj-m := other.o\n')
    commit(small, 'misc: other: Add it')
    done = patches(small, tmp_path / 'out', environment,
                   'drivers/misc/other')
    assert done.returncode == 2
    assert 'other.o does not build before any change' in done.stderr
    mail, = (tmp_path / 'out').glob('*.patch')
    assert CARD in body(mail) and 'other.c' not in body(mail)
    assert 'other.o does not build' in ' '.join(
        (tmp_path / 'out/SERIES.txt').read_text().split())


# --- What may go wrong ------------------------------------------------------

def test_warning_drops_patch(linux: Path, environment: dict[str, str],
                             tmp_path: Path) -> None:
    """A patch that adds a warning is not written, nor what builds on it."""
    before = state(linux)
    done = patches(linux, tmp_path / 'out', environment, '--make',
                   'DEFINE=-DNO_MASK')
    assert done.returncode == 2
    names = [re.sub(r'^\[.*?\] ', '', subject(path)) for path in sorted(
        (tmp_path / 'out').glob('*.patch')) if 'cover' not in path.name]
    assert names == ['misc: card: Use the DMA API instead of its PCI wrappers',
                     'misc: card: Check for failed DMA mappings']
    for said in (done.stderr, (tmp_path / 'out/SERIES.txt').read_text()):
        said = ' '.join(said.split())
        assert 'Use dma_set_mask_and_coherent(): ' in said
        assert 'it adds a warning: ' + CARD + ': warning: implicit ' \
            'declaration of function' in said
        assert 'Allocate DMA memory with GFP_KERNEL: ' in said
        assert 'it builds on' in said
    assert state(linux) == before


def _no_git(top: Path) -> str:
    shutil.rmtree(top / '.git')
    return 'is no git repository'


def _dirty(top: Path) -> str:
    (top / CARD).write_text(BEGUN)
    return 'has changes that are not committed (%s)' % CARD


def _staged(top: Path) -> str:
    _dirty(top)
    git(top, 'add', '-A')
    return 'has changes that are not committed (%s)' % CARD


def _detached(top: Path) -> str:
    git(top, 'checkout', '-q', '--detach')
    return 'HEAD is detached'


def _shallow(top: Path) -> str:
    git(top.parent, 'clone', '-q', '--depth=1', 'file://%s' % top, 'shallow')
    shutil.rmtree(top)
    (top.parent / 'shallow').rename(top)
    return 'git fetch --unshallow'


def _no_maintainers(top: Path) -> str:
    (top / 'scripts/get_maintainer.pl').unlink()
    commit(top, 'scripts: Remove one')
    return 'scripts/get_maintainer.pl'


def _partial(top: Path) -> str:
    git(top, 'config', 'remote.origin.promisor', 'true')
    return 'is a partial clone'


def _nobody(top: Path) -> str:
    git(top, 'config', 'user.name', '')
    return 'git does not know who you are'


def _broken(top: Path) -> str:
    (top / 'include/linux/module.h').write_text('#error no\n')
    commit(top, 'include: Break it')
    return 'card.o does not build before any change'


def _untracked(top: Path) -> str:
    (top / '.gitignore').write_text('card.c\n')
    git(top, 'rm', '-q', '--cached', CARD)
    commit(top, 'misc: card: Forget it')
    return '%s: is not in git' % CARD


#: A driver of which one patch is made, quickly.
SMALL = '''\
#include <linux/module.h>
#include <linux/pci.h>

int card_stop(struct pci_dev *pdev, dma_addr_t dma);
int card_stop(struct pci_dev *pdev, dma_addr_t dma)
{
	pci_unmap_single(pdev, dma, PAGE_SIZE, PCI_DMA_TODEVICE);
	return 0;
}
'''


@pytest.fixture
def small(linux: Path) -> Path:
    """The repository with a smaller driver."""
    (linux / CARD).write_text(SMALL)
    commit(linux, 'misc: card: Only stop')
    return linux


@pytest.mark.parametrize('spoil', [
    _no_git, _dirty, _staged, _detached, _shallow, _partial, _nobody,
    _no_maintainers, _broken, _untracked], ids=lambda spoil: spoil.__name__.strip('_'))
def test_bad_tree(spoil, small: Path, environment: dict[str, str],
                  tmp_path: Path) -> None:
    """One line says why, nothing is written, the tree is as it was."""
    said = spoil(small)
    before = state(small)
    done = patches(small, tmp_path / 'out', environment)
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines()
            if line.startswith('cocci-dma: ')]
    assert len(told) == 1 and said in told[0]
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'out').exists()
    assert state(small) == before


def test_bad_target(linux: Path, environment: dict[str, str],
                    tmp_path: Path) -> None:
    full = tmp_path / 'full'
    full.mkdir()
    (full / 'mine').write_text('mine')
    before = state(linux)
    for target, said in ((full, 'is not empty'),
                         (full / 'mine', 'is no folder'),
                         (linux / 'out', 'lies in the kernel tree')):
        done = patches(linux, target, environment)
        assert done.returncode == 2
        assert said in done.stderr and done.stderr.count('\n') == 1
    assert os.listdir(full) == ['mine']
    assert state(linux) == before


def test_nothing_to_convert(linux: Path, environment: dict[str, str],
                            tmp_path: Path) -> None:
    (linux / CARD).write_text('int card;\n')
    commit(linux, 'misc: card: Empty it')
    before = state(linux)
    done = patches(linux, tmp_path / 'out', environment)
    assert done.returncode == 0
    assert 'nothing to convert' in done.stdout
    assert not (tmp_path / 'out').exists()
    assert state(linux) == before


def test_changed_meanwhile(small: Path, environment: dict[str, str],
                           tmp_path: Path) -> None:
    done = patches(small, tmp_path / 'out', environment, '--make',
                   'CHANGE=%s' % (small / CARD))
    assert done.returncode == 2
    assert 'it was clean when the series was begun' in done.stderr
    assert not (tmp_path / 'out').exists()


def test_what_a_killed_run_left(small: Path, environment: dict[str, str],
                                tmp_path: Path) -> None:
    """The copy of the sources is put right, whatever is in it."""
    assert patches(small, tmp_path / 'out', environment).returncode == 0
    copy, = Path(environment['XDG_CACHE_HOME']).glob('cocci-dma/series/*/')
    (copy / 'index.lock').touch()
    (copy / 'source' / CARD).write_text('#error left\n')
    done = patches(small, tmp_path / 'again', environment)
    assert done.returncode == 0, done.stderr
    mail, = (tmp_path / 'again').glob('*.patch')
    assert 'W=1: 0 warnings before, 0 after' in ' '.join(body(mail).split())


def test_damaged_repository(small: Path, environment: dict[str, str],
                            tmp_path: Path) -> None:
    name = git(small, 'rev-parse', 'HEAD:' + os.path.dirname(CARD)).strip()
    (small / '.git/objects' / name[:2] / name[2:]).unlink()
    done = patches(small, tmp_path / 'out', environment, '--no-build')
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    assert done.stderr.startswith('cocci-dma: ') \
        and done.stderr.count('\n') == 1
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupt(number: int, small: Path, environment: dict[str, str],
                   tmp_path: Path) -> None:
    before = state(small)
    sign = tmp_path / 'building'
    process = subprocess.Popen(
        [sys.executable, ROOT / 'cocci-dma', 'patches', 'drivers/misc/card',
         '--kdir', small, '-o', tmp_path / 'out', '--make',
         'SLOW=%s' % sign], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sign.exists()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 2 and b'interrupted' in said
    assert not (tmp_path / 'out').exists()
    assert not os.listdir(environment['TMPDIR'])
    assert state(small) == before

# SPDX-License-Identifier: GPL-2.0-only
"""Which files make up a driver (cocci/evidence/kbuild.py)."""
from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidence import kbuild


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder; it is the current one, and no driver is above it."""
    here = tmp_path / 'drv'
    here.mkdir()
    (tmp_path / '.git').mkdir()
    monkeypatch.chdir(here)
    for cached in (kbuild._parse, kbuild._makefile, kbuild._modules_of,
                   kbuild._flags, kbuild._included_names, kbuild._search,
                   kbuild._users):
        cached.cache_clear()
    return here


def write(**files: str) -> None:
    """Make files; `__` in a name stands for a dot, `___` for a slash."""
    for name, text in files.items():
        path = Path(name.replace('___', '/').replace('__', '.'))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def groups(*paths: str) -> dict[str, tuple[str, ...]]:
    """name -> files, for the drivers at `paths`."""
    return {d.name: d.files for d in kbuild.drivers(paths or ['.'])}


@pytest.mark.parametrize('kbuild_text', [
    'obj-m := foo.o\nfoo-y := a.o b.o\n',
    'obj-y += foo.o\nfoo-objs := a.o \\\n\tb.o   # comment\n',
    'obj-$(CONFIG_FOO) += foo.o\nfoo-y := a.o\nfoo-$(CONFIG_B) += b.o\n',
    'obj-m:=foo.o\nfoo-objs-y=a.o\nfoo-objs-$(CONFIG_B)+=b.o\n',
    'obj-m := foo.o\nPARTS := a.o $(MORE)\nMORE = b.o\nfoo-y := $(PARTS)\n',
    'obj-m := foo.o\nfoo-y := $(obj)/a.o mid.o\nmid-y := b.o\n',
    'ifneq ($(KERNELRELEASE),)\n  obj-m := foo.o\n  foo-y := a.o b.o\nelse\n'
    'all:\n\tmake -C x M=$(CURDIR)\nendif\n',
], ids=['y', 'objs', 'config', 'objs-y', 'variable', 'nested', 'wrapper'])
def test_composite_object_is_one_driver(folder: Path,
                                        kbuild_text: str) -> None:
    write(Makefile=kbuild_text, a__c='', b__c='')
    assert groups() == {'foo': ('a.c', 'b.c')}


def test_single_objects_are_drivers_of_their_own(folder: Path) -> None:
    write(Kbuild='obj-m := a.o b.o',
          Makefile='obj-m := foo.o\nfoo-y := a.o b.o', a__c='', b__c='')
    assert groups() == {'a': ('a.c',), 'b': ('b.c',)}


def test_unmentioned_source_is_not_dropped(folder: Path) -> None:
    write(Kbuild='obj-m := a.o', a__c='', stray__c='')
    assert groups() == {'a': ('a.c',), 'stray': ('stray.c',)}


def test_folder_without_kbuild_is_one_driver(folder: Path) -> None:
    write(a__c='', b__c='', Makefile='all:\n\techo no kernel module\n')
    assert groups() == {'drv': ('a.c', 'b.c')}


def test_source_below_its_kbuild(folder: Path) -> None:
    write(Kbuild='obj-m := foo.o\nfoo-y := a.o hw/core.o', a__c='',
          hw___core__c='')
    assert groups() == {'foo': ('a.c', 'hw/core.c')}
    assert groups('hw') == {'foo': ('a.c', 'hw/core.c')}


def test_a_file_stands_for_its_driver(folder: Path) -> None:
    write(Kbuild='obj-m := foo.o bar.o\nfoo-y := a.o b.o', a__c='', b__c='',
          bar__c='')
    assert groups('b.c') == {'foo': ('a.c', 'b.c')}
    assert kbuild.driver_of('./b.c').sources == ('a.c', 'b.c')
    absolute = kbuild.driver_of(str(folder / 'b.c'))
    assert absolute.sources == (str(folder / 'a.c'), str(folder / 'b.c'))


def test_modules_that_share_a_source_are_one(folder: Path) -> None:
    write(Kbuild='obj-m := x.o y.o\nx-y := a.o common.o\ny-y := b.o common.o',
          a__c='', b__c='', common__c='')
    assert list(groups().values()) == [('a.c', 'b.c', 'common.c')]


def test_headers_come_transitively(folder: Path) -> None:
    write(Kbuild='obj-m := a.o', a__c='#include "a.h"\n#include <no.h>\n',
          a__h='#include "../shared.h"\n', no__h='')
    Path('../shared.h').write_text('')
    assert groups() == {'a': ('a.c', '../shared.h', 'a.h')}


@pytest.mark.parametrize('flag', [
    'ccflags-y += -I$(src)/../inc', 'EXTRA_CFLAGS = -I $(PWD)/../inc',
    'CFLAGS_a.o := -I$(srctree)/$(src)/../inc',
    'subdir-ccflags-y := -DX -I$(src)/../inc',
    'EXTRA_CFLAGS += -I./../inc', 'KBUILD_CFLAGS += -I"$(M)/../inc"',
    'PWD := $(shell pwd)\nccflags-y := -I$(PWD)/../inc',
    'ccflags-y := -I$(src)/..\nccflags-y += -isystem $(obj)/../inc',
    'TOP ?= $(KBUILD_EXTMOD)/..\nINC = $(TOP)/inc\nccflags-y := -I$(INC)',
    'TOP := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))\n'
    'NOSTDINC_FLAGS := -I$(TOP)/../inc',
    'D = $(src)\nifdef OLD\nD = $(src)/..\nendif\nccflags-y = -I$(D)/inc',
    'all:\n\tmake -C /k M=$(PWD) EXTRA_CFLAGS="-DX -I$(PWD)/../inc" modules',
    'obj-y := sub/\nccflags-y := -I/usr/include -I$(abspath $(src)/../inc)'])
@pytest.mark.parametrize('name', ['"far.h"', '<far.h>'])
def test_headers_of_include_folders(folder: Path, flag: str,
                                    name: str) -> None:
    Path('../inc').mkdir()
    Path('../inc/far.h').write_text('')
    write(Kbuild='obj-m := a.o\n%s\n' % flag, a__c='#include %s\n' % name)
    assert groups() == {'a': ('a.c', '../inc/far.h')}


def test_flags_of_a_makefile_that_builds_nothing_itself(folder: Path) -> None:
    write(Makefile='obj-m := sub/\nsubdir-ccflags-y := -I$(src)/inc\n',
          sub___Makefile='obj-m := a.o\nccflags-y := -I$(M)/more\n',
          sub___a__c='#include <far.h>\n#include "more.h"\n',
          inc___far__h='', more___more__h='')
    assert groups() == {'a': ('sub/a.c', 'inc/far.h', 'more/more.h')}


def test_flags_beside_a_kbuild_file(folder: Path) -> None:
    write(Kbuild='obj-m := a.o\n', Makefile='export EXTRA_CFLAGS := -I$(PWD)/inc',
          a__c='#include <far.h>\n', inc___far__h='')
    assert groups() == {'a': ('a.c', 'inc/far.h')}


def test_angle_brackets_do_not_mean_the_folder_itself(folder: Path) -> None:
    write(Kbuild='obj-m := a.o\n', a__c='#include <a.h>\n', a__h='')
    assert groups() == {'a': ('a.c',)}


def test_forced_header(folder: Path) -> None:
    write(Kbuild='obj-m := a.o\nccflags-y := -include $(src)/compat.h\n',
          a__c='', compat__h='')
    assert groups() == {'a': ('a.c', 'compat.h')}


def test_included_source_belongs_to_its_includer(folder: Path) -> None:
    write(Kbuild='obj-m := a.o', a__c='#include "part.c"\n',
          part__c='#include "part.h"\n', part__h='')
    assert groups() == {'a': ('a.c', 'part.c', 'part.h')}
    assert groups('part.c') == {'a': ('a.c', 'part.c', 'part.h')}


def test_symbolic_links_are_not_followed(folder: Path) -> None:
    Path('../outside.c').write_text('')
    Path('../outside.h').write_text('')
    write(Kbuild='obj-m := a.o link.o', a__c='#include "link.h"\n')
    os.symlink('../outside.c', 'link.c')
    os.symlink('../outside.h', 'link.h')
    assert groups() == {'a': ('a.c',)}


def test_other_users_of_a_header(folder: Path) -> None:
    write(Kbuild='obj-m := a.o b.o', a__c='#include "x.h"\n', x__h='',
          b__c='#include "mid.h"\n', mid__h='#include "x.h"\n', c__c='',
          sub___d__c='#include "../x.h"\n')
    Path('../sibling').mkdir()
    Path('../sibling/e.c').write_text('#include "../drv/x.h"\n')
    Path('../sibling/f.c').write_text('#include "x.h"\n')
    driver = kbuild.driver_of('a.c')
    assert kbuild.other_users('x.h', driver) == ['b.c', 'sub/d.c',
                                                 '../sibling/e.c']


def test_other_users_are_looked_for_in_the_original_tree(
        folder: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    write(Kbuild='obj-m := a.o b.o', a__c='#include "x.h"\n', x__h='',
          b__c='#include "x.h"\n')
    copy = tmp_path / 'copy'
    copy.mkdir()
    monkeypatch.chdir(copy)
    write(a__c='#include "x.h"\n', x__h='')
    monkeypatch.setenv(kbuild.TREE_VARIABLE, str(folder))
    driver = kbuild.Driver('a', ('a.c',), ('x.h',))
    assert kbuild.other_users('x.h', driver) == [str(folder / 'b.c')]


def test_variables_that_refer_to_themselves(tmp_path: Path) -> None:
    """Once for each value would be more than there is time for."""
    lines = ['KBUILD_CFLAGS := $(filter-out -a%d, $(KBUILD_CFLAGS))' % number
             for number in range(40)]
    (tmp_path / 'Kbuild').write_text('\n'.join([
        'cflags-y := -g -I$(src)/inc $(KBUILD_CFLAGS)',
        'KBUILD_CFLAGS := $(subst a,,$(cflags-y))', *lines,
        'EXTRA_CFLAGS := $(KBUILD_CFLAGS)', 'obj-m := a.o']) + '\n')
    (tmp_path / 'inc').mkdir()
    (tmp_path / 'inc/x.h').write_text('int x;\n')
    (tmp_path / 'a.c').write_text('#include <x.h>\n')
    driver = kbuild.driver_of(str(tmp_path / 'a.c'))
    assert driver.headers == (str(tmp_path / 'inc/x.h'),)

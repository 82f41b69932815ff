# SPDX-License-Identifier: GPL-2.0-only
"""The whole bench: folders of drivers in, results out."""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Iterable, Sequence

from cocci_dma import Trouble, rules, run

from . import case, forms, initramfs, kernel, matrix
from .qemu import EDU, MEMORY, TIME_LIMIT, Qemu, require


@dataclass
class Options:
    """How to run the bench; what is for other devices than edu first.

    program: drives the device in the guest, instead of our own for a
    character device that keeps what is written to it.  A case may bring a
    machine and a program of its own, and be of another kernel.
    """

    devices: Sequence[str] = (EDU,)
    qemu_options: Sequence[str] = ()
    memory: int = MEMORY
    program: Path | None = None
    config: Path | None = None
    profile: str = 'default'
    time_limit: float = TIME_LIMIT
    progress: matrix.Progress | None = None
    convert: run.Options = field(default_factory=run.Options)


@dataclass
class Results:
    """What came of it: rows in the order of the folders.

    left_out: case -> the rules without which it makes no sense.  profile,
    devices: the kernel, and what was in the machine.
    """

    rows: list[matrix.Row]
    conversions: dict[str, forms.Conversion]
    left_out: dict[str, list[str]]
    profile: str = 'default'
    devices: Sequence[str] = (EDU,)


def bench(folders: Iterable[Path], options: Options) -> Results:
    """Convert, build and boot the drivers in `folders`.  Raises Trouble."""
    every = _distinct(map(case.read, folders))
    cases = [one for one in every if not missing_rules(one)]
    require()
    programs = _programs(cases, options)
    extra = ''
    for program in programs:
        if program.suffix != '.c':
            _require_runnable(program)
    if options.config is not None:
        extra = _read(options.config)
    profile = _profile(cases, options)
    devices = _devices(cases, options)
    try:
        built = kernel.prepare(profile, extra)
        qemu = Qemu(built, devices,
                    (*options.qemu_options, *_machine_options(cases)),
                    options.memory, options.time_limit)
        with run.scratch() as folder:
            work = Path(folder).resolve()
            guest = matrix.Guest(
                initramfs.build_init(work),
                forms.build_inject(built, work / 'inject'), options.program,
                {one: initramfs.compile_program(work / one.stem, [one])
                 for one in programs if one.suffix == '.c'},
                initramfs.busybox() if any(map(_is_script, programs))
                else None)
            made, conversions = forms.make(cases, built, work,
                                           options.convert)
            rows = matrix.Matrix(built, qemu, guest, work,
                                 options.progress).run(made)
    except OSError as error:
        raise Trouble('%s: %s' % (error.filename or 'the bench',
                                  error.strerror)) from None
    return Results(rows, conversions,
                   {one.name: missing_rules(one) for one in every
                    if missing_rules(one)}, profile, devices)


def missing_rules(one: case.Case) -> list[str]:
    """The rules that a case needs and that there are not."""
    known = {rule.name for rule in rules.load()}
    return [name for name in one.needs if name not in known]


def _programs(cases: Sequence[case.Case], options: Options) -> list[Path]:
    """All that drive a device in the guest, each once."""
    common = (options.program,) if options.program else ()
    return list(dict.fromkeys(program for one in cases
                              for program in one.programs or common))


def _profile(cases: Sequence[case.Case], options: Options) -> str:
    """The kernel for all of the cases.  Trouble when they need several."""
    releases = {one.tree.release if one.tree else '' for one in cases}
    if len(releases) > 1:
        raise Trouble('drivers of Linux %s run on its kernel, others do not: '
                      'run them one after the other' % max(releases))
    return max(releases, default='') or options.profile


def _devices(cases: Sequence[case.Case], options: Options) -> list[str]:
    """What is in the machine: all that the cases are for, each once."""
    return list(dict.fromkeys(
        device for one in cases for device in
        (one.machine.devices if one.machine else options.devices)))


def _machine_options(cases: Sequence[case.Case]) -> list[str]:
    """The words for QEMU that the devices need; those for one only once."""
    groups = dict.fromkeys(one.machine.options for one in cases
                           if one.machine)
    return [word for group in groups for word in group]


def _distinct(cases: Iterable[case.Case]) -> list[case.Case]:
    """The cases with names that differ."""
    named: dict[str, case.Case] = {}
    for one in cases:
        name, number = one.name, 2
        while name in named:
            name, number = '%s-%d' % (one.name, number), number + 1
        named[name] = replace(one, name=name)
    return list(named.values())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8')
    except OSError as error:
        raise Trouble('%s: cannot be read: %s'
                      % (path, error.strerror)) from None
    except UnicodeDecodeError:
        raise Trouble('%s: is no text: name a file of CONFIG_ lines'
                      % path) from None


def _is_script(program: Path) -> bool:
    with program.open('rb') as file:
        return file.read(2) == b'#!'


def _require_runnable(program: Path) -> None:
    """Trouble when the guest could not start it."""
    try:
        with program.open('rb') as file:
            first = file.readline(80)
    except OSError as error:
        raise Trouble('%s: cannot be read: %s'
                      % (program, error.strerror)) from None
    if first.startswith(b'#!'):
        if first.split()[0] != b'#!/bin/sh':
            raise Trouble('%s: the guest has only /bin/sh for scripts'
                          % program)
    elif not initramfs.is_static(program):
        raise Trouble('%s: neither a script nor a static program: build it '
                      'with gcc -static' % program)

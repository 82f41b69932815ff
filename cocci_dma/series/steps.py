# SPDX-License-Identifier: GPL-2.0-only
"""Which patches there are: one a driver and kind of change.

The kinds come in an order in which each builds on the one before: renames,
checks, virt_to_bus(), masks, the reasons why allocations may sleep, managed
memory.  All of them together are what `convert` makes of the driver.
"""
from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Iterable, Iterator, Mapping, NamedTuple, Sequence

from .. import Trouble, groups, run
from ..findings import Finding
from ..report import is_left_over
from ..rules import Rule


class Kind(NamedTuple):
    """A kind of change.  rules: those that it runs first."""

    name: str
    rules: tuple[str, ...]


RENAME = Kind('rename', ('pci_dma_compat',))
CHECK = Kind('check', ('dma_mapping_error', 'dma_map_sg'))
VIRT_TO_BUS = Kind('virt_to_bus', ('virt_to_bus',))
MASK = Kind('mask', ('dma_set_mask_and_coherent',))
#: Made of the difference that the flags make to the renames.
GFP = Kind('gfp', ())
DMAM = Kind('dmam', ('dmam_alloc_coherent',))

#: A step also runs the rules of those before it, for what it brought in.
KINDS = (RENAME, CHECK, VIRT_TO_BUS, MASK, GFP, DMAM)

#: The virtual rule of pci_dma_compat that leaves all flags GFP_ATOMIC.
_ATOMIC = 'atomic'


@dataclass
class Patch:
    """A change to one driver, not yet a commit.

    contents: the files that it changes, as they are after it.  fixes: what it
    converts; left: what its rules refuse, or which flags stay.  Both have
    lines of the files that it changes, as they are before it.  commit: what
    holds it, once there is one; dropped: why there is none.
    """

    kind: Kind
    unit: Unit
    contents: Mapping[str, bytes]
    fixes: Sequence[Finding]
    left: Sequence[Finding]
    parent: str = ''
    commit: str = ''
    subject: str = ''
    dropped: str = ''

    @property
    def functions(self) -> list[str]:
        """The functions that it changes, in order."""
        return list(dict.fromkeys(
            fix.function for fix in self.fixes if fix.function))


@dataclass
class Unit:
    """What is one driver to people.

    name: that of its module, or of the folder that several share.  files: all
    that belong to it; modules: those of each of its modules.
    """

    name: str
    files: tuple[str, ...]
    modules: tuple[tuple[str, ...], ...]
    patches: list[Patch] = field(default_factory=list)

    @property
    def changed(self) -> list[str]:
        """The files that its patches change."""
        return sorted({path for patch in self.patches
                       for path in patch.contents})


def plan(paths: Sequence[str], rules: Sequence[Rule], options: run.Options,
         kdir: str) -> tuple[run.Result, list[Unit], dict[str, bytes]]:
    """The drivers at paths with their patches, in the order of their paths;
    and the files that change, as they were read.

    The result has what is left to do after all of them.  Raises Trouble.
    """
    rules = [rule for rule in rules if rule.converts]
    kinds = [kind for kind in KINDS if any(rule.name in kind.rules
                                           for rule in rules)]
    # where flags make a difference, without them as well
    weaker = _cumulative([kind for kind in kinds if kind is not DMAM], [
        rule.having(_ATOMIC) for rule in rules]) if RENAME in kinds else []
    result, chains = run.stepwise(paths, _cumulative(kinds, rules), weaker,
                                  options, kdir)
    _require_inside(result.tree, chains)
    units = []
    before: dict[str, bytes] = {}
    for chain in chains:
        made = _patches(chain, kinds)
        units += _units(chain, made)
        before |= {path: chain.sources[path].original
                   for _, contents, _, _ in made for path in contents}
    return result, units, before


def _require_inside(tree: groups.Tree,
                    chains: Iterable[run.Stepped]) -> None:
    for chain in chains:
        for path in chain.sources:
            if tree.base == '/' or path.startswith('../'):
                raise Trouble('%s: lies outside the kernel tree: patches are '
                              'made of drivers in it; `cocci-dma convert` '
                              'gives a diff of others' % tree.shown(path))


def _cumulative(kinds: Sequence[Kind],
                rules: Sequence[Rule]) -> list[list[Rule]]:
    """For each kind its rules, and those of the kinds before."""
    return [[rule for rule in rules if any(
        rule.name in kind.rules for kind in kinds[:number + 1])]
        for number in range(len(kinds))]


_Made = tuple[Kind, Mapping[str, bytes], Sequence[Finding], Sequence[Finding]]


def _patches(chain: run.Stepped, kinds: Sequence[Kind]) -> list[_Made]:
    """(kind, the files that it changes, what it fixes, what it leaves)."""
    steps = list(zip(kinds, chain.steps))
    if chain.others:
        first = [kind for kind in kinds if kind is not DMAM]
        steps = [*zip(first, chain.others), (GFP, _flags(chain)),
                 *steps[len(first):]]
    made = []
    held: Mapping[str, bytes] = {}
    for kind, step in steps:
        contents = {path: content for path, content in step.contents.items()
                    if held.get(path) != content}
        if contents:
            made.append((kind, contents, step.fixes, [
                finding for finding in step.left if kind is GFP
                or finding.rule in kind.rules and is_left_over(finding)]))
        held = step.contents
    return made


def _flags(chain: run.Stepped) -> run.Step:
    """The step that is the difference between flags.  Raises Trouble."""
    before = chain.others[-1].contents
    after = chain.steps[len(chain.others) - 1].contents
    for path, content in after.items():
        if not _only_flags(before.get(path, b''), content):
            raise Trouble('%s: its conversion depends on the GFP flags, and '
                          'cannot be told in two patches: this is a fault of '
                          'cocci-dma' % path)
    same = set(chain.others[0].fixes)
    fixes = [run.moved(fix, chain.sources[fix.path].content, before[fix.path])
             for fix in chain.steps[0].fixes]
    return run.Step(after, [
        fix for fix, was in zip(fixes, chain.steps[0].fixes)
        if was not in same], [
            fix for fix, was in zip(fixes, chain.steps[0].fixes)
            if was in same and fix.evidence])


_TOKEN = re.compile(rb'\w+|\S')


def _only_flags(before: bytes, after: bytes) -> bool:
    """Do two texts differ but in what stands for GFP_ATOMIC, and in layout?"""
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    return len(old) == len(new) and all(
        one == other or one == b'GFP_ATOMIC' for one, other in zip(old, new))


# --- Drivers ----------------------------------------------------------------

def _units(chain: run.Stepped, made: Sequence[_Made]) -> Iterator[Unit]:
    """Drivers as people see them, each with its patches.

    Modules that share a file which changes are one; so are all modules of a
    folder, if they share headers, as far as they were named.
    """
    changed = {path for _, contents, _, _ in made for path in contents}
    folder = {os.path.dirname(path) for path in changed}
    sources = {os.path.dirname(path) for _, files in chain.drivers
               for path in files if path.endswith('.c')}
    whole = len(folder) == 1 and sources == folder
    parts = [chain.drivers] if whole else groups.chains(
        chain.drivers, lambda d: [p for p in d[1] if p in changed] or d[1][:1])
    for drivers in parts:
        files = tuple(sorted({path for _, files in drivers for path in files}))
        unit = Unit(_name(drivers, files), files,
                    tuple(files for _, files in drivers))
        for kind, contents, fixes, left in made:
            mine = {path: content for path, content in contents.items()
                    if path in files}
            if mine:
                unit.patches.append(Patch(
                    kind, unit, mine, *([f for f in found if f.path in files]
                                        for found in (fixes, left))))
        if unit.patches:
            yield unit


def _name(drivers: Sequence[tuple[str, tuple[str, ...]]],
          files: Sequence[str]) -> str:
    """The name of a module, or of the folder of several."""
    if len(drivers) == 1:
        return drivers[0][0]
    return os.path.basename(os.path.commonpath(
        [os.path.dirname(path) for path in files]))

# SPDX-License-Identifier: GPL-2.0-only
"""What a rule says about itself in the header of its .cocci file."""
from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Iterable

from . import COCCI, Trouble

#: Conversions build on one another in this order: first the interfaces that
#: others expect, then what rewrites whole buffers, then what adds checks to
#: calls that the former brought in, then what simplifies the result.
ORDER = (
    'pci_dma_compat',
    'dma_set_mask_and_coherent',
    'virt_to_bus',
    'dma_mapping_error',
    'dma_map_sg',
    'dmam_alloc_coherent',
)


#: Where the pages of our rules are.
PAGES = COCCI.parent / 'docs' / 'rules'


@dataclass(frozen=True)
class Rule:
    """One semantic patch.

    by_file: spatch need only see the files that hold a keyword, since no place
    is rewritten because of another file.  default: does it run unasked?
    given: the virtual rules of its own that are set.
    """

    name: str
    path: Path
    summary: str
    caveats: str
    confidence: str
    keywords: tuple[str, ...]
    options: tuple[str, ...]
    requires: str
    virtuals: frozenset[str]
    by_file: bool = False
    default: bool = True
    given: frozenset[str] = frozenset()

    @property
    def decides(self) -> bool:
        """Has it a decision in Python, which can be asked without spatch?"""
        return self.path.parent.joinpath(
            'evidence', self.name + '.py').exists()

    @property
    def page(self) -> str:
        """Its documentation, as Markdown; '' when it has no page."""
        try:
            return (PAGES / (self.name + '.md')).read_text(encoding='utf-8')
        except FileNotFoundError:
            return ''

    @property
    def converts(self) -> bool:
        """Does it rewrite (and not only report)?"""
        return 'patch' in self.virtuals

    def having(self, virtual: str) -> Rule:
        """The rule with one of its virtual rules set; itself when it has none
        of that name."""
        return replace(self, given=self.given | {virtual}) \
            if virtual in self.virtuals else self

    @cached_property
    def _pattern(self) -> re.Pattern[bytes]:
        words = '|'.join(map(re.escape, self.keywords)).encode()
        return re.compile(rb'\b(?:' + words + rb')\b')

    def concerns(self, content: bytes) -> bool:
        """May a file of this content hold a site of the rule?

        One word that occurs is enough; a rule without keywords always runs.
        """
        if not self.keywords:
            return True
        return self._pattern.search(content) is not None


def _parse(path: Path) -> Rule:
    text = path.read_text(encoding='utf-8')

    def field(name: str) -> str:
        found = re.search(r'^// %s:[ \t]*(.*)$' % name, text, re.M)
        return found.group(1).strip() if found else ''

    def block(marker: str) -> str:
        found = re.findall(r'^%s ?(.*)$' % marker, text, re.M)
        return '\n'.join(found).strip()

    virtuals: set[str] = set()
    for names in re.findall(r'^virtual[ \t]+(.*)$', text, re.M):
        virtuals.update(re.findall(r'\w+', names))
    return Rule(path.stem, path, block('///'), block('//#'),
                field('Confidence'),
                tuple(re.findall(r'[\w-]+', field('Keywords'))),
                tuple(field('Options').split()), field('Requires'),
                frozenset(virtuals), field('Scope') == 'file',
                field('Default') != 'off')


def load(folder: Path = COCCI) -> list[Rule]:
    """All rules of a folder: conversions in their order, then the others."""
    def place(rule: Rule) -> tuple[bool, int, str]:
        known = rule.name in ORDER
        return (not rule.converts,
                ORDER.index(rule.name) if known else len(ORDER), rule.name)

    rules = [_parse(path) for path in sorted(folder.glob('*.cocci'))]
    if not rules:
        raise Trouble('%s holds no semantic patch: the installation is '
                      'incomplete' % folder)
    return sorted(rules, key=place)


def select(rules: Iterable[Rule], names: Iterable[str]) -> list[Rule]:
    """The rules of these names, in the order of `rules`; for no name, those
    that run unasked.

    A name may also be the path of the rule's file, as in the kernel's COCCI=.
    """
    known = {rule.name: rule for rule in rules}
    wanted = set()
    for name in names:
        stem = name
        if name.endswith('.cocci'):
            path = Path(name)
            stem = path.stem
            if stem in known and path.resolve() != known[stem].path.resolve():
                raise Trouble('%s is not one of our rules; `cocci-dma rules` '
                              'lists them' % name)
        if stem not in known:
            raise Trouble('unknown rule %s; `cocci-dma rules` lists them'
                          % name)
        wanted.add(stem)
    return [rule for rule in known.values()
            if rule.name in wanted or not wanted and rule.default]

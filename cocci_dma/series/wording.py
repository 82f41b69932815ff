# SPDX-License-Identifier: GPL-2.0-only
"""What is said of a patch: its subject, its message, and what was tried.

Everything is made of facts: what the rules converted and why, the history of
the files, the difference itself.  The sentences around them are templates.
"""
from __future__ import annotations

import os
import re
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

from .. import VERSION, source, webpage
from ..findings import Finding
from . import build, repository
from .steps import CHECK, GFP, MASK, RENAME, VIRT_TO_BUS, DMAM, Patch, Unit

from evidence import pci_dma_compat  # from cocci/: see the package's __init__

try:
    import jinja2
except ModuleNotFoundError as _missing:
    raise webpage.lacks(_missing) from None

#: Columns of a message, and of a subject.
WIDTH = 72
SUBJECT = 75

#: Subjects that are looked at to learn how they begin.
_HISTORY = 50

#: Functions, and refusals, that a message names.
_NAMED = 12

_TITLES = {
    RENAME: 'use the DMA API instead of its PCI wrappers',
    CHECK: 'check for failed DMA mappings',
    VIRT_TO_BUS: 'replace virt_to_bus() by DMA addresses',
    MASK: 'use dma_set_mask_and_coherent()',
    GFP: 'allocate DMA memory with GFP_KERNEL',
    DMAM: 'use dmam_alloc_coherent()',
}

#: Steps of a proof that a message gives one by one.
_STEPS = 4

#: Places in a message: they are lines of a file that will have changed.
_PLACE = re.compile(r' \((?:[\w./-]+:\d+|line \d+)\)')


# --- Subjects ---------------------------------------------------------------

_PREFIX = re.compile(r'((?:[\w./+,*\[\]{}()-]+:? ?(?<=: ))+)(\S)')
#: What begins like a prefix, and is none of a driver.
_FOREIGN = re.compile(r'treewide|Revert|Merge|drivers|\[|all|kernel', re.I)


def prefix(scratch: repository.Scratch, unit: Unit) -> tuple[str, bool]:
    """How subjects of a driver begin, with the colon and blank; and whether a
    capital letter follows.

    That of most commits that touched its files, one that names the driver or
    its folder before all others; without any, it is made of the path.
    """
    changed = unit.changed
    found: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    for subject in scratch.subjects(changed, _HISTORY):
        match = _PREFIX.match(subject)
        if match and not _FOREIGN.match(match[1]):
            found[match[1]] += 1
            capital[match[1]] += match[2].isupper()
    files = {_plain(unit.name), *(_plain(os.path.splitext(os.path.basename(
        path))[0]) for path in changed)}
    folders = {_plain(os.path.basename(os.path.dirname(path)))
               for path in changed}
    last = {one: _plain(one.rstrip(': ').split(':')[-1]) for one in found}
    named = [one for one in found if last[one]]
    own = [one for one in named if any(
        name in last[one] or last[one] in name for name in files)] or [
            one for one in named if any(
                name and name in last[one] for name in folders)]
    best = max(own or found, key=lambda one: found[one], default='')
    if not best:
        return _of_path(changed[0], unit.name), False
    return best, capital[best] * 2 > found[best]


def _plain(name: str) -> str:
    return re.sub(r'[^a-z0-9]', '', name.lower())


def _of_path(path: str, name: str) -> str:
    folders = [part for part in os.path.dirname(path).split('/')
               if part not in ('drivers', '')]
    parts = [*folders[:1], *([name] if name not in folders[:1] else [])]
    return ''.join(part + ': ' for part in parts)


def subjects(scratch: repository.Scratch, units: Sequence[Unit]) -> None:
    """Give every patch a subject that no other has, and that fits."""
    taken: set[str] = set()
    for unit in units:
        begin, capital = prefix(scratch, unit)
        for patch in unit.patches:
            title = _title(patch)
            choices = [begin + title, '%s%s: %s' % (begin, unit.name, title),
                       _of_path(unit.changed[0], unit.name) + title,
                       *('%s: %s' % (path, title) for path in
                         (unit.changed[0], os.path.basename(unit.changed[0])))]
            if capital:
                choices[0] = begin + title[0].upper() + title[1:]
            patch.subject = next(
                (one for one in choices
                 if len(one) <= SUBJECT and one not in taken), '')
            number = 1
            while not patch.subject:
                number += 1
                end = ' (%d)' % number
                one = choices[0][:SUBJECT - len(end)] + end
                patch.subject = '' if one in taken else one
            taken.add(patch.subject)


def _title(patch: Patch) -> str:
    words = {fix.message.split(' ', 1)[0] for fix in patch.fixes}
    if patch.kind is RENAME and len(words) == 1:
        old = words.pop()
        new = pci_dma_compat.CONSTANTS.get(old)
        wrapper = pci_dma_compat.WRAPPERS.get(old.rstrip('()'))
        if new or wrapper:
            return 'replace %s by %s' % (old, new or wrapper.new + '()')
    return _TITLES[patch.kind]


# --- Messages ---------------------------------------------------------------

def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / 'templates'),
        undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters['joined'] = joined
    return environment


def render(template: str, **values: Any) -> str:
    """A text from a template, its paragraphs wrapped."""
    return wrapped(_environment().get_template(template).render(values))


def wrapped(text: str) -> str:
    """Paragraphs and list items in WIDTH columns; what is indented stays."""
    out = []
    for block in re.split(r'\n\s*\n', text.strip('\n')):
        if block.startswith(' '):
            out.append(block.rstrip())
            continue
        items = re.split(r'\n(?=- )', block)
        out.append('\n'.join(textwrap.fill(
            ' '.join(item.split()), WIDTH, break_long_words=False,
            break_on_hyphens=False, subsequent_indent='  '
            if item.startswith('- ') else '') for item in items))
    return '\n\n'.join(out) + '\n'


def joined(words: Iterable[str], most: int = _NAMED) -> str:
    """`a, b and c`; of many, only the first."""
    words = list(words)
    if len(words) > most + 1:
        words = [*words[:most], '%d more' % (len(words) - most)]
    return ' and '.join([', '.join(words[:-1])] * (len(words) > 1)
                        + words[-1:])


def message(scratch: repository.Scratch, patch: Patch, coccinelle: str,
            before: dict[str, bytes]) -> str:
    """The message of a commit, its subject first.

    coccinelle: the version that ran.  before: the files as they are before it.
    """
    rules = patch.kind.rules if patch.kind is not GFP else RENAME.rules
    rules = tuple(rule for rule in rules if any(
        fix.rule == rule for fix in patch.fixes))
    body = render(
        patch.kind.name + '.txt', patch=patch, driver=patch.unit.name,
        version=VERSION, coccinelle=coccinelle,
        files=['cocci/%s.cocci' % rule for rule in rules],
        places=_by_file(patch), said=_said(patch),
        left=[] if patch.kind is GFP else _told(patch.left, _NAMED),
        kept=_proofs(patch.left) if patch.kind is GFP else [],
        fired=list(_fired(patch, before)) if patch.kind is RENAME else [],
        allocates=any(fix.message.startswith(_ALLOCATIONS)
                      for fix in patch.fixes),
        proofs=_proofs(patch.fixes), actions=_actions(patch, before))
    tags = _fixes(scratch, patch) if patch.kind is CHECK else []
    return '%s\n\n%s' % (patch.subject, body) + \
        ('\n' + '\n'.join(tags) + '\n' if tags else '')


_ALLOCATIONS = tuple(name + '()' for name, wrapper in
                     pci_dma_compat.WRAPPERS.items() if wrapper.flag)


def _by_file(patch: Patch) -> list[str]:
    """`FILE: f(), g()` of all that changes."""
    found: dict[str, dict[str, None]] = {}
    for fix in patch.fixes:
        found.setdefault(fix.path, {})[
            fix.function + '()' if fix.function else 'outside of functions'
        ] = None
    return ['%s: %s' % (os.path.basename(path), joined(names, 60))
            for path, names in found.items()]


def _bare(text: str) -> str:
    return _PLACE.sub('', text)


def _told(findings: Iterable[Finding], most: int) -> list[str]:
    """`f(): what` of findings, equals put together; of many, the first."""
    found: dict[str, dict[str, None]] = {}
    for finding in findings:
        found.setdefault(_bare(finding.message), {})[
            finding.function + '()' if finding.function
            else os.path.basename(finding.path)] = None
    told = ['%s: %s' % (joined(names), said) for said, names in found.items()]
    return told[:most] + (['%d more of the same kind' % (len(told) - most)]
                          if len(told) > most else [])


def _said(patch: Patch) -> list[str]:
    return _told(patch.fixes, 30)


def _proofs(fixes: Iterable[Finding]) -> list[str]:
    """`f(): why it may sleep` of allocations."""
    found: dict[str, dict[str, None]] = {}
    for fix in fixes:
        found.setdefault(_proof(fix), {})[fix.function + '()'] = None
    return ['%s: %s' % (joined(names), said) for said, names in found.items()]


#: A step of a proof from one function to the next.
_CALL = re.compile(r'\w+\(\) calls (\w+\(\)) with no lock held$')


def _proof(fix: Finding) -> str:
    """The steps of a proof; of a long one, where all ways to it begin."""
    steps = list(dict.fromkeys(_bare(step.message) for step in fix.evidence))
    if len(steps) > _STEPS:
        calls = {found[1] for found in map(_CALL.match, steps) if found}
        begins = [step for step in steps if not _CALL.match(step)]
        steps = [*begins[:_STEPS], *(['%d more beginnings of that kind' % (
            len(begins) - _STEPS)] if len(begins) > _STEPS else []),
            'on all ways from there, %s called with no lock held' % (
                joined(sorted(calls)) + (' are' if len(calls) > 1 else ' is'))]
    return '; '.join(step.removesuffix(' in %s()' % fix.function)
                     for step in steps)


def _word_at(finding: Finding, before: dict[str, bytes]) -> str:
    """The name that stands at a finding's place."""
    line = source.lines(before[finding.path])[finding.line - 1]
    found = re.match(r'\w+', line[finding.column - 1:])
    return found[0] if found else ''


def _fired(patch: Patch, before: dict[str, bytes]) -> Iterator[str]:
    """The part of the semantic patch that did something."""
    words = {_word_at(fix, before) for fix in patch.fixes}
    for old, wrapper in pci_dma_compat.WRAPPERS.items():
        if old not in words:
            continue
        names = ['e%d' % (n + 1) for n in range(wrapper.args)]
        new = list(names)
        if wrapper.device >= 0:
            new[wrapper.device] = '&%s->dev' % names[wrapper.device]
        yield '- %s(%s)' % (old, ', '.join(names))
        yield '+ %s(%s)' % (wrapper.new, ', '.join(
            new + ['GFP_ATOMIC'] * wrapper.flag))
    for old, constant in pci_dma_compat.CONSTANTS.items():
        if old in words:
            yield '- ' + old
            yield '+ ' + constant


_CHECK = re.compile(r'if \(.*dma_mapping_error\(|if \(.*(?:dma_map_sg|!)')


def _actions(patch: Patch, before: dict[str, bytes]) -> list[str]:
    """`f(): what happens when a mapping fails`, as far as it is new."""
    if patch.kind is not CHECK:
        return []
    found: dict[str, dict[str, None]] = {}
    for path, content in patch.contents.items():
        functions = source.functions(content)
        old = set(source.lines(before[path]))
        new = source.lines(content)
        for number, line in enumerate(new, 1):
            if line in old or not _CHECK.search(line):
                continue
            name = next((name for name, first, last in functions
                         if first <= number <= last), '')
            action = _block(new, number, line)
            if name and action:
                found.setdefault('`%s`' % action, {})[name + '()'] = None
    return ['%s: %s' % (joined(names), said) for said, names in found.items()]


def _block(lines: Sequence[str], number: int, head: str) -> str:
    """What an `if` leads to, on one line; number: of its line."""
    while lines[number - 1].count('(') - lines[number - 1].count(')') > 0 \
            and not lines[number - 1].rstrip().endswith((')', '{')):
        number += 1
    out = []
    for line in lines[number:number + 8]:
        if line.strip() == '}' or not line.strip():
            break
        out.append(line.strip())
        if not head.rstrip().endswith('{'):
            break
    return ' '.join(out)


def title(units: Sequence[Unit]) -> str:
    """The subject of a cover letter."""
    begins = {patch.subject[:patch.subject.rfind(': ') + 2]
              for unit in units for patch in unit.patches}
    common = os.path.commonprefix(sorted(begins))
    common = common[:common.rfind(': ') + 2]
    names = [unit.name for unit in units]
    for most in range(len(names), 0, -1):
        what = joined(names, most) if not common or len(names) > 1 else ''
        said = '%smove %s' % (common, what + ' to the DMA API' if what
                              else 'to the DMA API')
        if len(said) <= SUBJECT:
            return said
    return 'dma: move drivers to the DMA API'


def cover(units: Sequence[Unit], table: str, builder: build.Builder | None,
          coccinelle: str, left: Sequence[Finding]) -> str:
    """The text of a cover letter, its subject first."""
    rules = dict.fromkeys(fix.rule for unit in units for patch in unit.patches
                          if patch.commit for fix in patch.fixes)
    body = render(
        'cover.txt', drivers=[unit.name for unit in units], table=table,
        config=builder.config if builder else '',
        compiler=builder.compiler if builder else '',
        dropped=['%s: %s' % (patch.subject, patch.dropped) for unit in units
                 for patch in unit.patches if patch.dropped],
        left=_told(left, _NAMED), version=VERSION, coccinelle=coccinelle,
        files=['cocci/%s.cocci' % rule for rule in rules])
    return '%s\n\n%s' % (title(units), body)


# --- Where a bug began ------------------------------------------------------

_MAP = re.compile(r'\b(?:pci|dma)_map_\w+\s*\(')
#: The first commit of the kernel's git, the one root that is an origin.
_FIRST = 'Linux-2.6.12-rc2'


def _fixes(scratch: repository.Scratch, patch: Patch) -> list[str]:
    """The Fixes: tags of mappings that were never checked."""
    tags: dict[str, None] = {}
    for fix in patch.fixes:
        commit = _origin(scratch, patch.parent, fix.path, fix.line)
        if commit:
            tags['Fixes: %s ("%s")' % (commit[:12], scratch.text(
                'show', '-s', '--format=%s', commit))] = None
    return list(tags)


def _origin(scratch: repository.Scratch, commit: str, path: str,
            line: int) -> str:
    """The commit that brought a mapping, ''.

    What only changed how the mapping is written is looked through.
    """
    for _ in range(20):
        told = scratch.text('blame', '-w', '--porcelain', '-L',
                            '%d,%d' % (line, line), commit, '--', path)
        commit, number = told.split(' ', 2)[:2]
        path = re.search(r'^filename (.*)$', told, re.M)[1]
        previous = re.search(r'^previous (\w+) (.*)$', told, re.M)
        if previous is None:
            subject = scratch.text('show', '-s', '--format=%s', commit)
            return commit if subject == _FIRST else ''
        older = _older(scratch.text(
            'diff', '-w', '-U0', '%s:%s' % previous.group(1, 2),
            '%s:%s' % (commit, path)), int(number))
        if not older:
            return commit
        commit, path, line = previous[1], previous[2], older
    return ''


def _older(diff: str, line: int) -> int:
    """The line of a mapping that was rewritten into a line, 0."""
    for hunk in re.finditer(r'^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,(\d+))? @@.*\n'
                            r'((?:-.*\n?)*)', diff, re.M):
        first = int(hunk[2])
        if first <= line < first + int(hunk[3] or 1):
            for number, text in enumerate(hunk[4].splitlines(), int(hunk[1])):
                if _MAP.search(text):
                    return number
    return 0

# SPDX-License-Identifier: GPL-2.0-only
"""Decides what becomes of the DMA interface that only PCI had.

Every wrapper of linux/pci-dma-compat.h stands for one call of the DMA API, so
each place is converted on its own.  Words are found in the tokens of a file,
macros and code that does not parse included: whatever holds one is converted,
or spoken of.
"""
from __future__ import annotations

import os
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Iterator, NamedTuple

from . import cparse as c
from . import gfp
from .clex import Token, arguments, directive, inside
from .conditions import Conditions
from .driver import Driver
from .includes import anchor, missing, reaches
from .pasted import pasted
from .pcidevice import NoPciDevice, device
from .plan import Addition, Edit, Note, Unit, mark


class Wrapper(NamedTuple):
    """A function that is gone.

    device: which argument is the struct pci_dev, -1 for none.
    args: how many there are.  flag: does its successor take GFP flags, too?
    since: the kernel that removed it, as far as that is known.  void: does its
    successor return nothing?
    """

    new: str
    device: int
    args: int
    flag: bool = False
    since: str = '5.18'
    void: bool = False


WRAPPERS = {
    'pci_alloc_consistent': Wrapper('dma_alloc_coherent', 0, 3, True),
    'pci_zalloc_consistent': Wrapper('dma_alloc_coherent', 0, 3, True),
    'pci_free_consistent': Wrapper('dma_free_coherent', 0, 4),
    'pci_map_single': Wrapper('dma_map_single', 0, 4),
    'pci_unmap_single': Wrapper('dma_unmap_single', 0, 4),
    'pci_map_page': Wrapper('dma_map_page', 0, 5),
    'pci_unmap_page': Wrapper('dma_unmap_page', 0, 4),
    'pci_map_sg': Wrapper('dma_map_sg', 0, 4),
    'pci_unmap_sg': Wrapper('dma_unmap_sg', 0, 4),
    'pci_dma_sync_single_for_cpu': Wrapper('dma_sync_single_for_cpu', 0, 4),
    'pci_dma_sync_single_for_device': Wrapper('dma_sync_single_for_device',
                                              0, 4),
    'pci_dma_sync_sg_for_cpu': Wrapper('dma_sync_sg_for_cpu', 0, 4),
    'pci_dma_sync_sg_for_device': Wrapper('dma_sync_sg_for_device', 0, 4),
    'pci_dma_mapping_error': Wrapper('dma_mapping_error', 0, 2),
    'pci_set_dma_mask': Wrapper('dma_set_mask', 0, 2),
    'pci_set_consistent_dma_mask': Wrapper('dma_set_coherent_mask', 0, 2),
    'pci_pool_create': Wrapper('dma_pool_create', 1, 5, since='4.13'),
    'pci_pool_destroy': Wrapper('dma_pool_destroy', -1, 1, since='4.13'),
    'pci_pool_alloc': Wrapper('dma_pool_alloc', -1, 3, since='4.13'),
    'pci_pool_zalloc': Wrapper('dma_pool_zalloc', -1, 3, since='4.13'),
    'pci_pool_free': Wrapper('dma_pool_free', -1, 3, since='4.13'),
    'dma_zalloc_coherent': Wrapper('dma_alloc_coherent', -1, 4, since='5.0'),
    'pci_set_dma_max_seg_size': Wrapper('dma_set_max_seg_size', 0, 2,
                                        since='', void=True),
    'pci_set_dma_seg_boundary': Wrapper('dma_set_seg_boundary', 0, 2,
                                        since='', void=True),
}
CONSTANTS = {
    'PCI_DMA_BIDIRECTIONAL': 'DMA_BIDIRECTIONAL',
    'PCI_DMA_TODEVICE': 'DMA_TO_DEVICE',
    'PCI_DMA_FROMDEVICE': 'DMA_FROM_DEVICE',
    'PCI_DMA_NONE': 'DMA_NONE',
}
POOL = 'pci_pool'               # the tag of a struct
#: What else is gone: what a person has to do.
GONE = {
    'pci_dma_supported': 'dma_set_mask() says whether a mask is taken',
    'dma_cache_sync': 'use dma_sync_single_for_device() or _for_cpu() with the '
    'address that the allocation gave',
    'dma_alloc_noncoherent': 'it takes a direction, too: use dma_alloc_pages() '
    'or give it one',
    'dma_free_noncoherent': 'it takes a direction, too: give it the one of the '
    'allocation',
    'pci_dma_sync_single': 'use dma_sync_single_for_cpu() and, before the '
    'device gets the buffer again, dma_sync_single_for_device()',
    'pci_dma_sync_sg': 'use dma_sync_sg_for_cpu() and, before the device gets '
    'the buffers again, dma_sync_sg_for_device()',
    'DECLARE_PCI_UNMAP_ADDR': 'use DEFINE_DMA_UNMAP_ADDR(), with a semicolon',
    'DECLARE_PCI_UNMAP_LEN': 'use DEFINE_DMA_UNMAP_LEN(), with a semicolon',
    'pci_unmap_addr': 'use dma_unmap_addr()',
    'pci_unmap_addr_set': 'use dma_unmap_addr_set()',
    'pci_unmap_len': 'use dma_unmap_len()',
    'pci_unmap_len_set': 'use dma_unmap_len_set()',
}
#: Of these the name is still there, with more arguments than it had.
_MORE = {'dma_alloc_noncoherent': 5, 'dma_free_noncoherent': 5}
_COMPAT = re.compile(r'^[<"](linux|asm-generic)/pci-dma-compat\.h[>"]$')
WORDS = frozenset((*WRAPPERS, *CONSTANTS, POOL))

_WORD = re.compile(r'(?<!\w)(?:%s)(?!\w)' % '|'.join(WORDS))
_NAME = re.compile(r'[A-Za-z_]\w*$')
#: A name behind these is a value, and not one that is declared.
_BEFORE_VALUE = frozenset('return case else do sizeof in'.split())
#: Headers that bring linux/dma-mapping.h along, on a kernel without wrappers.
_BRING = ('<linux/dma-mapping.h>', '<linux/pci.h>')


def decide(driver: Driver, options: frozenset[str]) -> list[Unit]:
    """Everything that must be converted or said.

    The option atomic: leave GFP_ATOMIC where other flags are proven.
    """
    files = [_File(driver, source, 'atomic' in options)
             for source in driver.files_with(*WORDS, *GONE, 'pci-dma-compat')]
    shared = {name: place for file in files
              for name, place in file.own(shared=True).items()}
    units = [unit for file in files
             for unit in file.units(shared | file.own(shared=False))]
    if any(file.keeps_pool() for file in files):
        for unit in units:
            if unit.additions and not unit.edits:
                note = unit.notes.pop()
                unit.additions.clear()
                unit.refuse(note.path, note.token, note.function,
                            'struct pci_pool stands in a version guard, too, '
                            'and SmPL cannot tell the two apart: write struct '
                            'dma_pool')
    _include(driver, units)
    _mark(units)
    units += _by_macros(driver)
    return units + list(_not_found(driver)) if units else []


@dataclass(frozen=True)
class _Word:
    """One of the words, in code; macro is the directive it stands in."""

    token: Token
    tokens: list[Token]         # of the file, or of the directive
    index: int                  # of it in tokens
    macro: str | None = None
    parameters: frozenset[str] = frozenset()

    def near(self, ahead: int) -> str:
        """The text of a token beside it."""
        at = self.index + ahead
        return self.tokens[at].text if 0 <= at < len(self.tokens) else ''


class _File:
    """One file of a driver."""

    def __init__(self, driver: Driver, source: c.SourceFile, atomic: bool):
        self.driver, self.source = driver, source
        self.path = source.path
        self._atomic = atomic
        self.conditions = Conditions(source, WORDS | set(GONE) - set(_MORE))

    # -- where the words stand

    @cached_property
    def _words(self) -> list[_Word]:
        out: list[_Word] = []
        raw = self.source.raw
        for index, token in enumerate(raw):
            if token.kind == 'id' and _is_word(token):
                out.append(_Word(token, raw, index))
            elif token.kind == 'pp':
                out += _in_directive(token)
        return out

    def own(self, shared: bool) -> dict[str, tuple[str, int]]:
        """The words that this file defines, and where.

        shared: only those that other files of the driver see, too.  What is
        defined only to debug hides nothing from other builds.
        """
        out: dict[str, tuple[str, int]] = {}
        for word in self._words:
            line = word.token.line
            func = self.source.functions.get(word.token.text)
            if shared and not self.path.endswith('.h') and (
                    func is None or func.static):
                continue
            if self._defines(word) and not self.conditions.dead(line) \
                    and not any('DEBUG' in branch.text for branch
                                in self.conditions.around(line)):
                out.setdefault(word.token.text, (self.path, line))
        return out

    @cached_property
    def _defined(self) -> frozenset[str]:
        """The words that this file defines somewhere."""
        return frozenset(word.token.text for word in self._words
                         if self._defines(word))

    def _defines(self, word: _Word) -> bool:
        if word.macro is not None:
            return word.index == 1 and word.near(-1) == 'define'
        name = word.token.text
        if name in CONSTANTS:
            return word.near(-1) in ('{', ',') and self._in_enum(word)
        if name == POOL:
            return word.near(-1) == 'struct' and word.near(1) == '{'
        func = self.source.functions.get(name)
        return func is not None and func.name_token.start == word.token.start

    def _declares(self, word: _Word) -> bool:
        """Is it a prototype of a function of the driver's?"""
        return word.token.text in WRAPPERS and word.macro is None \
            and word.near(1) == '(' and self._function(word) is None \
            and (word.near(-1) == '*' or word.near(-1) not in _BEFORE_VALUE
                 and bool(_NAME.match(word.near(-1))))

    @staticmethod
    def _in_enum(word: _Word) -> bool:
        index = word.index
        while index and word.tokens[index].text not in ('{', ';', '}', '('):
            index -= 1
        return any(t.text == 'enum' for t in word.tokens[
            max(0, index - 2):index])

    # -- what becomes of them

    def units(self, own: dict[str, tuple[str, int]]) -> Iterator[Unit]:
        words = list(self._of_words(own))
        messages = list(self._messages(words))
        yield from words
        yield from messages
        yield from self._header()
        yield from self._survivors({edit.token.line for unit in messages
                                    for edit in unit.edits})

    def _of_words(self, own: dict[str, tuple[str, int]]) -> Iterator[Unit]:
        for word in self._words:
            if self._is_other(word):
                continue
            branch = self.conditions.dead(word.token.line)
            if branch is None:
                if word.macro in (None, 'define'):
                    yield self._unit(word, own)
                elif word.token.text not in self._defined:
                    yield self._directive(word)
            elif not branch.group.by_kernel:
                yield self._note(word, '%s is left in code that is never '
                                 'compiled (%s, line %d)' % (
                                     word.token.text, branch.text,
                                     branch.line))

    def _messages(self, units: list[Unit]) -> Iterator[Unit]:
        """Messages that name a function which is converted beside them."""
        converted: dict[str, set[str]] = {}
        for unit in units:
            for edit in unit.edits:
                converted.setdefault(edit.function, set()).add(edit.token.text)
        places: dict[str, list[tuple[Token, str]]] = {}
        raw = self.source.raw
        for index, token in enumerate(raw):
            if token.kind != 'str' or not _WORD.search(token.text):
                continue
            names = converted.get(self._name(token), set()) & set(WRAPPERS)
            first = last = index
            while raw[first - 1].kind in ('id', 'str'):
                first -= 1
            while raw[last + 1].kind in ('id', 'str'):
                last += 1
            said = ' '.join(t.text for t in raw[first:last + 1])
            whole = raw[first].line == raw[last].line
            places.setdefault(said, []).append((raw[first], _WORD.sub(
                lambda found, names=names: WRAPPERS[found[0]].new
                if found[0] in names else found[0], said) if whole else said))
        for same in places.values():
            # SmPL finds a message by what it says, wherever it stands
            if any(_WORD.search(text) for _, text in same):
                continue
            for token, text in same:
                yield Unit(edits=[Edit(
                    'text', self.path, token, self._name(token),
                    'the message names a function that is gone',
                    {'text': text})])

    def _header(self) -> Iterator[Unit]:
        """The header of the wrappers, which is gone with them."""
        found = [(name, token) for name, token in self.source.includes
                 if _COMPAT.match(name)]
        alone = not any(self.conditions.around(token.line)
                        for _, token in found)
        for name, token in found:
            if self.conditions.dead(token.line):
                continue
            unit = Unit(notes=[Note(
                'refusal', self.path, token, '', '%s is gone since Linux 5.18: '
                'include linux/dma-mapping.h' % name)])
            if alone and name == '<linux/pci-dma-compat.h>':
                unit.notes[0].kind = 'fix'
                unit.additions.append(Addition(
                    ('header', os.path.realpath(self.path)), self.path))
            yield unit

    def keeps_pool(self) -> bool:
        """Is there a struct pci_pool that must be left alone?"""
        return any(word.token.text == POOL and (
            self.conditions.dead(word.token.line) or self._rival(word))
            for word in self._words)

    def _is_other(self, word: _Word) -> bool:
        """Does something of the driver's have the name: a member of a struct,
        a variable, a label, or a tag of another kind?"""
        name, before, after = word.token.text, word.near(-1), word.near(1)
        if before in ('.', '->') or (word.near(-2), before, after) == (
                '(', '*', ')'):
            return True
        if name == POOL:
            return before != 'struct'
        if name in CONSTANTS or word.macro is not None:
            return False
        if name in _MORE and len(arguments(
                word.tokens, word.index + 1) or ()) == _MORE[name]:
            return True
        if before in ('struct', 'union', 'enum', 'goto'):
            return True
        func = self._function(word)
        if func is not None and name in func.locals or self._in_struct(word):
            return True
        declared = before == '*' and after in (';', ',', '=', '[') \
            or _NAME.match(before) and before not in _BEFORE_VALUE
        return bool(declared) and after != '('

    def _in_struct(self, word: _Word) -> bool:
        """Does it declare a member of a struct?"""
        fields = (s.fields.get(word.token.text)
                  for s in self.source.structs.values())
        return any(f.first.start <= word.token.start <= f.last.start
                   for f in fields if f is not None)

    def _directive(self, word: _Word) -> Unit:
        """A word in a directive that is no macro."""
        name = word.token.text
        if word.macro in ('ifdef', 'ifndef', 'undef') or 'defined' in (
                word.near(-1), word.near(-2)):
            return self._note(word, '#%s is left: no current kernel defines %s'
                              % (word.macro, name))
        if word.macro not in ('if', 'elif'):
            return self._note(word, '#%s names %s' % (word.macro, name))
        return self._refused(word, 'the preprocessor takes %s for 0 on current '
                             'kernels, and no macro has its value: choose in C'
                             % name)

    def _unit(self, word: _Word, own: dict[str, tuple[str, int]]) -> Unit:
        name = word.token.text
        if self._declares(word) or self._defines(word):
            return self._note(word, 'the driver defines %s itself: remove '
                              'that when nothing uses it' % name)
        if name in own:
            path, line = own[name]
            where = '%s:%d' % (os.path.basename(path), line)
            return self._refused(word, 'the driver has its own %s (%s): use '
                                 'the DMA API there, and remove it'
                                 % (name, where))
        if name in GONE:
            return self._refused(word, '%s() is gone: %s'
                                 % (name, GONE[name]))
        rival = self._rival(word)
        if rival:
            return self._note(word, '%s is left: another branch of the '
                              'conditional has %s' % (name, rival))
        if name in CONSTANTS:
            return self._edit(word, '%s is gone since Linux 5.18: use %s'
                              % (name, CONSTANTS[name]),
                              {'word': CONSTANTS[name]})
        if name == POOL:
            return self._pool(word)
        if word.near(1) != '(':
            return self._refused(word, 'the name of %s() is used without a '
                                 'call: give %s() in its place, which takes a '
                                 'struct device and so has another type'
                                 % (name, WRAPPERS[name].new))
        return self._call(word)

    def _rival(self, word: _Word) -> str:
        """The new name, if another branch for another kernel has it; ''."""
        name = word.token.text
        new = CONSTANTS.get(name) or (
            'dma_pool' if name == POOL else WRAPPERS[name].new)
        for branch in self.conditions.around(word.token.line):
            if branch.live is None and branch.group.by_kernel and any(
                    new in self._between(b.line, b.last)
                    for b in branch.others):
                return new
        return ''

    def _between(self, first: int, last: int) -> set[str]:
        """The words of code in some lines."""
        tokens = self.source.raw
        starts = [t.line for t in tokens]
        return {t.text for t in tokens[bisect_right(starts, first):
                                       bisect_right(starts, last)]}

    def _pool(self, word: _Word) -> Unit:
        if word.macro is not None:
            return self._refused(word, 'struct pci_pool in a macro: write '
                                 'struct dma_pool')
        unit = self._note(word, 'struct pci_pool is gone since Linux 4.13: '
                          'use struct dma_pool', 'fix')
        unit.additions.append(Addition(('pool',), self.path))
        return unit

    def _call(self, word: _Word) -> Unit:
        name = word.token.text
        wrapper = WRAPPERS[name]
        args = arguments(word.tokens, word.index + 1)
        if args is None or len(args) != wrapper.args:
            return self._refused(
                word, 'this %s() does not have %d arguments, or a conditional '
                'cuts through it: write %s() by hand'
                % (name, wrapper.args, wrapper.new))
        message = '%s() is gone%s: use %s()' % (
            name, wrapper.since and ' since Linux ' + wrapper.since,
            wrapper.new)
        if wrapper.void and not self._is_statement(word):
            return self._refused(word, '%s() is gone, and %s() returns nothing '
                                 'since Linux 6.12: call it, and go on as if '
                                 'it returned 0' % (name, wrapper.new))
        if wrapper.device < 0:
            return self._edit(word, message, {'word': wrapper.new})
        arg = args[wrapper.device]
        tree = c.parse_expression(arg)
        if tree is None or any(t.text in WRAPPERS for t in arg):
            return self._refused(word, 'the device `%s` cannot be read: put it '
                                 'into a variable' % c.join(arg))
        try:
            dev = device(self.driver, self._function(word), tree, _source(arg),
                         word.parameters)
        except NoPciDevice as why:
            return self._refused(word, '%s() has no successor here: %s'
                                 % (name, why))
        values = {'kind': 'second' if wrapper.device else 'first',
                  'new': wrapper.new, 'dev': dev}
        if not wrapper.flag:
            return self._edit(word, message, values)
        chosen = self._flag(word)
        unit = self._edit(word, '%s with %s%s' % (
            message, chosen.flag, chosen.message and ': ' + chosen.message),
            values | {'kind': 'allocation', 'flag': chosen.flag})
        unit.evidence += chosen.evidence
        return unit

    @staticmethod
    def _is_statement(word: _Word) -> bool:
        """Is the result of a call not used?"""
        end, depth = word.index + 1, 0
        while end < len(word.tokens):
            depth += (word.tokens[end].text == '(') \
                - (word.tokens[end].text == ')')
            end += 1
            if not depth:
                break
        after = word.tokens[end].text if end < len(word.tokens) else ''
        return after == ';' and word.near(-1) in (';', '{', '}', ')', ':',
                                                  'else', 'do')

    def _flag(self, word: _Word) -> gfp.Gfp:
        func = self._function(word)
        if func is None:
            return gfp.Gfp('GFP_ATOMIC', 'who uses the macro is not known', ())
        call = next((n for n in func.calls()
                     if n.first.start == word.token.start), None)
        if call is None:
            return gfp.Gfp('GFP_ATOMIC', '%s() could not be parsed'
                           % func.name, ())
        chosen = gfp.decide(self.driver, func, call)
        if self._atomic and chosen.flag != 'GFP_ATOMIC':
            return gfp.Gfp('GFP_ATOMIC', '', ())
        return chosen

    def _function(self, word: _Word) -> c.Function | None:
        if word.macro is not None:
            return None
        return self.source.function_at(word.token.line)

    # -- what is said

    def _name(self, token: Token) -> str:
        func = self.source.function_at(token.line)
        return func.name if func else ''

    def _edit(self, word: _Word, message: str,
              values: dict[str, str]) -> Unit:
        return Unit(edits=[Edit('word', self.path, word.token,
                                self._name(word.token), message, values)])

    def _note(self, word: _Word, message: str, kind: str = 'finding') -> Unit:
        return Unit(notes=[Note(kind, self.path, word.token,
                                self._name(word.token), message,
                                'warning' if kind == 'fix' else 'note')])

    def _refused(self, word: _Word, message: str) -> Unit:
        unit = Unit()
        unit.refuse(self.path, word.token, self._name(word.token), message)
        return unit

    def _survivors(self, done: set[int]) -> Iterator[Unit]:
        """The words in comments, and in strings; done: lines with strings
        that are converted."""
        for found in _WORD.finditer(self.source.text):
            if found.start() in self._in_code:
                continue
            line = self.source.text.count('\n', 0, found.start()) + 1
            begin = self.source.text.rfind('\n', 0, found.start()) + 1
            token = Token('id', found[0], found.start(), found.end(), line,
                          found.start() - begin)
            where = 'a string' if found.start() in self._in_strings \
                else 'a comment'
            if where == 'a string' and line in done:
                continue
            yield Unit(notes=[Note('finding', self.path, token,
                                   self._name(token), '%s names %s'
                                   % (where, found[0]), 'note')])

    @cached_property
    def _in_code(self) -> frozenset[int]:
        return frozenset(word.token.start for word in self._words)

    @cached_property
    def _in_strings(self) -> frozenset[int]:
        return frozenset(
            token.start + found.start() for token in self.source.raw
            if token.kind in ('str', 'pp')
            for found in _WORD.finditer(token.text))


def _is_word(token: Token) -> bool:
    return token.text in WORDS or token.text in GONE


def _in_directive(token: Token) -> Iterator[_Word]:
    """The words in a directive, with the places that they have in the file."""
    name, words = directive(token)
    parameters = re.match(r'\w+\(([^)]*)\)', words) \
        if name == 'define' else None
    tokens = inside(token)
    for index, inner in enumerate(tokens):
        if inner.kind == 'id' and _is_word(inner):
            yield _Word(inner, tokens, index, name, frozenset(
                p.strip() for p in parameters[1].split(','))
                if parameters else frozenset())


def _source(tokens: list[Token]) -> str:
    """Tokens at their distances from one another, without comments."""
    out = ''
    for token in tokens:
        out += ' ' * (token.start - tokens[0].start - len(out)) + token.text
    return out


def _include(driver: Driver, units: list[Unit]) -> None:
    """linux/dma-mapping.h, for files that lose it with the wrappers."""
    told: set[str] = set()
    for unit in units:
        for edit in unit.edits:
            if edit.path in told or not edit.path.endswith('.c') \
                    or reaches(driver, edit.path, *_BRING):
                continue
            if anchor(driver, edit.path):
                unit.additions.append(Addition(
                    ('include', os.path.realpath(edit.path)), edit.path))
                continue
            told.add(edit.path)
            unit.notes.append(Note(
                'finding', edit.path, edit.token, edit.function,
                'linux/dma-mapping.h is not added: there is no #include '
                '<linux/...> for all kernels here to put it behind', 'note'))


def _by_macros(driver: Driver) -> Iterator[Unit]:
    """The names that macros build."""
    for place in pasted(driver, WORDS):
        unit = Unit()
        unit.refuse(place.path, place.token, '', (
            'the macro %s builds %s here: write the DMA API' if place.certain
            else 'the macro %s may build %s, and its uses do not tell: write '
            'the DMA API') % (place.macro, place.name))
        yield unit


def _not_found(driver: Driver) -> Iterator[Unit]:
    """The headers that were not looked at."""
    told: set[str] = set()
    for path, name, token in missing(driver):
        if name not in told:
            told.add(name)
            yield Unit(notes=[Note(
                'finding', path, token, '', 'the header %s was not found; what '
                'it holds is left: run cocci-dma convert on its folder, too'
                % name, 'note')])


def _mark(units: list[Unit]) -> None:
    """Give each call a name of its own, by which SmPL finds it again.

    All words are replaced in one step, since a position means nothing after
    the first change; a call then gets its arguments by its mark.
    """
    for number, unit in enumerate(units):
        for edit in unit.edits:
            if 'kind' in edit.values:
                values = dict(edit.values)
                name = mark(number, values['new'])
                edit.values = {'word': name}
                unit.additions.append(Addition(
                    (values.pop('kind'), name), edit.path, values))

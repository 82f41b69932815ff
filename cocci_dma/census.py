# SPDX-License-Identifier: GPL-2.0-only
"""What the rules find in a tree, as a page for people: census.html, .css, .js.

Counts first, drawn and as numbers; then every finding, with a link to its
line.
"""
from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Iterable, Sequence
from urllib.parse import quote

from . import Trouble, webpage
from .findings import SEVERITIES, Evidence, Finding
from .rules import Rule
from .run import Result

#: Kind -> what it is called on the page, in the order of columns and colours.
KINDS = {
    'fix': 'to convert',
    'finding': 'for a human',
    'refusal': 'refused',
}

#: Characters of a message that are shown.
_LONG = 1000

#: Bytes at the start of a file that may hold its copyright lines.
_HEAD = 8192

_COPYRIGHT = re.compile(rb'.*(?:copyright|\(c\)|\xc2\xa9).*', re.I)
_YEAR = re.compile(rb'(?<!\d)(?:19[789]\d|20\d\d)(?!\d)')

#: Where those are counted that have no year.
UNDATED = 'no copyright line with a year'

#: Years that are counted together where they are told as numbers.
_SPAN = 5


@dataclass
class Bar:
    """How many findings of each kind there are of something."""

    label: str
    note: str = ''
    counts: Counter[str] = field(default_factory=Counter)
    drivers: set[str] = field(default_factory=set)

    def add(self, finding: Finding, driver: str) -> None:
        """Count a finding."""
        self.counts[finding.kind] += 1
        self.drivers.add(driver)

    @property
    def total(self) -> int:
        """Of all kinds."""
        return self.counts.total()


@dataclass(frozen=True)
class Place:
    """A line of a file: as it is told, and where a browser finds it."""

    text: str
    url: str


@dataclass(frozen=True)
class Entry:
    """A finding as it is shown; evidence: (place, message)."""

    finding: Finding
    place: Place
    message: str
    subsystem: str
    evidence: list[tuple[Place, str]]


@dataclass
class Driver:
    """The findings of a driver.  year: the newest copyright, 0: none said."""

    name: str
    year: int = 0
    entries: list[Entry] = field(default_factory=list)


def require_link(link: str) -> None:
    """Trouble when `link` is no template of a URL."""
    names = set(re.findall(r'\{(.*?)\}', link))
    if not re.match(r'https?://', link) or 'path' not in names \
            or not names <= {'path', 'line'}:
        raise Trouble('--link %s: is no template of a URL: write '
                      'https://HOST/{path}#L{line}' % link)


def render(result: Result, rules: Iterable[Rule], paths: Sequence[str],
           link: str | None = None) -> bytes:
    """The page.

    rules: those that ran.  paths: what the user named.  link: where sources
    are, see require_link(); None: in the files that were read.
    """
    rules = list(rules)
    census = _Census(result, rules, link)
    return webpage.render(
        Path(__file__).with_name('census.html'), {},
        Path(__file__).with_name('census.js'),
        census=census, coverage=result.coverage, complete=result.complete,
        suppressed=len(result.suppressed), kinds=KINDS, paths=paths,
        severities=SEVERITIES, made=datetime.now(timezone.utc))


#: What a finding is counted under, and what is said beside that; None: it is
#: not counted.
_Label = Callable[[Driver, Entry], 'tuple[str, str] | None']


class _Census:
    """All that is counted, and the drivers with their findings."""

    def __init__(self, result: Result, rules: Sequence[Rule],
                 link: str | None):
        self._result = result
        self._link = link
        self._top = self._find_top()
        self.drivers = self._grouped()
        self.all = Bar('all')
        for driver in self.drivers:
            for entry in driver.entries:
                self.all.add(entry.finding, driver.name)
        summaries = {rule.name: _sentence(rule.summary) for rule in rules}
        self.subsystems = _largest(self._bars(
            lambda driver, entry: (entry.subsystem, '')))
        self.rules = _largest(self._bars(
            lambda driver, entry: (entry.finding.rule,
                                   summaries.get(entry.finding.rule, ''))))
        self.silent = sorted(set(summaries).difference(
            bar.label for bar in self.rules))
        self.severities = sorted(
            self._bars(lambda driver, entry: (entry.finding.severity, '')),
            key=lambda bar: (*SEVERITIES, bar.label).index(bar.label))
        known = _names(rules)
        self.reasons = {kind: self._reasons(kind, known)
                        for kind in KINDS if kind != 'fix'}
        self.years = self._years()
        self.spans = self._spans()

    def _grouped(self) -> list[Driver]:
        """The drivers in which something was found, by name."""
        years: dict[str, int] = {}
        drivers: dict[str, Driver] = {}
        for finding in self._result.findings:
            path = finding.path
            if path not in years:
                years[path] = _year(self._absolute(path))
            name = self._result.drivers.get(path, path)
            driver = drivers.setdefault(name, Driver(name))
            driver.year = max(driver.year, years[path])
            driver.entries.append(self._entry(finding))
        return sorted(drivers.values(), key=lambda driver: driver.name)

    def _bars(self, label: _Label) -> list[Bar]:
        """All findings, counted; in the order in which they come."""
        bars: dict[tuple[str, str], Bar] = {}
        for driver in self.drivers:
            for entry in driver.entries:
                what = label(driver, entry)
                if what is not None:
                    bars.setdefault(what, Bar(*what)).add(entry.finding,
                                                          driver.name)
        return list(bars.values())

    def _reasons(self, kind: str, known: frozenset[str]) -> list[Bar]:
        return _largest(self._bars(
            lambda driver, entry: (reason(entry.finding.message, known),
                                   entry.finding.rule)
            if entry.finding.kind == kind else None))

    def _years(self) -> list[Bar]:
        """Every year from the first to the last that occurs."""
        bars = {int(bar.label): bar for bar in self._bars(
            lambda driver, entry: (str(driver.year), '')
            if driver.year else None)}
        return [bars.get(year, Bar(str(year)))
                for year in range(min(bars), max(bars) + 1)] if bars else []

    def _spans(self) -> list[Bar]:
        """Groups of years, the oldest first, and what has no year."""
        def label(driver: Driver, _entry: Entry) -> tuple[str, str]:
            first = driver.year - driver.year % _SPAN
            return ('%d to %d' % (first, min(first + _SPAN - 1, _now()))
                    if driver.year else UNDATED, '')

        return sorted(self._bars(label), key=lambda bar: (
            bar.label == UNDATED, bar.label))

    def _absolute(self, path: str) -> str:
        return self._result.tree.absolute(path)

    def _find_top(self) -> str:
        """The folder that subsystems are two levels below."""
        tree = self._result.tree
        top = tree.root or tree.base
        folders = [os.path.dirname(self._absolute(finding.path))
                   for finding in self._result.findings]
        # of a folder that belongs to no project, only what is in it
        return os.path.commonpath(folders) if top == '/' and folders else top

    def _entry(self, finding: Finding) -> Entry:
        folder = os.path.dirname(self._rooted(finding.path))
        return Entry(
            finding, self._place(finding.path, finding.line),
            _shortened(finding.message),
            '/'.join(folder.split('/')[:2]) or '(top folder)',
            [self._evidence(each) for each in finding.evidence])

    def _evidence(self, evidence: Evidence) -> tuple[Place, str]:
        return (self._place(evidence.path, evidence.line),
                _shortened(evidence.message))

    def _rooted(self, path: str) -> str:
        return os.path.relpath(self._absolute(path), self._top)

    def _place(self, path: str, line: int) -> Place:
        if self._link is None:
            url = 'file://%s#L%d' % (_quoted(self._absolute(path)), line)
        else:
            url = self._link.replace('{line}', str(line)).replace(
                '{path}', _quoted(self._rooted(path)))
        return Place('%s:%d' % (path, line), url)


def _largest(bars: Iterable[Bar]) -> list[Bar]:
    """The largest first."""
    return sorted(bars, key=lambda bar: (-bar.total, bar.label, bar.note))


def _year(path: str) -> int:
    """The newest year of the copyright lines at the head of a file; 0: none.
    """
    try:
        with open(path, 'rb') as file:
            head = file.read(_HEAD)
    except OSError:
        return 0
    head = re.split(rb'^[ \t]*#[ \t]*include\b', head, maxsplit=1,
                    flags=re.M)[0]
    years = (int(year) for line in _COPYRIGHT.findall(head)
             for year in _YEAR.findall(line))
    return max((year for year in years if year <= _now()), default=0)


def _now() -> int:
    return datetime.now(timezone.utc).year


def _sentence(text: str) -> str:
    """The first one, up to its colon, of a text in lines."""
    return re.split(r'[.:;](?: |$)', ' '.join(text.split()), maxsplit=1)[0]


def _quoted(path: str) -> str:
    """A path in a URL, byte for byte."""
    return quote(os.fsencode(path))


def _shortened(message: str) -> str:
    more = len(message) - _LONG
    return message if more <= 0 else '%s … (%d characters more)' % (
        message[:_LONG], more)


# --- Reasons ----------------------------------------------------------------

def _names(rules: Iterable[Rule]) -> frozenset[str]:
    """The names in code that messages of rules have in common: those that
    their pages tell, but not those of the drivers in its examples."""
    names: set[str] = set()
    for rule in rules:
        names.update(rule.keywords)
        prose = re.sub(r'^```.*?^```', '', rule.page, flags=re.M | re.S)
        for code in re.findall(r'`([^`]+)`', prose):
            names.update(re.findall(r'\w+', code))
    return frozenset(names)


_ANY = '…'
#: A place, and whatever stands in parentheses together with one.
_LINE = re.compile(r'\b[Ll]ines? \d+|[\w./+-]+\.[chS]:\d+')
_PARENTHESES = re.compile(r'(\s?)\(([^()]*)\)')
_QUOTED = re.compile(r'`[^`]*`')
#: What is a name in code, not a word of a sentence.
_CODE = re.compile(
    r'[*&!~]*[A-Za-z_]\w*(?:(?:->|\.(?=\w))\w+|\[[^][]*\])*(?:\x01\x02?)?'
    r'|\b\d[\w.]*')
#: Several variable parts in a row, perhaps with a word that says what.
_LIST = re.compile(r'…(?:(?:(?:,| and| or) (?:[a-z]+ )?| )…)+')
#: A last clause that only lists what there is: `; held here: memory …`.
_DETAIL = re.compile(r'; [\w ]+: (?:[\w ]+ )?…$')


def reason(message: str, names: frozenset[str] = frozenset()) -> str:
    """A message without what differs from driver to driver: places, quoted
    code, numbers, and names in code that are not in `names`."""
    said = _QUOTED.sub(_ANY, message[:_LONG])
    said = _without_parentheses(said)
    said = _LINE.sub(lambda found: _ANY if ':' in found[0] else 'line ' + _ANY,
                     said)
    said = _CODE.sub(lambda found: _generalised(found[0], names), said)
    said = _LIST.sub(_ANY, ' '.join(said.split()))
    return _DETAIL.sub('', said)


def _without_parentheses(said: str) -> str:
    """Innermost first: places go, arguments of calls become variable parts
    (\\x01, with \\x02 where there are some), the rest stays."""
    kept: list[str] = []

    def one(found: re.Match[str]) -> str:
        space, inner = found.groups()
        if not space:
            return '\x01' + ('\x02' if inner.strip() else '')
        if _LINE.search(inner):
            return ''
        kept.append(inner)
        return ' \x03%d\x04' % (len(kept) - 1)

    before = ''
    while before != said:
        before = said
        said = _PARENTHESES.sub(one, said)
    while '\x03' in said:
        said = re.sub('\x03(\\d+)\x04',
                      lambda found: '(%s)' % kept[int(found[1])], said)
    return said


def _generalised(code: str, names: frozenset[str]) -> str:
    """A word of a message, or what stands for it."""
    name = code.strip('*&!~\x01\x02')
    called = '\x01' in code
    if name in names:
        arguments = '(%s)' % (_ANY if '\x02' in code else '')
        return name + (arguments if called else '')
    plain = re.fullmatch(r'[A-Za-z]?[a-z]*|[A-Z]+', name)
    return name if plain and not called else _ANY

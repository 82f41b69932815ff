# SPDX-License-Identifier: GPL-2.0-only
"""Kernel trees of several releases: for the benchmarks, and for real drivers.

They are Debian's packages linux-source-VERSION.  Where the machine's own lists
do not have one, the release of Debian that has it is asked for, at the mirrors
that the machine's apt is configured for, with lists of our own: those of the
machine are not touched, and nothing is installed.  Trees are unpacked once, in

    ${XDG_CACHE_HOME:-~/.cache}/cocci-dma/source/linux-source-VERSION
"""
from __future__ import annotations

import platform
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

from cocci_dma import Trouble

from . import kernel_source

#: Which release of Debian has which kernel.
RELEASES = {'5.10': 'bullseye', '6.1': 'bookworm', '6.12': 'trixie',
            '7.2': 'forky'}


def tree(version: str, given: Path | None = None) -> Path:
    """A kernel tree: the given one, or Debian's package.  Raises Trouble."""
    if given:
        if not (given / 'drivers').is_dir():
            raise Trouble('%s is no kernel tree: it has no drivers/' % given)
        return given
    package = 'linux-source-' + version

    def unpack(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            deb = _download(package, RELEASES[version], Path(work))
            kernel_source.run(['dpkg-deb', '-x', str(deb), work])
            tarball = next(Path(work).glob('usr/src/*.tar.xz'))
            kernel_source.run(['tar', '-x', '-f', str(tarball),
                               '--strip-components=1', '-C', str(folder)])

    return kernel_source.made(kernel_source.cache('source') / package, unpack)


def _download(package: str, release: str, work: Path) -> Path:
    """Debian's package, in `work`: by the machine's lists, else by our own."""
    print('fetching %s' % package, file=sys.stderr, flush=True)
    told = _apt(['download', '-qq', package], work)
    if not list(work.glob('*.deb')):
        options = _for_release(release, work)
        _apt(['update', '-qq', *options], work)
        told = _apt(['download', '-qq', package, *options], work)
    for deb in work.glob('*.deb'):
        return deb
    raise Trouble('%s was not found (%s): name trees that are there, or see '
                  'that a mirror of Debian in the sources of apt has %s'
                  % (package, kernel_source.reason(told) or told.strip()
                     or 'apt said nothing', release))


def _apt(words: list[str], work: Path) -> str:
    """Run apt-get; what it complained of."""
    try:
        return subprocess.run(['apt-get', *words], cwd=work, text=True,
                              capture_output=True, check=False).stderr
    except FileNotFoundError:
        raise Trouble('apt-get is missing: name trees that are there'
                      ) from None


def _for_release(release: str, work: Path) -> list[str]:
    """The options of apt for another release, with lists in `work`."""
    sources = work / 'sources.list.d'
    for folder in (sources, work / 'lists' / 'partial',
                   work / 'cache' / 'archives' / 'partial'):
        folder.mkdir(parents=True)
    for number, path in enumerate(_own_sources()):
        text = renamed(path.read_text(encoding='utf-8', errors='replace'),
                       platform.freedesktop_os_release().get(
                           'VERSION_CODENAME', ''), release)
        (sources / ('%d%s' % (number, path.suffix))).write_text(
            text, encoding='utf-8')
    return ['-oDir::Etc::SourceList=/dev/null',
            '-oDir::Etc::SourceParts=%s' % sources,
            '-oDir::State::Lists=%s' % (work / 'lists'),
            '-oDir::Cache=%s' % (work / 'cache')]


def _own_sources() -> Iterator[Path]:
    """The files in which the machine's apt finds its mirrors."""
    told = kernel_source.run(['apt-config', 'shell',
                              'one', 'Dir::Etc::sourcelist/f',
                              'parts', 'Dir::Etc::sourceparts/d'])
    named = dict(word.split('=', 1) for word in shlex.split(told))
    one, parts = Path(named.get('one', '')), Path(named.get('parts', ''))
    if one.is_file():
        yield one
    yield from sorted(p for p in parts.glob('*')
                      if p.suffix in ('.list', '.sources'))


def renamed(text: str, ours: str, release: str) -> str:
    """Sources of apt for another release of Debian; the rest left out.

    text: lines `deb ...`, or stanzas with fields.  Of suites, the release
    itself and its security updates are asked for.
    """
    suite = re.compile(r'(?:%s|oldstable|stable|testing)(|-security)'
                       % re.escape(ours))

    def suites(words: list[str]) -> list[str]:
        found = (suite.fullmatch(word) for word in words)
        return [release + match[1] for match in found if match]

    out = []
    for stanza in re.split(r'\n\s*\n', text.strip()):
        found = re.search(r'^Suites:(.*(?:\n[ \t].*)*)', stanza, re.M)
        if found and suites(found[1].split()):
            out.append('%sSuites: %s%s\n' % (
                stanza[:found.start()], ' '.join(suites(found[1].split())),
                stanza[found.end():]))
    for line in text.splitlines():
        found = re.match(r'(deb\s+(?:\[[^]]*\]\s+)?\S+\s+)(\S+)(\s.*)', line)
        if found and suites([found[2]]):
            out.append(found[1] + suites([found[2]])[0] + found[3] + '\n')
    return '\n'.join(out)

# SPDX-License-Identifier: GPL-2.0-only
"""Which files make up a driver, read from Kbuild files.

A semantic patch that must see every use of a buffer has to know all files
that are linked into one module.  Kbuild says so: `foo-y := a.o b.o` makes
a.c and b.c one driver.  Conditions are ignored (every branch counts), so a
driver holds the files of all its configurations.

Everything that comes in a path style (absolute or relative) goes out in it.
Symbolic links are never followed to files of a driver: what is found through
one may lie outside the folder that the user gave us to change.
"""
from __future__ import annotations

import functools
import os
import re
import stat
from typing import Iterable, Iterator, NamedTuple

# How far above a source its Kbuild file may be: `foo-y := hw/rev2/core.o`
_LEVELS_UP = 4

# The front door runs rules on a copy that holds just one driver.  Who else
# includes a header of it can then be seen only in the tree the copy is of.
TREE_VARIABLE = 'COCCI_DMA_TREE'

#: The folders in which files were looked for so far, whether there or not, and
#: the files that were read: who keeps an answer of ours must ask again when
#: one of them changes.
looked_in: set[str] = set()
read_files: set[str] = set()

#: The files that other_users() has told: their text may have been looked at.
users_told: set[str] = set()

#: What the front door knows already: path -> what it includes, as written.
known_includes: dict[str, tuple[str, ...]] = {}


class Driver(NamedTuple):
    """The files that are built into one module (or built-in object)."""

    name: str
    sources: tuple[str, ...]
    headers: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All sources, then all headers."""
        return self.sources + self.headers


# --- Reading a Kbuild file --------------------------------------------------

_ASSIGNMENT = re.compile(r'^\s*(?:export\s+|override\s+)?'
                         r'([^\s:#=+?]+(?:\$\([^)]*\)[^\s:#=+?]*)?)'
                         r'\s*(?:\+|::?|\?)?=\s*(.*)$')
_OBJ_LIST = re.compile(r'^(?:obj|lib)-(?:y|m|objs|\$[({].*[)}])$')
_COMPOSITE = re.compile(r'^(.+?)-(?:objs-)?(?:y|m|objs|\$[({].*[)}])$')
#: Variables that hold compiler flags, and those given to make itself.
_FLAGS = re.compile(r'^(?:(?:subdir-)?c[cp]p?flags-.*|\w*C(?:PP)?FLAGS(?:_.*)?'
                    r'|LINUXINCLUDE|NOSTDINC_FLAGS)$')
_GIVEN_FLAGS = re.compile(r'\b\w*C(?:PP)?FLAGS(?:_\w+)?\s*\+?=\s*'
                          r'("[^"]*"|\'[^\']*\')')
_REFERENCE = re.compile(r'\$[({]([\w.-]+)[)}]')
#: Functions of make that only name a folder; what remains of them.
_SIMPLER = tuple((re.compile(pattern), simple) for pattern, simple in (
    (r'\$[({]shell\s+pwd[^(){}]*[)}]|`\s*pwd\s*`', '$(CURDIR)'),
    (r'\$[({](?:last|first)word\s+\$[({]MAKEFILE_LIST[)}]\s*[)}]',
     '$(src)/Makefile'),
    (r'\$[({](?:abs|real)path\s+((?:\$\(\w+\))?[^\s(){}$]*)\s*[)}]', r'\1'),
    (r'\$[({](?:dir|shell\s+dirname|patsubst\s+%/,%,)\s*\$\(src\)/'
     r'(?:Makefile)?\s*[)}]', '$(src)/')))
#: The folder of a Kbuild file, that which make was told to build, the kernel.
_HERE = re.compile(r'^(?:\$[({](?:src|obj)tree[)}]/+)?\$[({](?:src|obj)[)}]')
_MODULE = re.compile(r'^(?:\$[({]srctree[)}]/+)?'
                     r'\$[({](?:PWD|CURDIR|M|KBUILD_EXTMOD|SUBDIRS)[)}]')
_TOP = re.compile(r'^\$[({](?:srctree|objtree|TOPDIR)[)}]')
#: Folders whose headers are no driver's.
_SYSTEM = re.compile(r'^(?:/usr(?:/local)?/(?:include|lib)|/lib/modules'
                     r'|/usr/src/(?:linux|kernels?)[^/]*)(?:/|$)')
_KERNEL_HEADERS = re.compile(r'(?:arch/[^/]+/)?include(?:/|$)')
_INCLUDE_OPTION = re.compile(r'-(I|isystem|iquote|include)(.*)$')


class _Makefile(NamedTuple):
    """The variables of one folder's makefiles."""

    kbuild: dict[str, list[str]]    # of the one that Kbuild reads
    flags: dict[str, list[str]]     # of all of them, for compiler flags


class _Kbuild(NamedTuple):
    """One Kbuild file: its drivers.

    modules: name -> sources.  foreign: name -> files with code that is no C.
    """

    modules: dict[str, tuple[str, ...]]
    foreign: dict[str, tuple[str, ...]]


class _Flags(NamedTuple):
    """What the files of a folder are compiled with."""

    dirs: tuple[str, ...]           # where headers are looked for
    forced: tuple[str, ...]         # headers named with -include


def _read(path: str) -> str:
    """The text of a file; '' when it cannot be read."""
    read_files.add(path)
    try:
        with open(path, encoding='latin-1') as stream:
            return stream.read()
    except OSError:
        return ''


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """All (variable, value) of a makefile, continuation lines joined."""
    text = re.sub(r'\\\r?\n', ' ', text)
    for line in text.splitlines():
        found = _ASSIGNMENT.match(line.split('#', 1)[0])
        if found and not line.startswith('\t#'):
            yield found.group(1), _simple(found.group(2).strip())
    for given in _GIVEN_FLAGS.findall(text):
        yield 'EXTRA_CFLAGS', _simple(given[1:-1])


def _simple(value: str) -> str:
    """`value` without functions of make that only name a folder."""
    before = ''
    while before != value:
        before = value
        for pattern, simple in _SIMPLER:
            value = pattern.sub(simple, value)
    return value


def _kernel_top(folder: str) -> str | None:
    """The root of the kernel tree that holds `folder`, or None."""
    here = folder
    while True:
        if (os.path.exists(os.path.join(here, 'MAINTAINERS'))
                and os.path.exists(os.path.join(here, 'Kbuild'))):
            return here
        above = os.path.dirname(os.path.abspath(here))
        if above == os.path.abspath(here):
            return None
        here = above


class _Budget:
    """How many references may be followed yet: X := $(Y)$(Y) and the like
    make exponentially many of a few lines."""

    def __init__(self) -> None:
        self._left = 10_000

    def spent(self, within: frozenset[str]) -> bool:
        """One more, inside of so many others; is that too much?"""
        self._left -= 1
        return self._left < 0 or len(within) > 100


def _expand(value: str, variables: dict[str, list[str]],
            within: frozenset[str] = frozenset(),
            budget: _Budget | None = None) -> str:
    """`value` with the references to variables of the same file replaced.

    within: the variables whose value it is part of.  What refers to itself,
    as in `X := $(filter-out -g, $(X))`, means its other values.
    """
    if '$' not in value:
        return value
    left = budget or _Budget()

    def replace(found: re.Match[str]) -> str:
        name = found.group(1)
        if name in within or left.spent(within):
            return ''
        if name not in variables:
            return found.group(0)
        return _expand(' '.join(dict.fromkeys(variables[name])), variables,
                       within | {name}, left)

    return _REFERENCE.sub(replace, value)


def _inside(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


def _plain_file(path: str) -> bool:
    """Is there a file, with no symbolic link between it and its folder?"""
    looked_in.add(os.path.dirname(path))
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def _kbuild_files(folder: str) -> list[str]:
    """The makefiles of a folder; the first is the one that kbuild reads."""
    looked_in.add(folder)
    paths = (os.path.join(folder, name) for name in ('Kbuild', 'Makefile'))
    return [path for path in paths if os.path.isfile(path)]


@functools.lru_cache(maxsize=4096)
def _makefile(folder: str) -> _Makefile:
    """The variables that the makefiles of `folder` set."""
    out = _Makefile({}, {})
    for number, path in enumerate(_kbuild_files(folder)):
        for name, value in _assignments(_read(path)):
            out.flags.setdefault(name, []).append(value)
            if not number:
                out.kbuild.setdefault(name, []).append(value)
    return out


@functools.lru_cache(maxsize=4096)
def _parse(folder: str) -> _Kbuild | None:
    """What the Kbuild file of `folder` says; None when it builds nothing."""
    variables = _makefile(folder).kbuild
    lists: dict[str, list[str]] = {}
    built: list[str] = []
    for name, values in variables.items():
        value = _expand(' '.join(values), variables, frozenset({name}))
        if _FLAGS.match(name):
            continue
        if _OBJ_LIST.match(name):
            built += _objects(value)
        elif composite := _COMPOSITE.match(name):
            lists.setdefault(composite.group(1), []).extend(_objects(value))
    if not built and not any(lists.values()):
        return None

    modules: dict[str, tuple[str, ...]] = {}
    for name in [*lists, *built]:
        if name not in modules:
            sources = tuple(_sources(folder, name, lists, set()))
            if sources:
                modules[name] = sources
    # `b-y := b_main.o` named in `a-y := b.o` is a part of a, no driver.
    parts = {member for members in lists.values() for member in members
             if member in lists}
    for part in parts.difference(built):
        modules.pop(part, None)
    return _Kbuild(modules, {name: tuple(_foreign(folder, name, lists, set()))
                             for name in modules})


#: What an object is made of that is not compiled from C.
_FOREIGN = ('.S', '.s', '.asm', '.o_shipped', '.o_binary', '.a')


def _objects(value: str) -> list[str]:
    """The names (without .o) of the objects in a list, folders left out."""
    names = []
    for word in value.split():
        word = re.sub(r'^\$[({](?:src|obj)[)}]/', '', word)
        stem, ending = os.path.splitext(word)
        if (ending == '.o' or ending in _FOREIGN) and '$' not in word:
            names.append(os.path.normpath(stem))
    return names


def _sources(folder: str, name: str, lists: dict[str, list[str]],
             seen: set[str]) -> Iterator[str]:
    """The .c files of an object, through nested composites."""
    if name in seen:
        return
    seen.add(name)
    for member in lists.get(name, ()):
        yield from _sources(folder, member, lists, seen)
    path = os.path.normpath(os.path.join(folder, name + '.c'))
    # A composite foo.o made of foo-y never has a foo.c of its own, except
    # where foo-y names foo.o itself, which `seen` has just cut short.
    if _plain_file(path) and (name not in lists or name in lists[name]):
        yield path


def _foreign(folder: str, name: str, lists: dict[str, list[str]],
             seen: set[str]) -> Iterator[str]:
    """The files that an object is made of and that are no C."""
    if name in seen:
        return
    seen.add(name)
    for member in lists.get(name, ()):
        yield from _foreign(folder, member, lists, seen)
    path = os.path.normpath(os.path.join(folder, name))
    if not _plain_file(path + '.c'):
        yield from (path + ending for ending in _FOREIGN
                    if os.path.isfile(path + ending))


@functools.lru_cache(maxsize=4096)
def _flags(folder: str) -> _Flags:
    """Include folders and force-included headers of the files of `folder`.

    The kernel's own include folders hold no headers of a driver.
    """
    top = _kernel_top(folder or '.')
    if top == os.path.abspath(folder):
        return _Flags((), ())
    variables = _makefile(folder).flags
    words = [word.strip('"\'') for name, values in variables.items()
             if _FLAGS.match(name) for value in values
             for word in _words(value, variables, frozenset({name}))]
    dirs: list[str] = []
    forced: list[str] = []
    for index, word in enumerate(words):
        option = _INCLUDE_OPTION.match(word)
        if not option:
            continue
        named = option[2].strip('"\'=') or next(iter(words[index + 1:]), '')
        path = _folder_named(named, folder or '.', top)
        if path and not (top and _KERNEL_HEADERS.match(
                os.path.relpath(path, top))):
            (forced if option[1] == 'include' else dirs).append(path)
    return _Flags(tuple(dict.fromkeys(dirs)), tuple(dict.fromkeys(forced)))


def _words(value: str, variables: dict[str, list[str]],
           within: frozenset[str] = frozenset(),
           budget: _Budget | None = None) -> Iterator[str]:
    """The words of a value; of a variable that is set several times (in
    branches, say) each value counts.  within: see _expand()."""
    left = budget or _Budget()
    for word in value.split():
        found = next((ref for ref in _REFERENCE.finditer(word)
                      if ref[1] in variables), None)
        if found is None:
            yield word
            continue
        name = found[1]
        for text in ([''] if name in within or left.spent(within)
                     else dict.fromkeys(variables[name])):
            yield from _words(word[:found.start()] + text + word[found.end():],
                              variables, within | {name}, left)


def _folder_named(word: str, folder: str, top: str | None) -> str | None:
    """The path that a compiler flag names; None when that cannot be told.

    top: of the kernel tree that holds `folder`.
    """
    bases = [folder]
    path = _HERE.sub('.', word)
    if path == word:
        path = _MODULE.sub('.', word)
        if path != word or top is None:
            bases = list(_upwards(folder))
        elif _TOP.match(word) or not os.path.isabs(word):
            path = _TOP.sub('.', word)
            bases = [top if os.path.isabs(folder) else os.path.relpath(top)]
    if not path or '$' in path or _SYSTEM.match(path):
        return None
    paths = [os.path.normpath(os.path.join(base, path)) for base in bases]
    return next((p for p in paths if os.path.exists(p)), paths[0])


# --- Includes ---------------------------------------------------------------

_INCLUDE = re.compile(rb'include[ \t]*("[^"\n]+"|<[^>\n]+>)')
_DIRECTIVE = re.compile(rb'[ \t]*#[ \t]*')


def includes(text: bytes) -> tuple[str, ...]:
    """What is included, as it is written, in order, each once."""
    names: dict[str, None] = {}
    for found in _INCLUDE.finditer(text):   # a search by the word is quick
        begin = text.rfind(b'\n', 0, found.start()) + 1
        if _DIRECTIVE.fullmatch(text, begin, found.start()):
            names[found[1].decode('latin-1')] = None
    return tuple(names)


@functools.lru_cache(maxsize=65536)
def _included_names(path: str) -> tuple[str, ...]:
    """What a file includes, as it is written: `"foo.h"`, `<foo.h>`."""
    if path in known_includes:
        return known_includes[path]
    read_files.add(path)
    try:
        with open(path, 'rb') as stream:
            return includes(stream.read())
    except OSError:
        return ()


def _include_dirs(folder: str) -> tuple[str, ...]:
    """Folders that -I names for the files of `folder`, here or further up."""
    dirs: list[str] = []
    for above in _upwards(folder):
        dirs += _flags(above).dirs
    return tuple(dict.fromkeys(dirs))


def _resolve(name: str, folder: str, dirs: tuple[str, ...]) -> str | None:
    """The file that `#include name` in a file of `folder` means."""
    if name[0] == '"':
        path = os.path.normpath(os.path.join(folder, name[1:-1]))
        if _plain_file(path):
            return path
    return _search(name[1:-1], dirs) if dirs else None


@functools.lru_cache(maxsize=65536)
def _search(name: str, dirs: tuple[str, ...]) -> str | None:
    """The file of that name in the first of the folders that has one."""
    paths = (os.path.normpath(os.path.join(base, name)) for base in dirs)
    return next((path for path in paths if _plain_file(path)), None)


def _closure(sources: Iterable[str],
             forced: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """(included .c files, headers) that sources include, transitively."""
    queue = list(sources)
    seen = set(queue)
    included: list[str] = []
    headers = [path for path in forced if _plain_file(path)]
    queue += headers
    seen.update(headers)
    dirs: tuple[str, ...] = ()
    for path in list(queue):
        dirs += _include_dirs(os.path.dirname(path))
    dirs = tuple(dict.fromkeys(dirs))
    while queue:
        path = queue.pop()
        for name in _included_names(path):
            found = _resolve(name, os.path.dirname(path), dirs)
            if found is None or found in seen:
                continue
            seen.add(found)
            queue.append(found)
            (included if found.endswith('.c') else headers).append(found)
    return included, headers


# --- Drivers ----------------------------------------------------------------

def _upwards(folder: str) -> Iterator[str]:
    """`folder` and those above it whose Kbuild may name its files."""
    here = folder
    for _ in range(_LEVELS_UP):
        yield here
        if here in ('', '.') or os.path.basename(here) == '..':
            above = os.path.normpath(os.path.join(here, '..'))
        else:
            above = os.path.dirname(here) or '.'
        if (above == here or os.path.exists(os.path.join(here, 'MAINTAINERS'))
                or os.path.exists(os.path.join(here, '.git'))):
            return
        here = above


def _driver(name: str, sources: Iterable[str],
            forced: Iterable[str] = ()) -> Driver:
    own = list(dict.fromkeys(sources))
    included, headers = _closure(own, forced)
    return Driver(name, tuple(sorted({*own, *included})),
                  tuple(sorted(headers)))


def _forced(sources: Iterable[str]) -> list[str]:
    found: list[str] = []
    for folder in dict.fromkeys(os.path.dirname(path) for path in sources):
        for above in _upwards(folder):
            found += _flags(above).forced
            if _parse(above) is not None:
                break
    return found


def _sources_in(folder: str) -> list[str]:
    looked_in.add(folder)
    try:
        names = sorted(os.listdir(folder or '.'))
    except OSError:
        return []
    paths = (os.path.normpath(os.path.join(folder, name))
             for name in names if name.endswith('.c'))
    return [path for path in paths if _plain_file(path)]


@functools.lru_cache(maxsize=8192)
def _modules_of(folder: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """source -> (name, sources) for what the Kbuild of `folder` builds.

    Modules that share a source are one: a change made for one of them is
    made in the other.
    """
    kbuild = _parse(folder)
    merged: dict[str, tuple[str, tuple[str, ...]]] = {}
    for name, sources in (kbuild.modules if kbuild else {}).items():
        together = dict.fromkeys(sources)
        for source in sources:
            if source in merged:
                name = merged[source][0]
                together.update(dict.fromkeys(merged[source][1]))
        for source in together:
            merged[source] = name, tuple(together)
    return merged


def _find(source: str) -> tuple[str, tuple[str, ...]]:
    """(name, sources) of the driver that a .c file belongs to."""
    folder = os.path.dirname(source)
    known = False
    for above in _upwards(folder):
        module = _modules_of(above).get(source)
        if module is not None:
            return module
        known = known or _parse(above) is not None
    name = os.path.splitext(os.path.basename(source))[0]
    includer = _includer(source)
    if includer is not None:
        return _find(includer)
    if not known:
        # No Kbuild anywhere: what lies in one folder is built together.
        beside = _sources_in(folder)
        if source in beside:
            base = os.path.basename(os.path.abspath(folder or '.'))
            return (base if len(beside) > 1 else name), tuple(beside)
    return name, (source,)


def _includer(source: str) -> str | None:
    """A .c file beside `source` (or above) that #includes it, or None."""
    folder = os.path.dirname(source)
    base = os.path.basename(source)
    above = os.path.normpath(os.path.join(folder, '..'))
    for place in (folder, above):
        for path in _sources_in(place):
            if path == source:
                continue
            for name in _included_names(path):
                if os.path.basename(name[1:-1]) == base and _resolve(
                        name, os.path.dirname(path), ()) == source:
                    return path
    return None


def driver_of(file: str) -> Driver:
    """The driver that a source file belongs to.

    For a header: the driver of the first source beside it that includes it,
    else a driver of that header alone.
    """
    path = os.path.normpath(file)
    if not path.endswith('.c'):
        for source in _sources_in(os.path.dirname(path)):
            driver = driver_of(source)
            if path in driver.headers:
                return driver
        return Driver(os.path.splitext(os.path.basename(path))[0], (), (path,))
    name, sources = _find(path)
    return _driver(name, sources, _forced(sources))


def drivers(paths: Iterable[str]) -> list[Driver]:
    """All drivers that have a file at or below one of `paths`.

    A driver comes whole, also where only one of its files was named.  A
    header that no source of its folder includes is a driver without sources
    when it was named itself, and left alone when a folder was given.
    """
    found: dict[tuple[str, ...], Driver] = {}
    done: set[str] = set()

    def add(driver: Driver) -> None:
        found.setdefault(driver.files, driver)
        done.update(driver.sources)

    for path in paths:
        path = os.path.normpath(path)
        if not os.path.isdir(path):
            if path not in done:
                add(driver_of(path))
            continue
        for folder, subfolders, _ in os.walk(path):
            subfolders[:] = sorted(name for name in subfolders
                                   if not name.startswith('.'))
            for source in _sources_in(os.path.normpath(folder)):
                if source not in done:
                    add(driver_of(source))
    # A .c file that is both a driver of its own and #included by another.
    parts = {source for driver in found.values() for source in driver.sources
             if len(driver.sources) > 1}
    return [driver for driver in found.values()
            if not (len(driver.sources) == 1 and driver.sources[0] in parts)]


# --- Who else uses a header -------------------------------------------------

def _place_of(header: str) -> str:
    """Where `header` is, in the tree that a scratch copy was made of."""
    here = os.getcwd()
    tree = os.environ.get(TREE_VARIABLE) or here
    if os.path.isabs(header) and _inside(header, here):
        header = os.path.relpath(header, here)
    return os.path.normpath(os.path.join(tree, header))


def _near(folder: str) -> list[str]:
    """A folder, the one above, subfolders and sibling folders."""
    above = os.path.normpath(os.path.join(folder, '..'))
    folders = [folder, above]
    for base in (folder, above):
        try:
            with os.scandir(base or '.') as entries:
                folders += sorted(os.path.normpath(os.path.join(base, e.name))
                                  for e in entries
                                  if e.is_dir(follow_symlinks=False)
                                  and not e.name.startswith('.'))
        except OSError:
            continue
    looked_in.update(folders)
    return list(dict.fromkeys(folders))


def neighbours(folder: str) -> list[str]:
    """Files beside `folder`'s, above it, in subfolders and sibling folders."""
    files: list[str] = []
    for place in _near(folder):
        try:
            names = sorted(os.listdir(place or '.'))
        except OSError:
            continue
        files += (os.path.normpath(os.path.join(place, name)) for name in names
                  if name.endswith(('.c', '.h')))
    return files


@functools.lru_cache(maxsize=256)
def _users(header: str) -> tuple[str, ...]:
    """All .c files near `header` that include it, also through a header."""
    files = neighbours(os.path.dirname(header))
    users: list[str] = []
    wanted = [header]
    seen = {header}
    while wanted:
        target = wanted.pop()
        base = os.path.basename(target)
        for path in files:
            if path in seen:
                continue
            folder = os.path.dirname(path)
            for name in _included_names(path):
                if os.path.basename(name[1:-1]) == base and _resolve(
                        name, folder, _include_dirs(folder)) == target:
                    seen.add(path)
                    if path.endswith('.c'):
                        users.append(path)
                    else:
                        wanted.append(path)
                    break
    return tuple(sorted(users))


def foreign_code(sources: Iterable[str]) -> list[str]:
    """Files linked with a driver's sources that hold code, but not in C.

    They may call whatever is not static.  In a scratch copy they are looked
    for in the tree that it was copied from.
    """
    found: list[str] = []
    for source in map(_place_of, sources):
        for above in _upwards(os.path.dirname(source)):
            kbuild = _parse(above)
            for name, parts in kbuild.modules.items() if kbuild else ():
                if source in parts:
                    found += kbuild.foreign[name]
    return list(dict.fromkeys(found))


def other_users(header: str, driver: Driver) -> list[str]:
    """The .c files near `header` that include it but are not of `driver`.

    Looked for beside the header, above, in subfolders and sibling folders.  In a
    scratch copy of the front door the tree that it was copied from is asked;
    the paths are then those of that tree.
    """
    own = {_place_of(path) for path in driver.sources}
    place = _place_of(header)
    looked_in.update(_near(os.path.dirname(place)))     # also for a kept answer
    users = [path for path in _users(place) if path not in own]
    users_told.update(users)
    if os.path.isabs(header) or os.environ.get(TREE_VARIABLE):
        return users
    return [os.path.relpath(path) for path in users]

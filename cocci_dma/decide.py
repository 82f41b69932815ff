# SPDX-License-Identifier: GPL-2.0-only
"""Take the decisions of rules on drivers: a program for a process of its own.

A driver is parsed once, by the library of the rules, for all of them; spatch
is not needed to tell what is found.  Reads jobs as lines of JSON on stdin and
answers each with a line on stdout; ends when stdin does, or when it has grown
so much that a new process is better.
"""
from __future__ import annotations

import gc
import importlib
import json
import os
import re
import resource
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterator

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cocci_dma import source

from evidence import kbuild, plan  # from cocci/: see the package's __init__
from evidence.driver import Driver

#: MB.  What was parsed for one driver is of no use to the next, but Python
#: does not give all memory back.
GROWN = 400

#: Millions of objects are made, and nearly all are needed to the end: to look
#: for garbage among them again and again would take a third of the time.
_OBJECTS = 1_000_000


def main() -> None:
    """Answer jobs until there are no more; the last answer says `leaving`."""
    gc.set_threshold(_OBJECTS)
    leaving = False
    while not leaving:
        line = sys.stdin.readline()
        if not line:
            break
        answer = answered(json.loads(line))
        leaving = resource.getrusage(resource.RUSAGE_SELF
                                     ).ru_maxrss >> 10 > GROWN
        print(json.dumps(answer | {'leaving': leaving}), flush=True)


def answered(job: dict[str, Any]) -> dict[str, Any]:
    """job: files; rules as (name, confidence); options; words that matter.

    The answer: events by rule; edits: rule -> [path, line] of what it would
    rewrite, for spatch to look at; whole: rules of which spatch must see
    whole files; failures by rule; unparsed: functions with one of the words;
    outside: folders that were looked at besides, to see who includes what;
    users: files of other drivers whose text was looked at.
    """
    files = job['files']
    driver = Driver(files, {path: source.read(path).content.decode('latin-1')
                            for path in files})
    shown = {os.path.realpath(path): path for path in files}
    answer: dict[str, Any] = {'events': {}, 'edits': {}, 'whole': [],
                              'failures': {}}
    kbuild.looked_in.clear()
    kbuild.users_told.clear()
    for name, confidence in job['rules']:
        decide = importlib.import_module('evidence.' + name).decide
        try:
            units = plan.decided(name, decide, driver,
                                 frozenset(job['options']))
        except Exception as error:      # of one rule: the others go on
            traceback.print_exc()
            answer['failures'][name] = '%s: %s' % (type(error).__name__, error)
            continue
        change = [unit for unit in units if not unit.refused
                  and (unit.edits or unit.additions)]
        if change:
            answer['edits'][name] = [
                (e.path, e.token.line) for unit in change for e in unit.edits]
            more = [a.path for unit in change for a in unit.additions]
            if more:
                answer['whole'].append(name)
                answer['edits'][name] += ((path, 1) for path in more)
        answer['events'][name] = [asdict(event) for event in plan.events(
            name, confidence, units, shown)]
    answer['unparsed'] = list(_unparsed(driver, job['words']))
    answer['outside'] = sorted(kbuild.looked_in)
    answer['users'] = sorted(kbuild.users_told)
    return answer


def _unparsed(driver: Driver, words: list[str]
              ) -> Iterator[tuple[str, int, str]]:
    """(path, line, name) of what holds one of the words and was not parsed."""
    for file in driver.files_naming(*words):
        seen = set()
        for func in file.all_functions():
            seen.add(func.name)
            if not func.words.isdisjoint(words) and func.error:
                yield file.path, func.first.line, func.name
        text = file.text.split('\n')
        for name, first, last in source.functions(file.text.encode('latin-1')):
            body = '\n'.join(text[first - 1:last])
            if name not in seen and any(
                    re.search(r'\b%s\b' % re.escape(word), body)
                    for word in words):
                yield file.path, first, name


if __name__ == '__main__':
    main()

# SPDX-License-Identifier: GPL-2.0-only
"""Outputs of the parts of one run, put together as if it had been one.

No file is in two parts, so nothing has to be compared, only sorted.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Sequence

from . import Trouble, sarif


def merge(paths: Sequence[Path]) -> tuple[str, bool, bool]:
    """(the document, was something found, is it complete).  Raises Trouble."""
    parts = [_read(path) for path in paths]
    kinds = {'sarif' if 'runs' in part else 'json' for part in parts}
    if len(kinds) > 1:
        raise Trouble('%s: merge JSON with JSON, and SARIF with SARIF'
                      % ', '.join(map(str, paths)))
    return (_sarif if kinds == {'sarif'} else _json)(parts)


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise Trouble('%s: cannot be read: %s'
                      % (path, error.strerror)) from None
    except ValueError:
        told = None
    if not isinstance(told, dict) or not (
            {'findings', 'suppressed', 'coverage'} <= told.keys()
            or {'version', 'runs'} <= told.keys()):
        raise Trouble('%s: is no output of cocci-dma check --format json or '
                      'sarif' % path)
    return told


def _json(parts: Sequence[dict[str, Any]]) -> tuple[str, bool, bool]:
    whole = join(parts)
    coverage = whole['coverage']
    complete = not coverage['failures'] and not coverage['timeouts']
    return (json.dumps(whole, indent=2) + '\n', bool(whole['findings']),
            complete)


def join(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The JSON of a whole run, made of that of its parts."""
    def place(finding: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(finding[key] for key in (
            'path', 'line', 'column', 'rule', 'kind', 'message'))

    def every(key: str, order: Callable[[Any], Any]) -> list[Any]:
        return sorted((each for part in parts for each in part[key]),
                      key=order)

    covered = [part['coverage'] for part in parts]
    coverage: dict[str, Any] = {
        key: sum(each[key] for each in covered)
        for key in ('files', 'functions')}
    for key in ('unparsed', 'timeouts', 'skipped', 'failures'):
        coverage[key] = sorted(
            (each for part in covered for each in part[key]),
            key=lambda each: each if isinstance(each, str)
            else tuple(each.values()))
    return {'findings': every('findings', place),
            'suppressed': every('suppressed',
                                lambda known: place(known['finding'])),
            'coverage': coverage}


def _sarif(parts: Sequence[dict[str, Any]]) -> tuple[str, bool, bool]:
    whole = parts[0]
    runs = [part['runs'][0] for part in parts]
    run = whole['runs'][0]
    run['results'] = sorted((each for part in runs
                             for each in part['results']), key=sarif.order)
    notes = [note for part in runs for invocation in part['invocations']
             for note in invocation['toolExecutionNotifications']]
    complete = all(invocation['executionSuccessful'] for part in runs
                   for invocation in part['invocations'])
    run['invocations'] = [{'executionSuccessful': complete,
                           'toolExecutionNotifications':
                           sorted(notes, key=json.dumps)}]
    found = any('suppressions' not in told for told in run['results'])
    return json.dumps(whole, indent=1) + '\n', found, complete

# SPDX-License-Identifier: GPL-2.0-only
"""What a rule refuses when it hears what spatch can see and read."""
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from evidence import plan
from evidence.driver import Driver
from evidence.plan import Edit, Unit

CODE = 'void f(void)\n{\n\told(1);\n\told(2);\n}\n'


def settled(tmp_path: Path, *values: str) -> tuple[plan.Rule, list[Unit]]:
    """A rule that replaces each old() by one of the values."""
    path = tmp_path / 'foo.c'
    path.write_text(CODE)
    units: list[Unit] = []

    def decide(driver: Driver, _options: frozenset[str]) -> list[Unit]:
        calls = list(driver.definitions('f')[0].calls())
        units.extend(Unit(edits=[Edit('call', str(path), call.first, 'f', '',
                                      {'new': value})])
                     for call, value in zip(calls, values))
        return units

    rule = plan.Rule('toy', decide, lambda: [str(path)],
                     parses=lambda words: words != 'FOO bar')
    for line in (3, 4):
        rule.sees('call', position(path, line))
    return rule, units


def position(path: Path, line: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(file=str(path), line=line, column=1)]


def test_what_spatch_cannot_read_is_refused_alone(tmp_path: Path) -> None:
    rule, units = settled(tmp_path, 'FOO bar', 'ok(bar)')
    first, second = (position(tmp_path / 'foo.c', n) for n in (3, 4))
    assert not rule.converts('call', first)
    assert rule.converts('call', second)
    assert rule.value(second, 'new') == 'ok(bar)'
    assert 'spatch cannot read `FOO bar`' in units[0].notes[0].message
    assert not units[1].refused

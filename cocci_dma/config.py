# SPDX-License-Identifier: GPL-2.0-only
"""What a project has settled for all its runs: the file .cocci-dma.toml.

Paths in it are patterns as in .gitignore, relative to the folder of the file.
"""
from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Iterable, Mapping, NoReturn

import pathspec

from . import Trouble
from .findings import SEVERITIES, Finding
from .rules import Rule

NAME = '.cocci-dma.toml'


class Policy:
    """Names that code of some folders must not hold, and why."""

    def __init__(self, forbid: tuple[str, ...], paths: pathspec.PathSpec,
                 reason: str):
        self.forbid = forbid
        self.paths = paths
        self.reason = reason


@dataclass
class Config:
    """The settings; without a file, those that change nothing.

    folder: what patterns are relative to.  enabled: rules that run though
    they do not by default, or the reverse.
    """

    folder: str = ''
    exclude: pathspec.PathSpec = field(
        default_factory=lambda: _patterns(()))
    enabled: dict[str, bool] = field(default_factory=dict)
    excluded: dict[str, pathspec.PathSpec] = field(default_factory=dict)
    severity: dict[str, str] = field(default_factory=dict)
    net: bool = False
    baseline: str | None = None
    policies: list[Policy] = field(default_factory=list)

    def rules(self, rules: Iterable[Rule]) -> list[Rule]:
        """The rules that run when none is named."""
        return [rule for rule in rules
                if self.enabled.get(rule.name, rule.default)]

    def apply(self, findings: Iterable[Finding], base: str) -> list[Finding]:
        """Findings without those of excluded paths, as severe as is wished.

        base: the folder that the paths of findings are relative to.
        """
        return [replace(finding, severity=self.severity.get(
                            finding.rule, finding.severity))
                for finding in findings
                if not self._excludes(finding, base)]

    def _excludes(self, finding: Finding, base: str) -> bool:
        path = self.relative(os.path.join(base, finding.path))
        return self.exclude.match_file(path) or (
            finding.rule in self.excluded
            and self.excluded[finding.rule].match_file(path))

    def relative(self, path: str) -> str:
        """An absolute path as patterns see it."""
        return os.path.relpath(path, self.folder or os.getcwd())


def find() -> Path | None:
    """The settings for the current folder: here, or up to the repository."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / NAME).is_file():
            return folder / NAME
        if (folder / '.git').exists():
            break
    return None


def load(path: Path | None, rules: Iterable[Rule]) -> Config:
    """Read settings; None stands for none.  Raises Trouble."""
    if path is None:
        return Config()
    try:
        with path.open('rb') as stream:
            told = tomllib.load(stream)
    except OSError as error:
        raise Trouble('%s: cannot be read: %s'
                      % (path, error.strerror)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Trouble('%s: is no TOML: %s' % (path, error)) from None
    return _Reader(path, frozenset(rule.name for rule in rules)).config(told)


def _patterns(lines: Iterable[str]) -> pathspec.PathSpec:
    return pathspec.PathSpec.from_lines('gitwildmatch', lines)


class _Reader:
    """Turns what a file says into a Config, or says what is wrong with it."""

    def __init__(self, path: Path, rules: frozenset[str]):
        self._path = path
        self._rules = rules

    def config(self, told: Mapping[str, Any]) -> Config:
        self._only(told, 'the file', 'exclude', 'net', 'baseline', 'rules',
                   'policy')
        folder = self._path.resolve().parent
        config = Config(str(folder), self._paths(told, 'exclude'),
                        net=self._typed(told, 'net', bool, False))
        baseline = self._typed(told, 'baseline', str, '')
        if baseline:
            config.baseline = str(folder / baseline)
        for name, about in self._typed(told, 'rules', dict, {}).items():
            self._rule(config, name, about)
        for about in self._typed(told, 'policy', list, []):
            if not isinstance(about, dict):
                self._wrong('policy is no [[policy]]')
            config.policies.append(self._policy(about))
        return config

    def _rule(self, config: Config, name: str, about: Any) -> None:
        if name not in self._rules:
            self._wrong('there is no rule %s; `cocci-dma rules` lists them'
                        % name)
        if not isinstance(about, dict):
            self._wrong('rules.%s is no table: write [rules.%s]'
                        % (name, name))
        self._only(about, 'rules.' + name, 'enabled', 'exclude', 'severity')
        if 'enabled' in about:
            config.enabled[name] = self._typed(about, 'enabled', bool, True)
        if 'exclude' in about:
            config.excluded[name] = self._paths(about, 'exclude')
        if 'severity' in about:
            severity = self._typed(about, 'severity', str, '')
            if severity not in SEVERITIES:
                self._wrong('severity %r is none of %s'
                            % (severity, ', '.join(SEVERITIES)))
            config.severity[name] = severity

    def _policy(self, about: Mapping[str, Any]) -> Policy:
        self._only(about, 'policy', 'forbid', 'paths', 'reason')
        for key in ('forbid', 'reason'):
            if not about.get(key):
                self._wrong('a policy needs `%s`' % key)
        return Policy(tuple(self._strings(about, 'forbid')),
                      self._paths(about, 'paths') if 'paths' in about
                      else _patterns(['**']),
                      self._typed(about, 'reason', str, ''))

    def _only(self, told: Mapping[str, Any], where: str,
              *known: str) -> None:
        for key in told:
            if key not in known:
                self._wrong('unknown setting %s in %s; known are %s'
                            % (key, where, ', '.join(known)))

    def _paths(self, told: Mapping[str, Any], key: str) -> pathspec.PathSpec:
        return _patterns(self._strings(told, key))

    def _strings(self, told: Mapping[str, Any], key: str) -> list[str]:
        every = self._typed(told, key, list, [])
        if not all(isinstance(each, str) for each in every):
            self._wrong('%s is no list of strings' % key)
        return every

    def _typed(self, told: Mapping[str, Any], key: str, kind: type,
               default: Any) -> Any:
        value = told.get(key, default)
        if not isinstance(value, kind):
            self._wrong('%s is no %s' % (key, {
                bool: 'true or false', str: 'string', list: 'list',
                dict: 'table'}[kind]))
        return value

    def _wrong(self, what: str) -> NoReturn:
        raise Trouble('%s: %s' % (self._path, what))

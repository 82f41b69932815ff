# SPDX-License-Identifier: GPL-2.0-only
"""Leave out what comments in the source allow; say what is wrong with them.

evidence/allow.py reads the comments.
"""
from __future__ import annotations

from typing import Mapping, Sequence

from .findings import Finding, Known

from evidence.allow import Comment, comments  # from cocci/: see __init__

#: The rule of findings about such comments.
RULE = 'allow'
#: Only files that hold this word need be looked at.
WORD = 'cocci'


def sift(findings: Sequence[Finding], sources: Mapping[str, str],
         chosen: Sequence[str], known: Sequence[str]
         ) -> tuple[list[Finding], list[Known]]:
    """(what is still to be told, what comments allow).

    sources: path as in findings -> text.  chosen: the rules that ran; known:
    all rules.  What is wrong with a comment (no reason, no such rule, nothing
    that it allows) is told as a finding of our own.
    """
    said: dict[str, list[Comment]] = {}
    told: list[Finding] = []
    for path, text in sources.items():
        for comment in comments(path, text):
            wrong = _wrong(comment, known)
            if wrong:
                told.append(_finding(comment, wrong))
            else:
                said.setdefault(path, []).append(comment)
    used: set[tuple[int, str]] = set()
    allowed: list[Known] = []
    for finding in findings:
        comment = next((c for c in said.get(finding.path, ())
                        if finding.rule in c.rules
                        and c.first <= finding.line <= c.last), None)
        if comment is None:
            told.append(finding)
        else:
            used.add((id(comment), finding.rule))
            allowed.append(Known(finding, 'inSource', comment.reason))
    for path in said:
        told += (_finding(c, '%s says nothing here: remove the comment' % rule)
                 for c in said[path] for rule in c.rules
                 if rule in chosen and (id(c), rule) not in used)
    return told, allowed


def _wrong(comment: Comment, known: Sequence[str]) -> str:
    """Why a comment allows nothing; ''."""
    form = 'write /* cocci-dma: allow RULE - reason */'
    if not comment.rules:
        return 'no rule is named: ' + form
    unknown = [rule for rule in comment.rules if rule not in known]
    if unknown:
        return 'there is no rule %s; `cocci-dma rules` lists them' % unknown[0]
    return '' if comment.reason else 'no reason is given: ' + form


def _finding(comment: Comment, message: str) -> Finding:
    return Finding(RULE, 'finding', comment.path, comment.line,
                   comment.column, '', 'warning', 'High', message)

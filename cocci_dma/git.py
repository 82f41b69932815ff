# SPDX-License-Identifier: GPL-2.0-only
"""Run git on repositories in which nothing is to change."""
from __future__ import annotations

import os
import subprocess
from typing import Mapping, Sequence

from . import Trouble

#: What a repository may ask for that starts programs or writes files.
_QUIET = ('--no-pager', '--no-optional-locks', '-c', 'core.fsmonitor=false',
          '-c', 'core.untrackedCache=false', '-c', 'core.hooksPath=/dev/null')

#: Variables that say who the user is, and how git is set up here.
_KEPT = ('GIT_CONFIG', 'GIT_AUTHOR_', 'GIT_COMMITTER_', 'GIT_EXEC_PATH')


class Failed(Exception):
    """git did not do it; the text is the last line that it said."""


def environment() -> dict[str, str]:
    """Ours, without what would lead git elsewhere or make it talk."""
    env = {name: text for name, text in os.environ.items()
           if not name.startswith(('GIT_', 'LC_')) and name != 'LANG'
           or name.startswith(_KEPT)}
    return env | {'LC_ALL': 'C', 'GIT_OPTIONAL_LOCKS': '0',
                  'GIT_TERMINAL_PROMPT': '0', 'GIT_NO_LAZY_FETCH': '1'}


def run(command: Sequence[str], env: Mapping[str, str],
        data: bytes = b'') -> bytes:
    """What git prints.  Raises Failed, and Trouble without git."""
    try:
        done = subprocess.run(['git', *_QUIET, *command], env=env, input=data,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False)
    except FileNotFoundError:
        raise Trouble('git is not on PATH: apt-get install git') from None
    if done.returncode:
        said = os.fsdecode(done.stderr).strip().split('\n')
        raise Failed(said[-1] or 'exit %d' % done.returncode)
    return done.stdout

"""Reading a directory's ``.netsyncignore`` at the source.

A line that cannot be used is a problem of that file and the others count: a tree kept a little
too whole is the smaller evil on a standby. As with anything that could not be read, nothing is
deleted then.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from netsync.errors import UsageError, reason
from netsync.model import Problem, Rule
from netsync.names import IGNORE_FILE
from netsync.plan.filters import check_pattern
from netsync.plan.ignore import IGNORE_FILE_MAX, parse_patterns
from netsync.tree.read import open_regular, read_fully
from netsync.wire.listing import IGNORE_RULES_MAX

_GROUP = 1
"""The file's lines are one group; which number it has does not matter."""


class Ignored(NamedTuple):
    """The rules of one file, and what was wrong with it."""

    rules: list[Rule]
    problems: list[Problem]


def read_rules(directory: int, path: bytes) -> Ignored:
    """Read the ignore file in ``directory``; ``path`` is its own in the transfer.

    Anything but a regular file of that name is none.
    """
    try:
        status = os.stat(IGNORE_FILE, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            return Ignored([], [])
        fd = open_regular(directory, IGNORE_FILE)
        try:
            content = read_fully(fd, IGNORE_FILE_MAX + 1, 0)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return Ignored([], [])
    except OSError as error:
        return Ignored([], [Problem(path, "read patterns in", reason(error))])
    if len(content) > IGNORE_FILE_MAX:
        words = f"it is larger than {IGNORE_FILE_MAX >> 10} KiB and was not heeded"
        return Ignored([], [Problem(path, "read patterns in", words)])
    return _usable(content, path)


def _usable(content: bytes, path: bytes) -> Ignored:
    rules: list[Rule] = []
    problems: list[Problem] = []
    try:
        for number, rule in parse_patterns(content, _GROUP):
            try:
                check_pattern(rule.pattern)
            except UsageError as error:
                words = f"line {number}: {error.why}"
                problems.append(Problem(path, "read patterns in", words))
                continue
            if len(rules) == IGNORE_RULES_MAX:
                raise ValueError(f"more than {IGNORE_RULES_MAX} patterns, the rest not heeded")
            rules.append(rule)
    except ValueError as error:
        problems.append(Problem(path, "read patterns in", str(error)))
    return Ignored(rules, problems)

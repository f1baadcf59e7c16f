"""Which paths take part, as users say it: rules in their order, pattern files, lists of names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from netsync.errors import UsageError, reason
from netsync.model import PATHS_MAX, RULES_MAX, Rule
from netsync.plan.filters import check_pattern
from netsync.plan.ignore import parse_patterns
from netsync.plan.restriction import parse_list
from netsync.wire.selection import SELECTED_BYTES_MAX

_STDIN: Final = "-"
_MARKS: Final = {"--exclude": "-", "--include": "+", "--exclude-from": "@"}


def ordered_rules(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with every rule rewritten as ``--rule=`` and a mark of its kind.

    click collects each option by itself; as one option they keep their order.
    """
    rewritten: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        name, separator, value = argument.partition("=")
        if argument == "--":
            return [*rewritten, argument, *pending]
        if name not in _MARKS:
            rewritten.append(argument)
            continue
        if not separator:
            following = next(pending, None)
            if following is None:
                rewritten.append(argument)
                break
            value = following
        rewritten.append(f"--rule={_MARKS[name]}{value}")
    return rewritten


def rules_from(marked: Sequence[str]) -> tuple[Rule, ...]:
    """Return the rules; those of one pattern file are a group. Raises ``UsageError``."""
    rules: list[Rule] = []
    for group, each in enumerate(marked, 1):
        if each[0] == "@":
            rules += _rules_in(each[1:], group)
        else:
            rules.append(Rule(each[0] == "-", os.fsencode(each[1:])))
    if len(rules) > RULES_MAX:
        raise UsageError(f"{len(rules)} patterns are more than {RULES_MAX}")
    return tuple(rules)


def _rules_in(file: str, group: int) -> Iterator[Rule]:
    try:
        for number, rule in parse_patterns(_content(file, "read patterns from"), group):
            try:
                check_pattern(rule.pattern)
            except UsageError as error:
                place = f"{file}, line {number}"
                raise UsageError(error.why, op="read pattern in", where=place) from error
            yield rule
    except ValueError as error:
        raise UsageError(str(error), op="read patterns from", where=file) from error


def paths_from(given: dict[str, Any]) -> tuple[bytes, ...] | None:
    """Return the paths of ``--files-from``, or None without it. Raises ``UsageError``."""
    file = given["files_from"]
    if file is None:
        if given["from0"]:
            raise UsageError("--from0 says how --files-from is divided, which is not given")
        return None
    if given["delete"] or given["delete_excluded"]:
        raise UsageError(
            "--files-from and --delete exclude each other",
            hint="a list says nothing of what the source does not have",
        )
    paths = parse_list(_content(file, "read names from"), ends_with_nul=given["from0"])
    if len(paths) > PATHS_MAX:
        raise UsageError(f"more than {PATHS_MAX} names", op="read names from", where=file)
    return tuple(paths)


def _content(file: str, op: str) -> bytes:
    """Return what is in a file, or with ``-`` what comes on stdin."""
    try:
        if file == _STDIN:
            content = sys.stdin.buffer.read(SELECTED_BYTES_MAX + 1)
        else:
            with open(os.fsencode(file), "rb") as opened:
                content = opened.read(SELECTED_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(reason(error), op=op, where=os.fsencode(file)) from error
    if len(content) > SELECTED_BYTES_MAX:
        raise UsageError(
            f"it holds more than {SELECTED_BYTES_MAX >> 20} MiB", op=op, where=os.fsencode(file)
        )
    return content

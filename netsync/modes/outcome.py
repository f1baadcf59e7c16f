"""What a run came to, in the words and numbers of the command-line contract."""

from __future__ import annotations

import enum

from netsync.errors import HELD_EXIT, PARTIAL_EXIT, VANISHED_EXIT
from netsync.model import Report
from netsync.names import shown
from netsync.plan.differing import ROT


class Outcome(enum.StrEnum):
    """The ``result`` of a report."""

    OK = "ok"
    PARTIAL = "partial"
    VANISHED = "vanished"
    HELD = "held"
    FAILED = "failed"
    INDETERMINATE = "indeterminate"


EXIT_CODES = {
    Outcome.OK: 0,
    Outcome.PARTIAL: PARTIAL_EXIT,
    Outcome.VANISHED: VANISHED_EXIT,
    Outcome.HELD: HELD_EXIT,
}


def outcome_of(report: Report) -> Outcome:
    """Return what ``report`` amounts to: held before partial before vanished."""
    if report.held:
        return Outcome.HELD
    if report.problems_omitted or any(not problem.vanished for problem in report.problems):
        return Outcome.PARTIAL
    if report.problems:
        return Outcome.VANISHED
    return Outcome.OK


def troubled(report: Report) -> tuple[set[bytes], set[bytes]]:
    """Return the paths that failed, and those that were gone before they were read.

    What has rotted is neither: it is kept back on purpose, and whoever compares the whole tells it.
    """
    failed: set[bytes] = set()
    vanished: set[bytes] = set()
    for problem in report.problems:
        if problem.op == ROT:
            continue
        path = b"" if problem.path == b"." else problem.path
        (vanished if problem.vanished else failed).add(path)
    return failed, vanished


def worst_in_words(report: Report) -> str:
    """Return a line about the paths that failed: the first, and how many more."""
    failed = [each for each in report.problems if not each.vanished and each.op != ROT]
    count = len(failed) + report.problems_omitted
    if not failed:
        return f"{count} paths failed"
    more = f" (and {count - 1} more)" if count > 1 else ""
    return f"{failed[0].op} {shown(failed[0].path)}: {failed[0].error}{more}"

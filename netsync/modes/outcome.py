"""What a run came to, in the words and numbers of the command-line contract."""

from __future__ import annotations

import enum

from netsync.errors import HELD_EXIT, PARTIAL_EXIT, VANISHED_EXIT
from netsync.model import Report


class Outcome(enum.StrEnum):
    """The ``result`` of a report."""

    OK = "ok"
    PARTIAL = "partial"
    VANISHED = "vanished"
    HELD = "held"
    FAILED = "failed"


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

"""Scrubs: how much of a tree is read again when, and what is known of them.

A tree is read in parts, so many that one falls due at most every hour, and each file has its part
for good by its path. So a scrub needs to remember one number to go on after a restart, costs a
walk of the tree for each part, and reads as much as was asked for in a day, however often the
daemon was away: what was missed is not made up for at once. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from netsync.names import shown

_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%\s*/\s*(minute|hour|day|week|month)")
_HOUR: Final = 3600.0
_DAY: Final = 86400.0
_SECONDS: Final = {
    "minute": 60.0, "hour": _HOUR, "day": _DAY, "week": 7 * _DAY, "month": 30 * _DAY,
}  # fmt: skip
_PARTS_MIN: Final = 24
"""Parts of a tree that is read in less than a day."""
CYCLE_MAX: Final = 200 * _DAY
"""How long a whole round may take: as long as the memory of what a file held lasts."""
FOUND_MAX: Final = 100
"""Findings kept by name; more are counted."""
_NAMED: Final = 3
"""Paths named in a verdict."""
LATE_SECONDS: Final = _DAY
"""How much longer than it should a part may take before it is told."""


class Pace(NamedTuple):
    """A tree is read in so many ``parts``, one every ``seconds``."""

    parts: int
    seconds: float


def parse_pace(text: str) -> Pace:
    """Return what ``5%/day`` means. Raises ``ValueError``."""
    match = _SHARE.fullmatch(text.strip())
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(f"{text!r} is no share of a tree in a time")
    cycle = _SECONDS[match[2]] * 100 / float(match[1])
    if cycle > CYCLE_MAX:
        raise ValueError(f"{text!r} takes more than {CYCLE_MAX / _DAY:.0f} days for the whole tree")
    count = max(_PARTS_MIN, round(cycle / _HOUR))
    return Pace(count, cycle / count)


class Finding(Struct, frozen=True, array_like=True):
    """A path that is not what it should be, and in words what is wrong with it."""

    path: bytes
    what: str


class Scrubbing(Struct, frozen=True):
    """The facts about a job's scrubs. Times are as in ``Standing``.

    ``part`` is the next of ``parts``, ``due`` when it begins; ``since`` is when scrubs were first
    asked for, ``done`` when the last part was finished, ``failure`` why the last one was not.
    ``bytes`` counts what was read on each side since ever, ``rounds`` whole trees. ``found`` is
    what is wrong now, ``more`` how many paths beside those named.
    """

    parts: int
    since: float
    part: int = 0
    due: float | None = None
    done: float | None = None
    failure: str = ""
    bytes: int = 0
    rounds: int = 0
    found: tuple[Finding, ...] = ()
    more: int = 0

    @property
    def wrong(self) -> int:
        """How many paths are wrong."""
        return len(self.found) + self.more


def found_words(scrub: Scrubbing | None) -> str:
    """Return what is wrong in the tree, in one line, or nothing."""
    if scrub is None or not scrub.wrong:
        return ""
    files = "1 file" if scrub.wrong == 1 else f"{scrub.wrong} files"
    names = ", ".join(f"{shown(each.path)} ({each.what})" for each in scrub.found[:_NAMED])
    more = ", …" if scrub.wrong > min(_NAMED, len(scrub.found)) else ""
    rotted = "rotted" if any(each.what.startswith("rotted") for each in scrub.found) else "damaged"
    return f"{files} {rotted}: {names}{more}, see netsync events"


def late_words(scrub: Scrubbing | None, now: float) -> str:
    """Return what to say of scrubs that do not come about, or nothing."""
    if scrub is None or not scrub.failure:
        return ""
    last = scrub.since if scrub.done is None else scrub.done
    if now - last <= LATE_SECONDS:
        return ""
    return f"nothing was scrubbed for {(now - last) / _HOUR:.0f} hours: {scrub.failure}"


def renewed(before: Scrubbing, found: Sequence[Finding], looked_at: Sequence[Finding]) -> Scrubbing:
    """Return what is known after a scrub: ``found`` takes the place of those ``looked_at``."""
    fresh = {each.path: each for each in before.found if each not in looked_at}
    fresh.update({each.path: each for each in found})
    kept = tuple(fresh[path] for path in sorted(fresh))
    more = before.more + max(0, len(kept) - FOUND_MAX)
    return msgspec.structs.replace(before, found=kept[:FOUND_MAX], more=more)

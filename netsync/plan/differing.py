"""What a difference of content comes from: the word of each side about its own file, put together.

Each side knows what it has seen of its own files before (``History``), by a change time that
nobody can set. What it says of the other's is nothing. A run brings a file over whose size or time
differs; so a difference that neither of them shows is the worse one, since no run mends it. Pure.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

from netsync.model import Cause, Entry, History, Kind, Options, Slice
from netsync.plan.compare import times_differ

ROT: Final = "rot"
"""``Problem.op`` of a file that has rotted."""

WORDS: Final[Mapping[Cause, str]] = {
    Cause.ROTTED_AT_SOURCE: "rotted at the source",
    Cause.ROTTED_AT_TARGET: "rotted at the target",
    Cause.ROTTED_AT_BOTH: "rotted at both ends",
    Cause.EDITED_AT_SOURCE: "edited at the source, the target has not got it yet",
    Cause.CHANGED_AT_TARGET: "changed at the target by somebody, a run overwrites that",
    Cause.CHANGED_AT_BOTH: "changed at the source and at the target",
    Cause.UNKNOWN: "differs, and it is not known which side changed",
    Cause.DIVERGED: "differs though size and time are the same: only --checksum brings it",
    Cause.BUSY: "changes while it is read: not judged",
}
"""A cause in words for people."""

ROTTED: Final = frozenset({Cause.ROTTED_AT_SOURCE, Cause.ROTTED_AT_TARGET, Cause.ROTTED_AT_BOTH})
"""Told by the side that found it, among the report's problems."""

_ROTTED: Final[Mapping[tuple[bool, ...], Cause]] = {
    (True, False): Cause.ROTTED_AT_SOURCE,
    (False, True): Cause.ROTTED_AT_TARGET,
    (True, True): Cause.ROTTED_AT_BOTH,
}
_WRITTEN: Final[Mapping[tuple[bool, ...], Cause]] = {
    (True, False): Cause.EDITED_AT_SOURCE,
    (False, True): Cause.CHANGED_AT_TARGET,
    (True, True): Cause.CHANGED_AT_BOTH,
    (False, False): Cause.UNKNOWN,
}
"""Whether it is so at the source and at the target, and what follows."""


def cause_of(listed: Entry, present: Entry | None, options: Options) -> Cause:
    """Return why the content of two regular files differs; ``NONE`` if not, or nobody asks.

    Both have what their side knows of its own.
    """
    if not options.verify or present is None:
        return Cause.NONE
    if not listed.kind is present.kind is Kind.FILE or listed.digest == present.digest:
        return Cause.NONE
    return _cause_between(listed, present, options)


def _cause_between(listed: Entry, present: Entry, options: Options) -> Cause:
    histories = (listed.history, present.history)
    if History.ROTTED in histories:
        return _ROTTED[tuple(each is History.ROTTED for each in histories)]
    if History.BUSY in histories:
        return Cause.BUSY
    if listed.size == present.size and not times_differ(listed, present, options):
        return Cause.DIVERGED
    written = tuple(each is History.WRITTEN for each in histories)
    if written == (False, False) and listed.mtime_ns > present.mtime_ns:
        return Cause.EDITED_AT_SOURCE
    return _WRITTEN[written]


def is_in(path: bytes, part: Slice) -> bool:
    """Tell whether the file at ``path`` falls into a part. The same on both sides, for good."""
    return zlib.crc32(path) % part.count == part.index


def rotted_words(side: str, since: str) -> str:
    """Return what is said of a file that rotted on its ``side``, last seen well at ``since``."""
    mend = {
        "source": "the target may have it whole; touch it if it is right",
        "target": "a run with --checksum mends it",
    }[side]
    return (
        f"rotted at the {side}: its content is not what it was on {since}, though its size and "
        f"times are ({mend})"
    )


NOT_SENT: Final = "rotted here, so it is not sent (restore it; touch it if it is right)"
"""What is said of a file that is known to have rotted and was to be sent."""

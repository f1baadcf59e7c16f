"""A run that is cut goes on: connects anew, carries on where it was, and reports once.

An attempt that got further than all before it counts as progress; only attempts in a row without
any use up the retries. Between two attempts the run waits, longer each time and never exactly as
long as others do, so that a server that comes back is not met by all its clients at once. The
target merges the counts (see ``transfer/ledger.py``); here are added the bytes on the wire, and
whoever watches sees neither a line nor a byte twice.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import trio
from xxhash import xxh3_64_intdigest

from netsync.errors import NetsyncError
from netsync.model import Change, Item, Report
from netsync.net.channel import Channel
from netsync.transfer.tally import Observer

FIRST_PAUSE: Final = 0.5
"""Seconds before the first retry, and after each attempt that got further: long enough for a
server to notice that the connection is gone."""
LONGEST_PAUSE: Final = 30.0
"""Seconds the pause grows to, doubling: a server that restarts is found within that time."""
REPEAT_SECONDS: Final = 60.0
"""Seconds the pause grows to where only people can help: a full disk that was freed is found within
that time, and a large tree is not read all day."""
JITTER: Final = 0.5
"""Part of each pause that is left to chance."""
_TOKEN_BYTES: Final = 16

Say = Callable[[str], None]
"""Tells the user one line."""


class Attempt:
    """What all attempts of a run share; an observer of each that passes on only what is new."""

    def __init__(self, observer: Observer, retries: int) -> None:
        self.token = secrets.token_bytes(_TOKEN_BYTES) if retries else b""
        self.furthest = 0
        self._observer = observer
        self._repeats = retries > 0
        self._told = 0
        self._settled = 0
        self._sent = self._received = 0
        self._lines: set[int] = set()

    def begin(self) -> None:
        """A new attempt counts from the beginning again."""
        self._settled = 0

    def carried(self, channel: Channel) -> None:
        """Count what went over the wire in an attempt that ends."""
        sent, received = channel.wire
        self._sent += sent
        self._received += received

    def with_wire(self, report: Report) -> Report:
        """Return ``report`` with the bytes that all attempts together put on the wire."""
        counted = msgspec.structs.replace(
            report.bytes, wire_sent=self._sent, wire_received=self._received
        )
        return msgspec.structs.replace(report, bytes=counted)

    def listed(self, files: int, size: int, *, complete: bool) -> None:
        """Pass on what is known to exist."""
        self._observer.listed(files, size, complete=complete)

    def settled(self, size: int) -> None:
        """Pass on what is settled beyond what any attempt has settled."""
        self._settled += size
        if self._settled > self._told:
            self._observer.settled(self._settled - self._told)
            self._told = self._settled
        self._reach(self._settled)

    def under_way(self, size: int) -> None:
        """Pass on how far the file under way has got."""
        self._observer.under_way(size)
        self._reach(self._settled + size)

    def _reach(self, position: int) -> None:
        self.furthest = max(self.furthest, position)

    def items(self, items: Sequence[Item]) -> None:
        """Pass on the lines of paths that have not been told."""
        if self._repeats:
            new = {_number_of(item): item for item in items}
            items = [item for number, item in new.items() if number not in self._lines]
            self._lines.update(new)
        if items:
            self._observer.items(items)


def _number_of(item: Item) -> int:
    """Return a number for what a line is about: one path may be deleted and another kind made."""
    return xxh3_64_intdigest(item.path, seed=item.change is Change.DELETED)


def pause_before(retry: int, chance: float) -> float:
    """Return the seconds to wait before the ``retry``-th in a row; ``chance`` is from 0 to 1."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(retry - 1, 16))
    return longest * (1 - JITTER * chance)


def pause_after(in_vain: int, *, retryable: bool) -> float:
    """Return the seconds to wait after so many times in vain; what only people mend has its own."""
    if retryable:
        return pause_before(in_vain, random.random())  # noqa: S311 - no secret
    return min(REPEAT_SECONDS, FIRST_PAUSE * 2.0 ** min(in_vain, 16))


async def persist(
    work: Callable[[Attempt], Awaitable[Report]], observer: Observer, retries: int, say: Say
) -> Report:
    """Do ``work`` until an attempt succeeds, or fails for a reason that trying again cannot mend.

    Raises what the last attempt failed with.
    """
    attempt = Attempt(observer, retries)
    in_vain = 0
    while True:
        before = attempt.furthest
        attempt.begin()
        try:
            return attempt.with_wire(await work(attempt))
        except NetsyncError as error:
            in_vain = 0 if attempt.furthest > before else in_vain + 1
            if not error.retryable or in_vain > retries or not retries:
                raise
            pause = pause_before(max(1, in_vain), random.random())  # noqa: S311 - no secret
            left = f"retry {in_vain} of {retries}" if in_vain else "it had got on"
            say(f"{error}: trying again in {pause:.1f} s ({left})")
        await trio.sleep(pause)

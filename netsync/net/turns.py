"""Turns: a busy server moves the bulk data of a few sessions at a time, and then looks around.

trio runs every task that can run before it asks the kernel again. A session with data waiting
moves up to a megabyte when it is its turn, some milliseconds with a new buffer; with a hundred of
them a pass takes half a second, and a handshake takes several passes. So among many sessions
only ``TURNS`` move bulk data in one pass, first come first served, and the others stay asleep.
Who shakes hands, greets, or says something short needs no turn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import trio

TURNS: Final = 4
"""Sessions that move bulk data in one pass: some ten milliseconds."""


class Turns:
    """The turns of one server's sessions."""

    def __init__(self) -> None:
        self._sessions = 0
        self._left = TURNS
        self._announced = False
        self._waiting = trio.lowlevel.ParkingLot()

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Count a session: few of them need no turns."""
        self._sessions += 1
        try:
            yield
        finally:
            self._sessions -= 1

    async def wait(self) -> None:
        """Wait for a turn, to be used before the next checkpoint."""
        if self._sessions <= TURNS:
            return
        if self._left:
            self._left -= 1
            self._announce()
        else:
            await self._waiting.park()  # who is woken has a turn that nobody else can take

    def _announce(self) -> None:
        """Have turns given out anew in the next pass."""
        if not self._announced:
            self._announced = True
            trio.lowlevel.current_trio_token().run_sync_soon(self._begin_pass)

    def _begin_pass(self) -> None:
        self._announced = False
        woken = self._waiting.unpark(count=TURNS)
        self._left = TURNS - len(woken)
        if woken:
            self._announce()

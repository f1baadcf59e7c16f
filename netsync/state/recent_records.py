"""What was appended to a standby's journal last, in memory: who reads it soon needs no disk.

One thread adds, another takes. Where there is no room a record is not kept: it is read from the
disk then.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from netsync.state.journal_record import JournalRecord, Position

RECENT_BYTES: Final = 64 * 1024 * 1024
"""Bytes that are kept: as much as a primary has on its way."""
_SMALL: Final = 64 * 1024
"""Bytes that a record counts with at least: it may be a part of so much memory."""


class Recent:
    """Records that were appended last, for one thread that adds and one that takes."""

    def __init__(self) -> None:
        self._records: deque[tuple[Position, JournalRecord]] = deque()
        self._bytes = 0
        self._changing = threading.Lock()

    def add(self, position: Position, record: JournalRecord) -> None:
        """Keep a record, if there is room."""
        cost = _cost(record)
        with self._changing:
            if self._bytes + cost <= RECENT_BYTES:
                self._records.append((position, record))
                self._bytes += cost

    def take(self, position: Position) -> JournalRecord | None:
        """Return the record at ``position`` if it is here; forget it and all before."""
        with self._changing:
            while self._records and self._records[0][0] <= position:
                found, record = self._records.popleft()
                self._bytes -= _cost(record)
                if found == position:
                    return record
        return None

    def forget(self) -> None:
        """Keep nothing."""
        with self._changing:
            self._records.clear()
            self._bytes = 0


def _cost(record: JournalRecord) -> int:
    return max(_SMALL, len(record.body))

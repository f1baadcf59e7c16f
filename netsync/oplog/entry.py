"""An operation that a primary's log keeps, until all standbys have it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from netsync.operation import Operation
from netsync.wire.codec import Buffer
from netsync.wire.operations import unpack


class Entry(NamedTuple):
    """An operation that is kept. ``chain`` is that after it.

    ``written`` is the name under which it puts content, empty where it puts none.
    """

    seq: int
    parts: tuple[Buffer, ...]
    size: int
    chain: bytes
    file: int
    left: int
    written: bytes

    @property
    def packed(self) -> bytes:
        """The operation as it is sent."""
        return b"".join(self.parts)

    @property
    def operation(self) -> Operation:
        """The operation itself."""
        return next(unpack(memoryview(self.packed))).operation


def written_in(entries: Iterable[Entry]) -> set[bytes]:
    """Return the names under which ``entries`` put content."""
    return {entry.written for entry in entries if entry.written}

"""The primary's log: operations in one order, and what standbys have of them.

Whoever changes the backing directory appends each change here in the same step, without an await
between, so the order of the log is the order of the disk. ``append`` never waits; ``room`` does,
before a change is made, while too much is under way. ``wait`` returns once all standbys have what
was appended, as safely as asked. Without a standby the log only counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from netsync.operation import Level, Operation


@dataclass(frozen=True)
class LogStatus:
    """What is known of a log: the number of its last operation."""

    head: int


class Log:
    """``head`` is the number of the last operation; the first gets 1."""

    def __init__(self) -> None:
        self.head = 0

    def append(self, operation: Operation, file: int = 0, left: int = 0) -> int:
        """Add what was just done to the backing directory, and return its number.

        ``file`` is the inode that it was done to: of operations that write data or give a file a
        name. ``left`` is how many names the file still has that just lost one, by ``Unlink`` or
        in the way of ``Rename``. Never waits, never fails.
        """
        del operation, file, left  # kept for standbys only
        self.head += 1
        return self.head

    async def room(self) -> None:
        """Wait, before a change is made, until the log can take it.

        Raises ``IndeterminateError`` where the stream is closed to writers.
        """
        await trio.lowlevel.checkpoint()

    async def wait(self, seq: int, level: Level) -> None:
        """Return when all standbys have everything up to ``seq`` at ``level``.

        Raises ``IndeterminateError`` if the answer does not come: then it may be there or not.
        """
        assert seq <= self.head
        del level
        await trio.lowlevel.checkpoint()

    def status(self) -> LogStatus:
        """Return what is known now."""
        return LogStatus(self.head)

"""A standby's copy without a network: its tree, its state, and a primary's log that leads to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import trio

from netsync import operation as o
from netsync.errors import NetsyncError, unwrapped
from netsync.oplog.journaling import Mark
from netsync.oplog.opening import open_replica
from netsync.oplog.replica import Replica
from netsync.state.mirror_record import Record
from netsync.tree.directories import OPEN_DIRECTORY
from netsync.wire.mirroring import Operations
from netsync.wire.operations import NO_CHAIN, chained, pack

OWN: Final = (os.getuid(), os.getgid())


class Copy:
    """A copy that can be opened again and again, and a primary's log that leads to it."""

    def __init__(self, base: Path) -> None:
        self.tree = base / "tree"
        self.tree.mkdir(exist_ok=True)
        self.state = base / "state"
        self.record = Record(os.fsencode(self.tree), b"", "m", "primary1", 1, special=True)
        self.log: list[bytes] = []
        self.chains = [NO_CHAIN]

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Replica]:
        """Hold it with its tasks at work; it ends as if it were killed."""
        root = os.open(self.tree, OPEN_DIRECTORY)
        replica = open_replica(self.state, self.record, root)
        try:
            if not replica.record.complete:
                await replica.adopt(Mark(0, NO_CHAIN), replica.record)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run, replica)
                yield replica
                nursery.cancel_scope.cancel()
        finally:
            replica.close()
            os.close(root)

    async def _run(self, replica: Replica) -> None:
        with contextlib.suppress(NetsyncError), unwrapped():  # it is kept in ``failure``
            await replica.run()

    def add(self, *operations: o.Operation) -> None:
        for operation in operations:
            self.log.append(pack(operation))
            self.chains.append(chained(self.chains[-1], self.log[-1]))

    def send(self, replica: Replica, first: int, last: int, *, sync: bool = False) -> None:
        tail = memoryview(b"".join(self.log[first - 1 : last]))
        replica.take(Operations(first, last - first + 1, self.chains[last], sync), tail)


def copy_of_ten(base: Path) -> Copy:
    """Return a copy whose log makes a file and writes a digit to it nine times."""
    made = Copy(base)
    made.add(o.Create(b"f", 0o644, *OWN))
    for number in range(1, 10):
        made.add(o.Write(b"f", number - 1, b"%d" % number, number))
    return made


async def until_durable(replica: Replica, seq: int) -> None:
    with trio.fail_after(50):
        while replica.acked().durable < seq:
            await replica.wait_change()


async def until_applied(replica: Replica, seq: int) -> None:
    with trio.fail_after(50):
        while replica.acked().applied < seq:
            await replica.wait_change()

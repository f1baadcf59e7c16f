"""Making up for what a degraded standby was not sent, while writers go on.

First the operations on names, in their order, then what was written of each file, read now, then
what was done meanwhile: only all of it together is a state that the primary was in, so the standby
takes it as one. Should the session end before, the standby drops it, and what was done meanwhile is
owed as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Final

import trio

from netsync.errors import root_error
from netsync.net.channel import Channel
from netsync.operation import Operation
from netsync.oplog.debts import Debt, open_debt, read_debt
from netsync.oplog.entry import written_in
from netsync.oplog.follower import Follower, State
from netsync.oplog.log import Log
from netsync.oplog.owed import Owed
from netsync.oplog.streaming import BeforeSending
from netsync.wire.mirroring import (
    BATCH_OPERATIONS,
    OPERATIONS_MAX,
    Operations,
    ResyncBegin,
    ResyncEnd,
)
from netsync.wire.operations import NO_CHAIN, chained, pack

_READ_AHEAD: Final = 2
"""Operations read in one thread hop: two of at most 1 MiB fill a frame."""
_LOOKS: Final = 100
"""How often a file is looked for whose name is changing."""


class Resyncing:
    """One resync of ``follower``, which has everything up to ``follower.sent``."""

    def __init__(
        self,
        channel: Channel,
        log: Log,
        follower: Follower,
        root: int,
        before_sending: BeforeSending,
    ) -> None:
        self._channel = channel
        self._log = log
        self._follower = follower
        self._root = root
        self._before_sending = before_sending
        self._batch: list[bytes] = []
        self._size = 0
        self._count = 0
        self._chain = NO_CHAIN

    async def run(self) -> int:
        """Send all that is owed; return the number that the standby is at with it."""
        owed, follower = self._follower.owed, self._follower
        assert owed is not None
        follower.enter(State.RESYNC)
        follower.names = owed.known.copy()
        try:
            await self._channel.send(ResyncBegin())
            for seq, packed in owed.names:
                if seq > follower.sent:
                    await self._add(packed)
            for debt in _debts(owed):
                await self._send_file(debt)
            reached = await self._send_meanwhile(owed.until)
        finally:
            follower.names = None
        chain = self._log.chain_at(reached)
        assert chain is not None
        owed.chains[reached] = chain  # it may be there, whatever becomes of its answer
        follower.sent = reached
        await self._channel.send(ResyncEnd(self._count, reached, chain))
        return reached

    async def _send_meanwhile(self, after: int) -> int:
        """Send what was done since the debts were closed; return the last of it."""
        while entries := self._log.after(after):
            await self._before_sending(written_in(entries))
            for entry in entries:
                await self._add(entry.packed)
            after = entries[-1].seq
        await self._flush()
        return after

    async def _send_file(self, debt: Debt) -> None:
        fd = await self._open(debt)
        if fd is None:
            return
        operations = read_debt(fd, debt)
        try:
            while some := await trio.to_thread.run_sync(_take, operations):
                for operation in some:
                    await self._add(pack(operation))
        except OSError as error:
            raise root_error(error, op="read", where=debt.told) from error
        finally:
            operations.close()
            os.close(fd)

    async def _open(self, debt: Debt) -> int | None:
        """Open a file by the name it has now; None if it has none any more."""
        names = self._follower.names
        assert names is not None
        for _ in range(_LOOKS):
            path = names.name_of(debt.inode or debt.told)
            if path is None:
                return None
            await self._before_sending([path])
            fd = await trio.to_thread.run_sync(open_debt, self._root, path, debt.inode)
            if fd is not None:
                return fd
        owed = self._follower.owed
        assert owed is not None
        owed.whole = "a file that was written cannot be found by its names"
        raise root_error(FileNotFoundError(2, ""), op="find again", where=debt.told)

    async def _add(self, packed: bytes) -> None:
        is_full = len(self._batch) >= BATCH_OPERATIONS or self._size + len(packed) > OPERATIONS_MAX
        if self._batch and is_full:
            await self._flush()
        self._batch.append(packed)
        self._size += len(packed)
        self._chain = chained(self._chain, packed)

    async def _flush(self) -> None:
        if self._batch:
            first, batch = self._count + 1, self._batch
            self._count += len(batch)
            self._batch, self._size = [], 0
            await self._channel.send(Operations(first, len(batch), self._chain), batch)


def _debts(owed: Owed) -> Iterator[Debt]:
    for file, what in list(owed.files.items()):
        told = owed.known.name_of(file)
        if told is not None:
            yield Debt(file if isinstance(file, int) else 0, told, what)


def _take(operations: Iterator[Operation]) -> list[Operation]:
    return list(islice(operations, _READ_AHEAD))

"""What a primary remembers while it runs: record and activity log, each change durable.

It is changed from several tasks, the one of each standby among them, one after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

import msgspec
import trio

from netsync.errors import UsageError, root_error
from netsync.mirror.wanted import WantedMirror
from netsync.oplog.log import Log
from netsync.state.activity import EVERYTHING, Activity, read_activity
from netsync.state.primary_record import (
    GENERATIONS_MAX,
    PrimaryRecord,
    Stale,
    open_primary,
    primary_directory,
)
from netsync.state.slots import SlotFile
from netsync.tree.durable import sync_file_system


class Memory:
    """What a primary remembers, durably. ``written`` is what its last life has left to compare by
    content (None: everything)."""

    def __init__(self, config: WantedMirror) -> None:
        directory = primary_directory(config.state, config.source)
        self._slots: SlotFile[PrimaryRecord] = open_primary(directory)
        self._changing = trio.Lock()
        try:
            before = self._slots.value
            self.written: Sequence[bytes] | None = ()
            if before is not None and not before.clean:
                paths = read_activity(directory)
                is_known = before.noted or not before.stale
                self.written = sorted(paths) if is_known and EVERYTHING not in paths else None
            old = before or PrimaryRecord(config.source, b"")
            epoch = config.epoch or old.epoch
            if epoch < old.epoch:
                raise UsageError(f"epoch {epoch} is older than {old.epoch}", op="mirror",
                                 where=config.source)  # fmt: skip
            self._slots.save(
                msgspec.structs.replace(
                    old,
                    generation=os.urandom(16),
                    epoch=epoch,
                    clean=False,
                    noted=False,
                    at=time.time(),
                )
            )
            self.activity = Activity(directory)
        except BaseException:
            self._slots.close()
            raise

    @property
    def record(self) -> PrimaryRecord:
        """What is on the disk."""
        assert self._slots.value is not None
        return self._slots.value

    async def _save(self, **changes: object) -> None:
        now = msgspec.structs.replace(self.record, at=time.time(), **changes)
        await trio.to_thread.run_sync(self._slots.save, now)

    @property
    def suspect(self) -> Sequence[bytes] | None:
        """The files to compare by content (None: all), since size and time prove nothing of them.

        Those that an end without order has left, and those sent or owed since: two writes of one
        instant, of which the standby has the first, leave the same size and time.
        """
        noted = self.activity.noted
        if self.written is None or EVERYTHING in noted:
            return None
        return sorted({*self.written, *noted})

    async def will_tell(self, name: str) -> tuple[bytes, ...]:
        """A standby is about to be told our generation; return those that it may know us by."""
        async with self._changing:
            known = self.record.generations.get(name, ())
            if self.record.generation not in known:
                newest = known[1:][2 - GENERATIONS_MAX :]  # what it has answered last is the first
                known = (*known[:1], *newest, self.record.generation)
                await self._save(generations={**self.record.generations, name: known})
        return known

    async def has_told(self, name: str) -> None:
        """A standby has let our generation in, and remembers it and no other."""
        async with self._changing:
            generations = {**self.record.generations, name: (self.record.generation,)}
            if generations != self.record.generations:
                await self._save(generations=generations)

    async def in_step(self, name: str) -> None:
        """A standby is not stale any more."""
        async with self._changing:
            stale = {each: how for each, how in self.record.stale.items() if each != name}
            if stale != self.record.stale:
                await self._save(stale=stale)

    async def note_stale(self, name: str, seq: int) -> None:
        """A standby is left behind from now on."""
        async with self._changing:
            await self._save(stale={**self.record.stale, name: Stale(seq, time.time())})

    async def note_written(self, paths: Iterable[bytes]) -> None:
        """Data of these files is about to be sent."""
        if self.activity.new(paths):
            async with self._changing:
                if new := self.activity.new(paths):
                    await trio.to_thread.run_sync(self.activity.note, new)

    async def note_under_way(self, log: Log) -> None:
        """Note what ``log`` keeps for standbys, or owes them, and has sent to nobody."""
        owed = [each.owed for each in log.followers if each.owed is not None]
        paths = log.written.union(*(each.written for each in owed))
        await self.note_written(paths)
        for each in owed:
            each.written -= paths  # not before they are noted

    async def empty_activity(self, log: Log, root: int) -> None:
        """Flush the backing directory, and forget what was written before, where all show it.

        That they have it durably is too little: a standby whose copy does not fit the log drops
        what it has not done, and is compared.
        """
        self.activity.begin_emptying()
        await log.wait_shown(log.head)
        async with self._changing:
            await trio.to_thread.run_sync(flush, root)
            await trio.to_thread.run_sync(self.activity.finish_emptying)
        self.written = ()

    async def end_clean(self) -> None:
        """Everything is flushed here and there."""
        async with self._changing:
            await self._save(clean=True)

    async def end_noted(self, root: int) -> None:
        """Everything is flushed here; what a standby may lack has been noted."""
        async with self._changing:
            await trio.to_thread.run_sync(flush, root)
            await self._save(noted=True)

    def close(self) -> None:
        """Let go of the files."""
        self.activity.close()
        self._slots.close()


def flush(root: int) -> None:
    """Bring all of the mirror's directory to disk. Blocks; raises ``RootError``."""
    try:
        sync_file_system(root)
    except OSError as error:
        raise root_error(error, op="flush", where="the mirror's directory") from error

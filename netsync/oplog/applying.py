"""Journal to tree: a standby does what is durable in its journal, behind it and in its order.

The tree shows a prefix of the log at any time, but for the moments of a resync. A checkpoint
flushes the tree's file system and then the record of how far it is; after a crash everything behind
it is done again. When one is needed ``plan/redo.py`` says; some are made to keep the journal
short. What was done before a crash is unknown, so during a recovery none is made that is not
needed: one would claim that later operations were not done yet.

Everything here blocks and belongs into a worker thread, one at a time.
"""

from __future__ import annotations

import os
import time
from typing import Final

import msgspec

from netsync.errors import NetsyncError, RootError, is_fatal, reason, root_error
from netsync.names import shown
from netsync.operation import Link, Operation, Rename, names_of
from netsync.plan.redo import WINDOW_OPERATIONS, Window
from netsync.state.journal_record import JournalRecord, Kind, Position
from netsync.state.mirror_record import Record, RecordFile
from netsync.state.operation_journal import OperationJournal
from netsync.tree.apply import Applier
from netsync.tree.durable import sync_file_system
from netsync.tree.publication import recover
from netsync.wire.operations import unpack

CHECKPOINT_BYTES: Final = 256 * 1024 * 1024
"""Bytes of journal after which a checkpoint is made: they must be written to the tree by then."""
STEP_SECONDS: Final = 0.1
"""How long one step goes on before it returns to whoever may want it to end."""


class Applying:
    """Carries ``journal`` into the tree below ``root`` and keeps the record of it.

    ``root`` stays the caller's; it must be open since before the first write. ``position`` is where
    in the journal the tree is, ``seq`` the last operation that it shows. ``chain`` belongs to the
    last operation of a journal's record: in the middle of one nobody asks for it, since what is
    told to a primary is where the journal ends.
    """

    def __init__(
        self, root: int, records: RecordFile, journal: OperationJournal, applier: Applier
    ) -> None:
        self._root = root
        self._records = records
        self._journal = journal
        self._applier = applier
        self._window = Window()
        self._redo = False
        self._bytes = 0
        self._skip = 0
        self.position = journal.beginning
        self.seq = self.record.seq
        self.part = 0
        self.chain = self.record.chain

    @property
    def record(self) -> Record:
        """What is known of the place, durably."""
        assert self._records.record is not None
        return self._records.record

    @property
    def inode(self) -> int:
        """The number of the tree's root."""
        return os.fstat(self._root).st_ino

    @property
    def refusals(self) -> tuple[int, str]:
        """How much the system would not set since it was opened, and what that was last."""
        return self._applier.refused, self._applier.last_refusal

    def recover(self) -> None:
        """Go on from the last checkpoint to the journal's end: all of it, perhaps done before.

        Then the journal is emptied: of its pages none is trusted that a crash has left.
        """
        stop = self._journal.position
        self._redo = self.position < stop
        self._skip = self.record.part
        while not self.step(stop):
            pass
        self.checkpoint()
        self._redo = False
        self._journal.restart()
        self.position = self._journal.position

    def step(self, stop: Position) -> bool:
        """Go on towards ``stop``, for a moment. Tell whether it is reached. Raises our errors."""
        until = time.monotonic() + STEP_SECONDS
        for record, behind in self._journal.read(self.position, stop):
            self._take(record)
            self.position = behind
            if time.monotonic() > until:
                break
        self._settle()
        if not self._redo and self._is_long():
            self.checkpoint()
        return self.position >= stop

    def begin_at(self, seq: int, chain: bytes) -> None:
        """The tree was changed by others, and shows all up to ``seq``; the journal is empty."""
        self._applier.close()
        self._window = Window()
        self._bytes = self.part = self._skip = 0
        self.position = self._journal.position
        self.seq, self.chain = seq, chain

    def finish_comparison(self) -> None:
        """Publish the rest of a comparison that was cut while it published all at once.

        Half of it is no state of the primary, and nobody may publish the rest later, into a tree
        that has gone its own way. What was not committed to changes nothing. Raises ``RootError``.
        """
        self._applier.close()
        recover(self._root)
        self._flush()

    def close(self) -> None:
        """Let go of what is open in the tree."""
        self._applier.close()

    def _is_long(self) -> bool:
        return self._bytes > CHECKPOINT_BYTES or self._window.count > WINDOW_OPERATIONS

    def _take(self, record: JournalRecord) -> None:
        match record.kind:
            case Kind.OPERATIONS:
                for number, unpacked in enumerate(unpack(memoryview(record.body)), record.first):
                    if number > self.seq:
                        self._do(unpacked.operation)
                        self.seq = number
                self.chain = record.chain if record.last == self.seq else self.chain
            case Kind.RESYNC_OPERATIONS:
                for number, unpacked in enumerate(unpack(memoryview(record.body)), record.first):
                    if number > self._skip:
                        self._do(unpacked.operation)
                    self.part = number
            case Kind.RESYNC_END:
                self.seq, self.chain, self.part, self._skip = record.first, record.chain, 0, 0
        self._bytes += len(record.body)

    def _do(self, operation: Operation) -> None:
        try:
            if not self._window.admits(operation, shared=self._applier.shares(operation)):
                self.checkpoint()
                self._redo = False
            new = isinstance(operation, Link | Rename) and self._window.is_new(operation.path)
            self._applier.apply(operation, new=new, redo=self._redo)
        except OSError as error:
            raise self._failed(error, operation) from error
        self._window.note(operation)

    def checkpoint(self) -> None:
        """Flush the tree, then the record of how far it is. A failed flush is final."""
        self._flush()
        now = msgspec.structs.replace(
            self.record, seq=self.seq, part=self.part, chain=self.chain, at=time.time()
        )
        if now.seq != self.record.seq or now.part != self.record.part:
            self._records.save(now)
        self._journal.drop_before(self.position)
        self._window = Window()
        self._bytes = 0

    def _flush(self) -> None:
        self._settle()
        try:
            sync_file_system(self._root)
        except OSError as error:
            raise root_error(error, op="flush", where=self.record.place) from error

    def _settle(self) -> None:
        try:
            self._applier.settle()
        except OSError as error:
            raise root_error(error, op="set times in", where=self.record.place) from error

    def _failed(self, error: OSError, operation: Operation) -> NetsyncError:
        what = f"{type(operation).__name__.lower()} {' to '.join(map(shown, names_of(operation)))}"
        where = self.record.place
        if is_fatal(error):
            return root_error(error, op=f"do operation {self.seq + 1} ({what}) in", where=where)
        words = f"operation {self.seq + 1} ({what}) does not fit what is there: {reason(error)}"
        self._flush()  # what it shows so far is known to the primary, which thinks it safe
        self._records.save(
            msgspec.structs.replace(self.record, complete=False, words=words, at=time.time())
        )
        return RootError(
            words,
            op="apply to",
            where=where,
            hint="something else has changed the standby's copy; the primary will compare it all",
        )

"""Opening a standby's copy: what a crash has left is finished before anybody is told anything."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from netsync.errors import RootError
from netsync.model import Keep
from netsync.oplog.applying import Applying
from netsync.oplog.replica import Replica
from netsync.plan.xattrs import scope_for
from netsync.state.journal_record import KEY_BYTES
from netsync.state.mirror_record import STANDBY, Record, RecordFile
from netsync.state.operation_journal import OperationJournal
from netsync.tree.apply import Applier
from netsync.tree.capability import sees_trusted


def open_replica(state: Path, new: Record, root: int) -> Replica:
    """Hold the copy at ``new.place``, whose directory is open as ``root``, and recover it.

    ``new`` is what is known of a place that was none before; its ``special`` holds. Blocks; raises
    ``StateError`` and ``RootError``. ``root`` stays the caller's.
    """
    records = RecordFile(state, new.place)
    try:
        if records.record is None:
            key = int.from_bytes(os.urandom(KEY_BYTES), "big")
            records.save(msgspec.structs.replace(new, key=key))
        return _opened(records, root, special=new.special)
    except BaseException:
        records.close()
        raise


def promote_closed(state: Path, record: Record, root: int) -> Record:
    """Finish and promote a copy that no server holds. Blocks; raises like ``open_replica``."""
    replica = open_replica(state, record, root)
    try:
        return replica.promote_at_rest()
    finally:
        replica.close()


def _refuse_other(record: Record, root: int, directory: Path) -> None:
    """Raise ``RootError`` if ``root`` is not the directory that the whole copy was in.

    What is durable would be carried into an empty mount point else, and the rest called there.
    """
    is_copy = record.complete and record.role == STANDBY
    if is_copy and record.inode not in (0, os.fstat(root).st_ino):
        raise RootError(
            "the directory is another than that which holds the standby's copy",
            op="open mirror",
            where=record.place,
            hint="is its file system mounted? If another was put there on purpose, stop the server "
            f"and remove {directory}: everything is compared then",
        )


def _opened(records: RecordFile, root: int, *, special: bool) -> Replica:
    record = records.record
    assert record is not None
    _refuse_other(record, root, records.directory)
    journal = OperationJournal(records.directory, record.key)
    keep = Keep(xattrs=True, acls=True)
    scope = scope_for(keep, privileged=sees_trusted(), special=special)
    applier = Applier(root, scope, special=special)
    try:
        end = journal.open_after(record.seq, record.chain)
        applying = Applying(root, records, journal, applier)
        if record.complete and record.role == STANDBY:
            applying.recover()
        else:  # what is there is no prefix of the log: all will be compared
            end = end._replace(seq=record.seq, chain=record.chain)
            applying.position = journal.position
    except BaseException:
        applier.close()
        journal.close()
        raise
    return Replica(records, journal, applying, end)

"""A standby's journal: what arrived, in order, before any of it is done.

The journal is a row of segments, files in one directory. Records are appended: a head with length,
kind, numbers and checksum, then packed operations as they came. ``sync`` makes all that was
appended durable. What must hold when it is read after a crash:

* a record that is torn ends the journal, with everything behind it, since nothing there can have
  been called durable;
* unless it had been: each record says how far the journal was durable when it was written. If a
  whole record is found behind a broken one that vouches for it, the disk has lost what it promised
  to keep, and nobody may go on as if it had not.

A resync counts only whole: one without its end is cut off.

One thread appends, another syncs what was appended before, a third reads what is durable. Each
segment is open twice for that, so that an error of writing back is told to who syncs, whatever
became of the others. What was appended last stays in memory, within bounds: who reads it soon need
not have it from the disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from netsync.errors import StateError, reason
from netsync.state.journal_record import (
    HEAD_BYTES,
    JournalRecord,
    Kind,
    Position,
    head_of,
    read_record,
    vouched_for,
)
from netsync.state.recent_records import Recent
from netsync.state.slots import flush_directory
from netsync.wire.operations import NO_CHAIN

SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""Bytes after which a new segment begins: old ones are removed whole."""
AHEAD_BYTES: Final = 128 * 1024
"""Zeros written behind a short record: the next ones lie where the file has blocks already, and a
flush of those needs no new ones to be noted, which costs as much again."""
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class End(NamedTuple):
    """Where a journal ends: the place, and the log's number and chain there."""

    position: Position
    seq: int
    chain: bytes


class OperationJournal:
    """The journal in ``directory``. Everything blocks; errors are ``StateError``.

    ``key`` is the same whenever it is opened. ``open_after`` must be called first.
    """

    def __init__(self, directory: Path, key: int) -> None:
        self._directory = directory
        self._key = key
        self._fd = -1
        self._unsynced: list[int] = []
        self._has_begun = False
        self._changing = threading.Lock()
        self._written = 0
        self._at = Position(0, 0)
        self._recent = Recent()
        self._readers: dict[int, int] = {}

    @property
    def position(self) -> Position:
        """Where the next record goes."""
        return self._at

    @property
    def beginning(self) -> Position:
        """Where the oldest segment begins."""
        return Position(min(self._segments(), default=self._at.segment), 0)

    # --- opening -------------------------------------------------------------------------------

    def open_after(self, seq: int, chain: bytes) -> End:
        """Find the journal's end; the tree is at ``seq`` at least. What is torn is cut off."""
        with _told(self._directory):
            segments = self._segments()
            end = End(Position(segments[0] if segments else 1, 0), seq, chain)
            keep = end
            for number in segments:
                if number != end.position.segment and number != end.position.segment + 1:
                    raise self._damaged(number, "a segment before it is missing")
                if number != segments[0] and not self._continues(number, end.position):
                    self._must_be_torn(end.position.segment, end)
                    break
                end = end._replace(position=Position(number, 0))
                end, keep, is_whole = self._scanned(number, end, keep)
                if not is_whole:
                    self._must_be_torn(number, end)
                    break
            self._end_at(keep.position)
        return keep

    def _continues(self, number: int, before: Position) -> bool:
        """Tell whether the segment before ``number`` was flushed to its end, which is ``before``.

        What a power cut has left of it may look whole.
        """
        with self._opened(number) as fd:
            found = read_record(fd, 0, self._key)
        return found is None or (found[0].kind, found[0].first) == (Kind.SEGMENT, before.offset)

    def _must_be_torn(self, number: int, end: End) -> None:
        """Segment ``number`` is broken at ``end``. Raise if anything behind it was durable."""
        for each in self._segments():
            if each >= number:
                with self._opened(each) as fd:
                    offset = end.position.offset if each == number else 0
                    if vouched_for(fd, offset, os.fstat(fd).st_size, end.seq, self._key):
                        raise self._damaged(number, f"what was durable after {end.seq} is broken")

    @contextlib.contextmanager
    def _opened(self, number: int) -> Iterator[int]:
        fd = os.open(self._file(number), _READ)
        try:
            yield fd
        finally:
            os.close(fd)

    def cut(self, position: Position) -> None:
        """Drop everything behind ``position``, durably; what lies before it is flushed."""
        with _told(self._directory):
            for fd in self._unsynced:  # once they are closed nobody hears of their errors
                os.fdatasync(fd)
            self._close_segments()
            self._end_at(position)

    def _scanned(self, number: int, end: End, keep: End) -> tuple[End, End, bool]:
        """Walk one segment from ``end``; ``keep`` is the end if a resync is never finished."""
        with self._opened(number) as fd:
            size = os.fstat(fd).st_size
            offset, seq, chain = 0, end.seq, end.chain
            while (found := read_record(fd, offset, self._key)) is not None:
                record, _ = found
                if record.kind is Kind.OPERATIONS:
                    if record.first > seq + 1:
                        raise self._damaged(number, f"operations from {seq + 1} on are missing")
                    if record.last >= seq:
                        seq, chain = record.last, record.chain
                elif record.kind is Kind.RESYNC_END:
                    seq, chain = record.first, record.chain
                offset += HEAD_BYTES + len(record.body)
                end = End(Position(number, offset), seq, chain)
                if record.kind in (Kind.OPERATIONS, Kind.RESYNC_END):
                    keep = end
        return end, keep, offset == size

    def _end_at(self, position: Position) -> None:
        for number in self._segments():
            if number > position.segment:
                os.unlink(self._file(number))
        self._open_segment(position, _OPEN)
        os.ftruncate(self._fd, position.offset)
        os.fsync(self._fd)
        flush_directory(self._directory)
        self._recent.forget()

    def _open_segment(self, position: Position, flags: int) -> None:
        """Open the segment of ``position`` for both who append and who sync."""
        path = self._file(position.segment)
        self._fd = os.open(path, flags, 0o600)
        self._unsynced.append(os.open(path, _READ))
        self._at = position
        self._written = position.offset

    # --- writing -------------------------------------------------------------------------------

    def append(self, records: list[JournalRecord], durable: int) -> None:
        """Write ``records`` at the end; ``durable`` is what is known to be durable before."""
        with _told(self._directory):
            if self._at.offset >= SEGMENT_BYTES:
                records = [self._begin_segment(), *records]
            buffers: list[bytes | memoryview] = []
            for record in records:
                buffers += [head_of(record, durable, self._key), record.body]
            self._write(buffers)
            for record in records:
                self._recent.add(self._at, record)
                behind = self._at.offset + HEAD_BYTES + len(record.body)
                self._at = Position(self._at.segment, behind)

    def _write(self, buffers: list[bytes | memoryview]) -> None:
        """Write at the end, and zeros behind it where others will soon want room."""
        at = self._at.offset
        total = sum(map(len, buffers))
        if total < AHEAD_BYTES and at + total > self._written:
            buffers.append(bytes(AHEAD_BYTES))
        for start in range(0, len(buffers), 512):  # fewer than the kernel takes at once
            at = _write_all(self._fd, buffers[start : start + 512], at)
        self._written = max(self._written, at)

    def sync(self) -> None:
        """Make all durable that was appended before. More may be appended meanwhile.

        A failure is final: nothing more may be believed.
        """
        with _told(self._directory):
            with self._changing:
                synced, has_begun = list(self._unsynced), self._has_begun
                self._has_begun = False
            for fd in synced:
                os.fdatasync(fd)
            if has_begun:
                flush_directory(self._directory)
            with self._changing:
                for fd in synced[:-1]:  # the last one is still written to
                    self._unsynced.remove(fd)
                    os.close(fd)

    def _begin_segment(self) -> JournalRecord:
        """Begin the next segment; return the record that goes first."""
        end = self._at.offset
        if self._written > self._at.offset:
            os.ftruncate(self._fd, self._at.offset)  # the end of its records is its end
        with self._changing:
            full, self._fd = self._fd, -1  # the number may be another file's, if no other is opened
            os.close(full)
            self._open_segment(Position(self._at.segment + 1, 0), _OPEN | os.O_EXCL)
            self._has_begun = True
        return JournalRecord(Kind.SEGMENT, end, 0, NO_CHAIN)

    # --- reading -------------------------------------------------------------------------------

    def read(self, start: Position, stop: Position) -> Iterator[tuple[JournalRecord, Position]]:
        """Yield the records between two places, each with the place behind it."""
        while start < stop:
            if (recent := self._recent.take(start)) is not None:
                start = Position(start.segment, start.offset + HEAD_BYTES + len(recent.body))
                yield recent, start
                continue
            fd = self._reader(start.segment)
            with _told(self._directory):
                found = read_record(fd, start.offset, self._key)
            if found is None:
                if start.segment == stop.segment or start.offset < os.fstat(fd).st_size:
                    raise self._damaged(start.segment, "what was written reads otherwise")
                start = Position(start.segment + 1, 0)
                continue
            start = Position(start.segment, start.offset + HEAD_BYTES + len(found[0].body))
            yield found[0], start

    def _reader(self, number: int) -> int:
        fd = self._readers.get(number)
        if fd is None:
            with _told(self._directory):
                fd = os.open(self._file(number), _READ)
            self.close_readers()
            self._readers[number] = fd
        return fd

    def close_readers(self) -> None:
        """Let go of what is being read."""
        while self._readers:
            os.close(self._readers.popitem()[1])

    # --- ending --------------------------------------------------------------------------------

    def drop_before(self, position: Position) -> None:
        """Remove the segments that end before ``position``."""
        with _told(self._directory):
            for number in self._segments():
                if number < position.segment:
                    os.unlink(self._file(number))

    def size_from(self, position: Position) -> int:
        """Return about how many bytes lie behind ``position``."""
        whole = self._at.segment - position.segment
        return max(0, whole * SEGMENT_BYTES + self._at.offset - position.offset)

    def restart(self) -> None:
        """Forget everything: begin a new segment and remove the others."""
        with _told(self._directory):
            self.close_readers()
            self._close_segments()
            self._recent.forget()
            self._open_segment(Position(self._at.segment + 1, 0), _OPEN | os.O_EXCL)
            self.drop_before(self._at)
            flush_directory(self._directory)

    def close(self) -> None:
        """Let go of the files."""
        self.close_readers()
        self._close_segments()

    def _close_segments(self) -> None:
        while self._unsynced:
            os.close(self._unsynced.pop())
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _segments(self) -> list[int]:
        names = (path.name for path in self._directory.glob("journal-*"))
        return sorted(int(name.removeprefix("journal-")) for name in names)

    def _file(self, number: int) -> Path:
        return self._directory / f"journal-{number:012d}"

    def _damaged(self, number: int, why: str) -> StateError:
        return StateError(
            f"the journal is damaged: {why}",
            op="read",
            where=str(self._file(number)),
            hint="the disk has lost data that was flushed: check it, remove this directory, and "
            "let the primary compare everything anew",
        )


class _told:  # noqa: N801 - reads like the context manager that it is
    """Turn the system's errors into ours."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            where = str(self._directory)
            raise StateError(reason(error), op="use the journal in", where=where) from error


def _write_all(fd: int, buffers: list[bytes | memoryview], at: int) -> int:
    """Write ``buffers`` from ``at`` on; return where they end."""
    end = at + sum(map(len, buffers))
    at += os.pwritev(fd, buffers, at)
    if at < end:
        rest = memoryview(b"".join(buffers))
        while at < end:
            at += os.pwrite(fd, rest[len(rest) - (end - at) :], at)
    return end

"""A standby's journal: what arrived, in order, before any of it is done.

The journal is a row of segments, files in one directory. Records are appended: a head with length,
kind, numbers and checksum, then packed operations as they came. ``sync`` makes all that was
appended durable. What must hold when it is read after a crash:

* a record that is torn ends the journal, with everything behind it, since nothing there can have
  been called durable;
* unless it had been: each record says how far the journal was durable when it was written. If a
  whole record is found behind a broken one that vouches for it, the disk has lost what it promised
  to keep, and nobody may go on as if it had not.

A resync counts only whole: one without its end is cut off. One thread appends and syncs, another
reads what is durable; they share files, not state.
"""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64

from netsync.errors import StateError, reason
from netsync.state.slots import flush_directory
from netsync.wire.frames import TAIL_MAX

SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""Bytes after which a new segment begins: old ones are removed whole."""
_MAGIC: Final = b"nsop"
_HEAD: Final = struct.Struct("<4sIBxxxIQQ16s")
_CHECK: Final = struct.Struct("<Q")
HEAD_BYTES: Final = _HEAD.size + _CHECK.size
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Kind(enum.IntEnum):
    """What a record is. Only ``OPERATIONS`` count in the log's own numbers."""

    OPERATIONS = 1
    RESYNC_BEGIN = 2
    RESYNC_OPERATIONS = 3
    RESYNC_END = 4


class JournalRecord(NamedTuple):
    """One record. ``first`` numbers its first operation, ``chain`` is that after its last.

    Of an end of a resync ``first`` is the number where the standby is with it, there are none.
    """

    kind: Kind
    first: int
    operations: int
    chain: bytes
    body: bytes | memoryview = b""

    @property
    def last(self) -> int:
        """The number of its last operation."""
        return self.first + self.operations - 1 if self.operations else self.first


class Position(NamedTuple):
    """A place between two records."""

    segment: int
    offset: int


class End(NamedTuple):
    """Where a journal ends: the place, and the log's number and chain there."""

    position: Position
    seq: int
    chain: bytes


class OperationJournal:
    """The journal in ``directory``. Everything blocks; errors are ``StateError``.

    ``open_after`` must be called first.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = -1
        self._at = Position(0, 0)
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
                end = end._replace(position=Position(number, 0))
                end, keep, is_whole = self._scanned(number, end, keep)
                if not is_whole and number != segments[-1]:
                    raise self._damaged(number, "it is broken, and not the last")
            self._end_at(keep.position)
        return keep

    def cut(self, position: Position) -> None:
        """Drop everything behind ``position``, durably."""
        with _told(self._directory):
            os.close(self._fd)
            self._end_at(position)

    def _scanned(self, number: int, end: End, keep: End) -> tuple[End, End, bool]:
        """Walk one segment from ``end``; ``keep`` is the end if a resync is never finished."""
        fd = os.open(self._file(number), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = os.fstat(fd).st_size
            offset, seq, chain = 0, end.seq, end.chain
            while (found := _read(fd, offset)) is not None:
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
            if offset < size and _vouched_for(fd, offset, size, seq):
                raise self._damaged(number, f"what was durable after {seq} is broken")
        finally:
            os.close(fd)
        return end, keep, offset == size

    def _end_at(self, position: Position) -> None:
        for number in self._segments():
            if number > position.segment:
                os.unlink(self._file(number))
        self._fd = os.open(self._file(position.segment), _OPEN, 0o600)
        os.ftruncate(self._fd, position.offset)
        os.fsync(self._fd)
        flush_directory(self._directory)
        self._at = position

    # --- writing -------------------------------------------------------------------------------

    def append(self, records: list[JournalRecord], durable: int) -> None:
        """Write ``records`` at the end; ``durable`` is what is known to be durable before."""
        with _told(self._directory):
            if self._at.offset >= SEGMENT_BYTES:
                self._begin_segment()
            buffers: list[bytes | memoryview] = []
            for record in records:
                buffers += [_head(record, durable), record.body]
            total = sum(map(len, buffers))
            for start in range(0, len(buffers), 512):  # fewer than the kernel takes at once
                _write_all(self._fd, buffers[start : start + 512])
            self._at = Position(self._at.segment, self._at.offset + total)

    def sync(self) -> None:
        """Make all that was appended durable. A failure is final: nothing more may be believed."""
        with _told(self._directory):
            os.fdatasync(self._fd)

    def _begin_segment(self) -> None:
        os.fdatasync(self._fd)
        os.close(self._fd)
        self._at = Position(self._at.segment + 1, 0)
        self._fd = os.open(self._file(self._at.segment), _OPEN | os.O_EXCL, 0o600)
        flush_directory(self._directory)

    # --- reading -------------------------------------------------------------------------------

    def read(self, start: Position, stop: Position) -> Iterator[tuple[JournalRecord, Position]]:
        """Yield the records between two places, each with the place behind it."""
        while start < stop:
            fd = self._reader(start.segment)
            with _told(self._directory):
                found = _read(fd, start.offset)
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
                fd = os.open(self._file(number), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
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
            self._begin_segment()
            self.drop_before(self._at)
            flush_directory(self._directory)

    def close(self) -> None:
        """Let go of the files."""
        self.close_readers()
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


def _head(record: JournalRecord, durable: int) -> bytes:
    head = _HEAD.pack(
        _MAGIC,
        len(record.body),
        record.kind,
        record.operations,
        record.first,
        durable,
        record.chain,
    )
    return head + _CHECK.pack(_checksum(head, record.body))


def _checksum(head: bytes, body: bytes | memoryview) -> int:
    digest = xxh3_64(head)
    digest.update(body)
    return digest.intdigest()


def _write_all(fd: int, buffers: list[bytes | memoryview]) -> None:
    at = os.lseek(fd, 0, os.SEEK_END)
    total = sum(map(len, buffers))
    written = os.pwritev(fd, buffers, at)
    if written < total:
        rest = memoryview(b"".join(buffers))
        while written < total:
            written += os.pwrite(fd, rest[written:], at + written)


def _read(fd: int, offset: int) -> tuple[JournalRecord, int] | None:
    """Return the record at ``offset`` and what was durable before it; None if there is none."""
    head = _read_fully(fd, HEAD_BYTES, offset)
    if len(head) < HEAD_BYTES:
        return None
    magic, length, kind, count, first, durable, chain = _HEAD.unpack_from(head)
    if magic != _MAGIC or length > TAIL_MAX or kind not in Kind._value2member_map_:
        return None
    body = _read_fully(fd, length, offset + HEAD_BYTES)
    (checksum,) = _CHECK.unpack_from(head, _HEAD.size)
    if len(body) < length or _checksum(head[: _HEAD.size], body) != checksum:
        return None
    return JournalRecord(Kind(kind), first, count, chain, memoryview(body)), durable


def _read_fully(fd: int, count: int, offset: int) -> bytes:
    """Return ``count`` bytes at ``offset``, fewer only at the end of the file."""
    data = os.pread(fd, count, offset)
    while 0 < len(data) < count and (more := os.pread(fd, count - len(data), offset + len(data))):
        data += more
    return data


def _vouched_for(fd: int, offset: int, size: int, seq: int) -> bool:
    """Tell whether a whole record behind a broken one says that more than ``seq`` was durable."""
    step = 1 << 20
    for start in range(offset, size, step):
        data = _read_fully(fd, step + len(_MAGIC), start)
        at = data.find(_MAGIC)
        while at >= 0:
            found = _read(fd, start + at)
            if found is not None and found[1] > seq:
                return True
            at = data.find(_MAGIC, at + 1)
    return False

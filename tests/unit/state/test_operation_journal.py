"""A journal after a crash: what was durable is there, what is torn ends it, damage is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netsync import operation as o
from netsync.errors import StateError
from netsync.state import operation_journal, recent_records
from netsync.state.journal_record import HEAD_BYTES, JournalRecord, Kind, Position, head_of
from netsync.state.operation_journal import End, OperationJournal
from netsync.wire.operations import NO_CHAIN, chained, pack

SEGMENT = "journal-000000000001"
KEY = 0x1234_5678_9ABC_DEF0


def record(first: int, count: int = 1, kind: Kind = Kind.OPERATIONS) -> JournalRecord:
    packed = [pack(o.Unlink(b"f%d" % number)) for number in range(first, first + count)]
    chain = NO_CHAIN
    for each in packed:
        chain = chained(chain, each)
    return JournalRecord(kind, first, count, chain, b"".join(packed))


def opened(directory: Path, seq: int = 0) -> tuple[OperationJournal, End]:
    journal = OperationJournal(directory, KEY)
    return journal, journal.open_after(seq, NO_CHAIN)


def filled(directory: Path, *records: JournalRecord, durable: int = 0) -> Path:
    journal, _ = opened(directory)
    for each in records:
        journal.append([each], durable)
    journal.sync()
    journal.close()
    return directory / SEGMENT


def found(journal: OperationJournal) -> list[tuple[Kind, int, int]]:
    read = (each for each, _ in journal.read(journal.beginning, journal.position))
    return [
        (each.kind, each.first, each.operations) for each in read if each.kind is not Kind.SEGMENT
    ]


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    filled(tmp_path, record(1, 3), record(4))
    journal, end = opened(tmp_path)
    assert (end.seq, end.chain) == (4, record(4).chain)
    assert found(journal) == [(Kind.OPERATIONS, 1, 3), (Kind.OPERATIONS, 4, 1)]
    journal.append([record(5)], 4)
    assert found(journal)[-1] == (Kind.OPERATIONS, 5, 1)
    journal.close()


@pytest.mark.parametrize("lost", [1, 20, 50])
def test_a_torn_record_ends_it_and_goes(tmp_path: Path, lost: int) -> None:
    file = filled(tmp_path, record(1), record(2))
    whole = 2 * (HEAD_BYTES + len(record(1).body))
    os.truncate(file, whole - lost)
    journal, end = opened(tmp_path)
    assert end.seq == 1
    assert file.stat().st_size == end.position.offset, "what is torn is cut off"
    journal.append([record(2)], 1)
    assert [first for _, first, _ in found(journal)] == [1, 2]
    journal.close()


def broken(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def test_damage_in_what_nobody_vouches_for_is_a_torn_end(tmp_path: Path) -> None:
    """A power cut may lose the middle of what was not flushed and keep its end."""
    broken(filled(tmp_path, record(1), record(2), durable=0), 60)
    journal, end = opened(tmp_path)
    assert end.seq == 0
    journal.close()


def test_damage_in_what_was_durable_is_refused(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    journal.append([record(1)], 0)
    journal.append([record(2)], 1)
    journal.close()
    broken(tmp_path / SEGMENT, 60)
    with pytest.raises(StateError, match="what was durable after 0 is broken"):
        opened(tmp_path)


def torn_with(directory: Path, written: bytes) -> None:
    """Leave a record whose first page a power cut took, and not the rest, as users wrote it."""
    packed = pack(o.Write(b"f", 0, bytes(8192) + written, 1))
    file = filled(directory, JournalRecord(Kind.OPERATIONS, 1, 1, NO_CHAIN, packed))
    with file.open("r+b") as torn:
        torn.write(bytes(4096))


def test_nothing_that_a_user_wrote_vouches_for_anything(tmp_path: Path) -> None:
    """Whoever can write to the mirror could have the standby refused after a power cut else."""
    torn_with(tmp_path, head_of(record(1), 2**60, key=0) + record(1).body)
    journal, end = opened(tmp_path)
    assert end.seq == 0
    journal.close()


def test_what_a_user_wrote_is_looked_through_quickly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads of nothing, each of which would have a megabyte read."""
    head = head_of(JournalRecord(Kind.OPERATIONS, 1, 1, NO_CHAIN, bytes(2**20)), 2**60, key=0)
    torn_with(tmp_path, head * 1000 + bytes(2**20))
    read, pread = 0, os.pread

    def counted(fd: int, count: int, offset: int) -> bytes:
        nonlocal read
        read += count
        return pread(fd, count, offset)

    monkeypatch.setattr(os, "pread", counted)
    journal, end = opened(tmp_path)
    assert end.seq == 0
    assert read < 10 * 2**20
    journal.close()


def test_a_record_is_missing(tmp_path: Path) -> None:
    filled(tmp_path, record(1), record(3))
    with pytest.raises(StateError, match="operations from 2 on are missing"):
        opened(tmp_path)


def test_segments_follow_each_other_and_go_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation_journal, "SEGMENT_BYTES", 100)
    journal, _ = opened(tmp_path)
    for number in range(1, 6):
        journal.append([record(number)], 0)
    assert [first for _, first, _ in found(journal)] == [1, 2, 3, 4, 5]
    assert journal.position.segment > 2
    journal.drop_before(Position(2, 0))
    assert journal.beginning == Position(2, 0)
    journal.close()
    journal, end = opened(tmp_path, 2)
    assert end.seq == 5
    journal.restart()
    assert found(journal) == []
    journal.close()


def test_a_segment_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation_journal, "SEGMENT_BYTES", 1)
    journal, _ = opened(tmp_path)
    for number in range(1, 4):
        journal.append([record(number)], 0)
    journal.close()
    (tmp_path / "journal-000000000002").unlink()
    with pytest.raises(StateError, match="a segment before it is missing"):
        opened(tmp_path)


def test_a_resync_without_its_end_is_cut_off(tmp_path: Path) -> None:
    begin = JournalRecord(Kind.RESYNC_BEGIN, 0, 0, NO_CHAIN)
    filled(tmp_path, record(1), begin, record(1, 2, Kind.RESYNC_OPERATIONS))
    journal, end = opened(tmp_path)
    assert end.seq == 1
    assert found(journal) == [(Kind.OPERATIONS, 1, 1)]
    ended = JournalRecord(Kind.RESYNC_END, 9, 0, b"c" * 16)
    journal.append([begin, record(1, 2, Kind.RESYNC_OPERATIONS), ended], 1)
    journal.close()
    journal, end = opened(tmp_path)
    assert (end.seq, end.chain) == (9, b"c" * 16)
    journal.close()


def segments(directory: Path, *durable: int) -> OperationJournal:
    """A journal with one record in each segment, which say how far it was durable before."""
    journal, _ = opened(directory)
    for number, each in enumerate(durable, 1):
        journal.append([record(number)], each)
    return journal


def test_a_segment_that_is_torn_ends_it_though_others_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One begins before that before it is flushed: a power cut may keep only the new one."""
    monkeypatch.setattr(operation_journal, "SEGMENT_BYTES", 1)
    segments(tmp_path, 0, 1, 1).close()
    os.truncate(tmp_path / "journal-000000000002", 10)
    journal, end = opened(tmp_path)
    assert end.seq == 1
    assert len(list(tmp_path.iterdir())) == 1, "what lies behind has gone"
    journal.append([record(2)], 1)
    assert [first for _, first, _ in found(journal)] == [1, 2]
    journal.close()


def shortened(directory: Path, *lost: JournalRecord, durable: int = 0) -> None:
    """Leave a segment that ends before ``lost``, as it was when it was flushed, and the next one.

    With ``durable`` that one says that it was flushed again before.
    """
    journal, _ = opened(directory)
    journal.append([record(1)], 0)
    flushed = journal.position.offset
    journal.append(list(lost), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operation_journal, "SEGMENT_BYTES", 1)
        end = JournalRecord(Kind.RESYNC_END, 9, 0, b"c" * 16)
        journal.append([end if lost[0].kind is Kind.RESYNC_BEGIN else record(3)], durable)
    journal.close()
    os.truncate(directory / SEGMENT, flushed)


RESYNC = (
    JournalRecord(Kind.RESYNC_BEGIN, 0, 0, NO_CHAIN),
    record(1, 2, Kind.RESYNC_OPERATIONS),
)


@pytest.mark.parametrize("lost", [(record(2),), RESYNC])
def test_a_segment_that_lost_its_end_ends_it_though_the_next_is_whole(
    tmp_path: Path, lost: tuple[JournalRecord, ...]
) -> None:
    """A power cut may keep the new one and of the old one what was flushed, to the byte."""
    shortened(tmp_path, *lost)
    journal, end = opened(tmp_path)
    assert end.seq == 1
    assert [first for _, first, _ in found(journal)] == [1]
    journal.close()


def test_a_segment_that_lost_its_end_is_damage_where_the_next_vouches_for_it(
    tmp_path: Path,
) -> None:
    shortened(tmp_path, record(2), durable=2)
    with pytest.raises(StateError, match="what was durable after 1 is broken"):
        opened(tmp_path)


def test_a_torn_segment_that_a_later_one_vouches_for_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation_journal, "SEGMENT_BYTES", 1)
    segments(tmp_path, 0, 1, 2).close()
    os.truncate(tmp_path / "journal-000000000002", 10)
    with pytest.raises(StateError, match="what was durable after 1 is broken"):
        opened(tmp_path)


def test_all_segments_that_were_begun_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flush makes durable what was appended before, in however many segments it lies."""
    monkeypatch.setattr(operation_journal, "SEGMENT_BYTES", 1)
    flushed: list[str] = []
    fdatasync = os.fdatasync

    def watched(fd: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{fd}")[-3:])
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", watched)
    journal = segments(tmp_path, 0, 0, 0)
    journal.sync()
    assert flushed == ["001", "002", "003"]
    journal.append([record(4)], 3)
    journal.sync()
    assert flushed[3:] == ["003", "004"], "the last one was still written to"
    journal.close()


def test_what_lies_before_a_cut_is_flushed_though_segments_began_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cut a resync off calls durable what was appended before it."""
    monkeypatch.setattr(operation_journal, "SEGMENT_BYTES", 1)
    flushed: set[str] = set()
    fdatasync = os.fdatasync

    def watched(fd: int) -> None:
        flushed.add(os.readlink(f"/proc/self/fd/{fd}")[-3:])
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", watched)
    journal = segments(tmp_path, 0, 0)
    end = journal.position
    journal.append([JournalRecord(Kind.RESYNC_BEGIN, 0, 0, NO_CHAIN)], 0)
    journal.cut(end)
    journal.sync()
    assert {"001", "002"} <= flushed
    journal.close()


def test_a_segment_that_cannot_be_begun_costs_nobody_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of the descriptor that was closed may be another's when the journal is."""
    monkeypatch.setattr(operation_journal, "SEGMENT_BYTES", 1)
    journal = segments(tmp_path, 0)
    (tmp_path / "journal-000000000002").touch()
    with pytest.raises(StateError, match="file exists"):
        journal.append([record(2)], 0)
    others = os.open(tmp_path, os.O_RDONLY)
    journal.close()
    os.close(others)


def test_what_was_appended_last_is_read_from_memory_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_records, "RECENT_BYTES", 2 * 64 * 1024)
    journal, _ = opened(tmp_path)
    wanted = [record(number) for number in range(1, 5)]
    journal.append(wanted, 0)
    read = [each for each, _ in journal.read(journal.beginning, journal.position)]
    assert read == wanted
    assert [a.body is b.body for a, b in zip(read, wanted, strict=True)] == [
        True,
        True,
        False,
        False,
    ]
    again = [each for each, _ in journal.read(journal.beginning, journal.position)]
    assert again == wanted, "who comes later reads the disk"
    journal.close()


def test_short_records_lie_where_the_file_has_room_already(tmp_path: Path) -> None:
    """Its size changes now and then only, and what lies ahead is no part of it."""
    journal, _ = opened(tmp_path)
    sizes = set()
    for number in range(1, 101):
        journal.append([record(number)], number - 1)
        sizes.add((tmp_path / SEGMENT).stat().st_size)
    assert len(sizes) == 1
    assert journal.position.offset < min(sizes)
    assert len(found(journal)) == 100
    journal.close()
    journal, end = opened(tmp_path)
    assert end.seq == 100
    assert (tmp_path / SEGMENT).stat().st_size == end.position.offset
    journal.close()


def test_room_ahead_does_not_make_a_segment_look_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation_journal, "SEGMENT_BYTES", 1)
    journal = segments(tmp_path, 0, 1, 2)
    assert [first for _, first, _ in found(journal)] == [1, 2, 3]
    assert [first for _, first, _ in found(journal)] == [1, 2, 3], "from the disk as well"
    journal.close()
    journal, end = opened(tmp_path)
    assert end.seq == 3
    journal.close()

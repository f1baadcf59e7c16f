"""Records kept for the end: newest first, on disk past the bound."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from netsync.model import Entry, Kind
from netsync.transfer.spool import MEMORY_MAX, Archive, Spool
from tests.support.trees import open_descriptors


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Something to keep."""

    path: bytes
    entry: Entry | None = None
    time: int = 0


@pytest.fixture
def spool() -> Iterator[Spool[Record]]:
    made = Spool(Record)
    yield made
    made.close()


def test_records_come_back_newest_first(spool: Spool[Record]) -> None:
    entry = Entry(b"l", Kind.SYMLINK, 0o777, 1, 2, 0, 3, b"text\xff")
    records = [Record(b"a"), Record(b"a/b\xff", entry, -3), Record(b""), Record(b"z" * 9000)]
    for record in records:
        spool.append(record)
    assert list(spool) == records[::-1]
    assert len(spool) == 4


def test_an_empty_spool_is_empty(spool: Spool[Record]) -> None:
    assert list(spool) == []
    assert len(spool) == 0


def test_it_can_be_read_again(spool: Spool[Record]) -> None:
    spool.append(Record(b"1"))
    spool.append(Record(b"2"))
    assert next(iter(spool)) == Record(b"2")
    assert list(spool) == list(spool) == [Record(b"2"), Record(b"1")]


def test_two_readers_do_not_disturb_each_other(spool: Spool[Record]) -> None:
    for number in range(5):
        spool.append(Record(b"%d" % number))
    assert [(a.path, b.path) for a, b in zip(spool, spool, strict=True)] == [
        (b"%d" % number, b"%d" % number) for number in range(4, -1, -1)
    ]


@pytest.mark.parametrize(("total", "on_disk"), [(MEMORY_MAX // 2, 0), (MEMORY_MAX * 2, 1)])
def test_past_the_bound_it_lies_on_disk_and_reads_the_same(total: int, on_disk: int) -> None:
    before = open_descriptors()
    spool = Spool(Record)
    size = 60_000
    for number in range(total // size + 1):
        spool.append(Record(b"%06d" % number + b"x" * size))
    assert open_descriptors() - before == on_disk
    numbers = [int(record.path[:6]) for record in spool]
    assert numbers == list(range(total // size, -1, -1))
    spool.close()
    assert open_descriptors() == before


def test_an_archive_finds_what_it_was_given_by_number() -> None:
    archive = Archive(Record)
    records = {number: Record(b"p%d" % number, time=-number) for number in (1, 5, 6, 4000)}
    for number, record in records.items():
        archive.put(number, record)
        assert archive.get(1) == records[1]
    assert {number: archive.get(number) for number in records} == records
    assert [archive.get(number) for number in (0, 2, 7, 3999, 4001, 2**63)] == [None] * 6
    archive.close()

"""What a lost standby is owed: ranges coalesce, names are followed, too much is a comparison."""

from __future__ import annotations

import pytest

from netsync import operation as o
from netsync.oplog import owed as owed_module
from netsync.oplog.owed import Owed, Ranges
from netsync.wire.operations import pack


class Debtor:
    """An ``Owed`` and the numbers of what is added."""

    def __init__(self) -> None:
        self.owed = Owed(10)

    def add(self, operation: o.Operation, file: int = 0, left: int = 0) -> None:
        self.owed.add(self.owed.until + 1, operation, [pack(operation)], file, left)

    def write(self, path: bytes, offset: int, size: int, file: int = 0) -> None:
        self.add(o.Write(path, offset, bytes(size), 0), file)


def test_ranges_coalesce_and_are_counted_once() -> None:
    ranges = Ranges()
    assert [ranges.add(10, 20), ranges.add(30, 40), ranges.add(12, 18)] == [10, 10, 0]
    assert ranges.add(15, 35) == 10
    assert ranges.add(40, 41) == 1, "what touches is one range"
    assert list(ranges) == [(10, 41)]
    assert ranges.add(0, 5) == 5
    assert list(ranges) == [(0, 5), (10, 41)]


def test_only_what_changed_is_owed() -> None:
    debtor = Debtor()
    for _ in range(100):
        debtor.write(b"f", 0, 4096, file=7)
    debtor.write(b"f", 8192, 1, file=7)
    debtor.add(o.Truncate(b"f", 5000, 0), 7)
    debtor.add(o.Truncate(b"f", 9000, 0), 7)
    owed = debtor.owed
    assert (owed.operations, owed.bytes, owed.since, owed.until) == (103, 4097, 10, 113)
    assert list(owed.files[7].ranges) == [(0, 4096), (8192, 8193)]
    assert owed.files[7].cut == 5000, "the shortest it was: all behind is zeros or written"


def test_names_are_followed() -> None:
    debtor = Debtor()
    debtor.write(b"d/f", 0, 10, file=7)
    debtor.write(b"g", 0, 10, file=8)
    debtor.add(o.Rename(b"d", b"e"))
    debtor.add(o.Link(b"e/f", b"h"), 7)
    debtor.add(o.Unlink(b"e/f"), 7, left=1)
    debtor.add(o.Rename(b"h", b"i"))
    assert debtor.owed.known.name_of(7) == b"i"
    debtor.add(o.Rename(b"g", b"i"), 7)
    assert debtor.owed.known.name_of(7) is None
    assert set(debtor.owed.files) == {8}, "what is gone is owed to nobody"
    assert debtor.owed.bytes == 10
    assert len(debtor.owed.names) == 5


def test_a_file_without_a_known_name_needs_a_comparison() -> None:
    debtor = Debtor()
    debtor.write(b"f", 0, 10, file=7)
    debtor.add(o.Unlink(b"f"), 7, left=1)
    assert "name that is gone" in debtor.owed.whole


def test_too_much_needs_a_comparison_and_frees_what_was_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owed_module, "OWED_BYTES", 100)
    debtor = Debtor()
    debtor.write(b"f", 0, 101)
    debtor.write(b"g", 0, 1)
    assert "too much" in debtor.owed.whole
    assert not debtor.owed.files
    assert debtor.owed.operations == 2


def test_a_copy_of_the_names_goes_its_own_way() -> None:
    debtor = Debtor()
    debtor.write(b"f", 0, 10, file=7)
    now = debtor.owed.known.copy()
    now.follow(o.Rename(b"f", b"g"))
    assert (debtor.owed.known.name_of(7), now.name_of(7)) == (b"f", b"g")


def test_what_was_written_is_known_when_the_ranges_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A comparison looks at its content; too many names stand for everything."""
    monkeypatch.setattr(owed_module, "OWED_BYTES", 5)
    monkeypatch.setattr(owed_module, "WRITTEN_MAX", 3)
    debtor = Debtor()
    debtor.write(b"f", 0, 10, file=7)
    assert debtor.owed.whole
    debtor.write(b"g", 0, 10, file=8)
    debtor.add(o.Mode(b"h", 0o600))
    debtor.add(o.Rename(b"g", b"i"))
    assert debtor.owed.written == {b"f", b"g", b"i"}
    debtor.write(b"j", 0, 1, file=9)
    assert debtor.owed.written == {b""}

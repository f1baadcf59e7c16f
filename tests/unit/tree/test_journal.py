"""The journal: what is written is read, in the order of its phases, or nothing is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsync.model import Entry, Kind
from netsync.plan.xattrs import Scope, WantedXattrs
from netsync.tree.expected import Expected
from netsync.tree.journal import (
    DamagedJournalError,
    Enter,
    Header,
    Journal,
    Link,
    MakeDirectory,
    Place,
    Record,
    Restate,
    SetAside,
    Settle,
    WrittenJournal,
)
from netsync.tree.place import Attributes

PHASES = (Enter, SetAside, MakeDirectory, Place, Link, Restate, Settle)
NOTHING = Attributes(None, None, None, None)
HEADER = Header(b".old", durable=True)

components = st.binary(min_size=1, max_size=20).filter(lambda n: b"/" not in n and n.strip(b"."))
paths = st.lists(components, max_size=3).map(b"/".join)
numbers = st.integers(0, 2**63 - 1)
maybe = st.none() | st.integers(0, 0o7777)
xattrs = st.none() | st.just(WantedXattrs(Scope(), ((b"user.x", b"\0\xff"),)))
attributes = st.builds(Attributes, maybe, maybe, maybe, st.none() | st.integers(-5, 5), xattrs)
entries = st.builds(
    Entry, paths, st.sampled_from(Kind), st.just(0o644), st.just(0), st.just(1), numbers, st.just(2)
)
seen = st.builds(Expected, numbers, numbers, numbers)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(Enter, paths),
    st.builds(SetAside, paths, numbers, seen, st.none() | entries),
    st.builds(MakeDirectory, paths, st.booleans()),
    st.builds(Place, paths, paths),
    st.builds(Link, paths, paths, st.sampled_from(Kind), attributes),
    st.builds(Restate, paths, attributes, seen),
    st.builds(Settle, paths, attributes, st.none() | seen),
)


@contextmanager
def written(given: Sequence[Record]) -> Iterator[int]:
    """Hold a file with a journal of these records."""
    journal = Journal(HEADER)
    for record in given:
        journal.append(record)
    assert len(journal) == len(given)
    with tempfile.TemporaryFile() as file:
        journal.write(file.fileno())
        journal.close()
        yield file.fileno()


@given(st.lists(records, max_size=30))
def test_what_is_written_is_read_phase_by_phase(given: list[Record]) -> None:
    """All records come back, those of a phase in their order, twice if asked twice."""
    with written(given) as fd:
        journal = WrittenJournal(fd)
        expected = [each for phase in PHASES for each in given if type(each) is phase]
        assert (journal.header, journal.count) == (HEADER, len(given))
        assert list(journal) == list(journal) == expected


SAMPLE: list[Record] = [
    Place(b"a/b", b"new-1"),
    MakeDirectory(b"a"),
    SetAside(b"x", 7, Expected(1, 2, 3)),
]


def test_a_journal_torn_anywhere_says_nothing() -> None:
    """Whatever is lacking at its end, it is refused before any record is acted on."""
    with written(SAMPLE) as fd:
        for size in reversed(range(os.fstat(fd).st_size)):
            os.ftruncate(fd, size)
            with pytest.raises(DamagedJournalError):
                WrittenJournal(fd)


def test_a_journal_with_any_byte_changed_says_nothing() -> None:
    """Lengths, checksums and bodies are all covered."""
    with written(SAMPLE) as fd:
        for position in range(os.fstat(fd).st_size):
            (right,) = os.pread(fd, 1, position)
            os.pwrite(fd, bytes([right ^ 0x41]), position)
            with pytest.raises(DamagedJournalError):
                WrittenJournal(fd)
            os.pwrite(fd, bytes([right]), position)
        assert WrittenJournal(fd).count == len(SAMPLE)


def test_what_lies_behind_the_end_is_refused() -> None:
    """A journal is one file, all of it."""
    with written(SAMPLE) as fd:
        os.pwrite(fd, b"\0", os.fstat(fd).st_size)
        with pytest.raises(DamagedJournalError):
            WrittenJournal(fd)


def test_records_do_not_change_places() -> None:
    """Two whole records swapped are not the journal that was written."""
    with written((Place(b"a", b"1"), Place(b"b", b"2"))) as fd:
        data = os.pread(fd, 4096, 0)
        one, other = data.index(b"\xc4\x01a"), data.index(b"\xc4\x01b")
        start, middle = one - 14, other - 14
        swapped = data[:start] + data[middle : 2 * middle - start] + data[start:middle]
        os.pwrite(fd, swapped + data[2 * middle - start :], 0)
        with pytest.raises(DamagedJournalError):
            WrittenJournal(fd)


@pytest.mark.parametrize("path", [b"../x", b"/x", b"a/../../x", b"a/.."])
def test_a_path_that_leads_out_is_refused(path: bytes) -> None:
    """Whoever wrote it, a journal says nothing about what is not below the destination."""
    for record in (Place(path, b"new-1"), Place(b"a", path), Link(b"a", path, Kind.FILE, NOTHING)):
        with written([record]) as fd, pytest.raises(DamagedJournalError, match="leads out"):
            WrittenJournal(fd)


def test_an_unreasonable_record_is_not_taken() -> None:
    """More than a record may hold is refused when it is appended."""
    journal = Journal(HEADER)
    with pytest.raises(OSError, match="too large"):
        journal.append(Place(b"x" * (1 << 20), b""))
    journal.close()

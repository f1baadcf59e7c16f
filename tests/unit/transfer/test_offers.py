"""What may be wanted: offered regular files, a few times, until they are settled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netsync.errors import ProtocolError
from netsync.model import Entry, Kind, Options
from netsync.names import join
from netsync.transfer.offers import ATTEMPTS_MAX, WANTED_MAX, Chunk, Located, Offers


def chunk(first: int, kinds: list[Kind], directory: bytes = b"d") -> Chunk:
    entries = [Entry(b"n%d" % n, kind, 0, 0, 0, 0, 0) for n, kind in enumerate(kinds)]
    return Chunk(
        first, entries, lambda name: join(directory, name), lambda name: Located(0, b"real", name)
    )


@pytest.fixture
def empty() -> Iterator[Offers]:
    made = Offers(Options())
    yield made
    made.close()


@pytest.fixture
def offers(empty: Offers) -> Offers:
    made = empty
    made.add(chunk(1, [Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FILE]))
    made.add(chunk(5, []))
    made.add(chunk(5, [Kind.FILE, Kind.FIFO], b""))
    return made


def test_an_offered_file_may_be_wanted_and_is_found_where_it_is(offers: Offers) -> None:
    offered = offers.want(4)
    assert (offered.number, offered.path, offered.entry.name) == (4, b"d/n3", b"n3")
    assert offered.located == Located(0, b"real", b"n3")
    assert offers.want(5).path == b"n0"
    assert offers.wanted(4) is offered


@pytest.mark.parametrize("number", [0, 2, 3, 6, 7, 2**63 - 1])
def test_nothing_but_an_offered_regular_file_may_be_wanted(offers: Offers, number: int) -> None:
    with pytest.raises(ProtocolError, match="not offered as a file"):
        offers.want(number)
    with pytest.raises(ProtocolError, match="not wanted"):
        offers.wanted(number)


def test_a_file_may_be_wanted_only_so_often(offers: Offers) -> None:
    for _ in range(ATTEMPTS_MAX):
        offers.want(1)
    with pytest.raises(ProtocolError, match="too often"):
        offers.want(1)


def test_a_file_can_be_settled_once_and_only_when_wanted(offers: Offers) -> None:
    with pytest.raises(ProtocolError, match="not wanted"):
        offers.settled(1)
    offers.want(1)
    offers.settled(1)
    with pytest.raises(ProtocolError, match="not wanted"):
        offers.settled(1)
    with pytest.raises(ProtocolError, match="not wanted"):
        offers.wanted(1)


def test_what_was_decided_about_is_forgotten_but_not_what_is_wanted(offers: Offers) -> None:
    offers.want(1)
    offers.decided(5)
    with pytest.raises(ProtocolError, match="not offered"):
        offers.want(4)
    assert offers.want(1).number == 1
    assert offers.want(5).number == 5


def test_a_chunk_decided_in_part_is_kept(offers: Offers) -> None:
    offers.decided(4)
    assert offers.want(4).number == 4


def test_the_files_wanted_at_once_are_bounded(empty: Offers) -> None:
    offers = empty
    offers.add(chunk(1, [Kind.FILE] * (WANTED_MAX + 2)))
    for number in range(1, WANTED_MAX + 1):
        offers.want(number)
    with pytest.raises(ProtocolError, match="too many"):
        offers.want(WANTED_MAX + 1)


def test_settling_makes_room_for_more(empty: Offers) -> None:
    offers = empty
    offers.add(chunk(1, [Kind.FILE] * (WANTED_MAX + 1)))
    for number in range(1, WANTED_MAX + 1):
        offers.want(number)
    offers.settled(7)
    assert offers.want(WANTED_MAX + 1).number == WANTED_MAX + 1


def test_a_name_of_several_may_be_wanted_after_it_was_decided(empty: Offers) -> None:
    """The data may come under it if the first name fails."""
    offers = empty
    linked = Entry(b"b", Kind.FILE, 0, 0, 0, 7, 0, link=1)
    alone = Entry(b"c", Kind.FILE, 0, 0, 0, 7, 0)
    pipe = Entry(b"d", Kind.FIFO, 0, 0, 0, 7, 0, link=1)
    entries = [linked, alone, pipe]
    offers.add(Chunk(2, entries, lambda name: b"d/" + name, lambda name: Located(3, b"real", name)))
    offers.decided(5)
    offered = offers.want(2)
    assert (offered.path, offered.entry) == (b"d/b", linked)
    assert offered.located == Located(3, b"real", b"b")
    for number in (1, 3, 4, 5):
        with pytest.raises(ProtocolError, match="not offered as a file"):
            offers.want(number)

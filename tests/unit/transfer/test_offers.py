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
    assert offers.wanted(4) == offered


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
        offers.settled([1])
    offers.want(1)
    offers.settled([1])
    with pytest.raises(ProtocolError, match="not wanted"):
        offers.settled([1])
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
    offers.settled([7])
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


def test_neighbours_are_wanted_together_as_far_as_they_were_listed_so(offers: Offers) -> None:
    parts = list(offers.want_all([1, 4, 5]))
    assert [(part.first, [each.name for each in part.entries]) for part in parts] == [
        (1, [b"n0"]), (4, [b"n3"]), (5, [b"n0"]),
    ]  # fmt: skip
    assert parts[1].offered(4).path == b"d/n3"


def test_a_run_of_files_is_one_part_and_is_settled_in_pieces(empty: Offers) -> None:
    empty.add(chunk(1, [Kind.FILE] * 6))
    (part,) = empty.want_all(range(2, 6))
    assert (part.first, part.end) == (2, 6)
    empty.decided(7)
    empty.settled([2, 5])
    assert empty.wanted(3).entry.name == b"n2"
    with pytest.raises(ProtocolError, match="not wanted"):
        empty.settled([3, 5])


@pytest.mark.parametrize(
    "numbers", [[1, 2], [0, 1], [1, 1], [4, 5, 6], [7], [2**63 - 1], [4, 7]],
    ids=["a directory", "the root", "twice", "a pipe", "none", "far", "beyond"],
)  # fmt: skip
def test_no_file_of_many_may_be_another_thing(offers: Offers, numbers: list[int]) -> None:
    with pytest.raises(ProtocolError):
        list(offers.want_all(numbers))


def test_what_is_wanted_again_is_counted_one_by_one(offers: Offers) -> None:
    list(offers.want_all([1, 4]))
    for _ in range(ATTEMPTS_MAX - 1):
        assert [part.first for part in offers.want_all([4])] == [4]
    assert offers.is_last_attempt(4)
    assert not offers.is_last_attempt(1)
    with pytest.raises(ProtocolError, match="too often"):
        list(offers.want_all([1, 4]))


def test_many_wanted_at_once_are_bounded(empty: Offers) -> None:
    empty.add(chunk(1, [Kind.FILE] * (WANTED_MAX + 1)))
    with pytest.raises(ProtocolError, match="too many"):
        list(empty.want_all(range(1, WANTED_MAX + 2)))


def test_a_file_that_is_left_of_many_does_not_hold_the_others(empty: Offers) -> None:
    """Whoever settles all but one of each part makes us hold one entry for each, not all."""
    size, parts = 64, 3 * WANTED_MAX // 64
    freed: list[bytes] = []

    class Name(bytes):
        def __del__(self) -> None:
            freed.append(bytes(self))

    for first in range(1, parts * size, size):
        files = [Entry(Name(b"n%d" % n), Kind.FILE, 0, 0, 0, 0, 0) for n in range(size)]
        empty.add(Chunk(first, files, bytes, lambda name: Located(0, b"", name)))
        del files
        list(empty.want_all(range(first, first + size)))
        empty.decided(first + size)
        empty.settled(range(first + 1, first + size))
    assert parts * size - len(freed) <= 2 * WANTED_MAX
    assert empty.wanted(1).entry.name == b"n0"

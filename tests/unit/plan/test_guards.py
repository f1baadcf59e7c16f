"""The guards' questions: how many may go, is it the same source, and what is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsync.model import DeleteLimit, Options, Origin
from netsync.plan.guards import (
    is_same,
    limit_text,
    missing,
    most_deletions,
    parse_limit,
    sentence,
    strictest,
    words_for_empty,
    words_for_many,
    words_for_other,
)

UUID, OTHER = bytes(range(16)), bytes(range(1, 17))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("0", DeleteLimit(0)), ("100", DeleteLimit(100)), (" 7 ", DeleteLimit(7)),
        ("30%", DeleteLimit(30, percent=True)), ("100%", DeleteLimit(100, percent=True)),
    ],
)  # fmt: skip
def test_a_limit_is_a_number_or_a_percentage(text: str, limit: DeleteLimit) -> None:
    assert parse_limit(text) == limit
    assert limit_text(limit) == text.strip()


@pytest.mark.parametrize("text", ["", "-1", "1.5", "101%", "%", "many", "1 %", "9" * 19, "²"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither|more than all"):
        parse_limit(text)


@given(st.integers(0, 100), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_percentage_is_of_all_in_scope(percent: int, listed: int, doomed: int) -> None:
    """Exactly as many may go as make no more than that part of those that stay and go."""
    most = most_deletions(DeleteLimit(percent, percent=True), listed)
    allowed = doomed * 100 <= percent * (listed + doomed)
    assert (most is None or doomed <= most) == allowed


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_number_is_a_number(amount: int, listed: int) -> None:
    assert most_deletions(DeleteLimit(amount), listed) == amount


def test_the_stricter_limit_wins_whichever_it_is() -> None:
    number, percentage = ("a", DeleteLimit(5)), ("b", DeleteLimit(50, percent=True))
    assert strictest([number, percentage], 4) == (*percentage, 4)
    assert strictest([number, percentage], 100) == (*number, 5)
    assert strictest([("all", DeleteLimit(100, percent=True))], 3) is None
    assert strictest([], 3) is None


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (Origin(b"", 1, 2, UUID), Origin(b"", 1, 2, UUID), True),
        (Origin(b"", 1, 2, UUID), Origin(b"", 1, 9, UUID), True),  # another device number
        (Origin(b"", 1, 2, UUID), Origin(b"", 1, 2, OTHER), False),
        (Origin(b"", 1, 2, UUID), Origin(b"", 3, 2, UUID), False),
        (Origin(b"", 1, 2), Origin(b"", 1, 2, UUID), True),  # a newer kernel tells more
        (Origin(b"", 1, 2), Origin(b"", 1, 9, UUID), False),
        (Origin(b"", 1, 2), Origin(b"", 1, 9), False),
        (Origin(b"", 1, 0), Origin(b"", 1, 0), True),  # NFS, FUSE
    ],
)
def test_a_source_is_the_same_by_inode_and_file_system(
    old: Origin, new: Origin, same: bool
) -> None:
    assert is_same(old, new) is same
    assert is_same(new, old) is same


def test_only_what_is_offered_again_can_be_missing() -> None:
    a, b, c = (Origin(name, 1, 1) for name in (b"a", b"b", b"c"))
    other = Origin(b"a", 2, 1)
    assert missing([], [a]) == []
    assert missing([b], [a]) == []
    assert missing([a, b], [a, other]) == []
    assert missing([a, other], [a]) == [other]
    assert missing([a, b, c], [other, c]) == [a]


def test_what_was_allowed_holds_nothing() -> None:
    assert words_for_empty(b"", Options(allow_empty_source=True)) == ""
    assert words_for_other(b"", Options(accept_new_source=True)) == ""
    assert sentence(["", ""]) == ""


def test_the_sentence_names_all_reasons_and_ways_to_go_on() -> None:
    """One line, whatever the names hold."""
    words = sentence(
        [
            words_for_empty(b"a\nb", Options()),
            words_for_other(b"", Options()),
            words_for_many("--max-delete", DeleteLimit(30, percent=True), 1),
        ]
    )
    assert words.startswith("nothing was deleted: ")
    assert "\n" not in words
    for part in (
        "a\\012b",
        "--allow-empty-source",
        "--accept-new-source",
        "more than 1 entry",
        "--max-delete 30%",
    ):
        assert part in words

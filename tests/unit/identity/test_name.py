"""Names in certificates."""

from __future__ import annotations

import pytest

from netsync.identity.name import is_name, name_in


@pytest.mark.parametrize("name", ["a", "standby1.example", "A-b_c.9", "x" * 64])
def test_names_of_letters_digits_and_punctuation_are_accepted(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "a\n", "ä", "a\0b", "*"])
def test_other_names_are_not(name: str) -> None:
    assert not is_name(name)


def test_the_name_is_in_exactly_one_uri_of_ours() -> None:
    assert name_in(["netsync://primary1"]) == "primary1"
    assert name_in(["https://example.org/", "netsync://primary1"]) == "primary1"


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["https://primary1"],
        ["netsync://a", "netsync://b"],
        ["netsync://a", "NETSYNC://a"],
        ["netsync://a/b"],
        ["netsync://"],
        ["netsync://a\0b"],
    ],
)
def test_none_two_or_a_malformed_one_is_no_name(uris: list[str]) -> None:
    assert name_in(uris) is None

"""Rules for owners: what is read, what is refused with words, and which rule decides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netsync.model import IdRule
from netsync.plan.ownership import matching, parse_chown, parse_map

unhurried = settings(deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("anna:bert", [IdRule(b"anna", b"bert")]),
        ("0-99:nobody,1000:5,:x", [IdRule(b"", b"nobody", 0, 99), IdRule(b"", b"5", 1000, 1000),
                                   IdRule(b"", b"x")]),
        ("*:www", [IdRule(b"*", b"www")]),
        ("adm*:a,[bc]?:d", [IdRule(b"adm*", b"a"), IdRule(b"[bc]?", b"d")]),
        ("b\u00f6rn:1", [IdRule("b\u00f6rn".encode(), b"1")]),
        ("4294967294:1", [IdRule(b"", b"1", 2**32 - 2, 2**32 - 2)]),
    ],
)  # fmt: skip
def test_a_map_is_read(text: str, rules: list[IdRule]) -> None:
    assert list(parse_map(text)) == rules


@pytest.mark.parametrize(
    ("text", "words"),
    [("anna", "not FROM:TO"), ("a:b,", "not FROM:TO"), ("a:", "missing"), ("9-3:x", "no range"),
     ("4294967295:x", "no range"), ("x:4294967295", "too large"), (f"{'n' * 256}:x", "too long"),
     (",".join(["a:b"] * 1025), "1024")],
)  # fmt: skip
def test_what_is_no_map_is_refused_with_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_map(text)


def test_chown_maps_everybody_to_one() -> None:
    everybody = (IdRule(b"*", b"a"),)
    assert parse_chown("a:b") == (everybody, (IdRule(b"*", b"b"),))
    assert parse_chown("a") == parse_chown("a:") == (everybody, ())
    assert parse_chown(":a") == ((), everybody)
    with pytest.raises(ValueError, match="give USER"):
        parse_chown(":")


@pytest.mark.parametrize(
    ("text", "number", "name", "place"),
    [
        ("a:1,*:2", 5, b"a", 0),
        ("a:1,*:2", 5, b"b", 1),
        ("a:1,*:2", 5, b"", 1),
        (":1", 5, b"", 0),
        (":1", 5, b"a", None),
        ("5:1", 5, b"named", 0),
        ("0-4:1,6-9:2", 5, b"", None),
        ("0-5:1", 5, b"", 0),
        ("5*:1", 5, b"", None),
        ("A:1", 5, b"a", None),
        ("a?[xy]:1", 5, b"abx", 0),
    ],
)
def test_the_first_rule_that_matches_decides(
    text: str, number: int, name: bytes, place: int | None
) -> None:
    assert matching(parse_map(text), number, name) == place


@unhurried
@given(st.text(max_size=30))
def test_any_text_is_a_map_or_refused(text: str) -> None:
    for parse in (parse_map, parse_chown):
        try:
            rules = parse(text)
        except ValueError:
            continue
        assert rules


@unhurried
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5),
       st.integers(0, 25))  # fmt: skip
def test_ranges_match_the_numbers_in_them(pairs: list[tuple[int, int]], number: int) -> None:
    ranges = [tuple(sorted(pair)) for pair in pairs]
    rules = [IdRule(b"", b"x", low, high) for low, high in ranges]
    expected = [place for place, (low, high) in enumerate(ranges) if low <= number <= high]
    assert matching(rules, number, b"whoever") == (expected[0] if expected else None)

"""Sizes and durations as users write them."""

from __future__ import annotations

import pytest

from netsync.cli.values import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("16K", 16 << 10),
        ("1.5m", 3 << 19),
        ("2G", 2 << 30),
        ("1T", 1 << 40),
        ("10MiB", 10 << 20),
        (" 7 k ", 7 << 10),
    ],
)
def test_sizes_have_units_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "-1", "1X", "1 2", "1e3"])
def test_what_is_no_size_is_refused_with_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), ("250ms", 0.25)],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5", "5w", "1h30m"])
def test_what_is_no_duration_is_refused_with_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)

"""What travels: next to nothing when next to nothing changed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.places import Place
from tests.support.samples import MIB, build_tree, random_bytes

SIZE: Final = 100 * MIB
LIMIT: Final = 200 * 1024


def make_large(file: Path) -> None:
    """Write 100 MiB in which no block occurs twice."""
    file.parent.mkdir()
    with file.open("wb") as output:
        for number in range(100):
            output.write(random_bytes(MIB, number))


def change_a_byte(file: Path, offset: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        byte = opened.read(1)
        opened.seek(offset)
        opened.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("options", [(), ("--inplace",)], ids=" ".join)
def test_one_byte_of_a_large_file_is_cheap(place: Place, options: tuple[str, ...]) -> None:
    """Under 200 KiB on the socket in both directions together, pushed and pulled."""
    file = place.path / "source" / "large"
    make_large(file)
    for route in ("local", "push", "pull"):
        if route != "local":
            change_a_byte(file, SIZE // 3 if route == "push" else SIZE - 1)
        result = place.transfer(route, *options)
        assert result.code == 0
        if route == "local":
            continue
        size = result.bytes
        assert size["wire_sent"] + size["wire_received"] < LIMIT
        assert size["literal"] + size["matched"] == size["total"] == SIZE
        assert size["literal"] < LIMIT


def test_an_unchanged_tree_costs_its_listing(place: Place) -> None:
    """The second push sends no file data, and the third none either."""
    build_tree(place.path / "source", 1)
    first = place.transfer("push").bytes
    assert first["literal"] == first["total"]
    for _ in range(2):
        result = place.transfer("push")
        assert result.files["unchanged"] == result.files["considered"]
        assert result.bytes["literal"] == result.bytes["matched"] == 0
        assert result.bytes["wire_sent"] + result.bytes["wire_received"] < 40_000


@pytest.mark.parametrize("route", ["push", "pull"])
def test_compression_shrinks_what_can_be_shrunk(place: Place, route: str) -> None:
    """-z on text costs a fraction; the report still counts the data before compression."""
    (place.path / "source").mkdir()
    for number in range(3):
        (place.path / "source" / f"{number}").write_bytes(b"the same words again\n" * 50_000)
    size = place.transfer(route, "-z").bytes
    assert size["literal"] == size["total"] == 3 * 21 * 50_000
    assert size["wire_sent"] + size["wire_received"] < size["total"] // 10

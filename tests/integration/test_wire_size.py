"""What travels: next to nothing when next to nothing changed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.places import Place
from tests.support.samples import MIB, build_tree, random_bytes
from tests.support.sparse import data_of, write_sparse

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


@pytest.mark.parametrize("route", ["push", "pull"])
def test_a_sparse_file_costs_its_data(place: Place, route: str) -> None:
    """10 GiB with 10 MiB of data: under 11 MiB on the wire and on disk, then what changes."""
    source, target = place.path / "source" / "a" / "b" / "image", place.path / "target/a/b/image"
    source.parent.mkdir(parents=True)
    pieces = {number * 1000 * MIB: random_bytes(MIB, number) for number in range(10)}
    write_sparse(source, 10_240 * MIB, pieces)
    result = place.transfer(route)
    assert result.bytes["literal"] == 10 * MIB
    assert result.bytes["wire_sent"] + result.bytes["wire_received"] < 11 * MIB
    assert data_of(target) == data_of(source)
    assert target.stat().st_blocks * 512 < 11 * MIB

    write_sparse(source, 10_240 * MIB, pieces | {5500 * MIB: random_bytes(4096, 11)})
    result = place.transfer(route)
    assert (result.bytes["literal"], result.bytes["matched"]) == (4096, 10 * MIB)
    assert result.bytes["wire_sent"] + result.bytes["wire_received"] < 2 * MIB
    assert data_of(target) == data_of(source)


def test_without_sparse_a_hole_is_data(place: Place) -> None:
    """What `--no-sparse` sends takes its room at the target."""
    source, target = place.path / "source" / "image", place.path / "target" / "image"
    source.parent.mkdir()
    write_sparse(source, 4 * MIB, {MIB: b"data"})
    assert place.transfer("push", "--no-sparse").bytes["literal"] == 4 * MIB
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 >= 4 * MIB

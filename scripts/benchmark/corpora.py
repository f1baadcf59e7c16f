"""Data made to be hard: many names, deep paths, equal blocks, colliding checksums.

netsync's weak checksum is made of the sum of a block's bytes and the sum of its prefix sums (see
netsync/delta/pure.py). Add 1, take 2 away and add 1 at three places of equal distance, and both
sums stay what they were: the block is another, its weak checksum is the same. Where three such
places lie inside each UNIT, blocks of any multiple of that size collide.
"""

import random
from collections.abc import Iterator
from pathlib import Path

UNIT = 4096
"""Bytes of the smallest block that netsync's delta uses by itself."""

PIECE = 1 << 20
LEVEL = 0x80
"""The byte that the colliding blocks are made of."""


def colliding_units(count: int, begin: int = 0) -> Iterator[bytes]:
    """Units with the weak checksum of LEVEL repeated, none like that and none like its neighbours.

    About two million follow each other before they repeat; `begin` skips so many.
    """
    for number in range(begin, begin + count):
        unit = bytearray([LEVEL]) * UNIT
        distance, first = divmod(number, UNIT // 2)
        distance = distance % (UNIT // 4 - 1) + 1
        unit[first] += 1
        unit[first + distance] -= 2
        unit[first + 2 * distance] += 1
        yield bytes(unit)


def level(place: Path, size: int, byte: int) -> None:
    """One byte over and over: in it every window has the same checksum."""
    piece = bytes([byte]) * PIECE
    with place.open("wb") as file:
        for _ in range(size // PIECE):
            file.write(piece)


def collisions(place: Path, size: int, begin: int = 0) -> None:
    with place.open("wb") as file:
        file.writelines(colliding_units(size // UNIT, begin))


def noise(place: Path, size: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same bytes every time are wanted
    with place.open("wb") as file:
        for _ in range(size // PIECE):
            file.write(chance.randbytes(PIECE))


def edited(place: Path, basis: Path) -> None:
    """The basis with 1 % of its 4-KiB blocks replaced by random ones."""
    chance = random.Random(1)  # noqa: S311 - the same blocks every time are wanted
    with basis.open("rb") as old, place.open("wb") as new:
        while piece := old.read(PIECE):
            new.write(piece)
        blocks = new.tell() // UNIT
        for number in chance.sample(range(blocks), blocks // 100):
            new.seek(number * UNIT)
            new.write(chance.randbytes(UNIT))


def files(place: Path, count: int, folders: int, size: int = 0) -> None:
    """`count` files of `size` bytes, spread evenly over so many directories."""
    chance = random.Random(4)  # noqa: S311 - the same bytes every time are wanted
    for folder in range(folders):
        inside = place / f"directory-{folder:04}"
        inside.mkdir(parents=True)
        for number in range(folder, count, folders):
            with open(f"{inside}/file-{number:06}", "wb") as file:
                if size:
                    file.write(chance.randbytes(size))


def deep(place: Path, levels: int) -> None:
    """Directories within each other, a file in each; the names are short, paths have a limit."""
    place.mkdir()
    path = str(place)
    for _ in range(levels):
        path += "/d"
        Path(path).mkdir()
        Path(path, "f").write_bytes(b"deep\n")

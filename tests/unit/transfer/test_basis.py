"""What a basis says of itself before it is signed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netsync.delta.holes import Extent
from netsync.transfer import basis as module
from netsync.transfer.basis import Basis

DATA = 64 * 1024


def opened(path: Path, *, hole: int) -> Basis:
    with path.open("wb") as file:
        file.truncate(hole)
        file.seek(hole)
        file.write(b"x" * DATA)
        os.fsync(file.fileno())  # before that some file systems have given it no room
    return Basis(-1, 0, os.open(path, os.O_RDONLY))


def test_holes_are_found_in_a_basis_that_takes_less_room_than_it_is_long(tmp_path: Path) -> None:
    basis = opened(tmp_path / "old", hole=1 << 20)
    holes = list(basis.find_holes().extents(0, basis.size))
    basis.close()
    assert holes[0].is_hole
    assert holes[-1] == Extent(1 << 20, (1 << 20) + DATA, is_hole=False)


def test_a_basis_that_takes_all_its_room_is_not_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(module, "find_holes", lambda fd, _size: looked.append(fd))
    basis = opened(tmp_path / "old", hole=0)
    found = basis.find_holes()
    basis.close()
    assert not found
    assert not looked

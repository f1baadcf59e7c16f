"""A value in two slots: after any torn write the new one or the old one is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import Struct

from netsync.errors import StateError
from netsync.state.slots import SlotFile, read_slots

SLOT = 16 * 1024


class Value(Struct, frozen=True):
    number: int
    text: bytes = b""


def save(directory: Path, *numbers: int) -> Path:
    slots = SlotFile(directory, Value)
    for number in numbers:
        slots.save(Value(number))
    slots.close()
    return directory / "record"


def test_the_newest_counts(tmp_path: Path) -> None:
    assert read_slots(tmp_path / "new", Value) is None
    save(tmp_path / "new", 1, 2, 3)
    assert read_slots(tmp_path / "new", Value) == Value(3)


@pytest.mark.parametrize("saved", [(1, 2), (1, 2, 3)])
def test_a_torn_write_leaves_the_one_before(tmp_path: Path, saved: tuple[int, ...]) -> None:
    file = save(tmp_path, *saved)
    with file.open("r+b") as stream:
        stream.seek((len(saved) % 2) * SLOT + 8)
        stream.write(b"torn")
    assert read_slots(tmp_path, Value) == Value(saved[-2])
    save(tmp_path, 9)
    assert read_slots(tmp_path, Value) == Value(9)


def test_the_first_write_of_all_torn_is_nothing_yet(tmp_path: Path) -> None:
    with save(tmp_path, 1).open("r+b") as stream:
        stream.seek(SLOT + 8)
        stream.write(b"torn")
    assert read_slots(tmp_path, Value) is None


def test_both_broken_is_told(tmp_path: Path) -> None:
    with save(tmp_path, 1, 2).open("r+b") as stream:
        for slot in range(2):
            stream.seek(slot * SLOT + 8)
            stream.write(b"torn")
    with pytest.raises(StateError, match="neither copy of the record is whole"):
        read_slots(tmp_path, Value)


def test_one_holds_it(tmp_path: Path) -> None:
    held = SlotFile(tmp_path, Value)
    with pytest.raises(StateError, match="another process is at work there"):
        SlotFile(tmp_path, Value)
    held.close()
    SlotFile(tmp_path, Value).close()


def test_a_value_too_long_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    held = SlotFile(tmp_path, Value)
    held.save(Value(1))
    with pytest.raises(StateError, match="too long"):
        held.save(Value(2, bytes(SLOT)))
    held.close()
    assert read_slots(tmp_path, Value) == Value(1)


def test_what_is_cleared_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    """But for the lock: who comes meanwhile is told of it."""
    slots = SlotFile(tmp_path / "new", Value)
    slots.save(Value(1))
    slots.save(Value(2))
    slots.clear()
    assert slots.value is None
    assert read_slots(tmp_path / "new", Value) is None
    with pytest.raises(StateError, match="another process"):
        SlotFile(tmp_path / "new", Value)
    slots.save(Value(3))
    slots.close()
    assert read_slots(tmp_path / "new", Value) == Value(3)

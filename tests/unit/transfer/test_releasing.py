"""Large files that are replaced: the room of the last one is given back after the report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from netsync.model import Options
from netsync.transfer.batch import BATCH_FILES
from netsync.transfer.publishing import _LONG_TO_FREE
from netsync.wire.messages import Committed, Message, Wants
from tests.support.transfers import Sent, Transfer
from tests.support.trees import Value, make_tree, needs_mount, small_disk

NAMES = ("a", "b", "c")


def held(target: Path) -> list[str]:
    """Return which files of ``target`` have lost their name and are open all the same."""
    open_files: list[str] = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the listing's own
            continue
        if path.startswith(f"{target}/") and path.endswith(" (deleted)"):
            open_files.append(path.removeprefix(f"{target}/").removesuffix(" (deleted)"))
    return open_files


@pytest.mark.parametrize(("size", "expected"), [(_LONG_TO_FREE, 1), (_LONG_TO_FREE - 1, 0)])
@pytest.mark.parametrize("more", [{}, {"inplace": True}])
async def test_only_the_last_is_held_and_not_beyond_the_session(
    tmp_path: Path, size: int, expected: int, more: dict[str, object]
) -> None:
    """What is written in place was not replaced."""
    source = make_tree(tmp_path / "source", {name: b"new " + name.encode() for name in NAMES})
    target = make_tree(tmp_path / "target", dict.fromkeys(NAMES, b""))
    for name in NAMES:
        os.truncate(target / name, size)
    at_the_report: list[str] = []

    def look(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, Committed):
            at_the_report.extend(held(target))
        return [(message, tail)]

    options = Options(fsync=False, **more)  # type: ignore[arg-type]
    await Transfer(source, target, options, from_target=look).run()
    assert len(at_the_report) == (0 if more else expected)
    assert held(target) == []
    assert [(target / name).read_bytes() for name in NAMES] == [
        b"new " + name.encode() for name in NAMES
    ]


@needs_mount
@pytest.mark.parametrize("between", [0, BATCH_FILES - 1])
async def test_nothing_is_held_when_room_is_short(tmp_path: Path, between: int) -> None:
    """What is replaced first, in this batch or in one before, is what the next one needs."""
    mib = 1 << 20
    files: dict[str, Value] = {"a": b"short", "z": b"x" * (40 * mib)}
    files |= {f"b{number}": b"." for number in range(between)}
    source = make_tree(tmp_path / "source", files)
    with small_disk(tmp_path / "m", _LONG_TO_FREE + 20 * mib) as target:
        with open(target / "a", "wb") as old:
            os.posix_fallocate(old.fileno(), 0, _LONG_TO_FREE)
        transfer = Transfer(source, target, Options(fsync=False))
        report = await transfer.run()
        assert not report.problems
        asked = [each for each in transfer.sent_by_target if isinstance(each, Wants) and each.whole]
        assert len(asked) == 2
        assert (target / "a").read_bytes() == b"short"
        assert (target / "z").stat().st_size == 40 * mib

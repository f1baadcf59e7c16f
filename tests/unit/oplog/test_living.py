"""What a mirror says of itself: again and again, and once more at its end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio

from netsync.oplog import living
from netsync.oplog.living import tell_live
from netsync.state.live import CopyLive, PrimaryLive, read_live, write_live


class Told:
    """How a copy is, and whether that was said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now: CopyLive | None = CopyLive(0, 0, writer=True)

    def look(self) -> CopyLive | None:
        return self.now

    async def until_said(self) -> None:
        with trio.fail_after(50):
            while read_live(self.directory, CopyLive) != self.now:
                await trio.sleep(0.01)


@pytest.mark.parametrize("is_there", [True, False])
async def test_how_it_was_at_its_end_is_said(tmp_path: Path, *, is_there: bool) -> None:
    """Within the second after it was said last; of what is not there any more nothing is known."""
    told, before, after = Told(tmp_path), CopyLive(0, 0, writer=True), CopyLive(3, 3, writer=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_live, tmp_path, told.look)
        await told.until_said()
        told.now = after if is_there else None
        nursery.cancel_scope.cancel()
    assert read_live(tmp_path, CopyLive) == (after if is_there else before)


async def test_an_end_does_not_wait_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, go_on, written = Told(tmp_path), threading.Event(), threading.Event()

    def hanging(directory: Path, live: CopyLive | PrimaryLive) -> None:
        if live == CopyLive(3, 3, writer=True) and not go_on.wait(50):
            raise AssertionError("nobody let it go on")
        write_live(directory, live)
        written.set()

    monkeypatch.setattr(living, "LAST_SECONDS", 0.05)
    monkeypatch.setattr(living, "write_live", hanging)
    with trio.fail_after(40):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_live, tmp_path, told.look)
            await told.until_said()
            written.clear()
            told.now = CopyLive(3, 3, writer=True)
            nursery.cancel_scope.cancel()
    assert read_live(tmp_path, CopyLive) == CopyLive(0, 0, writer=True)
    go_on.set()
    assert written.wait(50), "its thread is left behind by nobody"

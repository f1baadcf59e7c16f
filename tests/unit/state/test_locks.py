"""Locks: one holder, and who only looks is none."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

from netsync.state import locks


def test_one_holds_it_until_it_lets_go(tmp_path: Path) -> None:
    lock = locks.take(tmp_path, "x.lock")
    assert lock is not None
    assert locks.is_held(tmp_path, "x.lock")
    assert locks.take(tmp_path, "x.lock") is None
    lock.release()
    assert not locks.is_held(tmp_path, "x.lock")
    again = locks.take(tmp_path, "x.lock")
    assert again is not None
    again.release()


def test_who_looks_at_it_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    taken: list[locks.Lock | None] = []
    (tmp_path / "x.lock").touch()
    with (tmp_path / "x.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as somebody who looks, at this moment
        thread = threading.Thread(target=lambda: taken.append(locks.take(tmp_path, "x.lock")))
        thread.start()
        fcntl.flock(file, fcntl.LOCK_UN)
        thread.join()
    (lock,) = taken
    assert lock is not None
    lock.release()

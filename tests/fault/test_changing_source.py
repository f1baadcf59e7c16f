"""A source that changes at every moment of a run: a file arrives as it was once, or not (F40-47).

A file that changes is listed, wanted and read at different times. Whatever it becomes in between,
what the target gets is a whole version of it, and the next run brings the last one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest
import trio

from netsync.model import Options
from netsync.wire import messages as m
from netsync.wire.messages import Message
from tests.support.samples import MIB, random_bytes
from tests.support.transfers import Sent, transfer
from tests.support.trees import make_tree, read_tree, temporaries

SIZES: Final = {"small": 5_000, "large": 6 * MIB, "more than is read ahead": 24 * MIB}
SECRET: Final = b"from outside"
Change = Callable[[Path], None]


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more" * 1000)


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def become_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parents[1] / "outside")


def become_directory(path: Path) -> None:
    path.unlink()
    make_tree(path, {"in": {"it": b"1"}})


def become_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_another(path: Path) -> None:
    """Rename another file of its size and time over it, as editors do."""
    was = path.stat()
    other = path.with_name("another")
    other.write_bytes(random_bytes(was.st_size, 9))
    os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
    other.rename(path)


def rewrite(path: Path) -> None:
    """Write over it all, and put size and time back: only the time of its change tells."""
    was = path.stat()
    with path.open("r+b") as file:
        file.write(random_bytes(was.st_size, 8))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


CHANGES: Final = (
    grow, shrink, os.unlink, become_link, become_directory, become_fifo, become_another, rewrite,
)  # fmt: skip
MOMENTS: Final = {"listed": m.List, "offered": m.Offer, "wanted": m.Wants, "read": m.Piece}


class Once:
    """Changes the file when the first message of a kind is sent; remembers its versions."""

    def __init__(self, path: Path, moment: str, change: Change) -> None:
        self.versions = [path.read_bytes()]
        self._path = path
        self._kind = MOMENTS[moment]
        self._change: Change | None = change

    def __call__(self, message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, self._kind) and self._change is not None:
            change, self._change = self._change, None
            change(self._path)
            if self._path.is_file() and not self._path.is_symlink():
                self.versions.append(self._path.read_bytes())
        return [(message, tail)]


@pytest.mark.parametrize(
    ("moment", "size"),
    [
        *((moment, size) for moment in MOMENTS for size in list(SIZES)[:2]),
        ("read", "more than is read ahead"),
    ],
)
@pytest.mark.parametrize("change", CHANGES)
async def test_it_arrives_whole_or_stays_as_it_was(
    tmp_path: Path, change: Change, moment: str, size: str
) -> None:
    old, new = b"old" * 10, random_bytes(SIZES[size], 2)
    (tmp_path / "outside").write_bytes(SECRET)
    source = make_tree(tmp_path / "source", {"f": new, "other": b"o", "z": {"f": b"z"}})
    target = make_tree(tmp_path / "target", {"f": old, "gone": b"g"})
    path = source / "f"
    os.utime(path, ns=(0, 10**18))
    options = Options(delete=True, fsync=False)
    once = Once(path, moment, change)
    await transfer(source, target, options, from_source=once, from_target=once)
    after = read_tree(target)
    assert temporaries(target) == []
    assert (after["other"], after["z"]) == (b"o", {"f": b"z"})
    found = target / "f"
    if found.is_symlink() or not found.is_file():
        found_kind = read_tree(target).get("f")
        assert found_kind == read_tree(source).get("f")
    else:
        # A file that only grew is sent at the size that was seen.
        assert found.read_bytes() in (old, *once.versions, *(v[: len(new)] for v in once.versions))
    report = await transfer(source, target, Options(delete=True, fsync=False, checksum=True))
    assert not report.problems
    assert read_tree(target) == read_tree(source)


def test_a_storm_of_renames_leaves_nothing_torn(tmp_path: Path) -> None:
    """Files and directories change their names all the time; when they rest, a run brings all."""
    table = {f"d{n}": {f"f{k}": b"%d" % k * 900 for k in range(20)} for n in range(6)}
    source = make_tree(tmp_path / "source", table)
    target = make_tree(tmp_path / "target", {})
    whole = {b"%d" % k * 900 for k in range(20)}
    resting = threading.Event()

    def rename() -> None:
        number = 0
        while not resting.is_set():
            number += 1
            near, name = source / f"d{number % 6}", f"f{number % 20}"
            away = source / "away"
            for old, new in (
                (near, away), (away / name, source / "moved"), (away, near),
                (source / "moved", near / name),
            ):  # fmt: skip
                os.rename(old, new)

    storm = threading.Thread(target=rename)
    storm.start()
    try:
        for _ in range(12):
            trio.run(transfer, source, target, Options(delete=True, fsync=False))
            assert {path.read_bytes() for path in target.rglob("*") if path.is_file()} <= whole
    finally:
        resting.set()
        storm.join()
    report = trio.run(transfer, source, target, Options(delete=True, fsync=False))
    assert not report.problems
    assert read_tree(target) == read_tree(source) == table
    assert temporaries(target) == []

"""Files are read as ``content_digest`` reads them, whatever their size and holes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from netsync.tree.content import content_digest
from netsync.tree.rehash import Rereader
from tests.support.samples import MIB, random_bytes
from tests.support.trees import ext4

SIZES = (0, 1, 511, 512, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 2 * MIB + 5)


def check_all(place: Path) -> None:
    """Compare the digests of files of many sizes in a directory."""
    for size in SIZES:
        (place / str(size)).write_bytes(random_bytes(size, size))
    with (place / "holes").open("wb") as file:
        file.seek(MIB + 77)
        file.write(b"data")
        file.truncate(3 * MIB + 9)
    (place / "zeros").write_bytes(bytes(MIB + 3))
    fd = os.open(place, os.O_RDONLY)
    try:
        reader = Rereader()
        for name in os.listdir(os.fsencode(place)):
            if name != b"lost+found":
                digest, status = reader.read(fd, name)
                assert digest == content_digest(fd, name), name
                assert status is not None
    finally:
        os.close(fd)


def test_digests_are_those_of_the_content(tmp_path: Path) -> None:
    check_all(tmp_path)


def test_a_file_system_without_direct_reads_is_read_as_usual() -> None:
    check_all_in = Path("/dev/shm")
    place = check_all_in / f"netsync-test-{os.getpid()}"
    place.mkdir()
    try:
        check_all(place)
    finally:
        for file in place.iterdir():
            file.unlink()
        place.rmdir()


def test_direct_reads_work_on_a_disk(tmp_path: Path) -> None:
    """An ext4 on a loop device takes unaligned ends, and refuses nothing."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with ext4(tmp_path) as place:
        (place / "4097").write_bytes(random_bytes(4097, 1))
        fd = os.open(place, os.O_RDONLY)
        try:
            assert Rereader().read(fd, b"4097").digest == content_digest(fd, b"4097")
        finally:
            os.close(fd)


class Interrupted(Rereader):
    """A reader during whose reading something happens."""

    def __init__(self, during: Callable[[], None], *, gentle: bool = False) -> None:
        super().__init__(gentle=gentle)
        self.steps = 0
        self._during = during

    def _step(self, fd: int, at: int, left: int) -> bytes:
        self.steps += 1
        self._during()
        return super()._step(fd, at, left)


def test_a_file_that_changes_meanwhile_has_no_status(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(bytes(10))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        reader = Interrupted(lambda: os.utime(file, (1, 1)))
        assert reader.read(fd, b"f").status is None
        assert Rereader().read(fd, b"f").status is not None
    finally:
        os.close(fd)


async def test_who_is_cancelled_need_not_wait_for_the_end_of_a_file(tmp_path: Path) -> None:
    """The thread ends after the step under way."""
    with (tmp_path / "large").open("wb") as file:
        for _ in range(64):
            file.write(random_bytes(MIB, 1))
    fd = os.open(tmp_path, os.O_RDONLY)
    with trio.CancelScope() as scope:

        def cancel_in_the_third() -> None:
            if reader.steps == 3:
                trio.from_thread.run_sync(scope.cancel)

        reader = Interrupted(cancel_in_the_third, gentle=True)
        await trio.to_thread.run_sync(reader.read, fd, b"large")
    os.close(fd)
    assert scope.cancelled_caught
    assert reader.steps == 3

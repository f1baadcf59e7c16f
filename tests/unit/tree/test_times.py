"""What becomes of a time on file systems that hold less than 64 bits of nanoseconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.tree.times import HeldTimes
from tests.support.confined import needs_known_calls, without_unnamed_files
from tests.support.trees import ext4, needs_mount, open_descriptors, opened


@pytest.fixture
def times() -> Iterator[HeldTimes]:
    before = open_descriptors()
    held = HeldTimes()
    yield held
    held.close()
    assert open_descriptors() == before


def test_a_time_that_fits_is_the_time_itself_and_nothing_is_left(
    tmp_path: Path, times: HeldTimes
) -> None:
    before = tmp_path.stat().st_mtime_ns
    with opened(tmp_path) as fd:
        for moment in (0, -1, 1_700_000_000_123_456_789, 2**31 * 10**9):
            assert times.held(fd, 1, moment) == moment
    assert (os.listdir(tmp_path), tmp_path.stat().st_mtime_ns) == ([], before)


@needs_known_calls
def test_without_unnamed_files_the_directory_looks_as_before(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(0, 10**18))

    def work() -> int:
        times = HeldTimes()
        with opened(tmp_path) as fd:
            held = times.held(fd, 1, 5)
        times.close()
        return held

    assert without_unnamed_files(work) == 5
    assert (os.listdir(tmp_path), tmp_path.stat().st_mtime_ns) == ([], 10**18)


def test_where_nothing_can_be_found_out_the_time_stands(times: HeldTimes) -> None:
    with opened(Path("/proc")) as fd:
        assert times.held(fd, 1, 12_345) == 12_345


@needs_mount
def test_what_does_not_fit_is_what_the_kernel_makes_of_it(tmp_path: Path, times: HeldTimes) -> None:
    with ext4(tmp_path, inode_bytes=128) as place, opened(place) as fd:
        assert times.held(fd, 1, 1_234_567_890_999_999_999) == 1_234_567_890 * 10**9
        assert times.held(fd, 1, 2**32 * 10**9) == times.held(fd, 1, 2**62) == (2**31 - 1) * 10**9
        assert times.held(fd, 1, -(2**62)) == -(2**31) * 10**9

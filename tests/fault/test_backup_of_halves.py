"""``--inplace --backup-dir``, cut and run again: the backup stays the good version."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from netsync.errors import NetworkError
from netsync.model import Options
from netsync.tree.half_written import HalfWritten
from netsync.tree.large_files import Stage
from netsync.wire.messages import Message, Piece
from tests.support.samples import random_bytes, write
from tests.support.transfers import Sent, Transfer, transfer
from tests.support.trees import opened, temporaries


class Cut:
    """Cuts after so many pieces."""

    def __init__(self, pieces: int) -> None:
        self._left = pieces

    def __call__(self, message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, Piece):
            self._left -= 1
            if self._left < 0:
                raise NetworkError("cut")
        return [(message, tail)]


@pytest.mark.parametrize("later", [b".kept", b".other"])
async def test_a_second_run_does_not_back_up_half_a_file(tmp_path: Path, later: bytes) -> None:
    """Cut twice, then done, also with another backup directory: the good version is kept."""
    old, new = random_bytes(8 << 20, 1), random_bytes(8 << 20, 2)
    source = write(tmp_path / "source", {"f": new})
    target = write(tmp_path / "target", {"f": old})
    options = Options(inplace=True, whole_file=True, backup_dir=b".kept")
    again = Options(inplace=True, whole_file=True, backup_dir=later)
    for each in (options, again):
        with pytest.raises(NetworkError):
            await Transfer(source, target, each, from_source=Cut(2)).run()
        assert (target / "f").read_bytes() not in (old, new)
        assert (target / ".kept" / "f").read_bytes() == old
    await transfer(source, target, again)
    assert (target / "f").read_bytes() == new
    assert (target / ".kept" / "f").read_bytes() == old
    assert not (target / ".other").exists()
    assert temporaries(target) == []
    write(source, {"f": old})
    await transfer(source, target, options)
    assert (target / ".kept" / "f").read_bytes() == new  # a whole one is backed up as ever


@pytest.mark.parametrize("name", ["f", "linked"])
async def test_a_mark_goes_with_a_run_that_changes_only_metadata(tmp_path: Path, name: str) -> None:
    """Its bytes were complete when the run before failed: the next version is backed up."""
    options = Options(inplace=True, backup_dir=b".kept")
    source = write(tmp_path / "source", {"f": b"second"})
    target = write(tmp_path / "target", {"f": b"second", ".kept/f": b"first"})
    for root, mode in ((source, 0o640), (target, 0o600)):
        (root / "f").chmod(mode)
        os.utime(root / "f", ns=(0, 10**18))
    if name == "linked":
        os.link(source / "f", source / "linked")
    with opened(target) as fd:
        stage = Stage(fd)
        stage.open()
        marks = HalfWritten(fd, stage)
        marks.note(fd, b"f", b".kept")
        marks.close()
        stage.close()
    await transfer(source, target, options)
    assert (target / "f").stat().st_mode & 0o777 == 0o640
    assert temporaries(target) == []
    (source / "f").write_bytes(b"the third")
    await transfer(source, target, options)
    assert (target / "f").read_bytes() == b"the third"
    assert (target / ".kept" / "f").read_bytes() == b"second"

"""One step of reading a large file is a small one, whatever of it travels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netsync.delta.holes import Holes
from netsync.delta.signature import Signature, sign
from netsync.model import Entry, Kind
from netsync.transfer import catching_up
from netsync.transfer.offers import Located, Offered
from netsync.transfer.outgoing import (
    READ_BYTES,
    DeltaRequest,
    LargeFile,
    Opened,
    Request,
    RestRequest,
    next_frames,
)
from netsync.tree.read import PageBuffers
from netsync.wire.messages import FileEnd, Piece

BLOCK = 4096


def large_file(path: Path, request: Request | None) -> LargeFile:
    fd = os.open(path, os.O_RDONLY)
    status = os.fstat(fd)
    entry = Entry(b"f", Kind.FILE, 0o644, 0, 0, status.st_size, status.st_mtime_ns)
    offered = Offered(1, entry, lambda name: name, lambda name: Located(0, b"", name))
    return LargeFile(
        offered, Opened(fd, status, Holes(), PageBuffers()), request, take_changed=False
    )


@pytest.fixture
def zeros(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.touch()
    return path


class TestOneStep:
    def test_a_file_of_one_piece_ends_in_the_step_that_begins_it(self, zeros: Path) -> None:
        os.truncate(zeros, READ_BYTES - 1)
        large = large_file(zeros, None)
        frames = [frame.message for frame in next_frames(large.frames())]
        large.close()
        assert list(map(type, frames)) == [Piece, FileEnd]

    def test_what_matches_is_read_in_small_steps_too(self, zeros: Path) -> None:
        os.truncate(zeros, 16 * READ_BYTES)
        signature = Signature(BLOCK, BLOCK, 7, sign(bytes(BLOCK), BLOCK, 7))
        large = large_file(zeros, DeltaRequest(signature, forward_only=False))
        frames = large.frames()
        before, steps = 0, []
        while next_frames(frames):
            steps.append(large.offset - before)
            before = large.offset
        large.close()
        assert before == 16 * READ_BYTES
        assert max(steps) <= 2 * READ_BYTES

    def test_what_is_hashed_again_is_read_in_small_steps_too(
        self, zeros: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(catching_up, "STEP_BYTES", READ_BYTES)
        size = 8 * READ_BYTES
        zeros.write_bytes(os.urandom(size))
        large = large_file(zeros, RestRequest(size - BLOCK))
        frames = large.frames()
        steps = [len(taken) for taken in iter(lambda: next_frames(frames), [])]
        large.close()
        assert sum(steps) >= size // READ_BYTES
        assert max(steps) <= 2

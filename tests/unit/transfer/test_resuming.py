"""Going on from a partial: what is believed of it is tried first, and never trusted."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from netsync.model import Options
from netsync.tree.large_files import STAGE_MIN, Stage
from netsync.tree.partials import ALIGNMENT, Resumable, version_of
from netsync.wire import messages as m
from netsync.wire import reuse
from netsync.wire.messages import Message
from tests.support.transfers import Sent, Transfer
from tests.support.trees import make_tree, opened, temporaries

SIZE = STAGE_MIN + 12_345
PART = 16 * ALIGNMENT
CONTENT = random.Random(1).randbytes(SIZE)
OTHER = random.Random(2).randbytes(SIZE)
OPTIONS = Options(fsync=False)


class Place:
    """A source with one file, and a target where a part of it may be left."""

    def __init__(self, base: Path) -> None:
        self.source = make_tree(base / "source", {"f": CONTENT})
        self.target = make_tree(base / "target", {})
        os.utime(self.source / "f", ns=(0, 10**18))

    def leave(self, content: bytes, *, version: bytes | None = None) -> None:
        """Leave ``content`` as a dead session does."""
        status = (self.source / "f").stat()
        word = version_of(status.st_size, status.st_mtime_ns) if version is None else version
        with opened(self.target) as fd:
            stage = Stage(fd)
            stage.open()
            staged = stage.create(fd, b"f", word)
            assert isinstance(staged, Resumable)
            os.write(staged.fd, content)
            staged.keep(fd)
            stage.close()

    def transfer(self, options: Options = OPTIONS) -> Transfer:
        return Transfer(self.source, self.target, options)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def kinds(messages: Sequence[Message]) -> set[type[Message]]:
    return {type(message) for message in messages} & {reuse.WantRest, m.WantDelta, m.Signature}


async def arrives(place: Place, run: Transfer) -> tuple[int, int]:
    report = await run.run()
    assert (place.target / "f").read_bytes() == (place.source / "f").read_bytes()
    assert temporaries(place.target) == []
    assert report.bytes.literal + report.bytes.matched == report.bytes.total
    return report.bytes.literal, report.bytes.matched


@pytest.mark.parametrize("length", [PART, PART + 77, SIZE], ids=["part", "odd", "all"])
async def test_the_beginning_of_the_same_version_is_gone_on_with_at_once(
    place: Place, length: int
) -> None:
    place.leave(CONTENT[:length])
    run = place.transfer()
    kept = length // ALIGNMENT * ALIGNMENT
    assert await arrives(place, run) == (SIZE - kept, kept)
    assert kinds(run.sent_by_target) == {reuse.WantRest}


async def test_a_beginning_that_is_not_what_was_believed_is_signed(place: Place) -> None:
    """As after a power cut: the length is right, some of the content never got to the disk."""
    place.leave(CONTENT[:ALIGNMENT] + bytes(ALIGNMENT) + CONTENT[2 * ALIGNMENT : PART])
    run = place.transfer()
    literal, matched = await arrives(place, run)
    assert kinds(run.sent_by_target) == {reuse.WantRest, m.WantDelta, m.Signature}
    assert literal <= 2 * ALIGNMENT
    assert matched >= SIZE - 2 * ALIGNMENT


async def test_a_beginning_of_another_version_is_signed(place: Place) -> None:
    place.leave(CONTENT[:PART], version=b"0" * 16)
    run = place.transfer()
    assert await arrives(place, run) == (SIZE - PART, PART)
    assert kinds(run.sent_by_target) == {m.WantDelta, m.Signature}


async def test_what_the_source_changed_meanwhile_is_not_overwritten_before_it_is_used(
    place: Place,
) -> None:
    """New bytes in front: all that was sent is used, further behind than it was."""
    place.leave(CONTENT[:PART])
    (place.source / "f").write_bytes(OTHER[:300_000] + CONTENT)
    run = place.transfer()
    literal, matched = await arrives(place, run)
    assert matched >= PART - ALIGNMENT
    assert literal <= SIZE + 300_000 - PART + ALIGNMENT


async def test_a_partial_of_other_content_costs_nothing_but_a_signature(place: Place) -> None:
    place.leave(OTHER[:PART], version=b"")
    assert await arrives(place, place.transfer()) == (SIZE, 0)


async def test_a_file_that_shrank_is_cut_where_it_ends(place: Place) -> None:
    place.leave(CONTENT[:PART])
    (place.source / "f").write_bytes(CONTENT[:STAGE_MIN])
    place.leave(CONTENT + OTHER, version=b"")
    await arrives(place, place.transfer())


async def test_a_file_that_became_small_is_sent_and_its_partial_removed(place: Place) -> None:
    place.leave(CONTENT[:PART])
    (place.source / "f").write_bytes(b"small")
    assert await arrives(place, place.transfer()) == (5, 0)


async def test_an_old_version_fills_up_what_is_behind_the_partial(place: Place) -> None:
    make_tree(place.target, {"f": OTHER[:PART] + CONTENT[PART:]})
    place.leave(CONTENT[:PART])
    run = place.transfer()
    literal, _ = await arrives(place, run)
    assert literal == 0
    assert kinds(run.sent_by_target) == {m.WantDelta, m.Signature}


@pytest.mark.parametrize(
    "options",
    [Options(whole_file=True, fsync=False), Options(inplace=True, fsync=False)],
    ids=["whole file", "in place"],
)
async def test_where_no_partial_is_used_none_stays(place: Place, options: Options) -> None:
    make_tree(place.target, {"f": b"old" * 10_000})
    place.leave(CONTENT[:PART])
    literal, _ = await arrives(place, place.transfer(options))
    assert literal >= SIZE - 100_000


async def test_in_a_dry_run_a_partial_stays(place: Place) -> None:
    place.leave(CONTENT[:PART])
    await place.transfer(Options(dry_run=True)).run()
    assert len(temporaries(place.target)) >= 1
    assert await arrives(place, place.transfer()) == (SIZE - PART, PART)


async def test_a_source_that_no_longer_reaches_so_far_is_asked_again(place: Place) -> None:
    """It shrank after it was listed."""
    place.leave(CONTENT[:PART])

    def shrink(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, reuse.WantRest):
            os.truncate(place.source / "f", ALIGNMENT)
        return [(message, tail)]

    run = Transfer(place.source, place.target, OPTIONS, from_target=shrink)
    await run.run()
    assert (place.target / "f").read_bytes() == CONTENT[:ALIGNMENT]
    assert temporaries(place.target) == []


@pytest.mark.parametrize("lies", ["nothing", "too short", "wrong digest"])
async def test_a_source_that_lies_about_the_rest_gets_nothing_published(
    place: Place, lies: str
) -> None:
    place.leave(CONTENT[:PART])

    def lie(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, m.FileEnd) and lies == "wrong digest":
            return [(m.FileEnd(message.number, message.size, message.mtime_ns, bytes(32)), b"")]
        if isinstance(message, m.Piece) and message.ops and lies == "too short":
            return []
        return [(message, tail)]

    run = Transfer(place.source, place.target, OPTIONS, from_source=lie)
    report = await run.run()
    if lies == "nothing":
        assert report.files.created == 1
        return
    assert not (place.target / "f").exists()
    assert [problem.op for problem in report.problems] == ["verify"]
    assert temporaries(place.target) == []

"""A rename costs nothing: what the target has under a name that goes is not sent again."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from netsync.model import Options, Report
from netsync.transfer import renames
from netsync.transfer.offers import RENAME_MIN
from netsync.wire import messages as m
from netsync.wire import reuse
from netsync.wire.messages import Message
from tests.support.transfers import Sent, Transfer
from tests.support.trees import make_tree, read_tree, temporaries

DELETE = Options(delete=True, fsync=False)
LARGE = RENAME_MIN
STAGED = 5 * 1024 * 1024


def content(seed: int, size: int = LARGE) -> bytes:
    return random.Random(seed).randbytes(size)


class Trees:
    """A source and a target in step."""

    def __init__(self, base: Path) -> None:
        self.source = make_tree(base / "source", {})
        self.target = make_tree(base / "target", {})
        self.last: Transfer | None = None

    async def run(self, options: Options = DELETE, **more: object) -> Report:
        self.last = Transfer(self.source, self.target, options, **more)  # type: ignore[arg-type]
        report = await self.last.run()
        assert temporaries(self.target) == []
        return report

    def asked(self) -> list[int]:
        """Return the numbers whose digests the target asked for last time."""
        assert self.last is not None
        return [
            number
            for message in self.last.sent_by_target
            if isinstance(message, reuse.WantDigests)
            for number in message.numbers
        ]


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


@pytest.mark.parametrize("size", [LARGE, STAGED], ids=["beside", "staged"])
async def test_a_renamed_file_sends_no_data(trees: Trees, size: int) -> None:
    make_tree(trees.source, {"a": content(1, size), "sub": {}, "other": content(2, size)})
    await trees.run()
    (trees.source / "a").rename(trees.source / "sub" / "b")
    os.chmod(trees.source / "sub" / "b", 0o640)
    report = await trees.run()
    assert read_tree(trees.target) == read_tree(trees.source)
    assert (report.bytes.literal, report.bytes.matched) == (0, size)
    assert (report.files.created, report.files.deleted) == (1, 1)
    there, here = (trees.source / "sub/b").stat(), (trees.target / "sub/b").stat()
    assert (there.st_mode, there.st_mtime_ns) == (here.st_mode, here.st_mtime_ns)


async def test_a_renamed_directory_of_files_sends_no_data(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many: here several batches of digests, and many files of one size and time."""
    monkeypatch.setattr(renames, "DIGESTS_MAX", 16)
    table = {f"{number:03}": content(number) for number in range(100)}
    make_tree(trees.source, {"old": {"in": table}})
    for path in (trees.source / "old" / "in").iterdir():
        os.utime(path, ns=(0, 10**18))
    await trees.run()
    (trees.source / "old").rename(trees.source / "new")
    report = await trees.run()
    assert read_tree(trees.target) == {"new": {"in": table}}
    assert (report.bytes.literal, report.bytes.matched) == (0, 100 * LARGE)
    assert len(trees.asked()) == 100


async def test_what_only_looks_the_same_is_sent(trees: Trees) -> None:
    """Same size, time and name, other content: verified, never guessed."""
    make_tree(trees.target, {"old": {"f": content(1), "g": content(2)}})
    make_tree(trees.source, {"new": {"f": content(3)}})
    for path in (trees.target / "old/f", trees.source / "new/f"):
        os.utime(path, ns=(0, 10**18))
    report = await trees.run()
    assert read_tree(trees.target) == {"new": {"f": content(3)}}
    assert (report.bytes.literal, report.bytes.matched) == (LARGE, 0)


async def test_no_digest_is_asked_for_without_a_candidate(trees: Trees) -> None:
    make_tree(trees.target, {"gone": content(1, LARGE + 1), "keep": content(2)})
    make_tree(trees.source, {"new": content(3), "keep": content(2)})
    os.utime(trees.target / "keep", ns=(0, 5))
    os.utime(trees.source / "keep", ns=(0, 5))
    report = await trees.run()
    assert trees.asked() == []
    assert report.bytes.literal == LARGE


async def test_two_names_of_one_old_content_both_come_from_it(trees: Trees) -> None:
    make_tree(trees.target, {"old": content(1)})
    make_tree(trees.source, {"a": content(1), "b": content(1), "c": content(2)})
    report = await trees.run()
    assert read_tree(trees.target) == read_tree(trees.source)
    assert (report.bytes.literal, report.bytes.matched) == (LARGE, 2 * LARGE)


@pytest.mark.parametrize(
    "options",
    [
        Options(fsync=False),
        Options(delete=True, whole_file=True, fsync=False),
        Options(delete=True, dry_run=True),
    ],
    ids=["no delete", "whole file", "dry run"],
)
async def test_nothing_waits_where_nothing_can_be_found(trees: Trees, options: Options) -> None:
    make_tree(trees.target, {"old": content(1)})
    make_tree(trees.source, {"new": content(1)})
    report = await trees.run(options)
    assert trees.asked() == []
    assert report.bytes.matched == 0
    assert report.files.created == 1


async def test_small_files_are_simply_sent(trees: Trees) -> None:
    make_tree(trees.target, {"old": content(1, LARGE - 1)})
    make_tree(trees.source, {"new": content(1, LARGE - 1)})
    report = await trees.run()
    assert report.bytes.literal == LARGE - 1


async def test_the_old_name_stays_if_nothing_may_be_deleted(trees: Trees) -> None:
    """The guard holds the deletes back, not the rename."""
    make_tree(trees.target, {"old": content(1)})
    make_tree(trees.source, {"new": content(1)})

    def incomplete(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, m.ListEnd):
            return [(m.ListEnd(False), tail)]
        return [(message, tail)]

    report = await trees.run(from_source=incomplete)
    assert read_tree(trees.target) == {"old": content(1), "new": content(1)}
    assert (report.bytes.literal, report.files.deleted) == (0, 0)


async def test_more_candidates_than_may_be_known_are_sent_instead(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renames, "PATHS_MAX", 1)
    table = {f"{number}": content(number) for number in range(4)}
    make_tree(trees.target, {"old": table})
    make_tree(trees.source, {"new": table})
    report = await trees.run()
    assert read_tree(trees.target) == {"new": table}
    assert report.bytes.matched == LARGE


async def test_a_wanted_file_that_changed_meanwhile_is_sent_as_it_is(trees: Trees) -> None:
    """The digest of what was listed is not to be had any more; the data is."""
    make_tree(trees.target, {"old": content(1)})
    make_tree(trees.source, {"new": content(1)})

    def change(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, reuse.WantDigests):
            (trees.source / "new").write_bytes(content(7, LARGE + 5))
        return [(message, tail)]

    await trees.run(from_target=change)
    assert (trees.target / "new").read_bytes() == content(7, LARGE + 5)


async def test_a_candidate_that_vanishes_is_none(trees: Trees) -> None:
    make_tree(trees.target, {"old": content(1)})
    make_tree(trees.source, {"new": content(1)})

    def vanish(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, reuse.WantDigests):
            (trees.target / "old").unlink()
        return [(message, tail)]

    report = await trees.run(from_target=vanish)
    assert read_tree(trees.target) == {"new": content(1)}
    assert report.bytes.literal == LARGE

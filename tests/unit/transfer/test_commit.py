"""Commits in memory: created, the same, different, in the way; all durable or nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from netsync.errors import ProtocolError, RefusedError, RootError, UsageError
from netsync.model import Kind, Options
from netsync.net.channel import Received
from netsync.plan.compare import policy_for
from netsync.transfer.commit_target import CommitTarget
from netsync.tree.capability import capability
from netsync.tree.roots import Anchor
from netsync.wire.committing import (
    COMMIT_FILES_MAX,
    Commit,
    CommitData,
    CommitFile,
    CommitResults,
    Kept,
)
from netsync.wire.messages import Message
from tests.support.commits import commit, entry, said, told
from tests.support.confined import needs_known_calls, without_unnamed_files
from tests.support.samples import MIB, random_bytes, write
from tests.support.sparse import write_sparse
from tests.support.transfers import Sent
from tests.support.trees import (
    needs_mount,
    open_descriptors,
    opened,
    read_tree,
    small_disk,
    temporaries,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def kept(answers: Sequence[object]) -> list[Kept]:
    return [result.kept for part in answers for result in part.results]  # type: ignore[attr-defined]


async def test_a_new_file_is_created_with_its_metadata(tmp_path: Path, root: Path) -> None:
    source = tmp_path / "000000010000000000000001"
    source.write_bytes(random_bytes(5 * MIB + 7, 1))
    source.chmod(0o640)
    os.setxattr(source, "user.note", b"x")
    os.utime(source, ns=(0, 1_600_000_000_123_456_789))
    answers = await commit(root, [source], b"wal/")
    made = root / "wal" / source.name
    assert kept(answers) == [Kept.CREATED]
    assert made.read_bytes() == source.read_bytes()
    assert stat.S_IMODE(made.stat().st_mode) == 0o640
    assert made.stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert os.getxattr(made, "user.note") == b"x"
    assert temporaries(root) == []


@pytest.mark.parametrize("size", [0, 1, 2 * MIB, 2 * MIB + 1])
async def test_any_size_arrives(tmp_path: Path, root: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(random_bytes(size, 2))
    assert kept(await commit(root, [tmp_path / "a"])) == [Kept.CREATED]
    assert (root / "a").read_bytes() == (tmp_path / "a").read_bytes()


async def test_holes_are_kept(tmp_path: Path, root: Path) -> None:
    source = tmp_path / "a"
    write_sparse(source, 40 * MIB, {0: b"begin", 20 * MIB: b"middle"})
    assert kept(await commit(root, [source])) == [Kept.CREATED]
    assert (root / "a").read_bytes() == source.read_bytes()
    assert (root / "a").stat().st_blocks * 512 < MIB
    assert kept(await commit(root, [source])) == [Kept.SAME]


async def test_the_same_again_is_the_same_and_is_left_as_it_is(tmp_path: Path, root: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    assert kept(await commit(root, [tmp_path / "a"])) == [Kept.CREATED]
    before = (root / "a").stat()
    os.utime(tmp_path / "a", ns=(0, 77))
    assert kept(await commit(root, [tmp_path / "a"])) == [Kept.SAME]
    assert kept(await commit(root, [tmp_path / "a"], overwrite=True)) == [Kept.SAME]
    after = (root / "a").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("there", [b"two", b"longer than that", b""])
async def test_what_differs_is_left_unless_it_is_to_be_overwritten(
    tmp_path: Path, root: Path, there: bytes
) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (root / "a").write_bytes(there)
    inode = (root / "a").stat().st_ino
    answers = await commit(root, [tmp_path / "a"])
    assert kept(answers) == [Kept.DIFFERS]
    assert answers[0].results[0].code == 23
    assert ((root / "a").read_bytes(), (root / "a").stat().st_ino) == (there, inode)
    assert kept(await commit(root, [tmp_path / "a"], overwrite=True)) == [Kept.REPLACED]
    assert (root / "a").read_bytes() == b"one"
    assert (root / "a").stat().st_ino != inode
    assert read_tree(root) == {"a": b"one"}


@pytest.mark.parametrize("overwrite", [False, True])
async def test_what_is_no_regular_file_is_never_replaced(
    tmp_path: Path, root: Path, overwrite: bool
) -> None:
    write(tmp_path / "s", {"dir": "1", "fifo": "2", "link": "3", "fine": "4"})
    (root / "dir").mkdir()
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to("fine")
    files = [tmp_path / "s" / name for name in ("dir", "fifo", "link", "fine")]
    answers = await commit(root, files, b"", overwrite=overwrite)
    assert kept(answers) == [Kept.FAILED] * 3 + [Kept.CREATED]
    assert "no regular file" in answers[0].results[1].why
    assert read_tree(root) == {"dir": {}, "fifo": None, "fine": b"4", "link": "fine"}


async def test_one_file_takes_the_last_name_unless_that_is_a_directory(
    tmp_path: Path, root: Path
) -> None:
    (tmp_path / "a").write_bytes(b"one")
    answers = [await commit(root, [tmp_path / "a"], path) for path in (b"new", b"d/e/f", b"g/")]
    assert [part[0].results[0].name for part in answers] == [b"new", b"f", b"a"]
    await commit(root, [tmp_path / "a"], b"d")
    assert read_tree(root) == {
        "new": b"one", "d": {"a": b"one", "e": {"f": b"one"}}, "g": {"a": b"one"}
    }  # fmt: skip


async def test_more_files_than_one_commit_takes(tmp_path: Path, root: Path) -> None:
    count = COMMIT_FILES_MAX + 3
    write(tmp_path / "s", {f"{number:04}": str(number) for number in range(count)})
    before = open_descriptors()
    answers = await commit(root, sorted((tmp_path / "s").iterdir()), b"d")
    assert kept(answers) == [Kept.CREATED] * count
    assert len(answers) == 2
    assert read_tree(root / "d") == read_tree(tmp_path / "s")
    assert open_descriptors() == before


async def test_a_file_that_fails_does_not_keep_others(tmp_path: Path, root: Path) -> None:
    write(tmp_path / "s", {"a": "1", "b": "2", "c": "3"})
    (root / "b").write_bytes(b"x")
    assert kept(await commit(root, sorted((tmp_path / "s").iterdir()))) == [
        Kept.CREATED, Kept.DIFFERS, Kept.CREATED
    ]  # fmt: skip
    assert read_tree(root) == {"a": b"1", "b": b"x", "c": b"3"}


async def test_a_file_that_changes_while_it_is_read_is_given_up(tmp_path: Path, root: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(random_bytes(12 * MIB, 3))

    def touch(message: Message) -> None:
        if isinstance(message, CommitData):
            with source.open("r+b") as file:
                file.write(b"changed")

    answers = await commit(root, [source], touch=touch)
    assert kept(answers) == [Kept.FAILED]
    assert answers[0].given_up[0].error == "it changed while it was read"
    assert read_tree(root) == {}


async def test_names_of_ours_and_what_is_no_file_are_refused(tmp_path: Path, root: Path) -> None:
    (tmp_path / ".netsync-x").write_bytes(b"")
    for path in (tmp_path / ".netsync-x", tmp_path):
        with pytest.raises(UsageError):
            await commit(root, [path])
    with pytest.raises(RootError, match="no such file"):
        await commit(root, [tmp_path / "gone"])


async def test_a_missing_file_among_others_is_a_problem_of_its_own(
    tmp_path: Path, root: Path
) -> None:
    (tmp_path / "a").write_bytes(b"one")
    assert kept(await commit(root, [tmp_path / "gone", tmp_path / "a"])) == [Kept.CREATED]


async def test_a_place_that_leads_out_is_refused(tmp_path: Path, root: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (root / "link").symlink_to("../elsewhere")
    for path in (b"../x", b"./../../x", b"link", b".netsync/x"):
        with pytest.raises(RefusedError):
            await commit(root, [tmp_path / "a"], path)
    assert read_tree(root) == {"link": "../elsewhere"}
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "x").exists()


@needs_mount
async def test_a_full_disk_fails_the_file_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(random_bytes(3 * MIB, 4))
    with small_disk(tmp_path / "small", MIB) as place:
        with pytest.raises(RootError, match="no space") as caught:
            await commit(place, [tmp_path / "a"])
        assert "free some space" in caught.value.hint
        assert read_tree(place) == {}


# --- the target, message by message --------------------------------------------------------------


class Racing(CommitTarget):
    """A target beside which others act, between its look at a name and the naming."""

    def __init__(self, root: Path, there: Sequence[bytes | None], *, overwrite: bool) -> None:
        self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self.path = root / "a"
        self.there = iter(there)
        policy = policy_for(Options(), capability(), special=True)
        super().__init__(Anchor(self.fd, "m"), Commit("m", overwrite), policy)

    def _name(self, file):  # type: ignore[no-untyped-def]  # as the base says
        content = next(self.there)
        if content is not None:
            self.path.write_bytes(content)
        super()._name(file)

    def run(self, messages: Sequence[Sent]) -> CommitResults:
        try:
            return self.finish([Received(message, memoryview(tail)) for message, tail in messages])
        finally:
            self.close()
            os.close(self.fd)


@pytest.mark.parametrize(
    ("there", "overwrite", "becomes", "left"),
    [
        (b"data", False, Kept.SAME, b"data"),
        (b"else", False, Kept.DIFFERS, b"else"),
        (b"else", True, Kept.REPLACED, b"data"),
        (None, False, Kept.CREATED, b"data"),
    ],
)
def test_a_name_that_appears_at_the_last_moment_decides(
    root: Path, there: bytes | None, overwrite: bool, becomes: Kept, left: bytes
) -> None:
    answer = Racing(root, [there], overwrite=overwrite).run(said(b"a", b"data"))
    assert [result.kept for result in answer.results] == [becomes]
    assert read_tree(root) == {"a": left}


@needs_known_calls
def test_without_unnamed_files_it_is_the_same(root: Path) -> None:
    def run() -> list[Kept]:
        two = [*said(b"a", b"data"), *said(b"b", b"more")]
        found = Racing(root, [None, None], overwrite=False).run(two).results
        found += Racing(root, [], overwrite=False).run(said(b"a", b"data")).results
        found += Racing(root, [None], overwrite=True).run(said(b"a", b"new")).results
        found += Racing(root, [], overwrite=False).run(said(b"a", b"data")).results
        return [result.kept for result in found]

    kinds = [Kept.CREATED, Kept.CREATED, Kept.SAME, Kept.REPLACED, Kept.DIFFERS]
    assert without_unnamed_files(run) == kinds
    assert without_unnamed_files(lambda: read_tree(root), errno.EINVAL) == {
        "a": b"new", "b": b"more"
    }  # fmt: skip


def head(size: int, *xattrs: tuple[bytes, bytes], **changed: object) -> Sent:
    """Return the beginning of a file, with a lie in its entry."""
    told = msgspec.structs.replace(entry(b"a", size), **changed)
    return CommitFile(b"", told, False, xattrs), b""


LIES: dict[str, list[Sent]] = {
    "a name that climbs": said(b"..", b"x"),
    "a name with a slash": said(b"a/b", b"x"),
    "no name": said(b"", b"x"),
    "a name of ours": said(b".netsync-x", b"x"),
    "no file": [head(0, kind=Kind.DIRECTORY)],
    "data of no file": [(CommitData(), b"x")],
    "data behind the end": [*said(b"a", b"x"), (CommitData(), b"x")],
    "more than its size": [head(2), (CommitData(), b"xxx")],
    "a hole beyond its size": [head(2), (CommitData(2**63 - 1), b"")],
    "a file in a file": [head(2), *said(b"b", b"x")],
    "no end of a file": [head(1), (CommitData(), b"x")],
    "attributes that were not told": [head(0, xattrs=5)],
    "attributes in disorder": [head(0, (b"user.b", b""), (b"user.a", b""), xattrs=1)],
    "too many files": said(b"a", b"") * (COMMIT_FILES_MAX + 1),
}


@pytest.mark.parametrize("messages", LIES.values(), ids=LIES)
async def test_a_lie_ends_the_session_and_leaves_nothing(root: Path, messages: list[Sent]) -> None:
    before = open_descriptors()
    with pytest.raises(ProtocolError):
        await told(root, messages)
    assert read_tree(root) == {}
    assert open_descriptors() == before


@pytest.mark.parametrize(
    "data",
    [
        CommitData(digest=bytes(32)),
        CommitData(digest=b"x"),
        CommitData(void=True),
    ],
)
async def test_what_is_not_what_it_is_said_to_be_gets_no_name(root: Path, data: CommitData) -> None:
    """The next file is taken all the same."""
    messages = [head(4), (data, b"data"), *said(b"b", b"fine")]
    answer = await told(root, messages)
    assert [result.kept for result in answer.results] == [Kept.FAILED, Kept.CREATED]
    assert read_tree(root) == {"b": b"fine"}


async def test_short_data_with_the_right_digest_gets_no_name(root: Path) -> None:
    short = said(b"a", b"dat")
    messages = [head(4), short[1]]
    answer = await told(root, messages)
    assert [result.kept for result in answer.results] == [Kept.FAILED]
    assert read_tree(root) == {}


async def test_set_id_bits_come_only_where_they_may(tmp_path: Path, root: Path) -> None:
    with opened(root) as fd:
        policy = policy_for(Options(), capability(), special=False)
        target = CommitTarget(Anchor(fd, "m"), Commit("m"), policy)
        frames = [head(4, mode=0o6755), said(b"a", b"data")[1]]
        target.finish([Received(message, memoryview(tail)) for message, tail in frames])
        target.close()
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o755

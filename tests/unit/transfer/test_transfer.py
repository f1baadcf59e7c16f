"""Whole transfers in memory: what is equal afterwards, what is kept, and what is told."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from netsync.errors import RootError
from netsync.model import Change, Files, Item, Keep, Kind, Options, Problem, Report, Rule
from netsync.modes.outcome import Outcome, outcome_of
from netsync.transfer.finishing import INCOMPLETE
from netsync.tree.large_files import STAGE_MIN, Stage
from netsync.wire import messages as m
from netsync.wire.messages import Message
from tests.support.confined import needs_root
from tests.support.transfers import Meddle, Sent, Transfer, transfer, without_digests
from tests.support.trees import (
    Value,
    ext4,
    make_tree,
    needs_mount,
    open_descriptors,
    opened,
    read_tree,
    small_disk,
    temporaries,
)

OLD, NEW = b"old content, " * 10_000, b"new content! " * 10_000
"""Large enough for a delta."""

DELETE = Options(delete=True, fsync=False)
PLAIN = Options(fsync=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "source", {})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "target", {})


def facts(root: Path) -> dict[str, tuple[int, int, int, int]]:
    """Return mode, owner, group and time of all below ``root``, and of itself."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        found[str(path.relative_to(root))] = (
            stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns,
        )  # fmt: skip
    return found


FULL: dict[str, Value] = {
    "empty": b"",
    "small": b"x" * 1000,
    "large": bytes(range(256)) * 8192,
    "dir": {"file": b"1", "sub": {"deep": {"deepest": b"2"}}, "empty": {}},
    "link": "small",
    "dangling": "\udcff/no/where",
    "fifo": None,
    "name\nwith newline": b"3",
    "n\udcffme": b"4",
    ".netsyncignore": b"*.o\n",
}


@pytest.mark.parametrize("fsync", [True, False])
async def test_the_trees_are_equal_afterwards_and_again_nothing_is_to_do(
    source: Path, target: Path, fsync: bool
) -> None:
    make_tree(source, FULL)
    for number, path in enumerate(sorted(source.rglob("*"))):
        os.utime(path, ns=(0, 10**18 + number), follow_symlinks=False)
    (source / "dir").chmod(0o750)
    (source / "small").chmod(0o4711)
    before = open_descriptors()
    options = Options(delete=True, fsync=fsync)
    first = await transfer(source, target, options)
    assert read_tree(target) == FULL
    assert facts(target) == facts(source)
    assert outcome_of(first) is Outcome.OK
    assert first.durable is fsync
    assert (first.files.created, first.files.considered) == (15, 15)
    again = await transfer(source, target, options)
    assert again.files == Files(considered=15, unchanged=15)
    assert again.bytes.literal == again.bytes.matched == 0
    assert open_descriptors() <= before


@needs_root
async def test_owners_and_devices_are_kept_by_root(source: Path, target: Path) -> None:
    make_tree(source, {"f": b"x", "link": "f", "d": {}})
    os.mknod(source / "null", 0o020666, os.makedev(1, 3))
    for name in ("f", "link", "d", "null"):
        os.chown(source / name, 1234, 2345, follow_symlinks=False)
    (source / "f").chmod(0o6755)
    await transfer(source, target, PLAIN)
    assert facts(target) == facts(source)
    assert (target / "null").stat().st_rdev == os.makedev(1, 3)


async def test_a_changed_large_file_travels_as_a_delta(source: Path, target: Path) -> None:
    make_tree(target, {"f": OLD})
    make_tree(source, {"f": OLD[:60_000] + b"changed" + OLD[60_000:]})
    report = await transfer(source, target, PLAIN)
    assert read_tree(target) == read_tree(source)
    assert report.files.updated == 1
    assert report.bytes.matched > 100_000
    assert report.bytes.literal < 10_000


async def test_in_place_a_delta_is_right_and_keeps_the_inode(source: Path, target: Path) -> None:
    make_tree(target, {"f": OLD})
    make_tree(source, {"f": OLD[4096:80_000] + b"changed" + OLD[20_000:90_000]})
    inode = (target / "f").stat().st_ino
    await transfer(source, target, Options(inplace=True, fsync=False))
    assert read_tree(target) == read_tree(source)
    assert (target / "f").stat().st_ino == inode


async def test_whole_file_sends_no_delta(source: Path, target: Path) -> None:
    make_tree(target, {"f": OLD})
    make_tree(source, {"f": OLD + b"more"})
    run = Transfer(source, target, Options(whole_file=True, fsync=False))
    report = await run.run()
    assert read_tree(target) == read_tree(source)
    assert (report.bytes.matched, report.bytes.literal) == (0, len(OLD) + 4)
    assert not any(isinstance(message, m.WantDelta) for message in run.sent_by_target)


async def test_a_dry_run_tells_what_the_run_then_does(source: Path, target: Path) -> None:
    make_tree(source, {"new": b"x", "changed": b"new", "dir": {"in": b"y"}, "same": b"s"})
    make_tree(target, {"changed": b"older", "gone": {"a": b"a"}, "same": b"s"})
    os.utime(source / "same", ns=(0, 5))
    os.utime(target / "same", ns=(0, 5))
    before = read_tree(target)
    options = Options(delete=True, dry_run=True, itemize=True, fsync=False)
    dry = Transfer(source, target, options)
    told = await dry.run()
    assert read_tree(target) == before
    assert told.dry_run
    real = Transfer(source, target, msgspec.structs.replace(options, dry_run=False))
    done = await real.run()
    assert done.files == told.files
    assert sorted(real.watch.lines, key=str) == sorted(dry.watch.lines, key=str)
    assert Item(Change.DELETED, b"gone/a") in dry.watch.lines


async def test_trouble_with_what_is_left_of_a_new_file_is_that_files_alone(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(stage: Stage, path: bytes) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(Stage, "has_partials", True)
    monkeypatch.setattr(Stage, "find", refuses)
    make_tree(source, {"dir": {"large": bytes(STAGE_MIN), "small": b"x"}})
    report = await transfer(source, target, PLAIN)
    assert [problem.path for problem in report.problems] == [b"dir/large"]
    assert read_tree(target) == {"dir": {"small": b"x"}}


async def test_a_dry_run_onto_nothing_tells_all_and_asks_for_nothing(
    source: Path, target: Path
) -> None:
    make_tree(source, {"f": b"x", "dir": {"g": b"y", "deeper": {"h": OLD}}})
    options = Options(dry_run=True, itemize=True, fsync=False)
    dry = Transfer(source, target, options, exists=False)
    report = await dry.run()
    assert report.files.created == len(dry.watch.lines) == 5
    wants = [each for each in dry.sent_by_target if isinstance(each, m.Wants)]
    assert not any(each.whole or each.deltas for each in wants)
    assert not any(target.iterdir())


async def test_both_sides_are_told_each_byte_settled(source: Path, target: Path) -> None:
    make_tree(source, {"new": b"x" * 500, "same": b"s" * 70, "large": OLD})
    make_tree(target, {"same": b"s" * 70})
    for root in (source, target):
        os.utime(root / "same", ns=(0, 5))
    run = Transfer(source, target, PLAIN)
    await run.run()
    assert run.watch.settled_bytes == 570 + len(OLD)
    assert run.watch.listings[-1] == (3, 570 + len(OLD), True)


# --- another kind in the way --------------------------------------------------------------------

KINDS: dict[str, Value] = {
    "file": b"content", "large file": OLD, "link": "else/where", "fifo": None,
    "empty directory": {},
}  # fmt: skip


@pytest.mark.parametrize("there", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
@pytest.mark.parametrize("options", [PLAIN, DELETE, Options(inplace=True, fsync=False)])
async def test_any_kind_becomes_any_other(
    source: Path, target: Path, wanted: str, there: str, options: Options
) -> None:
    make_tree(source, {"x": KINDS[wanted]})
    make_tree(target, {"x": KINDS[there]})
    report = await transfer(source, target, options)
    assert read_tree(target) == read_tree(source)
    assert outcome_of(report) is Outcome.OK


FULL_DIRECTORY: dict[str, Value] = {"x": {"inside": b"kept", "sub": {"deeper": b"too"}}}
NOT_DIRECTORIES = ["file", "large file", "link", "fifo"]


@pytest.mark.parametrize("wanted", NOT_DIRECTORIES)
async def test_a_full_directory_in_the_way_is_kept_without_delete(
    source: Path, target: Path, wanted: str
) -> None:
    make_tree(source, {"x": KINDS[wanted], "other": b"fine"})
    make_tree(target, FULL_DIRECTORY)
    report = await transfer(source, target, PLAIN)
    assert read_tree(target) == {**FULL_DIRECTORY, "other": b"fine"}
    assert [problem.path for problem in report.problems] == [b"x"]
    assert (report.files.failed, report.files.created) == (1, 1)


@pytest.mark.parametrize("wanted", NOT_DIRECTORIES)
async def test_a_full_directory_in_the_way_is_replaced_with_delete(
    source: Path, target: Path, wanted: str
) -> None:
    make_tree(source, {"x": KINDS[wanted], "other": b"fine"})
    make_tree(target, FULL_DIRECTORY)
    report = await transfer(source, target, DELETE)
    assert report.problems == ()
    assert read_tree(target) == read_tree(source)
    assert (report.files.created, report.files.failed) == (2, 0)
    assert report.files.deleted >= 4


@pytest.mark.parametrize("wanted", NOT_DIRECTORIES)
async def test_a_dry_run_counts_a_full_directory_in_the_way_like_the_run(
    source: Path, target: Path, wanted: str
) -> None:
    make_tree(source, {"x": KINDS[wanted]})
    make_tree(target, FULL_DIRECTORY)
    dry = await transfer(source, target, msgspec.structs.replace(DELETE, dry_run=True))
    assert read_tree(target) == FULL_DIRECTORY
    real = await transfer(source, target, DELETE)
    assert dry.files == real.files


# --- deletes ------------------------------------------------------------------------------------


async def test_what_the_source_has_not_is_deleted_only_when_asked(
    source: Path, target: Path
) -> None:
    make_tree(source, {"kept": b"x", "dir": {"kept": b"y"}})
    make_tree(target, {"extra": b"z", "dir": {"extra": {"deep": b"z"}}, "tree": {"a": b"z"}})
    await transfer(source, target, PLAIN)
    assert (target / "extra").exists()
    report = await transfer(source, target, DELETE)
    assert read_tree(target) == read_tree(source)
    assert report.files.deleted == 5
    assert facts(target)["dir"] == facts(source)["dir"]


async def test_what_a_rule_excludes_is_not_copied_and_not_deleted(
    source: Path, target: Path
) -> None:
    make_tree(source, {"a.log": b"source", "b": b"x", "tmp": {"c": b"c"}})
    make_tree(target, {"a.log": b"target", "d.log": b"target", "dir": {"e.log": b"t", "f": b"t"}})
    rules = (Rule(True, b"*.log"), Rule(True, b"tmp/"))
    await transfer(source, target, Options(delete=True, rules=rules, fsync=False))
    assert read_tree(target) == {
        "a.log": b"target", "b": b"x", "d.log": b"target", "dir": {"e.log": b"t"},
    }  # fmt: skip
    everything = Options(delete=True, delete_excluded=True, rules=rules, fsync=False)
    await transfer(source, target, everything)
    assert read_tree(target) == {"b": b"x"}


async def test_skipped_kinds_are_protected_from_deletion(source: Path, target: Path) -> None:
    make_tree(source, {"link": "x", "f": b"f"})
    make_tree(target, {"link": "kept as it is", "g": b"g"})
    options = Options(delete=True, keep=Keep(links=False), fsync=False)
    await transfer(source, target, options)
    assert read_tree(target) == {"link": "kept as it is", "f": b"f"}


FILLER: dict[str, Value] = {f"z{number:04}{'x' * 100}": b"" for number in range(700)}
"""Names that fill a message of listings, so that a test can act before the directories follow."""


def besides_filler(tree: Path) -> dict[str, Value]:
    return {name: value for name, value in read_tree(tree).items() if name not in FILLER}


def when_listed(directory: int, act: Callable[[], None]) -> Meddle:
    """Act once when the listing of the numbered directory is on its way."""
    done: list[bool] = []

    def meddle(message: Message, tail: bytes) -> Sequence[Sent]:
        listed = isinstance(message, m.List) and any(
            part.directory == directory for part in message.listings
        )
        if listed and not done:
            done.append(True)
            act()
        return [(message, tail)]

    return meddle


async def test_deletes_are_held_when_the_source_could_not_be_read_whole(
    source: Path, target: Path
) -> None:
    make_tree(source, {"a": b"new", "dir": {"f": b"f"}, **FILLER})
    make_tree(target, {"extra": b"kept", "dir": {"f": b"old", "g": b"kept"}, **FILLER})

    def break_listing() -> None:
        (source / "dir" / "f").unlink()
        (source / "dir").rmdir()
        (source / "dir").write_bytes(b"no directory any more")

    report = await transfer(source, target, DELETE, from_source=when_listed(0, break_listing),
                            from_target=without_digests)  # fmt: skip
    assert besides_filler(target) == {
        "a": b"new", "extra": b"kept", "dir": {"f": b"old", "g": b"kept"},
    }  # fmt: skip
    assert report.files.deleted == 0
    assert INCOMPLETE in report.notices
    assert report.problems == (Problem(b"dir", "list", "not a directory"),)
    assert outcome_of(report) is Outcome.PARTIAL


@pytest.mark.parametrize("wanted", ["file", "link"])
async def test_a_directory_in_the_way_is_kept_when_the_source_could_not_be_read_whole(
    source: Path, target: Path, wanted: str
) -> None:
    make_tree(source, {"dir": {"f": b"f"}, "x": KINDS[wanted], **FILLER})
    make_tree(target, {**FULL_DIRECTORY, **FILLER})

    def break_listing() -> None:
        (source / "dir" / "f").unlink()
        (source / "dir").rmdir()
        (source / "dir").write_bytes(b"no directory any more")

    report = await transfer(source, target, DELETE, from_source=when_listed(0, break_listing))
    assert besides_filler(target) == {**FULL_DIRECTORY, "dir": {}}
    assert report.files.deleted == 0
    assert INCOMPLETE in report.notices or any(p.path == b"x" for p in report.problems)
    assert outcome_of(report) is Outcome.PARTIAL


async def test_a_directory_that_vanished_is_told_and_what_the_target_has_of_it_stays(
    source: Path, target: Path
) -> None:
    make_tree(source, {"a": b"a", "dir": {}, **FILLER})
    make_tree(target, {"extra": b"x", "dir": {"g": b"kept"}, **FILLER})
    report = await transfer(
        source, target, DELETE, from_source=when_listed(0, (source / "dir").rmdir),
        from_target=without_digests,
    )  # fmt: skip
    assert besides_filler(target) == {"a": b"a", "dir": {"g": b"kept"}}
    assert [(problem.path, problem.vanished) for problem in report.problems] == [(b"dir", True)]
    assert outcome_of(report) is Outcome.VANISHED


# --- files that vanish or change ----------------------------------------------------------------


@pytest.mark.parametrize("content", [b"small", NEW * 4], ids=["small", "large"])
async def test_a_file_that_vanished_after_listing_is_told_and_the_old_one_stays(
    source: Path, target: Path, content: bytes
) -> None:
    make_tree(source, {"f": content, "other": b"fine"})
    make_tree(target, {"f": OLD})
    report = await transfer(source, target, DELETE,
                            from_source=when_listed(0, (source / "f").unlink))  # fmt: skip
    assert read_tree(target) == {"f": OLD, "other": b"fine"}
    (problem,) = report.problems
    assert (problem.path, problem.op, problem.vanished) == (b"f", "read", True)
    assert report.files.failed == 1
    assert outcome_of(report) is Outcome.VANISHED


async def test_a_file_that_became_a_link_is_not_followed(source: Path, target: Path) -> None:
    make_tree(source.parent, {"secret": b"secret"})
    make_tree(source, {"f": b"x", "large": NEW * 4})

    def swap() -> None:
        for name in ("f", "large"):
            (source / name).unlink()
            (source / name).symlink_to("../secret")

    report = await transfer(source, target, PLAIN, from_source=when_listed(0, swap))
    assert read_tree(target) == {}
    assert [problem.path for problem in report.problems] == [b"f", b"large"]
    assert outcome_of(report) is Outcome.PARTIAL


async def test_a_file_that_became_a_fifo_hangs_nothing(source: Path, target: Path) -> None:
    make_tree(source, {"f": b"x", "large": NEW * 4})

    def swap() -> None:
        for name in ("f", "large"):
            (source / name).unlink()
            os.mkfifo(source / name)

    report = await transfer(source, target, PLAIN, from_source=when_listed(0, swap))
    assert read_tree(target) == {}
    assert {problem.error for problem in report.problems} == {"is no longer a regular file"}


async def test_a_small_file_that_changed_after_listing_arrives_as_it_is_now(
    source: Path, target: Path
) -> None:
    make_tree(source, {"f": b"listed"})

    def change() -> None:
        (source / "f").write_bytes(b"rather longer than it was when listed")
        os.utime(source / "f", ns=(0, 77))

    report = await transfer(source, target, PLAIN, from_source=when_listed(0, change))
    assert report.problems == ()
    assert read_tree(target) == read_tree(source)
    assert (target / "f").stat().st_mtime_ns == 77


async def test_small_files_that_all_grew_after_listing_arrive_whole(
    source: Path, target: Path
) -> None:
    names = [f"f{number}" for number in range(12)]
    make_tree(source, dict.fromkeys(names, b""))

    def grow() -> None:
        for name in names:
            (source / name).write_bytes(name.encode() * 60_000)

    report = await transfer(source, target, PLAIN, from_source=when_listed(0, grow))
    assert report.problems == ()
    assert read_tree(target) == read_tree(source)


def at_first_piece(act: Callable[[], object]) -> Meddle:
    done: list[bool] = []

    def meddle(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, m.Piece) and not done:
            done.append(True)
            act()
        return [(message, tail)]

    return meddle


def rewriting(path: Path) -> Callable[[], None]:
    """Return a function that changes a part of ``path`` far ahead, each time to a new time."""
    times = itertools.count(1)

    def rewrite() -> None:
        with path.open("r+b") as file:
            file.seek(9_000_000)
            file.write(b"rewritten")
        os.utime(path, ns=(0, next(times)))

    return rewrite


@pytest.mark.parametrize("options", [PLAIN, Options(whole_file=True, fsync=False)])
async def test_a_large_file_rewritten_once_while_read_is_read_again(
    source: Path, target: Path, options: Options
) -> None:
    make_tree(source, {"f": NEW * 80, "other": b"fine"})
    make_tree(target, {"f": OLD})
    rewrite = rewriting(source / "f")
    report = await transfer(source, target, options, from_source=at_first_piece(rewrite))
    assert read_tree(target) == read_tree(source)
    assert outcome_of(report) is Outcome.OK
    assert temporaries(target) == []


@pytest.mark.parametrize("options", [PLAIN, Options(whole_file=True, fsync=False)])
async def test_a_large_file_rewritten_each_time_is_told_and_the_old_one_stays(
    source: Path, target: Path, options: Options
) -> None:
    make_tree(source, {"f": NEW * 80, "other": b"fine"})
    make_tree(target, {"f": OLD})
    rewrite = rewriting(source / "f")

    def at_each_piece(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, m.Piece):
            rewrite()
        return [(message, tail)]

    report = await transfer(source, target, options, from_source=at_each_piece)
    assert read_tree(target) == {"f": OLD, "other": b"fine"}
    assert [(p.path, p.error) for p in report.problems] == [(b"f", "changed while it was read")]
    assert outcome_of(report) is Outcome.PARTIAL
    assert temporaries(target) == []


async def test_a_large_file_that_only_grew_is_sent_at_the_size_seen_at_open(
    source: Path, target: Path
) -> None:
    make_tree(source, {"f": NEW * 80})

    def grow() -> None:
        with (source / "f").open("ab") as file:
            file.write(b"one more line of a log")

    report = await transfer(source, target, PLAIN, from_source=at_first_piece(grow))
    assert report.problems == ()
    assert read_tree(target) == {"f": NEW * 80}


# --- damage on the way --------------------------------------------------------------------------


class Damage:
    """Flips a bit in the data of the first ``times`` frames that carry any."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, m.Files | m.Piece) and tail and self.left:
            self.left -= 1
            tail = bytes([tail[0] ^ 1]) + tail[1:]
        return [(message, tail)]


CONTENTS = {"small": (b"small, new", b"small, old"), "delta": (b"<" + OLD, OLD),
            "large, new": (NEW * 9, None)}  # fmt: skip


@pytest.mark.parametrize("case", CONTENTS)
@pytest.mark.parametrize("times", [1, 2])
async def test_damaged_data_is_asked_for_again_whole(
    source: Path, target: Path, case: str, times: int
) -> None:
    new, old = CONTENTS[case]
    make_tree(source, {"f": new})
    make_tree(target, {"f": old} if old is not None else {})
    run = Transfer(source, target, PLAIN, from_source=Damage(times))
    report = await run.run()
    assert read_tree(target) == {"f": new}
    assert report.problems == ()
    wants = [message for message in run.sent_by_target if isinstance(message, m.Wants)]
    assert [each.whole for each in wants if each.whole][-times:] == [[1]] * times
    assert temporaries(target) == []


@pytest.mark.parametrize("case", CONTENTS)
async def test_data_that_stays_damaged_is_a_problem_and_the_old_content_stays(
    source: Path, target: Path, case: str
) -> None:
    new, old = CONTENTS[case]
    make_tree(source, {"f": new, "other": b""})
    before: dict[str, Value] = {"f": old} if old is not None else {}
    make_tree(target, before)
    report = await transfer(source, target, PLAIN, from_source=Damage(99))
    assert read_tree(target) == {**before, "other": b""}
    (problem,) = report.problems
    assert (problem.path, problem.op) == (b"f", "verify")
    assert report.files.failed == 1
    assert temporaries(target) == []


async def test_a_basis_that_vanished_uses_up_no_attempt_of_the_two_ends_differently(
    source: Path, target: Path
) -> None:
    """Asking whole because there is no basis, then twice for damage: both must count alike."""
    make_tree(source, {"f": NEW, "other": b""})
    make_tree(target, {"f": OLD})

    def lose_basis(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, m.Wants) and message.deltas:
            (target / "f").unlink()
        return [(message, tail)]

    await transfer(source, target, PLAIN, from_source=Damage(2), from_target=lose_basis)
    assert (target / "other").exists()


# --- the disk's word ----------------------------------------------------------------------------


@needs_mount
@pytest.mark.parametrize("content", [[b"z" * 200_000] * 20, [b"z" * 4_000_000]],
                         ids=["small", "large"])  # fmt: skip
async def test_a_full_disk_ends_the_session_and_leaves_nothing_staged(
    tmp_path: Path, source: Path, content: list[bytes]
) -> None:
    make_tree(source, {f"f{number}": each for number, each in enumerate(content)})
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        make_tree(disk, {"f0": b"old"})
        with pytest.raises(RootError, match="no space left on device") as caught:
            await transfer(source, disk, PLAIN)
        assert caught.value.exit_code == 11
        assert "free some space" in caught.value.hint
        assert temporaries(disk) == []
        there = read_tree(disk)
        assert there["f0"] in (b"old", content[0])
        assert all(value == b"z" * 200_000 for name, value in there.items() if name != "f0")
        used = sum(path.stat().st_size for path in disk.iterdir())
        stats = os.statvfs(disk)
        assert (stats.f_blocks - stats.f_bfree) * stats.f_frsize < used + 65_536


@needs_root
async def test_a_name_the_target_cannot_write_is_a_problem_and_the_rest_goes_on(
    source: Path, target: Path
) -> None:
    make_tree(source, {"a": b"new", "b": b"new"})
    make_tree(target, {"a": b"old"})
    blocked = target / "a"

    def block(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, m.Wants) and message.whole:
            blocked.unlink()
            make_tree(blocked, {"in the way": b"x"})
        return [(message, tail)]

    report = await transfer(source, target, PLAIN, from_target=block)
    assert read_tree(target) == {"a": {"in the way": b"x"}, "b": b"new"}
    assert [(problem.path, problem.op) for problem in report.problems] == [(b"a", "write")]


async def test_what_a_dead_session_left_is_swept(source: Path, target: Path) -> None:
    make_tree(source, {"dir": {"f": b"x"}})
    make_tree(target, {".netsync-tmp-00": b"left", "dir": {".netsync-tmp-11": b"left"}})
    await transfer(source, target, PLAIN)
    assert read_tree(target) == {"dir": {"f": b"x"}}


# --- long paths ---------------------------------------------------------------------------------


def deep(root: Path, files: int) -> bytes:
    """Create ``files`` files below a path of some 2,300 bytes; return that path."""
    name = b"d" * 250
    with opened(root) as start:
        fd = os.dup(start)
        for _ in range(9):
            os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        for number in range(files):
            os.close(os.open(b"%03d" % number, os.O_CREAT, dir_fd=fd))
        os.close(fd)
    return b"/".join([name] * 9)


async def test_itemized_lines_of_long_paths_fit_their_messages(source: Path, target: Path) -> None:
    deep(source, 300)
    run = Transfer(source, target, Options(itemize=True, fsync=False))
    report = await run.run()
    assert report.files.created == len(run.watch.lines) == 309


async def test_problems_with_long_paths_fit_their_messages(source: Path, target: Path) -> None:
    path = os.path.join(os.fsencode(source), deep(source, 200))

    def vanish() -> None:
        for number in range(200):
            os.unlink(os.path.join(path, b"%03d" % number))

    run = Transfer(source, target, PLAIN, from_source=when_listed(9, vanish))
    report = await run.run()
    assert len(report.problems) + report.problems_omitted == 200
    assert all(problem.vanished for problem in report.problems)


async def test_a_large_directory_arrives_whole(source: Path, target: Path) -> None:
    make_tree(source, {f"f{number:05}": b"%d" % number for number in range(1600)})
    report = await transfer(source, target, DELETE)
    assert report.files.created == 1600
    assert read_tree(target) == read_tree(source)


async def test_kinds_are_listed_as_numbers_of_the_wire(source: Path, target: Path) -> None:
    make_tree(source, {"a": b"", "b": "x", "c": {}})
    run = Transfer(source, target, PLAIN)
    await run.run()
    first = next(message for message in run.sent_by_source if isinstance(message, m.List))
    kinds = [entry.kind for entry in first.listings[0].entries]
    assert kinds == [Kind.FILE, Kind.SYMLINK, Kind.DIRECTORY]


def test_a_report_without_problems_is_fine() -> None:
    assert outcome_of(Report()) is Outcome.OK


# --- what the source could not read, and what the target may not hold ----------------------------


def unreadable(name: bytes) -> Meddle:
    """Say of the small file ``name`` that its disk failed, instead of sending it."""
    numbers: list[int] = []

    def meddle(message: Message, tail: bytes) -> Sequence[Sent]:
        if isinstance(message, m.List):
            names = [entry.name for part in message.listings for entry in part.entries]
            numbers.extend(at + 1 for at, each in enumerate(names) if each == name)
        if isinstance(message, m.Files) and message.files[-1].number in numbers:
            lost = message.files[-1]
            problem = Problem(name, "read", "input/output error")
            sent: list[Sent] = [(m.Unsent([lost.number], [problem]), b"")]
            if rest := message.files[:-1]:
                sent.insert(0, (m.Files(rest), tail[: len(tail) - lost.size]))
            return sent
        return [(message, tail)]

    return meddle


async def test_nothing_is_deleted_when_a_file_could_not_be_read(source: Path, target: Path) -> None:
    make_tree(source, {"a": b"new", "secret": b"?"})
    make_tree(target, {"extra": b"kept"})
    report = await transfer(source, target, DELETE, from_source=unreadable(b"secret"),
                            from_target=without_digests)  # fmt: skip
    assert read_tree(target) == {"a": b"new", "extra": b"kept"}
    assert report.files.deleted == 0
    assert INCOMPLETE in report.notices
    assert outcome_of(report) is Outcome.PARTIAL


async def test_a_directory_stays_when_the_file_that_replaces_it_vanished(
    source: Path, target: Path
) -> None:
    make_tree(source, {"x": b"file"})
    make_tree(target, {"x": {"deep": {"keep": b"kept"}}})
    report = await transfer(
        source, target, DELETE, from_source=when_listed(0, (source / "x").unlink)
    )
    assert read_tree(target) == {"x": {"deep": {"keep": b"kept"}}}
    assert outcome_of(report) is Outcome.VANISHED


async def test_a_time_beyond_what_64_bits_hold_harms_nobody(source: Path, target: Path) -> None:
    make_tree(source, {"far": b"far", "near": b"near", "d": {"in": b"in"}})
    os.utime(source / "far", (32_503_680_000, 32_503_680_000))
    os.utime(source / "d", (32_503_680_000, 32_503_680_000))
    report = await transfer(source, target, PLAIN)
    assert read_tree(target) == {"far": b"far", "near": b"near", "d": {"in": b"in"}}
    assert outcome_of(report) is Outcome.OK
    again = await transfer(source, target, PLAIN)
    assert again.files.unchanged == again.files.considered == 4


@needs_root
async def test_set_id_bits_that_a_module_forbids_do_not_survive_new_content(
    source: Path, target: Path
) -> None:
    make_tree(source, {"su": b"other content"})
    make_tree(target, {"su": b"trusted"})
    (target / "su").chmod(0o6755)
    options = Options(fsync=False, keep=Keep(perms=False))
    await Transfer(source, target, options, special=False).run()
    assert (target / "su").read_bytes() == b"other content"
    assert stat.S_IMODE((target / "su").stat().st_mode) == 0o755


@needs_mount
async def test_a_nearly_full_target_is_updated_file_by_file(tmp_path: Path, source: Path) -> None:
    names = [f"f{number}" for number in range(5)]
    make_tree(source, dict.fromkeys(names, b"n" * 1500000))
    with small_disk(tmp_path / "disk", 10 << 20) as disk:
        make_tree(disk, dict.fromkeys(names, b"o" * 1500001))
        report = await transfer(source, disk, PLAIN)
        assert outcome_of(report) is Outcome.OK
        assert read_tree(disk) == read_tree(source)


@needs_mount
async def test_times_that_the_target_cannot_hold_are_not_sent_for_ever(
    source: Path, tmp_path: Path
) -> None:
    """Whole seconds from 1901 to 2038 is all that old file systems know."""
    make_tree(source, {str(number): b"x" for number in range(4)} | {"link": "0", "dir": {}})
    moments = [-(10**18) * 4, 2**32 * 10**9, 10**18 + 123_456_789, 5, 2**33 * 10**9, 7 * 10**18]
    for path, moment in zip(sorted(source.iterdir()), moments, strict=True):
        os.utime(path, ns=(0, moment), follow_symlinks=False)
    with ext4(tmp_path, inode_bytes=128) as target:
        await transfer(source, target, DELETE)
        again = await transfer(source, target, PLAIN)
        assert (again.files.unchanged, again.bytes.literal) == (6, 0)
        assert len(again.notices) == 1
        (source / "0").write_bytes(b"y")
        assert (await transfer(source, target, PLAIN)).files.updated == 1

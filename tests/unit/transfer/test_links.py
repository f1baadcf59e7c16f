"""Hard links: names share an inode at the target exactly as they do at the source."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from netsync.errors import ProtocolError
from netsync.model import Change, DeleteLimit, Keep, Kind, Options, Problem
from netsync.wire import messages as m
from tests.support.confined import needs_root
from tests.support.transfers import Sent, Transfer, transfer
from tests.support.trees import make_tree, read_tree, temporaries

PLAIN = Options(fsync=False)
DELETE = Options(fsync=False, delete=True)
LARGE = b"a basis for a delta, " * 20_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "source", {})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "target", {})


def groups(root: Path) -> set[frozenset[str]]:
    """Return which names share an inode below ``root``."""
    found: dict[int, set[str]] = {}
    for path in root.rglob("*"):
        if not path.is_dir() or path.is_symlink():
            found.setdefault(path.lstat().st_ino, set()).add(str(path.relative_to(root)))
    return {frozenset(names) for names in found.values()}


def lines(run: Transfer) -> list[tuple[str, bytes]]:
    return sorted((item.change.value, item.path) for item in run.watch.lines)


def link(root: Path, carrier: str, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True)
        os.link(root / carrier, root / name, follow_symlinks=False)


def metadata(root: Path) -> Mapping[str, tuple[int, ...]]:
    return {
        str(path.relative_to(root)): (status.st_mode, status.st_uid, status.st_mtime_ns)
        for path in root.rglob("*")
        if (status := path.lstat())
    }


async def test_links_across_directories_are_kept_and_sent_once(source: Path, target: Path) -> None:
    make_tree(source, {"a": {"b": {"c": {"one": LARGE}}}, "z": b"alone"})
    link(source, "a/b/c/one", "a/two", "three", "y/y/y/four")
    first = await transfer(source, target, PLAIN)
    assert groups(target) == groups(source)
    assert read_tree(target) == read_tree(source)
    assert first.bytes.literal == len(LARGE) + 5
    assert first.files.created == first.files.considered == 11
    again = await transfer(source, target, PLAIN)
    assert again.files.unchanged == again.files.considered
    assert again.bytes.literal == 0


async def test_a_changed_file_is_sent_as_a_delta_and_all_names_follow(
    source: Path, target: Path
) -> None:
    make_tree(source, {"d": {"one": LARGE}})
    link(source, "d/one", "d/two", "three")
    await transfer(source, target, PLAIN)
    (source / "three").write_bytes(b"new" + LARGE)
    report = await transfer(source, target, PLAIN)
    assert groups(target) == {frozenset({"d/one", "d/two", "three"})}
    assert (target / "d/two").read_bytes() == b"new" + LARGE
    assert report.bytes.literal < 10_000 < report.bytes.matched
    assert report.files.updated == 3


async def test_links_added_and_removed_between_runs_follow_without_data(
    source: Path, target: Path
) -> None:
    make_tree(source, {"d": {"one": LARGE, "two": LARGE, "apart": b"1"}})
    link(source, "d/one", "e/joined")
    await transfer(source, target, DELETE)
    time = (source / "d/one").stat().st_mtime_ns
    link(source, "d/one", "d/two", "f/g/h/new")  # two joins, and a new name far below
    (source / "e/joined").unlink()
    (source / "e/joined").write_bytes(LARGE)  # leaves
    os.utime(source / "e/joined", ns=(time, time))
    report = await transfer(source, target, DELETE)
    assert groups(target) == groups(source)
    assert read_tree(target) == read_tree(source)
    assert metadata(target) == metadata(source)
    assert report.bytes.literal == 0
    again = await transfer(source, target, DELETE)
    assert again.files.unchanged == again.files.considered


async def test_metadata_of_a_group_changes_once_for_all(source: Path, target: Path) -> None:
    make_tree(source, {"one": b"1"})
    link(source, "one", "d/two")
    await transfer(source, target, PLAIN)
    inode = (target / "one").stat().st_ino
    (source / "one").chmod(0o604)
    run = Transfer(source, target, Options(fsync=False, itemize=True))
    await run.run()
    assert metadata(target)["d/two"] == metadata(source)["d/two"]
    assert (target / "d/two").stat().st_ino == inode
    assert [(item.change, item.path) for item in run.watch.lines] == [(Change.METADATA, b"one")]


async def test_a_name_the_source_does_not_have_is_not_changed_with_the_others(
    source: Path, target: Path
) -> None:
    """The replica is linked into a snapshot: what changes must not change there."""
    make_tree(source, {"d": {"one": b"1", "content": b"old"}})
    await transfer(source, target, PLAIN)
    snapshot = target.with_name("snapshot")
    snapshot.mkdir()
    os.link(target / "d/one", snapshot / "one")
    os.link(target / "d/content", snapshot / "content")
    before = metadata(snapshot)
    (source / "d/one").chmod(0o604)
    (source / "d/content").write_bytes(b"newer")
    await transfer(source, target, PLAIN)
    assert metadata(snapshot) == before
    assert read_tree(snapshot) == {"one": b"1", "content": b"old"}
    assert metadata(target) == metadata(source)
    again = await transfer(source, target, PLAIN)
    assert again.files.unchanged == again.files.considered


async def test_in_place_writing_leaves_other_names_alone(source: Path, target: Path) -> None:
    make_tree(source, {"one": LARGE})
    make_tree(target, {"one": LARGE[:-1]})
    os.link(target / "one", target.with_name("snapshot"))
    await transfer(source, target, Options(fsync=False, inplace=True))
    assert target.with_name("snapshot").read_bytes() == LARGE[:-1]
    assert (target / "one").read_bytes() == LARGE


async def test_links_of_other_kinds_are_kept(source: Path, target: Path) -> None:
    make_tree(source, {"link": "nowhere", "pipe": None})
    link(source, "link", "d/link")
    link(source, "pipe", "d/pipe")
    await transfer(source, target, PLAIN)
    assert groups(target) == groups(source)
    assert stat.S_ISFIFO((target / "d/pipe").stat().st_mode)
    again = await transfer(source, target, PLAIN)
    assert again.files.unchanged == again.files.considered


async def test_without_hard_links_names_are_files_of_their_own(source: Path, target: Path) -> None:
    make_tree(source, {"one": b"1"})
    link(source, "one", "two")
    await transfer(source, target, Options(fsync=False, keep=Keep(hard_links=False)))
    assert groups(target) == {frozenset({"one"}), frozenset({"two"})}


async def test_what_is_in_the_way_of_a_link_gives_way(source: Path, target: Path) -> None:
    make_tree(source, {"a": LARGE})
    link(source, "a", "b", "c", "d")
    make_tree(target, {"a": {"x": b""}, "b": {}, "c": {"y": {"z": b""}}, "d": "link"})
    await transfer(source, target, DELETE)
    assert read_tree(target) == read_tree(source)
    assert groups(target) == groups(source)


async def test_if_the_carrier_vanishes_the_next_name_carries_the_data(
    source: Path, target: Path
) -> None:
    make_tree(source, {"a": LARGE})
    link(source, "a", "b", "c/d")

    def vanish(message: m.Message, tail: bytes) -> list[Sent]:
        if isinstance(message, m.Wants) and message.whole:
            (source / "a").unlink(missing_ok=True)
        return [(message, tail)]

    report = await transfer(source, target, PLAIN, from_target=vanish)
    assert groups(target) == {frozenset({"b", "c/d"})}
    assert (target / "b").read_bytes() == LARGE
    assert report.files.failed == 1
    assert [problem.vanished for problem in report.problems] == [True]


@pytest.mark.parametrize("dry_run", [True, False])
async def test_if_a_directory_keeps_the_carriers_name_the_next_carries_the_data(
    source: Path, target: Path, dry_run: bool
) -> None:
    make_tree(source, {"a": LARGE})
    link(source, "a", "b", "c")
    make_tree(target, {"a": {"x": b"stays"}})
    run = Transfer(source, target, Options(fsync=False, dry_run=dry_run, itemize=True))
    await run.run()
    assert lines(run) == [("!", b"a"), ("+", b"b"), ("+", b"c")]
    if not dry_run:
        assert read_tree(target) == {"a": {"x": b"stays"}, "b": LARGE, "c": LARGE}
        assert groups(target) == {frozenset({"b", "c"}), frozenset({"a/x"})}


async def test_a_name_that_follows_its_carrier_leaves_its_directory_as_it_was(
    source: Path, target: Path
) -> None:
    """The carrier is copied apart for the sake of a name that is not the source's."""
    make_tree(source, {"d1": {"a": b"1"}, "d2": {}})
    link(source, "d1/a", "d2/b")
    await transfer(source, target, PLAIN)
    link(target, "d1/a", "theirs")
    before = metadata(target)
    (source / "d1" / "a").chmod(0o600)
    await transfer(source, target, PLAIN)
    after = metadata(target)
    assert groups(target) == {frozenset({"d1/a", "d2/b"}), frozenset({"theirs"})}
    assert [after[name] for name in ("d1", "d2", "theirs")] == [
        before[name] for name in ("d1", "d2", "theirs")
    ]
    again = await transfer(source, target, PLAIN)
    assert again.files.unchanged == again.files.considered


async def test_a_directory_goes_for_a_link_only_if_there_is_something_to_link_to(
    source: Path, target: Path
) -> None:
    """Its carrier vanished, and so did the data that was wanted in its own place."""
    make_tree(source, {"a": b"1"})
    link(source, "a", "b")
    make_tree(target, {"b": {"x": b"not yet"}})

    def vanish(message: m.Message, tail: bytes) -> list[Sent]:
        if isinstance(message, m.Files):
            numbers = [head.number for head in message.files]
            problems = [Problem(b"?", "read", "gone", vanished=True) for _ in numbers]
            return [(m.Unsent(numbers, problems), b"")]
        return [(message, tail)]

    report = await transfer(source, target, DELETE, from_source=vanish)
    assert read_tree(target) == {"b": {"x": b"not yet"}}
    assert (report.files.failed, report.files.considered, report.files.deleted) == (2, 2, 0)


@pytest.mark.parametrize("backup", [b"", b"old"])
async def test_a_directory_that_a_guard_keeps_is_one_names_problem(
    source: Path, target: Path, backup: bytes
) -> None:
    make_tree(source, {"a": b"1"})
    link(source, "a", "b")
    make_tree(target, {"b": {"x": b"stays"}})
    limit = DeleteLimit(0)
    options = Options(fsync=False, delete=True, max_delete=limit, backup_dir=backup)
    report = await transfer(source, target, options)
    assert report.held
    assert (report.files.created, report.files.failed, report.files.considered) == (1, 1, 2)
    assert read_tree(target) == {"a": b"1", "b": {"x": b"stays"}}


async def test_a_dry_run_says_what_the_run_then_does(source: Path, target: Path) -> None:
    make_tree(source, {"d": {"one": LARGE, "two": LARGE, "m": b"1"}})
    link(source, "d/m", "m2", "m3")
    link(source, "d/one", "e")
    await transfer(source, target, PLAIN)
    link(source, "d/one", "d/two", "new")
    (source / "m2").chmod(0o600)
    (source / "e").unlink()
    (source / "e").write_bytes(b"other")
    dry, wet = (
        Transfer(source, target, Options(itemize=True, dry_run=dry)) for dry in (True, False)
    )
    assert (await dry.run()).files == (await wet.run()).files
    assert lines(dry) == lines(wet)


@needs_root
@pytest.mark.parametrize("seed", range(40))
async def test_any_partition_becomes_any_other(source: Path, target: Path, seed: int) -> None:
    """Trees of random links, content and modes on both sides: equal after one run, for good."""
    rng = random.Random(seed)
    for root in (source, target):
        names = rng.sample([f"{d}/{n}" for d in ("a", "b/c", "b/d/e") for n in "pqrst"], 10)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if rng.random() < 0.5 and (others := [p for p in names if (root / p).exists()]):
                link(root, rng.choice(others), name) if name not in others else None
            if not path.exists():
                path.write_bytes(rng.choice([b"", b"x", LARGE, LARGE[5:]]))
                path.chmod(rng.choice([0o600, 0o644]))
                os.utime(path, ns=(0, rng.choice([1, 2])))
    options = Options(fsync=rng.random() < 0.5, delete=True, itemize=True)
    dry = Transfer(source, target, Options(delete=True, itemize=True, dry_run=True))
    wet = Transfer(source, target, options)
    assert (await dry.run()).files == (await wet.run()).files
    assert groups(target) == groups(source)
    assert read_tree(target) == read_tree(source)
    files = {name for group in groups(source) for name in group}
    assert {n: metadata(target)[n] for n in files} == {n: metadata(source)[n] for n in files}
    assert lines(dry) == lines(wet)
    again = await transfer(source, target, options)
    assert again.files.unchanged == again.files.considered
    assert temporaries(target) == []


@pytest.mark.parametrize("link_number", [3, 2**63 - 1, 2])
async def test_a_group_that_was_not_listed_is_refused(
    source: Path, target: Path, link_number: int
) -> None:
    """A link may only name an earlier first name of the same kind, never a file by guess."""
    make_tree(source, {"a": b"", "b": b""})

    def lie(message: m.Message, tail: bytes) -> list[Sent]:
        if isinstance(message, m.List) and message.listings[0].entries:
            first, second = message.listings[0].entries
            second = msgspec.structs.replace(second, link=link_number, kind=Kind.FIFO)
            first = msgspec.structs.replace(first, link=0 if link_number != 2 else 1)
            second = msgspec.structs.replace(second, link=1) if link_number == 2 else second
            listing = msgspec.structs.replace(message.listings[0], entries=[first, second])
            message = msgspec.structs.replace(message, listings=[listing])
        return [(message, tail)]

    with pytest.raises(ProtocolError, match="link group"):
        await transfer(source, target, PLAIN, from_source=lie)

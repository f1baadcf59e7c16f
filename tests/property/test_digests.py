"""Digests change what a transfer costs and nothing else: the same tree, items and report."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netsync.model import DeleteLimit, Keep, Options, Report
from netsync.plan.chmod import parse_chmod
from netsync.tree.records import RECORDS_MAX
from netsync.wire import messages as m
from tests.support.confined import needs_root
from tests.support.transfers import Transfer, transfer, without_digests
from tests.support.trees import Value, make_tree, read_tree

NAMES = [b"a", b"b", b"c", b"dir", b"e\xff", b"f\n", b"g" * 40]
TIMES = [0, 1_600_000_000_123_456_789, 1_600_000_000_123_456_790, -5]
TEXTS = [b"a", b"../x", b"long/" * 30]
OPTIONS = {
    "plain": Options(delete=True),
    "no deletes": Options(),
    "guarded": Options(delete=True, max_delete=DeleteLimit(30, percent=True)),
    "small ones": Options(delete=True, max_size=2),
    "chmod": Options(delete=True, chmod=parse_chmod("go=", 0)),
    "dry run": Options(delete=True, dry_run=True),
    "no links": Options(delete=True, keep=Keep(hard_links=False)),
    "no owners": Options(delete=True, keep=Keep(owner=False, group=False), update=True),
    "existing": Options(delete=True, existing=True),
    "ignore existing": Options(ignore_existing=True, numeric_ids=True),
    "no symlinks": Options(delete=True, keep=Keep(links=False, devices=False)),
    "no attributes": Options(delete=True, keep=Keep(xattrs=False, acls=False)),
}


def grow(root: bytes, chance: random.Random, depth: int = 0) -> None:
    """Make a random directory."""
    os.makedirs(root, exist_ok=True)
    for name in chance.sample(NAMES, chance.randrange(len(NAMES))):
        make_one(os.path.join(root, name), chance, depth)
    if not chance.randrange(6):
        ignore = os.path.join(root, b".netsyncignore")
        Path(os.fsdecode(ignore)).write_bytes(chance.choice([b"a\n", b"/dir/b\n"]))
        settle(ignore, chance)
    settle(root, chance)


def make_one(path: bytes, chance: random.Random, depth: int) -> None:
    """Make a random entry where nothing is."""
    kind = chance.choice(["file", "file", "link", "fifo", "hard link", *["dir"] * (4 - depth)])
    if kind == "dir":
        grow(path, chance, depth + 1)
        return
    if kind == "link":
        os.symlink(chance.choice(TEXTS), path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        Path(os.fsdecode(path)).write_bytes(chance.randbytes(chance.randrange(4)))
    if kind == "hard link":
        other = os.path.join(os.path.dirname(path), b"of " + os.path.basename(path)[:20])
        if not os.path.lexists(other):
            os.link(path, other)
    settle(path, chance)


def settle(path: bytes, chance: random.Random) -> None:
    """Give an entry random metadata."""
    if not os.path.islink(path):
        os.chmod(path, chance.choice([0o755, 0o700, 0o755]))
        if os.geteuid() == 0 and chance.random() < 0.2:
            os.chown(path, chance.randrange(3), chance.randrange(3))
        if not chance.randrange(12) and os.path.isfile(path):
            os.setxattr(path, b"user.note", b"x")
    moment = chance.choice(TIMES)
    os.utime(path, ns=(moment, moment), follow_symlinks=False)


def change(root: bytes, chance: random.Random) -> None:
    """Change a few things somewhere below ``root``."""
    directories = [path for path, _, _ in os.walk(root)]
    for _ in range(chance.randrange(4)):
        directory = chance.choice(directories)
        path = os.path.join(directory, chance.choice(NAMES))
        if not os.path.isdir(directory):
            continue
        if not os.path.lexists(path):
            make_one(path, chance, 2)
        elif chance.random() < 0.4:
            settle(path, chance)
        elif os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
            make_one(path, chance, 2)
        if chance.random() < 0.5:  # a change that its directory's time does not tell
            os.utime(directory, ns=(TIMES[1], TIMES[1]))


def looks(root: Path) -> dict[str, Any]:
    """Return all that a transfer keeps of a tree, and which names are one inode."""
    found: dict[str, Any] = {}
    inodes: dict[int, str] = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        content: Any = os.readlink(path) if path.is_symlink() else None
        if path.is_file() and not path.is_symlink():
            content = (path.read_bytes(), os.listxattr(path))
        name = str(path.relative_to(root))
        first = inodes.setdefault(status.st_ino, name)
        moment: Any = status.st_mtime_ns if status.st_mtime_ns in TIMES else "just now"
        found[name] = (
            status.st_mode, status.st_uid, status.st_gid, moment, content, first,
        )  # fmt: skip
    return found


def outcome(run: Transfer, report: Report) -> tuple[Any, ...]:
    lines = sorted((item.change, item.path, item.directory) for item in run.watch.lines)
    plain = msgspec.structs.replace(report, problems=())
    return plain, sorted(report.problems, key=str), lines, run.watch.settled_bytes


@pytest.mark.parametrize("seed", range(60))
async def test_with_and_without_digests_all_is_the_same(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    source, first = tmp_path / "source", tmp_path / "first"
    grow(os.fsencode(source), chance)
    if seed % 4:
        make_tree(first, {})
        await Transfer(source, first, Options()).run()
        for _ in range(seed % 3):
            change(os.fsencode(chance.choice([source, first])), chance)
    else:
        grow(os.fsencode(first), chance)
    name = chance.choice(list(OPTIONS))
    options = msgspec.structs.replace(OPTIONS[name], itemize=True, fsync=False)
    results = []
    for place, meddle in (("with", None), ("without", without_digests)):
        target = tmp_path / place
        os.system(f"cp -a '{first}' '{target}'")
        run = Transfer(source, target, options, from_target=meddle)
        results.append((outcome(run, await run.run()), looks(target)))
    assert results[0] == results[1], name


async def test_what_is_equal_is_not_listed(tmp_path: Path) -> None:
    chance = random.Random(1)
    source, target = tmp_path / "source", make_tree(tmp_path / "target", {})
    deep = os.fsencode(source / "x" / "y" / "z")
    for name in (b"1", b"2", b"3"):
        Path(os.fsdecode(deep)).mkdir(parents=True, exist_ok=True)
        make_one(os.path.join(deep, name), chance, 4)
    first = Transfer(source, target)
    await first.run()
    assert not any(isinstance(message, m.Relisted) for message in first.sent_by_source)

    again = Transfer(source, target)
    report = await again.run()
    listings = [each for message in again.sent_by_source if isinstance(message, m.List)
                for each in message.listings]  # fmt: skip
    assert report.files.unchanged == report.files.considered > 3
    assert sum(each.numbers for each in listings) == report.files.considered
    assert sum(len(each.entries) for each in listings) <= 3  # where there is a hard link


def asked(run: Transfer) -> list[list[int]]:
    """Return the directories that the target asked for, message by message."""
    return [message.directories for message in run.sent_by_target if isinstance(message, m.Relist)]


@needs_root
async def test_one_changed_file_costs_one_directory(tmp_path: Path) -> None:
    table: dict[str, Value] = {f"d{n}": {f"f{i}": b"x" for i in range(5)} for n in range(20)}
    source = make_tree(tmp_path / "source", table)
    target = make_tree(tmp_path / "target", {})
    await transfer(source, target)
    (source / "d7" / "f3").write_bytes(b"changed")
    run = Transfer(source, target)
    report = await run.run()
    assert (report.files.updated, report.files.unchanged) == (1, 119)
    (numbers,) = asked(run)
    assert len(numbers) == 1
    assert looks(source) == looks(target)
    assert (source / "d7" / "f3").stat().st_mtime_ns == (target / "d7" / "f3").stat().st_mtime_ns


@needs_root
async def test_a_subtree_that_is_lacking_is_asked_for_at_once(tmp_path: Path) -> None:
    deep: dict[str, Value] = {"f": b"deepest"}
    for level in range(12):
        deep = {f"level{level}": deep, "f": b"x", "other": {"g": b"y"}}
    source = make_tree(tmp_path / "source", {"old": b"old", "new": deep})
    target = make_tree(tmp_path / "target", {"old": b"else"})
    run = Transfer(source, target)
    await run.run()
    assert [len(numbers) for numbers in asked(run)] == [1, 25]
    assert read_tree(target) == read_tree(source)


@needs_root
async def test_differences_far_apart_are_asked_for_together(tmp_path: Path) -> None:
    table: dict[str, Value] = {f"d{n}": {"in": {"f": b"x"}} for n in range(30)}
    source = make_tree(tmp_path / "source", table)
    target = make_tree(tmp_path / "target", {})
    await transfer(source, target)
    for path in source.glob("d*/in/f"):
        path.write_bytes(b"changed")
    run = Transfer(source, target)
    await run.run()
    assert [len(numbers) for numbers in asked(run)] == [30]
    assert looks(source) == looks(target)


async def test_a_large_directory_is_listed(tmp_path: Path) -> None:
    names: dict[str, Value] = {f"{n:0200}": b"" for n in range(RECORDS_MAX // 240 + 1)}
    source = make_tree(tmp_path / "source", {"large": names})
    target = make_tree(tmp_path / "target", {"large": {}})
    await transfer(source, target)
    run = Transfer(source, target)
    report = await run.run()
    assert report.files.unchanged == report.files.considered == len(names) + 1
    assert asked(run) == []

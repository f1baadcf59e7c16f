"""rsync as the oracle: whatever was copied, it must find nothing left to do.

The trees hold one of everything; a second oracle, the snapshot, sees nanoseconds and bytes that
rsync might overlook.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.places import ROUTES, Place, Standby, differences, rsync
from tests.support.processes import Result
from tests.support.samples import (
    Editor,
    Facts,
    build_tree,
    contents,
    names,
    random_bytes,
    snapshot,
    write,
)

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")

HOUR: Final = 3_600_000_000_000
OLD: Final = 1_500_000_000_000_000_000

COPIES: Final = [
    ("push", ()), ("pull", ()), ("local", ()),
    ("push", ("-z",)), ("pull", ("--compress", "9")),
    ("push", ("--inplace",)), ("local", ("--inplace",)),
    ("pull", ("--whole-file",)),
    ("push", ("--block-size", "4K")),
    ("pull", ("--numeric-ids",)),
    ("push", ("--checksum",)), ("local", ("--checksum",)),
    ("push", ("-az", "--delete", "--partial")),
]  # fmt: skip
ROUNDS: Final = [("-c",), (), ("--inplace",), ("-z", "--block-size", "1K"), ("--whole-file",)]
"""Options of the rounds of random edits, in turn; at first the trees hold namesakes that only
differ in content."""


@pytest.fixture(scope="module")
def original(standby: Standby) -> Path:
    """A tree that tests only read."""
    return build_tree(standby.root / "original", seed=1)


def done(result: Result) -> Result:
    assert (result.code, result.stderr) == (0, ""), result
    return result


def assert_equal(source: Path, target: Path) -> None:
    """Neither rsync nor the snapshot finds a difference."""
    assert differences(source, target) == ""
    assert differences(source, target, "--numeric-ids") == ""
    assert snapshot(target) == snapshot(source)


def assert_nothing_to_do(result: Result) -> None:
    files = done(result).files
    assert files["considered"] == files["unchanged"] > 0
    assert result.bytes["literal"] == result.bytes["matched"] == 0


@pytest.mark.parametrize(("route", "options"), COPIES)
def test_a_copy_is_equal_and_a_second_run_has_nothing_to_do(
    original: Path, place: Place, route: str, options: tuple[str, ...]
) -> None:
    """Every route and option copies all there is; the second run finds all of it unchanged."""
    above = Place(place.path.parent, place.url.rpartition("/")[0])
    target = f"{place.path.name}/target"
    ends: dict[str, Any] = {"source": f"{original.name}/", "target": target, "durable": not options}
    first = done(above.transfer(route, *options, **ends))
    assert_equal(original, place.path / "target")
    assert first.files["created"] == first.files["considered"] == len(names(original))
    assert first.bytes["literal"] == first.bytes["total"]
    assert_nothing_to_do(above.transfer(route, *options, **ends))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_edits_arrive(place: Place, route: str, seed: int) -> None:
    """After any edits on either side, a run with --delete makes the trees equal again."""
    choose = random.Random(seed)
    source = build_tree(place.path / "source", seed, large=False)
    target = build_tree(place.path / "target", seed + 1, large=False)
    for options in ROUNDS:
        done(place.transfer(route, "--delete", *options))
        assert_equal(source, target)
        Editor(source, choose).edit(25)
        Editor(target, choose).edit(10)
    shutil.rmtree(target)
    shutil.rmtree(source)


def change_secretly(path: Path, content: bytes) -> None:
    """Change content but not size or time."""
    status = path.stat()
    assert len(content) == status.st_size
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("route", ROUTES)
def test_checksum_finds_what_size_and_time_hide(place: Place, route: str) -> None:
    """Same size and mtime, other content: seen with --checksum and only with it."""
    source = write(place.path / "source", {"a": random_bytes(100_000, 1), "b": "x", "d/c": "12"})
    done(place.transfer(route))
    change_secretly(source / "a", random_bytes(100_000, 2))
    change_secretly(source / "d" / "c", b"21")
    assert_nothing_to_do(place.transfer(route))
    result = done(place.transfer(route, "-c", "-i"))
    assert result.changes == ["> a", "> d/c"]
    assert_equal(source, place.path / "target")


def test_inplace_keeps_the_inode_and_the_default_does_not(place: Place) -> None:
    """--inplace writes into the file that is there; without it a new one takes its name."""
    source = write(place.path / "source", {"f": random_bytes(300_000, 1)})
    done(place.transfer("push"))
    target = place.path / "target" / "f"
    inode = target.stat().st_ino
    (source / "f").write_bytes(random_bytes(1000, 2) + random_bytes(300_000, 1))
    result = done(place.transfer("push", "--inplace"))
    assert target.stat().st_ino == inode
    assert_equal(source, place.path / "target")
    (source / "f").write_bytes(random_bytes(200_000, 1))
    result = done(place.transfer("push"))
    assert target.stat().st_ino != inode
    assert result.bytes["matched"] > 150_000
    assert_equal(source, place.path / "target")


def test_whole_file_matches_nothing(place: Place) -> None:
    """--whole-file sends all of a changed file; a local copy does that unasked."""
    source = write(place.path / "source", {"f": random_bytes(100_000, 1)})
    for route, options in (("push", ("--whole-file",)), ("push", ("-W",)), ("local", ())):
        done(place.transfer(route))
        with (source / "f").open("ab") as file:
            file.write(b"more")
        size = done(place.transfer(route, *options)).bytes
        assert (size["literal"], size["matched"]) == (size["total"], 0)
        assert_equal(source, place.path / "target")


# What an option leaves alone: the same as rsync, byte for byte of metadata.

DIVERGED: Final = [
    ("--no-perms",), ("--no-owner",), ("--no-group",), ("--no-times",), ("--no-links",),
    ("--no-devices",), ("--existing",), ("--ignore-existing",), ("--update",), ("--size-only",),
    ("-I",), ("--existing", "--ignore-existing", "--delete"), ("--no-links", "--delete"),
    ("--no-devices", "--delete"), ("--existing", "--delete"), ("--ignore-existing", "--delete"),
    ("--update", "--delete"), ("--no-perms", "--no-owner", "--no-group", "--no-times", "--inplace"),
]  # fmt: skip
RSYNC_NAMES: Final = {"--no-devices": "--no-D"}


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A source, and a target that differs from it in every way there is."""
    base = tmp_path_factory.mktemp("diverged")
    source, target = base / "source", base / "target"
    for root, number in ((source, 1), (target, 2)):
        write(root, {"same": "same", "size": "x" * number, "time": "time", "mode": "mode",
                     "owner": "owner", "newer-there": "newer", "newer-here": "here",
                     "both": "b" * (3 - number), f"only{number}": "only",
                     f"new{number}/in/deep": "deep", "dir/f": f"f{number}",
                     "hidden": f"content{number}"})  # fmt: skip
        for path in root.rglob("*"):
            os.utime(path, ns=(OLD, OLD))
        os.chmod(root / "mode", 0o640 + number)
        os.chmod(root / "both", 0o600 + number)
        os.chmod(root / "dir", 0o750 + number)
        os.chown(root / "owner", number, 10 + number)
        os.chown(root / "both", number, 10 + number)
        os.symlink(f"to{number}", root / "link")
        os.symlink("same", root / f"link{number}")
        os.mkfifo(root / f"fifo{number}")
        for link in ("link", f"link{number}", f"fifo{number}"):
            os.utime(root / link, ns=(OLD, OLD), follow_symlinks=False)
    os.chmod(source / "only1", 0o4755)
    os.utime(source / "time", ns=(OLD, OLD + 1 * HOUR))
    os.utime(target / "newer-there", ns=(OLD, OLD + 1 * HOUR))
    os.utime(source / "newer-here", ns=(OLD, OLD + 1 * HOUR))
    (source / "newer-there").write_bytes(b"older but longer")
    os.utime(source / "newer-there", ns=(OLD, OLD))
    (source / "new1" / "in").chmod(0o711)
    for root in (source, target):
        for directory in (root / "dir", root):
            os.utime(directory, ns=(OLD, OLD))
    yield source, target
    shutil.rmtree(base)


def facts(root: Path, options: tuple[str, ...]) -> dict[bytes, Facts]:
    """Return a snapshot; times that both programs leave to the clock are left out."""
    found = snapshot(root)
    if "--no-times" in options:
        return {path: each._replace(mtime_ns=0) for path, each in found.items()}
    return found


@pytest.mark.parametrize("options", DIVERGED, ids=" ".join)
def test_an_option_leaves_alone_what_rsync_leaves_alone(
    place: Place, diverged: tuple[Path, Path], options: tuple[str, ...]
) -> None:
    """From the same start, the same options lead to the same target as with rsync."""
    source, target = diverged
    rsync("-a", f"{source}/", place.path / "source/")
    for name in ("target", "expected"):
        rsync("-a", f"{target}/", place.path / name)
    named = [RSYNC_NAMES.get(option, option) for option in options]
    rsync("-aq", *named, f"{source}/", place.path / "expected/")
    done(place.transfer("push", *options))
    assert facts(place.path / "target", options) == facts(place.path / "expected", options)


# Exclusion, protection and their order.

TREE: Final[dict[str, str | bytes | None]] = {
    "a.o": "1", "a.c": "2", "keep.o": "3", "d/a.o": "4", "d/keep.o": "5", "d/e/f.tmp": "6",
    "build/x": "7", "d/build/y": "8", "top": "9", "d/top": "10", "we\nird.o": "11",
}  # fmt: skip
ONLY_THERE: Final[dict[str, str | bytes | None]] = {
    "old.o": "a", "old.c": "b", "gone/old.o": "c", "gone/old.c": "d", "build/z": "e", "d/top": "f",
}  # fmt: skip

SELECTIONS: Final = [
    (("--exclude", "*.o"),
     {"a.c", "d", "d/e", "d/e/f.tmp", "build", "build/x", "d/build", "d/build/y", "top", "d/top"},
     {"old.o", "gone", "gone/old.o"}),
    (("--include", "keep.o", "--exclude", "*.o"),
     {"a.c", "keep.o", "d", "d/keep.o", "d/e", "d/e/f.tmp", "build", "build/x", "d/build",
      "d/build/y", "top", "d/top"},
     {"old.o", "gone", "gone/old.o"}),
    (("--exclude=*.o", "--include=keep.o"),
     {"a.c", "d", "d/e", "d/e/f.tmp", "build", "build/x", "d/build", "d/build/y", "top", "d/top"},
     {"old.o", "gone", "gone/old.o"}),
    (("--exclude", "/top", "--exclude", "build/", "--exclude", "**/e/*.tmp", "--exclude", "*.o"),
     {"a.c", "d", "d/e", "d/top"},
     {"old.o", "gone", "gone/old.o", "build", "build/z"}),
    (("--exclude", "/d"),
     {"a.o", "a.c", "keep.o", "build", "build/x", "top", "we\nird.o"},
     {"d", "d/top"}),
    (("--include", "/d", "--include", "/d/top", "--exclude", "*"), {"d", "d/top"},
     {"old.o", "old.c", "gone", "gone/old.o", "gone/old.c", "build", "build/z"}),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(SELECTIONS)))
def test_the_first_rule_that_matches_decides_and_protects(place: Place, number: int) -> None:
    """Excluded paths are not copied, and with --delete their namesakes on the target stay."""
    rules, copied, protected = SELECTIONS[number]
    route = ROUTES[number % len(ROUTES)]
    write(place.path / "source", TREE)
    target = write(place.path / "target", ONLY_THERE)
    done(place.transfer(route, "--delete", *rules))
    assert names(target) == {os.fsencode(name) for name in copied | protected}


def test_delete_excluded_deletes_them_too(place: Place) -> None:
    """--delete-excluded implies --delete and protects nothing."""
    write(place.path / "source", TREE)
    target = write(place.path / "target", ONLY_THERE)
    done(place.transfer("pull", "--delete-excluded", "--exclude", "*.o", "--exclude", "/d"))
    expected = {"a.c", "build", "build/x", "top"}
    assert names(target) == {os.fsencode(name) for name in expected}


def test_without_delete_nothing_is_deleted(place: Place) -> None:
    """What only the target has stays unless --delete is given."""
    source = write(place.path / "source", {"new": "1"})
    target = write(place.path / "target", {"old": "2", "dir/old": "3"})
    done(place.transfer("push"))
    assert contents(target).items() >= contents(source).items() - {(b"", contents(source)[b""])}
    assert names(target) == {b"new", b"old", b"dir", b"dir/old"}


def test_delete_stays_inside_the_directories_transferred(place: Place) -> None:
    """``push dir DEST --delete`` deletes in DEST/dir and nowhere beside it."""
    write(place.path / "dir", {"new": "1"})
    write(place.path / "target", {"dir/old": "2", "beside": "3", "other/old": "4"})
    for route in ROUTES:
        write(place.path / "target" / "dir", {"old": "2"})
        result = done(place.transfer(route, "--delete", "-i", source="dir"))
        assert "- dir/old" in result.changes
        kept = {b"dir", b"dir/new", b"beside", b"other", b"other/old"}
        assert names(place.path / "target") == kept


def test_a_full_directory_is_only_replaced_with_delete(place: Place) -> None:
    """A file where the target has a full directory: a problem and 23, with --delete replaced."""
    source = write(place.path / "source", {"x": "file", "y": None})
    (source / "l").symlink_to("x")
    target = write(place.path / "target", {"x/in": "1", "l/in": "2", "y": "a file"})
    result = place.transfer("push", "-i")
    assert result.code == 23
    assert result.changes == ["! l", "! x", "+ y/"]
    assert result.report["result"] == "partial"
    assert (target / "x" / "in").read_text() == "1"
    dry = done(place.transfer("push", "--delete", "-i", "-n"))
    real = done(place.transfer("push", "--delete", "-i"))
    assert dry.changes == real.changes == ["+ l", "+ x", "- l/", "- l/in", "- x/", "- x/in"]
    assert_equal(source, target)

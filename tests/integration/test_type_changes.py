"""An entry that becomes another kind: every kind to every other, at the root and deep down."""

from __future__ import annotations

import os
import stat
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from tests.support.places import ROUTES, Place
from tests.support.samples import contents, names, snapshot, write
from tests.support.trees import needs_mount

KINDS: Final = ("nothing", "file", "empty", "full", "symlink", "fifo", "socket", "char", "block")
CHANGES: Final = list(product(KINDS, KINDS))
"""What is at the target, what is at the source."""
LEVELS: Final = ("", "a/b/c/")


def make(path: Path, kind: str, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        path.write_text(content)
    elif kind == "empty":
        path.mkdir()
    elif kind == "full":
        write(path, {"x": content, "sub/y": content})
    elif kind == "symlink":
        path.symlink_to(content)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif kind in ("char", "block"):
        kind_bits = stat.S_IFCHR if kind == "char" else stat.S_IFBLK
        os.mknod(path, kind_bits | 0o600, os.makedev(1, len(content)))


@pytest.fixture
def changed(place: Place) -> Place:
    """Each change of kind, under a name of its own, on both levels."""
    for level, (before, after) in product(LEVELS, CHANGES):
        make(place.path / "target" / f"{level}{before}-{after}", before, "old")
        make(place.path / "source" / f"{level}{before}-{after}", after, "newer")
    return place


def is_replaced(before: str, after: str) -> bool:
    """Tell whether a directory with something in it must make way."""
    return before == "full" and after not in ("nothing", "empty", "full")


@needs_mount
@pytest.mark.parametrize("way", [("--delete",), ("--delete-before",)])
@pytest.mark.parametrize("route", ROUTES)
def test_with_delete_every_kind_becomes_every_other(
    changed: Place, route: str, way: tuple[str, ...]
) -> None:
    """The trees are equal; the dry run promised the very lines; nothing is left to do."""
    before = snapshot(changed.path)
    dry = changed.transfer(route, *way, "-i", "-n")
    assert snapshot(changed.path) == before
    real = changed.transfer(route, *way, "-i")
    assert (dry.code, dry.stderr) == (real.code, real.stderr) == (0, "")
    assert (dry.changes, dry.files) == (real.changes, real.files)
    assert contents(changed.path / "source") == contents(changed.path / "target")
    assert changed.transfer(route, *way, "-i").changes == []


@needs_mount
@pytest.mark.parametrize("route", ROUTES)
def test_without_delete_only_full_directories_stay_in_the_way(changed: Place, route: str) -> None:
    """They are problems, exit code 23, the same in a dry run; all else is brought about."""
    before = snapshot(changed.path)
    dry = changed.transfer(route, "-i", "-n")
    assert snapshot(changed.path) == before
    real = changed.transfer(route, "-i")
    assert (dry.code, real.code) == (23, 23)
    assert (dry.changes, dry.files) == (real.changes, real.files)
    assert dry.report["problems"] == real.report["problems"]
    failed = {
        f"{level}{before}-{after}"
        for level, (before, after) in product(LEVELS, CHANGES)
        if is_replaced(before, after)
    }
    assert {problem["path"] for problem in real.report["problems"]} == failed
    assert {line[2:] for line in real.changes if line[0] == "!"} == failed
    assert not [line for line in real.changes if line[0] == "-"]
    source, target = contents(changed.path / "source"), contents(changed.path / "target")
    assert {path for path in source if source[path] != target[path]} == {*map(os.fsencode, failed)}


@needs_mount
@pytest.mark.parametrize("way", [("--delete",), ("--delete-before",)])
def test_held_nothing_that_is_full_makes_way(changed: Place, way: tuple[str, ...]) -> None:
    """The rest is brought about; dry run and real run say the same."""
    options = (*way, "-i", "--max-delete", "3")
    dry, real = changed.transfer("push", *options, "-n"), changed.transfer("push", *options)
    assert (dry.code, real.code) == (25, 25)
    assert (dry.changes, dry.files) == (real.changes, real.files)
    assert not [line for line in real.changes if line[0] == "-"]
    for level, (before, after) in product(LEVELS, CHANGES):
        path = changed.path / "target" / f"{level}{before}-{after}"
        if before == "full" or (before != "nothing" and after == "nothing"):
            assert os.path.lexists(path), path
        if before == "full" and after != "nothing":
            assert (path / "sub" / "y").exists()


@pytest.mark.parametrize("way", [("--delete",), ("--delete-before",)])
@pytest.mark.parametrize("route", ROUTES)
def test_what_is_excluded_keeps_the_directory_it_is_in(
    place: Place, route: str, way: tuple[str, ...]
) -> None:
    """A directory kept for a protected child is no error; a file cannot take its place."""
    write(place.path / "source", {"new": "1"})
    write(place.path / "target", {"d/e/keep.log": "1", "d/e/x": "1", "d/y": "1", "keep.log": "1"})
    options = (*way, "-i", "--exclude", "*.log")
    dry, real = place.transfer(route, *options, "-n"), place.transfer(route, *options)
    assert (dry.code, dry.stderr) == (real.code, real.stderr) == (0, "")
    assert dry.changes == real.changes == ["+ new", "- d/e/x", "- d/y"]
    write(place.path / "source", {"d": "in the way"})
    dry, real = place.transfer(route, *options, "-n"), place.transfer(route, *options)
    assert (dry.code, dry.stderr) == (real.code, real.stderr)
    assert real.code == 23
    assert dry.changes == real.changes == ["! d"]
    assert b"d/e/keep.log" in names(place.path / "target")
    done = place.transfer(route, *options, "--delete-excluded")
    assert done.code == 0
    assert contents(place.path / "source") == contents(place.path / "target")

"""A source that changes between being read ahead and being listed: nothing is lost (F40-47)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from netsync.model import Options
from netsync.tree.ahead import Ahead, presumed
from tests.support.transfers import Transfer, transfer
from tests.support.trees import Value, make_tree, open_descriptors, read_tree, temporaries

TREE: dict[str, Value] = {
    "d": {"f": b"first", "g": b"other", "in": {"it": b"deep"}},
    "e": {"h": b"second"},
    "top": b"top",
}
OPTIONS = Options(delete=True)
Change = Callable[[Path], object]
PROBLEMS = {"a file becomes a link", "a file becomes a directory", "a directory becomes a link"}
"""What is not as it was listed is a problem of that run, but what is gone."""


def write(path: str, content: bytes) -> Change:
    return lambda root: (root / path).write_bytes(content)


def become_link(path: str) -> Change:
    def change(root: Path) -> None:
        (root / path).rename(root.with_name("outside"))
        (root / path).symlink_to("../outside" if "/" not in path else "../../outside")

    return change


def directory_to_file(root: Path) -> None:
    shutil.rmtree(root / "e")
    (root / "e").write_bytes(b"file")


def file_to_directory(root: Path) -> None:
    (root / "top").unlink()
    make_tree(root / "top", {"in": b"it"})


CHANGES: dict[str, Change] = {
    "nothing": lambda root: root,
    "a file is written": write("d/f", b"new words"),
    "a file comes": write("d/new", b"new"),
    "a file the target has comes": write("d/extra", b"of the source"),
    "a file goes": lambda root: os.unlink(root / "d/f"),
    "a directory comes": lambda root: make_tree(root / "d/x", {"y": {"z": b"1"}}),
    "a directory goes": lambda root: shutil.rmtree(root / "d"),
    "a directory moves to where was read": lambda root: (root / "e").rename(root / "d/in/e"),
    "a directory moves to what comes": lambda root: (root / "d/in").rename(root / "e/in"),
    "a file moves": lambda root: (root / "top").rename(root / "d/top"),
    "a directory becomes a link": become_link("d/in"),
    "a file becomes a link": become_link("d/f"),
    "a directory becomes a file": directory_to_file,
    "a file becomes a directory": file_to_directory,
    "an ignore file comes": write("d/.netsyncignore", b"g\n"),
    "a mode changes": lambda root: (root / "d/f").chmod(0o600),
    "a link is made": lambda root: os.link(root / "d/f", root / "d/other"),
}  # fmt: skip

DIFFERENCES: dict[str, Change] = {
    "equal": lambda root: root,
    "a file differs": write("d/g", b"older"),
    "more at the target": lambda root: make_tree(root / "d", {"extra": b"x", "more": {"m": b""}}),
    "less at the target": lambda root: shutil.rmtree(root / "d"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_arrives_now_or_in_the_next_run(
    tmp_path: Path, change: str, difference: str
) -> None:
    source = make_tree(tmp_path / "source", TREE)
    target = tmp_path / "target"
    target.mkdir()
    await transfer(source, target)
    DIFFERENCES[difference](target)
    known = contents(source) | contents(target)
    descriptors = open_descriptors()

    ahead = Ahead(bytes(source), presumed(OPTIONS))
    ahead.read()
    CHANGES[change](source)
    known |= contents(source)
    run = Transfer(source, target, OPTIONS, ahead=ahead)
    report = await run.run()

    assert contents(target) <= known, "each file is as it was once on one side"
    assert all(problem.vanished or change in PROBLEMS for problem in report.problems)
    assert temporaries(target) == []
    assert open_descriptors() == descriptors

    again = await transfer(source, target, OPTIONS)
    assert not again.problems
    shown, expected = read_tree(target), read_tree(source)
    if change == "an ignore file comes":  # what it names stays, whatever it is
        for tree in (shown, expected):
            directory = tree["d"]
            assert isinstance(directory, dict)
            directory.pop("g", None)
    assert shown == expected


def contents(root: Path) -> set[bytes]:
    """Return what is in the regular files below ``root``, links not followed."""
    return {
        Path(directory, name).read_bytes()
        for directory, _, names in os.walk(root)
        for name in names
        if not Path(directory, name).is_symlink()
    }


async def test_what_was_read_ahead_is_what_is_listed(tmp_path: Path) -> None:
    """The directory is not read a second time: what came since is for the next run."""
    source = make_tree(tmp_path / "source", TREE)
    target = make_tree(tmp_path / "target", {"e": {}})
    ahead = Ahead(bytes(source), presumed(OPTIONS))
    ahead.read()
    (source / "e" / "later").write_bytes(b"")
    await Transfer(source, target, OPTIONS, ahead=ahead).run()
    used = not os.geteuid()  # a target without rights offers no digests
    assert (target / "e" / "later").exists() is not used
    assert (target / "e" / "h").read_bytes() == b"second"

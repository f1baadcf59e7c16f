"""A tree that moves (M30, M31, M34, F43, F44): names turned into links and back while we work.

Another process exchanges a directory, or a file, with a link to a tree outside, thousands of
times a second, while transfers read it or write it in every way there is. The tree outside never
changes and its content never arrives, whoever wins a race. What is in the moving name may fail.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from netsync.errors import NetsyncError
from netsync.model import Options
from netsync.tree.directories import Directories
from netsync.tree.output import Output
from netsync.tree.roots import Anchor, open_source, open_target
from tests.support.confined import needs_root
from tests.support.flipping import flipping
from tests.support.liars import facts
from tests.support.transfers import transfer
from tests.support.trees import Value, make_tree

pytestmark = needs_root

RUNS: Final = int(os.environ.get("NETSYNC_HOSTILE_RUNS", "12"))
"""Transfers for each way to write: a few find a missing check; ``scripts/hostile`` does more."""
SECRET: Final = b"SECRET: what lies outside"
NAMES: Final = [f"f{number}" for number in range(6)]
LARGE: Final = 300 * 1024
"""Bytes: sent in pieces, and as a delta where there is something to refer to."""


def build(base: Path, word: bytes, mode: int, owner: int, *, more: dict[str, Value]) -> Path:
    """Make a source whose directory ``d`` differs from another in content and metadata."""
    inside: dict[str, Value] = {name: word * (number + 1) for number, name in enumerate(NAMES)}
    inside |= {"large": word * (LARGE // len(word)), **more}
    make_tree(base, {"d": inside, "kept": word})
    for path in sorted(base.rglob("*"), reverse=True):
        if not path.is_symlink():
            os.setxattr(path, "user.word", word)
            os.utime(path, ns=(5, owner * 10**9))
            path.chmod(mode | 0o100 if path.is_dir() else mode)
        os.chown(path, owner, owner, follow_symlinks=False)
    return base


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A tree that has all the names, so that whoever is led there finds something to harm."""
    inside: dict[str, Value] = dict.fromkeys(NAMES, SECRET)
    inside |= {"large": SECRET * 20_000, "only-outside": SECRET, "dir": {"x": SECRET},
               "gone": SECRET, "gone-dir": {"x": SECRET}}  # fmt: skip
    root = make_tree(tmp_path / "outside", inside)
    for path in root.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return root


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    """Two trees to be made of each other, so that each run changes everything."""
    first: dict[str, Value] = {"gone": b"x", "gone-dir": {"x": b"x", "y": b"y"}, "dir": {"x": b"1"}}
    second: dict[str, Value] = {"new": b"n", "link": "f0", "dir": {"x": b"22"}, "gone": {"z": b"z"}}
    one = build(tmp_path / "one", b"first", 0o644, 1001, more=first)
    two = build(tmp_path / "two", b"second", 0o755, 1002, more=second)
    for root in (one, two):
        os.link(root / "d" / "f0", root / "d" / "hard")
    return one, two


@contextlib.contextmanager
def unharmed(outside: Path) -> Iterator[None]:
    """Whatever the body does, the tree outside is as it was."""
    before = facts(outside)
    yield
    assert facts(outside) == before


WRITING: Final = {
    "as usual": Options(delete=True, fsync=False),
    "in place": Options(delete=True, fsync=False, inplace=True),
    "deletes first": Options(delete=True, delete_before=True, fsync=False),
    "with a backup": Options(delete=True, backup_dir=b"old", fsync=False),
    "whole files by content": Options(delete=True, whole_file=True, checksum=True, fsync=False),
    "metadata only": Options(delete=True, size_only=True, existing=True, fsync=False),
    "flushed": Options(delete=True),
}


@pytest.mark.parametrize("options", WRITING.values(), ids=WRITING)
@pytest.mark.parametrize("moving", ["d", "d/f0", "d/large", "d/dir"])
async def test_m31_a_target_that_moves_leads_nowhere_out(
    tmp_path: Path,
    outside: Path,
    sources: tuple[Path, Path],
    options: Options,
    moving: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Create, write, chmod, chown, utime, set attributes, link, rename, mkdir, delete."""
    target = tmp_path / "t" / "target"
    target.mkdir(parents=True)
    await transfer(sources[0], target, Options(fsync=False))
    led_to = outside if moving in ("d", "d/dir") else outside / Path(moving).name
    done = 0
    with unharmed(outside), flipping(target / moving, led_to, tmp_path / "aside"):
        runs = RUNS if moving == "d" else RUNS // 3
        for run in range(runs):
            with contextlib.suppress(NetsyncError):
                await transfer(sources[run % 2], target, options)
                done += 1
    assert done, "some run came to its end"
    assert not any(SECRET in data for data in files_below(target))
    record_property("cases", runs)


@pytest.mark.parametrize("moving", ["d", "d/f0", "d/large", "d/dir"])
@pytest.mark.parametrize(
    "options",
    [Options(fsync=False), Options(fsync=False, checksum=True), Options(fsync=False, inplace=True)],
    ids=["as usual", "by content", "in place"],
)
async def test_m31_a_source_that_moves_tells_nothing_from_outside(
    tmp_path: Path,
    outside: Path,
    sources: tuple[Path, Path],
    options: Options,
    moving: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Scan, read, digest and delta: no name and no byte of what the link leads to arrives."""
    target = tmp_path / "t" / "target"
    target.mkdir(parents=True)
    led_to = outside if moving in ("d", "d/dir") else outside / Path(moving).name
    with unharmed(outside), flipping(sources[0] / moving, led_to, tmp_path / "aside"):
        for run in range(RUNS // 2):
            with contextlib.suppress(NetsyncError):
                await transfer(sources[run % 5 == 4], target, options)
            assert not any(SECRET in data for data in files_below(target))
            led = (target / "d").is_symlink()  # the link itself may be copied, as any other
            assert led or not (target / "d" / "only-outside").exists()
    record_property("cases", RUNS // 2)


def files_below(root: Path) -> Iterator[bytes]:
    """Yield the content of every regular file, following no link."""
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink() and path.is_file():
                yield path.read_bytes()


Walk = Callable[[Anchor], int]
WALKS: Final[dict[str, Walk]] = {
    "the way to a destination": lambda anchor: (
        open_target(anchor, b"d/dir/new", single_file=False, dry_run=False).fd
    ),
    "the way to a source": lambda anchor: open_source(anchor, b"d/dir/", b"").fd,
    "the way to one file": lambda anchor: open_source(anchor, b"d/f0", b"").fd,
}


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
def test_m31_the_way_to_a_place_in_a_module_leads_nowhere_out(
    tmp_path: Path, outside: Path, walk: Walk
) -> None:
    """Links in it are resolved by hand; one that appears between two steps is refused."""
    module = make_tree(tmp_path / "m" / "module", {"d": {"dir": {"x": b"1"}, "f0": b"1"}})
    fd = os.open(module, os.O_RDONLY | os.O_DIRECTORY)
    opened = 0
    try:
        with unharmed(outside), flipping(module / "d", outside, tmp_path / "aside"):
            for tried in range(RUNS * 4000):
                if tried >= RUNS * 40 and opened:
                    break
                with contextlib.suppress(NetsyncError):
                    found = walk(Anchor(fd, "m"))
                    opened += 1
                    status = os.fstat(found)
                    os.close(found)
                    away = (outside.stat().st_ino, (outside / "dir").stat().st_ino)
                    assert status.st_ino not in away
    finally:
        os.close(fd)
    assert opened, "some way was found"


def test_m31_a_held_directory_is_the_one_that_was_opened(tmp_path: Path, outside: Path) -> None:
    """Walking down: each component is opened from its parent, and is no link."""
    root = make_tree(tmp_path / "m" / "root", {"d": {"dir": {"x": b"1"}}})
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    away = {path.stat().st_ino for path in (outside, outside / "dir")}
    opened = 0
    try:
        with flipping(root / "d", outside, tmp_path / "aside"):
            for tried in range(RUNS * 10000):
                if tried >= RUNS * 100 and opened:
                    break
                with Directories(fd) as directories, contextlib.suppress(OSError):
                    assert os.fstat(directories.fd(b"d/dir")).st_ino not in away
                    opened += 1
    finally:
        os.close(fd)
    assert opened


def test_m31_a_file_written_in_place_is_the_one_of_that_name(tmp_path: Path, outside: Path) -> None:
    """Looked at, then opened again to be written: both times it is no link."""
    root = make_tree(tmp_path / "m" / "root", {"f0": b"1"})
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    away = (outside / "f0").stat().st_ino
    opened = 0
    try:
        with flipping(root / "f0", outside / "f0", tmp_path / "aside"):
            tried = 0
            while tried < RUNS * 200 or not opened:
                tried += 1
                with contextlib.suppress(OSError):
                    output = Output.create(fd, b"f0", inplace=True)
                    opened += 1
                    inode = os.fstat(output.fd).st_ino
                    output.discard(fd)
                    assert inode != away
    finally:
        os.close(fd)
    assert opened

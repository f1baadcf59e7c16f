"""Operations on a tree: what each does, and that none leads out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync import operation as o
from netsync.plan.xattrs import USER, Scope
from netsync.tree.apply import FILES_MAX, Applier
from netsync.tree.directories import OPEN_DIRECTORY
from tests.support.confined import NOBODY, as_nobody, let_all_in, needs_known_calls, needs_root

OWN = (os.getuid(), os.getgid())
TIME = 1_234_567_890_123_456_789


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    place.mkdir()
    return place


@pytest.fixture
def applier(root: Path) -> Iterator[Applier]:
    fd = os.open(root, OPEN_DIRECTORY)
    with Applier(fd, Scope((USER,)), special=False) as made:
        yield made
    os.close(fd)


def do(applier: Applier, *operations: o.Operation) -> None:
    for operation in operations:
        applier.apply(operation)
    applier.settle()


def test_a_file_is_made_written_and_timed(applier: Applier, root: Path) -> None:
    do(
        applier,
        o.Mkdir(b"d", 0o750, *OWN),
        o.Create(b"d/f", 0o640, *OWN),
        o.Write(b"d/f", 3, b"abc", TIME),
        o.Truncate(b"d/f", 8, TIME),
        o.ZeroRange(b"d/f", 4, 1, TIME),
        o.Allocate(b"d/f", 0, 10, TIME),
        o.SetXattr(b"d/f", b"user.x", b"value"),
    )
    status = (root / "d/f").stat()
    assert (root / "d/f").read_bytes() == b"\0\0\0a\0c\0\0\0\0"
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, TIME)
    assert os.getxattr(root / "d/f", "user.x") == b"value"
    do(applier, o.RemoveXattr(b"d/f", b"user.x"), o.Times(b"d/f", 5, 6), o.Mode(b"d", 0o700))
    assert os.listxattr(root / "d/f") == []
    assert (root / "d/f").stat().st_mtime_ns == 6
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o700


def test_names_come_move_and_go(applier: Applier, root: Path) -> None:
    do(
        applier,
        o.Create(b"a", 0o600, *OWN),
        o.Write(b"a", 0, b"1", TIME),
        o.Link(b"a", b"b"),
        o.Rename(b"a", b"c"),
        o.Write(b"c", 1, b"2", TIME),
        o.Create(b"a", 0o600, *OWN),
        o.Symlink(b"l", b"../anywhere", *OWN),
        o.Mknod(b"p", stat.S_IFIFO | 0o600, 0, *OWN),
        o.Mkdir(b"d", 0o700, *OWN),
        o.Rmdir(b"d"),
        o.Unlink(b"b"),
    )
    assert sorted(os.listdir(root)) == ["a", "c", "l", "p"]
    assert (root / "c").read_bytes() == b"12"
    assert os.readlink(root / "l") == "../anywhere"
    assert stat.S_ISFIFO((root / "p").stat().st_mode)


def test_an_open_file_is_not_written_under_a_name_that_is_anothers(
    applier: Applier, root: Path
) -> None:
    do(applier, o.Create(b"a", 0o600, *OWN), o.Write(b"a", 0, b"old", TIME))
    do(applier, o.Create(b"b", 0o600, *OWN), o.Rename(b"b", b"a"), o.Write(b"a", 0, b"new", TIME))
    do(applier, o.Mkdir(b"d", 0o700, *OWN), o.Create(b"d/f", 0o600, *OWN))
    do(applier, o.Write(b"d/f", 0, b"x", TIME), o.Rename(b"d", b"e"), o.Mkdir(b"d", 0o700, *OWN))
    do(applier, o.Create(b"d/f", 0o600, *OWN), o.Write(b"d/f", 0, b"y", TIME))
    assert [(root / name).read_bytes() for name in ("a", "e/f", "d/f")] == [b"new", b"x", b"y"]


def test_more_files_than_are_kept_open_get_their_times(applier: Applier, root: Path) -> None:
    for number in range(FILES_MAX + 5):
        do(applier, o.Create(b"%d" % number, 0o600, *OWN))
    for number in range(FILES_MAX + 5):
        applier.apply(o.Write(b"%d" % number, 0, b"x", TIME + number))
    applier.settle()
    for number in range(FILES_MAX + 5):
        assert (root / str(number)).stat().st_mtime_ns == TIME + number


@pytest.mark.parametrize(
    "operation",
    [
        o.Write(b"link", 0, b"x", TIME),
        o.Truncate(b"link", 0, TIME),
        o.Write(b"out/f", 0, b"x", TIME),
        o.Create(b"out/new", 0o600, *OWN),
        o.Unlink(b"out/f"),
        o.Rename(b"out/f", b"f"),
        o.Link(b"out/f", b"f"),
        o.Mode(b"out/f", 0o777),
        o.SetXattr(b"out/f", b"user.x", b""),
        o.Write(b"pipe", 0, b"x", TIME),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("redo", [False, True], ids=["first", "again"])
def test_no_link_is_followed_and_nothing_strange_opened(
    applier: Applier, root: Path, tmp_path: Path, operation: o.Operation, redo: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("untouched")
    before = (outside / "f").stat()
    (root / "link").symlink_to(outside / "f")
    (root / "out").symlink_to(outside)
    os.mkfifo(root / "pipe")
    if redo:
        applier.apply(operation, redo=True)
    else:
        with pytest.raises(OSError):  # noqa: PT011 - which one is the kernel's business
            applier.apply(operation)
    after = (outside / "f").stat()
    assert after == before
    assert (outside / "f").read_text() == "untouched"
    assert os.listdir(outside) == ["f"]
    assert sorted(os.listdir(root)) == ["link", "out", "pipe"]


def test_privileges_are_left_out_and_counted(applier: Applier, root: Path) -> None:
    do(
        applier,
        o.Create(b"f", 0o4755, *OWN),
        o.Mknod(b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3), *OWN),
        o.SetXattr(b"f", b"trusted.x", b""),
        o.SetXattr(b"f", b"user.netsync.metadata", b""),
    )
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o755
    assert stat.S_ISREG((root / "null").stat().st_mode)
    assert os.listxattr(root / "f") == []
    assert applier.refused == 4


def test_what_does_not_fit_is_an_error_the_first_time(applier: Applier, root: Path) -> None:
    (root / "there").write_text("x")
    for operation in (
        o.Create(b"there", 0o600, *OWN),
        o.Unlink(b"missing"),
        o.Write(b"missing", 0, b"x", TIME),
        o.Rename(b"missing", b"there"),
        o.Rmdir(b"there"),
    ):
        with pytest.raises(OSError):  # noqa: PT011 - which one is the kernel's business
            applier.apply(operation)
        applier.apply(operation, redo=True)


@needs_root
@needs_known_calls
def test_who_may_not_give_files_away_gives_nobody_their_rights(root: Path) -> None:
    """As an ordinary user: set-id bits would be those of another owner than the primary's."""
    os.chown(root, NOBODY, NOBODY)
    let_all_in(root.parent)

    def work() -> tuple[int, str]:
        fd = os.open(root, OPEN_DIRECTORY)
        with Applier(fd, Scope((USER,)), special=True) as applier:
            do(
                applier,
                o.Create(b"made", 0o6755, 0, 0),
                o.Create(b"mine", 0o4755, NOBODY, NOBODY),
                o.Create(b"given", 0o4755, NOBODY, NOBODY),
                o.Owner(b"given", 0, 0),
                o.Create(b"named", 0o755, 0, 0),
                o.Mode(b"named", 0o4755),
                o.Mkdir(b"d", 0o755, 0, 0),
            )
            os.close(fd)
            return applier.refused, applier.last_refusal

    refused, words = as_nobody(work)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()}
    assert modes == {"made": 0o755, "mine": 0o4755, "given": 0o755, "named": 0o755, "d": 0o755}
    assert refused == 6, "each owner, and the bits that were left out"
    assert "owner" in words


@needs_root
@needs_known_calls
def test_what_its_mode_shuts_us_out_of_is_written_all_the_same(root: Path) -> None:
    """As an ordinary user: the mode stays, and where a link leads nothing is changed."""
    (root.parent / "outside").write_text("untouched")
    (root.parent / "outside").chmod(0o444)
    (root / "link").symlink_to(root.parent / "outside")
    for path in (root, root.parent / "outside"):
        os.chown(path, NOBODY, NOBODY)
    let_all_in(root.parent)

    def work() -> None:
        fd = os.open(root, OPEN_DIRECTORY)
        with Applier(fd, Scope((USER,)), special=True) as applier:
            do(applier, o.Create(b"f", 0o444, NOBODY, NOBODY), o.Rename(b"f", b"g"))
            do(applier, o.Write(b"g", 0, b"written", TIME))
            with pytest.raises(OSError, match="no regular file"):
                do(applier, o.Write(b"link", 0, b"x", TIME))
        os.close(fd)

    as_nobody(work)
    assert (root / "g").read_text() == "written"
    assert stat.S_IMODE((root / "g").stat().st_mode) == 0o444
    assert (root.parent / "outside").read_text() == "untouched"
    assert stat.S_IMODE((root.parent / "outside").stat().st_mode) == 0o444

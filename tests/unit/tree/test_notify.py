"""What the kernel tells of a tree: every change, wherever directories come from and go to."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from inotify_simple import INotify

from netsync.tree import notify
from netsync.tree.notify import EVERYTHING, Changed, Notifier
from tests.support.trees import make_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "root", {"a": {"b": {"f": b"1"}}, "c": {}, "top": b"1"})


@pytest.fixture
def notifier(root: Path) -> Iterator[Notifier]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    notifier = Notifier(fd)
    notifier.cover()
    yield notifier
    notifier.close()
    os.close(fd)


def told(notifier: Notifier) -> set[bytes]:
    """Return the paths that changed, trees with a slash."""
    found: set[bytes] = set()
    for _ in range(2):
        found |= {each.path + b"/" * each.tree for each in notifier.read()}
    return found


def test_a_written_file_is_told_when_it_is_closed(root: Path, notifier: Notifier) -> None:
    with (root / "a/b/f").open("wb", buffering=0) as file:
        file.write(b"2")
        assert notifier.read()[-1] == Changed(b"a/b/f", writing=True)
    assert notifier.read() == [Changed(b"a/b/f")]
    assert notifier.read() == []


def test_all_that_happens_to_a_name_is_told(root: Path, notifier: Notifier) -> None:
    os.chmod(root / "top", 0o600)
    assert told(notifier) == {b"top"}
    os.setxattr(root / "top", "user.x", b"1")
    assert told(notifier) == {b"top"}
    os.link(root / "top", root / "c/link")
    assert told(notifier) == {b"c/link"}
    os.symlink("top", root / "a/symlink")
    assert told(notifier) == {b"a/symlink"}
    (root / "c/link").rename(root / "a/b/moved")
    assert told(notifier) == {b"c/link", b"a/b/moved"}
    (root / "a/b/moved").unlink()
    assert told(notifier) == {b"a/b/moved"}
    os.chmod(root / "a", 0o700)
    assert told(notifier) == {b"a"}


def test_the_root_itself_is_told(root: Path, notifier: Notifier) -> None:
    os.chmod(root, 0o700)
    assert told(notifier) == {b""}


def test_a_new_directory_is_told_as_a_tree_and_watched(root: Path, notifier: Notifier) -> None:
    make_tree(root / "new", {"d": {"e": {"f": b"1"}}})
    assert b"new/" in told(notifier)
    (root / "new/d/e/g").write_bytes(b"1")
    assert told(notifier) == {b"new/d/e/g"}
    assert notifier.watches == 7


def test_a_moved_directory_is_told_under_its_new_name(root: Path, notifier: Notifier) -> None:
    (root / "a").rename(root / "c/z")
    assert told(notifier) == {b"a", b"c/z/"}
    (root / "c/z/b/f").write_bytes(b"2")
    assert told(notifier) == {b"c/z/b/f"}
    assert notifier.watches == 4


def test_a_move_may_be_told_in_two_parts(
    root: Path, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_BUFFER", 48)  # one event
    monkeypatch.setattr(notify, "_READS", 1)
    (root / "a").rename(root / "c/z")
    assert notifier.read() == [Changed(b"a", went=True)]
    assert notifier.is_waiting
    assert notifier.read() == [Changed(b"c/z", tree=True, before=b"a")]
    assert not notifier.is_waiting
    assert notifier.watches == 4


def test_what_moved_is_told_with_the_name_it_had(
    root: Path, notifier: Notifier, tmp_path: Path
) -> None:
    (root / "top").rename(root / "c/t")
    (root / "c").rename(root / "d")
    (root / "d/t").rename(tmp_path / "out")
    (tmp_path / "out").rename(root / "in")
    moved = {each.path: each.before for each in notifier.read()}
    assert moved == {
        b"top": None, b"c/t": b"top", b"c": None, b"d": b"c", b"d/t": None, b"in": None,
    }  # fmt: skip


def test_a_directory_that_moves_out_is_not_watched_any_more(
    root: Path, notifier: Notifier, tmp_path: Path
) -> None:
    (root / "a").rename(tmp_path / "out")
    assert told(notifier) == {b"a"}
    (tmp_path / "out/b/f").write_bytes(b"2")
    assert told(notifier) == set()
    assert notifier.watches == 2
    (tmp_path / "out").rename(root / "back")
    assert told(notifier) == {b"back/"}
    (root / "back/b/f").write_bytes(b"3")
    assert told(notifier) == {b"back/b/f"}


def test_a_deleted_tree_is_forgotten(root: Path, notifier: Notifier) -> None:
    shutil.rmtree(root / "a")
    assert b"a" in told(notifier)
    assert notifier.watches == 2


def test_a_directory_made_anew_under_its_name_is_watched(root: Path, notifier: Notifier) -> None:
    shutil.rmtree(root / "a")
    make_tree(root / "a", {"f": b"1"})
    assert b"a/" in told(notifier)
    (root / "a/f").write_bytes(b"2")
    assert told(notifier) == {b"a/f"}


def test_directories_that_change_places_keep_their_watches(root: Path, notifier: Notifier) -> None:
    (root / "a").rename(root / "x")
    (root / "c").rename(root / "a")
    (root / "x").rename(root / "c")
    told(notifier)
    (root / "c/b/f").write_bytes(b"2")
    (root / "a/g").write_bytes(b"2")
    assert told(notifier) == {b"c/b/f", b"a/g"}


def test_links_to_directories_are_not_followed(
    root: Path, notifier: Notifier, tmp_path: Path
) -> None:
    make_tree(tmp_path / "outside", {"d": {}})
    (root / "link").symlink_to(tmp_path / "outside")
    told(notifier)
    (tmp_path / "outside/d/f").write_bytes(b"1")
    assert told(notifier) == set()


def test_netsyncs_own_names_and_what_is_left_out_are_not_told(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    notifier = Notifier(fd, lambda path: path == b"a/b")
    notifier.cover()
    make_tree(root / ".netsync", {"x": b"1"})
    (root / "a/b/f").write_bytes(b"2")
    assert told(notifier) == set()
    notifier.close()
    os.close(fd)


def test_after_an_overflow_everything_has_changed_and_is_watched(
    root: Path, notifier: Notifier
) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit // 2 + 10):
        name = root / "c" / str(number)
        name.touch()
    make_tree(root / "c/unseen", {"d": {}})
    shutil.rmtree(root / "a")
    while EVERYTHING not in (found := notifier.read()):
        assert found, "the overflow was not told"
    told(notifier)
    (root / "c/unseen/d/f").write_bytes(b"1")
    assert told(notifier) == {b"c/unseen/d/f"}
    assert notifier.watches == 4


@contextlib.contextmanager
def no_more_watches(monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[None]:
    """Refuse to watch what is not in the tree yet."""
    known = {os.stat(each).st_ino for each, _, _ in os.walk(root)}
    allowed = INotify.add_watch

    def refuse(self: INotify, path: bytes, mask: int) -> int:
        if os.stat(path).st_ino not in known:
            raise OSError(errno.ENOSPC, "no more watches")
        return int(allowed(self, path, mask))

    with monkeypatch.context() as patched:
        patched.setattr(INotify, "add_watch", refuse)
        yield


def test_too_few_watches_are_stated(
    root: Path, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_more_watches(monkeypatch, root):
        make_tree(root / "new", {"d": {}})
        assert told(notifier) == {b"new/"}
    assert notifier.uncovered == {b"new"}
    shutil.rmtree(root / "new")
    told(notifier)
    assert notifier.uncovered == set()


def test_what_has_no_watch_has_none_where_its_directory_moves_to(
    root: Path, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a moved tree would pass for one that is watched, and what changes in it for nothing."""
    with no_more_watches(monkeypatch, root):
        make_tree(root / "a/b/new", {"d": {}})
        told(notifier)
        assert notifier.uncovered == {b"a/b/new"}
        (root / "a").rename(root / "c/z")
        assert told(notifier) >= {b"a", b"c/z/"}
        assert notifier.uncovered == {b"c/z/b/new"}
    (root / "c/z").rename(root / "a")
    told(notifier)
    assert notifier.uncovered == set()
    (root / "a/b/new/d/f").write_bytes(b"1")
    assert told(notifier) == {b"a/b/new/d/f"}


def test_a_root_that_goes_away_is_told(root: Path, notifier: Notifier) -> None:
    assert not notifier.lost
    root.rename(root.parent / "elsewhere")
    told(notifier)
    assert "moved" in notifier.lost


def test_a_directory_that_cannot_be_opened_for_want_of_descriptors_is_said(
    root: Path, notifier: Notifier
) -> None:
    """It is there and not watched: whoever believes otherwise misses what happens in it."""
    (root / "new").mkdir()
    held: list[int] = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(notifier.fileno()))
        notifier.read()
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert b"new" in notifier.uncovered
    assert notifier.why.errno == errno.EMFILE


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_every_change_afterwards_is_told(
    root: Path, notifier: Notifier, seed: int
) -> None:
    """Random moves, removals and new trees; then a file made in each directory is told."""
    choose = random.Random(seed)
    for number in range(60):
        directories = [Path(each) for each, _, _ in os.walk(root)]
        here, there = choose.choice(directories), choose.choice(directories)
        match choose.randrange(4):
            case 0:
                make_tree(here / f"n{number}", {"x": {"y": {}}})
            case 1 if here != root and here not in (there, *there.parents):
                here.rename(there / f"m{number}")
            case 2 if here != root and len(directories) > 5:
                shutil.rmtree(here)
            case 3 if choose.random() < 0.5:
                notifier.read()
    told(notifier)
    assert notifier.watches == len([*os.walk(root)])
    made = [Path(each) / "made" for each, _, _ in os.walk(root)]
    for each in made:
        each.touch()
    assert told(notifier) == {os.fsencode(each.relative_to(root)) for each in made}

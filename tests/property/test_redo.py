"""Whatever a crash leaves of a window, doing it again ends in the tree that it stood for.

Real operations on real directories: for each sequence that a file system allows, for each point at
which the standby may have stopped since its last checkpoint, with the data of the window as it was,
lost or torn, all since the checkpoint is done again, and the trees are compared.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from netsync import operation as o
from netsync.plan.redo import Window
from netsync.plan.xattrs import USER, Scope
from netsync.tree.apply import Applier
from netsync.tree.directories import OPEN_DIRECTORY

NAMES = [b"a", b"b", b"c", b"d", b"d/a", b"d/b", b"e", b"e/a", b"d/e", b"d/e/a"]
UID, GID = os.getuid(), os.getgid()
TIME = 1_000_000_000_000_000_000

names = st.sampled_from(NAMES)
short = st.integers(0, 12)
operations = st.one_of(
    st.builds(o.Write, names, short, st.binary(min_size=1, max_size=6), st.just(TIME)),
    st.builds(o.Truncate, names, short, st.just(TIME + 1)),
    st.builds(o.PunchHole, names, short, st.integers(1, 5), st.just(TIME + 2)),
    st.builds(o.Create, names, st.sampled_from([0o600, 0o644]), st.just(UID), st.just(GID)),
    st.builds(o.Mkdir, names, st.just(0o755), st.just(UID), st.just(GID)),
    st.builds(o.Symlink, names, st.just(b"target"), st.just(UID), st.just(GID)),
    st.builds(o.Link, names, names),
    st.builds(o.Rename, names, names),
    st.builds(o.Unlink, names),
    st.builds(o.Rmdir, names),
    st.builds(o.Mode, names, st.sampled_from([0o640, 0o700])),
    st.builds(o.SetXattr, names, st.just(b"user.x"), st.sampled_from([b"1", b"2"])),
    st.builds(o.RemoveXattr, names, st.just(b"user.x")),
)


def base_tree(root: Path) -> None:
    """A tree with files, directories, and one file under two names."""
    (root / "d/e").mkdir(parents=True)
    (root / "a").write_bytes(b"content of a")
    (root / "d/a").write_bytes(b"content of d/a")
    (root / "d/e/a").write_bytes(b"content of d/e/a")
    os.link(root / "a", root / "c")


class Tree:
    """A copy of the base tree, what is done to it, and an applier."""

    def __init__(self, base: Path, name: str) -> None:
        self.path = base / name
        self.path.mkdir()
        base_tree(self.path)
        self._fd = os.open(self.path, OPEN_DIRECTORY)
        self.applier = Applier(self._fd, Scope((USER,)), special=True)

    def apply(self, operation: o.Operation, *, new: bool = False, redo: bool = False) -> None:
        self.applier.apply(operation, new=new, redo=redo)

    def close(self) -> None:
        self.applier.close()
        os.close(self._fd)
        shutil.rmtree(self.path)

    def shown(self) -> dict[str, object]:
        """What there is, names of one object told by the first of them."""
        self.applier.settle()
        first: dict[int, str] = {}
        found: dict[str, object] = {}
        for path in sorted(self.path.rglob("*")):
            status = path.lstat()
            name = str(path.relative_to(self.path))
            same = first.setdefault(status.st_ino, name)
            content: object = ""
            mtime = 0
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
                mtime = status.st_mtime_ns if status.st_mtime_ns < TIME + 10 else 0
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            attributes = [] if path.is_symlink() else [
                (each, os.getxattr(path, each)) for each in os.listxattr(path)
            ]  # fmt: skip
            found[name] = (status.st_mode, same, content, mtime, attributes)
        return found


def allowed(operation: o.Operation, tree: Tree) -> bool:
    """Do ``operation`` as a primary would; tell whether it was an operation at all."""
    if isinstance(operation, o.Rename):
        try:
            one = os.stat(tree.path / os.fsdecode(operation.path), follow_symlinks=False)
            two = os.stat(tree.path / os.fsdecode(operation.to), follow_symlinks=False)
        except OSError:
            pass
        else:
            if one.st_ino == two.st_ino:  # nothing happens, and a primary logs nothing
                return False
    try:
        tree.apply(operation)
    except OSError:
        return False
    return True


class Marked:
    """Which objects the window's writes went to: only these may be torn."""

    def __init__(self) -> None:
        self.ranges: dict[int, list[tuple[int, int]]] = {}

    def note(self, operation: o.Operation, tree: Tree) -> None:
        if isinstance(operation, o.Write):
            inode = os.stat(tree.path / os.fsdecode(operation.path)).st_ino
            end = operation.offset + len(operation.data)
            self.ranges.setdefault(inode, []).append((operation.offset, end))

    def tear(self, tree: Tree, way: random.Random) -> None:
        for path in tree.path.rglob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            for start, end in self.ranges.get(path.stat().st_ino, []):
                size = path.stat().st_size
                with path.open("r+b") as file:
                    file.seek(start)
                    file.write(way.randbytes(max(0, min(end, size) - start)))


def windows(done: Sequence[o.Operation], tree: Tree) -> Iterator[tuple[int, int]]:
    """Yield where each window begins and ends, as the standby would cut them."""
    window, start = Window(), 0
    for at, operation in enumerate(done):
        if not window.admits(operation, shared=tree.applier.shares(operation)):
            yield start, at
            window, start = Window(), at
        window.note(operation)
        tree.apply(operation)
    yield start, len(done)


def crashed_and_redone(
    base: Path, done: Sequence[o.Operation], start: int, stop: int, way: random.Random | None
) -> dict[str, object]:
    """Stop after ``stop`` operations, the last checkpoint being at ``start``; recover; go on."""
    tree, marked = Tree(base, "crashed"), Marked()
    try:
        for at, operation in enumerate(done[:stop]):
            tree.apply(operation)
            if at >= start:
                marked.note(operation, tree)
        tree.applier.settle()
        if way is not None:
            marked.tear(tree, way)
        window, redo = Window(), True
        for operation in done[start:]:
            if not window.admits(operation, shared=tree.applier.shares(operation)):
                window, redo = Window(), False
            new = isinstance(operation, o.Link | o.Rename) and window.is_new(operation.path)
            tree.apply(operation, new=new, redo=redo)
            window.note(operation)
        return tree.shown()
    finally:
        tree.close()


@given(st.lists(operations, max_size=14), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(  # the pattern of editors: new file over the old name, twice
    [o.Create(b"b", 0o600, UID, GID), o.Write(b"b", 0, b"1", TIME), o.Rename(b"b", b"a"),
     o.Create(b"b", 0o600, UID, GID), o.Write(b"b", 0, b"23", TIME), o.Rename(b"b", b"a")],
    random.Random(1),
)  # fmt: skip
@example(  # a base object goes away, and its name is given anew
    [o.Rename(b"a", b"b"), o.Create(b"a", 0o600, UID, GID), o.Write(b"a", 0, b"new", TIME)],
    random.Random(2),
)
@example(  # work through one of two names, which then goes
    [o.Write(b"a", 0, b"work", TIME), o.Unlink(b"a"), o.Create(b"a", 0o600, UID, GID)],
    random.Random(3),
)
@example(  # the same, with another file moved over the name
    [o.Write(b"a", 0, b"work", TIME), o.Create(b"b", 0o600, UID, GID), o.Rename(b"b", b"a")],
    random.Random(4),
)
@example(  # what was written to one file must not be done to another one linked to its name
    [o.Write(b"d/a", 0, b"work", TIME), o.Unlink(b"d/a"), o.Link(b"a", b"d/a")],
    random.Random(5),
)
@example(  # written under both of its names: the last time is the file's
    [o.Write(b"c", 0, b"1", TIME), o.Truncate(b"a", 0, TIME + 1),
     o.Create(b"a", 0o600, UID, GID), o.Write(b"c", 0, b"1", TIME)],
    random.Random(7),
)  # fmt: skip
@example(  # a file is moved to a name that is a directory by now
    [o.Create(b"b", 0o600, UID, GID), o.Rename(b"b", b"d/b"), o.Unlink(b"d/b"),
     o.Mkdir(b"d/b", 0o755, UID, GID)],
    random.Random(6),
)  # fmt: skip
def test_a_window_done_again_ends_where_it_should(
    wanted: list[o.Operation], way: random.Random
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        base = Path(place)
        whole = Tree(base, "whole")
        done = [each for each in wanted if allowed(each, whole)]
        final = whole.shown()
        whole.close()
        again = Tree(base, "again")
        cuts = list(windows(done, again))
        assert again.shown() == final
        again.close()
        for start, end in cuts:
            for stop in range(start, end + 1):
                for torn in (None, way):
                    found = crashed_and_redone(base, done, start, stop, torn)
                    assert found == final, (done, start, stop, torn is not None)

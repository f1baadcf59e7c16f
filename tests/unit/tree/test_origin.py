"""Which directory a source is: stable while it is the same, different when it is not."""

from __future__ import annotations

import os
from pathlib import Path

from netsync.model import Origin
from netsync.plan.guards import is_same
from netsync.tree.origin import origin_of
from netsync.tree.roots import SourceRoot
from tests.support.trees import make_tree, needs_mount, opened, small_disk


def origin(path: Path) -> Origin:
    """Return the origin of the contents of ``path``."""
    with opened(path) as fd:
        found = origin_of(SourceRoot(fd, b"", b""))
    assert found is not None
    return found


def test_a_directory_stays_the_same_whatever_happens_in_it(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "a", {"f": b"1"})
    before = origin(root)
    (root / "f").unlink()
    make_tree(root, {"g": {"h": b"2"}})
    root.chmod(0o700)
    root.rename(tmp_path / "b")
    assert is_same(before, origin(tmp_path / "b"))
    root.mkdir()
    assert not is_same(before, origin(root))


def test_a_named_source_is_its_directory_and_a_file_is_none(tmp_path: Path) -> None:
    """A link is not followed: it is listed as a link, and nothing is deleted below it."""
    make_tree(tmp_path, {"d": {}, "f": b"1", "l": "d"})
    with opened(tmp_path) as fd:
        found = origin_of(SourceRoot(fd, b"d", b"listed"))
        assert found is not None
        assert (found.listed, found.inode) == (b"listed", os.stat(tmp_path / "d").st_ino)
        for name in (b"f", b"l", b"missing"):
            assert origin_of(SourceRoot(fd, name, name)) is None


@needs_mount
def test_a_mount_is_another_source_than_what_it_hides(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    hidden = origin(tmp_path / "m")
    with small_disk(tmp_path / "m", 1 << 20):
        mounted = origin(tmp_path / "m")
        assert is_same(mounted, origin(tmp_path / "m"))
    assert not is_same(hidden, mounted)
    assert is_same(hidden, origin(tmp_path / "m"))

"""Directories that are not there yet, and those that stand for them."""

from __future__ import annotations

import os
from pathlib import Path

from netsync.tree.standing import Standing
from tests.support.confined import (
    as_nobody,
    needs_known_calls,
    needs_root,
    without_unnamed_files,
)
from tests.support.trees import make_tree, opened


def place_of(root: Path, path: bytes) -> str:
    """Return where a file for the directory ``path`` would be created."""
    with opened(root) as fd, opened(root / "aside") as aside, Standing(fd, aside) as standing:
        found = os.fstat(standing.fd(path))
        again = os.fstat(standing.fd(path))
    assert os.path.samestat(found, again)
    names = {"": root, **{name: root / name for name in ("aside", "a", "a/b", "closed")}}
    (name,) = (name for name, there in names.items() if os.path.samestat(found, there.stat()))
    return name


def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", {
        "aside": {}, "a": {"b": {}, "file": b"", "link": "b"}, "closed": {},
    })  # fmt: skip


def test_the_nearest_directory_stands_for_what_is_not_there(tmp_path: Path) -> None:
    """Nothing, a file or a link in its place: it will be made below the one above."""
    root = tree(tmp_path)
    assert place_of(root, b"") == ""
    assert place_of(root, b"a/b") == "a/b"
    assert place_of(root, b"a/b/new/newer") == "a/b"
    assert place_of(root, b"a/file/new") == "a"
    assert place_of(root, b"a/link/new") == "a"
    assert place_of(root, b"new") == ""


@needs_known_calls
def test_without_unnamed_files_all_is_created_aside(tmp_path: Path) -> None:
    """A named temporary would be seen where it is."""
    root = tree(tmp_path)
    assert without_unnamed_files(lambda: place_of(root, b"a/b")) == "aside"


@needs_root
@needs_known_calls
def test_a_closed_directory_of_ours_is_stood_for(tmp_path: Path) -> None:
    """It is entered when all is published; one of others is tried, and refuses."""
    for above in (tmp_path, *list(tmp_path.parents)[:3]):
        above.chmod(0o755)
    root = tree(tmp_path)
    (root / "closed").chmod(0o555)
    os.chown(root / "aside", 65534, 65534)
    assert as_nobody(lambda: place_of(root, b"closed/new")) == "closed"
    os.chown(root / "closed", 65534, 65534)
    assert as_nobody(lambda: place_of(root, b"closed/new")) == "aside"

"""Where a transfer begins: links inside a module are followed, ways out of it are refused."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.errors import RefusedError, RootError
from netsync.names import contains
from netsync.tree.links import LINK_HOPS_MAX
from netsync.tree.roots import (
    Anchor,
    SourceRoot,
    TargetRoot,
    local_anchor,
    local_path,
    means_contents,
    open_source,
    open_sources,
    open_target,
)
from tests.support.trees import make_tree, open_descriptors, opened, read_tree


@pytest.fixture
def module(tmp_path: Path) -> Path:
    make_tree(tmp_path / "outside", {"secret": b"secret", "sub": {}})
    return make_tree(
        tmp_path / "module",
        {
            "dir": {"file": b"x", "sub": {"deep": {}}, "up": "..", "out": "../../outside"},
            "file": b"y",
            "to dir": "dir",
            "to sub": "dir/sub",
            "to file": "dir/file",
            "twice": "to sub/deep",
            "absolute": "/etc",
            "out": "../outside",
            "out by turns": "dir/up/../outside",
            "dangling": "new/place",
            "loop": "loop",
            "ping": "pong",
            "pong": "ping",
        },
    )


@pytest.fixture
def anchor(module: Path) -> Iterator[Anchor]:
    with opened(module) as fd:
        before = open_descriptors()
        yield Anchor(fd, "module")
        assert open_descriptors() == before, "a descriptor was left open"


def source(anchor: Anchor, path: bytes) -> tuple[int, bytes]:
    """Return the inode of the opened directory, and the name in it."""
    root: SourceRoot = open_source(anchor, path, b"listed")
    status = os.fstat(root.fd)
    os.close(root.fd)
    return status.st_ino, root.name


def target(
    anchor: Anchor, path: bytes, *, single_file: bool = False, dry_run: bool = False
) -> tuple[int, bytes, bool]:
    root: TargetRoot = open_target(anchor, path, single_file=single_file, dry_run=dry_run)
    status = os.fstat(root.fd)
    os.close(root.fd)
    return status.st_ino, root.file_name, root.exists


SOURCES = [
    # path, directory opened, name in it
    (b"", "", b""),
    (b".", "", b""),
    (b"/", "", b""),
    (b"file", "", b"file"),
    (b"/file", "", b"file"),
    (b"dir", "", b"dir"),
    (b"dir/", "dir", b""),
    (b"dir/.", "dir", b""),
    (b"./dir//sub", "dir", b"sub"),
    (b"dir/sub/", "dir/sub", b""),
    (b"dir/sub/..", "dir", b""),
    (b"dir/../file", "", b"file"),
    (b"to dir/file", "dir", b"file"),
    (b"to sub", "dir", b"sub"),
    (b"to sub/", "dir/sub", b""),
    (b"to file", "dir", b"file"),
    (b"twice", "dir/sub", b"deep"),
    (b"twice/", "dir/sub/deep", b""),
    (b"dir/up/file", "", b"file"),
    (b"dir/up", "", b""),
]


@pytest.mark.parametrize(("path", "directory", "name"), SOURCES)
def test_a_source_inside_the_module_is_found_through_its_links(
    module: Path, anchor: Anchor, path: bytes, directory: str, name: bytes
) -> None:
    assert source(anchor, path) == ((module / directory).stat().st_ino, name)


def test_a_source_keeps_the_name_it_is_listed_under(anchor: Anchor) -> None:
    root = open_source(anchor, b"to file", b"to file")
    os.close(root.fd)
    assert root.listed == b"to file"


WAYS_OUT = [
    b"..", b"../outside", b"../module/file", b"dir/../..", b"dir/../../outside/secret",
    b"absolute", b"absolute/passwd", b"out", b"out/secret", b"out by turns", b"out by turns/secret",
    b"dir/out", b"dir/out/secret", b"dir/up/..", b"to dir/../..",
]  # fmt: skip


@pytest.mark.parametrize("path", WAYS_OUT)
def test_a_way_out_of_the_module_is_refused_for_sources_and_targets(
    module: Path, anchor: Anchor, path: bytes
) -> None:
    before = read_tree(module.parent)
    with pytest.raises(RefusedError, match="leaves the module"):
        source(anchor, path)
    for single_file in (True, False):
        with pytest.raises(RefusedError, match="leaves the module"):
            target(anchor, path, single_file=single_file)
    assert read_tree(module.parent) == before


def test_a_link_to_a_directory_above_has_no_name_to_be_listed_by(anchor: Anchor) -> None:
    """With a slash it is what is in that directory; else nobody could tell what was asked for."""
    with contextlib.ExitStack() as stack, pytest.raises(RefusedError, match="name of its own"):
        open_sources([(anchor, b"dir/up", b"up")], stack)
    with contextlib.ExitStack() as stack:
        roots, _ = open_sources([(anchor, b"dir/up/", b"")], stack)
        assert [root.name for root in roots] == [b""]


@pytest.mark.parametrize("path", [b"loop", b"loop/x", b"ping", b"ping/x"])
def test_links_that_go_round_are_an_error_of_the_root(anchor: Anchor, path: bytes) -> None:
    with pytest.raises(RootError, match="too many levels of symbolic links"):
        source(anchor, path)
    with pytest.raises(RootError, match="too many levels"):
        target(anchor, path)


def test_as_many_links_as_the_kernel_allows_are_followed(module: Path, anchor: Anchor) -> None:
    for number in range(LINK_HOPS_MAX + 1):
        (module / f"l{number}").symlink_to(f"l{number - 1}" if number else "dir")
    inode = (module / "dir").stat().st_ino
    assert source(anchor, b"l%d/" % (LINK_HOPS_MAX - 1)) == (inode, b"")
    with pytest.raises(RootError):
        source(anchor, b"l%d/" % LINK_HOPS_MAX)


@pytest.mark.parametrize("path", [b".netsync", b"dir/.netsync-tmp-1", b".netsync/x", b".netsync/"])
def test_netsyncs_own_names_are_refused(module: Path, anchor: Anchor, path: bytes) -> None:
    with pytest.raises(RefusedError, match="netsync's own"):
        source(anchor, path)
    with pytest.raises(RefusedError, match="netsync's own"):
        target(anchor, path)
    assert ".netsync" not in os.listdir(module)


@pytest.mark.parametrize(
    "path", [b"gone", b"gone/", b"dir/gone", b"gone/file", b"file/x", b"file/"]
)
def test_a_source_that_is_not_there_is_a_root_error(anchor: Anchor, path: bytes) -> None:
    with pytest.raises(RootError) as caught:
        source(anchor, path)
    assert caught.value.exit_code == 11
    assert os.fsdecode(path) in str(caught.value)


TARGETS = [
    # path, single file, directory opened, name of the file in it
    (b"", False, "", b""),
    (b"dir", False, "dir", b""),
    (b"dir/", False, "dir", b""),
    (b"to sub", False, "dir/sub", b""),
    (b"new", False, "new", b""),
    (b"new/", False, "new", b""),
    (b"a/b/c", False, "a/b/c", b""),
    (b"dir/new/deeper", False, "dir/new/deeper", b""),
    (b"dangling", False, "new/place", b""),
    (b"dir", True, "dir", b""),
    (b"dir/", True, "dir", b""),
    (b"file", True, "", b"file"),
    (b"to file", True, "dir", b"file"),
    (b"new", True, "", b"new"),
    (b"new/", True, "new", b""),
    (b"a/b/new", True, "a/b", b"new"),
    (b"a/b/new/", True, "a/b/new", b""),
    (b"dangling", True, "new", b"place"),
]


@pytest.mark.parametrize(("path", "single_file", "directory", "name"), TARGETS)
def test_a_target_is_made_as_far_as_it_is_missing(
    module: Path, anchor: Anchor, path: bytes, single_file: bool, directory: str, name: bytes
) -> None:
    found, file_name, exists = target(anchor, path, single_file=single_file)
    assert found == (module / directory).stat().st_ino
    assert (file_name, exists) == (name, True)


@pytest.mark.parametrize(
    ("path", "single_file"), [(b"file", False), (b"file/", False), (b"file/", True),
                              (b"file/x", True), (b"file/x/y", False), (b"to file", False)],
)  # fmt: skip
def test_a_file_where_a_directory_must_be_is_a_root_error(
    module: Path, anchor: Anchor, path: bytes, single_file: bool
) -> None:
    with pytest.raises(RootError, match="not a directory"):
        target(anchor, path, single_file=single_file)
    assert (module / "file").read_bytes() == b"y"


@pytest.mark.parametrize("path", [b"new", b"new/", b"a/b/c", b"dangling"])
@pytest.mark.parametrize("single_file", [True, False])
def test_a_dry_run_makes_nothing(
    module: Path, anchor: Anchor, path: bytes, single_file: bool
) -> None:
    before = read_tree(module)
    _, name, exists = target(anchor, path, single_file=single_file, dry_run=True)
    assert read_tree(module) == before
    assert exists is (single_file and path == b"new")
    if not single_file:
        assert name == b""


def test_a_dry_run_onto_what_is_there_finds_it(module: Path, anchor: Anchor) -> None:
    assert target(anchor, b"dir", dry_run=True) == ((module / "dir").stat().st_ino, b"", True)


@pytest.mark.parametrize(
    ("path", "contents"),
    [(b"a", False), (b"a/", True), (b"a/.", True), (b"a/..", True), (b"", True), (b".", True),
     (b"a/.b", False), (b"/", True), (b"a.", False)],
)  # fmt: skip
def test_a_trailing_slash_or_dot_means_the_contents(path: bytes, contents: bool) -> None:
    assert means_contents(path) is contents


def test_an_operators_path_is_resolved_once_and_keeps_its_slash(module: Path) -> None:
    sub = os.fsencode(module / "dir" / "sub")
    assert local_path(os.fsencode(module / "to sub")) == sub
    assert local_path(os.fsencode(module / "to sub") + b"/") == sub + b"/"
    with local_anchor() as anchor:
        assert source(anchor, local_path(os.fsencode(module / "absolute")))[1] == b"etc"


@pytest.mark.parametrize(
    ("source_path", "target_path", "inside"),
    [(b"/a", b"/a", True), (b"/a/", b"/a", True), (b"/a", b"/a/b", True), (b"/a", b"/ab", False),
     (b"/a/b", b"/a", False), (b"/", b"/a", True), (b"/a", b"/a/", True)],
)  # fmt: skip
def test_contains_knows_components(source_path: bytes, target_path: bytes, inside: bool) -> None:
    assert contains(source_path, target_path) is inside

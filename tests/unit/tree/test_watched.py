"""A directory that is watched, and a first look at what changed in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from netsync.errors import RootError
from netsync.tree.glance import Glance, glance
from netsync.tree.notify import Changed
from netsync.tree.watched import WatchedDirectory
from tests.support.trees import make_tree, needs_mount, small_disk


class Watched:
    """A watched directory and what was heard of it."""

    def __init__(self, path: Path) -> None:
        self.heard: list[Changed] = []
        self.directory = WatchedDirectory(
            os.fsencode(path), self.heard.extend, lambda path: path == b"left"
        )

    async def __aenter__(self) -> Watched:
        await self.directory.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.directory.aclose()

    @property
    def paths(self) -> set[bytes]:
        return {each.path for each in self.heard}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", {"d": {"f": b"1"}, "left": {"g": b"2"}})


async def test_a_drain_hears_all_that_was_done_before_it(tree: Path) -> None:
    async with Watched(tree) as watched:
        (tree / "d" / "f").write_bytes(b"2")
        (tree / "left" / "g").write_bytes(b"3")
        await watched.directory.drain()
        assert watched.paths == {b"d/f"}
        (tree / "d").rename(tree / "e")
        await watched.directory.drain()
        assert {b"d", b"e"} <= watched.paths


@needs_mount
async def test_what_is_mounted_inside_is_watched_from_when_that_is_seen(tree: Path) -> None:
    (tree / "left" / "d").mkdir()
    async with Watched(tree) as watched:
        assert not await watched.directory.heed_mounts()
        with small_disk(tree / "d", 1 << 20):
            assert await watched.directory.heed_mounts()
            assert not await watched.directory.heed_mounts()
            (tree / "d" / "g").write_bytes(b"1")
            await watched.directory.drain()
            assert b"d/g" in watched.paths
        assert await watched.directory.heed_mounts(), "that it is gone is told too"
        with small_disk(tree / "left" / "d", 1 << 20):
            assert not await watched.directory.heed_mounts(), "it takes no part"
        assert not await watched.directory.heed_mounts()
        (tree / "d" / "h").write_bytes(b"1")
        await watched.directory.drain()
        assert b"d/h" in watched.paths


async def test_a_drain_after_the_end_is_nothing(tree: Path) -> None:
    watched = Watched(tree)
    await watched.directory.open()
    await watched.directory.aclose()
    await watched.directory.drain()
    assert watched.heard == []


async def test_listening_ends_when_the_directory_is_lost(tree: Path) -> None:
    async with Watched(tree) as watched:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watched.directory.listen)
                tree.rename(tree.parent / "elsewhere")
        assert "moved" in watched.directory.lost


async def test_another_directory_in_its_place_is_seen(tree: Path) -> None:
    async with Watched(tree) as watched:
        assert await watched.directory.is_where_it_was()
        tree.rename(tree.parent / "elsewhere")
        assert not await watched.directory.is_where_it_was()
        tree.mkdir()
        assert not await watched.directory.is_where_it_was()


async def test_what_is_no_directory_cannot_be_watched(tree: Path) -> None:
    for path in (tree / "none", tree / "d" / "f"):
        watched = Watched(path)
        with pytest.raises(RootError):
            await watched.directory.open()
        await watched.directory.aclose()


def test_a_glance_tells_what_is_gone_how_much_is_there_and_what_is_shared(tree: Path) -> None:
    os.link(tree / "d" / "f", tree / "d" / "again")
    root = os.open(tree, os.O_DIRECTORY)
    try:
        seen = glance(root, [b"", b"d", b"d/none", b"none/below", b"left/g", b"left/g/x"])
        assert seen == Glance(frozenset({b"d/none", b"none/below", b"left/g/x"}), 1, shared=False)
        assert glance(root, [b"d/f"]).shared
    finally:
        os.close(root)

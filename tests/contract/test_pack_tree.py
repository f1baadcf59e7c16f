"""A tree packed in one call: the compiled call and its twin agree, and both do as one by one."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from netsync.names import join
from netsync.tree.native import Coverage, Native, load
from netsync.tree.packing import Known
from netsync.tree.records import name_at
from tests.support.trees import Value, make_tree
from tests.support.twins import WISHED

ALL = Coverage(0o7777, 254, True, True, True, True, 1 << 20)
ROOM = 1 << 20


def walked(native: Native, directory: int, room: int = ROOM) -> Known:
    return native.TreeWalk(directory, ALL, b"", b"").more(room, bytearray(1))


def one_by_one(native: Native, root: Path, path: bytes = b"") -> Known:
    """Return what ``pack_directory`` says of each directory, in the order of a listing."""
    fd = os.open(os.path.join(os.fsencode(root), path), os.O_RDONLY)
    packed, own = native.pack_directory(fd, ALL, b"", b"")
    os.close(fd)
    if packed is None:
        return {}
    found = {path: (packed, own)}
    for _, offset in packed[3]:
        found |= one_by_one(native, root, join(path, name_at(packed[0], offset)))
    return found


def test_a_tree_is_its_directories_in_the_order_of_a_listing(
    native: Native, directory: int, tmp_path: Path
) -> None:
    inner: dict[str, Value] = {"f": b"12", "deep": {"er": {}, "l": "nowhere"}}
    make_tree(tmp_path, {"b": inner, "a": {"x": b""}, "b.c": {}, "link": "a"})
    found = walked(native, directory)
    assert list(found) == [b"", b"a", b"b", b"b/deep", b"b/deep/er", b"b.c"]
    assert found == one_by_one(native, tmp_path)
    assert walked(native, directory) == found, "it can be read again"


def test_what_is_not_covered_is_left_out_with_all_in_it(
    native: Native, directory: int, tmp_path: Path
) -> None:
    kept: dict[str, Value] = {".netsyncignore": b"x\n", "in": {"it": b""}}
    make_tree(tmp_path, {"kept": kept, "other": {"y": b""}, ".netsync": {"own": {}}})
    assert list(walked(native, directory)) == [b"", b"other"]
    assert walked(native, directory)[b""][1] == [b".netsync"]
    make_tree(tmp_path, {".netsyncignore": b""})
    assert walked(native, directory) == {}


def test_it_ends_where_the_room_is_full(native: Native, directory: int, tmp_path: Path) -> None:
    make_tree(tmp_path, {"a": {"f": b""}, "b": {"f": b""}, "c": {"f": b""}})
    packed = one_by_one(native, tmp_path)
    room = sum(len(path) + len(each[0][0]) for path, each in packed.items()) - 42
    found = walked(native, directory, room)
    assert list(found) == [b"", b"a", b"b"]
    assert list(walked(native, directory, room + 1))[-1] == b"c"
    assert walked(native, directory, 0).keys() == {b""}


def test_it_ends_when_it_is_told_to(native: Native, directory: int, tmp_path: Path) -> None:
    make_tree(tmp_path, {"a": {"f": b""}})
    walk = native.TreeWalk(directory, ALL, b"", b"")
    assert walk.more(ROOM, bytearray(b"\1")) == {}
    assert walk.more(ROOM, bytearray(1)) == {}, "for good"
    walk = native.TreeWalk(directory, ALL, b"", b"")
    assert list(walk.more(1, bytearray(1))) == [b""]
    assert walk.more(ROOM, bytearray(b"\1")) == {}
    assert walk.more(ROOM, bytearray(1)) == {}
    with pytest.raises(ValueError, match="flag"):
        walk.more(ROOM, bytearray())


@pytest.mark.parametrize("room", [0, 1, 100, 300, ROOM])
@pytest.mark.parametrize("backwards", [False, True])
def test_it_goes_on_where_it_was(
    native: Native, directory: int, tmp_path: Path, room: int, backwards: bool
) -> None:
    """In pieces it is what it is in one, and no descriptor stays when it is let go half way."""
    inner: dict[str, Value] = {"f": b"", "in": {"it": {"x": b""}}}
    make_tree(tmp_path, {"a": inner, "b": {}, "c": inner, "d": {".netsync-x": b""}})
    before = len(os.listdir("/proc/self/fd"))
    walk = native.TreeWalk(directory, ALL, b"", b"", backwards=backwards)
    pieces = []
    while piece := walk.more(room, bytearray(1)):
        pieces.append(piece)
    assert [path for piece in pieces for path in piece] == (
        [b"", b"d", b"c", b"c/in", b"c/in/it", b"b", b"a", b"a/in", b"a/in/it"]
        if backwards
        else [b"", b"a", b"a/in", b"a/in/it", b"b", b"c", b"c/in", b"c/in/it", b"d"]
    )
    assert {path: each for piece in pieces for path, each in piece.items()} == one_by_one(
        native, tmp_path
    )
    assert (len(pieces) == 1) is (room == ROOM)
    assert len(pieces) == 9 or room > 1, "as few as may be"
    walk = native.TreeWalk(directory, ALL, b"", b"", backwards=backwards)
    walk.more(200, bytearray(1))
    del walk
    assert len(os.listdir("/proc/self/fd")) == before


def test_depth_and_length_of_paths_are_bounded(
    native: Native, directory: int, tmp_path: Path
) -> None:
    deep = tmp_path.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    found = walked(native, directory)
    assert list(found) == [b"/".join([b"d"] * count) for count in range(32)]
    long = tmp_path / "long"
    fd = os.open(tmp_path, os.O_RDONLY)
    for name in ["long", *["n" * 255] * 20]:
        os.mkdir(name, dir_fd=fd)
        above, fd = fd, os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(above)
    os.close(fd)
    found = walked(native, directory)
    sizes = [len(path) for path in found if path.startswith(b"long")]
    assert sizes == [4 + 256 * count for count in range(16)]
    assert long.is_dir()


def test_no_link_is_followed_and_what_cannot_be_opened_is_left_out(
    native: Native, tmp_path: Path
) -> None:
    make_tree(tmp_path, {"f": b"", "aside": {"secret": {}}, "tree": {"to": "../aside"}})
    fd = os.open(tmp_path / "tree", os.O_RDONLY)
    assert list(walked(native, fd)) == [b""]
    os.close(fd)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    assert walked(native, fd) == {}
    os.close(fd)


@pytest.mark.skipif(len(WISHED) < 2, reason="there is one set of calls only")
@pytest.mark.parametrize("seed", range(6))
def test_both_agree_on_random_trees(directory: int, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    directories = [os.fsencode(tmp_path)]
    for number in range(120):
        name = b"%c%d" % (chance.choice(b"ab\xff\x01 ."), number)
        path = os.path.join(chance.choice(directories), name)
        if chance.random() < 0.4:
            os.mkdir(path)
            directories.append(path)
        elif chance.random() < 0.05:
            Path(os.fsdecode(os.path.dirname(path)), ".netsyncignore").touch()
        else:
            Path(os.fsdecode(path)).write_bytes(bytes(chance.randrange(9)))
    room = chance.choice([500, 3000, ROOM])
    pure, compiled = (walked(load(wish), directory, room) for wish in WISHED)
    assert pure == compiled
    assert list(pure) == list(compiled)
    assert pure

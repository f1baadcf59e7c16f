"""A directory as one string: the compiled call and its twin agree bit for bit."""

from __future__ import annotations

import os
import random
import socket
import struct
from pathlib import Path

import pytest

from netsync.model import Entry, Kind
from netsync.tree.native import Coverage, Native, Packed, load
from netsync.tree.records import entries_in, entry_in
from netsync.tree.scan import entry_at
from tests.support.confined import needs_root
from tests.support.trees import make_tree
from tests.support.twins import WISHED

ALL = Coverage(0o7777, 254, True, True, True, True, 1 << 20)


def packed(native: Native, directory: int, coverage: Coverage = ALL) -> Packed:
    found, _ = native.pack_directory(directory, coverage, b"", b"")
    assert found is not None
    return found


def pairs(*numbers: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<II", *pair) for pair in numbers)


def test_the_records_are_the_entries_sorted_as_bytes(
    native: Native, directory: int, tmp_path: Path
) -> None:
    make_tree(tmp_path, {"b": b"four", "a": {}, "B": "b", "é": None, "c" * 255: b""})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/sock")
    os.utime(tmp_path / "b", ns=(0, -1_500_000_001))
    records, count, total, directories, uids, gids = packed(native, directory)
    names = sorted(os.fsencode(name) for name in os.listdir(tmp_path))
    assert list(entries_in(records)) == [entry_at(directory, name) for name in names]
    assert (count, total) == (6, 4)
    assert [(index, entry_in(records, at)[0].name) for index, at in directories] == [(1, b"a")]
    assert (uids, gids) == ([os.geteuid()], [os.getegid()])


def test_an_empty_directory_is_an_empty_string_and_can_be_read_again(
    native: Native, directory: int, tmp_path: Path
) -> None:
    assert packed(native, directory) == (b"", 0, 0, [], [], [])
    make_tree(tmp_path, {"later": b""})
    assert [packed(native, directory)[1] for _ in range(2)] == [1, 1]


def test_own_names_are_told_apart_and_an_ignore_file_is_not_covered(
    native: Native, directory: int, tmp_path: Path
) -> None:
    make_tree(tmp_path, {".netsync": {}, ".netsync-tmp-1": b"", ".net": b"", "z": b""})
    found, own = native.pack_directory(directory, ALL, b"", b"")
    assert found is not None
    assert [entry.name for entry in entries_in(found[0])] == [b".net", b"z"]
    assert sorted(own) == [b".netsync", b".netsync-tmp-1"]
    make_tree(tmp_path, {".netsyncignore": b""})
    assert native.pack_directory(directory, ALL, b"", b"") == (None, sorted(own))


def without(*kinds: Kind) -> Coverage:
    return ALL._replace(kinds=ALL.kinds & ~sum(1 << kind for kind in kinds))


def test_what_is_not_covered_leaves_the_directory_unpacked(
    native: Native, directory: int, tmp_path: Path
) -> None:
    make_tree(tmp_path, {"file": b"", "link": "x", "fifo": None})

    def is_packed(coverage: Coverage) -> bool:
        return native.pack_directory(directory, coverage, b"", b"")[0] is not None

    assert is_packed(ALL)
    assert not is_packed(without(Kind.SYMLINK))
    assert not is_packed(without(Kind.FIFO))
    assert is_packed(without(Kind.SOCKET, Kind.BLOCK))
    assert is_packed(ALL._replace(room=3 * 40 + 12 + 1))
    assert not is_packed(ALL._replace(room=3 * 40 + 12))
    os.link(tmp_path / "file", tmp_path / "other")
    assert not is_packed(ALL)
    assert is_packed(ALL._replace(single_links=False))
    (tmp_path / "other").unlink()
    os.setxattr(tmp_path / "file", "user.x", b"")
    assert not is_packed(ALL)
    assert is_packed(ALL._replace(no_attributes=False))
    os.removexattr(tmp_path / "file", "user.x")
    os.utime(tmp_path / "file", (10**10, 10**10))
    assert not is_packed(ALL)


@needs_root
def test_owners_are_translated_masked_and_few(
    native: Native, directory: int, tmp_path: Path
) -> None:
    for number in range(4):
        make_tree(tmp_path, {f"f{number}": b""})
        os.chown(tmp_path / f"f{number}", number, 10 * number)
        (tmp_path / f"f{number}").chmod(0o6755)
    users, groups = pairs((1, 7), (3, 0xFFFFFFFF)), pairs((20, 1))
    found, _ = native.pack_directory(directory, ALL, users, groups)
    assert found is not None
    assert [entry.uid for entry in entries_in(found[0])] == [0, 7, 2, 0xFFFFFFFF]
    assert [entry.gid for entry in entries_in(found[0])] == [0, 10, 1, 30]
    assert (found[4], found[5]) == ([0, 7, 2, 0xFFFFFFFF], [0, 10, 1, 30])
    masked = ALL._replace(mode_mask=0o1777, owner=False, group=False)
    entries: list[Entry] = list(entries_in(packed(native, directory, masked)[0]))
    assert {(entry.mode, entry.uid, entry.gid) for entry in entries} == {(0o755, 0, 0)}
    for number in range(4, 66):
        make_tree(tmp_path, {f"f{number}": b""})
        os.chown(tmp_path / f"f{number}", number, 0)
        if number == 63:
            assert native.pack_directory(directory, ALL, b"", b"")[0] is not None
    assert native.pack_directory(directory, ALL, b"", b"")[0] is None


@pytest.mark.skipif(len(WISHED) < 2, reason="there is one set of calls only")
@pytest.mark.parametrize("seed", range(8))
def test_both_agree_on_random_directories(directory: int, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(chance.choice([1, 30, 400])):
        name = bytes(chance.choice(b"ab\xff\x01 .") for _ in range(chance.randrange(1, 60)))
        path = os.path.join(os.fsencode(tmp_path), name)
        if name in (b".", b"..") or os.path.lexists(path):
            continue
        if chance.random() < 0.2:
            os.mkdir(path)
        elif chance.random() < 0.2:
            os.symlink(b"t" * chance.randrange(1, 200), path)
        else:
            Path(os.fsdecode(path)).write_bytes(bytes(chance.randrange(300)))
        moment = chance.randrange(-(10**18), 10**18)
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    pure, compiled = (load(wish).pack_directory(directory, ALL, b"", b"") for wish in WISHED)
    assert pure == compiled
    assert pure[0] is not None


def test_a_file_is_no_directory(native: Native, tmp_path: Path) -> None:
    make_tree(tmp_path, {"f": b""})
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        with pytest.raises(NotADirectoryError):
            native.pack_directory(fd, ALL, b"", b"")
    finally:
        os.close(fd)

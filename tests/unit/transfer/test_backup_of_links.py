"""Backups where names are linked: what replaces an equal costs no older backup."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from netsync.model import Options
from tests.support.transfers import transfer
from tests.support.trees import make_tree

KEEPING = Options(fsync=False, backup_dir=b".old")


def linked(root: Path, names: str, content: bytes) -> Path:
    """Make a file with several names of one letter."""
    make_tree(root, {names[0]: content})
    os.utime(root / names[0], ns=(0, 10**18))
    for name in names[1:]:
        os.link(root / names[0], root / name)
    return root


@pytest.mark.parametrize("atomic", [False, True])
async def test_while_one_name_fails_the_backup_of_another_stays_the_old_one(
    tmp_path: Path, atomic: bool
) -> None:
    """Its data comes anew each time, since the group's first name cannot have it; then it can."""
    source = linked(tmp_path / "source", "abc", b"the new one")
    target = make_tree(tmp_path / "target", {"a": {"x": b"in the way"}, "b": b"old", "c": b"old c"})
    for _ in range(3):
        report = await transfer(source, target, KEEPING)
        assert [problem.path for problem in report.problems] == [b"a"]
        assert (target / "b").read_bytes() == b"the new one"
        assert (target / ".old" / "b").read_bytes() == b"old"
        assert (target / ".old" / "c").read_bytes() == b"old c"
    shutil.rmtree(target / "a")
    at_last = msgspec.structs.replace(KEEPING, atomic=atomic)
    assert not (await transfer(source, target, at_last)).problems
    assert (target / "a").samefile(target / "b")
    assert (target / "a").samefile(target / "c")
    assert (target / ".old" / "b").read_bytes() == b"old"
    assert (target / ".old" / "c").read_bytes() == b"old c"


@pytest.mark.parametrize("atomic", [False, True])
async def test_what_only_looks_equal_is_backed_up(tmp_path: Path, atomic: bool) -> None:
    """Size and time pass for equality where nothing is replaced; a link replaces."""
    options = msgspec.structs.replace(KEEPING, atomic=atomic)
    source = linked(tmp_path / "source", "ab", b"one")
    target = linked(linked(tmp_path / "target", "a", b"one"), "b", b"two")
    assert not (await transfer(source, target, options)).problems
    assert (target / "a").samefile(target / "b")
    assert (target / "b").read_bytes() == b"one"
    assert (target / ".old" / "b").read_bytes() == b"two"


@pytest.mark.parametrize("atomic", [False, True])
async def test_equal_names_that_become_one_file_need_no_backup(
    tmp_path: Path, atomic: bool
) -> None:
    """Nothing is lost with the inode of their own."""
    options = msgspec.structs.replace(KEEPING, atomic=atomic)
    source = linked(tmp_path / "source", "ab", b"one")
    target = linked(linked(tmp_path / "target", "a", b"one"), "b", b"one")
    make_tree(target, {".old": {"b": b"of a run before"}})
    assert not (await transfer(source, target, options)).problems
    assert (target / "a").samefile(target / "b")
    assert (target / ".old" / "b").read_bytes() == b"of a run before"

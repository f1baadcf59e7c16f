"""The stage: what a cut leaves is found again, by us alone, and not for ever."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netsync.tree.large_files import BUSY_SECONDS, EXPIRY_SECONDS, Stage
from netsync.tree.partials import ALIGNMENT, Resumable, key_of
from netsync.tree.stage import Staged
from netsync.tree.stage_directory import STAGE_NAME, lock_session, open_stage, session_names
from tests.support.confined import as_nobody, needs_known_calls, needs_root, without_unnamed_files
from tests.support.trees import make_tree, needs_mount, open_descriptors, opened, small_disk

PART = 3 * ALIGNMENT


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    before = open_descriptors()
    yield make_tree(tmp_path / "root", {"dir": {}})
    assert open_descriptors() <= before


def stage_of(root: Path) -> Path:
    return root / os.fsdecode(STAGE_NAME)


def left(root: Path) -> list[Path]:
    """Return the files in the stage."""
    return sorted(stage_of(root).glob("*/*"))


def cut(root: Path, path: bytes, content: bytes) -> None:
    """Stage ``content`` for ``path`` and leave it there, as a session that dies does."""
    with opened(root) as fd:
        stage = Stage(fd)
        stage.open()
        with opened(root / os.fsdecode(os.path.dirname(path))) as directory:
            staged = stage.create(directory, path)
            assert isinstance(staged, Resumable)
            os.write(staged.fd, content)
            staged.keep(directory)
        stage.close()


def found(root: Path, path: bytes, **more: float) -> bytes | None:
    """Return what the next session finds of ``path``; it leaves it there."""
    with opened(root) as fd:
        stage = Stage(fd)
        stage.open(**more)
        partial = stage.find(path)
        content = None
        if partial is not None:
            held = partial.open()
            content = os.pread(held, partial.size, 0)
            os.close(held)
        stage.close()
    return content


def test_what_is_published_leaves_no_stage_and_no_trace_in_the_roots_time(root: Path) -> None:
    os.utime(root, ns=(0, 10**18))
    with opened(root) as fd, opened(root / "dir") as directory:
        stage = Stage(fd)
        stage.open()
        staged = stage.create(directory, b"dir/f")
        os.write(staged.fd, b"content")
        assert stat.S_IMODE(stage_of(root).stat().st_mode) == 0o700
        staged.publish(directory, b"f", replace=False)
        staged.close()
        stage.close()
    assert (root / "dir" / "f").read_bytes() == b"content"
    assert not stage_of(root).exists()
    assert root.stat().st_mtime_ns == 10**18


def test_what_is_cut_is_found_by_its_path_and_counts_in_whole_steps(root: Path) -> None:
    cut(root, b"dir/f", b"x" * (PART + 77))
    assert found(root, b"dir/f") == b"x" * PART
    assert found(root, b"dir/g") is None
    assert found(root, b"dir/f") == b"x" * PART


def test_less_than_a_step_is_not_kept(root: Path) -> None:
    cut(root, b"dir/f", b"x" * (ALIGNMENT - 1))
    assert not stage_of(root).exists()


def test_of_two_partials_the_longer_stays(root: Path) -> None:
    cut(root, b"f", b"1" * ALIGNMENT)
    with opened(root) as fd:
        stage = Stage(fd)
        stage.open()
        second = stage.create(fd, b"f")
        os.write(second.fd, b"2" * PART)
        second.keep(fd)
        stage.close()
    assert found(root, b"f") == b"2" * PART
    assert len(left(root)) == 1


def test_partials_expire_whatever_their_own_time_says(root: Path) -> None:
    cut(root, b"f", b"x" * PART)
    os.utime(left(root)[0], ns=(0, 0))
    assert found(root, b"f") is not None
    assert found(root, b"f", now=time.time() + EXPIRY_SECONDS + 60) is None
    assert not stage_of(root).exists()


def test_a_partial_of_a_complete_file_is_removed(root: Path) -> None:
    cut(root, b"f", b"x" * PART)
    with opened(root) as fd:
        stage = Stage(fd)
        stage.open()
        stage.forget(b"f")
        stage.close()
    assert not stage_of(root).exists()


def test_a_resumed_file_is_the_partial_itself(root: Path) -> None:
    cut(root, b"dir/f", b"x" * (PART + 5))
    with opened(root) as fd, opened(root / "dir") as directory:
        stage = Stage(fd)
        stage.open()
        partial = stage.find(b"dir/f")
        assert partial is not None
        inode = left(root)[0].stat().st_ino
        resumed = stage.resume(directory, b"dir/f", partial)
        assert resumed is not None
        assert os.fstat(resumed.fd).st_ino == inode
        os.pwrite(resumed.fd, b"y", PART)
        resumed.publish(directory, b"f", replace=False)
        resumed.close()
        stage.close()
    assert (root / "dir" / "f").read_bytes() == b"x" * PART + b"y"
    assert not stage_of(root).exists()


@pytest.mark.parametrize("change", ["mode", "attribute"])
def test_what_would_be_another_file_is_only_read(root: Path, change: str) -> None:
    cut(root, b"f", b"x" * PART)
    (partial_path,) = left(root)
    if change == "mode":
        partial_path.chmod(0o644)
    else:
        try:
            os.setxattr(partial_path, "user.x", b"1")
        except OSError:
            pytest.skip("no extended attributes here")
    with opened(root) as fd:
        stage = Stage(fd)
        stage.open()
        partial = stage.find(b"f")
        assert partial is not None
        assert stage.resume(fd, b"f", partial) is None
        stage.close()


def test_a_living_session_keeps_its_own(root: Path) -> None:
    """Its work is neither taken nor swept, and it is waited for, but not for long."""
    waits: list[float] = []
    with opened(root) as fd:
        alive = Stage(fd)
        alive.open()
        staged = alive.create(fd, b"f")
        os.write(staged.fd, b"x" * PART)
        other = Stage(fd, sleep=waits.append)
        other.open(now=time.time() + 2 * EXPIRY_SECONDS)
        assert other.find(b"g") is None
        assert waits == []
        assert other.find(b"f") is None
        assert sum(waits) == pytest.approx(BUSY_SECONDS)
        assert other.find(b"f") is None
        assert sum(waits) == pytest.approx(BUSY_SECONDS)
        other.close()
        staged.publish(fd, b"f", replace=False)
        staged.close()
        alive.close()
    assert (root / "f").read_bytes() == b"x" * PART
    assert not stage_of(root).exists()


def test_a_session_that_ends_while_it_is_waited_for_leaves_its_partial(root: Path) -> None:
    with opened(root) as fd:
        alive = Stage(fd)
        alive.open()
        staged = alive.create(fd, b"f")
        os.write(staged.fd, b"x" * PART)

        def end(_: float) -> None:
            staged.keep(fd)
            alive.close()

        other = Stage(fd, sleep=end)
        other.open()
        partial = other.find(b"f")
        assert partial is not None
        assert partial.size == PART
        other.close()


def test_a_stage_that_is_removed_under_our_hands_is_made_anew(root: Path) -> None:
    with opened(root) as fd:
        ours = Stage(fd)
        stage_of(root).mkdir(0o700)
        ours.open()
        stage_of(root).rmdir()
        staged = ours.create(fd, b"f")
        assert isinstance(staged, Resumable)
        staged.discard(fd)
        ours.close()
    assert not stage_of(root).exists()


def test_a_subdirectory_is_locked_once(root: Path) -> None:
    cut(root, b"f", b"x" * PART)
    with opened(root) as fd:
        stage = open_stage(fd)
        assert stage is not None
        (name,) = session_names(stage)
        first = lock_session(stage, name)
        assert first is not None
        assert lock_session(stage, name) is None
        first.release(stage)
        assert session_names(stage) == [name]
        os.close(stage)


# What others put there


def as_link(path: Path) -> None:
    make_tree(path.parent / "elsewhere", {})
    path.symlink_to("elsewhere")


def as_file(path: Path) -> None:
    path.write_bytes(b"mine")


def open_to_others(path: Path) -> None:
    path.mkdir(0o700)
    path.chmod(0o755)


def of_another_user(path: Path) -> None:
    path.mkdir(0o700)
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize(
    "plant",
    [as_link, as_file, open_to_others, pytest.param(of_another_user, marks=needs_root)],
    ids=lambda plant: getattr(plant, "__name__", None),
)
def test_a_stage_that_is_not_ours_alone_is_not_used(
    root: Path, plant: Callable[[Path], None]
) -> None:
    """Neither read nor written nor removed; files are staged beside their place, and we say so."""
    plant(stage_of(root))
    if stage_of(root).is_dir() and not stage_of(root).is_symlink():
        make_tree(stage_of(root), {"session-1": {os.fsdecode(key_of(b"f")): b"x" * PART}})
    with opened(root) as fd:
        stage = Stage(fd, b"run")
        stage.open()
        assert "at the destination" in stage.refused
        assert stage.find(b"f") is None
        assert stage.open_ledger() == -1
        staged = stage.create(fd, b"f")
        assert isinstance(staged, Staged)
        staged.discard(fd)
        stage.close()
    assert os.path.lexists(stage_of(root))


@needs_root
def test_a_partial_that_is_a_link_or_has_another_name_is_removed_not_used(root: Path) -> None:
    """What is written to it would be written elsewhere."""
    victim = make_tree(root, {"victim": b"v" * PART}) / "victim"
    for name in (b"hard", b"soft", b"fifo"):
        cut(root, name, b"x" * PART)
    for path in left(root):
        name = path.name.encode()
        if name == key_of(b"hard"):
            path.unlink()
            path.hardlink_to(victim)
        elif name == key_of(b"soft"):
            path.unlink()
            path.symlink_to(victim)
        else:
            path.unlink()
            os.mkfifo(path)
    assert [found(root, name) for name in (b"hard", b"soft", b"fifo")] == [None] * 3
    assert victim.read_bytes() == b"v" * PART
    assert not stage_of(root).exists()


@needs_root
def test_where_we_may_not_make_a_stage_files_are_staged_beside(root: Path) -> None:
    root.parent.chmod(0o755)
    root.chmod(0o755)
    (root / "dir").chmod(0o777)
    with opened(root) as fd, opened(root / "dir") as directory:

        def stage_one() -> bool:
            stage = Stage(fd)
            stage.open()
            staged = stage.create(directory, b"dir/f")
            staged.discard(directory)
            stage.close()
            return isinstance(staged, Staged)

        assert as_nobody(stage_one)
    assert not stage_of(root).exists()


# What the final directory gives


@needs_root
def test_group_and_rights_are_those_of_a_file_made_in_its_place(root: Path) -> None:
    os.chown(root / "dir", 0, 4321)
    (root / "dir").chmod(0o2775)
    acl = subprocess.run(
        ["setfacl", "-d", "-m", "u:1234:rwx", str(root / "dir")], check=False, capture_output=True
    ) if _has("setfacl") else None  # fmt: skip
    with opened(root) as fd, opened(root / "dir") as directory:
        stage = Stage(fd)
        stage.open()
        staged = stage.create(directory, b"dir/f")
        assert isinstance(staged, Resumable)
        staged.publish(directory, b"f", replace=False)
        beside = Staged.create(directory)
        one, other = os.fstat(staged.fd), os.fstat(beside.fd)
        assert (one.st_gid, one.st_mode) == (other.st_gid, other.st_mode)
        assert one.st_gid == 4321
        assert _attributes(staged.fd) == _attributes(beside.fd)
        if acl is not None and acl.returncode == 0:
            assert "system.posix_acl_access" in _attributes(staged.fd)
        beside.close()
        staged.close()
        stage.close()


def _has(program: str) -> bool:
    return subprocess.run(["which", program], capture_output=True, check=False).returncode == 0


def _attributes(fd: int) -> dict[str, bytes]:
    return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}


@needs_mount
def test_behind_a_mount_point_files_are_staged_beside(root: Path) -> None:
    with small_disk(root / "dir", 1 << 20), opened(root) as fd, opened(root / "dir") as directory:
        stage = Stage(fd)
        stage.open()
        staged = stage.create(directory, b"dir/f")
        assert isinstance(staged, Staged)
        staged.publish(directory, b"f", replace=False)
        staged.close()
        stage.close()
    assert not stage_of(root).exists()


@needs_mount
def test_behind_a_bind_mount_too_though_the_device_is_the_same(root: Path) -> None:
    subprocess.run(["mount", "--bind", root / "dir", root / "dir"], check=True)
    try:
        with opened(root) as fd, opened(root / "dir") as directory:
            assert os.fstat(fd).st_dev == os.fstat(directory).st_dev
            stage = Stage(fd)
            stage.open()
            staged = stage.create(directory, b"dir/f")
            assert isinstance(staged, Staged)
            staged.discard(directory)
            stage.close()
    finally:
        subprocess.run(["umount", "--lazy", root / "dir"], check=True)
    assert not stage_of(root).exists()


@needs_known_calls
def test_without_unnamed_files_a_named_one_moves_to_the_stage(root: Path) -> None:
    def work() -> None:
        cut(root, b"dir/f", b"x" * PART)

    without_unnamed_files(work)
    assert os.listdir(root / "dir") == []
    assert found(root, b"dir/f") == b"x" * PART

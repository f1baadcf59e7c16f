"""Disks of their own that run out of inodes or quota, go read-only, vanish or stand still.

F20, F21, F28, F29, F31 to F33. What the kernel says, in place of what we say in its name.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.places import differences
from tests.support.power import disk
from tests.support.processes import Result, netsync, running, serving, succeed
from tests.support.samples import MIB, contents, random_bytes, write
from tests.support.trees import needs_mount, temporaries

pytestmark = needs_mount

SLOW = ("--bwlimit", "3M", "--delete")


def run(*words: str) -> None:
    """Run a command of the system that must succeed."""
    subprocess.run(words, check=True, capture_output=True)


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """Hold a mount at ``place``."""
    place.mkdir(exist_ok=True)
    run("mount", *options, str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)


def is_full(result: Result, words: str) -> None:
    """See that a run ended as one for which there was no room."""
    assert result.code == 11, result
    assert words in result.stderr.splitlines()[-1]


def many(base: Path, seed: int, count: int = 60) -> Path:
    """Make a tree of small files and a larger one."""
    files = {f"d{n % 5}/f{n}": random_bytes(2000 + n, seed * 1000 + n) for n in range(count)}
    return write(base, {**files, "large": random_bytes(6 * MIB, seed)})


def is_under_way(target: Path) -> bool:
    """Tell whether a part of the large file has arrived."""
    staged = [path for path in target.glob(".netsync/session-*/*") if path.is_file()]
    return sum(path.stat().st_size for path in staged) >= MIB


def is_old_or_new(target: Path, old: Path, new: Path) -> None:
    """See that each file is one of its versions, and no file of both is missing."""
    before, after, now = contents(old), contents(new), contents(target)
    for path, each in now.items():
        if b".netsync" not in path:
            assert each in (before.get(path), after.get(path)), path
    assert before.keys() & after.keys() <= now.keys()


def test_inodes_run_out(tmp_path: Path) -> None:
    source = many(tmp_path / "source", 1)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=40m,nr_inodes=40", "none") as place:
        target = place / "target"
        is_full(netsync("push", f"{source}/", target), "no space left on device")
        assert temporaries(place) == []
        run("mount", "-o", "remount,nr_inodes=400", str(place))
        succeed("push", f"{source}/", target)
        assert differences(source, target) == ""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mkfs.btrfs") is None, reason="btrfs-progs is not installed")
def test_a_quota_is_used_up(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {f"f{n}": random_bytes(MIB, n) for n in range(12)})
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(256 * MIB)
    run("mkfs.btrfs", "-q", str(image))
    with mounted(tmp_path / "disk", "-o", "loop", str(image)) as place:
        run("btrfs", "quota", "enable", str(place))
        run("btrfs", "subvolume", "create", str(place / "sub"))
        run("btrfs", "qgroup", "limit", "8M", str(place / "sub"))
        target = place / "sub" / "target"
        is_full(netsync("push", f"{source}/", target, seconds=60), "quota exceeded")
        assert temporaries(place) == []
        run("btrfs", "qgroup", "limit", "none", str(place / "sub"))
        succeed("push", f"{source}/", target, seconds=60)
        assert differences(source, target) == ""


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["push", "pull"])
def test_the_disk_goes_read_only_under_a_run(tmp_path: Path, direction: str) -> None:
    """As ext4 does after an error: what is there stays, and mounted anew the next run ends well."""
    old, new = many(tmp_path / "m" / "old", 1), many(tmp_path / "m" / "new", 2)
    with disk(tmp_path, "ext4") as power, serving("--module", f"m={tmp_path}") as server:
        target = power.place / "target"
        succeed("push", f"{old}/", target)
        ends = (f"{new}/", server.url("m/disk/target"))
        if direction == "pull":
            ends = (server.url("m/m/new/"), str(target))
        with running(direction, *SLOW, *ends) as command:
            command.wait_for(lambda: is_under_way(target), "it works")
            run("mount", "-o", "remount,abort", str(power.place))
            result = command.wait()
        assert result.code == 11, result
        assert any(words in result.stderr for words in ("read-only", "input/output error"))
        is_old_or_new(target, old, new)
        power.restart()
        assert netsync(direction, "--delete", *ends).code == 0
        assert differences(new, target) == ""
        assert temporaries(power.place) == []


@pytest.mark.parametrize("vanishes", [pytest.param("source", marks=pytest.mark.slow), "target"])
def test_a_mount_vanishes_under_a_run(tmp_path: Path, vanishes: str) -> None:
    """The run stays on the disk that it began on; what lies below the mount is never taken for it.

    The next run finds an empty directory in the source's place, and holds its deletes.
    """
    old, new = many(tmp_path / "old", 1), many(tmp_path / "new", 2)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "none") as place:
        shutil.copytree(new if vanishes == "source" else old, place / "tree")
        source, target = place / "tree", tmp_path / "old"
        if vanishes == "target":
            source, target = new, place / "tree"
        state = tmp_path / "state"
        succeed("push", "--dry-run", "--delete", f"{source}/", target, state=state)
        with running("push", *SLOW, f"{source}/", target) as command:
            command.wait_for(lambda: is_under_way(target), "it works")
            run("umount", "--lazy", str(place))
            result = command.wait()
        assert result.code == 0, result
        assert list(place.iterdir()) == []
        if vanishes == "source":
            assert contents(target) == contents(new)
            (place / "tree").mkdir()
            assert netsync("push", "--delete", f"{source}/", target, state=state).code == 25
            assert contents(target) == contents(new)


@pytest.mark.slow
def test_a_disk_stands_still(tmp_path: Path) -> None:
    """Others are served meanwhile, nobody gives up, and when it moves again the run ends well."""
    source = many(tmp_path / "source", 1)
    elsewhere = many(tmp_path / "elsewhere", 2)
    with disk(tmp_path, "ext4") as power:
        modules = ("--module", f"m={power.place}", "--module", f"n={elsewhere}")
        with serving(*modules) as server:
            words = ("push", *SLOW, "--timeout", "3", f"{source}/", server.url("m/target"))
            with running(*words) as command, frozen(power.place, command_seconds=6):
                started = time.monotonic()
                assert netsync("ls", server.url("n/")).code == 0
                assert command.running
                assert time.monotonic() - started < 5, "the other module had to wait"
                assert command.wait(40).code == 0
        assert differences(source, power.place / "target") == ""


@contextlib.contextmanager
def frozen(place: Path, command_seconds: int) -> Iterator[None]:
    """Freeze a file system for so long. Another process thaws it, whatever becomes of this one."""
    words = f"sleep {command_seconds}; fsfreeze -u '{place}'"
    thaw = subprocess.Popen(["sh", "-c", words], stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)  # so that the command is under way
        run("fsfreeze", "-f", str(place))
        yield
    finally:
        subprocess.run(["fsfreeze", "-u", str(place)], check=False, capture_output=True)
        thaw.kill()
        thaw.wait()


READS: Final = "pread64,preadv,preadv2,read:error=EIO"
"""All calls by which Python reads a file fail."""
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def injecting(path: Path, spec: str) -> list[str]:
    """Return the words that run a command in which calls on ``path`` fail as ``spec`` says."""
    call = spec.partition(":")[0]
    quiet = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", str(path)]
    return [*quiet, "-e", f"trace={call}", "-e", f"inject={spec}"]


@needs_strace
def test_a_source_file_that_cannot_be_read_is_told_and_nothing_is_deleted(tmp_path: Path) -> None:
    """Exit code 23; its old version stays, all else arrives, and nothing goes."""
    old, new = many(tmp_path / "old", 1), many(tmp_path / "new", 2)
    (old / "goes").write_bytes(b"1")
    before = (old / "large").read_bytes()
    broken = injecting(new / "large", READS)
    with running("push", "--json", "--delete", f"{new}/", old, within=broken) as command:
        result = command.wait()
    assert result.code == 23, result
    assert "large: input/output error" in result.stderr
    assert (old / "large").read_bytes() == before
    assert (old / "goes").exists()
    assert (old / "d1" / "f1").read_bytes() == (new / "d1" / "f1").read_bytes()
    assert temporaries(old) == []


@needs_strace
def test_a_basis_that_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    """A delta against a file whose blocks are gone is no use: it is sent in full."""
    content = random_bytes(6 * MIB, 1)
    source = write(tmp_path / "source", {"f": content + b"new"})
    target = write(tmp_path / "target", {"f": content})
    broken = injecting(target / "f", READS)
    with serving("--module", f"m={target}", within=broken) as server:
        result = netsync("push", "--json", f"{source}/", server.url("m/"))
    assert result.code == 0, result
    assert (target / "f").read_bytes() == content + b"new"
    assert temporaries(target) == []

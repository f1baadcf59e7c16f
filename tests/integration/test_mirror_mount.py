"""``netsync mirror`` from outside: a mount, a standby behind TLS, signals and exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netsync.operation import Write
from tests.support.mirrors import COPY, MODULE, Pair
from tests.support.mounts import MountedPair, Served
from tests.support.places import differences
from tests.support.processes import Process, Server, netsync, running, succeed, wait_until

pytestmark = pytest.mark.timeout(150)
SECONDS = 40.0
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture
def mounted(pair: Pair) -> MountedPair:
    return MountedPair(pair)


@pytest.fixture
def standby(pair: Pair) -> Iterator[Server]:
    with pair.standby() as server:
        yield server


def equal(pair: Pair) -> bool:
    return differences(pair.source, pair.copy, "--omit-dir-times") == ""


def fsynced(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


@pytest.mark.usefixtures("standby")
def test_what_is_flushed_is_on_the_standby(mounted: MountedPair) -> None:
    pair = mounted.pair
    (pair.source / "before").write_text("there before")
    with mounted.primary() as primary:
        assert (mounted.mount / "before").read_text() == "there before"
        assert (pair.copy / "before").read_text() == "there before"
        (mounted.mount / "d").mkdir()
        fsynced(mounted.mount / "d" / "file", b"content")
        os.rename(mounted.mount / "d" / "file", mounted.mount / "file")
        os.link(mounted.mount / "file", mounted.mount / "second")
        os.chmod(mounted.mount / "file", 0o4711)
        os.setxattr(mounted.mount / "file", "user.kept", b"yes")
        os.symlink("file", mounted.mount / "link")
        result = mounted.end(primary)
    assert result.code == 0, result.stderr
    assert os.listdir(mounted.mount) == []
    wait_until(lambda: equal(pair), "the copy is equal")
    assert os.getxattr(pair.copy / "second", "user.kept") == b"yes"
    assert (pair.copy / "second").stat().st_nlink == 2


@pytest.mark.usefixtures("standby")
def test_a_crash_leaves_a_mount_that_fails_and_the_next_start_cleans_up(
    mounted: MountedPair,
) -> None:
    with mounted.primary() as primary:
        fsynced(mounted.mount / "file", b"safe")
        fd = os.open(mounted.mount / "file", os.O_RDWR)
        primary.process.kill()
        primary.process.wait()
        for call in (lambda: os.listdir(mounted.mount), lambda: os.pwrite(fd, b"x", 0)):
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
                call()
            assert caught.value.errno in DEAD
        with pytest.raises(OSError):  # noqa: PT011
            os.close(fd)
        with mounted.primary() as again:
            assert (mounted.mount / "file").read_bytes() == b"safe"
            assert mounted.end(again).code == 0


@pytest.mark.usefixtures("standby")
def test_a_mount_in_use_is_not_torn_away(mounted: MountedPair) -> None:
    with mounted.primary() as primary:
        with open(mounted.mount / "file", "wb", buffering=0) as file:
            user = subprocess.Popen(["sleep", "100"], cwd=mounted.mount)
            try:
                primary.signal(signal.SIGTERM)
                primary.wait_for(lambda: "is in use by" in primary.stderr, "it says by whom")
                assert f"sleep ({user.pid})" in primary.stderr
                file.write(b"still accepted")
                os.fsync(file.fileno())
            finally:
                user.kill()
                user.wait()
        assert primary.wait(SECONDS).code == 0
    assert (mounted.pair.copy / "file").read_bytes() == b"still accepted"


@pytest.mark.usefixtures("standby")
def test_a_second_signal_waits_for_nobody(mounted: MountedPair) -> None:
    with mounted.primary() as primary:
        fd = os.open(mounted.mount / "file", os.O_CREAT | os.O_WRONLY)
        primary.signal(signal.SIGTERM)
        primary.wait_for(lambda: "a second signal" in primary.stderr, "it says how to go on")
        primary.signal(signal.SIGTERM)
        assert primary.wait(SECONDS).code == 0
        for call in (lambda: os.write(fd, b"too late"), lambda: os.close(fd)):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                call()
            assert caught.value.errno in DEAD


def test_while_the_standby_is_lost_flushes_wait(mounted: MountedPair) -> None:
    pair = mounted.pair
    with pair.standby() as first, mounted.primary() as primary:
        fsynced(mounted.mount / "file", b"one")
        first.process.kill()
        first.process.wait()
        (mounted.mount / "plain").write_bytes(b"needs no answer")
        writer = subprocess.Popen(
            ["dd", "if=/dev/zero", f"of={mounted.mount}/waiting", "bs=4k", "count=1",
             "conv=fsync"], stderr=subprocess.DEVNULL,
        )  # fmt: skip
        primary.wait_for(lambda: "is lost" in primary.stderr, "it says so")
        assert writer.poll() is None
        with pair.standby():
            assert writer.wait(SECONDS) == 0
            assert (pair.copy / "waiting").stat().st_size == 4096 or not equal(pair)
            assert mounted.end(primary).code == 0
            wait_until(lambda: equal(pair), "the copy is equal")


@contextlib.contextmanager
def flush_that_waits(
    mounted: MountedPair, standby: Process, primary: Process
) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who waits for a standby that is lost, and whom nobody can kill."""
    standby.process.kill()
    standby.process.wait()
    writer = subprocess.Popen(
        ["dd", "if=/dev/zero", f"of={mounted.mount}/waiting", "bs=4k", "count=1", "conv=fsync"],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until((mounted.mount / "waiting").exists, "it has written")
        primary.wait_for(lambda: "is lost" in primary.stderr, "it says so")
        writer.kill()
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(1)
        yield writer
    finally:
        writer.wait(SECONDS)


def test_a_second_signal_frees_who_waits_for_a_lost_standby(mounted: MountedPair) -> None:
    """Where not even SIGKILL does: the kernel waits for the mount's answer."""
    with mounted.pair.standby() as standby, mounted.primary() as primary:
        with flush_that_waits(mounted, standby, primary):
            primary.signal(signal.SIGTERM)
            primary.wait_for(lambda: "a second signal" in primary.stderr, "it says how to go on")
            primary.signal(signal.SIGTERM)
        primary.signal(signal.SIGTERM)
        assert primary.wait(SECONDS).code == 13


def test_aborting_the_mount_frees_who_waits_for_a_lost_standby(mounted: MountedPair) -> None:
    """Where the mirror itself does not answer; what is there then fails like after a crash."""
    with mounted.pair.standby() as standby, mounted.primary() as primary:
        with flush_that_waits(mounted, standby, primary):
            primary.signal(signal.SIGSTOP)
            subprocess.run(["umount", "-f", mounted.mount], check=False, timeout=SECONDS)
        with pytest.raises(OSError) as caught:  # noqa: PT011
            os.listdir(mounted.mount)
        assert caught.value.errno in DEAD
        primary.process.kill()
        primary.process.wait()


def test_a_standby_that_was_promoted_is_not_waited_for(mounted: MountedPair) -> None:
    """Nothing will come back: that is said, what is there can be read, and nothing be written."""
    pair = mounted.pair
    with pair.standby(), mounted.primary() as primary:
        fsynced(mounted.mount / "file", b"one")
        succeed("promote", f"{MODULE}/{COPY}", "--state", pair.state)
        primary.wait_for(lambda: "not ours any more" in primary.stderr, "it says so")
        assert "is lost" not in primary.stderr
        assert "promoted" in primary.stderr
        assert (mounted.mount / "file").read_bytes() == b"one"
        with pytest.raises(OSError) as caught:  # noqa: PT011
            (mounted.mount / "new").touch()
        assert caught.value.errno == errno.EROFS
        assert mounted.end(primary).code == 0, "the promoted one has all that was written"
    assert (pair.copy / "file").read_bytes() == b"one"


def test_with_error_a_flush_fails_and_stays_failed(mounted: MountedPair) -> None:
    pair = mounted.pair
    options = "--on-standby-loss", "error", "--loss-timeout", "500ms"
    with pair.standby() as first, mounted.primary(*options) as primary:
        held = os.open(mounted.mount / "file", os.O_CREAT | os.O_RDWR)
        os.write(held, b"one")
        os.fsync(held)
        first.process.kill()
        first.process.wait()
        os.write(held, b"two")
        for _ in range(2):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                os.fsync(held)
            assert caught.value.errno == errno.EIO
        with pytest.raises(OSError) as caught:  # noqa: PT011
            (mounted.mount / "new").touch()
        assert caught.value.errno == errno.EROFS
        assert (mounted.mount / "file").read_bytes() == b"onetwo"
        with pair.standby():
            primary.wait_for(lambda: "in step" in primary.stderr, "the standby is back")
            fsynced(mounted.mount / "new", b"goes on")
            with pytest.raises(OSError):  # noqa: PT011 - whoever had it open must hear of it
                os.fsync(held)
            with pytest.raises(OSError):  # noqa: PT011
                os.close(held)
            fsynced(mounted.mount / "file", b"three")
            assert mounted.end(primary).code == 0
            wait_until(lambda: equal(pair), "the copy is equal")


def test_with_degrade_it_goes_on_alone_and_makes_up_for_it(mounted: MountedPair) -> None:
    pair = mounted.pair
    options = "--on-standby-loss", "degrade", "--loss-timeout", "500ms"
    with pair.standby() as first, mounted.primary(*options) as primary:
        fsynced(mounted.mount / "file", b"one")
        first.process.kill()
        first.process.wait()
        fsynced(mounted.mount / "file", b"alone")
        os.rename(mounted.mount / "file", mounted.mount / "renamed")
        fsynced(mounted.mount / "other", b"o" * 100_000)
        primary.wait_for(lambda: "is stale" in primary.stderr, "it says so")
        with pair.standby():
            primary.wait_for(lambda: "is in step" in primary.stderr, "it has made up")
            fsynced(mounted.mount / "again", b"both")
            assert mounted.end(primary).code == 0
            wait_until(lambda: equal(pair), "the copy is equal")


def test_ending_without_the_last_answer_says_so(mounted: MountedPair) -> None:
    with mounted.pair.standby() as standby, mounted.primary() as primary:
        standby.process.kill()
        standby.process.wait()
        (mounted.mount / "file").write_bytes(b"not there yet")
        primary.signal(signal.SIGTERM)
        wait_until(lambda: os.listdir(mounted.mount) == [], "unmounted")
        primary.signal(signal.SIGTERM)
        result = primary.wait(SECONDS)
    assert result.code == 13
    assert "the last operation" in result.stderr


@pytest.mark.parametrize("where", ["inside", "around", "same", "full", "missing"])
def test_a_mount_that_would_hide_or_show_itself_is_refused(pair: Pair, where: str) -> None:
    (pair.source / "inner").mkdir()
    (pair.base / "full").mkdir()
    (pair.base / "full" / "file").touch()
    mountpoint = {
        "inside": pair.source / "inner",
        "around": pair.base,
        "same": pair.source,
        "full": pair.base / "full",
        "missing": pair.base / "nowhere",
    }[where]
    result = netsync("mirror", pair.source, "nowhere::m/copy", "--mount", mountpoint)
    assert result.code == 1
    words = {"inside": "lies in", "around": "lies in it", "same": "lies in", "full": "not empty",
             "missing": "no such file"}[where]  # fmt: skip
    assert words in result.stderr
    assert str(mountpoint) in result.stderr


def test_a_standby_that_is_not_there_is_waited_for_and_told_of(mounted: MountedPair) -> None:
    with mounted.pair.standby():
        pass  # now its port is known, and nobody listens there
    url = f"netsync://127.0.0.1:{mounted.pair.port}/m/copy"
    with running("mirror", mounted.pair.source, url, "--mount", mounted.mount) as process:
        process.wait_for(lambda: "not reached yet" in process.stderr, "it says so")
        assert "refused" in process.stderr
        process.signal(signal.SIGTERM)
        result = process.wait(SECONDS)
    assert result.code == 20
    assert "interrupted by SIGTERM" in result.stderr


def test_a_local_standby_is_refused(tmp_path: Path) -> None:
    result = netsync("mirror", tmp_path, tmp_path / "copy", "--mount", tmp_path / "mount")
    assert result.code == 1
    assert "HOST::MODULE/PATH" in result.stderr


OPEN = "fd = os.open(name, os.O_RDWR); "
FLUSHES = {
    "fsync": OPEN + "os.write(fd, b'x'); begin(); os.fsync(fd)",
    "fdatasync": OPEN + "os.write(fd, b'x'); begin(); os.fdatasync(fd)",
    "directory": "os.mkdir('new'); begin(); os.fsync(os.open('.', os.O_RDONLY))",
    "O_SYNC": "begin(); os.write(os.open(name, os.O_RDWR | os.O_SYNC), b'x')",
    "O_DSYNC": "begin(); os.write(os.open(name, os.O_RDWR | os.O_DSYNC), b'x')",
    "RWF_DSYNC": OPEN + "begin(); os.pwritev(fd, [b'x'], 0, os.RWF_DSYNC)",
    "msync": OPEN + "m = mmap.mmap(fd, 9); m[0] = 7; begin(); m.flush()",
}
BY_OPTION = {
    "close": OPEN + "os.write(fd, b'x'); begin(); os.close(fd)",
    "create": "begin(); os.open('created', os.O_CREAT | os.O_RDWR)",
    "mkdir": "begin(); os.mkdir('made')",
    "rename": "begin(); os.rename(name, 'renamed')",
    "unlink": "begin(); os.unlink(name)",
}
PROLOGUE = """
import mmap, os, sys
os.chdir(sys.argv[1])
name = sys.argv[2]
begin = lambda: os.write(1, b".")
"""


@contextlib.contextmanager
def stopped(server: Server) -> Iterator[None]:
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("options", "programs"),
    [((), FLUSHES), (("--sync-on-close", "--sync-names"), BY_OPTION)],
    ids=["flushes", "by-option"],
)
def test_what_says_that_it_is_safe_waits_for_the_standby(
    mounted: MountedPair, standby: Server, options: tuple[str, ...], programs: dict[str, str]
) -> None:
    """While the standby is stopped none of them returns; as soon as it goes on all do."""
    with mounted.primary(*options) as primary:
        for name in programs:
            (mounted.mount / name).write_bytes(b"something")
        with stopped(standby):
            begun = {
                name: subprocess.Popen(
                    [sys.executable, "-c", PROLOGUE + code, mounted.mount, name],
                    stdout=subprocess.PIPE,
                )
                for name, code in programs.items()
            }
            for process in begun.values():
                assert process.stdout is not None
                assert process.stdout.read(1) == b"."
            time.sleep(0.5)  # long enough for what does not wait
            assert {name for name, each in begun.items() if each.poll() is not None} == set()
        for name, process in begun.items():
            with process:
                assert process.wait(SECONDS) == 0, name
        assert mounted.end(primary).code == 0


def test_what_is_not_flushed_waits_for_nobody(mounted: MountedPair, standby: Server) -> None:
    with mounted.primary() as primary:
        with stopped(standby):
            (mounted.mount / "file").write_bytes(b"something")
            os.rename(mounted.mount / "file", mounted.mount / "other")
            assert (mounted.mount / "other").read_bytes() == b"something"
        assert mounted.end(primary).code == 0


def test_a_full_disk_behind_the_mount_says_so(tmp_path: Path) -> None:
    served = Served(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", served.directory], check=True)
    try:
        with served:
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
                (served.mountpoint / "file").write_bytes(bytes(2 << 20))
            assert caught.value.errno == errno.ENOSPC
            kept = (served.directory / "file").stat().st_size
            (served.mountpoint / "file").write_bytes(b"fits again")
        assert (served.directory / "file").read_bytes() == b"fits again"
        logged = [each for each in served.operations() if isinstance(each, Write)]
        assert sum(len(each.data) for each in logged) == kept + len(b"fits again")
    finally:
        subprocess.run(["umount", served.directory], check=True)

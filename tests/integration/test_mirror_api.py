"""``netsync.mirror`` for Python: what was committed is on the standby, in trio and out of it."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from netsync.errors import RefusedError, UsageError
from netsync.mirror import Indeterminate, Mirror, mirror
from netsync.mirror.dirty import DIRTY_MAX
from netsync.monitor.mirrors import AT_REST, mirrors_of
from netsync.wire.frames import TAIL_MAX
from tests.support.certificates import certificates
from tests.support.mirrors import COPY, MODULE, Pair
from tests.support.places import differences
from tests.support.processes import ROOT, netsync, succeed, wait_until
from tests.support.samples import random_bytes
from tests.support.trees import open_descriptors, read_tree


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def held(pair: Pair, **more: Any) -> mirror:
    """Return the mirror of a pair, to be entered."""
    return mirror(
        pair.source, f"netsync://127.0.0.1:{pair.port}/{MODULE}/{COPY}",
        identity=certificates().client.directory, state=pair.base / "state", **more,
    )  # fmt: skip


def in_step(pair: Pair) -> None:
    """Wait until the standby has applied what it has: it does so behind its answer."""

    def unequal() -> str:
        return differences(pair.source, pair.copy, "--omit-dir-times", "--omit-link-times")

    try:
        wait_until(lambda: unequal() == "", "the trees are equal")
    except AssertionError:
        assert unequal() == ""


async def work(m: Mirror) -> None:
    """Do one of everything."""
    await m.mkdir("d")
    async with await m.open("d/a", "w") as file:
        assert await file.write(b"hello ") == 6
        await file.write(b"world, and more")
        await file.truncate(11)
    async with await m.open("d/a", "r+") as file:
        await file.pwrite(b"W", 6)
        assert await file.read() == b"hello World"
        assert await file.seek(-5, os.SEEK_END) == 6
        assert await file.read(3) == b"Wor"
    async with await m.open("d/a", "a") as file:
        await file.write(b"!")
    async with await m.open("large", "x") as file:
        await file.write(random_bytes(TAIL_MAX + 5, 1))
    await m.link("d/a", "second")
    await m.rename("large", "d/renamed")
    await m.symlink("d/a", "link")
    await m.chmod("d", 0o750)
    await m.chown("d/a", os.geteuid(), os.getegid())
    await m.utime("d/a", 5, 1_600_000_000_123_456_789)
    await m.setxattr("d/a", "user.note", b"x")
    await m.setxattr("d/a", "user.gone", b"x")
    await m.removexattr("d/a", "user.gone")
    await m.mkdir("gone")
    await m.rmdir("gone")
    async with await m.open("gone", "w") as file:
        await file.write(b"gone")
    await m.unlink("gone")
    assert await m.listdir() == ["d", "link", "second"]
    assert stat.S_IMODE((await m.stat("d")).st_mode) == 0o750


async def test_what_is_done_through_it_is_on_the_standby(pair: Pair) -> None:
    before = open_descriptors()
    with pair.standby():
        async with held(pair) as m:
            await work(m)
            seq = await m.commit()
            assert seq == m.head
            assert await m.commit() == seq
            assert (pair.source / "d/a").read_bytes() == b"hello World!"
            await trio.to_thread.run_sync(in_step, pair)
        assert os.getxattr(pair.copy / "d/a", "user.note") == b"x"
        assert (pair.copy / "second").stat().st_ino == (pair.copy / "d/a").stat().st_ino
    assert open_descriptors() == before


async def test_errors_are_the_directorys_own_and_change_nothing(pair: Pair) -> None:
    (pair.source / "dir").mkdir()
    (pair.source / "file").write_bytes(b"x")
    (pair.source / "way-out").symlink_to("/etc")
    with pair.standby():
        async with held(pair) as m:
            for number, call in (
                (errno.ENOENT, m.open("absent")),
                (errno.EEXIST, m.open("file", "x")),
                (errno.EISDIR, m.open("dir", "w")),
                (errno.EINVAL, m.open("way-out", "w")),
                (errno.ENOTDIR, m.open("way-out/x", "w")),
                (errno.EINVAL, m.open("../x", "w")),
                (errno.EPERM, m.mkdir(".netsync-x")),
                (errno.EEXIST, m.mkdir("dir")),
                (errno.ENOTDIR, m.rmdir("file")),
            ):
                with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says which
                    await call
                assert caught.value.errno == number
            with pytest.raises(ValueError, match="no mode"):
                await m.open("file", "rw")
            assert m.head == 0


async def test_more_changes_than_are_flushed_one_by_one(pair: Pair) -> None:
    with pair.standby():
        async with held(pair) as m:
            before = open_descriptors()
            for number in range(DIRTY_MAX + 9):
                async with await m.open(f"{number}", "w") as file:
                    await file.write(b"%d" % number)
            assert open_descriptors() <= before + DIRTY_MAX
            await m.commit()
            assert open_descriptors() == before
            await trio.to_thread.run_sync(in_step, pair)


async def test_a_commit_whose_answer_does_not_come_is_indeterminate(pair: Pair) -> None:
    """While the standby is away; when it is back the same commit is answered."""
    with pair.standby() as server:
        lossy = held(pair, on_standby_loss="error", loss_timeout=0.5, timeout=2)
        async with lossy as m, await m.open("a", "w") as file:
            await file.write(b"first")
            first = await m.commit()
            server.signal(signal.SIGKILL)
            server.wait()
            await file.write(b"second")
            with pytest.raises(Indeterminate, match="no answer"):
                await m.commit()
            with pair.standby(), trio.fail_after(30):
                assert await committed_at_last(m) > first
                await trio.to_thread.run_sync(in_step, pair)
                assert (pair.copy / "a").read_bytes() == b"firstsecond"


async def committed_at_last(m: Mirror) -> int:
    while True:
        try:
            return await m.commit()
        except Indeterminate:
            await trio.sleep(0.05)


def test_a_program_without_trio_holds_one_too(pair: Pair) -> None:
    with pair.standby():
        with held(pair) as m:
            m.mkdir("d")
            with m.open("d/a", "w+") as file:
                file.write(b"hello")
                file.seek(0)
                assert file.read() == b"hello"
            numbers = []

            def write(number: int) -> None:
                with m.open(f"d/{number}", "w") as mine:
                    mine.write(b"%d" % number)
                    numbers.append(m.commit())

            threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(numbers) == 8
            assert max(numbers) == m.head
            m.rename("d", "e")
            assert m.stat("e/a").st_size == 5
            m.commit()
            in_step(pair)
        with pytest.raises(RuntimeError, match="on purpose"), held(pair) as m:
            raise RuntimeError("on purpose")
        assert read_tree(pair.source)["e"] is not None


def test_no_commit_changes_a_mirrored_copy(pair: Pair, tmp_path: Path) -> None:
    """Into it, or in its place; beside it all is as ever."""
    (tmp_path / "f").write_bytes(b"f")
    with pair.standby('"mirror", "push"'), held(pair) as m:
        m.mkdir("d")
        m.commit()
        in_step(pair)
        for path in (f"{COPY}/", f"{COPY}/d/", f"{COPY}/d/new", f"x/../{COPY}/new"):
            url = f"netsync://127.0.0.1:{pair.port}/{MODULE}/{path}"
            result = netsync("commit", "--no-resident", tmp_path / "f", url)
            assert result.code in (5, 11), result
        result = netsync(
            "commit", "--no-resident", tmp_path / "f", url.replace(f"x/../{COPY}", "y")
        )
        assert result.code == 0, result
        assert read_tree(pair.copy) == {"d": {}}


def test_what_cannot_be_meant_is_said(pair: Pair) -> None:
    for standbys, more in (((), {}), (("/local",), {}), (("h::m/x",), {"level": "x"}),
                           (("h::m/x",), {"on_standby_loss": "x"})):  # fmt: skip
        with pytest.raises(UsageError):
            mirror(pair.source, *standbys, **more)  # type: ignore[arg-type]  # any setting
    with pytest.raises(AttributeError):
        __import__("netsync.mirror").mirror.nothing  # noqa: B018 - looked up, and not there


def test_the_readmes_example_runs(pair: Pair) -> None:
    """The program of the README, with our addresses put in."""
    found = re.search(r"```python\n(.*?from netsync\.mirror import.*?)```", _readme(), re.DOTALL)
    assert found is not None
    with pair.standby():
        place = f"netsync://127.0.0.1:{pair.port}/{MODULE}/{COPY}"
        program = (
            found[1].replace("standby1::data/app", place).replace("/srv/app", f"{pair.source}")
        )
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "NETSYNC_STATE": f"{pair.base}/state",
            "NETSYNC_IDENTITY": str(certificates().client.directory),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True,
            check=False, timeout=50,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "durable up to" in done.stdout
        in_step(pair)
    assert read_tree(pair.copy) == read_tree(pair.source) != {}


def _readme() -> str:
    return (ROOT / "README.md").read_text()


async def test_after_a_short_life_it_is_known_what_was_acknowledged(pair: Pair) -> None:
    """Also where the end comes within the second after it was said last."""
    with pair.standby():
        async with held(pair) as m:
            for name in ("a", "b", "c"):
                await m.mkdir(name)
            assert await m.commit() == 3
        (view,) = mirrors_of(pair.base / "state")
        assert (view.state, view.applied, view.lag) == (AT_REST, 3, 0)


async def test_a_mirror_that_is_given_up_is_forgotten(pair: Pair) -> None:
    """Not while it is at work; then nothing is told of it, and its standby does not know us."""
    state = pair.base / "state"
    words: list[str | Path] = ["mirror", pair.source, "--forget", "--state", state]
    check: list[str | Path] = ["check", "--state", state]
    with pair.standby():
        async with held(pair) as m:
            await m.mkdir("a")
            await m.commit()
            done = await trio.to_thread.run_sync(lambda: netsync(*words))
            assert (done.code, done.stdout) == (1, "")
            assert "another process is at work there" in done.stderr
        done = await trio.to_thread.run_sync(lambda: netsync(*check))
        assert done.code == 1
        assert f"netsync mirror {pair.source} --forget" in done.stdout
        said = (await trio.to_thread.run_sync(lambda: succeed(*words))).stdout
        assert f"the copy at 127.0.0.1:{pair.port}::m/copy stays as it is" in said
        assert not mirrors_of(state)
        done = await trio.to_thread.run_sync(lambda: netsync(*words))
        assert done.code == 1
        assert "mirrored from this host are: none" in done.stderr
        with pytest.raises(RefusedError, match="--adopt"):
            async with held(pair):
                pass
    assert (pair.copy / "a").is_dir()

"""A mirror over real TLS: what is acknowledged is on the standby, in order, whatever is cut."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from netsync.errors import IndeterminateError, NetworkError, RefusedError, RootError
from netsync.mirror.comparing import Comparison, compare
from netsync.mirror.primary import opened
from netsync.modes.session import session
from netsync.monitor.metrics import JobMetrics
from netsync.operation import Level, Loss
from netsync.oplog import owed
from netsync.oplog.log import LogPolicy
from netsync.state.primary_record import known_primaries
from netsync.wire.mirroring import Mirror, Mirrored
from tests.support.certificates import certificates
from tests.support.cutting import cutting
from tests.support.mirrors import COPY, MODULE, Pair, Writer
from tests.support.places import differences
from tests.support.processes import netsync, succeed, wait_until

pytestmark = pytest.mark.timeout(300)
PATIENCE = 250.0
"""Seconds for what takes some on a machine that has nothing else to do."""


class EndedError(Exception):
    """A primary ends without order."""


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def equal(pair: Pair) -> bool:
    return differences(pair.source, pair.copy, "--omit-dir-times") == ""


async def until_equal(pair: Pair) -> None:
    are_equal = functools.partial(equal, pair)
    await trio.to_thread.run_sync(wait_until, are_equal, "the trees are equal", PATIENCE)


async def in_step(writer: Writer) -> None:
    await writer.log.ready()


async def test_what_is_written_is_acknowledged_and_appears(pair: Pair) -> None:
    (pair.source / "before").write_text("there before the mirror")
    with pair.standby(), trio.fail_after(50):
        async with pair.primary() as writer:
            assert equal(pair), "the comparison at the start"
            writer.mkdir("d")
            writer.write("d/f", b"one")
            writer.write("d/f", b"two", 2)
            writer.rename("d/f", "g")
            writer.link("g", "h")
            writer.truncate("g", 4)
            seq = writer.chmod("g", 0o600)
            await writer.log.wait(seq, Level.DURABLE)
            (standby,) = writer.log.status()
            assert standby.durable == seq
            await until_equal(pair)
            assert (pair.copy / "h").read_bytes() == b"ontw"
        assert equal(pair)


async def test_a_standby_that_was_killed_goes_on_where_it_was(pair: Pair) -> None:
    """Killed at will, again and again, it has all that was acknowledged and gets the rest."""
    with trio.fail_after(PATIENCE), contextlib.ExitStack() as stack:
        server = stack.enter_context(pair.standby())
        async with pair.primary() as writer:
            for round_number in range(3):
                for number in range(20):
                    seq = writer.write(f"f{round_number}", b"%04d" % number, number * 4)
                    if number == 10:
                        await writer.log.wait(seq, Level.DURABLE)
                server.signal(signal.SIGKILL)
                await trio.to_thread.run_sync(server.wait)
                server = stack.enter_context(pair.standby())
                await writer.log.wait(seq, Level.DURABLE)
            writer.rename("f0", "f9")
            await until_equal(pair)
            (standby,) = writer.log.status()
            assert standby.state == "sync"
        assert "damaged" not in server.log


async def test_a_primary_that_was_cut_off_compares_and_goes_on(pair: Pair) -> None:
    """What was written while no mirror ran is on the standby before anything is accepted."""
    with pair.standby(), trio.fail_after(PATIENCE):
        async with pair.primary() as writer:
            await writer.log.wait(writer.write("f", b"old"), Level.DURABLE)
        (pair.source / "f").write_bytes(b"newer")
        (pair.source / "g").write_bytes(b"beside")
        async with pair.primary() as writer:
            assert equal(pair)
            await writer.log.wait(writer.unlink("g"), Level.DURABLE)
            await until_equal(pair)


async def end_without_order(pair: Pair) -> None:
    async with pair.primary() as writer:
        writer.write("f", b"synced")
        await writer.log.wait(writer.write("g", b"synced"), Level.DURABLE)
        raise EndedError


async def test_content_is_compared_after_an_end_without_order(pair: Pair) -> None:
    """Same size, same time, other bytes: the activity log knows which files to look at."""
    with pair.standby(), trio.fail_after(PATIENCE):
        with pytest.raises(EndedError):
            await end_without_order(pair)
        status = (pair.source / "f").stat()
        (pair.source / "f").write_bytes(b"gone! ")
        os.utime(pair.source / "f", ns=(status.st_atime_ns, status.st_mtime_ns))
        async with pair.primary():
            assert (pair.copy / "f").read_bytes() == b"gone! "


def rename(writer: Writer) -> int:
    return writer.rename("d/f", "g")


def link(writer: Writer) -> int:
    writer.link("d/f", "g")
    return writer.unlink("d/f")


def rename_above(writer: Writer) -> int:
    writer.rename("d", "e")
    return writer.rename("e", "h")


async def give_another_name(pair: Pair, change: Callable[[Writer], int]) -> None:
    async with pair.primary() as writer:
        writer.mkdir("d")
        await writer.log.wait(writer.write("d/f", b"synced"), Level.DURABLE)
        await writer.log.wait(change(writer), Level.DURABLE)
        raise EndedError


@pytest.mark.parametrize(("change", "name"), [(rename, "g"), (link, "g"), (rename_above, "h/f")])
async def test_content_is_compared_under_the_last_name(
    pair: Pair, change: Callable[[Writer], int], name: str
) -> None:
    """After an end without order, whatever the file was called when it was written."""
    with pair.standby(), trio.fail_after(PATIENCE):
        with pytest.raises(EndedError):
            await give_another_name(pair, change)
        (pair.source / name).parent.joinpath("deep", ".netsync").mkdir(parents=True)
        status = (pair.source / name).stat()
        (pair.source / name).write_bytes(b"gone! ")
        os.utime(pair.source / name, ns=(status.st_atime_ns, status.st_mtime_ns))
        async with pair.primary():
            assert (pair.copy / name).read_bytes() == b"gone! "


async def test_a_lost_standby_makes_the_answer_indeterminate(pair: Pair) -> None:
    """loss=error: waiters learn that the answer is missing; later the log goes on by itself."""
    policy = LogPolicy(loss=Loss.ERROR, timeout=0.5)
    with trio.fail_after(PATIENCE), contextlib.ExitStack() as stack:
        server = stack.enter_context(pair.standby())
        async with pair.primary(policy) as writer:
            server.signal(signal.SIGKILL)
            seq = writer.write("f", b"is it there?")
            with pytest.raises(IndeterminateError) as caught:
                await writer.log.wait(seq, Level.DURABLE)
            assert caught.value.exit_code == 13
            with pytest.raises(IndeterminateError):
                await writer.log.room()
            stack.enter_context(pair.standby())
            await in_step(writer)
            await writer.log.wait(seq, Level.DURABLE)
            await writer.log.room()
            await until_equal(pair)


async def test_a_degraded_mirror_owes_and_pays_what_changed(pair: Pair) -> None:
    """loss=degrade: noted first, then acknowledged alone; then exactly the debts are sent."""
    policy = LogPolicy(loss=Loss.DEGRADE, timeout=0.3)
    with trio.fail_after(PATIENCE), contextlib.ExitStack() as stack:
        server = stack.enter_context(pair.standby())
        async with pair.primary(policy) as writer:
            big = bytes(range(256)) * 4096
            await writer.log.wait(writer.write("big", big), Level.DURABLE)
            await writer.log.wait(writer.write("gone", b"x" * 100_000), Level.DURABLE)
            server.signal(signal.SIGKILL)
            seq = writer.write("big", b"changed", 500_000)
            await writer.log.wait(seq, Level.DURABLE)
            (stale,) = known_primaries(pair.base / "primary-state")[0].stale.values()
            assert stale.seq < seq, "on record before the acknowledgement"
            writer.unlink("gone")
            writer.mkdir("d")
            writer.write("d/new", b"made meanwhile")
            writer.rename("big", "d/big")
            writer.write("d/big", b"again", 500_003)
            writer.truncate("d/new", 4)
            (standby,) = writer.log.status()
            assert (standby.state, standby.owed_bytes) == ("degraded", 8 + 14)
            server = stack.enter_context(pair.standby())
            await in_step(writer)
            assert writer.log.status()[0].owed_bytes == 0
            await writer.log.wait(writer.write("d/new", b"sync again"), Level.DURABLE)
            await until_equal(pair)
            assert known_primaries(pair.base / "primary-state")[0].stale == {}


async def promote(pair: Pair) -> str:
    words = ("promote", f"{MODULE}/{COPY}", "--state", pair.state)
    return (await trio.to_thread.run_sync(lambda: succeed(*words))).stdout


async def write_across_a_promotion(pair: Pair) -> None:
    async with pair.primary() as writer:
        await writer.log.wait(writer.write("f", b"before"), Level.DURABLE)
        assert "epoch 2" in await promote(pair)
        await writer.log.wait(writer.write("f", b"after!"), Level.DURABLE)


async def test_promoted_it_refuses_its_old_primary(pair: Pair) -> None:
    """By the running server: the session ends, who waits learns it, and it never comes back."""
    with pair.standby(), trio.fail_after(PATIENCE):
        with pytest.raises(IndeterminateError, match="promoted"):
            await write_across_a_promotion(pair)
        assert (pair.copy / "f").read_bytes() == b"before"
        with pytest.raises(RefusedError, match="promoted"):
            await pair.start()
        async with pair.primary(epoch=3):
            assert equal(pair), "made a standby again on purpose"


async def test_promoted_it_is_not_compared_by_a_session_from_before(pair: Pair) -> None:
    """A primary that has opened the place and compares next would overwrite the new original."""
    with pair.standby(), trio.fail_after(PATIENCE):
        (pair.source / "f").write_text("old")
        await pair.start()
        (before,) = known_primaries(pair.base / "primary-state")
        wanted = pair.wanted()
        async with session(pair.remote(), wanted.connection) as channel:
            await channel.send(
                Mirror(pair.remote().place, bytes(16), 1, parents=(before.generation,))
            )
            assert isinstance((await channel.receive()).message, Mirrored)
            await promote(pair)
            (pair.copy / "f").write_text("new, of the new original")
            with pytest.raises(NetworkError):
                await compare(
                    channel,
                    Comparison(wanted.source, pair.remote().place, atomic=True, state=wanted.state),
                )
        assert (pair.copy / "f").read_text() == "new, of the new original"


async def write_across_a_promotion_at_rest(pair: Pair) -> None:
    with pair.standby() as server:
        async with pair.primary() as writer:
            for number in range(200):
                seq = writer.write("f", b"%04d" % number, number * 4)
            await writer.log.wait(seq, Level.DURABLE)
            server.signal(signal.SIGKILL)
            await trio.to_thread.run_sync(server.wait)
            await promote(pair)
            assert (pair.copy / "f").read_bytes() == (pair.source / "f").read_bytes()
            with pair.standby():
                await writer.log.wait(writer.write("f", b"x"), Level.DURABLE)


async def test_promoted_without_a_server_it_finishes_its_journal(pair: Pair) -> None:
    with (
        trio.fail_after(PATIENCE),
        pytest.raises(IndeterminateError, match="1 operations of yours, from 202 on"),
    ):
        await write_across_a_promotion_at_rest(pair)


async def test_nobody_else_writes_to_the_copy(pair: Pair, tmp_path: Path) -> None:
    """Plain pushes into it, above it and below it, and another primary, are refused in words."""
    everything = '"mirror", "push", "delete"'
    other = certificates().other
    with (
        pair.standby(everything, **{other.name: everything}) as server,
        trio.fail_after(PATIENCE),
    ):
        async with pair.primary() as writer:
            await writer.log.wait(writer.write("f", b"x"), Level.DURABLE)
            for path in ("", COPY, f"{COPY}/d/e"):
                words = ("push", f"{pair.source}/", server.url(f"{MODULE}/{path}"))
                result = await trio.to_thread.run_sync(functools.partial(netsync, *words))
                assert result.code == 5
                assert "mirrors here" in result.stderr
        second = {"identity": other.directory, "state": tmp_path / "second"}
        with pytest.raises(RefusedError, match="copy of another primary"):
            await pair.start(**second)
        with pytest.raises(RefusedError, match="this primary remembers"):
            await pair.start(state=tmp_path / "forgot")
        assert equal(pair)


async def mirrors(state: Path) -> list[dict[str, Any]]:
    words = ("status", "--json", "--state", state)
    result = await trio.to_thread.run_sync(functools.partial(succeed, *words))
    return list(result.report["mirrors"])


async def checked(state: Path) -> tuple[int, str]:
    words = ("check", "--state", state)
    result = await trio.to_thread.run_sync(functools.partial(netsync, *words))
    return result.code, result.stdout


async def test_both_sides_tell_how_it_is(pair: Pair) -> None:
    """While it runs, when the standby is lost, and at rest."""
    near = pair.base / "primary-state"
    policy = LogPolicy(loss=Loss.DEGRADE, timeout=0.1)
    with trio.fail_after(PATIENCE):
        with pair.standby() as server:
            async with pair.primary(policy) as writer:
                seq = writer.write("f", b"x" * 100)
                await writer.log.wait(seq, Level.DURABLE)
                await until_equal(pair)
                await trio.sleep(2.5)
                (ours,), (theirs,) = await mirrors(near), await mirrors(pair.state)
                assert (ours["role"], ours["state"], ours["lag_operations"]) == (
                    "primary", "sync", 0)  # fmt: skip
                assert (theirs["role"], theirs["state"], theirs["peer"], theirs["applied"]) == (
                    "standby", "receiving", "primary1", seq)  # fmt: skip
                assert (await checked(near))[0] == (await checked(pair.state))[0] == 0
                server.signal(signal.SIGKILL)
                await writer.log.wait(writer.write("f", b"y" * 100), Level.DURABLE)
                await trio.sleep(2.5)
                (ours,) = await mirrors(near)
                assert (ours["state"], ours["owed_bytes"]) == ("degraded", 100)
                assert f"stale since operation {seq}" in ours["why"]
                code, line = await checked(near)
                assert (code, "the standby is stale" in line) == (2, True)
                families = {each.name: each for each in JobMetrics(near).collect()}
                (owed,) = families["netsync_mirror_owed_bytes"].samples
                assert owed.value == 100
        (ours,), (theirs,) = await mirrors(near), await mirrors(pair.state)
        assert (ours["state"], theirs["state"]) == ("at rest", "at rest")
        assert (await checked(pair.state))[0] == 2, "no server holds the copy"
        assert (await checked(near))[0] == 2, "it was left stale"
        words = ("status", "--state", pair.state)
        result = await trio.to_thread.run_sync(functools.partial(succeed, *words))
        assert str(pair.copy) in result.stdout


async def test_two_standbys_must_both_have_it(pair: Pair, tmp_path: Path) -> None:
    """An acknowledgement is for all; one that lags holds it back, and catches up by itself."""
    (tmp_path / "two").mkdir()
    other = Pair(tmp_path / "two")
    with trio.fail_after(PATIENCE), contextlib.ExitStack() as stack:
        stack.enter_context(pair.standby())
        server = stack.enter_context(other.standby())
        async with pair.primary(standbys=(pair.remote(), other.remote())) as writer:
            await writer.log.wait(writer.write("f", b"both"), Level.DURABLE)
            server.signal(signal.SIGKILL)
            seq = writer.write("f", b"more", 4)
            with trio.move_on_after(1) as waiting:
                await writer.log.wait(seq, Level.DURABLE)
            assert waiting.cancelled_caught, "one of two is not all"
            assert writer.log.followers[0].durable == seq
            stack.enter_context(other.standby())
            await writer.log.wait(seq, Level.DURABLE)
            await until_equal(pair)
        assert differences(pair.source, other.copy, "--omit-dir-times") == ""


async def test_a_resync_that_is_cut_is_begun_again(pair: Pair) -> None:
    """The copy shows its last consistent state until all that is owed is there."""
    policy = LogPolicy(loss=Loss.DEGRADE, timeout=0.1)
    allowed: list[int] = []
    with contextlib.ExitStack() as stack, trio.fail_after(PATIENCE):
        server = stack.enter_context(pair.standby())
        with cutting(pair.port, lambda _: allowed.pop() if allowed else None) as cut:
            remote = msgspec.structs.replace(pair.remote(), port=cut.port)
            async with pair.primary(policy, standbys=(remote,)) as writer:
                await writer.log.wait(writer.write("f", b"before"), Level.DURABLE)
                await until_equal(pair)
                server.signal(signal.SIGKILL)
                for number in range(4):
                    writer.write(f"g{number}", os.urandom(20_000))
                await writer.log.wait(writer.write("f", b"behind"), Level.DURABLE)
                assert writer.log.status()[0].state == "degraded"
                seen = (pair.copy / "f").read_bytes()
                allowed += [60_000, 30_000]
                stack.enter_context(pair.standby())
                while writer.log.status()[0].state != "sync":
                    if not (pair.copy / "g3").exists():
                        seen = (pair.copy / "f").read_bytes()
                    await trio.sleep(0.02)
                    writer.write("meanwhile", b"x")
                assert seen == b"before", "nothing of it before all of it"
                assert cut.cuts == 2
                await writer.log.wait(writer.log.head, Level.DURABLE)
                await until_equal(pair)


async def test_what_is_owed_and_too_much_is_compared(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owed, "OWED_BYTES", 1000)
    policy = LogPolicy(loss=Loss.DEGRADE, timeout=0.1)
    with contextlib.ExitStack() as stack, trio.fail_after(PATIENCE):
        server = stack.enter_context(pair.standby())
        async with pair.primary(policy) as writer:
            server.signal(signal.SIGKILL)
            await writer.log.wait(writer.write("f", bytes(5000)), Level.DURABLE)
            writer.mkdir("d")
            writer.write("d/g", b"too")
            assert writer.log.followers[0].owed is not None
            assert writer.log.followers[0].owed.whole
            stack.enter_context(pair.standby())
            await in_step(writer)
            assert equal(pair)
            await writer.log.wait(writer.write("d/g", b"new"), Level.DURABLE)
            await until_equal(pair)


async def test_a_second_write_of_one_instant_is_seen_by_a_comparison(pair: Pair) -> None:
    """The copy shows the first, with the same size and time, when it stops to fit the log."""
    with pair.standby(), trio.fail_after(PATIENCE):
        async with pair.primary() as writer:
            writer.write("x", b"x")
            await writer.log.wait(writer.write("f", b"first "), Level.DURABLE)
            await until_equal(pair)
            (pair.copy / "x").unlink()
            writer.rename("x", "y")
            await writer.log.wait(writer.rewrite("f", b"second"), Level.DURABLE)
            await until_equal(pair)
            assert (pair.copy / "f").read_bytes() == b"second"


@pytest.mark.parametrize("end", ["none", "in order", "without order"])
async def test_what_a_stale_standby_lacks_is_compared_by_content(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Too much is owed to be known, and of one file the standby has another write's size and time;
    while the primary lives on, and after it has ended."""
    monkeypatch.setattr(owed, "OWED_BYTES", 1000)
    policy = LogPolicy(loss=Loss.DEGRADE, timeout=0.1)
    with contextlib.ExitStack() as stack, trio.fail_after(PATIENCE):
        server = stack.enter_context(pair.standby())
        with contextlib.suppress(EndedError):
            async with opened(pair.wanted(policy)) as primary:
                writer = pair.writer(primary)
                await writer.log.wait(writer.write("f", b"first "), Level.DURABLE)
                await primary.memory.empty_activity(primary.log, primary.root)
                server.signal(signal.SIGKILL)
                await writer.log.wait(writer.write("g", bytes(5000)), Level.DURABLE)
                await writer.log.wait(writer.rewrite("f", b"second"), Level.DURABLE)
                if end == "without order":
                    raise EndedError
                if end == "none":
                    stack.enter_context(pair.standby())
                    await in_step(writer)
        if end != "none":
            stack.enter_context(pair.standby())
            await pair.start(policy=policy)
        assert (pair.copy / "f").read_bytes() == b"second"


async def test_a_copy_that_others_have_changed_is_compared_again(pair: Pair) -> None:
    """An operation that does not fit is told, and mended by itself."""
    with pair.standby() as server, trio.fail_after(PATIENCE):
        async with pair.primary() as writer:
            await writer.log.wait(writer.write("f", b"x"), Level.DURABLE)
            await until_equal(pair)
            (pair.copy / "f").unlink()
            (pair.copy / "strange").write_text("of somebody else")
            await writer.log.wait(writer.rename("f", "g"), Level.DURABLE)
            server.wait_for(lambda: "does not fit what is there" in server.log, "it is told")
            await writer.log.wait(writer.write("g", b"y"), Level.DURABLE)
            await until_equal(pair)


async def test_what_only_people_can_mend_is_told_at_the_start(pair: Pair) -> None:
    """An empty directory where the standby has much is a disk that is not mounted, perhaps."""
    with pair.standby(), trio.fail_after(PATIENCE):
        async with pair.primary() as writer:
            await writer.log.wait(writer.write("f", b"x"), Level.DURABLE)
        (pair.source / "f").unlink()
        with pytest.raises(RootError, match="empty"):
            await pair.start()
        assert (pair.copy / "f").exists()
        await pair.start(adopt=True)
        assert not (pair.copy / "f").exists()

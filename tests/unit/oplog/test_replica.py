"""A standby's copy: levels, group commit, idempotence, lies of a primary, what a crash leaves."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from netsync import operation as o
from netsync.errors import ProtocolError, RefusedError, RootError, StateError
from netsync.oplog import applying
from netsync.oplog.journaling import Mark
from netsync.oplog.replica import Replica
from netsync.state import operation_journal, recent_records
from netsync.state.mirror_record import PRIMARY, STANDBY, RecordFile, read_record
from netsync.wire.mirroring import Operations, ResyncEnd
from netsync.wire.operations import NO_CHAIN, chained, pack
from tests.support.replicas import OWN, Copy, copy_of_ten, until_applied, until_durable

GENERATION = bytes(range(16))


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return copy_of_ten(tmp_path)


async def test_operations_are_written_and_flushed_when_asked(copy: Copy) -> None:
    async with copy.opened() as replica:
        copy.send(replica, 1, 4)
        with trio.fail_after(50):
            while replica.acked().written < 4:
                await replica.wait_change()
        assert replica.acked().durable == 0, "nobody has asked"
        assert replica.applied == 0, "nothing is applied before it is durable"
        copy.send(replica, 5, 6, sync=True)
        await until_durable(replica, 6)
        assert replica.acked().chain == copy.chains[6]
        await until_applied(replica, 6)
        assert (copy.tree / "f").read_bytes() == b"12345"


async def test_nothing_is_applied_before_it_is_durable(copy: Copy) -> None:
    """Or a crash could leave a tree that shows what the journal has lost."""
    copy.add(*(o.Write(b"f", 9, b"%d" % number, 10) for number in range(190)))
    async with copy.opened() as replica:
        for seq in range(1, 201):
            copy.send(replica, seq, seq)
            with trio.fail_after(50):
                while replica.acked().written < seq:
                    await replica.wait_change()
            assert replica.applied == 0
        assert os.listdir(copy.tree) == []


async def test_a_replay_changes_nothing(copy: Copy) -> None:
    """What is there already is passed over, also where only part of a message is new."""
    async with copy.opened() as replica:
        copy.send(replica, 1, 5, sync=True)
        copy.send(replica, 1, 5, sync=True)
        copy.send(replica, 3, 8, sync=True)
        await until_applied(replica, 8)
        assert (copy.tree / "f").read_bytes() == b"1234567"


async def test_after_a_kill_it_has_what_it_promised(copy: Copy) -> None:
    async with copy.opened() as replica:
        copy.send(replica, 1, 7, sync=True)
        await until_durable(replica, 7)
    async with copy.opened() as replica:
        assert replica.durable == Mark(7, copy.chains[7])
        assert (copy.tree / "f").read_bytes() == b"123456", "recovered before anybody asks"
        copy.send(replica, 8, 10, sync=True)
        await until_applied(replica, 10)
    async with copy.opened() as replica:
        assert replica.durable.seq == 10


def lies(copy: Copy) -> dict[str, tuple[Operations, bytes]]:
    two = b"".join(copy.log[2:4])
    chain = copy.chains[4]
    wrong = pack(o.Unlink(b"../f"))
    return {
        "are missing": (Operations(4, 1, copy.chains[4]), copy.log[3]),
        "diverged": (Operations(3, 2, NO_CHAIN), two),
        "operations where 3": (Operations(3, 3, chain), two),
        "operations where 1": (Operations(3, 1, chain), two),
        "torn": (Operations(3, 2, chain), two[:-1]),
        "torn or too long": (Operations(3, 2, chain), b"\xff\xff\xff\xff" + two),
        "malformed": (Operations(3, 1, chain), b"\0\0\0\1\xc1"),
        "leads out": (Operations(3, 1, chained(copy.chains[2], wrong)), wrong),
    }


@pytest.mark.parametrize("words", [
    "are missing", "diverged", "operations where 3", "operations where 1", "torn",
    "torn or too long", "malformed", "leads out",
])  # fmt: skip
async def test_a_primary_that_lies_is_refused_and_changes_nothing(copy: Copy, words: str) -> None:
    async with copy.opened() as replica:
        copy.send(replica, 1, 2, sync=True)
        await until_applied(replica, 2)
        message, tail = lies(copy)[words]
        with pytest.raises(ProtocolError, match=words):
            replica.take(message, memoryview(tail))
        assert replica.received == Mark(2, copy.chains[2])
        with pytest.raises(ProtocolError, match="was not sent"):
            replica.want_durable(3)
        assert os.listdir(copy.tree) == ["f"]


@pytest.mark.parametrize(
    "path", [b"", b"/f", b"..", b"a/../b", b"a//b", b".", b"a\0b", b".netsync/x", b"x" * 256]
)
async def test_no_name_leads_elsewhere(copy: Copy, path: bytes) -> None:
    for operation in (o.Unlink(path), o.Rename(b"f", path), o.Link(b"f", path)):
        packed = pack(operation)
        async with copy.opened() as replica:
            message = Operations(1, 1, chained(NO_CHAIN, packed))
            with pytest.raises(ProtocolError, match="leads out of the mirror"):
                replica.take(message, memoryview(packed))


async def test_a_resync_counts_only_whole(copy: Copy) -> None:
    async with copy.opened() as replica:
        copy.send(replica, 1, 2, sync=True)
        await until_applied(replica, 2)
        write = pack(o.Write(b"f", 0, b"resynced", 5))
        part = Operations(1, 1, chained(NO_CHAIN, write))
        replica.begin_resync()
        replica.take(part, memoryview(write))
        mark = await replica.settle()
        assert mark == Mark(2, copy.chains[2]), "the session was cut: it is dropped"
        replica.begin_resync()
        with pytest.raises(ProtocolError, match="within a resync"):
            replica.begin_resync()
        replica.take(part, memoryview(write))
        with pytest.raises(ProtocolError, match="did not come like this"):
            replica.end_resync(ResyncEnd(2, 9, copy.chains[9]))
        await trio.testing.wait_all_tasks_blocked()
        assert (copy.tree / "f").read_bytes() == b"1"
        replica.end_resync(ResyncEnd(1, 9, copy.chains[9]))
        await until_applied(replica, 9)
        assert (copy.tree / "f").read_bytes() == b"resynced"
        copy.send(replica, 10, 10, sync=True)
        await until_durable(replica, 10)
    async with copy.opened() as replica:
        assert replica.durable.seq == 10
        assert (copy.tree / "f").read_bytes() == b"resynced9"


async def test_a_resync_cut_by_a_kill_is_dropped(copy: Copy) -> None:
    async with copy.opened() as replica:
        copy.send(replica, 1, 2, sync=True)
        await until_durable(replica, 2)
        replica.begin_resync()
        write = pack(o.Write(b"f", 0, b"resynced", 5))
        replica.take(Operations(1, 1, chained(NO_CHAIN, write)), memoryview(write))
        with trio.fail_after(50):
            while replica._journaling.pending_bytes:
                await replica.wait_change()
    async with copy.opened() as replica:
        assert replica.durable == Mark(2, copy.chains[2])
        assert (copy.tree / "f").read_bytes() == b"1"


async def test_a_tree_changed_by_others_is_told_and_compared(copy: Copy) -> None:
    """An operation that does not fit ends the copy, durably: it is no prefix any more."""
    async with copy.opened() as replica:
        copy.send(replica, 1, 2, sync=True)
        await until_applied(replica, 2)
        (copy.tree / "g").write_text("in the way")
        copy.log[2] = pack(o.Create(b"g", 0o600, *OWN))
        chain = chained(copy.chains[2], copy.log[2])
        replica.take(Operations(3, 1, chain, True), memoryview(copy.log[2]))
        with pytest.raises(RootError, match="does not fit what is there"):
            await until_applied(replica, 3)
        record = read_record(replica._records.directory)
        assert record is not None
        assert not record.complete
        assert "operation 3 (create g)" in record.words


async def test_promoted_it_takes_nothing_more(copy: Copy) -> None:
    async with copy.opened() as replica:
        copy.send(replica, 1, 3)
        record = await replica.promote(RefusedError("promoted"))
        assert (record.role, record.epoch, record.seq) == (PRIMARY, 2, 3)
        assert (copy.tree / "f").read_bytes() == b"12"
        with pytest.raises(RefusedError, match="promoted"):
            copy.send(replica, 4, 4)


async def test_promoted_it_cannot_be_made_a_standby_by_a_session_from_before(copy: Copy) -> None:
    """One that was between two requests, and would compare or adopt: nothing is written then."""
    async with copy.opened() as replica:
        before = replica.record
        record = await replica.promote(RefusedError("promoted"))
        for late in (
            replica.hold_still(), replica.save(before), replica.adopt(Mark(9, NO_CHAIN), before)
        ):  # fmt: skip
            with pytest.raises(RefusedError, match="promoted"):
                await late
        assert read_record(replica._records.directory) == record


async def let_rest(replica: Replica) -> None:
    await replica.hold_still()


async def adopted(replica: Replica) -> None:
    await replica.adopt(replica.received, replica.record)


async def promoted(replica: Replica) -> None:
    await replica.promote(RefusedError("promoted"))


@pytest.mark.parametrize("work", [let_rest, adopted, promoted])
async def test_a_flush_that_failed_is_not_tried_again(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, work: Callable[[Replica], Awaitable[None]]
) -> None:
    """The next one would not tell of it: the copy ends, and its journal does it all again."""

    def failing(root: int) -> None:
        raise OSError(errno.EIO, "the disk")

    async with copy.opened() as replica:
        copy.send(replica, 1, 3, sync=True)
        await until_applied(replica, 3)
        with monkeypatch.context() as broken:
            broken.setattr(applying, "sync_file_system", failing)
            with pytest.raises(RootError):
                await work(replica)
        with pytest.raises(RootError), trio.fail_after(50):
            replica.acked()
        assert (replica.record.role, replica.record.seq) == (STANDBY, 0)
    async with copy.opened() as replica:
        assert replica.acked().durable == 3


@pytest.mark.parametrize("role", [STANDBY, PRIMARY])
async def test_an_empty_mount_point_is_not_taken_for_the_copy(copy: Copy, role: str) -> None:
    """What is durable is not carried into it. A promoted place is compared anyway."""
    async with copy.opened() as replica:
        copy.send(replica, 1, 3, sync=True)
        await until_durable(replica, 3)
        await replica.save(msgspec.structs.replace(replica.record, role=role))
    copy.tree.rename(copy.tree.with_name("unmounted"))
    copy.tree.mkdir()
    if role == STANDBY:
        with pytest.raises(RootError, match="another than that which holds"):
            async with copy.opened():
                pass
        assert list(copy.tree.iterdir()) == []
        copy.tree.rmdir()
        copy.tree.with_name("unmounted").rename(copy.tree)
    async with copy.opened() as replica:
        assert replica.acked().durable == 3 or role == PRIMARY


def test_a_closed_record_is_not_written_to_another_file(copy: Copy) -> None:
    """The number of its descriptor may be another file's by then."""
    records = RecordFile(copy.state, copy.record.place)
    records.close()
    with (copy.tree / "other").open("wb"):
        with pytest.raises(StateError):
            records.save(copy.record)
        assert (copy.tree / "other").read_bytes() == b""


async def test_many_small_operations_at_once_are_bounded(copy: Copy) -> None:
    """What floods in waits in ``room`` until the journal has it."""
    async with copy.opened() as replica:
        copy.add(*(o.Write(b"f", 0, bytes(1 << 20), 0) for _ in range(20)))
        for number in range(1, len(copy.log) + 1):
            await replica.room()
            copy.send(replica, number, number)
        await replica.room()
        assert replica._journaling.pending_bytes <= 16 << 20
        await replica.settle()
        assert replica.durable.seq == len(copy.log)


def streamed(copy: Copy, chance: random.Random) -> bytes:
    """Add writes of all sizes to the log; return what the file holds after them."""
    shown = bytearray(b"123456789")
    for number in range(len(copy.log), 250):
        data = chance.randbytes(chance.choice([3, 4096, 70_000, 150_000]))
        offset = chance.randrange(min(len(shown), 1 << 20) + 1)
        copy.add(o.Write(b"f", offset, data, number))
        shown[offset : offset + len(data)] = data
    return bytes(shown)


async def send_for_a_while(copy: Copy, replica: Replica, chance: random.Random) -> None:
    """Send what is not here, in messages of any length, of which some ask for a flush."""
    for _ in range(chance.randrange(5, 25)):
        at = replica.received.seq
        last = min(at + chance.randrange(1, 6), len(copy.log))
        if last > at:
            copy.send(replica, at + 1, last, sync=chance.randrange(3) == 0)
        if chance.randrange(2):
            with trio.move_on_after(0.005):
                await replica.wait_change()


async def test_a_stream_of_all_sizes_survives_kills(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short and long records, segments that turn over under a flush, some read from memory."""
    monkeypatch.setattr(operation_journal, "SEGMENT_BYTES", 300_000)
    monkeypatch.setattr(recent_records, "RECENT_BYTES", 400_000)
    monkeypatch.setattr(applying, "CHECKPOINT_BYTES", 500_000)
    chance = random.Random(7)
    shown = streamed(copy, chance)
    promised = kills = 0
    while promised < len(copy.log):
        async with copy.opened() as replica:
            kills += 1
            assert replica.durable.seq >= promised
            assert replica.durable.chain == copy.chains[replica.durable.seq]
            await send_for_a_while(copy, replica, chance)
            if replica.received.seq == len(copy.log):
                await replica.settle()
            promised = replica.acked().durable
    assert kills > 3
    async with copy.opened():
        assert (copy.tree / "f").read_bytes() == shown, "recovered before anybody asks"

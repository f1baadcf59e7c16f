"""Modules with a user of their own: their files are touched by a process of that user only.

A module's ``uid`` says as whom its files are read and written. Threads cannot be trusted with
that: the C library changes the user of a whole process, a bare system call that of one thread,
and one file operation in a thread that was forgotten would be root's. So a transfer of such a
module runs in a process of its own (``worker``), which becomes that user before it has read a
word, keeps no capability and has no way to gain one. It has no key, no certificate and no
configuration; it holds one end of a pair of sockets, and a descriptor of each directory that was
granted, opened here, so that the user need not be able to reach them by name.

TLS, identity and rights stay here. What the client and the worker say is passed on message by
message, decoded and checked on the way like anything from a peer: a worker is one, since it read
what a peer wrote. Both ends' bounds hold, so what is in flight here is a frame each way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import trio
from msgspec import Struct

from netsync.errors import (
    TEXT_MAX,
    NetworkError,
    ProtocolError,
    RootError,
    reason,
    unwrapped,
)
from netsync.model import DeleteLimit, Origin, Report
from netsync.names import one_line
from netsync.net.channel import StreamChannel, kept_alive
from netsync.net.local import LocalStream
from netsync.plan.guards import NO_CHANGES, Changes
from netsync.server.modules import User
from netsync.tree.roots import Anchor
from netsync.wire import messages as m
from netsync.wire.committing import Commit, CommitEnd, CommitResults
from netsync.wire.order import State

log = logging.getLogger("netsync")

WORKER_TIMEOUT: Final = 30.0
"""Seconds of silence between the two processes: both ping."""
END_SECONDS: Final = 10.0
"""How long a worker whose socket is closed may take to drop what it staged."""
REMEMBERED_MAX: Final = 64 * 1024
"""Bytes that a worker may ask to have remembered: 128 origins, and what a pipe holds."""
_PIPE_BYTES: Final = 64 * 1024
"""What a pipe holds of what a worker prints."""
_LINES_MAX: Final = 20
"""Lines of that in the log: a traceback's end, where the error is."""
_KEPT: Final = ("PATH", "PYTHONPATH", "PYTHONWARNINGS", "LANG", "LC_ALL", "NETSYNC_KERNEL")
"""Variables that a worker gets: none names a directory of ours."""


class Job(Struct, frozen=True):
    """A request that was granted, and what a worker needs for it.

    ``anchors`` are descriptors with the names of their modules, ``channel`` is one too.
    ``known`` are the origins remembered of a destination (None: nobody remembers), ``trouble``
    says why they are not known; ``changes`` is what limits refer to where only these are told.
    """

    channel: int
    anchors: list[tuple[int, str]]
    opened: m.Open | None = None
    browsed: m.Browse | None = None
    special: bool = False
    limit: DeleteLimit | None = None
    known: list[Origin] | None = None
    trouble: str = ""
    changes: Changes = NO_CHANGES
    committed: Commit | None = None


Remember = Callable[[list[Origin]], Awaitable[None]]
"""Remembers the sources of a destination: before the client hears that all is done."""


class Worker:
    """A process of ``user`` that does one job. ``channel`` leads to it.

    What it asks to have remembered comes out of ``said``, what it prints out of ``printed``: it
    has no descriptor of ours that anybody else reads or writes.
    """

    def __init__(
        self, process: trio.Process, user: User, channel: StreamChannel, said: int, printed: int
    ) -> None:
        self.channel = channel
        self._user = user
        self._process = process
        self._said = said
        self._printed = printed
        self._is_killed = False

    @classmethod
    async def start(cls, user: User, job: Job, anchors: Sequence[Anchor]) -> Worker:
        """Start the process. Raises ``RootError`` if it cannot be."""
        ours, theirs = socket.socketpair()
        said, says = os.pipe()
        printed, prints = os.pipe()
        for end in (said, printed, prints):  # who prints too much loses it and goes on
            os.set_blocking(end, False)
        try:
            process = await _start(user, job, theirs, (says, prints), anchors)
        except BaseException as error:
            ours.close()
            os.close(said)
            os.close(printed)
            if isinstance(error, OSError):
                why = f"no process for the module's user: {reason(error)}"
                raise RootError(why, op="serve") from error
            raise
        finally:
            theirs.close()
            os.close(says)
            os.close(prints)
        who = f"the process of user {user.name}"
        channel = StreamChannel(
            LocalStream(ours), peer=who, expects=State.SERVER_ANSWERS, timeout=WORKER_TIMEOUT
        )
        return cls(process, user, channel, said, printed)

    async def end(self) -> None:
        """Close its socket, which ends it; kill it if it takes too long. Log what it printed.

        Raises ``NetworkError`` if it had died before: that explains what else went wrong.
        """
        with trio.CancelScope(shield=True):
            await self.channel.aclose()
            with trio.move_on_after(END_SECONDS):
                await self._process.wait()
            if self._process.returncode is None:
                self._is_killed = True
                self._process.kill()
                await self._process.wait()
        os.close(self._said)
        lines = _printed_on(self._printed)
        os.close(self._printed)
        for line in lines:
            log.error("%s: %s", self.channel.peer, one_line(line, TEXT_MAX))
        if self._process.returncode and not self._is_killed:
            raise NetworkError(
                f"the server's process of user {self._user.name} {self._end}",
                op="serve",
                hint="the server's log tells more; was its memory used up (dmesg)?",
            )

    @property
    def _end(self) -> str:
        """How the process ended, in words."""
        code = self._process.returncode
        assert code is not None
        return f"was killed by signal {-code}" if code < 0 else f"ended with {code}"

    def origins(self) -> list[Origin]:
        """Return what it has asked to have remembered. It prints that before it commits."""
        said = b""
        with contextlib.suppress(BlockingIOError):
            while len(said) < REMEMBERED_MAX and (data := os.read(self._said, REMEMBERED_MAX)):
                said += data
        try:
            return msgspec.msgpack.decode(said, type=list[Origin]) if said else []
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"a worker is not understood: {error}", op="serve") from error


def _printed_on(fd: int) -> list[str]:
    """Return the lines that are in a pipe, the last ones if they are many."""
    text = b""
    with contextlib.suppress(BlockingIOError):
        while len(text) < _PIPE_BYTES and (data := os.read(fd, _PIPE_BYTES)):
            text += data
    lines = text.decode("utf-8", "backslashreplace").splitlines()
    return [line for line in lines if line.strip()][-_LINES_MAX:]


def _words(user: User) -> list[str]:
    """Return whom a worker becomes, for its command line: before it reads what a peer wrote."""
    return [user.name, str(user.uid), str(user.gid), *map(str, user.groups)]


async def _start(
    user: User,
    job: Job,
    theirs: socket.socket,
    outputs: tuple[int, int],
    anchors: Sequence[Anchor],
) -> trio.Process:
    job = msgspec.structs.replace(
        job, channel=theirs.fileno(), anchors=[(anchor.fd, anchor.shown) for anchor in anchors]
    )
    with open(os.memfd_create("job", os.MFD_CLOEXEC), "wb+") as told:
        told.write(msgspec.msgpack.encode(job))
        told.seek(0)
        return await trio.lowlevel.open_process(
            [sys.executable, "-m", "netsync.server.worker", *_words(user)],
            stdin=told.fileno(),
            stdout=outputs[0],
            stderr=outputs[1],
            cwd="/",
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            pass_fds=[theirs.fileno(), *(anchor.fd for anchor in anchors)],
            start_new_session=True,
        )


async def transfer(
    client: StreamChannel,
    user: User,
    job: Job,
    anchors: Sequence[Anchor],
    remember: Remember | None = None,
) -> Report:
    """Have a push or pull done by the module's user; the client hears it as if done here."""
    assert job.opened is not None
    pushed = job.opened.direction is m.Direction.PUSH
    worker = await Worker.start(user, job, anchors)

    async def before_commit() -> None:
        if remember is not None and (origins := worker.origins()):
            await remember(origins)

    try:
        async with kept_alive(worker.channel):
            opened = (await worker.channel.receive()).message
            if not isinstance(opened, m.Opened):
                raise ProtocolError("the worker answered something else", op="open")
            await client.send(opened)
            return await _relay(client, worker.channel, before_commit, pushed=pushed)
        raise AssertionError("unreachable: the body returns or raises")
    finally:
        await worker.end()


async def browse(client: StreamChannel, user: User, job: Job, anchors: Sequence[Anchor]) -> None:
    """Have a directory listed by the module's user."""
    worker = await Worker.start(user, job, anchors)
    try:
        async with kept_alive(worker.channel):
            while True:
                answer = (await worker.channel.receive()).message
                await client.send(answer)
                if isinstance(answer, m.Browsed) and answer.final:
                    return
    finally:
        await worker.end()


async def commit(
    client: StreamChannel, user: User, job: Job, anchors: Sequence[Anchor]
) -> CommitResults:
    """Have files of a commit taken by the module's user; return what became of them."""
    worker = await Worker.start(user, job, anchors)

    async def pass_on() -> None:
        message: m.Message | None = None
        while not isinstance(message, CommitEnd):
            message, tail = await client.receive()
            await worker.channel.send(message, [tail] if len(tail) else ())

    try:
        with unwrapped():
            async with kept_alive(worker.channel), trio.open_nursery() as nursery:
                nursery.start_soon(pass_on)
                answer = (await worker.channel.receive()).message
                if not isinstance(answer, CommitResults):
                    raise ProtocolError("the worker answered something else", op="commit")
        await client.send(answer)
        return answer
    finally:
        await worker.end()


async def _relay(
    client: StreamChannel,
    worker: StreamChannel,
    before_commit: Callable[[], Awaitable[None]],
    *,
    pushed: bool,
) -> Report:
    """Pass on what both say until the transfer is committed; return the report."""
    source, target = State.SOURCE_OFFERS, State.TARGET_STARTS
    client.order.begin(source if pushed else target)
    worker.order.begin(target if pushed else source)
    reports: list[Report] = []

    async def pass_on(speaker: StreamChannel, hearer: StreamChannel, last: type[m.Message]) -> None:
        message: m.Message | None = None
        while not isinstance(message, last):
            message, tail = await speaker.receive()
            if isinstance(message, m.Committed) and speaker is worker:
                await before_commit()
            await hearer.send(message, [tail] if len(tail) else ())
            if isinstance(message, m.Committed):
                reports.append(message.report)

    clients_last, workers_last = (m.End, m.Committed) if pushed else (m.Committed, m.End)
    with unwrapped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, client, worker, clients_last)
            await pass_on(worker, client, workers_last)
    client.order.finish()
    return reports[0]

"""The process of a module's user: does one job with the directories it was given, and ends.

Started by ``confined``. It imports all that it will need, since the user may not be able to, and
becomes the user before it reads anything. It believes what its parent granted and nothing of what
comes through the channel. Signals for the server are not for it: it ends with its socket.
"""

from __future__ import annotations

import ctypes
import encodings.ascii
import encodings.idna  # noqa: F401 - like the next: imported where they are needed, as root still
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pathspec.patterns.gitignore.basic  # noqa: F401 - see above
import trio

from netsync.errors import RefusedError, StateError, defect
from netsync.model import Origin
from netsync.net.channel import StreamChannel, kept_alive
from netsync.net.local import LocalStream
from netsync.server.browse import send_entries
from netsync.server.confined import WORKER_TIMEOUT, Job
from netsync.server.faults import OurFaultError, as_netsync_error
from netsync.server.modules import User
from netsync.server.work import receive, send
from netsync.transfer.commit_target import take_files
from netsync.transfer.guarding import Guarding
from netsync.tree.roots import Anchor
from netsync.wire import messages as m
from netsync.wire.order import State

_NO_NEW_PRIVILEGES, _DUMPABLE = 38, 4
"""PR_SET_NO_NEW_PRIVS and PR_SET_DUMPABLE of prctl(2)."""


class Told:
    """What is remembered of a destination, as the parent told it; it does the remembering.

    It is told by stdout, before the transfer is committed: when the client hears of that, the
    parent has read it.
    """

    def __init__(self, known: Sequence[Origin], trouble: str) -> None:
        self._known = known
        self._trouble = trouble

    def known(self) -> list[Origin]:
        """Return what was remembered. Raises ``StateError``."""
        if self._trouble:
            raise StateError(self._trouble)
        return list(self._known)

    def remember(self, origins: Sequence[Origin]) -> None:
        """Have the parent remember these."""
        os.write(sys.stdout.fileno(), msgspec.msgpack.encode(origins))


def become(user: User) -> None:
    """Become ``user`` for good: no other groups, no capability, no way back.

    Raises ``RefusedError`` if anything of it is not so afterwards: rather no transfer than one
    with more rights than were granted. Done before there is any other thread.
    """
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    libc = ctypes.CDLL(None, use_errno=True)
    # Who is not dumpable cannot be traced, nor its descriptors opened, by others of this user: they
    # would have what the parent granted. It is let into its own /proc all the same.
    for option, value in ((_NO_NEW_PRIVILEGES, 1), (_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise RefusedError("privileges cannot be given up", op="serve")
    capabilities = [
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith(("CapPrm:", "CapEff:", "CapInh:", "CapAmb:"))
    ]
    is_user = os.getresuid() == (user.uid,) * 3 and os.getresgid() == (user.gid,) * 3
    in_groups = {*os.getgroups()} <= {user.gid, *user.groups}
    if not (is_user and in_groups) or any(capabilities):
        raise RefusedError(f"this process is not user {user.name} alone", op="serve")


async def work(user: User, job: Job, memory: Told) -> None:
    """Do the job; the other end of the channel is told what goes wrong."""
    sock = socket.socket(fileno=job.channel)
    channel = StreamChannel(
        LocalStream(sock), peer="the client", expects=State.CLIENT_ASKS, timeout=WORKER_TIMEOUT
    )
    try:
        async with kept_alive(channel):
            await _perform(channel, job, memory)
    except Exception as error:
        told = as_netsync_error(error)
        if isinstance(told, OurFaultError):
            print(f"netsync: {user.name}: {defect(error)}", file=sys.stderr)  # noqa: T201
        await channel.fail(told)
    finally:
        await channel.aclose()


async def _perform(channel: StreamChannel, job: Job, memory: Told) -> None:
    anchors = [Anchor(fd, name) for fd, name in job.anchors]
    if job.browsed is not None:
        await send_entries(channel, anchors[0], job.browsed.path)
    elif job.committed is not None:
        channel.order.state = State.CLIENT_COMMITS  # the request itself came with the job
        await take_files(channel, job.committed, anchors[0], special=job.special)
    elif job.opened is not None and job.opened.direction is m.Direction.PUSH:
        known = None if job.known is None else memory
        guarding = Guarding(job.limit, known, changes=job.changes)
        await receive(channel, anchors[0], job.opened, guarding, special=job.special)
    elif job.opened is not None:
        await send(channel, anchors, job.opened.places, job.opened.options)


def main() -> None:
    """Become the user, read the job from stdin, do it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    name, uid, gid, *groups = sys.argv[1:]
    user = User(name, int(uid), int(gid), tuple(map(int, groups)))
    become(user)
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Job)
    memory = Told(job.known or (), job.trouble)
    trio.run(work, user, job, memory)


if __name__ == "__main__":
    main()

"""A process that serves a mount over a directory, with a log that writes itself to a file.

It is what ``netsync mirror`` runs, without a standby: the file holds each operation, packed, with
its length before it, in the order of the log.
"""

from __future__ import annotations

import os
import signal
import sys

import msgspec
import trio

from netsync.mirror.backing import Backing
from netsync.mirror.files import Safety
from netsync.mirror.filesystem import Filesystem
from netsync.mirror.serving import Mount
from netsync.operation import Level, Operation
from netsync.oplog.log import Log
from netsync.tree.directories import OPEN_DIRECTORY


class FileLog(Log):
    """Appends each operation to a file as well."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._encoder = msgspec.msgpack.Encoder()

    def append(self, operation: Operation, file: int = 0, left: int = 0) -> int:
        if self._fd >= 0:
            packed = self._encoder.encode(operation)
            os.write(self._fd, len(packed).to_bytes(4, "big") + packed)
        return super().append(operation, file, left)

    async def wait(self, seq: int, level: Level) -> None:
        return

    async def room(self) -> None:
        return


async def serve(directory: bytes, mountpoint: bytes, log_file: str) -> None:
    root = os.open(directory, OPEN_DIRECTORY)
    fd = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log_file else -1
    backing = Backing(root)
    mount = Mount(mountpoint, Filesystem(backing, FileLog(fd), Safety()), root)
    again = trio.Event()

    async def heed() -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            ending = False
            async for _ in signals:
                if ending:
                    again.set()
                ending = True
                nursery.start_soon(mount.end, again, say)

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heed)
        async with trio.open_nursery() as serving:
            await serving.start(mount.serve)
            say(f"mounted on {os.fsdecode(mountpoint)}")
        nursery.cancel_scope.cancel()
    backing.close()


if __name__ == "__main__":
    trio.run(serve, os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2]), sys.argv[3])

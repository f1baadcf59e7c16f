"""A channel's stream between two processes of one host: a pair of sockets, and nothing else."""

from __future__ import annotations

import socket

import trio

from netsync.wire.codec import Buffer


class LocalStream:
    """One end of a socket pair, as a channel wants it. ``sock`` is taken over."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = trio.socket.from_stdlib_socket(sock)
        self._stream = trio.SocketStream(self._socket)

    def send_now(self, data: Buffer) -> int:
        """Return how much was sent without waiting: nothing, ever."""
        del data
        return 0

    async def send_all(self, data: Buffer) -> None:
        """Send all of ``data``."""
        await self._stream.send_all(data)

    async def receive_into(self, buffer: memoryview) -> int:
        """Receive what is there; 0 at the end."""
        return await self._socket.recv_into(buffer)

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()

    async def linger(self, seconds: float) -> None:
        """Close: what was sent stays readable at the other end."""
        del seconds
        await self.aclose()

    @property
    def bytes_sent(self) -> int:
        """Nothing travels: always 0."""
        return 0

    @property
    def bytes_received(self) -> int:
        """Nothing travels: always 0."""
        return 0

"""The first exchange with the kernel: what is struck from its offer, and what is added."""

from __future__ import annotations

import os
import socket
import struct

import pytest
import trio

from netsync.errors import RootError
from netsync.mirror.greeting import Greeting

INIT = 26
EVERYTHING = 2**32 - 1
DONT_MASK, AUTO_INVAL_DATA, WRITEBACK_CACHE = 1 << 6, 1 << 12, 1 << 16
HANDLE_KILLPRIV, HANDLE_KILLPRIV_2 = 1 << 19, 1 << 28


def offer(flags: int, operation: int = INIT) -> bytes:
    header = struct.pack("=IIQQIIIHH", 104, operation, 7, 0, 0, 0, 1, 0, 0)
    return header + struct.pack("=IIIII", 7, 45, 131072, flags, 3) + bytes(44)


def answer(flags: int, error: int = 0) -> bytes:
    return struct.pack("=IiQIIII", 80, error, 7, 7, 38, 131072, flags) + bytes(48)


async def greeted(offered: bytes, answered: bytes) -> tuple[bytes, bytes]:
    """Return what libfuse was offered, and what the kernel was answered."""
    kernel, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel:
        kernel.sendall(offered)
        greeting = Greeting(device.detach())
        seen: list[bytes] = []

        async def libfuse() -> None:
            await trio.lowlevel.wait_readable(greeting.fd)
            seen.append(os.read(greeting.fd, 1 << 16))
            os.write(greeting.fd, answered)
            await trio.sleep_forever()

        try:
            with trio.fail_after(20):
                await greeting.exchange(libfuse)
            told = kernel.recv(1 << 16)
            os.write(greeting.fd, b"from now on it is the device")
            assert kernel.recv(1 << 16) == b"from now on it is the device"
        finally:
            os.close(greeting.fd)
    return seen[0], told


def flags_of(message: bytes, at: int) -> int:
    return int.from_bytes(message[at : at + 4], "little")


async def test_what_would_lose_pages_or_order_is_not_offered() -> None:
    seen, _ = await greeted(offer(EVERYTHING), answer(0))
    struck = EVERYTHING & ~flags_of(seen, 52)
    assert struck == AUTO_INVAL_DATA | WRITEBACK_CACHE | HANDLE_KILLPRIV | HANDLE_KILLPRIV_2
    assert seen[:52] == offer(EVERYTHING)[:52]
    assert seen[56:] == offer(EVERYTHING)[56:]


async def test_what_is_wanted_is_taken_where_it_was_offered() -> None:
    _, told = await greeted(offer(EVERYTHING), answer(8))
    assert flags_of(told, 28) == 8 | DONT_MASK | HANDLE_KILLPRIV_2
    assert told[:28] + told[32:] == answer(8)[:28] + answer(8)[32:]
    _, told = await greeted(offer(0), answer(8))
    assert told == answer(8)


@pytest.mark.parametrize(
    ("offered", "answered"),
    [(offer(0, operation=1), answer(0)), (b"short", answer(0)), (offer(0), answer(0, error=-71))],
)
async def test_what_is_not_understood_ends_it(offered: bytes, answered: bytes) -> None:
    with pytest.raises(RootError, match=r"message|agree"):
        await greeted(offered, answered)

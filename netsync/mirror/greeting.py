"""The first exchange with the kernel: which of its offers the mount takes.

A new FUSE connection begins with one message in which the kernel offers what it can do, and an
answer that takes some of it. libfuse takes whatever it knows, and pyfuse3 has no say; three
offers must not be taken, and two must be:

* ``AUTO_INVAL_DATA`` would drop all pages of a file as soon as its time is asked for after a write.
  Here everything changes through the mount, so the kernel's pages are right and stay.
* ``HANDLE_KILLPRIV`` and none of its kind make the kernel ask for ``security.capability`` before
  each write. With the second version it asks once; set-id bits are then ours to take away.
* ``WRITEBACK_CACHE`` would let a write end in the kernel, before it has a place in the log.
* ``DONT_MASK`` leaves the umask to us: a directory with a default ACL ignores it.

So libfuse gets the offer over a socket that stands where the device will be, with some of it struck
out, and its answer goes to the kernel amended. Then the device takes the socket's place.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from netsync.errors import RootError

_MESSAGE_MAX: Final = (1 << 20) + 4096
"""Bytes of the largest request: the device refuses a smaller buffer."""
_REQUEST: Final = struct.Struct("=IIQQIIIHHIIIII")
"""fuse_in_header, then of fuse_init_in: major, minor, max_readahead, flags, flags2."""
_ANSWER: Final = struct.Struct("=IiQIIII")
"""fuse_out_header, then of fuse_init_out: major, minor, max_readahead, flags."""
_INIT: Final = 26
_FLAGS_AT: Final = _ANSWER.size - 4

_DONT_MASK: Final = 1 << 6
_AUTO_INVAL_DATA: Final = 1 << 12
_WRITEBACK_CACHE: Final = 1 << 16
_HANDLE_KILLPRIV: Final = 1 << 19
_HANDLE_KILLPRIV_2: Final = 1 << 28
_STRUCK: Final = _AUTO_INVAL_DATA | _WRITEBACK_CACHE | _HANDLE_KILLPRIV | _HANDLE_KILLPRIV_2
_WANTED: Final = _DONT_MASK | _HANDLE_KILLPRIV_2


class Greeting:
    """Stands between the kernel and libfuse until they have agreed.

    ``device`` is an open, mounted FUSE device, which this takes over. ``fd`` is what libfuse is
    given; it is the device once ``exchange`` has returned, and then belongs to libfuse.
    """

    def __init__(self, device: int) -> None:
        self._device = device
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.fd = theirs.detach()

    async def exchange(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Let ``serve`` answer the kernel's offer, then put the device in the socket's place."""
        try:
            offer = await trio.to_thread.run_sync(os.read, self._device, _MESSAGE_MAX)
            offered = _offered(offer)
            self._ours.sendall(_struck(offer))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                await trio.lowlevel.wait_readable(self._ours)
                nursery.cancel_scope.cancel()
            answer = self._ours.recv(_MESSAGE_MAX)
            os.write(self._device, _amended(answer, offered))
            os.dup2(self._device, self.fd, inheritable=False)
        finally:
            os.close(self._device)
            self._ours.close()


def _offered(offer: bytes) -> int:
    if len(offer) < _REQUEST.size or _REQUEST.unpack_from(offer)[1] != _INIT:
        raise RootError("the kernel's first message is none that we know", op="mount")
    return int(_REQUEST.unpack_from(offer)[-2])


def _struck(offer: bytes) -> bytes:
    """Return the kernel's offer without what must not be taken."""
    fields = list(_REQUEST.unpack_from(offer))
    fields[-2] &= ~_STRUCK
    return _REQUEST.pack(*fields) + offer[_REQUEST.size :]


def _amended(answer: bytes, offered: int) -> bytes:
    """Return libfuse's answer, which takes what we want as well where it was offered."""
    if len(answer) < _ANSWER.size or _ANSWER.unpack_from(answer)[1] != 0:
        raise RootError("libfuse and the kernel do not agree", op="mount")
    flags = _ANSWER.unpack_from(answer)[-1] | (offered & _WANTED)
    return answer[:_FLAGS_AT] + struct.pack("=I", flags) + answer[_ANSWER.size :]

"""Moves the records of a TLS connection by calls of Python's ``ssl``, one for each.

``netsync.net._records`` does the same in C; one contract suite holds both.
"""

from __future__ import annotations

import ssl
from typing import Final

from netsync.net.records import ENDED, FAILED, MOVED, WANTS_READ, WANTS_WRITE, Buffer, Moved

NAME: Final = "pure"


class PlainRecords:
    """The records of one connection; ``records.Records`` says what the methods mean."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._socket = sock

    def write(self, data: Buffer) -> Moved:
        send, view = self._socket.send, memoryview(data)
        done, size = 0, len(view)
        try:
            while done < size:
                done += send(view[done:])
        except OSError as error:
            return done, *_stopped(error)
        return done, MOVED, None

    def read(self, buffer: memoryview) -> Moved:
        receive = self._socket.recv_into
        done, size = 0, len(buffer)
        try:
            while done < size:
                # Told how much, it need not ask the view, which costs a tenth of a record's time.
                count = receive(buffer[done:], size - done)
                if count == 0:
                    return done, ENDED, None
                done += count
        except OSError as error:
            return done, *_stopped(error)
        return done, MOVED, None


def _stopped(error: OSError) -> tuple[int, OSError | None]:
    if isinstance(error, ssl.SSLWantReadError):
        return WANTS_READ, None
    if isinstance(error, ssl.SSLWantWriteError):
        return WANTS_WRITE, None
    return FAILED, error


def take(sock: ssl.SSLSocket) -> PlainRecords:
    """Return what moves the records of ``sock``: Python's own ``ssl`` takes any."""
    return PlainRecords(sock)

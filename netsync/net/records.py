"""Chooses how records are moved: in C without the interpreter's lock, else by Python's ``ssl``.

OpenSSL moves one record, at most 16 KiB, per call, and by Python's ``ssl`` each takes a slice, a
call and a release of the interpreter's lock: some 5 % of what the first copy of a large file costs.
The compiled ``Records`` loops in C over the connection that Python's ``ssl`` made, shook hands on
and verified; what it assumes of CPython, and how that is checked, is told where it is
(``_records.pyx``). Where anything is not as expected, for the process or for one connection,
``_plain_records`` moves the records; one contract suite holds both.
"""

from __future__ import annotations

import ssl
from typing import Final, Literal, Protocol, cast

from netsync.choice import choose

Buffer = bytes | bytearray | memoryview
"""Contiguous bytes."""

MOVED: Final = 0
"""All that was asked for was moved."""
FAILED: Final = int(ssl.SSL_ERROR_SSL)
"""The connection is broken; the error says how."""
WANTS_READ: Final = int(ssl.SSL_ERROR_WANT_READ)
"""Nothing more moves before the socket is readable."""
WANTS_WRITE: Final = int(ssl.SSL_ERROR_WANT_WRITE)
"""Nothing more moves before the socket is writable."""
ENDED: Final = int(ssl.SSL_ERROR_ZERO_RETURN)
"""The peer said that nothing follows, by a close_notify; for reading only."""

Moved = tuple[int, int, OSError | None]
"""Bytes moved; why no more were, one of the figures above; the error, if it is ``FAILED``."""


class Records(Protocol):
    """Moves bytes over one connection that does not block, after the handshake."""

    def write(self, data: Buffer) -> Moved:
        """Send ``data`` until it is sent or the socket is full; never ``ENDED``.

        OpenSSL may hold a record with the first of what was not sent: that, and no less than
        was left, must be given again before anything else.
        """

    def read(self, buffer: memoryview) -> Moved:
        """Receive until ``buffer`` is full or the socket is empty."""


class _Implementation(Protocol):
    @property
    def NAME(self) -> Literal["compiled", "pure"]: ...  # noqa: N802

    def take(self, sock: ssl.SSLSocket) -> Records | None: ...


def load(wish: str | None = None) -> _Implementation:
    """Return what ``wish`` names, by default what the environment does."""
    return cast(
        "_Implementation", choose("netsync.net._records", "netsync.net._plain_records", wish)
    )


_chosen: Final = load()
_plain: Final = load("pure")

NAME: Final = _chosen.NAME


def records_of(sock: ssl.SSLSocket) -> Records:
    """Return what moves the records of ``sock``, which must be connected and not block."""
    records = _chosen.take(sock) or _plain.take(sock)
    assert records is not None, "Python's own ssl takes any"
    return records

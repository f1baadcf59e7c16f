"""How many bytes crossed a socket, TLS included, without counting a single one of them.

The kernel counts for us: ``TCP_INFO`` tells what TCP sent, sent again, holds back and received.
That is exact at any moment, costs nothing per byte, and includes the handshake and every record's
22 bytes. A socket that is not TCP (tests run over socket pairs), and a kernel before 4.19,
has no such figure; there the bytes the stream moved stand in.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

_SIZE: Final = 256
"""Bytes asked for; the kernel returns as much of ``struct tcp_info`` as it knows."""

_RECEIVED: Final = struct.Struct("@Q")
_RECEIVED_AT: Final = 128
_UNSENT: Final = struct.Struct("@I")
_UNSENT_AT: Final = 144
_SENT: Final = struct.Struct("@QQ")  # bytes sent, of which sent again
_SENT_AT: Final = 200

_AFTER_FIN: Final = frozenset({6, 8, 9, 11})
"""TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING: the peer's FIN is counted as one byte received."""


class ByteCount:
    """Totals of one socket. The stream adds its own bytes to ``sent`` and ``received``."""

    def __init__(self, sock: socket.socket) -> None:
        self.sent = 0
        self.received = 0
        self._socket: socket.socket | None = sock if _is_tcp(sock) else None

    def totals(self) -> tuple[int, int]:
        """Return bytes (sent, received) up to now; those waiting to be sent count as sent."""
        if self._socket is not None:
            found = _tcp_totals(self._socket)
            if found is not None:
                return found
        return self.sent, self.received

    def freeze(self) -> None:
        """Keep the totals as they are: the socket is about to go."""
        self.sent, self.received = self.totals()
        self._socket = None


def _is_tcp(sock: socket.socket) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6)


def _tcp_totals(sock: socket.socket) -> tuple[int, int] | None:
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except OSError:
        return None
    if len(info) < _SENT_AT + _SENT.size:
        return None
    (received,) = _RECEIVED.unpack_from(info, _RECEIVED_AT)
    (unsent,) = _UNSENT.unpack_from(info, _UNSENT_AT)
    sent, again = _SENT.unpack_from(info, _SENT_AT)
    return sent - again + unsent, received - (info[0] in _AFTER_FIN)

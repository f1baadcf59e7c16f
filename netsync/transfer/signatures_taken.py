"""The signatures that a target sends, as the source takes them: whole, or while they arrive.

A file is awaited from the want that promises more about it. A signature of one level is gathered
until it is whole; one of two levels is matched behind its entries, so its file is served at once.
What is held of all of them together has a bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field

from netsync.delta.signature import Signature, entries_size
from netsync.errors import ProtocolError
from netsync.transfer.matching import Arriving
from netsync.transfer.offers import Offered, Offers
from netsync.transfer.outgoing import DeltaRequest
from netsync.wire import messages as m
from netsync.wire.fine import FineSignature

SIGNATURES_MAX: Final = 160 * 1024 * 1024
"""Bytes of signatures a target may have sent ahead: two of the largest and some."""

Ready = tuple[Offered, DeltaRequest] | Arriving
"""A file that can be served now."""


class _Delta(Struct):
    """A signature while it is gathered."""

    want: m.WantDelta
    offered: Offered
    entries: bytearray = field(default_factory=bytearray)


class SignaturesTaken:
    """What is awaited, gathered and held. Raises ``ProtocolError`` for what nobody asked for."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers
        self._awaited: set[int] = set()
        self._deltas: dict[int, _Delta] = {}
        self._arriving: dict[int, Arriving] = {}
        self._held = 0

    def expect(self, number: int) -> None:
        """Note that more will be said about a wanted file."""
        self._offers.want(number)
        self._awaited.add(number)

    def abandon(self, numbers: Iterable[int]) -> None:
        """Forget what was said about files that are wanted whole after all."""
        if self._arriving or self._awaited or self._deltas:
            for number in numbers:
                self._abandon(number)

    def _abandon(self, number: int) -> None:
        if number in self._arriving and not self._arriving[number].is_served:
            raise ProtocolError("a file wanted whole while its delta is sent", op="receive")
        self._awaited.discard(number)
        if (abandoned := self._deltas.pop(number, None)) is not None:
            self._held -= len(abandoned.entries)

    def awaited(self, number: int) -> Offered:
        """Return a file of which it was said that more will be said about it, once."""
        if number not in self._awaited:
            raise ProtocolError("a signature for a file not wanted as a delta", op="receive")
        self._awaited.remove(number)
        return self._offers.wanted(number)

    def begin(self, want: m.WantDelta) -> Ready | None:
        """Begin a signature; return its file if it can be served now."""
        offered = self.awaited(want.number)
        if not want.fine_size:
            self._deltas[want.number] = _Delta(want, offered)
            return self._whole(want.number)
        if want.number in self._arriving:
            raise ProtocolError("a second signature for one file", op="receive")
        self._arriving[want.number] = arriving = Arriving(want, offered)
        return arriving

    def add(self, message: m.Signature | FineSignature, tail: memoryview) -> Ready | None:
        """Take the next entries of a signature; return its file if it can be served now."""
        number = message.number
        if (arriving := self._arriving.get(number)) is not None:
            self._hold(arriving.add(message, tail))
            self._forget(arriving)
            return None
        delta = self._deltas.get(number)
        if delta is None or isinstance(message, FineSignature):
            raise ProtocolError("a signature for a file not wanted", op="receive")
        delta.entries += tail
        self._hold(len(tail))
        return self._whole(number)

    def served(self, request: DeltaRequest | Arriving) -> None:
        """Let go of a signature whose file was sent."""
        if isinstance(request, DeltaRequest):
            self._held -= len(request.signature.entries)
            return
        request.is_served = True
        self._held -= request.held
        self._forget(request)

    def _forget(self, arriving: Arriving) -> None:
        """Drop a signature when its file is sent and nothing of it is under way any more."""
        if arriving.is_over:
            self._arriving.pop(arriving.want.number, None)

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > SIGNATURES_MAX:
            raise ProtocolError("too many signatures at once", op="receive")

    def _whole(self, number: int) -> Ready | None:
        delta = self._deltas[number]
        want = delta.want
        try:
            if len(delta.entries) < entries_size(want.basis_size, want.block_size):
                return None
            signature = Signature(want.basis_size, want.block_size, want.seed, bytes(delta.entries))
        except ValueError as error:
            raise ProtocolError(f"a signature is malformed: {error}", op="receive") from error
        del self._deltas[number]
        return delta.offered, DeltaRequest(signature, want.forward_only)

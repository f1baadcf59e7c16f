"""A large file while its pieces arrive: what is written, what is only hashed.

A file that resumes a partial is written over that partial. Its bytes are their own basis, so as
long as the source says nothing else they stay where they are and are only hashed. Where it does,
writing on would destroy what later pieces may still refer to: then a new file takes over, with a
copy of the part that agreed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from blake3 import blake3
from xxhash import xxh3_128

from netsync.delta.ops import unpack
from netsync.errors import ProtocolError
from netsync.transfer.basis import Basis
from netsync.transfer.catching_up import CatchingUp
from netsync.transfer.ledger import Ledger
from netsync.transfer.wanted import Wanted
from netsync.tree.output import Output
from netsync.tree.partials import copy_start

COPY_BYTES: Final = 1024 * 1024
_FILE_MAX: Final = 2**63 - 1


class Incoming:
    """The file under way. ``renew`` makes another output for it."""

    def __init__(
        self, wanted: Wanted, output: Output, basis: Basis | None, renew: Callable[[], Output]
    ) -> None:
        self.wanted = wanted
        self.output = output
        self.position = self.resumed = self.matched = wanted.rest
        self.literal = 0
        self.is_rest = wanted.rest > 0
        self.basis_size = wanted.basis_size if basis is not None else 0
        self._hasher = xxh3_128() if basis is None else blake3()
        self._catching_up = CatchingUp(output.fd) if self.is_rest else None
        self._basis = basis
        self._renew = renew

    def verifies(self, size: int, digest: bytes) -> bool:
        """Tell whether what has been written is what the source sent."""
        if self.position != size:
            return False
        if self._catching_up is None:
            return self._hasher.digest() == digest
        try:
            return self._catching_up.digest(size) == digest
        except OSError:
            return False

    def becomes_basis(self, directory: int) -> bool:
        """Leave what has been written as a partial to be signed; False if it cannot be one."""
        try:
            partial = self.output.as_partial()
            if partial is not None:
                self.output.keep(directory)
        except OSError:
            return False
        if partial is not None:
            self.wanted.forget_partial()
            self.wanted.partial = partial
        return partial is not None

    def sent_before(self, ledger: Ledger | None) -> int:
        """Return how many of the bytes that were resumed an earlier attempt of this run sent."""
        return min(self.resumed, ledger.earlier_literal(self.wanted.path)) if ledger else 0

    def note(self, ledger: Ledger | None) -> None:
        """Write down what was sent of a file that stays unfinished."""
        if ledger is not None:
            sent = self.literal + self.sent_before(ledger)
            path = self.wanted.path
            ledger.note_partial(path, max(sent, ledger.earlier_literal(path)))

    def close_basis(self) -> None:
        """Let go of the basis; nothing more will come."""
        if self._basis is not None:
            self._basis.close()
            self._basis = None

    def checked(self, numbers: Sequence[int], tail: memoryview) -> list[tuple[int, int]]:
        """Return a piece's operations as ``apply`` takes them. Raises ``ProtocolError``."""
        room = _FILE_MAX - self.position
        try:
            return unpack(numbers, len(tail), basis_size=self.basis_size, room=room)
        except ValueError as error:
            raise ProtocolError(f"a piece is malformed: {error}", op="receive") from error

    def apply(self, ops: list[tuple[int, int]], tail: memoryview) -> None:
        """Carry out operations that were checked. Raises ``OSError``."""
        taken = 0
        if self._catching_up is not None and not ops:
            self._catching_up.step(self.position)
        for offset, length in ops:
            if offset >= 0:
                self._copy(offset, length)
                self.matched += length
                continue
            data = tail[taken : taken + length]
            self._write(data)
            if self._catching_up is not None:
                self._catching_up.passed(data, self.position - length)
            else:
                self._hasher.update(data)
            taken += length
            self.literal += length

    def _copy(self, offset: int, length: int) -> None:
        """Copy matched bytes from the basis; what is in place already is only hashed."""
        assert self._basis is not None
        for start in range(0, length, COPY_BYTES):
            count = min(COPY_BYTES, length - start)
            data = self._basis.read(count, offset + start)
            self._hasher.update(data)
            if offset + start + len(data) <= self._basis.seam:
                self.resumed += len(data)
            if self._is_there(offset + start, len(data)):
                self.position += len(data)
            else:
                self._write(data)

    def _is_there(self, offset: int, count: int) -> bool:
        if offset != self.position:
            return False
        return self.output.inplace or offset + count <= self.output.holds

    def _write(self, data: bytes | memoryview) -> None:
        if self.position < self.output.holds:
            self._part()
        self.output.write(data, self.position)
        self.position += len(data)

    def _part(self) -> None:
        """Go on in a new file, and leave the partial as it is: it may still be referred to."""
        resumed, self.output = self.output, self._renew()
        copy_start(resumed.fd, self.output.fd, self.position)
        resumed.close()

"""A large file while its pieces arrive: whole, the rest of it, or put together with a basis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from xxhash import xxh3_128

from netsync.delta.digest import OpDigest
from netsync.delta.ops import HOLE, LITERAL, unpack
from netsync.errors import ProtocolError
from netsync.transfer.assembling import Assembly
from netsync.transfer.basis import Basis
from netsync.transfer.catching_up import CatchingUp
from netsync.transfer.ledger import Ledger
from netsync.transfer.wanted import Wanted
from netsync.tree.holes import data_size
from netsync.tree.output import Output

_FILE_MAX: Final = 2**63 - 1


class Incoming:
    """The file under way. ``renew`` makes another output for it."""

    def __init__(
        self, wanted: Wanted, output: Output, basis: Basis | None, renew: Callable[[], Output]
    ) -> None:
        self.wanted = wanted
        self._output = output
        self.position = wanted.rest
        self.resumed = self.matched = data_size(output.fd, wanted.rest) if wanted.rest else 0
        self.literal = 0
        self.is_rest = wanted.rest > 0
        self.basis_size = wanted.basis_size if basis is not None else 0
        self._digest = OpDigest(xxh3_128)
        self._catching_up = CatchingUp(output.fd) if self.is_rest else None
        self._seam = basis.seam if basis is not None else 0
        self._assembly: Assembly | None = None
        if basis is not None:
            carried = wanted.carried
            assert carried is not None  # since it was signed
            self._assembly = Assembly(output, basis, carried, renew)

    @property
    def output(self) -> Output:
        """The file it is written to; another one may take over."""
        return self._output if self._assembly is None else self._assembly.output

    def verifies(self, size: int, digest: bytes) -> bool:
        """Tell whether what has been written is what the source sent. Raises ``OSError``."""
        if self.position != size:
            return False
        if self._assembly is not None:
            return self._assembly.digest() == digest
        if self._catching_up is None:
            return self._digest.digest() == digest
        try:
            self._output.truncate(size)  # it may end with a hole
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
        if self._assembly is not None:
            self._assembly.close()

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
            self._output.truncate(self.position)  # it may end with a hole
            self._catching_up.step(self.position)
        for offset, length in ops:
            if offset == HOLE:
                self._skip(length)
            elif offset == LITERAL:
                self._append(tail[taken : taken + length])
                taken += length
                self.literal += length
            elif self._assembly is not None:  # without a basis no copy passes the check
                self._assembly.copy(offset, length)
                self.matched += length
                self.resumed += max(0, min(offset + length, self._seam) - offset)
            self.position += length

    def _append(self, data: memoryview) -> None:
        if self._assembly is not None:
            self._assembly.literal(data)
            return
        self._output.write(data, self.position)
        if self._catching_up is not None:
            self._catching_up.passed(len(data), self.position + len(data))
        else:
            self._digest.update(data)

    def _skip(self, length: int) -> None:
        if self._assembly is not None:
            self._assembly.hole(length)
            return
        self._output.leave_hole(self.position, length)
        self._digest.skip(length)

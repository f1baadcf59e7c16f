"""A large file on its way in, between its first piece and its digest."""

from __future__ import annotations

import os

from blake3 import blake3
from xxhash import xxh3_128

from netsync.transfer.wanted import Wanted
from netsync.tree.output import Output


class Incoming:
    """A large file while its pieces arrive."""

    def __init__(self, wanted: Wanted, output: Output, basis: int, basis_size: int) -> None:
        self.wanted = wanted
        self.output = output
        self.basis = basis
        self.basis_size = basis_size
        self.position = 0
        self.literal = 0
        self.matched = 0
        self.hasher = xxh3_128() if basis < 0 else blake3()

    def close_basis(self) -> None:
        """Let go of the basis, if there is one."""
        if self.basis >= 0:
            os.close(self.basis)
            self.basis = -1

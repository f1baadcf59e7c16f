"""Signing a basis: what the target has of a file, as checksums the source can match against.

The seed of the strong checksums is fresh and secret for each file, so nobody can prepare two
blocks that pass for each other. Runs in worker threads, one frame a hop.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Final

from netsync.delta.signature import SIGNATURE_MAX, block_size_for, entries_size, sign
from netsync.model import Options
from netsync.transfer.basis import open_basis
from netsync.transfer.reading import Outgoing
from netsync.transfer.wanted import Wanted
from netsync.tree.directories import Directories
from netsync.wire.messages import Signature, WantDelta

READ_BYTES: Final = 4 * 1024 * 1024
"""Basis bytes signed in one hop, rounded up to a whole block; 6 KiB of entries at 8-KiB blocks."""


def signature_frames(
    directories: Directories, wanted: Wanted, options: Options
) -> Iterator[Outgoing]:
    """Yield ``WantDelta`` and the ``Signature`` frames for ``wanted``. Raises ``OSError``.

    Sets ``wanted.basis_size`` before the first frame.
    """
    basis = open_basis(directories, wanted)
    try:
        size = basis.size
        block_size = options.block_size or basis.block_size or block_size_for(size)
        if entries_size(size, block_size) > SIGNATURE_MAX:
            block_size = block_size_for(size)
        seed = secrets.randbits(63)  # what fits a signed integer on the wire
        wanted.basis_size = size
        yield Outgoing(WantDelta(wanted.number, size, block_size, seed, options.inplace))
        step = max(block_size, READ_BYTES // block_size * block_size)
        for offset in range(0, size, step):
            count = min(step, size - offset)
            data = basis.read(count, offset)
            data += bytes(count - len(data))  # it shrank: zeros that the digest will refuse
            yield Outgoing(Signature(wanted.number), [sign(data, block_size, seed)])
    finally:
        basis.close()

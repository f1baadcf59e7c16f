"""The signature of a basis: one weak and one strong checksum a block, twelve bytes together.

The target signs the bytes it has, the source looks for them in the new file. An entry is the
kernel's weak checksum (5 bytes, little-endian) followed by the first 7 bytes of the block's
seeded xxh3_128. The weak one finds candidates at any offset, the strong one confirms; without
the seed, which the target draws for each want, nobody can prepare a block that confirms
falsely. By accident both agree once in 2**96 pairs of blocks; even so the digest of the whole
file decides, and a false match costs a resend.

Entries do not depend on their neighbours, so a signature is made, sent and stored piece by
piece. Nothing here knows where the bytes come from or goes to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct
from xxhash import xxh3_128_digest

from netsync.delta.kernel import STRONG_SIZE, WEAK_SIZE, strong_sums, weak_sums

if TYPE_CHECKING:
    from netsync.delta.kernel import Buffer

ENTRY_SIZE: Final = WEAK_SIZE + STRONG_SIZE
"""Bytes on the wire and in memory for one block: 12."""

SIGNATURE_MAX: Final = 64 << 20
"""Bytes of the largest signature: what one delta may cost either side in memory."""

BLOCK_MIN: Final = 512
"""Bytes of the smallest block: below it an entry is no longer small beside its block."""

BLOCK_MAX: Final = 1 << 27
"""Bytes of the largest block: the source holds three of them; reaches files of 681 TiB."""

BLOCK_FREE: Final = 1 << 20
"""Bytes up to which any file may be cut into blocks. Larger ones only where the file's own size
calls for them, or a peer could make the source buffer 400 MB for an empty file."""

SEED_MAX: Final = (1 << 64) - 1
"""The seed is 64 bits: what xxh3 takes."""


def block_size_for(size: int) -> int:
    """Return the block size, in bytes, that makes a delta of ``size`` bytes cheapest to send.

    Each change resends its block, each block costs an entry of 12 bytes. With c changes spread
    over s bytes, blocks of b bytes cost ``12 * s / b + c * b``: least at ``b = sqrt(12 * s / c)``.
    Few changes in a large file want large blocks, but their loss by small ones is bounded by the
    signature, and many changes want small ones without such a bound. So 4 KiB, the page that
    file systems and databases write, up to 32 MiB (a signature of 0.3 % = 96 KiB); 8 KiB up to
    8 GiB (0.15 %: 3 MiB for 2 GiB, at most 12 MiB); 16 KiB beyond, doubling so that the
    signature stays within SIGNATURE_MAX: 5,592,405 blocks, so from 85 GiB on.

    Raises ValueError for a size that is negative or needs blocks above BLOCK_MAX.
    """
    if size < 0:
        raise ValueError(f"a file cannot have {size} bytes")
    block_size = 4 << 10 if size <= 32 << 20 else 8 << 10 if size <= 8 << 30 else 16 << 10
    while _count(size, block_size) * ENTRY_SIZE > SIGNATURE_MAX:
        block_size *= 2
    if block_size > BLOCK_MAX:
        raise ValueError(f"{size} bytes are too many for a delta")
    return block_size


def _count(size: int, block_size: int) -> int:
    return -(-size // block_size)


def strong_sum(block: Buffer, seed: int) -> bytes:
    """Return the strong checksum of one block, STRONG_SIZE bytes."""
    return xxh3_128_digest(block, seed)[:STRONG_SIZE]


def sign(data: Buffer, block_size: int, seed: int) -> bytes:
    """Return the entries of ``data``, in order.

    ``data`` is the whole basis or a chunk of it whose length is a multiple of ``block_size``
    (the last chunk excepted): the entries of all chunks, put together, are the signature.
    """
    view = memoryview(data).cast("B")
    weak = weak_sums(view, block_size)
    strong = strong_sums(view, block_size, seed)
    entries = bytearray(len(weak) + len(strong))
    for byte in range(WEAK_SIZE):
        entries[byte::ENTRY_SIZE] = weak[byte::WEAK_SIZE]
    for byte in range(STRONG_SIZE):
        entries[WEAK_SIZE + byte :: ENTRY_SIZE] = strong[byte::STRONG_SIZE]
    return bytes(entries)


class Signature(Struct, frozen=True):
    """All entries of one basis; raises ValueError, with words, for values that cannot be.

    ``basis_size`` and ``block_size`` are bytes. Every field may come from a peer.
    """

    basis_size: int
    block_size: int
    seed: int
    entries: bytes

    def __post_init__(self) -> None:
        """Check every field, and that they agree."""
        if not 0 <= self.seed <= SEED_MAX:
            raise ValueError("signature seed is not 64 bits")
        size = self.block_size
        if size < BLOCK_MIN or size & (size - 1):
            raise ValueError(f"block size {size} is not a power of two from {BLOCK_MIN} on")
        # Also refuses a basis size that is negative or beyond what a delta can do.
        if size > max(BLOCK_FREE, block_size_for(self.basis_size)):
            raise ValueError(f"block size {size} is too large for {self.basis_size} bytes")
        if len(self.entries) > SIGNATURE_MAX:
            raise ValueError(f"signature of {len(self.entries)} bytes is over {SIGNATURE_MAX}")
        wanted = _count(self.basis_size, size) * ENTRY_SIZE
        if len(self.entries) != wanted:
            raise ValueError(f"signature has {len(self.entries)} bytes instead of {wanted}")

    @property
    def full_blocks(self) -> int:
        """The number of blocks of full length; one more, shorter, may follow."""
        return self.basis_size // self.block_size

    @property
    def short_length(self) -> int:
        """Bytes in the short last block, 0 when there is none."""
        return self.basis_size % self.block_size


def is_block_size(size: int) -> bool:
    """Tell whether a user or peer may ask for blocks of ``size`` bytes."""
    return BLOCK_MIN <= size <= BLOCK_FREE and size & (size - 1) == 0


def entries_size(basis_size: int, block_size: int) -> int:
    """Return the bytes of a whole signature. Raises ValueError for an impossible block size."""
    if not BLOCK_MIN <= block_size <= BLOCK_MAX:
        raise ValueError(f"block size {block_size} is outside {BLOCK_MIN} to {BLOCK_MAX}")
    return _count(basis_size, block_size) * ENTRY_SIZE

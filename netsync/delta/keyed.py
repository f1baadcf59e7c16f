"""The digest of a file that was put together from matches: keyed, and as fast as memory.

A digest decides whether the result of a delta may be published, and must not fail where the block
checksums did. xxh3 would be fast enough, but it has differences that cancel under many of its
seeds: whoever may write to old and new file can look for two blocks that pass for each other, and
the digest of the whole would be deceived with them. BLAKE3 would not, but takes a fifth of a
delta's processor time on each side.

So the file is cut into units of 4 KiB, each becomes a tag of 32 bytes (``netsync.delta.pure``), and
BLAKE3 hashes the tags, followed by the length. What a tag promises is proved, not hoped for: two
files chosen before the key was drawn have a pair of different units with equal tags once in
2**128 keys a unit. The key is made of the seed that the target draws for each want, with BLAKE3;
so nobody knows it who could choose the files. The seed's 63 bits are what can be guessed: a pair of
files made for one seed deceives one want in 2**63.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blake3 import blake3

from netsync.delta.kernel import KEY_SIZE, TAG_SIZE, UNIT, unit_tags

if TYPE_CHECKING:
    from netsync.delta.kernel import Buffer

_CONTEXT: Final = "netsync 2026-11 digest of a delta's result"
"""What the key is for: BLAKE3 makes other keys of the same seed for other contexts."""


class Tagger:
    """Makes tags under a seed of 64 bits; ``update`` takes bytes in any pieces."""

    __slots__ = ("_key", "_rest")

    def __init__(self, seed: int) -> None:
        seeded = blake3(seed.to_bytes(8, "little"), derive_key_context=_CONTEXT)
        self._key = seeded.digest(KEY_SIZE)
        self._rest = bytearray()  # of a unit

    @property
    def is_between(self) -> bool:
        """Tell whether all that was taken is whole units."""
        return not self._rest

    def begin(self) -> None:
        """Forget what was taken: a unit begins."""
        self._rest = bytearray()

    def update(self, data: Buffer) -> bytes:
        """Take the next bytes; return the tags of the units that are whole now."""
        view = memoryview(data)
        first = b""
        if self._rest:
            missing = UNIT - len(self._rest)
            self._rest += view[:missing]
            view = view[missing:]
            if len(self._rest) < UNIT:
                return b""
            first = unit_tags(self._rest, self._key)
        whole = len(view) - len(view) % UNIT
        self._rest = bytearray(view[whole:])
        return first + unit_tags(view[:whole], self._key) if whole else first

    def last(self) -> bytes:
        """Return the tag of the unit that is not whole, if there is one."""
        return unit_tags(self._rest, self._key) if self._rest else b""


class KeyedDigest:
    """The digest of bytes under a seed of 64 bits; like a hash of ``hashlib``."""

    __slots__ = ("_length", "_tagger", "_tags")

    def __init__(self, seed: int) -> None:
        self._tagger = Tagger(seed)
        self._tags = blake3()
        self._length = 0

    def update(self, data: Buffer, /) -> None:
        """Take the next bytes."""
        self._length += len(data)
        self._tags.update(self._tagger.update(data))

    def update_tags(self, tags: Buffer) -> None:
        """Take the next bytes as the tags of their units. Raises ValueError within a unit."""
        if not self._tagger.is_between or len(tags) % TAG_SIZE:
            raise ValueError("tags stand for whole units")
        self._length += len(tags) // TAG_SIZE * UNIT
        self._tags.update(tags)

    def digest(self) -> bytes:
        """Return the digest of all that was taken, 32 bytes."""
        tags = self._tags.copy()
        tags.update(self._tagger.last())
        tags.update(self._length.to_bytes(8, "little"))
        return tags.digest()

"""Chooses the kernel: compiled where it was built, else its pure twin, and says which.

The rest of the delta imports the names below and never a kernel module directly. Falling back
is silent here but never hidden: NAME is what ``--version``, the server and every report show.

The choice is made while importing, before any configuration exists, so that it reaches every
process of a test run.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, cast

from netsync.choice import choose

Buffer = bytes | bytearray | memoryview
"""Contiguous bytes; a memoryview of any other shape is refused by the kernels."""


class WeakTable(Protocol):
    """Block numbers looked up by weak checksum; see ``netsync.delta.pure`` for the meaning."""

    def __len__(self) -> int: ...

    def candidates(self, state: int, first: int = 0) -> list[int]: ...

    def find(
        self, data: Buffer, start: int, stop: int, block_size: int, state: int | None = None
    ) -> tuple[int, int | None]: ...


class MakeTable(Protocol):
    """Builds a table from signature entries."""

    def __call__(self, entries: Buffer, stride: int) -> WeakTable: ...


class Kernel(Protocol):
    """What both kernel modules offer."""

    @property
    def NAME(self) -> Literal["compiled", "pure"]: ...  # noqa: N802

    @property
    def WEAK_SIZE(self) -> int: ...  # noqa: N802

    @property
    def STRONG_SIZE(self) -> int: ...  # noqa: N802

    @property
    def BLOCKS_MAX(self) -> int: ...  # noqa: N802

    @property
    def CANDIDATES_MAX(self) -> int: ...  # noqa: N802

    @property
    def UNIT(self) -> int: ...  # noqa: N802

    @property
    def TAG_SIZE(self) -> int: ...  # noqa: N802

    @property
    def KEY_SIZE(self) -> int: ...  # noqa: N802

    def weak_sums(self, data: Buffer, block_size: int) -> bytes: ...

    def strong_sums(self, data: Buffer, block_size: int, seed: int) -> bytes: ...

    def count_repeated(
        self, data: Buffer, block_size: int, seed: int, entries: Buffer, place: int, stride: int
    ) -> int: ...

    def unit_tags(self, data: Buffer, key: bytes) -> bytes: ...

    @property
    def WeakTable(self) -> MakeTable: ...  # noqa: N802


def load(wish: str | None = None) -> Kernel:
    """Return the kernel that ``wish`` names, by default those the environment does."""
    return cast("Kernel", choose("netsync.delta._kernel", "netsync.delta.pure", wish))


_chosen: Final = load()

NAME: Final = _chosen.NAME
WEAK_SIZE: Final = _chosen.WEAK_SIZE
STRONG_SIZE: Final = _chosen.STRONG_SIZE
UNIT: Final = _chosen.UNIT
KEY_SIZE: Final = _chosen.KEY_SIZE
TAG_SIZE: Final = _chosen.TAG_SIZE
weak_sums: Final = _chosen.weak_sums
strong_sums: Final = _chosen.strong_sums
count_repeated: Final = _chosen.count_repeated
unit_tags: Final = _chosen.unit_tags
make_table: Final = _chosen.WeakTable

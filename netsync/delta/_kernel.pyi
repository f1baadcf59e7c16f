from typing import Final, Literal

from netsync.delta.kernel import Buffer

NAME: Final[Literal["compiled"]]
WEAK_SIZE: Final[int]
STRONG_SIZE: Final[int]
CANDIDATES_MAX: Final[int]
BLOCKS_MAX: Final[int]
UNIT: Final[int]
TAG_SIZE: Final[int]
KEY_SIZE: Final[int]

def weak_sums(data: Buffer, block_size: int) -> bytes: ...
def strong_sums(data: Buffer, block_size: int, seed: int) -> bytes: ...
def count_repeated(
    data: Buffer, block_size: int, seed: int, entries: Buffer, place: int, stride: int
) -> int: ...
def unit_tags(data: Buffer, key: bytes) -> bytes: ...

class WeakTable:
    def __init__(self, entries: Buffer, stride: int) -> None: ...
    def __len__(self) -> int: ...
    def candidates(self, state: int, first: int = 0) -> list[int]: ...
    def find(
        self, data: Buffer, start: int, stop: int, block_size: int, state: int | None = None
    ) -> tuple[int, int | None]: ...

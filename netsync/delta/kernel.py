"""Chooses the kernel: compiled where it was built, else its pure twin, and says which.

The rest of the delta imports the names below and never a kernel module directly. Falling back
is silent here but never hidden: NAME is what ``--version``, the server and every report show.

The environment is read here, alone in the pure layer, because the choice must be made while
importing, before any configuration exists, and must reach every process of a test run.
"""

from __future__ import annotations

import importlib
import os
from typing import Final, Literal, Protocol, cast

Buffer = bytes | bytearray | memoryview
"""Contiguous bytes; a memoryview of any other shape is refused by the kernels."""

VARIABLE: Final = "NETSYNC_KERNEL"
"""Environment variable that forces ``compiled`` or ``pure``; empty or unset means either."""


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
    def BLOCKS_MAX(self) -> int: ...  # noqa: N802

    @property
    def CANDIDATES_MAX(self) -> int: ...  # noqa: N802

    def weak_sums(self, data: Buffer, block_size: int) -> bytes: ...

    @property
    def WeakTable(self) -> MakeTable: ...  # noqa: N802


def load(wish: str) -> Kernel:
    """Return the kernel that ``wish`` names, or the best there is when it is empty.

    Raises ImportError when the compiled one is asked for by name and is not there, and
    ValueError for any other name.
    """
    if wish not in ("", "compiled", "pure"):
        raise ValueError(f"{VARIABLE} must be 'compiled' or 'pure', not {wish!r}")
    if wish != "pure":
        try:
            return cast("Kernel", importlib.import_module("netsync.delta._kernel"))
        except ImportError as error:
            # Nothing else is caught: a kernel that is there but broken must be seen.
            if wish == "compiled":
                raise ImportError(
                    f"{VARIABLE}=compiled, but the compiled kernel is not there: {error}"
                ) from error
    return cast("Kernel", importlib.import_module("netsync.delta.pure"))


_chosen: Final = load(os.environ.get(VARIABLE, ""))

NAME: Final = _chosen.NAME
WEAK_SIZE: Final = _chosen.WEAK_SIZE
BLOCKS_MAX: Final = _chosen.BLOCKS_MAX
weak_sums: Final = _chosen.weak_sums
make_table: Final = _chosen.WeakTable

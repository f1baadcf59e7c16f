"""Chooses the file calls: compiled where they were built, else their pure twins.

The rest of the tree imports the names below and never one of the two modules directly. The
choice follows the same variable as the delta's kernel, so that one word decides for a process.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Final, Literal, Protocol, cast

from netsync.delta.kernel import VARIABLE

Buffer = bytes | bytearray | memoryview
"""Contiguous bytes."""

Status = tuple[int, int, int, int, int, int]
"""``st_mode``, uid, gid, size, modification time in nanoseconds, device number."""


class Native(Protocol):
    """What both modules offer; see ``netsync.tree._plain`` for the meaning."""

    @property
    def NAME(self) -> Literal["compiled", "pure"]: ...  # noqa: N802

    def read_file(
        self, directory: int, name: bytes, room: memoryview
    ) -> tuple[int, int, int, int]: ...

    def stage_file(
        self, directory: int, data: Buffer, mode: int, uid: int, gid: int, mtime_ns: int | None
    ) -> int: ...

    def link_staged(self, fd: int, directory: int, name: bytes) -> None: ...

    def list_names(self, directory: int) -> list[bytes]: ...

    def stat_entries(self, directory: int, names: Sequence[bytes]) -> list[Status | int]: ...


def load(wish: str) -> Native:
    """Return the calls that ``wish`` names, or the best there are when it is empty.

    Raises ImportError when the compiled ones are asked for by name and are not there, and
    ValueError for any other name.
    """
    if wish not in ("", "compiled", "pure"):
        raise ValueError(f"{VARIABLE} must be 'compiled' or 'pure', not {wish!r}")
    if wish != "pure":
        try:
            return cast("Native", importlib.import_module("netsync.tree._native"))
        except ImportError as error:
            if wish == "compiled":
                raise ImportError(
                    f"{VARIABLE}=compiled, but the compiled file calls are not there: {error}"
                ) from error
    return cast("Native", importlib.import_module("netsync.tree._plain"))


_chosen: Final = load(os.environ.get(VARIABLE, ""))

NAME: Final = _chosen.NAME
read_file: Final = _chosen.read_file
stage_file: Final = _chosen.stage_file
link_staged: Final = _chosen.link_staged
list_names: Final = _chosen.list_names
stat_entries: Final = _chosen.stat_entries

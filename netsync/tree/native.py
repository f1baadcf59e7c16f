"""Chooses the file calls: compiled where they were built, else their pure twins.

The rest of the tree imports the names below and never one of the two modules directly. The
choice follows the same variable as the delta's kernel, so that one word decides for a process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol, cast

from netsync.choice import choose
from netsync.model import Entry

Buffer = bytes | bytearray | memoryview
"""Contiguous bytes."""

Status = tuple[int, int, int, int, int, int, int, int, int, int, bytes | None]
"""``st_mode``, uid, gid, size, modification time in nanoseconds, device number of a node; number
of links, device, inode, blocks of 512 bytes; names of extended attributes, each with a NUL, if
they were asked for (None: too many, or not to be had this way; ask for them alone)."""
DEVICE: Final = 7
XATTR_NAMES: Final = 10
"""Where a ``Status`` has the file system's number and the names of extended attributes."""

Staging = tuple[int, int, int, int, int | None]
"""A file to stage: its size, mode, uid, gid and time; what stays as it is, as in ``stage_file``."""

AS_NOT_LISTED: Final = -1
"""What ``read_listed`` says of a file that changed."""
LESS_THAN_ITS_SIZE: Final = -2
"""What it says of a file that it read and that takes less room than it is long."""


class Coverage(NamedTuple):
    """Which entries a packed directory may hold, and what of them counts.

    ``mode_mask`` takes permission bits away, ``kinds`` has bit ``1 << kind`` for each kind that
    is covered, users and groups are 0 unless ``owner`` and ``group``. ``single_links`` leaves
    names of shared inodes uncovered, ``no_attributes`` what has extended attributes. ``room`` is
    the most bytes the records may take. ``whole_modes`` leaves uncovered what has bits that
    ``mode_mask`` takes away: the records are then the same under any mask that has all of this.
    """

    mode_mask: int
    kinds: int
    owner: bool
    group: bool
    single_links: bool
    no_attributes: bool
    room: int
    whole_modes: bool = False


Packed = tuple[bytes, int, int, list[tuple[int, int]], list[int], list[int]]
"""Records, their number, bytes of the regular files; index and offset of each subdirectory's;
the users and the groups."""


class Walk(Protocol):
    """Packs a tree, some directories at a time."""

    def more(self, room: int, stop: bytearray) -> dict[bytes, tuple[Packed, list[bytes]]]: ...


class Native(Protocol):
    """What both modules offer; see ``netsync.tree._plain`` for the meaning."""

    @property
    def NAME(self) -> Literal["compiled", "pure"]: ...  # noqa: N802

    def read_file(
        self, directory: int, name: bytes, room: memoryview
    ) -> tuple[int, int, int, int]: ...

    def read_listed(
        self,
        directory: int,
        names: Sequence[bytes],
        sizes: Sequence[int],
        times: Sequence[int],
        room: memoryview,
    ) -> list[int]: ...

    def stage_file(
        self, directory: int, data: Buffer, mode: int, uid: int, gid: int, mtime_ns: int | None
    ) -> int: ...

    def stage_files(self, directory: int, data: Buffer, files: Sequence[Staging]) -> list[int]: ...

    def link_staged(self, fd: int, directory: int, name: bytes) -> None: ...

    def link_files(
        self, directory: int, fds: Sequence[int], names: Sequence[bytes]
    ) -> list[int]: ...

    def list_names(self, directory: int) -> list[bytes]: ...

    def stat_entries(
        self, directory: int, names: Sequence[bytes], attributes: bool = False
    ) -> list[Status | int]: ...

    def plain_entries(
        self, directory: int, names: Sequence[bytes], attributes: bool = False
    ) -> list[Entry | Status | int]: ...

    def pack_directory(
        self, directory: int, coverage: Coverage, users: bytes, groups: bytes
    ) -> tuple[Packed | None, list[bytes]]: ...

    def TreeWalk(  # noqa: N802 - a class
        self,
        directory: int,
        coverage: Coverage,
        users: bytes,
        groups: bytes,
        *,
        backwards: bool = False,
    ) -> Walk: ...


def load(wish: str | None = None) -> Native:
    """Return the calls that ``wish`` names, by default those the environment does."""
    return cast("Native", choose("netsync.tree._native", "netsync.tree._plain", wish))


_chosen: Final = load()

NAME: Final = _chosen.NAME
read_file: Final = _chosen.read_file
read_listed: Final = _chosen.read_listed
stage_file: Final = _chosen.stage_file
stage_files: Final = _chosen.stage_files
link_staged: Final = _chosen.link_staged
link_files: Final = _chosen.link_files
list_names: Final = _chosen.list_names
stat_entries: Final = _chosen.stat_entries
plain_entries: Final = _chosen.plain_entries
pack_directory: Final = _chosen.pack_directory
TreeWalk: Final = _chosen.TreeWalk

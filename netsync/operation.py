"""Operations: what a synchronous mirror does to a tree, one after the other, as values.

A primary does each to its own directory and appends it to a log; a standby applies the log in the
same order. Paths are relative to the mirror's root, components joined by ``/``; the empty path is
the root itself, which only ``Mode``, ``Owner``, ``Times`` and attributes may name. Whatever depends
on the primary's world is decided there: modes are whole, a rename has no flags left, owners are
numbers (the mirror is a copy for the day on which it becomes the original, and the operations of a
file system have no names of users). Data is never in two operations, and no operation needs
another's answer.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, TypeAlias

from msgspec import Meta, Struct

from netsync.model import I64, U32, U63, Path
from netsync.names import is_inside

DATA_MAX: Final = 1024 * 1024
"""Bytes in one ``Write``: the most that the kernel hands over at once."""
VALUE_MAX: Final = 64 * 1024
"""Bytes of one extended attribute: the limit of Linux."""

if TYPE_CHECKING:
    Data: TypeAlias = bytes | memoryview
else:  # encoded it is either; decoded it looks into the bytes that arrived, which are not copied
    Data = Annotated[memoryview, Meta(max_length=DATA_MAX)]
Value = Annotated[bytes, Meta(max_length=VALUE_MAX)]
AttributeName = Annotated[bytes, Meta(min_length=1, max_length=255)]
Length = Annotated[int, Meta(ge=1, le=2**63 - 1)]
ModeBits = Annotated[int, Meta(ge=0, le=0o7777)]


class Level(enum.IntEnum):
    """How safe an operation is on a standby; each level includes the ones before.

    ``RECEIVED``: in its memory; a crash of the standby's process loses it. ``WRITTEN``: with its
    kernel; a crash of its system loses it. ``DURABLE``: on its disk, with all that came before, and
    it will remember that it said so.
    """

    RECEIVED = 1
    WRITTEN = 2
    DURABLE = 3


class Loss(enum.StrEnum):
    """What a primary does while a standby cannot be reached."""

    BLOCK = "block"
    ERROR = "error"
    DEGRADE = "degrade"


class Operation(Struct, frozen=True, array_like=True, tag=True):
    """Base of all. ``rootward`` says whether ``path`` may be the root."""

    rootward: ClassVar[bool] = False
    path: Path


class Write(Operation, frozen=True, tag=1):
    """Put ``data`` at ``offset`` of a regular file; ``mtime`` (nanoseconds) is the file's after."""

    offset: U63
    data: Data
    mtime: I64


class Truncate(Operation, frozen=True, tag=2):
    """Give a regular file ``size`` bytes; what is new reads as zeros."""

    size: U63
    mtime: I64


class Create(Operation, frozen=True, tag=3):
    """Make an empty regular file where there is none."""

    mode: ModeBits
    uid: U32
    gid: U32


class Mkdir(Operation, frozen=True, tag=4):
    """Make a directory."""

    mode: ModeBits
    uid: U32
    gid: U32


class Mknod(Operation, frozen=True, tag=5):
    """Make a named pipe, a socket or a device; ``mode`` holds the format bits as well."""

    mode: U32
    device: U63
    uid: U32
    gid: U32


class Symlink(Operation, frozen=True, tag=6):
    """Make a symbolic link that says ``target``, which is never followed."""

    target: Path
    uid: U32
    gid: U32


class Link(Operation, frozen=True, tag=7):
    """Give what is called ``path`` the further name ``to``."""

    to: Path


class Rename(Operation, frozen=True, tag=8):
    """Call what is called ``path`` ``to`` instead, in the place of what had that name."""

    to: Path


class Unlink(Operation, frozen=True, tag=9):
    """Take a name from what is no directory."""


class Rmdir(Operation, frozen=True, tag=10):
    """Remove an empty directory."""


class Mode(Operation, frozen=True, tag=11):
    """Set the permission bits."""

    rootward = True
    mode: ModeBits


class Owner(Operation, frozen=True, tag=12):
    """Set owner and group; the set-id bits are what a ``Mode`` behind it says."""

    rootward = True
    uid: U32
    gid: U32


class Times(Operation, frozen=True, tag=13):
    """Set both times, in nanoseconds since 1970."""

    rootward = True
    atime: I64
    mtime: I64


class SetXattr(Operation, frozen=True, tag=14):
    """Set one extended attribute."""

    rootward = True
    name: AttributeName
    value: Value


class RemoveXattr(Operation, frozen=True, tag=15):
    """Remove one extended attribute."""

    rootward = True
    name: AttributeName


class Allocate(Operation, frozen=True, tag=16):
    """Reserve room for a range of a regular file (``fallocate``), which may make it longer."""

    offset: U63
    length: Length
    mtime: I64
    keep_size: bool = False


class PunchHole(Operation, frozen=True, tag=17):
    """Turn a range into a hole, which reads as zeros; the size stays."""

    offset: U63
    length: Length
    mtime: I64


class ZeroRange(Operation, frozen=True, tag=18):
    """Fill a range with zeros, which may make the file longer; not written where avoidable."""

    offset: U63
    length: Length
    mtime: I64
    keep_size: bool = False


AnyOperation: TypeAlias = (
    Write | Truncate | Create | Mkdir | Mknod | Symlink | Link | Rename | Unlink | Rmdir
    | Mode | Owner | Times | SetXattr | RemoveXattr | Allocate | PunchHole | ZeroRange
)  # fmt: skip
"""The closed set: what a decoder accepts."""


DataOperation: TypeAlias = Write | Truncate | Allocate | PunchHole | ZeroRange
"""What changes the data of a file, and no name."""


def names_of(operation: Operation) -> tuple[bytes, ...]:
    """Return the paths that ``operation`` names."""
    if isinstance(operation, Link | Rename):
        return operation.path, operation.to
    return (operation.path,)


def written_by(operation: Operation) -> bytes:
    """Return the name under which ``operation`` puts content, or nothing if it puts none.

    A file that was written and then gets another name is to be looked for under that one.
    """
    if isinstance(operation, DataOperation):
        return operation.path
    return operation.to if isinstance(operation, Link | Rename) else b""


def is_confined(operation: Operation) -> bool:
    """Tell whether all its paths lead down from the root, and none is netsync's own."""
    return all(is_inside(path) or (not path and operation.rootward) for path in names_of(operation))

"""The words netsync thinks in: entries, options, problems and reports.

Values only, frozen, known to every layer and knowing none. They are msgspec structs because the
same values cross the wire and are validated while they are decoded (0.2 µs an entry); array-like
ones may grow fields at their end, which older peers ignore.
"""

# No annotations from __future__: msgspec reads them, and texts take it five times as long.

import enum
import stat
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

U32 = Annotated[int, Meta(ge=0, lt=2**32)]
U63 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
I64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Path = Annotated[bytes, Meta(max_length=1 << 16)]
"""A relative path; longer than PATH_MAX because only its components meet the kernel."""
Text = Annotated[str, Meta(max_length=4096)]
Xattr = tuple[
    Annotated[bytes, Meta(min_length=1, max_length=255)], Annotated[bytes, Meta(max_length=65536)]
]
"""An extended attribute: its name with the namespace, and its value, as the kernel bounds them."""

XATTRS_UNKNOWN: Final = 2**32 - 1
"""``Entry.xattrs`` of an entry whose attributes could not be read: they stay as they are."""

_TIME_MAX: Final = 2**63 - 1
SIZE_MAX: Final = 2**63 - 1
"""Bytes of the largest file there can be."""


def wire_time(mtime_ns: int) -> int:
    """Return ``mtime_ns`` as far as 64 bits reach: from the year 1677 to 2262."""
    return max(-_TIME_MAX, min(mtime_ns, _TIME_MAX))


class Kind(enum.IntEnum):
    """What an entry is. The numbers are on the wire."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5
    CHARACTER = 6
    BLOCK = 7


KIND_OF_FORMAT: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}
"""``st_mode``'s format bits to kinds."""

DEVICES: Final = frozenset({Kind.CHARACTER, Kind.BLOCK})
SPECIALS: Final = frozenset({Kind.FIFO, Kind.SOCKET})


class History(enum.IntEnum):
    """What one side knows of a file's content by itself. The numbers are on the wire.

    ``ROTTED``: another content than it was seen with, though size, times and inode are the same.
    """

    UNKNOWN = 0  # never seen, or written too lately to say
    INTACT = 1  # as it was seen
    WRITTEN = 2  # written, or replaced, since it was seen
    ROTTED = 3
    BUSY = 4  # it changed while it was read


class Cause(enum.IntEnum):
    """What a difference of content comes from, as far as both sides know. On the wire."""

    NONE = 0  # nobody asked
    ROTTED_AT_SOURCE = 1
    ROTTED_AT_TARGET = 2
    ROTTED_AT_BOTH = 3
    EDITED_AT_SOURCE = 4
    CHANGED_AT_TARGET = 5
    CHANGED_AT_BOTH = 6
    UNKNOWN = 7  # size or time differ too: a run brings it
    DIVERGED = 8  # size and time are the same: no ordinary run brings it
    BUSY = 9


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """One path of a tree with its metadata, named by a single component.

    ``mode`` holds permission bits only (12 bits), ``size`` bytes of a regular file (else 0),
    ``target`` a symbolic link's text, ``device`` the device number of a device node,
    ``digest`` the BLAKE3 of a regular file's content when ``--checksum`` asked for it, ``link``
    the number of the first listed entry that is a name of the same inode (its own for the first,
    0 where there is no other name), ``xattrs`` the set of extended attributes, ACLs among them,
    in the message that lists the entry: counted from 1, 0 for none. ``history`` is what a
    verification found out about the file where it is.
    """

    name: bytes
    kind: Kind
    mode: Annotated[int, Meta(ge=0, le=0o7777)]
    uid: U32
    gid: U32
    size: U63
    mtime_ns: I64
    target: Annotated[bytes, Meta(max_length=4096)] = b""
    device: U63 = 0
    digest: Annotated[bytes, Meta(max_length=32)] = b""
    link: U63 = 0
    xattrs: U32 = 0
    history: History = History.UNKNOWN


RULES_MAX: Final = 16384
"""Patterns of one command line, those of pattern files included."""

PATHS_MAX: Final = 1 << 20
"""Paths that one listing may be restricted to."""


class Rule(Struct, frozen=True, array_like=True):
    """One pattern in the order of the command line, and whether it excludes or keeps.

    Neighbours with the same ``group`` are the lines of one pattern file: of them the last that
    matches counts. 0 stands alone.
    """

    exclude: bool
    pattern: Annotated[bytes, Meta(max_length=4096)]
    group: U32 = 0


Bits = Annotated[int, Meta(ge=0, le=0o7777)]
"""A mode's permission bits, set-id and sticky bits among them."""


class IdRule(Struct, frozen=True, array_like=True):
    """Whom ``--usermap`` or ``--groupmap`` means, and the target's name or number for them.

    ``name`` is a pattern for names at the source; with ``first`` numbers are meant instead, up to
    ``last``.
    """

    name: Annotated[bytes, Meta(max_length=255)]
    target: Annotated[bytes, Meta(min_length=1, max_length=255)]
    first: U32 | None = None
    last: U32 | None = None


class ModeRule(Struct, frozen=True, array_like=True):
    """A change of ``--chmod``: for ``directories``, for ``files`` (all else), or for both.

    The bits of ``keep`` stay and those of ``add`` are set; with ``only_executable`` those for
    execution only where there was one.
    """

    directories: bool
    files: bool
    keep: Bits
    add: Bits
    only_executable: bool = False


class Name(Struct, frozen=True, array_like=True):
    """The name a numeric user or group id has at the source."""

    id: U32
    name: Annotated[bytes, Meta(max_length=255)]


class Keep(Struct, frozen=True):
    """Which kinds of entries and which metadata a transfer keeps; all by default."""

    links: bool = True
    perms: bool = True
    owner: bool = True
    group: bool = True
    times: bool = True
    devices: bool = True
    hard_links: bool = True
    xattrs: bool = True
    acls: bool = True
    sparse: bool = True


COMPRESSION_LEVELS: Final = (1, 19)
"""zstd's ordinary range; the ultra levels want more memory than a session may use."""


class DeleteLimit(Struct, frozen=True, array_like=True):
    """The most one run may delete: entries, or a percentage of the target's entries in scope."""

    amount: U63
    percent: bool = False


ORIGINS_MAX: Final = 128
"""Origins of one source, at most 300 bytes each."""


class Origin(Struct, frozen=True, array_like=True):
    """Which directory a source really is, so that a target notices another in its place.

    ``listed`` is its name in the transfer, empty where its contents are the root's. ``uuid`` is
    its file system's (empty where the kernel does not tell), ``file_system`` what statfs(2) calls
    f_fsid, ``inode`` that of the directory; numbers are cut to 63 bits. A ``listed`` with a slash
    at its end is the path of a file system mounted inside the source, and its numbers are 0.
    """

    listed: Annotated[bytes, Meta(max_length=255)]
    inode: U63
    file_system: U63
    uuid: Annotated[bytes, Meta(max_length=16)] = b""


SLICES_MAX: Final = 1 << 20
"""Parts that a tree may be scrubbed in."""


class Slice(Struct, frozen=True, array_like=True):
    """One of ``count`` parts that the files of a tree fall into by their paths."""

    index: Annotated[int, Meta(ge=0, lt=SLICES_MAX)]
    count: Annotated[int, Meta(ge=1, le=SLICES_MAX)]


MOVES_MAX: Final = 64
"""Moves told with what changed; those beyond are found by their content."""


class Move(Struct, frozen=True, array_like=True):
    """A directory that was ``old`` is ``new`` at the source."""

    old: Path
    new: Path


class Options(Struct, frozen=True, kw_only=True):
    """What a transfer was asked to do; one value from the command line to both ends.

    ``rate`` limits the sending side (bytes per second, 0 for none); ``compress`` is a zstd level
    (0 for none); ``block_size`` 0 lets the signature choose; ``modify_window`` is in nanoseconds.
    ``backup_dir`` is a path inside the destination (empty for none).
    ``paths`` restrict the listing (None: everything takes part), sizes are in bytes. With
    ``changes`` they are what changed: one that is not there is told as gone, one that ends in a
    slash stands for all below it; a target is told of nothing else. ``moves`` are directories that
    were moved, in their order: hints that save copying.
    ``stored_by`` is the source's user, by name or number, whose stored metadata are believed
    beside those of the user as whom the source runs (empty for none).
    ``verify`` is a dry run with ``checksum`` in which each side says what became of its files;
    ``slice`` restricts it to a part of the regular files, which are read at leisure.
    """

    rules: Annotated[tuple[Rule, ...], Meta(max_length=RULES_MAX)] = ()
    paths: Annotated[tuple[Path, ...], Meta(max_length=PATHS_MAX)] | None = None
    changes: bool = False
    moves: Annotated[tuple[Move, ...], Meta(max_length=MOVES_MAX)] = ()
    max_size: U63 | None = None
    min_size: U63 = 0
    one_file_system: bool = False
    copy_links: bool = False
    safe_links: bool = False
    changing: Literal["skip", "publish"] = "skip"
    keep: Keep = Keep()
    numeric_ids: bool = False
    usermap: Annotated[tuple[IdRule, ...], Meta(max_length=1024)] = ()
    groupmap: Annotated[tuple[IdRule, ...], Meta(max_length=1024)] = ()
    chmod: Annotated[tuple[ModeRule, ...], Meta(max_length=256)] = ()
    store_metadata: bool = False
    stored_by: Annotated[bytes, Meta(max_length=255)] = b""
    checksum: bool = False
    size_only: bool = False
    ignore_times: bool = False
    modify_window: U63 = 0
    existing: bool = False
    ignore_existing: bool = False
    update: bool = False
    delete: bool = False
    delete_excluded: bool = False
    delete_before: bool = False
    max_delete: DeleteLimit | None = None
    allow_empty_source: bool = False
    accept_new_source: bool = False
    backup_dir: Path = b""
    dry_run: bool = False
    itemize: bool = False
    inplace: bool = False
    atomic: bool = False
    whole_file: bool = False
    block_size: U32 = 0
    fsync: bool = True
    compress: Annotated[int, Meta(ge=0, le=COMPRESSION_LEVELS[1])] = 0
    rate: U63 = 0
    verify: bool = False
    slice: Slice | None = None

    def contradiction(self) -> str:
        """Return why these options cannot be meant together, or nothing."""
        if self.moves and not self.changes:
            return "moves are told with what changed"
        if self.atomic and self.inplace:
            return "--atomic publishes all or nothing, --inplace writes half of a file: choose one"
        if self.atomic and self.delete_before:
            return "--atomic needs room for old and new, --delete-before is for a target without it"
        if self.verify and not (self.dry_run and self.checksum):
            return "a verification changes nothing and compares by content"
        if self.slice is not None and (self.delete or not self.verify):
            return "a part of a tree can only be verified: what is not in it is not gone"
        return ""


class Problem(Struct, frozen=True, array_like=True):
    """Trouble with one path: the run goes on, the report and the exit code tell.

    ``vanished`` marks a source path that disappeared between listing and reading.
    """

    path: Path
    op: Text
    error: Text
    vanished: bool = False


class Change(enum.StrEnum):
    """The change code of an itemized line."""

    CREATED = "+"
    UPDATED = ">"
    METADATA = "."
    DELETED = "-"
    FAILED = "!"


class Item(Struct, frozen=True, array_like=True):
    """One itemized line: a change and the path it happened to, relative to DEST.

    ``cause`` is what a verification says of a file whose content differs.
    """

    change: Change
    path: Path
    directory: bool = False
    cause: Cause = Cause.NONE


class Files(Struct, frozen=True):
    """Entries counted by what happened to them; ``considered`` is all the source listed."""

    considered: U63 = 0
    created: U63 = 0
    updated: U63 = 0
    metadata: U63 = 0
    deleted: U63 = 0
    unchanged: U63 = 0
    failed: U63 = 0


class Bytes(Struct, frozen=True):
    """Bytes of file data by where they came from, and bytes on the socket."""

    total: U63 = 0
    literal: U63 = 0
    matched: U63 = 0
    wire_sent: U63 = 0
    wire_received: U63 = 0


class Report(Struct, frozen=True, kw_only=True):
    """What one transfer did, as both ends know it once it is committed."""

    files: Files = Files()
    bytes: Bytes = Bytes()
    durable: bool = False
    dry_run: bool = False
    held: Text = ""
    kernel: Literal["compiled", "pure"] = "pure"
    problems: Annotated[tuple[Problem, ...], Meta(max_length=1 << 20)] = ()
    problems_omitted: U63 = 0
    notices: Annotated[tuple[Text, ...], Meta(max_length=256)] = ()

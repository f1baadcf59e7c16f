"""The record of what a target may not set of an entry, kept beside it in an attribute.

A target that does not run as root cannot give a file to its owner, set bits that act for
another, set attributes for administrators, or create devices. With ``--store-metadata`` it
writes what it was told into ``user.netsync.metadata``; a source with the same option lists the
record instead of what its file system says. A device's record is on an empty regular file, its
placeholder.

A record grants whatever it says when it is restored, so it is believed only where nobody but who
wrote the store can have written it (``is_believed``): on an entry of the user as whom the source
runs, which could say anything anyhow, or of one user whom the command line vouches for; and only
if nobody else may write to the entry, because who may write to a file may set its attributes.
Whoever stores a record therefore takes group's and others' leave to write from the entry.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from netsync.model import DEVICES, U63, Bits, Entry, Kind, Xattr
from netsync.plan import acl
from netsync.plan.ownership import ID_MAX
from netsync.plan.xattrs import (
    SECURITY,
    STORED_NAME,
    TRUSTED,
    Items,
    canonical,
    check,
    namespace_of,
)

VERSION: Final = 1
RECORD_MAX: Final = 64 * 1024
"""Bytes: the kernel takes no larger value of an attribute."""
OTHERS_WRITE: Final = 0o022
"""Permissions with which somebody else might have written a record. An ACL's mask is there too."""

_Id = Annotated[int, Meta(ge=0, le=ID_MAX)]
_Name = Annotated[bytes, Meta(max_length=255)]


class Record(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What an entry is to be; None stays as the file system says.

    ``uid`` and ``gid`` are numbers of the host that holds the record, with the names they have
    there or, where they have none, had at the source. ``xattrs`` are those for administrators and
    the access ACL.
    """

    version: int
    kind: Kind
    mode: Bits | None
    uid: _Id | None
    gid: _Id | None
    user: _Name = b""
    group: _Name = b""
    device: U63 = 0
    xattrs: tuple[Xattr, ...] = ()


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)


def is_storable(name: bytes) -> bool:
    """Tell whether the attribute ``name`` is kept in a record instead of on the entry."""
    return name == acl.ACCESS or namespace_of(name) in (TRUSTED, SECURITY)


def pack(record: Record) -> bytes:
    """Return the record as it is written. One that is too large is left to the kernel to refuse."""
    return _encoder.encode(record)


def parse(data: bytes) -> Record:
    """Return the record in ``data``. Raises ``ValueError`` with what is wrong."""
    if len(data) > RECORD_MAX:
        raise ValueError("it is too large")
    try:
        record = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    if record.version != VERSION:
        raise ValueError(f"it is of version {record.version}, not {VERSION}")
    if record.kind not in DEVICES and record.kind not in (Kind.FILE, Kind.DIRECTORY):
        raise ValueError("it is of a kind that has no record")
    if record.device and record.kind not in DEVICES:
        raise ValueError("only a device has a number")
    if b"\0" in record.user + record.group:
        raise ValueError("a name holds a NUL")
    check(record.xattrs)
    if not all(is_storable(name) for name, _ in record.xattrs):
        raise ValueError("it holds an attribute that is not stored")
    canonical(record.xattrs)  # raises for an ACL that is none
    return record


def is_believed(uid: int, mode: int, users: frozenset[int]) -> bool:
    """Tell whether only one of ``users``, who are believed, can have written an entry's record.

    ``uid`` and ``mode`` are the entry's.
    """
    return uid in users and not mode & OTHERS_WRITE


def fits(record: Record, entry: Entry) -> bool:
    """Tell whether the record can be that of ``entry``, as the file system has it."""
    if record.kind in DEVICES:
        return entry.kind is Kind.FILE and entry.size == 0
    return record.kind is entry.kind


def restored(entry: Entry, record: Record, owner: tuple[int | None, int | None]) -> Entry:
    """Return ``entry`` as ``record`` says; ``owner`` are its numbers as they are to be told."""
    uid, gid = owner
    return msgspec.structs.replace(
        entry,
        kind=record.kind,
        mode=entry.mode if record.mode is None else record.mode,
        uid=entry.uid if uid is None else uid,
        gid=entry.gid if gid is None else gid,
        device=record.device,
    )


def restored_xattrs(items: Items, record: Record) -> Items:
    """Return an entry's attributes: the file system's, the others of the record."""
    held = [item for item in items if not is_storable(item[0])]
    return tuple(sorted([*held, *record.xattrs]))


def with_record(items: Items, record: Record) -> Items:
    """Return what is set on an entry with a record: what that does not say, and itself."""
    held = [item for item in items if not is_storable(item[0])]
    return tuple(sorted([*held, (STORED_NAME, pack(record))]))


def narrowed(mode: int, record: Record) -> int:
    """Return the mode of an entry that has ``record``: nobody else may write to it.

    Without its ACL the bits of the group are the mask's, which is no leave of the group's. Who
    stores may always read and write the entry, or could not read the record again.
    """
    has_acl = any(name == acl.ACCESS for name, _ in record.xattrs)
    own = 0o700 if record.kind is Kind.DIRECTORY else 0o600
    return mode & ~(0o077 if has_acl else OTHERS_WRITE) | own

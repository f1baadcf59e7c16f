"""POSIX ACLs as the kernel shows them: extended attributes of version 2.

An ACL is a version and then entries of eight bytes, all little-endian: a tag, permissions and,
for named users and groups, a number. The numbers are of the host that wrote them, so an ACL is
translated like an owner is. What a peer sends is parsed strictly: a blob that the kernel would
not take never gets near it, and two ACLs that mean the same become the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

ACCESS: Final = b"system.posix_acl_access"
DEFAULT: Final = b"system.posix_acl_default"
NAMES: Final = frozenset({ACCESS, DEFAULT})

USER_OBJ: Final = 0x01
USER: Final = 0x02
GROUP_OBJ: Final = 0x04
GROUP: Final = 0x08
MASK: Final = 0x10
OTHER: Final = 0x20

_VERSION: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_CURRENT: Final = 2
_NO_ID: Final = 0xFFFFFFFF
_RANK: Final = {USER_OBJ: 0, USER: 1, GROUP_OBJ: 2, GROUP: 3, MASK: 4, OTHER: 5}
_NAMED: Final = frozenset({USER, GROUP})
_ONCE: Final = (USER_OBJ, GROUP_OBJ, OTHER)
_SHIFT: Final = {USER_OBJ: 6, MASK: 3, OTHER: 0}
"""Where a mode has the permissions of these tags, if there is a mask."""


class AclEntry(NamedTuple):
    """Permissions (3 bits) of a tag; ``id`` is a number for named users and groups, else 0."""

    tag: int
    permissions: int
    id: int


Acl = tuple[AclEntry, ...]


def parse(value: bytes) -> Acl:
    """Return the ACL in an attribute's value. Raises ``ValueError`` with what is wrong."""
    if len(value) < _VERSION.size or (len(value) - _VERSION.size) % _ENTRY.size:
        raise ValueError("its length is wrong")
    if _VERSION.unpack_from(value)[0] != _CURRENT:
        raise ValueError("its version is not 2")
    entries = []
    for tag, permissions, number in _ENTRY.iter_unpack(value[_VERSION.size :]):
        if tag not in _RANK or permissions & ~7:
            raise ValueError("an entry has an unknown tag or permission")
        if tag in _NAMED and number == _NO_ID:
            raise ValueError("a named entry has no number")
        entries.append(AclEntry(tag, permissions, number if tag in _NAMED else 0))
    _check(entries)
    return tuple(entries)


def _check(entries: list[AclEntry]) -> None:
    tags = [entry.tag for entry in entries]
    if tags != sorted(tags, key=_RANK.__getitem__):
        raise ValueError("its entries are out of order")
    if any(tags.count(tag) != 1 for tag in _ONCE) or tags.count(MASK) > 1:
        raise ValueError("an entry is missing or comes twice")
    if MASK not in tags and not _NAMED.isdisjoint(tags):
        raise ValueError("it names users or groups and has no mask")


def pack(acl: Iterable[AclEntry]) -> bytes:
    """Return the attribute's value of an ACL."""
    return _VERSION.pack(_CURRENT) + b"".join(
        _ENTRY.pack(tag, permissions, number if tag in _NAMED else _NO_ID)
        for tag, permissions, number in acl
    )


def named_ids(acl: Acl) -> tuple[set[int], set[int]]:
    """Return the numbers of the users and of the groups that an ACL names."""
    return (
        {entry.id for entry in acl if entry.tag == USER},
        {entry.id for entry in acl if entry.tag == GROUP},
    )


def translated(acl: Acl, users: Mapping[int, int], groups: Mapping[int, int]) -> Acl:
    """Return an ACL with the local numbers of its users and groups, in one canonical order.

    Where two become the same one, it keeps the permissions that both had: a translation gives
    nobody more than the source did.
    """
    merged: dict[tuple[int, int], int] = {}
    for tag, permissions, number in acl:
        local = users[number] if tag == USER else groups[number] if tag == GROUP else 0
        merged[tag, local] = merged.get((tag, local), 7) & permissions
    ordered = sorted(merged, key=lambda key: (_RANK[key[0]], key[1]))
    return tuple(AclEntry(tag, merged[tag, number], number) for tag, number in ordered)


def canonical(acl: Acl) -> Acl:
    """Return an ACL with its named entries sorted; the kernel keeps the order it was given."""
    return tuple(sorted(acl, key=lambda entry: (_RANK[entry.tag], entry.id)))


def says_no_more_than_a_mode(acl: Acl) -> bool:
    """Tell whether an access ACL holds owner, group and others only: the kernel keeps none then."""
    return len(acl) == len(_ONCE)


def with_mode(acl: Acl, mode: int) -> Acl:
    """Return an access ACL as ``chmod`` to ``mode`` leaves it: the group's bits are the mask's."""
    shifts = _SHIFT if any(entry.tag == MASK for entry in acl) else {**_SHIFT, GROUP_OBJ: 3}
    return tuple(
        entry._replace(permissions=mode >> shifts[entry.tag] & 7) if entry.tag in shifts else entry
        for entry in acl
    )

"""Which extended attributes a transfer keeps: those of some namespaces, never netsync's own.

What lies outside of a scope is neither listed nor compared nor changed. A source tells what it
can see and a target narrows that to what it may keep, so that what one of the two cannot see is
not mistaken for what is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from netsync.model import Keep, Xattr
from netsync.plan import acl

USER: Final = "user"
TRUSTED: Final = "trusted"
SECURITY: Final = "security"
ACL: Final = "acl"
NAMESPACES: Final = (USER, TRUSTED, SECURITY, ACL)

OWN_PREFIX: Final = b"user.netsync."
"""netsync's own notes on a file: never listed, compared, or taken from a peer."""
STORED: Final = "stored"
"""Of a scope only: the one of netsync's own notes that a target sets, with what it may not set."""
STORED_NAME: Final = OWN_PREFIX + b"metadata"
GIVEN_BY_KERNEL: Final = frozenset({b"security.selinux", b"security.SMACK64"})
"""Labels that the target's kernel gives every file: set if the source has one, never removed."""
NAME_MAX: Final = 255
SET_MAX: Final = 64 * 1024
"""Bytes of one entry's attributes with ``ITEM_BYTES`` for each: so that a listing fits a frame.
The kernel takes at most as much for one value, and ext4 by default less than 4 KiB for all."""
ITEM_BYTES: Final = 16

Items = tuple[Xattr, ...]
"""Attributes sorted by name."""


class Scope(Struct, frozen=True, array_like=True):
    """The namespaces of attributes that are kept. Empty, none is."""

    namespaces: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.namespaces)

    def keeps(self, name: bytes) -> bool:
        """Tell whether the attribute ``name`` is kept."""
        if name == STORED_NAME:
            return STORED in self.namespaces
        return namespace_of(name) in self.namespaces

    def kept(self, items: Iterable[Xattr]) -> Items:
        """Return those of ``items`` that are kept."""
        return tuple(item for item in items if self.keeps(item[0]))

    def plus(self, *namespaces: str) -> Scope:
        """Return the scope with ``namespaces`` too."""
        return Scope(self.namespaces + tuple(n for n in namespaces if n not in self.namespaces))

    def without(self, namespace: str) -> Scope:
        """Return the scope without ``namespace``."""
        return Scope(tuple(each for each in self.namespaces if each != namespace))

    def within(self, others: Iterable[str]) -> Scope:
        """Return the scope narrowed to the namespaces that ``others`` has too."""
        theirs = set(others)
        return Scope(tuple(each for each in self.namespaces if each in theirs))


class WantedXattrs(Struct, frozen=True, array_like=True):
    """The attributes that an entry is to have of those in ``scope``; others stay as they are.

    ``storable`` are those that are kept in a record where the entry gets one.
    """

    scope: Scope
    items: Items = ()
    storable: Items = ()


def scope_for(keep: Keep, *, privileged: bool, special: bool = True) -> Scope:
    """Return what a process may see and set. ``special`` is a module's leave to grant privileges.

    An access ACL is most of what a mode is: without permissions there are no ACLs either.
    """
    namespaces = []
    if keep.xattrs:
        namespaces += [USER, TRUSTED, SECURITY] if privileged and special else [USER]
    if keep.acls and keep.perms:
        namespaces.append(ACL)
    return Scope(tuple(namespaces))


def namespace_of(name: bytes) -> str | None:
    """Return the namespace of an attribute, or None if it is no business of a transfer's."""
    if name in acl.NAMES:
        return ACL
    prefix, separator, rest = name.partition(b".")
    if not separator or not rest or name.startswith(OWN_PREFIX):
        return None
    return _BY_PREFIX.get(prefix)


_BY_PREFIX: Final[Mapping[bytes, str]] = {each.encode(): each for each in (USER, TRUSTED, SECURITY)}


def size_of(items: Iterable[Xattr]) -> int:
    """Return the estimated bytes of a set of attributes in a message."""
    return sum(len(name) + len(value) + ITEM_BYTES for name, value in items)


def canonical(items: Iterable[Xattr]) -> Items:
    """Return attributes as they are compared: sorted, each ACL in its one canonical form.

    An access ACL that says no more than the mode is left out, as the kernel does. Raises
    ``ValueError`` for an ACL that is none.
    """
    return _reduced((name, acl.parse(value) if name in acl.NAMES else value)
                    for name, value in items)  # fmt: skip


def _reduced(items: Iterable[tuple[bytes, bytes | acl.Acl]]) -> Items:
    kept = []
    for name, value in items:
        if isinstance(value, bytes):
            kept.append((name, value))
        elif name != acl.ACCESS or not acl.says_no_more_than_a_mode(value):
            kept.append((name, acl.pack(acl.canonical(value))))
    return tuple(sorted(kept))


def localised(items: Iterable[Xattr], users: Mapping[int, int], groups: Mapping[int, int]) -> Items:
    """Return a peer's attributes in their canonical form with local numbers in the ACLs.

    Raises ``ValueError`` for an ACL that is none.
    """
    return _reduced((name, acl.translated(acl.parse(value), users, groups))
                    if name in acl.NAMES else (name, value) for name, value in items)  # fmt: skip


def named_ids(items: Iterable[Xattr]) -> tuple[set[int], set[int]]:
    """Return the numbers of users and groups in the ACLs among ``items``."""
    users: set[int] = set()
    groups: set[int] = set()
    for name, value in items:
        if name in acl.NAMES:
            more_users, more_groups = acl.named_ids(acl.parse(value))
            users |= more_users
            groups |= more_groups
    return users, groups


def with_mode(items: Items, mode: int) -> Items:
    """Return the attributes of an entry whose mode is changed to ``mode`` on its way."""
    return tuple(
        (name, acl.pack(acl.with_mode(acl.parse(value), mode)) if name == acl.ACCESS else value)
        for name, value in items
    )


def check(items: Items) -> None:
    """Raise ``ValueError`` unless a peer may list these: names known, sorted, once; not too large.

    What the values of ACLs say is checked where they are used.
    """
    if size_of(items) > SET_MAX:
        raise ValueError("a set of attributes is too large")
    last = b""
    for name, _ in items:
        if name <= last or len(name) > NAME_MAX or b"\0" in name or namespace_of(name) is None:
            raise ValueError(f"the attribute {name!r} is not allowed or out of order")
        last = name


def equal(present: Items, wanted: Items) -> bool:
    """Tell whether nothing is to be set or removed; labels the kernel gave by itself stay."""
    if present == wanted:
        return True
    names = {name for name, _ in wanted}
    return wanted == tuple(
        item for item in present if item[0] in names or item[0] not in GIVEN_BY_KERNEL
    )

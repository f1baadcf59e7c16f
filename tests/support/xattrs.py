"""Extended attributes and ACLs for tests: written, and read as the system's own tools show them."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

from netsync.plan import acl

Named = tuple[int, int]
"""A named user's or group's number and permissions."""


def acl_value(
    users: Sequence[Named] = (), groups: Sequence[Named] = (), *, mode: int = 0o754
) -> bytes:
    """Return an ACL whose owner, mask and others have the permissions of ``mode``."""
    return acl.pack((
        acl.AclEntry(acl.USER_OBJ, mode >> 6 & 7, 0),
        *(acl.AclEntry(acl.USER, permissions, number) for number, permissions in users),
        acl.AclEntry(acl.GROUP_OBJ, 5, 0),
        *(acl.AclEntry(acl.GROUP, permissions, number) for number, permissions in groups),
        acl.AclEntry(acl.MASK, mode >> 3 & 7, 0),
        acl.AclEntry(acl.OTHER, mode & 7, 0),
    ))  # fmt: skip


def capability_value(permitted: int = 1 << 13) -> bytes:
    """Return a ``security.capability`` of version 2 that grants ``permitted``."""
    return struct.pack("<IIIII", 0x02000001, permitted, 0, 0, 0)


def put(path: Path, **attributes: bytes | None) -> None:
    """Set attributes, or remove those that are None; ``user__a`` stands for ``user.a``."""
    for key, value in attributes.items():
        name = key.replace("__", ".")
        if value is None:
            os.removexattr(path, name, follow_symlinks=False)
        else:
            os.setxattr(path, name, value, follow_symlinks=False)


def attributes_of(path: Path) -> dict[str, bytes]:
    """Return all attributes of an entry, ACLs among them."""
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def attributes_below(root: Path) -> dict[str, dict[str, bytes]]:
    """Return the attributes of ``root`` and of all below it that has some."""
    found = {
        str(path.relative_to(root)): attributes_of(path)
        for path in (root, *sorted(root.rglob("*")))
    }
    return {path: attributes for path, attributes in found.items() if attributes}

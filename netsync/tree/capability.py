"""What this process may do to files: as root anything, otherwise what its groups allow."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import Final

from netsync.plan.compare import Capability

_SYS_ADMIN: Final = 1 << 21
"""``CAP_SYS_ADMIN``: trusted attributes are for who has it outside of all user namespaces."""
_ALL_IDS: Final = (0, 0, 2**32 - 1)
"""``uid_map`` of the first user namespace."""


def capability() -> Capability:
    """Return what this process may do."""
    groups = frozenset({*os.getgroups(), os.getegid()})
    uid = os.geteuid()
    umask = int(_status("Umask") or "077", 8)  # no word from the kernel: the careful answer
    return Capability(uid == 0, groups, umask, uid, sees_trusted())


def sees_trusted() -> bool:
    """Tell whether attributes of the namespace ``trusted`` exist for this process."""
    if not int(_status("CapEff") or "0", 16) & _SYS_ADMIN:
        return False
    try:
        with open("/proc/self/uid_map", encoding="ascii") as mapping:
            return tuple(map(int, mapping.read().split())) == _ALL_IDS
    except OSError:
        return True  # a kernel without user namespaces


def _status(wanted: str) -> str:
    """Return one field of the process's status, without changing what it tells of.

    The umask too can only be asked for by setting it, while other threads may create files.
    """
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name == wanted:
                return value.strip()
    return ""


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us: sessions and mounts hold many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""What this process may do to files: as root anything, otherwise what its groups allow."""

from __future__ import annotations

import os
from typing import TypedDict


class Capability(TypedDict):
    """The part of a target's policy that the operating system decides."""

    privileged: bool
    groups: frozenset[int]
    umask: int


def capability() -> Capability:
    """Return what this process may do."""
    groups = frozenset({*os.getgroups(), os.getegid()})
    return {"privileged": os.geteuid() == 0, "groups": groups, "umask": _umask()}


def _umask() -> int:
    """Return the umask without changing it: other threads may be creating files."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o077  # no word from the kernel: the careful answer

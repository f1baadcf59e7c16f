"""Which mount a descriptor is on, and what is mounted below it.

Names move only within one mount, whatever the device numbers say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_ESCAPED: re.Pattern[bytes] = re.compile(rb"\\([0-7]{3})")
_FIELD: bytes = b"mnt_id:"


def mount_of(fd: int) -> tuple[int, int]:
    """Return what two descriptors have in common between which a name may move.

    That is the file system's number and that of the mount, 0 where /proc does not tell.
    Raises ``OSError``.
    """
    device = os.fstat(fd).st_dev
    try:
        info = os.open(b"/proc/self/fdinfo/%d" % fd, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return device, 0
    try:
        lines = os.read(info, 4096).splitlines()
    finally:
        os.close(info)
    return device, next((int(line[len(_FIELD) :]) for line in lines if line.startswith(_FIELD)), 0)


def mounts_below(directory: int) -> Mapping[int, bytes]:
    """Return the mounts in a directory: each one's number, and its path relative to that.

    Raises ``OSError`` where /proc does not tell.
    """
    above = os.readlink(b"/proc/self/fd/%d" % directory).rstrip(b"/") + b"/"
    with open("/proc/self/mountinfo", "rb") as file:
        fields = [line.split(b" ", 5) for line in file]
    found = {int(each[0]): unescaped(each[4]) for each in fields}
    return {number: path[len(above) :] for number, path in found.items() if path.startswith(above)}


def unescaped(field: bytes) -> bytes:
    """Return a path of /proc/self/mountinfo as it is."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)

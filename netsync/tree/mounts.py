"""Which mount a descriptor is on: names move only within one, whatever the device numbers say."""

from __future__ import annotations

import os

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

"""Cutting the power of a file system: what was not flushed is gone.

``FS_IOC_SHUTDOWN`` without flushing the log stops a file system where it stands, as a power cut
does; mounting it again replays what its journal held. Reached through a loop device, so that
one test's disk is its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_SHUTDOWN: Final = 0x8004587D
"""FS_IOC_SHUTDOWN, of ext4 and xfs alike."""
_NO_LOG_FLUSH: Final = struct.pack("I", 2)
_SIZES: Final = {"ext4": 96 << 20, "xfs": 320 << 20}


class Disk:
    """A file system on an image; ``place`` is where it is mounted."""

    def __init__(self, base: Path, kind: str) -> None:
        self.place = base / "disk"
        self.place.mkdir()
        self._image = base / "image"
        maker = shutil.which(f"mkfs.{kind}")
        if maker is None:
            pytest.skip(f"mkfs.{kind} is not installed")
        self._image.touch()
        os.truncate(self._image, _SIZES[kind])
        subprocess.run([maker, "-q", str(self._image)], check=True, capture_output=True)

    def mount(self) -> None:
        """Mount it, replaying its journal."""
        words = ["mount", "-o", "loop", str(self._image), str(self.place)]
        if subprocess.run(words, check=False, capture_output=True).returncode:
            pytest.skip("no loop devices here, or the kernel has no such file system")

    def unmount(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", str(self.place)], check=True)

    def cut(self) -> None:
        """Cut the power: nothing more reaches the disk."""
        fd = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(fd)

    def restart(self) -> None:
        """Come back after a cut."""
        self.unmount()
        self.mount()


@contextlib.contextmanager
def disk(base: Path, kind: str) -> Iterator[Disk]:
    """Hold a mounted file system of this kind."""
    made = Disk(base, kind)
    made.mount()
    try:
        yield made
    finally:
        subprocess.run(["umount", "--lazy", str(made.place)], check=False)

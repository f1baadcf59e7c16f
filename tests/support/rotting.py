"""Files that rot: bytes on a disk change, and no time, size or inode does.

A file's change time cannot be set through the kernel, and it can be on a file system that is not
mounted. So the files lie on an ext4 in an image, made with a change time of long ago (else nothing
would be remembered of them yet), and rot by a byte of one of their blocks in the image.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import wait_until

_BYTES: Final = 16 << 20
_BLOCK: Final = 1024
_LONG_AGO: Final = "20260101000000"
needs_images: Final = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("debugfs") is None, reason="needs root and e2fsprogs"
)


class Disk:
    """An ext4 with ``files``, mounted at ``place``."""

    def __init__(self, base: Path, files: Mapping[str, bytes]) -> None:
        base.mkdir()
        self.place = base / "disk"
        self.place.mkdir()
        self._image = base / "image"
        made = base / "made"
        for name, content in files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_bytes(content)
            os.utime(made / name, (1_700_000_000, 1_700_000_000))
        self._image.touch()
        os.truncate(self._image, _BYTES)
        _run("mke2fs", "-q", "-t", "ext4", "-b", str(_BLOCK), "-d", str(made), str(self._image))
        shutil.rmtree(made)
        self.age(*files)

    def age(self, *names: str) -> None:
        """Let files have changed long ago. The disk is not mounted."""
        for name in names:
            self._debug("-w", f"set_inode_field /{name} ctime {_LONG_AGO}")

    def mount(self) -> None:
        """Mount it."""
        _run("mount", "-o", "loop", str(self._image), str(self.place))
        shutil.rmtree(self.place / "lost+found", ignore_errors=True)

    def unmount(self) -> None:
        """Unmount it, once a server has let go of what it had open in it."""
        words = ["umount", str(self.place)]

        def unmounted() -> bool:
            return subprocess.run(words, capture_output=True, check=False).returncode == 0

        wait_until(unmounted, "nobody uses the disk")

    def rot(self, name: str) -> bytes:
        """Change a byte in the middle of a file on the disk, mounted or not; return its content."""
        file = self.place / name
        before = file.stat()
        self.unmount()
        blocks = self._debug(f"blocks /{name}").split()
        at = int(blocks[len(blocks) // 2]) * _BLOCK
        with self._image.open("r+b") as image:
            image.seek(at)
            was = image.read(1)[0]
            image.seek(at)
            image.write(bytes([was ^ 0x40]))
        self.mount()
        after = file.stat()
        assert (before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
            after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns,
        )  # fmt: skip
        return file.read_bytes()

    def _debug(self, *words: str) -> str:
        return _run("debugfs", *words[:-1], "-R", words[-1], str(self._image))


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def disk(base: Path, files: Mapping[str, bytes]) -> Iterator[Disk]:
    """Hold a mounted disk with ``files``."""
    made = Disk(base, files)
    made.mount()
    try:
        yield made
    finally:
        subprocess.run(["umount", "--lazy", str(made.place)], check=False)

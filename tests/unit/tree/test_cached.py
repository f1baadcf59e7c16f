"""Whether a name can be looked up without waiting for a disk."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from netsync.tree.cached import is_cached
from netsync.tree.directories import OPEN_DIRECTORY
from tests.support.trees import needs_mount


def test_what_was_looked_at_is_cached(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    fd = os.open(tmp_path, OPEN_DIRECTORY)
    try:
        for name in (b"file", b"link", b"missing"):
            (tmp_path / os.fsdecode(name)).is_symlink()
            assert is_cached(fd, name)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            is_cached(fd, b"file")
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(fd)


@needs_mount
def test_what_lies_on_a_disk_is_not(tmp_path: Path) -> None:
    image, place = tmp_path / "image", tmp_path / "place"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-qF", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    (place / "file").touch()
    subprocess.run(["umount", place], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        fd = os.open(place, OPEN_DIRECTORY)
        assert not is_cached(fd, b"file")
        os.stat(b"file", dir_fd=fd)
        assert is_cached(fd, b"file")
        os.close(fd)
    finally:
        subprocess.run(["umount", place], check=True)

"""Trees for tests: made from a table, read back as one, and places to put them."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from netsync.names import RESERVED_PREFIX, join
from netsync.tree.directories import Directories

Value = bytes | str | None | Mapping[str, "Value"]
"""A file's bytes, a link's text, None for a FIFO, or a directory's table."""

needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a file system")


def make_tree(root: Path, table: Mapping[str, Value]) -> Path:
    """Create ``table`` below ``root``, which is returned."""
    root.mkdir(parents=True, exist_ok=True)
    for name, value in table.items():
        path = root / name
        if isinstance(value, bytes):
            path.write_bytes(value)
        elif isinstance(value, str):
            path.symlink_to(value)
        elif value is None:
            os.mkfifo(path)
        else:
            make_tree(path, value)
    return root


def read_tree(root: Path) -> dict[str, Value]:
    """Return what is below ``root``, netsync's own temporaries included."""
    table: dict[str, Value] = {}
    for path in sorted(root.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            table[path.name] = path.read_bytes()
        elif stat.S_ISLNK(mode):
            table[path.name] = os.readlink(path)
        elif stat.S_ISDIR(mode):
            table[path.name] = read_tree(path)
        else:
            table[path.name] = None
    return table


def temporaries(root: Path) -> list[bytes]:
    """Return the reserved names anywhere below ``root``."""
    return [
        os.fsencode(name)
        for _, directories, files in os.walk(root)
        for name in (*directories, *files)
        if os.fsencode(name).startswith(RESERVED_PREFIX)
    ]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Hold a descriptor of the directory ``path``."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """Mount a file system of ``size`` bytes at ``path``."""
    path.mkdir(exist_ok=True)
    options = f"size={size},mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def ext4(base: Path, *, inode_bytes: int = 256) -> Iterator[Path]:
    """Mount an ext4 of 8 MiB; skip where there is none.

    With inodes of 128 bytes it holds whole seconds from 1901 to 2038.
    """
    image, place = base / "image", base / "mounted"
    image.touch()
    os.truncate(image, 8 << 20)
    place.mkdir()
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("e2fsprogs is not installed")
    subprocess.run(
        ["mkfs.ext4", "-q", "-I", str(inode_bytes), image], check=True, capture_output=True
    )
    if subprocess.run(["mount", "-o", "loop", image, place], check=False).returncode:
        pytest.skip("no loop devices here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def open_descriptors() -> int:
    """Count this process's descriptors."""
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def hung_disk(path: Path) -> Iterator[None]:
    """Mount at ``path`` a file system of whose server nothing is ever heard (FUSE, unanswered).

    Whoever touches it waits until the block ends, and then gets an error.
    """
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
        words = ["mount", "-i", "-t", "fuse", "-o", options, "hung", str(path)]
        subprocess.run(words, check=True, pass_fds=[device])
        try:
            yield
        finally:
            os.close(device)  # nobody is left who could answer: all who wait are told so
            device = -1
            subprocess.run(["umount", "--lazy", str(path)], check=True)
    finally:
        if device >= 0:
            os.close(device)


def every_directory(directories: Directories) -> list[bytes]:
    """Return the paths of all directories in the order of a listing."""
    paths: list[bytes] = []
    pending = [b""]
    while pending:
        path = pending.pop()
        paths.append(path)
        names = sorted(each.name for each in os.scandir(directories.fd(path)) if each.is_dir())
        pending += [join(path, os.fsencode(name)) for name in reversed(names)]
    return paths

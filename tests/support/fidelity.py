"""A tree that has everything a file system can hold, and the facts to hold a copy against.

Eight levels deep, each with every kind of inode, odd names, hard links to other levels, extended
attributes, ACLs and holes. All is done below held descriptors, so paths may be longer than what
the kernel takes in one call.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

LEVELS: Final = 8
BLOCK: Final = 64 * 1024
LEVEL_NAMES: Final = (
    b"level", b"-rf", b"new\nline", b"\xff\xfe raw", b"caf\xc3\xa9", b"cafe\xcc\x81", b"*?[a]",
    b"d" * 255,
)  # fmt: skip
TIMES: Final = (
    -2_000_000_000_123_456_789, -1, 0, 999_999_999, 1_600_000_000_000_000_001,
    4_294_967_296_123_456_789,
)  # fmt: skip
MODES: Final = (0o640, 0o4755, 0o2750, 0o1604, 0o600)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_NO_ID: Final = 0xFFFFFFFF
ACCESS: Final = "system.posix_acl_access"
DEFAULT: Final = "system.posix_acl_default"


class Facts(NamedTuple):
    """What must be equal: ``content`` is a digest, a link's text or a device's number."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    content: object
    attributes: tuple[tuple[str, bytes], ...]
    first_name: bytes
    data: tuple[tuple[int, int], ...]
    """Where the data of a file with holes lies."""


def acl(user: int, permissions: int) -> bytes:
    """Return an ACL as the kernel keeps it, with an entry for ``user``."""
    entries = (
        (_USER_OBJ, 6, _NO_ID), (_USER, permissions, user), (_GROUP_OBJ, 4, _NO_ID),
        (_GROUP, 5, user + 1), (_MASK, 7, _NO_ID), (_OTHER, 0, _NO_ID),
    )  # fmt: skip
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


class Builder:
    """Builds the tree. Without ``privileged`` it holds what an ordinary user can make."""

    def __init__(self, root: Path, seed: int, *, privileged: bool) -> None:
        self._choose = random.Random(seed)
        self._privileged = privileged
        self._root = root

    def build(self) -> Path:
        """Build all of it and return the root."""
        self._root.mkdir()
        with contextlib.ExitStack() as held:
            fds = [os.open(self._root, _DIRECTORY)]
            held.callback(os.close, fds[0])
            for name in LEVEL_NAMES:
                os.mkdir(name, dir_fd=fds[-1])
                fds.append(os.open(name, _DIRECTORY, dir_fd=fds[-1]))
                held.callback(os.close, fds[-1])
            for level, fd in enumerate(fds):
                self._level(fd, level)
            for level, fd in enumerate(fds):
                self._links(fd, fds[(level + 3) % len(fds)], level)
            for fd in reversed(fds):
                self._dates(fd)
        return self._root

    def _level(self, fd: int, level: int) -> None:
        for index, size in enumerate((0, 1, 5000, 300_000)):
            self._file(fd, b"file%d" % index, self._choose.randbytes(size), level + index)
        self._sparse(fd)
        os.symlink(b"file1", b"link", dir_fd=fd)
        os.symlink(b"../../no\xffwhere\n", b"dangling", dir_fd=fd)
        os.mkfifo(b"fifo", 0o640, dir_fd=fd)
        os.mkdir(b"empty", 0o700, dir_fd=fd)
        directory = os.open(b"empty", _DIRECTORY, dir_fd=fd)
        os.setxattr(directory, DEFAULT, acl(1000 + level, 5))
        os.setxattr(directory, "user.level", b"%d" % level)
        os.fchmod(directory, 0o3751)
        os.close(directory)
        for name in (
            b"caf\xc3\xa9",
            b"cafe\xcc\x81",
            b"--delete",
            b" ",
            b"back\\slash",
            b"n" * 255,
        ):
            with contextlib.suppress(FileExistsError):  # the next level may be called so
                self._file(fd, name, name, level)
        if self._privileged:
            os.mknod(b"socket", stat.S_IFSOCK | 0o600, dir_fd=fd)
            os.mknod(b"character", stat.S_IFCHR | 0o660, os.makedev(1, 3), dir_fd=fd)
            os.mknod(b"block", stat.S_IFBLK | 0o600, os.makedev(7, 200 + level), dir_fd=fd)
            os.chown(b"link", 4_000_000_000, level, dir_fd=fd, follow_symlinks=False)

    def _file(self, fd: int, name: bytes, data: bytes, turn: int) -> None:
        file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, dir_fd=fd)
        os.write(file, data)
        if self._privileged:
            os.fchown(file, 12_345 + turn, turn)
            os.setxattr(file, "trusted.secret", b"\0\xff" * turn)
            os.setxattr(
                file, "security.capability", struct.pack("<5I", 0x2000001, 1 << turn, 0, 0, 0)
            )
        os.fchmod(file, MODES[turn % len(MODES)] & (0o7777 if self._privileged else 0o777))
        os.setxattr(file, "user.note\xff" if turn % 2 else "user.note", b"x" * (turn * 100))
        if turn % 3:
            os.setxattr(file, ACCESS, acl(2000 + turn, turn % 8))
        os.close(file)

    def _sparse(self, fd: int) -> None:
        file = os.open(b"sparse", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, dir_fd=fd)
        for offset in (4 * BLOCK, 60 * BLOCK):
            os.pwrite(file, self._choose.randbytes(BLOCK), offset)
        os.ftruncate(file, 100 * BLOCK)
        os.close(file)

    def _links(self, fd: int, other: int, level: int) -> None:
        kinds = [b"file2", b"link", b"fifo", *([b"character"] if self._privileged else [])]
        for kind in kinds:
            name = b"also %d " % level + kind
            os.link(kind, name, src_dir_fd=fd, dst_dir_fd=other, follow_symlinks=False)

    def _dates(self, fd: int) -> None:
        for index, name in enumerate(sorted(os.fsencode(name) for name in os.listdir(fd))):
            time = TIMES[index % len(TIMES)]
            os.utime(name, ns=(time, time), dir_fd=fd, follow_symlinks=False)


def snapshot(root: Path, *, owned: bool = True) -> dict[bytes, Facts]:
    """Return the facts of everything below ``root`` by path, and of itself under an empty name.

    Without ``owned`` what an ordinary user cannot keep is left out: owners, devices, set-id bits
    and attributes outside of ``user.*`` and ACLs.
    """
    fd = os.open(root, _DIRECTORY)
    first: dict[tuple[int, int], bytes] = {}
    try:
        found = dict(_walk(fd, b"", first))
    finally:
        os.close(fd)
    return found if owned else {path: _unowned(facts) for path, facts in found.items()}


def _unowned(facts: Facts) -> Facts:
    kept = tuple(
        each for each in facts.attributes if each[0].startswith(("user.", "system.posix_acl"))
    )
    return facts._replace(uid=0, gid=0, attributes=kept)


def _walk(
    fd: int, path: bytes, first: dict[tuple[int, int], bytes]
) -> Iterator[tuple[bytes, Facts]]:
    yield path, _facts(fd, b".", path, first)
    for name in sorted(os.fsencode(name) for name in os.listdir(fd)):
        below = path + b"/" + name if path else name
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            child = os.open(name, _DIRECTORY, dir_fd=fd)
            try:
                yield from _walk(child, below, first)
            finally:
                os.close(child)
        else:
            yield below, _facts(fd, name, below, first)


def _facts(fd: int, name: bytes, path: bytes, first: dict[tuple[int, int], bytes]) -> Facts:
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    content: object = None
    if kind == stat.S_IFREG:
        with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd), "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif kind == stat.S_IFLNK:
        content = os.readlink(name, dir_fd=fd)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        content = status.st_rdev
    held = b"/proc/self/fd/%d/" % fd + name
    attributes = tuple(
        (each, os.getxattr(held, each, follow_symlinks=False))
        for each in sorted(os.listxattr(held, follow_symlinks=False))
    )
    first_name = path
    if status.st_nlink > 1 and kind != stat.S_IFDIR:
        first_name = first.setdefault((status.st_dev, status.st_ino), path)
    regular = kind == stat.S_IFREG
    return Facts(
        kind=kind,
        mode=0 if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        size=status.st_size if regular else 0,
        content=content,
        attributes=attributes,
        first_name=first_name,
        data=_data(fd, name) if regular and status.st_blocks * 512 < status.st_size else (),
    )


def _data(fd: int, name: bytes) -> tuple[tuple[int, int], ...]:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
    found, end = [], 0
    with contextlib.suppress(OSError):  # no more data
        while True:
            start = os.lseek(file, end, os.SEEK_DATA)
            end = os.lseek(file, start, os.SEEK_HOLE)
            found.append((start, end))
    os.close(file)
    return tuple(found)

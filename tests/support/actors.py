"""Somebody who does random things to two trees at once, and expects the same of both."""

from __future__ import annotations

import mmap
import os
import random
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NAMES = ("a", "b", "c", "d")
SIZE_MAX = 200_000


@dataclass
class Pair:
    """The same file, open in both trees."""

    fds: tuple[int, int]


class Actor:
    """``roots`` are two empty directories, which stay alike."""

    def __init__(self, one: Path, other: Path, seed: int) -> None:
        self.roots = (one, other)
        self.chance = random.Random(seed)
        self.open: list[Pair] = []
        self.did: list[str] = []

    def act(self, times: int) -> None:
        """Do that many things."""
        actions: list[Callable[[], None]] = [
            self.create, self.create, self.write, self.write, self.write, self.append,
            self.truncate, self.read, self.map, self.close, self.unlink, self.rename, self.rename,
            self.link, self.symlink, self.mkdir, self.rmdir, self.chmod, self.chown, self.utime,
            self.set_attribute, self.remove_attribute, self.fsync, self.listing,
        ]  # fmt: skip
        for _ in range(times):
            self.chance.choice(actions)()

    def finish(self) -> None:
        """Close everything."""
        while self.open:
            self.close()

    def path(self) -> str:
        """Return some path, of up to three components."""
        return "/".join(self.chance.choices(NAMES, k=self.chance.choice((1, 1, 2, 2, 3))))

    def both(self, words: str, call: Callable[[Path], object], *paths: str) -> None:
        """Do ``call`` to both trees, and expect the same result or error."""
        self.did.append(f"{words} {' '.join(paths)}")
        results = []
        for root in self.roots:
            try:
                results.append((0, call(root)))
            except OSError as error:
                results.append((error.errno or -1, None))
        assert results[0] == results[1], (self.did[-20:], results)

    def on_open(self, words: str, call: Callable[[int], object]) -> None:
        """Do ``call`` to an open file of both trees."""
        if not self.open:
            return
        pair = self.chance.choice(self.open)
        self.did.append(f"{words} {pair.fds}")
        results = [call(fd) for fd in pair.fds]
        assert results[0] == results[1], (self.did[-20:], results)

    def data(self) -> bytes:
        return self.chance.randbytes(self.chance.choice((1, 10, 4096, 5000, 70_000)))

    def offset(self) -> int:
        return self.chance.choice((0, 1, 4095, 4096, self.chance.randrange(SIZE_MAX)))

    def create(self) -> None:
        path = self.path()
        flags = os.O_CREAT | os.O_RDWR
        flags |= self.chance.choice((0, os.O_EXCL, os.O_TRUNC))
        fds: list[int] = []
        self.both("open", lambda root: fds.append(os.open(root / path, flags, 0o644)), path)
        if len(fds) == 2:
            self.open.append(Pair((fds[0], fds[1])))
        if len(self.open) > 5:
            self.close()

    def write(self) -> None:
        data, offset = self.data(), self.offset()
        self.on_open("write", lambda fd: os.pwrite(fd, data, offset))

    def append(self) -> None:
        path, data = self.path(), self.data()

        def work(root: Path) -> int:
            fd = os.open(root / path, os.O_WRONLY | os.O_APPEND)
            try:
                return os.write(fd, data)
            finally:
                os.close(fd)

        self.both("append", work, path)

    def truncate(self) -> None:
        path, size = self.path(), self.offset()
        if self.chance.random() < 0.5:
            self.both("truncate", lambda root: os.truncate(root / path, size), path)
        else:
            self.on_open("ftruncate", lambda fd: os.ftruncate(fd, size))

    def read(self) -> None:
        offset = self.offset()
        self.on_open("read", lambda fd: os.pread(fd, 100_000, offset))

    def map(self) -> None:
        data = self.data()[:4096]

        def work(fd: int) -> int:
            size = os.fstat(fd).st_size
            if size < len(data):
                return 0
            with mmap.mmap(fd, size) as memory:
                memory[size - len(data) : size] = data
                memory.flush()
            return size

        self.on_open("mmap", work)

    def close(self) -> None:
        if self.open:
            for fd in self.open.pop(self.chance.randrange(len(self.open))).fds:
                os.close(fd)

    def unlink(self) -> None:
        path = self.path()
        self.both("unlink", lambda root: os.unlink(root / path), path)

    def rename(self) -> None:
        path, to = self.path(), self.path()
        self.both("rename", lambda root: os.rename(root / path, root / to), path, to)

    def link(self) -> None:
        path, to = self.path(), self.path()
        self.both(
            "link", lambda root: os.link(root / path, root / to, follow_symlinks=False), path, to
        )

    def symlink(self) -> None:
        path, target = self.path(), self.path()
        self.both("symlink", lambda root: os.symlink(target, root / path), path)

    def mkdir(self) -> None:
        path = self.path()
        self.both("mkdir", lambda root: os.mkdir(root / path), path)

    def rmdir(self) -> None:
        path = self.path()
        self.both("rmdir", lambda root: os.rmdir(root / path), path)

    def chmod(self) -> None:
        path, mode = self.path(), self.chance.choice((0o600, 0o755, 0o1640, 0o1777))
        self.both("chmod", lambda root: os.chmod(root / path, mode), path)

    def chown(self) -> None:
        path, owner = self.path(), self.chance.randrange(5)
        self.both("chown", lambda root: os.lchown(root / path, owner, 7), path)

    def utime(self) -> None:
        path, time = self.path(), self.chance.randrange(10**18)
        self.both("utime", lambda root: os.utime(root / path, ns=(5, time)), path)

    def set_attribute(self) -> None:
        path, name, value = self.path(), f"user.{self.chance.choice(NAMES)}", self.data()[:100]
        self.both("setxattr", lambda root: os.setxattr(root / path, name, value), path)

    def remove_attribute(self) -> None:
        path, name = self.path(), f"user.{self.chance.choice(NAMES)}"
        self.both("removexattr", lambda root: os.removexattr(root / path, name), path)

    def fsync(self) -> None:
        self.on_open("fsync", os.fsync)

    def listing(self) -> None:
        path = self.path()
        self.both("list", lambda root: sorted(os.listdir(root / path)), path)


def described(root: Path) -> dict[str, object]:
    """Return all that there is below ``root``, but inode numbers and what nobody set."""
    found: dict[str, object] = {}
    shared: dict[int, list[str]] = {}
    for directory, directories, files in os.walk(root):
        for name in sorted((*directories, *files)):
            path = Path(directory, name)
            shown = str(path.relative_to(root))
            status = path.lstat()
            facts: list[object] = [oct(status.st_mode), status.st_uid, status.st_gid]
            attributes = sorted(os.listxattr(path, follow_symlinks=False))
            facts += [(each, os.getxattr(path, each, follow_symlinks=False)) for each in attributes]
            if stat.S_ISREG(status.st_mode):
                facts.append(path.read_bytes())
            if stat.S_ISLNK(status.st_mode):
                facts.append(os.readlink(path))
            if not stat.S_ISDIR(status.st_mode):
                shared.setdefault(status.st_ino, []).append(shown)
            found[shown] = facts
    found["shared"] = sorted(sorted(names) for names in shared.values() if len(names) > 1)
    return found


def times(root: Path) -> dict[str, int]:
    """Return the modification times of all but directories."""
    found = {}
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(directory, name)
            if path.is_symlink() or not path.is_dir():
                found[str(path.relative_to(root))] = path.lstat().st_mtime_ns
    return found

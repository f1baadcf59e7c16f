"""Sample trees that hold what real ones hold, made and edited at random from a seed.

All paths are bytes, as names may be any. What needs root (owners, device nodes) is left out
without it.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

MIB: Final = 1024 * 1024
PRIVILEGED: Final = os.geteuid() == 0
SIZES: Final = (0, 1, 13, 4095, 4096, 16_383, 16_384, 65_537, 300_000)
"""File sizes around the limits the engine knows."""
ODD_NAMES: Final = (
    b"-rf", b"--delete", b"new\nline", b"tab\there", b"back\\slash", b"\xff\xfe\x80", b" ", b"  x ",
    b"caf\xc3\xa9", b"*", b"[a]", b"!", b"#c", b"~", b"'\"", b"a:b", b"x::y", b"%s", b"\x01\x7f",
    b"n" * 255, b".hidden", b"...", b"\xe2\x80\xae",
)  # fmt: skip
ODD_TIMES: Final = (
    -1, -1_000_000_000, -2_000_000_000_123_456_789, 0, 1, 999_999_999, 1_600_000_000_000_000_001,
    2_147_483_648_000_000_000, 4_294_967_296_123_456_789,
)  # fmt: skip
"""Modification times in ns: the epoch's both sides, 1906, 2038 and 2106."""
ODD_MODES: Final = (0o000, 0o400, 0o777, 0o4755, 0o2755, 0o6711, 0o1644)
OWNERS: Final = (0, 1, 12_345, 4_000_000_000)
LINKS: Final = (b"dangling", b"/absolute/nowhere", b"../..", b"./x/../y", b"l" * 1000, b"\xff\n")
KINDS: Final = ("file", "directory", "symlink", "fifo")


class Facts(NamedTuple):
    """What two trees are compared by; ``content`` is a digest, a link's text or a device."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: object


def snapshot(root: Path | bytes) -> dict[bytes, Facts]:
    """Return the facts of everything below ``root``, and of itself under an empty name."""
    top = os.fsencode(root)
    return {path[len(top) + 1 :]: _facts(path) for path in (top, *walk(top))}


def _facts(path: bytes) -> Facts:
    status = os.lstat(path)
    content: object = None
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        content = status.st_rdev
    mode = 0 if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
    kind = stat.S_IFMT(status.st_mode)
    return Facts(kind, mode, status.st_uid, status.st_gid, status.st_mtime_ns, content)


def contents(root: Path | bytes) -> dict[bytes, tuple[int, object]]:
    """Return kind and content of everything below ``root``, without metadata."""
    return {path: (facts.kind, facts.content) for path, facts in snapshot(root).items()}


def names(root: Path | bytes) -> set[bytes]:
    """Return the relative paths of everything below ``root``."""
    top = os.fsencode(root)
    return {path[len(top) + 1 :] for path in walk(top)}


def walk(top: bytes) -> Iterator[bytes]:
    """Yield all paths below ``top``, parents first, in one fixed order."""
    for entry in sorted(os.scandir(top), key=lambda each: each.name):
        yield entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)


def write(root: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """Write named small files below ``root`` (None: a directory); return ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def random_bytes(size: int, seed: int) -> bytes:
    """Return ``size`` bytes that no compression makes smaller."""
    return random.Random(seed).randbytes(size)


def build_tree(root: Path, seed: int, *, large: bool = True) -> Path:
    """Build a tree with one of everything, and return ``root``."""
    choose = random.Random(seed)
    top = os.fsencode(root)
    os.makedirs(top)
    for index, size in enumerate(SIZES + ((MIB + 1, 5 * MIB) if large else ())):
        _make_file(top + b"/size%d" % index, size, choose)
    _build_nested(top + b"/nested", choose)
    _build_odd(top + b"/odd", choose)
    _build_special(top + b"/special")
    _build_modes(top + b"/modes", choose)
    _build_times(top + b"/times", choose)
    if PRIVILEGED:
        _build_owners(top + b"/owners", choose)
    for index, directory in enumerate(_directories(top)):
        os.utime(directory, ns=(0, 1_500_000_000_000_000_000 + index))
    return root


def _make_file(path: bytes, size: int, choose: random.Random) -> None:
    with open(path, "wb") as file:
        file.write(choose.randbytes(size))


def _build_nested(top: bytes, choose: random.Random) -> None:
    path = top
    for depth in range(12):
        os.makedirs(path + b"/empty")
        _make_file(path + b"/file", choose.choice(SIZES[:6]), choose)
        path += b"/d%d" % depth
    os.makedirs(top + b"/many")
    for index in range(300):
        _make_file(top + b"/many/f%d" % index, choose.randrange(200), choose)


def _build_odd(top: bytes, choose: random.Random) -> None:
    os.mkdir(top)
    for name in ODD_NAMES:
        _make_file(top + b"/" + name, choose.choice(SIZES[:4]), choose)
    for name in ODD_NAMES[:6]:
        os.mkdir(top + b"/d" + name)
        _make_file(top + b"/d" + name + b"/" + name, 5, choose)


def _build_special(top: bytes) -> None:
    os.mkdir(top)
    for index, text in enumerate(LINKS):
        os.symlink(text, top + b"/link%d" % index)
    os.mkfifo(top + b"/fifo", 0o640)
    os.mknod(top + b"/socket", stat.S_IFSOCK | 0o600)
    if PRIVILEGED:
        os.mknod(top + b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(top + b"/block", stat.S_IFBLK | 0o600, os.makedev(7, 300))


def _build_modes(top: bytes, choose: random.Random) -> None:
    os.mkdir(top)
    for mode in ODD_MODES:
        _make_file(top + b"/f%o" % mode, 10, choose)
        os.chmod(top + b"/f%o" % mode, mode)
    for mode in (0o700, 0o500, 0o1777, 0o2775, 0o3770):
        directory = top + b"/d%o" % mode
        os.mkdir(directory)
        _make_file(directory + b"/in", 3, choose)
        os.chmod(directory, mode)


def _build_times(top: bytes, choose: random.Random) -> None:
    os.mkdir(top)
    for index, moment in enumerate(ODD_TIMES):
        path = top + b"/t%d" % index
        _make_file(path, 20, choose)
        os.utime(path, ns=(moment, moment))
        os.symlink(b"t%d" % index, top + b"/l%d" % index)
        os.utime(top + b"/l%d" % index, ns=(moment, moment), follow_symlinks=False)


def _build_owners(top: bytes, choose: random.Random) -> None:
    os.mkdir(top)
    for uid in OWNERS:
        for gid in OWNERS:
            path = top + b"/u%d-g%d" % (uid, gid)
            _make_file(path, 7, choose)
            os.chown(path, uid, gid)
            os.symlink(b"x", path + b"-link")
            os.lchown(path + b"-link", uid, gid)
    os.chmod(top + b"/u1-g1", 0o6755)  # behind its chown, which clears these bits


def _directories(top: bytes) -> list[bytes]:
    found = [path for path in walk(top) if os.path.isdir(path) and not os.path.islink(path)]
    return [*reversed(found), top]


class Editor:
    """Changes a tree at random, as users and programs do."""

    def __init__(self, root: Path, choose: random.Random) -> None:
        self._top = os.fsencode(root)
        self._choose = choose
        self._made = 0

    def edit(self, count: int) -> None:
        """Make ``count`` edits."""
        for _ in range(count):
            self._choose.choice(self._edits())()

    def _edits(self) -> list[Callable[[], None]]:
        edits = [
            self._delete, self._add, self._append, self._change_bytes, self._shorten, self._rename,
            self._change_kind, self._chmod, self._touch, self._relink,
        ]  # fmt: skip
        return [*edits, self._chown] if PRIVILEGED else edits

    def _any(self, wanted: Callable[[int], bool] = lambda _: True) -> bytes | None:
        found = [path for path in walk(self._top) if wanted(os.lstat(path).st_mode)]
        return self._choose.choice(found) if found else None

    def _new_path(self) -> bytes:
        self._made += 1
        name = b"new%d-%d" % (self._made, self._choose.randrange(1000))
        return (self._any(stat.S_ISDIR) or self._top) + b"/" + name

    def _make(self, path: bytes, kind: str) -> None:
        if kind == "directory":
            os.mkdir(path)
            for index in range(self._choose.randrange(4)):
                _make_file(path + b"/%d" % index, self._choose.choice(SIZES[:7]), self._choose)
        elif kind == "symlink":
            os.symlink(self._choose.choice(LINKS), path)
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            _make_file(path, self._choose.choice(SIZES), self._choose)

    def _add(self) -> None:
        self._make(self._new_path(), self._choose.choice(KINDS))

    def _delete(self) -> None:
        if (path := self._any()) is not None:
            _remove(path)

    def _change_kind(self) -> None:
        if (path := self._any()) is not None:
            _remove(path)
            self._make(path, self._choose.choice(KINDS))

    def _append(self) -> None:
        if (path := self._any(stat.S_ISREG)) is not None:
            with open(path, "ab") as file:
                file.write(self._choose.randbytes(self._choose.randrange(1, 5000)))

    def _change_bytes(self) -> None:
        path = self._any(stat.S_ISREG)
        if path is None or not os.path.getsize(path):
            return
        with open(path, "r+b") as file:
            file.seek(self._choose.randrange(os.path.getsize(path)))
            file.write(self._choose.randbytes(1))

    def _shorten(self) -> None:
        if (path := self._any(stat.S_ISREG)) is not None:
            os.truncate(path, self._choose.randrange(os.path.getsize(path) + 1))

    def _rename(self) -> None:
        path, new = self._any(), self._new_path()
        if path is not None and not new.startswith(path + b"/"):
            os.rename(path, new)

    def _chmod(self) -> None:
        path = self._any(lambda mode: not stat.S_ISLNK(mode))
        if path is not None:
            os.chmod(path, self._choose.choice(ODD_MODES))

    def _chown(self) -> None:
        if (path := self._any()) is not None:
            os.lchown(path, self._choose.choice(OWNERS), self._choose.choice(OWNERS))

    def _touch(self) -> None:
        if (path := self._any()) is not None:
            moment = self._choose.choice(ODD_TIMES) + self._choose.randrange(10**9)
            os.utime(path, ns=(0, moment), follow_symlinks=False)

    def _relink(self) -> None:
        if (path := self._any(stat.S_ISLNK)) is not None:
            os.unlink(path)
            os.symlink(b"relinked-%d" % self._choose.randrange(10**6), path)


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)

"""Mounting and unmounting: the two system calls, and all that must be right before them.

The mount outlives the process that serves it on purpose: whoever uses it when the process is killed
gets ENOTCONN, and never sees the empty directory below. So it is removed in two places only: here,
when the mirror ends in order, and by the next start, which finds it dead.

root mounts by itself, anybody else through ``fusermount3``, which hands the device over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
from typing import Final, NamedTuple

from netsync.errors import RootError, UsageError, reason, root_error
from netsync.names import contains
from netsync.tree import calls
from netsync.tree.mounts import unescaped

FILE_SYSTEM: Final = "fuse.netsync"
"""What mount tables call our mounts."""
_HELPER: Final = "fusermount3"
_HELPER_SECONDS: Final = 20.0
"""The helper takes milliseconds, unless something is stuck."""
_DEVICE: Final = "/dev/fuse"
_DETACH, _NOFOLLOW = 2, 8
"""Flags of ``umount2``."""
_DEAD: Final = frozenset({errno.ENOTCONN, errno.ECONNABORTED})
"""What a mount answers whose process has died."""
_MOUNTS: Final = "/proc/self/mountinfo"


class Busy(Exception):  # noqa: N818 - a state, which passes
    """The mount cannot be removed now: programs use it."""


class User(NamedTuple):
    """A process that uses a mount."""

    pid: int
    name: str


def check_places(directory: bytes, mountpoint: bytes) -> None:
    """Refuse a mount that would show itself, or hide something. Both are resolved paths.

    Raises ``UsageError``.
    """
    for outer, inner, words in (
        (directory, mountpoint, "it lies in the directory that is to be mirrored"),
        (mountpoint, directory, "the directory that is to be mirrored lies in it"),
    ):
        if contains(outer, inner) or _is_above(outer, inner):
            hint = "use a directory beside it"
            raise UsageError(words, op="mount on", where=mountpoint, hint=hint)
    try:
        names = os.listdir(mountpoint)
    except OSError as error:
        hint = "create an empty directory" if error.errno == errno.ENOENT else ""
        raise UsageError(reason(error), op="mount on", where=mountpoint, hint=hint) from error
    if names:
        raise UsageError(
            "it is not empty, and what is in it would be hidden",
            op="mount on",
            where=mountpoint,
            hint="use an empty directory",
        )


def _is_above(outer: bytes, inner: bytes) -> bool:
    """Tell whether ``outer`` is above ``inner`` under another name, through a bind mount."""
    try:
        wanted = os.stat(outer)
        while inner not in (b"/", b""):
            inner = os.path.dirname(inner)
            if os.path.samestat(os.stat(inner), wanted):
                return True
    except OSError:
        return False
    return False


def clear_dead(mountpoint: bytes) -> bool:
    """Remove mounts of ours that died on ``mountpoint``, and tell whether there were any.

    Raises ``UsageError`` if one lives. May wait as long as that one takes to answer.
    """
    found = False
    while mounted_on(mountpoint) == FILE_SYSTEM:
        try:
            os.statvfs(mountpoint)  # the kernel answers others from memory, for a dead one too
        except OSError as error:
            if error.errno not in _DEAD:
                raise root_error(error, op="use mount point", where=mountpoint) from error
        else:
            raise UsageError(
                "another netsync mirror is mounted there",
                op="mount on",
                where=mountpoint,
                hint=f"stop it, or unmount it: umount {os.fsdecode(mountpoint)}",
            )
        unmount(mountpoint, detach=True)
        found = True
    return found


def mounted_on(mountpoint: bytes) -> str:
    """Return the kind of file system that is mounted on ``mountpoint`` last, or nothing."""
    kind = ""
    with open(_MOUNTS, "rb") as lines:
        for line in lines:
            before, _, after = line.partition(b" - ")
            if unescaped(before.split(b" ")[4]) == mountpoint:
                kind = os.fsdecode(after.split(b" ")[0])
    return kind


def mount(mountpoint: bytes, root: int) -> int:
    """Mount on ``mountpoint`` and return the device, on which the kernel waits to be greeted.

    What the file system of ``root``, the backing directory, forbids is forbidden here as well.
    Raises ``RootError``.
    """
    if os.geteuid() != 0:
        return _mounted_by_helper(mountpoint)
    try:
        device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise root_error(error, op="open", where=_DEVICE) from error
    flags = os.fstatvfs(root).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
    data = b"fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other" % device
    try:
        calls.mount(b"netsync", mountpoint, FILE_SYSTEM.encode(), flags, data)
    except OSError as error:
        os.close(device)
        hint = "load the kernel's module: modprobe fuse" if error.errno == errno.ENODEV else ""
        raise RootError(reason(error), op="mount on", where=mountpoint, hint=hint) from error
    return device


def _mounted_by_helper(mountpoint: bytes) -> int:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        options = "default_permissions,fsname=netsync,subtype=netsync"
        environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        _help(mountpoint, "-o", options, environment=environment, socket=theirs.fileno())
        ours.setblocking(False)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]


def unmount(mountpoint: bytes, *, detach: bool = False) -> None:
    """Unmount; with ``detach`` at once, and what uses it goes on with what it has open.

    Raises ``Busy`` or ``RootError``. Not for trio's thread: the kernel may have questions first.
    """
    if os.geteuid() != 0:
        _help(mountpoint, "-u", *(["-z"] if detach else []))
        return
    try:
        calls.unmount(mountpoint, _NOFOLLOW | (_DETACH if detach else 0))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Busy from error
        raise root_error(error, op="unmount", where=mountpoint) from error


def _help(
    mountpoint: bytes, *words: str, environment: dict[str, str] | None = None, socket: int = -1
) -> None:
    """Have the helper do it, which may mount for those who are not root."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and a program's name of our own
            [_HELPER, *words, "--", mountpoint],
            env=environment,
            pass_fds=() if socket < 0 else (socket,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        words_ = "fusermount3 is not installed"
        hint = "install the package fuse3, or run as root"
        raise RootError(words_, op="mount on", where=mountpoint, hint=hint) from error
    except subprocess.TimeoutExpired as error:
        raise RootError("fusermount3 does not end", op="mount on", where=mountpoint) from error
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode and "busy" in said:
        raise Busy
    if done.returncode:
        raise RootError(said or "fusermount3 failed", op="mount on", where=mountpoint)


def users_of(mountpoint: bytes) -> list[User]:
    """Return the processes that use the mount, as far as we may see them."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        if any(contains(mountpoint, place) for place in _places_of(pid)):
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as name:
                    found.append(User(int(pid), name.read().strip()))
            except OSError:
                continue  # it has ended
    return found


def _places_of(pid: str) -> list[bytes]:
    """Return what a process has open, and where it stands."""
    base = f"/proc/{pid}".encode()
    links = [base + b"/cwd", base + b"/root", base + b"/exe"]
    places = []
    with contextlib.suppress(OSError):  # another user's
        links += [base + b"/fd/" + fd for fd in os.listdir(base + b"/fd")]
    for link in links:
        try:
            places.append(os.readlink(link))
        except OSError:
            continue
    return places

"""Modules: directories offered by name, and who may do what with them."""

from __future__ import annotations

import contextlib
import enum
import grp
import os
import pwd
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from netsync.errors import RefusedError, root_error
from netsync.model import DeleteLimit
from netsync.tree.directories import OPEN_DIRECTORY
from netsync.tree.roots import Anchor
from netsync.tree.threads import in_thread, threads

_NO_ID: Final = 2**32 - 1
"""What is nobody's number: chown(2) takes it for "leave it"."""


class Right(enum.StrEnum):
    """What a certificate may do with a module."""

    PUSH = "push"
    PULL = "pull"
    DELETE = "delete"
    MIRROR = "mirror"


EVERYONE = "*"
"""Stands for every certificate of this CA; only modules of the command line use it."""


class User(Struct, frozen=True):
    """Whom a module's files are read and written as; ``groups`` beside the main one."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def user_of(uid: str | int, gid: str | int = "") -> User:
    """Return a user by name or number, in its groups, or in ``gid`` alone.

    Raises ``LookupError`` with the key that is wrong and what is wrong with it.
    """
    try:
        entry = pwd.getpwnam(uid) if isinstance(uid, str) else pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        if isinstance(uid, str) or not 0 <= uid < _NO_ID or gid == "":
            raise LookupError("uid", f"there is no user {uid!r}") from None
        entry = None
    if gid == "":
        assert entry is not None
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups))
    try:
        number = grp.getgrnam(gid).gr_gid if isinstance(gid, str) else gid
    except KeyError:
        raise LookupError("gid", f"there is no group {gid!r}") from None
    if not 0 <= number < _NO_ID:
        raise LookupError("gid", f"{gid!r} is no group's number")
    name, found = (str(uid), int(uid)) if entry is None else (entry.pw_name, entry.pw_uid)
    return User(name, found, number)


@dataclass(frozen=True)
class Module:
    """A directory offered by name. ``allow`` maps certificate names to rights.

    ``special`` lets clients create device nodes and set-user and set-group bits in it;
    ``max_delete`` is the most that one push may delete, whatever the client allows. ``user`` is who
    touches its files (None: this process). ``rpo`` is how far behind what is sent here as it
    happens may be, in seconds (None: as far as the sender says). What is done in it counts in
    ``threads``: if its disk hangs, other modules are served.
    """

    name: str
    path: Path
    allow: Mapping[str, frozenset[Right]] = field(default_factory=dict)
    special: bool = False
    max_delete: DeleteLimit | None = None
    user: User | None = None
    rpo: float | None = None
    threads: trio.CapacityLimiter = field(default_factory=threads, compare=False, repr=False)

    def rights_of(self, identity: str) -> frozenset[Right]:
        """Return what ``identity`` may do here."""
        return self.allow.get(identity, frozenset()) | self.allow.get(EVERYONE, frozenset())

    def require(self, identity: str, right: Right) -> None:
        """Raise ``RefusedError`` unless ``identity`` holds ``right``."""
        if right not in self.rights_of(identity):
            raise RefusedError(
                f"the certificate {identity!r} does not hold the right {right.value!r}",
                op="use module",
                where=self.name,
                hint=f"grant it under allow in [module.{self.name}] on the server",
            )


def find_module(modules: Mapping[str, Module], name: str) -> Module:
    """Return the module called ``name``; raise ``RefusedError`` if there is none."""
    module = modules.get(name)
    if not name:
        raise RefusedError("no module is named", op="use module", hint="write HOST::MODULE/PATH")
    if module is None:
        raise RefusedError(
            "there is no such module",
            op="use module",
            where=name.encode("utf-8", "surrogateescape"),
            hint="netsync ls HOST:: lists them",
        )
    return module


@contextlib.contextmanager
def opened(module: Module) -> Iterator[Anchor]:
    """Hold a module's directory; for worker threads. Raises ``RootError`` if it is not there."""
    fd = _open(module)
    try:
        yield Anchor(fd, module.name)
    finally:
        os.close(fd)


@contextlib.asynccontextmanager
async def reached(module: Module) -> AsyncGenerator[Anchor]:
    """Hold a module's directory, opened in a thread: what it lies on may hang."""
    fd = await in_thread(_open, module)
    try:
        yield Anchor(fd, module.name)
    finally:
        os.close(fd)


def _open(module: Module) -> int:
    try:
        return os.open(module.path, OPEN_DIRECTORY & ~os.O_NOFOLLOW)
    except OSError as error:
        raise root_error(error, op="open module", where=module.name) from error

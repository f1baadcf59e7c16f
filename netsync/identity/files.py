"""The files of an identity directory, read with suspicion and written with care.

Reading opens a file once and judges what was opened, not what its name points to a moment later:
owner, type, permission bits and size belong to the very bytes that are returned. Writing goes
through a temporary name in the same directory and is on disk before it is visible, so a reader
sees the old file or the new one and a crash leaves nothing half written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from netsync.errors import ConfigError, NetsyncError, reason

CA: Final = "ca.pem"
CA_KEY: Final = "ca-key.pem"
CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"
NEXT_KEY: Final = "key.pem.new"
"""The key of a renewal that has not finished: see ``renewal``."""
REVOKED: Final = "revoked"
ISSUED: Final = "issued"

PUBLIC: Final = 0o644
SECRET: Final = 0o600

OTHERS_MAY_READ: Final = 0o077
"""Any bit for group or others: what a private key must not have."""
OTHERS_MAY_WRITE: Final = 0o022
"""What anything that decides about trust must not have."""

FILE_MAX: Final = 1 << 20
"""Bytes read of one file: room for some 25,000 revoked serials, and no harm if it is a device."""


def read_checked(path: Path, forbidden: int = OTHERS_MAY_WRITE) -> bytes:
    """Return the content of ``path``, refusing the permission bits in ``forbidden``.

    Symbolic links are followed (secret stores use them); what they lead to must be a regular file
    of this user or root. Raises ``ConfigError`` for everything that is wrong with it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError(
            "no such file", op="read", where=str(path), hint=_missing_hint(path)
        ) from None
    except OSError as error:
        raise ConfigError(reason(error), op="read", where=str(path)) from error
    with open(descriptor, "rb") as file:
        _check(os.fstat(descriptor), path, forbidden)
        data = file.read(FILE_MAX + 1)
    if len(data) > FILE_MAX:
        raise ConfigError(f"larger than {FILE_MAX} bytes", op="read", where=str(path))
    return data


def _check(status: os.stat_result, path: Path, forbidden: int) -> None:
    where = str(path)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError("not a regular file", op="read", where=where)
    owners = {os.geteuid()} if forbidden & 0o044 else {os.geteuid(), 0}
    if status.st_uid not in owners:
        raise ConfigError(
            f"belongs to user {status.st_uid}, not to user {os.geteuid()} who runs this",
            op="use",
            where=where,
            hint=f"chown it to user {os.geteuid()}",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & forbidden:
        may = "read" if mode & forbidden & 0o044 else "change"
        fix = "600" if forbidden & 0o044 else "go-w"
        raise ConfigError(
            f"group or others can {may} it (mode {mode:04o})",
            op="use",
            where=where,
            hint=f"chmod {fix} {path}",
        )


def _missing_hint(path: Path) -> str:
    if path.name == CA_KEY:
        return "only the issuing host has it: run this there"
    return "make an identity with netsync cert init, or netsync cert issue on the issuing host"


def check_directory(directory: Path) -> None:
    """Refuse a directory in which others could put a key or a CA of their own."""
    where = str(directory)
    try:
        status = os.stat(directory)
    except FileNotFoundError:
        raise ConfigError(
            "no such directory",
            op="open identity",
            where=where,
            hint=_missing_hint(directory),
        ) from None
    except OSError as error:
        raise ConfigError(reason(error), op="open identity", where=where) from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError("not a directory", op="open identity", where=where)
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"belongs to user {status.st_uid}",
            op="open identity",
            where=where,
            hint=f"chown it to user {os.geteuid()}",
        )
    if status.st_mode & OTHERS_MAY_WRITE and not status.st_mode & stat.S_ISVTX:
        raise ConfigError(
            "group or others can put files there",
            op="open identity",
            where=where,
            hint=f"chmod go-w {directory}",
        )


def make_directory(directory: Path) -> None:
    """Create ``directory`` (mode 0700) and its parents, unless it is there already."""
    with _writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    check_directory(directory)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write ``path`` durably; it must not exist (``ConfigError``)."""
    with _writing(path):
        temporary = _write_temporary(path, data, mode)
        try:
            os.link(temporary, path)
        finally:
            os.unlink(temporary)
        sync_directory(path.parent)


def replace(path: Path, data: bytes, mode: int) -> None:
    """Write ``path`` durably in place of whatever has that name."""
    with _writing(path):
        temporary = _write_temporary(path, data, mode)
        try:
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        sync_directory(path.parent)


def rename(old: Path, new: Path) -> None:
    """Give ``old`` the name ``new`` in the same directory, durably."""
    with _writing(new):
        os.rename(old, new)
        sync_directory(new.parent)


def sync_directory(directory: Path) -> None:
    """Bring names made or changed in ``directory`` to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other commands that change ``directory`` waiting until the block ends."""
    with _writing(directory):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_temporary(path: Path, data: bytes, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, SECRET
    )
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return temporary


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except NetsyncError:
        raise
    except OSError as error:
        raise ConfigError(reason(error), op="write", where=str(path)) from error

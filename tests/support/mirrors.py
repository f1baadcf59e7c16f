"""Mirrors in tests: a standby as a real server, a primary in this process, and who writes to it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from netsync import operation as o
from netsync.mirror.links import Primary
from netsync.mirror.primary import opened
from netsync.mirror.wanted import WantedMirror
from netsync.modes.address import Remote
from netsync.modes.session import Connection
from netsync.oplog.log import Log, LogPolicy
from netsync.wire.messages import Place
from tests.support.certificates import CLIENT_NAME, certificates
from tests.support.processes import Server, serving

MODULE: Final = "m"
COPY: Final = "copy"
"""The place in the module that is mirrored to."""


class Writer:
    """Does operations to a backing directory and to a log, each as one step."""

    def __init__(self, root: Path, log: Log) -> None:
        self.root = root
        self.log = log

    def path(self, name: str) -> Path:
        return self.root / name

    def write(self, name: str, data: bytes, offset: int = 0) -> int:
        """Write into a file, made if it is not there; return the operation's number."""
        path = self.path(name)
        if not path.exists():
            self.create(name)
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        status = path.stat()
        operation = o.Write(os.fsencode(name), offset, data, status.st_mtime_ns)
        return self.log.append(operation, file=status.st_ino)

    def rewrite(self, name: str, data: bytes) -> int:
        """Write the whole file anew within the instant of the write before."""
        status = self.path(name).stat()
        with self.path(name).open("r+b") as file:
            file.write(data)
        os.utime(self.path(name), ns=(status.st_atime_ns, status.st_mtime_ns))
        operation = o.Write(os.fsencode(name), 0, data, status.st_mtime_ns)
        return self.log.append(operation, file=status.st_ino)

    def create(self, name: str, mode: int = 0o644) -> int:
        fd = os.open(self.path(name), os.O_CREAT | os.O_EXCL, mode)
        os.fchmod(fd, mode)
        status = os.fstat(fd)
        os.close(fd)
        owners = status.st_uid, status.st_gid
        return self.log.append(o.Create(os.fsencode(name), mode, *owners), file=status.st_ino)

    def truncate(self, name: str, size: int) -> int:
        os.truncate(self.path(name), size)
        status = self.path(name).stat()
        operation = o.Truncate(os.fsencode(name), size, status.st_mtime_ns)
        return self.log.append(operation, file=status.st_ino)

    def mkdir(self, name: str) -> int:
        self.path(name).mkdir(mode=0o755)
        status = self.path(name).stat()
        owners = status.st_uid, status.st_gid
        return self.log.append(o.Mkdir(os.fsencode(name), stat.S_IMODE(status.st_mode), *owners))

    def rename(self, name: str, to: str) -> int:
        lost = left = 0
        with contextlib.suppress(OSError):
            status = self.path(to).lstat()
            lost, left = status.st_ino, status.st_nlink - 1
        self.path(name).rename(self.path(to))
        return self.log.append(o.Rename(os.fsencode(name), os.fsencode(to)), lost, left)

    def unlink(self, name: str) -> int:
        status = self.path(name).lstat()
        self.path(name).unlink()
        return self.log.append(o.Unlink(os.fsencode(name)), status.st_ino, status.st_nlink - 1)

    def link(self, name: str, to: str) -> int:
        os.link(self.path(name), self.path(to))
        inode = self.path(to).stat().st_ino
        return self.log.append(o.Link(os.fsencode(name), os.fsencode(to)), inode)

    def chmod(self, name: str, mode: int) -> int:
        self.path(name).chmod(mode)
        return self.log.append(o.Mode(os.fsencode(name), mode))


class Pair:
    """A standby that can be started again on its port, and a primary's directories."""

    def __init__(self, base: Path, standby: Path | None = None) -> None:
        self.base = base
        there = standby or base
        self.source = base / "source"
        self.source.mkdir(exist_ok=True)
        self.root = there / "standby"
        self.root.mkdir(exist_ok=True)
        self.copy = self.root / COPY
        self.state = there / "standby-state"
        self.port = 0
        self.config = base / "standby.toml"

    @contextlib.contextmanager
    def standby(self, rights: str = '"mirror", "pull"', **allowed: str) -> Iterator[Server]:
        """Serve the module; again on the same port if it was served before."""
        others = "".join(f", {name} = [{their}]" for name, their in allowed.items())
        self.config.write_text(
            f'[server]\nlisten = ["127.0.0.1:{self.port}"]\n'
            f'identity = "{certificates().issuing}"\nstate = "{self.state}"\n'
            f'[module.{MODULE}]\npath = "{self.root}"\nspecial = true\n'
            f"allow = {{ {CLIENT_NAME} = [{rights}]{others} }}\n"
        )
        with serving("--config", self.config) as server:
            self.port = server.port
            yield server
            assert "internal error" not in server.log, server.log

    def remote(self, path: str = COPY) -> Remote:
        return Remote("127.0.0.1", self.port, Place(MODULE, os.fsencode(path)))

    def wanted(self, policy: LogPolicy | None = None, **more: Any) -> WantedMirror:
        """Return the mirror of the source to the standby."""
        given = os.environ.get("NETSYNC_IDENTITY")  # of a process that was started for it
        identity = more.pop("identity", None) or given or certificates().client.directory
        return WantedMirror(
            **{
                "source": os.fsencode(self.source),
                "standbys": (self.remote(),),
                "connection": Connection(Path(identity), timeout=10),
                "state": self.base / "primary-state",
                "policy": policy or LogPolicy(),
                **more,
            }
        )

    @contextlib.asynccontextmanager
    async def primary(self, policy: LogPolicy | None = None, **more: Any) -> AsyncIterator[Writer]:
        """Hold a primary in step with the standby, and somebody who writes."""
        async with opened(self.wanted(policy, **more)) as primary:
            yield self.writer(primary)

    async def start(self, **more: Any) -> None:
        """Start a primary, and end it at once."""
        async with self.primary(**more):
            pass

    def writer(self, primary: Primary) -> Writer:
        return Writer(self.source, primary.log)

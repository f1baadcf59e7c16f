"""The mirrored places of a server: their copies are open as long as it runs, primaries or not.

A copy is opened when the server starts or when a primary first comes, and finishes by itself what
it has promised. Places do not overlap, and nobody else writes to one: whoever pushes is asked for
here. A copy that failed is let go of, with one line in the log, and opened anew for the next
primary.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import trio

from netsync.errors import NetsyncError, RefusedError, root_error
from netsync.names import is_inside, shown
from netsync.oplog.opening import open_replica
from netsync.oplog.replica import Replica
from netsync.server.faults import as_netsync_error
from netsync.server.modules import Module
from netsync.state.mirror_record import STANDBY, Record, known_places
from netsync.tree.directories import OPEN_DIRECTORY, Directories
from netsync.tree.roots import Anchor, open_target

log = logging.getLogger("netsync")


class Mirrors:
    """The copies that are open, by place. Use it within ``running``."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._open: dict[bytes, Replica] = {}
        self._opening = trio.Lock()
        self._nursery: trio.Nursery | None = None

    @contextlib.asynccontextmanager
    async def running(self, modules: Mapping[str, Module]) -> AsyncGenerator[None]:
        """Keep copies at work during the body; those that are known are opened at once."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._open_known, modules)
            try:
                yield
            finally:
                self._nursery.cancel_scope.cancel()

    async def _open_known(self, modules: Mapping[str, Module]) -> None:
        try:
            records = await trio.to_thread.run_sync(known_places, self._state)
        except NetsyncError as error:
            log.error("%s: mirrors that it knows of are not known", error)  # noqa: TRY400
            return
        for record in records:
            if record.role == STANDBY and record.complete:
                module = modules.get(record.module)
                special = module is not None and module.special
                try:
                    await self.replica(record, special=special)
                except NetsyncError as error:
                    log.error("mirror %s: %s", shown(record.place), error)  # noqa: TRY400

    async def replica(self, new: Record, *, special: bool) -> Replica:
        """Return the copy at ``new.place``, recovered. Raises ``NetsyncError``."""
        async with self._opening:
            held = self._open.get(new.place)
            if held is None or held.failure is not None:
                held = await self._opened(new, special=special)
        return held

    async def _opened(self, new: Record, *, special: bool) -> Replica:
        assert self._nursery is not None
        root = await trio.to_thread.run_sync(_open_root, new)
        try:
            opened = await trio.to_thread.run_sync(
                lambda: open_replica(self._state, new, root, special=special)
            )
        except BaseException:
            os.close(root)
            raise
        self._open[new.place] = opened
        self._nursery.start_soon(self._keep, opened, new.place, root)
        return opened

    async def _keep(self, replica: Replica, place: bytes, root: int) -> None:
        """Run a copy until it fails or the server stops; then nothing of it is held."""
        try:
            await replica.run()
        except Exception as error:
            failure = as_netsync_error(error)
            replica.failure = failure
            log.error("mirror %s: %s", shown(place), failure)  # noqa: TRY400 - one line
        finally:
            if self._open.get(place) is replica:
                del self._open[place]
            replica.close()
            os.close(root)


def _open_root(record: Record) -> int:
    """Open a place, made if it is new; of its path only the module's own may be links."""
    try:
        base = os.open(record.base, OPEN_DIRECTORY & ~os.O_NOFOLLOW)
        try:
            anchor = Anchor(base, record.module)
            os.close(open_target(anchor, record.path, single_file=False, dry_run=False).fd)
            with Directories(base) as directories:
                return os.dup(directories.fd(record.path))
        finally:
            os.close(base)
    except OSError as error:
        raise root_error(error, op="open mirror", where=record.place) from error


def plain_path(path: bytes) -> bytes:
    """Return a peer's path of a place in the one form that is kept. Raises ``RefusedError``."""
    plain = b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
    if plain and not is_inside(plain):
        raise RefusedError("the path is none that leads down", op="open mirror", where=path)
    return plain


def refuse_overlap(known: list[Record], place: bytes) -> None:
    """Raise ``RefusedError`` if a mirrored place holds ``place``, or lies in it."""
    for record in known:
        if record.place != place and (_holds(record.place, place) or _holds(place, record.place)):
            raise RefusedError(
                f"{shown(record.place)} is mirrored by {record.identity!r} already",
                op="open mirror",
                where=place,
                hint="mirrors may not lie in one another",
            )


def _holds(outer: bytes, inner: bytes) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(b"/") + b"/")

"""The mirrored places of a server: their copies are open as long as it runs, primaries or not.

A copy is opened when the server starts or when a primary first comes, and finishes by itself what
it has promised. Places do not overlap, and nobody else writes to one: whoever pushes is asked for
here. A copy that failed is let go of, with one line in the log, and opened anew for the next
primary.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import trio

from netsync.errors import NetsyncError, RefusedError, RootError, StateError, UsageError, root_error
from netsync.names import contains, is_inside, shown
from netsync.net.control import Answer, Promote, Request, Say, answer, open_control
from netsync.oplog.living import tell_live
from netsync.oplog.opening import open_replica
from netsync.oplog.replica import Replica
from netsync.server.faults import as_netsync_error
from netsync.state import locks
from netsync.state.live import CopyLive
from netsync.state.mirror_record import (
    FOLDER,
    STANDBY,
    Record,
    directory_of,
    known_places,
    read_record,
)
from netsync.tree.directories import OPEN_DIRECTORY, Directories
from netsync.tree.roots import Anchor, open_target

Supersede = Callable[[bytes], Awaitable[None]]
"""Ends the session that mirrors to a place."""

log = logging.getLogger("netsync")


class Mirrors:
    """The copies that are open, by place. Use it within ``running``."""

    def __init__(self, state: Path, supersede: Supersede) -> None:
        self._state = state
        self._supersede = supersede
        self._open: dict[bytes, Replica] = {}
        self._let_go = trio.lowlevel.ParkingLot()
        self._opening = trio.Lock()
        self._nursery: trio.Nursery | None = None
        self._lock: locks.Lock | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep copies at work during the body; those that are known are opened at once."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._open_known)
            try:
                yield
            finally:
                self._nursery.cancel_scope.cancel()
        if self._lock is not None:
            self._lock.release()

    async def _begin(self) -> None:
        """Be the one server that holds the mirrors of this state directory, and hear requests."""
        assert self._nursery is not None
        directory = self._state / FOLDER
        self._lock = await trio.to_thread.run_sync(locks.take, directory, locks.MIRRORS)
        if self._lock is None:
            raise StateError(
                "another server holds the mirrors of this state directory",
                op="use state in", where=str(self._state),
                hint="stop it, or give this one a directory of its own: [server] state",
            )  # fmt: skip
        listener = await open_control(directory)
        serve = functools.partial(answer, handler=self._handle)
        self._nursery.start_soon(trio.serve_listeners, serve, [listener])

    async def _handle(self, request: Request, say: Say) -> Answer:
        """Do what a command of this host asks; what goes wrong is the answer."""
        del say  # it is done in a moment
        try:
            if not isinstance(request, Promote):
                raise UsageError("jobs are asked for at another socket")
            record = await self.promote(request.place, force=request.force)
        except NetsyncError as error:
            return Answer(error.exit_code, str(error))
        return Answer(0, promoted_words(record))

    async def promote(self, place: bytes, *, force: bool) -> Record:
        """Make the copy at ``place`` an original. Raises ``NetsyncError``."""
        record = await trio.to_thread.run_sync(read_record, directory_of(self._state, place))
        if record is None:
            raise UsageError("nothing is mirrored there", op="promote", where=place)
        refuse_promotion(record, force=force)
        async with self._opening:
            held = await self._held(place) or await self._opened(record)
            refusal = RefusedError(
                f"this place was promoted just now, to epoch {record.epoch + 1}: it is a primary "
                "of its own",
                op="mirror to", where=place, hint="write to the new primary",
            )  # fmt: skip
            if not held.has_writer:  # a session that streams is told; one that compares goes on
                await self._supersede(place)
            return await held.promote(refusal)

    async def _open_known(self) -> None:
        try:
            records = await trio.to_thread.run_sync(known_places, self._state)
        except NetsyncError as error:
            log.error("%s: mirrors that it knows of are not known", error)  # noqa: TRY400
            return
        for record in records:
            if record.role == STANDBY and record.complete:
                try:
                    await self.replica(record)
                except NetsyncError as error:
                    log.error("mirror %s: %s", shown(record.place), error)  # noqa: TRY400

    async def replica(self, new: Record) -> Replica:
        """Return the copy at ``new.place``, recovered. Raises ``NetsyncError``."""
        async with self._opening:
            return await self._held(new.place) or await self._opened(new)

    async def _held(self, place: bytes) -> Replica | None:
        """Return the copy that is open; one that failed is waited for until it is let go of."""
        while (held := self._open.get(place)) is not None and held.failure is not None:
            await self._let_go.park()
        return held

    async def _opened(self, new: Record) -> Replica:
        assert self._nursery is not None
        if self._lock is None:
            await self._begin()
        known = await trio.to_thread.run_sync(read_record, directory_of(self._state, new.place))
        root = await trio.to_thread.run_sync(open_root, known or new)
        try:
            opened = await trio.to_thread.run_sync(open_replica, self._state, new, root)
        except BaseException:
            os.close(root)
            raise
        self._open[new.place] = opened
        self._nursery.start_soon(self._keep, opened, new.place, root)
        self._nursery.start_soon(
            tell_live, directory_of(self._state, new.place), lambda: self._live(opened, new.place)
        )
        return opened

    def _live(self, replica: Replica, place: bytes) -> CopyLive | None:
        """Return how a copy is, as long as it is open."""
        return replica.live() if self._open.get(place) is replica else None

    async def _keep(self, replica: Replica, place: bytes, root: int) -> None:
        """Run a copy until it fails or the server stops; then nothing of it is held."""
        try:
            await replica.run()
        except Exception as error:
            failure = as_netsync_error(error)
            replica.failure = replica.failure or failure
            log.error("mirror %s: %s", shown(place), failure)  # noqa: TRY400 - one line
        finally:
            if self._open.get(place) is replica:
                del self._open[place]
            replica.close()
            os.close(root)
            self._let_go.unpark_all()


def open_root(record: Record) -> int:
    """Open a place, made unless a whole copy must be there; only the module's own may be links."""
    try:
        base = os.open(record.base, OPEN_DIRECTORY & ~os.O_NOFOLLOW)
        try:
            anchor = Anchor(base, record.module)
            if not (record.complete and record.role == STANDBY):
                os.close(open_target(anchor, record.path, single_file=False, dry_run=False).fd)
            with Directories(base) as directories:
                return os.dup(directories.fd(record.path))
        finally:
            os.close(base)
    except FileNotFoundError as error:
        raise RootError(
            "the directory of the standby's copy is not there", op="open mirror",
            where=record.place, hint="is its file system mounted?",
        ) from error  # fmt: skip
    except OSError as error:
        raise root_error(error, op="open mirror", where=record.place) from error


def refuse_promotion(record: Record, *, force: bool) -> None:
    """Raise ``RefusedError`` unless ``record`` is of a copy that may be promoted."""
    if record.role != STANDBY:
        raise RefusedError(f"it was promoted already, to epoch {record.epoch}", op="promote",
                           where=record.place)  # fmt: skip
    if not record.complete and not force:
        raise RefusedError(
            f"it is no whole copy: {record.words or 'the first comparison has not ended'}",
            op="promote", where=record.place, hint="--force takes what is there",
        )  # fmt: skip


def promoted_words(record: Record) -> str:
    """Return what has come of a promotion, in words."""
    what = (
        f"everything up to operation {record.seq} of {record.identity!r}"
        if record.generation
        else f"what the last comparison by {record.identity!r} has left"
    )
    return f"{shown(record.place)} is a primary of its own at epoch {record.epoch}, with {what}"


def plain_path(path: bytes) -> bytes:
    """Return a peer's path of a place in the one form that is kept. Raises ``RefusedError``."""
    plain = b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
    if plain and not is_inside(plain):
        raise RefusedError("the path is none that leads down", op="open mirror", where=path)
    return plain


def refuse_overlap(known: list[Record], place: bytes) -> None:
    """Raise ``RefusedError`` if a mirrored place holds ``place``, or lies in it."""
    for record in known:
        if record.place != place and (
            contains(record.place, place) or contains(place, record.place)
        ):
            raise RefusedError(
                f"{shown(record.place)} is mirrored by {record.identity!r} already",
                op="open mirror",
                where=place,
                hint="mirrors may not lie in one another",
            )

"""A standby's own account of those who send to it as it happens.

Beats and transfers of one client's tree at one place are noted by this host's clock, so that
``netsync check`` here can tell when the primary is gone, and so that limits on deletes can refer to
the whole tree and to what went lately. A state directory that cannot be used is no reason to
refuse a transfer: the log says so once a session.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from netsync.errors import TEXT_MAX, RefusedError, StateError
from netsync.model import Options, Report
from netsync.names import contains, one_line, shown
from netsync.plan.guards import NO_CHANGES, Changes
from netsync.plan.reception import Reception, booked, changes_of
from netsync.server.modules import Module, Right
from netsync.state import mirror_record
from netsync.state.database import kept_open
from netsync.state.receptions import Receptions
from netsync.wire.messages import Place
from netsync.wire.watching import Beat, Heard

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("netsync")
PLACES_MAX: Final = 256
"""Places that one client may send to as it happens."""
_BUSY_SECONDS: Final = 5.0
"""How often a transfer that goes on is noted as a sign of life."""


class Receiving:
    """What one session's client sends as it happens. ``now`` is the wall clock.

    ``waiting_since`` is when the client got our last answer at the earliest: what it says then was
    sent after that.
    """

    def __init__(self, state: Path, client: str, now: Callable[[], float] = time.time) -> None:
        self.waiting_since = now()
        self._state = state
        self._receptions = Receptions(state)
        self._client = client
        self._now = now
        self._has_failed = False
        self._known: dict[bytes, Reception] = {}
        self._held: sqlite3.Connection | None = None

    def close(self) -> None:
        """Hold nothing any more."""
        if self._held is not None:
            self._held.close()
            self._held = None

    @property
    def is_told(self) -> bool:
        """Tell whether the client sends anything as it happens."""
        return bool(self._known)

    def answered(self) -> None:
        """The client has its answer, and may speak again."""
        self.waiting_since = self._now()

    async def hear(self, module: Module, beat: Beat) -> Heard:
        """Note a beat; return the answer to it."""
        if b".." in beat.place.path.split(b"/"):
            raise RefusedError("it leads out of the module", op="watch", where=beat.place.path)
        place = place_of(module, beat.place.path)
        known = await self._recall(place)
        now = self._now()
        until = known.until
        if beat.behind is not None:
            sent = min(now, self.waiting_since + beat.rested)
            until = sent - beat.behind
            if known.until is not None and known.until <= now:
                until = max(until, known.until)
        after = msgspec.structs.replace(
            known,
            name=_name(self._client, beat.place),
            client=self._client,
            target=os.fsdecode(place),
            heard=None if beat.leaving else now,
            every=beat.every,
            until=until,
            rpo=beat.rpo,
            objective=module.rpo,
            files=beat.files,
            size=beat.size,
            trouble=one_line(beat.trouble, TEXT_MAX),
        )
        await self._keep(place, after)
        return Heard(after.entries)

    async def _admit(self, place: bytes) -> None:
        """Refuse a client that would have us remember places without end."""
        count = len(self._known)
        try:
            noted = await trio.to_thread.run_sync(self._receptions.count, self._client)
            count = max(count, noted)
        except StateError as error:
            self._complain(error)
        if count >= PLACES_MAX:
            raise RefusedError(
                f"{self._client!r} sends to {count} places already", op="watch", where=place,
                hint="take the right to push away and grant it again to forget them",
            )  # fmt: skip

    async def changes(self, module: Module, path: bytes, options: Options) -> Changes:
        """Return what limits on deletes refer to for a push to ``path``."""
        if not options.delete:
            return NO_CHANGES
        place = place_of(module, path)
        known = self._known.get(place)
        if options.changes or known is not None:
            known = await self._recall(place)
        return NO_CHANGES if known is None else changes_of(known, self._now())

    async def book(self, module: Module, path: bytes, options: Options, report: Report) -> None:
        """Note what a push did."""
        place = place_of(module, path)
        known = self._known.get(place)
        if known is None:
            return  # nobody watches this place
        after = self._known[place] = booked(known, report, options, self._now())
        told = (known.deleted, known.held)
        if after != known and (not options.changes or (after.deleted, after.held) != told):
            await self._keep(place, after)  # the rest is kept with the next beat

    @contextlib.asynccontextmanager
    async def busy(self, module: Module, path: bytes) -> AsyncGenerator[None]:
        """Note again and again that the client is there, while a transfer of its goes on."""
        place = place_of(module, path)
        async with trio.open_nursery() as nursery:
            if place in self._known:
                nursery.start_soon(self._live, place)
            yield
            nursery.cancel_scope.cancel()

    async def _live(self, place: bytes) -> None:
        while True:
            await trio.sleep(_BUSY_SECONDS)
            known = self._known[place]
            if known.heard is not None:
                await self._keep(place, msgspec.structs.replace(known, heard=self._now()))

    async def _recall(self, place: bytes) -> Reception:
        if place not in self._known:
            found: Reception | None = None
            try:
                found = await trio.to_thread.run_sync(self._receptions.of, place, self._client)
            except StateError as error:
                self._complain(error)
            if found is None:
                await self._admit(place)
            self._known[place] = found or Reception(name="")
        return self._known[place]

    async def _keep(self, place: bytes, reception: Reception) -> None:
        self._known[place] = reception
        try:
            if self._held is None:
                self._held = await trio.to_thread.run_sync(kept_open, self._state)
            await trio.to_thread.run_sync(self._receptions.save, place, self._client, reception)
        except StateError as error:
            self._complain(error)

    def _complain(self, error: StateError) -> None:
        if not self._has_failed:
            log.error("%s (status and check do not see what %s sends)", error, self._client)
        self._has_failed = True


def place_of(module: Module, path: bytes) -> bytes:
    """Return where a path of a module is on this host, without looking."""
    return mirror_record.place_of(os.fsencode(module.path), path)


def forget_strangers(state: Path, modules: Mapping[str, Module]) -> None:
    """Forget clients that may not send to their place any more. Blocks; raises nothing."""

    def is_expected(place: bytes, client: str) -> bool:
        return not client or any(
            Right.PUSH in module.rights_of(client) and contains(place_of(module, b""), place)
            for module in modules.values()
        )

    try:
        Receptions(state).keep_only(is_expected)
    except StateError as error:
        log.error("%s", error)  # noqa: TRY400 - one line


def _name(client: str, place: Place) -> str:
    path = shown(place.path.strip(b"/"))
    return f"{client}:{place.module}/{path}" if path else f"{client}:{place.module}"

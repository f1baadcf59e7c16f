"""The one writer of what is known about a job.

A runner tells its ``Record`` facts as they turn up; the record keeps them in memory, where the
runner finds them again, and on disk, where everybody else looks. A state directory that cannot be
written stops no job: what could not be kept is kept with the next change, and the log says so once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
import trio

from netsync.errors import StateError
from netsync.plan.schedule import GRACE
from netsync.plan.standing import Standing, state_of
from netsync.state.jobs import Event, JobStates

log = logging.getLogger("netsync")

Save = Callable[[Standing, Sequence[Event]], Awaitable[None]]
_USUAL: Final = frozenset({"started", "finished", "watched", "ok", "scrubbed", "mended"})
"""Kinds of events that need nobody's attention."""
_HAPPENED: Final = ("handled", "started", "ended", "last_point", "current_until", "since")
"""Facts that are moments in the past."""
_UNSAVED_MAX: Final = 1000
"""Events that wait for a state directory that cannot be written; older ones are in the log."""


def saving_in(states: JobStates) -> Save:
    """Return what keeps a standing in the database, without holding up trio."""

    async def save(standing: Standing, events: Sequence[Event]) -> None:
        await trio.to_thread.run_sync(states.save, standing, events)

    return save


class Record:
    """What is known about one job. ``now`` is the wall clock."""

    def __init__(self, standing: Standing, save: Save, now: Callable[[], float]) -> None:
        self.standing = standing
        self._save = save
        self._now = now
        self._saving = trio.Lock()
        self._unsaved: list[Event] = []
        self._is_new = True
        self._failing = False

    async def note(self, kind: str, text: str, **facts: Any) -> None:
        """Keep facts, and tell of an event: here, in the log, and to whoever follows events."""
        text = text.encode("utf-8", "backslashreplace").decode()
        level = logging.INFO if kind in _USUAL else logging.WARNING
        log.log(level, "job %s: %s: %s", self.standing.name, kind, text)
        self._unsaved.append(Event(self._now(), self.standing.name, kind, text))
        del self._unsaved[:-_UNSAVED_MAX]
        await self.keep(**facts)

    async def keep(self, **facts: Any) -> None:
        """Keep facts: fields of ``Standing``. Nothing is written where nothing is new."""
        before = self.standing
        changed = msgspec.structs.replace(before, **facts)
        if state_of(changed) is not state_of(before):
            changed = msgspec.structs.replace(changed, since=self._now())
        if changed != before:
            self.standing, self._is_new = changed, True
        async with self._saving:
            if self._is_new or self._unsaved:
                await self._write()

    async def heed_clock(self) -> None:
        """Let nothing that happened lie ahead of a clock that was set back.

        It would pass for the newest there is until the clock has caught up, and hide how far
        behind the job is. From now on its lag grows again.
        """
        now = self._now()
        ahead = [
            name
            for name in _HAPPENED
            if (getattr(self.standing, name) or 0.0) > now + (GRACE if name == "handled" else 0.0)
        ]
        if ahead:
            await self.note("clock", "the clock was set back", **dict.fromkeys(ahead, now))

    async def _write(self) -> None:
        standing, events = self.standing, list(self._unsaved)
        try:
            await self._save(standing, events)
        except StateError as error:
            if not self._failing:
                log.error("%s (jobs go on; status and check do not see them)", error)  # noqa: TRY400
            self._failing = True
            return
        self._failing = False
        self._is_new = self.standing is not standing
        del self._unsaved[: len(events)]

"""Taking leave of a standby: a watch that is configured no more says so there.

Else the standby would raise the alarm that its primary is silent, for ever. A watch that merely
stops says nothing: then the alarm is right. Whoever removes a watch may have done so while the
daemon was down, so it is the record of a job that nobody has any more which says from whom to part.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

import trio

from netsync.errors import NetsyncError, StateError, UsageError
from netsync.modes.address import Remote
from netsync.modes.job import Job, Mode, Site
from netsync.modes.route import route_of
from netsync.modes.session import Connection
from netsync.modes.standby import reached
from netsync.plan.standing import Standing
from netsync.state.jobs import Event, JobStates
from netsync.wire.messages import Place
from netsync.wire.watching import Beat

log = logging.getLogger("netsync")
PARTING_SECONDS: Final = 5.0
"""How long it is tried to reach the standby: it may be gone as well."""
_HINT: Final = (
    "it will raise the alarm until it forgets us: take the right push at the module from our "
    "certificate there, reload, and give it back"
)


async def leave_others(
    states: JobStates, site: Site, expected: Collection[str], identities: Mapping[str, Path | None]
) -> None:
    """Part from the standbys of watches that are known, but not expected.

    ``identities`` are their own, where they are known. Raises ``StateError``.
    """
    known = await trio.to_thread.run_sync(states.standings)
    async with trio.open_nursery() as nursery:
        for each in known:
            if each.name not in expected:
                nursery.start_soon(leave, states, site, each, identities.get(each.name))


async def leave(states: JobStates, site: Site, known: Standing, identity: Path | None) -> None:
    """Part from the standby of a watch, and tell if that did not work. Raises nothing."""
    trouble = await _part(known, identity or site.identity, site.now)
    if trouble:
        log.warning("job %s: %s", known.name, trouble)
        event = Event(site.now(), known.name, "parting", trouble)
        try:
            await trio.to_thread.run_sync(states.tell, event)
        except StateError as error:
            log.error("%s", error)  # noqa: TRY400 - one line


async def _part(known: Standing, identity: Path, now: Callable[[], float]) -> str:
    """Part from the standby of a watch; return why that did not work, or nothing."""
    remote = _standby_of(known)
    if remote is None:
        return ""
    why = f"no answer within {PARTING_SECONDS:g} seconds"
    with trio.move_on_after(PARTING_SECONDS):
        try:
            async with reached(remote, Connection(identity), now) as standby:
                await standby.beat(Beat(Place("", b""), every=0.0, leaving=True))
        except NetsyncError as error:
            why = str(error)
        else:
            return ""
    return f"the standby was not told that nothing more comes: {why} ({_HINT})"


def has_left(known: Standing, job: Job) -> bool:
    """Tell whether what is ``known`` is of a watch to another place than ``job`` goes to."""
    if known.mode != Mode.WATCH.value:
        return False
    if job.mode is not Mode.WATCH:
        return True
    return _standby_of(known) != route_of(job.source, job.target).target


def _standby_of(known: Standing) -> Remote | None:
    """Return where a watch sent to, unless that is this host, or cannot be understood any more."""
    if known.mode != Mode.WATCH.value:
        return None
    try:
        target = route_of(known.source, known.target).target
    except UsageError:
        return None
    return target if isinstance(target, Remote) else None

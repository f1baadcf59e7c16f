"""What a watch writes down: the journal of what it owes, and the facts about where it stands."""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

import trio

from netsync.errors import StateError
from netsync.model import Report
from netsync.modes.attempt import added
from netsync.modes.job import Job, Site
from netsync.modes.observing import Observing
from netsync.modes.owing import Owing
from netsync.modes.record import Record
from netsync.modes.troubles import Troubles
from netsync.plan.schedule import next_run
from netsync.state.changes import ChangesJournal, Outstanding
from netsync.tree.glance import GLANCED_MAX

TELL_SECONDS: Final = 0.5
"""How often where the watch stands is written down, if it is another place."""
_MEASURE_SECONDS: Final = 2.0
"""How often the bytes that are outstanding are counted."""
_NOISE_SECONDS: Final = 0.05
"""What two clocks that are read one after the other may differ by."""


class Backlog(NamedTuple):
    """Paths that are outstanding, and the bytes of the files among them; None: not known."""

    files: int | None
    size: int | None


class WatchRecord:
    """Keeps one watch's journal and facts. ``is_linked`` says that its standby is reached."""

    def __init__(
        self, job: Job, record: Record, site: Site, owing: Owing, troubles: Troubles,
        observing: Observing,
    ) -> None:  # fmt: skip
        self.is_linked = False
        self._job = job
        self._record = record
        self._site = site
        self._owing = owing
        self._troubles = troubles
        self._observing = observing
        self._journal = ChangesJournal(site.state, job.name)
        self._saving = trio.Lock()
        self._is_failing = False
        self._was_in_step = False
        self._told = ""
        self._measured: int | None = None
        self._uncounted: list[Report] = []

    async def remember(self) -> None:
        """Begin where the last watch ended: what was owed is, and a look at the whole with it.

        Nobody knows what has changed since.
        """
        before = self._record.standing.current_until
        known: list[Outstanding] = []
        try:
            if before is None:  # all is to be sent; what is noted may be about another tree
                await trio.to_thread.run_sync(self._journal.forget)
            known = await trio.to_thread.run_sync(self._journal.read)
            await trio.to_thread.run_sync(self._journal.hold)
        except StateError as error:
            await self._record.note("journal", str(error))
        wall, now = self._site.now(), self._site.steady()
        for each in known:
            if each.path or not each.tree:
                since = now - max(0.0, wall - each.since)
                self._owing.dirty.add(each.path, since, tree=each.tree)
        moments = [each.since for each in known] + ([] if before is None else [before])
        since = now - max(0.0, wall - min(moments, default=wall))
        self._owing.owe_look("the watch begins", since)
        self._owing.is_whole = before is not None
        await self._record.keep(**self._facts(), running=False)

    async def work(self) -> None:
        """Write down again and again where the watch stands."""
        measured = 0.0
        while True:
            await trio.sleep(TELL_SECONDS)
            await self._record.heed_clock()
            if (
                len(self._owing.dirty)
                and (now := self._site.steady()) - measured >= _MEASURE_SECONDS
            ):
                measured = now
                await self._measure()
            await self.save_journal()
            await self.keep()

    async def save_journal(self) -> None:
        """Have on disk what is owed, and what is not any more."""
        async with self._saving:
            kept, struck = self._owing.unsaved()
            if not kept and not struck:
                return
            offset = self._site.now() - self._site.steady()
            rows = [Outstanding(each.path, each.tree, each.since + offset) for each in kept]
            try:
                await trio.to_thread.run_sync(self._journal.write, rows, struck)
                self._is_failing = False
            except StateError as error:
                self._owing.not_saved(kept, struck)
                if not self._is_failing:
                    await self._record.note("journal", f"{error} (the watch goes on without it)")
                self._is_failing = True

    async def keep(self) -> None:
        """Keep the facts. Tell of a new trouble, and when all is in step again."""
        facts, words = self._facts(), self._troubles.words
        in_step = self.is_linked and self._owing.is_in_step and not words
        if words and words != self._told:
            self._told = words
            self._was_in_step = False
            await self._record.note("failed", words, **facts)
        elif in_step and not self._was_in_step:
            self._told = ""
            self._was_in_step = True
            await self._record.note("in step", "what changes is sent as it happens", **facts)
        else:
            await self._record.keep(**facts)

    async def end(self) -> None:
        """Keep what the next watch has to know."""
        await self.save_journal()
        self.is_linked = False
        await self._record.keep(**self._facts(), running=False)
        await trio.to_thread.run_sync(self._journal.close)

    def count(self, report: Report) -> None:
        """Count what a transfer of changes did; it is kept with the next facts."""
        self._uncounted.append(report)

    @property
    def backlog(self) -> Backlog:
        """What is outstanding, as far as it is known."""
        if self._owing.look_since is not None or not self._owing.is_whole:
            return Backlog(None, None)
        files = len(self._owing.dirty)
        return Backlog(files, self._measured if files else 0)

    def _facts(self) -> dict[str, object]:
        """Return the fields of the standing that a watch knows, to be kept at once."""
        owing, standing = self._owing, self._record.standing
        backlog = self.backlog
        facts: dict[str, object] = {
            "live": self.is_linked and self._observing.directory is not None,
            "behind": not owing.is_in_step,
            "failure": self._troubles.words,
            "unwatched": self._observing.trouble,
            "backlog_files": backlog.files,
        }
        if not standing.running:  # else who compares the whole tells it
            facts["backlog_bytes"] = backlog.size
        if owing.until is not None:
            until = self._site.now() - (self._site.steady() - owing.until)
            known = standing.current_until
            if known is None or abs(until - known) > _NOISE_SECONDS:
                facts["current_until"] = facts["last_point"] = until
        if self._uncounted:
            reports, self._uncounted = self._uncounted, []
            facts["totals"] = functools.reduce(added, reports, standing.totals)
        if self._job.schedule is not None:
            now = self._site.now()
            planned = next_run(self._job.schedule, standing.handled, now, self._site.zone)
            facts["next_run"] = planned.at
        return facts

    async def _measure(self) -> None:
        """See how many bytes are outstanding, if that is soon seen."""
        if len(self._owing.dirty) > GLANCED_MAX:
            self._measured = None
            return
        seen = await self._observing.glance([each.path for each in self._owing.dirty])
        if seen is not None:
            self._measured = seen.size

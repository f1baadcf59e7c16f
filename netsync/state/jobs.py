"""What is known about jobs, kept where ``status``, ``check``, ``events`` and metrics read it.

One transaction writes a job's standing and the events that go with it, so a reader sees both or
neither. Whoever holds the job's lock writes (see ``modes/record.py``); anybody may read at any
time without being waited for. A power cut may cost the last moments of it, which makes a job look
further behind than it is, never nearer. Everything here blocks and belongs into a worker thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from netsync.errors import StateError
from netsync.plan.standing import Standing
from netsync.state.database import opened

if TYPE_CHECKING:
    import sqlite3

EVENTS_MAX: Final = 10_000
"""Events kept; older ones go. Some megabytes, and weeks of a busy standby."""
TEXT_MAX: Final = 4096
"""Characters of one event."""
_TABLES: Final = 2
"""Version of the database from which on it has the tables of jobs."""


class Event(NamedTuple):
    """Something that happened to a job. ``number`` rises without end; 0 until it is stored."""

    at: float
    job: str
    kind: str
    text: str
    number: int = 0


class JobStates:
    """The part of the state ``directory`` that is about jobs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def standings(self) -> list[Standing]:
        """Return what is known of every job, by name. Raises ``StateError``."""
        with opened(self.directory, write=False, since=_TABLES) as database:
            if database is None:
                return []
            rows = database.execute("SELECT standing FROM job ORDER BY name").fetchall()
            return [self._decoded(row[0]) for row in rows]

    def standing(self, name: str) -> Standing | None:
        """Return what is known of one job. Raises ``StateError``."""
        with opened(self.directory, write=False, since=_TABLES) as database:
            if database is None:
                return None
            row = database.execute("SELECT standing FROM job WHERE name = ?", (name,)).fetchone()
            return None if row is None else self._decoded(row[0])

    def _decoded(self, text: str) -> Standing:
        try:
            return msgspec.json.decode(text, type=Standing)
        except msgspec.DecodeError as error:
            raise StateError(str(error), op="read jobs in", where=str(self.directory)) from error

    def save(self, standing: Standing, events: Sequence[Event] = ()) -> None:
        """Keep what is known of a job, and what happened. Raises ``StateError``."""
        with opened(self.directory, write=True, since=_TABLES) as database:
            assert database is not None
            _hurry(database)
            text = msgspec.json.encode(standing).decode()
            database.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", (standing.name, text))
            if events:
                _append(database, events)

    def tell(self, event: Event) -> None:
        """Keep what happened to a job of which nothing else is new. Raises ``StateError``."""
        with opened(self.directory, write=True, since=_TABLES) as database:
            assert database is not None
            _append(database, [event])

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget all jobs but these; what happened to them stays. Raises ``StateError``."""
        with opened(self.directory, write=True, since=_TABLES) as database:
            assert database is not None
            known = {row[0] for row in database.execute("SELECT name FROM job")}
            gone = [(name,) for name in known - set(names)]
            database.executemany("DELETE FROM job WHERE name = ?", gone)

    def beat(self, now: float) -> None:
        """Say that the daemon is alive. Raises ``StateError``."""
        with opened(self.directory, write=True, since=_TABLES) as database:
            assert database is not None
            _hurry(database)
            database.execute("INSERT OR REPLACE INTO heartbeat VALUES (1, ?)", (now,))

    def last_beat(self) -> float | None:
        """Return when the daemon last said that it is alive. Raises ``StateError``."""
        with opened(self.directory, write=False, since=_TABLES) as database:
            row = database and database.execute("SELECT beat FROM heartbeat").fetchone()
            return row[0] if row else None

    def events(self, after: int = 0, job: str | None = None, last: int = -1) -> list[Event]:
        """Return what happened since event ``after``, at most the ``last`` of it."""
        with opened(self.directory, write=False, since=_TABLES) as database:
            if database is None:
                return []
            rows = database.execute(
                "SELECT at, job, kind, text, id FROM event WHERE id > ? AND (? IS NULL OR job = ?)"
                " ORDER BY id DESC LIMIT ?",
                (after, job, job, last),
            )
            return [Event(*row) for row in rows][::-1]


def _hurry(database: sqlite3.Connection) -> None:
    """Let the system write when it likes: what a power cut takes is learnt again."""
    database.execute("PRAGMA synchronous = NORMAL")


def _append(database: sqlite3.Connection, events: Sequence[Event]) -> None:
    database.executemany(
        "INSERT INTO event (at, job, kind, text) VALUES (?, ?, ?, ?)",
        [(each.at, each.job, each.kind, each.text[:TEXT_MAX]) for each in events],
    )
    database.execute("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?", (EVENTS_MAX,))

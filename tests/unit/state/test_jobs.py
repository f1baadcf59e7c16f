"""What is known of jobs, on disk: written whole, read by anybody, kept within bounds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from netsync.errors import StateError
from netsync.model import Origin
from netsync.plan.standing import Standing, Totals
from netsync.state import jobs as jobs_module
from netsync.state import locks
from netsync.state.database import _SOURCES, FILE, VERSION
from netsync.state.jobs import Event, JobStates
from netsync.state.sources import RememberedSources

WEB = Standing(name="web", mode="pull", rpo=60.0, last_point=5.5, totals=Totals(runs=3))


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    states = JobStates(tmp_path / "state")
    assert states.standings() == []
    assert states.standing("web") is None
    assert states.events() == []
    assert states.last_beat() is None
    assert not (tmp_path / "state").exists(), "asking makes nothing"
    states.save(WEB, [Event(1.0, "web", "started", "it is time")])
    states.save(Standing(name="db"))
    states.beat(7.0)
    assert states.standings() == [Standing(name="db"), WEB]
    assert states.standing("web") == WEB
    assert states.last_beat() == 7.0
    assert states.events() == [Event(1.0, "web", "started", "it is time", 1)]


def test_jobs_that_are_gone_are_forgotten_and_their_events_stay(tmp_path: Path) -> None:
    states = JobStates(tmp_path)
    states.save(WEB, [Event(1.0, "web", "started", "")])
    states.save(Standing(name="db"))
    states.keep_only(["db", "other"])
    assert [each.name for each in states.standings()] == ["db"]
    assert len(states.events()) == 1


def test_events_are_told_from_one_on_and_by_job(tmp_path: Path) -> None:
    states = JobStates(tmp_path)
    for number in range(1, 6):
        name = "web" if number % 2 else "db"
        states.save(Standing(name=name), [Event(float(number), name, "k", str(number))])
    assert [each.number for each in states.events(after=3)] == [4, 5]
    assert [each.text for each in states.events(job="db")] == ["2", "4"]
    assert [each.text for each in states.events(last=2)] == ["4", "5"]


def test_old_events_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "EVENTS_MAX", 3)
    states = JobStates(tmp_path)
    for number in range(10):
        states.save(WEB, [Event(float(number), "web", "k", str(number))])
    assert [each.text for each in states.events()] == ["7", "8", "9"]


def test_fields_of_a_newer_version_are_ignored_and_missing_ones_have_defaults(
    tmp_path: Path,
) -> None:
    states = JobStates(tmp_path)
    states.save(WEB)
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("""UPDATE job SET standing = '{"name": "web", "of the future": [1]}'""")
    database.commit()
    database.close()
    assert states.standings() == [Standing(name="web")]


def test_a_damaged_record_is_one_error(tmp_path: Path) -> None:
    states = JobStates(tmp_path)
    states.save(WEB)
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("UPDATE job SET standing = 'no json'")
    database.commit()
    database.close()
    with pytest.raises(StateError, match="read jobs in"):
        states.standings()


def test_a_database_of_the_first_version_is_read_and_brought_up_to_date(tmp_path: Path) -> None:
    """What it remembers of sources is known before and after."""
    database = sqlite3.connect(tmp_path / FILE)
    database.execute(_SOURCES)
    database.execute("INSERT INTO source VALUES (?, '', ?, 1, 2, ?)", (b"/srv", b"", b""))
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()
    sources, states = RememberedSources(tmp_path, b"/srv"), JobStates(tmp_path)
    assert sources.known() == [Origin(b"", 1, 2)]
    assert states.standings() == []
    states.save(WEB)
    assert sources.known() == [Origin(b"", 1, 2)]
    assert states.standings() == [WEB]
    with sqlite3.connect(tmp_path / FILE) as again:
        assert again.execute("PRAGMA user_version").fetchone() == (VERSION,)
    again.close()


def test_a_lock_is_one_processs_and_free_again_when_let_go(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert not locks.is_held(state, locks.DAEMON)
    lock = locks.take(state, locks.DAEMON)
    assert lock is not None
    assert locks.take(state, locks.DAEMON) is None
    assert locks.is_held(state, locks.DAEMON)
    other = locks.take(state, locks.of_job("web"))
    assert other is not None
    lock.release()
    assert not locks.is_held(state, locks.DAEMON)
    again = locks.take(state, locks.DAEMON)
    assert again is not None
    again.release()
    other.release()


def test_a_state_directory_that_cannot_be_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="use state in"):
        locks.take(tmp_path / "file" / "state", locks.DAEMON)
    with pytest.raises(StateError, match="use state in"):
        locks.is_held(tmp_path / "file", locks.DAEMON)

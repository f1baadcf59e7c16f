"""What is told of jobs: as JSON, in one line, and as metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from netsync.monitor.metrics import JobMetrics
from netsync.monitor.mirrors import MirrorView
from netsync.monitor.status import as_json, check_line, instant, view_of
from netsync.plan.standing import Level, Standing, Totals
from netsync.state import locks
from netsync.state.jobs import JobStates

NOW = 1_700_000_000.0


class Daemon:
    """A state directory whose daemon is alive, with what it knows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = locks.take(directory, locks.DAEMON)
        self.states = JobStates(directory)
        self.states.beat(NOW)

    def knows(self, name: str, **facts: Any) -> None:
        """Let something be known of a job."""
        self.states.save(Standing(name=name, mode="pull", **facts))

    def end(self) -> None:
        """Let the daemon end."""
        if self.lock is not None:
            self.lock.release()
        self.lock = None


@pytest.fixture
def daemon(tmp_path: Path) -> Any:
    made = Daemon(tmp_path)
    yield made
    made.end()


def line(daemon: Daemon, only: str | None = None, now: float = NOW) -> tuple[Level, str]:
    return check_line(view_of(daemon.directory, now), only)


def test_status_has_the_contracts_keys(daemon: Daemon) -> None:
    daemon.knows("web", rpo=60.0, last_point=NOW - 5, current_until=NOW - 5, next_run=NOW + 10)
    document = as_json(view_of(daemon.directory, NOW))
    assert document["schema"] == "netsync.status/1"
    (job,) = document["jobs"]
    for key, value in {
        "name": "web", "mode": "pull", "state": "WAITING", "lag_seconds": 5.0, "rpo_seconds": 60.0,
        "backlog_files": None, "backlog_bytes": None, "last_point": "2023-11-14T22:13:15.000Z",
        "next_run": "2023-11-14T22:13:30.000Z", "last_error": None, "verdict": "ok",
    }.items():  # fmt: skip
        assert job[key] == value, key


def test_a_configured_job_that_nobody_knows_is_a_breach(daemon: Daemon) -> None:
    configured = [Standing(name="db", rpo=60.0)]
    view = view_of(daemon.directory, NOW, configured)
    level, words = check_line(view)
    assert level is Level.CRITICAL
    assert words == "CRITICAL: db: no recovery point was ever made"
    assert as_json(view)["jobs"][0]["state"] == "NEW"


def mirror(state: str, role: str = "primary", words: str = "", owed: int = 0) -> MirrorView:
    return MirrorView("/srv/data", role, "standby1", state, 1, 7, owed, 40, words)


@pytest.mark.parametrize(
    ("view", "level", "words"),
    [
        (mirror("sync"), Level.OK, "OK: /srv/data: in step | '/srv/data standby1 lag'=7"),
        (mirror("lost", words="no route"), Level.CRITICAL, "the standby is lost: no route"),
        (mirror("degraded", owed=9), Level.CRITICAL, "on this host alone: 9 bytes are owed"),
        (mirror("starting", words="no route"), Level.CRITICAL, "nothing can be written"),
        (mirror("refusing", words="promoted"), Level.CRITICAL, "follows another.*: promoted"),
        (mirror("of a newer version"), Level.UNKNOWN, "does not know what that is"),
        (mirror("resync"), Level.WARNING, "is sent what it lacks"),
        (mirror("at rest"), Level.WARNING, "nothing mirrors it: .*mirror /srv/data --forget"),
        (mirror("at rest", words="stale since 3"), Level.CRITICAL, "stale since 3"),
        (mirror("receiving", "standby"), Level.OK, "OK"),
        (mirror("waiting", "standby"), Level.WARNING, "not connected"),
        (mirror("incomplete", "standby"), Level.CRITICAL, "no whole copy"),
        (mirror("at rest", "standby"), Level.CRITICAL, "nothing mirrors it"),
        (mirror("promoted"), Level.OK, "OK"),
    ],
    ids=lambda each: each.state if isinstance(each, MirrorView) else None,
)
def test_mirrors_are_judged(daemon: Daemon, view: MirrorView, level: Level, words: str) -> None:
    """Where there are no jobs, nothing is wrong with a daemon that is not running."""
    daemon.end()
    found, line = check_line(view_of(daemon.directory, NOW), None, [view])
    assert found is level
    assert re.search(words.replace("|", r"\|"), line)


def test_jobs_and_mirrors_share_the_line(daemon: Daemon) -> None:
    daemon.knows("web", rpo=60.0, current_until=NOW - 5)
    view = view_of(daemon.directory, NOW)
    assert check_line(view, None, [mirror("sync")]) == (
        Level.OK,
        "OK: 1 job, the last of them 5s behind, 1 mirror in order"
        " | 'web lag'=5s;;60 '/srv/data standby1 lag'=7",
    )
    level, words = check_line(view, None, [mirror("lost")])
    assert (level, words.split(" | ")[0]) == (
        Level.CRITICAL, "CRITICAL: /srv/data: the standby is lost")  # fmt: skip
    assert check_line(view, "web", [mirror("lost")])[0] is Level.OK
    assert check_line(view, "/srv/data", [mirror("lost")])[0] is Level.CRITICAL


def test_check_says_the_worst_in_one_line(daemon: Daemon) -> None:
    daemon.knows("good", rpo=60.0, current_until=NOW - 5)
    assert line(daemon) == (Level.OK, "OK: good: 5s behind | 'good lag'=5s;;60")
    daemon.knows("late", rpo=60.0, current_until=NOW - 100, failure="no route to host")
    level, words = line(daemon)
    assert level is Level.CRITICAL
    assert words.startswith(
        "CRITICAL: late: 1m 40s behind, the objective is 1m: no route to host | "
    )
    assert line(daemon, "good")[0] is Level.OK
    assert line(daemon, "nobody") == (Level.UNKNOWN, "UNKNOWN: there is no job nobody")


def test_no_job_at_all_is_unknown(daemon: Daemon) -> None:
    level, words = line(daemon)
    assert level is Level.UNKNOWN
    assert "add a [job.NAME] section" in words


def test_a_dead_daemon_is_critical_for_all(daemon: Daemon) -> None:
    daemon.knows("web", current_until=NOW - 5)
    daemon.end()
    level, words = line(daemon, now=NOW + 600)
    assert level is Level.CRITICAL
    assert words.startswith("CRITICAL: the daemon is not running since 10m")
    job = as_json(view_of(daemon.directory, NOW))["jobs"][0]
    assert (job["state"], job["verdict"]) == ("DEGRADED", "critical")
    assert "not running" in job["last_error"]


def test_metrics_tell_what_status_tells_and_counters_begin_at_0(daemon: Daemon) -> None:
    daemon.knows("web", rpo=60.0, current_until=NOW - 5, totals=Totals(runs=7, literal=10))
    daemon.knows("new")
    registry = CollectorRegistry()
    registry.register(JobMetrics(daemon.directory, lambda: NOW))
    text = generate_latest(registry).decode()
    for expected in (
        'netsync_job_lag_seconds{job="web"} 5.0',
        'netsync_job_rpo_seconds{job="web"} 60.0',
        'netsync_job_runs_total{job="web"} 7.0',
        'netsync_job_literal_bytes_total{job="web"} 10.0',
        'netsync_job_runs_total{job="new"} 0.0',
        'netsync_job_failures_total{job="new"} 0.0',
        'netsync_job_state{job="new",state="NEW"} 1.0',
        'netsync_job_state{job="new",state="IN_SYNC"} 0.0',
        'netsync_job_verdict{job="new"} 2.0',
        "netsync_daemon_well 1.0",
        "netsync_state_readable 1.0",
    ):
        assert expected in text
    assert 'netsync_job_lag_seconds{job="new"}' not in text, "never is not a number"


def test_a_state_that_cannot_be_read_is_a_metric_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    registry = CollectorRegistry()
    registry.register(JobMetrics(tmp_path / "file", lambda: NOW))
    assert "netsync_state_readable 0.0" in generate_latest(registry).decode()


def test_moments_are_iso_8601() -> None:
    assert instant(None) is None
    assert instant(0.25) == "1970-01-01T00:00:00.250Z"

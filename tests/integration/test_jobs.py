"""A standby that works by itself: two daemons, real TLS, and what an administrator sees of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.jobs import Pair
from tests.support.processes import wait_until
from tests.support.samples import write


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Return a primary and a standby, neither started."""
    return Pair(tmp_path)


def test_a_scheduled_pull_keeps_the_standby_equal(pair: Pair) -> None:
    """The first run comes at once, later ones find what was written meanwhile."""
    with pair.primary():
        pair.configure(pair.job('every = "300ms"', 'rpo = "1m"'))
        with pair.standby():
            wait_until(pair.in_step, "the first run")
            write(pair.source, {"new": "3"})
            (pair.source / "a").unlink()
            wait_until(pair.in_step, "a later run")
            status = pair.job_status()
            assert status["mode"] == "pull"
            assert status["rpo_seconds"] == 60
            assert status["last_point"]
            assert status["next_run"]
            assert status["lag_seconds"] < 60
            assert status["verdict"] == "ok"
            assert status["last_error"] is None
            checked = pair.ask("check")
            assert checked.code == 0
            assert checked.stdout.startswith("OK: web: ")
        stopped = pair.ask("check")
        assert stopped.code == 2
        assert "the daemon is not running" in stopped.stdout
    assert pair.kinds()[:2] == ["started", "finished"]

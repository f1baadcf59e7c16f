"""A standby that works by itself: two daemons, real TLS, and what an administrator sees of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.jobs import JOB, VERDICTS, Pair
from tests.support.link import linked
from tests.support.monitor import monitoring
from tests.support.processes import Server, serving, wait_until
from tests.support.samples import random_bytes, write
from tests.support.trees import needs_mount, small_disk

OFTEN = 'every = "300ms"'
ON_CHANGE = "on_change = true"


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Return a primary and a standby, neither started."""
    return Pair(tmp_path)


@contextlib.contextmanager
def both(pair: Pair, *lines: str) -> Iterator[tuple[Server, Server]]:
    """Run the primary, and a standby that carries out one job."""
    with pair.primary() as primary:
        pair.configure(pair.job(*lines))
        with pair.standby() as standby:
            yield primary, standby


def test_a_scheduled_pull_keeps_the_standby_equal(pair: Pair) -> None:
    """The first run comes at once, later ones find what was written meanwhile."""
    with both(pair, OFTEN, 'rpo = "1m"'):
        pair.wait_in_step("the first run")
        write(pair.source, {"new": "3"})
        (pair.source / "a").unlink()
        pair.wait_in_step("a later run")
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
        assert JOB in pair.ask("status").stdout
    stopped = pair.ask("check")
    assert stopped.code == 2
    assert "the daemon is not running" in stopped.stdout
    assert pair.kinds()[:2] == ["started", "finished"]


# Changes


def test_a_change_is_fetched_when_it_happens_and_rest_costs_nothing(pair: Pair) -> None:
    """No schedule at all: word from the primary begins each run, and nothing else does."""
    with both(pair, ON_CHANGE) as (primary, _):
        pair.wait_in_step("the first run")
        pair.wait_for_status("the watch", state="IN_SYNC")
        for number in range(3):
            write(pair.source, {f"new{number}/deep/file": str(number)})
            pair.wait_in_step("a change arrives")
        (pair.source / "new1").rename(pair.source / "b" / "moved")
        pair.wait_in_step("a move arrives")
        pair.wait_for_status("all is there", state="IN_SYNC")
        before = primary.log.count("pull m")
        point = pair.job_status()["last_point"]

        def confirmed() -> bool:
            """The watch has answered at least twice since."""
            return bool(pair.job_status()["lag_seconds"] == 0) and state_is_newer(pair, point)

        wait_until(confirmed, "the watch confirms that nothing changed")
        assert primary.log.count("pull m") == before
        assert pair.ask("check").code == 0


def state_is_newer(pair: Pair, point: str) -> bool:
    """Tell whether the watch has confirmed a time after the run, though no run was since."""
    status = pair.job_status()
    assert status["last_point"] == point
    return bool(status["current_until"] > point)


def test_a_primary_that_comes_back_is_watched_again(pair: Pair) -> None:
    """What was written while nobody watched is fetched when the watch is back."""
    with pair.primary():
        pair.configure(pair.job(ON_CHANGE))
        with contextlib.ExitStack() as stack:
            stack.enter_context(pair.standby())
            pair.wait_in_step("the first run")
    write(pair.source, {"unheard": "1"})
    with pair.primary() as primary, pair.standby() as standby:
        pair.wait_in_step("the second run")
        primary.signal(signal.SIGKILL)
        primary.wait()
        pair.wait_for_status("the loss is noticed", state="DEGRADED")
        assert "is not watched" in pair.job_status()["last_error"]
        write(pair.source, {"unheard": "22"})
        with pair.primary():
            pair.wait_in_step("it is watched again")
            pair.wait_for_status("all is well", state="IN_SYNC")
        assert standby.running


def test_a_module_that_is_another_directory_now_is_watched_and_fetched(pair: Pair) -> None:
    """A reload of the primary ends the watch of the old one, which the standby begins anew."""
    other = write(pair.base / "other", {"another": "1"})
    with both(pair, ON_CHANGE, "accept_new_source = true") as (primary, _):
        pair.wait_for_status("the watch", state="IN_SYNC")
        pair.offer(other)
        primary.reload()
        pair.source = other
        pair.wait_in_step("the other is fetched")
        pair.wait_for_status("and watched", state="IN_SYNC")
        write(other, {"more": "2"})
        pair.wait_in_step("a change in it")


FEW_WATCHES = 'echo 3 > /proc/sys/user/max_inotify_watches && exec "$@"'


@needs_mount
def test_a_primary_with_too_few_watches_is_said_and_fetched_by_the_schedule(pair: Pair) -> None:
    write(pair.source, {f"directory{number}/f": "1" for number in range(10)})
    within = ("unshare", "--user", "--map-root-user", "sh", "-c", FEW_WATCHES, "sh")
    with pair.primary(within) as primary:
        pair.configure(pair.job(ON_CHANGE, OFTEN))
        with pair.standby():
            pair.wait_in_step("the first run")
            pair.wait_for_status("it is said", state="DEGRADED", verdict="warning")
            error = pair.job_status()["last_error"]
            assert "too few inotify watches" in error
            assert "raise fs.inotify.max_user_watches" in error
            write(pair.source, {"directory9/new": "1"})
            pair.wait_in_step("the schedule fetches")
        assert primary.running


# Trouble


def test_a_link_that_is_cut_under_writes_makes_the_lag_rise_and_fall_again(pair: Pair) -> None:
    """No restart, no intervention: the trees are equal when the link is back."""
    with pair.primary() as primary, linked(primary.port) as link:
        pair.configure(pair.job(OFTEN, 'rpo = "1s"', 'connect_timeout = "500ms"', port=link.port))
        with pair.standby():
            pair.wait_in_step("the first run")
            link.down()
            lags = []
            for number in range(4):
                write(pair.source, {f"during{number}": random_bytes(5000, number)})
                wait_until(lambda: pair.ask("check").code == 2, "the objective is broken")
                lags.append(pair.job_status()["lag_seconds"])
            assert lags == sorted(set(lags)), "it rises"
            point = pair.job_status()["last_point"]
            wait_until(lambda: pair.job_status()["state"] == "DEGRADED", "a run fails")
            assert not pair.in_step()
            link.up()
            pair.wait_in_step("it catches up")
            pair.wait_for_status("all is well", verdict="ok", last_error=None)
            assert pair.job_status()["last_point"] > point


def test_a_primary_that_dies_is_an_alarm_of_the_standbys(pair: Pair) -> None:
    with both(pair, OFTEN, 'rpo = "2s"') as (primary, _):
        pair.wait_in_step("the first run")
        assert pair.ask("check").code == 0
        primary.signal(signal.SIGKILL)
        primary.wait()
        wait_until(lambda: pair.ask("check").code == 2, "the alarm")
        line = pair.ask("check").stdout
        assert line.startswith("CRITICAL: web: ")
        assert "the objective is 2s" in line
        assert "connect" in line, "and why"
        wait_until(lambda: "critical" in told(pair), "the daemon says so by itself")


def told(pair: Pair) -> list[str]:
    return [event["kind"] for event in pair.events()]


@needs_mount
def test_a_full_disk_is_said_and_gone_on_with_once_freed(pair: Pair) -> None:
    with small_disk(pair.base / "disk", 4 << 20) as disk:
        pair.target = disk / "target"
        (disk / "filler").write_bytes(bytes(3 << 20))
        write(pair.source, {"large": random_bytes(2 << 20, 1)})
        with both(pair, OFTEN, 'rpo = "1m"'):
            pair.wait_for_status("the disk is full", state="DEGRADED")
            assert "no space left" in pair.job_status()["last_error"]
            assert pair.ask("check").code == 2
            (disk / "filler").unlink()
            pair.wait_in_step("it goes on")
            pair.wait_for_status("all is well", verdict="ok")


def test_a_standby_that_is_killed_goes_on_when_it_is_back(pair: Pair) -> None:
    """In the middle of a run; what it has counted and when it was last current is not lost."""
    write(pair.source, {"large": random_bytes(3 << 20, 1)})
    with pair.primary():
        pair.configure(pair.job('every = "1h"', 'bwlimit = "1M"', 'rpo = "1m"'))
        with pair.standby() as standby:
            pair.wait_for_status("a run is under way", state="CATCHING_UP")
            standby.signal(signal.SIGKILL)
            standby.wait()
        assert pair.ask("check").code == 2
        pair.configure(pair.job('every = "1h"', 'rpo = "1m"'))
        with pair.standby():
            pair.wait_in_step("the run is made up for at once")
            pair.wait_for_status("all is well", verdict="ok")


# Asking


def test_run_runs_now_and_returns_what_it_came_to(pair: Pair) -> None:
    """By the daemon: the exit code, the report, and for a job that nobody knows what there is."""
    with both(pair, 'schedule = "0 0 1 1 *"') as (primary, _):
        never = pair.ask("check")
        assert never.code == 2
        assert "no recovery point was ever made" in never.stdout
        assert not pair.target.exists()
        result = pair.ask("run", JOB, "--json")
        assert (result.code, result.stderr) == (0, "")
        assert result.report["schema"] == "netsync.report/1"
        assert result.files["created"] == 3
        assert pair.in_step()
        unknown = pair.ask("run", "other")
        assert unknown.code == 1
        assert unknown.stderr.startswith("netsync: job other: the daemon has no such job (")
        assert "jobs are: web" in unknown.stderr
        nothing = pair.ask("events", "--job", "other")
        assert (nothing.code, nothing.stdout) == (1, "")
        assert "it did to: web" in nothing.stderr
        primary.signal(signal.SIGKILL)
        primary.wait()
        lost = pair.ask("run", JOB)
        assert lost.code == 10
        assert lost.stderr.count("\n") == 1


def test_run_without_a_daemon_does_the_same_here(pair: Pair) -> None:
    with pair.primary():
        pair.configure(pair.job('every = "1h"', 'rpo = "1h"'))
        result = pair.ask("run", JOB, "--json", identity=pair.identity)
        assert result.code == 0
        assert result.files["created"] == 3
        assert pair.in_step()
        status = pair.job_status()
        assert status["last_point"]
        assert pair.ask("check").code == 2, "a job without a daemon is nobody's"
        assert pair.ask("run", "other").code == 1
        assert pair.ask("wait", JOB).code == 13


def test_wait_returns_when_all_that_was_written_before_is_there(pair: Pair) -> None:
    with both(pair, 'every = "1h"') as (primary, _):
        for number in range(3):
            write(pair.source, {f"written{number}": str(number)})
            result = pair.ask("wait", JOB, "--timeout", "20s")
            assert (result.code, result.stderr) == (0, "")
            assert pair.in_step()
        assert pair.ask("wait", "other").code == 1
        primary.signal(signal.SIGKILL)
        primary.wait()
        lost = pair.ask("wait", JOB, "--timeout", "1s")
        assert lost.code == 13
        assert "asking again is safe" in lost.stderr


def test_wait_is_not_content_with_what_is_not_durable(pair: Pair) -> None:
    with both(pair, 'every = "1h"', "no_fsync = true"):
        result = pair.ask("wait", JOB)
        assert result.code == 1
        assert "no_fsync" in result.stderr


# Hooks, pings, metrics


def test_hooks_and_pings_go_with_each_run(pair: Pair) -> None:
    out = pair.base / "hooks"
    code = f"import sys; open({str(out)!r}, 'a').write(sys.stdin.read())"
    hook = json.dumps([sys.executable, "-c", code])
    with (
        monitoring() as monitor,
        both(pair, 'every = "1h"', f"pre = {hook}", f"post = {hook}", f'ping = "{monitor.url}"'),
    ):
        wait_until(lambda: len(monitor.paths) == 2, "both pings")
        assert monitor.paths == ["/ping/start", "/ping"]
        pre, post = [json.loads(line) for line in out.read_text().splitlines()]
        assert (pre["phase"], post["phase"]) == ("pre", "post")
        assert post["files"]["created"] == 3
        (pair.base / "source").rename(pair.base / "gone")
        assert pair.ask("run", JOB).code == 11
        wait_until(lambda: len(monitor.paths) == 4, "the pings of the failure")
        assert monitor.paths[2:] == ["/ping/start", "/ping/fail"]


def test_a_monitor_that_is_gone_fails_no_job(pair: Pair) -> None:
    with monitoring() as monitor:
        url = monitor.url
    with both(pair, 'every = "1h"', f'ping = "{url}"'):
        wait_until(lambda: "ping" in pair.kinds(), "it is told")
        pair.wait_for_status("all is well", verdict="ok")


def test_metrics_are_served_on_their_own_address(pair: Pair) -> None:
    with pair.primary():
        pair.configure(pair.job(OFTEN, 'rpo = "1m"'), server='metrics = "127.0.0.1:0"')
        with pair.standby() as standby:
            pair.wait_in_step("the first run")
            (line,) = [each for each in standby.log.splitlines() if "metrics on" in each]
            with urllib.request.urlopen(f"http://{line.split()[-1]}/metrics", timeout=10) as page:
                text = page.read().decode()
    assert 'netsync_job_rpo_seconds{job="web"} 60.0' in text
    assert 'netsync_job_failures_total{job="web"} 0.0' in text
    assert "netsync_daemon_well 1.0" in text


# The daemon


def test_a_reload_changes_what_changed_and_leaves_the_rest_alone(pair: Pair) -> None:
    """A run of an untouched job goes on; a changed job begins anew; a new one begins."""
    write(pair.source, {"large": random_bytes(2 << 20, 1)})
    with pair.primary():
        slow = pair.job('every = "1h"', 'bwlimit = "1M"')
        pair.configure(slow, pair.second('every = "1h"'))
        with pair.standby() as standby:
            wait_until(lambda: second_kinds(pair).count("finished") == 1, "the second job has run")
            pair.configure(slow, pair.second(OFTEN), pair.third())
            standby.reload()
            wait_until(lambda: second_kinds(pair).count("started") > 2, "the change takes effect")
            pair.wait_for_status("the new job", "third", verdict="ok")
            wait_until(lambda: "finished" in kinds_of(pair, JOB), "the first run ends")
            assert kinds_of(pair, JOB) == ["started", "finished"]
            pair.configure(slow)
            standby.reload()
            wait_until(lambda: names_of(pair) == [JOB], "the others are gone")
            pair.file.write_text("[job.web]\nmode = 'pul'\n")
            standby.reload()
            assert "the old configuration stays" in standby.log


def names_of(pair: Pair) -> list[str]:
    return [job["name"] for job in pair.ask("status", "--json").report["jobs"]]


def kinds_of(pair: Pair, name: str) -> list[str]:
    kinds = [event["kind"] for event in pair.events() if event["job"] == name]
    return [kind for kind in kinds if kind not in VERDICTS]


def second_kinds(pair: Pair) -> list[str]:
    return kinds_of(pair, "second")


def test_stopping_lets_a_run_end(pair: Pair) -> None:
    write(pair.source, {"large": random_bytes(1 << 20, 1)})
    with both(pair, 'every = "1h"', 'bwlimit = "1M"') as (_, standby):
        pair.wait_for_status("a run is under way", state="CATCHING_UP")
        assert standby.stop().code == 0
        assert pair.in_step()
    assert pair.kinds() == ["started", "finished"]


def test_a_second_signal_ends_at_once_and_the_run_is_still_due(pair: Pair) -> None:
    write(pair.source, {"large": random_bytes(8 << 20, 1)})
    with both(pair, 'every = "1h"', 'bwlimit = "1M"') as (_, standby):
        pair.wait_for_status("a run is under way", state="CATCHING_UP")
        standby.signal(signal.SIGTERM)
        standby.wait_for(lambda: "stopping" in standby.log, "it drains")
        standby.signal(signal.SIGTERM)
        assert standby.wait(10).code == 0
    (cut,) = [event for event in pair.events() if event["kind"] == "failed"]
    assert "interrupted" in cut["text"]
    pair.configure(pair.job('every = "1h"'))
    with pair.primary(), pair.standby():
        pair.wait_in_step("it is made up for")


def test_there_is_one_daemon_for_a_state_directory(pair: Pair) -> None:
    with both(pair, 'every = "1h"'):
        second = pair.ask("serve", identity=pair.identity)
        assert second.code == 1
        assert "another daemon" in second.stderr


def test_systemd_is_told_what_it_wants_to_know(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY, STATUS, WATCHDOG, RELOADING, STOPPING: in this order."""
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        address = str(pair.base / "notify")
        systemd.bind(address)
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")

        def hear(word: str) -> None:
            while not any(word in each for each in told):
                told.append(systemd.recv(4096).decode())

        with pair.primary():
            hear("READY=1")
            told.clear()
            pair.configure(pair.job('every = "1h"'))
            with pair.standby() as standby:
                hear("STATUS=web ")
                standby.signal(signal.SIGHUP)
                hear("RELOADING=1\nMONOTONIC_USEC=")
                told.clear()
                hear("READY=1")
                told.clear()
                hear("WATCHDOG=1")
                standby.signal(signal.SIGTERM)
                hear("STOPPING=1")
                assert standby.wait().code == 0


def test_only_the_owner_reaches_state_and_socket(pair: Pair) -> None:
    with both(pair, 'every = "1h"'):
        assert os.stat(pair.state).st_mode & 0o777 == 0o700
        assert os.stat(pair.state / "control").st_mode & 0o777 == 0o600


def test_events_can_be_followed(pair: Pair) -> None:
    with both(pair, 'every = "1h"'):
        pair.wait_in_step("the first run")
        with pair.following() as follower:
            follower.wait_for(lambda: "finished" in follower.stdout, "what was")
            before = follower.stdout.count("finished")
            assert pair.ask("run", JOB).code == 0
            follower.wait_for(lambda: follower.stdout.count("finished") > before, "what is new")


def test_a_primary_may_push_by_itself_too(tmp_path: Path) -> None:
    """The same job the other way round: the primary's daemon drives, and its lag is the same."""
    pair = Pair(tmp_path)
    standby = pair.base / "standby"
    standby.mkdir()
    with serving("--module", f"m={standby}") as server:
        pair.configure(
            f'[job.web]\nmode = "push"\nsource = "{pair.source}/"\ntarget = "{server.url("m")}"\n'
            'every = "300ms"\ndelete = true\nrpo = "1m"\n'
        )
        pair.target = standby
        with pair.standby():
            pair.wait_in_step("the first run")
            write(pair.source, {"new": "1"})
            pair.wait_in_step("a later run")
            pair.wait_for_status("all is well", verdict="ok", mode="push")
            assert pair.ask("wait", JOB).code == 0

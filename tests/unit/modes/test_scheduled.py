"""The runner of scheduled jobs, on a fake clock: when it runs, and what it makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from netsync.errors import InterruptedBySignal, NetworkError, RefusedError, RootError
from netsync.model import Options, Problem, Report
from netsync.modes.attempt import Attempt
from netsync.modes.job import Ask, Done
from netsync.plan.schedule import OnMissed, Schedule
from netsync.plan.standing import State, lag_of, state_of
from netsync.wire.watching import Changed
from tests.support.fake_jobs import EPOCH, GOOD, Bench

HOUR = 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a bench for a job of which nothing is known."""
    return Bench(tmp_path)


async def carry_out(bench: Bench, seconds: float, schedule: Schedule | None, **more: Any) -> None:
    with trio.move_on_after(seconds):
        await bench.runner(bench.job(schedule, **more)).work()


async def leap(bench: Bench, after: float, seconds: float) -> None:
    """Let the wall clock leap, which trio's does not notice."""
    await trio.sleep(after)
    bench.ahead += seconds


async def test_an_interval_runs_from_start_to_start(
    bench: Bench, autojump_clock: MockClock
) -> None:
    await carry_out(bench, 35, Schedule(every=10.0))
    assert bench.starts == [0, 10, 20, 30]
    assert bench.kinds()[:2] == ["started", "finished"]
    assert bench.pings[:2] == ["start", ""]


async def test_the_recovery_point_is_when_the_scan_began(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.seconds = 60.0
    await carry_out(bench, 100, Schedule(every=HOUR))
    assert bench.standing.last_point == EPOCH
    assert bench.standing.current_until == EPOCH
    assert bench.standing.ended == EPOCH + 60
    assert lag_of(bench.standing, EPOCH + 100) == 100


async def test_runs_never_overlap_and_one_makes_up_for_those_that_passed(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """A run of 25 seconds every 10: the next begins when it has ended."""
    bench.seconds = 25.0
    await carry_out(bench, 80, Schedule(every=10.0))
    assert bench.starts == [0, 25, 50, 75]
    assert bench.most_under_way == 1


async def test_a_suspended_machine_runs_exactly_once_when_it_wakes(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leap, bench, 100, 3 * HOUR)
        await carry_out(bench, 200, Schedule(every=HOUR))
        nursery.cancel_scope.cancel()
    assert len(bench.starts) == 2
    assert 3 * HOUR + 100 <= bench.starts[1] <= 3 * HOUR + 130, "within one look at the clock"
    assert bench.standing.next_run == EPOCH + bench.starts[1] + HOUR


async def test_a_suspended_machine_may_skip_what_it_missed(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leap, bench, 100, 3.5 * HOUR)
        await carry_out(bench, HOUR, Schedule(every=HOUR, on_missed=OnMissed.SKIP))
        nursery.cancel_scope.cancel()
    assert bench.starts[0] == 0
    assert all(start > 3.5 * HOUR + 130 for start in bench.starts[1:])
    assert bench.kinds().count("missed") == 1
    assert bench.standing.totals.missed == 1


async def test_a_clock_that_is_set_back_is_followed(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leap, bench, 5, -1000 * HOUR)
        await carry_out(bench, HOUR + 60, Schedule(every=HOUR))
        nursery.cancel_scope.cancel()
    assert len(bench.starts) == 2
    assert "clock" in bench.kinds()


async def test_a_small_step_back_brings_no_time_twice(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """A clock that is put right by two seconds, as they are all day."""
    bench.ahead -= EPOCH % HOUR - HOUR + 1  # one second before the full hour
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leap, bench, 3, -2.5)
        await carry_out(bench, 600, Schedule(cron="0 * * * *"))
        nursery.cancel_scope.cancel()
    assert len(bench.starts) == 1


@pytest.mark.parametrize("schedule", [Schedule(every=HOUR), None])
async def test_a_job_whose_clock_is_set_back_goes_on_to_fall_behind(
    bench: Bench, schedule: Schedule | None, autojump_clock: MockClock
) -> None:
    """A point a year ahead would say "0s behind" for a year."""
    bench.ahead += 365 * 24 * HOUR
    bench.outcomes = [GOOD, *[NetworkError("cut")] * 10]
    runner = bench.runner(bench.job(schedule))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.work)
        assert (await runner.ask(Ask.RUN)).point is not None
        bench.ahead -= 365 * 24 * HOUR
        await trio.sleep(30 + 2 * HOUR)
        nursery.cancel_scope.cancel()
    lag = lag_of(bench.standing, bench.now())
    assert lag is not None
    assert 2 * HOUR <= lag <= 2 * HOUR + 30
    assert bench.standing.last_point == bench.standing.current_until


async def test_a_run_after_the_clock_was_set_back_is_current_up_to_its_own_beginning(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    bench = Bench(tmp_path, seconds=2.0, current_until=EPOCH + 5)
    attempt = Attempt(bench.job(), bench.record, bench.site, bench.pings.append)
    await attempt.run()
    assert bench.standing.current_until == EPOCH


async def test_a_daemon_that_starts_after_a_missed_time_makes_up_for_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    bench = Bench(tmp_path, handled=EPOCH - 5 * HOUR)
    await carry_out(bench, 10, Schedule(every=HOUR))
    assert bench.starts == [0]


async def test_a_run_that_is_cut_short_is_still_due(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its end is told, and the next daemon runs it at once."""
    bench = Bench(tmp_path, seconds=50.0, handled=EPOCH - 2 * HOUR)
    await carry_out(bench, 10, Schedule(every=HOUR))
    assert bench.standing.handled == EPOCH - 2 * HOUR
    assert bench.standing.exit_code == 20
    assert not bench.standing.running
    assert bench.standing.last_point is None
    assert bench.pings == ["start"], "what goes on later has not failed"


FAILED = Report(problems=(Problem(b"a\x1b", "read", "permission denied"),), durable=True)
VANISHED = Report(problems=(Problem(b"a", "read", "gone", vanished=True),), durable=True)
HELD = Report(held="25 of 30 entries would go", durable=True)


@pytest.mark.parametrize(("outcome", "code", "words"), [
    (NetworkError("no route to host", op="connect to", where="p:1"), 10, "no route to host"),
    (RootError("no space left", op="write", where="/x", hint="free some"), 11, "free some"),
    (FAILED, 23, "read a\\033: permission denied"),
    (HELD, 25, "25 of 30"),
])  # fmt: skip
async def test_a_run_that_left_something_out_makes_no_recovery_point(
    bench: Bench, outcome: NetworkError | Report, code: int, words: str, autojump_clock: MockClock
) -> None:
    bench.outcomes = [Report(durable=True), outcome]
    await carry_out(bench, 15, Schedule(every=10.0))
    assert bench.standing.last_point == EPOCH
    assert bench.standing.exit_code == code
    assert words in bench.standing.failure
    assert state_of(bench.standing) is State.DEGRADED
    assert bench.standing.totals.failures == 1
    assert bench.pings[-1] == "fail"


async def test_paths_that_only_vanished_are_no_failure(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.outcomes = [VANISHED]
    await carry_out(bench, 5, Schedule(every=10.0))
    assert bench.standing.last_point == EPOCH
    assert bench.standing.exit_code == 24
    assert bench.standing.failure == ""


async def test_a_job_recovers_by_itself(bench: Bench, autojump_clock: MockClock) -> None:
    bench.outcomes = [NetworkError("cut"), NetworkError("cut")]
    await carry_out(bench, 25, Schedule(every=10.0))
    assert bench.standing.failure == ""
    assert bench.standing.last_point == EPOCH + 20
    assert bench.kinds() == ["started", "failed", "finished"], "what repeats itself is no news"


async def test_who_asks_gets_a_run_that_begins_after_the_question(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """One run under way answers nobody who asked during it; the next answers all of them."""
    bench.seconds = 10.0
    runner = bench.runner(bench.job())
    points: list[float | None] = []

    async def ask(after: float, what: Ask) -> None:
        await trio.sleep(after)
        done = await runner.ask(what)
        points.append(done.point)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.work)
        for after, what in ((1, Ask.RUN), (5, Ask.BARRIER), (6, Ask.RUN)):
            nursery.start_soon(ask, after, what)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert points == [EPOCH + 1, EPOCH + 11, EPOCH + 11]
    assert bench.starts == [1, 11]


async def test_a_barrier_tries_again_what_may_help_and_reports_what_cannot(
    bench: Bench, autojump_clock: MockClock
) -> None:
    runner = bench.runner(bench.job())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.work)
        bench.outcomes = [NetworkError("cut"), NetworkError("cut")]
        done = await runner.ask(Ask.BARRIER)
        assert done.point is not None
        assert len(bench.starts) == 3
        bench.outcomes = [RefusedError("not yours")]
        refused = await runner.ask(Ask.BARRIER)
        assert (refused.code, refused.point) == (5, None)
        bench.outcomes = [NetworkError("cut")]
        assert (await runner.ask(Ask.RUN)).code == 10, "who asks for a run gets that run"
        nursery.cancel_scope.cancel()


async def test_whoever_waits_is_told_when_the_job_ends(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.seconds = 1000.0
    runner = bench.runner(bench.job())
    answers: list[Done] = []

    async def ask(after: float) -> None:
        await trio.sleep(after)
        answers.append(await runner.ask(Ask.BARRIER))

    async with trio.open_nursery() as asking:
        for after in (1.0, 5.0, 20.0):
            asking.start_soon(ask, after)
        with trio.move_on_after(10):
            await runner.work()
    assert [answer.code for answer in answers] == [20, 20, 20]


async def test_draining_lets_the_run_end_and_begins_no_other(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.seconds = 30.0
    runner = bench.runner(bench.job(Schedule(every=10.0)))

    async def drain() -> None:
        await trio.sleep(5)
        runner.drain()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        await runner.work()
    assert bench.starts == [0]
    assert bench.standing.last_point == EPOCH
    assert (await runner.ask(Ask.RUN)).code == 20


async def test_a_watched_source_that_rests_is_current_without_a_run(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """Answers move the time up to which all is here, but not while a run is under way."""
    bench.seconds = 10.0
    runner = bench.runner(bench.job())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.work)
        await trio.sleep(1)
        await runner.hear(Changed(changed=True), bench.now())
        await trio.sleep(1)
        await runner.hear(Changed(changed=False), bench.now())
        assert bench.standing.current_until is None
        await trio.sleep(20)
        assert bench.standing.last_point == EPOCH + 1
        assert state_of(bench.standing) is State.IN_SYNC
        await runner.hear(Changed(changed=False), bench.now())
        assert bench.standing.current_until == EPOCH + 22
        assert lag_of(bench.standing, bench.now()) == 0
        assert bench.starts == [1]
        nursery.cancel_scope.cancel()


async def test_a_change_during_a_run_leads_to_one_more_after_a_rest(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.seconds = 10.0
    runner = bench.runner(bench.job())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.work)
        await trio.sleep(1)
        for _ in range(3):
            await runner.hear(Changed(changed=True), bench.now())
            await trio.sleep(2)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert bench.starts == [1, 21], "as long as the run took"


async def test_a_source_that_nobody_can_watch_is_fetched_by_the_schedule_and_said(
    bench: Bench, autojump_clock: MockClock
) -> None:
    runner = bench.runner(bench.job())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.work)
        await trio.sleep(1)
        await runner.hear(Changed(True, watched=False, why="too few watches"), bench.now())
        await trio.sleep(1000)
        nursery.cancel_scope.cancel()
    assert len(bench.starts) == 4, "at once, and every five minutes, though it has no schedule"
    assert state_of(bench.standing) is State.DEGRADED
    assert "too few watches; fetched by the schedule instead" in bench.standing.unwatched


async def test_what_links_lead_to_is_not_watched_and_that_is_said(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """The server tells of the tree; nobody tells of what is behind its links."""
    runner = bench.runner(bench.job(options=Options(copy_links=True)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.work)
        await trio.sleep(1)
        await runner.hear(Changed(False), bench.now())
        assert "behind the links" in bench.standing.unwatched
        await trio.sleep(10)
        await runner.hear(Changed(True), bench.now())
        await trio.sleep(400)
        nursery.cancel_scope.cancel()
    assert bench.starts == [11, 311], "when told, and every five minutes all the same"
    assert state_of(bench.standing) is State.DEGRADED


async def test_a_state_directory_that_cannot_be_used_is_no_busy_loop(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """No lock, no run: said, and tried again when the job is due again."""
    (tmp_path / "file").write_text("")
    bench = Bench(tmp_path / "file" / "state")
    await carry_out(bench, 25, Schedule(every=10.0))
    assert bench.starts == []
    assert bench.kinds() == ["failed", "failed", "failed"]
    assert "use state in" in bench.standing.failure


async def test_a_peer_that_says_it_was_interrupted_is_no_busy_loop(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.outcomes = [InterruptedBySignal("the server was interrupted")]
    await carry_out(bench, 15, Schedule(every=10.0))
    assert bench.starts == [0, 10]

"""What a standby can tell alone: by its own clock, and never better than it is."""

from __future__ import annotations

from netsync.model import Files, Options, Report
from netsync.plan import reception
from netsync.plan.guards import Changes
from netsync.plan.reception import GRACE_SECONDS, PATIENCE_SECONDS, WINDOW_SECONDS, Reception
from netsync.plan.standing import Level, State

NOW = 1_760_000_000.0
CHANGES = Options(changes=True, delete=True)


def heard(**more: object) -> Reception:
    facts = {"name": "p:m", "client": "p", "every": 2.0, "heard": NOW, "until": NOW - 1, **more}
    return Reception(**facts)  # type: ignore[arg-type]


def level(known: Reception, after: float) -> Level:
    return reception.verdict(known, NOW + after).level


def test_between_beats_nothing_lags() -> None:
    assert reception.lag(heard(), NOW + 1) == 0
    assert reception.state(heard(), NOW + 1) is State.IN_SYNC
    assert level(heard(), 1) is Level.OK


def test_a_primary_that_is_gone_is_an_alarm_within_the_objective_and_grace() -> None:
    known = heard(rpo=60.0)
    assert level(known, 2) is Level.OK
    assert level(known, 2 + GRACE_SECONDS + 1) is Level.WARNING
    assert level(known, 60 + GRACE_SECONDS) is Level.CRITICAL
    assert "silent" in reception.verdict(known, NOW + 80).why
    assert reception.state(known, NOW + 80) is State.DEGRADED


def test_the_module_s_objective_comes_first() -> None:
    assert level(heard(rpo=3600.0, objective=10.0), 10 + GRACE_SECONDS) is Level.CRITICAL
    assert reception.as_standing(heard(rpo=5.0, objective=10.0)).rpo == 10


def test_without_an_objective_silence_is_a_warning_and_then_critical() -> None:
    assert level(heard(), GRACE_SECONDS + 3) is Level.WARNING
    assert level(heard(), PATIENCE_SECONDS) is Level.CRITICAL


def test_a_primary_that_is_there_and_behind_is_critical_too() -> None:
    known = heard(until=NOW - 100, rpo=60.0, trouble="no space left on device")
    verdict = reception.verdict(known, NOW)
    assert verdict.level is Level.CRITICAL
    assert "no space left" in verdict.why


def test_what_was_never_whole_is_critical() -> None:
    assert level(heard(until=None), 0) is Level.CRITICAL


def deleted(count: int, *, held: str = "", options: Options = CHANGES) -> tuple[Report, Options]:
    return Report(files=Files(deleted=count), held=held), options


def test_deletes_add_up_within_an_hour() -> None:
    known = reception.booked(heard(entries=100), *deleted(3), NOW)
    known = reception.booked(known, *deleted(4), NOW + 60)
    assert reception.changes_of(known, NOW + 60) == Changes(93, 7)
    assert reception.changes_of(known, NOW + WINDOW_SECONDS + 1).deleted == 0
    later = reception.booked(known, *deleted(1), NOW + WINDOW_SECONDS + 1)
    assert reception.changes_of(later, NOW + WINDOW_SECONDS + 1).deleted == 1


def test_what_is_held_stays_held_until_a_look_at_the_whole_passes() -> None:
    known = reception.booked(heard(entries=100), *deleted(30), NOW)
    known = reception.booked(known, *deleted(0, held="too many"), NOW)
    assert reception.changes_of(known, NOW + 10 * WINDOW_SECONDS) == Changes(70, 30, held=True)
    whole = Options(delete=True)
    known = reception.booked(known, *deleted(0, held="too many", options=whole), NOW)
    assert reception.changes_of(known, NOW).held
    passed = Report(files=Files(considered=60, deleted=10))
    assert reception.changes_of(reception.booked(known, passed, whole, NOW), NOW) == Changes(60, 0)


def test_what_asked_no_guard_begins_no_account_anew() -> None:
    """Else a push without deletes, or a verification, would clear the way for more of them."""
    known = reception.booked(heard(entries=100), *deleted(30, held="too many"), NOW)
    passed = Report(files=Files(considered=100))
    for options in (Options(), Options(delete=True, verify=True), Options(verify=True)):
        assert reception.booked(known, passed, options, NOW) == known


def test_a_run_that_is_about_some_paths_says_nothing_of_the_whole() -> None:
    known = heard(entries=100)
    few = Options(paths=(b"a",), delete=True)
    assert reception.booked(known, *deleted(1, options=few), NOW) == known

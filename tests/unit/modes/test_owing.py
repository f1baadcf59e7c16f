"""What a watch owes and may claim: no more than a drain, a listing and an answer prove."""

from __future__ import annotations

import pytest

from netsync.model import Move
from netsync.modes.owing import HEARD_SECONDS, Owing
from netsync.plan.dirty import Dirty

ALL = 10**6


class Clock:
    """A clock that goes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def owing(clock: Clock) -> Owing:
    """Return the account of a watch that is in step."""
    found = Owing(clock)
    found.owe_look("the watch begins")
    drain(found, clock)
    found.begin_look()
    found.end_look((), rest=0.0)
    assert found.is_in_step
    return found


def drain(owing: Owing, clock: Clock, seconds: float = 1.0) -> float:
    """Let time pass, and the kernel's queue be drained; return when that began."""
    clock.now += seconds
    owing.drained = clock.now
    return clock.now


async def test_nothing_is_claimed_before_all_was_there_once(clock: Clock) -> None:
    owing = Owing(clock)
    drain(owing, clock)
    owing.settle()
    assert (owing.until, owing.is_in_step) == (None, False)
    assert owing.owes(0.0)


async def test_at_rest_the_claim_is_the_last_drain(owing: Owing, clock: Clock) -> None:
    moment = drain(owing, clock)
    clock.now += 5
    owing.settle()
    assert owing.until == moment


async def test_what_is_owed_holds_the_claim_back(owing: Owing, clock: Clock) -> None:
    drain(owing, clock)
    clock.now += 1
    owing.change(b"a", tree=False, writing=False)
    heard = clock.now
    drain(owing, clock, 10)
    owing.settle()
    assert owing.until == heard - HEARD_SECONDS
    owing.dirty.take(clock.now, ALL)
    owing.settle()
    assert owing.until == heard - HEARD_SECONDS, "under way is not there"
    owing.dirty.done()
    owing.settle()
    assert owing.until == clock.now


async def test_a_claim_is_never_taken_back(owing: Owing, clock: Clock) -> None:
    moment = drain(owing, clock)
    owing.settle()
    owing.owe_look("lost track", since=moment - 100)
    owing.settle()
    assert owing.until == moment
    assert not owing.is_in_step


async def test_what_has_no_watch_is_there_as_of_the_last_look_into_it(
    owing: Owing, clock: Clock
) -> None:
    owing.blind = drain(owing, clock)
    looked = owing.blind
    drain(owing, clock, 20)
    owing.settle()
    assert owing.until == looked
    drain(owing, clock)
    look = owing.begin_look()
    owing.end_look((), rest=0.0)
    assert owing.until == look.at


async def test_a_look_settles_what_was_owed_before_and_nothing_since(
    owing: Owing, clock: Clock
) -> None:
    owing.change(b"before", tree=False, writing=False)
    owing.begin_look()
    assert owing.oldest is not None
    clock.now += 1
    owing.change(b"since", tree=False, writing=False)
    owing.end_look([b"vanished"], rest=0.0)
    assert {each.path for each in owing.dirty} == {b"since", b"vanished"}


async def test_a_look_that_fails_is_owed_since_the_oldest_it_was_for(
    owing: Owing, clock: Clock
) -> None:
    owing.change(b"a", tree=False, writing=False)
    oldest = owing.oldest
    clock.now += 5
    owing.begin_look()
    owing.give_up_look(None, again=clock.now + 30)
    assert owing.oldest == oldest
    assert [each.path for each in owing.dirty] == [b"a"]
    assert (owing.look_since, owing.look_at) == (oldest, clock.now + 30)


async def test_a_look_by_the_clock_that_fails_is_owed_too(owing: Owing, clock: Clock) -> None:
    look = owing.begin_look()
    clock.now += 5
    owing.give_up_look({b"bad"}, again=clock.now)
    assert owing.look_since == look.at


async def test_a_barrier_waits_for_what_is_as_old(owing: Owing, clock: Clock) -> None:
    owing.change(b"a", tree=False, writing=False)
    moment = clock.now
    assert owing.owes(moment)
    owing.dirty.take(moment, ALL)
    clock.now += 1
    owing.change(b"a", tree=False, writing=False)  # again, and after the call
    owing.dirty.done()
    assert not owing.owes(moment)


async def test_the_journal_gets_looks_as_well_as_paths(owing: Owing, clock: Clock) -> None:
    owing.unsaved()
    owing.change(b"a", tree=False, writing=False)
    owing.owe_look("lost track")
    kept, struck = owing.unsaved()
    assert {(each.path, each.tree) for each in kept} == {(b"a", False), (b"", True)}
    assert struck == []
    owing.begin_look()
    assert owing.unsaved() == ([], []), "both are owed until the answer"
    owing.end_look((), rest=0.0)
    kept, struck = owing.unsaved()
    assert (kept, sorted(struck)) == ([], [b"", b"a"])


async def test_what_could_not_be_saved_is_told_again(owing: Owing, clock: Clock) -> None:
    owing.unsaved()
    owing.change(b"a", tree=False, writing=False)
    kept, struck = owing.unsaved()
    owing.not_saved(kept, struck)
    again, _ = owing.unsaved()
    assert [each.path for each in again] == [b"a"]


async def test_too_many_paths_are_a_look_since_the_oldest(owing: Owing, clock: Clock) -> None:
    batch = [Dirty(b"", tree=True, since=clock.now - 9, due=0.0)]
    owing.owe_look_for(batch, "too many")
    assert owing.look_since == clock.now - 9
    assert owing.look_at == clock.now


async def test_a_look_that_may_rest_waits_as_long_as_the_last_one_took(
    owing: Owing, clock: Clock
) -> None:
    owing.begin_look()
    owing.end_look((), rest=7.0)
    owing.owe_look("a file with several names", rests=True)
    assert owing.look_at == clock.now + 7
    owing.owe_look("lost track")
    assert owing.look_at == clock.now


async def test_a_move_is_told_with_both_its_names_or_not_at_all(owing: Owing, clock: Clock) -> None:
    """A standby that moves what is not compared with it would miss it."""
    for old, new in ((b"a", b"b"), (b"c/d", b"e"), (b"f", b"g")):
        owing.change(old, tree=False, writing=False)
        owing.change(new, tree=True, writing=False)
        owing.move(old, new, tree=True)
    owing.change(b"other", tree=False, writing=False)
    owing.move(b"file", b"other", tree=False)
    batch = owing.dirty.take(clock.now, ALL)
    moves = [Move(b"a", b"b"), Move(b"c/d", b"e"), Move(b"f", b"g")]
    assert list(owing.moves_in(batch)) == moves
    assert owing.moves_in([]) == ()
    some = [each for each in batch if each.path not in (b"a", b"e", b"g")]
    assert owing.moves_in(some) == ()
    above = [Dirty(b"c", tree=True, since=0.0, due=0.0), Dirty(b"", tree=True, since=0.0, due=0.0)]
    assert list(owing.moves_in(above)) == moves
    alone = [
        Dirty(b"f", tree=False, since=0.0, due=0.0),
        Dirty(b"g", tree=False, since=0.0, due=0.0),
    ]
    assert owing.moves_in(alone) == (), "what is not looked at whole"

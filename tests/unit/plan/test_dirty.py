"""What changed and is not on the standby yet: nothing forgotten, little looked at in vain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsync.plan import dirty
from netsync.plan.dirty import SETTLE_MAX_SECONDS, SETTLE_SECONDS, Dirty, DirtyPaths

ALL = 10**6


def paths(taken: list[Dirty]) -> list[bytes]:
    return [each.path for each in taken]


def test_what_changed_is_taken_oldest_first_and_stays_dirty_until_it_is_done() -> None:
    found = DirtyPaths()
    found.add(b"b", 2.0)
    found.add(b"a", 1.0)
    assert paths(found.take(3.0, ALL)) == [b"a", b"b"]
    assert (found.oldest, len(found), found.next_due) == (1.0, 2, None)
    found.done()
    assert (found.oldest, len(found)) == (None, 0)


def test_what_changes_again_meanwhile_is_dirty_anew() -> None:
    found = DirtyPaths()
    found.add(b"a", 1.0)
    found.take(1.0, ALL)
    found.add(b"a", 5.0)
    found.done()
    assert list(found) == [Dirty(b"a", False, 5.0, 5.0)]


def test_what_failed_keeps_its_time_and_waits() -> None:
    found = DirtyPaths()
    found.add(b"d/a", 1.0)
    found.add(b"d/b", 2.0)
    found.take(2.0, ALL)
    found.done([b"d/b"], again=9.0)
    assert list(found) == [Dirty(b"d/b", False, 2.0, 9.0, 9.0)]
    assert found.take(8.9, ALL) == []


def test_what_failed_rests_however_often_it_changes_unless_somebody_waits() -> None:
    found = DirtyPaths()
    found.add(b"a", 1.0)
    found.take(1.0, ALL)
    found.done([b"a"], again=9.0)
    found.add(b"a", 2.0, writing=True)
    found.add(b"a", 3.0)
    assert found.take(8.0, ALL) == []
    found.hurry(8.0)
    assert paths(found.take(8.0, ALL)) == [b"a"]


def test_it_is_known_since_when_a_path_is_dirty_taken_or_not() -> None:
    found = DirtyPaths()
    found.add(b"d", 1.0, tree=True)
    found.add(b"a", 2.0)
    found.take(2.0, 1)
    found.add(b"d/e", 3.0)
    found.add(b"f/g", 4.0)
    assert found.since(b"a") == 2.0
    assert (found.since(b"d/e"), found.since(b"d/x/y")) == (1.0, 1.0)
    assert (found.since(b"f"), found.since(b"f", below=True)) == (None, 4.0)
    assert found.since(b"z", below=True) is None


def test_what_was_not_dealt_with_is_due_still() -> None:
    found = DirtyPaths()
    for path in (b"gone", b"bad", b"good"):
        found.add(path, 1.0)
    found.take(1.0, ALL)
    found.done([b"bad"], again=9.0, undone=[b"gone"])
    assert paths(found.take(2.0, ALL)) == [b"gone"]


def test_what_is_put_back_waits_as_before() -> None:
    found = DirtyPaths()
    for path in (b"gone", b"large"):
        found.add(path, 1.0)
    found.take(1.0, ALL)
    found.put_back({b"gone"})
    assert paths(found.taken) == [b"gone"]
    assert found.concerns([b"gone/below"])
    assert not found.concerns([b"large"])
    found.done()
    assert list(found) == [Dirty(b"large", False, 1.0, 1.0)]


def test_what_was_heard_late_is_as_old_as_it_may_be() -> None:
    found = DirtyPaths()
    found.add(b"d", 5.0, tree=True)
    found.add(b"d/f", 6.0)
    found.date_back(b"d/f", 2.0)
    found.date_back(b"none", 1.0)
    assert found.oldest == 2.0
    found.date_back(b"d", 3.0)
    assert found.oldest == 2.0


def test_a_look_at_the_whole_takes_what_is_not_due_too() -> None:
    found = DirtyPaths()
    found.add(b"a", 1.0, writing=True)
    assert paths(found.take_all()) == [b"a"]
    found.done()
    assert len(found) == 0


def test_what_is_new_is_told_once() -> None:
    found = DirtyPaths()
    found.add(b"a", 1.0)
    assert found.unsaved() == ([Dirty(b"a", False, 1.0, 1.0)], [])
    found.take(1.0, ALL)
    assert found.unsaved() == ([], [])
    found.add(b"a", 2.0)
    assert found.unsaved() == ([Dirty(b"a", False, 1.0, 1.0)], []), "the older is not done yet"
    found.done()
    assert found.unsaved() == ([Dirty(b"a", False, 2.0, 2.0)], [])
    found.take(2.0, ALL)
    found.done()
    assert found.unsaved() == ([], [b"a"])


def test_trouble_above_or_below_concerns_a_path_too() -> None:
    found = DirtyPaths()
    for path in (b"d", b"e/f/g", b"h"):
        found.add(path, 1.0)
    found.take(1.0, ALL)
    found.done([b"d/x", b"e"], again=2.0)
    assert sorted(each.path for each in found) == [b"d", b"e/f/g"]


def test_a_transfer_that_came_to_nothing_gives_all_back() -> None:
    found = DirtyPaths()
    found.add(b"a", 1.0)
    found.take(1.0, ALL)
    found.add(b"a", 2.0)
    found.give_back(7.0)
    assert list(found) == [Dirty(b"a", False, 1.0, 7.0)]
    assert found.next_due == 7.0


def test_a_tree_takes_what_is_below_it_with_the_oldest_time() -> None:
    found = DirtyPaths()
    found.add(b"d/x/y", 1.0)
    found.add(b"dx", 2.0)
    found.add(b"d", 3.0, tree=True)
    found.add(b"d/z", 4.0)
    assert found.take(4.0, ALL) == [Dirty(b"d", True, 1.0, 1.0), Dirty(b"dx", False, 2.0, 2.0)]


def test_a_file_that_is_written_is_left_alone_for_a_while_but_not_for_ever() -> None:
    found = DirtyPaths()
    found.add(b"log", 0.0, writing=True)
    assert found.next_due == SETTLE_SECONDS
    for tenth in range(1, 100):
        found.add(b"log", tenth / 10, writing=True)
    assert found.next_due == SETTLE_MAX_SECONDS
    assert found.oldest == 0.0


def test_a_file_that_is_closed_is_due_at_once_also_if_it_is_written_again() -> None:
    found = DirtyPaths()
    found.add(b"f", 0.0, writing=True)
    found.add(b"f", 0.5)
    assert found.next_due == 0.5
    found.add(b"f", 0.6, writing=True)
    assert found.next_due == 0.5


def test_no_more_are_taken_than_asked_for() -> None:
    found = DirtyPaths()
    for number in range(10):
        found.add(b"%d" % number, float(number))
    assert paths(found.take(100.0, 3)) == [b"0", b"1", b"2"]
    with pytest.raises(ValueError, match="not done"):
        found.take(100.0, 3)


def test_too_many_paths_become_their_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "PATHS_MAX", 100)
    found = DirtyPaths()
    found.add(b"other/one", 0.0)
    for number in range(150):
        found.add(b"full/%d" % number, 1.0)
    assert Dirty(b"full", True, 0.0, 0.0) in list(found)
    assert len(found) < 60


def test_too_many_directories_become_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "PATHS_MAX", 1000)
    found = DirtyPaths()
    for number in range(1001):
        found.add(b"%d/%d/x" % (number, number), 1.0)
    assert list(found) == [Dirty(b"", True, 1.0, 1.0)]


names = st.sampled_from([b"a", b"b", b"c"])
places = st.lists(names, max_size=3).map(b"/".join)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), places, st.booleans()),
        st.tuples(st.just("take"), st.integers(1, 3)),
        st.tuples(st.just("done"), st.lists(places, max_size=2)),
        st.tuples(st.just("back")),
    ),
    max_size=30,
)


@given(steps)
def test_nothing_is_ever_forgotten(told: list[tuple[object, ...]]) -> None:
    """Whatever changed since it was last sent without trouble is covered by what is dirty."""
    found = DirtyPaths()
    owed: set[bytes] = set()
    again: set[bytes] = set()  # of those, what changed since the transfer under way was begun
    journal: dict[bytes, Dirty] = {}
    for now, step in enumerate(told, 1):
        match step:
            case "add", bytes(path), bool(tree):
                found.add(path, float(now), tree=tree)
                owed.add(path)
                again.add(path)
            case "take", int(most) if not found.taken:
                found.take(float(now), most)
                again.clear()
            case "done", list(failed):
                sent = [each for each in found.taken if not any(near(each, bad) for bad in failed)]
                owed -= {path for path in owed - again if any(covers(each, path) for each in sent)}
                found.done(failed)
            case ("back",):
                found.give_back(0.0)
        assert all(any(covers(each, path) for each in found) for path in owed)
        kept, struck = found.unsaved()
        for path in struck:
            journal.pop(path, None)
        journal.update({each.path: each for each in kept})
        assert journal.keys() == {each.path for each in found}
        assert all(any(covers(each, path) for each in journal.values()) for path in owed)


def covers(each: Dirty, path: bytes) -> bool:
    below = each.path + b"/" if each.path else b""
    return each.path == path or (each.tree and path.startswith(below))


def near(each: Dirty, path: bytes) -> bool:
    if each.path == path or not each.path or not path:
        return True
    return path.startswith(each.path + b"/") or each.path.startswith(path + b"/")


@pytest.mark.parametrize(
    ("gone", "went", "since"),
    [
        ((), (), None),
        ((b"a/x",), (), 1.0),
        ((), (b"a/x",), 1.0),
        ((), (b"a",), 1.0),
        ((), (b"t/deep/y",), 2.0),
        ((), (b"other",), None),
        ((b"a/x", b"t"), (), 1.0),
    ],
)
def test_since_when_is_dirty_what_may_not_have_been_there(
    gone: tuple[bytes, ...], went: tuple[bytes, ...], since: float | None
) -> None:
    """What was found gone, and what or in what a name went since it was taken."""
    dirty = DirtyPaths()
    dirty.add(b"a/x", 1.0)
    dirty.add(b"t", 2.0, tree=True)
    dirty.add(b"b", 3.0)
    dirty.take(10.0, ALL)
    dirty.add(b"b", 11.0)
    for path in went:
        dirty.add(path, 12.0)
        dirty.mark(path, came=False, went=True)
    assert dirty.gone_since(gone) == since


def test_a_name_that_came_is_known_as_such_also_below_a_tree() -> None:
    dirty = DirtyPaths()
    dirty.add(b"a/x", 1.0)
    dirty.mark(b"a/x", came=True, went=False)
    assert dirty.has_come(b"a/x", below=False)
    assert dirty.has_come(b"a", below=True)
    assert not dirty.has_come(b"a", below=False)
    dirty.add(b"a", 2.0, tree=True)
    dirty.take(0.0, ALL)  # what is below a tree is put into it
    assert [each.path for each in dirty.came()] == [b"a"]

"""The journal of a watch, and a standby's receptions: kept over any end, and forgotten on time."""

from __future__ import annotations

from pathlib import Path

from netsync.plan.reception import Reception
from netsync.state.changes import ChangesJournal, Outstanding
from netsync.state.receptions import Receptions

A = Outstanding(b"a\xff", False, 5.0)
TREE = Outstanding(b"d", True, 3.0)


def test_what_is_noted_is_read_again_by_who_comes_after(tmp_path: Path) -> None:
    journal = ChangesJournal(tmp_path, "web")
    assert journal.read() == []
    journal.write([A, TREE])
    assert ChangesJournal(tmp_path, "web").read() == [TREE, A]
    assert ChangesJournal(tmp_path, "other").read() == []
    journal.write([A._replace(since=9.0)], [b"d"])
    assert journal.read() == [A._replace(since=9.0)]
    journal.forget()
    assert journal.read() == []


def test_who_holds_a_journal_writes_and_reads_as_ever(tmp_path: Path) -> None:
    journal = ChangesJournal(tmp_path / "new", "web")
    journal.hold()
    journal.hold()
    journal.write([A])
    assert ChangesJournal(tmp_path / "new", "web").read() == [A]
    journal.close()
    journal.close()
    assert journal.read() == [A]


def test_receptions_are_by_place_and_client(tmp_path: Path) -> None:
    receptions = Receptions(tmp_path)
    assert receptions.all() == []
    assert receptions.of(b"/srv", "p") is None
    known = Reception(name="p:m", client="p", heard=1.0)
    receptions.save(b"/srv", "p", known)
    receptions.save(b"/srv", "q", Reception(name=""))
    assert receptions.of(b"/srv", "p") == known
    assert receptions.all() == [known], "of whom nothing was heard is nobody's standby"
    assert (receptions.count("p"), receptions.count("nobody")) == (1, 0)
    receptions.keep_only(lambda place, client: client == "q")
    assert receptions.all() == []
    assert receptions.of(b"/srv", "q") is not None

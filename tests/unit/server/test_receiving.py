"""A standby's account of a beat: what it proves, by this host's clock, however late it comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsync.errors import RefusedError
from netsync.model import Options
from netsync.server import receiving
from netsync.server.modules import Module, Right
from netsync.server.receiving import Receiving, forget_strangers
from netsync.state.receptions import Receptions
from netsync.wire.messages import Place
from netsync.wire.watching import Beat

NOW = 1_760_000_000.0


class Standby:
    """A server's side of one client, with a clock that goes when told."""

    def __init__(self, base: Path) -> None:
        self.now = NOW
        self.state = base / "state"
        self.module = Module("m", base / "m", {"p": frozenset({Right.PUSH})}, rpo=9.0)
        self.receiving = Receiving(self.state, "p", lambda: self.now)

    async def hear(self, path: bytes = b"", **more: object) -> None:
        beat = Beat(Place("m", path), 2.0, **more)  # type: ignore[arg-type]
        await self.receiving.hear(self.module, beat)

    @property
    def until(self) -> float | None:
        (known,) = Receptions(self.state).all()
        return known.until


@pytest.fixture
def standby(tmp_path: Path) -> Standby:
    return Standby(tmp_path)


async def test_a_beat_counts_from_our_answer_and_not_from_its_arrival(standby: Standby) -> None:
    """It was sent two seconds after our answer, and was an hour on its way."""
    standby.receiving.answered()
    standby.now += 3600
    await standby.hear(behind=0.5, rested=2.0)
    assert standby.until == NOW + 1.5


async def test_nobody_rests_into_the_future(standby: Standby) -> None:
    standby.now += 1
    await standby.hear(behind=0.0, rested=1e6)
    assert standby.until == standby.now


async def test_what_was_proven_stays_proven(standby: Standby) -> None:
    standby.now += 100
    standby.receiving.answered()
    await standby.hear(behind=1.0)
    before = standby.until
    standby.receiving.answered()
    await standby.hear(behind=50.0)
    assert standby.until == before
    standby.now -= 5000  # the clock was set back
    standby.receiving.answered()
    await standby.hear(behind=0.0)
    assert standby.until == standby.now


async def test_a_client_that_leaves_on_purpose_is_no_alarm(standby: Standby) -> None:
    await standby.hear(behind=0.0)
    await standby.hear(behind=0.0, leaving=True)
    assert Receptions(standby.state).all() == []


async def test_nobody_is_remembered_at_places_without_end(
    standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "PLACES_MAX", 2)
    await standby.hear(b"a")
    await standby.hear(b"b")
    await standby.hear(b"b")
    with pytest.raises(RefusedError, match="2 places already"):
        await standby.hear(b"c")


async def test_nor_where_nothing_can_be_noted(
    standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "PLACES_MAX", 2)
    standby.state.write_text("a file")
    await standby.hear(b"a")
    options = Options(changes=True, delete=True)
    await standby.receiving.changes(standby.module, b"b", options)
    with pytest.raises(RefusedError, match="2 places already"):
        await standby.receiving.changes(standby.module, b"c", options)


async def test_a_beat_is_about_a_place_in_the_module(standby: Standby) -> None:
    with pytest.raises(RefusedError, match="leads out"):
        await standby.hear(b"a/../../other")
    assert Receptions(standby.state).all() == []


async def test_words_of_a_client_are_safe_to_show(standby: Standby) -> None:
    await standby.hear(trouble="no space\nOK: all is well\x1b[2J")
    (known,) = Receptions(standby.state).all()
    assert known.trouble.isprintable()


async def test_who_may_not_send_any_more_is_forgotten(standby: Standby) -> None:
    await standby.hear(b"a")
    forget_strangers(standby.state, {"m": standby.module})
    assert len(Receptions(standby.state).all()) == 1
    closed = Module("m", standby.module.path, {"p": frozenset({Right.PULL})})
    forget_strangers(standby.state, {"m": closed})
    assert Receptions(standby.state).all() == []


async def test_a_state_directory_that_cannot_be_used_refuses_nobody(tmp_path: Path) -> None:
    standby = Standby(tmp_path)
    standby.state.write_text("a file")
    await standby.hear(behind=0.0)

"""Options too long for one message: cut, put together again, and bounded by who receives them."""

from __future__ import annotations

import pytest

from netsync.errors import ProtocolError
from netsync.model import MOVES_MAX, Move, Options, Rule
from netsync.wire import selection
from netsync.wire.codec import encode
from netsync.wire.messages import Direction, Open, Place, Selection
from netsync.wire.selection import Gathering, split


def put_together(options: Options) -> Options:
    short, parts = split(options)
    encode(Open(Direction.PULL, [Place("m", b"")], short, len(parts)))
    gathering = Gathering(short)
    for part in parts:
        encode(part)
        gathering.add(part)
    return gathering.options


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(paths=()),
        Options(rules=(Rule(True, b"*.o"),), paths=(b"a", b"b/")),
        Options(rules=tuple(Rule(n % 2 == 0, b"x" * 4096, n % 3) for n in range(500))),
        Options(paths=tuple(b"path/%d" % n for n in range(100_000)), checksum=True),
        Options(paths=(b"x" * 65536,) * 40, rules=(Rule(True, b"y"),) * 16384),
    ],
)
def test_what_is_cut_is_put_together_again(options: Options) -> None:
    """Every part fits its frame, and nothing is lost or turned round."""
    assert put_together(options) == options


def test_short_options_travel_in_one_message() -> None:
    assert split(Options(rules=(Rule(True, b"x" * 4096),) * 7, paths=(b"a",)))[1] == []


@pytest.mark.parametrize("paths", [(), (b"x" * 1000,) * 31, (b"x" * 1000,) * 1000])
@pytest.mark.parametrize("length", [2, 200, 4096, 65536])
def test_moves_are_told_as_far_as_they_fit(paths: tuple[bytes, ...], length: int) -> None:
    """Hints are left out rather than that nothing could be told."""
    moves = tuple(Move(b"%02d" % n + b"x" * (length - 2), b"y" * length) for n in range(MOVES_MAX))
    told = put_together(Options(changes=True, paths=paths, moves=moves))
    assert told.paths == paths
    assert told.moves == moves[: len(told.moves)]
    assert len(told.moves) == {2: MOVES_MAX, 200: 39, 4096: 1, 65536: 0}[length]


def test_more_than_a_peer_takes_is_refused_on_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "SELECTED_BYTES_MAX", 1000)
    with pytest.raises(ValueError, match="MiB"):
        split(Options(paths=(b"x" * 500, b"y" * 501)))
    gathering = Gathering(Options(paths=()))
    gathering.add(Selection(paths=[b"x" * 500, b"y" * 500]))
    with pytest.raises(ProtocolError, match="too many"):
        gathering.add(Selection(rules=[Rule(True, b"z")]))
    monkeypatch.setattr(selection, "PATHS_MAX", 3)
    gathering = Gathering(Options(paths=()))
    with pytest.raises(ProtocolError, match="too many"):
        gathering.add(Selection(paths=[b"x"] * 4))


def test_paths_for_a_listing_of_everything_are_refused() -> None:
    with pytest.raises(ProtocolError, match="not restricted"):
        Gathering(Options()).add(Selection(paths=[b"x"]))

"""A target that reads its tree from both ends is made equal like any other, and reads no longer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from netsync.errors import NetsyncError, ProtocolError
from netsync.model import Keep, Options
from netsync.tree import from_end
from netsync.tree.from_end import FromEnd
from netsync.tree.native import NAME
from netsync.tree.packing import Found
from netsync.wire import messages as m
from netsync.wire.messages import Message
from tests.support.transfers import Sent, transfer
from tests.support.trees import Value, make_tree, open_descriptors, read_tree

pytestmark = pytest.mark.skipif(NAME != "compiled", reason="only one end can be read at a time")
NAMES = ("a", "a.b", "a0", "a-", "b", "c c", "Z")
OPTIONS = Options(fsync=False, delete=True, keep=Keep(hard_links=False))


class Ends:
    """Reads from the end at once and whole, and counts what came of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        self.begun: list[FromEnd] = []
        self.stopped: list[FromEnd] = []
        take, stop = FromEnd.take, FromEnd.stop

        def start(behind: FromEnd) -> None:
            self.begun.append(behind)
            behind.read()

        def taken(behind: FromEnd, path: bytes) -> Found | None:
            found = take(behind, path)
            self.taken += found is not None
            return found

        def stopped(behind: FromEnd) -> None:
            self.stopped.append(behind)
            stop(behind)

        for name, value in {"start": start, "take": taken, "stop": stopped}.items():
            monkeypatch.setattr(FromEnd, name, value)
        monkeypatch.setattr(from_end, "_BEGIN_BYTES", 1)
        monkeypatch.setattr(from_end, "_PIECE", 1)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    return Ends(monkeypatch)


def grown(chance: random.Random, depth: int = 0) -> dict[str, Value]:
    tree: dict[str, Value] = {}
    for name in chance.sample(NAMES, 5):
        if chance.random() < 0.6 and depth < 3:
            tree[name] = grown(chance, depth + 1)
        else:
            tree[name] = chance.randbytes(chance.randrange(40))
    return tree


def edit(root: Path, chance: random.Random) -> None:
    """Change some files, take some away, and add some."""
    for path in sorted(root.rglob("*")):
        if path.is_dir():
            if chance.random() < 0.1:
                (path / "new").write_bytes(b"new")
        elif chance.random() < 0.1:
            path.unlink()
        elif chance.random() < 0.1:
            path.write_bytes(b"other")


@pytest.mark.parametrize("seed", range(8))
async def test_the_target_is_made_equal(tmp_path: Path, ends: Ends, seed: int) -> None:
    chance = random.Random(seed)
    tree = grown(chance)
    source = make_tree(tmp_path / "source", tree)
    target = make_tree(tmp_path / "target", {})
    await transfer(source, target, OPTIONS)
    assert not ends.begun
    edit(source, chance)
    edit(target, chance)
    before = open_descriptors()
    await transfer(source, target, OPTIONS)
    assert read_tree(target) == read_tree(source)
    assert open_descriptors() == before
    assert ends.begun
    assert ends.taken
    assert set(ends.stopped) == set(ends.begun)
    report = await transfer(source, target, OPTIONS)
    assert report.files.updated == report.files.created == 0


async def test_a_session_that_fails_reads_no_longer(tmp_path: Path, ends: Ends) -> None:
    tree = grown(random.Random(1))
    source = make_tree(tmp_path / "source", tree)
    target = make_tree(tmp_path / "target", {})
    await transfer(source, target, OPTIONS)

    def meddle(message: Message, tail: bytes) -> list[Sent]:
        if isinstance(message, m.ListEnd):
            raise ProtocolError("on purpose", op="send")
        return [(message, tail)]

    with pytest.raises(NetsyncError, match="on purpose"):
        await transfer(source, target, OPTIONS, from_source=meddle)
    assert ends.begun
    assert set(ends.stopped) == set(ends.begun)

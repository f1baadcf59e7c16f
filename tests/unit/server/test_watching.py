"""Answering ``Watch``: at once the first time, then when something changed, or time is up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from netsync.errors import NetsyncError, RefusedError
from netsync.server.modules import Module, Right, User
from netsync.server.watching import Watching
from netsync.wire.messages import Place
from netsync.wire.watching import Changed, Watch
from tests.support.samples import write

YES, NO = Changed(changed=True), Changed(changed=False)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write(tmp_path / "one", {"a/f": "1", "file": "2"})
    write(tmp_path / "two", {"g": "1"})
    (tmp_path / "module").symlink_to("one")
    return tmp_path


@pytest.fixture
def watching(base: Path) -> Iterator[Watching]:
    allow = {"standby": frozenset({Right.PULL})}
    modules = {
        "m": Module("m", base / "module", allow),
        "two": Module("two", base / "two", allow),
        "other": Module("other", base, {}),
    }
    made = Watching(modules, "standby")
    yield made
    made.close()


async def ask(watching: Watching, *places: tuple[str, bytes], seconds: int = 1) -> Changed:
    named = [Place(module, path) for module, path in places or [("m", b"")]]
    with trio.fail_after(20):
        return await watching.answer(Watch(named, seconds))


async def test_the_first_answer_comes_at_once_and_later_ones_in_time(
    watching: Watching, base: Path
) -> None:
    assert await ask(watching) == YES
    assert await ask(watching) == NO
    (base / "one/a/f").write_text("2")
    assert await ask(watching, seconds=60) == YES, "between two questions"
    assert await ask(watching) == NO

    async def change() -> None:
        write(base / "one", {"new/deep/f": "1"})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        assert await ask(watching, seconds=60) == YES, "during a question"


async def test_another_place_is_a_first_question_again(watching: Watching, base: Path) -> None:
    assert await ask(watching, ("m", b"a")) == YES
    assert await ask(watching, ("two", b"")) == YES
    (base / "one/a/f").write_text("2")
    assert await ask(watching, ("two", b"")) == NO
    assert await ask(watching, ("m", b"a"), ("two", b"")) == YES
    assert await ask(watching, ("m", b"a"), ("two", b"")) == NO
    (base / "two/g").write_text("2")
    assert await ask(watching, ("m", b"a"), ("two", b""), seconds=60) == YES


async def test_a_file_is_watched_in_its_directory(watching: Watching, base: Path) -> None:
    assert await ask(watching, ("m", b"file")) == YES
    (base / "one/file").write_text("3")
    assert await ask(watching, ("m", b"file"), seconds=60) == YES


async def test_another_directory_in_the_place_is_a_change(watching: Watching, base: Path) -> None:
    """The kernel says nothing of a link that leads elsewhere now; and the new one is watched."""
    assert await ask(watching) == YES
    (base / "new").symlink_to("two")
    (base / "new").rename(base / "module")
    assert await ask(watching) == YES
    assert await ask(watching) == YES, "the watch begins anew"
    assert await ask(watching) == NO
    (base / "two/g").write_text("2")
    assert await ask(watching, seconds=60) == YES


@pytest.mark.parametrize("place", [("other", b""), ("none", b"")])
async def test_who_may_not_pull_may_not_watch(watching: Watching, place: tuple[str, bytes]) -> None:
    with pytest.raises(RefusedError):
        await ask(watching, place)


@pytest.mark.parametrize("path", [b"missing", b"../two", b"/etc"])
async def test_nothing_outside_or_absent_is_watched(watching: Watching, path: bytes) -> None:
    with pytest.raises(NetsyncError):
        await ask(watching, ("m", path))


async def test_a_module_with_a_user_of_its_own_is_not_watched_by_us(base: Path) -> None:
    """Its files are for a process of that user only."""
    user = User("web", 12_345, 12_345)
    module = Module("m", base / "module", {"me": frozenset({Right.PULL})}, user=user)
    watching = Watching({"m": module}, "me")
    with pytest.raises(RefusedError, match="schedule"):
        await ask(watching)
    watching.close()

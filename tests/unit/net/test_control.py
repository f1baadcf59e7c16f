"""The control socket: one request, notes, one answer; private; no client harms it."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from netsync.errors import NetworkError
from netsync.model import Problem, Report
from netsync.net import control
from netsync.net.control import (
    Answer,
    AwaitJob,
    Note,
    Promote,
    Request,
    RunJob,
    Say,
    ask,
    open_control,
)

REPORT = Report(problems=(Problem(b"a\xff", "read", "no"),))


async def handle(request: Request, say: Say) -> Answer:
    assert not isinstance(request, Promote)
    if request.job == "never":
        await trio.sleep_forever()
    await say(Note(f"about {request.job}"))
    return Answer(23, "some failed", REPORT, 1.5)


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[None]:
    listener = await open_control(directory)

    async def serve(stream: trio.SocketStream) -> None:
        await control.answer(stream, handle)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("request_", [RunJob("web"), AwaitJob("web")])
async def test_a_request_gets_notes_and_an_answer(tmp_path: Path, request_: Request) -> None:
    """Also below a path too long for a socket's name."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    notes: list[str] = []
    async with served(directory):
        answer = await ask(directory, request_, notes.append)
        socket_file = directory / control.SOCKET
        assert stat.S_IMODE(socket_file.stat().st_mode) == 0o600
    assert answer == Answer(23, "some failed", REPORT, 1.5)
    assert notes == ["about web"]
    assert os.listdir(directory) == [control.SOCKET]


async def test_a_socket_that_a_dead_daemon_left_is_replaced(tmp_path: Path) -> None:
    async with served(tmp_path):
        pass
    with pytest.raises(NetworkError, match="is 'netsync serve' running"):
        await ask(tmp_path, RunJob("web"), print)
    async with served(tmp_path):
        assert (await ask(tmp_path, RunJob("web"), print)).code == 23


async def test_where_nobody_listens_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="ask the daemon in"):
        await ask(tmp_path, RunJob("web"), print)
    with pytest.raises(NetworkError, match="ask the daemon in"):
        await ask(tmp_path / "missing", RunJob("web"), print)


@pytest.mark.parametrize(
    "said", [b"", b"\0", b"\0\0\0\5hello", b"\xff\xff\xff\xff", b"\0\0\0\1\xc0"]
)
async def test_garbage_ends_that_client_only(tmp_path: Path, said: bytes) -> None:
    async with served(tmp_path):
        with socket.socket(socket.AF_UNIX) as client:
            fd = os.open(tmp_path, os.O_RDONLY)
            client.connect(f"/proc/self/fd/{fd}/{control.SOCKET}")
            os.close(fd)
            client.sendall(said)
        assert (await ask(tmp_path, RunJob("web"), print)).code == 23


async def test_a_client_that_goes_away_ends_the_waiting(tmp_path: Path) -> None:
    async with served(tmp_path):
        with trio.move_on_after(0.2) as scope:
            await ask(tmp_path, RunJob("never"), print)
        assert scope.cancelled_caught
        assert (await ask(tmp_path, RunJob("web"), print)).code == 23


async def test_a_daemon_that_ends_is_no_answer(tmp_path: Path) -> None:
    listener = await open_control(tmp_path)

    async def hang_up() -> None:
        stream = await listener.accept()
        await stream.receive_some(1000)
        await stream.aclose()

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(hang_up)
        with pytest.raises(NetworkError, match="ended"):
            await ask(tmp_path, RunJob("web"), print)

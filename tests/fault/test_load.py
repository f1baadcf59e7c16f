"""Many at once: a hundred pushes, a thousand connections that never speak, one server.

Slow. No session fails, memory and descriptors are bounded and given back, and who comes in the
middle of it is answered.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection as PipeConnection
from pathlib import Path
from typing import Final

import pytest
import trio

from netsync.model import Options
from netsync.modes.address import Remote, parse_address
from netsync.modes.copy import Run, push
from netsync.modes.listing import list_remote
from netsync.modes.session import Connection
from netsync.transfer.tally import Unobserved
from tests.support.certificates import certificates
from tests.support.liars import descriptors, resident_peak
from tests.support.processes import FORKS, Server, serving, wait_until
from tests.support.samples import MIB, contents, random_bytes, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CLIENTS: Final = 100
SILENT: Final = 1000
ROUNDS: Final = 3
MEMORY_MAX: Final = 1024 * MIB
"""Bytes of the server with all of them: some 5 MiB a session, 50 KiB for who is silent."""


ANSWERED_SECONDS: Final = 1.0


def _come(url: str, identity: Path, link: PipeConnection) -> None:
    """Ask again and again what there is; tell how long each answer took."""

    async def ask() -> float:
        started = time.monotonic()
        remote = parse_address(url)
        assert isinstance(remote, Remote)
        await list_remote(remote, Connection(identity, connect_timeout=60.0), lambda _: None)
        return time.monotonic() - started

    while not link.poll(0.1):
        link.send(trio.run(ask))
    link.send(None)


@contextlib.contextmanager
def coming(server: Server) -> Iterator[list[float]]:
    """Have a newcomer ask the server meanwhile, from a process of its own; how long it took."""
    answered: list[float] = []
    near, far = FORKS.Pipe()
    words = (server.url("m/"), certificates().client.directory, far)
    process = FORKS.Process(target=_come, args=words)
    process.start()
    try:
        yield answered
        near.send(None)
        while (seconds := near.recv()) is not None:
            answered.append(seconds)
    finally:
        process.kill()
        process.join()


async def pushes(source: Path, server: Server, state: Path, rounds: int) -> list[int]:
    """Push from many clients at once, each to a place of its own; return what each updated."""
    # All of them are in this one process, which needs its time for their handshakes.
    who = Connection(certificates().client.directory, connect_timeout=60.0)
    created: list[int] = []

    async def client(number: int) -> None:
        remote = parse_address(server.url(f"m/{number}"))
        assert isinstance(remote, Remote)
        for _ in range(rounds):
            work = Run(Options(fsync=False, delete=True), who, Unobserved(), state)
            report = await push([b"%s/" % bytes(source)], remote, work)
            assert not report.problems
            created.append(report.files.created)

    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(client, number)
    return created


async def test_a_hundred_pushes_and_a_thousand_silent_connections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"d{n % 5}/f{n}": random_bytes(3000 * n, n) for n in range(40)}
    source = write(tmp_path / "source", {**files, "large": random_bytes(2 * MIB, 1)})
    module = tmp_path / "module"
    module.mkdir()
    with serving("--module", f"m={module}") as server, contextlib.ExitStack() as silent:
        process = server.process.pid
        before = descriptors(process)
        resident_peak(process, reset=True)
        for _ in range(SILENT):
            silent.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        with coming(server) as answered:
            created = await pushes(source, server, tmp_path / "state", ROUNDS)
        peak = resident_peak(process)
        assert len(created) == CLIENTS * ROUNDS
        assert answered, "a newcomer was answered meanwhile"
        assert statistics.median(answered) < ANSWERED_SECONDS
        assert peak < MEMORY_MAX, f"{peak >> 20} MiB"
        silent.close()
        wait_until(lambda: descriptors(process) <= before, "descriptors are given back")
        assert "internal error" not in server.log
    wanted = contents(source)
    for number in range(CLIENTS):
        assert contents(module / str(number)) == wanted
    with capsys.disabled():
        print(  # noqa: T201 - a figure to look at, not to hold anybody to
            f"\n{CLIENTS} clients: the server's peak {peak >> 20} MiB, a newcomer was answered in "
            f"{max(answered):.2f} s at most, in {statistics.median(answered):.2f} s mostly"
        )

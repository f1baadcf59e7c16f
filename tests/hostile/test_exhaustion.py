"""A server of few descriptors: strangers do not take the last ones, and sessions do not stop it."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.liars import descriptors, lying_client
from tests.support.processes import Server, serving, succeed
from tests.support.trees import make_tree

DESCRIPTORS = 80
STRANGERS = 120

pytestmark = pytest.mark.skipif(
    shutil.which("prlimit") is None, reason="util-linux is not installed"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serve with few descriptors; there is never a traceback."""
    make_tree(tmp_path / "module", {"f": b"1"})
    limit = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
    with serving("--module", f"m={tmp_path / 'module'}", within=limit) as started:
        yield started
        assert "Traceback" not in started.log


def stranger(server: Server) -> socket.socket:
    """Connect, and say nothing."""
    return socket.create_connection(("127.0.0.1", server.port))


def test_m24_strangers_leave_descriptors_to_sessions(server: Server, tmp_path: Path) -> None:
    """More of them than there are descriptors: whoever is let in is served, at the first try."""
    with contextlib.ExitStack() as stack:
        for _ in range(STRANGERS):
            stack.enter_context(stranger(server))
        succeed("ls", server.url("m/"))
        succeed("pull", server.url("m/"), tmp_path / "to")
    assert "too many others" in server.log
    assert "descriptors" not in server.log


def test_m24_without_descriptors_strangers_make_way(server: Server) -> None:
    """EMFILE while accepting: the oldest strangers go for who has a name; one line says why."""
    few = DESCRIPTORS // 8
    with contextlib.ExitStack() as stack:
        while descriptors(server.process.pid) < DESCRIPTORS - few:
            stack.enter_context(lying_client(server.port)).greet()
        strangers = [stack.enter_context(stranger(server)) for _ in range(few)]
        for _ in range(few // 2):
            stack.enter_context(lying_client(server.port)).greet()
        strangers[0].settimeout(4)  # its own time would be over after ten seconds
        assert strangers[0].recv(1) == b"", "the first has made way"
        told = [line for line in server.log.splitlines() if "descriptors" in line]
        assert len(told) == 1, "once in a while, not each time"
        assert "too many others" in server.log
    succeed("ls", server.url("m/"))

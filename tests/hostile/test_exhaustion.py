"""A server that has used up its descriptors: strangers make way, and it says so in a line."""

from __future__ import annotations

import contextlib
import shutil
import socket
from pathlib import Path

import pytest

from tests.support.processes import netsync, serving, succeed, wait_until
from tests.support.trees import make_tree

DESCRIPTORS = 80
STRANGERS = 120


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="util-linux is not installed")
def test_m24_without_descriptors_strangers_make_way(tmp_path: Path) -> None:
    """EMFILE while accepting: the oldest strangers go, whoever means it gets in, no traceback."""
    make_tree(tmp_path / "module", {"f": b"1"})
    limit = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
    with serving("--module", f"m={tmp_path / 'module'}", within=limit) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(STRANGERS):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            wait_until(lambda: "descriptors" in server.log, "it says what it lacks")
            wait_until(lambda: "too many others" in server.log, "strangers make way")
            wait_until(lambda: netsync("ls", server.url("m/")).code == 0, "others are served")
        succeed("pull", server.url("m/"), tmp_path / "to")
        told = [line for line in server.log.splitlines() if "descriptors" in line]
        assert len(told) == 1, "once in a while, not each time"
        assert "Traceback" not in server.log

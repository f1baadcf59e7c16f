"""Links that carry nothing, or only one way, or a thousand times less than usual (F51 to F55).

Slow: a server's patience is half a minute.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.cutting import cutting
from tests.support.link import linked
from tests.support.places import differences
from tests.support.processes import Process, Server, running, serving, succeed, wait_until
from tests.support.samples import MIB, random_bytes, write
from tests.support.trees import make_tree, temporaries

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PATIENCE = 45.0
"""Seconds: a server's own timeout, and room."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "m" / "source", {"f": random_bytes(12 * MIB, 1), "g": "1"})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "m" / "target", {})


def is_under_way(target: Path) -> bool:
    staged = [path for path in target.glob(".netsync/session-*/*") if path.is_file()]
    return sum(path.stat().st_size for path in staged) >= MIB


def both_give_up(client: Process, server: Server, words: str) -> None:
    """See that each end finds out, within its own timeout; the server says so in ``words``."""
    result = client.wait()
    assert result.code == 30, result
    assert "for 3 seconds" in result.stderr
    wait_until(lambda: words in server.log, "the server gives up", PATIENCE)
    assert "ended by the server" not in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize("direction", ["push", "pull"])
@pytest.mark.parametrize("what", ["nothing is carried", "no answer is carried"])
def test_a_black_hole_is_noticed_by_both_ends(
    tmp_path: Path, source: Path, target: Path, direction: str, what: str
) -> None:
    """Then the next run goes on where that one ended."""
    with serving("--module", f"m={tmp_path / 'm'}") as server, linked(server.port) as link:
        base = f"netsync://127.0.0.1:{link.port}/m"
        ends = (f"{source}/", f"{base}/target")
        if direction == "pull":
            ends = (f"{base}/source/", str(target))
        words = (direction, "--timeout", "3", "--bwlimit", "2M", *ends)
        with running(*words) as client:
            client.wait_for(lambda: is_under_way(target), "a part has arrived")
            if what == "nothing is carried":
                link.down()
                both_give_up(client, server, "for 30 seconds")
            else:  # the end of the client's connection is carried, or why it ended
                link.lose_answers()
                both_give_up(client, server, f"{direction} m")
        here = (f"{source}/", server.url("m/target"))
        if direction == "pull":
            here = (server.url("m/source/"), str(target))
        succeed(direction, *here)
    assert differences(source, target) == ""
    assert temporaries(target) == []


def test_a_client_that_stands_still_is_given_up(tmp_path: Path, source: Path, target: Path) -> None:
    """SIGSTOP: its connection is open and its kernel answers, but nobody is there."""
    with serving("--module", f"m={tmp_path / 'm'}") as server:
        with running("push", "--bwlimit", "2M", f"{source}/", server.url("m/target")) as client:
            client.wait_for(lambda: is_under_way(target), "a part has arrived")
            client.signal(signal.SIGSTOP)
            try:
                wait_until(lambda: "for 30 seconds" in server.log, "it is noticed", PATIENCE)
            finally:
                client.signal(signal.SIGCONT)
            assert client.wait().code in (10, 30)
        succeed("push", f"{source}/", server.url("m/target"))
    assert differences(source, target) == ""
    assert temporaries(target) == []


def test_a_peer_a_thousand_times_slower_is_no_stall(tmp_path: Path, target: Path) -> None:
    """Some 60 KB a second, where loopback carries 600 MB: it takes longer than the timeout."""
    source = write(tmp_path / "slow", {"f": random_bytes(600_000, 1)})
    with (
        serving("--module", f"m={tmp_path / 'm'}") as server,
        cutting(server.port, rate=60_000.0) as proxy,
    ):
        succeed("push", "--timeout", "3", f"{source}/", proxy.url("m/target"), seconds=60)
    assert differences(source, target) == ""

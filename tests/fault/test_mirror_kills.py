"""Either side of a mirror is killed or cut off at random: nothing acknowledged is ever missing."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from netsync.operation import Level
from tests.support.certificates import certificates
from tests.support.cutting import cutting
from tests.support.mirror_writer import NUMBER, step, steps_of
from tests.support.mirrors import Pair
from tests.support.places import differences
from tests.support.processes import ROOT, Server, netsync, wait_until


def acknowledged(pair: Pair) -> int:
    """Return how many steps were acknowledged so far."""
    file = pair.base / "acknowledged"
    data = file.read_bytes() if file.exists() else b""
    return max((NUMBER.unpack_from(data, at)[0] for at in range(0, len(data), 8)), default=0)


@contextlib.contextmanager
def writing(pair: Pair) -> Iterator[subprocess.Popen[bytes]]:
    """Run a primary of its own process; return when it has begun to write."""
    (pair.base / "ready").unlink(missing_ok=True)
    words = [sys.executable, "-m", "tests.support.mirror_writer", str(pair.base), str(pair.port)]
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default",
        "NETSYNC_IDENTITY": str(certificates().client.directory),
    }  # fmt: skip
    with subprocess.Popen(words, env=environment, cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            wait_until(
                lambda: (pair.base / "ready").exists() or process.poll() is not None,
                "the primary is in step", seconds=120,
            )  # fmt: skip
            if process.poll() is not None:
                assert process.stderr is not None
                raise AssertionError(process.stderr.read().decode())
            yield process
        finally:
            process.kill()


def more_than(pair: Pair, steps: int, what: str) -> None:
    wait_until(lambda: acknowledged(pair) > steps, what, 60)


def shows_at_least(pair: Pair, steps: int, what: str) -> None:
    """Wait until the copy is a prefix with so many steps: after a crash it is done again first."""

    def holds() -> bool:
        try:
            return steps_of(pair.copy) >= steps
        except AssertionError:
            return False

    wait_until(holds, what, 60)


def kill(server: Server) -> None:
    server.signal(signal.SIGKILL)
    server.wait()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_whoever_is_killed_nothing_acknowledged_is_missing(
    tmp_path: Path, rounds: int, record_property: Callable[[str, object], None]
) -> None:
    """The primary, the standby, or both, at random moments; then the copy is a prefix.

    Where the primary is dead the standby alone must have everything: it is opened, and looked at.
    """
    pair, chance = Pair(tmp_path), random.Random(rounds)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(pair.standby())
        for round_number in range(rounds):
            with writing(pair) as primary:
                more_than(pair, acknowledged(pair), "something is acknowledged")
                time.sleep(chance.uniform(0, 0.3))
                victim = round_number % 3
                if victim != 0:
                    kill(server)
                    time.sleep(chance.uniform(0, 0.1))
                if victim != 1:
                    primary.kill()
                    primary.wait()
                if victim != 0:
                    server = stack.enter_context(pair.standby())
                if victim == 1:
                    more_than(pair, acknowledged(pair), "it goes on by itself")
                    primary.kill()
                    primary.wait()
            promised = acknowledged(pair)
            shows_at_least(pair, promised, f"round {round_number}")
            assert steps_of(pair.copy) <= steps_of(pair.source)
        kill(server)
        promised = acknowledged(pair)
        result = netsync("promote", "m/copy", "--state", pair.state)
        assert result.code == 0, result
        assert steps_of(pair.copy) >= promised
    record_property("cases", rounds)


@pytest.mark.timeout(300)
async def test_a_connection_cut_at_every_place_loses_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each connection carries a little more than the one before, whatever it is cutting then."""
    pair = Pair(tmp_path)
    with pair.standby():
        with cutting(pair.port, lambda number: 4000 + 150 * number) as cut:
            pair.port, standby = cut.port, pair.port
            with trio.fail_after(250):
                async with pair.primary() as writer:
                    for number in range(300):
                        seq = step(writer, number)
                        if number % 5 == 0:
                            await writer.log.wait(seq, Level.DURABLE)
                    await writer.log.wait(seq, Level.DURABLE)
                    assert cut.cuts > 5
                    record_property("cases", cut.cuts)
            pair.port = standby
        await trio.to_thread.run_sync(
            wait_until,
            lambda: differences(pair.source, pair.copy, "--omit-dir-times") == "",
            "the trees are equal",
            120,
        )
        assert steps_of(pair.copy) == 300

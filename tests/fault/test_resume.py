"""A cut costs little: what arrived of a large file is not sent again, and nothing is torn."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import pytest

from netsync.tree.partials import ALIGNMENT
from netsync.wire.frames import TAIL_MAX
from tests.support.cutting import cutting
from tests.support.processes import Process, netsync, running, serving, wait_until
from tests.support.samples import MIB, random_bytes
from tests.support.trees import make_tree, needs_mount, small_disk, temporaries

SIZE: Final = 16 * MIB
SLOW: Final = ("--bwlimit", "8M", "--no-fsync", "--json")
FRAME: Final = TAIL_MAX
"""What may be lost of a connection that is cut: the frame that was on its way."""
OVERHEAD: Final = SIZE // 100
"""Handshakes, listings and records' heads of a few connections: some 20 KB were seen."""


def staged(target: Path) -> int:
    """Return the bytes that wait in the stage, whole files of it or not."""
    return sum(
        path.stat().st_size for path in target.glob(".netsync/session-*/*") if path.is_file()
    )


def interrupted(command: Process, target: Path, victim: Process, at: int) -> None:
    """Kill ``victim`` when ``at`` bytes are staged."""
    command.wait_for(lambda: staged(target) >= at, "a part has arrived")
    victim.signal(signal.SIGKILL)
    victim.process.wait()


@pytest.mark.parametrize("killed", ["client", "server"])
@pytest.mark.parametrize("direction", ["push", "pull"])
def test_after_a_kill_only_the_rest_is_sent(tmp_path: Path, direction: str, killed: str) -> None:
    content = random_bytes(SIZE, 1)
    source = make_tree(tmp_path / "m" / "source", {"disk.img": content})
    target = make_tree(tmp_path / "m" / "target", {"disk.img": b"old"})
    module = f"m={tmp_path / 'm'}"

    def words(server_url: str) -> tuple[str, ...]:
        if direction == "push":
            return ("push", *SLOW, f"{source}/", f"{server_url}/target")
        return ("pull", *SLOW, f"{server_url}/source/", f"{target}")

    with serving("--module", module) as server:
        with running(*words(server.url("m"))) as client:
            interrupted(client, target, client if killed == "client" else server, 6 * MIB)
            assert (target / "disk.img").read_bytes() == b"old"
        if killed == "client":
            arrived = staged(target)
            result = netsync(*words(server.url("m")))
    if killed == "server":
        arrived = staged(target)
        with serving("--module", module) as server:
            result = netsync(*words(server.url("m")))
    assert arrived >= 6 * MIB
    assert (result.code, result.stderr) == (0, "")
    assert (target / "disk.img").read_bytes() == content
    assert result.bytes["literal"] <= SIZE - arrived + ALIGNMENT
    assert result.bytes["literal"] + result.bytes["matched"] == SIZE
    assert temporaries(target) == []


def test_with_an_old_version_the_rest_is_found_in_it(tmp_path: Path) -> None:
    """What is behind the cut and has not changed comes from the old file.

    The new part is longer than what may be on its way when the client is killed.
    """
    fresh = 12 * MIB
    old = random_bytes(SIZE, 2)
    new = random_bytes(fresh, 3) + old[fresh:]
    source = make_tree(tmp_path / "source", {"disk.img": new})
    target = make_tree(tmp_path / "m", {"disk.img": old})
    with serving("--module", f"m={target}") as server:
        with running("push", *SLOW, f"{source}/", server.url("m/")) as client:
            interrupted(client, target, client, 2 * MIB)
            assert (target / "disk.img").read_bytes() == old
        wait_until(lambda: staged(target), "a partial is left")
        arrived = staged(target)
        result = netsync("push", *SLOW, f"{source}/", server.url("m/"))
    assert (result.code, result.stderr) == (0, "")
    assert (target / "disk.img").read_bytes() == new
    assert result.bytes["literal"] <= max(0, fresh - arrived) + 2 * ALIGNMENT
    assert temporaries(target) == []


def test_a_connection_that_is_cut_again_and_again_sends_nothing_twice_but_a_frame(
    tmp_path: Path,
) -> None:
    """One report tells the truth about all attempts, and each line comes once."""
    count = 5
    content = random_bytes(SIZE, 4)
    small = {f"{number:03}": random_bytes(50_000, number) for number in range(40)}
    source = make_tree(tmp_path / "source", {"disk.img": content, "small": small, "zero": b""})
    target = make_tree(tmp_path / "m", {"zero": b"", "disk.img": b"old"})
    for tree in (source, target):
        os.utime(tree / "zero", ns=(0, 10**18))
    each = 4 * MIB
    with (
        serving("--module", f"m={target}") as server,
        cutting(server.port, lambda number: each if number < count else None) as proxy,
    ):
        words = ("push", "-i", "--json", "--no-fsync", "--retries", "1")
        result = netsync(*words, f"{source}/", proxy.url("m/"))
    assert result.code == 0, result
    assert proxy.cuts == count
    assert result.stderr.count("trying again") == len(result.stderr.splitlines()) == count
    assert (target / "disk.img").read_bytes() == content
    assert temporaries(target) == []
    files = result.files
    assert files["considered"] == 43
    assert (files["created"], files["updated"], files["failed"]) == (41, 1, 0)
    assert (files["metadata"], files["unchanged"]) == (0, 1)
    assert len(set(result.changes)) == len(result.changes)
    assert "> disk.img" in result.changes
    assert sum(line.startswith("+ ") for line in result.changes) == 41
    data = SIZE + 40 * 50_000
    assert result.bytes["literal"] + result.bytes["matched"] == data
    assert sum(proxy.carried) <= data + count * (FRAME + MIB) + OVERHEAD
    assert result.bytes["wire_sent"] >= data
    assert result.report["problems"] == []


def test_attempts_of_a_run_that_is_published_at_once_change_nothing_but_the_last(
    tmp_path: Path,
) -> None:
    """What came whole of large files is not sent again, and the report is about one run."""
    content = random_bytes(SIZE, 6)
    small = {f"{number:03}": random_bytes(5_000, number) for number in range(40)}
    source = make_tree(tmp_path / "source", {"disk.img": content, "small": small, "gone": None})
    target = make_tree(tmp_path / "m", {"disk.img": b"old", "gone": {"x": b""}})
    with (
        serving("--module", f"m={target}") as server,
        cutting(server.port, lambda number: 6 * MIB if number < 2 else None) as proxy,
    ):
        words = ("push", "-i", "--json", "--no-fsync", "--retries", "1", "--atomic", "--delete")
        result = netsync(*words, f"{source}/", proxy.url("m/"))
    assert result.code == 0, result
    assert proxy.cuts == 2
    assert (target / "disk.img").read_bytes() == content
    assert temporaries(target) == []
    files = result.files
    assert (files["considered"], files["created"], files["updated"]) == (43, 42, 1)
    assert (files["deleted"], files["unchanged"], files["failed"]) == (2, 0, 0)
    assert len(set(result.changes)) == len(result.changes) == 45
    data = SIZE + 40 * 5_000
    assert result.bytes["literal"] + result.bytes["matched"] == data
    assert sum(proxy.carried) <= data + 2 * (FRAME + 3 * MIB + 40 * 5_000) + OVERHEAD
    assert 2 * (FRAME + 3 * MIB + 40 * 5_000) < 2 * 6 * MIB, "what was carried in vain"


def test_a_pull_that_is_cut_goes_on_too(tmp_path: Path) -> None:
    content = random_bytes(SIZE, 5)
    source = make_tree(tmp_path / "m", {"disk.img": content, "few": {"a": b"1", "b": b"2"}})
    target = make_tree(tmp_path / "target", {})
    with (
        serving("--module", f"m={source}") as server,
        cutting(server.port, lambda number: 6 * MIB if number < 2 else None) as proxy,
    ):
        words = ("pull", "-i", "--json", "--no-fsync", "--retries", "1")
        result = netsync(*words, proxy.url("m/"), f"{target}/")
    assert result.code == 0, result
    assert proxy.cuts == 2
    assert (target / "disk.img").read_bytes() == content
    assert result.changes == ["+ disk.img", "+ few/", "+ few/a", "+ few/b"]
    assert result.files["created"] == 4
    assert result.bytes["literal"] + result.bytes["matched"] == SIZE + 2
    assert result.bytes["wire_received"] <= SIZE + 2 * (FRAME + MIB) + OVERHEAD
    assert temporaries(target) == []


def test_retries_end_where_nothing_gets_further(tmp_path: Path) -> None:
    """The last error is told as if it had been the only one."""
    make_tree(tmp_path / "source", {"f": b"x" * MIB})
    with serving("--module", f"m={tmp_path}") as server, cutting(server.port, lambda _: 0) as proxy:
        result = netsync("push", "--retries", "2", f"{tmp_path / 'source'}/", proxy.url("m/to"))
    assert result.code == 10, result
    assert result.stderr.count("trying again") == 2
    assert len(result.stderr.splitlines()) == 3


def test_a_refusal_is_not_tried_again(tmp_path: Path) -> None:
    make_tree(tmp_path / "source", {"f": b"x"})
    with serving("--module", f"m={tmp_path}") as server:
        result = netsync("push", "--retries", "5", f"{tmp_path / 'source'}/", server.url("none/"))
    assert result.code == 5
    assert "trying again" not in result.stderr


def test_a_client_that_comes_back_takes_over_from_its_silent_self(tmp_path: Path) -> None:
    """The server would have waited 30 seconds for the old connection, and kept its stage locked."""
    content = random_bytes(SIZE, 7)
    source = make_tree(tmp_path / "source", {"disk.img": content})
    target = make_tree(tmp_path / "m", {})
    with (
        serving("--module", f"m={target}") as server,
        cutting(
            server.port, lambda number: 8 * MIB if number == 0 else None, silently=True
        ) as proxy,
    ):
        words = ("push", "--json", "--no-fsync", "--retries", "1", "--timeout", "1")
        result = netsync(*words, f"{source}/", proxy.url("m/"))
        assert "ended by the server" in server.log
    assert result.code == 0, result
    assert (target / "disk.img").read_bytes() == content
    assert proxy.carried[1] <= SIZE - 8 * MIB + 2 * FRAME
    assert result.bytes["literal"] == SIZE
    assert temporaries(target) == []


def test_a_signal_during_the_pause_ends_the_run_at_once(tmp_path: Path) -> None:
    make_tree(tmp_path / "source", {"f": b"x"})
    with cutting(1) as unused:
        port = unused.port
    url = f"netsync://127.0.0.1:{port}/m"
    with running("push", "--retries", "30", f"{tmp_path / 'source'}/", url) as client:
        client.wait_for(lambda: "retry 4 of 30" in client.stderr, "it pauses for seconds")
        client.signal(signal.SIGINT)
        result = client.wait(2)
    assert result.code == 20
    assert "interrupted" in result.stderr.splitlines()[-1]


@needs_mount
def test_a_full_disk_keeps_no_partial(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"disk.img": random_bytes(SIZE, 8)})
    with small_disk(tmp_path / "m", 12 * MIB) as target:
        make_tree(target, {"there": b"1"})
        with serving("--module", f"m={target}") as server:
            result = netsync("push", "--no-fsync", f"{source}/", server.url("m/"))
        assert result.code == 11
        assert "no space" in result.stderr
        assert temporaries(target) == []
        assert os.listdir(target) == ["there"]


def test_a_stage_that_is_not_ours_is_left_alone_with_a_word(tmp_path: Path) -> None:
    """The transfer is done without; only a cut would cost more."""
    content = random_bytes(5 * MIB, 9)
    source = make_tree(tmp_path / "source", {"disk.img": content})
    target = make_tree(tmp_path / "m", {"elsewhere": {}, ".netsync": "elsewhere"})
    with serving("--module", f"m={target}") as server:
        result = netsync("push", "--no-fsync", f"{source}/", server.url("m/"))
    assert result.code == 0
    assert ".netsync at the destination is no directory of ours" in result.stderr
    assert (target / "disk.img").read_bytes() == content
    assert os.listdir(target / "elsewhere") == []


def test_a_partial_of_a_file_that_is_complete_meanwhile_is_removed(tmp_path: Path) -> None:
    content = random_bytes(SIZE, 10)
    source = make_tree(tmp_path / "source", {"disk.img": content})
    target = make_tree(tmp_path / "m", {})
    with serving("--module", f"m={target}") as server:
        with running("push", *SLOW, f"{source}/", server.url("m/")) as client:
            interrupted(client, target, client, 4 * MIB)
        wait_until(lambda: staged(target), "a partial is left")
        (target / "disk.img").write_bytes(content)
        status = (source / "disk.img").stat()
        os.utime(target / "disk.img", ns=(status.st_atime_ns, status.st_mtime_ns))
        result = netsync("push", "--json", f"{source}/", server.url("m/"))
    assert result.files["created"] == result.files["updated"] == 0
    assert temporaries(target) == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_gibibyte_cut_every_two_seconds_sends_at_most_a_twentieth_twice(tmp_path: Path) -> None:
    size = 1024 * MIB
    source = make_tree(tmp_path / "source", {"disk.img": os.urandom(size)})
    target = make_tree(tmp_path / "m", {})
    with (
        serving("--module", f"m={target}") as server,
        cutting(server.port, rate=20e6, seconds=2.0) as proxy,
    ):
        words = ("push", "--json", "--no-fsync", "--retries", "20")
        result = netsync(*words, f"{source}/", proxy.url("m/"), seconds=360)
    assert result.code == 0, result
    assert proxy.cuts > 20
    assert (target / "disk.img").read_bytes() == (source / "disk.img").read_bytes()
    assert sum(proxy.carried) <= 1.05 * size
    assert result.bytes["literal"] == size
    assert temporaries(target) == []

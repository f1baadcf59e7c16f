"""Kill -9 at the k-th system call of each kind, with real processes and real TLS. Slow.

A second enumeration, independent of the counted steps of ``test_killed_anywhere``: strace kills the
process from outside, so steps inside the compiled calls are met too, and either side of a
connection. It counts for each thread by itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.killing import KILLED
from tests.support.liars import descriptors
from tests.support.places import differences
from tests.support.processes import Server, running, serving, succeed, wait_until
from tests.support.trees import temporaries
from tests.support.upheaval import WAYS, Upheaval, sweep_later

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

CHANGING: Final = (
    "fchmod", "fchmodat", "fchown", "fchownat", "fsync", "ftruncate", "linkat", "mkdirat",
    "mknodat", "pwrite64", "renameat", "symlinkat", "unlinkat", "utimensat",
)  # fmt: skip
SPEAKING: Final = ("sendto", "write", "read", "recvfrom")
"""What the other side hears last."""
STRIDE: Final = {"pwrite64": 3, "read": 40, "write": 3, "sendto": 3, "recvfrom": 3, "utimensat": 3}
"""What comes so often that some of them must do; 1 if not named."""


def killing(call: str, number: int) -> list[str]:
    """Return the words that run a command until the ``number``-th ``call`` of a thread.

    strace is its grandchild, so what is started is the command itself, and ends as it does.
    """
    quiet = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    return [*quiet, "-e", f"inject={call}:signal=KILL:when={number}"]


@pytest.fixture(scope="module", params=["delete", "in place"])
def trees(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Upheaval:
    return Upheaval(tmp_path_factory.mktemp("trees"), WAYS[request.param])


@pytest.fixture(scope="module")
def server(trees: Upheaval) -> Iterator[Server]:
    with serving("--module", f"m={trees.base}") as started:
        yield started


def words(trees: Upheaval, direction: str, server: Server, target: Path) -> tuple[str, ...]:
    """Return the command that copies to ``target``."""
    options = ["--delete"]
    if trees.options.inplace:
        options += ["--inplace", "--backup-dir", ".old"]
    ends = [f"{trees.source}/", server.url(f"m/{target.name}")]
    if direction == "pull":
        ends = [server.url("m/source/"), str(target)]
    return (direction, *options, *ends)


def goes_on_well(trees: Upheaval, direction: str, server: Server, target: Path) -> None:
    """See that nothing is torn, and that the next run ends well."""
    trees.check(target)
    succeed(*words(trees, direction, server, target))
    if sweep_later(target):
        succeed(*words(trees, direction, server, target))
    assert differences(trees.source, target, "--exclude=/.old") == ""
    assert temporaries(target) == []
    trees.forget(target)


@pytest.mark.parametrize(
    ("direction", "call"),
    [*(("push", call) for call in SPEAKING), *(("pull", call) for call in (*CHANGING, *SPEAKING))],
)
def test_a_client_is_killed(
    trees: Upheaval,
    server: Server,
    direction: str,
    call: str,
    record_property: Callable[[str, object], None],
) -> None:
    """As the source of a push, which changes nothing itself, and as the target of a pull."""
    number, cases = 1, 0
    idle = descriptors(server.process.pid)
    while True:
        target = trees.fresh()
        command = words(trees, direction, server, target)
        with running(*command, within=killing(call, number)) as client:
            code = client.wait(60).code
        assert code in (0, KILLED), code
        # A server notices when it can, and may be at the target until then.
        wait_until(lambda: descriptors(server.process.pid) <= idle, "the server's session ends")
        goes_on_well(trees, direction, server, target)
        if code == 0:
            break
        number += STRIDE.get(call, 1)
        cases += 1
    assert number > 1 or call not in ("linkat", "renameat", "pwrite64")
    record_property("cases", cases)


@pytest.mark.parametrize("call", ["linkat", "renameat", "fsync", "sendto", "recvfrom"])
def test_a_server_is_killed(
    trees: Upheaval, server: Server, call: str, record_property: Callable[[str, object], None]
) -> None:
    """As the target of a push; another one goes on."""
    number, cases = 1, 0
    while True:
        target = trees.fresh()
        try:
            with (
                serving("--module", f"m={trees.base}", within=killing(call, number)) as victim,
                running(*words(trees, "push", victim, target)) as client,
            ):
                code = client.wait(60).code
        except AssertionError as error:
            if "the server ended" not in str(error):
                raise
            number += 1  # at its start, when nobody had come yet
            continue
        goes_on_well(trees, "push", server, target)
        if code == 0:
            break
        assert code == 10
        number += STRIDE.get(call, 1)
        cases += 1
    assert number > 1
    record_property("cases", cases)

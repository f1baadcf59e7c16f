"""A disk that hangs holds up who touches it, and nobody else.

A network file system whose server is gone answers no call, and a thread that waits in one cannot
be had back. Sessions of that module wait; other modules are served as if nothing were.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from netsync.tree.threads import THREADS
from netsync.wire import messages as m
from tests.support.liars import descriptors, lying_client
from tests.support.processes import Server, serving, succeed, wait_until
from tests.support.trees import Value, hung_disk, make_tree, needs_mount, read_tree

CLIENTS = THREADS + 10
"""Each takes a thread that does not come back: more than one module may have."""


def threads_of(server: Server) -> int:
    found = re.search(
        r"^Threads:\s*(\d+)$", Path(f"/proc/{server.process.pid}/status").read_text(), re.M
    )
    assert found is not None
    return int(found[1])


@needs_mount
def test_a_module_on_a_hung_disk_leaves_the_others_alone(tmp_path: Path) -> None:
    tree: dict[str, Value] = {"d": {"f": b"1"}, "g": b"2"}
    good, source = make_tree(tmp_path / "good", tree), make_tree(tmp_path / "source", tree)
    hung = make_tree(tmp_path / "hung", {"f": b"later"})
    modules = ("--module", f"good={good}", "--module", f"hung={hung}")
    with serving(*modules) as server, contextlib.ExitStack() as stack:
        before, idle = descriptors(server.process.pid), threads_of(server)
        with hung_disk(hung):
            for _ in range(CLIENTS):
                liar = stack.enter_context(lying_client(server.port))
                liar.greet()
                liar.say(m.Browse("hung", b""))
            wait_until(lambda: threads_of(server) >= THREADS, "all of its threads wait")
            succeed("ls", server.url("good/"))
            succeed("push", f"{source}/", server.url("good/new/"))
            succeed("pull", server.url("good/"), tmp_path / "back")
            assert threads_of(server) < idle + THREADS + 10
        assert read_tree(tmp_path / "back")["new"] == tree
        stack.close()
        succeed("ls", server.url("hung/f"))
        wait_until(lambda: descriptors(server.process.pid) <= before, "descriptors are closed")
        assert "internal error" not in server.log

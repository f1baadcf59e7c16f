"""A disk that hangs holds up who touches it, and nobody else.

A network file system whose server is gone answers no call, and a thread that waits in one cannot
be had back. Sessions of that module wait; other modules are served as if nothing were.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

from netsync.tree.threads import THREADS
from netsync.wire import messages as m
from tests.support.certificates import CLIENT_NAME, LOOPBACK, issue
from tests.support.jobs import STANDBY_NAME, Pair
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


@needs_mount
def test_jobs_on_a_hung_disk_leave_the_daemon_alone(tmp_path: Path) -> None:
    """More of them than there are threads; the daemon serves, and carries out another."""
    pair = Pair(tmp_path)
    hung, good = tmp_path / "hung", make_tree(tmp_path / "good", {"f": b"1"})
    hung.mkdir()
    shutil.rmtree(pair.identity)
    issue(pair.identity, STANDBY_NAME, hosts=LOOPBACK)
    module = f'[module.good]\npath = "{good}"\nallow = {{ {CLIENT_NAME} = ["pull"] }}'
    with pair.primary():
        job = pair.job('every = "1h"')
        jobs = [
            job.replace("[job.web]", f"[job.j{number}]").replace(
                f"{pair.target}", f"{hung}/{number}"
            )
            for number in range(CLIENTS)
        ]
        pair.configure(*jobs, server=f'listen = ["127.0.0.1:0"]\n{module}')
        with hung_disk(hung), pair.standby() as daemon:
            daemon.find_port()
            wait_until(lambda: threads_of(daemon) > CLIENTS, "all of the jobs wait")
            succeed("ls", daemon.url("good/"))

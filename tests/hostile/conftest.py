"""A server under attack: a process of its own, somebody else's session, and a tree outside."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from netsync.identity.contexts import Credentials
from netsync.wire import messages as m
from tests.support.certificates import certificates
from tests.support.liars import Liar, descriptors, facts, lying_client
from tests.support.processes import Server, serving, wait_until
from tests.support.trees import make_tree

MODULE = "m"
HEARTBEAT = 5.0
LOOPBACK = "127.0.0.1"
OUTSIDE_WORDS = b"what lies outside, and no peer may see"


@dataclass
class Victim:
    """The server, its module's directory, and what must not change beside it."""

    server: Server
    root: Path
    witness: Liar
    before: dict[str, tuple[object, ...]]
    read: int = 0
    """Characters of the log that were checked before."""
    speaking: threading.Lock = field(default_factory=threading.Lock)

    @property
    def outside(self) -> Path:
        return self.root.parent / "outside"

    @contextlib.contextmanager
    def attacked(self, who: Credentials | None = None, *, lines: int | None = 1) -> Iterator[Liar]:
        """Hold a client's connection; at the end the world is as it was, but for log lines."""
        with lying_client(self.server.port, who) as liar:
            yield liar
        self.unharmed(liar.port, lines)

    def lines_of(self, port: int) -> list[str]:
        """Return what the log says of the client on ``port`` since the last attack."""
        return [
            line
            for line in self.server.log[self.read :].splitlines()
            if f":{port})" in line or f" {LOOPBACK}:{port}:" in line
        ]

    def unharmed(self, port: int = 0, lines: int | None = None) -> None:
        """Check that the server serves on, nothing outside has changed, and what it logged."""
        if lines is not None:
            wait_until(lambda: len(self.lines_of(port)) >= lines, f"{lines} lines of the log")
        self.others_are_served()
        log = self.server.log[self.read :]
        assert "internal error" not in log, log
        assert "Traceback" not in log, log
        assert all(line.isprintable() for line in log.splitlines()), log
        if lines is not None:
            assert len(self.lines_of(port)) == lines, self.lines_of(port)
        assert facts(self.outside) == self.before
        self.read += len(log)

    def others_are_served(self) -> None:
        """The session that began before all attacks is answered in it."""
        with self.speaking:
            self.witness.say(m.Browse(MODULE, b"there"))
            final = False
            while not final:
                heard = self.witness.hear(m.Browsed)
                assert isinstance(heard, m.Browsed)
                final = heard.final

    def stay_alive(self, ended: threading.Event) -> None:
        """Let the witness be heard of until ``ended``, however long an attack takes."""
        while not ended.wait(HEARTBEAT):
            with self.speaking:
                self.witness.say(m.Ping())


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Serve one module to everybody; descriptors are as many after all attacks as before."""
    base = tmp_path_factory.mktemp("victim")
    root = make_tree(base / "module", {"there": {"a": b"a"}, "way-out": "../outside"})
    outside = make_tree(base / "outside", {"secret": OUTSIDE_WORDS, "sub": {"x": b"x"}})
    os.chmod(outside / "secret", 0o600)
    os.setxattr(outside / "secret", "user.mark", b"kept")
    with serving("--module", f"{MODULE}={root}") as server:
        with lying_client(server.port, certificates().other) as witness:
            made = Victim(server, root, witness.greet(), facts(outside))
            made.others_are_served()
            before = descriptors(server.process.pid)
            ended = threading.Event()
            heart = threading.Thread(target=made.stay_alive, args=(ended,))
            heart.start()
            try:
                yield made
            finally:
                ended.set()
                heart.join()
            made.unharmed()
            wait_until(lambda: descriptors(server.process.pid) <= before, "descriptors are closed")
        assert server.running

"""Two daemons with real TLS: a primary that watches a directory, a standby that it sends to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.certificates import certificates
from tests.support.places import differences
from tests.support.processes import Result, Server, netsync, serving, wait_until
from tests.support.samples import write

JOB: Final = "web"
RECEIVED: Final = "primary1:m"
"""What the standby calls it."""
RPO: Final = 4


class WatchedPair:
    """A primary and a standby below ``base``. ``port`` is the standby's, or that of a link to it.

    Both keep their state from one start to the next.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.source = write(base / "source", {"a": "1", "b/c": "2"})
        self.target = base / "target"
        self.target.mkdir()
        self.primary_file = base / "primary.toml"
        self.standby_file = base / "standby.toml"
        self.port = self.listening = 0
        self.module_lines = ""
        self.lines: tuple[str, ...] = ()

    @contextlib.contextmanager
    def standby(self) -> Iterator[Server]:
        """Serve the target; again on the same port if it was served before."""
        self.standby_file.write_text(
            f'[server]\nlisten = ["127.0.0.1:{self.listening}"]\n'
            f'identity = "{certificates().issuing}"\nstate = "{self.base}/standby-state"\n'
            f'[module.m]\npath = "{self.target}"\nallow = {{ primary1 = ["push", "delete"] }}\n'
            f"{self.module_lines}\n"
        )
        with serving("--config", self.standby_file) as server:
            self.listening = server.port
            self.port = self.port or server.port
            yield server
            assert "internal error" not in server.log, server.log

    @contextlib.contextmanager
    def primary(self, *lines: str, within: Sequence[str] = ()) -> Iterator[Server]:
        """Carry the watch out, with ``lines`` in its section (none: those of before)."""
        self.configure(*lines)
        with self.daemon(within=within) as server:
            yield server

    @contextlib.contextmanager
    def daemon(
        self, ready: str = "carrying out jobs: ", within: Sequence[str] = ()
    ) -> Iterator[Server]:
        """Carry out what the primary's file says."""
        who = certificates().client.directory
        with serving(
            "--config", self.primary_file, identity=who, ready=ready, within=within
        ) as server:
            yield server
            assert "internal error" not in server.log, server.log

    def configure(self, *lines: str, watched: bool = True) -> None:
        """Write the primary's configuration, with ``lines`` in the watch's section, or without it.

        Then there is another job instead, that has nothing to do with the standby.
        """
        self.lines = lines or self.lines
        url = f"netsync://127.0.0.1:{self.port}/m/"
        watch = (
            f'[job.{JOB}]\nmode = "watch"\nsource = "{self.source}/"\ntarget = "{url}"\n'
            f"delete = true\ntimeout = 2\nconnect_timeout = 5\nrpo = {RPO}\n"
            + "\n".join(self.lines)
        )
        other = (
            f'[job.other]\nmode = "push"\nsource = "{self.base}/source/"\n'
            f'target = "{self.base}/other"\nevery = "1h"\n'
        )
        self.primary_file.write_text(
            f'[server]\nstate = "{self.base}/primary-state"\n{watch if watched else other}'
        )

    @contextlib.contextmanager
    def both(self, *lines: str) -> Iterator[tuple[Server, Server]]:
        """Run both, and wait until they are in step."""
        with self.standby() as standby, self.primary(*lines) as primary:
            self.wait_for_state("IN_SYNC")
            yield primary, standby

    def wait_for_state(self, state: str, seconds: float = 40.0) -> None:
        """Wait until the primary says that the watch is in this state."""
        wait_until(lambda: self.status().get("state") == state, f"the watch is {state}", seconds)

    def ask(self, *words: str, **more: Any) -> Result:
        """Run a command that asks the primary's daemon."""
        state = self.base / "primary-state"
        return netsync(*words, "--config", self.primary_file, state=state, **more)

    def ask_standby(self, *words: str) -> Result:
        """Run a command on the standby."""
        state = self.base / "standby-state"
        return netsync(*words, "--config", self.standby_file, state=state)

    def status(self) -> dict[str, Any]:
        """Return what the primary's ``status --json`` says of the watch."""
        return _job(self.ask("status", "--json"), JOB)

    def received(self) -> dict[str, Any]:
        """Return what the standby's ``status --json`` says of it."""
        return _job(self.ask_standby("status", "--json"), RECEIVED)

    def wait_in_step(self, seconds: float = 40.0) -> None:
        """Wait until the primary says that all is there, and see that it is."""
        self.wait_for_state("IN_SYNC", seconds)
        assert self.is_equal, differences(self.source, self.target)

    def barrier(self, seconds: float = 40.0) -> None:
        """Wait until all that was written is there, and see that it is."""
        result = self.ask("wait", JOB, "--timeout", f"{seconds:g}", seconds=seconds + 10)
        assert result.code == 0, result
        assert self.is_equal, differences(self.source, self.target)

    @property
    def is_equal(self) -> bool:
        """Tell whether source and target are equal."""
        return differences(self.source, self.target) == ""

    def events(self) -> list[str]:
        """Return the primary's events, kinds and texts."""
        out = self.ask("events", "--json", "--last", "10000").stdout
        found = [json.loads(line) for line in out.splitlines()]
        return [f"{event['kind']}: {event['text']}" for event in found]

    def looks(self) -> int:
        """Return how often the whole was compared."""
        return sum(each.startswith("started: ") for each in self.events())


def _job(result: Result, name: str) -> dict[str, Any]:
    assert result.code == 0, result
    found = [each for each in result.report["jobs"] if each["name"] == name]
    return dict(found[0]) if found else {}

"""Two daemons with real TLS: a primary that serves a module, a standby that carries out a job."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.certificates import certificates, issue
from tests.support.places import differences
from tests.support.processes import Process, Result, Server, netsync, running, serving, wait_until
from tests.support.samples import write

JOB: Final = "web"
VERDICTS: Final = ("ok", "warning", "critical")
STANDBY_NAME: Final = "standby2"
_READY: Final = "carrying out jobs: "


class Pair:
    """A primary and a standby below ``base``; the standby's certificate may only pull."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.source = write(base / "source", {"a": "1", "b/c": "2"})
        self.target = base / "target"
        self.state = base / "state"
        self.file = base / "standby.toml"
        self.primary_file = base / "primary.toml"
        self.port = 0
        self.daemon: Server | None = None
        self.identity = base / "identity"
        issue(self.identity, STANDBY_NAME)

    @contextlib.contextmanager
    def primary(self, within: Sequence[str] = ()) -> Iterator[Server]:
        """Serve the source; again on the same port if it was served before."""
        self.offer(self.source)
        with serving("--config", self.primary_file, within=within) as server:
            self.port = server.port
            yield server
            assert "internal error" not in server.log

    def job(self, *lines: str, name: str = JOB, port: int | None = None) -> str:
        """Return the section of a job that pulls the module."""
        url = f"netsync://127.0.0.1:{port or self.port}/m/"
        own = (f'mode = "pull"\nsource = "{url}"\ntarget = "{self.target}"', "delete = true")
        return "\n".join((f"[job.{name}]", *own, "timeout = 2", *lines, ""))

    def offer(self, directory: Path) -> None:
        """Write the primary's configuration: ``directory`` is the module."""
        self.primary_file.write_text(
            f'[server]\nlisten = ["127.0.0.1:{self.port}"]\n'
            f'identity = "{certificates().issuing}"\nstate = "{self.base}/primary-state"\n'
            f'[module.m]\npath = "{directory}"\nallow = {{ {STANDBY_NAME} = ["pull"] }}\n'
        )

    def second(self, *lines: str) -> str:
        """Return the section of another job, into a directory of its own."""
        return self.job(*lines, name="second").replace(f"{self.target}", f"{self.target}2")

    def third(self) -> str:
        """Return the section of one more."""
        return self.job('every = "1h"', name="third").replace(f"{self.target}", f"{self.target}3")

    @contextlib.contextmanager
    def following(self) -> Iterator[Process]:
        """Follow events in a process of its own."""
        words = ("events", "--follow", "--state", str(self.state))
        with running(*words, identity=self.identity) as follower:
            yield follower

    def configure(self, *sections: str, server: str = "") -> None:
        """Write the standby's configuration."""
        own = f'[server]\nidentity = "{self.base}/identity"\nstate = "{self.state}"\n{server}\n'
        self.file.write_text(own + "".join(sections))

    @contextlib.contextmanager
    def standby(self) -> Iterator[Server]:
        """Carry out what is configured."""
        with serving("--config", self.file, identity=self.identity, ready=_READY) as server:
            self.daemon = server
            yield server
            assert "internal error" not in server.log, server.log

    def ask(self, *words: str, **more: Any) -> Result:
        """Run a command that asks the standby's daemon."""
        return netsync(*words, "--config", self.file, state=self.state, **more)

    def job_status(self, name: str = JOB) -> dict[str, Any]:
        """Return what ``status --json`` says of a job."""
        result = self.ask("status", "--json")
        assert result.code == 0, result
        document = result.report
        assert document["schema"] == "netsync.status/1"
        (found,) = [each for each in document["jobs"] if each["name"] == name]
        return dict(found)

    def wait_for_status(self, what: str, name: str = JOB, **facts: Any) -> None:
        """Look until the job's status has these values."""

        def holds() -> bool:
            status = self.job_status(name)
            return all(status[key] == value for key, value in facts.items())

        wait_until(holds, what)

    def events(self) -> list[dict[str, Any]]:
        """Return all events."""
        out = self.ask("events", "--json", "--last", "10000").stdout
        return [json.loads(line) for line in out.splitlines()]

    def kinds(self) -> list[str]:
        """Return the kinds of events about runs, in their order."""
        return [event["kind"] for event in self.events() if event["kind"] not in VERDICTS]

    def in_step(self) -> bool:
        """Tell whether source and target are equal."""
        return self.target.is_dir() and differences(self.source, self.target) == ""

    def wait_in_step(self, what: str) -> None:
        """Look until source and target are equal; say what the standby told if they never are."""
        try:
            wait_until(self.in_step, what)
        except AssertionError as error:
            told = [(event["kind"], event["text"]) for event in self.events()]
            raise AssertionError(
                f"{error}: {self.job_status()}, {told}, {self._daemon()}"
            ) from None

    def _daemon(self) -> str:
        """Return how the standby's process is, what it holds open and what it has said."""
        if self.daemon is None:
            return "no daemon"
        held = Path(f"/proc/{self.daemon.process.pid}/fd")
        links = [os.readlink(each) for each in held.iterdir()] if self.daemon.running else []
        return f"{self.daemon.process.poll()}, {links}, {self.daemon.log}"

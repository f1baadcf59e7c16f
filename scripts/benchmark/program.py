"""What the measuring needs to know of a program; netsync and the kinds of rsync provide it."""

import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from prepare.processes import Process, StepError

from benchmark.model import Job

LISTENING = "0A"


@dataclass
class Peers:
    """What runs beside the client: servers, and helpers on the client's side."""

    address: str
    server: list[Process]
    client: list[Process] = field(default_factory=list)


class Program(Protocol):
    @property
    def name(self) -> str: ...

    def start(self, module: Path) -> AbstractContextManager[Peers]:
        """Servers for this directory, ready to accept; they end with the block."""

    def command(self, job: Job, peers: Peers) -> list[str]:
        """The client's command line: the thing that is timed."""

    def wire_bytes(self, output: str) -> int:
        """What crossed the wire both ways, from the client's output."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_listening(port: int, process: Process, seconds: float = 10.0) -> None:
    """Look into the kernel's table: a connection to try it would start a session."""
    deadline = time.monotonic() + seconds
    while port not in _listening_ports():
        if time.monotonic() > deadline:
            words = " ".join(str(word) for word in process.command)
            raise StepError(f"{words}: does not listen\n{process.said()}")
        time.sleep(0.01)


def _listening_ports() -> Iterator[int]:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state = line.split()[:4]
        if state == LISTENING:
            yield int(local.rpartition(":")[2], 16)

"""Mounts in tests: served by a process of their own, and gone when the test ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from netsync.mirror.mounting import mounted_on
from netsync.operation import AnyOperation
from tests.support.mirrors import COPY, MODULE, Pair
from tests.support.processes import Process, Result, running

TOP = Path(__file__).parents[2]
START_SECONDS = 40.0
"""A loaded machine starts an interpreter slowly."""


class Served:
    """``directory`` mounted on ``mountpoint``; its operations are in ``log``."""

    def __init__(self, base: Path) -> None:
        self.directory = base / "backing"
        self.mountpoint = base / "mount"
        self.log = base / "log"
        self._output = base / "output"
        self.directory.mkdir(exist_ok=True)
        self.mountpoint.mkdir(exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.support.mount_server"]
        places = [self.directory, self.mountpoint, self.log]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen([*command, *places], cwd=TOP, stderr=output)
        self.wait_for("mounted on")

    def wait_for(self, words: str) -> None:
        """Wait until the process has said ``words``."""
        deadline = time.monotonic() + START_SECONDS
        while words not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def said(self) -> str:
        return self._output.read_text()

    def kill(self) -> None:
        """End the process as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it in order if it lives, and leave no mount behind in any case."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                assert self.process.wait(START_SECONDS) == 0, self.said()
        finally:
            if self.process.poll() is None:
                self.kill()
            remove_mount(self.mountpoint)

    def operations(self) -> list[AnyOperation]:
        """Return what the log says so far, in order."""
        return list(operations_in(self.log.read_bytes()))


def operations_in(log: bytes) -> Iterator[AnyOperation]:
    decoder = msgspec.msgpack.Decoder(AnyOperation)
    at = 0
    while at < len(log):
        length = int.from_bytes(log[at : at + 4], "big")
        yield decoder.decode(log[at + 4 : at + 4 + length])
        at += 4 + length


def remove_mount(mountpoint: Path) -> None:
    """Remove whatever is mounted there, and check that nothing is."""
    path = os.fsencode(mountpoint)
    while mounted_on(path):
        if os.geteuid() == 0:
            assert ctypes.CDLL(None).umount2(path, 2) == 0
        else:
            subprocess.run(["fusermount3", "-u", "-z", mountpoint], check=True)
    assert mounted_on(path) == ""


class MountedPair:
    """``netsync mirror`` with a standby: what is written below ``mount`` reaches ``pair.copy``."""

    def __init__(self, pair: Pair, *options: str) -> None:
        self.pair = pair
        self.mount = pair.base / "mount"
        self.mount.mkdir(exist_ok=True)
        self.options = options

    @contextlib.contextmanager
    def primary(self, *options: str) -> Iterator[Process]:
        """Run the command until the block ends; it must have been mounted."""
        url = f"netsync://127.0.0.1:{self.pair.port}/{MODULE}/{COPY}"
        words: list[str | bytes | Path] = [self.pair.source, url, "--mount", self.mount]
        state = self.pair.base / "primary-state"
        with running("mirror", *words, *self.options, *options, "--state", state) as process:
            try:
                said = f"mounted on {self.mount}"
                process.wait_for(lambda: said in process.stderr, "mounted")
                yield process
                assert "Traceback" not in process.stderr, process.stderr
            finally:
                if process.running:
                    process.process.kill()
                    process.process.wait()
                remove_mount(self.mount)

    def end(self, process: Process) -> Result:
        """End it in order."""
        process.signal(signal.SIGTERM)
        return process.wait(START_SECONDS)

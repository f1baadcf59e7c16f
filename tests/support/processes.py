"""netsync as real processes: a server on a free port, clients with a deadline.

Everything started here ends here: ``serving`` and ``running`` are context managers that kill
what still runs when their block ends.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from netsync.cli import main
from tests.support.certificates import certificates

ROOT: Final = Path(__file__).parents[2]
"""The checkout: what ``python -m netsync`` is run from."""
WAIT_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.01
_LISTENING: Final = "listening on "

Argument = str | bytes | Path


@dataclass(frozen=True)
class Result:
    """What one command came to."""

    code: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        """The JSON object that is the last line of stdout."""
        document = json.loads(self.stdout.splitlines()[-1])
        assert isinstance(document, dict)
        return document

    @property
    def files(self) -> dict[str, int]:
        """The report's entry counters."""
        return dict(self.report["files"])

    @property
    def bytes(self) -> dict[str, int]:
        """The report's byte counters."""
        return dict(self.report["bytes"])

    @property
    def changes(self) -> list[str]:
        """The itemized lines, sorted: they come in no particular order."""
        return sorted(line for line in self.stdout.splitlines() if not line.startswith("{"))


def wait_until(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Look until ``condition`` holds; fail when it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} seconds"
        time.sleep(_LOOK_SECONDS)


def _command(arguments: tuple[Argument, ...]) -> list[bytes]:
    words = [sys.executable, "-m", "netsync", *arguments]
    return [os.fsencode(word) for word in words]


def _text(file: Path) -> str:
    return os.fsdecode(file.read_bytes())


def _environment(identity: Path | None, state: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "NETSYNC_IDENTITY"}
    named = {} if identity is None else {"NETSYNC_IDENTITY": str(identity)}
    own = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", "NETSYNC_STATE": str(state)}
    return {**kept, **own, **named}


@dataclass
class Process:
    """A running netsync with its output in files, so that no full pipe can stop it."""

    process: subprocess.Popen[bytes]
    directory: tempfile.TemporaryDirectory[str]

    @property
    def stdout(self) -> str:
        """All of stdout so far."""
        return self._read("stdout")

    @property
    def stderr(self) -> str:
        """All of stderr so far."""
        return self._read("stderr")

    def _read(self, name: str) -> str:
        data = (Path(self.directory.name) / name).read_bytes()
        return os.fsdecode(data)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = WAIT_SECONDS) -> Result:
        """Wait for the end; fail when it does not come."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} seconds") from None
        return Result(code, self.stdout, self.stderr)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until ``condition`` holds; fail when it does not come, or this ends first."""

        def holds() -> bool:
            alive = self.running
            return bool(condition()) or not alive

        try:
            wait_until(holds, what)
            assert condition(), f"{what}: ended before"
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.stdout} {self.stderr}") from None

    @property
    def running(self) -> bool:
        """Tell whether it has not ended."""
        return self.process.poll() is None

    def end(self) -> None:
        """Kill it if it still runs, and forget its output."""
        if self.running:
            self.process.kill()
            self.process.wait()
        self.directory.cleanup()


def _start(
    arguments: tuple[Argument, ...],
    identity: Path,
    user: int | None = None,
    within: Sequence[str] = (),
) -> Process:
    directory = tempfile.TemporaryDirectory(prefix="netsync-test-")
    base = Path(directory.name)
    environment = _environment(identity, base / "state")
    if user is not None:
        base.chmod(0o711)
        (base / "state").mkdir()
        os.chown(base / "state", user, user)
    if "--config" in arguments:
        del environment["NETSYNC_STATE"]  # the file says where
    with (base / "stdout").open("wb") as out, (base / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [*map(os.fsencode, within), *_command(arguments)], cwd=base, env=environment,
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, user=user, group=user,
            extra_groups=None if user is None else [],
        )  # fmt: skip
    return Process(process, directory)


@contextlib.contextmanager
def running(
    *arguments: Argument, identity: Path | None = None, within: Sequence[str] = ()
) -> Iterator[Process]:
    """Run a client command beside the test, which may interfere with it.

    ``within`` are the words of a command that runs it.
    """
    who = identity or certificates().client.directory
    client = _start(arguments, who, None, within)
    try:
        yield client
    finally:
        client.end()


FORKS: Final = multiprocessing.get_context("forkserver")
_LATE: Final = [
    "_strptime",
    "sqlite3",
    "pathspec.patterns.gitignore.basic",
    "encodings.ascii",
    "encodings.idna",
    "stringprep",
]
"""Modules that the library imports when it needs them, which another user may not be able to."""
_ROLES: Final = [
    "netsync.transfer.source", "netsync.transfer.target", "netsync.transfer.guarding",
    "netsync.state.sources", "netsync.state.pending", "netsync.state.database",
]  # fmt: skip
"""Modules that a command imports when it knows its role, like those above."""
FORKS.set_forkserver_preload(
    [
        __name__,
        "tests.support.killing",
        "netsync.cli.copy",
        "netsync.cli.ls",
        "netsync.cli.cert",
        *_ROLES,
        *_LATE,
    ]
)


def _child(
    arguments: list[str],
    base: str,
    environment: dict[str, str],
    directory: tuple[str, int],
    user: int | None,
) -> None:
    """Be the command, in a process of its own that needs not import everything anew."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        with (Path(base) / name).open("wb") as file:
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(environment)
    cwd, umask = directory
    os.chdir(cwd)
    os.umask(umask)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    sys.exit(main.run(arguments))


def netsync(
    *arguments: Argument,
    identity: Path | None = None,
    anonymous: bool = False,
    seconds: float = WAIT_SECONDS,
    umask: int = 0o022,
    cwd: Path | None = None,
    state: Path | None = None,
    user: int | None = None,
) -> Result:
    """Run one command to its end, as the usual client unless told who else (or nobody).

    It remembers nothing of the runs before it, unless ``state`` says where. ``user`` is the
    number of the system's user that it runs as, if not the test's own.

    Forked from a warm interpreter: a fourth of the time of a cold start, of which the suite
    has hundreds. ``running`` starts the real thing.
    """
    who = None if anonymous else identity or certificates().client.directory
    words = [os.fsdecode(argument) for argument in arguments]
    with tempfile.TemporaryDirectory(prefix="netsync-test-") as base:
        if user is not None:
            os.chown(base, user, user)
        process = FORKS.Process(
            target=_child,
            args=(
                words,
                base,
                _environment(who, state or Path(base, "state")),
                (str(cwd or base), umask),
                user,
            ),
        )
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"still running after {seconds:g} seconds: {words}")
        out, err = (_text(Path(base) / name) for name in ("stdout", "stderr"))
        result = Result(process.exitcode, out, err)
        process.close()
    assert "Traceback" not in result.stderr, result.stderr
    return result


def succeed(*arguments: Argument, **more: Any) -> Result:
    """Run one command that must succeed without a word of complaint."""
    result = netsync(*arguments, **more)
    assert (result.code, result.stderr) == (0, ""), result
    return result


@dataclass
class Server(Process):
    """``netsync serve`` on a free port of the loopback."""

    port: int = 0

    @property
    def log(self) -> str:
        """All it has said so far."""
        return self.stderr

    def url(self, place: str = "") -> str:
        """Return the address of ``MODULE/PATH`` here."""
        return f"netsync://127.0.0.1:{self.port}/{place}"

    def reload(self) -> None:
        """Send SIGHUP and wait until it is dealt with."""
        before = self.log.count("reload")
        self.signal(signal.SIGHUP)
        self.wait_for(lambda: self.log.count("reload") > before, "the server has reloaded")

    def stop(self) -> Result:
        """Stop in good order."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def find_port(self) -> bool:
        """Read the port from what it announced; False while it has not."""
        assert self.running, f"the server ended: {self.stderr}"
        for line in self.stderr.splitlines(keepends=True):
            if line.startswith(_LISTENING) and line.endswith("\n"):
                self.port = int(line.rpartition(":")[2])
        return self.port > 0


@contextlib.contextmanager
def serving(
    *arguments: Argument,
    identity: Path | None = None,
    user: int | None = None,
    ready: str = "",
    within: Sequence[str] = (),
) -> Iterator[Server]:
    """Serve on a free port until the block ends, as another ``user`` if one is given.

    ``ready`` is what it says once it is ready, where it need not listen; ``within`` are the words
    of a command that runs it.
    """
    words: tuple[Argument, ...] = ("serve", *arguments)
    if "--config" not in arguments:
        words += ("--listen", "127.0.0.1:0")
    started = _start(words, identity or certificates().issuing, user, within)
    server = Server(started.process, started.directory)
    try:
        if ready:
            server.wait_for(lambda: ready in server.log, "the daemon is ready")
        else:
            wait_until(server.find_port, "the server listens")
        yield server
    finally:
        server.end()

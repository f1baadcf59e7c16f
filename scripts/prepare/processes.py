"""Run programs, and leave none behind: the one place that starts processes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

Command = Sequence[str | os.PathLike[str]]
GRACE = 10.0


class StepError(Exception):
    """A step went wrong; the text is what the user reads."""


@dataclass(frozen=True)
class Usage:
    """What a process and the children it waited for have used."""

    cpu: float
    peak_rss: int


def say(text: str = "", *, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


@contextmanager
def step(name: str) -> Iterator[list[str]]:
    """One line: the name at once, the time at the end; a remark goes into the list."""
    say(f"{name:<28} ", end="")
    begin = time.monotonic()
    remarks: list[str] = []
    try:
        yield remarks
    except BaseException as error:
        say("FAILED" if isinstance(error, Exception) else "stopped")
        raise
    say(f"{', '.join(remarks) or 'ok'}  ({time.monotonic() - begin:.1f} s)")


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, without what would lead another Python astray."""
    misleading = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "NETSYNC_KERNEL", "NETSYNC_STATE"}
    kept = {name: value for name, value in os.environ.items() if name not in misleading}
    return {**kept, "LC_ALL": "C.UTF-8", **changes}


def run(
    command: Command,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
) -> str:
    """Run to the end and return stdout; any other status than those accepted is a failure."""
    with _piped(command, cwd, env, errors=subprocess.PIPE) as process:
        output, errors = process.communicate()
    if process.returncode not in accept:
        words = " ".join(os.fspath(word) for word in command)
        raise StepError(f"{words}: exit {process.returncode}\n{(output + errors).strip()}")
    return output


def stream(command: Command, *, cwd: Path, env: Mapping[str, str]) -> Generator[str, None, int]:
    """Run and hand on each line as it comes; the generator's return value is the exit status."""
    with _piped(command, cwd, env, errors=subprocess.STDOUT) as process:
        yield from process.stdout or ()
    return process.returncode


@contextmanager
def _piped(
    command: Command, cwd: Path | None, env: Mapping[str, str] | None, *, errors: int
) -> Iterator[subprocess.Popen[str]]:
    """A child in a group of its own: when we are interrupted, all of the group ends first."""
    with subprocess.Popen(  # noqa: S603 - commands are the scripts' own, without a shell
        command,
        cwd=cwd,
        env=environment() if env is None else env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        errors="surrogateescape",
        start_new_session=True,
    ) as process:
        try:
            yield process
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


class Process:
    """A program in the background, its output in files; it ends when the block ends."""

    def __init__(self, command: Command, log: Path, *, output: Path | None = None) -> None:
        self.command = command
        self.log = log
        self.output = output or log
        self.usage = Usage(0.0, 0)

    def __enter__(self) -> Self:
        with self.log.open("wb") as log, self.output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - see run()
                self.command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log if self.output == self.log else output,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def said(self) -> str:
        return self.log.read_text(errors="backslashreplace")

    def wait_for(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """The first match of the pattern in what the program has said."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.said()):
                return found
            if self._ended(os.WNOHANG):
                break
            time.sleep(0.02)
        raise StepError(f"{self._words()}: did not say {pattern!r}\n{self.said().strip()}")

    def wait(self) -> int:
        """Wait for its end; the exit status, and what it used in `usage`."""
        self._ended(0)
        return int(self._process.returncode)

    def stop(self, grace: float = GRACE) -> None:
        """Ask it to end, then end it and everything it started."""
        if not self._ended(os.WNOHANG):
            self._process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while not self._ended(os.WNOHANG) and time.monotonic() < deadline:
                time.sleep(0.01)
        with suppress(ProcessLookupError):  # nothing of it may be left
            os.killpg(self.pid, signal.SIGKILL)
        self._ended(0)

    def _ended(self, flags: int) -> bool:
        if self._process.returncode is not None:
            return True
        pid, status, used = os.wait4(self.pid, flags)
        if pid == 0:
            return False
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.usage = Usage(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
        return True

    def _words(self) -> str:
        return " ".join(os.fspath(word) for word in self.command)


def exit_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C, so that every cleanup runs."""

    def unwind(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, unwind)
    signal.signal(signal.SIGHUP, unwind)

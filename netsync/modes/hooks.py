"""Running ``pre`` and ``post``: a list of arguments, never a shell; JSON on stdin; a time limit.

A hook is the head of a process group of its own, so that what it started ends with it when its
time is up. What it prints goes to the events: the last line of it when it fails.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import trio

from netsync.errors import reason
from netsync.names import shown
from netsync.plan.standing import span

SCHEMA: Final = "netsync.hook/1"
_OUTPUT_MAX: Final = 4096
"""Bytes of a hook's output that are kept: the last ones, where the error is."""
_LATE_OUTPUT_SECONDS: Final = 0.5
"""How long a hook's children may hold its output open after it has ended."""
_END_SECONDS: Final = 2.0
"""From SIGTERM to SIGKILL."""


async def run_hook(arguments: Sequence[str], facts: dict[str, Any], seconds: float) -> str:
    """Run a hook; return nothing if it succeeded, else what is wrong, in one line."""
    document = msgspec.json.encode({"schema": SCHEMA, **facts}) + b"\n"
    try:
        process = await trio.lowlevel.open_process(
            list(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        return f"{arguments[0]} cannot be run: {reason(error)}"
    tail = bytearray()
    try:
        with trio.move_on_after(seconds) as scope:
            await _converse(process, document, tail)
        if scope.cancelled_caught:
            return f"{arguments[0]} was ended after {span(seconds)} (hook_timeout allows more)"
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)
    if process.returncode == 0:
        return ""
    last = bytes(tail).strip().rpartition(b"\n")[2]
    said = f": {shown(last)}" if last else ""
    return f"{arguments[0]} {_how_ended(process.returncode)}{said}"


def _how_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by signal {-code}"
    return f"ended with {code}"


async def _converse(process: trio.Process, document: bytes, tail: bytearray) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed, process.stdin, document)
        nursery.start_soon(_drain, process.stdout, tail)
        await process.wait()
        nursery.cancel_scope.deadline = trio.current_time() + _LATE_OUTPUT_SECONDS


async def _feed(stdin: trio.abc.SendStream, document: bytes) -> None:
    """Give the hook its facts; it need not read them."""
    with contextlib.suppress(trio.BrokenResourceError):
        async with stdin:
            await stdin.send_all(document)


async def _drain(stdout: trio.abc.ReceiveStream, tail: bytearray) -> None:
    async for piece in stdout:
        tail += piece
        del tail[:-_OUTPUT_MAX]


async def _end(process: trio.Process) -> None:
    """See that the hook is gone, and with it what it started if it had to be ended."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            await stream.aclose()
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):  # both: the head may die before its children
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with trio.move_on_after(_END_SECONDS):
            await process.wait()

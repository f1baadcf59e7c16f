"""``netsync watch``: a watch in the foreground, for as long as it is wanted."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final

import click
import trio
from xxhash import xxh3_64_hexdigest

from netsync.cli.options import (
    TransferCommand,
    connection_options,
    options_from,
    transfer_options,
)
from netsync.cli.run import collect
from netsync.cli.values import Duration
from netsync.errors import (
    InterruptedBySignal,
    UsageError,
    error_for_exit_code,
    unwrapped,
)
from netsync.identity.directory import default_directory
from netsync.modes.address import Remote, parse_address
from netsync.modes.job import Ask, Job, Mode, Site
from netsync.modes.record import Record
from netsync.modes.route import COMPARED_DAILY, check_watch, check_watched
from netsync.modes.watch import WatchRunner
from netsync.plan.schedule import Schedule
from netsync.plan.standing import Standing
from netsync.state.database import default_directory as default_state
from netsync.state.jobs import Event

_LAST_SECONDS: Final = 10.0
"""How long after a signal what is outstanding is still sent."""
_PARTING_SECONDS: Final = 2.0
"""How long a watch that is given up may take to part, so that DEST's server expects no more."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_IN_STEP: Final = "in step"
_SLOW_SECONDS: Final = 1.0
"""How long after a signal nothing is said about what is still being sent."""
_LOOK_SECONDS: Final = 0.1
"""How often it is seen what is wrong."""
_QUIET: Final = frozenset({"started", "finished", "failed"})
"""Kinds of events that are no news in a terminal; of failures the trouble is told, once."""
_NOT_HERE: Final = ("as_json", "stats", "progress", "progress_flag")


@click.command(cls=TransferCommand)
@click.argument("source", metavar="SRC")
@click.argument("dest", metavar="DEST")
@transfer_options
@connection_options
@click.option("--compare-every", type=Duration(), default=COMPARED_DAILY.every, metavar="S",
              help="How often the whole is compared, for what nobody told of (a day).")  # fmt: skip
@click.option("--rpo", type=Duration(), metavar="S",
              help="How far DEST may be behind: its server raises the alarm past it.")  # fmt: skip
def watch(source: str, dest: str, **given: Any) -> int:
    """Send what changes in SRC to DEST as it happens, until a signal.

    Prints "watching SRC" once DEST is in step. Lost connections are found again, and nothing is
    forgotten meanwhile. After SIGINT or SIGTERM what is outstanding is sent: exit code 0 if all
    is there and durable.
    """
    for name in _NOT_HERE:
        if given.get(name):
            option = "--json" if name == "as_json" else f"--{name.removesuffix('_flag')}"
            raise UsageError(f"{option} is about the end of a run", op="watch")
    check_watched([source], dest)
    local = not isinstance(parse_address(dest), Remote)
    options = options_from(given, local=local)
    check_watch(options)
    job = Job(
        name=_name_of(source, dest),
        mode=Mode.WATCH,
        sources=(source,),
        target=dest,
        schedule=Schedule(every=given["compare_every"]),
        rpo=given["rpo"],
        options=options,
        connect_timeout=given["connect_timeout"],
        timeout=given["timeout"],
    )
    logging.getLogger("netsync").addHandler(logging.NullHandler())  # what happens is told below
    identity = given["identity"] or default_directory()
    site = Site(identity, given["state"] or default_state(), time.time, UTC)
    with unwrapped():
        collect()
        return trio.run(_Foreground(job, site, quiet=given["quiet"]).run)
    raise AssertionError("unreachable: the body returns or raises")


def _name_of(source: str, dest: str) -> str:
    """Return what this watch's journal and lock are called: the same each time."""
    words = f"{os.path.abspath(source)}\0{dest}".encode("utf-8", "surrogateescape")
    return f"watch-{xxh3_64_hexdigest(words)}"


class _Foreground:
    """One watch with a terminal: it tells there what a daemon tells its events."""

    def __init__(self, job: Job, site: Site, *, quiet: bool) -> None:
        self._job = job
        self._quiet = quiet
        self._said = self._is_there = False
        self._told = ""
        self._record = Record(Standing(name=job.name), self._save, site.now)
        self._runner = WatchRunner(job, self._record, site, lambda phase: None)

    async def run(self) -> int:
        """Watch until a signal, or until it turns out that it cannot be."""
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._attend, nursery.cancel_scope)
                nursery.start_soon(self._runner.work)
                numbers = aiter(signals)
                caught = signal.Signals(await anext(numbers))
                nursery.start_soon(self._end, nursery.cancel_scope)
                await anext(numbers)
                nursery.cancel_scope.cancel()
        if self._is_there:
            return 0
        raise InterruptedBySignal(
            f"interrupted by {caught.name}, and not all that changed is there",
            hint="the next watch goes on with it",
        )

    async def _end(self, scope: trio.CancelScope) -> None:
        """Send what is outstanding and part, unless that takes too long."""
        scope.deadline = trio.current_time() + _LAST_SECONDS
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._explain)
            done = await self._runner.ask(Ask.BARRIER)
            nursery.cancel_scope.cancel()
        self._is_there = done.point is not None
        self._runner.leave()
        await self._runner.ended.wait()
        scope.cancel()

    async def _explain(self) -> None:
        """Say why there is no end yet."""
        await trio.sleep(_SLOW_SECONDS)
        if not self._quiet:
            self._tell(
                f"sending what is outstanding, for {_LAST_SECONDS:g} seconds at most "
                "(another signal ends it at once)"
            )

    async def _attend(self, scope: trio.CancelScope) -> None:
        """Tell what is wrong, each trouble once; end a watch that was never in step for a reason
        that only its user can mend.
        """
        while not scope.cancel_called:
            await trio.sleep(_LOOK_SECONDS)
            trouble = self._runner.trouble
            if trouble is None or trouble.words == self._told:
                continue
            error = error_for_exit_code(trouble.code)
            is_final = not trouble.retryable and not self._said
            if is_final and error.exit_code == trouble.code:  # else it is about some paths
                self._runner.leave()
                with trio.move_on_after(_PARTING_SECONDS):
                    await self._runner.ended.wait()
                raise error(trouble.words)
            self._told = trouble.words
            if not self._quiet:
                self._tell(f"{trouble.words}; it is tried again")

    async def _save(self, standing: Standing, events: Sequence[Event]) -> None:
        """Tell what happened."""
        del standing
        await trio.lowlevel.checkpoint()
        for event in events:
            if event.kind == _IN_STEP:
                self._told = ""
            if event.kind == _IN_STEP and not self._said:
                self._said = True
                self._tell(f"watching {self._job.source}")
            elif event.kind == _IN_STEP:
                self._tell("in step again")
            elif event.kind not in _QUIET and not self._quiet:
                self._tell(event.text)

    def _tell(self, line: str) -> None:
        click.echo(line if line.startswith("watching ") else f"netsync: {line}", err=True)
        sys.stderr.flush()

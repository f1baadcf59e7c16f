"""``netsync run`` and ``netsync wait``: asking the daemon, or being it for one run."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import click
import trio

from netsync.cli.finding import Found, daemon_options, found
from netsync.cli.report import print_json, print_problems
from netsync.cli.run import run_until_signal
from netsync.cli.values import Duration
from netsync.errors import NetworkError, StateError, UsageError
from netsync.identity.directory import default_directory
from netsync.modes.control import INDETERMINATE
from netsync.modes.direct import run_directly, scrub_directly
from netsync.modes.job import Site
from netsync.net.control import Answer, AwaitJob, RunJob, ask
from netsync.state import locks
from netsync.state.jobs import JobStates


@click.command()
@click.argument("job")
@daemon_options
@click.option("--json", "as_json", is_flag=True, help="Print the run's report as one JSON object.")
@click.option("--scrub", is_flag=True, help="Read all files again on both sides instead.")
def run(job: str, config: Path | None, state: Path | None, as_json: bool, scrub: bool) -> int:
    """Run JOB now and return its exit code; by the daemon, or here if none is running."""
    where = found(config, state)
    answer = run_until_signal(lambda: _run(RunJob(job, scrub), where))
    if answer.report is not None:
        print_problems(answer.report)
        if as_json:
            command = "verify" if scrub else _mode(where, job)
            print_json(command, answer.report, answer.seconds)
    if answer.words and (answer.report is None or not answer.report.held):
        click.echo(f"netsync: job {job}: {answer.words}", err=True)
    return answer.code


async def _run(wanted: RunJob, where: Found) -> Answer:
    job = wanted.job
    if locks.is_held(where.state, locks.DAEMON):
        return await ask(where.state, wanted, _say)
    if where.config is None:
        raise NetworkError(
            "no daemon is running there", op="ask the daemon in", where=str(where.state),
            hint="give --config FILE to run the job here",
        )  # fmt: skip
    if job not in where.jobs:
        hint = "jobs are: " + (", ".join(sorted(where.jobs)) or "none")
        raise UsageError("is not configured", op="run job", where=job, hint=hint)
    from netsync.daemon import local_zone  # noqa: PLC0415 - most runs are a daemon's

    identity = where.config.identity or default_directory()
    site = Site(identity, where.state, time.time, local_zone())
    began = trio.current_time()
    carried_out = scrub_directly if wanted.scrub else run_directly
    done = await carried_out(where.jobs[job], site)
    return Answer(done.code, done.words, done.report, trio.current_time() - began)


def _mode(where: Found, job: str) -> str:
    return where.jobs[job].mode.value if job in where.jobs else "pull"


@click.command()
@click.argument("job")
@daemon_options
@click.option("--timeout", type=Duration(), metavar="S", help="Give up after S (exit code 13).")
def wait(job: str, config: Path | None, state: Path | None, timeout: float | None) -> int:
    """Return 0 once all that was written before is durable on JOB's standby."""
    where = found(config, state)
    answer = run_until_signal(lambda: _wait(job, where, timeout))
    if answer.words:
        click.echo(f"netsync: job {job}: {answer.words}", err=True)
    return answer.code


async def _wait(job: str, where: Found, timeout: float | None) -> Answer:
    with trio.move_on_after(sys.maxsize if timeout is None else timeout):
        try:
            return await ask(where.state, AwaitJob(job), _say)
        except NetworkError as error:
            return Answer(INDETERMINATE, str(error))
    why = await trio.to_thread.run_sync(_trouble_of, job, where.state)
    words = f"no answer within {timeout:g} seconds{why}"
    return Answer(INDETERMINATE, f"{words} (asking again is safe; see 'netsync status')")


def _trouble_of(job: str, state: Path) -> str:
    """Return what is wrong with a job, as the end of a sentence; nothing if that is not known."""
    with contextlib.suppress(StateError):
        standing = JobStates(state).standing(job)
        if standing is not None and standing.failure:
            return f", since: {standing.failure}"
    return ""


def _say(line: str) -> None:
    click.echo(f"netsync: {line}", err=True)

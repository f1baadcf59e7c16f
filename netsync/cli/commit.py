"""``netsync commit``, for all that the quick way leaves to it.

It opens a session of its own. When that has gone well it starts a resident helper for the next
commits, which find it; nobody waits for that.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from netsync.cli.options import connection_options
from netsync.cli.quick import key_of, state_of
from netsync.cli.report import failure_json_line, json_line, problem_lines, put
from netsync.cli.run import run_until_signal
from netsync.errors import NetsyncError, UsageError
from netsync.identity.directory import default_directory
from netsync.model import Report
from netsync.modes import commit as mode
from netsync.modes.address import Remote, parse_address
from netsync.modes.outcome import EXIT_CODES, outcome_of
from netsync.modes.session import Connection
from netsync.net.resident import Key, Told

HELPER: Final = "netsync.cli.resident"
"""The module that is run as the helper."""


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE... DEST")
@click.option("--overwrite", is_flag=True, help="Replace what is there with other content.")
@click.option("--no-resident", is_flag=True, help="Use and start no helper.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, last.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="NETSYNC_STATE",
    help="Directory in which the helper is found.",
)
@connection_options
def commit(paths: tuple[str, ...], **given: Any) -> int:
    """Copy FILE... to DEST; return 0 only once they are durable there."""
    started = time.monotonic()
    result: Report | NetsyncError
    try:
        result = _commit(paths, given)
    except NetsyncError as error:
        result = error
    seconds = time.monotonic() - started
    answer = told(result, seconds, as_json=given["as_json"], quiet=given["quiet"])
    if answer.err:
        click.echo(answer.err, err=True, nl=False)
    if answer.out:
        put(answer.out.rstrip("\n"))
    return answer.code


def told(result: Report | NetsyncError, seconds: float, *, as_json: bool, quiet: bool) -> Told:
    """Return what a command says of a commit that came to ``result``."""
    if isinstance(result, NetsyncError):
        out = failure_json_line("commit", result, seconds) if as_json else ""
        code, lines = result.exit_code, [f"netsync: {result}"]
    else:
        out = json_line("commit", result, seconds) if as_json else ""
        code = EXIT_CODES[outcome_of(result)]
        lines = [] if quiet and code == 0 else list(problem_lines(result))
    return Told(code, f"{out}\n" if out else "", "".join(f"{line}\n" for line in lines))


def _commit(paths: tuple[str, ...], given: dict[str, Any]) -> Report:
    if len(paths) < 2:
        raise UsageError("give at least one file and a destination", op="commit")
    *files, last = paths
    if any(isinstance(parse_address(file), Remote) for file in files):
        raise UsageError("the files must be local", op="commit")
    target = parse_address(last)
    with mode.opened([os.fsencode(file) for file in files]) as (held, missing):
        if not isinstance(target, Remote):
            wish = mode.Wish(held, "", target, given["overwrite"], missing)
            return run_until_signal(functools.partial(mode.commit_locally, wish))
        place = target.place
        wish = mode.Wish(held, place.module, place.path, given["overwrite"], missing)
        identity = given["identity"] or default_directory()
        connection = Connection(identity, given["connect_timeout"], given["timeout"])
        report = run_until_signal(functools.partial(mode.commit_remotely, wish, target, connection))
    if not given["no_resident"]:
        start_helper(state_of(given["state"] and str(given["state"])), key_of(str(identity), last))
    return report


def start_helper(state: str, key: Key) -> None:
    """Start a helper that outlives us, if it can be: the next commit does without, else."""
    words = [sys.executable, "-m", HELPER, state, *key.words]
    with contextlib.suppress(OSError):
        os.makedirs(state, 0o700, exist_ok=True)
        subprocess.Popen(  # noqa: S603 - our own module; nobody waits for it
            words, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

"""``netsync promote``: a standby's copy becomes the original, by the server or else here."""

from __future__ import annotations

import os
from pathlib import Path

import click
import trio

from netsync.cli.finding import daemon_options, found
from netsync.cli.report import put
from netsync.cli.run import run_until_signal
from netsync.errors import UsageError
from netsync.names import shown
from netsync.net.control import Answer, Promote, ask
from netsync.oplog.opening import promote_closed
from netsync.server.mirrors import open_root, plain_path, promoted_words, refuse_promotion
from netsync.state import locks
from netsync.state.mirror_record import FOLDER, Record, known_places


@click.command()
@click.argument("place", metavar="MODULE[/PATH]")
@daemon_options
@click.option("--force", is_flag=True, help="Even if it is no whole copy.")
def promote(place: str, config: Path | None, state: Path | None, force: bool) -> int:
    """Make the standby's copy at MODULE/PATH a primary of its own.

    What its journal holds is finished first. The old primary is refused from then on.
    """
    directory = found(config, state).state
    record = _record(directory, place)
    answer = run_until_signal(lambda: _promote(directory, record, force=force))
    if answer.code:
        click.echo(f"netsync: {answer.words}", err=True)
    else:
        put(answer.words)
    return answer.code


def _record(state: Path, place: str) -> Record:
    module, _, path = place.partition("/")
    records = known_places(state)
    for record in records:
        if (record.module, record.path) == (module, plain_path(os.fsencode(path))):
            return record
    names = [f"{each.module}/{shown(each.path)}".rstrip("/") for each in records]
    hint = "mirrored are: " + (", ".join(sorted(names)) or "none")
    raise UsageError("nothing is mirrored there", op="promote", where=place, hint=hint)


async def _promote(state: Path, record: Record, *, force: bool) -> Answer:
    if locks.is_held(state / FOLDER, locks.MIRRORS):
        return await ask(state / FOLDER, Promote(record.place, force), lambda _: None)
    refuse_promotion(record, force=force)
    now = await trio.to_thread.run_sync(lambda: _promote_here(state, record))
    return Answer(0, promoted_words(now))


def _promote_here(state: Path, record: Record) -> Record:
    root = open_root(record)
    try:
        return promote_closed(state, record, root)
    finally:
        os.close(root)

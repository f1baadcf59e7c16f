"""``netsync ls``: the modules of a server, or the entries of a path."""

from __future__ import annotations

import datetime
import functools
import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from netsync.cli.options import connection_options
from netsync.cli.report import put
from netsync.cli.run import run_until_signal
from netsync.errors import TEXT_MAX, UsageError
from netsync.identity.directory import default_directory
from netsync.model import Entry, Kind
from netsync.modes.address import Remote, parse_address
from netsync.modes.listing import list_remote
from netsync.modes.session import Connection
from netsync.names import as_text, one_line, shown
from netsync.wire.messages import ModuleInfo

_TYPES = {
    Kind.FILE: "-", Kind.DIRECTORY: "d", Kind.SYMLINK: "l", Kind.FIFO: "p",
    Kind.SOCKET: "s", Kind.CHARACTER: "c", Kind.BLOCK: "b",
}  # fmt: skip


@click.command()
@click.argument("remote")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@connection_options
def ls(
    remote: str, as_json: bool, timeout: float, connect_timeout: float, identity: Path | None
) -> None:
    """List the modules of a server (HOST::) or the entries of a path in one."""
    address = parse_address(remote)
    if not isinstance(address, Remote):
        raise UsageError("not a remote address", op="list", where=remote,
                         hint="write HOST:: or HOST::MODULE/PATH")  # fmt: skip
    connection = Connection(identity or default_directory(), connect_timeout, timeout)
    show = functools.partial(_show, as_json=as_json)
    run_until_signal(functools.partial(list_remote, address, connection, show))


def _show(found: Sequence[Entry | ModuleInfo], *, as_json: bool) -> None:
    for each in found:
        if isinstance(each, ModuleInfo):
            row: dict[str, Any] = {"module": each.name, "rights": each.rights}
            put(json.dumps(row) if as_json else _module(each))
        else:
            put(json.dumps(_object(each)) if as_json else _line(each))


def _module(found: ModuleInfo) -> str:
    return one_line(f"{found.name} {','.join(found.rights)}", TEXT_MAX)


def _line(entry: Entry) -> str:
    moment = _time(entry).strftime("%Y-%m-%dT%H:%M:%S")
    arrow = f" -> {shown(entry.target)}" if entry.kind is Kind.SYMLINK else ""
    mode = stat.filemode(entry.mode)[1:]
    return f"{_TYPES[entry.kind]} {mode} {entry.size:>12} {moment} {shown(entry.name)}{arrow}"


def _object(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": as_text(entry.name),
        "type": entry.kind.name.lower(),
        "mode": f"{entry.mode:04o}",
        "size": entry.size,
        "mtime_ns": entry.mtime_ns,
    }
    if entry.kind is Kind.SYMLINK:
        row["target"] = as_text(entry.target)
    return row


def _time(entry: Entry) -> datetime.datetime:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    try:
        return (epoch + datetime.timedelta(microseconds=entry.mtime_ns // 1000)).astimezone()
    except OverflowError:
        return epoch

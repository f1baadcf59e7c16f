"""The options that delete, and those that keep deletes from surprising."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import Any, Final

import click

from netsync.cli.values import Limit
from netsync.errors import UsageError
from netsync.names import is_inside


def _flag(name: str, text: str) -> Any:
    return click.option(name, is_flag=True, help=text)


DELETION: Final = [
    _flag("--delete", "Delete on the target what the source does not have."),
    _flag("--delete-before", "Delete before any data comes, for a target too full for both."),
    _flag("--delete-excluded", "Delete excluded files on the target too."),
    click.option("--max-delete", type=Limit(), metavar="N|N%", help="Delete no more, or nothing."),
    _flag("--allow-empty-source", "Let --delete empty the target if the source is empty."),
    _flag("--accept-new-source", "Take another source than the last time for the right one."),
    click.option("--backup-dir", metavar="DIR", help="Move what goes there, inside DEST."),
    click.option(
        "--state",
        type=click.Path(path_type=Path),
        envvar="NETSYNC_STATE",
        help="Directory that remembers the sources of the last runs.",
    ),
]


def deletion_from(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``Options`` that these options make. Raises ``UsageError``."""
    return {
        "delete": given["delete"] or given["delete_before"] or given["delete_excluded"],
        "delete_before": given["delete_before"],
        "delete_excluded": given["delete_excluded"],
        "max_delete": given["max_delete"],
        "allow_empty_source": given["allow_empty_source"],
        "accept_new_source": given["accept_new_source"],
        "backup_dir": _backup_dir(given["backup_dir"]),
    }


def _backup_dir(text: str | None) -> bytes:
    if text is None:
        return b""
    path = posixpath.normpath(os.fsencode(text)) if text else b""
    if not is_inside(path):
        raise UsageError(
            "is not a path inside the destination",
            op="read --backup-dir",
            where=text,
            hint="give it relative to DEST, like --backup-dir .old",
        )
    return path

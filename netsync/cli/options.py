"""The options of push and pull, and what they mean as one ``Options`` value."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from netsync.cli.deletion import DELETION, deletion_from
from netsync.cli.selection import ordered_rules, paths_from, rules_from
from netsync.cli.values import Duration, Size
from netsync.delta.signature import BLOCK_FREE, BLOCK_MIN, is_block_size
from netsync.errors import UsageError
from netsync.model import COMPRESSION_LEVELS, SIZE_MAX, IdRule, Keep, Options
from netsync.plan.chmod import parse_chmod
from netsync.plan.ownership import parse_chown, parse_map
from netsync.tree.capability import capability

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Value = TypeVar("Value")

_AUTO_LEVEL: Final = 1
"""zstd level of ``-z``: fast enough not to be the brake on a gigabit link."""
_KEPT: Final = (
    "links", "perms", "owner", "group", "times", "devices", "hard_links", "xattrs",
    "acls", "sparse",
)  # fmt: skip


_WORDS: Final = tuple(name.replace("_", "-") for name in _KEPT)


class TransferCommand(click.Command):
    """A command that keeps ``--exclude`` and its like in the order they were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ordered_rules(args))


def _flag(*names: str, help: str = "", **more: Any) -> Callable[[Decorated], Decorated]:  # noqa: A002 - click's name
    return click.option(*names, is_flag=True, help=help, **more)


_TRANSFER: Final = [
    click.option("--exclude", metavar="P", expose_value=False, help="Leave out what matches P."),
    click.option("--include", metavar="P", expose_value=False, help="Keep what matches P."),
    click.option(
        "--exclude-from", metavar="F", expose_value=False, help="Rules from a file like .gitignore."
    ),
    click.option("--rule", "rules", multiple=True, hidden=True),
    click.option("--files-from", metavar="F", help="Only the paths that F lists (- for stdin)."),
    _flag("--from0", help="The list's paths end with NULs, not lines."),
    click.option("--max-size", type=Size(), metavar="S", help="Leave out files larger than S."),
    click.option("--min-size", type=Size(), default=0, metavar="S", help="... smaller than S."),
    _flag("-x", "--one-file-system", help="Do not enter other file systems."),
    _flag("-L", "--copy-links", help="Send what symbolic links lead to."),
    _flag("--safe-links", help="Leave out links that lead out of the tree."),
    _flag("--existing", help="Create nothing new on the target."),
    _flag("--ignore-existing", help="Change nothing that exists on the target."),
    _flag("-u", "--update", help="Leave files that are newer on the target."),
    _flag("-c", "--checksum", help="Compare content, not size and time."),
    _flag("--size-only", help="Compare size only."),
    _flag("-I", "--ignore-times", help="Transfer files even if size and time match."),
    click.option(
        "--modify-window", type=Duration(zero=True), help="Times this near count as equal."
    ),
    click.option(
        "--changing",
        type=click.Choice(["skip", "publish"]),
        default="skip",
        help="What becomes of a file that changes whenever it is read.",
    ),
    *(_flag(f"--no-{word}", help=f"Do not keep {word}.") for word in _WORDS[:-1]),
    _flag("--no-sparse", help="Do not keep holes: write them as zeros."),
    _flag("--numeric-ids", help="Keep numbers of owners and groups, not names."),
    click.option("--usermap", default="", metavar="FROM:TO,...", help="Give users other names."),
    click.option("--groupmap", default="", metavar="FROM:TO,...", help="Give groups other names."),
    click.option("--chown", default="", metavar="USER:GROUP", help="Give all to USER and GROUP."),
    click.option("--chmod", default="", metavar="CHANGES", help="Change modes: Du=rwx,Fgo-w,+X."),
    _flag("--store-metadata", help="Keep beside an entry what the target may not set."),
    click.option("--stored-by", default="", metavar="USER", help="Believe what USER stored."),
    *DELETION,
    _flag("--inplace", help="Write files where they are (not crash-safe)."),
    _flag("--atomic", help="Publish the whole run at its end, or nothing of it."),
    _flag("-W", "--whole-file", help="Send files whole, without deltas."),
    click.option("--block-size", type=Size(), default=0, help="Bytes of a delta block."),
    _flag("--no-fsync", help="Do not wait until the target's disk has everything."),
    click.option("--bwlimit", type=Size(), default=0, metavar="RATE", help="Bytes per second."),
    _flag("-z", "compress_flag", help="Compress file data."),
    click.option("--compress", metavar="off|auto|LEVEL", help="Compress file data."),
    _flag("-n", "--dry-run", help="Change nothing, show what would be done."),
    _flag("-i", "--itemize-changes", help="Print a line for each change."),
    _flag("-v", "--verbose", help="Print a line for each change, and statistics."),
    _flag("-q", "--quiet", help="Print nothing but errors."),
    click.option("--progress/--no-progress", default=None, help="Show progress on stderr."),
    _flag("-P", "progress_flag", hidden=True),
    _flag("--stats", help="Print statistics."),
    _flag("--json", "as_json", help="Print one JSON object on stdout, last."),
]
_FOR_RSYNC: Final = [
    ("-a", "--archive"), ("-r", "--recursive"), ("-l", "--links"), ("-p", "--perms"),
    ("-t", "--times"), ("-g", "--group"), ("-o", "--owner"), ("-D", "--devices"),
    ("-h", "--human-readable"), ("--partial",), ("-H", "--hard-links"),
    ("-A", "--acls"), ("-X", "--xattrs"), ("-S", "--sparse"),
]  # fmt: skip
_CONNECTION: Final = [
    click.option("--timeout", type=Duration(), default=30.0, help="Seconds of silence allowed."),
    click.option("--connect-timeout", type=Duration(), default=10.0, help="Seconds to connect."),
    click.option(
        "--identity",
        type=click.Path(path_type=Path),
        envvar="NETSYNC_IDENTITY",
        help="Directory with ca.pem, cert.pem and key.pem.",
    ),
]


_RETRIES: Final = click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Go on after a lost connection, up to N times in a row without progress.",
)


def retry_option(command: Decorated) -> Decorated:
    """Add ``--retries`` to ``command``."""
    return _RETRIES(command)


def transfer_options(command: Decorated) -> Decorated:
    """Add the options of a transfer to ``command``."""
    for names in reversed(_FOR_RSYNC):
        command = _flag(*names, expose_value=False, hidden=True)(command)
    for option in reversed(_TRANSFER):
        command = option(command)
    return command


def connection_options(command: Decorated) -> Decorated:
    """Add the options of a connection to ``command``."""
    for option in reversed(_CONNECTION):
        command = option(command)
    return command


def options_from(given: dict[str, Any], *, local: bool) -> Options:
    """Return the transfer's options. A local copy sends files whole, as rsync's does."""
    block_size = given["block_size"]
    if block_size and not is_block_size(block_size):
        raise UsageError(
            f"--block-size {block_size} is not a power of two from {BLOCK_MIN} to {BLOCK_FREE}"
        )
    usermap, groupmap = _ownership(given)
    options = Options(
        rules=rules_from(given["rules"]),
        paths=paths_from(given),
        max_size=None if given["max_size"] is None else min(given["max_size"], SIZE_MAX),
        min_size=min(given["min_size"], SIZE_MAX),
        one_file_system=given["one_file_system"],
        copy_links=given["copy_links"],
        safe_links=given["safe_links"],
        changing=given["changing"],
        keep=Keep(**{name: not given[f"no_{name}"] for name in _KEPT}),
        numeric_ids=given["numeric_ids"],
        usermap=usermap,
        groupmap=groupmap,
        store_metadata=given["store_metadata"],
        stored_by=_stored_by(given),
        chmod=_asked("chmod", given, lambda text: parse_chmod(text, capability().umask)),
        checksum=given["checksum"],
        size_only=given["size_only"],
        ignore_times=given["ignore_times"],
        modify_window=int((given["modify_window"] or 0) * 1_000_000_000),
        existing=given["existing"],
        ignore_existing=given["ignore_existing"],
        update=given["update"],
        **deletion_from(given),
        dry_run=given["dry_run"],
        itemize=given["itemize_changes"] or given["verbose"],
        inplace=given["inplace"],
        atomic=given["atomic"],
        whole_file=given["whole_file"] or (local and not given["inplace"]),
        block_size=block_size,
        fsync=not given["no_fsync"],
        compress=_compression(given["compress"], flag=given["compress_flag"]),
        rate=given["bwlimit"],
    )
    if contradiction := options.contradiction():
        raise UsageError(contradiction)
    return options


def _stored_by(given: dict[str, Any]) -> bytes:
    """Return whose stored metadata are believed beside our own."""
    if given["stored_by"] and not given["store_metadata"]:
        raise UsageError("--stored-by needs --store-metadata")
    return os.fsencode(given["stored_by"])


def _asked(
    name: str, given: dict[str, Any], parse: Callable[[str], tuple[Value, ...]]
) -> tuple[Value, ...]:
    """Return what an option's text means, nothing where it was not given."""
    text = given[name]
    try:
        return parse(text) if text else ()
    except ValueError as error:
        raise UsageError(str(error), op="read", where=f"--{name} {text}") from error


def _ownership(given: dict[str, Any]) -> tuple[tuple[IdRule, ...], tuple[IdRule, ...]]:
    """Return the rules for users and groups; ``--chown`` is a map of all to one."""
    usermap = _asked("usermap", given, parse_map)
    groupmap = _asked("groupmap", given, parse_map)
    chown = _asked("chown", given, parse_chown)
    if not chown:
        return usermap, groupmap
    users, groups = chown
    if (users and usermap) or (groups and groupmap):
        raise UsageError("--chown and --usermap or --groupmap contradict each other")
    return users or usermap, groups or groupmap


def _compression(text: str | None, *, flag: bool) -> int:
    """Return the zstd level that was asked for; 0 is none."""
    if text is None:
        return _AUTO_LEVEL if flag else 0
    if text in ("off", "auto"):
        return _AUTO_LEVEL if text == "auto" else 0
    lowest, highest = COMPRESSION_LEVELS
    if not text.isdecimal() or not lowest <= int(text) <= highest:
        raise UsageError(f"--compress {text}: give off, auto or a level from 1 to {highest}")
    return int(text)

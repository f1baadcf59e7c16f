"""The deletion guards: when a run must hold its deletes back, and what it says then.

A tree that is not there looks like a tree whose files were deleted. So before the first deletion,
when the whole listing is known, four questions are asked: does the source list anything at all,
is it the directory it was the last time, would anything go where a file system was mounted then and
is not now, and is what would go more than somebody allowed? Any of them holds every deletion and
every replacement of a directory that is not empty; what is created and updated stays. Pure: the
target counts and remembers, and asks here.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from typing import Final, NamedTuple

from netsync.model import DeleteLimit, Options, Origin
from netsync.names import shown

CLIENTS_LIMIT: Final = "--max-delete"
MODULES_LIMIT: Final = "the module's max_delete"
_HINTS: Final = {
    CLIENTS_LIMIT: "-n -i with a higher limit shows them",
    MODULES_LIMIT: "the server's administrator can raise it",
}
"""Whose limit it is, and how to go on."""
NOTHING_DELETED: Final = "nothing was deleted"
_LIMIT: Final = re.compile(r"(?P<amount>\d{1,18})(?P<percent>%?)", re.ASCII)


class Changes(NamedTuple):
    """What a limit on the changes of a watch refers to.

    ``entries`` are those of the whole tree, as the last comparison of it found them (0 where
    there was none), ``deleted`` those that changes have taken away lately.
    Where these were ``held``, they count against a comparison of the whole as well: what is left
    of a deleted tree does not pass because a part of it has gone already.
    """

    entries: int
    deleted: int
    held: bool = False


NO_CHANGES: Final = Changes(0, 0)


def parse_limit(text: str) -> DeleteLimit:
    """Return the limit that ``100`` or ``30%`` stands for. Raises ``ValueError``."""
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is neither a number of entries nor a percentage (like 30%)")
    limit = DeleteLimit(int(match["amount"]), bool(match["percent"]))
    if limit.percent and limit.amount > 100:
        raise ValueError(f"{text!r} is more than all")
    return limit


def limit_text(limit: DeleteLimit) -> str:
    """Return ``limit`` as a user writes it."""
    return f"{limit.amount}{'%' if limit.percent else ''}"


def most_deletions(limit: DeleteLimit, listed: int) -> int | None:
    """Return how many entries may go where ``listed`` others stay; None if any number may.

    A percentage is of all entries in scope, of those that stay and those that go.
    """
    if not limit.percent:
        return limit.amount
    if limit.amount >= 100:
        return None
    return limit.amount * listed // (100 - limit.amount)


def most_of_changes(limit: DeleteLimit, changes: Changes) -> int | None:
    """Return how many entries may go because they are gone from a source that is watched.

    What went lately for the same reason counts: a tree that is deleted arrives in many transfers.
    """
    if not limit.percent:
        return max(0, limit.amount - changes.deleted)
    if limit.amount >= 100:
        return None
    return max(0, limit.amount * changes.entries // 100 - changes.deleted)


def strictest(
    limits: Sequence[tuple[str, DeleteLimit]], listed: int, changes: Changes | None = None
) -> tuple[str, DeleteLimit, int] | None:
    """Return, of named limits, the one that allows fewest deletions, and how many it allows.

    With ``changes`` a transfer is about these only.
    """
    allowed = [
        (
            name,
            limit,
            most_deletions(limit, listed) if changes is None else most_of_changes(limit, changes),
        )
        for name, limit in limits
    ]
    bounded = [(name, limit, most) for name, limit, most in allowed if most is not None]
    return min(bounded, key=lambda each: each[2], default=None)


def is_same(remembered: Origin, offered: Origin) -> bool:
    """Tell whether two origins are one directory.

    The UUID counts where both have one: f_fsid may hold a device number, which changes with the
    order in which disks are found.
    """
    if remembered.inode != offered.inode:
        return False
    if remembered.uuid and offered.uuid:
        return remembered.uuid == offered.uuid
    return remembered.file_system == offered.file_system


def missing(remembered: Iterable[Origin], offered: Sequence[Origin]) -> list[Origin]:
    """Return the origins that are remembered and not offered, under names that are offered.

    A name that was never met is a first contact; one that gains a second directory lost nothing.
    """
    names = {origin.listed for origin in offered}
    return [
        old
        for old in remembered
        if old.listed in names
        and not any(old.listed == new.listed and is_same(old, new) for new in offered)
    ]


def is_mount(origin: Origin) -> bool:
    """Tell whether an origin is a file system mounted in the source, and not a source itself."""
    return origin.listed.endswith(b"/")


def mount_above(path: bytes, mounts: Container[bytes]) -> bytes | None:
    """Return the outermost of ``mounts``, paths with a slash at their end, that ``path`` is in."""
    end = path.find(b"/")
    while end >= 0:
        if path[: end + 1] in mounts:
            return path[: end + 1]
        end = path.find(b"/", end + 1)
    return None


def words_for_empty(path: bytes, options: Options) -> str:
    """Return why a source that lists nothing holds the run, or nothing if it does not."""
    if options.allow_empty_source:
        return ""
    where = f" for {shown(path)}" if path else ""
    return (
        f"the source has no entries{where} while the target has some"
        " (is it mounted? --allow-empty-source deletes them)"
    )


def words_for_other(path: bytes, options: Options) -> str:
    """Return why another source than the last time holds the run, or nothing if it does not."""
    if options.accept_new_source:
        return ""
    where = f" for {shown(path)}" if path else ""
    return (
        f"the source{where} is another directory or file system than the last time"
        " (is it mounted? --accept-new-source accepts and remembers it)"
    )


def words_for_unmounted(mount: bytes) -> str:
    """Return why a file system that was unmounted inside the source holds the run."""
    return (
        f"a file system was mounted at {shown(mount.rstrip(b'/'))} in the source the last time and "
        "is not now (mount it; --accept-new-source accepts that it is gone)"
    )


def words_for_many(name: str, limit: DeleteLimit, most: int) -> str:
    """Return why too many deletions hold the run; ``name`` says whose ``limit`` it is."""
    entries = "entry" if most == 1 else "entries"
    return (
        f"more than {most} {entries} would go, and {name} {limit_text(limit)} allows no more"
        f" ({_HINTS[name]})"
    )


def sentence(reasons: Iterable[str]) -> str:
    """Return the one sentence for a run that is held for ``reasons``; empty without any."""
    given = [reason for reason in reasons if reason]
    return f"{NOTHING_DELETED}: {'; '.join(given)}" if given else ""

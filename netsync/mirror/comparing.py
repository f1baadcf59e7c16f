"""Making a standby equal before the log goes on: an ordinary push, on the session of the mirror.

Owners go by number, as they do in operations. What the standby has is kept until all of the new is
there, if it is a whole copy. Whatever goes wrong for one path is trouble for the mirror: a copy
that is equal but for one file is none.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from netsync.errors import RootError
from netsync.model import PATHS_MAX, Options, Report
from netsync.modes.copy import ask_to_push
from netsync.modes.outcome import Outcome, outcome_of
from netsync.names import is_reserved, shown
from netsync.net.channel import Channel
from netsync.state.verified import VerifiedFiles
from netsync.transfer.source import send_tree
from netsync.transfer.tally import Unobserved
from netsync.tree.roots import local_anchor, open_sources
from netsync.wire.messages import Place
from netsync.wire.selection import SELECTED_BYTES_MAX


@dataclass(frozen=True)
class Comparison:
    """What is compared: the directory ``source`` with ``place``.

    ``atomic`` keeps the old copy until the new one is whole. ``state`` is where it is kept what has
    rotted here, which is sent to nobody. ``written`` are paths below the source whose content is
    compared byte by byte, of directories that of all below them (None: of all). ``adopt`` takes an
    empty or another source for meant.
    """

    source: bytes
    place: Place
    atomic: bool
    state: Path
    written: Sequence[bytes] | None = ()
    adopt: bool = False

    @property
    def options(self) -> Options:
        """The options of the push that compares everything by size and time."""
        return Options(
            delete=True,
            numeric_ids=True,
            atomic=self.atomic,
            checksum=self.written is None,
            allow_empty_source=self.adopt,
            accept_new_source=self.adopt,
        )


async def compare(channel: Channel, comparison: Comparison) -> list[Report]:
    """Make the standby's copy equal. Raises ``NetsyncError`` if it is not, whatever the reason."""
    reports = [await _push(channel, comparison, comparison.options)]
    if comparison.written:
        there = await trio.to_thread.run_sync(_found, comparison.source, comparison.written)
        if there:
            paths = tuple(there) if _fit(there) else None
            again = Options(numeric_ids=True, checksum=True, paths=paths, atomic=comparison.atomic)
            reports.append(await _push(channel, comparison, again))
    return reports


def _fit(paths: Sequence[bytes]) -> bool:
    """Tell whether a transfer may be restricted to ``paths``; with more, all is compared."""
    return len(paths) <= PATHS_MAX and sum(map(len, paths)) <= SELECTED_BYTES_MAX


def _found(source: bytes, paths: Iterable[bytes]) -> list[bytes]:
    """Return those of ``paths`` that are still there: others are settled already.

    A directory's name was noted since it was renamed, perhaps with files in it that had been
    written before; so it stands for all below it.
    """
    found: set[bytes] = set()
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(source + b"/" + path, follow_symlinks=False)
            found.add(path)
            if stat.S_ISDIR(status.st_mode) and path + b"/" not in found:
                found.update(_directories(source, path))
    return sorted(found)


def _directories(source: bytes, path: bytes) -> Iterator[bytes]:
    """Yield the directory ``path`` and all below it, each as what stands for its entries."""
    top = source + b"/"
    for directory, inner, _ in os.walk(top + path):  # what it cannot read the push will tell
        yield directory[len(top) :] + b"/"
        inner[:] = [name for name in inner if not is_reserved(name)]


async def _push(channel: Channel, comparison: Comparison, options: Options) -> Report:
    source = comparison.source.rstrip(b"/") + b"/"
    with contextlib.ExitStack() as stack:
        anchor = stack.enter_context(local_anchor())
        roots, problems = open_sources([(anchor, source, b"")], stack)
        memory = VerifiedFiles(comparison.state)
        await ask_to_push(channel, comparison.place, options)
        report = await send_tree(channel, roots, options, Unobserved(), problems, memory)
    if outcome_of(report) is not Outcome.OK:
        raise RootError(
            _why(report),
            op="compare with the standby",
            where=source,
            hint="mend that and start again; netsync push to a scratch place tells every path",
        )
    return report


def _why(report: Report) -> str:
    if report.held:
        return report.held
    first = report.problems[0]
    others = report.files.failed - 1
    more = f", and {others} more" if others > 0 else ""
    return f"{first.op} {shown(first.path)}: {first.error}{more}"

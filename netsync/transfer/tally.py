"""Counting what a transfer does, for the report and for whoever watches.

Each worker counts in a ``Tally`` of its own, so that threads never share a counter; the report
is their sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from msgspec import Struct, field

from netsync.errors import reason
from netsync.model import Bytes, Cause, Change, Files, Item, Problem
from netsync.names import join
from netsync.plan.differing import ROT
from netsync.transfer.ledger import Ledger
from netsync.tree.xattrs import Refusal

PROBLEMS_MAX: Final = 1000
"""Problems kept word for word; more are counted. Bounds memory on a tree nobody may read."""
PROBLEM_BYTES_MAX: Final = 128 * 1024
"""Bytes of problems a report carries, so that it fits a frame."""

_COUNTER_OF: Final = {
    Change.CREATED: "created",
    Change.UPDATED: "updated",
    Change.METADATA: "metadata",
    Change.DELETED: "deleted",
    Change.FAILED: "failed",
}
LASTING: Final = frozenset({Change.CREATED, Change.UPDATED, Change.METADATA})
"""Changes that a later attempt of the same run finds made."""


class Tally(Struct):
    """Counters of one worker. ``itemize`` keeps the itemized lines until they are taken.

    ``ledger`` knows what earlier attempts of the same run did, where there may be some.
    """

    itemize: bool = False
    considered: int = 0
    created: int = 0
    updated: int = 0
    metadata: int = 0
    deleted: int = 0
    unchanged: int = 0
    failed: int = 0
    total: int = 0
    literal: int = 0
    matched: int = 0
    settled: int = 0
    problems: list[Problem] = field(default_factory=list)
    problems_omitted: int = 0
    notices: dict[str, None] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    ledger: Ledger | None = None
    noted: list[tuple[Change, bytes]] = field(default_factory=list)
    noted_bytes: tuple[int, int] = (0, 0)

    def begin_with(self, ledger: Ledger) -> None:
        """Count what earlier attempts of this run did that this one does not meet again."""
        self.deleted = ledger.deleted
        self.literal, self.matched = self.noted_bytes = ledger.literal, ledger.matched

    def change(
        self,
        change: Change,
        path: bytes,
        *,
        directory: bool = False,
        cause: Cause = Cause.NONE,
    ) -> None:
        """Count one changed path, and itemize it."""
        if self.ledger is not None:
            change = self._as_first(change, path)
        self._count(change)
        if self.itemize:
            self.items.append(Item(change, path, directory, cause))

    def _count(self, change: Change, count: int = 1) -> None:
        counter = _COUNTER_OF[change]
        setattr(self, counter, getattr(self, counter) + count)

    def _as_first(self, change: Change, path: bytes) -> Change:
        """Return what the run did to ``path``: what its first attempt did that got so far."""
        assert self.ledger is not None
        earlier = self.ledger.earlier(path) if change in LASTING else None
        if earlier is None:
            self.noted.append((change, path))
        return earlier or change

    def same(self, path: bytes, *, directory: bool = False) -> None:
        """Count one path that is as it should be: since before this run, or by its work."""
        if self.ledger is not None and (earlier := self.ledger.earlier(path)) is not None:
            self.change(earlier, path, directory=directory)
        else:
            self.unchanged += 1

    def note(self) -> None:
        """Write down for later attempts of this run what was counted since the last time."""
        if self.ledger is None or not self.ledger.is_kept:
            return
        changes, self.noted = self.noted, []
        before, self.noted_bytes = self.noted_bytes, (self.literal, self.matched)
        self.ledger.note(changes, self.literal - before[0], self.matched - before[1])

    def landed(self, files: Sequence[tuple[Change, bytes, bytes]]) -> None:
        """Count published files like ``change``; most transfers have no use for their paths.

        Each is a change, a directory and a name in it.
        """
        if self.itemize or self.ledger is not None:
            for change, directory, name in files:
                self.change(change, join(directory, name))
        else:
            for change, count in Counter([each[0] for each in files]).items():
                self._count(change, count)

    def landed_new(self, directory: bytes, names: Sequence[bytes]) -> None:
        """Count published files that are all new, in one directory, like ``landed``."""
        if self.itemize or self.ledger is not None:
            self.landed([(Change.CREATED, directory, name) for name in names])
        else:
            self._count(Change.CREATED, len(names))

    def found_equal(self, entries: int, size: int) -> None:
        """Count entries that are as they should be, with ``size`` bytes of files."""
        self.considered += entries
        self.unchanged += entries
        self.total += size
        self.settled += size

    def fail(self, path: bytes, op: str, error: OSError | str, *, directory: bool = False) -> None:
        """Count a listed entry that could not be brought about, with its problem."""
        self.change(Change.FAILED, path, directory=directory)
        words = error if isinstance(error, str) else reason(error)
        self.problem(Problem(path, op, words))

    def refused(self, path: bytes, refusals: Sequence[Refusal]) -> None:
        """Note what of an entry's metadata was refused; the entry is there all the same."""
        for refusal in refusals:
            self.problem(Problem(path, refusal.op, reason(refusal.error)))

    def problem(self, problem: Problem) -> None:
        """Keep a problem, or count it when there are too many."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)
        else:
            self.problems_omitted += 1

    def notice(self, words: str) -> None:
        """Keep one sentence the user should read; said once however often it happens."""
        self.notices[words] = None

    def void(self) -> None:
        """Count nothing as changed: what was prepared is not published."""
        self.unchanged += self.created + self.updated + self.metadata
        self.created = self.updated = self.metadata = self.deleted = 0

    @property
    def has_trouble(self) -> bool:
        """Tell whether anything went wrong. A file that rotted was kept back, which is right."""
        wrong = any(problem.op != ROT for problem in self.problems)
        return bool(wrong or self.problems_omitted or self.failed)

    def take_items(self) -> list[Item]:
        """Return the itemized lines since the last call."""
        items, self.items = self.items, []
        return items


def total_files(tallies: Iterable[Tally]) -> Files:
    """Return the sums of the entry counters."""
    sums = dict.fromkeys(Files.__struct_fields__, 0)
    for tally in tallies:
        for name in sums:
            sums[name] += getattr(tally, name)
    return Files(**sums)


def total_bytes(tallies: Iterable[Tally]) -> Bytes:
    """Return the sums of the byte counters; the wire is not a tally's business."""
    total = literal = matched = 0
    for tally in tallies:
        total += tally.total
        literal += tally.literal
        matched += tally.matched
    return Bytes(total=total, literal=literal, matched=matched)


def kept_problems(tallies: Iterable[Tally]) -> tuple[tuple[Problem, ...], int]:
    """Return the problems that fit a report, and how many do not."""
    kept: list[Problem] = []
    omitted = size = 0
    for tally in tallies:
        omitted += tally.problems_omitted
        for problem in tally.problems:
            size += len(problem.path) + 4 * (len(problem.op) + len(problem.error)) + 16
            if size > PROBLEM_BYTES_MAX or len(kept) >= PROBLEMS_MAX:
                omitted += 1
            else:
                kept.append(problem)
    return tuple(kept), omitted


class Observer(Protocol):
    """Who watches a transfer on the side that runs the command; called on the trio thread."""

    def listed(self, files: int, size: int, *, complete: bool) -> None:
        """So many entries and bytes of regular files are known so far."""

    def settled(self, size: int) -> None:
        """So many more bytes of regular files are as they should be, or given up."""

    def under_way(self, size: int) -> None:
        """So many bytes of the large file under way have gone over; 0 when there is none."""

    def items(self, items: Sequence[Item]) -> None:
        """These itemized lines are final."""


class Unobserved:
    """The observer of those who do not watch."""

    def listed(self, files: int, size: int, *, complete: bool) -> None:
        """Ignore it."""

    def settled(self, size: int) -> None:
        """Ignore it."""

    def under_way(self, size: int) -> None:
        """Ignore it."""

    def items(self, items: Sequence[Item]) -> None:
        """Ignore them."""

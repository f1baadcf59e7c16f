"""What a watch owes its standby: dirty paths, a look at the whole, and up to when it owes nothing.

``until`` is the moment up to which all that was written is durable at the standby. It is claimed
only by ``settle``, from three things: the beginning of the last drain of the kernel's queue, the
oldest thing owed, and for directories that cannot be watched the last look into them. Times are of
the runner's steady clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import trio

from netsync.model import MOVES_MAX, Move
from netsync.plan.dirty import Dirty, DirtyPaths, parents_of

HEARD_SECONDS: Final = 0.25
"""How long a change may have waited in the kernel before it was heard, on a busy machine."""
_SEARCHED_MAX: Final = 4096
"""Dirty paths among which those below a moved directory are searched for; beyond, the directory is
owed since before all of them."""
_WHOLE: Final = b""
"""The path under which a look at the whole is in the journal."""


class Bell:
    """Wakes one waiting task; rung while nobody waits, it wakes the next who does."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Wake who waits."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until rung since this returned the last time."""
        await self._event.wait()
        self._event = trio.Event()


class Look(NamedTuple):
    """A look at the whole that was begun ``at`` a moment, and why."""

    at: float
    why: str


class Owing:
    """The account of one watch. ``steady`` is its clock, ``bell`` rings when something is owed.

    ``drained`` is when the last drain began; ``blind`` up to when the directories that have no
    watch were looked into (None: there are none); ``is_whole`` whether all was ever there.
    ``moves`` are directories that moved and were not told yet, as many as can be.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self.bell = Bell()
        self.dirty = DirtyPaths()
        self.until: float | None = None
        self.is_whole = False
        self.drained: float | None = None
        self.blind: float | None = None
        self.look_since: float | None = None
        self.look_at = 0.0
        self.moves: list[Move] = []
        self._steady = steady
        self._why = ""
        self._looking: float | None = None
        self._begun = Look(0.0, "")
        self._rested = 0.0
        self._saved: float | None = None

    def change(self, path: bytes, *, tree: bool, writing: bool) -> None:
        """Note that a path was heard to have changed."""
        now = self._steady()
        self.dirty.add(path, now, tree=tree, writing=writing)
        if self.drained is not None and not writing:
            self.dirty.date_back(path, max(self.drained, now - HEARD_SECONDS))
        self.bell.ring()

    def move(self, before: bytes, path: bytes, *, tree: bool) -> None:
        """Note that what ``before`` was the name of is at ``path`` now.

        It was heard to have changed there; what is owed of it is owed since it was under its old
        name, or else a claim would be made for content that went nowhere yet.
        """
        many = tree and len(self.dirty) > _SEARCHED_MAX
        if tree and len(self.moves) < MOVES_MAX:
            self.moves.append(Move(before, path))
        owed = self.until if many else self.dirty.since(before, below=tree)
        self.dirty.mark(path, came=many or self.dirty.has_come(before, below=tree), went=False)
        for since in (owed, self.look_since, self._looking):
            if since is not None:
                self.dirty.date_back(path, since)

    @property
    def looking_since(self) -> float | None:
        """Since when was owed what a look at the whole is about to settle; None if nothing was."""
        return self._looking

    def moves_in(self, batch: Iterable[Dirty]) -> tuple[Move, ...]:
        """Return the moves from what is in a batch to what is in it with all below.

        To tell any other would be to have a standby move what it is not told of any more.
        """
        batch = list(batch)
        names = {each.path for each in batch}
        trees = {each.path for each in batch if each.tree}
        return tuple(
            move
            for move in self.moves
            if (move.old in names or not trees.isdisjoint(parents_of(move.old)))
            and (move.new in trees or not trees.isdisjoint(parents_of(move.new)))
        )

    def owe_look(self, why: str, since: float | None = None, *, rests: bool = False) -> None:
        """Owe a look at the whole: something changed, and nobody knows what.

        One that ``rests`` may wait until the last one is as long ago as that took.
        """
        now = self._steady()
        since = now if since is None else since
        at = max(now, self._rested) if rests else now
        if self.look_since is None or at < self.look_at:
            self.look_at, self._why = at, why
        self.look_since = since if self.look_since is None else min(since, self.look_since)
        self.bell.ring()

    def begin_look(self) -> Look:
        """Take all that is owed: a look at the whole will settle it."""
        now = self._steady()
        taken = self.dirty.take_all()
        self.moves.clear()  # it finds content by its own means
        owed = [each.since for each in taken]
        if self.look_since is not None:
            owed.append(self.look_since)
        self._looking = min(owed, default=None)
        self._begun = Look(now, self._why if self.look_since is not None else "")
        self.look_since = None
        return self._begun

    def end_look(self, vanished: Iterable[bytes], *, rest: float) -> None:
        """The look succeeded, but for paths that were gone before they were read.

        The next that is not due by the clock rests for ``rest`` seconds.
        """
        now = self._steady()
        self.dirty.done()
        for path in vanished:
            self.dirty.add(path, now)
        self._looking = None
        self.is_whole = True
        self._rested = now + rest
        if self.blind is not None:
            self.blind = max(self.blind, self._begun.at)
        self.settle()

    def give_up_look(self, failed: Iterable[bytes] | None, *, again: float) -> None:
        """The look came to nothing, or ``failed`` for some paths: it is owed still, or again."""
        since = self._begun.at if self._looking is None else self._looking
        if failed is None:
            self.dirty.give_back(self._steady())
        else:
            self.dirty.done(failed, again=again)
        self._looking = None
        self.owe_look(self._begun.why or "the last one failed", since)
        self.look_at = again

    def owe_look_for(self, batch: Sequence[Dirty], why: str) -> None:
        """Owe a look at the whole in the place of what was taken."""
        self.owe_look(why, min(each.since for each in batch))
        self.dirty.done()

    @property
    def oldest(self) -> float | None:
        """Since when something is owed; None if nothing is."""
        owed = (self.dirty.oldest, self.look_since, self._looking)
        return min((each for each in owed if each is not None), default=None)

    def owes(self, moment: float) -> bool:
        """Tell whether anything of before ``moment`` may not be there."""
        oldest = self.oldest
        return not self.is_whole or (oldest is not None and oldest <= moment)

    @property
    def is_in_step(self) -> bool:
        """Tell whether nothing is owed, as far as is known."""
        return self.is_whole and self.oldest is None

    def settle(self) -> None:
        """Claim what can be claimed now."""
        if not self.is_whole or self.drained is None:
            return
        claims = [self.drained]
        claims += (each for each in (self.oldest, self.blind) if each is not None)
        claim = min(claims)
        self.until = claim if self.until is None else max(self.until, claim)

    def unsaved(self) -> tuple[list[Dirty], list[bytes]]:
        """Return what the journal does not have yet, and what it need not have any more."""
        kept, struck = self.dirty.unsaved()
        owed = [each for each in (self.look_since, self._looking) if each is not None]
        since = min(owed, default=None)
        if since != self._saved:
            kept = [each for each in kept if each.path or not each.tree]
            if since is not None:
                kept.append(Dirty(_WHOLE, tree=True, since=since, due=since))
                struck = [path for path in struck if path != _WHOLE]
            else:
                struck.append(_WHOLE)
            self._saved = since
        return kept, struck

    def not_saved(self, kept: Sequence[Dirty], struck: Sequence[bytes]) -> None:
        """The journal could not be written: all of that is new still."""
        self.dirty.save_again([each.path for each in kept] + list(struck))
        self._saved = None

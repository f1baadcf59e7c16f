"""The deletion guards of one run: what they are told, and what they decide.

``plan/guards.py`` knows the questions; here are the answers: the limits of client and module, the
count of what is doomed, and what the state directory remembers of the source. A state directory
that cannot be used is no reason to fail: the run says so once and that one guard is off.
Everything that blocks is called in a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from netsync.errors import StateError
from netsync.model import ORIGINS_MAX, DeleteLimit, Options, Origin
from netsync.names import is_inside
from netsync.plan import guards
from netsync.state.verified import VerifiedFiles
from netsync.transfer.dooming import Dooming
from netsync.transfer.preparing import Pending
from netsync.transfer.wanted import Doomed
from netsync.tree.directories import ABSENT, Directories
from netsync.wire.messages import Offer


class Memory(Protocol):
    """What remembers the sources of one destination; both raise ``StateError``, and block."""

    def known(self) -> list[Origin]:
        """Return what is remembered."""

    def remember(self, origins: Sequence[Origin]) -> None:
        """Let ``origins`` take the place of what was known of their names, and of all mounts."""


@dataclass(frozen=True)
class Guarding:
    """What guards a destination whatever the peer says.

    ``limit`` is the module's own ``max_delete``; ``memory`` remembers where the destination was
    filled from, ``pending`` that a run to it is committed, ``verified`` what its files were seen
    to hold; None where nothing is to be remembered. ``changes`` is what limits
    refer to where only what changed is told.
    """

    limit: DeleteLimit | None = None
    memory: Memory | None = None
    pending: Pending | None = None
    verified: VerifiedFiles | None = None
    changes: guards.Changes = guards.NO_CHANGES


UNGUARDED = Guarding()
"""Only what the options say."""


class Guards:
    """Decides once, when the whole listing is known and before the first deletion.

    ``held`` is the sentence that says why nothing may be deleted; empty if all may. ``notices``
    tell which guard is off.
    """

    def __init__(self, guarding: Guarding, options: Options, offer: Offer) -> None:
        self.held = ""
        self.notices: list[str] = []
        self._guarding = guarding
        self._options = options
        self._origins = [each for each in offer.origins if not guards.is_mount(each)]
        self._mounts: set[bytes] | None = None
        if offer.tells_mounts:
            self._mounts = _mounts_among(offer.origins)
        self._known: list[Origin] | None = None

    @property
    def verified(self) -> VerifiedFiles | None:
        """What remembers the destination's files, for a verification."""
        return self._guarding.verified if self._options.verify else None

    def decide(
        self, dooming: Dooming, here: Directories, due: Callable[[], Iterable[Doomed]]
    ) -> None:
        """Ask all guards about what is ``due``, what of ``dooming`` would be carried out now."""
        if self._options.verify:
            return  # nothing will be deleted, and everything is to be told
        self._recall()
        if not self._options.delete:
            return
        reasons = [self._other_source(), self._unmounted(due), self._many(dooming, here, due())]
        if dooming.emptied is not None:
            reasons.append(guards.words_for_empty(dooming.emptied, self._options))
        self.held = guards.sentence(reasons)

    def remember(self, here: Directories, *, listed: bool) -> None:
        """Remember the sources of a run that did what it should; ``listed`` anything at all.

        Another source than the remembered one is taken only where that was asked for, and what was
        mounted in it is forgotten only then, or when there is no such directory ``here`` any more.
        """
        if self._known is None or self.held or self._options.dry_run or not self._origins:
            return
        if not listed and not self._options.allow_empty_source:
            return
        lost = guards.missing(self._known, self._origins)
        if lost and not self._options.accept_new_source:
            return
        before = _mounts_among(self._known)
        mounts = self._mounts_to_remember(before, here)
        if not lost and mounts == before and all(each in self._known for each in self._origins):
            return
        assert self._guarding.memory is not None
        told = [*self._origins, *(Origin(path, 0, 0) for path in sorted(mounts))]
        try:
            self._guarding.memory.remember(told[:ORIGINS_MAX])
        except StateError as error:
            self._without_memory(error)

    def _mounts_to_remember(self, before: set[bytes], here: Directories) -> set[bytes]:
        """Return what is mounted in the source, and what was and is not now."""
        if self._mounts is None or self._options.changes:
            return before
        kept = set() if self._options.accept_new_source else before - self._mounts
        return self._mounts | {path for path in kept if _is_there(here, path)}

    def _recall(self) -> None:
        memory = self._guarding.memory
        if memory is None:
            return
        try:
            self._known = memory.known()
        except StateError as error:
            self._without_memory(error)

    def _without_memory(self, error: StateError) -> None:
        if self._options.delete:
            self.notices.append(
                f"{error}: another source than the last time will not be noticed"
                " (give the target's --state a directory that can be written)"
            )

    def _other_source(self) -> str:
        for origin in guards.missing(self._known or [], self._origins):
            return guards.words_for_other(origin.listed, self._options)
        return ""

    def _unmounted(self, due: Callable[[], Iterable[Doomed]]) -> str:
        """Return why nothing may go, if any of it is where a file system was mounted."""
        if self._mounts is None or self._options.accept_new_source:
            return ""
        gone = _mounts_among(self._known or []) - self._mounts
        above = (guards.mount_above(each.path, gone) for each in due()) if gone else ()
        mount = next((each for each in above if each is not None), None)
        return "" if mount is None else guards.words_for_unmounted(mount)

    def _many(self, dooming: Dooming, here: Directories, records: Iterable[Doomed]) -> str:
        limits = [
            (name, limit)
            for name, limit in (
                (guards.CLIENTS_LIMIT, self._options.max_delete),
                (guards.MODULES_LIMIT, self._guarding.limit),
            )
            if limit is not None
        ]
        changes = self._guarding.changes
        only = changes if self._options.changes else None
        strictest = guards.strictest(limits, dooming.listed, only)
        if strictest is None:
            return ""
        name, limit, most = strictest
        if changes.held and not only:
            most = max(0, most - changes.deleted)
        if dooming.count(here, records, most) <= most:
            return ""
        return guards.words_for_many(name, limit, most)


def _mounts_among(origins: Iterable[Origin]) -> set[bytes]:
    """Return the paths of mounts, but for those that no source can have: they are opened here."""
    mounts = {each.listed for each in origins if guards.is_mount(each)}
    return {path for path in mounts if is_inside(path[:-1])}


def _is_there(here: Directories, path: bytes) -> bool:
    """Tell whether there is a directory, or whether that cannot be known."""
    try:
        here.fd(path[:-1])
    except OSError as error:
        return error.errno not in ABSENT
    return True

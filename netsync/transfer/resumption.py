"""What a transfer takes over from runs and attempts before it: what they have committed and not
carried out, their partials, and their counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from netsync.model import Options
from netsync.transfer.destination import Destination
from netsync.transfer.ledger import Ledger
from netsync.transfer.preparing import Pending, Preparation
from netsync.transfer.staging import partial_of
from netsync.transfer.tally import Tally
from netsync.transfer.wanted import Wanted
from netsync.tree.large_files import Stage
from netsync.tree.publication import Recovered, is_pending, recover
from netsync.tree.roots import TargetRoot

_PENDING: Final = (
    "an --atomic run that was cut short waits to be published to the end: the next real run does"
    " that first"
)


class Resumption:
    """The stage and the ledger of one transfer to ``root``, which stays the caller's.

    ``run`` is the token of a run that may be repeated; ``pending`` remembers a run that commits.
    Used in worker threads.
    """

    def __init__(
        self, root: TargetRoot, run: bytes, options: Options, pending: Pending | None = None
    ) -> None:
        self.stage = Stage(root.fd, run)
        self._options = options
        self._pending = pending
        self._root = root.fd
        self._ledger: Ledger | None = None
        self._preparation: Preparation | None = None
        self._recovered = Recovered(0, [])
        self._waits = False
        if options.atomic and not options.dry_run:
            self._preparation = Preparation(root.fd, self.stage, options, pending)
        self.destination = Destination(root.fd, root.exists, options, self.stage, self._preparation)

    def close(self) -> None:
        """Let go of descriptors; leave what the next run may go on with."""
        if self._preparation is not None:
            self._preparation.close()
        self.stage.close()
        if self._ledger is not None:
            self._ledger.close()

    def open(self) -> None:
        """Finish what was committed, take over what was left, before anything is looked at.

        Raises ``RootError``.
        """
        if self._options.dry_run:
            self._waits = is_pending(self._root)
            return
        found = recover(self._root)
        self.stage.open()
        if self._preparation is not None:
            self._preparation.begin()
            found = found.and_then(recover(self._root))  # one that died while we waited for it
        self._recovered = found
        if found.records and self._pending is not None:
            self._pending.forget()

    def begin(self, tallies: Sequence[Tally]) -> None:
        """Go on counting; ``tallies`` then count what the whole run did, the last one for all."""
        if self._waits:
            tallies[-1].notice(_PENDING)
        if self._recovered.records:
            tallies[-1].notice("an --atomic run that was cut short was published to the end first")
        for path, refused in self._recovered.refused:
            tallies[-1].refused(path, refused)
        if self._options.dry_run:
            return
        later = None if self._preparation is None else self._preparation.open_ledger()
        self._ledger = Ledger(self.stage.open_ledger(), later=later)
        if self._ledger.is_kept:
            for tally in tallies:
                tally.ledger = self._ledger
            tallies[-1].begin_with(self._ledger)

    def equip(
        self, whole: Sequence[Wanted], deltas: Sequence[Wanted]
    ) -> tuple[list[Wanted], list[Wanted]]:
        """Find the partials of wants that had to wait; return them anew as whole and deltas."""
        for wanted in (*whole, *deltas):
            wanted.partial = partial_of(wanted, self.stage, self._options)
        resumed = [wanted for wanted in whole if wanted.partial is not None]
        return [wanted for wanted in whole if wanted.partial is None], [*deltas, *resumed]

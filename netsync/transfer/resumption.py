"""What a transfer takes over from runs and attempts before it: their partials, and their counts."""

from __future__ import annotations

from collections.abc import Sequence

from netsync.model import Options
from netsync.transfer.ledger import Ledger
from netsync.transfer.staging import partial_of
from netsync.transfer.tally import Tally
from netsync.transfer.wanted import Wanted
from netsync.tree.large_files import Stage


class Resumption:
    """The stage and the ledger of one transfer below ``root``, which stays the caller's.

    ``run`` is the token of a run that may be repeated. Used in worker threads.
    """

    def __init__(self, root: int, run: bytes, options: Options) -> None:
        self.stage = Stage(root, run)
        self._options = options
        self._ledger: Ledger | None = None

    def close(self) -> None:
        """Let go of descriptors; leave what the next run may go on with."""
        self.stage.close()
        if self._ledger is not None:
            self._ledger.close()

    def begin(self, tallies: Sequence[Tally]) -> None:
        """Take over; ``tallies`` then count what the whole run did, the last one for all."""
        if self._options.dry_run:
            return
        self.stage.open()
        self._ledger = Ledger(self.stage.open_ledger())
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

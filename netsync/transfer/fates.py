"""What becomes of wanted files: they are settled, given up or not, or asked for again."""

from __future__ import annotations

from collections.abc import Sequence

from netsync.transfer.awaited import Awaited
from netsync.transfer.neighbours import StagedTogether
from netsync.transfer.offers import ATTEMPTS_MAX
from netsync.transfer.tally import Tally
from netsync.transfer.wanted import Wanted


class Fates:
    """Keeps account of them for the landing worker, which counts in ``tally``.

    Files leave ``awaited`` when they are settled. ``again`` collects files to be asked for once
    more, ``to_sign`` those with a basis, ``settled`` the numbers of those done or given up,
    ``failed_groups`` link groups without data.
    """

    def __init__(self, awaited: Awaited, tally: Tally) -> None:
        self.again: list[Wanted] = []
        self.to_sign: list[Wanted] = []
        self.settled: list[int] = []
        self.failed_groups: set[int] = set()
        self._awaited = awaited
        self._tally = tally

    def published(self, files: Sequence[Wanted]) -> None:
        """Settle files that have their names."""
        self._tally.landed([(each.change, each.directory, each.entry.name) for each in files])
        for each in files:
            self.settle(each)

    def published_together(self, staged: StagedTogether) -> None:
        """Settle neighbours that have their names."""
        entries, numbers = staged.entries, staged.numbers
        self._tally.landed_new(staged.files.directory, [entry.name for entry in entries])
        self._tally.settled += sum([entry.size for entry in entries])
        self._awaited.settled(numbers)
        self.settled += numbers

    def retry(self, wanted: Wanted, why: str) -> None:
        """Ask for a file again, whole; give it up when that has been done enough."""
        if wanted.attempts < ATTEMPTS_MAX:
            self.ask_again(wanted)
        else:
            self._tally.fail(wanted.path, "verify", why)
            self.settle(wanted, failed=True)

    def ask_again(self, wanted: Wanted) -> None:
        """Ask for a file again, whole."""
        wanted.forget_partial()
        wanted.attempts += 1
        wanted.arrived = False
        wanted.basis_size = 0
        self.again.append(wanted)

    def settle(self, wanted: Wanted, *, failed: bool = False) -> None:
        """Forget a file, which is done or given up."""
        if failed and wanted.entry.link:
            self.failed_groups.add(wanted.entry.link)
        wanted.forget_partial()
        self._awaited.settled([wanted.number])
        self._tally.settled += wanted.entry.size
        self.settled.append(wanted.number)

"""What is at the target already, while a listing is compared with it."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from netsync.errors import reason
from netsync.model import Entry, Kind, Problem
from netsync.names import is_component, join
from netsync.plan.compare import Policy
from netsync.plan.xattrs import Scope, WantedXattrs
from netsync.transfer.effects import Effects
from netsync.transfer.judging import File, Judge
from netsync.transfer.listed import ListedDirectory
from netsync.transfer.tally import Tally
from netsync.tree.directories import ABSENT, Directories
from netsync.tree.native import DEVICE, XATTR_NAMES, Status, stat_entries
from netsync.tree.scan import entry_from, names_in
from netsync.tree.stored import looked_through
from netsync.tree.times import HeldTimes
from netsync.tree.xattrs import differ, hands_down, of_name
from netsync.wire.messages import Listing


class There(NamedTuple):
    """An entry of the target's and the status it was made of; None for what is not there."""

    entry: Entry | None
    status: Status | None


NOTHING = There(None, None)


_TIMES: Final = (
    "some modification times cannot be held by the target's file system: they are the nearest"
)


class Presence:
    """Reads the target's side of directories, once each. ``directories`` stays the caller's.

    A target that ``stores`` what it may not set sees devices in their placeholders.
    """

    def __init__(
        self,
        directories: Directories,
        policy: Policy,
        tally: Tally,
        effects: Effects,
        judge: Judge,
    ) -> None:
        self._directories = directories
        self._effects = effects
        self._options = policy.options
        self._stores = policy.stores
        self._tally = tally
        self._judge = judge
        self._times = HeldTimes()

    def close(self) -> None:
        """Let go of descriptors."""
        self._times.close()

    def read(self, directory: ListedDirectory) -> None:
        """Read the names that are in a directory now; sweep what a dead session left."""
        if directory.names_read:
            return
        directory.names_read = True
        try:
            fd = self._directories.fd(directory.path)
            names, reserved = names_in(fd)
        except OSError as error:
            directory.lost = True
            self._tally.problem(Problem(directory.path or b".", "list", reason(error)))
            return
        self._effects.sweep(fd, reserved)
        directory.present.update(names)

    def look(self, directory: ListedDirectory, listing: Listing) -> None:
        """See what is in a directory: all, or of one in which something changed what is listed."""
        if not (self._options.changes and listing.partial):
            self.read(directory)
            return
        if directory.fresh:
            return
        names = [entry.name for entry in listing.entries]
        names = [name for name in (*names, *listing.gone) if is_component(name)]
        try:
            fd = self._directories.fd(directory.path)
            for name, status in zip(names, stat_entries(fd, names), strict=True):
                if status not in ABSENT:
                    directory.present.add(name)
        except OSError as error:
            directory.lost = True
            self._tally.problem(Problem(directory.path or b".", "look into", reason(error)))

    def entry(self, directory: ListedDirectory, listed: Entry, scope: Scope) -> There:
        """Return what is there under the name of a ``listed`` entry. Raises ``OSError``.

        Names of attributes are looked for only if the ``scope`` of those compared is not empty.
        """
        if listed.name not in directory.present:
            return NOTHING
        directory.present.discard(listed.name)
        fd = self._directories.fd(directory.path)
        (status,) = stat_entries(fd, [listed.name], bool(scope))
        present = entry_from(status, listed.name, fd)
        assert not isinstance(status, int)  # entry_from raises that
        if self._stores:
            present = looked_through(present, fd, status)
        if self._options.checksum and present.kind is listed.kind is Kind.FILE:
            file = File(fd, listed.name, join(directory.path, listed.name))
            present = self._examined(file, present, listed)
        if present.mtime_ns != listed.mtime_ns and present.kind is listed.kind:
            present = self._as_held(fd, status, present, listed)
        return There(present, status)

    def _examined(self, file: File, present: Entry, listed: Entry) -> Entry:
        """Return what is there with the digest of its content, if that says anything."""
        if present.size == listed.size:
            present, rot = self._judge.judged(file, present)
            if rot is not None:
                self._tally.problem(rot)
        elif self._options.verify:
            present = self._judge.glanced_at(file, present)
        return present

    def _as_held(self, fd: int, status: Status, present: Entry, listed: Entry) -> Entry:
        """Return ``present`` with the listed time if its own is what becomes of that here."""
        if present.size != listed.size or not self._options.keep.times:
            return present
        if self._times.held(fd, status[DEVICE], listed.mtime_ns) != present.mtime_ns:
            return present
        self._tally.notice(_TIMES)
        return msgspec.structs.replace(present, mtime_ns=listed.mtime_ns)

    def xattrs_differ(
        self, directory: ListedDirectory, there: There, wanted: WantedXattrs | None
    ) -> bool:
        """Tell whether what is there has other attributes than those ``wanted``."""
        present, status = there
        if wanted is None or present is None or status is None:
            return False
        told = status[XATTR_NAMES]
        if told == b"" and not wanted.items:
            return False
        fd = self._directories.fd(directory.path)
        return differ(of_name(fd, present.name), wanted, told)

    def hands_down(self, directory: ListedDirectory) -> bool:
        """Tell whether what is created in ``directory`` gets an ACL by itself; asked once."""
        if directory.hands_down is None:
            directory.hands_down = hands_down(self._directories.fd(directory.path))
        return directory.hands_down

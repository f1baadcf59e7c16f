"""Hard links at the target: which names share an inode must become what it is at the source.

The source numbers a group by its first name. Here the first name that can be brought about is
the group's *carrier*: it is compared and, if need be, sent like a file of its own. Every other
name stays if it is on the carrier's inode already, and else is linked to it at the end, when the
carrier is published. If a carrier's data fails, the next name is wanted in its place.

An inode that names of two groups share must be parted, and one that has a name we were not told
of must not be changed through ours, because that name would change with it. Both are known only
at the end, when every name was seen: changes of metadata on an inode with several names wait
until then, and are made on a copy if a name is left over. What is staged and renamed over a name
leaves the other names of its old inode alone anyway.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from msgspec import Struct

from netsync.errors import ProtocolError, is_fatal
from netsync.model import Change, Entry, Kind
from netsync.names import join
from netsync.plan.compare import Verdict
from netsync.transfer.destination import Destination
from netsync.transfer.effects import effects_for
from netsync.transfer.inodes import Carrier, Groups, Inode, inode_of, names_of
from netsync.transfer.spool import Spool
from netsync.transfer.tally import Tally
from netsync.transfer.wanted import Restated, Share, Wanted
from netsync.tree.directories import Directories
from netsync.tree.native import Status, stat_entries
from netsync.tree.place import Attributes
from netsync.tree.scan import entry_from

CHANGE_OF: Final = {
    Verdict.CREATE: Change.CREATED,
    Verdict.REPLACE: Change.CREATED,
    Verdict.CONTENT: Change.UPDATED,
    Verdict.METADATA: Change.METADATA,
    Verdict.SAME: Change.METADATA,
}
"""What linking a name amounts to, by what the comparison said of it."""


class Restatement(Struct, frozen=True, array_like=True):
    """A name whose metadata changes at the end, on the inode it is on or on a copy.

    ``parted`` says that it must leave its inode, which is another group's.
    """

    directory: bytes
    entry: Entry
    attributes: Attributes
    parted: bool

    @property
    def path(self) -> bytes:
        """The path relative to the transfer's root."""
        return join(self.directory, self.entry.name)


class Ruling(enum.Enum):
    """What to do about a name of an inode with several."""

    AS_ANY = enum.auto()  # what its verdict says, as for any other name
    LINK = enum.auto()  # link it to its group's carrier
    STAYS = enum.auto()  # nothing, unless its carrier moves to another inode
    RESTATE = enum.auto()  # change its metadata, at the end
    PART = enum.auto()  # give it an inode of its own, at the end


class Linker:
    """Judges the names of shared inodes while they are compared, and links them at the end.

    ``wanted_instead`` are the paths of names that were to be linked and are wanted as files.
    """

    def __init__(self, destination: Destination, restated: Spool[Restated], tally: Tally) -> None:
        self.tally = tally
        self._options = destination.options
        self._groups = Groups()
        self._shares = Spool(Share)
        self._restatements = Spool(Restatement)
        self._directories = Directories(destination.root)
        self._effects = effects_for(destination, self._directories, tally, restated)
        self._promoted: set[int] = set()
        self.wanted_instead: set[bytes] = set()

    def close(self) -> None:
        """Let go of tables, spools and descriptors."""
        for owner in (
            self._groups, self._shares, self._restatements, self._effects, self._directories,
        ):  # fmt: skip
            owner.close()

    def admit(self, number: int, entry: Entry) -> None:
        """Note the group of an entry that has one. Raises ``ProtocolError`` where it cannot."""
        if entry.link == number and entry.kind is not Kind.DIRECTORY:
            self._groups.add(number, entry.kind)
        elif entry.link >= number or not self._groups.has(entry.link, entry.kind):
            raise ProtocolError("an entry names a link group that was not listed", op="receive")

    def judge(
        self, number: int, entry: Entry, path: bytes, verdict: Verdict, status: Status | None
    ) -> Ruling:
        """Return what to do about the name ``path``, on which the comparison gave ``verdict``.

        ``status`` is that of what is there.
        """
        stays = None
        if status is not None and verdict in (Verdict.SAME, Verdict.METADATA):
            stays = inode_of(status)
        group = entry.link or number
        carrier = self._groups.carrier(group) if entry.link else None
        if carrier is not None:
            if stays is None or stays != carrier.inode:
                return Ruling.LINK
            self._groups.claim(stays, group)
            return Ruling.STAYS
        ruling = Ruling.AS_ANY
        if stays is not None and status is not None and names_of(status) > 1:
            if not self._claims(stays, group, verdict):
                ruling, stays = Ruling.PART, None
            elif verdict is Verdict.METADATA:
                ruling = Ruling.RESTATE
        if entry.link:
            self._groups.set_carrier(group, Carrier(path, stays))
        return ruling

    def _claims(self, inode: Inode, group: int, verdict: Verdict) -> bool:
        """Tell whether a group's name may stay on ``inode``, as far as other groups go."""
        mine = self._groups.claim(inode, group)
        return mine or (verdict is Verdict.SAME and not self._options.keep.hard_links)

    def give_up(self, entry: Entry, path: bytes) -> None:
        """A name could not be brought about: the group's next one carries it, if this one did."""
        if entry.link:
            self._groups.drop_carrier(entry.link, path)

    def share(self, share: Share) -> None:
        """Note a name to be linked to its carrier at the end."""
        self._shares.append(share)

    def restate(self, restatement: Restatement) -> None:
        """Note a change of metadata that must wait for the end."""
        self._restatements.append(restatement)

    def promote(self, failed: set[int]) -> Iterator[Share]:
        """Yield for each group of ``failed`` the name whose data is wanted next, if there is one.

        It is the carrier from now on.
        """
        next_names: dict[int, Share] = {}
        if failed:
            for share in self._shares:  # newest first: the last one seen is the first name
                if share.group in failed and share.number not in self._promoted:
                    next_names[share.group] = share
        for share in next_names.values():
            self._promoted.add(share.number)
            self.wanted_instead.add(share.path)
            self._groups.set_carrier(share.group, Carrier(share.path, None))
            yield share

    def promoted(self, failed: set[int]) -> list[Wanted]:
        """Return the files to want in place of those whose link groups ``failed``."""
        return [share.wanted() for share in self.promote(failed)]

    def finish(self) -> None:
        """Change what waited, then link. Raises ``OSError`` where the run cannot go on."""
        for restatement in self._restatements:
            self._guarded(restatement.path, partial(self._restate, restatement))
        for share in self._shares:
            if share.number not in self._promoted:
                self._guarded(share.path, partial(self._link, share))

    def _guarded(self, path: bytes, change: Callable[[], Change | None]) -> None:
        """Make one change; trouble with it is a problem, not the session's end."""
        try:
            changed = change()
        except OSError as error:
            if is_fatal(error):
                raise
            self.tally.fail(path, "link", error)
        else:
            if changed is not None:
                self.tally.change(changed, path)

    def _restate(self, restatement: Restatement) -> Change:
        """Set metadata on the inode if all its names are the group's, else on a copy."""
        entry, wanted = restatement.entry, restatement.attributes
        fd = self._directories.fd(restatement.directory)
        (status,) = stat_entries(fd, [entry.name])
        present = entry_from(status, entry.name, fd)
        assert not isinstance(status, int)  # entry_from raises that
        above = restatement.directory
        if not restatement.parted and names_of(status) <= self._groups.claimed(inode_of(status)):
            refused = self._effects.restate(above, present, wanted)
        else:
            refused = self._effects.part(above, entry, wanted)
            self._groups.move_carrier(entry.link, restatement.path)
        self.tally.refused(restatement.path, refused)
        return Change.METADATA

    def _link(self, share: Share) -> Change | None:
        """Make a name one of its carrier's, unless it is that already."""
        carrier = self._groups.carrier(share.group)
        assert carrier is not None  # a share is noted only where there is one
        there = self._effects.inode_of_carrier(carrier)
        if there is None and self._effects.touches:
            if share.entry.kind is Kind.FILE:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return self._stand_in(share)
        here = self._effects.inode(share.path)
        if here is None or here != there:
            self.tally.refused(share.path, self._effects.link(share, carrier.path))
        return share.change

    def _stand_in(self, share: Share) -> Change | None:
        """Create the link, FIFO or device that its carrier failed to become."""
        refused = self._effects.create(
            share.directory, share.entry, share.attributes, replaces=share.replaces
        )
        self.tally.refused(share.path, refused)
        self._groups.set_carrier(share.group, Carrier(share.path, None))
        return share.change

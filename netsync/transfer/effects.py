"""What a target does to names and metadata: at once, when all is published, or not at all.

The comparison and the end of a run decide; these do. ``Immediate`` acts on the spot, which is
what a run does unless it is asked otherwise; ``Prepared`` (in ``prepared.py``) notes everything
for a run that is published as a whole; ``Untouched`` is a dry run's. Nothing else in ``transfer/``
makes, changes or removes a name, but for file data, which ``publishing.py`` names.

Paths are relative to the root. Everything raises ``OSError``, and then nothing was done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

from netsync.model import Entry, Kind
from netsync.names import join
from netsync.transfer.destination import Destination
from netsync.transfer.inodes import Carrier, Inode, inode_at
from netsync.transfer.listed import ENTER, ListedDirectory
from netsync.transfer.prepared import Prepared
from netsync.transfer.preparing import check_directory
from netsync.transfer.spool import Spool
from netsync.transfer.tally import Tally
from netsync.transfer.wanted import Ending, Restated, Share
from netsync.tree.apart import copy_apart, link_over
from netsync.tree.backup import Backup
from netsync.tree.content import holds_the_same
from netsync.tree.directories import Directories
from netsync.tree.mounts import mount_of
from netsync.tree.place import (
    Attributes,
    Refusals,
    create_directory,
    create_special,
    set_on_descriptor,
    set_on_name,
)
from netsync.tree.remove import Protects, Removed, remove
from netsync.tree.roll_forward import NO_LINK
from netsync.tree.scan import entry_at, names_in
from netsync.tree.stage import sweep
from netsync.tree.times import time_kept

COPIED = "some hard links became copies: their file systems differ or refused"


class Effects(Protocol):
    """The changes of one worker. ``touches`` tells whether anything is done here and now."""

    touches: bool

    def close(self) -> None: ...

    def sweep(self, directory: int, reserved: list[bytes]) -> None:
        """Remove what dead sessions left among the ``reserved`` names in ``directory``."""

    def make_directory(self, path: bytes, *, replaces: bool) -> None:
        """Make a directory, in place of a non-directory if it ``replaces`` one."""

    def let_in(self, listed: ListedDirectory, above: bytes, present: Entry) -> None:
        """See that we may work in a directory that was ``present``, until it is settled."""

    def remove_empty(self, path: bytes) -> None:
        """Remove a directory in which nothing is but what dead sessions left."""

    def remove(self, path: bytes, protects: Protects) -> Iterator[Removed]:
        """Remove ``path`` and what is below it, as ``tree/remove.py`` does."""

    def create(
        self, above: bytes, entry: Entry, attributes: Attributes, *, replaces: bool
    ) -> Refusals:
        """Create a link or special file, in place of another entry if it ``replaces`` one."""

    def restate(self, above: bytes, present: Entry, attributes: Attributes) -> Refusals:
        """Change metadata of an entry that stays."""

    def part(self, above: bytes, entry: Entry, attributes: Attributes) -> Refusals:
        """Put an entry that is no directory on an inode of its own."""

    def inode(self, path: bytes) -> Inode | None:
        """Return the inode that ``path`` is on now, if there is something."""

    def inode_of_carrier(self, carrier: Carrier) -> Inode | None:
        """Return the inode that a carrier is on; None for one that is not there, or not yet."""

    def link(self, share: Share, carrier: bytes) -> Refusals:
        """Make a name one of its carrier's.

        Where that changes nothing but the inode the directory keeps its time. A name that has its
        carrier's content already goes without a backup: there may be one, of what an earlier run
        replaced.
        """

    def check_touched(self, directory: ListedDirectory) -> None:
        """Raise ``OSError`` where what changes in ``directory`` cannot be published."""

    def settle(self, ending: Ending) -> Refusals:
        """Give a directory its metadata."""


class Immediate:
    """Changes made on the spot. ``restated`` takes what must be flushed for its metadata alone.

    ``directories`` stays the caller's.
    """

    touches = True

    def __init__(
        self,
        destination: Destination,
        directories: Directories,
        tally: Tally,
        restated: Spool[Restated],
    ) -> None:
        self._directories = directories
        self._durable = destination.options.fsync
        self._backs_up = bool(destination.options.backup_dir)
        self._backup = Backup(destination.root, destination.options)
        self._carriers = Directories(destination.root)
        self._tally = tally
        self._restated = restated

    def close(self) -> None:
        """Let go of descriptors."""
        self._backup.close()
        self._carriers.close()

    def sweep(self, directory: int, reserved: list[bytes]) -> None:
        sweep(directory, reserved)

    def _above(self, path: bytes) -> tuple[int, bytes]:
        parent, _, name = path.rpartition(b"/")
        return self._directories.fd(parent), name

    def make_directory(self, path: bytes, *, replaces: bool) -> None:
        above, name = self._above(path)
        if replaces:
            self._backup.move(above, path)
        create_directory(above, name)

    def let_in(self, listed: ListedDirectory, above: bytes, present: Entry) -> None:
        if listed.enter(present):
            mode = present.mode | ENTER
            fd = self._directories.fd(above)
            os.chmod(present.name, mode, dir_fd=fd, follow_symlinks=False)

    def remove_empty(self, path: bytes) -> None:
        inside = self._directories.fd(path)
        sweep(inside, names_in(inside)[1])
        self._directories.forget(path)
        above, name = self._above(path)
        self._backup.directory(entry_at(above, name), path)
        os.rmdir(name, dir_fd=above)

    def remove(self, path: bytes, protects: Protects) -> Iterator[Removed]:
        return remove(self._directories, path, protects, keeper=self._backup)

    def create(
        self, above: bytes, entry: Entry, attributes: Attributes, *, replaces: bool
    ) -> Refusals:
        fd = self._directories.fd(above)
        if replaces:
            self._backup.keep(fd, join(above, entry.name))
        return create_special(fd, entry, attributes, replace=replaces)

    def restate(self, above: bytes, present: Entry, attributes: Attributes) -> Refusals:
        self._restated.append(Restated(join(above, present.name), present.kind))
        return set_on_name(self._directories.fd(above), present.name, present, attributes)

    def part(self, above: bytes, entry: Entry, attributes: Attributes) -> Refusals:
        place = (self._directories.fd(above), entry.name)
        if entry.kind is not Kind.FILE:
            return create_special(place[0], entry, attributes, replace=True)
        return copy_apart(place, place, attributes, durable=self._durable)

    def inode(self, path: bytes) -> Inode | None:
        return inode_at(self._directories, path)

    def inode_of_carrier(self, carrier: Carrier) -> Inode | None:
        return inode_at(self._carriers, carrier.path)

    def link(self, share: Share, carrier: bytes) -> Refusals:
        fd = self._directories.fd(share.directory)
        if share.change is not None:
            return self._link(fd, share, carrier)
        with time_kept(fd):
            refused = self._link(fd, share, carrier)
        self._restated.append(Restated(share.directory, Kind.DIRECTORY))
        return refused

    def _carrier(self, path: bytes) -> tuple[int, bytes]:
        parent, _, name = path.rpartition(b"/")
        return self._carriers.fd(parent), name

    def _holds_that(self, fd: int, entry: Entry, carrier: bytes) -> bool:
        """Tell whether a name that the comparison found unchanged is what its carrier is.

        For what has no bytes the comparison has seen it all.
        """
        if not self._backs_up or entry.kind is not Kind.FILE:
            return True
        return holds_the_same(self._carrier(carrier), (fd, entry.name))

    def _link(self, fd: int, share: Share, carrier: bytes) -> Refusals:
        entry = share.entry
        if not (share.stays and self._holds_that(fd, entry, carrier)):
            self._backup.keep(fd, share.path)
        source = self._carrier(carrier)
        try:
            link_over(*source, fd, entry.name)
        except OSError as error:
            if error.errno not in NO_LINK or entry.kind is not Kind.FILE:
                raise
            refused = copy_apart(source, (fd, entry.name), share.attributes, durable=self._durable)
            self._tally.notice(COPIED)
            return refused
        return ()

    def check_touched(self, directory: ListedDirectory) -> None:
        """Whatever cannot be done says so when it is tried."""

    def settle(self, ending: Ending) -> Refusals:
        return set_on_descriptor(self._directories.fd(ending.path), ending.attributes)


class Untouched:
    """A dry run's changes: none. ``at_once``: the real run would be published as a whole."""

    touches = False

    def __init__(self, directories: Directories, *, at_once: bool) -> None:
        self._directories = directories
        self._at_once = at_once

    def close(self) -> None:
        """There is nothing to let go of."""

    def sweep(self, directory: int, reserved: list[bytes]) -> None: ...
    def make_directory(self, path: bytes, *, replaces: bool) -> None: ...
    def let_in(self, listed: ListedDirectory, above: bytes, present: Entry) -> None: ...
    def remove_empty(self, path: bytes) -> None: ...

    def check_touched(self, directory: ListedDirectory) -> None:
        if self._at_once and not directory.fresh:
            here = self._directories.fd(directory.path)
            check_directory(here, mount_of(self._directories.root))

    def remove(self, path: bytes, protects: Protects) -> Iterator[Removed]:
        return remove(self._directories, path, protects, dry_run=True)

    def create(
        self, above: bytes, entry: Entry, attributes: Attributes, *, replaces: bool
    ) -> Refusals:
        return ()

    def restate(self, above: bytes, present: Entry, attributes: Attributes) -> Refusals:
        return ()

    def part(self, above: bytes, entry: Entry, attributes: Attributes) -> Refusals:
        return ()

    def inode(self, path: bytes) -> Inode | None:
        return inode_at(self._directories, path)

    def inode_of_carrier(self, carrier: Carrier) -> Inode | None:
        return carrier.inode

    def link(self, share: Share, carrier: bytes) -> Refusals:
        return ()

    def settle(self, ending: Ending) -> Refusals:
        return ()


def effects_for(
    destination: Destination, directories: Directories, tally: Tally, restated: Spool[Restated]
) -> Effects:
    """Return the changes of a worker as this run makes them."""
    if destination.options.dry_run:
        return Untouched(directories, at_once=destination.options.atomic)
    if destination.preparation is not None:
        return Prepared(destination.preparation, directories)
    return Immediate(destination, directories, tally, restated)

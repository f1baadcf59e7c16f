"""The changes of a run that is published at once: noted in its journal, staged, checked.

See ``effects.py`` for what each means. What could keep a change from being made when the run is
committed is refused here, while it is still a problem with one path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

import msgspec

from netsync.model import Entry, Kind
from netsync.names import join
from netsync.transfer.inodes import Carrier, Inode, inode_at
from netsync.transfer.listed import ENTER, ListedDirectory
from netsync.transfer.preparing import Preparation
from netsync.transfer.wanted import Ending, Share
from netsync.tree.apart import copy_apart
from netsync.tree.content import holds_the_same
from netsync.tree.directories import ABSENT, Directories
from netsync.tree.expected import expected
from netsync.tree.journal import Enter, Link, MakeDirectory, Place, Restate, Settle
from netsync.tree.place import Attributes, Refusals, create_special
from netsync.tree.remove import Protects, Removed, remove
from netsync.tree.scan import names_in

_NOTHING: Final = Attributes(None, None, None, None)


class Prepared:
    """Changes noted in a ``preparation``; what cannot be published is refused when it is noted.

    ``directories`` and ``preparation`` stay the caller's.
    """

    touches = False

    def __init__(self, preparation: Preparation, directories: Directories) -> None:
        self._preparation = preparation
        self._directories = directories
        self._places = preparation.places()

    def close(self) -> None:
        """Let go of descriptors."""
        self._places.close()

    def sweep(self, directory: int, reserved: list[bytes]) -> None:
        """Leave it to the next run: it would show in the directory's time."""

    def _above(self, path: bytes) -> tuple[int, bytes]:
        parent, _, name = path.rpartition(b"/")
        return self._directories.fd(parent), name

    def make_directory(self, path: bytes, *, replaces: bool) -> None:
        if replaces:
            self._set_aside(path)
        self._preparation.add(MakeDirectory(path, replaces))

    def _set_aside(self, path: bytes) -> None:
        above, _ = self._above(path)
        self._preparation.check_removal(above, path)
        self._preparation.set_aside(above, path)

    def let_in(self, listed: ListedDirectory, above: bytes, present: Entry) -> None:
        closed_later = listed.wanted.mode is not None and listed.wanted.mode & ENTER != ENTER
        ours = present.uid == os.geteuid() != 0
        if listed.enter(present) or (ours and closed_later):
            self._preparation.add(Enter(listed.path))

    def remove_empty(self, path: bytes) -> None:
        self._check_emptied(path)
        fd = self._directories.fd(path)
        for name in names_in(fd)[1]:  # what dead sessions left
            self._preparation.set_aside(fd, join(path, name))
        self._set_aside(path)

    def _check_emptied(self, path: bytes) -> None:
        """Raise ``OSError`` where what is in a directory cannot be taken out of it."""
        fd = self._directories.fd(path)
        self._preparation.check_mount(fd)
        if os.geteuid() and not os.access(b".", os.W_OK, dir_fd=fd, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def remove(self, path: bytes, protects: Protects) -> Iterator[Removed]:
        """Yield what goes, and note it when all of it can go."""
        for removed in remove(self._directories, path, protects, dry_run=True):
            checked = self._checked(removed)
            yield checked
            if checked.error is not None:
                return
        for removed in remove(self._directories, path, protects, dry_run=True):
            self._preparation.set_aside(self._above(removed.path)[0], removed.path)

    def _checked(self, removed: Removed) -> Removed:
        if removed.error is not None:
            return removed
        try:
            if removed.directory:
                self._check_emptied(removed.path)
            self._preparation.check_removal(self._above(removed.path)[0], removed.path)
        except OSError as error:
            return removed._replace(error=error)
        return removed

    def create(
        self, above: bytes, entry: Entry, attributes: Attributes, *, replaces: bool
    ) -> Refusals:
        if replaces:
            path = join(above, entry.name)
            self._preparation.check_removal(self._directories.fd(above), path)
            if self._preparation.backs_up:
                self._set_aside(path)
        return self._create(above, entry, attributes)

    def _create(self, above: bytes, entry: Entry, attributes: Attributes) -> Refusals:
        """Create an entry in the stage, of the group it would have got in its place."""
        name = self._preparation.new_name()
        place = os.fstat(self._places.fd(above))
        if attributes.gid is None and place.st_mode & stat.S_ISGID:
            attributes = msgspec.structs.replace(attributes, gid=place.st_gid)
        staged = msgspec.structs.replace(entry, name=name)
        refused = create_special(self._preparation.session, staged, attributes, replace=False)
        self._preparation.add(Place(join(above, entry.name), name))
        return refused

    def restate(self, above: bytes, present: Entry, attributes: Attributes) -> Refusals:
        fd = self._directories.fd(above)
        self._preparation.check_mount(fd)
        uid = os.geteuid()
        if uid and present.uid != uid:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        refused = self._preparation.rehearse(attributes, present.kind)
        seen = expected(os.stat(present.name, dir_fd=fd, follow_symlinks=False))
        self._preparation.add(Restate(join(above, present.name), attributes, seen))
        return refused

    def part(self, above: bytes, entry: Entry, attributes: Attributes) -> Refusals:
        if entry.kind is not Kind.FILE:
            return self._create(above, entry, attributes)
        source = (self._directories.fd(above), entry.name)
        name = self._preparation.new_name()
        self._preparation.check_mount(source[0])
        place = (self._preparation.session, name)
        refused = copy_apart(source, place, attributes, durable=False)
        self._preparation.add(Place(join(above, entry.name), name))
        return refused

    def inode(self, path: bytes) -> Inode | None:
        return inode_at(self._directories, path)

    def inode_of_carrier(self, carrier: Carrier) -> Inode | None:
        return carrier.inode

    def link(self, share: Share, carrier: bytes) -> Refusals:
        path = share.path
        backs_up = self._preparation.backs_up and self.inode(path) is not None
        if backs_up and not (share.stays and self._holds_that(path, share.entry, carrier)):
            self._set_aside(path)
        if share.change is None:  # its directory is not known to change, and keeps its time
            fd = self._directories.fd(share.directory)
            self._preparation.check_directory(fd)
            status = os.fstat(fd)
            if os.geteuid() not in (0, status.st_uid):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            time = Attributes(None, None, None, status.st_mtime_ns)
            self._preparation.add(Settle(share.directory, time, expected(status)))
        self._preparation.add(Link(path, carrier, share.entry.kind, share.attributes))
        return ()

    def _holds_that(self, path: bytes, entry: Entry, carrier: bytes) -> bool:
        """Tell whether a name that the comparison found unchanged is what its carrier will be."""
        if entry.kind is not Kind.FILE:
            return True
        staged = self._preparation.staged_carriers.name(carrier)
        parent, _, name = path.rpartition(b"/")
        here = os.dup(self._directories.fd(parent))  # the next walk may let go of it
        try:
            there = (self._preparation.session, staged) if staged else self._above(carrier)
            return holds_the_same(there, (here, name))
        finally:
            os.close(here)

    def check_touched(self, directory: ListedDirectory) -> None:
        if not directory.fresh:
            self._preparation.check_directory(self._directories.fd(directory.path))

    def settle(self, ending: Ending) -> Refusals:
        attributes = ending.attributes
        if attributes == _NOTHING:
            return ()
        seen = None
        owner = os.geteuid()
        try:
            status = os.fstat(self._directories.fd(ending.path))
            owner, seen = status.st_uid, expected(status)
        except OSError as error:
            if error.errno not in ABSENT:  # else it will be made, and ours
                raise
        if os.geteuid() not in (0, owner):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        refused = self._preparation.rehearse(attributes, Kind.DIRECTORY)
        self._preparation.add(Settle(ending.path, attributes, seen))
        return refused

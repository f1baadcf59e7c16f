"""Carrying out a journal, from wherever an earlier attempt stopped.

Each record is done only if it is not done already, and what tells is never the name it is about,
which may have been given anew since: a staged entry that is not in the stage any more has been
placed; what was set aside lies under its number, or in the backup as the inode it was, and then a
mark lies under the number. So all records may be gone through again from the first one, after
whatever crash.

What was set aside stays until everything else is done and flushed: a number must not be free
before. Nothing is followed: every step is one component below a held descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from netsync.model import Entry, Kind, Options
from netsync.names import join
from netsync.tree.apart import copy_apart
from netsync.tree.backup import Backup
from netsync.tree.directories import ABSENT, OPEN_DIRECTORY, Directories
from netsync.tree.durable import sync_file_system
from netsync.tree.expected import FILLED, NOT_AS_SEEN
from netsync.tree.journal import (
    Enter,
    Header,
    Link,
    MakeDirectory,
    Place,
    Record,
    Restate,
    SetAside,
    Settle,
)
from netsync.tree.place import Refusals, set_on_descriptor, set_on_name
from netsync.tree.scan import entry_at
from netsync.tree.stage_directory import NEW_PREFIX
from netsync.tree.xattrs import Refusal

ASIDE: Final = b"gone"
"""The directory in the stage where things are put that go."""
NO_LINK: Final = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM})
"""The other name is on another file system, has too many names, or may not be linked: a copy
then has the right content, if not the right inode."""
_CAME_BETWEEN: Final = ABSENT | {errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST}
"""What a name answers that somebody else took away, or gave to something else, since the run was
prepared. What is there then stays; what should be there is left to the next run."""
_TEMPORARY: Final = NEW_PREFIX + b"name"
"""Where in the stage a name is made that takes another's place."""
_ENTER: Final = stat.S_IRWXU
T = TypeVar("T")


class RollForwardError(Exception):
    """A record could not be carried out: ``path`` is what it is about, ``error`` why."""

    def __init__(self, path: bytes, error: OSError) -> None:
        super().__init__(path, error)
        self.path = path
        self.error = error


class RollForward:
    """Carries out records below ``root``; ``session`` is where things are staged and set aside.

    Both stay the caller's.
    """

    def __init__(self, root: int, session: int, header: Header) -> None:
        self._session = session
        self._header = header
        self._left: set[bytes] = set()
        self._directories = Directories(root)
        self._carriers = Directories(root)
        self._backup = Backup(root, Options(backup_dir=header.backup_dir, fsync=header.durable))
        with contextlib.suppress(FileExistsError):
            os.mkdir(ASIDE, _ENTER, dir_fd=session)
        self._aside = os.open(ASIDE, OPEN_DIRECTORY, dir_fd=session)

    def close(self) -> None:
        """Let go of descriptors."""
        self._directories.close()
        self._carriers.close()
        self._backup.close()
        os.close(self._aside)

    def carry_out(self, records: Iterable[Record]) -> Iterator[tuple[bytes, Refusals]]:
        """Carry out ``records``, then flush; yields what of an entry's metadata was refused.

        Raises ``RollForwardError``: what is done then stays, and the rest can be done later.
        """
        path = b""
        try:
            for record in records:
                path = record.path
                refused = self._carry_out(record)
                if refused:
                    yield path, refused
            path = b""
            if self._header.durable:
                self._flush()
        except OSError as error:
            raise RollForwardError(path or b".", error) from error

    def _flush(self) -> None:
        """Flush the root's file system, and that of the backup directory if it is another."""
        root = self._directories.root
        sync_file_system(root)
        try:
            backup = self._carriers.fd(self._header.backup_dir)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
        else:
            if os.fstat(backup).st_dev != os.fstat(root).st_dev:
                sync_file_system(backup)

    def _carry_out(self, record: Record) -> Refusals:
        """Carry out one record; what came between, and is in its way, is told and left alone."""
        if record.path in self._left and not isinstance(record, SetAside):
            return ()  # which was told
        try:
            return self._do(record)
        except OSError as error:
            if error.errno not in _CAME_BETWEEN:
                raise
            return (Refusal("publish", error),)

    def _do(self, record: Record) -> Refusals:
        match record:
            case Enter():
                self._enter(record.path)
            case SetAside():
                return self._set_aside(record)
            case MakeDirectory():
                self._make_directory(record.path)
            case Place():
                self._place(record)
            case Link():
                return self._link(record)
            case Restate():
                return self._restate(record)
            case Settle():
                return self._settle(record)
        return ()

    def _leave(self, path: bytes, why: str) -> Refusals:
        self._left.add(path)
        return (Refusal("publish", OSError(why)),)

    def _above(self, path: bytes) -> tuple[int, bytes]:
        """Return the directory that ``path`` lies in, and its name there."""
        parent, _, name = path.rpartition(b"/")
        return self._directories.fd(parent), name

    def _enter(self, path: bytes) -> None:
        """Let ourselves into a directory of ours until it is settled."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # somebody took it away
            above, name = self._above(path)
            status = _status(above, name)
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISDIR(status.st_mode) and mode & _ENTER != _ENTER:
                os.chmod(name, mode | _ENTER, dir_fd=above, follow_symlinks=False)

    def _set_aside(self, record: SetAside) -> Refusals:
        """Put away what has a name, once: what gets the name later must never go the same way."""
        path, kept = record.path, record.kept
        number = b"%d" % record.number
        if _exists(self._aside, number):
            return ()
        try:
            above, name = self._above(path)
            found = _status(above, name)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            self._mark(number)  # somebody else took it away
            return ()
        if not record.expected.fits(found):
            return self._leave(path, NOT_AS_SEEN)
        self._directories.forget(path)
        self._carriers.forget(path)
        if stat.S_ISDIR(found.st_mode):
            return self._remove_directory(record, number)
        if kept is None:
            os.rename(name, number, src_dir_fd=above, dst_dir_fd=self._aside)
            return ()
        if not self._in_backup(path, found):
            self._backup.move(above, path)
        self._drop_second_name(path, above, name)
        self._mark(number)
        return ()

    def _remove_directory(self, record: SetAside, number: bytes) -> Refusals:
        """Remove a directory if it is empty: what was put into it since is nobody's to remove."""
        if record.kept is not None:
            self._backup.directory(record.kept, record.path)
        above, name = self._above(record.path)
        try:
            os.rmdir(name, dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return self._leave(record.path, FILLED)
        self._mark(number)
        return ()

    def _mark(self, number: bytes) -> None:
        """Note that a number is done with, although nothing lies under it."""
        os.mknod(number, stat.S_IFREG | stat.S_IRUSR, dir_fd=self._aside)

    def _drop_second_name(self, path: bytes, above: int, name: bytes) -> None:
        """Remove a name whose file is in the backup: a rename between two names does nothing."""
        with contextlib.suppress(FileNotFoundError):
            if self._in_backup(path, _status(above, name)):
                os.unlink(name, dir_fd=above)

    def _in_backup(self, path: bytes, found: os.stat_result) -> bool:
        """Tell whether the backup has the very file that was ``found`` at ``path``."""
        parent, _, name = join(self._header.backup_dir, path).rpartition(b"/")
        try:
            return os.path.samestat(found, _status(self._carriers.fd(parent), name))
        except OSError as error:
            if error.errno in ABSENT:
                return False
            raise

    def _make_directory(self, path: bytes) -> None:
        above, name = self._above(path)
        try:
            os.mkdir(name, _ENTER, dir_fd=above)
        except FileExistsError:
            if not stat.S_ISDIR(_status(above, name).st_mode):
                raise
            self._enter(path)

    def _place(self, record: Place) -> None:
        if _exists(self._session, record.staged):
            above, name = self._above(record.path)
            os.rename(record.staged, name, src_dir_fd=self._session, dst_dir_fd=above)

    def _link(self, record: Link) -> Refusals:
        above, name = self._above(record.path)
        parent, _, carrier = record.carrier.rpartition(b"/")
        source = self._carriers.fd(parent)
        there = _status(source, carrier)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(there, _status(above, name)):
                return ()
        try:
            self._name_anew(lambda: os.link(
                carrier, _TEMPORARY, src_dir_fd=source, dst_dir_fd=self._session,
                follow_symlinks=False,
            ), above, name)  # fmt: skip
        except OSError as error:
            if error.errno not in NO_LINK or record.kind is not Kind.FILE:
                raise
            place = (self._session, _TEMPORARY)
            return self._name_anew(
                lambda: copy_apart((source, carrier), place, record.attributes, durable=False),
                above, name,
            )  # fmt: skip
        return ()

    def _name_anew(self, make: Callable[[], T], above: int, name: bytes) -> T:
        """Have an entry made in the stage, where recovery finds it, and give it its name."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_TEMPORARY, dir_fd=self._session)
        made = make()
        os.rename(_TEMPORARY, name, src_dir_fd=self._session, dst_dir_fd=above)
        return made

    def _restate(self, record: Restate) -> Refusals:
        above, name = self._above(record.path)
        if not record.expected.fits(_status(above, name)):
            return self._leave(record.path, NOT_AS_SEEN)
        present: Entry = entry_at(above, name)
        return set_on_name(above, name, present, record.attributes)

    def _settle(self, record: Settle) -> Refusals:
        fd = self._directories.fd(record.path)
        if record.expected is not None and not record.expected.fits(os.fstat(fd)):
            return self._leave(record.path, NOT_AS_SEEN)
        return set_on_descriptor(fd, record.attributes)


def _status(directory: int, name: bytes) -> os.stat_result:
    return os.stat(name, dir_fd=directory, follow_symlinks=False)


def _exists(directory: int, name: bytes) -> bool:
    try:
        _status(directory, name)
    except FileNotFoundError:
        return False
    return True

"""A run that is published at once (``--atomic``): prepared in the stage, then all or nothing.

Nothing outside the stage is touched while the run is compared and its data comes in. Content is
written, verified and given its metadata in the session's directory; what is to become of names is
noted in a journal (``tree/journal.py``). What could keep the journal from being carried out is
looked for beforehand: another mount, a directory we may not write in, metadata that a scratch
entry does not take. Any trouble with any path means that nothing is published.

One such run at a time holds a destination: it was compared with a tree that must still be there.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator
from typing import Final, Protocol

from netsync.errors import RootError, reason, root_error
from netsync.model import Kind, Options
from netsync.transfer.inodes import StagedCarriers
from netsync.tree.directories import OPEN_DIRECTORY, Directories
from netsync.tree.expected import expected
from netsync.tree.journal import Header, Journal, Record, SetAside
from netsync.tree.large_files import Stage
from netsync.tree.mounts import mount_of
from netsync.tree.place import Attributes, Refusals, set_on_descriptor
from netsync.tree.publication import Refused, carry_out, commit, sweep
from netsync.tree.recheck import Recheck, check_room
from netsync.tree.scan import entry_at
from netsync.tree.stage_directory import (
    NEW_LEDGER,
    NEW_PREFIX,
    SessionDirectory,
    StageRefusedError,
    is_committed,
)
from netsync.tree.standing import Standing

_NOTHING: Final = Attributes(None, None, None, None)
_SCRATCH: Final = NEW_PREFIX + b"scratch-"
_WRITE_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
OTHER_MOUNT: Final = "is on another mount than the destination: --atomic publishes within one"


class Pending(Protocol):
    """Remembers the destination while its run is committed and not carried out.

    So that a server that starts finds it. Neither call raises: the next run finds it anyway.
    """

    def note(self) -> None: ...
    def forget(self) -> None: ...


class Preparation:
    """What one run will publish at the destination ``root``, which stays the caller's.

    Made and closed where nobody else uses it; workers share it in between. ``staged_carriers`` is
    filled while files land and read when that is over; it is empty without a backup directory.
    """

    def __init__(
        self, root: int, stage: Stage, options: Options, pending: Pending | None = None
    ) -> None:
        self._root = root
        self._stage = stage
        self._pending = pending
        self._backs_up = bool(options.backup_dir)
        self._journal = Journal(Header(options.backup_dir, options.fsync, stage.ledger_name))
        self._numbers = itertools.count(1)
        self._session: SessionDirectory | None = None
        self._mount = (0, 0)
        self._scratch: dict[bool, int] = {}
        self.staged_carriers = StagedCarriers()
        self.keeps_large = True

    def begin(self) -> None:
        """Take hold of the destination. Raises ``RootError``."""
        try:
            self._session = self._stage.hold()
            self._mount = mount_of(self._root)
            if self._session is not None:
                self.check_mount(self._session.fd)
        except StageRefusedError as error:
            raise _refused(f".netsync at the destination {error}", "remove it") from error
        except OSError as error:
            raise root_error(error, op="prepare", where=b".netsync") from error
        if self._session is None:
            raise _refused("another --atomic run to this destination is under way", "wait for it")

    @property
    def session(self) -> int:
        """The directory that everything is staged in."""
        assert self._session is not None
        return self._session.fd

    def open_ledger(self) -> int:
        """Return the open file that the next attempt finds if this is committed; -1 for none."""
        if not self._stage.ledger_name:
            return -1
        return os.open(NEW_LEDGER, _WRITE_NEW, 0o600, dir_fd=self.session)

    def places(self) -> Directories:
        """Return directories to create files in, for one worker, which closes them."""
        return Standing(self._root, self.session)

    def add(self, record: Record) -> None:
        """Note a change. Raises ``OSError``."""
        self._journal.append(record)

    def new_name(self) -> bytes:
        """Return a name for something staged that is of use to this run only."""
        return self._stage.new_name()

    def name_beside(self, name: bytes) -> bytes:
        """Return a name for something staged that a later run would look for under ``name``."""
        return name.partition(b".")[0] + b".%d" % next(self._numbers)

    def set_aside(self, directory: int, path: bytes) -> None:
        """Note that the name ``path``, in ``directory``, goes; it may be gone already.

        A directory is noted after all that is in it. Raises ``OSError``.
        """
        name = path.rpartition(b"/")[2]
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            kept = entry_at(directory, name) if self._backs_up else None
            self.add(SetAside(path, next(self._numbers), expected(status), kept))

    @property
    def backs_up(self) -> bool:
        """Tell whether what goes is kept, so that each name of it is noted by itself."""
        return self._backs_up

    def check_mount(self, fd: int) -> None:
        """Raise ``OSError`` where the directory ``fd`` is on another mount than the root."""
        check_mount(fd, self._mount)

    def check_directory(self, fd: int) -> None:
        """Raise ``OSError`` where names in the directory ``fd`` cannot be changed by us."""
        check_directory(fd, self._mount)

    def check_removal(self, directory: int, path: bytes) -> None:
        """Raise ``OSError`` where the entry ``path`` may not be taken out of ``directory``."""
        status = os.stat(path.rpartition(b"/")[2], dir_fd=directory, follow_symlinks=False)
        uid = os.geteuid()
        above = os.fstat(directory)
        if uid and above.st_mode & stat.S_ISVTX and uid not in (above.st_uid, status.st_uid):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def rehearse(self, attributes: Attributes, kind: Kind) -> Refusals:
        """Set ``attributes`` on a scratch entry; return what was refused. Raises ``OSError``."""
        if attributes == _NOTHING or kind not in (Kind.FILE, Kind.DIRECTORY):
            return ()
        directory = kind is Kind.DIRECTORY
        if directory not in self._scratch:
            name = _SCRATCH + (b"directory" if directory else b"file")
            if directory:
                os.mkdir(name, 0o700, dir_fd=self.session)
                fd = os.open(name, OPEN_DIRECTORY, dir_fd=self.session)
            else:
                fd = os.open(name, _WRITE_NEW, 0o600, dir_fd=self.session)
            self._scratch[directory] = fd
        return set_on_descriptor(self._scratch[directory], attributes)

    def recheck(self) -> Iterator[tuple[bytes, OSError]]:
        """Yield what was noted and cannot be published after all. Raises ``RootError``."""
        last_look = Recheck(self._root, self._journal.header)
        try:
            yield from last_look.problems(self._journal)
        finally:
            last_look.close()
        try:
            check_room(self._root, self._journal)
        except OSError as error:
            raise RootError(
                reason(error), op="publish", where=b".",
                hint="nothing was published: --atomic needs room for new names and directories",
            ) from error  # fmt: skip

    def publish(self) -> list[Refused]:
        """Commit what was noted and carry it out; return what of metadata was refused after all.

        Raises ``RootError``, and ``OSError`` where nothing was committed.
        """
        if not len(self._journal):
            return []
        assert self._session is not None
        if self._pending is not None:
            self._pending.note()
        commit(self._root, self._stage.fd, self._session, self._journal)
        refused = carry_out(self._root, self._session).refused
        if self._pending is not None:
            self._pending.forget()
        return refused

    def close(self) -> None:
        """Drop what was prepared, unless it is committed."""
        self._journal.close()
        self.staged_carriers.close()
        while self._scratch:
            os.close(self._scratch.popitem()[1])
        if self._session is not None:
            with contextlib.suppress(OSError):
                if not is_committed(map(os.fsencode, os.listdir(self._session.fd))):
                    sweep(self._session, all_of_it=not self.keeps_large)
        self._session = None


def check_mount(fd: int, mount: tuple[int, int]) -> None:
    """Raise ``OSError`` where the directory ``fd`` is not on ``mount``, that of the root."""
    if mount_of(fd) != mount:
        raise OSError(OTHER_MOUNT)


def check_directory(fd: int, mount: tuple[int, int]) -> None:
    """Raise ``OSError`` where names in the directory ``fd`` cannot be changed by us."""
    check_mount(fd, mount)
    if not os.access(b".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or not os.geteuid():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _refused(why: str, hint: str) -> RootError:
    return RootError(why, op="prepare", where=b".", hint=f"{hint}, and run again")

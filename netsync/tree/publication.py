"""Publishing a prepared run at once: the commit, the roll forward, and its recovery after a crash.

All that a run is to change lies in its session's directory in the stage, and the journal beside it.
The *commit* is one rename, of the journal to its name, after everything was flushed. Before it a
crash leaves the old tree, and a stage that is swept like that of any dead session. After it the
journal is carried out, by this run or, if that dies, by whoever looks first: the next run to the
same destination, or the server when it starts. Then the journal is renamed once more, which says
that all that is left in the session's directory may go.

The lock on a session's directory tells whether its run is alive, as it does for partials.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from netsync.errors import RootError, reason
from netsync.tree.directories import OPEN_DIRECTORY, Directories
from netsync.tree.durable import sync_file_system
from netsync.tree.journal import DamagedJournalError, Journal, WrittenJournal
from netsync.tree.place import Refusals
from netsync.tree.remove import remove
from netsync.tree.roll_forward import RollForward, RollForwardError
from netsync.tree.stage_directory import (
    APPLIED,
    JOURNAL,
    LEDGER_PREFIX,
    NEW_LEDGER,
    NEW_PREFIX,
    STAGE_NAME,
    SessionDirectory,
    StageRefusedError,
    is_committed,
    lock_session,
    open_stage,
    session_names,
)
from netsync.tree.times import time_kept

UNCOMMITTED: Final = NEW_PREFIX + b"journal"
LIVING_SECONDS: Final = 20.0
"""How long a run waits for another that is publishing to the same destination at this moment."""
_LOOK_SECONDS: Final = 0.05
_WRITE_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_GO_ON: Final = (
    "the run is committed: mend this, then run again or restart the server, and the rest is"
    " published; to give it up, remove .netsync at the destination"
)

Refused = tuple[bytes, Refusals]
"""A path, and what of its metadata was refused."""


class Recovered(NamedTuple):
    """What was found of runs that had committed and died: how many changes, and refusals."""

    records: int
    refused: list[Refused]

    def and_then(self, other: Recovered) -> Recovered:
        """Return what was found first and after it."""
        return Recovered(self.records + other.records, [*self.refused, *other.refused])


def commit(root: int, stage: int, session: SessionDirectory, journal: Journal) -> None:
    """Make a prepared run the one that will be, whatever happens. Raises ``OSError``.

    ``session`` was opened before anything was written in it, so that a failed flush is noticed.
    """
    fd = os.open(UNCOMMITTED, _WRITE_NEW, 0o600, dir_fd=session.fd)
    try:
        journal.write(fd)
    finally:
        os.close(fd)
    durable = journal.header.durable
    if durable:
        sync_file_system(session.fd)
    os.rename(UNCOMMITTED, JOURNAL, src_dir_fd=session.fd, dst_dir_fd=session.fd)
    try:
        if durable:
            for directory in (session.fd, stage, root):
                os.fsync(directory)
    except OSError:  # a failed flush is final: what nobody can vouch for is not begun
        os.rename(JOURNAL, UNCOMMITTED, src_dir_fd=session.fd, dst_dir_fd=session.fd)
        raise


def carry_out(root: int, session: SessionDirectory) -> Recovered:
    """Carry out what a session has committed, and tidy up. Raises ``RootError``."""
    refused: list[Refused] = []
    records = 0
    try:
        if JOURNAL in _names(session.fd):
            fd = os.open(JOURNAL, _READ, dir_fd=session.fd)
            try:
                written = WrittenJournal(fd)
                records = written.count
                refused = _roll_forward(root, session, written)
            finally:
                os.close(fd)
            _leave_ledger(session, written.header.ledger)
            os.rename(JOURNAL, APPLIED, src_dir_fd=session.fd, dst_dir_fd=session.fd)
            if written.header.durable:
                os.fsync(session.fd)
        _tidy(session)
    except DamagedJournalError as error:
        raise RootError(
            f"its journal is damaged: {error}", op="publish", where=STAGE_NAME,
            hint="nothing of it was done now; remove .netsync at the destination and run again",
        ) from error  # fmt: skip
    except RollForwardError as error:
        why = reason(error.error)
        raise RootError(why, op="publish", where=error.path, hint=_GO_ON) from error
    except OSError as error:
        raise RootError(reason(error), op="publish", where=b".", hint=_GO_ON) from error
    return Recovered(records, refused)


def _roll_forward(root: int, session: SessionDirectory, written: WrittenJournal) -> list[Refused]:
    forward = RollForward(root, session.fd, written.header)
    try:
        return list(forward.carry_out(written))
    finally:
        forward.close()


def _leave_ledger(session: SessionDirectory, name: bytes) -> None:
    """Leave what the run has changed to its next attempt, which finds only that it is so."""
    if name:
        with contextlib.suppress(FileNotFoundError):  # left already
            os.rename(NEW_LEDGER, name, src_dir_fd=session.fd, dst_dir_fd=session.fd)


def _tidy(session: SessionDirectory) -> None:
    """Remove what a session has no more use for; the sign that says so goes last.

    What cannot be removed is left, for the next run to try.
    """
    left = False
    with Directories(session.fd) as directories:
        for name in _names(session.fd):
            if name == APPLIED or name.startswith(LEDGER_PREFIX):
                continue
            for removed in remove(directories, name, lambda *_: False):
                left = left or removed.error is not None
    if not left:
        os.unlink(APPLIED, dir_fd=session.fd)


def sweep(session: SessionDirectory, *, all_of_it: bool) -> None:
    """Remove what was prepared and not committed; large files stay, unless ``all_of_it`` goes."""
    with Directories(session.fd) as directories:
        for name in _names(session.fd):
            if all_of_it or name.startswith(NEW_PREFIX):
                for _ in remove(directories, name, lambda *_: False):
                    pass


def recover(root: int, *, sleep: Callable[[float], None] = time.sleep) -> Recovered:
    """Carry out what dead runs to the destination ``root`` have committed, before anything else.

    Waits for a living one that is at it. Raises ``RootError``.
    """
    found = Recovered(0, [])
    try:
        stage = open_stage(root)
    except StageRefusedError:  # not ours alone: nothing in it is touched
        _check_not_committed(root)
        return found
    if stage is None:
        return found
    try:
        patience = LIVING_SECONDS
        for name in _committed(stage):
            while (session := lock_session(stage, name)) is None and _is_there(stage, name):
                if patience <= 0:
                    raise RootError(
                        "another run is publishing to it at this moment", op="write to",
                        where=b".", hint="try again when that is done",
                    )  # fmt: skip
                patience -= _LOOK_SECONDS
                sleep(_LOOK_SECONDS)
            if session is not None:
                try:
                    if is_committed(_names(session.fd)):
                        found = found.and_then(carry_out(root, session))
                finally:
                    session.release(stage)
        with contextlib.suppress(OSError), time_kept(root):
            os.rmdir(STAGE_NAME, dir_fd=root)
    finally:
        os.close(stage)
    return found


def _check_not_committed(root: int) -> None:
    """Raise ``RootError`` where a run of another user has committed to ``root``, if we may look.

    Whatever we wrote there, that run would undo when it is carried out.
    """
    try:
        stage = os.open(STAGE_NAME, OPEN_DIRECTORY, dir_fd=root)
    except OSError:
        return
    try:
        owner = os.fstat(stage).st_uid
        if not _committed(stage):
            return
    except PermissionError:
        return
    finally:
        os.close(stage)
    mended = (
        "give .netsync at the destination mode 0700 again" if owner == os.geteuid()
        else f"run netsync to it as the user with the number {owner}, which finishes that"
    )  # fmt: skip
    raise RootError(
        "an --atomic run that was cut short waits in .netsync, which is not ours alone",
        op="write to", where=b".",
        hint=f"{mended}; or give it up and remove .netsync",
    )  # fmt: skip


def is_pending(root: int) -> bool:
    """Tell whether a committed run to the destination ``root`` is not carried out yet."""
    try:
        stage = open_stage(root)
    except StageRefusedError:
        return False
    if stage is None:
        return False
    try:
        return bool(_committed(stage))
    finally:
        os.close(stage)


def _committed(stage: int) -> list[bytes]:
    """Return the names of sessions, dead or alive, that have committed a journal."""
    return [name for name in session_names(stage) if _is_there(stage, name)]


def _is_there(stage: int, name: bytes) -> bool:
    with contextlib.suppress(OSError):
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=stage)
        try:
            return is_committed(_names(fd))
        finally:
            os.close(fd)
    return False


def _names(session: int) -> list[bytes]:
    return list(map(os.fsencode, os.listdir(session)))

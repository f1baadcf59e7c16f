"""Large files on their way: staged so that what a cut leaves of them is found again.

A file is created where it will be, unnamed, so that group and default ACL are those of its final
directory, and then linked into the stage under a name made from its path. Where that cannot be
(a mount point in between, whatever the device numbers say) it stays beside its place and leaves
nothing. What a dead session left is a *partial*: bytes that nobody vouches for, good as a basis
and for nothing else. The next run goes on writing in it, if a new file there would have the same
owner and rights; if not it is only read.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable
from typing import Final

from netsync.errors import is_fatal
from netsync.tree.partials import (
    ALIGNMENT,
    OPEN_PARTIAL,
    Partial,
    Resumable,
    is_ours,
    key_in,
    key_of,
    name_of,
)
from netsync.tree.publication import sweep
from netsync.tree.stage import Staged
from netsync.tree.stage_directory import (
    LEDGER_PREFIX,
    MARK_PREFIX,
    NEW_PREFIX,
    STAGE_NAME,
    SessionDirectory,
    StageRefusedError,
    hold_stage,
    is_committed,
    lock_session,
    make_session,
    make_stage,
    open_stage,
    remove_mark,
    session_names,
)
from netsync.tree.times import time_kept

STAGE_MIN: Final = 4 * 1024 * 1024
"""Bytes: smaller files are sent again sooner than they are signed, asked for and matched, and
a link and a rename each would cost them more than they cost now."""
EXPIRY_SECONDS: Final = 7 * 24 * 3600.0
"""Age past which a partial is more likely forgotten than awaited."""
BUSY_SECONDS: Final = 2.0
"""How long to wait, in all, for sessions that are at work on files we want: a client that was
cut off is back before the server has noticed."""
_BUSY_LOOK_SECONDS: Final = 0.05
_TAKEN_MAX: Final = 64
"""Dead sessions taken over at once: a descriptor each. More are left for the next run."""


class Stage:
    """The stage of one transfer below ``root``, which stays the caller's.

    Opened, used and closed in worker threads: ``find`` and ``forget`` by one, ``create`` and
    ``resume`` by another, the rest when nobody else does. ``refused`` says, if it is not empty,
    why the stage is not used. ``run`` is the token of a run that may be repeated.
    """

    def __init__(
        self, root: int, run: bytes = b"", *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.refused = ""
        self.ledger_name = LEDGER_PREFIX + run.hex().encode() if run else b""
        self._ledger_in: SessionDirectory | None = None
        self._root = root
        self._sleep = sleep
        self._fd: int | None = None
        self._own: SessionDirectory | None = None
        self._taken: list[SessionDirectory] = []
        self._partials: dict[bytes, Partial] = {}
        self._busy: dict[bytes, bytes] = {}
        self._patience = BUSY_SECONDS
        self._numbers = itertools.count(1)
        self._marks: dict[bytes, SessionDirectory] = {}

    def open(self, *, now: float | None = None) -> None:
        """Take over what dead sessions left, and sweep what is too old; ``now`` is the time."""
        try:
            self._fd = open_stage(self._root)
        except StageRefusedError as error:
            self._refuse(str(error))
        if self._fd is None:
            return
        now = time.time() if now is None else now
        for name in session_names(self._fd):
            if len(self._taken) == _TAKEN_MAX:
                break
            self._take_over(self._fd, name, now)

    def _refuse(self, why: str) -> None:
        self.refused = f"{STAGE_NAME.decode()} at the destination {why}: a cut leaves nothing"

    def _take_over(self, stage: int, name: bytes, now: float) -> bool:
        session = lock_session(stage, name)
        if session is None:
            self._busy.update(dict.fromkeys(map(key_in, _names_in(stage, name)), name))
            return False
        names = list(map(os.fsencode, os.listdir(session.fd)))
        if is_committed(names):  # since we looked for such: not ours to take anything from
            os.close(session.fd)
            return False
        self._taken.append(session)
        sweep(session, all_of_it=False)
        for each in names:
            self._take(session, each, now)
        return True

    def _take(self, session: SessionDirectory, name: bytes, now: float) -> None:
        """Keep a file that a dead session left, if it is the best for its path and not too old."""
        if name == self.ledger_name:
            self._ledger_in = session
            return
        if name.startswith(MARK_PREFIX):
            self._marks[name] = session
            return
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=session.fd, follow_symlinks=False)
            found = Partial(session, name, status.st_size // ALIGNMENT * ALIGNMENT)
            useless = name.startswith(LEDGER_PREFIX)
            expired = useless or now - status.st_ctime > EXPIRY_SECONDS
            if expired or not is_ours(status) or not found.size:
                found.remove()
                return
            other = self._partials.get(key_in(name))
            if other is not None and other.size >= found.size:
                found.remove()
                return
            if other is not None:
                other.remove()
            self._partials[key_in(name)] = found

    def find(self, path: bytes) -> Partial | None:
        """Return what is left of ``path``, once; waits a moment if another is still at it."""
        key = key_of(path)
        while key in self._busy and self._patience > 0:
            self._patience -= _BUSY_LOOK_SECONDS
            self._sleep(_BUSY_LOOK_SECONDS)
            name = self._busy[key]
            if self._fd is None or self._take_over(self._fd, name, time.time()):
                self._busy = {each: held for each, held in self._busy.items() if held != name}
        return self._partials.pop(key, None)

    @property
    def has_partials(self) -> bool:
        """Tell whether there may be a partial of any file."""
        return bool(self._partials or self._busy)

    @property
    def has_leftovers(self) -> bool:
        """Tell whether there may be something to remove of files that are complete."""
        return bool(self._partials or self._marks)

    def complete(self, path: bytes) -> None:
        """Remove all that is left of ``path``, which is as it should be, its mark too."""
        self.forget(path)
        if self._marks and (session := self._marks.pop(MARK_PREFIX + key_of(path), None)):
            with contextlib.suppress(OSError):
                remove_mark(session.fd, MARK_PREFIX + key_of(path))

    def forget(self, path: bytes) -> None:
        """Remove the partial of ``path``: it is of no use."""
        if self._partials and (partial := self._partials.pop(key_of(path), None)) is not None:
            partial.remove()

    def mark_of(self, path: bytes) -> int | None:
        """Return the directory that the mark of ``path`` is in, if it has one."""
        session = self._marks.get(MARK_PREFIX + key_of(path))
        return None if session is None else session.fd

    @property
    def has_marks(self) -> bool:
        """Tell whether any file may have one."""
        return bool(self._marks)

    def marked(self, path: bytes) -> None:
        """Note that ``path`` has a mark in the directory of this session."""
        self._marks[MARK_PREFIX + key_of(path)] = self.own_session()

    def new_name(self) -> bytes:
        """Return a name in the stage for what is of no use to another session."""
        return NEW_PREFIX + b"%d" % next(self._numbers)

    def create(self, directory: int, path: bytes, version: bytes = b"") -> Resumable | Staged:
        """Stage an empty file for ``path``, whose final place is in ``directory``.

        ``version`` is of what it will hold, if it is written from front to back.
        Raises ``OSError``.
        """
        staged = Staged.create(directory)
        if self.refused:
            return staged
        try:
            session = self.own_session()
            name = _stage_name(staged, directory, session, name_of(key_of(path), version))
        except StageRefusedError as error:
            self._refuse(str(error))
            return staged
        except OSError as error:
            if is_fatal(error):
                staged.discard(directory)
                raise
            return staged
        fd, staged.fd = staged.fd, -1
        return Resumable(fd, session, name)

    def resume(
        self, directory: int, path: bytes, partial: Partial, *, version: bytes = b""
    ) -> Resumable | None:
        """Go on writing in ``partial``, if it is what a new file for ``path`` would be.

        ``version`` is what it is the beginning of, as far as we know. None if it can only be
        read. Raises ``OSError``.
        """
        fresh = self.create(directory, path)
        try:
            if not isinstance(fresh, Resumable):
                return None
            found = partial.resumed(version=version)
            if _alike(found.fd, fresh.fd):
                return found
            found.close()
            return None
        finally:
            fresh.discard(directory)

    def open_ledger(self) -> int:
        """Return the open file in which this run's attempts note what they did; -1 for none."""
        if not self.ledger_name or self.refused:
            return -1
        try:
            self._ledger_in = self._ledger_in or self.own_session()
            flags = OPEN_PARTIAL | os.O_CREAT | os.O_APPEND
            fd = os.open(self.ledger_name, flags, 0o600, dir_fd=self._ledger_in.fd)
        except StageRefusedError as error:
            self._refuse(str(error))
            return -1
        except OSError:
            return -1
        if not is_ours(os.fstat(fd)):
            os.close(fd)
            return -1
        return fd

    def drop_ledger(self) -> None:
        """Remove the file of ``open_ledger`` and what took its place: the run is over."""
        for session in (self._ledger_in, self._own):
            if self.ledger_name and session is not None:
                with contextlib.suppress(OSError):
                    os.unlink(self.ledger_name, dir_fd=session.fd)
        self._ledger_in = None

    def hold(self) -> SessionDirectory | None:
        """Keep other runs that hold the stage out, and return the directory of this session.

        None if another keeps us out for longer than its end may take to be noticed. Raises
        ``OSError``, ``StageRefusedError``.
        """
        while True:
            session = self.own_session()
            assert self._fd is not None
            if hold_stage(self._root, self._fd):
                return session
            if self._patience <= 0:
                return None
            self._patience -= _BUSY_LOOK_SECONDS
            self._sleep(_BUSY_LOOK_SECONDS)

    @property
    def fd(self) -> int:
        """The stage's descriptor while this session has a directory in it."""
        assert self._fd is not None
        return self._fd

    def own_session(self) -> SessionDirectory:
        """Return the directory of this session, made if need be.

        Raises ``OSError``, ``StageRefusedError``.
        """
        if self._own is None:
            try:
                self._own = self._made_session()
            except FileNotFoundError:  # another session found it empty and removed it
                self._let_go()
                self._own = self._made_session()
        return self._own

    def _made_session(self) -> SessionDirectory:
        if self._fd is None:
            with time_kept(self._root):
                self._fd = make_stage(self._root)
        return make_session(self._fd)

    def _let_go(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def close(self) -> None:
        """Let go of the stage; remove of it what is empty."""
        if self._fd is None:
            return
        for session in (*self._taken, *([self._own] if self._own is not None else [])):
            session.release(self._fd)
        self._taken, self._own = [], None
        with contextlib.suppress(OSError), time_kept(self._root):
            os.rmdir(STAGE_NAME, dir_fd=self._root)
        self._let_go()


def _names_in(stage: int, name: bytes) -> list[bytes]:
    """Return the names in a subdirectory that another session holds."""
    with contextlib.suppress(OSError):
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=stage)
        try:
            return [os.fsencode(each) for each in os.listdir(fd)]
        finally:
            os.close(fd)
    return []


def _stage_name(staged: Staged, directory: int, session: SessionDirectory, wished: bytes) -> bytes:
    """Give ``staged`` a name in the stage that begins as ``wished``, and return it."""
    taken = 0
    while True:
        name = wished if not taken else b"%s.%d" % (wished, taken)
        try:
            staged.move(directory, session.fd, name)
        except FileExistsError:
            taken += 1
            continue
        return name


def _alike(one: int, other: int) -> bool:
    """Tell whether two open files have the same owner, group, rights and attributes."""
    first, second = os.fstat(one), os.fstat(other)
    return (
        (first.st_uid, first.st_gid, first.st_mode)
        == (second.st_uid, second.st_gid, second.st_mode)
        and first.st_dev == second.st_dev
        and _attributes(one) == _attributes(other)
    )


def _attributes(fd: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
    except OSError:
        return {}

"""The target of ``netsync commit``: files that are there, durably and whole, or not at all.

A commit may be asked for again at any time, whatever became of the one before: the caller may have
lost the answer, or its life. So there are three ways for a file. If nothing has its name, it is
staged, verified, flushed, and linked to the name without replacing; then the directory is flushed.
If the name has the same content, whoever put it there, that is flushed, and read again from the
disk before it is called the same. If the name has other content, it stays, and the file has failed;
only a commit that overwrites puts the new one in its place, in one step. A name never stands for
less than a whole file, also after a power cut, since what is linked was flushed before.

All files of a commit share the way: they are staged as they arrive, flushed one behind the other
(a journal's commit takes the next ones along), named, and each directory is flushed once. What
fails, fails for one file; the others go on. A commit of a few small files is one hop to a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio
from blake3 import blake3

from netsync.delta.digest import OpDigest
from netsync.errors import (
    PARTIAL_EXIT,
    NetsyncError,
    ProtocolError,
    RootError,
    is_fatal,
    reason,
    root_error,
)
from netsync.model import Entry, Kind, Options
from netsync.names import is_component, join
from netsync.net.channel import Channel, Received
from netsync.plan.compare import Policy, policy_for
from netsync.transfer.attributes import Attribution
from netsync.transfer.tally import Tally
from netsync.tree.capability import capability
from netsync.tree.content import Hashed
from netsync.tree.durable import flush
from netsync.tree.holes import make_hole
from netsync.tree.place import set_on_descriptor
from netsync.tree.read import open_regular, write_fully
from netsync.tree.roots import Anchor, TargetRoot, open_target
from netsync.tree.stage import Staged
from netsync.wire import messages as m
from netsync.wire.committing import (
    COMMIT_FILES_MAX,
    DURABLE,
    Commit,
    CommitData,
    CommitEnd,
    CommitFile,
    CommitResult,
    CommitResults,
    Kept,
)

_GATHER_BYTES: Final = 512 * 1024
_GATHER_FRAMES: Final = 64
"""Frames that share a hop to a thread, and bytes of data in them; beyond it is done at once."""
_LOOKS: Final = 3
"""How often a name is looked at again that was free, and then was not."""
_NOTICES_MAX: Final = 64
"""Notices in one answer."""
_OTHER_KIND: Final = {errno.ELOOP, errno.ESTALE, errno.ENXIO, errno.EISDIR}
"""What opening a link, or anything else that is no regular file, may come to."""
_DIFFERS: Final = "another file is there already, with other content: it was left as it is"
_DIFFERS_HINT: Final = "--overwrite replaces it"
_NOT_REGULAR: Final = "something is there that is no regular file: it was left as it is"


async def take_files(
    channel: Channel, request: Commit, anchor: Anchor, *, special: bool
) -> CommitResults:
    """Take the files that follow ``request`` below ``anchor``, and answer. Raises ``NetsyncError``.

    ``special`` allows what a module's setting allows: set-id bits, attributes that grant rights.
    """
    policy = policy_for(Options(), capability(), special=special)
    target = CommitTarget(anchor, request, policy)
    gathered: list[Received] = []
    size = 0
    try:
        while not isinstance((received := await channel.receive()).message, CommitEnd):
            gathered.append(received)
            size += len(received.tail)
            if size >= _GATHER_BYTES or len(gathered) >= _GATHER_FRAMES:
                await trio.to_thread.run_sync(target.take, gathered)
                gathered, size = [], 0
        results = await trio.to_thread.run_sync(target.finish, gathered)
    finally:
        target.close()
    await channel.send(results)
    return results


@dataclass
class _Place:
    """A directory that files of this commit go to, and what they get there."""

    root: TargetRoot
    attribution: Attribution

    @property
    def fd(self) -> int:
        """The directory's descriptor."""
        return self.root.fd


@dataclass
class _Arriving:
    """One file on its way: where to, what has arrived, and what became of it (None: not yet)."""

    place: _Place | None
    name: bytes
    entry: Entry
    shown: bytes
    staged: Staged | None = None
    digest: OpDigest = field(default_factory=lambda: OpDigest(blake3))
    position: int = 0
    ended: bool = False
    replaces: bool = False
    result: CommitResult | None = None

    @property
    def directory(self) -> int:
        """The descriptor of the directory it goes to."""
        assert self.place is not None
        return self.place.fd


class CommitTarget:
    """Takes the files of one commit. ``anchor`` stays the caller's."""

    def __init__(self, anchor: Anchor, request: Commit, policy: Policy) -> None:
        self._anchor = anchor
        self._request = request
        self._policy = policy
        self._tally = Tally()
        self._places: dict[tuple[bytes, bool], _Place] = {}
        self._files: list[_Arriving] = []

    def close(self) -> None:
        """Drop what is not named, and let go of all descriptors."""
        for file in self._files:
            _discard(file)
        for place in self._places.values():
            os.close(place.fd)
        self._places = {}

    def take(self, frames: Sequence[Received]) -> None:
        """Take what has arrived, in its order. Raises ``ProtocolError``."""
        for message, tail in frames:
            if isinstance(message, CommitFile):
                self._begin(message)
            elif isinstance(message, CommitData):
                self._go_on(message, tail)
            else:
                raise ProtocolError("no part of a commit", op="receive")

    def _begin(self, message: CommitFile) -> None:
        entry = message.entry
        if self._files and not self._files[-1].ended:
            raise ProtocolError("a file of a commit before the end of another", op="receive")
        if len(self._files) >= COMMIT_FILES_MAX:
            raise ProtocolError("too many files in one commit", op="receive")
        if entry.kind is not Kind.FILE or not is_component(entry.name):
            raise ProtocolError("a commit of what is no file", op="receive")
        file = _Arriving(None, entry.name, entry, join(message.path.rstrip(b"/"), entry.name))
        self._files.append(file)
        try:
            file.place = place = self._place(message)
            if place.root.file_name:
                file.name, file.shown = place.root.file_name, message.path
            told = m.List([], list(message.users), list(message.groups), xattrs=[message.xattrs])
            place.attribution.learn(told)
            place.attribution.admit(entry)
            file.staged = Staged.create(place.fd)
        except ProtocolError:
            raise
        except NetsyncError as error:
            words = f"{error.op} {error.where}: {error.why}"
            _give_up(file, "commit", words, error.exit_code, error.hint)
        except OSError as error:
            _fail(file, "stage", error)

    def _place(self, message: CommitFile) -> _Place:
        """Return the directory a file goes to. Raises ``NetsyncError``."""
        key = (message.path, message.single)
        place = self._places.get(key)
        if place is None:
            root = open_target(
                self._anchor, message.path, single_file=message.single, dry_run=False
            )
            attribution = Attribution(self._policy, root.fd, self._tally)
            place = self._places[key] = _Place(root, attribution)
            attribution.begin(m.Offer(False, None, list(self._request.namespaces)))
        return place

    def _go_on(self, message: CommitData, tail: memoryview) -> None:
        file = self._files[-1] if self._files else None
        if file is None or file.ended:
            raise ProtocolError("data of no file", op="receive")
        if message.hole + len(tail) > file.entry.size - file.position:
            raise ProtocolError("more data than the file is long", op="receive")
        file.ended = bool(message.digest) or message.void
        start = file.position + message.hole
        file.position = start + len(tail)
        if file.result is not None or file.staged is None:
            return
        if message.void:
            _give_up(file, "read", "the source could not read all of it")
            return
        try:
            self._write(file, message, tail, start)
        except OSError as error:
            _fail(file, "write", error)

    def _write(self, file: _Arriving, message: CommitData, tail: memoryview, start: int) -> None:
        """Write what came behind a hole; verify what is complete, and give it its metadata."""
        assert file.staged is not None
        assert file.place is not None
        if message.hole:
            file.digest.skip(message.hole)
            make_hole(file.staged.fd, start - message.hole, start)
        if len(tail):
            file.digest.update(tail)
            write_fully(file.staged.fd, tail, start)
        if not file.ended:
            return
        if file.position != file.entry.size or file.digest.digest() != message.digest:
            _give_up(file, "verify", "the data did not arrive as it was sent")
            return
        os.ftruncate(file.staged.fd, file.entry.size)
        place = file.place
        place.attribution.cannot_keep(file.entry)  # tells what is not kept, of a file at most
        refused = set_on_descriptor(file.staged.fd, place.attribution.of(file.entry))
        for refusal in refused:
            self._tally.notice(f"could not {refusal.op} a file: {reason(refusal.error)}")

    def finish(self, frames: Sequence[Received] = ()) -> CommitResults:
        """Take the last frames, name what has arrived, make it durable, say what became of it."""
        self.take(frames)
        if self._files and not self._files[-1].ended:
            raise ProtocolError("the end of a commit before that of a file", op="receive")
        for file in self._pending():
            self._look(file)
        self._flush()
        for file in self._pending():
            self._name(file)
        self._flush_directories()
        for file in self._files:
            _discard(file)
        results = tuple(file.result for file in self._files if file.result is not None)
        assert len(results) == len(self._files)
        return CommitResults(results, tuple(self._tally.notices)[:_NOTICES_MAX])

    def _pending(self) -> list[_Arriving]:
        return [file for file in self._files if file.result is None]

    def _look(self, file: _Arriving) -> None:
        """Settle a file whose name is taken, unless it is to be replaced."""
        try:
            fd = open_regular(file.directory, file.name)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno in _OTHER_KIND:
                _give_up(file, "commit", _NOT_REGULAR)
            else:
                _fail(file, "look at", error)
            return
        try:
            if _is_same(fd, file):
                file.result = CommitResult(Kept.SAME, file.name)
            elif self._request.overwrite:
                file.replaces = True
            else:
                words = ("commit", _DIFFERS, _DIFFERS_HINT)
                file.result = CommitResult(Kept.DIFFERS, file.name, PARTIAL_EXIT, *words)
        except OSError as error:
            _fail(file, "compare with", error)
        finally:
            os.close(fd)

    def _flush(self) -> None:
        """Make the content durable before anything has its name. A failure is final for all."""
        pending = self._pending()
        try:
            flush([file.staged.fd for file in pending if file.staged is not None])
        except OSError as error:
            for file in pending:
                _fail(file, "flush", error, code=RootError.exit_code)

    def _name(self, file: _Arriving) -> None:
        """Give a file its name, unless another was faster: then that decides."""
        assert file.staged is not None
        for _ in range(_LOOKS):
            try:
                if file.replaces:
                    file.staged.publish(file.directory, file.name, replace=True)
                else:
                    file.staged.move(file.directory, file.directory, file.name)
            except FileExistsError:
                self._look(file)
                if file.result is not None:
                    return
            except OSError as error:
                _fail(file, "name", error)
                return
            else:
                kept = Kept.REPLACED if file.replaces else Kept.CREATED
                file.result = CommitResult(kept, file.name)
                return
        _give_up(file, "name", "somebody else creates and removes it")

    def _flush_directories(self) -> None:
        """Make the names durable, those that were there before too."""
        named: dict[tuple[int, int], list[_Arriving]] = {}
        for file in self._files:
            if file.result is not None and file.result.kept in DURABLE:
                found = os.fstat(file.directory)
                named.setdefault((found.st_dev, found.st_ino), []).append(file)
        for files in named.values():
            try:
                os.fsync(files[0].directory)
            except OSError as error:
                for file in files:
                    _fail(file, "flush the directory of", error, code=RootError.exit_code)


def _is_same(fd: int, file: _Arriving) -> bool:
    """Tell whether an open file has the content that has arrived, on its disk.

    It may be there in the page cache only, or its write may have failed before: so it is flushed,
    and then read anew.
    """
    assert file.staged is not None
    size = os.fstat(fd).st_size
    if size != file.entry.size:
        return False
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return _digest(fd, size) == _digest(file.staged.fd, size)


def _digest(fd: int, size: int) -> bytes:
    hashed = Hashed(fd)
    for _ in hashed.read_to(size):
        pass
    return hashed.digest()


def _discard(file: _Arriving) -> None:
    """Drop what of a file has no name."""
    staged, file.staged = file.staged, None
    if staged is not None:
        with contextlib.suppress(OSError):  # nothing that was told depends on it
            staged.discard(file.directory)


def _give_up(file: _Arriving, op: str, why: str, code: int = PARTIAL_EXIT, hint: str = "") -> None:
    """Note that a file has failed, and make room."""
    file.result = CommitResult(Kept.FAILED, file.name, code, op, why, hint)
    _discard(file)


def _fail(file: _Arriving, op: str, error: OSError, code: int = PARTIAL_EXIT) -> None:
    """Note that a file has failed, with what the system said."""
    told = root_error(error, op=op, where=file.shown)
    if is_fatal(error):
        code = told.exit_code
    _give_up(file, op, told.why, code, told.hint)

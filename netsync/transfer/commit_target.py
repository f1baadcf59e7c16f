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

import errno
import os
from collections.abc import Callable, Sequence
from typing import Final

from netsync.errors import (
    NetsyncError,
    ProtocolError,
    RootError,
    reason,
)
from netsync.model import Kind, Options
from netsync.names import is_component, join
from netsync.net.channel import Channel, Received
from netsync.plan.compare import Policy, policy_for
from netsync.transfer.attributes import Attribution
from netsync.transfer.commit_file import ArrivingFile, CommitPlace
from netsync.transfer.tally import Tally
from netsync.tree.capability import capability
from netsync.tree.durable import flush
from netsync.tree.place import set_on_descriptor
from netsync.tree.read import open_regular
from netsync.tree.roots import Anchor, open_target
from netsync.tree.stage import Staged
from netsync.tree.threads import in_thread
from netsync.wire import messages as m
from netsync.wire.committing import (
    COMMIT_FILES_MAX,
    DURABLE,
    Commit,
    CommitData,
    CommitEnd,
    CommitFile,
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
_NOT_REGULAR: Final = "something is there that is no regular file: it was left as it is"


Guard = Callable[[bytes], None]
"""Called, in a thread, with the path of a file before anything is made for it; raises to refuse."""


def _refuse_nothing(path: bytes) -> None:
    del path


async def take_files(
    channel: Channel,
    request: Commit,
    anchor: Anchor,
    *,
    special: bool,
    guard: Guard = _refuse_nothing,
) -> CommitResults:
    """Take the files that follow ``request`` below ``anchor``, and answer. Raises ``NetsyncError``.

    ``special`` allows what a module's setting allows: set-id bits, attributes that grant rights.
    """
    policy = policy_for(Options(), capability(), special=special)
    target = CommitTarget(anchor, request, policy, guard)
    gathered: list[Received] = []
    size = 0
    try:
        while not isinstance((received := await channel.receive()).message, CommitEnd):
            gathered.append(received)
            size += len(received.tail)
            if size >= _GATHER_BYTES or len(gathered) >= _GATHER_FRAMES:
                await in_thread(target.take, gathered)
                gathered, size = [], 0
        results = await in_thread(target.finish, gathered)
    finally:
        target.close()
    await channel.send(results)
    return results


class CommitTarget:
    """Takes the files of one commit. ``anchor`` stays the caller's."""

    def __init__(
        self, anchor: Anchor, request: Commit, policy: Policy, guard: Guard = _refuse_nothing
    ) -> None:
        self._anchor = anchor
        self._guard = guard
        self._request = request
        self._policy = policy
        self._tally = Tally()
        self._places: dict[tuple[bytes, bool], CommitPlace] = {}
        self._files: list[ArrivingFile] = []

    def close(self) -> None:
        """Drop what is not named, and let go of all descriptors."""
        for file in self._files:
            file.discard()
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
        file = ArrivingFile(None, entry.name, entry, join(message.path.rstrip(b"/"), entry.name))
        self._files.append(file)
        try:
            self._guard(file.shown)
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
            file.give_up("commit", words, error.exit_code, error.hint)
        except OSError as error:
            file.fail("stage", error)

    def _place(self, message: CommitFile) -> CommitPlace:
        """Return the directory a file goes to. Raises ``NetsyncError``."""
        key = (message.path, message.single)
        place = self._places.get(key)
        if place is None:
            root = open_target(
                self._anchor, message.path, single_file=message.single, dry_run=False
            )
            attribution = Attribution(self._policy, root.fd, self._tally)
            place = self._places[key] = CommitPlace(root, attribution)
            attribution.begin(m.Offer(False, None, list(self._request.namespaces)))
        return place

    def _go_on(self, message: CommitData, tail: memoryview) -> None:
        file = self._files[-1] if self._files else None
        if file is None or file.ended:
            raise ProtocolError("data of no file", op="receive")
        if message.hole + len(tail) > file.entry.size - file.position:
            raise ProtocolError("more data than the file is long", op="receive")
        file.ended = bool(message.digest) or message.void
        file.position += message.hole + len(tail)
        if file.result is not None or file.staged is None:
            return
        if message.void:
            file.give_up("read", "the source could not read all of it")
            return
        try:
            file.write(message, tail)
            if file.ended and not file.is_whole(message.digest):
                file.give_up("verify", "the data did not arrive as it was sent")
            elif file.ended:
                self._give_metadata(file)
        except OSError as error:
            file.fail("write", error)

    def _give_metadata(self, file: ArrivingFile) -> None:
        """Set the metadata of a complete file, and tell what is not kept of it."""
        assert file.staged is not None
        assert file.place is not None
        attribution = file.place.attribution
        attribution.cannot_keep(file.entry)  # tells of owners; a file can always be kept
        for refusal in set_on_descriptor(file.staged.fd, attribution.of(file.entry)):
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
            file.discard()
        results = tuple(file.result for file in self._files if file.result is not None)
        assert len(results) == len(self._files)
        return CommitResults(results, tuple(self._tally.notices)[:_NOTICES_MAX])

    def _pending(self) -> list[ArrivingFile]:
        return [file for file in self._files if file.result is None]

    def _look(self, file: ArrivingFile) -> None:
        """Settle a file whose name is taken, unless it is to be replaced."""
        try:
            fd = open_regular(file.directory, file.name)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno in _OTHER_KIND:
                file.give_up("commit", _NOT_REGULAR)
            else:
                file.fail("look at", error)
            return
        try:
            if file.is_same(fd):
                file.settle(Kept.SAME)
            elif self._request.overwrite:
                file.replaces = True
            else:
                file.differs()
        except OSError as error:
            file.fail("compare with", error)
        finally:
            os.close(fd)

    def _flush(self) -> None:
        """Make the content durable before anything has its name. A failure is final for all."""
        pending = self._pending()
        try:
            flush([file.staged.fd for file in pending if file.staged is not None])
        except OSError as error:
            for file in pending:
                file.fail("flush", error, code=RootError.exit_code)

    def _name(self, file: ArrivingFile) -> None:
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
                file.fail("name", error)
                return
            else:
                file.settle(Kept.REPLACED if file.replaces else Kept.CREATED)
                return
        file.give_up("name", "somebody else creates and removes it")

    def _flush_directories(self) -> None:
        """Make the names durable, those that were there before too."""
        named: dict[tuple[int, int], list[ArrivingFile]] = {}
        for file in self._files:
            if file.result is not None and file.result.kept in DURABLE:
                found = os.fstat(file.directory)
                named.setdefault((found.st_dev, found.st_ino), []).append(file)
        for files in named.values():
            try:
                os.fsync(files[0].directory)
            except OSError as error:
                for file in files:
                    file.fail("flush the directory of", error, code=RootError.exit_code)

"""The source of ``netsync commit``: sends open files at once, and waits for the one answer.

Files are read through descriptors that the caller holds, so what is sent is what was opened,
whatever becomes of its name. A file that changes while it is read is given up: the caller says
that it is complete by committing it. Until ``CommitEnd`` is under way nothing can have been done;
from then on a connection that breaks leaves open what was, and asking again is safe.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import trio
from blake3 import blake3

from netsync.delta.digest import OpDigest
from netsync.errors import (
    IndeterminateError,
    NetsyncError,
    ProtocolError,
    is_cut,
    reason,
    unwrapped,
)
from netsync.model import Entry, Kind, Options, Problem, wire_time
from netsync.net.channel import Channel
from netsync.plan.xattrs import named_ids
from netsync.transfer.describing import NAMES_TOLD_MAX, Describer
from netsync.transfer.reading import let_settle
from netsync.tree.holes import find_holes
from netsync.tree.owners import IdNames, group_name, user_name
from netsync.tree.read import read_fully
from netsync.tree.threads import in_thread
from netsync.wire.committing import (
    Commit,
    CommitData,
    CommitEnd,
    CommitFile,
    CommitResult,
    CommitResults,
    Kept,
)
from netsync.wire.frames import TAIL_MAX

CHANGED: Final = "it changed while it was read"


class Committed(NamedTuple):
    """A file to be committed: open for reading, and where to; ``shown`` is what the user wrote.

    With ``single`` the last name of ``path`` is the file's, unless that is a directory.
    """

    fd: int
    name: bytes
    shown: bytes
    path: bytes
    single: bool


class Answered(NamedTuple):
    """What became of the files, in their order; ``sizes`` are those that were sent.

    ``given_up`` says, by number, what could not be read; ``problems`` are others on the way.
    """

    results: tuple[CommitResult, ...]
    sizes: list[int]
    given_up: dict[int, Problem]
    problems: list[Problem]
    notices: tuple[str, ...]


async def send_files(channel: Channel, request: Commit, files: Sequence[Committed]) -> Answered:
    """Send ``files``, at most ``COMMIT_FILES_MAX``, and return what became of them.

    Raises ``IndeterminateError`` if the answer does not come, other ``NetsyncError`` if nothing
    can have been done.
    """
    source = _Source(files)
    await channel.send(source.begun(request))
    try:
        with unwrapped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.send, channel)
                answer = (await channel.receive()).message
                if not isinstance(answer, CommitResults) or not source.asked:
                    raise ProtocolError("the server answered something else", op="commit")
    except NetsyncError as error:
        if not source.asked or not is_cut(error):
            raise
        raise IndeterminateError(
            f"no answer: {error.why}", op="commit to", where=error.place,
            hint="the files may be durable there or not: run it again",
        ) from error  # fmt: skip
    return source.answered(answer)


class _Source:
    """Reads and sends the files of one commit; ``asked`` once the server may act."""

    def __init__(self, files: Sequence[Committed]) -> None:
        self.asked = False
        self._files = files
        self._sizes: list[int] = []
        self._given_up: dict[int, Problem] = {}
        self._problems: list[Problem] = []
        self._describer = Describer(Options(), self._problems.append)
        self._users, self._groups = IdNames(user_name), IdNames(group_name)

    def begun(self, request: Commit) -> Commit:
        """Return the request with the namespaces of attributes that are seen here."""
        seen = self._describer.offer(None, single_file=True).namespaces
        return Commit(request.module, request.overwrite, tuple(seen))

    async def send(self, channel: Channel) -> None:
        """Send all files and the end."""
        for number, file in enumerate(self._files):
            frames = self._frames(number, file)
            ended = False
            while not ended:
                for message, tail in await in_thread(next, frames):
                    await channel.send(message, [tail] if tail else ())
                    ended = isinstance(message, CommitData) and _is_last(message)
        self.asked = True
        await channel.send(CommitEnd())

    def _frames(
        self, number: int, file: Committed
    ) -> Iterator[list[tuple[CommitFile | CommitData, bytes]]]:
        """Yield what one file is sent in; each step reads at most a frame's tail."""
        let_settle(os.fstat(file.fd).st_mtime_ns)
        before = os.fstat(file.fd)
        self._sizes.append(before.st_size)
        head: list[tuple[CommitFile | CommitData, bytes]] = [(self._head(file, before), b"")]
        digest = OpDigest(blake3)
        hole = position = 0
        try:
            for extent in find_holes(file.fd, before.st_size).extents(0, before.st_size):
                if extent.is_hole:
                    hole += extent.end - extent.start
                    digest.skip(extent.end - extent.start)
                    position = extent.end
                    continue
                while position < extent.end:
                    data = read_fully(file.fd, min(TAIL_MAX, extent.end - position), position)
                    if not data:
                        raise OSError(CHANGED)
                    digest.update(data)
                    position += len(data)
                    if position == before.st_size and not _has_changed(file.fd, before):
                        yield [*head, (CommitData(hole, digest.digest()), data)]
                        return
                    yield [*head, (CommitData(hole), data)]
                    head, hole = [], 0
            if _has_changed(file.fd, before):
                raise OSError(CHANGED)
            yield [*head, (CommitData(hole, digest.digest()), b"")]
        except OSError as error:
            self._given_up[number] = Problem(file.shown, "read", reason(error))
            yield [*head, (CommitData(void=True), b"")]

    def _head(self, file: Committed, status: os.stat_result) -> CommitFile:
        """Describe a file as it is now."""
        items = self._describer.xattrs(file.fd, file.shown) or ()
        entry = Entry(
            file.name, Kind.FILE, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid,
            status.st_size, wire_time(status.st_mtime_ns), xattrs=1 if items else 0,
        )  # fmt: skip
        ids = named_ids(items)
        users = self._users.new({status.st_uid, *ids[0]})[:NAMES_TOLD_MAX]
        groups = self._groups.new({status.st_gid, *ids[1]})[:NAMES_TOLD_MAX]
        return CommitFile(file.path, entry, file.single, items, tuple(users), tuple(groups))

    def answered(self, answer: CommitResults) -> Answered:
        """Check that the answer is about these files. Raises ``ProtocolError``."""
        if len(answer.results) != len(self._files):
            raise ProtocolError("the server answered about other files", op="commit")
        for number, (file, result) in enumerate(zip(self._files, answer.results, strict=True)):
            names = {file.name}
            if file.single:
                names |= {file.path.rpartition(b"/")[2]} - {b""}
            given_up = number in self._given_up
            if result.name not in names or (given_up and result.kept is not Kept.FAILED):
                raise ProtocolError(
                    "the server answered about another file", op="commit", where=file.shown
                )
        return Answered(answer.results, self._sizes, self._given_up, self._problems, answer.notices)


def _is_last(data: CommitData) -> bool:
    return bool(data.digest) or data.void


def _has_changed(fd: int, before: os.stat_result) -> bool:
    """Tell whether a file was written to since ``before``."""
    now = os.fstat(fd)
    return (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)

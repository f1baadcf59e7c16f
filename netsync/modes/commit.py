"""``netsync commit``: files are durable at the destination when it returns well, and not before.

The files are opened once and sent over a session of its own, or over one that is held for many
commits (``cli/resident.py``), or to this host's own file system over memory. The three differ in
the channel only.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import trio

from netsync.delta import kernel
from netsync.errors import (
    PARTIAL_EXIT,
    ProtocolError,
    UsageError,
    error_for_exit_code,
    reason,
    root_error,
    unwrapped,
)
from netsync.model import Bytes, Files, Problem, Report
from netsync.modes.address import Remote
from netsync.modes.session import Connection, session
from netsync.names import is_reserved
from netsync.net.channel import Channel, memory_channels
from netsync.transfer.commit_source import Answered, Committed, send_files
from netsync.tree.roots import local_anchor, local_path
from netsync.wire.committing import COMMIT_FILES_MAX, DURABLE, Commit, CommitResult, Kept
from netsync.wire.order import State

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Given(NamedTuple):
    """A file as the user named it, open for reading."""

    path: bytes
    fd: int


@dataclass(frozen=True)
class Wish:
    """What is to be committed where: a module's path, or with an empty module a local one.

    ``missing`` are files that could not be opened.
    """

    files: tuple[Given, ...]
    module: str
    path: bytes
    overwrite: bool = False
    missing: tuple[Problem, ...] = ()

    def committed(self) -> list[Committed]:
        """Return the files with where they go. Raises ``UsageError``."""
        single = len(self.files) + len(self.missing) == 1
        return [
            Committed(file.fd, _name_of(file.path), file.path, self.path, single)
            for file in self.files
        ]


def _name_of(path: bytes) -> bytes:
    name = os.path.basename(path)
    if is_reserved(name):
        words = "names that begin with .netsync are netsync's own and are not copied"
        raise UsageError(words, op="commit", where=path, hint="rename it")
    return name


@contextlib.contextmanager
def opened(paths: Sequence[bytes]) -> Iterator[tuple[tuple[Given, ...], tuple[Problem, ...]]]:
    """Hold the files at ``paths``, links followed. One missing among several is a problem.

    Raises ``RootError`` if none can be opened, ``UsageError`` for what is no regular file.
    """
    files: list[Given] = []
    missing: list[Problem] = []
    try:
        for path in paths:
            try:
                files.append(Given(path, os.open(path, _OPEN)))
            except OSError as error:
                if len(missing) == len(paths) - 1:
                    raise root_error(error, op="open", where=path) from error
                missing.append(Problem(path, "open", reason(error)))
                continue
            if not stat.S_ISREG(os.fstat(files[-1].fd).st_mode):
                hint = "push copies directories and what is in them"
                raise UsageError("is no regular file", op="commit", where=path, hint=hint)
        yield tuple(files), tuple(missing)
    finally:
        for file in files:
            os.close(file.fd)


async def commit_remotely(wish: Wish, remote: Remote, connection: Connection) -> Report:
    """Commit over a session of its own. Raises ``NetsyncError``."""
    wish.committed()  # what cannot be asked for needs no connection
    async with session(remote, connection) as channel:
        answered = await over(channel, wish)
        sent, received = channel.wire
    return report_of(wish, answered, sent, received)


async def commit_locally(wish: Wish) -> Report:
    """Commit to a path of this host. Raises ``NetsyncError``."""
    from netsync.transfer.commit_target import take_files  # noqa: PLC0415 - each role costs 50 ms

    ours, theirs = memory_channels(State.SERVER_ANSWERS, State.CLIENT_ASKS)
    local = Wish(wish.files, "", local_path(wish.path), wish.overwrite, wish.missing)

    async def serve() -> None:
        while True:
            request = (await theirs.receive()).message
            assert isinstance(request, Commit)
            await take_files(theirs, request, anchor, special=True)

    with local_anchor() as anchor, unwrapped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            answered = await over(ours, local)
            nursery.cancel_scope.cancel()
    return report_of(local, answered)


async def over(channel: Channel, wish: Wish) -> list[Answered]:
    """Commit over ``channel``, as many files at a time as one commit takes."""
    files = wish.committed()
    request = Commit(wish.module, wish.overwrite)
    return [
        await send_files(channel, request, files[at : at + COMMIT_FILES_MAX])
        for at in range(0, len(files), COMMIT_FILES_MAX)
    ]


def report_of(wish: Wish, answered: Sequence[Answered], sent: int = 0, received: int = 0) -> Report:
    """Return what became of a wish. Raises what kept a file from it, if more than the file."""
    problems = list(wish.missing)
    counts = dict.fromkeys(Kept, 0)
    sizes, done = 0, 0
    numbered = (
        (part, number, result) for part in answered for number, result in enumerate(part.results)
    )
    for file, (part, number, result) in zip(wish.files, numbered, strict=True):
        counts[result.kept] += 1
        sizes += part.sizes[number]
        if result.kept in DURABLE:
            done += part.sizes[number] if result.kept is not Kept.SAME else 0
        else:
            problems.append(part.given_up.get(number) or _problem(file.path, result))
    failed = counts[Kept.FAILED] + counts[Kept.DIFFERS]
    problems += [problem for part in answered for problem in part.problems]
    notices = dict.fromkeys(notice for part in answered for notice in part.notices)
    return Report(
        files=Files(
            considered=len(wish.files), created=counts[Kept.CREATED],
            updated=counts[Kept.REPLACED], unchanged=counts[Kept.SAME], failed=failed,
        ),
        bytes=Bytes(total=sizes, literal=done, wire_sent=sent, wire_received=received),
        durable=not problems, kernel=kernel.NAME, problems=tuple(problems),
        notices=tuple(notices),
    )  # fmt: skip


def _problem(path: bytes, result: CommitResult) -> Problem:
    if result.code not in (0, PARTIAL_EXIT):
        cls = error_for_exit_code(result.code)
        raise cls(result.why, op=result.op or "commit", where=path, hint=result.hint)
    if not result.why:
        raise ProtocolError("a file failed without a reason", op="commit", where=path)
    words = f"{result.why} ({result.hint})" if result.hint else result.why
    return Problem(path, result.op or "commit", words)

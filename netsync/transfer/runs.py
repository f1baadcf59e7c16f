"""Runs: small files of one directory, staged together and later named together.

A listing goes directory by directory, so the files of a frame, and of a batch, mostly come as
neighbours. What is done for a run is one call into the system's layer, with one release of the
GIL: for a file of some kilobytes that costs as much as half of the system's own work. Only the
ordinary case is a run's, a new file on a file system with unnamed files. A file for which that
fails is left to the caller, to be tried alone and with every fallback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from xxhash import xxh3_128_digest

from netsync.errors import ProtocolError, root_error
from netsync.transfer.awaited import Awaited
from netsync.transfer.neighbours import StagedTogether, Together
from netsync.transfer.wanted import Wanted
from netsync.tree.directories import Directories
from netsync.tree.durable import EACH_MAX, flush, flush_file_systems
from netsync.tree.native import Staging, link_files, stage_files
from netsync.tree.output import Output
from netsync.wire.messages import FileHead

Batched = tuple[Wanted, Output]
"""A file with its content and metadata, and where that is."""

Staged = Batched | StagedTogether

_AS_IT_IS: Final = -1


class Arrival(NamedTuple):
    """A file that came, and where in its frame's tail its content begins."""

    wanted: Wanted
    head: FileHead
    start: int


class Run:
    """Files of one directory; their contents lie one behind the other in ``tail``.

    ``left_over`` are those that are not staged: all of them, until ``stage`` is called; ``staged``
    counts the bytes of the others.
    """

    def __init__(self, tail: memoryview, arrivals: list[Arrival]) -> None:
        self.left_over = arrivals
        self.staged = 0
        self._tail = tail

    def content(self, arrival: Arrival) -> memoryview:
        """Return what one of the files holds."""
        return self._tail[arrival.start : arrival.start + arrival.head.size]

    def stage(self, directories: Directories) -> list[Batched]:
        """Stage the files; return those of which that came about."""
        arrivals = self.left_over
        first = arrivals[0]
        try:
            fd = directories.fd(first.wanted.directory)
        except OSError:
            return []
        plans = [_plan(wanted, head) for wanted, head, _ in arrivals]
        fds = stage_files(fd, self._tail[first.start :], plans)
        staged: list[Batched] = []
        self.left_over = []
        for arrival, result in zip(arrivals, fds, strict=True):
            if result < 0:
                self.left_over.append(arrival)
            else:
                wanted = arrival.wanted
                staged.append((wanted, Output.unnamed(result, wanted.attributes)))
                self.staged += arrival.head.size
        return staged


def _plan(wanted: Wanted, head: FileHead) -> Staging:
    """Return what a file becomes: the listed metadata, but the time of what was read."""
    attributes = wanted.attributes
    mode, uid, gid = attributes.mode, attributes.uid, attributes.gid
    return (
        head.size,
        _AS_IT_IS if mode is None else mode,
        _AS_IT_IS if uid is None else uid,
        _AS_IT_IS if gid is None else gid,
        None if attributes.mtime_ns is None else head.mtime_ns,
    )


def runs(
    files: Sequence[FileHead],
    tail: memoryview,
    awaited: Awaited,
    expect: Callable[[int], Wanted],
    damaged: Callable[[Wanted], None],
) -> Iterator[Run | Together]:
    """Cut a frame of files into runs: neighbours if all of the frame is whole, else any files.

    ``expect`` returns a file by its number and refuses one that may not come; ``damaged`` gets
    each whose digest does not fit, and no run holds that. Raises ``ProtocolError``.
    """
    ends = list(accumulate([head.size for head in files]))
    if ends[-1] != len(tail):
        raise ProtocolError("files do not fit their frame", op="receive")
    whole = [
        xxh3_128_digest(tail[end - head.size : end]) == head.digest
        for head, end in zip(files, ends, strict=True)
    ]
    all_whole = all(whole)
    run: list[Arrival] = []
    at = 0
    while at < len(files):
        head, start = files[at], ends[at] - files[at].size
        if all_whole and (near := awaited.together(files, at)) is not None:
            if run:
                yield Run(tail, run)
                run = []
            yield Together(near[0], files[at : near[1]], tail[start : ends[near[1] - 1]])
            at = near[1]
            continue
        wanted = expect(head.number)
        if run and not (whole[at] and wanted.directory == run[0].wanted.directory):
            yield Run(tail, run)
            run = []
        if whole[at]:
            run.append(Arrival(wanted, head, start))
        else:
            damaged(wanted)
        at += 1
    if run:
        yield Run(tail, run)


def make_durable(batch: Sequence[Staged], *, changes: bool = False) -> None:
    """Flush what is staged. Raises ``RootError``.

    Changes as they happen are flushed one by one also where they are many: their file system may
    hold much that others wrote, and somebody waits. Of so many others that whole file systems are
    flushed, one unnamed file speaks for all in its directory. What was written elsewhere, in the
    stage or in place, speaks for itself only.
    """
    one_of: dict[bytes, int] = {}
    others: list[int] = []
    fds: list[int] = []
    for staged in batch:
        if isinstance(staged, StagedTogether):
            one_of.setdefault(staged.files.directory, staged.fds[0])
            fds += staged.fds
            continue
        wanted, output = staged
        fds.append(output.fd)
        if output.is_unnamed:
            one_of.setdefault(wanted.directory, output.fd)
        else:
            others.append(output.fd)
    try:
        if len(fds) > EACH_MAX and not changes:
            flush_file_systems([*one_of.values(), *others])
        else:
            flush(fds, many=changes)
    except OSError as error:
        raise root_error(error, op="flush", where=b".") from error


def singles(batch: Sequence[Staged]) -> Iterator[Batched]:
    """Yield the files at the end of ``batch``, the last one first, back to such as are together."""
    for staged in reversed(batch):
        if isinstance(staged, StagedTogether):
            return
        yield staged


def name_last(batch: Sequence[Staged], directories: Directories) -> list[int]:
    """Give the last files of ``batch`` their names, as far as they are a run.

    Returns what ``link_files`` does, for as many of the last files of the batch; none where the
    last one is no ordinary case. Those that have their names are let go of.
    """
    run: list[Batched] = []
    for wanted, output in singles(batch):
        elsewhere = run and wanted.directory != run[0][0].directory
        if elsewhere or not wanted.is_new or not output.is_unnamed:
            break
        run.append((wanted, output))
    if not run:
        return []
    run.reverse()
    try:
        fd = directories.fd(run[0][0].directory)
    except OSError:
        return []
    told = link_files(fd, [output.fd for _, output in run], [wanted.name for wanted, _ in run])
    for (_, output), result in zip(run, told, strict=True):
        if result <= 0:
            output.let_go()
    return told

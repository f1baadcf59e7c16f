"""The end of a transfer: deletes, the metadata of directories, the flush, the report.

Nothing is deleted unless the source listed every directory whole and nothing went wrong while it
read them: a tree that could not be read looks exactly like a tree with files missing. Nor is
anything, if a guard holds it. Deletes come last, unless they were asked for before the data.
Directory times come after the last change inside; the flush comes after those.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from netsync.delta import kernel
from netsync.errors import is_fatal, reason, root_error
from netsync.model import Change, Kind, Options, Problem, Report
from netsync.transfer.comparing import Comparer
from netsync.transfer.destination import Destination
from netsync.transfer.effects import effects_for
from netsync.transfer.guarding import Guards
from netsync.transfer.landing import Lander
from netsync.transfer.tally import Tally, kept_problems, total_bytes, total_files
from netsync.transfer.wanted import Doomed, Ending, Restated
from netsync.tree.directories import Directories
from netsync.tree.durable import EACH_MAX, flush, sync_file_system
from netsync.tree.read import open_regular
from netsync.wire.messages import ListEnd

INCOMPLETE: str = "nothing was deleted: the source could not be read whole"
UNPUBLISHED: str = "nothing was published: with --atomic all of a run is, or nothing"
CHANGES_EACH_MAX: int = 1024
"""Directories of one transfer of changes that are flushed one by one: a descriptor each."""
IN_THE_WAY: str = "a directory is in the way and was kept"


class Finisher:
    """Brings a transfer to its end. Runs in a worker thread after all files have landed.

    ``cleared`` are the paths at which a directory made way for a file; ``published`` tells
    whether what was counted has come about, or in a dry run would.
    """

    def __init__(
        self, destination: Destination, comparer: Comparer, lander: Lander, guards: Guards
    ) -> None:
        options = destination.options
        self.tally = Tally(itemize=options.itemize)
        self.cleared: set[bytes] = set()
        self.published = True
        self._complete = True
        self._stage = destination.stage
        self._root = destination.root
        self._preparation = destination.preparation
        self._device = os.fstat(destination.root).st_dev
        self._options = options
        self._comparer = comparer
        self._lander = lander
        self._guards = guards
        self._directories = Directories(destination.root)
        self._effects = effects_for(destination, self._directories, self.tally, comparer.restated)

    def close(self) -> None:
        """Let go of descriptors."""
        self._effects.close()
        self._directories.close()

    def notice(self, sentences: Iterable[str]) -> None:
        """Tell the user these."""
        for words in sentences:
            self.tally.notice(words)

    def delete(self, *, complete: bool) -> None:
        """Delete what must go if the source was read whole and no guard holds it.

        Called once: before the data, when files that need the way cleared have not arrived yet,
        or behind it. Raises ``RootError``.
        """
        complete = self._complete = complete and not self._lander.source_failed
        try:
            self._guards.decide(self._comparer.dooming, self._directories, self._due)
            if (complete or self._options.verify) and not self._guards.held:
                for doomed in self._due():
                    self._delete(doomed)
                return
            if not complete and len(self._comparer.dooming.doomed):
                self.tally.notice(INCOMPLETE)
            for doomed in self._comparer.dooming.doomed:
                self._fail_replacement(doomed)
        except OSError as error:
            raise root_error(error, op="finish", where=b".") from error

    def finish(self) -> None:
        """Settle the directories, make it durable, remember the source. Raises ``RootError``."""
        try:
            self._lander.blocked.publish(self.cleared, IN_THE_WAY)
            if self._options.atomic:
                self._finish_at_once()
            else:
                self._comparer.linker.finish()
                self._close_stage()
                self._settle_directories()
                if self._options.fsync and not self._options.dry_run:
                    self._make_durable()
        except OSError as error:
            raise root_error(error, op="finish", where=b".") from error
        if self.published:
            self._guards.remember(self._directories, listed=self._comparer.tally.considered > 0)
        for words in self._guards.notices:
            self.tally.notice(words)

    def _finish_at_once(self) -> None:
        """Publish everything, or nothing if anything is wrong with anything."""
        if not self._is_spoilt():
            self._comparer.linker.finish()
            self._settle_directories()
        if self._preparation is not None and not self._is_spoilt():
            for path, error in self._preparation.recheck():
                self.tally.problem(Problem(path, "publish", reason(error)))
        self.published = not self._is_spoilt()
        if not self.published:
            for tally in self._tallies:
                tally.void()
            self.tally.notice(UNPUBLISHED)
        elif self._preparation is not None:
            for tally in self._tallies:
                tally.note()
            for path, refused in self._preparation.publish():
                self.tally.refused(path, refused)
        self._close_stage()

    @property
    def _tallies(self) -> tuple[Tally, Tally, Tally]:
        return self._comparer.tally, self._lander.tally, self.tally

    def _is_spoilt(self) -> bool:
        """Tell whether a run that is all or nothing has to be nothing."""
        wrong = any(tally.has_trouble for tally in self._tallies)
        return wrong or not self._complete or bool(self._guards.held)

    def _close_stage(self) -> None:
        """Leave the stage before the root gets its times, and say if it was of no use."""
        if self._stage.refused:
            self.tally.notice(self._stage.refused)
        self._stage.drop_ledger()
        if self._preparation is not None:
            self._preparation.close()
        self._stage.close()

    def _due(self) -> Iterator[Doomed]:
        """Yield what is to go: a directory in the way of a file only if that has arrived."""
        arrived = self._lander.blocked.paths
        at_once = self._options.dry_run or self._options.delete_before
        instead = self._comparer.linker.wanted_instead
        for doomed in self._comparer.dooming.doomed:
            for_data = doomed.for_file or (doomed.for_link and doomed.path in instead)
            if not for_data or at_once or doomed.path in arrived:
                yield doomed

    def _delete(self, doomed: Doomed) -> None:
        dooming = self._comparer.dooming
        gone = dooming.remove(self._effects, doomed.path, self.tally)
        if not gone:
            self._fail_replacement(doomed)
        elif doomed.special is not None:
            self._replace(doomed)
        elif (doomed.for_file or doomed.for_link) and self._options.dry_run:
            self.tally.change(Change.CREATED, doomed.path)
        elif doomed.for_file or doomed.for_link:
            self.cleared.add(doomed.path)

    def _fail_replacement(self, doomed: Doomed) -> None:
        """Count what cannot take a directory's place; a real run counts files when they come."""
        dry_run = self._options.dry_run
        if doomed.special is not None or (dry_run and (doomed.for_file or doomed.for_link)):
            self.tally.fail(doomed.path, "replace", IN_THE_WAY)

    def _replace(self, doomed: Doomed) -> None:
        """Create the link or device that a directory was in the way of."""
        assert doomed.special is not None
        assert doomed.attributes is not None
        try:
            above = doomed.path.rpartition(b"/")[0]
            refused = self._effects.create(above, doomed.special, doomed.attributes, replaces=False)
            self.tally.refused(doomed.path, refused)
        except OSError as error:
            self.tally.fail(doomed.path, "replace", error)
        else:
            self.tally.change(Change.CREATED, doomed.path)

    def _settle_directories(self) -> None:
        """Give directories their metadata, what is deeper first."""
        for ending in self._comparer.endings:
            path = ending.path or b"."
            try:
                self.tally.refused(path, self._effects.settle(ending))
            except OSError as error:
                if is_fatal(error):
                    raise
                self.tally.problem(Problem(path, "set metadata of", reason(error)))

    def _make_durable(self) -> None:
        """Flush every directory that changed and every entry that got other metadata.

        One by one if they are few and can be opened; else each file system that holds one.
        """
        endings, restated = self._comparer.endings, self._comparer.restated
        most = CHANGES_EACH_MAX if self._options.changes else EACH_MAX
        few = len(endings) + len(restated) <= most and not self._options.backup_dir
        if few and all(each.kind is Kind.FILE for each in restated):
            fds: list[int] = []
            try:
                with contextlib.suppress(PermissionError):  # its new mode shuts us out
                    fds += self._opened(endings, restated)
                    flush(fds, many=True)
                    return
            finally:
                for fd in fds:
                    os.close(fd)
            sync_file_system(self._root)
            return
        sync_file_system(self._root)
        seen = {self._device}
        if self._options.backup_dir:
            self._flush_file_system(self._options.backup_dir, seen)
        for path in (*(ending.path for ending in endings), *map(_parent, restated)):
            self._flush_file_system(path, seen)

    def _opened(self, endings: Iterable[Ending], restated: Iterable[Restated]) -> list[int]:
        """Open what is to be flushed, but for what was moved away meanwhile."""
        with contextlib.ExitStack() as opened:
            fds: list[int] = []
            for ending in endings:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    fds.append(os.dup(self._directories.fd(ending.path)))
                    opened.callback(os.close, fds[-1])
            for each in restated:
                parent, _, name = each.path.rpartition(b"/")
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    fds.append(open_regular(self._directories.fd(parent), name))
                    opened.callback(os.close, fds[-1])
            opened.pop_all()
            return fds
        raise AssertionError("unreachable: the body returns or raises")

    def _flush_file_system(self, path: bytes, seen: set[int]) -> None:
        """Flush the file system that holds the directory ``path``, once each."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            fd = self._directories.fd(path)
            device = os.fstat(fd).st_dev
            if device not in seen:
                seen.add(device)
                sync_file_system(fd)


def _parent(restated: Restated) -> bytes:
    return restated.path.rpartition(b"/")[0]


def notices_of(end: ListEnd) -> list[str]:
    """Return what the source says to the user at the end of its listing."""
    if not end.unsafe_links:
        return end.notices
    links = "link that leads" if end.unsafe_links == 1 else "links that lead"
    words = f"{end.unsafe_links} {links} out of the tree left out (--safe-links)"
    return [words, *end.notices]


def report(
    options: Options, tallies: Iterable[Tally], held: str, *, published: bool = True
) -> Report:
    """Return the report of a finished transfer; ``published`` unless it came to nothing."""
    tallies = list(tallies)
    problems, omitted = kept_problems(tallies)
    return Report(
        files=total_files(tallies),
        bytes=total_bytes(tallies),
        durable=options.fsync and not options.dry_run and published,
        dry_run=options.dry_run,
        held=held,
        kernel=kernel.NAME,
        problems=problems,
        problems_omitted=omitted,
        notices=tuple(words for tally in tallies for words in tally.notices),
    )

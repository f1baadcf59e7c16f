"""Giving complete files their names: at once, or when the whole run is published.

A batch of staged files is flushed as a whole and then each is linked or renamed into place. A file
that a full directory is in the way of waits for the guards, in the stage and without a descriptor:
there may be any number of them. In a run that is published at once each file goes into the stage
under a name, and the journal is told; no name at the destination is touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Container
from typing import Final, Protocol

from netsync.model import Change
from netsync.transfer.destination import Destination
from netsync.transfer.preparing import OTHER_MOUNT, Preparation
from netsync.transfer.runs import Batched, Staged, make_durable, name_last, singles
from netsync.transfer.tally import Tally
from netsync.transfer.wanted import Wanted
from netsync.tree.backup import Backup
from netsync.tree.content import is_content_of
from netsync.tree.directories import ABSENT, Directories
from netsync.tree.half_written import HalfWritten
from netsync.tree.journal import Place
from netsync.tree.native import link_files
from netsync.tree.output import Output
from netsync.tree.stage_directory import StageRefusedError

_LONG_TO_FREE: Final = 64 * 1024 * 1024
"""Bytes of a file whose room is given back in more than some milliseconds."""
_HELD: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Publisher(Protocol):
    """Names the files of the landing worker. ``places`` are where their content is created."""

    places: Directories

    def close(self, *, keeps_partials: bool) -> None:
        """Let go of descriptors; say if what a later run could go on with is left to it."""

    def overwrite(self, wanted: Wanted) -> None:
        """Keep what is about to be written over in place. Raises ``OSError``."""

    def make_durable(self, batch: list[Staged]) -> None:
        """Flush what is staged. Raises ``RootError``."""

    def name_last(self, batch: list[Staged]) -> list[int]:
        """Name the last files of a batch together, as ``runs.name_last`` does."""

    def publish(self, wanted: Wanted, output: Output, *, replace: bool) -> None:
        """Give a file its name. Raises ``OSError``, and then it is still the caller's."""

    def release(self) -> bool:
        """Give back the room of what was replaced last; tell if that had been put off."""

    def hold(self, wanted: Wanted, output: Output) -> Output | None:
        """Keep a file whose way is not clear yet; return it if it is still to be published."""


class AtOnce:
    """Names files on the spot. ``directories`` stays the caller's."""

    def __init__(self, destination: Destination, directories: Directories) -> None:
        self.places = directories
        self._options = destination.options
        self._stage = destination.stage
        self._backup = Backup(destination.root, destination.options)
        self._replaced = -1
        self._half_written = HalfWritten(destination.root, destination.stage)

    def close(self, *, keeps_partials: bool) -> None:
        """Let go of descriptors."""
        del keeps_partials
        self.release()
        self._backup.close()
        self._half_written.close()

    def overwrite(self, wanted: Wanted) -> None:
        if not self._options.backup_dir:
            return
        fd, path = self.places.fd(wanted.directory), wanted.path
        if self._half_written.has_backup(fd, path):
            self._backup.spare(path)
        else:
            self._backup.copy_once(fd, path)
            self._half_written.note(fd, path, self._options.backup_dir)

    def make_durable(self, batch: list[Staged]) -> None:
        if self._options.fsync:
            make_durable(batch, changes=self._options.changes)

    def name_last(self, batch: list[Staged]) -> list[int]:
        return name_last(batch, self.places)

    def publish(self, wanted: Wanted, output: Output, *, replace: bool) -> None:
        fd = self.places.fd(wanted.directory)
        if wanted.change is not Change.METADATA or not self._is_there(fd, wanted, output):
            self._backup.keep(fd, wanted.path)
        self._put_off_release(fd, wanted)
        output.publish(fd, wanted.name, replace=replace)
        if self._stage.has_marks:
            self._half_written.forget(wanted.path)

    def _is_there(self, directory: int, wanted: Wanted, output: Output) -> bool:
        """Tell whether a name that another one failed for holds already what it gets.

        Its backup is then of an older content, which this must not take the place of.
        """
        if not self._options.backup_dir or output.fd < 0:
            return False
        return is_content_of(output.fd, directory, wanted.name)

    def _put_off_release(self, directory: int, wanted: Wanted) -> None:
        """Hold what is about to be replaced if it is large, in place of what was held before.

        To free a file takes a tenth of the time that writing it took. That of the last one is
        spent when the source has its report.
        """
        self.release()
        if wanted.present is not None and wanted.present.size >= _LONG_TO_FREE:
            with contextlib.suppress(OSError):
                self._replaced = os.open(wanted.name, _HELD, dir_fd=directory)

    def release(self) -> bool:
        replaced, self._replaced = self._replaced, -1
        if replaced >= 0:
            os.close(replaced)
        return replaced >= 0

    def hold(self, wanted: Wanted, output: Output) -> Output | None:
        try:
            session = self._stage.own_session()
            output.rest(self.places.fd(wanted.directory), session, self._stage.new_name())
        except (OSError, StageRefusedError):
            pass  # it keeps its descriptor: there is no other place for it
        return output


class InOneGo:
    """Notes files in a ``preparation``. ``directories`` and that stay the caller's."""

    def __init__(self, preparation: Preparation, directories: Directories) -> None:
        self.places = preparation.places()
        self._preparation = preparation
        self._directories = directories
        # Something of another kind may be in the place of what is new as a file.
        self._looks = preparation.backs_up or os.geteuid() != 0

    def close(self, *, keeps_partials: bool) -> None:
        """Let go of descriptors."""
        self._preparation.keeps_large = keeps_partials
        self.places.close()

    def overwrite(self, wanted: Wanted) -> None:
        """Nothing is written in place."""

    def make_durable(self, batch: list[Staged]) -> None:
        """All is flushed when the run is committed."""

    def name_last(self, batch: list[Staged]) -> list[int]:
        run: list[Batched] = []
        for wanted, output in singles(batch):
            if self._looks or not output.is_unnamed or not wanted.is_new:
                break
            run.append((wanted, output))
        run.reverse()
        names = [self._preparation.new_name() for _ in run]
        told = link_files(self._preparation.session, [output.fd for _, output in run], names)
        for (wanted, output), name, result in zip(run, names, told, strict=True):
            if result == 0:
                output.let_go()
                self._preparation.add(Place(wanted.path, name))
        return [min(1, abs(result)) for result in told]  # what failed is tried alone, with words

    def publish(self, wanted: Wanted, output: Output, *, replace: bool) -> None:
        path, name = wanted.path, self._preparation.new_name()
        if resumable := output.stage_name:
            name = self._preparation.name_beside(resumable)
        if not wanted.in_the_way and (replace or self._looks):
            self._replace(wanted)
        try:
            output.park(self.places.fd(wanted.directory), self._preparation.session, name)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise OSError(OTHER_MOUNT) from error
            raise
        self._preparation.add(Place(path, name))
        if wanted.entry.link and self._preparation.backs_up:
            self._preparation.staged_carriers.put(path, name)

    def release(self) -> bool:
        """Nothing is replaced before the run is published."""
        return False

    def _replace(self, wanted: Wanted) -> None:
        """See that what is there can be replaced, and is kept if that is asked for."""
        try:
            above = self._directories.fd(wanted.directory)
            self._preparation.check_removal(above, wanted.path)
            if stat.S_ISDIR(os.stat(wanted.name, dir_fd=above, follow_symlinks=False).st_mode):
                return  # it was empty, and is to make way already
        except OSError as error:
            if error.errno in ABSENT:
                return
            raise
        if self._preparation.backs_up:
            self._preparation.set_aside(above, wanted.path)

    def hold(self, wanted: Wanted, output: Output) -> Output | None:
        self.publish(wanted, output, replace=True)
        return None


class Blocked:
    """Files that arrived and that a full directory is in the way of; counted in ``tally``.

    ``publisher`` stays the caller's.
    """

    def __init__(self, publisher: Publisher, tally: Tally) -> None:
        self._publisher = publisher
        self._tally = tally
        self._files: list[tuple[Wanted, Output | None]] = []

    def close(self, *, keep: bool) -> None:
        """Drop what still waits, or leave it to the next run."""
        for wanted, output in self._files:
            if output is not None:
                discard(self._publisher.places, wanted, output, keep=keep)
        self._files = []

    @property
    def paths(self) -> set[bytes]:
        """The paths of those that wait."""
        return {wanted.path for wanted, _ in self._files}

    def hold(self, wanted: Wanted, output: Output) -> None:
        """Keep a file. Raises ``OSError``, and then it is still the caller's."""
        self._files.append((wanted, self._publisher.hold(wanted, output)))

    def publish(self, cleared: Container[bytes], otherwise: str) -> None:
        """Publish the files whose paths are ``cleared`` of directories; else say why not."""
        files, self._files = self._files, []
        for wanted, output in files:
            try:
                if wanted.path not in cleared:
                    raise OSError(otherwise)
                if output is not None:
                    self._publisher.publish(wanted, output, replace=True)
            except OSError as error:
                if output is not None:
                    discard(self._publisher.places, wanted, output)
                self._tally.fail(wanted.path, "replace", error)
            else:
                self._tally.change(wanted.change, wanted.path)


def publisher_for(destination: Destination, directories: Directories) -> Publisher:
    """Return who names the files of this run."""
    if destination.preparation is not None:
        return InOneGo(destination.preparation, directories)
    return AtOnce(destination, directories)


def discard(places: Directories, wanted: Wanted, output: Output, *, keep: bool = False) -> None:
    """Drop a file that is not published, or leave it to the next run if that can find it."""
    try:
        drop = output.keep if keep else output.discard
        drop(places.fd(wanted.directory))
    except OSError:
        output.close()  # its directory is gone, and a temporary's name with it

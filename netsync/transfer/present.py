"""What is at the target already, while a listing is compared with it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from netsync.errors import reason
from netsync.model import Entry, Kind, Options, Problem
from netsync.transfer.listed import ListedDirectory
from netsync.transfer.tally import Tally
from netsync.tree.directories import Directories
from netsync.tree.native import Status, stat_entries
from netsync.tree.read import content_digest
from netsync.tree.scan import entry_from, names_in
from netsync.tree.stage import sweep


class There(NamedTuple):
    """An entry of the target's and the status it was made of; None for what is not there."""

    entry: Entry | None
    status: Status | None


NOTHING = There(None, None)


class Presence:
    """Reads the target's side of directories, once each. ``directories`` stays the caller's."""

    def __init__(self, directories: Directories, options: Options, tally: Tally) -> None:
        self._directories = directories
        self._options = options
        self._tally = tally

    def read(self, directory: ListedDirectory) -> None:
        """Read the names that are in a directory now; sweep what a dead session left."""
        if directory.names_read:
            return
        directory.names_read = True
        try:
            fd = self._directories.fd(directory.path)
            names, reserved = names_in(fd)
        except OSError as error:
            directory.lost = True
            self._tally.problem(Problem(directory.path or b".", "list", reason(error)))
            return
        if not self._options.dry_run:
            sweep(fd, reserved)
        directory.present.update(names)

    def entry(self, directory: ListedDirectory, listed: Entry) -> There:
        """Return what is there under the name of a ``listed`` entry. Raises ``OSError``."""
        if listed.name not in directory.present:
            return NOTHING
        directory.present.discard(listed.name)
        fd = self._directories.fd(directory.path)
        (status,) = stat_entries(fd, [listed.name])
        present = entry_from(status, listed.name, fd)
        assert not isinstance(status, int)  # entry_from raises that
        if (
            self._options.checksum
            and present.kind is listed.kind is Kind.FILE
            and present.size == listed.size
        ):
            present = msgspec.structs.replace(present, digest=content_digest(fd, listed.name))
        return There(present, status)

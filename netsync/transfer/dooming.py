"""What must go at the target, noted while it is compared and acted on at the end."""

from __future__ import annotations

import errno
import os

from netsync.errors import reason
from netsync.model import Kind, Options, Problem
from netsync.names import join
from netsync.plan.filters import Filter
from netsync.transfer.listed import ListedDirectory
from netsync.transfer.spool import Spool
from netsync.transfer.tally import Tally
from netsync.transfer.wanted import Doomed
from netsync.tree.directories import Directories
from netsync.tree.scan import entry_at, names_in


class Dooming:
    """Notes what is deleted at the end. ``directories`` stays the caller's."""

    def __init__(self, directories: Directories, options: Options, tally: Tally) -> None:
        self.doomed = Spool(Doomed)
        self._directories = directories
        self._options = options
        self._tally = tally
        self._filter = Filter(options.rules)

    def close(self) -> None:
        """Drop what was noted."""
        self.doomed.close()

    def add(self, doomed: Doomed) -> None:
        """Note what gives way to an entry of another kind."""
        self.doomed.append(doomed)

    def leftover(self, directory: ListedDirectory, name: bytes) -> None:
        """Note a name the source does not have, unless a rule that excluded it protects it."""
        path = join(directory.path, name)
        try:
            entry = entry_at(self._directories.fd(directory.path), name)
        except FileNotFoundError:
            return
        except OSError as error:
            self._tally.problem(Problem(path, "delete", reason(error)))
            return
        if not self.protects(path, entry.kind is Kind.DIRECTORY):
            directory.touched = True
            self.doomed.append(Doomed(path))

    def protects(self, path: bytes, is_directory: bool) -> bool:
        """Tell whether what is at ``path`` on the target must not be deleted."""
        if self._options.delete_excluded:
            return False
        return self._filter.excludes(path, directory=is_directory)

    def clear(self, directory: ListedDirectory, name: bytes) -> bool:
        """Remove the empty directory that is in the way; True if it must wait for the end.

        A directory with something in it goes only with ``--delete``, and after the guards.
        """
        fd = self._directories.fd(directory.path)
        path = join(directory.path, name)
        names, _ = names_in(self._directories.fd(path))
        if names:
            if not self._options.delete:
                raise OSError(errno.ENOTEMPTY, "a directory that is not empty is in the way")
            return True
        if not self._options.dry_run:
            self._directories.forget(path)
            os.rmdir(name, dir_fd=fd)
        return False

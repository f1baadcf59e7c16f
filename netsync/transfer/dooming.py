"""What must go at the target: noted while it is compared, counted for the guards, removed last.

A name that the source did not list is doomed with all below it, unless a rule that excluded it
protects it; so is a directory that is not empty and in the way of something else. Nothing of that
is removed before the guards have decided about all of it. Counting walks what is doomed, so it is
done only where there is a limit, and no further than past that.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from netsync.errors import ProtocolError, UsageError, reason
from netsync.model import Change, Kind, Options, Problem, Rule
from netsync.names import is_session_work, join
from netsync.plan.filters import Filter
from netsync.transfer.effects import Effects
from netsync.transfer.listed import ListedDirectory
from netsync.transfer.spool import Spool
from netsync.transfer.tally import Tally
from netsync.transfer.wanted import Doomed
from netsync.tree.directories import Directories
from netsync.tree.remove import remove
from netsync.tree.scan import entry_at, names_in


class Dooming:
    """Notes what is deleted at the end. ``directories`` stays the caller's.

    ``listed`` counts the target's entries in scope that stay, since the source listed them too.
    ``emptied`` is the topmost directory for which the source listed nothing at all, if entries
    of the target would go with it. ``effects`` are the comparison's.
    """

    def __init__(
        self, directories: Directories, options: Options, tally: Tally, effects: Effects
    ) -> None:
        self.doomed = Spool(Doomed)
        self.listed = 0
        self.emptied: bytes | None = None
        self._directories = directories
        self._options = options
        self._tally = tally
        self._filter = Filter(options.rules)
        self._effects = effects
        self._root_in_scope = True

    def close(self) -> None:
        """Drop what was noted."""
        self.doomed.close()

    def add(self, doomed: Doomed) -> None:
        """Note what gives way to an entry of another kind."""
        self.doomed.append(doomed)

    def end(self, directory: ListedDirectory, *, partial: bool) -> None:
        """Note what is left over in a directory that was listed to its end."""
        if partial or not self._options.delete:
            if not directory.path:
                self._root_in_scope = False  # the directories in it are the topmost ones
            return
        if not directory.present:  # as in most
            return
        before = len(self.doomed)
        for name in sorted(directory.present):
            self._leftover(directory, name)
        topmost = b"/" not in directory.path and not self._root_in_scope
        top = not directory.path or (topmost and not self._options.changes)
        if top and not directory.last and len(self.doomed) > before:
            self.emptied = directory.path

    def bury(self, directory: ListedDirectory, names: Sequence[bytes]) -> None:
        """Note those of ``names``, which are gone from the source, that are at the target."""
        if names and not self._options.changes:
            raise ProtocolError("it tells what is gone, which nobody asked", op="receive")
        for name in names:
            if name in directory.present:
                directory.present.discard(name)
                if self._options.delete:
                    self._leftover(directory, name)

    def _leftover(self, directory: ListedDirectory, name: bytes) -> None:
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

    def learn(self, directory: bytes, rules: Sequence[Rule]) -> None:
        """Take the rules of a directory's ignore file: what they exclude stays."""
        try:
            self._filter.learn(directory, rules)
        except UsageError as error:
            raise ProtocolError(f"rules of a directory: {error}", op="receive") from error

    def protects(self, path: bytes, is_directory: bool) -> bool:
        """Tell whether what is at ``path`` on the target must not be deleted."""
        if path == self._options.backup_dir:
            return True
        if self._options.delete_excluded:
            return False
        return self._filter.excludes(path, directory=is_directory)

    def _keeps_part_of(self, path: bytes) -> bool:
        """Tell whether a rule protects something below ``path``, so that it cannot go."""
        if self._options.delete_excluded or not self._filter.rules_known:
            return False
        would_go = remove(self._directories, path, self.protects, dry_run=True)
        return all(removed.path != path for removed in would_go)

    def clear(self, directory: ListedDirectory, name: bytes) -> bool:
        """Remove the empty directory that is in the way; True if it must wait for the end.

        A directory with something in it goes only with ``--delete``, and after the guards.
        """
        path = join(directory.path, name)
        inside = self._directories.fd(path)
        names, _ = names_in(inside)
        if names:
            if not self._options.delete:
                raise OSError(errno.ENOTEMPTY, "a directory that is not empty is in the way")
            if self._keeps_part_of(path):
                raise OSError(errno.ENOTEMPTY, "a directory that holds what a rule protects")
            return True
        self._effects.remove_empty(path)
        return False

    def count(self, here: Directories, due: Iterable[Doomed], most: int) -> int:
        """Return how many entries would go with ``due``, or the first number past ``most``."""
        found = 0
        for doomed in due:
            for removed in remove(here, doomed.path, self.protects, dry_run=True):
                found += removed.error is None and not is_session_work(removed.path)
                if found > most:
                    return found
        return found

    def remove(self, effects: Effects, path: bytes, tally: Tally) -> bool:
        """Remove ``path`` and all below it that is not protected; tell whether it is gone."""
        gone = False
        for removed in effects.remove(path, self.protects):
            if removed.error is None:
                if not is_session_work(removed.path):
                    tally.change(Change.DELETED, removed.path, directory=removed.directory)
                gone = gone or removed.path == path
            else:
                tally.problem(Problem(removed.path, "delete", reason(removed.error)))
        return gone

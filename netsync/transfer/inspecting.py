"""What becomes of one name at the source: listed, left out by a rule, or skipped.

A name that a rule excludes is not told to the target, which knows the rules and protects its
namesake by them. A name that another option skips, or that cannot be read, is told as protected.
With ``--copy-links`` a link becomes the entry it leads to; with ``--safe-links`` one that leads
out of the tree is skipped, wherever on the way that shows.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from netsync.errors import reason
from netsync.model import DEVICES, SPECIALS, Entry, Kind, Options, Problem
from netsync.plan.differing import is_in
from netsync.plan.filters import Filter
from netsync.plan.restriction import Restriction
from netsync.plan.stored import Record
from netsync.plan.xattrs import Items
from netsync.transfer.backing import Node, Run, anchored, backing_directories
from netsync.transfer.describing import NONE, Describer
from netsync.transfer.judging import File, Judge
from netsync.transfer.offers import Located
from netsync.tree.directories import Directories
from netsync.tree.links import LeadsOutError, Resolver
from netsync.tree.native import XATTR_NAMES, Status, plain_entries, stat_entries
from netsync.tree.roots import SourceRoot
from netsync.tree.scan import entry_from
from netsync.tree.xattrs import Where, of_name

_ORDINARY: Final = frozenset({Kind.FILE, Kind.DIRECTORY})
"""What is taken unless something says otherwise."""


class Skipped(enum.Enum):
    """Why a name is not listed."""

    EXCLUDED = "excluded"  # by a rule: the target knows it
    PROTECTED = "protected"  # by another option, or unreadable: the target must be told
    GONE = "gone"  # it was asked about because it had changed, and is not there


Found = tuple[bytes, bytes, Status | int]
"""A name as it is listed, its real name, and what the system says of it."""

PLAIN: Final = 0
"""What the system says of what has one name only and is in no way out of the ordinary."""

Listed = tuple[Entry | Skipped, Status | int, Items | None]
"""An entry to list, or why there is none; what the system says of it; its attributes."""

Looked = tuple[Entry | Skipped | Located, Status | int, Items | None]
"""The same, or the place that a link leads to."""


class Looking(NamedTuple):
    """Where an entry was found, and what the system says of it."""

    status: Status
    fd: int
    run: Run
    record: Record | None = None


class Inspector:
    """Judges names of the source. Runs in the lister's worker thread.

    ``complete`` is False once something could not be read, ``problems`` collect what was wrong,
    ``unsafe_links`` counts links that lead out of the tree; ``reads_xattrs`` tells whether the scan
    should find names of attributes.
    """

    def __init__(
        self,
        roots: Sequence[SourceRoot],
        options: Options,
        filter_: Filter,
        restriction: Restriction | None,
        judge: Judge,
    ) -> None:
        self.complete = True
        self.problems: list[Problem] = []
        self.unsafe_links = 0
        self._roots = roots
        self._options = options
        self._filter = filter_
        self._restriction = restriction
        self._describer = Describer(options, self.problems.append)
        self.reads_xattrs = bool(self._describer.scope) or options.store_metadata
        self.user_name, self.group_name = self._describer.user_name, self._describer.group_name
        self._sized = options.max_size is not None or options.min_size > 0
        self._judge = judge
        self._takes_all = not (
            self._sized or options.checksum or options.backup_dir or restriction is not None
            or judge.knows_rot
        )  # fmt: skip
        self._takes_plain = (
            self._takes_all and not options.chmod and self._describer.restoring is None
        )
        self._ways: list[Directories] = backing_directories(roots)
        """The inspector's own: resolving must not close what the lister is reading."""

    def close(self) -> None:
        """Let go of descriptors."""
        for directories in self._ways:
            directories.close()

    def look_at(self, node: Node, run: Run, fd: int) -> list[tuple[bytes, *Looked]]:
        """Return the entry to list for each name of ``run``, whose directory is ``fd``.

        A link to be followed gives the place that it leads to: see ``follow``. What is plain, and
        nothing asks about, is an entry at once: that is nearly everything.
        """
        found: Sequence[Entry | Status | int]
        if self._takes_plain and run.names is run.real and not self._filter.rules_known:
            found = plain_entries(fd, run.real, self.reads_xattrs)
        else:
            found = stat_entries(fd, run.real, self.reads_xattrs)
        return [
            (name, seen, PLAIN, NONE)
            if isinstance(seen, Entry)
            else (name, *self._look(node, run, fd, (name, real, seen)))
            for name, real, seen in zip(run.names, run.real, found, strict=True)
        ]

    def _look(self, node: Node, run: Run, fd: int, found: Found) -> Looked:
        name, real, status = found
        try:
            entry = entry_from(status, real, fd)
            record = self._record(entry, fd, status, node.path_of(name))
            entry = self._describer.changed(self._describer.as_stored(entry, record))
        except OSError as error:
            return self._unreadable(node.path_of(name), error), status, NONE
        assert not isinstance(status, int)  # that would have been an error
        if self._takes_all and entry.kind in _ORDINARY and not self._filter.rules_known:
            if real != name:
                entry = msgspec.structs.replace(entry, name=name)
            if status[XATTR_NAMES] == b"":
                return entry, status, NONE
            at = Looking(status, fd, run, record)
            return self._described(node.path_of(name), entry, at, of_name(fd, real))
        path = node.path_of(name)
        if entry.kind is Kind.SYMLINK and self._options.copy_links:
            return self._resolve(path, run, entry), status, NONE
        return self._judged(path, name, entry, Looking(status, fd, run, record))

    def follow(self, node: Node, name: bytes, place: Located) -> Listed:
        """Return the entry to list as ``name`` for what a link leads to."""
        path = node.path_of(name)
        run = Run(place.root, place.directory, (), ())
        real = place.name or b"."
        try:
            fd = self._ways[place.root].fd(place.directory)
            (status,) = stat_entries(fd, [real], self.reads_xattrs)
            entry = entry_from(status, real, fd)
            record = self._record(entry, fd, status, path)
            entry = self._describer.changed(self._describer.as_stored(entry, record))
        except OSError as error:
            return self._unreadable(path, error), 0, NONE
        assert not isinstance(status, int)  # that would have been an error
        return self._judged(path, name, entry, Looking(status, fd, run, record))

    def _record(self, entry: Entry, fd: int, status: Status | int, path: bytes) -> Record | None:
        """Return what is believed to be stored of an entry. Raises ``OSError``."""
        restoring = self._describer.restoring
        if restoring is None or isinstance(status, int) or status[XATTR_NAMES] == b"":
            return None
        return restoring.record(entry, (fd, entry.name), path, status[XATTR_NAMES])

    def trouble(self, path: bytes, op: str, error: OSError) -> None:
        """Note that ``path`` could not be read."""
        listed = self._restriction is None or self._options.changes
        vanished = isinstance(error, FileNotFoundError) and listed
        self.problem(Problem(path, op, reason(error), vanished))

    def problem(self, problem: Problem) -> None:
        """Keep a problem; nothing is deleted after one, unless something just vanished."""
        self.complete = self.complete and problem.vanished
        self.problems.append(problem)

    def _resolve(self, path: bytes, run: Run, entry: Entry) -> Located | Skipped:
        root, directory = anchored(self._roots, run.root, run.directory)
        anchor = self._roots[root - len(self._roots)].anchor
        bounded = anchor is None or anchor.guarded
        resolver = Resolver(self._ways[root], bounded=bounded)
        try:
            return Located(root, *resolver.resolve(directory, entry.target))
        except OSError as error:
            if self._filter.excludes(path, directory=False):
                return Skipped.EXCLUDED
            absent = isinstance(error, FileNotFoundError)
            words = "the link leads to nothing" if absent else _words(error)
            self.problem(Problem(path, "follow", words))
            return Skipped.PROTECTED

    def _judged(self, path: bytes, name: bytes, entry: Entry, at: Looking) -> Listed:
        """Return ``entry`` as it is listed, or why it is not."""
        real = entry.name
        skipped = self._skipped(path, entry, at.run)
        if skipped is not None:
            return skipped, at.status, NONE
        if entry.kind is Kind.FILE:
            try:
                examined = self._examined(path, entry, at.fd)
            except OSError as error:
                return self._unreadable(path, error), at.status, NONE
            if examined is None:
                return Skipped.PROTECTED, at.status, NONE
            entry = examined
        if real != name:
            entry = msgspec.structs.replace(entry, name=name)
        return self._described(path, entry, at, of_name(at.fd, real))

    def _examined(self, path: bytes, entry: Entry, fd: int) -> Entry | None:
        """Return a file's ``entry`` with what is to be known of its content; None keeps it here.

        What has rotted is told and not sent, so that the target keeps what it has; a verification
        tells it and goes on. Raises ``OSError``.
        """
        file = File(fd, entry.name, path)
        rot = None if self._options.verify else self._judge.is_withheld(file)
        if rot is None and self._options.checksum:
            entry, rot = self._judge.judged(file, entry)
        if rot is not None:
            self.problems.append(rot)  # all was read: this keeps nothing from being deleted
            return entry if self._options.verify else None
        return entry

    def _described(self, path: bytes, entry: Entry, at: Looking, where: Where) -> Listed:
        """Return ``entry`` with its attributes, where it has some."""
        status, told = at.status, at.status[XATTR_NAMES]
        if told == b"":
            return entry, status, NONE
        try:
            xattrs = self._describer.xattrs(where, path, told, at.record)
            return entry, status, self._describer.with_mode(xattrs, entry)
        except OSError as error:
            return self._unreadable(path, error), status, NONE

    def _skipped(self, path: bytes, entry: Entry, run: Run) -> Skipped | None:
        directory = entry.kind is Kind.DIRECTORY
        if self._options.backup_dir and path == self._options.backup_dir:
            return Skipped.EXCLUDED
        if self._filter.excludes(path, directory=directory) or self._is_elsewhere(path, entry):
            return Skipped.EXCLUDED
        try:
            if self._skips(entry) or self._is_unsafe(entry, run):
                return Skipped.PROTECTED
            if self._restriction is not None and not directory and self._is_in_the_way(path):
                return Skipped.PROTECTED
        except OSError as error:
            return self._unreadable(path, error)
        return None

    def _is_elsewhere(self, path: bytes, entry: Entry) -> bool:
        """Tell whether a part of the tree is asked for that the entry is not in."""
        part = self._options.slice
        if part is None or entry.kind is Kind.DIRECTORY:
            return False
        return entry.kind is not Kind.FILE or not is_in(path, part)

    def _skips(self, entry: Entry) -> bool:
        if entry.kind is Kind.FILE:
            if not self._sized:
                return False
            most = self._options.max_size
            return entry.size < self._options.min_size or (most is not None and entry.size > most)
        if entry.kind is Kind.DIRECTORY:
            return False
        keep = self._options.keep
        if entry.kind is Kind.SYMLINK:
            return not keep.links
        return entry.kind in DEVICES | SPECIALS and not keep.devices

    def _is_unsafe(self, entry: Entry, run: Run) -> bool:
        if entry.kind is not Kind.SYMLINK or not self._options.safe_links:
            return False
        resolver = Resolver(self._ways[run.root], bounded=True)
        unsafe = resolver.leads_out(run.directory, entry.target)
        self.unsafe_links += unsafe
        return unsafe

    def _is_in_the_way(self, path: bytes) -> bool:
        """Tell of what is asked for below ``path``, which is no directory; True if it goes too."""
        assert self._restriction is not None
        if self._options.changes or not self._restriction.leads_into(path):
            return False  # what changed below it went with the directory that it was
        in_the_way = True
        for named in self._restriction.named_below(path):
            if named == path and not self._restriction.opens(path):
                in_the_way = False
            else:
                self.problem(Problem(named, "read", "a part of its path is not a directory"))
        return in_the_way

    def _unreadable(self, path: bytes, error: OSError) -> Skipped:
        if self._options.changes and isinstance(error, FileNotFoundError):
            return Skipped.GONE
        if self._filter.excludes(path, directory=False):
            return Skipped.EXCLUDED
        if self._restriction is None or self._options.changes:
            self.trouble(path, "read", error)
            return Skipped.PROTECTED
        for named in self._restriction.named_below(path):
            self.trouble(named, "read", error)
        return Skipped.PROTECTED


def _words(error: OSError) -> str:
    return str(error.strerror) if isinstance(error, LeadsOutError) else reason(error)

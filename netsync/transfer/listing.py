"""The source's walk: directories depth first, names sorted as bytes, in chunks.

The transfer's root is a directory that may not exist anywhere: it merges the contents of every
source named with a trailing slash and holds every other source under its own name. Where two
sources offer the same path the first wins, except that directories merge. Everything runs in a
worker thread, one batch a call, and holds only names of the directory under way and the
directories still to be listed.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, cast

import msgspec

from netsync.errors import UsageError
from netsync.model import Entry, Kind, Name, Options, Problem, Rule
from netsync.names import IGNORE_FILE, join
from netsync.plan.digestible import is_digestible
from netsync.plan.filters import Filter
from netsync.plan.restriction import Restriction
from netsync.transfer.backing import (
    MergedPlaces,
    Node,
    OnePlace,
    Places,
    backing_directories,
)
from netsync.transfer.cutting import CHUNK_ENTRIES, ENTRY_BYTES, Part
from netsync.transfer.describing import NONE, XattrTable
from netsync.transfer.digests import Digester, Gathered, Told, coverage_of, is_above_backup
from netsync.transfer.ignoring import read_rules
from netsync.transfer.inodes import FirstNames, inode_of, names_of
from netsync.transfer.inspecting import PLAIN, Inspector, Listed, Looked, Skipped
from netsync.transfer.judging import Judge
from netsync.transfer.offers import Chunk, Located
from netsync.tree.native import Status
from netsync.tree.owners import IdNames
from netsync.tree.packing import Packer
from netsync.tree.roots import SourceRoot
from netsync.tree.scan import entry_at, is_empty, names_in
from netsync.wire.batches import batches
from netsync.wire.messages import List, Listing, Terms

BATCH_BYTES: Final = 64 * 1024
"""Estimated bytes of one listing and of one message: far below the frame's limit even when the
last entry is the longest possible (a name of 255 bytes, a link of 4,095, attributes of 64 KiB)."""
NAMES_BYTES: Final = 16 * 1024
"""Estimated bytes of owners' names in a message of entries; more go in messages before it."""
CREDIT_MIN: Final = 4096
"""Credit with which a batch may be listed: no batch costs as much, its bytes see to it."""
PATH_LISTED_MAX: Final = (1 << 16) - 256
"""Bytes of a directory's path, so that the paths in it may be told in problems and lines."""
PATH_SHOWN_MAX: Final = 4096
"""Bytes of a path that is told back because it cannot be one."""
REFUSED_PATH: Final = "leads out of the source, or is no name for a file"
_NAME_BYTES: Final = 10


class Batch(NamedTuple):
    """One message's worth of listing, and what it offers."""

    message: List
    chunks: list[Chunk]
    told: list[Told]
    entries: int
    size: int


class Lister:
    """Lists the merged tree of ``roots``. ``single_name`` renames a lone regular file."""

    def __init__(
        self,
        roots: Sequence[SourceRoot],
        options: Options,
        judge: Judge,
        single_name: bytes = b"",
        problems: Sequence[Problem] = (),
        digests: Terms | None = None,
    ) -> None:
        self._roots = roots
        self._options = options
        self._filter = Filter(options.rules)
        self._restriction: Restriction | None = None
        if options.paths is not None:
            self._restriction = Restriction(options.paths, trees=options.changes)
        self._inspector = Inspector(roots, options, self._filter, self._restriction, judge)
        self._single_name = single_name
        self._directories = backing_directories(roots)
        self._devices = [_device(root) for root in roots] if options.one_file_system else []
        self._users = IdNames(self._inspector.user_name)
        self._groups = IdNames(self._inspector.group_name)
        self._first_names = FirstNames()
        self._next_number = 1
        self._stack: list[Node] = [Node(0, b"", [])]
        self._table = XattrTable()
        self._ready: deque[Batch] = deque()
        self._digester: Digester | None = None
        self._terms = digests if is_digestible(options) and not judge.knows_rot else None
        self._gathered = Gathered()
        self._chunks = self._walk()
        for problem in problems:
            self._inspector.problem(problem)
        for path in self._restriction.refused if self._restriction else ():
            self._inspector.problem(Problem(path[:PATH_SHOWN_MAX], "read", REFUSED_PATH))

    @property
    def complete(self) -> bool:
        """Tell whether everything could be read so far."""
        return self._inspector.complete

    @property
    def unsafe_links(self) -> int:
        """The number of links left out because they lead out of the tree."""
        return self._inspector.unsafe_links

    def note(self, problems: Sequence[Problem]) -> None:
        """Take problems that do not make the listing incomplete."""
        self._inspector.problems += problems

    def close(self) -> None:
        """Let go of all descriptors but the roots', and of what is known of links."""
        self._first_names.close()
        self._inspector.close()
        for directories in self._directories:
            directories.close()

    def next_batch(self) -> Batch | None:
        """Return the next listings, worth at most ``CREDIT_MIN``, or None at the end."""
        if not self._ready:
            self._list_some()
        return self._ready.popleft() if self._ready else None

    def _list_some(self) -> None:
        """Walk on by a message's worth, and make ready what must be told before it."""
        listings: list[Listing] = []
        chunks: list[Chunk] = []
        self._gathered = Gathered()
        entries = size = cost = 0
        self._table = XattrTable()
        while cost < BATCH_BYTES:
            step = next(self._chunks, None)
            if step is None:
                break
            listing, chunk, chunk_bytes = step
            listings.append(listing)
            if chunk is not None:
                chunks.append(chunk)
            entries += max(1, listing.numbers)
            size += sum(entry.size for entry in listing.entries)
            cost += chunk_bytes
        users, groups = self._names([entry for each in listings for entry in each.entries])
        if self._inspector.problems:
            self._ready.append(Batch(List([], problems=self._take_problems()), [], [], 0, 0))
        if listings:
            message = List(listings, users, groups, xattrs=self._table.sets)
            size += self._gathered.size
            self._ready.append(Batch(message, chunks, self._gathered.told, entries, size))

    def _names(self, entries: list[Entry]) -> tuple[list[Name], list[Name]]:
        """Return the names of owners to be told with ``entries``, many in messages before it."""
        if self._options.numeric_ids:
            return [], []
        uids, gids = self._gathered.users, self._gathered.groups
        users = self._users.new({entry.uid for entry in entries} | self._table.users | uids)
        groups = self._groups.new({entry.gid for entry in entries} | self._table.groups | gids)
        if sum(map(_name_bytes, (*users, *groups))) <= NAMES_BYTES:
            return users, groups
        for part in batches(users, _name_bytes, CHUNK_ENTRIES):
            self._ready.append(Batch(List([], users=part), [], [], 0, 0))
        for part in batches(groups, _name_bytes, CHUNK_ENTRIES):
            self._ready.append(Batch(List([], groups=part), [], [], 0, 0))
        return [], []

    def _take_problems(self) -> list[Problem]:
        """Return the problems found so far, as many as fit a message."""
        problems = self._inspector.problems
        size = count = 0
        while count < len(problems) and size < BATCH_BYTES:
            size += len(problems[count].path) + ENTRY_BYTES
            count += 1
        taken = problems[:count]
        del problems[:count]
        return taken

    def _walk(self) -> Iterator[tuple[Listing, Chunk | None, int]]:
        ahead = self._roots[0].ahead if len(self._roots) == 1 else None
        if self._terms is not None:
            coverage = coverage_of(self._terms, self._options)
            known = ahead.claim(self._roots[0], coverage) if ahead is not None else {}
            packers = [Packer(self._directories[0], coverage, known)]
            packers += [Packer(each, coverage, {}) for each in self._directories[1:]]
            self._digester = Digester(self._terms.seed, packers)
        elif ahead is not None:
            ahead.end()
        while self._stack:
            yield from self._directory(self._stack.pop())

    def _directory(self, node: Node) -> Iterator[tuple[Listing, Chunk | None, int]]:
        """Yield the listings of one directory and stack the directories in it."""
        digested = self._digested(node)
        if digested is not None:
            yield digested
            return
        places, whole, rules = self._open(node)
        children: list[Node] = []
        partial = not whole or (node.number == 0 and all(root.name for root in self._roots))
        part = Part(self._next_number, self._table, rules)
        for name, seen, status, xattrs in self._entries(node, places):
            if seen is Skipped.PROTECTED:
                part.protect(name)
            elif seen is Skipped.GONE:
                part.bury(name)
            elif seen is not Skipped.EXCLUDED:
                entry = seen if status == PLAIN else self._linked(seen, status)
                if entry.kind is Kind.DIRECTORY:
                    children.append(self._child(node, name, places))
                part.add(entry, xattrs)
                self._next_number += 1
            if part.is_full:
                yield part.cut(node, places, final=False, partial=partial)
                part = Part(self._next_number, self._table)
        yield part.cut(node, places, final=True, partial=partial)
        self._stack.extend(reversed(children))

    def _digested(self, node: Node) -> tuple[Listing, None, int] | None:
        """Tell a directory by its digest, if it has one and is in one place; else None."""
        if self._digester is None or self._filter.concerns(node.path):
            return None
        if is_above_backup(node.path, self._options):
            return None
        backings = node.backings
        if node.number == 0 and len(self._roots) == 1 and not self._roots[0].name:
            backings = [(0, node.path)]
        if len(backings) != 1 or len(node.path) > PATH_LISTED_MAX:
            return None
        digest = self._digester.digest(node, backings[0], self._next_number, self._gathered)
        if digest is None:
            return None
        self._next_number += digest.listing.count
        self._stack.extend(reversed(digest.children))
        return digest.listing, None, digest.cost

    def _linked(self, entry: Entry, status: Status | int) -> Entry:
        """Return ``entry``, which is listed next, with the number of its link group."""
        assert not isinstance(status, int)  # it would not be listed
        if (
            names_of(status) == 1
            or entry.kind is Kind.DIRECTORY
            or not self._options.keep.hard_links
        ):
            return entry
        link = self._first_names.number(inode_of(status), entry, self._next_number)
        return msgspec.structs.replace(entry, link=link)

    def _open(self, node: Node) -> tuple[Places, bool, list[Rule]]:
        """Return where the names of a directory are found, whether these are all, and its rules."""
        merged: dict[bytes, list[Located]] = {}
        backings = list(node.backings)
        if node.number == 0:
            for index, root in enumerate(self._roots):
                if root.name:
                    listed = self._single_name or root.listed
                    merged.setdefault(listed, []).append(Located(index, b"", root.name))
                else:
                    backings.append((index, b""))
        whole = self._restriction is None or (
            self._options.changes and self._restriction.opens(node.path)
        )
        rules: list[Rule] = []
        if len(node.path) > PATH_LISTED_MAX:
            self._inspector.problem(Problem(node.path, "list", "its path is too long to be told"))
            backings, whole = [], False
        for index, directory in backings:
            try:
                fd = self._directories[index].fd(directory)
                if self._is_closed(node, index, fd):
                    whole = False
                    continue
                names = self._listed_names(node, fd)
                if self._is_emptied(node, fd):
                    names, whole = [], True
                rules = rules or self._rules(node, fd, names)
            except OSError as error:
                self._inspector.trouble(node.path or b".", "list", error)
                whole = False
                continue
            if len(backings) == 1 and not merged:
                return OnePlace(index, directory, names, {}), whole, rules
            for name in names:
                merged.setdefault(name, []).append(Located(index, directory, name))
        return MergedPlaces(merged), whole, rules

    def _is_closed(self, node: Node, index: int, fd: int) -> bool:
        """Tell whether a directory is listed without what is in it."""
        if not (self._options.one_file_system or self._options.copy_links):
            return False
        status = os.fstat(fd)
        if self._devices and status.st_dev != self._devices[index % len(self._roots)]:
            return True
        if self._options.copy_links:
            node.identity = (status.st_dev, status.st_ino)
            if node.repeats():
                self._inspector.problem(Problem(node.path, "follow", "links lead in a circle"))
                return True
        return False

    def _listed_names(self, node: Node, fd: int) -> list[bytes]:
        """Return the sorted names that may take part."""
        if self._restriction is None:
            return names_in(fd)[0]
        named = list(self._restriction.names_in(node.path))
        if not self._restriction.opens(node.path):
            return named
        return sorted({*names_in(fd)[0], *named})

    def _is_emptied(self, node: Node, fd: int) -> bool:
        """Tell whether nothing is left of a source of which some paths changed.

        Then that is told, since it may be one that is not mounted: the target's guards decide.
        """
        return self._options.changes and node.number == 0 and is_empty(fd)

    def _rules(self, node: Node, fd: int, names: list[bytes]) -> list[Rule]:
        """Return the rules of the directory's ignore file, which hold from now on."""
        position = bisect_left(names, IGNORE_FILE)
        listed = position < len(names) and names[position] == IGNORE_FILE
        if self._restriction is None and not listed:
            return []
        read = read_rules(fd, node.path_of(IGNORE_FILE))
        for problem in read.problems:
            self._inspector.problem(problem)
        try:
            self._filter.learn(node.path, read.rules)
        except UsageError as error:
            self._inspector.problem(Problem(node.path_of(IGNORE_FILE), "read", error.why))
            return []
        return read.rules

    def _entries(self, node: Node, places: Places) -> Iterator[tuple[bytes, *Listed]]:
        """Yield each name with its entry, or why it is not listed.

        A run is read whole: its descriptor is not valid any more when the caller has gone on.
        """
        for run in places.runs():
            try:
                fd = self._directories[run.root].fd(run.directory)
            except OSError as error:
                for name in run.names:
                    self._inspector.trouble(node.path_of(name), "read", error)
                    yield name, Skipped.PROTECTED, 0, NONE
                continue
            looked = self._inspector.look_at(node, run, fd)
            if self._options.copy_links:
                yield from self._followed(node, places, looked)
            else:  # no entry is a Located, which a loop that checks would cost a tenth of all
                yield from cast("list[tuple[bytes, *Listed]]", looked)

    def _followed(
        self, node: Node, places: Places, looked: Sequence[tuple[bytes, *Looked]]
    ) -> Iterator[tuple[bytes, *Listed]]:
        """Yield what was looked at, a link as what it leads to."""
        for name, seen, status, xattrs in looked:
            if isinstance(seen, Located):
                places.move(name, seen)
                yield name, *self._inspector.follow(node, name, seen)
            else:
                yield name, seen, status, xattrs

    def _child(self, node: Node, name: bytes, places: Places) -> Node:
        first = places.first(name)
        backings = [(first.root, join(first.directory, first.name))]
        for place in places.others(name):
            try:
                fd = self._directories[place.root].fd(place.directory)
                if entry_at(fd, place.name).kind is Kind.DIRECTORY:
                    backings.append((place.root, join(place.directory, place.name)))
            except OSError as error:
                self._inspector.trouble(node.path_of(name), "read", error)
        return Node(self._next_number, node.path_of(name), backings, self._above(node))

    def _above(self, node: Node) -> Node | None:
        return node if self._options.copy_links else None


def _device(root: SourceRoot) -> int:
    """Return the number of the file system that a source is on."""
    return os.stat(root.name or b".", dir_fd=root.fd, follow_symlinks=False).st_dev


def _name_bytes(named: Name) -> int:
    return len(named.name) + _NAME_BYTES

"""The target's comparison: each listed directory against what is there.

Runs in a worker thread, one ``List`` message a hop. What needs no file data (directories, links,
special files, metadata) is done on the spot; files are returned as wanted; deletions and the
metadata of directories are spooled for the end. In a dry run nothing is touched and nothing
wanted, only counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from netsync.errors import is_fatal, reason, root_error
from netsync.model import Change, Entry, Kind, Problem
from netsync.names import join
from netsync.plan.compare import Policy, Verdict, decide
from netsync.plan.differing import cause_of
from netsync.transfer.attributes import Attribution
from netsync.transfer.demand import Demand
from netsync.transfer.destination import Destination
from netsync.transfer.digests import subdirectories
from netsync.transfer.dooming import Dooming
from netsync.transfer.effects import effects_for
from netsync.transfer.equality import equality_for
from netsync.transfer.inodes import names_of
from netsync.transfer.judging import Judge
from netsync.transfer.linking import CHANGE_OF, Linker, Restatement, Ruling
from netsync.transfer.listed import ListedDirectory
from netsync.transfer.neighbours import Neighbours
from netsync.transfer.present import Presence, There
from netsync.transfer.renames import Renames
from netsync.transfer.renewing import Renewal
from netsync.transfer.spool import Spool
from netsync.transfer.staging import forget_leftovers
from netsync.transfer.tally import Tally
from netsync.transfer.unfolding import Unfolding
from netsync.transfer.wanted import Doomed, Ending, Restated, Share, Wanted
from netsync.tree.directories import Directories
from netsync.tree.native import Packed
from netsync.tree.place import Attributes
from netsync.tree.scan import root_entry
from netsync.tree.xattrs import differ
from netsync.wire.messages import List, Listing, Offer, Relisted, Terms

_NOTHING: Final = Attributes(None, None, None, None)


class Compared(NamedTuple):
    """What one message led to: wanted files, and the next undecided number."""

    whole: list[Wanted | Neighbours]
    deltas: list[Wanted]
    decided: int


class Comparer:
    """Compares a listing with the tree at ``destination`` and makes the small changes."""

    def __init__(
        self,
        destination: Destination,
        renames: Renames,
        policy: Policy,
        tally: Tally,
        judge: Judge,
    ) -> None:
        root = destination.root
        self.tally = tally
        self.endings = Spool(Ending)
        self.restated = Spool(Restated)
        self.linker = Linker(destination, self.restated, tally)
        self._stage = destination.stage
        self._demand = Demand(destination.stage, renames, policy.options)
        self._policy = policy
        self._options = options = policy.options
        self._directories = Directories(root)
        self._effects = effects_for(destination, self._directories, tally, self.restated)
        self.dooming = Dooming(self._directories, policy.options, tally, self._effects)
        self._attribution = Attribution(policy, root, tally)
        self._presence = Presence(self._directories, policy, tally, self._effects, judge)
        elsewhere = options.dry_run or options.atomic or bool(options.backup_dir)
        tells = policy.stores or not policy.owner or policy.groups is not None
        self._takes_new = not (options.existing or elsewhere or tells)
        self._renewal = Renewal(
            self._directories, self._attribution, self._presence, policy.options
        )
        root_directory = ListedDirectory(b"", _NOTHING, fresh=not destination.exists)
        self.unfolding = Unfolding(root_directory, self.linker.admit)

    def close(self) -> None:
        """Let go of descriptors and spools."""
        self.unfolding.close()
        self._effects.close()
        self._directories.close()
        self._presence.close()
        self.linker.close()
        self.dooming.close()
        self.restated.close()
        self.endings.close()

    def begin(self, offer: Offer) -> None:
        """Take the metadata that the root itself gets (a source with a trailing slash)."""
        self._attribution.begin(offer)
        offered = offer.root
        if offered is None:
            return
        self._attribution.admit(offered)
        root, fd = self.unfolding.open[0], self._directories.root
        wanted = self._attribution.of(offered, present := root_entry(fd))
        differs = wanted.xattrs is not None and differ(fd, wanted.xattrs)
        listed, owner = self._attribution.here(offered)
        verdict = decide(listed, present, self._policy, owner, xattrs_differ=differs)
        root.wanted = wanted
        root.touched = root.touched or verdict is Verdict.METADATA
        if self._options.verify and verdict is Verdict.METADATA:
            self.tally.considered += 1  # else a difference would not be told of
            self.tally.change(Change.METADATA, b".", directory=True)

    def offer_digests(self) -> Terms | None:
        """Return the terms on which the source may tell directories by digests, if any."""
        if not self.unfolding.open[0].fresh:
            self.unfolding.equal = equality_for(
                self._policy, self._directories, self._attribution, self.tally.ledger
            )
        return None if self.unfolding.equal is None else self.unfolding.equal.terms

    def compare(self, message: List | Relisted) -> Compared:
        """Act on one message of listings. Raises ``ProtocolError`` and ``RootError``."""
        if isinstance(message, List):
            self._attribution.learn(message)
            for problem in message.problems:
                self.tally.problem(problem)
        else:
            self._attribution.table = []
        try:
            for step in self.unfolding.steps(message, self._attribution.table):
                self._attribution.table = step.table
                if step.packed is None:
                    self._listing(step.directory, step.listing, step.first)
                else:
                    self._equal(step.directory, step.packed, step.first)
        except OSError as error:
            raise root_error(error, op="write", where=b".") from error
        return Compared(*self._demand.take(), self.unfolding.decided)

    def _equal(self, directory: ListedDirectory, packed: Packed, first: int) -> None:
        """Count what is in a directory that is as the source has it, and open those in it."""
        self.tally.found_equal(*packed[1:3])
        self.dooming.listed += packed[1]
        forget_leftovers(self._stage, directory.path, packed[0])
        for index, entry in subdirectories(packed):
            self._open_directory(first + index, join(directory.path, entry.name), entry)
        self._end(directory, partial=False)

    def _listing(self, directory: ListedDirectory, listing: Listing, first: int) -> None:
        if listing.rules:
            self.dooming.learn(directory.path, listing.rules)
        if not directory.lost and not directory.left:
            self._presence.look(directory, listing)
        unlisted = len(directory.present)
        directory.admit(listing.entries, self._policy.asked)
        self.tally.considered += len(listing.entries)
        self.tally.total += sum([each.size for each in listing.entries if each.kind is Kind.FILE])
        listed: Iterable[tuple[int, Entry]] = enumerate(listing.entries, first)
        if self._makes_bare_files(directory):
            listed = self._demand.want_new(directory.path, listed, self._attribution.of_bare)
        for number, entry in listed:
            self._attribution.admit(entry)
            self._guarded_entry(directory, number, entry)
        if not directory.lost and not directory.left:
            if not listing.partial:
                self.dooming.listed += unlisted - len(directory.present)
            directory.present.difference_update(listing.protected)
            self.dooming.bury(directory, listing.gone)
        if listing.final:
            self.unfolding.open.pop(listing.directory, None)
            self._end(directory, partial=listing.partial)

    def _makes_bare_files(self, directory: ListedDirectory) -> bool:
        """Tell whether files in ``directory`` are new, and wanted with owner, mode and time alone.

        It is the short way of a first copy: what ``_entry`` would find for each is known for all.
        """
        if not (self._takes_new and directory.fresh) or directory.lost or directory.left:
            return False
        if not self._demand.takes_neighbours:
            return False
        try:
            return not self._presence.hands_down(directory)
        except OSError:
            return False  # each of its files will say so

    def _guarded_entry(self, directory: ListedDirectory, number: int, entry: Entry) -> None:
        """Deal with one entry; trouble with it is a problem, not the session's end."""
        path = join(directory.path, entry.name)
        try:
            if directory.lost:
                self._lose(path, entry, number)
            elif directory.left:
                self._leave(path, entry, number)
            else:
                self._entry(directory, number, entry, path)
        except OSError as error:
            if is_fatal(error):
                raise
            self.linker.give_up(entry, path)
            self.tally.fail(path, "write", error, directory=entry.kind is Kind.DIRECTORY)
            self._open_directory(number, path, entry, lost=True)

    def _entry(self, directory: ListedDirectory, number: int, entry: Entry, path: bytes) -> None:
        there = self._presence.entry(directory, entry, self._attribution.scope)
        present = there.entry
        if self._attribution.cannot_keep(entry) or path == self._options.backup_dir:
            self._leave(path, entry, number)
            return
        differs = self._presence.xattrs_differ(directory, there, self._attribution.xattrs(entry))
        listed, owner = self._attribution.here(entry)
        verdict = decide(listed, present, self._policy, owner, xattrs_differ=differs)
        if verdict in (Verdict.SAME, Verdict.METADATA):
            self._stage.complete(path)
        if verdict is Verdict.SKIP:
            self._leave(path, entry, number)
        elif entry.kind is Kind.DIRECTORY:
            self._directory(directory, number, entry, present, verdict)
        elif self._shared(directory, number, entry, verdict, there):
            pass
        elif verdict is Verdict.SAME:
            self._unchanged(path, entry)
        elif verdict is Verdict.METADATA:
            assert present is not None
            self._metadata(directory, entry, present, path)
        elif entry.kind is Kind.FILE:
            self._want(directory, number, entry, present)
        else:
            self._special(directory, entry, present, path)

    def _shared(
        self,
        directory: ListedDirectory,
        number: int,
        entry: Entry,
        verdict: Verdict,
        there: There,
    ) -> bool:
        """Deal with a name of an inode that has several; False if it is as any other name."""
        present, status = there
        if not entry.link and (status is None or names_of(status) == 1):
            return False
        path = join(directory.path, entry.name)
        ruling = self.linker.judge(number, entry, path, verdict, status)
        if ruling is Ruling.AS_ANY:
            return False
        self.tally.settled += entry.size
        if ruling is Ruling.STAYS:
            self.tally.same(path)
            self._share(directory, number, entry, present, None)
            return True
        directory.touched = True
        if ruling is Ruling.LINK:
            self._share(directory, number, entry, present, CHANGE_OF[verdict])
        elif self._options.dry_run:
            self.tally.change(Change.METADATA, path)
        else:
            attributes = self._attribution.of(entry, present)
            parted = ruling is Ruling.PART
            self.linker.restate(Restatement(directory.path, entry, attributes, parted))
        return True

    def _share(
        self,
        directory: ListedDirectory,
        number: int,
        entry: Entry,
        present: Entry | None,
        change: Change | None,
    ) -> None:
        """Have a name linked to its group's carrier at the end."""
        path = join(directory.path, entry.name)
        in_the_way = False
        if present is not None and present.kind is Kind.DIRECTORY:
            in_the_way = self.dooming.clear(directory, entry.name)
            if in_the_way:
                self.dooming.add(Doomed(path, for_link=True))
        if not self._options.dry_run:
            attributes = self._attribution.of(entry, present)
            group, replaces = entry.link, present is not None
            share = Share(
                number, group, directory.path, entry, attributes, change, replaces, in_the_way
            )
            self.linker.share(share)
        elif change is not None and not in_the_way:
            self.tally.change(change, path, cause=cause_of(entry, present, self._options))

    def _directory(
        self,
        above: ListedDirectory,
        number: int,
        entry: Entry,
        present: Entry | None,
        verdict: Verdict,
    ) -> None:
        path = join(above.path, entry.name)
        created = verdict in (Verdict.CREATE, Verdict.REPLACE)
        if created:
            above.touched = True
            self._effects.make_directory(path, replaces=verdict is Verdict.REPLACE)
            self.tally.change(Change.CREATED, path, directory=True)
        elif verdict is Verdict.METADATA:
            self.tally.change(Change.METADATA, path, directory=True)
        else:
            self.tally.same(path, directory=True)
        opened = self._open_directory(number, path, entry, fresh=created)
        opened.touched = created or verdict is Verdict.METADATA
        if created and above.hands_down is False:
            opened.hands_down = False  # an ACL to hand down is itself handed down
        if present is not None and not created:
            self._effects.let_in(opened, above.path, present)

    def _open_directory(
        self, number: int, path: bytes, entry: Entry, *, fresh: bool = False, lost: bool = False
    ) -> ListedDirectory:
        directory = ListedDirectory(path, self._attribution.of(entry, new=fresh), fresh=fresh)
        directory.lost = lost
        if entry.kind is Kind.DIRECTORY:
            self.unfolding.open[number] = directory
        return directory

    def _lose(self, path: bytes, entry: Entry, number: int) -> None:
        """Count an entry whose directory could not be made; that one has the problem."""
        self.tally.change(Change.FAILED, path, directory=entry.kind is Kind.DIRECTORY)
        self._open_directory(number, path, entry, lost=True)

    def _leave(self, path: bytes, entry: Entry, number: int) -> None:
        """Leave an entry, and what is in it, as it is."""
        self._unchanged(path, entry)
        self._open_directory(number, path, entry).left = True

    def _unchanged(self, path: bytes, entry: Entry) -> None:
        self.tally.same(path, directory=entry.kind is Kind.DIRECTORY)
        self.tally.settled += entry.size

    def _metadata(
        self, directory: ListedDirectory, entry: Entry, present: Entry, path: bytes
    ) -> None:
        attributes = self._attribution.of(entry, present)
        refused = self._effects.restate(directory.path, present, attributes)
        self.tally.refused(path, refused)
        self.tally.change(Change.METADATA, path)
        self.tally.settled += entry.size

    def _want(
        self, directory: ListedDirectory, number: int, entry: Entry, present: Entry | None
    ) -> None:
        updated = present is not None and present.kind is Kind.FILE
        change = Change.UPDATED if updated else Change.CREATED
        directory.touched = True
        wanted = Wanted(number, directory.path, entry, present if updated else None, change)
        if present is not None and present.kind is Kind.DIRECTORY:
            wanted.in_the_way = self.dooming.clear(directory, entry.name)
            if wanted.in_the_way:
                self.dooming.add(Doomed(wanted.path, for_file=True))
        if self._options.dry_run:
            if not wanted.in_the_way:  # else it is counted when the guards have decided
                self.tally.change(
                    change, wanted.path, cause=cause_of(entry, present, self._options)
                )
            return
        wanted.attributes = self._renewal.attributes(directory, entry, wanted.present)
        self._demand.want(wanted)

    def _special(
        self, directory: ListedDirectory, entry: Entry, present: Entry | None, path: bytes
    ) -> None:
        same_kind = present is not None and present.kind is entry.kind
        directory.touched = True
        attributes = self._renewal.attributes(directory, entry, present if same_kind else None)
        if present is not None and present.kind is Kind.DIRECTORY:
            if self.dooming.clear(directory, entry.name):
                self.dooming.add(Doomed(path, entry, attributes=attributes))
                return
            present = None  # replaced by nothing: the way is clear
        replaces = present is not None
        refused = self._effects.create(directory.path, entry, attributes, replaces=replaces)
        self.tally.refused(path, refused)
        self.tally.change(Change.UPDATED if same_kind else Change.CREATED, path)

    def _end(self, directory: ListedDirectory, *, partial: bool) -> None:
        """A directory is listed whole: note what is left over, and what it becomes."""
        if directory.lost or directory.left:
            return
        self.dooming.end(directory, partial=partial)
        if not directory.touched:
            return
        try:
            self._effects.check_touched(directory)
        except OSError as error:
            self.tally.problem(Problem(directory.path or b".", "publish in", reason(error)))
        if not self._options.dry_run:
            self.endings.append(Ending(directory.path, directory.wanted))

"""Where file data arrives: staged, verified, flushed, published.

A file is written out of sight, its digest is compared with the source's, its metadata is set,
and it waits in a batch. A batch is flushed to disk as a whole and then each file renamed into
place, so that after a power cut a name stands for its old content or its new content and never
for less. With ``--inplace`` a file is written where it is; matches then only point forward.
Runs in a worker thread, one frame a hop. What a peer can say wrongly (a file not wanted, lengths
that do not add up) ends the session; what the disk says about one file is that file's problem,
unless it dooms all others too (no space, quota, read-only).
"""

from __future__ import annotations

import errno
import os
from itertools import islice

from netsync.errors import ProtocolError, is_fatal, root_error
from netsync.model import Change
from netsync.transfer.awaited import Awaited
from netsync.transfer.batch import Batch, drop, parted
from netsync.transfer.destination import Destination
from netsync.transfer.fates import Fates
from netsync.transfer.incoming import Incoming
from netsync.transfer.neighbours import StagedTogether, Together
from netsync.transfer.offers import ATTEMPTS_MAX
from netsync.transfer.publishing import Blocked, discard, publisher_for
from netsync.transfer.runs import Arrival, Staged, runs, singles
from netsync.transfer.staging import Staging
from netsync.transfer.tally import Tally
from netsync.transfer.wanted import Wanted
from netsync.tree.directories import Directories
from netsync.tree.holes import data_size
from netsync.tree.output import Output
from netsync.tree.place import at_time, set_on_descriptor
from netsync.wire.messages import FileEnd, Files, Piece, Unsent


class Lander:
    """Receives the data of wanted files below ``root``.

    ``awaited`` is shared with who wants. ``fates`` tells what became of the files, ``blocked``
    holds arrived ones that a directory is in the way of, ``ignored`` are those given up of which
    more comes.
    ``source_failed``: the source could not read one, though it did not vanish.
    """

    def __init__(self, destination: Destination, awaited: Awaited, tally: Tally) -> None:
        self.tally = tally
        self.fates = Fates(awaited, tally)
        self.source_failed = False
        self._awaited = awaited
        self._options = destination.options
        self._directories = Directories(destination.root)
        self._publisher = publisher_for(destination, self._directories)
        self._places = self._publisher.places
        self.blocked = Blocked(self._publisher, tally)
        self._staging = Staging(destination, self._directories, self._places)
        self._keeps_partials = True
        self._batch = Batch()
        self._incoming: Incoming | None = None
        self.ignored: set[int] = set()

    def close(self) -> None:
        """Drop what is not published, but for partials, and let go of all descriptors."""
        batch = self._batch.take()
        if (incoming := self._incoming) is not None:
            incoming.close_basis()
            incoming.note(self.tally.ledger)
            batch.append((incoming.wanted, incoming.output))
            self._incoming = None
        drop(batch, self._places, keep=self._keeps_partials)
        self.blocked.close(keep=self._keeps_partials)
        self._publisher.close(keeps_partials=self._keeps_partials)
        self._directories.close()

    @property
    def batched(self) -> int:
        """Files that wait for a flush."""
        return self._batch.files

    @property
    def under_way(self) -> int:
        """Bytes written so far of the large file that is coming in."""
        return self._incoming.position if self._incoming is not None else 0

    @property
    def is_full(self) -> bool:
        """Tell whether the batch should be flushed before more is taken."""
        return self._batch.is_full

    def small_files(self, message: Files, tail: memoryview) -> None:
        """Stage whole small files, neighbours together."""
        for run in runs(message.files, tail, self._awaited, self._arriving, self._damaged):
            if isinstance(run, Together):
                self._together(run)
                continue
            if not self._options.inplace:
                staged = run.stage(self._places)
                self._batch.add(staged, len(staged), run.staged)
                self.tally.literal += run.staged
                for wanted, output in staged:
                    if output.refused:
                        self.tally.refused(wanted.path, output.refused)
            for arrival in run.left_over:
                self._stage_alone(arrival, run.content(arrival))

    def _together(self, came: Together) -> None:
        """Stage neighbours, each alone where that fails."""
        staged = came.stage(self._places)
        if staged is not None:
            self._batch.add([staged], len(staged.fds), len(came.tail))
            self.tally.literal += len(came.tail)
            return
        start = 0
        for head in came.heads:
            wanted = self._awaited.alone(head.number)
            assert wanted is not None  # it has arrived
            data = came.tail[start : start + head.size]
            self._stage_alone(Arrival(wanted, head, start), data)
            start += head.size

    def _arriving(self, number: int) -> Wanted:
        wanted = self._expect(number)
        wanted.arrived = True
        return wanted

    def _damaged(self, wanted: Wanted) -> None:
        wanted.arrived = False
        self.fates.retry(wanted, "the data did not arrive as it was sent")

    def _stage_alone(self, arrival: Arrival, data: memoryview) -> None:
        wanted, head, _ = arrival
        try:
            output = Output.complete(
                self._place(wanted),
                wanted.name,
                data,
                at_time(wanted.attributes, head.mtime_ns),
                inplace=self._inplace(wanted),
            )
        except OSError as error:
            wanted.arrived = False
            self._fail(wanted, error)
        else:
            self._arrived(wanted, output, head.size)
            self.tally.literal += head.size

    def _complete(self, wanted: Wanted, output: Output, size: int, mtime_ns: int) -> None:
        """Set the metadata of a written file and put it into the batch."""
        output.truncate(size)
        output.refused = set_on_descriptor(output.fd, at_time(wanted.attributes, mtime_ns))
        self._arrived(wanted, output, size)

    def _arrived(self, wanted: Wanted, output: Output, size: int) -> None:
        """Put a complete file into the batch."""
        wanted.arrived = True
        if output.refused:
            self.tally.refused(wanted.path, output.refused)
        self._batch.add([(wanted, output)], 1, size)

    def _inplace(self, wanted: Wanted) -> bool:
        return self._options.inplace and wanted.present is not None

    def _place(self, wanted: Wanted) -> int:
        """Return the directory to write in; what is overwritten in place is backed up."""
        if self._inplace(wanted):
            self._publisher.overwrite(wanted)
        return self._places.fd(wanted.directory)

    def _expect(self, number: int) -> Wanted:
        wanted = self._awaited.alone(number)
        incoming = self._incoming
        if wanted is None or wanted.arrived or (incoming and incoming.wanted is wanted):
            raise ProtocolError(f"data for file {number}, which was not wanted", op="receive")
        return wanted

    def piece(self, message: Piece, tail: memoryview) -> None:
        """Write the next part of a large file."""
        ignored = message.number in self.ignored
        incoming = None if ignored else self._current(message.number)
        if incoming is None:
            return
        ops = incoming.checked(message.ops, tail)
        try:
            incoming.apply(ops, tail)
        except OSError as error:
            self._drop(incoming)
            self.ignored.add(message.number)
            self._fail(incoming.wanted, error)

    def _current(self, number: int) -> Incoming | None:
        """Return the file under way, opened with its first piece; None if it cannot be."""
        if self._incoming is not None:
            if self._incoming.wanted.number != number:
                raise ProtocolError("pieces of two files at once", op="receive")
            return self._incoming
        wanted = self._expect(number)
        try:
            self._place(wanted)
            self._incoming = self._staging.open(wanted)
        except OSError as error:
            self.ignored.add(number)
            self._fail(wanted, error)
        return self._incoming

    def file_end(self, message: FileEnd) -> None:
        """Verify a large file and put it into the batch."""
        if message.number in self.ignored:
            self.ignored.remove(message.number)
            return
        incoming = self._current(message.number)
        if incoming is None:
            self.ignored.discard(message.number)
            return
        try:
            if not incoming.verifies(message.size, message.digest):
                if not self._sign_instead(incoming):
                    self._drop(incoming)
                    self.fates.retry(incoming.wanted, "the result did not verify")
                return
            self._incoming = None
            incoming.close_basis()
            self._complete(incoming.wanted, incoming.output, message.size, message.mtime_ns)
        except OSError as error:
            self._drop(incoming)
            self._fail(incoming.wanted, error)
            return
        before = incoming.sent_before(self.tally.ledger)
        self.tally.literal += incoming.literal + before
        self.tally.matched += incoming.matched - before

    def _sign_instead(self, incoming: Incoming) -> bool:
        """Ask again for a file whose beginning was not what we believed, now with a signature."""
        wanted = incoming.wanted
        if not incoming.is_rest or wanted.attempts >= ATTEMPTS_MAX:
            return False
        if not incoming.becomes_basis(self._places.fd(wanted.directory)):
            return False
        self._incoming = None
        wanted.attempts += 1
        self.fates.to_sign.append(wanted)
        return True

    def open_output(self, wanted: Wanted) -> Output | None:
        """Open an output for content that is found here; None if there is none, which is told."""
        try:
            return self._staging.new(wanted)
        except OSError as error:
            self._fail(wanted, error)
            return None

    def drop_output(self, wanted: Wanted, output: Output, error: OSError | None = None) -> None:
        """Drop what ``open_output`` opened, and give the file up if there was an ``error``."""
        discard(self._places, wanted, output)
        if error is not None:
            self._fail(wanted, error)

    def moved(self, wanted: Wanted, output: Output) -> None:
        """Take a file whose content was found here and verified."""
        try:
            data = data_size(output.fd, wanted.entry.size)
            self._complete(wanted, output, wanted.entry.size, wanted.entry.mtime_ns)
        except OSError as error:
            self.drop_output(wanted, output, error)
            return
        self.tally.matched += data

    def unsent(self, message: Unsent) -> None:
        """Give up files the source could not read; what arrived of them is void."""
        if len(message.numbers) != len(message.problems):
            raise ProtocolError("numbers and problems do not fit", op="receive")
        for number, problem in zip(message.numbers, message.problems, strict=True):
            if number in self.ignored:
                self.ignored.remove(number)
                continue
            wanted = self._void(number) or self._expect(number)
            if message.retry and wanted.attempts < ATTEMPTS_MAX:
                self.fates.ask_again(wanted)
                continue
            self.source_failed = self.source_failed or not problem.vanished
            self.tally.change(Change.FAILED, wanted.path)
            self.tally.problem(problem)
            self.fates.settle(wanted, failed=True)

    def _void(self, number: int) -> Wanted | None:
        """Drop the file under way if it is this one."""
        incoming = self._incoming
        if incoming is None or incoming.wanted.number != number:
            return None
        self._drop(incoming)
        return incoming.wanted

    def _drop(self, incoming: Incoming) -> None:
        """Forget the file under way and what arrived of it."""
        self._incoming = None
        incoming.close_basis()
        discard(self._places, incoming.wanted, incoming.output)

    def release(self) -> bool:
        """Give back the room of the large file that was replaced last; tell if there was one."""
        return self._publisher.release()

    def flush(self) -> None:
        """Make the batch durable and publish it. Raises ``RootError`` where a flush fails."""
        batch = self._batch.take()
        try:
            self._publisher.make_durable(batch)
            while batch:
                if isinstance(batch[-1], StagedTogether):
                    self._name_together(batch, batch[-1])
                    continue
                named = self._publisher.name_last(batch)
                if named and not any(named):
                    files = [wanted for wanted, _ in islice(singles(batch), len(named))]
                    del batch[-len(named) :]
                    self.fates.published(files)
                    continue
                for result in reversed(named or [errno.EINVAL]):
                    self._publish_last(batch, result)
        finally:
            drop(batch, self._places)
        self.tally.note()  # now nothing is counted that may still be dropped

    def _name_together(self, batch: list[Staged], staged: StagedTogether) -> None:
        """Name neighbours, the last of ``batch``; each for which that fails is one alone."""
        told = staged.name(self._places)
        if told and not any(told):
            batch.pop()
            self.fates.published_together(staged)
            return
        batch[-1:] = files = parted(staged, self._awaited)
        for result in reversed(told or [errno.EINVAL] * len(files)):
            self._publish_last(batch, result)

    def _publish_last(self, batch: list[Staged], named: int) -> None:
        """Settle the last file of ``batch``, of which ``name_last`` said ``named``."""
        staged = batch.pop()
        assert not isinstance(staged, StagedTogether)
        wanted, output = staged
        if named == 0:
            self.fates.published([wanted])
        elif named > 0:
            self._publish(wanted, output)
        else:
            self._fail(wanted, OSError(-named, os.strerror(-named)))

    def _publish(self, wanted: Wanted, output: Output) -> None:
        try:
            if wanted.in_the_way:
                self.blocked.hold(wanted, output)
            else:
                self._publisher.publish(wanted, output, replace=wanted.present is not None)
        except OSError as error:
            discard(self._places, wanted, output)
            self._fail(wanted, error)
            return
        if wanted.in_the_way:
            self.fates.settle(wanted)
        else:
            self.fates.published([wanted])

    def _fail(self, wanted: Wanted, error: OSError) -> None:
        if is_fatal(error):
            self._keeps_partials = False  # they would take the room that the next run needs
            if not (self.release() or self._batch.files) or error.errno == errno.EROFS:
                raise root_error(error, op="write", where=wanted.path) from error
            # What has arrived whole is worth keeping. Unless all is published at once, that frees
            # what it replaces: from now on each file is published before the next is begun.
            self._batch.tight = True
            self.flush()
            self.release()
            if wanted.attempts >= ATTEMPTS_MAX:
                raise root_error(error, op="write", where=wanted.path) from error
            self.fates.ask_again(wanted)
            return
        self.tally.fail(wanted.path, "write", error)
        self.fates.settle(wanted, failed=True)

"""Where a wanted file is written: in place, beside its place, in the stage, onto a partial."""

from __future__ import annotations

import os

from netsync.model import Options
from netsync.names import join
from netsync.transfer.basis import Basis, open_basis
from netsync.transfer.destination import Destination
from netsync.transfer.incoming import Incoming
from netsync.transfer.wanted import Wanted
from netsync.tree.content import copy_data
from netsync.tree.directories import Directories
from netsync.tree.large_files import STAGE_MIN, Stage
from netsync.tree.output import Output
from netsync.tree.partials import Partial, version_of
from netsync.tree.records import entries_in


def partial_of(wanted: Wanted, stage: Stage, options: Options) -> Partial | None:
    """Return what an earlier run left of a file, if it will do for a basis; else remove it."""
    inplace = options.inplace and wanted.present is not None
    if wanted.entry.size < STAGE_MIN or inplace or options.whole_file:
        stage.forget(wanted.path)
        return None
    partial = stage.find(wanted.path)
    if partial is not None and _is_beginning(partial, wanted):
        wanted.rest = partial.size
    return partial


def forget_leftovers(stage: Stage, directory: bytes, records: bytes) -> None:
    """Remove what an earlier run left of the files in a directory that are complete now."""
    if stage.has_leftovers:
        for entry in entries_in(records):
            stage.complete(join(directory, entry.name))


def _is_beginning(partial: Partial, wanted: Wanted) -> bool:
    """Tell whether all that is lacking lies behind ``partial``, as far as we know.

    An old version that reaches further may hold more of the new one: then both are signed.
    """
    beyond = wanted.present is not None and wanted.present.size > partial.size
    return partial.version == _version(wanted) and partial.size <= wanted.entry.size and not beyond


def _version(wanted: Wanted) -> bytes:
    return version_of(wanted.entry.size, wanted.entry.mtime_ns)


class Staging:
    """Opens the files that data is written to, in ``places``; old ones are in ``directories``.

    Both stay the caller's.
    """

    def __init__(
        self, destination: Destination, directories: Directories, places: Directories
    ) -> None:
        self._stage = destination.stage
        self._directories = directories
        self._places = places
        self._options = destination.options

    def open(self, wanted: Wanted) -> Incoming:
        """Open a file that comes in pieces, with its basis. Raises ``OSError``."""
        if wanted.rest:
            return Incoming(wanted, self._continued(wanted), None, lambda: self.new(wanted))
        basis = self._basis(wanted) if wanted.basis_size else None
        try:
            output = self._resumed(wanted) if basis is not None and basis.seam else None
            output = output or self.new(wanted)
        except OSError:
            if basis is not None:
                basis.close()
            raise
        partial = wanted.partial
        if output.holds:
            wanted.partial = None  # it is the output now

        def renew() -> Output:
            wanted.partial = partial
            return self.new(wanted)

        return Incoming(wanted, output, basis, renew)

    def _basis(self, wanted: Wanted) -> Basis:
        """Open the basis; one that is gone is empty, and the digest refuses what is made of it."""
        try:
            return open_basis(self._directories, wanted)
        except FileNotFoundError:
            return Basis(-1, 0, -1)

    def _resumed(self, wanted: Wanted) -> Output | None:
        """Return the partial to be written on, if it will do. Raises ``OSError``."""
        assert wanted.partial is not None
        directory = self._places.fd(wanted.directory)
        version = _version(wanted) if wanted.rest else b""
        size = wanted.partial.size
        resumed = self._stage.resume(directory, wanted.path, wanted.partial, version=version)
        return None if resumed is None else Output(resumed.fd, resumed, size)

    def _continued(self, wanted: Wanted) -> Output:
        """Return an output that holds the beginning: the partial, else a copy of it."""
        assert wanted.partial is not None
        output = self._resumed(wanted)
        if output is not None:
            wanted.partial = None
            return output
        fd = wanted.partial.open()
        try:
            output = self.new(wanted)
            try:
                copy_data(fd, output.fd, wanted.rest)
            except OSError:
                output.discard(self._places.fd(wanted.directory))
                raise
        finally:
            os.close(fd)
        return output

    def new(self, wanted: Wanted) -> Output:
        """Open an empty output, or with ``--inplace`` what is there. Raises ``OSError``."""
        directory = self._places.fd(wanted.directory)
        inplace = self._options.inplace and wanted.present is not None
        if inplace or wanted.entry.size < STAGE_MIN:
            return Output.create(directory, wanted.name, inplace=inplace)
        staged = self._stage.create(directory, wanted.path, _version(wanted))
        return Output(staged.fd, staged)

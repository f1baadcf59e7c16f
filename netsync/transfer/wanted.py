"""What the target has asked for, and what it keeps for the end of the transfer."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from netsync.model import Change, Entry, Kind
from netsync.names import join
from netsync.transfer.carrying import CarriedOver
from netsync.tree.partials import Partial
from netsync.tree.place import Attributes

_NOTHING: Final = Attributes(None, None, None, None)


class Wanted(Struct, eq=False, gc=False):
    """A file on its way to the target: where it goes and what it becomes there.

    ``present`` is the file it replaces, if any; ``in_the_way`` says that a non-empty directory
    must be deleted first; ``basis_size`` is the size of the basis a signature was made of (0 for
    none), ``carried`` what is carried over of it; ``attempts`` counts how often it was asked
    for; ``arrived`` says that it waits for a flush; ``partial`` is what an earlier run left of it;
    ``rest`` is where to go on if that is its beginning (0: nobody knows).

    There may be many thousands, so the garbage collector passes them by: nothing that they refer
    to refers to them.
    """

    number: int
    directory: bytes
    entry: Entry
    present: Entry | None
    change: Change
    attributes: Attributes = _NOTHING
    in_the_way: bool = False
    basis_size: int = 0
    carried: CarriedOver | None = None
    attempts: int = 1
    arrived: bool = False
    partial: Partial | None = None
    rest: int = 0

    @property
    def numbers(self) -> range:
        """Its number, as ``Neighbours`` have theirs."""
        return range(self.number, self.number + 1)

    @property
    def is_new(self) -> bool:
        """Tell whether its name is free as far as we know."""
        return self.present is None and not self.in_the_way

    @property
    def name(self) -> bytes:
        """The final name in its directory."""
        return self.entry.name

    @property
    def path(self) -> bytes:
        """The path relative to the transfer's root."""
        return join(self.directory, self.entry.name)

    def forget_partial(self) -> None:
        """Remove what an earlier run left: it is of no use any more."""
        if self.partial is not None:
            self.partial.remove()
            self.partial = None
        self.rest = 0


class Share(Struct, frozen=True, array_like=True):
    """A name that is linked to its group's carrier at the end.

    ``change`` is what that amounts to, None if the name was counted as unchanged already.
    ``replaces`` says that something is there, ``in_the_way`` that it is a directory with something
    in it, which goes first.
    """

    number: int
    group: int
    directory: bytes
    entry: Entry
    attributes: Attributes
    change: Change | None
    replaces: bool
    in_the_way: bool = False

    def wanted(self) -> Wanted:
        """Return the name as a file whose data is wanted."""
        change = self.change or Change.METADATA
        file = Wanted(self.number, self.directory, self.entry, None, change)
        file.attributes, file.in_the_way = self.attributes, self.in_the_way
        return file

    @property
    def stays(self) -> bool:
        """Tell whether its content is not to change."""
        return self.change in (None, Change.METADATA)

    @property
    def path(self) -> bytes:
        """The path relative to the transfer's root."""
        return join(self.directory, self.entry.name)


class Doomed(Struct, frozen=True, array_like=True):
    """A path that is not at the source and is deleted at the end.

    ``special`` replaces it afterwards: a link or device that a directory was in the way of.
    ``for_file`` says that a file will: the directory goes only if that file has arrived;
    ``for_link`` that another name of a file will.
    """

    path: bytes
    special: Entry | None = None
    for_file: bool = False
    attributes: Attributes | None = None
    for_link: bool = False


class Ending(Struct, frozen=True, array_like=True):
    """A directory whose metadata is set at the end, when nothing in it changes any more."""

    path: bytes
    attributes: Attributes


class Restated(Struct, frozen=True, array_like=True):
    """An entry that stays and only got other metadata, which must be flushed too."""

    path: bytes
    kind: Kind

"""What a new inode gets at the target, whatever it replaces and inherits."""

from __future__ import annotations

import msgspec

from netsync.model import XATTRS_UNKNOWN, Entry, Options
from netsync.transfer.attributes import Attribution
from netsync.transfer.listed import ListedDirectory
from netsync.transfer.present import Presence
from netsync.tree.directories import Directories
from netsync.tree.place import Attributes
from netsync.tree.xattrs import of_name, read_set


class Renewal:
    """Says what to set on new inodes. All that it is given stays the caller's."""

    def __init__(
        self,
        directories: Directories,
        attribution: Attribution,
        presence: Presence,
        options: Options,
    ) -> None:
        self._directories = directories
        self._attribution = attribution
        self._presence = presence
        self._options = options

    def attributes(
        self, directory: ListedDirectory, entry: Entry, present: Entry | None
    ) -> Attributes:
        """Return what to set on a new inode that may replace ``present``.

        One that has no attributes, and inherits none, need not be asked for them.
        """
        attributes = self._attribution.of(entry, present)
        xattrs = attributes.xattrs
        if entry.xattrs == XATTRS_UNKNOWN and present is not None:
            where = of_name(self._directories.fd(directory.path), present.name)
            xattrs = self._attribution.kept(read_set(where, self._attribution.scope))
        elif xattrs is not None and not xattrs.items and not self._may_have(directory, present):
            xattrs = None
        if xattrs is attributes.xattrs:
            return attributes
        return msgspec.structs.replace(attributes, xattrs=xattrs)

    def _may_have(self, directory: ListedDirectory, present: Entry | None) -> bool:
        """Tell whether the file to be written has attributes before any are set."""
        if self._options.dry_run or (self._options.inplace and present is not None):
            return True
        if self._options.atomic and directory.fresh:  # it cannot be asked before it is made
            return True
        return self._presence.hands_down(directory)

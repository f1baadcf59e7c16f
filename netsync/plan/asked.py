"""What the user of a pull asked for, so that the server cannot add to it.

A source decides what takes part: it has the tree, and the same rules. But a target that fetches
for a user must not take its word for that: who pulls ``photos`` into a home directory has not
asked for an ``.ssh`` beside it, nor for what ``--exclude`` names. An honest source lists none of
this, so whoever does breaks the protocol. What only the source can know (sizes it skips, mount
points, ignore files of its tree) is not asked here.
"""

from __future__ import annotations

from collections.abc import Iterable

from netsync.errors import ProtocolError
from netsync.model import Entry, Kind, Options
from netsync.names import shown
from netsync.plan.filters import Filter
from netsync.plan.restriction import Restriction, names_root


class Asked:
    """The entries that may be listed to whoever asked with these ``options``.

    ``names`` are the only ones in the transfer's root; None where the contents of a directory
    were asked for, and may have any name.
    """

    def __init__(self, options: Options, names: Iterable[bytes] | None) -> None:
        self._options = options
        self._names = None if names is None else frozenset(names)
        self._filter = Filter(options.rules)
        self._restriction = None if options.paths is None else Restriction(options.paths)

    def renamed(self, name: bytes) -> Asked:
        """Return the same for a lone file that is listed as ``name`` (empty: as it is called)."""
        return Asked(self._options, [name]) if name and self._names is not None else self

    def check_root(self, offered: Entry | None) -> None:
        """Raise ``ProtocolError`` if the root is to get metadata though only names were asked for.

        ``offered`` is the metadata that came with the offer.
        """
        paths = self._options.paths
        allowed = self._names is None and (paths is None or names_root(paths))
        if offered is not None and not allowed:
            raise ProtocolError(
                "it offers metadata of a directory that was not asked for",
                op="receive",
                hint="do not trust this server",
            )

    def check(self, directory: bytes, path: bytes, entry: Entry) -> None:
        """Raise ``ProtocolError`` if ``entry``, at ``path`` in ``directory``, was not asked for.

        Both paths are relative to the transfer's root, which is empty.
        """
        if not self._admits(directory, path, entry):
            raise ProtocolError(
                f"it lists {shown(path)}, which was not asked for",
                op="receive",
                hint="do not trust this server",
            )

    def _admits(self, directory: bytes, path: bytes, entry: Entry) -> bool:
        if not directory and self._names is not None and entry.name not in self._names:
            return False
        if entry.kind is Kind.SYMLINK and not self._takes_links:
            return False
        if self._filter.excludes(path, directory=entry.kind is Kind.DIRECTORY):
            return False
        named = self._restriction
        if named is None or named.opens(directory):
            return True
        return next(named.named_below(path), None) is not None

    @property
    def _takes_links(self) -> bool:
        return self._options.keep.links and not self._options.copy_links

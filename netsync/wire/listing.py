"""What listings are made of: a directory's entries, or their digest and the terms it is made on."""

# No annotations from __future__: msgspec reads them, and texts take it five times as long.

from typing import Annotated

from msgspec import Meta, Struct

from netsync.model import U63, Entry, Path, Rule

TEXT_PER_CREDIT: int = 64
"""Bytes of names, link texts and paths that cost as much credit as an entry."""
IGNORE_RULES_MAX: int = 1024
"""Patterns of one directory's ignore file."""
RELIST_MAX: int = 4096
"""Directories in one ``Relist``."""
DIGEST_BYTES: int = 12
"""Bytes of a directory's digest: two different directories agree by accident once in 2^96."""
DIGESTED_MAX: int = 1 << 15
"""Entries of a directory that is told by its digest."""

Names = Annotated[list[Path], Meta(max_length=65536)]


class Listing(Struct, frozen=True, array_like=True, gc=False):
    """Entries of directory ``directory`` (its number), sorted by name; ``final`` ends it.

    ``partial`` says that the target may hold more here that is not the source's business;
    ``protected`` names exist at the source but were skipped or could not be read; ``rules`` are
    those of the directory's ignore file, told before its end. With a
    ``digest`` the directory is told whole by that, and by the number of its entries, ``count``.
    ``gone`` are names that were looked for because something had happened to them, and that are
    not at the source any more.
    """

    directory: U63
    entries: Annotated[list[Entry], Meta(max_length=65536)]
    final: bool
    partial: bool = False
    protected: Names = []
    rules: Annotated[list[Rule], Meta(max_length=IGNORE_RULES_MAX)] = []
    digest: Annotated[bytes, Meta(max_length=DIGEST_BYTES)] = b""
    count: Annotated[int, Meta(ge=0, le=DIGESTED_MAX)] = 0
    gone: Names = []

    @property
    def numbers(self) -> int:
        """How many numbers its entries take."""
        return self.count or len(self.entries)

    @property
    def is_bare(self) -> bool:
        """Tell whether it names nothing, like one that is told by a digest: most are."""
        return not (self.entries or self.protected or self.rules or self.gone)

    @property
    def cost(self) -> int:
        """The credit it uses up by itself."""
        if self.is_bare:
            return 1
        return max(1, len(self.entries)) + self.text // TEXT_PER_CREDIT

    @property
    def text(self) -> int:
        """Bytes of its names, link texts and patterns."""
        text = (
            sum(map(len, self.protected))
            + sum(map(len, self.gone))
            + sum(len(rule.pattern) for rule in self.rules)
        )
        for entry in self.entries:
            text += len(entry.name) + len(entry.target)
        return text


class Terms(Struct, frozen=True, array_like=True):
    """What a directory's digest is made of, so that equal ones mean that nothing is to be done.

    ``seed`` keys the digest, ``mode_mask`` are the permission bits that count, ``kinds`` has bit
    ``1 << kind`` for each kind of entry that may be digested. Owners and groups count or not;
    names of shared inodes, and entries with extended attributes, may be digested or not.
    """

    seed: U63
    mode_mask: Annotated[int, Meta(ge=0, le=0o7777)]
    kinds: Annotated[int, Meta(ge=0, le=255)]
    owner: bool
    group: bool
    links: bool
    attributes: bool

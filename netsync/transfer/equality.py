"""The target's side of digests: on which terms they are worth something, and are they equal.

The target sets the terms, because it knows what it may keep and how its owners are called. It
offers them only where equal strings mean that nothing is to be done, for every entry: there are
no rules, times count to the nanosecond, and the target can keep what the source tells. Owners
are compared as the source's numbers, which the names it told turn into ours and back.
"""

from __future__ import annotations

import os

from netsync.model import DEVICES, Options
from netsync.plan.compare import Policy
from netsync.plan.digestible import is_exact, kinds_kept
from netsync.transfer.attributes import Attribution
from netsync.transfer.digests import is_above_backup
from netsync.transfer.ledger import Ledger
from netsync.transfer.listed import ListedDirectory
from netsync.tree.directories import Directories
from netsync.tree.from_end import BothEnds
from netsync.tree.native import Coverage, Packed, list_names
from netsync.tree.records import RECORDS_MAX, records_digest
from netsync.tree.stage import sweep
from netsync.wire.listing import DIGEST_BYTES, Listing, Terms


def terms_for(policy: Policy, seed: int) -> Terms | None:
    """Return the terms on which equal digests mean that a target has nothing to do, if any."""
    options, keep = policy.options, policy.options.keep
    if not is_exact(options):
        return None
    if policy.groups is not None or policy.owner is not keep.owner:
        return None  # what an ordinary user may keep differs from entry to entry
    kinds = kinds_kept(keep)
    if not policy.devices:
        kinds &= ~sum(1 << kind for kind in DEVICES)
    return Terms(
        seed=seed,
        mode_mask=policy.mode_mask,
        kinds=kinds,
        owner=policy.owner,
        group=keep.group,
        links=not keep.hard_links,
        attributes=not policy.xattrs,
    )


def _covered(terms: Terms) -> Coverage:
    """Return what a target's own directory may hold to be compared by its digest.

    All mode bits count there, masked ones too. A name of a shared inode never passes: which of
    them belong together is for the comparison to say.
    """
    return Coverage(
        0o7777, terms.kinds, terms.owner, terms.group, True, not terms.attributes, RECORDS_MAX
    )


class Equality:
    """Tells whether a directory is what a digest says, on ``terms``. A worker thread's."""

    def __init__(
        self, terms: Terms, directories: Directories, attribution: Attribution, options: Options
    ) -> None:
        self.terms = terms
        self._packer = BothEnds(directories, _covered(terms))
        self._directories = directories
        self._attribution = attribution
        self._options = options

    def close(self) -> None:
        """Read nothing more."""
        self._packer.close()

    def packed(self, directory: ListedDirectory, listing: Listing) -> Packed | None:
        """Return what is in the directory if its digest is the listing's, else None.

        What cannot be read is not equal: the comparison entry by entry says what is wrong.
        """
        if directory.fresh or directory.lost or directory.left:
            return None
        if is_above_backup(directory.path, self._options):
            return None
        try:
            packed, own = self._packer.pack(directory.path, self._attribution.inverses)
            if own and not self._options.dry_run:
                sweep(self._directories.fd(directory.path), own)
        except OSError:
            return None
        if packed is None or packed[1] != listing.count:
            return None
        same = records_digest(packed[0], self.terms.seed, DIGEST_BYTES) == listing.digest
        return packed if same else None


def equality_for(
    policy: Policy, directories: Directories, attribution: Attribution, ledger: Ledger | None
) -> Equality | None:
    """Return what compares digests on terms of its own, or None where that gains nothing.

    That is so where equality is not exact, and for a target that has nothing yet. What an earlier
    attempt of this run changed is counted name by name, so everything is listed then. The terms
    have a new secret each time: nobody can prepare two directories that pass for each other.
    """
    terms = terms_for(policy, int.from_bytes(os.urandom(8)) >> 1)
    if terms is None or (ledger is not None and ledger.has_earlier):
        return None
    if not list_names(directories.root):
        return None
    return Equality(terms, directories, attribution, policy.options)

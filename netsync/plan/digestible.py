"""Which transfers tell directories by a digest, and on which terms a target mostly wants that."""

from __future__ import annotations

from netsync.model import DEVICES, SPECIALS, Keep, Kind, Options


def is_digestible(options: Options) -> bool:
    """Tell whether a source may tell directories by what they hold: all that is there is listed.

    What is stored beside entries is no part of a digest.
    """
    chosen = options.rules or options.paths is not None or options.max_size is not None
    changed = options.chmod or options.copy_links or options.safe_links or options.store_metadata
    return not (chosen or options.min_size or options.one_file_system or changed)


def is_exact(options: Options) -> bool:
    """Tell whether equal digests can mean that nothing is to be done: no difference is allowed."""
    fuzzy = options.checksum or options.size_only or options.ignore_times or options.modify_window
    mapped = options.usermap or options.groupmap
    kept = options.keep.perms and options.keep.times
    return is_digestible(options) and bool(kept) and not (fuzzy or mapped)


def kinds_kept(keep: Keep) -> int:
    """Return ``Terms.kinds`` of what a transfer keeps."""
    kinds = {Kind.FILE, Kind.DIRECTORY}
    if keep.links:
        kinds.add(Kind.SYMLINK)
    if keep.devices:
        kinds |= DEVICES | SPECIALS
    return sum(1 << kind for kind in kinds)

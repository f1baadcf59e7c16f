"""Directories that were moved at the source are moved here, before anything is compared.

Who watches a tree is told of moves, and tells them with what changed. Without that a moved
directory is one that is gone and one that is new: its content is found here and copied, file by
file. A move is no more than a hint: what lies at the new place is compared like everything else,
and where a move cannot be done as told (no such directory, something in its place, another file
system) nothing happens and the content is copied. So it never matters whether what is moved is what
the source means. Nothing is replaced, and nothing is lost: names only change. Where that might take
something out of the shelter of a rule or a backup, it is left to the comparison too.
"""

from __future__ import annotations

import contextlib
import os
import stat

from netsync.errors import root_error
from netsync.model import Options
from netsync.names import IGNORE_FILE, contains, is_inside
from netsync.tree.calls import rename_to_free
from netsync.tree.directories import Directories
from netsync.tree.durable import flush


def relocate(root: int, options: Options) -> None:
    """Move what ``options`` say was moved, below the directory ``root``. Blocks.

    Raises ``RootError`` where what was moved cannot be made durable.
    """
    if not options.moves or not _is_all_told(options):
        return
    with Directories(root) as directories:
        for move in options.moves:
            if is_inside(move.old) and is_inside(move.new) and not contains(move.old, move.new):
                with contextlib.ExitStack() as held:
                    parents: list[int] = []
                    with contextlib.suppress(OSError):
                        parents = _relocate(directories, move.old, move.new, held)
                    if options.fsync:
                        _flush(parents, move.new)


def _flush(directories: list[int], moved: bytes) -> None:
    try:
        flush(directories)
    except OSError as error:
        raise root_error(error, op="move", where=moved) from error


def _is_all_told(options: Options) -> bool:
    """Tell whether nothing here is kept because of its place, or left out at the source."""
    keeps = (
        options.rules, options.backup_dir, options.existing, options.ignore_existing,
        options.one_file_system, options.min_size, options.max_size is not None,
    )  # fmt: skip
    runs = options.changes and options.delete and not (options.dry_run or options.atomic)
    return runs and not any(keeps)


def _relocate(
    directories: Directories, old: bytes, new: bytes, held: contextlib.ExitStack
) -> list[int]:
    """Move one directory; return descriptors of the two that changed, none if it was not moved.

    They are as long as ``held``. Raises ``OSError``.
    """
    (above_old, _, old_name), (above_new, _, new_name) = old.rpartition(b"/"), new.rpartition(b"/")
    if _has_rules(directories, above_old) or _has_rules(directories, above_new):
        return []
    there = os.stat(old_name, dir_fd=directories.fd(above_old), follow_symlinks=False)
    if not stat.S_ISDIR(there.st_mode):
        return []
    parents: list[int] = []
    for above in (above_old, above_new):
        parents.append(os.dup(directories.fd(above)))  # the next may push one out that is held
        held.callback(os.close, parents[-1])
    try:
        rename_to_free(parents[0], old_name, parents[1], new_name)
    except OSError:
        return []
    directories.forget(old)
    return parents


def _has_rules(directories: Directories, path: bytes) -> bool:
    """Tell whether a directory, or one above it, has an ignore file. Raises ``OSError``."""
    while True:
        try:
            os.stat(IGNORE_FILE, dir_fd=directories.fd(path), follow_symlinks=False)
        except FileNotFoundError:
            if not path:
                return False
            path = path.rpartition(b"/")[0]
        else:
            return True

"""Removing a name and all below it, deepest first, following no link.

Directories are reached through a bounded cache of descriptors, so depth costs no descriptors,
and visited from an explicit stack, so it costs no recursion either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from netsync.model import Kind
from netsync.names import join
from netsync.tree.directories import Directories
from netsync.tree.scan import entry_at, names_in

Protects = Callable[[bytes, bool], bool]
"""Called with a path and whether it is a directory: must it stay?"""


class Removed(NamedTuple):
    """One path that was dealt with; ``error`` is set where it could not be removed."""

    path: bytes
    directory: bool
    error: OSError | None


class _Level:
    """A directory under way: what is still in it, and whether something there must stay."""

    __slots__ = ("kept", "names", "path")

    def __init__(self, path: bytes, names: list[bytes]) -> None:
        self.path = path
        self.names = names
        self.kept = False


def remove(
    directories: Directories, path: bytes, protects: Protects, *, dry_run: bool = False
) -> Iterator[Removed]:
    """Remove the entry at ``path``; yields each path removed or failed, deepest first.

    A protected entry stays, silently, and so do the directories above it. A dry run yields what
    would be removed.
    """
    parent, _, name = path.rpartition(b"/")
    stack = [_Level(parent, [name])]
    while stack:
        level = stack[-1]
        if not level.names:
            stack.pop()
            if stack:
                yield from _leave(directories, level, stack[-1], dry_run=dry_run)
            continue
        child = join(level.path, level.names.pop())
        try:
            names = _unlink(directories, child, protects, dry_run=dry_run)
        except FileNotFoundError:
            continue
        except OSError as error:
            level.kept = True
            yield Removed(child, directory=False, error=error)
            continue
        if isinstance(names, list):
            stack.append(_Level(child, names))
        elif names:
            yield Removed(child, directory=False, error=None)
        else:
            level.kept = True


def _unlink(
    directories: Directories, path: bytes, protects: Protects, *, dry_run: bool
) -> list[bytes] | bool:
    """Unlink a non-directory (True), leave a protected one (False) or list a directory."""
    parent, _, name = path.rpartition(b"/")
    fd = directories.fd(parent)
    is_directory = entry_at(fd, name).kind is Kind.DIRECTORY
    if protects(path, is_directory):
        return False
    if not is_directory:
        if not dry_run:
            os.unlink(name, dir_fd=fd)
        return True
    names, reserved = names_in(directories.fd(path))
    return names[::-1] + reserved


def _leave(
    directories: Directories, level: _Level, above: _Level, *, dry_run: bool
) -> Iterator[Removed]:
    """Remove the emptied directory of ``level``."""
    if level.kept:
        above.kept = True
        return
    directories.forget(level.path)
    parent, _, name = level.path.rpartition(b"/")
    try:
        if not dry_run:
            os.rmdir(name, dir_fd=directories.fd(parent))
    except FileNotFoundError:
        return
    except OSError as error:
        above.kept = True
        yield Removed(level.path, directory=True, error=error)
    else:
        yield Removed(level.path, directory=True, error=None)

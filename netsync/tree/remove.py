"""Removing a name and all below it, deepest first, following no link.

Directories are reached through a bounded cache of descriptors, so depth costs no descriptors,
and visited from an explicit stack, so it costs no recursion either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from netsync.model import Entry, Kind
from netsync.names import join
from netsync.tree.directories import Directories
from netsync.tree.scan import entry_at, names_in

Protects = Callable[[bytes, bool], bool]
"""Called with a path and whether it is a directory: must it stay?"""


class Keeper(Protocol):
    """Takes what is removed instead of it being lost; raises ``OSError`` if it cannot."""

    def move(self, directory: int, path: bytes) -> None:
        """Take the non-directory at ``path`` out of ``directory``."""

    def directory(self, entry: Entry, path: bytes) -> None:
        """Stand for the directory at ``path``, which is empty now and will be removed."""


class Removed(NamedTuple):
    """One path that was dealt with; ``error`` is set where it could not be removed."""

    path: bytes
    directory: bool
    error: OSError | None


class _Level:
    """A directory under way: what is still in it, and whether something there must stay.

    ``entry`` is what it was before anything was taken out of it.
    """

    __slots__ = ("entry", "kept", "names", "path")

    def __init__(self, path: bytes, names: list[bytes], entry: Entry | None) -> None:
        self.path = path
        self.names = names
        self.entry = entry
        self.kept = False


class _Removal:
    """How one removal is done: what stays, who takes the rest, whether anything is touched."""

    def __init__(
        self, directories: Directories, protects: Protects, keeper: Keeper | None, dry_run: bool
    ) -> None:
        self.directories = directories
        self._protects = protects
        self._keeper = keeper
        self._dry_run = dry_run

    def unlink(self, path: bytes) -> _Level | bool:
        """Remove a non-directory (True), leave a protected one (False) or list a directory."""
        parent, _, name = path.rpartition(b"/")
        fd = self.directories.fd(parent)
        entry = entry_at(fd, name)
        is_directory = entry.kind is Kind.DIRECTORY
        if self._protects(path, is_directory):
            return False
        if is_directory:
            names, reserved = names_in(self.directories.fd(path))
            return _Level(path, names[::-1] + reserved, entry)
        if not self._dry_run:
            if self._keeper is not None:
                self._keeper.move(fd, path)
            else:
                os.unlink(name, dir_fd=fd)
        return True

    def remove_emptied(self, level: _Level) -> None:
        """Remove the directory of ``level``, all of which is gone."""
        self.directories.forget(level.path)
        if self._dry_run:
            return
        if self._keeper is not None:
            assert level.entry is not None
            self._keeper.directory(level.entry, level.path)
        parent, _, name = level.path.rpartition(b"/")
        os.rmdir(name, dir_fd=self.directories.fd(parent))


def remove(
    directories: Directories,
    path: bytes,
    protects: Protects,
    *,
    keeper: Keeper | None = None,
    dry_run: bool = False,
) -> Iterator[Removed]:
    """Remove the entry at ``path``; yields each path removed or failed, deepest first.

    A protected entry stays, silently, and so do the directories above it. ``keeper`` takes what
    goes, if there is one. A dry run yields what would be removed.
    """
    removal = _Removal(directories, protects, keeper, dry_run)
    parent, _, name = path.rpartition(b"/")
    stack = [_Level(parent, [name], None)]
    while stack:
        level = stack[-1]
        if not level.names:
            stack.pop()
            if stack:
                yield from _leave(removal, level, stack[-1])
            continue
        child = join(level.path, level.names.pop())
        try:
            found = removal.unlink(child)
        except FileNotFoundError:
            continue
        except OSError as error:
            level.kept = True
            yield Removed(child, directory=False, error=error)
            continue
        if isinstance(found, _Level):
            stack.append(found)
        elif found:
            yield Removed(child, directory=False, error=None)
        else:
            level.kept = True


def _leave(removal: _Removal, level: _Level, above: _Level) -> Iterator[Removed]:
    """Remove the emptied directory of ``level``."""
    if level.kept:
        above.kept = True
        return
    try:
        removal.remove_emptied(level)
    except FileNotFoundError:
        return
    except OSError as error:
        above.kept = True
        yield Removed(level.path, directory=True, error=error)
    else:
        yield Removed(level.path, directory=True, error=None)

"""Which operations may be done again after a crash, and which need what came before to be safe.

A standby applies its journal to a tree and now and then makes a *checkpoint*: everything so far is
flushed. After a crash it does again all that lies behind the last checkpoint, on a tree that shows
some part of it: names and attributes up to an unknown operation, data perhaps not even that. The
operations between two checkpoints are a *window*. What must hold: doing a window's operations
again, on whatever a crash has left of them, ends in the tree that they stood for.

Changes of data and attributes may be done again, as long as each finds the file that it meant. So
all depends on names. An object is *new* if the window made it: doing the window again makes it
again from nothing, whatever is found under its name. Everything else is *base*, and irreplaceable:
it must be found where the window's operations look for it, and nothing earlier in the window may
fall upon it. So the window ends before

* a base object gets a name (by rename or link) that the window has touched, or that has touched
  names below: earlier operations would be done to it;
* a base object loses a name by a rename that the window has touched: they would not find it;
* a name is given anew that a base object was renamed away from, or that was a directory: the rename
  would move what is there now;
* a directory is made under a touched name, for the same reason;
* a touched name goes, of a base object that has others: what was done to it would be lost to them.

Directories are base from the moment they are made, since what is moved into them is. This module
knows no file system; whether an object has other names it is told.
"""

from __future__ import annotations

from typing import Final

from netsync.operation import (
    Create,
    Link,
    Mkdir,
    Mknod,
    Operation,
    Rename,
    Rmdir,
    Symlink,
    Unlink,
    names_of,
)

WINDOW_OPERATIONS: Final = 65_536
"""Operations after which a window should end: its names take some tens of MiB at most."""


class Window:
    """The operations since a checkpoint, as far as names go."""

    def __init__(self) -> None:
        self.count = 0
        self._touched: set[bytes] = set()
        self._above: set[bytes] = set()
        self._new: set[bytes] = set()
        self._left: set[bytes] = set()

    def is_new(self, path: bytes) -> bool:
        """Tell whether the window has made what is at ``path``, which is no directory."""
        return path in self._new

    def admits(self, operation: Operation, *, shared: bool) -> bool:
        """Tell whether ``operation`` may join the window; if not, a checkpoint comes first.

        ``shared`` says whether the object that loses a name by it has others.
        """
        match operation:
            case Rename(path=path, to=to):
                return self._may_move(path, to) and not (shared and self._loses_work(to))
            case Link(path=path, to=to):
                fits = path in self._new or not self._is_known(to)
            case Mkdir(path=to):
                fits = not self._is_known(to)
            case Unlink(path=path):
                return not (shared and self._loses_work(path))
            case Create(path=to) | Symlink(path=to) | Mknod(path=to):
                fits = True
            case _:
                return True
        return fits and to not in self._left

    def _may_move(self, path: bytes, to: bytes) -> bool:
        is_safe = path in self._new or not (self._is_known(path) or self._is_known(to))
        return is_safe and to not in self._left

    def _loses_work(self, path: bytes) -> bool:
        return path in self._touched and path not in self._new

    def _is_known(self, path: bytes) -> bool:
        """Tell whether ``path``, or something below it, was named in the window."""
        return path in self._touched or path in self._above

    def note(self, operation: Operation) -> None:
        """Take ``operation`` into the window."""
        self.count += 1
        match operation:
            case Create(path=path) | Symlink(path=path) | Mknod(path=path):
                self._new.add(path)
            case Link(path=path, to=to):
                self._hand_on(path, to)
            case Rename(path=path, to=to):
                if not self._hand_on(path, to):
                    self._left.add(path)
                self._new.discard(path)
            case Unlink(path=path):
                self._new.discard(path)
            case Rmdir(path=path):
                self._left.add(path)
        for path in names_of(operation):
            self._touch(path)

    def _hand_on(self, path: bytes, to: bytes) -> bool:
        """Let ``to`` be as new as ``path``; tell whether it is new."""
        is_new = path in self._new
        if is_new:
            self._new.add(to)
        else:
            self._new.discard(to)
        return is_new

    def _touch(self, path: bytes) -> None:
        if path in self._touched:
            return
        self._touched.add(path)
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            if path in self._above:
                return
            self._above.add(path)
        self._above.add(b"")

"""Where a symbolic link leads, found by hand: component by component on held descriptors.

The system would follow a link wherever it points. Here each link on the way is read and its text
put before what is left of the path, so that the first step out of the directory that bounds the
walk is seen, also where a chain of links takes it.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from netsync.names import is_reserved
from netsync.tree.directories import Directories

LINK_HOPS_MAX: Final = 40
"""Symbolic links followed in one path: the kernel's own bound."""
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


class LeadsOutError(OSError):
    """A link leads out of the directory that bounds the walk."""

    def __init__(self) -> None:
        super().__init__(errno.EXDEV, "the link leads out of the tree")


class Resolver:
    """Resolves links below ``directories``' root; ``bounded`` ones may not leave it."""

    def __init__(self, directories: Directories, *, bounded: bool) -> None:
        self._directories = directories
        self._bounded = bounded

    def resolve(self, directory: bytes, text: bytes) -> tuple[bytes, bytes]:
        """Return the directory and name that the link ``text`` in ``directory`` leads to.

        Neither has a link in it; an empty name is the root itself. Raises ``LeadsOutError``, and
        ``OSError`` where nothing is there or links lead round in a circle.
        """
        here = self._walk(directory, text, absent=False)
        return b"/".join(here[:-1]), here[-1] if here else b""

    def leads_out(self, directory: bytes, text: bytes) -> bool:
        """Tell whether the link ``text`` in ``directory`` leads out, though nothing be there.

        Links that lead round in a circle lead nowhere. Raises ``OSError`` where the way cannot
        be read.
        """
        try:
            self._walk(directory, text, absent=True)
        except LeadsOutError:
            return True
        except OSError as error:
            if error.errno == errno.ELOOP:
                return False
            raise
        return False

    def _walk(self, directory: bytes, text: bytes, *, absent: bool) -> list[bytes]:
        """Return the components that the link leads to; ``absent`` ones may be allowed."""
        here = directory.split(b"/") if directory else []
        pending = self._read(here, text)
        hops = 1
        while pending:
            name = pending.pop()
            if name == b"..":
                if not here and self._bounded:
                    raise LeadsOutError
                del here[-1:]
                continue
            if self._bounded and is_reserved(name):
                raise LeadsOutError
            link = self._link_text(here, name, absent=absent)
            if link is None:
                here.append(name)
                continue
            hops += 1
            if hops > LINK_HOPS_MAX:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            pending += self._read(here, link)
        return here

    def _read(self, here: list[bytes], text: bytes) -> list[bytes]:
        """Return a link's components, the last first; an absolute one begins at the root."""
        if text.startswith(b"/"):
            if self._bounded:
                raise LeadsOutError
            here.clear()
        return [part for part in reversed(text.split(b"/")) if part not in (b"", b".")]

    def _link_text(self, here: list[bytes], name: bytes, *, absent: bool) -> bytes | None:
        try:
            return os.readlink(name, dir_fd=self._directories.fd(b"/".join(here)))
        except OSError as error:
            if error.errno == errno.EINVAL or (absent and error.errno in _ABSENT):
                return None
            raise

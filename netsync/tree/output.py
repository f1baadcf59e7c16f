"""The file that new content is written to: staged out of sight, or in place.

In place there is nothing to publish and nothing to discard: a half-written file stays half
written, which is what ``--inplace`` means, and why it is not the default.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

from msgspec import Struct

from netsync.tree.holes import make_hole
from netsync.tree.native import Buffer, stage_file
from netsync.tree.partials import Partial, Resumable
from netsync.tree.place import OWNER_REFUSED, Attributes, Refusals, set_on_descriptor
from netsync.tree.read import open_regular, write_fully
from netsync.tree.stage import NO_UNNAMED_FILES, Staged
from netsync.tree.stage_directory import SessionDirectory
from netsync.tree.xattrs import settle

_WRITE_IN_PLACE: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class StagedFile(Protocol):
    """A file out of sight: unnamed beside its place (``Staged``), or in the stage."""

    fd: int

    def publish(self, directory: int, name: bytes, *, replace: bool) -> None: ...
    def park(self, directory: int, elsewhere: int, name: bytes) -> None: ...
    def discard(self, directory: int) -> None: ...
    def keep(self, directory: int) -> None: ...
    def as_partial(self) -> Partial | None: ...
    def close(self) -> None: ...


class Output(Struct, eq=False, gc=False):
    """A file being written.

    ``holds`` counts the bytes at its start that are there already, from a run that was cut.
    """

    fd: int
    _staged: StagedFile | None
    holds: int = 0
    refused: Refusals = ()
    _has_holes: bool = False

    @property
    def inplace(self) -> bool:
        """Tell whether it is written in place."""
        return self._staged is None

    @classmethod
    def create(cls, directory: int, name: bytes, *, inplace: bool) -> Output:
        """Open the output for ``name`` in ``directory``.

        In place only where the file has no other name: others must not change with it.
        """
        if inplace:
            os.close(open_regular(directory, name))
            fd = os.open(name, _WRITE_IN_PLACE, dir_fd=directory)
            if os.fstat(fd).st_nlink == 1:
                return cls(fd, None)
            os.close(fd)
        staged = Staged.create(directory)
        return cls(staged.fd, staged)

    @classmethod
    def unnamed(cls, fd: int, wanted: Attributes) -> Output:
        """Take over an unnamed file from ``stage_file``, and give it what that does not set."""
        output = cls(fd, Staged(fd, None))
        if wanted.xattrs is not None:
            output.refused = settle(fd, wanted.xattrs)
        return output

    @property
    def is_unnamed(self) -> bool:
        """Tell whether the file has no name at all yet."""
        return isinstance(self._staged, Staged) and self._staged.temporary is None

    def let_go(self) -> None:
        """Forget the descriptor: it was closed."""
        self.fd = -1
        if self._staged is not None:
            self._staged.fd = -1

    @classmethod
    def complete(
        cls, directory: int, name: bytes, data: Buffer, wanted: Attributes, *, inplace: bool
    ) -> Output:
        """Open the output for ``name`` and give it all of its content and its metadata."""
        if not inplace:
            try:
                fd = stage_file(
                    directory, data, _number(wanted.mode), _number(wanted.uid),
                    _number(wanted.gid), wanted.mtime_ns,
                )  # fmt: skip
            except OSError as error:
                if error.errno not in NO_UNNAMED_FILES | OWNER_REFUSED:
                    raise
            else:
                return cls.unnamed(fd, wanted)
        output = cls.create(directory, name, inplace=inplace)
        try:
            output.write(data, 0)
            output.truncate(len(data))
            output.refused = set_on_descriptor(output.fd, wanted)
        except OSError:
            output.discard(directory)
            raise
        return output

    def write(self, data: Buffer, position: int) -> None:
        """Write all of ``data`` at ``position``. Raises ``OSError``."""
        write_fully(self.fd, data, position)

    def leave_hole(self, position: int, length: int) -> None:
        """Leave bytes out, also where there were some, or room was taken for what never came.

        Raises ``OSError``.
        """
        self._has_holes = True
        make_hole(self.fd, position, position + length)

    def truncate(self, size: int) -> None:
        """Cut what was there behind the new end, and end a hole that ends the file."""
        if self.inplace or self.holds or self._has_holes:
            os.ftruncate(self.fd, size)

    def publish(self, directory: int, name: bytes, *, replace: bool) -> None:
        """Give the content its name and let go of it. Raises ``OSError``."""
        if self._staged is not None:
            self._staged.publish(directory, name, replace=replace)
        self.close()

    @property
    def stage_name(self) -> bytes:
        """The name, in the stage, of what the next run could go on with; empty if there is none."""
        return self._staged.name if isinstance(self._staged, Resumable) else b""

    def rest(self, directory: int, session: SessionDirectory, name: bytes) -> None:
        """Let go of the descriptor until staged content is published or dropped.

        It gets ``name`` in ``session`` if it has none in the stage. Raises ``OSError``.
        """
        if isinstance(self._staged, Staged):
            self._staged.park(directory, session.fd, name)
            self._staged = Resumable(-1, session, name)
        elif self._staged is not None:
            self._staged.close()
        self.fd = -1

    def park(self, directory: int, elsewhere: int, name: bytes) -> None:
        """Give staged content a ``name`` in the directory ``elsewhere`` and let go of it.

        Raises ``OSError``.
        """
        assert self._staged is not None
        self._staged.park(directory, elsewhere, name)
        self.fd = -1

    def discard(self, directory: int) -> None:
        """Drop staged content."""
        if self._staged is not None:
            self._staged.discard(directory)
            self.fd = -1
        else:
            self.close()

    def as_partial(self) -> Partial | None:
        """Return what there is as a basis for another attempt, if it can be one."""
        return self._staged.as_partial() if self._staged is not None else None

    def keep(self, directory: int) -> None:
        """Leave staged content for the next run where that can find it, else drop it."""
        if self._staged is not None:
            self._staged.keep(directory)
            self.fd = -1
        else:
            self.close()

    def close(self) -> None:
        """Let go of the descriptor."""
        fd, self.fd = self.fd, -1
        if self._staged is not None:
            self._staged.close()
        elif fd >= 0:
            os.close(fd)


def _number(wanted: int | None) -> int:
    return -1 if wanted is None else wanted

"""The backup directory: where what is overwritten or deleted is moved, under its path.

It lies inside the destination. What is replaced by a rename gets its backup as a second name
first; what is deleted is renamed there; either way the backup exists before the old name is gone.
Where the file system has no hard links, or the backup directory is another one, and for files
that are written in place, a copy stands in. A directory is made there anew, with owner, mode and
time of the one it stands for. A backup takes the place of an older one under its path. No
component of the backup directory is followed if it is a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Final

from netsync.errors import RootError, root_error
from netsync.model import Entry, Kind, Options
from netsync.names import is_session_work, join
from netsync.tree.apart import copy_apart, xattrs_of
from netsync.tree.directories import Directories
from netsync.tree.place import Attributes, create_special, set_on_descriptor
from netsync.tree.remove import remove
from netsync.tree.scan import entry_at, names_in
from netsync.tree.stage import sweep
from netsync.tree.xattrs import of_name

_NO_LINKS: Final = frozenset({
    errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS,
})  # fmt: skip
"""What link(2) answers where a file cannot have a second name there."""
_IN_THE_WAY: Final = frozenset({errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST})
_AS_IT_IS: Final = Attributes(None, None, None, None)


def check_backup_directory(root: int, path: bytes) -> None:
    """Raise ``RootError`` where ``path`` below ``root`` is there and cannot be used."""
    with Directories(root) as directories:
        try:
            directories.fd(path)
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            raise RootError(
                "is a link or no directory", op="use backup directory", where=path,
                hint="a backup directory is never reached through a link",
            ) from error  # fmt: skip
        except OSError as error:
            raise root_error(error, op="use backup directory", where=path) from error


class Backup:
    """Keeps old entries of the tree below ``root`` in its backup directory.

    Without one nothing is kept: what is moved is removed.
    Entries are given by the held directory they are in, their name, and their path in the tree.
    Everything here raises ``OSError``, and then the old entry is where it was.
    """

    def __init__(self, root: int, options: Options) -> None:
        self._path = options.backup_dir
        self._durable = options.fsync
        self._tree = Directories(root)
        self._kept = Directories(root)
        self._copied: set[bytes] = set()
        self._swept: bytes | None = None

    def close(self) -> None:
        """Let go of descriptors."""
        self._tree.close()
        self._kept.close()

    def keep(self, directory: int, path: bytes) -> None:
        """Give what is about to be replaced a second name in the backup, if it is there."""
        if not self._path or path in self._copied:
            self._copied.discard(path)
            return
        name = path.rpartition(b"/")[2]
        try:
            status = _status(directory, name)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):  # it stays: nothing can be renamed over it
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        place = self._place(path)
        try:
            try:
                _link(directory, name, place)
            except FileExistsError:
                if os.path.samestat(_status(directory, name), _status(place, name)):
                    return  # a run that was cut has kept it
                self._clear(path)
                _link(directory, name, self._place(path))
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._copy(directory, path)

    def copy_once(self, directory: int, path: bytes) -> None:
        """Copy what is about to be written over in place; not again until ``keep`` was asked."""
        if self._path and path not in self._copied:
            self._copy(directory, path)
            self._copied.add(path)

    def spare(self, path: bytes) -> None:
        """Leave the backup of ``path`` as it is until ``keep`` was asked: it is the good one."""
        self._copied.add(path)

    def move(self, directory: int, path: bytes) -> None:
        """Take what is about to be deleted, and is no directory, out of ``directory``."""
        name = path.rpartition(b"/")[2]
        if not self._path or is_session_work(path):
            os.unlink(name, dir_fd=directory)
            return
        try:
            try:
                _rename(directory, name, self._place(path))
            except OSError as error:
                if error.errno not in _IN_THE_WAY:
                    raise
                self._clear(path)
                _rename(directory, name, self._place(path))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy(directory, path)
            os.unlink(name, dir_fd=directory)

    def directory(self, entry: Entry, path: bytes) -> None:
        """Stand for the emptied directory ``entry``, with its owner, mode and time."""
        if not self._path or is_session_work(path):
            return
        self._place(join(path, b"x"))
        xattrs = xattrs_of(self._tree.fd(path))
        wanted = Attributes(entry.mode, entry.uid, entry.gid, entry.mtime_ns, xattrs)
        set_on_descriptor(self._kept.fd(join(self._path, path)), wanted)
        self._tree.forget(path)

    def _copy(self, directory: int, path: bytes) -> None:
        """Copy an entry that is no directory: content, owner, mode and time."""
        name = path.rpartition(b"/")[2]
        entry = entry_at(directory, name)
        place = self._place(path)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(_status(place, name).st_mode):
                self._clear(path)
                place = self._place(path)
        if entry.kind is Kind.FILE:
            copy_apart((directory, name), (place, name), _AS_IT_IS, durable=self._durable)
            return
        xattrs = xattrs_of(of_name(directory, name))
        wanted = Attributes(entry.mode, entry.uid, entry.gid, entry.mtime_ns, xattrs)
        create_special(place, entry, wanted, replace=True)

    def _place(self, path: bytes) -> int:
        """Return the directory that the backup of ``path`` lies in, made as far as it is not."""
        parent = path.rpartition(b"/")[0]
        wanted = join(self._path, parent) if parent else self._path
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return self._without_leftovers(wanted)
        made = b""
        for name in wanted.split(b"/"):
            above, made = made, join(made, name)
            try:
                self._kept.fd(made)
            except FileNotFoundError:
                self._make(above, name, made)
            except NotADirectoryError:
                if not made.startswith(self._path + b"/"):
                    raise
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # as in _make
                    os.unlink(name, dir_fd=self._kept.fd(above))  # an older backup, of a file
                self._make(above, name, made)
        return self._kept.fd(wanted)

    def _without_leftovers(self, wanted: bytes) -> int:
        """Open a directory of the backup; remove what a copy that was cut short has left there."""
        fd = self._kept.fd(wanted)
        if wanted != self._swept:
            self._swept = wanted
            sweep(fd, names_in(fd)[1])
        return fd

    def _make(self, above: bytes, name: bytes, made: bytes) -> None:
        """Make one directory of the backup, as open as the one it stands for."""
        with contextlib.suppress(FileExistsError):  # another worker was faster
            os.mkdir(name, 0o700, dir_fd=self._kept.fd(above))
        below = self._path + b"/"
        original = made.removeprefix(below) if made.startswith(below) else b""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            fd = self._tree.fd(original)
            status = os.fstat(fd)
            mode = stat.S_IMODE(status.st_mode) | stat.S_IRWXU  # we have to write here
            wanted = Attributes(mode, status.st_uid, status.st_gid, None, xattrs_of(fd))
            set_on_descriptor(self._kept.fd(made), wanted)

    def _clear(self, path: bytes) -> None:
        """Remove an older backup that cannot be renamed over."""
        for removed in remove(self._kept, join(self._path, path), lambda *_: False):
            if removed.error is not None:
                raise removed.error


def _link(directory: int, name: bytes, place: int) -> None:
    os.link(name, name, src_dir_fd=directory, dst_dir_fd=place, follow_symlinks=False)


def _rename(directory: int, name: bytes, place: int) -> None:
    os.rename(name, name, src_dir_fd=directory, dst_dir_fd=place)


def _status(directory: int, name: bytes) -> os.stat_result:
    return os.stat(name, dir_fd=directory, follow_symlinks=False)

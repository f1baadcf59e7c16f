"""Doing a mirror's operations to a tree, one after the other, below a held directory.

Like everything that comes from a peer, a path is walked one component at a time from held
descriptors, and no link is followed. An operation that does not fit what is there (a name that is
missing, or taken) raises ``OSError``: the tree is not what the log was written for. With ``redo``
an operation may have been done before, and so may later ones: then what is missing has gone
already, what is there is made anew, and only real trouble raises. What makes doing again right is
decided in ``plan/redo.py``.

Files that are written stay open, a bounded number. Their times are set when they are not written
for a while: before any other kind of operation, and whenever ``settle`` is called.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Final

from netsync.operation import (
    Allocate,
    Create,
    DataOperation,
    Link,
    Mkdir,
    Mknod,
    Mode,
    Operation,
    Owner,
    PunchHole,
    RemoveXattr,
    Rename,
    Rmdir,
    SetXattr,
    Symlink,
    Times,
    Truncate,
    Unlink,
    Write,
    ZeroRange,
)
from netsync.plan.xattrs import Scope
from netsync.tree.directories import Directories
from netsync.tree.holes import allocate, make_hole
from netsync.tree.place import OWNER_REFUSED, SET_ID_BITS, change_mode
from netsync.tree.read import write_fully
from netsync.tree.xattrs import of_name

FILES_MAX: Final = 64
"""Files kept open for writing."""
_OPEN: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW: Final = _OPEN | os.O_CREAT | os.O_EXCL
_ELSEWHERE: Final = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENOTEMPTY,
    errno.EEXIST, errno.ENODATA, errno.ESTALE, errno.EINVAL,
})  # fmt: skip
"""What doing again may meet, where a later operation has been done before."""
_ATTRIBUTE_REFUSED: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENODATA, errno.E2BIG,
                                       errno.EACCES})  # fmt: skip
_DEVICES: Final = (stat.S_IFCHR, stat.S_IFBLK)
_SPECIAL: Final = (*_DEVICES, stat.S_IFIFO, stat.S_IFSOCK)

Making = Create | Symlink | Mknod


class Applier:
    """Does operations below ``root``, which stays the caller's; one thread at a time.

    Without ``special`` set-id bits are left out and a device becomes an empty file; attributes
    outside of ``scope`` are left out. ``refused`` counts what the system would not set, or was left
    out; ``last_refusal`` says what that was last.
    """

    def __init__(self, root: int, scope: Scope, *, special: bool) -> None:
        self.refused = 0
        self.last_refusal = ""
        self._special = special
        self._owns_all = os.geteuid() == 0
        self._scope = scope
        self._directories = Directories(root)
        self._files: OrderedDict[bytes, int] = OrderedDict()
        self._times: dict[bytes, int] = {}

    def __enter__(self) -> Applier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every descriptor."""
        self._forget_files(lambda _: True)
        self._directories.close()

    def shares(self, operation: Operation) -> bool:
        """Tell whether the object that loses a name by ``operation`` has others."""
        match operation:
            case Unlink(path=path) | Rename(to=path):
                with contextlib.suppress(OSError):
                    status = self._status(path)
                    return not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1
        return False

    def apply(self, operation: Operation, *, new: bool = False, redo: bool = False) -> None:
        """Do one operation. Raises ``OSError``.

        ``new`` says that what it renames or links was made since the last checkpoint.
        """
        try:
            if isinstance(operation, DataOperation):
                self._change_data(operation)
                return
            self.settle()
            match operation:
                case Create() | Symlink() | Mknod():
                    self._make(operation, redo=redo)
                case Mkdir():
                    self._make_directory(operation, redo=redo)
                case Link():
                    self._link(operation, anew=new and redo)
                case Rename(path=path, to=to):
                    self._rename(path, to)
                case Unlink(path=path):
                    self._forget_files(lambda held: held == path)
                    os.unlink(self._name(path), dir_fd=self._above(path))
                case Rmdir(path=path):
                    self._directories.forget(path)
                    os.rmdir(self._name(path), dir_fd=self._above(path))
                case _:
                    self._restate(operation)
        except OSError as error:
            if not (redo and error.errno in _ELSEWHERE):
                raise

    def settle(self) -> None:
        """Set the times of what was written. Raises ``OSError``."""
        for path, mtime in self._times.items():
            fd = self._files[path]
            os.utime(fd, ns=(os.fstat(fd).st_atime_ns, mtime))
        self._times.clear()

    # --- data ----------------------------------------------------------------------------------

    def _change_data(self, operation: DataOperation) -> None:
        fd = self._file(operation.path)
        match operation:
            case Write(offset=offset, data=data):
                write_fully(fd, data, offset)
            case Truncate(size=size):
                os.ftruncate(fd, size)
            case Allocate(offset=offset, length=length, keep_size=keep_size):
                allocate(fd, offset, length, keep_size=keep_size)
            case PunchHole(offset=offset, length=length):
                make_hole(fd, offset, min(offset + length, os.fstat(fd).st_size))
            case ZeroRange(offset=offset, length=length, keep_size=keep_size):
                size, end = os.fstat(fd).st_size, offset + length
                make_hole(fd, offset, min(end, size))
                if end > size and not keep_size:
                    os.ftruncate(fd, end)
        self._times.pop(operation.path, None)  # names of one file: the last one's time is right
        self._times[operation.path] = operation.mtime

    def _file(self, path: bytes) -> int:
        fd = self._files.get(path)
        if fd is None:
            fd = self._open(path)
            self._hold(path, fd)
        else:
            self._files.move_to_end(path)
        return fd

    def _open(self, path: bytes) -> int:
        directory, name = self._above(path), self._name(path)
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):  # to open a device may do something already
            raise OSError(errno.ESTALE, "is no regular file")
        try:
            fd = os.open(name, _OPEN, dir_fd=directory)
        except PermissionError:
            fd = _opened_anyway(directory, name)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.ESTALE, "is no regular file")
        return fd

    def _hold(self, path: bytes, fd: int) -> None:
        self._files[path] = fd
        if len(self._files) > FILES_MAX:
            self.settle()
            os.close(self._files.popitem(last=False)[1])

    def _forget_files(self, is_meant: Callable[[bytes], bool]) -> None:
        for path in list(filter(is_meant, self._files)):
            os.close(self._files.pop(path))
            self._times.pop(path, None)

    # --- names ---------------------------------------------------------------------------------

    def _make(self, operation: Making, *, redo: bool) -> None:
        path = operation.path
        self._forget_files(lambda held: held == path)
        directory, name = self._above(path), self._name(path)
        try:
            self._make_once(operation, directory, name)
        except FileExistsError:
            if not redo:
                raise
            os.unlink(name, dir_fd=directory)
            self._make_once(operation, directory, name)

    def _make_once(self, operation: Making, directory: int, name: bytes) -> None:
        match operation:
            case Create(path=path, mode=mode):
                fd = os.open(name, _NEW, 0o600, dir_fd=directory)
                self._hold(path, fd)
            case Symlink(target=target):
                os.symlink(target, name, dir_fd=directory)
                self._own(directory, name, operation.uid, operation.gid)
                return
            case Mknod(mode=mode, device=device):
                kind = stat.S_IFMT(mode)
                if kind not in _SPECIAL:
                    raise OSError(errno.EPERM, "no kind of special file")
                if kind in _DEVICES and not self._special:
                    self._refuse(f"device {operation.path!r}: the module has special = false")
                    kind, device, mode = stat.S_IFREG, 0, 0
                os.mknod(name, kind | 0o600, device, dir_fd=directory)
        is_owned = self._own(directory, name, operation.uid, operation.gid)
        self._permit(directory, name, stat.S_IMODE(mode), owned=is_owned)

    def _make_directory(self, operation: Mkdir, *, redo: bool) -> None:
        directory, name = self._above(operation.path), self._name(operation.path)
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not (redo and stat.S_ISDIR(found.st_mode)):
                raise
        is_owned = self._own(directory, name, operation.uid, operation.gid)
        self._permit(directory, name, operation.mode, owned=is_owned)

    def _link(self, operation: Link, *, anew: bool) -> None:
        above, name = self._above(operation.to), self._name(operation.to)
        to = os.dup(above)  # the next walk may let go of it
        try:
            if anew:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=to)
                self._forget_files(lambda held: held == operation.to)
            directory = self._above(operation.path)
            os.link(self._name(operation.path), name, src_dir_fd=directory, dst_dir_fd=to,
                    follow_symlinks=False)  # fmt: skip
        finally:
            os.close(to)

    def _rename(self, path: bytes, to: bytes) -> None:
        below = (path + b"/", to + b"/")
        self._forget_files(lambda held: held in (path, to) or held.startswith(below))
        for each in (path, to):
            self._directories.forget(each)
        above = os.dup(self._above(to))
        try:
            os.rename(self._name(path), self._name(to), src_dir_fd=self._above(path),
                      dst_dir_fd=above)  # fmt: skip
        finally:
            os.close(above)

    # --- metadata ------------------------------------------------------------------------------

    def _restate(self, operation: Operation) -> None:
        directory, name = self._above(operation.path), self._name(operation.path)
        match operation:
            case Mode(mode=mode):
                self._permit(directory, name, mode, owned=self._owns_all)
            case Owner(uid=uid, gid=gid):
                self._own(directory, name, uid, gid)
            case Times(atime=atime, mtime=mtime):
                os.utime(name, ns=(atime, mtime), dir_fd=directory, follow_symlinks=False)
            case SetXattr(name=attribute, value=value):
                self._attribute(directory, name, attribute, value)
            case RemoveXattr(name=attribute):
                self._attribute(directory, name, attribute, None)
            case _:
                raise OSError(errno.EOPNOTSUPP, "an operation of no known kind")

    def _own(self, directory: int, name: bytes, uid: int, gid: int) -> bool:
        """Give ``name`` to an owner and a group; tell whether it has them now."""
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if (status.st_uid, status.st_gid) == (uid, gid):
            return True
        try:
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            if error.errno not in OWNER_REFUSED:
                raise
            self._owns_all = False
            self._refuse(f"owner {uid}:{gid}: {error.strerror}")
            mode = stat.S_IMODE(status.st_mode)
            if mode & SET_ID_BITS and not stat.S_ISLNK(status.st_mode):
                change_mode(directory, name, mode & ~SET_ID_BITS)
            return False
        return True

    def _permit(self, directory: int, name: bytes, mode: int, *, owned: bool) -> None:
        """Set permission bits, those that give an owner's rights only if it is the right one."""
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return
        if mode & SET_ID_BITS and not stat.S_ISDIR(status.st_mode):
            if not self._special:
                self._refuse("set-id bits: the module has special = false")
                mode &= ~SET_ID_BITS
            elif not owned:
                self._refuse("set-id bits: the owner may be another than the primary's")
                mode &= ~SET_ID_BITS
        if stat.S_IMODE(status.st_mode) != mode:
            change_mode(directory, name, mode)

    def _attribute(
        self, directory: int, name: bytes, attribute: bytes, value: bytes | None
    ) -> None:
        if not self._scope.keeps(attribute):
            self._refuse(f"attribute {attribute!r}: this module keeps none of its kind")
            return
        where = of_name(directory, name)
        try:
            if value is None:
                os.removexattr(where, attribute, follow_symlinks=name == b".")
            else:
                os.setxattr(where, attribute, value, follow_symlinks=name == b".")
        except OSError as error:
            if error.errno not in _ATTRIBUTE_REFUSED:
                raise
            if value is not None:
                self._refuse(f"attribute {attribute!r}: {error.strerror}")

    def _refuse(self, words: str) -> None:
        self.refused += 1
        self.last_refusal = words

    # --- paths ---------------------------------------------------------------------------------

    def _status(self, path: bytes) -> os.stat_result:
        return os.stat(self._name(path), dir_fd=self._above(path), follow_symlinks=False)

    def _above(self, path: bytes) -> int:
        """Return the descriptor of the directory that ``path`` lies in; valid until the next."""
        return self._directories.fd(path.rpartition(b"/")[0])

    @staticmethod
    def _name(path: bytes) -> bytes:
        return path.rpartition(b"/")[2] or b"."


def _opened_anyway(directory: int, name: bytes) -> int:
    """Open a file for writing whose mode shuts us out, and leave the mode as it is.

    All of it is done to the file that is held, whatever becomes of its name.
    """
    held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        mode = os.fstat(held).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.ESTALE, "is no regular file")
        path = b"/proc/self/fd/%d" % held
        os.chmod(path, stat.S_IMODE(mode) | stat.S_IWUSR)
        try:
            return os.open(path, _OPEN & ~os.O_NOFOLLOW)
        finally:
            os.chmod(path, stat.S_IMODE(mode))
    finally:
        os.close(held)

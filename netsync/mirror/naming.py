"""Changes of names: what is created, linked, renamed and removed, in the directory and in the log.

What depends on who asks, or on what is there already, is decided here; the log says modes as they
came out, final owners, and ACLs that were inherited. Names that begin with ``.netsync`` are not to
be had. A node that loses its last known name is held, so that what is open or known can still be
used, and its number is not given to another file meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from netsync.mirror.backing import OPEN_ANYTHING, Backing, by_descriptor, failed
from netsync.mirror.nodes import NONE_HELD, Node
from netsync.mirror.noting import PERMISSIONS, Notes, Where
from netsync.names import NAME_MAX, is_reserved
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
)
from netsync.tree.xattrs import hands_down

NO_REPLACE: Final = 1
"""``RENAME_NOREPLACE``. Exchanging two names could not be done again safely by a standby."""
_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RWX: Final = 0o777


class Caller(NamedTuple):
    """Who asks for a change: what is created is theirs."""

    uid: int
    gid: int
    umask: int = 0


class Made(NamedTuple):
    """What was created, which the kernel knows from now on."""

    node: Node
    status: os.stat_result


class Naming:
    """Changes names in ``backing``. All methods raise ``OSError``."""

    def __init__(self, backing: Backing, notes: Notes) -> None:
        self._backing = backing
        self._nodes = backing.nodes
        self._notes = notes
        self._is_root = os.geteuid() == 0

    def create(self, parent: Node, name: bytes, mode: int, caller: Caller) -> tuple[int, Made]:
        """Create a regular file and open it; the descriptor is the caller's."""
        self._path_of_new(parent, name)
        new = self._new_in(parent, mode, caller)
        fd = os.open(name, _NEW_FILE, new.mode, dir_fd=new.directory)
        try:
            with _undone(os.unlink, name, new.directory):
                status = self._settle(fd, new)
        except BaseException:
            os.close(fd)
            raise
        made = self._introduce(parent, name, status)
        self._note(made, new, Create, status.st_mode & PERMISSIONS)
        return fd, made

    def mkdir(self, parent: Node, name: bytes, mode: int, caller: Caller) -> Made:
        """Create a directory."""
        self._path_of_new(parent, name)
        new = self._new_in(parent, mode, caller)
        os.mkdir(name, new.mode, dir_fd=new.directory)
        with _undone(os.rmdir, name, new.directory):
            status = self._settle_name(name, new)
        made = self._introduce(parent, name, status)
        self._note(made, new, Mkdir, status.st_mode & PERMISSIONS)
        return made

    def mknod(self, parent: Node, name: bytes, mode: int, device: int, caller: Caller) -> Made:
        """Create a file, a named pipe, a socket or a device."""
        if stat.S_ISREG(mode) or not stat.S_IFMT(mode):
            fd, made = self.create(parent, name, mode, caller)
            os.close(fd)
            self._notes.note_times(made.node, made.status)
            return made
        self._path_of_new(parent, name)
        new = self._new_in(parent, mode, caller)
        os.mknod(name, new.mode | stat.S_IFMT(mode), device, dir_fd=new.directory)
        with _undone(os.unlink, name, new.directory):
            status = self._settle_name(name, new)
        made = self._introduce(parent, name, status)
        self._note(made, new, Mknod, status.st_mode, status.st_rdev)
        self._notes.note_times(made.node, status)
        return made

    def symlink(self, parent: Node, name: bytes, target: bytes, caller: Caller) -> Made:
        """Create a symbolic link."""
        self._path_of_new(parent, name)
        new = self._new_in(parent, 0, caller)
        os.symlink(target, name, dir_fd=new.directory)
        with _undone(os.unlink, name, new.directory):
            if self._is_root:
                os.chown(name, new.uid, new.gid, dir_fd=new.directory, follow_symlinks=False)
            status = os.stat(name, dir_fd=new.directory, follow_symlinks=False)
        made = self._introduce(parent, name, status)
        self._notes.note(made.node, Symlink, target, status.st_uid, status.st_gid)
        self._notes.note_times(made.node, status)
        return made

    def link(self, node: Node, parent: Node, name: bytes) -> Made:
        """Give ``node`` one more name."""
        to = self._path_of_new(parent, name)
        path = self._nodes.path(node)
        if path is None:
            raise failed(errno.ENOENT)  # nobody may bring back what has no name
        self._backing.status(node)  # is it what its name says?
        above, own = next(iter(node.names))
        source, target = self._backing.directories(above, parent)
        os.link(own, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        status = os.stat(name, dir_fd=target, follow_symlinks=False)
        made = self._introduce(parent, name, status)
        self._notes.note(node, Link, to)
        return made

    def rename(
        self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, flags: int
    ) -> None:
        """Rename, replacing what is called ``new_name`` unless ``flags`` are ``NO_REPLACE``."""
        if flags & ~NO_REPLACE:
            raise failed(errno.EINVAL)
        to = self._path_of_new(new_parent, new_name)
        moved = self._backing.status_of(parent, name)
        replaced = self._present(new_parent, new_name)
        if replaced is not None and flags & NO_REPLACE:
            raise failed(errno.EEXIST)
        if replaced is not None and replaced.st_ino == moved.st_ino:
            return  # two names of one inode: POSIX leaves both
        operation = Rename(self._notes.path_in(parent, name), to)
        victim = None if replaced is None else self._nodes.known(replaced.st_ino)
        with self._losing(victim, new_parent, new_name):
            source, target = self._backing.directories(parent, new_parent)
            os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        node = self._nodes.known(moved.st_ino)
        if node is not None:
            self._nodes.name(moved.st_ino, new_parent, new_name)
            self._nodes.unname(node, parent, name)
            node.changed += 1
        new_parent.changed += 1
        self._notes.lost(operation, parent, replaced)

    def unlink(self, parent: Node, name: bytes) -> None:
        """Take a name from what is no directory."""
        self._remove(parent, name, Unlink(self._notes.path_in(parent, name)))

    def rmdir(self, parent: Node, name: bytes) -> None:
        """Remove an empty directory."""
        self._remove(parent, name, Rmdir(self._notes.path_in(parent, name)))

    def namesake_unknown(self, parent: Node, name: bytes) -> Node | None:
        """Return the open file that would lose its only known name, and has others."""
        try:
            status = self._backing.status_of(parent, name)
        except OSError:
            return None  # whoever asked will be told
        node = self._nodes.known(status.st_ino)
        if node is None or not node.opened or stat.S_ISDIR(status.st_mode):
            return None
        return node if len(node.names) < 2 <= status.st_nlink else None

    def _remove(self, parent: Node, name: bytes, operation: Operation) -> None:
        status = self._backing.status_of(parent, name)
        remove = os.rmdir if isinstance(operation, Rmdir) else os.unlink
        with self._losing(self._nodes.known(status.st_ino), parent, name):
            remove(name, dir_fd=self._backing.directory(parent))
        self._notes.lost(operation, parent, status)

    @contextlib.contextmanager
    def _losing(self, node: Node | None, parent: Node, name: bytes) -> Iterator[None]:
        """Hold ``node`` if this is its last known name, and take the name from it at the end."""
        if node is None:
            yield
            return
        last = node.held == NONE_HELD and not node.names.keys() - {(parent, name)}
        if last:
            self._backing.hold(node)
        try:
            yield
        except BaseException:
            if last:
                self._backing.let_go(node)
            raise
        self._nodes.unname(node, parent, name)
        node.changed += 1

    def _path_of_new(self, parent: Node, name: bytes) -> bytes:
        if is_reserved(name):
            raise failed(errno.EPERM)
        if len(name) > NAME_MAX:
            raise failed(errno.ENAMETOOLONG)
        return self._notes.path_in(parent, name)

    def _present(self, parent: Node, name: bytes) -> os.stat_result | None:
        try:
            return self._backing.status_of(parent, name)
        except FileNotFoundError:
            return None

    def _introduce(self, parent: Node, name: bytes, status: os.stat_result) -> Made:
        parent.changed += 1
        return Made(self._backing.introduce(status, parent, name), status)

    def _note(self, made: Made, new: _New, kind: Callable[..., Operation], *fields: int) -> None:
        self._notes.note(made.node, kind, *fields, made.status.st_uid, made.status.st_gid)
        if new.inherits:
            with self._backing.gripped(made.node) as where:
                self._notes.note_inherited(made.node, where)

    def _new_in(self, parent: Node, mode: int, caller: Caller) -> _New:
        """Return what becomes of something that ``caller`` creates in ``parent``."""
        directory = self._backing.directory(parent)
        above = os.fstat(directory)
        inherits = hands_down(directory)
        permissions = mode & PERMISSIONS
        return _New(
            directory,
            permissions if inherits else permissions & ~caller.umask,
            caller.uid,
            above.st_gid if above.st_mode & stat.S_ISGID else caller.gid,
            inherits,
        )

    def _settle_name(self, name: bytes, new: _New) -> os.stat_result:
        fd = os.open(name, OPEN_ANYTHING, dir_fd=new.directory)
        try:
            return self._settle(by_descriptor(fd), new)
        finally:
            os.close(fd)

    def _settle(self, where: Where, new: _New) -> os.stat_result:
        """Set owner and mode of what was just created, if they are not so already."""
        status = os.stat(where)
        wanted = new.mode
        if stat.S_ISDIR(status.st_mode):
            wanted |= status.st_mode & stat.S_ISGID  # handed down
        if new.inherits:
            wanted = wanted & ~_RWX | status.st_mode & _RWX  # the ACL has decided
        if self._is_root and (status.st_uid, status.st_gid) != (new.uid, new.gid):
            os.chown(where, new.uid, new.gid)
            status = os.stat(where)
        if status.st_mode & PERMISSIONS != wanted:
            os.chmod(where, wanted)
            status = os.stat(where)
        return status


class _New(NamedTuple):
    """Where something is created, and what it is to be. ``inherits``: an ACL is handed down."""

    directory: int
    mode: int
    uid: int
    gid: int
    inherits: bool


@contextlib.contextmanager
def _undone(remove: Callable[..., None], name: bytes, directory: int) -> Iterator[None]:
    """Remove what was created if it cannot become what it should be."""
    try:
        yield
    except BaseException:
        remove(name, dir_fd=directory)
        raise

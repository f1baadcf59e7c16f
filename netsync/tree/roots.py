"""Where a transfer begins: source roots and the target root, from an operator's or peer's path.

An operator's local path follows symbolic links: it is resolved once, and the result is walked
without following any. A path inside a module comes from a peer: links in it are resolved here by
hand, component by component on held descriptors, and one that would leave the module is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from netsync.errors import NetsyncError, RefusedError, UsageError, root_error
from netsync.model import Problem
from netsync.names import is_reserved, join
from netsync.tree.directories import OPEN_DIRECTORY
from netsync.tree.links import LINK_HOPS_MAX

if TYPE_CHECKING:
    from netsync.tree.ahead import Ahead

COMPONENTS_MAX: Final = 512
"""Components of a root's path; each holds a descriptor while it is walked."""
_NEW_DIRECTORY: Final = 0o777
"""Mode of missing directories of a destination's path, less the umask."""


class Anchor(NamedTuple):
    """A directory that paths start from and may not leave. ``fd`` stays the caller's.

    ``guarded`` ones belong to a module: netsync's own names in them are not for clients.
    """

    fd: int
    shown: str
    guarded: bool = True


class SourceRoot(NamedTuple):
    """One source: directory ``fd`` and the entry in it, or with an empty name its contents.

    ``listed`` is the name it gets in the transfer; ``path`` is where ``fd`` is below ``anchor``,
    which links may lead into if they are followed (None: not out of ``fd``). ``ahead`` is
    what reads the source before it is listed. The owner closes ``fd``.
    """

    fd: int
    name: bytes
    listed: bytes
    anchor: Anchor | None = None
    path: bytes = b""
    ahead: Ahead | None = None


class TargetRoot(NamedTuple):
    """The open destination directory, and the name a lone file gets in it (or none).

    ``exists`` is False in a dry run onto a directory that is not there yet.
    """

    fd: int
    file_name: bytes
    exists: bool


@contextlib.contextmanager
def local_anchor() -> Iterator[Anchor]:
    """Hold the file system's root, where an operator's resolved paths start."""
    fd = os.open("/", OPEN_DIRECTORY)
    try:
        yield Anchor(fd, "/", guarded=False)
    finally:
        os.close(fd)


def means_contents(path: bytes) -> bool:
    """Tell whether a source path stands for what is in it (rsync's trailing slash)."""
    return path.rpartition(b"/")[2] in (b"", b".", b"..")


def local_path(path: bytes) -> bytes:
    """Return an operator's path with every symbolic link resolved, its last slash kept."""
    return os.path.realpath(path) + (b"/" if means_contents(path) else b"")


def open_source(anchor: Anchor, path: bytes, listed: bytes) -> SourceRoot:
    """Open one source below ``anchor``. Raises ``RootError``, ``RefusedError``, ``UsageError``."""
    try:
        stack, name, above = _resolve(anchor, path, create=False)
        try:
            if name and not means_contents(path):
                _refuse_reserved(name, listed)
                os.stat(name, dir_fd=stack[-1], follow_symlinks=False)
                return SourceRoot(stack.pop(), name, listed, anchor, above)
            if name:
                fd = os.open(name, OPEN_DIRECTORY, dir_fd=stack[-1])
                return SourceRoot(fd, b"", b"", anchor, join(above, name))
            return SourceRoot(stack.pop(), b"", b"", anchor, above)
        finally:
            _close(stack)
    except OSError as error:
        raise root_error(error, op="open source", where=path) from error


def open_sources(
    places: Iterable[tuple[Anchor, bytes, bytes]], stack: contextlib.ExitStack
) -> tuple[list[SourceRoot], list[Problem]]:
    """Open several sources, each an anchor, a path and the name it is listed by.

    One that is missing among others is a problem; if none can be opened the last error is raised.
    ``stack`` closes them.
    """
    roots: list[SourceRoot] = []
    problems: list[Problem] = []
    failure: NetsyncError | None = None
    for anchor, path, listed in places:
        try:
            root = _named(open_source(anchor, path, listed), path)
        except NetsyncError as error:
            failure = error
            problems.append(Problem(path, "open source", error.why))
            continue
        stack.callback(os.close, root.fd)
        roots.append(root)
    if failure is not None and not roots:
        raise failure
    return roots, problems


def _named(root: SourceRoot, path: bytes) -> SourceRoot:
    """Refuse what was asked for by name and has none: a link to a directory above itself."""
    if root.name or means_contents(path):
        return root
    os.close(root.fd)
    raise RefusedError(
        "the link leads to a directory without a name of its own",
        op="open source",
        where=path,
        hint="write a slash at its end for what is in it",
    )


def open_target(anchor: Anchor, path: bytes, *, single_file: bool, dry_run: bool) -> TargetRoot:
    """Open the destination, creating missing directories.

    A lone file takes the path's last name unless that ends in a slash or is a directory.
    """
    try:
        return _open_target(anchor, path, single_file=single_file, dry_run=dry_run)
    except OSError as error:
        if dry_run and isinstance(error, FileNotFoundError):
            name = path.rpartition(b"/")[2] if single_file else b""
            return TargetRoot(_empty_directory(), name, exists=False)
        raise root_error(error, op="open destination", where=path) from error


def _open_target(anchor: Anchor, path: bytes, *, single_file: bool, dry_run: bool) -> TargetRoot:
    stack, name, _ = _resolve(anchor, path, create=not dry_run)
    try:
        if not name:
            return TargetRoot(stack.pop(), b"", exists=True)
        try:
            return TargetRoot(os.open(name, OPEN_DIRECTORY, dir_fd=stack[-1]), b"", exists=True)
        except (NotADirectoryError, FileNotFoundError) as error:
            if single_file and not means_contents(path):
                _refuse_reserved(name)
                return TargetRoot(stack.pop(), name, exists=True)
            if dry_run or isinstance(error, NotADirectoryError):
                raise
        _make(stack[-1], name)
        return TargetRoot(os.open(name, OPEN_DIRECTORY, dir_fd=stack[-1]), b"", exists=True)
    finally:
        _close(stack)


def _refuse_reserved(*names: bytes) -> None:
    """Raise ``UsageError`` for a name that no entry of a transfer may have."""
    for name in filter(is_reserved, names):
        words = "names that begin with .netsync are netsync's own and are not copied"
        raise UsageError(words, op="open", where=name, hint="rename it")


def _empty_directory() -> int:
    """Return a descriptor of a directory that is empty and gone: a dry run's missing target."""
    path = tempfile.mkdtemp(prefix="netsync-")
    try:
        return os.open(path, OPEN_DIRECTORY)
    finally:
        os.rmdir(path)


def _resolve(anchor: Anchor, path: bytes, *, create: bool) -> tuple[list[int], bytes, bytes]:
    """Walk to the directory that holds the last component of ``path``.

    Returns the held directories, innermost last; the last name, which is no link, or an empty
    one for the innermost directory itself; and that directory's path below the anchor. The
    caller closes the descriptors.
    """
    pending = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b"\0" in path:
        raise OSError(errno.EINVAL, "a path with a NUL")
    if len(pending) > COMPONENTS_MAX:
        raise OSError(errno.ENAMETOOLONG, "the path has too many components")
    stack = [os.dup(anchor.fd)]
    above: list[bytes] = []
    hops = 0
    try:
        while pending:
            name = pending.pop(0)
            if name == b"..":
                if len(stack) == 1:
                    raise RefusedError("the path leaves the module", op="open", where=path)
                os.close(stack.pop())
                above.pop()
                continue
            if anchor.guarded and is_reserved(name):
                raise RefusedError("the name is netsync's own", op="open", where=path)
            link = _link_text(stack[-1], name)
            if link is None:
                if not pending:
                    return stack, name, b"/".join(above)
                stack.append(_enter(stack[-1], name, create=create))
                above.append(name)
                continue
            hops += 1
            if hops > LINK_HOPS_MAX:
                raise OSError(errno.ELOOP, "too many links")
            if link.startswith(b"/"):
                raise RefusedError("a link in it leaves the module", op="open", where=path)
            pending[:0] = [part for part in link.split(b"/") if part not in (b"", b".")]
    except BaseException:
        _close(stack)
        raise
    return stack, b"", b"/".join(above)


def _link_text(directory: int, name: bytes) -> bytes | None:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return os.readlink(name, dir_fd=directory) if stat.S_ISLNK(status.st_mode) else None


def _enter(directory: int, name: bytes, *, create: bool) -> int:
    try:
        return os.open(name, OPEN_DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        if not create:
            raise
    _make(directory, name)
    return os.open(name, OPEN_DIRECTORY, dir_fd=directory)


def _make(directory: int, name: bytes) -> None:
    """Make a directory of the destination's path, durably: few, and what lies in it needs them."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, _NEW_DIRECTORY, dir_fd=directory)
        os.fsync(directory)


def _close(stack: list[int]) -> None:
    while stack:
        os.close(stack.pop())

"""Reading and setting extended attributes, of an open file or of a name in a held directory.

The calls for attributes take a descriptor or a path and know no directory, so a name is reached
by the path of the held directory's descriptor below /proc: one component, whose link is not
followed. An attribute that cannot be set is no reason to lose the others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from netsync.names import shown
from netsync.plan import acl
from netsync.plan.xattrs import (
    ACL,
    GIVEN_BY_KERNEL,
    Items,
    Scope,
    WantedXattrs,
    canonical,
    equal,
)

Where = int | bytes
"""An open file's descriptor, or what ``of_name`` returned."""

_PROBES: Final = {ACL: acl.ACCESS}
_GONE: Final = (errno.ENODATA, errno.EOPNOTSUPP)


class Refusal(NamedTuple):
    """A part of an entry's metadata that the system would not set: what was tried, and why not."""

    op: str
    error: OSError


def of_name(directory: int, name: bytes) -> Where:
    """Return how the attributes of ``name`` in ``directory`` are reached, following no link."""
    return b"/proc/self/fd/%d/%s" % (directory, name)


def names_of(where: Where, told: bytes | None = None) -> list[bytes]:
    """Return the names of an entry's attributes; ``told`` are those a scan found already."""
    if told is not None:
        return told.split(b"\0")[:-1]
    if isinstance(where, int):
        return [os.fsencode(name) for name in os.listxattr(where)]
    return [os.fsencode(name) for name in os.listxattr(where, follow_symlinks=False)]


def read_set(where: Where, scope: Scope, told: bytes | None = None) -> Items:
    """Return the attributes in ``scope``, sorted by name. Raises ``OSError``."""
    found = []
    for name in sorted(names_of(where, told)):
        if scope.keeps(name):
            value = _value(where, name)
            if value is not None:
                found.append((name, value))
    return tuple(found)


def supports(directory: int, namespace: str) -> bool:
    """Tell whether the file system of ``directory`` can hold attributes of ``namespace``."""
    name = _PROBES.get(namespace, b"%s.netsync.probe" % namespace.encode())
    try:
        os.getxattr(directory, name)
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    return True


def hands_down(directory: int) -> bool:
    """Tell whether what is created in ``directory`` gets an ACL by itself."""
    return _value(directory, acl.DEFAULT) is not None


def differ(where: Where, wanted: WantedXattrs, told: bytes | None = None) -> bool:
    """Tell whether an entry's attributes in the scope are others than those ``wanted``.

    What cannot be read differs: setting it will succeed, or say why not.
    """
    try:
        present = read_set(where, wanted.scope, told)
        return present != wanted.items and not equal(canonical(present), wanted.items)
    except (OSError, ValueError):
        return True


def settle(where: Where, wanted: WantedXattrs) -> tuple[Refusal, ...]:
    """Make the attributes in the scope equal to those ``wanted``; return what was refused.

    ACLs come last: they set permission bits too, and those are to be the source's.
    """
    try:
        present = [name for name in names_of(where) if wanted.scope.keeps(name)]
    except OSError as error:
        return (Refusal("list the attributes of", error),) if wanted.items else ()
    refused: list[Refusal] = []
    values = dict(wanted.items)
    for name in present:
        if name not in values and name not in GIVEN_BY_KERNEL:
            _try(refused, where, name, None)
    for name, value in sorted(wanted.items, key=lambda item: item[0] in acl.NAMES):
        if name not in present or _value_or_none(where, name) != value:
            _try(refused, where, name, value)
    return tuple(refused)


def _try(refused: list[Refusal], where: Where, name: bytes, value: bytes | None) -> None:
    """Set an attribute, or remove it; note what the system said against it."""
    try:
        try:
            _change(where, name, value)
        except PermissionError as error:
            if error.errno != errno.EACCES or not os.geteuid():
                raise
            with _opened_up(where):  # the mode is the source's already, and may shut us out
                _change(where, name, value)
    except OSError as error:
        if value is None and error.errno in _GONE:
            return
        refused.append(
            Refusal(f"{'set' if value is not None else 'remove'} {shown(name)} of", error)
        )


def _change(where: Where, name: bytes, value: bytes | None) -> None:
    links = isinstance(where, int)  # a descriptor is no name that could be a link
    if value is None:
        os.removexattr(where, name, follow_symlinks=links)
    else:
        os.setxattr(where, name, value, follow_symlinks=links)


@contextlib.contextmanager
def _opened_up(where: Where) -> Iterator[None]:
    """Let ourselves write to a file of ours for a moment."""
    links = isinstance(where, int)
    mode = stat.S_IMODE(os.stat(where, follow_symlinks=links).st_mode)
    os.chmod(where, mode | stat.S_IRUSR | stat.S_IWUSR, follow_symlinks=links)
    try:
        yield
    finally:
        os.chmod(where, mode, follow_symlinks=links)


def _value(where: Where, name: bytes) -> bytes | None:
    """Return an attribute's value, or None if there is none."""
    try:
        return os.getxattr(where, name, follow_symlinks=isinstance(where, int))
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def _value_or_none(where: Where, name: bytes) -> bytes | None:
    with contextlib.suppress(OSError):  # what cannot be read is set anew
        return _value(where, name)
    return None

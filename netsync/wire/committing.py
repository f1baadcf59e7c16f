"""The messages of ``netsync commit``: whole files, one answer, and that only when all is durable.

The client sends ``Commit``, for each file one ``CommitFile`` and its content in ``CommitData``, and
``CommitEnd``: nothing of it is answered before the end, so a commit costs one round trip. No file
gets its name before ``CommitEnd`` has arrived.
"""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, Struct

from netsync.model import U63, Entry, Name, Path, Text
from netsync.wire.frames import BULK_MAX, TAIL_MAX, Limits
from netsync.wire.messages import Message, XattrSet

COMMIT_FILES_MAX: int = 256
"""Files of one commit: each holds a descriptor at the server, or two."""
Namespaces = Annotated[tuple[Text, ...], Meta(max_length=64)]


class Commit(Message, frozen=True):
    """Files follow that are to be in ``module``, durably; see ``CommitEnd``.

    What is there already under a name stays as it is, unless ``overwrite``. ``namespaces`` are
    those of extended attributes that the client sees.
    """

    type = 24
    module: Text
    overwrite: bool = False
    namespaces: Namespaces = ()


class CommitFile(Message, frozen=True):
    """A file, its metadata, and where it is to be: a path in the module.

    With ``single`` the path's last name is the file's, unless that is a directory or ends in a
    slash. ``xattrs`` are its attributes, ``users`` and ``groups`` the names of those not told yet.
    """

    type = 25
    limits = Limits(BULK_MAX, 0)
    path: Path
    entry: Entry
    single: bool = False
    xattrs: XattrSet = ()
    users: Annotated[tuple[Name, ...], Meta(max_length=256)] = ()
    groups: Annotated[tuple[Name, ...], Meta(max_length=256)] = ()


class CommitData(Message, frozen=True):
    """The next bytes of the file under way, in the tail, behind a ``hole`` of so many.

    With a ``digest`` (BLAKE3 of the whole) it ends; with ``void`` the client gives it up.
    """

    type = 26
    limits = Limits(BULK_MAX, TAIL_MAX)
    hole: U63 = 0
    digest: Annotated[bytes, Meta(max_length=32)] = b""
    void: bool = False


class CommitEnd(Message, frozen=True):
    """All files are sent: name them, make them durable, answer."""

    type = 27


class Kept(enum.StrEnum):
    """What became of one file."""

    CREATED = "created"
    SAME = "same"
    REPLACED = "replaced"
    DIFFERS = "differs"
    FAILED = "failed"


DURABLE = frozenset({Kept.CREATED, Kept.SAME, Kept.REPLACED})
"""The file is there with the content that was sent, and survives a power cut."""


class CommitResult(Struct, frozen=True, array_like=True):
    """What became of one file, and under which name; ``code`` is the exit code of its failure."""

    kept: Kept
    name: Annotated[bytes, Meta(max_length=255)] = b""
    code: Annotated[int, Meta(ge=0, le=255)] = 0
    op: Text = ""
    why: Text = ""
    hint: Text = ""


class CommitResults(Message, frozen=True):
    """The answer to ``CommitEnd``: one result a file, in their order."""

    type = 28
    limits = Limits(BULK_MAX, 0)
    results: Annotated[tuple[CommitResult, ...], Meta(max_length=COMMIT_FILES_MAX)]
    notices: Annotated[tuple[Text, ...], Meta(max_length=64)] = ()

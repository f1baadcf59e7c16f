"""The closed set of messages, each a frozen value validated once while it is decoded.

``SOURCE`` and ``TARGET`` messages belong to the two roles of a transfer and know nothing of who
connected; ``CLIENT`` and ``SERVER`` messages open a session and say what to transfer. Entries
are numbered by the order in which the source lists them; the root is number 0. A message that
refers to an entry does it by number, so a peer can only ask for what was offered.
"""

# No annotations from __future__: msgspec reads them, and texts take it five times as long.

import enum
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from netsync.model import (
    I64,
    ORIGINS_MAX,
    RULES_MAX,
    U32,
    U63,
    Entry,
    Item,
    Name,
    Options,
    Origin,
    Path,
    Problem,
    Report,
    Rule,
    Text,
    Xattr,
)
from netsync.wire.frames import BULK_MAX, CONTROL_MAX, TAIL_MAX, Limits
from netsync.wire.listing import RELIST_MAX
from netsync.wire.listing import TEXT_PER_CREDIT as TEXT_PER_CREDIT  # noqa: PLC0414 - all messages are known from here
from netsync.wire.listing import Listing as Listing  # noqa: PLC0414 - all messages are known from here
from netsync.wire.listing import Terms as Terms  # noqa: PLC0414 - all messages are known from here

PROTOCOL: int = 1
"""Version spoken; a peer that speaks another is refused with words."""

FILES_MAX: int = 256
"""Small files in one frame: they share a thread hop, and cost the target a descriptor each."""
UNSENT_MAX: int = 1024
"""Files in one ``Unsent``."""
SELECTIONS_MAX: int = 4096
"""``Selection`` messages that may follow one ``Open``."""

Digest = Annotated[bytes, Meta(min_length=16, max_length=32)]
Features = Annotated[list[Text], Meta(max_length=64)]
XattrSet = Annotated[tuple[Xattr, ...], Meta(max_length=4096)]
Seconds = Annotated[int, Meta(ge=1, le=86400)]


class Message(Struct, frozen=True):
    """Base of all messages. ``type`` is the frame's, ``limits`` bound its body and tail."""

    type: ClassVar[int]
    limits: ClassVar[Limits] = Limits(CONTROL_MAX, 0)


# --- either end, at any time -------------------------------------------------------------------


class Ping(Message, frozen=True):
    """I am alive; sent when nothing else was for a third of the timeout. Not answered."""

    type = 1


class Fault(Message, frozen=True):
    """The session ends here, with this exit code and these words."""

    type = 2
    code: Annotated[int, Meta(ge=1, le=255)]
    why: Text
    op: Text = ""
    where: Text = ""
    hint: Text = ""


# --- client and server: opening ----------------------------------------------------------------


class Hello(Message, frozen=True):
    """The client's first message; ``timeout`` is the silence it bears (seconds)."""

    type = 8
    protocol: U32
    software: Text
    features: Features
    timeout: Seconds = 30


class Welcome(Message, frozen=True):
    """The server's answer: only now is the client connected. ``identity`` is the client's."""

    type = 9
    protocol: U32
    software: Text
    features: Features
    identity: Text
    timeout: Seconds = 30


class Bye(Message, frozen=True):
    """The client has finished; the server closes."""

    type = 10


class Browse(Message, frozen=True):
    """List a directory of a module, or with an empty module the modules themselves."""

    type = 11
    module: Text = ""
    path: Path = b""


class ModuleInfo(Struct, frozen=True, array_like=True):
    """A module and what this client may do with it."""

    name: Text
    rights: Annotated[list[Text], Meta(max_length=16)]


class Browsed(Message, frozen=True):
    """Part of the answer to ``Browse``; ``final`` marks the last."""

    type = 12
    limits = Limits(BULK_MAX, 0)
    modules: Annotated[list[ModuleInfo], Meta(max_length=4096)] = []
    entries: Annotated[list[Entry], Meta(max_length=65536)] = []
    final: bool = False


class Direction(enum.StrEnum):
    """What the client wants to do."""

    PUSH = "push"
    PULL = "pull"


class Place(Struct, frozen=True, array_like=True):
    """A path inside a module; a trailing slash means the directory's contents."""

    module: Text
    path: Path


class Open(Message, frozen=True):
    """Start a transfer: one place to push to, or one or more to pull from.

    ``selections`` such messages follow, with what of the options does not fit here. ``run`` names
    the attempts of one run.
    """

    type = 13
    direction: Direction
    places: Annotated[list[Place], Meta(min_length=1, max_length=256)]
    options: Options
    selections: Annotated[int, Meta(ge=0, le=SELECTIONS_MAX)] = 0
    run: Annotated[bytes, Meta(max_length=32)] = b""


class Selection(Message, frozen=True):
    """More rules and more paths of the options, in their order."""

    type = 15
    limits = Limits(BULK_MAX, 0)
    rules: Annotated[list[Rule], Meta(max_length=RULES_MAX)] = []
    paths: Annotated[list[Path], Meta(max_length=65536)] = []


class Opened(Message, frozen=True):
    """The transfer may start: the source speaks next."""

    type = 14


# --- source to target --------------------------------------------------------------------------


class Offer(Message, frozen=True):
    """What the source has: a single regular file or not, and the metadata for the target's root.

    ``namespaces`` are those of extended attributes that the source sees: what it does not list of
    them it does not have. ``xattrs`` are the root's, with the ``users`` and ``groups`` of both.
    ``origins``, as far as they fit, are its directories; with ``tells_mounts`` all mounts in them.
    """

    type = 32
    limits = Limits(BULK_MAX, 0)
    single_file: bool
    root: Entry | None = None
    namespaces: Features = []
    xattrs: XattrSet = ()
    users: Annotated[list[Name], Meta(max_length=16384)] = []
    groups: Annotated[list[Name], Meta(max_length=16384)] = []
    origins: Annotated[list[Origin], Meta(max_length=ORIGINS_MAX)] = []
    tells_mounts: bool = False


class List(Message, frozen=True):
    """Directories in depth-first order, as many as fit, and ids named for the first time.

    ``xattrs`` are the sets of extended attributes that its entries refer to, each once.
    """

    type = 33
    limits = Limits(BULK_MAX, 0)
    listings: Annotated[list[Listing], Meta(max_length=16384)]
    users: Annotated[list[Name], Meta(max_length=16384)] = []
    groups: Annotated[list[Name], Meta(max_length=16384)] = []
    problems: Annotated[list[Problem], Meta(max_length=4096)] = []
    xattrs: Annotated[list[XattrSet], Meta(max_length=16384)] = []

    @property
    def cost(self) -> int:
        """The credit it uses up: its entries, and something for long texts and empty parts."""
        text = sum(len(problem.path) for problem in self.problems)
        text += sum(len(owner.name) for owner in (*self.users, *self.groups))
        text += sum(len(name) + len(value) for items in self.xattrs for name, value in items)
        named = [listing for listing in self.listings if not listing.is_bare]
        text += sum(listing.text for listing in named)
        entries = len(self.listings) - len(named) + sum(max(1, len(each.entries)) for each in named)
        return 1 + entries + text // TEXT_PER_CREDIT


class ListEnd(Message, frozen=True):
    """All is listed; ``complete`` only if every directory could be read whole.

    ``unsafe_links`` lead out of the tree and were left out. ``notices`` are for the user.
    """

    type = 34
    complete: bool
    unsafe_links: U63 = 0
    notices: Annotated[list[Text], Meta(max_length=16)] = []


class FileHead(Struct, frozen=True, array_like=True, gc=False):
    """A small file sent whole: its bytes are the next ``size`` of the tail."""

    number: U63
    size: U63
    mtime_ns: I64
    digest: Digest


class Files(Message, frozen=True):
    """Small files, whole, one behind the other in the tail (xxh3_128 digests)."""

    type = 35
    limits = Limits(BULK_MAX, TAIL_MAX)
    files: Annotated[list[FileHead], Meta(min_length=1, max_length=FILES_MAX)]


class Piece(Message, frozen=True):
    """The next part of one large file: operations, their literal bytes in the tail."""

    type = 36
    limits = Limits(BULK_MAX, TAIL_MAX)
    number: U63
    ops: Annotated[list[int], Meta(max_length=65536)]


class FileEnd(Message, frozen=True):
    """A file sent in pieces is complete: its size, time, and the digest of the whole result."""

    type = 37
    number: U63
    size: U63
    mtime_ns: I64
    digest: Digest


class Unsent(Message, frozen=True):
    """Wanted files that could not be sent; what arrived of them is void.

    ``retry`` says that they changed while they were read and may be wanted again.
    """

    type = 38
    limits = Limits(BULK_MAX, 0)
    numbers: Annotated[list[U63], Meta(min_length=1, max_length=UNSENT_MAX)]
    problems: Annotated[list[Problem], Meta(min_length=1, max_length=UNSENT_MAX)]
    retry: bool = False


class End(Message, frozen=True):
    """Nothing more will be sent for this transfer."""

    type = 39


class Relisted(Message, frozen=True):
    """Entries of directories that a ``Relist`` named, under the numbers their digests took."""

    type = 41
    limits = Limits(BULK_MAX, 0)
    listings: Annotated[list[Listing], Meta(min_length=1, max_length=16384)]

    @property
    def cost(self) -> int:
        """What it uses up of the room that the ``Relist`` gave."""
        return sum(listing.cost for listing in self.listings)


# --- target to source --------------------------------------------------------------------------


class Start(Message, frozen=True):
    """The target's root is ready. ``name`` renames a single file; credit opens the listing.

    With ``digests`` the source may tell a directory by its digest on these terms.
    """

    type = 48
    credit: U63
    name: Annotated[bytes, Meta(max_length=255)] = b""
    digests: Terms | None = None


class Credit(Message, frozen=True):
    """So many entries more may be listed."""

    type = 49
    entries: Annotated[int, Meta(ge=1, le=1 << 20)]


class Wants(Message, frozen=True):
    """Files wanted whole, and files a ``WantDelta`` will follow for.

    Entries numbered below ``decided`` that were not wanted so far never will be.
    """

    type = 50
    limits = Limits(BULK_MAX, 0)
    whole: Annotated[list[U63], Meta(max_length=65536)]
    deltas: Annotated[list[U63], Meta(max_length=65536)]
    decided: U63


class WantDelta(Message, frozen=True):
    """A file wanted as a delta; ``Signature`` frames with its entries follow.

    ``seed`` keys the strong checksums, ``forward_only`` allows only matches at or behind the
    write position (``--inplace``). Where ``fine_size`` is not 0 the signature is the coarse one
    of two levels: the source may ask for blocks of that size within what it did not match.
    """

    type = 51
    number: U63
    basis_size: U63
    block_size: U32
    seed: U63
    forward_only: bool = False
    fine_size: U32 = 0


class Signature(Message, frozen=True):
    """The next entries of the signature under way, in the tail."""

    type = 52
    limits = Limits(CONTROL_MAX, TAIL_MAX)
    number: U63


class WantsEnd(Message, frozen=True):
    """Nothing more will be wanted: every file is verified or given up."""

    type = 53


class Applied(Message, frozen=True):
    """Wanted files done or given up, and itemized lines when asked for."""

    type = 54
    limits = Limits(BULK_MAX, 0)
    numbers: Annotated[list[U63], Meta(max_length=65536)] = []
    items: Annotated[list[Item], Meta(max_length=65536)] = []
    settled_bytes: U63 = 0


class Relist(Message, frozen=True):
    """Directories that were told by a digest other than the target's: their entries are wanted."""

    type = 58
    directories: Annotated[list[U63], Meta(min_length=1, max_length=RELIST_MAX)]


class Committed(Message, frozen=True):
    """The transfer is finished and, unless asked otherwise, durable."""

    type = 55
    limits = Limits(BULK_MAX, 0)
    report: Report

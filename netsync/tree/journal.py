"""The journal of a run that is published at once: what is to be done, complete or not at all.

While a run is prepared every change is a record, kept by *phase*. When nothing went wrong the
records are written to one file, phase by phase, each with its length and a checksum over its
bytes and its place in the file, and behind the last an end that counts them. A journal without
its end, or with anything wrong in it, says nothing at all: it is read to its end before the first
record is acted on.

The phases are an order that is right for any tree. What goes is set aside while the old tree is
whole; then all names that are made are free, and all directories they lie in are made from the
top; links follow the files they lead to; directories get their metadata when nothing in them
changes any more, the deepest first. Within a phase the order is that of ``append``.
"""

from __future__ import annotations

import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct
from xxhash import xxh3_64_intdigest

from netsync.model import Entry, Kind
from netsync.tree.expected import Expected
from netsync.tree.place import Attributes
from netsync.tree.read import read_fully

MEMORY_MAX: Final = 4 * 1024 * 1024
"""Bytes of each phase held in memory while a run is prepared."""
RECORD_MAX: Final = 1 << 20
"""Bytes of one record: a path, a link's text and 64 KiB of attributes fit many times."""
_MAGIC: Final = b"netsync journal 1\n"
_FRAME: Final = struct.Struct("<IQ")
_NOWHERE: Final = frozenset({b"", b".", b".."})
_COPY_BYTES: Final = 1 << 20


class DamagedJournalError(Exception):
    """A journal is not what was written: torn, changed, or none at all."""


class Header(Struct, frozen=True, array_like=True, tag=0):
    """What is true of the whole run: where backups go (empty: nowhere), and if it is flushed.

    ``ledger`` is the name that what it has changed is left under to its next attempt, if any.
    """

    backup_dir: bytes
    durable: bool
    ledger: bytes = b""


class Enter(Struct, frozen=True, array_like=True, tag=1):
    """A directory of ours that is or will be closed to ourselves: it is opened to us."""

    path: bytes


class SetAside(Struct, frozen=True, array_like=True, tag=2):
    """A name that goes. ``number`` names it where it is put.

    What is not as ``expected`` stays. A directory is only ever removed empty: what is in it has
    records of its own before. A ``kept`` entry goes to the backup, of a directory its metadata.
    """

    path: bytes
    number: int
    expected: Expected
    kept: Entry | None = None


class MakeDirectory(Struct, frozen=True, array_like=True, tag=3):
    """A directory that is made, for us alone until it is settled; ``replaces`` something."""

    path: bytes
    replaces: bool = False


class Place(Struct, frozen=True, array_like=True, tag=4):
    """An entry, complete under ``staged``, that gets its name in place of what has that."""

    path: bytes
    staged: bytes


class Link(Struct, frozen=True, array_like=True, tag=5):
    """A name that becomes one of the entry at ``carrier``; ``attributes`` are for a copy."""

    path: bytes
    carrier: bytes
    kind: Kind
    attributes: Attributes


class Restate(Struct, frozen=True, array_like=True, tag=6):
    """An entry that stays and gets other metadata, if it is as ``expected``."""

    path: bytes
    attributes: Attributes
    expected: Expected


class Settle(Struct, frozen=True, array_like=True, tag=7):
    """A directory that gets its metadata, when nothing in it changes any more.

    It is ``expected`` to be the one that was there, unless the run makes it.
    """

    path: bytes
    attributes: Attributes
    expected: Expected | None = None


class _End(Struct, frozen=True, array_like=True, tag=8):
    """The end: how many records there are before it."""

    count: int


Record = Enter | SetAside | MakeDirectory | Place | Link | Restate | Settle
_PHASES: Final = (Enter, SetAside, MakeDirectory, Place, Link, Restate, Settle)
_DECODER: Final[msgspec.msgpack.Decoder[Header | Record | _End]] = msgspec.msgpack.Decoder(
    Header | Record | _End
)


class Journal:
    """The records of a run in preparation. Workers append from their threads."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self._encode = msgspec.msgpack.Encoder().encode
        self._lock = threading.Lock()
        self._count = 0
        self._phases = {
            kind: tempfile.SpooledTemporaryFile(max_size=MEMORY_MAX)  # noqa: SIM115 - owned
            for kind in _PHASES
        }

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        """Yield the records phase by phase, while nothing is appended."""
        for kind in _PHASES:
            for body in self._phase(kind):
                found = _decoded(body)
                assert not isinstance(found, Header | _End)
                yield found

    @property
    def size(self) -> int:
        """The bytes that the records take, about."""
        return sum(phase.tell() for phase in self._phases.values()) + _FRAME.size * self._count

    def append(self, record: Record) -> None:
        """Add a record behind those of its kind."""
        body = self._encode(record)
        if len(body) > RECORD_MAX:
            raise OSError("the metadata is too large to be published with others at once")
        with self._lock:
            self._phases[type(record)].write(len(body).to_bytes(4, "little") + body)
            self._count += 1

    def write(self, fd: int) -> None:
        """Write the journal to the empty file ``fd``, which is the caller's to flush."""
        with os.fdopen(os.dup(fd), "wb", buffering=_COPY_BYTES) as file:
            file.write(_MAGIC)
            for index, body in enumerate(self._bodies()):
                file.write(_FRAME.pack(len(body), xxh3_64_intdigest(body, seed=index)) + body)

    def _bodies(self) -> Iterator[bytes]:
        yield self._encode(self.header)
        for kind in _PHASES:
            yield from self._phase(kind)
        yield self._encode(_End(self._count))

    def _phase(self, kind: type[Record]) -> Iterator[bytes]:
        phase = self._phases[kind]
        phase.seek(0)
        while length := phase.read(4):
            yield phase.read(int.from_bytes(length, "little"))

    def close(self) -> None:
        """Drop everything."""
        for phase in self._phases.values():
            phase.close()


class WrittenJournal:
    """A journal as it was found in the file ``fd``, which stays the caller's.

    It is read to its end once before anything else. Raises ``DamagedJournalError`` and ``OSError``.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        header: Header | None = None
        self.count = 0
        for found in self._frames():
            if isinstance(found, Header):
                header = found
            else:
                self.count += 1
        if header is None:
            raise DamagedJournalError("it has no header")
        self.header = header

    def __iter__(self) -> Iterator[Record]:
        for found in self._frames():
            if not isinstance(found, Header):
                yield found

    def _frames(self) -> Iterator[Header | Record]:
        """Yield what is written, the header first; nothing is believed unchecked."""
        if read_fully(self._fd, len(_MAGIC), 0) != _MAGIC:
            raise DamagedJournalError("it does not begin like one")
        size = os.fstat(self._fd).st_size
        position, index = len(_MAGIC), 0
        while True:
            frame = read_fully(self._fd, _FRAME.size, position)
            if len(frame) < _FRAME.size:
                raise DamagedJournalError("it is torn")
            length, checksum = _FRAME.unpack(frame)
            position += _FRAME.size
            body = read_fully(self._fd, min(length, RECORD_MAX), position)
            if len(body) != length or xxh3_64_intdigest(body, seed=index) != checksum:
                raise DamagedJournalError(f"record {index} is torn or was changed")
            position += length
            found = _decoded(body)
            if not _leads_down(found):
                raise DamagedJournalError(f"record {index} leads out of the destination")
            if isinstance(found, Header) != (index == 0):
                raise DamagedJournalError("its header is not where it belongs")
            if isinstance(found, _End):
                if found.count != index - 1 or position != size:
                    raise DamagedJournalError("its end does not fit")
                return
            yield found
            index += 1


def _leads_down(found: Header | Record | _End) -> bool:
    """Tell whether no path in ``found`` leads out of where it belongs."""
    match found:
        case _End():
            return True
        case Header():
            paths = [found.backup_dir, found.ledger]
        case Place():
            paths = [found.path, found.staged]
        case Link():
            paths = [found.path, found.carrier]
        case _:
            paths = [found.path]
    return all(_NOWHERE.isdisjoint(path.split(b"/")) for path in paths if path)


def _decoded(body: bytes) -> Header | Record | _End:
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError as error:
        raise DamagedJournalError(f"a record cannot be read: {error}") from error

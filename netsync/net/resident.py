"""The Unix socket of a resident helper: a command hands over what it was asked to do, and files.

A helper keeps a session with one server for one identity, so that a command costs neither a
handshake nor the imports for one. The socket lies in the state directory, which only its owner may
enter, and may itself only be used by its owner; both ends ask the kernel who the other is all the
same. A request is a frame of fields with the files' descriptors beside it. While it is worked on
the helper shows life; a command that hears nothing for ``SILENCE_SECONDS`` does its work itself,
after it has ended the helper, so that this cannot do later what was asked of it before.

This half is for the command: it blocks, and imports next to nothing. Paths of sockets are short by
law (108 bytes), those of state directories are not; so the socket is reached through a descriptor
of its directory.
"""

from __future__ import annotations

import _socket  # socket itself imports enum and selectors, which cost more than all the rest here
import os
import struct
from binascii import crc32

from netsync import __version__

SILENCE_SECONDS = 5.0
"""How long a helper may show no life: it does so every second."""
FILES_MAX = 128
"""Files of one request: the kernel passes 253 descriptors at once."""
REQUEST_MAX = 1024 * 1024
"""Bytes of one request."""
ANSWER_MAX = 16 * 1024 * 1024
"""Bytes of one answer."""
ALIVE, ANSWER = b".", b"!"
LENGTH = struct.Struct(">I")
PEER = struct.Struct("3i")
"""``struct ucred``: process, user, group."""
_SIGKILL = 9


class Key:
    """What a helper is for: an identity's directory, and a server as the user writes it."""

    __slots__ = ("identity", "server")

    def __init__(self, identity: str, server: str) -> None:
        self.identity = identity
        self.server = server

    @property
    def words(self) -> tuple[str, str]:
        """What two keys must share to be one."""
        return self.identity, self.server

    @property
    def name(self) -> str:
        """The name of its socket. Two keys may have one: then the second goes without a helper."""
        text = "\0".join(self.words).encode("utf-8", "surrogateescape")
        return f"commit-{crc32(text):08x}"


class Asked:
    """A commit as it was asked for: ``files`` to ``target``, all as the user wrote them.

    ``shows`` holds ``j`` for a JSON object and ``q`` for nothing but errors; ``times`` are those to
    connect and to bear silence, in seconds.
    """

    __slots__ = ("files", "key", "overwrite", "shows", "target", "times")

    def __init__(
        self, key: Key, target: str, files: list[str], *, overwrite: bool, shows: str,
        times: tuple[float, float],
    ) -> None:  # fmt: skip
        self.key = key
        self.target = target
        self.files = files
        self.overwrite = overwrite
        self.shows = shows
        self.times = times

    def packed(self) -> bytes:
        """Return it as fields, with a NUL between them: no argument holds one."""
        flags = ("o" if self.overwrite else "") + self.shows
        fields = (__version__, *self.key.words, self.target, flags, *map(repr, self.times))
        return "\0".join((*fields, *self.files)).encode("utf-8", "surrogateescape")


class Told:
    """What a command is to print on stdout and stderr, and to end with."""

    __slots__ = ("code", "err", "out")

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def packed(self) -> bytes:
        """Return it as fields: what is shown holds no NUL."""
        return "\0".join((str(self.code), self.out, self.err)).encode("utf-8", "surrogateescape")


def unpacked(data: bytes) -> Asked | None:
    """Return a request, or None if another version has made it."""
    version, *fields = data.decode("utf-8", "surrogateescape").split("\0")
    if version != __version__ or len(fields) < 7:
        return None
    identity, server, target, flags, connect, silence, *files = fields
    return Asked(
        Key(identity, server), target, files, overwrite="o" in flags, shows=flags,
        times=(float(connect), float(silence)),
    )  # fmt: skip


def framed(data: bytes) -> bytes:
    """Return ``data`` behind its length."""
    return LENGTH.pack(len(data)) + data


def ask(state: str, asked: Asked, fds: list[int]) -> Told | None:
    """Have a helper do it; return None if there is none, or it has not answered."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    sock.settimeout(SILENCE_SECONDS)
    process = 0
    try:
        directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{directory}/{asked.key.name}")
        finally:
            os.close(directory)
        found = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, PEER.size)
        process, user, _ = PEER.unpack(found)
        if user != os.geteuid():
            return None
        beside = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))
        request = framed(asked.packed())
        sent = sock.sendmsg([request], [beside])
        sock.sendall(request[sent:])
        return _answer(sock)
    except TimeoutError:
        _end(process)
        return None
    except (OSError, ValueError):
        return None
    finally:
        sock.close()


def _end(process: int) -> None:
    """End a helper that hangs: what it may still hold of our request is not to happen later."""
    if process > 0:
        os.kill(process, _SIGKILL)


def _answer(sock: _socket.socket) -> Told | None:
    data = bytearray()
    wanted = 0
    while not wanted or len(data) < wanted:
        piece = sock.recv(65536)
        if not piece:
            return None
        data += piece
        if not wanted:
            data = data.lstrip(ALIVE)
            if len(data) > LENGTH.size:
                (length,) = LENGTH.unpack_from(data, 1)
                if length > ANSWER_MAX:
                    return None
                wanted = 1 + LENGTH.size + length
    code, out, err = data[1 + LENGTH.size :].decode("utf-8", "surrogateescape").split("\0")
    return Told(int(code), out, err)

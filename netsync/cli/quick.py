"""The quick way of ``netsync commit``: hand it to a resident helper, and print what that says.

PostgreSQL runs its ``archive_command`` for every segment and waits for it; half of what a short
command takes is the imports of a long one. So this module and what it imports know nothing of
trio, TLS, msgspec or click, and understand the plain forms of a command only. Whatever is not
plain, or has no helper, is left to the full command, which says all there is to be said.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal imports enum; mypy has no stub of this
import os
import stat
import sys
import time

from netsync.defaults import identity_directory, state_directory
from netsync.net.resident import FILES_MAX, Asked, Key, Told, ask

_FLAGS = {"--overwrite": "o", "--json": "j", "-q": "q", "--quiet": "q"}
_VALUES = {
    "--timeout": "timeout", "--connect-timeout": "connect_timeout", "--identity": "identity",
    "--state": "state",
}  # fmt: skip
_DEFAULTS = {"connect_timeout": "10", "timeout": "30"}
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_SCHEME = "netsync://"


def server_of(target: str) -> str:
    """Return the part of an address that names the server, or nothing for a local path."""
    if target.startswith(_SCHEME):
        host = target[len(_SCHEME) :].partition("/")[0]
        return _SCHEME + host if host else ""
    host, separator, _ = target.partition("::")
    return f"{host}::" if separator and host and "/" not in host else ""


def key_of(identity: str | None, target: str) -> Key:
    """Return what a helper for ``target`` is for."""
    named = identity or os.environ.get("NETSYNC_IDENTITY") or identity_directory()
    return Key(os.path.realpath(named), server_of(target))


def state_of(state: str | None) -> str:
    """Return the state directory that is meant."""
    return os.path.abspath(state or os.environ.get("NETSYNC_STATE") or state_directory())


def plain(arguments: list[str]) -> tuple[str, Asked] | None:
    """Return the state directory and what a command's ``arguments`` ask for.

    None where the full command must say what they mean.
    """
    flags = ""
    values = dict(_DEFAULTS)
    paths: list[str] = []
    rest = iter(arguments)
    for word in rest:
        name, separator, value = word.partition("=")
        if word in _FLAGS:
            flags += _FLAGS[word]
        elif name in _VALUES:
            values[_VALUES[name]] = value if separator else next(rest, "")
        elif word.startswith("-"):
            return None
        else:
            paths.append(word)
    key = key_of(values.get("identity"), paths[-1] if paths else "")
    if not 2 <= len(paths) <= FILES_MAX + 1 or not key.server:
        return None
    try:
        connect, silence = (float(values[name]) for name in _DEFAULTS)
    except ValueError:  # with a unit
        return None
    if not all(0 < each <= 86400 for each in (connect, silence)):
        return None
    asked = Asked(
        key, paths[-1], paths[:-1], overwrite="o" in flags, shows=flags, times=(connect, silence)
    )
    return state_of(values.get("state")), asked


def told(state: str, asked: Asked) -> Told | None:
    """Have a helper do what was asked, with files that can all be opened; else return None."""
    fds: list[int] = []
    try:
        for path in asked.files:
            fds.append(os.open(path, _OPEN))
            if not stat.S_ISREG(os.fstat(fds[-1]).st_mode):
                return None
        return ask(state, asked, fds)
    except (OSError, ValueError):  # said with all its words by the full command
        return None
    finally:
        for fd in fds:
            os.close(fd)


def main() -> None:
    """Run ``netsync``: a plain commit quickly if that can be, all else as ever."""
    if sys.argv[1:2] == ["commit"]:
        found = plain(sys.argv[2:])
        answer = _told_or_interrupted(*found) if found is not None else None
        if answer is not None:
            _end(answer)
    from netsync.cli.main import main as full  # noqa: PLC0415 - this is what is avoided

    full()


def _told_or_interrupted(state: str, asked: Asked) -> Told | None:
    """As ``told``, but a signal is answered: with 20, like everywhere, also in the background."""
    started = time.monotonic()
    numbers = (_signal.SIGINT, _signal.SIGTERM)
    before = [_signal.signal(each, _signal.default_int_handler) for each in numbers]
    try:
        return told(state, asked)
    except KeyboardInterrupt:
        return _interrupted(asked, time.monotonic() - started)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            _signal.signal(number, handler)


def _interrupted(asked: Asked, seconds: float) -> Told:
    """Return what to say when nobody waits any more for the helper, which goes on."""
    from netsync.cli.commit import told as said  # noqa: PLC0415 - as above
    from netsync.errors import InterruptedBySignal  # noqa: PLC0415

    error = InterruptedBySignal(
        "interrupted by a signal", hint="it may be done all the same; run again to know"
    )
    return said(error, seconds, as_json="j" in asked.shows, quiet="q" in asked.shows)


def _end(answer: Told) -> None:
    """Print what was told and end at once, if it can be printed."""
    try:
        for fd, text in ((1, answer.out), (2, answer.err)):
            data = text.encode("utf-8", "surrogateescape")
            while data:
                data = data[os.write(fd, data) :]
    except OSError:
        os._exit(20 if answer.code == 0 else answer.code)
    os._exit(answer.code)

"""The TOML configuration: read, checked whole, turned into values.

An unknown key, a wrong type or an impossible value is an error that names the file, the key and
the fix. What the contract names but this version cannot do is refused, never silently ignored.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from netsync.errors import ConfigError, UsageError, reason
from netsync.model import DeleteLimit
from netsync.names import shown
from netsync.net.address import DEFAULT_PORT, parse_address
from netsync.plan.guards import parse_limit
from netsync.server.modules import EVERYONE, Module, Right, User, user_of

DEFAULT_FILE: Final = Path("/etc/netsync/netsync.toml")
_SECTIONS: Final = frozenset({"server", "module"})
DEFAULT_LISTEN: Final = f"0.0.0.0:{DEFAULT_PORT}"
_MODULE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOT_YET: Final = {
    "server": {"metrics"},
    "module": set(),
    "": {"job"},
}
"""Keys of the contract that this version does not carry out, by section."""
_TYPES: Final = {"str": "a string in quotes", "bool": "true or false", "array": "a list in [ ]",
                 "object": "a table", "int": "a number"}  # fmt: skip


class ServerSection(Struct, forbid_unknown_fields=True):
    """``[server]``."""

    listen: list[str] = msgspec.field(default_factory=lambda: [DEFAULT_LISTEN])
    identity: str = ""
    state: str = ""


class ModuleSection(Struct, forbid_unknown_fields=True):
    """``[module.NAME]``."""

    path: str
    allow: dict[str, list[str]] = {}
    special: bool = False
    max_delete: str | int = ""
    uid: str | int = ""
    gid: str | int = ""


class Config(Struct, frozen=True):
    """What a server runs with. ``identity`` and ``state`` None mean the default directories."""

    listen: tuple[str, ...]
    identity: Path | None
    modules: dict[str, Module]
    state: Path | None = None


def load_config(file: Path) -> Config:
    """Return the configuration in ``file``. Raises ``ConfigError``."""
    try:
        raw = tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        raise ConfigError(reason(error), op="read", where=str(file)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(error), op="read", where=str(file), hint="fix the syntax") from error
    _refuse_not_yet(file, raw)
    for key in raw.keys() - _SECTIONS:
        raise _unknown(file, key, key, sorted(_SECTIONS))
    server = _section(file, "server", raw.get("server", {}), ServerSection)
    if not server.listen:
        raise _wrong(
            file, "server.listen", "is empty", f"write [{DEFAULT_LISTEN!r}] or leave it out"
        )
    for address in server.listen:
        _check_address(file, address)
    modules: dict[str, Module] = {}
    for name, section in _table(file, "module", raw.get("module", {})).items():
        found = _section(file, f"module.{name}", section, ModuleSection)
        modules[name] = _module(file, name, found)
    identity = Path(server.identity) if server.identity else None
    state = Path(server.state) if server.state else None
    return Config(tuple(server.listen), identity, modules, state)


def module_from_flag(text: str) -> Module:
    """Return the module of a ``NAME=PATH[:ro|:wo]`` flag, open to every certificate."""
    name, separator, path = text.partition("=")
    if not separator or not path or not _MODULE_NAME.fullmatch(name):
        raise UsageError("not NAME=PATH", op="read --module", where=text,
                         hint="write for example web=/srv/web or web=/srv/web:ro")  # fmt: skip
    rights = {Right.PUSH, Right.PULL, Right.DELETE}
    if path.endswith(":ro"):
        path, rights = path[:-3], {Right.PULL}
    elif path.endswith(":wo"):
        path, rights = path[:-3], {Right.PUSH, Right.DELETE}
    return Module(name, Path(path), {EVERYONE: frozenset(rights)}, special=True)


def _module(file: Path, name: str, section: ModuleSection) -> Module:
    key = f"module.{name}"
    if not _MODULE_NAME.fullmatch(name):
        raise _wrong(file, key, "a module's name is letters, digits and . _ -, at most 64")
    if not Path(section.path).is_absolute():
        raise _wrong(file, f"{key}.path", f"{section.path!r} is not an absolute path")
    allow: dict[str, frozenset[Right]] = {}
    for identity, rights in section.allow.items():
        for right in rights:
            if right not in set(Right):
                raise _wrong(
                    file,
                    f"{key}.allow.{identity}",
                    f"{right!r} is no right",
                    "rights are " + ", ".join(Right),
                )
        allow[identity] = frozenset(map(Right, rights))
    limit = _limit(file, f"{key}.max_delete", section.max_delete)
    user = _user(file, key, section)
    return Module(name, Path(section.path), allow, section.special, limit, user)


def _user(file: Path, key: str, section: ModuleSection) -> User | None:
    """Return whom a module's files are touched as; None for this process's own user."""
    if section.uid == "":
        if section.gid != "":
            raise _wrong(file, f"{key}.gid", "stands without uid", "add uid")
        return None
    try:
        user = user_of(section.uid, section.gid)
    except LookupError as error:
        raise _wrong(file, f"{key}.{error.args[0]}", error.args[1]) from error
    if user.uid == 0:
        raise _wrong(file, f"{key}.uid", "is root, who needs no such key", "remove the key")
    if os.geteuid() != 0:
        raise _wrong(file, f"{key}.uid", "only root can become another user", "remove the key")
    return user


def _limit(file: Path, key: str, value: str | int) -> DeleteLimit | None:
    if value == "":
        return None
    try:
        return parse_limit(str(value))
    except ValueError as error:
        raise _wrong(file, key, str(error), 'write for example "30%" or 1000') from error


def _check_address(file: Path, address: str) -> None:
    try:
        parse_address(address)
    except UsageError as error:
        raise _wrong(file, "server.listen", f"{address!r} is {error.why}", error.hint) from error


def _refuse_not_yet(file: Path, raw: dict[str, Any]) -> None:
    modules = raw.get("module")
    sections: list[tuple[str, str, Any]] = [("", "", raw), ("server", "server.", raw.get("server"))]
    if isinstance(modules, dict):
        sections += [("module", f"module.{name}.", each) for name, each in modules.items()]
    for kind, prefix, section in sections:
        for key in sorted(_NOT_YET[kind] & set(section if isinstance(section, dict) else ())):
            raise _wrong(file, prefix + key, "this version cannot do that yet", "remove the key")


def _wrong(file: Path, key: str, why: str, hint: str = "") -> ConfigError:
    return ConfigError(f"{shown(key.encode())}: {why}", op="read", where=str(file), hint=hint)


_UNKNOWN: Final = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING: Final = re.compile(r"missing required field `(?P<field>[^`]*)`")
_EXPECTED: Final = re.compile(r"Expected `(?P<type>\w+)[^`]*`(?:[^$]*`\$(?P<at>[\w.]*))?")

Section = TypeVar("Section", bound=Struct)


def _table(file: Path, key: str, raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise _wrong(file, key, "must be a table", f"write [{key}.NAME]")
    return raw


def _section(file: Path, key: str, raw: object, kind: type[Section]) -> Section:
    """Return one section as a value; say in an administrator's words what is wrong with it."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        words = str(error)
    if match := _UNKNOWN.search(words):
        field = match["field"]
        raise _unknown(file, f"{key}.{field}", field, list(kind.__struct_fields__))
    if match := _MISSING.search(words):
        raise _wrong(file, key, f"the key {match['field']!r} is missing", "add it")
    if match := _EXPECTED.search(words):
        wanted = _TYPES.get(match["type"], match["type"])
        raise _wrong(file, key + (match["at"] or ""), f"must be {wanted}")
    raise _wrong(file, key, words)


def _unknown(file: Path, key: str, field: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(field, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(known)
    return _wrong(file, key, "unknown key", hint)

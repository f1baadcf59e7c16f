"""The TOML configuration: read, checked whole, turned into values.

An unknown key, a wrong type or an impossible value is an error that names the file, the key and
the fix. What the contract names but this version cannot do is refused, never silently ignored.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from netsync.config.sections import section_as, table_of, unknown, wrong
from netsync.errors import ConfigError, UsageError, reason
from netsync.model import DeleteLimit
from netsync.modes.job import Job
from netsync.net.address import DEFAULT_PORT, parse_address
from netsync.plan.guards import parse_limit
from netsync.server.modules import EVERYONE, Module, Right, User, user_of

DEFAULT_FILE: Final = Path("/etc/netsync/netsync.toml")
_SECTIONS: Final = frozenset({"server", "module", "job"})
DEFAULT_LISTEN: Final = f"0.0.0.0:{DEFAULT_PORT}"
_MODULE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ServerSection(Struct, forbid_unknown_fields=True):
    """``[server]``."""

    listen: list[str] = msgspec.field(default_factory=lambda: [DEFAULT_LISTEN])
    identity: str = ""
    state: str = ""
    metrics: str = ""


class ModuleSection(Struct, forbid_unknown_fields=True):
    """``[module.NAME]``."""

    path: str
    allow: dict[str, list[str]] = {}
    special: bool = False
    max_delete: str | int = ""
    uid: str | int = ""
    gid: str | int = ""
    rpo: str | int | float = ""


class Config(Struct, frozen=True):
    """What a daemon runs with. ``identity`` and ``state`` None mean the default directories.

    ``metrics`` empty means none. ``given`` is what the file says in so many words: values by key,
    with dots.
    """

    listen: tuple[str, ...]
    identity: Path | None
    modules: dict[str, Module]
    state: Path | None = None
    jobs: dict[str, Job] = {}
    metrics: str = ""
    given: dict[str, object] = {}

    @property
    def listens(self) -> bool:
        """Tell whether there is anything to listen for: modules, or the wish in so many words."""
        return bool(self.modules) or "server.listen" in self.given


def load_config(file: Path) -> Config:
    """Return the configuration in ``file``. Raises ``ConfigError``."""
    try:
        raw = tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        raise ConfigError(reason(error), op="read", where=str(file)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(error), op="read", where=str(file), hint="fix the syntax") from error
    for key in raw.keys() - _SECTIONS:
        raise unknown(file, key, key, sorted(_SECTIONS))
    server = section_as(file, "server", raw.get("server", {}), ServerSection)
    if not server.listen:
        raise wrong(
            file, "server.listen", "is empty", f"write [{DEFAULT_LISTEN!r}] or leave it out"
        )
    for address in server.listen:
        _check_address(file, address)
    modules: dict[str, Module] = {}
    for name, section in table_of(file, "module", raw.get("module", {})).items():
        found = section_as(file, f"module.{name}", section, ModuleSection)
        modules[name] = _module(file, name, found)
    if server.metrics:
        _check_address(file, server.metrics, "server.metrics", None)
    return Config(
        tuple(server.listen),
        Path(server.identity) if server.identity else None,
        modules,
        Path(server.state) if server.state else None,
        _jobs(file, raw.get("job", {})),
        server.metrics,
        dict(_keys(raw)),
    )


def module_from_flag(text: str) -> Module:
    """Return the module of a ``NAME=PATH[:ro|:wo]`` flag, open to every certificate."""
    name, separator, path = text.partition("=")
    if not separator or not path or not _MODULE_NAME.fullmatch(name):
        raise UsageError("not NAME=PATH", op="read --module", where=text,
                         hint="write for example web=/srv/web or web=/srv/web:ro")  # fmt: skip
    rights = {Right.PUSH, Right.PULL, Right.DELETE, Right.MIRROR}
    if path.endswith(":ro"):
        path, rights = path[:-3], {Right.PULL}
    elif path.endswith(":wo"):
        path, rights = path[:-3], {Right.PUSH, Right.DELETE}
    return Module(name, Path(path), {EVERYONE: frozenset(rights)}, special=True)


def _module(file: Path, name: str, section: ModuleSection) -> Module:
    key = f"module.{name}"
    if not _MODULE_NAME.fullmatch(name):
        raise wrong(file, key, "a module's name is letters, digits and . _ -, at most 64")
    if not Path(section.path).is_absolute():
        raise wrong(file, f"{key}.path", f"{section.path!r} is not an absolute path")
    allow: dict[str, frozenset[Right]] = {}
    for identity, rights in section.allow.items():
        for right in rights:
            if right not in set(Right):
                raise wrong(
                    file,
                    f"{key}.allow.{identity}",
                    f"{right!r} is no right",
                    "rights are " + ", ".join(Right),
                )
        allow[identity] = frozenset(map(Right, rights))
    limit = _limit(file, f"{key}.max_delete", section.max_delete)
    user = _user(file, key, section)
    rpo = _objective(file, f"{key}.rpo", section.rpo)
    return Module(name, Path(section.path), allow, section.special, limit, user, rpo)


def _objective(file: Path, key: str, value: str | int | float) -> float | None:
    if value == "":
        return None
    from netsync.cli.values import parse_duration  # noqa: PLC0415 - click, for one key of few

    try:
        seconds = parse_duration(str(value))
    except ValueError as error:
        raise wrong(file, key, str(error), 'write for example "5m"') from error
    if seconds <= 0:
        raise wrong(file, key, "must be more than 0", 'write for example "5m"')
    return seconds


def _user(file: Path, key: str, section: ModuleSection) -> User | None:
    """Return whom a module's files are touched as; None for this process's own user."""
    if section.uid == "":
        if section.gid != "":
            raise wrong(file, f"{key}.gid", "stands without uid", "add uid")
        return None
    try:
        user = user_of(section.uid, section.gid)
    except LookupError as error:
        raise wrong(file, f"{key}.{error.args[0]}", error.args[1]) from error
    if user.uid == 0:
        raise wrong(file, f"{key}.uid", "is root, who needs no such key", "remove the key")
    if os.geteuid() != 0:
        raise wrong(file, f"{key}.uid", "only root can become another user", "remove the key")
    return user


def _limit(file: Path, key: str, value: str | int) -> DeleteLimit | None:
    if value == "":
        return None
    try:
        return parse_limit(str(value))
    except ValueError as error:
        raise wrong(file, key, str(error), 'write for example "30%" or 1000') from error


def _jobs(file: Path, raw: object) -> dict[str, Job]:
    sections = table_of(file, "job", raw)
    if not sections:
        return {}
    from netsync.config.jobs import job_from  # noqa: PLC0415 - what servers without jobs do without

    for name in sections:
        if not _MODULE_NAME.fullmatch(name):
            hint = "a job's name is letters, digits and . _ -, at most 64"
            raise wrong(file, f"job.{name}", "no job can have this name", hint)
    return {name: job_from(file, name, each) for name, each in sections.items()}


def _keys(raw: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the keys of a table and of those in it, with dots, and their values."""
    for key, value in raw.items():
        yield prefix + key, value
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _check_address(
    file: Path, address: str, key: str = "server.listen", default: int | None = DEFAULT_PORT
) -> None:
    try:
        parse_address(address, default)
    except UsageError as error:
        raise wrong(file, key, f"{address!r} is {error.why}", error.hint) from error

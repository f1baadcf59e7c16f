"""One section of the file as a value, and what to say of one that is wrong.

Every complaint is one line that names the file, the key and the fix.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Struct

from netsync.errors import ConfigError
from netsync.names import shown

_TYPES: Final = {"str": "a string in quotes", "bool": "true or false", "array": "a list in [ ]",
                 "object": "a table", "int": "a number"}  # fmt: skip
_UNKNOWN: Final = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING: Final = re.compile(r"missing required field `(?P<field>[^`]*)`")
_EXPECTED: Final = re.compile(r"Expected `(?P<type>\w+)[^`]*`(?:[^$]*`\$(?P<at>[\w.]*))?")
_INVALID: Final = re.compile(r"Invalid enum value (?P<value>.*) - at `\$\.(?P<at>\w+)`")

Section = TypeVar("Section", bound=Struct)


def wrong(file: Path, key: str, why: str, hint: str = "") -> ConfigError:
    """Return what to say of a key."""
    return ConfigError(f"{shown(key.encode())}: {why}", op="read", where=str(file), hint=hint)


def table_of(file: Path, key: str, raw: object) -> dict[str, Any]:
    """Return a table of named sections. Raises ``ConfigError``."""
    if not isinstance(raw, dict):
        raise wrong(file, key, "must be a table", f"write [{key}.NAME]")
    return raw


def section_as(file: Path, key: str, raw: object, kind: type[Section]) -> Section:
    """Return one section as a value; say in an administrator's words what is wrong with it."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        words = str(error)
    if match := _UNKNOWN.search(words):
        field = match["field"]
        raise unknown(file, f"{key}.{field}", field, list(kind.__struct_fields__))
    if match := _MISSING.search(words):
        raise wrong(file, key, f"the key {match['field']!r} is missing", "add it")
    if match := _EXPECTED.search(words):
        wanted = _TYPES.get(match["type"], match["type"])
        raise wrong(file, key + (match["at"] or ""), f"must be {wanted}")
    if match := _INVALID.fullmatch(words):
        hints = get_type_hints(kind)
        allowed = " or ".join(map(repr, get_args(hints.get(match["at"]))))
        raise wrong(file, f"{key}.{match['at']}", f"{match['value']} cannot be", f"write {allowed}")
    raise wrong(file, key, words)


def unknown(file: Path, key: str, field: str, known: Iterable[str]) -> ConfigError:
    """Return what to say of a key that nobody knows."""
    known = list(known)
    near = difflib.get_close_matches(field, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(known)
    return wrong(file, key, "unknown key", hint)

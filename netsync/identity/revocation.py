"""The ``revoked`` file: serials of certificates that are not to be trusted any more.

One serial a line, as ``netsync cert show`` prints it: hexadecimal, colons and case do not matter.
Text after ``#`` and empty lines are ignored. A line of decimal digits alone may have been written
by another tool in decimal, so it revokes both readings: serials are 159 random bits, and no
innocent certificate can be hit by that. A line that cannot be read is an error, because taking
it for a comment would trust what somebody meant to revoke.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from netsync.errors import ConfigError
from netsync.identity import files

SERIAL_DIGITS_MAX: Final = 50
"""RFC 5280 4.1.2.2: at most 20 octets, which is 40 hexadecimal or 49 decimal digits."""

_HEX: Final = re.compile(r"(?:0[xX])?[0-9A-Fa-f]+")


def serial_text(serial: int) -> str:
    """Return ``serial`` as this program prints and writes it."""
    return f"{serial:x}"


def parse_serial(text: str) -> int | None:
    """Return the hexadecimal serial in ``text``, None if it is none."""
    digits = text.strip().replace(":", "")
    if len(digits) > SERIAL_DIGITS_MAX or not _HEX.fullmatch(digits):
        return None
    return int(digits, 16)


def read_revoked(directory: Path) -> frozenset[int]:
    """Return the serials revoked in ``directory``; none if it has no such file.

    Raises ``ConfigError`` for a line that is no serial and for a file that others can change.
    """
    path = directory / files.REVOKED
    if not path.is_symlink() and not path.exists():
        return frozenset()
    return parse_revoked(files.read_checked(path), str(path))


def parse_revoked(data: bytes, where: str) -> frozenset[int]:
    """Return the serials in the text of a ``revoked`` file called ``where`` in errors."""
    serials: set[int] = set()
    text = data.decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        serial = parse_serial(content)
        if serial is None:
            raise ConfigError(
                f"line {number} is not a serial number",
                op="read",
                where=where,
                hint="one serial a line, as netsync cert show prints it",
            )
        serials.add(serial)
        if content.isdecimal():
            serials.add(int(content))
    return frozenset(serials)


def add_revoked(directory: Path, serials: list[int], note: str) -> list[int]:
    """Append ``serials`` to the file, ``note`` as a comment; return those that were not in it."""
    with files.locked(directory):
        known = read_revoked(directory)
        fresh = [serial for serial in serials if serial not in known]
        if fresh:
            path = directory / files.REVOKED
            old = files.read_checked(path) if path.exists() else b""
            if old and not old.endswith(b"\n"):
                old += b"\n"
            lines = "".join(f"{serial_text(serial)}  # {note}\n" for serial in fresh)
            files.replace(path, old + lines.encode(), files.PUBLIC)
    return fresh

"""Files with holes: made, and told apart by where their data lies."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path


def write_sparse(path: Path, size: int, data: Mapping[int, bytes]) -> None:
    """Make a file of ``size`` bytes with ``data`` at these places, and holes elsewhere."""
    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o644)
    try:
        os.ftruncate(fd, size)
        for offset, content in data.items():
            assert os.pwrite(fd, content, offset) == len(content)
    finally:
        os.close(fd)


def data_of(path: Path) -> list[tuple[int, bytes]]:
    """Return where a file has data and what; the last item is its size and nothing."""
    found: list[tuple[int, bytes]] = []
    fd = os.open(path, os.O_RDONLY)
    try:
        at, size = 0, os.fstat(fd).st_size
        while at < size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
            found.append((start, os.pread(fd, at - start, start)))
        return [*found, (size, b"")]
    finally:
        os.close(fd)

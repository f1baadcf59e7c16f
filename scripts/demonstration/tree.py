"""A tree worth pushing: this Python's library, one large file, and a few changes to them."""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

MOST_FILES = 5000
LARGE = "database.img"
PIECE = 1 << 20


def make(place: Path, installed: Path, big: int) -> str:
    """Copy up to 5,000 files of the standard library and of the packages installed for this."""
    place.mkdir()
    count = size = 0
    for library in (Path(sysconfig.get_path("stdlib")), installed):
        for found in _files(library):
            if count >= MOST_FILES:
                break
            copy = place / library.name / found.relative_to(library)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, copy, follow_symlinks=False)
            count += 1
            size += copy.lstat().st_size
    with (place / LARGE).open("wb") as large:
        for _ in range(big // PIECE):
            large.write(os.urandom(PIECE))
    return f"{count:,} files with {size / PIECE:.0f} MiB, and {LARGE} with {big // PIECE} MiB"


def _files(library: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(library):
        names[:] = sorted(set(names) - {"site-packages", "dist-packages"})
        for name in sorted(files):
            path = Path(folder, name)
            if os.access(path, os.R_OK):
                yield path


def change(place: Path) -> Iterator[str]:
    """One byte, an append, a new file, a deletion, a new name."""
    large = place / LARGE
    with large.open("r+b") as file:
        file.seek(large.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
    yield f"one byte in the middle of {LARGE}"
    texts = sorted(path for path in place.rglob("*.py") if not path.is_symlink())
    grown, gone, moved = texts[0], texts[len(texts) // 2], texts[-1]
    with grown.open("ab") as file:
        file.write(b"# a line more\n")
    yield f"a line more in {grown.relative_to(place)}"
    (place / "new").mkdir()
    (place / "new" / "notes.txt").write_text("written on the primary\n")
    yield "a new file new/notes.txt"
    gone.unlink()
    yield f"deleted {gone.relative_to(place)}"
    moved.rename(place / "new" / moved.name)
    yield f"renamed {moved.relative_to(place)} to new/{moved.name}"

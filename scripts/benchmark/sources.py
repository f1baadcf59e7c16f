"""The data that is copied: made once, kept in the cache directory, read before each workload."""

import os
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from prepare.debian import ensure
from prepare.processes import run, step

PACKAGE = "linux-source-6.1"
TARBALL = Path(f"/usr/src/{PACKAGE}.tar.xz")
BLOCK = 4096
PIECE = 1 << 20
INSERTED = b"seventeen bytes!\n"
FILES, FILES_QUICK = 78_579, 1_500
IN_DIRECTORY = 15
OLD, NEW = 1_700_000_000, 1_700_003_600


class Sources:
    """Finds or makes the source of each name; an interrupted making leaves nothing usable."""

    def __init__(self, cache: Path, tree: Path | None, size: int, *, small: bool) -> None:
        self._cache = cache
        self._tree = tree
        self._size = size // BLOCK * BLOCK
        self._small = small

    def path(self, name: str) -> Path:
        """The source of this name, made first if need be."""
        if name == "tree":
            return self._tree or self._kept(*self._tree_recipe())
        makers = {"big": self._random, "big-edit": self._edited, "big-insert": self._inserted}
        return self._kept(f"{name}-{self._size}", makers[name])

    def origin(self, name: str) -> str:
        """Where its data come from, for the report."""
        if name != "tree":
            return "random bytes"
        if self._tree:
            return "a tree of the user's"
        kept, _ = self._tree_recipe()
        return PACKAGE if kept == PACKAGE else "a made-up tree"

    def _tree_recipe(self) -> tuple[str, Callable[[Path], None]]:
        if self._small:
            return f"made-up-{FILES_QUICK}", partial(made_up_tree, files=FILES_QUICK)
        if (self._cache / PACKAGE).exists() or linux_source_is_there():
            return PACKAGE, linux_tree
        return f"made-up-{FILES}", partial(made_up_tree, files=FILES)

    def _kept(self, name: str, make: Callable[[Path], None]) -> Path:
        place = self._cache / name
        if not place.exists():
            unfinished = self._cache / f"{name}.unfinished"
            run(["rm", "-rf", "--", unfinished])
            self._cache.mkdir(parents=True, exist_ok=True)
            with step(f"make {name}"):
                make(unfinished)
                unfinished.rename(place)
        return place

    def _random(self, place: Path) -> None:
        chance = random.Random(2024)  # noqa: S311 - the same bytes every time are wanted
        with place.open("wb") as file:
            for offset in range(0, self._size, PIECE):
                file.write(chance.randbytes(min(PIECE, self._size - offset)))
        os.utime(place, (OLD, OLD))

    def _edited(self, place: Path) -> None:
        chance = random.Random(1)  # noqa: S311 - the same blocks every time are wanted
        run(["cp", "--sparse=never", "--", self.path("big"), place])
        blocks = self._size // BLOCK
        with place.open("r+b") as file:
            for number in sorted(chance.sample(range(blocks), blocks // 100)):
                file.seek(number * BLOCK)
                file.write(chance.randbytes(BLOCK))
        os.utime(place, (NEW, NEW))

    def _inserted(self, place: Path) -> None:
        with self.path("big").open("rb") as old, place.open("wb") as new:
            new.write(INSERTED)
            while piece := old.read(PIECE):
                new.write(piece)
        os.utime(place, (NEW, NEW))


@cache
def linux_source_is_there() -> bool:
    """Debian's package of it, installed now if need be; a warning where that cannot be."""
    if not TARBALL.exists():
        ensure([PACKAGE], "else a made-up tree is copied, not Linux's source", required=False)
    return TARBALL.exists()


def linux_tree(place: Path) -> None:
    place.mkdir()
    run(["tar", "-xJf", TARBALL, "-C", place, "--strip-components=1"])


def made_up_tree(place: Path, files: int) -> None:
    """Like Linux's source: 15 files a directory, at four depths, sizes and links like there."""
    chance = random.Random(3)  # noqa: S311 - the same tree every time is wanted
    bytes_ = chance.randbytes(2 * PIECE)
    for number in range(files // IN_DIRECTORY):
        parts = [f"part-{number % 20}", f"area-{number % 140}", f"section-{number}"]
        folder = place.joinpath(*parts[number % 4 != 0 :])
        folder.mkdir(parents=True)
        for name in range(IN_DIRECTORY):
            # Half are below 4 KiB, some above 100 KiB, 14 KiB on average.
            size = min(int(chance.lognormvariate(8.4, 1.5)), PIECE)
            start = chance.randrange(PIECE)
            (folder / f"file-{name}.c").write_bytes(bytes_[start : start + size])
        if number % 10 == 0:
            (folder / "latest").symlink_to("file-0.c")


def read_through(source: Path) -> tuple[int, int]:
    """Read everything once, so that no run waits for the disk; entries and bytes."""
    buffer = bytearray(PIECE)
    entries = size = 0
    for path in [source, *source.rglob("*")] if source.is_dir() else [source]:
        entries += path != source
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                size += count
    return max(entries, 1), size

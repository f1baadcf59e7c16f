"""The data that is copied: made once, kept in the cache directory, read before each workload."""

import os
import random
from collections.abc import Callable
from pathlib import Path

from prepare.debian import ensure
from prepare.processes import StepError, run, step

PACKAGE = "linux-source-6.1"
TARBALL = Path(f"/usr/src/{PACKAGE}.tar.xz")
BLOCK = 4096
PIECE = 1 << 20
INSERTED = b"seventeen bytes!\n"
OLD, NEW = 1_700_000_000, 1_700_003_600


class Sources:
    """Finds or makes the source of each name; an interrupted making leaves nothing usable."""

    def __init__(self, cache: Path, tree: Path | None, size: int, *, small: bool) -> None:
        self._cache = cache
        self._tree = tree
        self._size = size // BLOCK * BLOCK
        self._small = small

    def path(self, name: str) -> Path:
        if name == "tree":
            return self._tree or self._kept(*self._tree_recipe())
        makers = {"big": self._random, "big-edit": self._edited, "big-insert": self._inserted}
        return self._kept(f"{name}-{self._size}", makers[name])

    def _tree_recipe(self) -> tuple[str, Callable[[Path], None]]:
        return ("small-tree", small_tree) if self._small else (PACKAGE, linux_tree)

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


def linux_tree(place: Path) -> None:
    if not TARBALL.exists():
        ensure([PACKAGE], "the tree that is copied (or name another: --tree DIR)", required=True)
    if not TARBALL.exists():
        raise StepError(f"{TARBALL} is not there; name a tree of your own: --tree DIR")
    place.mkdir()
    run(["tar", "-xJf", TARBALL, "-C", place, "--strip-components=1"])


def small_tree(place: Path) -> None:
    """4,000 files in 200 directories, sizes spread like source code, and some links."""
    chance = random.Random(3)  # noqa: S311 - the same tree every time is wanted
    for number in range(200):
        folder = place / f"part-{number % 20}" / f"section-{number}"
        folder.mkdir(parents=True)
        for name in range(20):
            size = min(int(chance.lognormvariate(8.3, 1.3)), PIECE)
            (folder / f"file-{name}.c").write_bytes(chance.randbytes(size))
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

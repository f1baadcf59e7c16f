"""What a tree holds after the first steps of a workload: the judge of a mirror's checker.

Step ``i`` is one operation, chosen by ``i`` and by what is there. So whoever knows the seed knows
every state that an honest copy may be in: the one after some number of steps, all of them and no
other. Neighbouring states differ, so a state tells its number.
"""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeAlias

NAMES: Final = [f"{directory}{name}" for directory in ("", "d/", "e/") for name in "pqrstuvw"]
DIRECTORIES: Final = ("d", "e")
WRITE_MAX: Final = 6000
SIZE_MAX: Final = 20_000
BULK: Final = (64 * 1024, 100_000)
"""Sizes of one write in ten: bulk data, which is packed, sent and kept otherwise."""
State: TypeAlias = dict[str, bytes | None]
"""A tree: names of files with what they hold, and of directories."""
Work: TypeAlias = Callable[["Target"], None]


class OpenFile(Protocol):
    """What a step does with an open file."""

    def pwrite(self, data: bytes, offset: int) -> int: ...
    def truncate(self, size: int) -> int: ...
    def close(self) -> None: ...


class Target(Protocol):
    """Where steps are done: a ``BlockingMirror`` is one."""

    def open(self, path: str, mode: str) -> OpenFile: ...
    def mkdir(self, path: str) -> None: ...
    def rmdir(self, path: str) -> None: ...
    def rename(self, path: str, to: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def link(self, path: str, to: str) -> None: ...


class Model:
    """The tree after ``steps`` steps of the workload with ``seed``."""

    def __init__(self, seed: int) -> None:
        self.steps = 0
        self._seed = seed
        self._names: dict[str, bytearray] = {}
        self._directories: set[str] = set()

    def advance_to(self, steps: int) -> None:
        """Do steps up to this number."""
        while self.steps < steps:
            self.step()

    @property
    def state(self) -> State:
        """What the tree holds."""
        found: State = dict.fromkeys(self._directories)
        found.update({name: bytes(data) for name, data in self._names.items()})
        return found

    def step(self) -> Work:
        """Go one step on; return what does it elsewhere."""
        chance = random.Random(self._seed * 1_000_003 + self.steps)
        self.steps += 1
        free = [n for n in NAMES if n not in self._names and self._has_place(n)]
        choices: list[Callable[[], Work]] = []
        if free:
            choices.append(lambda: self._create(chance, free))
        if self._names:
            choices += [lambda: self._write(chance)] * 4
            choices += [lambda: self._truncate(chance), lambda: self._unlink(chance)]
            choices += [lambda: self._rename(chance)] * 2
            if free:
                choices.append(lambda: self._link(chance, free))
        choices += [
            functools.partial(self._directory, name)
            for name in DIRECTORIES
            if not any(each.startswith(f"{name}/") for each in self._names)
        ]
        return chance.choice(choices)()

    def _has_place(self, name: str) -> bool:
        directory = name.rpartition("/")[0]
        return not directory or directory in self._directories

    def _any(self, chance: random.Random) -> str:
        return chance.choice(sorted(self._names))

    def _create(self, chance: random.Random, free: list[str]) -> Work:
        name = chance.choice(free)
        self._names[name] = bytearray()
        return lambda target: target.open(name, "x").close()

    def _write(self, chance: random.Random) -> Work:
        name = self._any(chance)
        data = self._names[name]
        offset = chance.randrange(min(len(data), SIZE_MAX) + 1)
        sizes = BULK if chance.randrange(10) == 0 else (8, WRITE_MAX)
        new = chance.randbytes(chance.randrange(*sizes))
        data[offset : offset + len(new)] = new

        def work(target: Target) -> None:
            file = target.open(name, "r+")
            file.pwrite(new, offset)
            file.close()

        return work

    def _truncate(self, chance: random.Random) -> Work:
        name = self._any(chance)
        data = self._names[name]
        size = chance.randrange(SIZE_MAX)
        if size == len(data):
            size += 1
        data[size:] = bytes(max(0, size - len(data)))

        def work(target: Target) -> None:
            file = target.open(name, "r+")
            file.truncate(size)
            file.close()

        return work

    def _unlink(self, chance: random.Random) -> Work:
        name = self._any(chance)
        del self._names[name]
        return lambda target: target.unlink(name)

    def _rename(self, chance: random.Random) -> Work:
        name = self._any(chance)
        data = self._names[name]
        to = [n for n in NAMES if self._has_place(n) and self._names.get(n) is not data]
        if not to:
            return self._unlink(chance)
        new = chance.choice(to)
        self._names[new] = self._names.pop(name)
        return lambda target: target.rename(name, new)

    def _link(self, chance: random.Random, free: list[str]) -> Work:
        name, new = self._any(chance), chance.choice(free)
        self._names[new] = self._names[name]
        return lambda target: target.link(name, new)

    def _directory(self, name: str) -> Work:
        if name in self._directories:
            self._directories.remove(name)
            return lambda target: target.rmdir(name)
        self._directories.add(name)
        return lambda target: target.mkdir(name)


def state_of(root: Path) -> State:
    """Return what a directory holds."""
    found: State = {}
    for directory, directories, files in os.walk(root):
        below = os.path.relpath(directory, root)
        prefix = "" if below == "." else f"{below}/"
        found.update({f"{prefix}{name}": None for name in directories})
        found.update({f"{prefix}{name}": Path(directory, name).read_bytes() for name in files})
    return found


def steps_shown(root: Path, model: Model, most: int) -> int | None:
    """Return after how many steps, from ``model``'s on, a tree is as ``root`` is.

    None if it is so after none of the next ``most`` steps. ``model`` is left there.
    """
    shown = state_of(root)
    for _ in range(most + 1):
        if model.state == shown:
            return model.steps
        model.step()
    return None

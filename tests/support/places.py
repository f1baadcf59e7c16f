"""Where a test's trees lie: below one served module, so that every route reaches them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.processes import Result, Server, netsync

MODULE: Final = "m"
ROUTES: Final = ("push", "pull", "local")


@dataclass(frozen=True)
class Standby:
    """A server and the directory that it serves as ``MODULE``."""

    server: Server
    root: Path


@dataclass(frozen=True)
class Place:
    """One test's own directory in the module, and the address it has there."""

    path: Path
    url: str

    def transfer(
        self,
        route: str,
        *options: str,
        source: str = "source/",
        target: str = "target",
        durable: bool = False,
        **more: Any,
    ) -> Result:
        """Copy ``source`` to ``target``, both names here, the way ``route`` says.

        Without waiting for the disk, unless ``durable``: it may be slow, and others use it.
        """
        near, far = f"{self.path}/", f"{self.url}/"
        command = "pull" if route == "pull" else "push"
        first = (far if route == "pull" else near) + source
        last = (far if route == "push" else near) + target
        flush = () if durable else ("--no-fsync",)
        return netsync(command, "--json", *flush, *options, first, last, **more)


def rsync(*arguments: str | Path) -> str:
    """Run rsync, which must succeed; return what it prints."""
    words = ["rsync", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def differences(source: Path, target: Path, *options: str) -> str:
    """Return what rsync would change to make ``target`` equal to ``source``, byte for byte."""
    compare = ("-anic", "--delete", "--specials", "--devices", "--modify-window=-1")
    return rsync(*compare, *options, f"{source}/", f"{target}/")

"""A tree before and after every kind of change, and what may be seen of it in between.

For tests that end a run in its middle: whatever has been done by then, each name has its old or
its new content, and nothing that was to be kept is gone.
"""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from netsync.model import Options, Report
from netsync.names import RESERVED_PREFIX
from netsync.tree.stage import UNLOCKED_SECONDS, sweep
from tests.support.fidelity import ACCESS, Facts, acl, snapshot
from tests.support.samples import MIB, contents, random_bytes
from tests.support.transfers import transfer
from tests.support.trees import make_tree, opened, temporaries

BACKUP: Final = b".old"
LARGE: Final = random_bytes(5 * MIB, 1)
"""Enough to be staged in ``.netsync``."""
SMALL: Final = random_bytes(100_000, 2)
"""Enough for a delta, not for the stage."""
MOVED: Final = random_bytes(70_000, 3)
"""Enough to be looked for under another name."""
TWO_LEVELS: Final = random_bytes(MIB, 4) * 33


@dataclass(frozen=True)
class Way:
    """One way to run: its options, and whether it is the first copy."""

    options: Options
    first: bool = False
    two_levels: bool = False


WAYS: Final = {
    "first": Way(Options(), first=True),
    "update": Way(Options()),
    "delete": Way(Options(delete=True)),
    "delete before": Way(Options(delete=True, delete_before=True)),
    "backup": Way(Options(delete=True, backup_dir=BACKUP)),
    "in place": Way(Options(delete=True, inplace=True, backup_dir=BACKUP)),
    "whole": Way(Options(delete=True, whole_file=True, checksum=True)),
    "two levels": Way(Options(delete=True), two_levels=True),
}

Contents = dict[bytes, tuple[int, object]]
Tree = dict[bytes, Facts]


def build_old(root: Path, options: Options) -> Path:
    """Build what is there before."""
    make_tree(root, {
        "same": b"same", "small": b"old", "delta": SMALL, "large": LARGE, "metadata": b"m",
        "link": "before", "link now": b"was a file", "file now": "was a link", "gone": b"g",
        "below": {"two": {"gone": b"g", "stays": b"s", "small": b"s"}},
        "a": b"linked", "c": b"of its own", "parted": b"p", "empty now": {},
        "gone too": {"moved from": MOVED, "x": {"y": b"", "l": "gone"}},
    })  # fmt: skip
    if options.delete:
        make_tree(root, {
            "was a file": b"file", "was full": {"of": {"things": b"1"}, "more": b"2"},
            "fifo": {"was": b"full"},
        })  # fmt: skip
    os.link(root / "a", root / "b")
    os.link(root / "parted", root / "below" / "parted")
    _date(root, 9 * 10**17)
    os.utime(root / "same", ns=(0, 10**18))
    return root


def build_new(root: Path) -> Path:
    """Build what is to come."""
    make_tree(root, {
        "same": b"same", "small": b"new content", "delta": SMALL[:40_000] + b"x" + SMALL[40_000:],
        "large": LARGE[: 2 * MIB] + random_bytes(9000, 5) + LARGE[2 * MIB :], "metadata": b"m",
        "link": "after", "link now": "is a link", "file now": b"is a file", "fifo": None,
        "below": {"two": {"moved": MOVED, "stays": b"s", "small": b"new", "new": b"n"}},
        "a": b"linked", "b": b"is now of its own", "parted": b"p2", "empty now": {},
        "new": {"dir": {"f": b"f", "large": random_bytes(4 * MIB + 1, 6)}, "l": "x", "e": b""},
        "was a file": {"with": {"something": b"in it"}}, "was full": b"a file now",
        "sparse": b"",
    })  # fmt: skip
    os.truncate(root / "sparse", MIB)
    for name in ("c", "below/second name"):
        os.link(root / "a", root / name)
    os.setxattr(root / "small", "user.note", b"x")
    os.setxattr(root / "metadata", ACCESS, acl(1000, 5))
    _date(root, 10**18 + 10**9)
    os.utime(root / "same", ns=(0, 10**18))
    os.utime(root / "metadata", ns=(0, 9 * 10**17))
    (root / "below" / "two").chmod(0o555)
    return root


def _date(root: Path, begin: int) -> None:
    for index, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, begin + index), follow_symlinks=False)


def is_reserved(path: bytes) -> bool:
    """Tell whether a path is netsync's own, or lies in what is."""
    return any(part.startswith(RESERVED_PREFIX) for part in path.split(b"/"))


class Upheaval:
    """A source, and as many fresh old targets as are wanted; ``done`` is how each must end."""

    def __init__(self, base: Path, way: Way) -> None:
        self.base = base
        self.options = way.options
        self.source = build_new(base / "source")
        template = self._template = base / "old"
        if way.first:
            template.mkdir()
        else:
            build_old(template, way.options)
        if way.two_levels:
            (template / "disk").write_bytes(TWO_LEVELS)
            changed = bytearray(TWO_LEVELS)
            for at in range(0, len(changed), 5 * MIB):
                changed[at : at + 5000] = random_bytes(5000, at)
            (self.source / "disk").write_bytes(changed)
        self.old = contents(template)
        self.new = contents(self.source)
        self._count = itertools.count()
        target = self.fresh()
        self.run(target)
        self.done = self.facts(target)
        assert self.new.items() <= contents(target).items()

    def run(self, target: Path) -> Report:
        """Run to the end; it says that all is well."""
        report = trio.run(transfer, self.source, target, self.options)
        assert not report.problems
        return report

    def goes_on_well(self, target: Path) -> None:
        """Run again: it ends as if nothing had happened, and one more run does nothing."""
        self.run(target)
        if sweep_later(target):
            self.run(target)
        assert temporaries(target) == []
        assert self.facts(target) == self.done
        before = changes(target)
        report = self.run(target)
        files = report.files
        assert (files.created, files.updated, files.metadata, files.deleted) == (0, 0, 0, 0)
        assert report.bytes.literal == 0
        assert changes(target) == before

    def fresh(self) -> Path:
        """Return a new target that is as the old one."""
        path = self.base / f"target{next(self._count)}"
        subprocess.run(["cp", "-a", self._template, path], check=True)
        return path

    def forget(self, target: Path) -> None:
        """Remove a target."""
        subprocess.run(["rm", "-rf", target], check=True)

    def facts(self, target: Path) -> Tree:
        """Return all that is there, but for the root's time and what backups' directories are."""
        found = snapshot(target)
        found[b""] = found[b""]._replace(mtime_ns=0)
        for path in [path for path in found if path.startswith(BACKUP)]:
            found[path] = found[path]._replace(mtime_ns=0, mode=0)
        return found

    def check(self, target: Path, *, deletes_last: bool = True) -> None:
        """See that a target that a run died over is not torn and lacks nothing."""
        everything = contents(target)
        now = {path: each for path, each in everything.items() if not is_reserved(path)}
        kept = {path: now.pop(path) for path in list(now) if path.startswith(BACKUP)}
        for path, each in now.items():
            if each not in (self.old.get(path), self.new.get(path)):
                assert self.options.inplace, f"{path!r} is torn"
                assert each[0] == self.old[path][0] == stat.S_IFREG, path
        for path in self.new.keys() & self.old.keys():
            if self.new[path][0] == self.old[path][0]:
                assert path in now, f"{path!r} is neither old nor new"
        if deletes_last:
            self._check_deletes(now)
        if self.options.backup_dir:
            self._check_backups(now, kept)

    def _check_deletes(self, now: Contents) -> None:
        """Deletes come last: when the first name is gone all data is there."""
        gone = {path for path in self.old if path not in now and path not in self.new}
        gone = {path for path in gone if not path.startswith((b"was full", b"fifo"))}
        if not gone or self.options.delete_before:
            return
        assert self.options.delete
        for path, each in self.new.items():
            was = self.old.get(path, each)[0]
            if each[0] == was == stat.S_IFREG and path not in (b"c", b"below/second name"):
                assert now.get(path) == each, f"{path!r} was not there when deleting began"

    def _check_backups(self, now: Contents, kept: Contents) -> None:
        for path, each in self.old.items():
            if each[0] != stat.S_IFDIR and now.get(path) != each:
                assert kept.get(BACKUP + b"/" + path) == each, f"{path!r} is not backed up"


def changes(target: Path) -> dict[bytes, tuple[int, int]]:
    """Return inode and time of the last change of everything but the root: rest is no change."""
    return {
        os.fsencode(path.relative_to(target)): (path.lstat().st_ino, path.lstat().st_ctime_ns)
        for path in target.rglob("*")
    }


def sweep_later(target: Path) -> bool:
    """Sweep as a run does that comes a minute later: the temporary of a link cannot be locked.

    Tell if there was any: what holds it has another time now, which the next run puts right.
    """
    before = temporaries(target)
    for directory, _, names in os.walk(os.fsencode(target)):
        with opened(Path(os.fsdecode(directory))) as fd:
            sweep(fd, names, now=time.time() + UNLOCKED_SECONDS + 1)
    return temporaries(target) != before

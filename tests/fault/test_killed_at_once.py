"""``--atomic`` and kill -9 at any step: all old, or after the next look all new.

In the ordinary suite some of the steps, with ``slow`` all.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from netsync.model import Options
from netsync.tree.publication import recover
from netsync.tree.stage_directory import APPLIED
from tests.support.fidelity import ACCESS, Facts, acl, snapshot
from tests.support.killing import KILLED, in_memory, killed_before
from tests.support.trees import make_tree, opened

OPTIONS: Final = Options(delete=True, atomic=True)
BACKUP: Final = Options(delete=True, atomic=True, backup_dir=b".old")
NOBODY: Final = 65534
Tree = dict[bytes, Facts]


def build_new(root: Path) -> Path:
    """Build what is to come: every kind of change to ``build_old``, and what stays."""
    make_tree(root, {
        "same": b"same", "bigger": b"new content", "chmodded": b"m", "no longer a link": b"file",
        "was a file": {"with": {"something": b"in it"}}, "was full": b"a file now",
        "below": {"two": {"levels": {"deep": b"d" * 70_000, "moved": b"m" * 66_000}}},
        "large": b"L" * (4 << 20) + b"end", "link": "changed", "fifo": None, "empty now": b"",
        "was empty": "a link",
    })  # fmt: skip
    os.link(root / "same", root / "below" / "second name of same")
    os.link(root / "bigger", root / "below" / "second name of bigger")
    os.setxattr(root / "bigger", "user.note", b"x")
    os.setxattr(root / "chmodded", ACCESS, acl(1000, 5))
    (root / "below" / "two").chmod(0o555)
    for index, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, 10**18 + index), follow_symlinks=False)
    return root


def build_old(root: Path) -> Path:
    """Build what is there before."""
    make_tree(root, {
        "same": b"same", "bigger": b"old", "chmodded": b"m", "no longer a link": "link",
        "was a file": b"file", "was full": {"of": {"things": b"1", "and": b"2"}, "more": b"3"},
        "below": {"two": {"gone": b"g", "stays": b""}}, "link": "before", "empty now": {},
        "gone": {"moved from here": b"m" * 66_000, "x": {"y": b""}}, "was empty": {},
    })  # fmt: skip
    os.link(root / "same", root / "a name of same that goes")
    for name in ("same", "chmodded"):
        os.utime(root / name, ns=(0, 10**18))
    (root / "chmodded").chmod(0o600)
    for index, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        if not path.is_file() or path.is_symlink():
            os.utime(path, ns=(0, 9 * 10**17 + index), follow_symlinks=False)
    return root


class Trees:
    """A source, and as many fresh old targets as are wanted; ``new`` is how each must end."""

    def __init__(self, base: Path, options: Options, user: int | None) -> None:
        self.base = base
        self.options = options
        self.user = user
        for above in (base, *list(base.parents)[:-2]):
            above.chmod(above.stat().st_mode | 0o755)
        self.source = build_new(base / "source")
        self._template = build_old(base / "old")
        for name in ("same", "bigger"):
            time = (self.source / name).stat().st_mtime_ns
            os.utime(self._template / name, ns=(0, time if name == "same" else 1))
        if user is not None:
            for root in (self.source, self._template):
                subprocess.run(["chown", "-hR", f"{user}:{user}", root], check=True)
        self._count = itertools.count()
        self.old = self.facts(self.fresh())
        plain = self.fresh()
        without = Options(delete=True, backup_dir=options.backup_dir)
        assert killed_before(self.source, plain, without, None, user) == 0
        self.new = self.facts(plain)

    def fresh(self) -> Path:
        """Return a new target that is as the old one."""
        path = self.base / f"target{next(self._count)}"
        subprocess.run(["cp", "-a", self._template, path], check=True)
        return path

    def facts(self, root: Path) -> Tree:
        """Return what is there, but for the stage and what the backup's directories look like."""
        found = snapshot(root)
        found[b""] = found[b""]._replace(mtime_ns=0)
        for path in [path for path in found if path.startswith(b".netsync")]:
            del found[path]
        kept = self.options.backup_dir
        for path in [path for path in found if kept and path.startswith(kept)]:
            found[path] = found[path]._replace(mtime_ns=0, mode=0)
        return found

    def kill(self, target: Path, step: int) -> bool:
        """Run until ``step``; tell whether it got so far."""
        code = killed_before(self.source, target, self.options, step, self.user)
        assert code in (KILLED, 0)
        return code == KILLED

    def run(self, target: Path) -> None:
        assert killed_before(self.source, target, self.options, None, self.user) == 0


@pytest.fixture(params=["root", "backup", "user"])
def trees(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trees]:
    """Trees for root, for root with a backup directory, and for an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip("needs to become somebody else")
    user = NOBODY if request.param == "user" else None
    options = BACKUP if request.param == "backup" else OPTIONS
    with tempfile.TemporaryDirectory(prefix="netsync-test-", dir=in_memory(tmp_path)) as base:
        yield Trees(Path(base), options, user)


def is_committed(target: Path) -> bool:
    """Tell whether a journal waits; its stage may be another user's, so it is asked by hand."""
    return any(target.glob(".netsync/*/journal")) or any(target.glob(".netsync/*/applied"))


def die_at(trees: Trees, steps: Iterator[int], *, rerun_every: int = 1) -> tuple[int, int]:
    """Kill at each of ``steps``; return after how many of them all was old, and all new.

    Before the commit nothing has changed; after it the next run finishes it first.
    """
    olds = news = 0
    for count, step in enumerate(steps):
        target = trees.fresh()
        if not trees.kill(target, step):
            break
        if is_committed(target):
            news += 1
            if trees.user is None:  # an ordinary user's stage is for that user to look at
                with opened(target) as fd:
                    recover(fd)
                assert trees.facts(target) == trees.new, step
                assert not (target / ".netsync").exists()
        else:
            now = trees.facts(target)
            assert now in (trees.old, trees.new), step
            olds += now == trees.old
        if count % rerun_every == 0 or trees.user is not None:
            trees.run(target)
            assert trees.facts(target) == trees.new, step
            assert not (target / ".netsync").exists()
        subprocess.run(["rm", "-rf", target], check=True)
    assert trees.facts(target) == trees.new
    return olds, news


def die_again(trees: Trees, steps: Iterable[int]) -> None:
    """Kill behind the commit, and again at each of ``steps`` what finishes the dead run."""
    step = 0
    while True:  # to a step soon behind the commit
        target = trees.fresh()
        trees.kill(target, step)
        if is_committed(target):
            break
        step += 5
    middle = step + 10
    for again in steps:
        target = trees.fresh()
        assert trees.kill(target, middle)
        for each in (again, again // 2, 1):
            trees.kill(target, each)
        trees.run(target)
        assert trees.facts(target) == trees.new, again
        assert not (target / ".netsync").exists()


def test_killed_at_some_steps_it_is_all_old_or_all_new(trees: Trees) -> None:
    olds, news = die_at(trees, itertools.count(4, 9))
    assert olds > 5
    assert news > 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_any_step_it_is_all_old_or_all_new(
    trees: Trees, record_property: Callable[[str, object], None]
) -> None:
    olds, news = die_at(trees, itertools.count(), rerun_every=7)
    assert olds > 50
    assert news > 30
    record_property("cases", olds + news)


def test_killed_again_while_it_rolls_forward(trees: Trees) -> None:
    """A run that finishes a dead one and dies in turn leaves it to the next."""
    die_again(trees, (5, 23, 47))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_again_at_more_steps_while_it_rolls_forward(
    trees: Trees, record_property: Callable[[str, object], None]
) -> None:
    die_again(trees, range(60))
    record_property("cases", 60)


def test_a_run_without_the_option_finishes_it_too(trees: Trees) -> None:
    """Whatever comes next to the destination, what was committed is done first."""
    target, step = trees.fresh(), 0
    while not is_committed(target):
        target = trees.fresh()
        assert trees.kill(target, step)
        step += 5
    only = Options(existing=True, ignore_existing=True)  # which changes nothing by itself
    assert killed_before(trees.source, target, only, None, trees.user) == 0
    assert trees.facts(target) == trees.new
    assert APPLIED not in {each.name.encode() for each in target.rglob(".netsync/*/*")}

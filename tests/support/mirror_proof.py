"""The checker of the mirror: one who writes, and everything that may happen to both sides.

Run as a module this is the workload: it writes through the Python API, commits now and then, and
records each step that was acknowledged. ``Proof`` runs it, kills it, kills the standby, cuts the
line between them, shuts file systems down, and after each looks at the standby's copy: it must be
what the first steps make, all that were acknowledged among them, and no other.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, cast

from netsync.mirror import mirror
from tests.support.certificates import certificates
from tests.support.link import Link, linked
from tests.support.mirror_model import Model, Target, steps_shown
from tests.support.mirrors import COPY, MODULE, Pair
from tests.support.power import Disk, disk
from tests.support.processes import ROOT, Server, wait_until

NUMBER: Final = struct.Struct(">Q")
AHEAD_MAX: Final = 400
"""Steps that a workload does at most without having one acknowledged."""
PATIENCE: Final = 60.0
"""Seconds in which a standby that was started must show what it has."""
COMMITS: Final = 0.2
"""How often a step is committed."""


def work(base: Path, source: Path, port: int, seed: int) -> None:
    """Write for ever."""
    chance = random.Random(os.getpid())
    acknowledged = os.open(base / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    model = Model(seed)
    steps = steps_shown(source, model, 10**7)
    assert steps is not None
    place = f"netsync://127.0.0.1:{port}/{MODULE}/{COPY}"
    with mirror(source, place, state=source.parent / "primary-state", timeout=5.0) as m:
        (base / "ready").touch()
        ahead = 0
        while True:
            model.step()(cast("Target", m))
            ahead += 1
            if chance.random() < COMMITS or ahead >= AHEAD_MAX:
                m.commit()
                os.write(acknowledged, NUMBER.pack(model.steps))
                ahead = 0


class Era:
    """A pair from its first step on, until its primary's disk is lost."""

    def __init__(self, base: Path, seed: int, disks: tuple[Disk, Disk] | None) -> None:
        self.base = base
        self.seed = seed
        self.near = disks[0] if disks else None
        self.far = disks[1] if disks else None
        self.pair = Pair(base, None if self.far is None else self.far.place)
        if self.near is not None:
            self.pair.source = self.near.place / "source"
            self.pair.source.mkdir()
        self.judged = Model(seed)
        self.server: Server | None = None
        self.primary: subprocess.Popen[bytes] | None = None
        self.link: Link | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Era:
        """Start both sides."""
        self.start_standby()
        self.link = self._stack.enter_context(linked(self.pair.port))
        self.start_primary()
        return self

    def __exit__(self, *_: object) -> None:
        """End both sides."""
        self.kill_primary()
        self._stack.close()

    @property
    def acknowledged(self) -> int:
        """The last step that was acknowledged."""
        file = self.base / "acknowledged"
        data = file.read_bytes() if file.exists() else b""
        whole = len(data) // NUMBER.size
        return max(
            (NUMBER.unpack_from(data, at * NUMBER.size)[0] for at in range(whole)), default=0
        )

    @property
    def commits(self) -> int:
        """How many answers came."""
        file = self.base / "acknowledged"
        return file.stat().st_size // NUMBER.size if file.exists() else 0

    def start_standby(self) -> None:
        """Serve the copy."""
        self.server = self._stack.enter_context(self.pair.standby())

    def kill_standby(self) -> None:
        """End it at once."""
        assert self.server is not None
        self.server.signal(signal.SIGKILL)
        self.server.wait()

    def start_primary(self) -> None:
        """Let the workload go on, in step with the standby."""
        assert self.link is not None
        (self.base / "ready").unlink(missing_ok=True)
        words = [self.base, self.pair.source, self.link.port, self.seed]
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT),
            "NETSYNC_IDENTITY": str(certificates().client.directory),
        }  # fmt: skip
        with (self.base / "primary.log").open("ab") as log:
            self.primary = subprocess.Popen(
                [sys.executable, "-m", __name__, *map(str, words)], env=environment, cwd=ROOT,
                stderr=log,
            )  # fmt: skip
        primary = self.primary
        wait_until(
            lambda: (self.base / "ready").exists() or primary.poll() is not None,
            "the primary is in step", PATIENCE,
        )  # fmt: skip
        assert primary.poll() is None, (self.base / "primary.log").read_text()

    def kill_primary(self) -> None:
        """End it at once."""
        if self.primary is not None:
            self.primary.kill()
            self.primary.wait()

    def goes_on(self) -> None:
        """Wait until another step is acknowledged."""
        before = self.commits
        primary = self.primary
        assert primary is not None
        wait_until(
            lambda: self.commits > before or primary.poll() is not None, "it goes on", PATIENCE
        )
        assert primary.poll() is None, (self.base / "primary.log").read_text()

    def lost(self) -> int:
        """Return how many acknowledged steps the copy lacks, once it has had time to show them.

        -1 if it is what no number of steps makes.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            promised = self.acknowledged
            self.judged.advance_to(promised)
            model = copy.deepcopy(self.judged)
            with contextlib.suppress(OSError):  # it is changing
                if steps_shown(self.pair.copy, model, 3 * AHEAD_MAX) is not None:
                    return 0
            if time.monotonic() > deadline:
                shown = steps_shown(self.pair.copy, Model(self.seed), promised)
                return -1 if shown is None else promised - shown
            time.sleep(0.02)


def kill_primary(era: Era) -> None:
    """``kill -9`` of who writes."""
    era.kill_primary()


def kill_standby(era: Era) -> None:
    """``kill -9`` of the standby; it is started again."""
    era.kill_standby()
    era.start_standby()


def kill_both(era: Era) -> None:
    """``kill -9`` of both."""
    era.kill_standby()
    era.kill_primary()
    era.start_standby()


def cut_line(era: Era) -> None:
    """Nothing arrives for a while; the primary may be killed meanwhile."""
    assert era.link is not None
    era.link.down()
    time.sleep(random.Random(era.acknowledged).uniform(0, 0.3))
    if era.acknowledged % 2:
        era.kill_primary()
    era.link.up()


def cut_standbys_power(era: Era) -> None:
    """The standby's file system is shut down, and it starts again on what is on its disk."""
    assert era.far is not None
    era.far.cut()
    era.kill_standby()
    era.far.restart()
    era.start_standby()


def cut_both_powers(era: Era) -> None:
    """The standby's file system is shut down, and who writes is killed as well."""
    assert era.far is not None
    era.far.cut()
    era.kill_primary()
    era.kill_standby()
    era.far.restart()
    era.start_standby()


def lose_primary(era: Era) -> None:
    """The primary's file system is shut down, and it does not come back."""
    assert era.near is not None
    era.near.cut()
    time.sleep(0.05)
    era.kill_primary()


PROCESSES: Final = (kill_primary, kill_standby, kill_both, cut_line)
DISKS: Final = (cut_standbys_power, cut_both_powers, lose_primary)


class Proof:
    """Rounds of it, and what they came to. ``lost`` and ``wrong`` must stay 0."""

    def __init__(self, base: Path, seed: int, *, disks: bool) -> None:
        self.rounds = 0
        self.steps = 0
        self.commits = 0
        self.lost = 0
        self.wrong = 0
        self.happened: Counter[str] = Counter()
        self._base = base
        self._chance = random.Random(seed)
        self._disks = disks
        self._eras = 0

    def run(self, rounds: int, tell: Callable[[Proof], None] = lambda _: None) -> None:
        """Run so many rounds more."""
        end = self.rounds + rounds
        while self.rounds < end:
            with self._era() as era:
                while self.rounds < end and self._round(era):
                    tell(self)
                tell(self)
                self.steps += era.acknowledged
                self.commits += era.commits

    def _round(self, era: Era) -> bool:
        """Let something happen; tell whether the era goes on."""
        self.rounds += 1
        era.goes_on()
        time.sleep(self._chance.uniform(0, 0.6))
        fault = self._chance.choice(PROCESSES + (DISKS if self._disks else ()))
        fault(era)
        self.happened[fault.__name__] += 1
        missing = era.lost()
        self.lost += max(0, missing)
        self.wrong += missing < 0
        if fault is lose_primary:
            return False
        assert era.primary is not None
        if era.primary.poll() is not None:
            era.start_primary()
        return True

    @contextlib.contextmanager
    def _era(self) -> Iterator[Era]:
        self._eras += 1
        base = self._base / f"era{self._eras}"
        base.mkdir()
        with contextlib.ExitStack() as stack:
            disks = None
            if self._disks:
                (base / "near").mkdir()
                (base / "far").mkdir()
                near = stack.enter_context(disk(base / "near", "ext4"))
                far = stack.enter_context(disk(base / "far", "ext4"))
                disks = near, far
            with Era(base, self._chance.randrange(10**9), disks) as era:
                yield era
        if not (self.lost or self.wrong):
            shutil.rmtree(base)


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

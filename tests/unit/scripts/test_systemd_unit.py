"""The unit file of ``netsync serve``: systemd takes it, and what it leaves the server is enough."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, netsync, serving, succeed
from tests.support.trees import make_tree

UNITS = ROOT / "scripts" / "systemd"
UNIT = UNITS / "netsync.service"
ASKING = ("netsync-check.service", "netsync-scrub@.service")
"""Units that ask the daemon, and need nothing but its socket and its state."""
EXPOSURE_MAX = 3.5
"""Of 10, as systemd counts: what a server must keep of root's power leaves some."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)
needs_setpriv = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)


def analysed(*words: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def exposure(unit: Path) -> float:
    """Return what systemd says of a unit."""
    told = analysed("security", "--offline=yes", "--no-pager", str(unit))
    found = re.search(r"exposure level for \S+: ([0-9.]+)", told)
    assert found is not None
    return float(found[1])


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """All units together, templates as one of their instances."""
    for unit in UNITS.iterdir():
        shutil.copy(unit, tmp_path / unit.name.replace("@.", "@web."))
    units = sorted(map(str, tmp_path.iterdir()))
    assert len(units) >= 5
    assert analysed("verify", "--man=no", *units).strip() == ""


@needs_systemd
@pytest.mark.parametrize("name", ASKING)
def test_who_only_asks_is_exposed_to_next_to_nothing(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name.replace("@.", "@web.")
    shutil.copy(UNITS / name, unit)
    assert exposure(unit) <= 2.0


@pytest.mark.parametrize("name", ASKING)
def test_a_units_command_is_one_that_netsync_has(name: str) -> None:
    """Down to its options: what stands in ExecStart is understood."""
    (line,) = re.findall(r"^ExecStart=/usr/bin/env netsync (.+)$", (UNITS / name).read_text(), re.M)
    words = line.replace("%i", "web").replace("/etc/netsync/netsync.toml", "/nowhere/netsync.toml")
    result = netsync(*words.split())
    assert "/nowhere/netsync.toml" in result.stdout + result.stderr
    assert "No such" not in result.stderr.replace("No such file", "")


@needs_systemd
def test_the_server_is_exposed_to_little() -> None:
    assert exposure(UNIT) <= EXPOSURE_MAX


def test_a_stop_signals_the_daemon_and_not_its_hooks() -> None:
    assert "\nKillMode=mixed\n" in UNIT.read_text()


def capabilities() -> list[str]:
    """Return the capabilities that the unit leaves, as setpriv names them."""
    (line,) = re.findall(r"^CapabilityBoundingSet=(.+)$", UNIT.read_text(), re.MULTILINE)
    return [name.removeprefix("CAP_").lower() for name in line.split()]


@needs_setpriv
def test_metadata_is_kept_with_the_capabilities_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owners, modes, times and attributes arrive where the server has nothing else of root's."""
    kept = ",".join(f"+{name}" for name in capabilities())
    wrapper = tmp_path / "python"
    words = f"exec setpriv --no-new-privs --bounding-set=-all,{kept} --inh-caps=-all"
    wrapper.write_text(f'#!/bin/sh\n{words} {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    source = make_tree(tmp_path / "source", {"a": b"1", "d": {"b": b"2"}})
    os.chown(source / "d" / "b", 1234, 4321)
    (source / "a").chmod(0o4750)
    os.setxattr(source / "a", "user.note", b"1")
    os.mkfifo(source / "fifo")
    target = tmp_path / "target"
    target.mkdir()
    monkeypatch.setattr(sys, "executable", str(wrapper))
    with serving("--module", f"m={target}") as server:
        succeed("push", f"{source}/", server.url("m"))
    status = (target / "d" / "b").stat()
    assert (status.st_uid, status.st_gid) == (1234, 4321)
    assert (target / "a").stat().st_mode & 0o7777 == 0o4750
    assert os.getxattr(target / "a", "user.note") == b"1"
    assert (target / "fifo").is_fifo()

"""What the figures depend on: the machine, the programs, the file systems, the commit."""

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prepare.processes import environment, run, stream
from prepare.venv import ROOT

ANY = range(256)


def note(netsync: Sequence[str], cache: Path) -> dict[str, Any]:
    """netsync's own --version names its Python, its OpenSSL and its kernel."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_mib": memory >> 20,
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "python": _python(),
        "openssl": _first(["openssl", "version"]).partition("(")[0].strip(),
        "rsync": " ".join(_first(["rsync", "--version"]).split()[:3]),
        "stunnel": _stunnel(),
        "ssh": _first(["ssh", "-V"]).partition(",")[0],
        "netsync": run([*netsync, "--version"]).strip() if netsync else None,
        "commit": _commit(),
        "file_systems": {
            "sources": _file_system(cache),
            "memory": "tmpfs",
            "disk": f"ext4 on a loop device in {_file_system(cache)}",
        },
    }


def _python() -> str:
    """The interpreter that netsync is installed with, unless another netsync was named."""
    of_the_system = sys.base_prefix == "/usr"
    return platform.python_version() + (" of the distribution" if of_the_system else "")


def _first(command: Sequence[str]) -> str:
    """The first line that a program says, on whichever stream; empty if it is not there."""
    if not shutil.which(command[0]):
        return ""
    lines = list(stream(command, cwd=Path("/"), env=environment()))
    return lines[0].strip() if lines else ""


def _stunnel() -> str:
    """stunnel tells its version after a line about its configuration, as `stunnel 5.68 on ...`."""
    program = shutil.which("stunnel") or shutil.which("stunnel4")
    if not program:
        return ""
    for line in stream([program, "-version"], cwd=Path("/"), env=environment()):
        _, found, rest = line.partition("stunnel ")
        if found and rest[:1].isdigit():
            return f"stunnel {rest.split()[0]}"
    return ""


def _commit() -> str | None:
    """The commit, with a plus sign when tracked files differ from it; None outside of git."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return None
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    commit = run([*git, "rev-parse", "HEAD"], accept=ANY).strip()
    changed = run([*git, "status", "--porcelain", "-uno"], accept=ANY).strip()
    return (commit + ("+" if changed else "")) or None


def _file_system(path: Path) -> str:
    while not path.exists():
        path = path.parent
    return run(["stat", "-f", "-c", "%T", path]).strip()

"""Debian packages: which are missing, and installing them when this is root."""

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from prepare.processes import StepError, environment, run, say, step


def packages_for(programs: Mapping[str, str]) -> list[str]:
    """The packages whose program is not found; keys are programs, values packages."""
    places = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    absent = (programs[name] for name in programs if not shutil.which(name, path=places))
    return sorted(set(absent))


def packages_for_venv() -> list[str]:
    """Debian keeps the module that puts pip into an environment in a package of its own."""
    if importlib.util.find_spec("ensurepip"):
        return []
    return [f"python3.{sys.version_info.minor}-venv"]


def packages_for_compiling() -> list[str]:
    """What the compiled delta kernel needs: a C compiler, libc's and Python's headers."""
    packages = packages_for({"gcc": "gcc"})
    if not Path("/usr/include/stdio.h").exists():
        packages.append("libc6-dev")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        packages.append(f"python3.{sys.version_info.minor}-dev")
    return packages


def packages_for_mounting() -> list[str]:
    """What pyfuse3 is built with, where the index has it as a source only."""
    packages = packages_for({"pkg-config": "pkg-config"})
    if not Path("/usr/include/fuse3/fuse.h").exists():
        packages.append("libfuse3-dev")
    return packages


def ensure(packages: Iterable[str], purpose: str, *, required: bool) -> None:
    """Install them when root; else say what to type, and end here if they are required."""
    names = sorted(set(packages))
    if not names:
        return
    advice = f"{purpose}: please install: sudo apt-get install {' '.join(names)}"
    problem = advice
    if os.geteuid() == 0 and shutil.which("apt-get"):
        problem = _install(names)
        if not problem:
            return
    if required:
        raise StepError(f"{problem}\n{advice}" if problem != advice else advice)
    say(f"warning: {advice}")


def _install(names: list[str]) -> str:
    """Empty when installed, else what apt-get said."""
    quiet = environment(DEBIAN_FRONTEND="noninteractive")
    try:
        with step(f"apt-get install {' '.join(names)}"):
            # A stale list of some other repository must not stop us: the install decides.
            run(["apt-get", "-qq", "update"], env=quiet, accept=range(256))
            flags = ["-y", "-qq", "--no-install-recommends"]
            run(["apt-get", "install", *flags, *names], env=quiet)
    except StepError as failure:
        return str(failure)
    return ""

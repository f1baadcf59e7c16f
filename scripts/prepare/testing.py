"""The environment that the tests run in, made where it is not there: `.venv-test` in the clone."""

import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Final

from prepare import debian, venv
from prepare.processes import StepError, environment, run, step

PLACE: Final = venv.ROOT / ".venv-test"
KERNEL: Final = (
    "import netsync.delta.kernel as k, netsync.net.records as r, sys; "
    "pure = [each.__name__ for each in (k, r) if each.NAME != 'compiled']; "
    "sys.exit(f'not compiled: {pure}' if pure else None)"
)
PROGRAMS: Final = {
    "rsync": "rsync",
    "setfacl": "acl",
    "setfattr": "attr",
    "debugfs": "e2fsprogs",
    "git": "git",
    "fusermount3": "fuse3",
    "pg_ctlcluster": "postgresql",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.xfs": "xfsprogs",
    "mount": "mount",
    "strace": "strace",
    "systemd-analyze": "systemd",
}
"""Programs that tests use, and the Debian packages that have them."""
NEEDED: Final = ("netsync", "trio", "inotify_simple", "pytest")
"""Modules that an interpreter has in which scripts for who changes the code can run."""


def enter(*more: str) -> None:
    """Go on in that environment, unless this interpreter is one in which all is there.

    ``more`` are packages, named as their modules, that few need: they are added to it.
    """
    if all(importlib.util.find_spec(name) for name in (*NEEDED, *more)):
        return
    try:
        python = prepare_environment()
        for name in more:
            with step(name):
                venv.pip_install(python, name)
    except StepError as error:
        raise SystemExit(str(error)) from None
    os.execv(python, [str(python), *sys.argv])  # noqa: S606 - our own words


def prepare_environment() -> Path:
    """The kept environment, made anew when what it was made from has changed."""
    building = [*debian.packages_for_compiling(), *debian.packages_for_mounting()]
    debian.ensure(building, "to compile the kernel and what mounts", required=True)
    wanted = venv.fingerprint("pyproject.toml", "netsync/**/*.pyx")
    python = venv.python_of(PLACE)
    with step("environment") as remarks:
        if not (venv.is_current(PLACE, wanted) and kernel_is_compiled(python)):
            remarks.append("installed")
            python = venv.create(PLACE)
            venv.pip_install(python, "--editable", f"{venv.ROOT}[dev]")
            run([python, "-c", KERNEL], cwd=venv.ROOT, env=environment(NETSYNC_KERNEL="compiled"))
            venv.mark_current(PLACE, wanted)
        remarks.append(f"{PLACE.name}, Python {platform.python_version()}, kernel compiled")
    return python


def kernel_is_compiled(python: Path) -> bool:
    try:
        run([python, "-c", KERNEL], cwd=venv.ROOT, env=environment(NETSYNC_KERNEL="compiled"))
    except StepError:
        return False
    return True

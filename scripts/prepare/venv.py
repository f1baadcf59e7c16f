"""Virtual environments with netsync in them."""

import hashlib
import shutil
import sys
from pathlib import Path

from prepare.debian import ensure, packages_for_venv
from prepare.processes import Command, run

ROOT = Path(__file__).resolve().parents[2]
STAMP = "netsync-installed-from"


def create(directory: Path) -> Path:
    """A new environment in place of any old one; returns its Python."""
    ensure(packages_for_venv(), "to make a virtual environment", required=True)
    shutil.rmtree(directory, ignore_errors=True)
    run([sys.executable, "-m", "venv", directory])
    return python_of(directory)


def python_of(directory: Path) -> Path:
    return directory / "bin" / "python"


def pip_install(python: Path, *what: str | Path) -> None:
    pip: Command = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    run([*pip, "install", *what])


def copy_of_the_clone(directory: Path) -> Path:
    """What a build needs, copied: building there leaves nothing behind in the clone."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.so", "_kernel.c", "*.egg-info")
    shutil.copytree(ROOT / "netsync", directory / "netsync", ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, directory / name)
    return directory


def fingerprint(*patterns: str) -> str:
    """Changes when the interpreter, the clone's place or any of these files of it changes."""
    state = hashlib.sha256(f"{sys.version}\n{sys.executable}\n{ROOT}\n".encode())
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            state.update(f"{path.relative_to(ROOT)}\n".encode())
            state.update(path.read_bytes())
    return state.hexdigest()


def is_current(directory: Path, wanted: str) -> bool:
    stamp = directory / STAMP
    return stamp.is_file() and stamp.read_text() == wanted and python_of(directory).exists()


def mark_current(directory: Path, wanted: str) -> None:
    (directory / STAMP).write_text(wanted)

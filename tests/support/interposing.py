"""netsync among system calls that behave oddly: a library preloaded into it, made by the test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def build(base: Path) -> Path:
    """Compile ``shim.c`` and return the library."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    library = base / "shim.so"
    source = Path(__file__).with_name("shim.c")
    words = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(source)]
    subprocess.run(words, check=True)
    return library


def within(library: Path, **wishes: object) -> list[str]:
    """Return the words that run a command with the library, which does as is wished."""
    told = [f"SHIM_{name.upper()}={value}" for name, value in wishes.items()]
    return ["env", f"LD_PRELOAD={library}", *told]

"""Which of two twins runs: the compiled module where it was built, else the pure one.

One environment variable decides for the whole process, so that tests can hold both and a user
can rule the compiled code out. It is read once, when a twin is first imported.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Final

from netsync.errors import ConfigError

VARIABLE: Final = "NETSYNC_KERNEL"
"""``compiled`` or ``pure``; empty takes the best there is."""


def choose(compiled: str, pure: str, wish: str | None = None) -> ModuleType:
    """Import the module that ``wish`` (by default the variable) asks for.

    Raises ``ConfigError`` for another word, and when the compiled module is asked for by name
    and is not there. Nothing but its absence falls back: one that is broken must be seen.
    """
    wish = os.environ.get(VARIABLE, "") if wish is None else wish
    if wish not in ("", "compiled", "pure"):
        raise ConfigError("it must be 'compiled' or 'pure'", op="read", where=f"{VARIABLE}={wish}")
    if wish != "pure":
        try:
            return importlib.import_module(compiled)
        except ImportError as error:
            if wish == "compiled":
                raise ConfigError(
                    f"the compiled module is not there: {error}",
                    op="use",
                    where=f"{VARIABLE}=compiled",
                    hint="install netsync where a C compiler is",
                ) from error
    return importlib.import_module(pure)

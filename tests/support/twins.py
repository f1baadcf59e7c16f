"""Twins: a compiled module and its pure one, which one contract suite holds to the same."""

from __future__ import annotations

import os
from typing import Final

from netsync.choice import VARIABLE

WISHED: Final = ["pure"] if os.environ.get(VARIABLE) == "pure" else ["pure", "compiled"]
"""Those that this run tests; the last is the one in use."""

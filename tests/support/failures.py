"""Expecting an error of the operating system by its number."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def os_error(*numbers: int) -> Iterator[None]:
    """Expect the body to fail with one of these error numbers."""
    names = " or ".join(errno.errorcode[number] for number in numbers)
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            pytest.fail(f"{error} is not {names}")
    else:
        pytest.fail(f"did not fail with {names}")

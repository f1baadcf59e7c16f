"""Cutting lists so that each part fits a frame, whatever the peer's or the user's names are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

BATCH_BYTES: Final = 128 * 1024
"""Estimated bytes of one part; with the largest single element still below a frame's limit."""

Element = TypeVar("Element")


def batches(
    elements: Iterable[Element], cost: Callable[[Element], int], most: int
) -> Iterator[list[Element]]:
    """Yield ``elements`` in parts of at most ``most`` elements and about ``BATCH_BYTES``.

    ``cost`` estimates an element's bytes; an element alone may exceed the bound.
    """
    part: list[Element] = []
    size = 0
    for element in elements:
        bytes_here = cost(element)
        if part and (size + bytes_here > BATCH_BYTES or len(part) >= most):
            yield part
            part, size = [], 0
        part.append(element)
        size += bytes_here
    if part:
        yield part

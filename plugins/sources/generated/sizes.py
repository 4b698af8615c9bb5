"""How large a generated row can be: as large as fits into the length that was asked for."""

from __future__ import annotations

from collections.abc import Callable

from harness import DataError


def greatest_size(fits: Callable[[int], bool], length: int, task: str, smallest: int = 1) -> int:
    """The greatest size that fits, found between doublings of the smallest one that makes a row.

    Raises `DataError`, which names the length and the task, where not even that one fits.
    """
    if not fits(smallest):
        raise DataError(f"dataset_kwargs: length {length} is too short for {task}")
    least, most = smallest, smallest * 2
    while fits(most):
        least, most = most, most * 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(middle) else (least, middle)
    return least

"""Makes the next item while the one before it is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each from the second on made by a thread meanwhile. What making one raises is raised in its place."""
    pool = ThreadPoolExecutor(1, "harness-prefetch")
    end = object()
    try:
        item = next(items, end)
        while item is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
            item = coming.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

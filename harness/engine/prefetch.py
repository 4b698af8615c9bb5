"""Makes the next item while the one before it is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetched(items: Iterator[Item], begun: threading.Event) -> Iterator[Item]:
    """The items, each from the second on made by a thread meanwhile. What making one raises is raised in its place.

    The second one is made once something was `begun` with the first: what is waited for then has all cores.
    """
    pool = ThreadPoolExecutor(1, "harness-prefetch")
    end = object()

    def following() -> object:
        begun.wait()
        return next(items, end)

    try:
        item: object = next(items, end)
        while item is not end:
            coming = pool.submit(following)
            yield item  # type: ignore[misc]
            begun.set()
            item = coming.result()
    finally:
        begun.set()
        pool.shutdown(wait=False, cancel_futures=True)

"""Vectors of texts and images, each computed once while it is remembered, and how alike two of them are."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
_MOST = 16_384


class Vectors(Generic[K]):
    """The vectors that were asked for last: of length 1, float32, in main memory.

    Golds and images come back from sample to sample; answers do not, so that a bounded memory is as good as a full one.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._known: OrderedDict[K, Any] = OrderedDict()
        self._most = most

    def of(self, wanted: Iterable[K], compute: Callable[[Sequence[K]], Mapping[K, Any]]) -> dict[K, Any]:
        """The value of every item; `compute` is given each that is not known, once."""
        items = dict.fromkeys(wanted)
        missing = [item for item in items if item not in self._known]
        computed = compute(missing) if missing else {}
        values = {item: computed[item] if item in computed else self._known[item] for item in items}
        for item, value in values.items():
            self._known[item] = value
            self._known.move_to_end(item)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return values

    def __contains__(self, item: K) -> bool:
        return item in self._known

    def clear(self) -> None:
        self._known.clear()


def unit_rows(vectors: Any) -> list[Any]:
    """The rows of a tensor [n, width], each divided by its length, in main memory as float32. A zero row becomes NaN:
    it points nowhere, and what is like it cannot be said."""
    vectors = vectors.float().cpu()
    return list(vectors / vectors.norm(dim=-1, keepdim=True))


def cosine(first: Any, second: Any) -> float:
    """Of two vectors of length 1."""
    return float(first @ second)


def nearest(vector: Any, others: Sequence[Any]) -> float:
    """The largest cosine, and NaN where one is none: what cannot be compared must not be passed over."""
    cosines = [cosine(vector, other) for other in others]
    return math.nan if any(map(math.isnan, cosines)) else max(cosines)

"""What metrics of whole sets keep: the values are the same wherever the items lie."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from harness import CorpusMetric, Observation
from harness.scoring.corpus import measure
from harness.scoring.set_items import SetItems

SIZE = 700
ITEMS: dict[str, Callable[[int], Any]] = {
    "numbers": lambda n: (n * 0.5, n % 7, n % 2 == 0),
    "few different ones": lambda n: (("yes", "no")[n % 2], None),
    "alike but not the same": lambda n: ((1, 1.0, True)[n % 3],),
    "a number too large": lambda n: (n if n < 300 else 1 << 70,),
    "numbers and then none": lambda n: (n, None if n == 500 else n),
    "lists": lambda n: ["a", n],
    "many different texts": str,
    "what cannot be written": lambda n: threading.Lock() if n == 400 else n,
}


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("harness.spool", "harness.scoring.set_items"):
        monkeypatch.setattr(f"{module}.FEW", 100)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("kind", ITEMS)
def test_items_come_back_as_they_were(kind: str) -> None:
    given = [ITEMS[kind](number) for number in range(SIZE)]
    items = SetItems()
    items.extend(given)
    order = np.random.default_rng(0).integers(0, SIZE, SIZE)

    def same(found: Sequence[Any], wanted: Sequence[Any]) -> None:
        assert len(found) == len(wanted)
        if kind != "what cannot be written":
            assert list(map(repr, found)) == list(map(repr, wanted))
            assert repr(found[-1]) == repr(wanted[-1]) and repr(list(found[2:5])) == repr(wanted[2:5])

    same(items.all(), given)
    same(items.picked(order), [given[place] for place in order])
    assert not isinstance(items.picked(order), list)


class Drift(CorpusMetric):
    """A value that the order of the items decides."""

    name = "drift"
    resamples = 20

    @property
    def identity(self) -> Mapping[str, Any]:
        return {}

    def item(self, seen: Observation) -> None:
        return None

    def measure(self, items: Sequence[Any]) -> float:
        value = 0.0
        for item in items:
            value = math.sin(value + len(str(item)) + hash(repr(item)) % 100)
        return value


@pytest.mark.parametrize("kind", [kind for kind in ITEMS if kind != "what cannot be written"])
@pytest.mark.parametrize("of_cluster", [1, 3])
def test_values_and_errors_do_not_hang_on_where_items_lie(
    kind: str, of_cluster: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clusters = array("q", (number * 7919 % SIZE // of_cluster for number in range(SIZE)))
    given = [ITEMS[kind](number) for number in range(SIZE)]
    # As it is defined: clusters in the order in which they came first, drawn with replacement.
    units: dict[int, list[Any]] = {}
    for item, cluster in zip(given, clusters, strict=True):
        units.setdefault(cluster, []).append(item)
    members, generator = list(units.values()), np.random.default_rng(1234)
    draws = []
    for _ in range(Drift.resamples):
        picks = generator.integers(0, len(members), len(members))
        draws.append(Drift().measure([item for pick in picks for item in members[pick]]))
    for few in (100, 20_000):
        for module in ("harness.spool", "harness.scoring.set_items"):
            monkeypatch.setattr(f"{module}.FEW", few)
        items = SetItems()
        items.extend(given)
        estimate = measure(Drift(), items, clusters)[""].estimate
        assert estimate is not None and estimate.value == Drift().measure(given)
        assert estimate.stderr == float(np.array(draws).std(ddof=1))

"""Values of metrics that see a whole set at once (`CorpusMetric`), with a bootstrapped error where one is asked for."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.metrics import CorpusMetric, SetValue
from harness.plugin_values import integer, number, text
from harness.quick import dataclass
from harness.scoring.set_items import SetItems
from harness.scoring.statistics.estimates import SEED, Estimate, from_draws, macro_estimate


@dataclass(frozen=True, slots=True)
class SetEstimate:
    """A `SetValue` with its error; estimate: None where there is no value."""

    estimate: Estimate | None
    unknown: int = 0


Measured = Mapping[str, SetEstimate]
"""Name of a value (empty for the metric's only one) -> what was measured."""


def measure(metric: CorpusMetric, items: SetItems, clusters: array[int]) -> Measured:
    """All values of the set `items`, n > 0; `clusters` holds one integer an item, equal within a cluster.

    Raises whatever the metric raises, `ValueError` where a value is not finite, and `TypeError` where it is no number.
    """
    values = _values(metric, items.all())
    draws = _draws(metric, items, clusters) if metric.resamples > 1 else []
    estimates = {}
    for name, (value, unknown) in values.items():
        known = [draw[name] for draw in draws if name in draw]
        # No error where a resample lacks the value: what is left would look surer than it is.
        is_known = bool(draws) and len(known) == len(draws)
        estimate = None if value is None else from_draws(value, np.array(known)) if is_known else Estimate(value)
        estimates[name] = SetEstimate(estimate, unknown)
    return estimates


def mean_of(parts: Sequence[Measured]) -> Measured:
    """The unweighted mean over sets, of each value that all of them name; a set in which it is null does not count."""
    found = {}
    for name in (name for name in parts[0] if all(name in part for part in parts)):
        known = [estimate for part in parts if (estimate := part[name].estimate) is not None]
        found[name] = SetEstimate(macro_estimate(known) if known else None, sum(part[name].unknown for part in parts))
    return found


def _values(metric: CorpusMetric, items: Sequence[Any]) -> dict[str, tuple[float | None, int]]:
    """Name -> (value, how many groups of samples it leaves out)."""
    given: object = metric.measure(items)
    if not isinstance(given, Mapping):
        return {"": _value(given, "what measure gave")}
    values = {
        text(name, "a name that measure gave"): _value(value, str(name) or "the value") for name, value in given.items()
    }
    return {"" if name == metric.name else name: value for name, value in values.items()}


def _value(given: object, what: str) -> tuple[float | None, int]:
    if not isinstance(given, SetValue):
        return number(given, what), 0
    return None if given.value is None else number(given.value, what), integer(given.unknown, f"unknown of {what}")


def _draws(metric: CorpusMetric, items: SetItems, clusters: array[int]) -> list[dict[str, float]]:
    """The values of resamples of clusters. One that has none (a label was not drawn, for example) is empty."""
    _, firsts, unit_of, sizes = np.unique(
        np.frombuffer(clusters, dtype=np.int64), return_index=True, return_inverse=True, return_counts=True
    )
    if len(firsts) < 2:
        return []
    items.in_memory()
    # Clusters count in the order in which they came first; the items of one come in their own.
    by_first = np.argsort(firsts)
    rank = np.empty_like(by_first)
    rank[by_first] = np.arange(len(by_first))
    members, sizes = np.argsort(rank[unit_of], kind="stable"), sizes[by_first]
    starts = np.cumsum(sizes) - sizes
    generator = np.random.default_rng(SEED)
    draws: list[dict[str, float]] = []
    for _ in range(metric.resamples):
        picks = generator.integers(0, len(firsts), len(firsts))
        drawn = sizes[picks]
        # Of each cluster that was drawn, its first member and those behind it.
        behind = np.arange(drawn.sum()) - np.repeat(np.cumsum(drawn) - drawn, drawn)
        try:
            values = _values(metric, items.picked(members[np.repeat(starts[picks], drawn) + behind]))
            draws.append({name: value for name, (value, _) in values.items() if value is not None})
        except Exception:
            draws.append({})
    return draws

"""Values of metrics that see a whole set at once (`CorpusMetric`), with a bootstrapped error where one is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.metrics import CorpusMetric
from harness.plugin_values import number, text
from harness.scoring.statistics.estimates import SEED, Estimate, from_draws, macro_estimate

Measured = Mapping[str, Estimate]
"""Name of a value (empty for the metric's only one) -> estimate."""


def measure(metric: CorpusMetric, items: Sequence[Any], clusters: Sequence[int]) -> Measured:
    """All values of the set `items`, n > 0; `clusters` holds one integer an item, equal within a cluster.

    Raises whatever the metric raises, `ValueError` where a value is not finite, and `TypeError` where it is no number.
    """
    values = _values(metric, items)
    units: dict[int, list[Any]] = {}
    for item, cluster in zip(items, clusters, strict=True):
        units.setdefault(cluster, []).append(item)
    if len(units) < 2 or metric.resamples < 2:
        return {name: Estimate(value) for name, value in values.items()}
    draws = _draws(metric, list(units.values()))
    estimates = {}
    for name, value in values.items():
        known = [draw[name] for draw in draws if name in draw]
        # No error where a resample lacks the value: what is left would look surer than it is.
        estimates[name] = Estimate(value) if len(known) < len(draws) else from_draws(value, np.array(known))
    return estimates


def mean_of(parts: Sequence[Measured]) -> Measured:
    """The unweighted mean over sets, of each value that all of them have."""
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: macro_estimate([part[name] for part in parts]) for name in names}


def _values(metric: CorpusMetric, items: Sequence[Any]) -> dict[str, float]:
    given: object = metric.measure(items)
    if not isinstance(given, Mapping):
        return {"": number(given, "what measure gave")}
    values = {
        text(name, "a name that measure gave"): number(value, str(name) or "the value") for name, value in given.items()
    }
    return {"" if name == metric.name else name: value for name, value in values.items()}


def _draws(metric: CorpusMetric, units: Sequence[Sequence[Any]]) -> list[dict[str, float]]:
    """The values of resamples. One that has none (a label was not drawn, for example) is empty."""
    generator = np.random.default_rng(SEED)
    draws: list[dict[str, float]] = []
    for _ in range(metric.resamples):
        picks = generator.integers(0, len(units), len(units))
        try:
            draws.append(_values(metric, [item for pick in picks for item in units[pick]]))
        except Exception:
            draws.append({})
    return draws

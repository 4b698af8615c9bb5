"""How answers that are numbers go along with gold numbers: Pearson's r, and Spearman's rho of their ranks.

An answer in which no number was read is counted as unparsed and left out of the value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness import CorpusMetric, Metric, Observation, hookimpl
from harness.scoring import gold_texts, rank_correlation

_ALL_THE_SAME, _TOO_CLOSE = 1e-14, 1e-10
"""Parts of the squares: a spread below the first is taken for rounding alone; below the second, rounding decides r."""


def _pair(seen: Observation) -> tuple[float, float] | None:
    """(mean of the answers, gold), or None where one of them is no number."""
    golds = gold_texts(seen.sample)
    try:
        answers = [float(answer) for answer in seen.predictions if answer is not None]
        return (sum(answers) / len(answers), float(golds[0])) if answers and golds else None
    except ValueError:
        return None


class Pearson(Metric):
    """Pearson's correlation coefficient over the whole set. Statistics of a sample: x, y, x², y², xy."""

    name = "pearson"
    output_types = frozenset({"generate_until"})
    aggregation = "self"
    bounds = (-1.0, 1.0)

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        pair = _pair(seen)
        return pair and (pair[0], pair[1], pair[0] ** 2, pair[1] ** 2, pair[0] * pair[1])

    def from_means(self, means: tuple[float, ...]) -> float:
        x, y, xx, yy, xy = means
        # Which part of the squares is spread, whatever the unit: of numbers that are all the same, only rounding.
        shares = [(square - mean * mean) / square if square else 0.0 for mean, square in ((x, xx), (y, yy))]
        if min(shares) < _ALL_THE_SAME:
            return 0.0
        if min(shares) < _TOO_CLOSE:
            raise ValueError("the numbers lie too close together for their size: subtract what they have in common")
        return max(-1.0, min(1.0, (xy - x * y) / math.sqrt(shares[0] * xx * shares[1] * yy)))


class Spearman(CorpusMetric):
    """Spearman's rank correlation over the whole set; equal numbers share the mean of their ranks."""

    name = "spearman"
    output_types = frozenset({"generate_until"})
    bounds = (-1.0, 1.0)
    resamples = 200

    @property
    def identity(self) -> Mapping[str, Any]:
        return {}

    def item(self, seen: Observation) -> tuple[float, float] | None:
        return _pair(seen)

    def measure(self, items: Sequence[tuple[float, float]]) -> float:
        rho = rank_correlation(items)
        return 0.0 if math.isnan(rho) else rho


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [Pearson, Spearman]

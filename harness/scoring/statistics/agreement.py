"""How far judges agree, beyond chance: Krippendorff's alpha of several, and of two weighted kappa and rank correlation.

    krippendorff_alpha([[7, 8], [3, 3], [9, None]], "interval").value
    weighted_kappa(np.array([[7, 8], [3, 3], [9, 10]])).value

K. Krippendorff, Content Analysis (4th ed., 2018), chapter 12: alpha = 1 - D_o / D_e, the disagreement that was observed
over the disagreement that chance would give. It takes any number of judges, and samples that some of them left out.
1 is agreement throughout, 0 is what chance gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from harness.scoring.statistics.estimates import Clusters, Estimate, Floats, FromSums, opaque_estimate, own_estimate

Level = Literal["nominal", "interval"]
Ratings = Sequence[Sequence[float | None]]


def krippendorff_alpha(ratings: Ratings, level: Level, clusters: Clusters = None) -> Estimate | None:
    """Alpha of `ratings`, one row a sample and one column a judge, with an interval from a bootstrap of the samples, or
    of clusters of them (an integer a row).

    level: `nominal` where two ratings are the same or not, `interval` where their distance counts, squared. A sample
    with fewer than two ratings says nothing. None where no two ratings differ, so that chance is not defined, or where
    fewer than two samples are left.
    """
    rows = [[value for value in row if value is not None] for row in ratings]
    if clusters is not None:
        clusters = clusters[[len(row) > 1 for row in rows]]
    rows = [row for row in rows if len(row) > 1]
    values = sorted({value for row in rows for value in row})
    if len(rows) < 2 or len(values) < 2:
        return None
    # Where resamples may hold one value only, their alpha is not defined, and neither is the interval.
    statistics, alpha = _nominal(rows, values) if level == "nominal" else _interval(rows, values)
    return _defined(own_estimate(statistics, alpha, clusters))


def weighted_kappa(pairs: Floats, clusters: Clusters = None) -> Estimate | None:
    """Cohen's kappa with quadratic weights, of pairs of shape [n, 2], with an interval from a bootstrap (of clusters).

    J. Cohen, Weighted kappa (Psychological Bulletin 70, 1968): 1 less the mean squared difference of the pairs over
    that of all pairs of a first with a second. The difference is that of the numbers themselves. None where all are
    one number, so that chance is not defined.
    """

    def kappa(sums: Sequence[float], n: int) -> float:
        squared, x, y, squares = sums
        chance = n * squares - 2 * x * y
        return 1 - n * squared / chance if chance > 1e-9 * max(1.0, n * squares) else math.nan

    middle = float(pairs.mean()) if len(pairs) else 0.0  # kappa does not change with the origin
    first, second = (pairs - middle).T if len(pairs) else (pairs, pairs)
    statistics = np.column_stack([(first - second) ** 2, first, second, first**2 + second**2])
    return _defined(own_estimate(statistics, kappa, clusters)) if len(pairs) else None


def rank_correlation(pairs: Sequence[tuple[float, ...]]) -> float:
    """Spearman's rho: Pearson's r of ranks, of which equal numbers share the mean. NaN where one side is constant."""
    if len(pairs) < 2:
        return math.nan
    table: Floats = np.fromiter(pairs, dtype=np.dtype((np.float64, 2)), count=len(pairs))
    x, y = _ranks(table[:, 0]), _ranks(table[:, 1])
    x, y = x - x.mean(), y - y.mean()
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / spread if spread > 0 else math.nan


def rank_estimate(pairs: Sequence[tuple[float, ...]]) -> Estimate | None:
    """Spearman's rho with an interval from a bootstrap of the pairs; None where it is not defined."""
    return _defined(opaque_estimate(list(pairs), rank_correlation)) if pairs else None


def _ranks(values: Floats) -> Floats:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places], dtype=np.float64)


def _defined(estimate: Estimate) -> Estimate | None:
    """The estimate, without an interval where some resamples have no value; None where it has none itself."""
    if not math.isfinite(estimate.value):
        return None
    known = estimate.interval is not None and all(map(math.isfinite, estimate.interval))
    return estimate if known else Estimate(estimate.value)


def equal_share(ratings: Ratings) -> tuple[float, int] | None:
    """(share of the samples on which all judges give the same rating, number of samples with a rating of each)."""
    whole = [row for row in ratings if len(row) > 1 and None not in row]
    return (sum(len(set(row)) == 1 for row in whole) / len(whole), len(whole)) if whole else None


def _nominal(rows: Sequence[Sequence[float]], values: Sequence[float]) -> tuple[Floats, FromSums]:
    """For each sample its observed disagreement and how often it was given each value, and alpha from their sums."""
    counts = np.array([[row.count(value) for value in values] for row in rows], dtype=np.float64)
    sizes = counts.sum(axis=1)
    observed = (counts * (sizes[:, None] - counts)).sum(axis=1) / (sizes - 1)

    def alpha(sums: Sequence[float], _: int) -> float:
        n = sum(sums[1:])
        return _alpha(sums[0], sum(count * (n - count) for count in sums[1:]), n)

    return np.column_stack([observed, counts]), alpha


def _interval(rows: Sequence[Sequence[float]], values: Sequence[float]) -> tuple[Floats, FromSums]:
    """For each sample its observed disagreement, its number of ratings, their sum and their sum of squares, and alpha
    from the sums of these."""
    middle = (values[0] + values[-1]) / 2  # alpha does not change with the origin; small numbers keep their digits
    shifted = [np.array(row) - middle for row in rows]
    sizes = np.array([len(row) for row in shifted], dtype=np.float64)
    sums = np.array([row.sum() for row in shifted])
    observed = np.array([2 * len(row) * ((row - row.mean()) ** 2).sum() / (len(row) - 1) for row in shifted])

    def alpha(totals: Sequence[float], _: int) -> float:
        disagreement, n, total, squares = totals
        return _alpha(disagreement, 2 * (n * squares - total**2), n)

    return np.column_stack([observed, sizes, sums, [(row**2).sum() for row in shifted]]), alpha


def _alpha(observed: float, chance: float, n: float) -> float:
    """`observed` and `chance` are sums over ordered pairs of ratings, within a sample and within the whole."""
    return 1 - (n - 1) * observed / chance if chance > 1e-9 else math.nan

"""How sure a number is: standard errors in closed form, clustered, or by bootstrap, and 95 % intervals.

Formulas (n samples, G clusters; a sample without a cluster is a cluster of its own):

mean        se = s / sqrt(n), s the sample standard deviation. Clustered: the sum of the deviations within each cluster
            takes the place of the single deviation, se^2 = G / (G - 1) * sum_g (sum_{i in g} (x_i - mean))^2 / n^2
            (cluster-robust variance; with clusters of one it is s^2 / n). Interval of 0/1 scores: Wilson, with the
            effective n = p (1 - p) / se^2 where the samples are clustered. Interval of other scores: Student's t.
median      bootstrap. Without clusters exact draws from the bootstrap distribution: a resample's k-th order statistic
            is the sample's at a Beta-distributed rank, so that no resample is formed.
own value   (corpus BLEU, a ratio, a perplexity: a function of summed statistics) bootstrap over the statistics, 1,000
            resamples, percentile interval; beyond 20,000 samples by the delta method, whose difference from it is of
            the order 1 / n.
distance    (a calibration error: an own value that noise alone makes positive) standard error by the same bootstrap, of
            normal sums beyond 20,000 samples. A resample is farther from zero than the sample by about as much as the
            sample is than the truth, so the interval is the basic one, 2 value - quantiles (A. C. Davison and D. V.
            Hinkley, Bootstrap Methods and their Application, 1997, section 5.2). It begins at 0 where noise alone
            reaches the value in more than 2.5 % of resamples.
macro       mean of k values with independent errors: se = sqrt(sum se_i^2) / k. Interval of scores from 0 to 1: Wilson,
            with the effective n = v (1 - v) / se^2, which is as sure as the error says and not empty near 0 and 1.
            Where no score within any of the k differs, n is that of the k intervals, 1 / n = sum 1 / (k^2 n_i).
            Interval of other scores: normal.

Every bootstrap has the same fixed seed: the same scores give the same error.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from harness.quick import dataclass

Floats = npt.NDArray[np.float64]
Clusters = npt.NDArray[np.int64] | None
FromSums = Callable[[tuple[float, ...], int], float]

SEED = 1234
RESAMPLES = 1000
BOOTSTRAP_LIMIT = 20_000
LEVEL = 0.95
_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
_CHUNK = 4_000_000  # weights held at once, 32 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its standard error and 95 % interval, which are None where they are not defined."""

    value: float
    stderr: float | None = None
    interval: tuple[float, float] | None = None


def mean_estimate(values: Floats, clusters: Clusters = None) -> Estimate:
    """Mean of scores, shape [n], n > 0. `clusters`: one integer a score, equal within a cluster."""
    mean = float(values.mean())
    stderr = mean_stderr(values, clusters)
    if stderr is None:
        return Estimate(mean)
    units = _count_clusters(values, clusters)
    if bool(np.isin(values, (0.0, 1.0)).all()):
        correlated = clusters is not None and stderr != 0.0 and 0.0 < mean < 1.0
        effective_size = mean * (1 - mean) / stderr**2 if correlated else units
        return Estimate(mean, stderr, wilson_interval(mean, effective_size))
    return _by_student(values, stderr, clusters)


def difference_estimate(values: Floats, clusters: Clusters = None) -> Estimate:
    """Mean of differences of two scores of a sample that lie from 0 to 1, shape [n], n > 0; see `mean_estimate`."""
    stderr = mean_stderr(values, clusters)
    if stderr is None or (clusters is not None and stderr > 0):
        return _by_student(values, stderr, clusters)
    if bool(np.isin(values, (-1.0, 0.0, 1.0)).all()):
        units = _count_clusters(values, clusters)
        wins, losses = (round(float(share.mean()) * units) for share in (values > 0, values < 0))
        return Estimate(float(values.mean()), stderr, agresti_min(wins, losses, units))
    return _by_student(values, stderr, clusters)


def _by_student(values: Floats, stderr: float | None, clusters: Clusters) -> Estimate:
    mean = float(values.mean())
    if stderr is None:
        return Estimate(mean)
    margin = student_t_quantile(0.5 + LEVEL / 2, _count_clusters(values, clusters) - 1) * stderr
    return Estimate(mean, stderr, (mean - margin, mean + margin))


def mean_stderr(values: Floats, clusters: Clusters = None) -> float | None:
    """Standard error of the mean of `values`, shape [n]; None for fewer than two samples or clusters."""
    n = len(values)
    deviations = values - values.mean()
    units = deviations if clusters is None else sums_by_cluster(deviations[:, None], clusters)[:, 0]
    if len(units) < 2:
        return None
    return math.sqrt(len(units) / (len(units) - 1) * float(units @ units)) / n


def wilson_interval(proportion: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, 1927). Lies within [0, 1] by construction."""
    centre = (proportion + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    margin = _Z / (1 + _Z**2 / n) * math.sqrt(proportion * (1 - proportion) / n + _Z**2 / (4 * n**2))
    return max(0.0, centre - margin), min(1.0, centre + margin)


def agresti_min(wins: int, losses: int, n: int) -> tuple[float, float]:
    """Interval of a difference of paired proportions: Wald's with half a sample added to each cell.

    A. Agresti and Y. Min, Statistics in Medicine 24 (2005). It is never empty, also where no sample differs.
    """
    better, worse, size = wins + 0.5, losses + 0.5, n + 2
    centre = (better - worse) / size
    margin = _Z * math.sqrt(better + worse - (better - worse) ** 2 / size) / size
    return max(-1.0, centre - margin), min(1.0, centre + margin)


def median_estimate(values: Floats, clusters: Clusters = None) -> Estimate:
    """Median (of an even number of scores: the mean of the middle two), shape [n], n > 0."""
    median = float(np.median(values))
    if _count_clusters(values, clusters) < 2:
        return Estimate(median)
    draws = _median_draws(values) if clusters is None else _clustered_median_draws(values, clusters)
    return from_draws(median, draws)


def quantile_interval(values: Floats, share: float) -> tuple[float, float | None] | None:
    """Interval of the quantile below which `share` of all values lie, from two of the sorted values, shape [n].

    Holds for any distribution: the number of values below a quantile is binomial (H. A. David and H. N. Nagaraja, Order
    Statistics, 3rd edition, 2003, section 7.1). The upper end is None where no value seen bounds it (the 99 % quantile
    of fewer than 368 values); the whole is None where none bounds it from below.
    """
    ordered, n = np.sort(values), len(values)
    ranks = np.arange(n + 1)
    logs = np.array([math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in ranks])
    below = np.cumsum(np.exp(logs + ranks * math.log(share) + (n - ranks) * math.log1p(-share)))
    tail = (1 - LEVEL) / 2
    low = int(np.searchsorted(below, tail, side="right"))  # P(at most low - 1 below) <= tail
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    if low < 1:
        return None
    return float(ordered[low - 1]), float(ordered[high - 1]) if high <= n else None


def own_estimate(statistics: Floats, from_sums: FromSums, clusters: Clusters = None) -> Estimate:
    """A function of summed statistics, shape [n, k]: `from_sums(sums, n)`."""
    value = from_sums(tuple(statistics.sum(axis=0).tolist()), len(statistics))
    if _count_clusters(statistics, clusters) < 2:
        return Estimate(value)
    if len(statistics) > BOOTSTRAP_LIMIT:
        return _delta_estimate(value, statistics, from_sums, clusters)
    return from_draws(value, bootstrap_draws(statistics, from_sums, clusters))


def distance_estimate(statistics: Floats, from_sums: FromSums, clusters: Clusters = None) -> Estimate:
    """A function of summed statistics, shape [n, k], that says how far they are from zero: `from_sums(sums, n)`."""
    value = from_sums(tuple(statistics.sum(axis=0).tolist()), len(statistics))
    if _count_clusters(statistics, clusters) < 2:
        return Estimate(value)
    resample = bootstrap_draws if len(statistics) <= BOOTSTRAP_LIMIT else _normal_draws
    draws = resample(statistics, from_sums, clusters)
    # Without their mean, statistics are moved from zero by noise alone.
    noise = resample(statistics - statistics.mean(axis=0), from_sums, clusters)
    low, high = np.quantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    by_chance = value <= np.quantile(noise, 0.5 + LEVEL / 2)
    interval = (0.0 if by_chance else max(0.0, float(2 * value - high)), max(value, float(2 * value - low)))
    return Estimate(value, float(draws.std(ddof=1)), interval)


def bootstrap_draws(
    statistics: Floats, from_sums: FromSums, clusters: Clusters = None, resamples: int = RESAMPLES, seed: int = SEED
) -> Floats:
    """The values of `resamples` resamples of the rows (or clusters of rows) of `statistics`, shape [n, k].

    A resample is a vector of multinomial weights; its sums are one row of a matrix product. No text is read again.
    """
    table = np.column_stack([statistics, np.ones(len(statistics))])
    if clusters is not None:
        table = sums_by_cluster(table, clusters)
    generator = np.random.default_rng(seed)
    units = len(table)
    draws: list[float] = []
    step = max(1, _CHUNK // units)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        weights = resample_weights(generator, units, count)
        draws += [from_sums(tuple(row[:-1]), round(row[-1])) for row in (weights @ table).tolist()]
    return np.array(draws)


def _normal_draws(statistics: Floats, from_sums: FromSums, clusters: Clusters = None) -> Floats:
    """What `bootstrap_draws` tends to as n grows: values of sums that are drawn from their normal distribution."""
    units = statistics if clusters is None else sums_by_cluster(statistics, clusters)
    covariance = np.atleast_2d(np.cov(units, rowvar=False)) * len(units)
    draws = np.random.default_rng(SEED).multivariate_normal(statistics.sum(axis=0), covariance, RESAMPLES)
    return np.array([from_sums(tuple(row), len(statistics)) for row in draws.tolist()])


def resample_weights(generator: np.random.Generator, units: int, count: int) -> Floats:
    """How often each unit is drawn in each of `count` resamples with replacement, shape [count, units]."""
    picks = generator.integers(0, units, (count, units)) + units * np.arange(count)[:, None]
    return np.bincount(picks.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)


def opaque_estimate(scores: list[tuple[float, ...]], aggregate: Callable[[list[tuple[float, ...]]], float]) -> Estimate:
    """A value that only `aggregate` can form from all scores. Bootstrapped with fewer resamples where n is large."""
    value = aggregate(scores)
    n = len(scores)
    if n < 2:
        return Estimate(value)
    resamples = min(RESAMPLES, max(50, 1_000_000 // n))
    generator = np.random.default_rng(SEED)
    picks = (generator.integers(0, n, n) for _ in range(resamples))
    return from_draws(value, np.array([aggregate([scores[i] for i in pick]) for pick in picks]))


def macro_estimate(parts: Sequence[Estimate], bounds: tuple[float, float] | None = None) -> Estimate:
    """The unweighted mean of independent values. No error where one of them has none. bounds: of the single scores."""
    k = len(parts)
    value = sum(part.value for part in parts) / k
    errors = [part.stderr for part in parts if part.stderr is not None]
    if len(errors) < k:
        return Estimate(value)
    stderr = math.sqrt(sum(error**2 for error in errors)) / k
    return Estimate(value, stderr, interval_of_mean(value, stderr, [(1 / k, part) for part in parts], bounds))


def interval_of_mean(
    value: float, stderr: float, parts: Sequence[tuple[float, Estimate]], bounds: tuple[float, float] | None
) -> tuple[float, float]:
    """The 95 % interval of a mean of independent values; parts: (weight, value), the weights add up to 1.

    bounds: of the single scores. The interval is within [0, 1] where they are.
    """
    if bounds != (0.0, 1.0) or not 0 <= value <= 1:
        return normal_interval(value, stderr)
    if stderr > 0 and 0 < value < 1:
        return wilson_interval(value, value * (1 - value) / stderr**2)
    # Wilson's interval of a value of 0 or 1 is z^2 / (n + z^2) wide.
    widths = [(weight, part.interval[1] - part.interval[0]) for weight, part in parts if part.interval is not None]
    if len(widths) < len(parts) or not all(0 < width < 1 for _, width in widths):
        return normal_interval(value, stderr)
    return wilson_interval(value, 1 / sum(weight**2 * width / (_Z**2 * (1 - width)) for weight, width in widths))


def normal_interval(value: float, stderr: float) -> tuple[float, float]:
    """The 95 % interval of a value whose error is normal."""
    return value - _Z * stderr, value + _Z * stderr


@functools.lru_cache(maxsize=1024)
def student_t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t for `probability` > 0.5, by bisection on its exact distribution function."""
    low, high = 0.0, 1.0
    while student_t_cdf(high, freedom) < probability:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_cdf(middle, freedom) < probability else (low, middle)
    return high


def student_t_cdf(t: float, freedom: int) -> float:
    """P(T <= t), t >= 0: the finite trigonometric series for integer degrees of freedom (Abramowitz, Stegun 26.7)."""
    if freedom > 2000:
        return NormalDist().cdf(t * (1 - 1 / (4 * freedom)) / math.sqrt(1 + t * t / (2 * freedom)))
    theta = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(theta)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 if odd else 1, freedom - 1, 2):
        term *= k / (k + 1) * cosine**2
        total += term
    inside = 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total
    return 0.5 + inside / 2


def _count_clusters(values: Floats, clusters: Clusters) -> int:
    return len(values) if clusters is None else len(np.unique(clusters))


def sums_by_cluster(table: Floats, clusters: npt.NDArray[np.int64]) -> Floats:
    """Column sums of each cluster's rows, shape [clusters, k]."""
    names, places = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(names), table.shape[1]))
    np.add.at(sums, places, table)
    return sums


def _median_draws(values: Floats) -> Floats:
    """Medians of resamples. The k-th smallest of n uniform draws is Beta(k, n - k + 1), and picks the rank."""
    generator = np.random.default_rng(SEED)
    ordered = np.sort(values)
    n = len(values)
    lower = (n + 1) // 2
    first = generator.beta(lower, n - lower + 1, RESAMPLES)
    draws = ordered[np.minimum((first * n).astype(np.int64), n - 1)]
    if n % 2:
        return draws
    # The next order statistic is the least of the n - lower draws that are left, uniform above the first.
    second = 1 - (1 - first) * generator.random(RESAMPLES) ** (1 / (n - lower))
    return np.asarray((draws + ordered[np.minimum((second * n).astype(np.int64), n - 1)]) / 2)


def _clustered_median_draws(values: Floats, clusters: npt.NDArray[np.int64]) -> Floats:
    generator = np.random.default_rng(SEED)
    names, places = np.unique(clusters, return_inverse=True)
    order = np.argsort(values, kind="stable")
    ordered, places = values[order], places[order]
    draws = []
    for _ in range(RESAMPLES):
        weights = np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names))[places]
        below = np.cumsum(weights)
        total = below[-1]
        low = ordered[np.searchsorted(below, (total + 1) // 2)]
        high = ordered[np.searchsorted(below, total // 2 + 1)]
        draws.append((low + high) / 2)
    return np.array(draws)


def _delta_estimate(value: float, statistics: Floats, from_sums: FromSums, clusters: Clusters) -> Estimate:
    """First-order error of a smooth function of means: the standard error of the rows' linear influence on it."""
    n, width = statistics.shape
    means = statistics.mean(axis=0)
    scale = np.maximum(np.abs(means), statistics.std(axis=0)) * 1e-4
    gradient = np.zeros(width)
    for column in np.flatnonzero(scale):
        shift = np.zeros(width)
        shift[column] = scale[column]
        above = from_sums(tuple(((means + shift) * n).tolist()), n)
        below = from_sums(tuple(((means - shift) * n).tolist()), n)
        gradient[column] = (above - below) / (2 * scale[column])
    stderr = mean_stderr(statistics @ gradient, clusters)
    if stderr is None:
        return Estimate(value)
    return Estimate(value, stderr, normal_interval(value, stderr))


def from_draws(value: float, draws: Floats) -> Estimate:
    """A value with the standard error and the percentile interval of its resamples, shape [resamples]."""
    low, high = np.quantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Estimate(value, float(draws.std(ddof=1)), (float(low), float(high)))

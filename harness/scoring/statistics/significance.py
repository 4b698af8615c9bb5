"""Tests of no difference, their correction where there are many, and what difference so many samples could show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from harness.scoring.statistics.estimates import SEED, Floats, sums_by_cluster

_NORMAL = NormalDist()
PERMUTATIONS = 10_000
_EXACT_FLIPS = 14  # up to 2^14 sign patterns are tried all


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given (S. Holm, 1979): the chance of any false finding stays below the level."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def mcnemar_p(wins: int, losses: int) -> float:
    """Two-sided exact McNemar test: a fair coin decides each of the samples on which the runs differ."""
    n, least = wins + losses, min(wins, losses)
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(least + 1)]
    top = max(logs)
    tail = top + math.log(math.fsum(math.exp(value - top) for value in logs)) - n * math.log(2)
    return min(1.0, 2 * math.exp(tail))


def permutation_p(
    differences: Floats, clusters: npt.NDArray[np.int64] | None = None, resamples: int = PERMUTATIONS, seed: int = SEED
) -> float:
    """Two-sided sign-flip test of a mean difference of zero; clusters are flipped whole.

    All sign patterns where there are at most 2^14, else `resamples` random ones, whose p-value counts the observed
    pattern too and so is never 0.
    """
    units = differences if clusters is None else sums_by_cluster(differences[:, None], clusters)[:, 0]
    units = units[units != 0]
    if len(units) == 0:
        return 1.0
    # Sums that are equal but for rounding count as equal.
    observed = abs(float(units.sum())) * (1 - 1e-12) - 1e-15
    if len(units) <= _EXACT_FLIPS:
        patterns = (np.arange(2 ** len(units))[:, None] >> np.arange(len(units))) & 1
        return float((np.abs((2 * patterns - 1) @ units) >= observed).mean())
    generator = np.random.default_rng(seed)
    step, few = max(1, 4_000_000 // len(units)), max(1, 500_000 // len(units))
    extreme = 0
    for start in range(0, resamples, step):
        signs = generator.integers(0, 2, (min(step, resamples - start), len(units)), dtype=np.int8)
        for row in range(0, len(signs), few):  # a product makes each sign a float of eight bytes
            extreme += int((np.abs((signs[row : row + few] * 2 - 1) @ units) >= observed).sum())
    return (extreme + 1) / (resamples + 1)


def columns_p(table: Floats, *, draws: int = 2000, seed: int = 0) -> float:
    """p of columns that do not differ, where a row is one question: the values of each row are permuted.

    table: [rows, columns]. The statistic is the variance of the columns' means; see Good, Permutation, Parametric and
    Bootstrap Tests of Hypotheses (2005), on randomised blocks.
    """
    rng = np.random.default_rng(seed)
    found = table.mean(0).var()
    as_far = sum(rng.permuted(table, axis=1).mean(0).var() >= found - 1e-12 for _ in range(draws))
    return float((1 + as_far) / (1 + draws))


def normal_p(difference: float, stderr: float) -> float:
    """Two-sided p-value of a difference with a known standard error."""
    if stderr == 0.0:
        return 1.0 if difference == 0.0 else 0.0
    return math.erfc(abs(difference) / (stderr * math.sqrt(2)))  # exact far out, where 1 - cdf is 0


def detectable_difference(stderr: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided test at `alpha` finds with probability `power`."""
    return (_NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(power)) * stderr


def samples_needed(deviation: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """How many pairs show a true `difference`, when paired differences have the standard deviation `deviation`."""
    if difference == 0:
        raise ValueError("no number of samples shows a difference of 0")
    return math.ceil((detectable_difference(deviation, alpha, power) / difference) ** 2)

"""Tests of whether a model knows an order that says nothing: each with its null distribution, one-sided.

    order_test(canonical, shuffled)      # log-likelihoods of shards of rows, and of the same rows in other orders
    rank_test(canonical, others)         # of single questions, and of the same with their options in other orders
    higher_test(rows, unseen)            # of rows, and of others that cannot have been seen

A model that never saw a benchmark has no reason to like its order of rows more than any other. Order of rows: Y. Oren
et al., Proving Test Set Contamination in Black Box Language Models (ICLR 2024), their sharded t-test. Order of options:
S. Ni et al., Training on the Benchmark Is Not All You Need (arXiv:2409.01790), here by ranks: their null is exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

from harness.quick import dataclass
from harness.scoring.statistics.estimates import student_t_cdf

FEWEST = 10
"""Ranks of so many questions are summed up by the normal distribution; of fewer, nothing is said."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """n: how many shards or questions it is of. effect: mean advantage of the canonical order, in nats or as a rank
    from -1/2 to 1/2. p: how likely so large an effect is under the null; None where nothing can be said."""

    __test__ = False  # no test of pytest's

    n: int
    effect: float | None
    p: float | None


def order_test(canonical: Sequence[float], shuffled: Sequence[Sequence[float]]) -> TestResult:
    """Student's t over shards, of the canonical order's log-likelihood less the mean of the others', one-sided."""
    gains = [one - math.fsum(others) / len(others) for one, others in zip(canonical, shuffled, strict=True) if others]
    n = len(gains)
    if n < 2:
        return TestResult(n, gains[0] if gains else None, None)
    mean = math.fsum(gains) / n
    variance = math.fsum((gain - mean) ** 2 for gain in gains) / (n - 1)
    if variance == 0:
        return TestResult(n, mean, None)
    t = mean / math.sqrt(variance / n)
    below = student_t_cdf(abs(t), n - 1)
    return TestResult(n, mean, 1 - below if t > 0 else below)


def rank_test(canonical: Sequence[float], others: Sequence[Sequence[float]]) -> TestResult:
    """The mean rank of the canonical order among the others of its question, each rank as likely as any under the null
    (ties in the middle); the sum of ranks is normal."""
    ranks, variance = [], 0.0
    for one, several in zip(canonical, others, strict=True):
        if several:
            below = sum(one > other for other in several) + sum(one == other for other in several) / 2
            ranks.append(below / len(several) - 0.5)
            variance += ((len(several) + 1) ** 2 - 1) / 12 / len(several) ** 2
    n = len(ranks)
    if n < FEWEST:
        return TestResult(n, math.fsum(ranks) / n if n else None, None)
    return TestResult(n, math.fsum(ranks) / n, NormalDist().cdf(-math.fsum(ranks) / math.sqrt(variance)))


def higher_test(rows: Sequence[float], unseen: Sequence[float]) -> TestResult:
    """Whether values of rows are higher than those of unseen ones (Mann and Whitney's U, one-sided, ties at their
    middle, normal with a correction for ties and for continuity). effect: how often one is higher, less 1/2; n: of
    the rows."""
    n, m = len(rows), len(unseen)
    if n < FEWEST or m < FEWEST:
        return TestResult(n, None, None)
    ordered = sorted([*rows, *unseen])
    rank_of: dict[float, float] = {}
    before, tied = 0, 0
    for value, group in itertools.groupby(ordered):
        size = len(list(group))
        rank_of[value] = before + (size + 1) / 2
        before += size
        tied += size**3 - size
    higher = math.fsum(rank_of[value] for value in rows) - n * (n + 1) / 2
    total = n + m
    variance = n * m / 12 * (total + 1 - tied / (total * (total - 1)))
    effect = higher / (n * m) - 0.5
    if variance <= 0:
        return TestResult(n, effect, None)
    return TestResult(n, effect, NormalDist().cdf((n * m / 2 + 0.5 - higher) / math.sqrt(variance)))

"""One-sided tests of a drop between two runs, against an allowance of more than nothing.

    excess_p(comparison, 0.01)        # small: the drop is larger than 0.01
    shortfall_p(comparison, 0.01)     # small: the drop is smaller than 0.01, so that the run is not inferior

A drop is how much worse the second run is, in the direction of the metric. Scores of 0 and 1 are tested by Tango's
score test of paired proportions (T. Tango, Statistics in Medicine 17 (1998), 891), which keeps its level where few
samples differ; a drop of more than nothing by the exact test that the comparison holds; other scores by Student's t.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from harness.scoring.statistics.estimates import student_t_cdf
from harness.scoring.statistics.paired import Comparison

_NORMAL = NormalDist()
_CONTINUITY = 0.5
"""By so many samples a count is taken to be nearer, as the normal distribution knows no steps. Without it one alarm in
fifteen is false where 40 samples differ in four, at a level of one in twenty."""


def drop_of(comparison: Comparison) -> float | None:
    """How much worse the second run is; negative where it is better."""
    if comparison.difference is None:
        return None
    return -comparison.difference if comparison.higher_is_better else comparison.difference


def excess_p(comparison: Comparison, allowed: float) -> float | None:
    """P-value of a true drop of at most `allowed`, against a larger one; None where no test is possible."""
    drop = drop_of(comparison)
    if drop is None or comparison.p_value is None:
        return None
    if allowed == 0:  # half of a two-sided test: exact where that is
        half = comparison.p_value / 2
        return half if drop > 0 else 1 - half if drop < 0 else 1.0
    statistic = _statistic(comparison, drop, allowed)
    return None if statistic is None else _probability_below(comparison, -statistic)


def shortfall_p(comparison: Comparison, margin: float) -> float | None:
    """P-value of a true drop of at least `margin` (> 0), against a smaller one; None where no test is possible."""
    drop = drop_of(comparison)
    if drop is None or comparison.p_value is None:
        return None
    if comparison.stderr == 0.0 and drop == 0.0 and comparison.test != "mcnemar":
        # No pair differs: nothing but their number says how rare a loss of the whole score may be.
        return (1 - min(margin, 1.0)) ** (comparison.units or comparison.n)
    statistic = _statistic(comparison, drop, margin)
    return None if statistic is None else _probability_below(comparison, statistic)


def power_of(comparison: Comparison, margin: float, alpha: float) -> float | None:
    """How probably `shortfall_p` would be below `alpha` if both runs were equally good."""
    error = _error_of_equals(comparison)
    if error is None:
        return None
    return _NORMAL.cdf(_less_a_step(comparison, margin) / error - _NORMAL.inv_cdf(1 - alpha))


def samples_for(comparison: Comparison, margin: float, alpha: float, power: float) -> int | None:
    """How many samples give `power_of` that power, where they are as these are."""
    error = _error_of_equals(comparison)
    if error is None or (distance := _less_a_step(comparison, margin)) <= 0:
        return None
    needed = (_NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)) * error / distance
    return math.ceil(comparison.n * needed**2)


def worst_drop(comparison: Comparison, alpha: float) -> float | None:
    """The largest drop that a one-sided test at `alpha` does not exclude; None where no test is possible."""
    drop = drop_of(comparison)
    if drop is None or shortfall_p(comparison, max(drop, 0.0) + 1e-9) is None:
        return None
    low = max(drop, 0.0)
    high = low + max(1e-6, 10 * (comparison.stderr or 0.0)) + 1 / comparison.n
    while (shortfall_p(comparison, high) or 0.0) > alpha and high < 1e6:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (shortfall_p(comparison, middle) or 0.0) > alpha else (low, middle)
    return high


def stderr_of_worst(comparison: Comparison, alpha: float) -> float | None:
    """The standard error by which a normal test at `alpha` excludes what `worst_drop` does; None where there is none.

    A mean over tasks is promised by these: of a small task in which next to nothing differs, its own standard error
    says that it is known exactly. The limits are joined as G. Y. Zou and A. Donner, Statistics in Medicine 27 (2008),
    1693, do.
    """
    level = min(alpha, 0.25)  # towards one half a limit says nothing of a standard error
    drop, worst = drop_of(comparison), worst_drop(comparison, level)
    return None if drop is None or worst is None else (worst - drop) / _NORMAL.inv_cdf(1 - level)


def _statistic(comparison: Comparison, drop: float, value: float) -> float | None:
    """The standardised distance of the drop from `value`, positive where the drop is larger."""
    if comparison.test == "mcnemar":
        if value >= 1:
            return -math.inf
        worse, better = len(comparison.losses), len(comparison.wins)
        if not comparison.higher_is_better:
            worse, better = better, worse
        return _tango(worse, better, comparison.n, value)
    if comparison.stderr is None:
        return None
    if comparison.stderr == 0.0:
        return math.copysign(math.inf, drop - value) if drop != value else 0.0
    return (drop - value) / comparison.stderr


def _tango(worse: int, better: int, n: int, value: float) -> float:
    """Tango's statistic of P(worse) - P(better) = value, with the likeliest P(better) under it."""
    b = -worse - better + (2 * n - worse + better) * value
    c = -better * value * (1 - value)
    likeliest = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * likeliest + value * (1 - value))
    distance = worse - better - n * value
    distance = math.copysign(max(0.0, abs(distance) - _CONTINUITY), distance)
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _probability_below(comparison: Comparison, statistic: float) -> float:
    if math.isinf(statistic):
        return 1.0 if statistic > 0 else 0.0
    if comparison.test == "permutation" and comparison.units > 1:
        upper = student_t_cdf(abs(statistic), comparison.units - 1)
        return upper if statistic >= 0 else 1 - upper
    return _NORMAL.cdf(statistic)


def _less_a_step(comparison: Comparison, margin: float) -> float:
    return margin - _CONTINUITY / comparison.n if comparison.test == "mcnemar" else margin


def _error_of_equals(comparison: Comparison) -> float | None:
    """The standard error of the difference of equally good runs that differ on as many samples as these."""
    if comparison.n == 0 or comparison.stderr is None:
        return None
    if comparison.test == "mcnemar":  # half a sample more, so that it is not 0 where none differs
        return math.sqrt(len(comparison.wins) + len(comparison.losses) + 0.5) / comparison.n
    return comparison.stderr or math.sqrt(0.5) / comparison.n

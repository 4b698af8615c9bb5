"""Compares two runs sample by sample: how much they differ, how sure that is, and what could have been seen at all.

    pairs = pair(first.records("gsm8k"), second.records("gsm8k"), "exact_match")
    result = compare("gsm8k", pairs)
    result.difference, result.interval, result.p_value, result.wins

Two runs answered the same questions, so their difference is judged on the pairs: most of the noise of a score is in
which questions were asked, and that is the same for both. Tests are exact where they can be: McNemar's for scores of 0
and 1, a sign-flip permutation test for other scores and for samples in clusters, a paired bootstrap for values of a
whole set (corpus BLEU). Many tasks at once are corrected by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.errors import UsageError
from harness.quick import dataclass
from harness.scoring.statistics.estimates import (
    LEVEL,
    RESAMPLES,
    SEED,
    Floats,
    FromSums,
    agresti_min,
    bootstrap_draws,
    mean_stderr,
    student_t_quantile,
)
from harness.scoring.statistics.pairs import PairedScores, PairKeys, SampleKey
from harness.scoring.statistics.significance import detectable_difference, holm, mcnemar_p, normal_p, permutation_p

Test = Literal["mcnemar", "permutation", "bootstrap", "normal"]
_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second run against the first. `difference` is second minus first.

    wins, losses, ties: samples on which the second run scores higher, lower, the same (direction not regarded).
    p_value: of a test of no difference; adjusted_p: after Holm's correction, where several were made.
    detectable: the smallest true difference that this many samples would have shown, with a power of 80 % at 5 %.
    missing: samples that the first run scored and the second does not hold, holds otherwise, or did not score, and
    those that the first has lost.
    units: how many of the pairs are independent: all, or the clusters; 0 where nobody says.
    """

    name: str
    n: int
    first: float | None
    second: float | None
    difference: float | None
    stderr: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    test: Test | None = None
    adjusted_p: float | None = None
    detectable: float | None = None
    wins: Sequence[SampleKey] = ()
    losses: Sequence[SampleKey] = ()
    ties: int = 0
    higher_is_better: bool = True
    notes: Mapping[str, int] = field(default_factory=dict)
    missing: int = 0
    units: int = 0


def compare(
    name: str, pairs: PairedScores, higher_is_better: bool = True, from_sums: FromSums | None = None, seed: int = SEED
) -> Comparison:
    """Compare the pairs of one task.

    from_sums: the value of summed statistics, for a metric with its own aggregation; left out, scores are averaged.
    """
    notes = {
        "changed": pairs.changed,
        "only in the first run": pairs.only_first,
        "only in the second run": pairs.only_second,
        "unscored": pairs.unscored,
    }
    notes = {what: count for what, count in notes.items() if count}
    n, missing = len(pairs.keys), pairs.only_first + pairs.changed + pairs.lost
    if n == 0:
        return Comparison(name, 0, None, None, None, higher_is_better=higher_is_better, notes=notes, missing=missing)
    if from_sums is not None:
        comparison = _compare_sets(name, pairs, from_sums, seed)
        return replace(comparison, higher_is_better=higher_is_better, notes=notes, missing=missing)
    if pairs.first.shape[1] != 1 or pairs.second.shape[1] != 1:
        raise UsageError(f"{name}: its scores are statistics of a whole set; compare them by their metric's own value")
    first, second = pairs.first[:, 0], pairs.second[:, 0]
    differences = second - first
    stderr = mean_stderr(differences, pairs.clusters)
    test: Test
    if pairs.clusters is None and _binary(first) and _binary(second):
        p_value, test = mcnemar_p(int((differences > 0).sum()), int((differences < 0).sum())), "mcnemar"
    else:
        p_value, test = permutation_p(differences, pairs.clusters, seed=seed), "permutation"
    return Comparison(
        name,
        n,
        float(first.mean()),
        float(second.mean()),
        float(differences.mean()),
        stderr,
        _interval(differences, first, second, stderr, pairs.clusters),
        p_value,
        test,
        detectable=None if stderr is None else detectable_difference(stderr),
        wins=_chosen(pairs.keys, np.flatnonzero(differences > 0)),
        losses=_chosen(pairs.keys, np.flatnonzero(differences < 0)),
        ties=int((differences == 0).sum()),
        higher_is_better=higher_is_better,
        notes=notes,
        missing=missing,
        units=n if pairs.clusters is None else len(np.unique(pairs.clusters)),
    )


def compare_macro(name: str, parts: Sequence[Comparison]) -> Comparison:
    """Compare unweighted means over subsets (or tasks) from the comparisons of each; a normal test and interval.

    Where the differences within each are all the same, no spread is left to say the interval from: it is then joined
    from those of the parts (G. Y. Zou and A. Donner, Statistics in Medicine 27 (2008)).
    """
    scored = [part for part in parts if part.difference is not None]
    if not scored:
        return Comparison(name, 0, None, None, None)
    k = len(scored)
    difference = sum(part.difference or 0.0 for part in scored) / k
    errors = [part.stderr for part in scored if part.stderr is not None]
    stderr = math.sqrt(sum(error**2 for error in errors)) / k if len(errors) == k else None
    return Comparison(
        name,
        sum(part.n for part in scored),
        sum(part.first or 0.0 for part in scored) / k,
        sum(part.second or 0.0 for part in scored) / k,
        difference,
        stderr,
        None if stderr is None else _macro_interval(difference, stderr, scored),
        None if stderr is None else normal_p(difference, stderr),
        None if stderr is None else "normal",
        detectable=None if stderr is None else detectable_difference(stderr),
        higher_is_better=scored[0].higher_is_better,
    )


def _macro_interval(difference: float, stderr: float, parts: Sequence[Comparison]) -> tuple[float, float]:
    below = above = _Z * stderr
    if stderr == 0:
        ends = [(part.difference or 0.0, *part.interval) for part in parts if part.interval is not None]
        below, above = (
            math.hypot(*(own - low for own, low, _ in ends)) / len(parts),
            math.hypot(*(high - own for own, _, high in ends)) / len(parts),
        )
    return difference - below, difference + above


def correct_for_many(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm-adjusted p-values. Those without a p-value are left as they are."""
    tested = [comparison.p_value for comparison in comparisons if comparison.p_value is not None]
    adjusted = iter(holm(tested))
    return [
        comparison if comparison.p_value is None else replace(comparison, adjusted_p=next(adjusted))
        for comparison in comparisons
    ]


def _compare_sets(name: str, pairs: PairedScores, from_sums: FromSums, seed: int) -> Comparison:
    """Paired bootstrap: both runs are resampled by the same weights."""
    n, width = pairs.first.shape

    def values(sums: tuple[float, ...], size: int) -> tuple[float, float]:
        return from_sums(sums[:width], size), from_sums(sums[width:], size)

    def difference(sums: tuple[float, ...], size: int) -> float:
        first, second = values(sums, size)
        return second - first

    joined = np.column_stack([pairs.first, pairs.second])
    first, second = values(tuple(joined.sum(axis=0).tolist()), n)
    if n < 2 or (pairs.clusters is not None and len(np.unique(pairs.clusters)) < 2):
        return Comparison(name, n, first, second, second - first)
    draws = bootstrap_draws(joined, difference, pairs.clusters, seed=seed)
    below, above = int((draws <= 0).sum()), int((draws >= 0).sum())
    low, high = np.quantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    stderr = float(draws.std(ddof=1))
    return Comparison(
        name,
        n,
        first,
        second,
        second - first,
        stderr,
        (float(low), float(high)),
        min(1.0, 2 * (min(below, above) + 1) / (RESAMPLES + 1)),
        "bootstrap",
        detectable=detectable_difference(stderr),
    )


def _interval(
    differences: Floats,
    first: Floats,
    second: Floats,
    stderr: float | None,
    clusters: npt.NDArray[np.int64] | None,
) -> tuple[float, float] | None:
    n = len(differences)
    if stderr is None:
        return None
    if clusters is None and _binary(first) and _binary(second):
        return agresti_min(int((differences > 0).sum()), int((differences < 0).sum()), n)
    units = n if clusters is None else len(np.unique(clusters))
    margin = student_t_quantile(0.5 + LEVEL / 2, units - 1) * stderr
    mean = float(differences.mean())
    return mean - margin, mean + margin


def _binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _chosen(keys: Sequence[SampleKey], places: npt.NDArray[np.intp]) -> Sequence[SampleKey]:
    return keys.take(places) if isinstance(keys, PairKeys) else tuple(keys[place] for place in places)

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
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.errors import UsageError
from harness.scoring.statistics.clusters import cluster_number
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
    sums_by_cluster,
)
from harness.types import Record

Test = Literal["mcnemar", "permutation", "bootstrap", "normal"]
SampleKey = tuple[str, int]
_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(0.5 + LEVEL / 2)
PERMUTATIONS = 10_000
_EXACT_FLIPS = 14  # up to 2^14 sign patterns are tried all


@dataclass(frozen=True, slots=True)
class PairedScores:
    """The scores of the samples that both runs scored, in the order of the first run.

    first, second: shape [n, statistics of a sample]. clusters: an integer a sample, or None. changed: samples whose
    row or gold is not the same in both runs, which are left out. only_first, only_second: samples that the other run
    lacks. unscored: samples that at least one run could not score; lost: those of them that the first run did score.
    """

    keys: tuple[SampleKey, ...]
    first: Floats
    second: Floats
    clusters: npt.NDArray[np.int64] | None = None
    changed: int = 0
    only_first: int = 0
    only_second: int = 0
    unscored: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second run against the first. `difference` is second minus first.

    wins, losses, ties: samples on which the second run scores higher, lower, the same (direction not regarded).
    p_value: of a test of no difference; adjusted_p: after Holm's correction, where several were made.
    detectable: the smallest true difference that this many samples would have shown, with a power of 80 % at 5 %.
    missing: samples that the first run scored and the second does not hold, holds otherwise, or did not score.
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
    wins: tuple[SampleKey, ...] = ()
    losses: tuple[SampleKey, ...] = ()
    ties: int = 0
    higher_is_better: bool = True
    notes: Mapping[str, int] = field(default_factory=dict)
    missing: int = 0
    units: int = 0


def pair(
    first: Iterable[Record],
    second: Iterable[Record],
    key: str,
    statistics: Callable[[tuple[float, ...]], tuple[float, ...]] = tuple,
    *,
    second_key: str | None = None,
    same_rows: bool = True,
) -> PairedScores:
    """Match two runs' records of one task by subset and id. `key` is a score key (`acc`, `exact_match@strict`).

    statistics: what a metric with its own aggregation adds up, given a sample's score (`Metric.statistics`).
    second_key: that of the second run, where it is another. same_rows: whether rows that differ are left out; a task
    and its modified form show the same rows differently.
    """
    matching = _matched(first, second, key, statistics, second_key=second_key, same_rows=same_rows)
    return _joined_pairs(matching.values(), key)


def pair_by_subset(
    first: Iterable[Record],
    second: Iterable[Record],
    key: str,
    statistics: Callable[[tuple[float, ...]], tuple[float, ...]] = tuple,
    *,
    second_key: str | None = None,
    same_rows: bool = True,
) -> dict[str, PairedScores]:
    """As `pair`, for each subset apart; each record is read once."""
    matching = _matched(first, second, key, statistics, second_key=second_key, same_rows=same_rows)
    return {subset: _joined_pairs([found], key) for subset, found in matching.items()}


@dataclass(slots=True)
class _Matching:
    """The samples of one subset. pairs: key, both scores, cluster, and place in the first run; counts: of the rest."""

    pairs: list[tuple[SampleKey, tuple[float, ...], tuple[float, ...], int, int]] = field(default_factory=list)
    clustered: bool = False
    counts: Counter[str] = field(default_factory=Counter)


def _matched(
    first: Iterable[Record],
    second: Iterable[Record],
    key: str,
    statistics: Callable[[tuple[float, ...]], tuple[float, ...]],
    *,
    second_key: str | None,
    same_rows: bool,
) -> dict[str, _Matching]:
    known = {
        (record.subset, record.id): (_content(record), _row(record, key, statistics), place)
        for place, record in enumerate(first)
    }
    by_subset: dict[str, _Matching] = {subset: _Matching() for subset, _ in known}
    for subset, _ in known:
        by_subset[subset].counts["only_first"] += 1
    for record in second:
        place = (record.subset, record.id)
        matching = by_subset.setdefault(record.subset, _Matching())
        if place not in known:
            matching.counts["only_second"] += 1
            continue
        matching.counts["only_first"] -= 1
        content, row, order = known[place]
        other = _row(record, second_key or key, statistics)
        if same_rows and content != _content(record):
            matching.counts["changed"] += 1
        elif row is None or other is None:
            matching.counts["unscored"] += 1
            matching.counts["lost"] += row is not None
        else:
            matching.clustered = matching.clustered or record.cluster is not None
            matching.pairs.append((place, row, other, cluster_number(record.cluster, *place), order))
    return by_subset


def _joined_pairs(matchings: Iterable[_Matching], key: str) -> PairedScores:
    matchings = list(matchings)
    matched = sorted((pair for each in matchings for pair in each.pairs), key=lambda pair: pair[4])
    counts = sum((each.counts for each in matchings), Counter[str]())
    clustered = any(each.clustered for each in matchings)
    return PairedScores(
        tuple(item[0] for item in matched),
        _table([item[1] for item in matched], key),
        _table([item[2] for item in matched], key),
        np.array([item[3] for item in matched], dtype=np.int64) if clustered else None,
        counts["changed"],
        counts["only_first"],
        counts["only_second"],
        counts["unscored"],
        counts["lost"],
    )


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
        wins=tuple(pairs.keys[i] for i in np.flatnonzero(differences > 0)),
        losses=tuple(pairs.keys[i] for i in np.flatnonzero(differences < 0)),
        ties=int((differences == 0).sum()),
        higher_is_better=higher_is_better,
        notes=notes,
        missing=missing,
        units=n if pairs.clusters is None else len(np.unique(pairs.clusters)),
    )


def compare_macro(name: str, parts: Sequence[Comparison]) -> Comparison:
    """Compare unweighted means over subsets (or tasks) from the comparisons of each; a normal test and interval."""
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
        None if stderr is None else (difference - _Z * stderr, difference + _Z * stderr),
        None if stderr is None else normal_p(difference, stderr),
        None if stderr is None else "normal",
        detectable=None if stderr is None else detectable_difference(stderr),
        higher_is_better=scored[0].higher_is_better,
    )


def correct_for_many(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm-adjusted p-values. Those without a p-value are left as they are."""
    tested = [comparison.p_value for comparison in comparisons if comparison.p_value is not None]
    adjusted = iter(holm(tested))
    return [
        comparison if comparison.p_value is None else replace(comparison, adjusted_p=next(adjusted))
        for comparison in comparisons
    ]


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
    return 2 * (1 - _NORMAL.cdf(abs(difference) / stderr))


def detectable_difference(stderr: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided test at `alpha` finds with probability `power`."""
    return (_NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(power)) * stderr


def samples_needed(deviation: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """How many pairs show a true `difference`, when paired differences have the standard deviation `deviation`."""
    if difference == 0:
        raise ValueError("no number of samples shows a difference of 0")
    return math.ceil((detectable_difference(deviation, alpha, power) / difference) ** 2)


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


def _row(
    record: Record, key: str, statistics: Callable[[tuple[float, ...]], tuple[float, ...]]
) -> tuple[float, ...] | None:
    score = record.scores.get(key)
    if score is None:
        return None
    return statistics((float(score),) if isinstance(score, int | float) else tuple(score))


def _content(record: Record) -> int:
    """Changes where the question or its gold does; the model's answers and few-shot examples are no part of it."""
    return hash((repr(sorted(record.doc.items())), repr(record.target), record.choices))


def _table(rows: list[tuple[float, ...]], key: str) -> Floats:
    if len({len(row) for row in rows}) > 1:
        raise UsageError(f"the scores '{key}' of the two runs are of different kinds; score both again first")
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1) if rows else np.zeros((0, 1))


__all__ = [
    "Comparison",
    "PairedScores",
    "compare",
    "compare_macro",
    "correct_for_many",
    "detectable_difference",
    "holm",
    "mcnemar_p",
    "normal_p",
    "pair",
    "pair_by_subset",
    "permutation_p",
    "samples_needed",
]

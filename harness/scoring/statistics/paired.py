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
import operator
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from statistics import NormalDist
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from harness.errors import UsageError
from harness.quick import dataclass
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
_DENSE = 1 << 22
"""Samples are numbered by row. Up to here a number is a place in an array."""
_EXACT_FLIPS = 14  # up to 2^14 sign patterns are tried all


class PairKeys(Sequence[SampleKey]):
    """Keys of samples, made when they are looked at; 12 bytes each. names: of the subsets, which `subsets` number."""

    def __init__(self, names: Sequence[str], subsets: npt.NDArray[np.int32], numbers: npt.NDArray[np.int64]) -> None:
        self._names, self._subsets, self._numbers = names, subsets, numbers

    @classmethod
    def joined(cls, parts: Iterable[Sequence[SampleKey]]) -> Sequence[SampleKey]:
        """The keys of several parts of one comparison, one after another."""
        kept = [part for part in parts if len(part)]
        if not all(isinstance(part, PairKeys) and part._names == kept[0]._names for part in kept):  # type: ignore[attr-defined]
            return tuple(key for part in kept for key in part)
        arrays = [(part._subsets, part._numbers) for part in kept if isinstance(part, PairKeys)]
        if not arrays:
            return ()
        subsets, numbers = (np.concatenate(column) for column in zip(*arrays, strict=True))
        return cls(kept[0]._names, subsets, numbers)  # type: ignore[attr-defined]

    def take(self, places: npt.NDArray[np.intp]) -> PairKeys:
        return PairKeys(self._names, self._subsets[places], self._numbers[places])

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> SampleKey: ...
    @overload
    def __getitem__(self, index: slice) -> PairKeys: ...
    def __getitem__(self, index: int | slice) -> SampleKey | PairKeys:
        if isinstance(index, slice):
            return PairKeys(self._names, self._subsets[index], self._numbers[index])
        return self._names[self._subsets[index]], int(self._numbers[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class PairedScores:
    """The scores of the samples that both runs scored, in the order of the first run.

    first, second: shape [n, statistics of a sample]. clusters: an integer a sample, or None. changed: samples whose
    row or gold is not the same in both runs, which are left out. only_first, only_second: samples that the other run
    lacks. unscored: samples that at least one run could not score; lost: those of them that the first run did score.
    """

    keys: Sequence[SampleKey]
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
    wins: Sequence[SampleKey] = ()
    losses: Sequence[SampleKey] = ()
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
    matching = _Matching(first, second, (key, second_key or key), statistics, same_rows=same_rows)
    return matching.pairs(range(len(matching.states)), matching.names)


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
    matching = _Matching(first, second, (key, second_key or key), statistics, same_rows=same_rows)
    subsets = np.frombuffer(matching.subsets, dtype=np.int32)
    order = np.argsort(subsets, kind="stable")
    ends = np.searchsorted(subsets[order], np.arange(len(matching.names)), side="right")
    starts = [0, *ends.tolist()]
    names = list(matching.names)
    return {name: matching.pairs(order[starts[at] : starts[at + 1]], [name]) for at, name in enumerate(names)}


_ONLY_FIRST, _CHANGED, _UNSCORED, _LOST, _PAIR = range(5)


class _Matching:
    """The samples of two runs in columns, in the order of the first: some 50 bytes each.

    Of the second run, only what is not in the first is kept apart, as counts by subset.
    """

    def __init__(
        self,
        first: Iterable[Record],
        second: Iterable[Record],
        keys: tuple[str, str],
        statistics: Callable[[tuple[float, ...]], tuple[float, ...]],
        *,
        same_rows: bool,
    ) -> None:
        self.names: dict[str, int] = {}
        self.subsets, self.numbers, self.clusters = array("i"), array("q"), array("q")
        self.states = bytearray()
        self.clustered: set[str] = set()
        self.only_second: Counter[str] = Counter()
        self._key = keys[0]
        places: dict[str, _Places] = {}
        contents, scored = array("q"), bytearray()
        self.first = _Scores(keys[0])
        for record in first:
            code = self.names.setdefault(record.subset, len(self.names))
            places.setdefault(record.subset, _Places()).put(record.id, len(contents))
            self.subsets.append(code)
            self.numbers.append(record.id)
            contents.append(_content(record))
            scored.append(self.first.put(len(scored), _row(record, keys[0], statistics)))
        self.states = bytearray(len(scored))
        self.second = _Scores(keys[1])
        for record in second:
            self.names.setdefault(record.subset, len(self.names))
            place = places[record.subset].get(record.id) if record.subset in places else None
            if place is None:
                self.only_second[record.subset] += 1
                continue
            row = _row(record, keys[1], statistics)
            if same_rows and contents[place] != _content(record):
                self.states[place] = _CHANGED
            elif not scored[place] or row is None:
                self.states[place] = _LOST if scored[place] else _UNSCORED
            else:
                self.states[place] = _PAIR
                self.second.put(place, row)
                if record.cluster is not None:
                    self.clustered.add(record.subset)
                    self.clusters = self.clusters or self._own_clusters()
                    self.clusters[place] = cluster_number(record.cluster, record.subset, record.id)

    def _own_clusters(self) -> array[int]:
        """The clusters of all places, where each sample is one of its own."""
        names = list(self.names)
        places = zip(self.subsets, self.numbers, strict=True)
        return array("q", (cluster_number(None, names[subset], number) for subset, number in places))

    def pairs(self, chosen: range | npt.NDArray[np.int64], names: Iterable[str]) -> PairedScores:
        """What both runs scored, of some places, which are all of the subsets of these names."""
        states = np.frombuffer(self.states, dtype=np.uint8)
        here = states if isinstance(chosen, range) else states[chosen]
        counts = np.bincount(here, minlength=_PAIR + 1).tolist()
        places = np.flatnonzero(here == _PAIR)
        wanted: npt.NDArray[np.int64] | slice = places if isinstance(chosen, range) else chosen[places]
        if len(places) == len(states):  # most often: a view of the columns, and no copy
            wanted = slice(None)
        names = list(names)
        return PairedScores(
            PairKeys(
                tuple(self.names),
                np.frombuffer(self.subsets, dtype=np.int32)[wanted],
                np.frombuffer(self.numbers, dtype=np.int64)[wanted],
            ),
            self.first.at(wanted),
            self.second.at(wanted),
            np.frombuffer(self.clusters, dtype=np.int64)[wanted] if self.clustered.intersection(names) else None,
            counts[_CHANGED],
            counts[_ONLY_FIRST],
            sum(self.only_second[name] for name in names),
            counts[_UNSCORED] + counts[_LOST],
            counts[_LOST],
        )


class _Places:
    """Number of a row -> its place in the columns; four bytes each, where rows are numbered from 0."""

    def __init__(self) -> None:
        self._dense = array("i")
        self._far: dict[int, int] = {}

    def put(self, number: int, place: int) -> None:
        if not 0 <= number < _DENSE:
            self._far[number] = place
            return
        if number >= len(self._dense):
            self._dense.extend([-1] * (number + 1 - len(self._dense)))
        self._dense[number] = place

    def get(self, number: int) -> int | None:
        if not 0 <= number < len(self._dense):
            return self._far.get(number)
        return None if (place := self._dense[number]) < 0 else place


class _Scores:
    """The statistics of samples by their places. All have as many numbers as the first that comes."""

    def __init__(self, key: str) -> None:
        self._key, self._width, self._values = key, 0, array("d")

    def put(self, place: int, row: tuple[float, ...] | None) -> bool:
        """Take the numbers of a sample; False where it has none. Raises `UsageError`."""
        if row is None:
            return False
        self._width = self._width or len(row)
        if len(row) != self._width:
            raise UsageError(f"the scores '{self._key}' of the two runs are of different kinds; score both again first")
        start = place * self._width
        if len(self._values) < start:
            self._values.frombytes(bytes(8 * (start - len(self._values))))
        self._values[start : start + self._width] = array("d", row)
        return True

    def at(self, places: npt.NDArray[np.int64] | slice) -> Floats:
        """Shape [places, statistics of a sample]."""
        if not self._width:
            return np.zeros((0, 1))
        whole = len(self._values) // self._width * self._width
        return np.frombuffer(self._values, dtype=np.float64)[:whole].reshape(-1, self._width)[places]


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
    row = statistics((float(score),) if isinstance(score, int | float) else tuple(score))
    return row if all(map(math.isfinite, row)) else None  # no test says anything of what is not a number


def _chosen(keys: Sequence[SampleKey], places: npt.NDArray[np.intp]) -> Sequence[SampleKey]:
    return keys.take(places) if isinstance(keys, PairKeys) else tuple(keys[place] for place in places)


def _content(record: Record) -> int:
    """Changes where the question or its gold does; the model's answers and few-shot examples are no part of it."""
    return hash((repr(sorted(record.doc.items())), repr(record.target), record.choices))


__all__ = [
    "Comparison",
    "PairKeys",
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

"""The samples that two runs both scored, matched by subset and id, in columns of numbers."""

from __future__ import annotations

import math
import operator
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from harness.errors import UsageError
from harness.quick import dataclass
from harness.scoring.statistics.clusters import cluster_number
from harness.scoring.statistics.estimates import Floats
from harness.types import Record

SampleKey = tuple[str, int]
_DENSE = 1 << 22
"""Samples are numbered by row. Up to here a number is a place in an array."""


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


def _row(
    record: Record, key: str, statistics: Callable[[tuple[float, ...]], tuple[float, ...]]
) -> tuple[float, ...] | None:
    score = record.scores.get(key)
    if score is None:
        return None
    row = statistics((float(score),) if isinstance(score, int | float) else tuple(score))
    return row if all(map(math.isfinite, row)) else None  # no test says anything of what is not a number


def _content(record: Record) -> int:
    """Changes where the question or its gold does; the model's answers and few-shot examples are no part of it."""
    return hash((repr(sorted(record.doc.items())), repr(record.target), record.choices))

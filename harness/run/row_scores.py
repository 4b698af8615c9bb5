"""The rows of a task in one line, and a score of each, in little memory: a drawn task may have millions."""

from __future__ import annotations

import bisect
import itertools
import math
import operator
from array import array
from collections.abc import Iterable, Mapping, Sequence

from harness.column import Column


class RowPlaces:
    """The rows of some subsets in one line, by subset and number: each has a place, from 0."""

    def __init__(self, rows: Mapping[str, Iterable[int]]) -> None:
        self.numbers = {name: _rising(given) for name, given in rows.items()}
        self.starts = [0, *itertools.accumulate(map(len, self.numbers.values()))]
        self._names = list(self.numbers)
        self._start_of = dict(zip(self._names, self.starts, strict=False))

    def __len__(self) -> int:
        return self.starts[-1]

    def place(self, subset: str, number: int) -> int | None:
        """Where a row is; None where it is none of them."""
        numbers = self.numbers.get(subset, range(0))
        at = bisect.bisect_left(numbers, number)
        return self._start_of[subset] + at if at < len(numbers) and numbers[at] == number else None

    def row(self, place: int) -> tuple[str, int]:
        """The subset and the number of the row at a place."""
        at = bisect.bisect_right(self.starts, place) - 1
        return self._names[at], self.numbers[self._names[at]][place - self.starts[at]]


class RowScores:
    """A score for each place, not a number where none is known; a byte a row, where few values differ."""

    def __init__(self, count: int) -> None:
        self._codes = bytearray(count)
        """Which of the values the score is."""
        self._values = [math.nan]
        self._code_of: dict[float, int] = {}
        self._scores: array[float] | None = None
        """By place, once there are more values than a byte can name."""

    def __getitem__(self, place: int) -> float:
        return self._values[self._codes[place]] if self._scores is None else self._scores[place]

    def __setitem__(self, place: int, score: float) -> None:
        if self._scores is None:
            code = 0 if math.isnan(score) else self._code_of.setdefault(score, len(self._values))
            if code < 256:
                if code == len(self._values):
                    self._values.append(float(score))
                self._codes[place] = code
                return
            self._scores = array("d", map(self._values.__getitem__, self._codes))
            self._codes.clear()
        self._scores[place] = score


def counted_up(numbers: Sequence[int]) -> Sequence[int]:
    """Numbers of which each is by one greater than the one before are a range, which takes no room."""
    if numbers and all(map(operator.eq, numbers, itertools.count(numbers[0]))):
        return range(numbers[0], numbers[0] + len(numbers))
    return numbers


def _rising(numbers: Iterable[int]) -> Sequence[int]:
    """Numbers, the least first."""
    if isinstance(numbers, range):
        return numbers
    kept = numbers if isinstance(numbers, Column) else Column(numbers)
    if any(before > after for before, after in itertools.pairwise(kept)):
        kept = Column(sorted(kept))
    return counted_up(kept)

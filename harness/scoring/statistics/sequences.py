"""An interval of a whole set's mean from some of its rows that stays valid however often one looks at it.

    rounds = drawing_rounds(strata, seed)        # which rows are drawn together, in their order
    known = MeanSequence(len(strata))
    for rows in rounds:
        known.add(low[rows], high[rows])
        if known.half_width <= 0.01: ...

A bettor who wagers against a mean m never wins more than a fair game gives if m is true: where the capital reaches
1 / alpha, m is refused (I. Waudby-Smith and A. Ramdas, Confidence sequences for sampling without replacement, NeurIPS
2020; Estimating means of bounded random variables by betting, JRSS B 86 (2024), 1). With probability 0.95 no look ever
refuses the true mean (Ville), whatever decides when to stop.

Here a bet is placed once a round, and a round draws one row from each of equally large segments of the rows that are
left, which lie in the order of their strata: so every stratum has its share at each moment. The proof is the same. With
equal bets within a round the expected gain is the product of the segments' means of 1 + bet * (x - m), at most the
power of the mean of all of them (inequality of the arithmetic and the geometric mean; for the first round, a simple
draw of the rows that do not fill segments, Maclaurin's inequality), which is 1 for the true m.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from harness.scoring.statistics.estimates import LEVEL, Floats

Rows = npt.NDArray[np.integer]

SEGMENTS = 64
"""Rows that a round draws; of a small set, an eighth of it."""
_GRID = 4000
_MOST = 0.75
"""The part of the capital that one row may lose, at most."""
_HORIZONS = (1.5, 0.25)
"""Each bet is the best one where as much is known as from this part of the rows with replacement. They do not depend on
the width that is asked for, so that a run which stopped goes on to a narrower interval in the same sequence."""


def drawing_rounds(strata: Rows, seed: int) -> list[Rows]:
    """Which rows are drawn in which round. strata: shape [n], a number a row. All rows are drawn in the end.

    Rows are numbers of 32 bits: where there are many of them, they are most of what a run keeps in memory.
    """
    generator = np.random.default_rng(seed)
    n = len(strata)
    segments = min(SEGMENTS, max(1, n // 8))
    order = np.arange(n, dtype=np.uint32)
    generator.shuffle(order)  # as `generator.permutation(n)` does, whose numbers are twice as wide
    first, rest = order[: n % segments].copy(), order[n % segments :]
    if n and strata.min() < strata.max():
        rest = rest[np.argsort(strata[rest], kind="stable")]
    table = rest.reshape(segments, -1)
    generator.permuted(table, axis=1, out=table)
    return [rows for rows in (first, *table.T) if len(rows)]


class MeanSequence:
    """The 95 % confidence sequence of the mean of `size` values in [0, 1], which come round after round."""

    def __init__(self, size: int, level: float = LEVEL) -> None:
        self._size = size
        self._low, self._mirrored = (_LowerBound(size, (1 - level) / 2) for _ in range(2))

    def add(self, low: Floats, high: Floats) -> None:
        """Take the values of a round, shape [rows]: those that are known twice, the others as little and as much as
        they can be."""
        self._low.add(low)
        self._mirrored.add(1 - high)

    @property
    def n(self) -> int:
        """How many values have come."""
        return self._low.n

    @property
    def interval(self) -> tuple[float, float]:
        """Where the mean of all values is. Empty (the first above the second) once in many thousands of runs."""
        return self._low.bound, 1 - self._mirrored.bound

    @property
    def half_width(self) -> float:
        return max(0.0, self.interval[1] - self.interval[0]) / 2


class _LowerBound:
    """What the mean of `size` values in [0, 1] is at least, but for the probability `alpha`, at all times together."""

    def __init__(self, size: int, alpha: float) -> None:
        self.n, self.bound = 0, 0.0
        self._size, self._alpha = size, alpha
        self._sum = self._squares = 0.0
        self._means = np.linspace(0.0, 1.0, _GRID + 1)
        """Means that are not refused yet. The gain falls with the mean, so those that are refused lie below."""
        self._gains = np.zeros((len(_HORIZONS), _GRID + 1))

    def add(self, values: Floats) -> None:
        expected = (self._size * self._means - self._sum) / (self._size - self.n)
        # The same error of the whole set's mean is a larger one of the mean of fewer rows that are left.
        bets = self._bets()[:, None] * self._size / (self._size - self.n)
        bets = np.minimum(bets, _MOST / np.clip(expected, 1e-12, 1.0))
        for value, count in zip(*np.unique(values, return_counts=True), strict=True):
            # Rounds are played against means that rows can still have; the others are refused below or never.
            self._gains += count * np.log1p(bets * (value - np.clip(expected, 0.0, 1.0)))
        self.n += len(values)
        self._sum += float(values.sum())
        self._squares += float(values @ values)
        capital = np.logaddexp.reduce(self._gains, axis=0) - math.log(len(_HORIZONS))
        refused = (capital >= -math.log(self._alpha)) | (self._size * self._means < self._sum - 1e-9)
        if refused.any():
            last = int(np.flatnonzero(refused)[-1])
            self.bound = max(self.bound, float(self._means[last]))
            self._means, self._gains = self._means[last + 1 :], self._gains[:, last + 1 :]
        if self.n == self._size:
            self.bound = self._sum / self._size

    def _bets(self) -> Floats:
        """The best bet for each horizon, from the variance of earlier rounds; as if one value of variance 1/4 more."""
        mean = (self._sum + 0.5) / (self.n + 1)
        around = self._squares - 2 * mean * self._sum + self.n * mean**2
        variance = max((around + 0.25) / (self.n + 1), 1e-3)
        return np.sqrt(2 * math.log(1 / self._alpha) / (variance * self._size * np.array(_HORIZONS)))

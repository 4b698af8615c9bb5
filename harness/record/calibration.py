"""How often a model was right at each level of confidence: the reliability diagram of the report page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field

from harness.quick import dataclass
from harness.types import Record

# The metric whose score of a sample is (confidence, 1 where right).
METRIC = "ece"
BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Samples with a confidence in (number / 10, (number + 1) / 10]: how many, which share of all, and their means."""

    number: int
    n: int
    share: float
    confidence: float
    accuracy: float


@dataclass(slots=True)
class Calibration:
    """Adds up the samples of one task."""

    counts: list[int] = field(default_factory=lambda: [0] * BINS)
    confidences: list[float] = field(default_factory=lambda: [0.0] * BINS)
    hits: list[float] = field(default_factory=lambda: [0.0] * BINS)

    def add(self, record: Record) -> None:
        """Take a record; one without a score of `METRIC` changes nothing."""
        score = record.scores.get(METRIC)
        if not isinstance(score, tuple) or len(score) != 2:
            return
        number = min(BINS, max(1, math.ceil(score[0] * BINS))) - 1
        self.counts[number] += 1
        self.confidences[number] += score[0]
        self.hits[number] += score[1]

    def bins(self) -> Sequence[Bin]:
        """The bins that hold samples, from the least sure to the surest."""
        total = sum(self.counts)
        return [
            Bin(number, n, n / total, self.confidences[number] / n, self.hits[number] / n)
            for number, n in enumerate(self.counts)
            if n
        ]

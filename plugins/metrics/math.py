"""Metrics that understand what they compare: mathematical answers, sums, and programs as syntax trees.

A sample with several replies scores the mean over its replies; an answer that could not be read scores 0. Of several
gold answers, one is enough.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

from harness import Metric, Observation, Undecided, hookimpl
from harness.scoring import arithmetic_value, math_equal, mean_over_predictions, same_code


class MathEqual(Metric):
    """1 where the answer is mathematically equal to a gold answer (`harness.scoring.math_equal`).

    tolerance: largest relative difference of numbers that counts as equal. error: a column with the largest difference
    itself (OlympiadBench: `1e-2`, of several numbers the largest counts). percent: whether 50% also equals 50. seconds:
    of processor time for a comparison. One that comes to no end fails the sample, and is no wrong answer.
    """

    name = "math_equal"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(
        self, tolerance: float = 0.0, percent: bool = False, seconds: float = 2.0, error: str | None = None
    ) -> None:
        if tolerance < 0 or seconds <= 0:
            raise ValueError("tolerance must not be negative, and seconds must be positive")
        self._equal = functools.partial(math_equal, tolerance=tolerance, percent=percent, seconds=seconds)
        self._error = error

    def score(self, seen: Observation) -> float | None:
        if self._error is None:
            return _share(seen, self._equal)
        stated = str(seen.sample.doc.get(self._error) or "0")
        try:
            largest = max(float(each or 0) for each in re.split(r"\s*[,，]\s*", stated))
        except ValueError:
            raise ValueError(f"the row's {self._error} '{stated}' is no number") from None
        absolute = 1.01 * largest  # the script allows a hundredth more, for numbers that are rounded themselves
        return _share(seen, functools.partial(self._equal, absolute=absolute))


class ArithmeticEqual(Metric):
    """1 where answer and gold have the same value, both rounded to `places` (MathGLM's evaluation_acc.py has 2).

    Either may be a number or a sum still to be worked out: + - * / and ** over decimals, per cent and brackets.
    """

    name = "arithmetic_equal"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, places: int = 2) -> None:
        self._places = places

    def score(self, seen: Observation) -> float | None:
        def same(answer: str, gold: str) -> bool:
            first, second = arithmetic_value(answer), arithmetic_value(gold)
            if first is None or second is None:
                return False
            return round(first, self._places) == round(second, self._places)

        return _share(seen, same)


class CodeEqual(Metric):
    """1 where the answer has the syntax tree of a gold program; `rename: true` where only names may differ (Python)."""

    name = "code_equal"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, rename: bool = False) -> None:
        self._rename = rename

    def score(self, seen: Observation) -> float | None:
        return _share(seen, lambda answer, gold: same_code(answer, gold, rename=self._rename))


def _share(seen: Observation, same: Callable[[str, str], bool]) -> float | None:
    return mean_over_predictions(seen, lambda answer, golds: _any_equal(answer, golds, same))


def _any_equal(answer: str, golds: Sequence[str], same: Callable[[str, str], bool]) -> bool:
    """Whether one of the golds is equal. Raises `Undecided` where none is, and of one it could not be told."""
    undecided = None
    for gold in golds:
        try:
            if same(answer, gold):
                return True
        except Undecided as error:
            undecided = error
    if undecided is not None:
        raise undecided
    return False


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [ArithmeticEqual, CodeEqual, MathEqual]

"""Whether a reply names the gold answer somewhere, in any words around it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness import Metric, Observation, hookimpl
from harness.scoring import mean_over_predictions, replace_all


class Contains(Metric):
    """1 where a reply contains a gold answer, letter for letter; of several, one is enough.

    every: what stands between the parts of a gold answer that must all be there. uncertain: words that make a reply
    wrong. negative: what a gold answer begins with that must not be there (CHARM's `[not]`). ignore: a pattern of what
    is left out of both, such as punctuation.
    """

    name = "contains"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(
        self,
        every: str | None = None,
        uncertain: Sequence[str] = (),
        negative: str | None = None,
        ignore: str | None = None,
    ) -> None:
        self._ignored = None if ignore is None else re.compile(ignore)
        self._every, self._uncertain, self._negative = every, list(uncertain), negative

    def score(self, seen: Observation) -> float | None:
        return mean_over_predictions(
            seen, lambda answer, golds: self._is_right(self._kept(answer), [self._kept(gold) for gold in golds])
        )

    def _is_right(self, answer: str, golds: Sequence[str]) -> bool:
        if any(word in answer for word in self._uncertain):
            return False
        if self._negative and golds[0].startswith(self._negative):
            return self._negative in answer or golds[0].removeprefix(self._negative) not in answer
        parts = [[gold] if self._every is None else filter(None, gold.split(self._every)) for gold in golds]
        return any(all(part in answer for part in each) for each in parts)

    def _kept(self, text: str) -> str:
        return text if self._ignored is None else replace_all(self._ignored, "", text)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [Contains]

"""Two scores of LongBench (THUDM/LongBench, `LongBench/metrics.py`): of classes that a reply names, and of numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness import Metric, Observation, hookimpl
from harness.scoring import mean_over_predictions


class NamedClass(Metric):
    """1 / n where a reply names the right class among n (classification_score); the best over the gold answers.

    classes: the column with the names of all classes. A name that is a part of the right one does not count.
    """

    name = "named_class"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, classes: str = "all_classes") -> None:
        self._classes = classes

    def score(self, seen: Observation) -> float | None:
        def share(answer: str, gold: str) -> float:
            named = [name for name in seen.sample.doc[self._classes] if name in answer]
            for name in named:  # the list shrinks on the way, as in the authors' script
                if name in gold and name != gold:
                    named.remove(name)
            return 1 / len(named) if gold in named else 0.0

        return mean_over_predictions(seen, lambda answer, golds: max(share(answer, gold) for gold in golds), unread="")


class NumberPrecision(Metric):
    """Which share of the numbers in a reply is the number of the gold answer (retrieval_zh_score: 段落7)."""

    name = "number_precision"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        def precision(answer: str, golds: Sequence[str]) -> float:
            wanted, numbers = re.findall(r"\d+", golds[0])[:1], re.findall(r"\d+", answer)
            return sum([number] == wanted for number in numbers) / len(numbers) if numbers else 0.0

        return mean_over_predictions(seen, precision)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [NamedClass, NumberPrecision]

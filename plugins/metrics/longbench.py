"""Two scores of LongBench (THUDM/LongBench, `LongBench/metrics.py`): of classes that a reply names, and of numbers."""

from __future__ import annotations

import re

from harness import Metric, Observation, hookimpl
from harness.scoring import gold_texts


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
        golds = gold_texts(seen.sample)
        if golds is None or not seen.predictions:
            return None
        best = []
        for answer in seen.predictions:
            scores = []
            for gold in golds:
                named = [name for name in seen.sample.doc[self._classes] if name in (answer or "")]
                for name in named:  # the list shrinks on the way, as in the authors' script
                    if name in gold and name != gold:
                        named.remove(name)
                scores.append(1 / len(named) if gold in named else 0.0)
            best.append(max(scores))
        return sum(best) / len(best)


class NumberPrecision(Metric):
    """Which share of the numbers in a reply is the number of the gold answer (retrieval_zh_score: 段落7)."""

    name = "number_precision"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        golds = gold_texts(seen.sample)
        if golds is None or not seen.predictions:
            return None
        wanted = re.findall(r"\d+", golds[0])[:1]
        scores = []
        for answer in seen.predictions:
            numbers = re.findall(r"\d+", answer or "")
            scores.append(sum([number] == wanted for number in numbers) / len(numbers) if numbers else 0.0)
        return sum(scores) / len(scores)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [NamedClass, NumberPrecision]

"""F1 over the classes of a whole set: macro (each class counts alike) and weighted (by how often it is gold).

As scikit-learn's `f1_score(average="macro")` and `"weighted"`: a class that is neither gold nor answered is left out.
An answer that is no class is a miss of the gold class, and of no other class a false alarm.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness import Metric, Observation, hookimpl
from harness.scoring import NO_CHOICE, gold_indices, gold_texts


class _ClassF1(Metric):
    """labels: the classes, where answers are texts; of a task of choices the choices are the classes.

    Statistics of a sample, for each class: right, answered, gold.
    """

    output_types = frozenset({"multiple_choice", "generate_until"})
    aggregation = "self"
    bounds = (0.0, 1.0)

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self._labels = [str(label) for label in labels]

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        if not seen.predictions:
            return self._of_choices(seen)
        golds = gold_texts(seen.sample)
        if golds is None:
            return None
        if not self._labels:
            raise KeyError("labels: the classes that answers can be, an option of the metric")
        if golds[0] not in self._labels:
            raise ValueError(f"the gold answer '{golds[0]}' is none of the labels ({', '.join(self._labels)})")
        share = 1 / len(seen.predictions)
        counts = [0.0] * (3 * len(self._labels))
        for answer in seen.predictions:
            _count(
                counts,
                self._labels.index(answer) if answer in self._labels else None,
                self._labels.index(golds[0]),
                share,
            )
        return tuple(counts)

    def _of_choices(self, seen: Observation) -> tuple[float, ...] | None:
        golds = gold_indices(seen.sample)
        if golds is None or NO_CHOICE in golds:
            return None
        counts = [0.0] * (3 * len(seen.sample.choices))
        _count(counts, self.chosen(seen), golds[0], 1.0)
        return tuple(counts)


def _count(counts: list[float], answered: int | None, gold: int, share: float) -> None:
    if answered is not None:
        counts[3 * answered + 1] += share
        counts[3 * answered] += share * (answered == gold)
    counts[3 * gold + 2] += share


def _f1_and_weight(means: Sequence[float]) -> list[tuple[float, float]]:
    """(F1, share of the gold answers) of each class that occurs."""
    classes = zip(means[0::3], means[1::3], means[2::3], strict=True)
    return [(2 * right / (answered + gold), gold) for right, answered, gold in classes if answered + gold]


class MacroF1(_ClassF1):
    """The mean of the classes' F1."""

    name = "macro_f1"

    def from_means(self, means: tuple[float, ...]) -> float:
        found = _f1_and_weight(means)
        return sum(f1 for f1, _ in found) / len(found) if found else 0.0


class WeightedF1(_ClassF1):
    """The mean of the classes' F1, weighted by how often each is gold."""

    name = "weighted_f1"

    def from_means(self, means: tuple[float, ...]) -> float:
        found = _f1_and_weight(means)
        return sum(f1 * gold for f1, gold in found) / sum(gold for _, gold in found) if found else 0.0


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [MacroF1, WeightedF1]

"""Yes-or-no questions about images: POPE, MME and HallusionBench, by the rules of their scripts.

filter_list: [{name: official, filter: [{function: yes_no, rule: pope}]}]
metric_list: [{metric: yes_no}]                                        # POPE
metric_list: [{metric: mme, image: question_id, category: category}]   # two questions an image
metric_list: [{metric: hallusion}]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from harness import CorpusMetric, Filter, Metric, Observation, Sample, hookimpl
from harness.scoring import all_right, gold_texts
from harness.scoring.official import COGNITION, PERCEPTION, mme_answer, pope_answer, pope_scores, words_only

_RULES = {"mme": mme_answer, "pope": pope_answer, "words": words_only}


class YesNo(Filter):
    """`yes` or `no`, or None where the rule reads neither.

    rule: `mme` (at the very beginning), `pope` (no where the first sentence denies, and yes otherwise: it always reads
    one), or `words` (where exactly one of the two stands in the reply, as VLMEvalKit does before it asks a judge).
    """

    name = "yes_no"

    def __init__(self, rule: str) -> None:
        if rule not in _RULES:
            raise ValueError(f"rule is '{rule}'; it can be one of {', '.join(_RULES)}")
        self._rule = _RULES[rule]

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._rule(reply) for reply in replies]


def _answer(seen: Observation) -> tuple[str | None, str] | None:
    """(what was read, gold), both in lower case; None where the gold is hidden."""
    golds = gold_texts(seen.sample)
    if golds is None or not seen.predictions:
        return None
    said = seen.predictions[0]
    return None if said is None else said.lower(), golds[0].strip().lower()


class YesNoScores(CorpusMetric):
    """F1, precision, recall and accuracy with yes as the positive answer, and the share of replies that say yes."""

    name = "yes_no"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)
    resamples = 200

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"positive": "yes"}

    def item(self, seen: Observation) -> tuple[str | None, str] | None:
        return _answer(seen)

    def measure(self, items: Sequence[Any]) -> Mapping[str, float]:
        scores = pope_scores(items)
        return {
            "f1": scores.f1,
            "accuracy": scores.accuracy,
            "precision": scores.precision,
            "recall": scores.recall,
            "yes_ratio": scores.yes_ratio,
        }


class MmeScores(CorpusMetric):
    """MME's scores: of each category, the accuracy and the accuracy+ (both questions on an image right), times 100.

    perception is the sum over ten categories (2,000 at most), cognition over four (800), and the value the sum of all.
    `acc` and `acc_plus` are over all rows and images. image, category: columns.
    """

    name = "mme"
    output_types = frozenset({"generate_until"})

    def __init__(self, image: str = "question_id", category: str = "category") -> None:
        self._image, self._category = image, category

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"image": self._image, "category": self._category}

    def item(self, seen: Observation) -> tuple[str, str, bool] | None:
        answer = _answer(seen)
        doc = seen.sample.doc
        return answer and (str(doc[self._category]), str(doc[self._image]), answer[0] == answer[1])

    def measure(self, items: Sequence[Any]) -> Mapping[str, float]:
        images: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for category, image, right in items:
            images[category][image].append(right)
        acc = {category: _mean(right for rights in of.values() for right in rights) for category, of in images.items()}
        # An image of which one question has no answer (it failed) is not known to be right; a wrong one settles it.
        known = {
            category: [all(rights) for rights in of.values() if len(rights) > 1 or not all(rights)]
            for category, of in images.items()
        }
        plus = {category: _mean(known[category]) for category in images}
        scores = {category: 100 * (acc[category] + plus[category]) for category in images}
        found = {
            self.name: sum(scores.values()),
            "acc": _mean(right for _, _, right in items),
            "acc_plus": _mean(each for of in known.values() for each in of),
        }
        for name, members in (("perception", PERCEPTION), ("cognition", COGNITION)):
            if given := [scores[category] for category in members if category in scores]:
                found[name] = sum(given)
        return found


class HallusionScores(CorpusMetric):
    """HallusionBench's accuracies: of questions (aAcc), of figures of which all questions are right (fAcc), and of
    questions that are right for all their figures (qAcc); the value is their mean (Guan et al. 2024).

    Rows as its authors have them: category, subcategory, set_id, figure_id, question_id. Questions of the category VS
    that are asked without a figure (figure_id 0) do not count in fAcc, as in their script. A figure or a question of
    which an answer failed and none is wrong is not known to be right, and does not count.
    """

    name = "hallusion"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"without figure in fAcc": False}

    def item(self, seen: Observation) -> tuple[tuple[str, ...], str, str, bool] | None:
        answer = _answer(seen)
        return answer and (*self._place(seen.sample), answer[0] == answer[1])

    def unanswered(self, sample: Sample) -> tuple[tuple[str, ...], str, str, None]:
        return (*self._place(sample), None)

    def _place(self, sample: Sample) -> tuple[tuple[str, ...], str, str]:
        doc = sample.doc
        group = tuple(str(doc[name]) for name in ("category", "subcategory", "set_id"))
        return group, str(doc["figure_id"]), str(doc["question_id"])

    def measure(self, items: Sequence[Any]) -> Mapping[str, float]:
        figures = _all_right(
            ((*group, figure), right) for group, figure, _, right in items if (group[0], figure) != ("VS", "0")
        )
        questions = _all_right(((*group, question), right) for group, _, question, right in items)
        found = {
            "aAcc": _mean(right for *_, right in items if right is not None),
            "fAcc": _mean(figures),
            "qAcc": _mean(questions),
        }
        return {self.name: sum(found.values()) / 3, **found}


def _all_right(answers: Iterable[tuple[Hashable, bool | None]]) -> list[bool]:
    groups: dict[Hashable, list[bool | None]] = defaultdict(list)
    for group, right in answers:
        groups[group].append(right)
    return [right for each in groups.values() if (right := all_right(each)) is not None]


def _mean(values: Iterable[bool]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else 0.0


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [YesNo]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [HallusionScores, MmeScores, YesNoScores]

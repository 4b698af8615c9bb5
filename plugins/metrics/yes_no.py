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

from harness import CorpusMetric, Filter, Metric, Observation, Sample, SetValue, hookimpl
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
    """F1, precision, recall and accuracy with yes as the positive answer, and the share of replies that say yes.

    Of a set in which no gold is yes there is no recall and no F1.
    """

    name = "yes_no"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)
    resamples = 200

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"positive": "yes"}

    def item(self, seen: Observation) -> tuple[str | None, str] | None:
        return _answer(seen)

    def measure(self, items: Sequence[Any]) -> Mapping[str, float | SetValue]:
        scores = pope_scores(items)
        has_positive = any(gold == "yes" for _, gold in items)
        return {
            "f1": scores.f1 if has_positive else SetValue(None),
            "accuracy": scores.accuracy,
            "precision": scores.precision,
            "recall": scores.recall if has_positive else SetValue(None),
            "yes_ratio": scores.yes_ratio,
        }


class MmeScores(CorpusMetric):
    """MME's scores: of each category, the accuracy and the accuracy+ (both questions on an image right), times 100.

    perception is the sum over ten categories (2,000 at most), cognition over four (800), and the value the sum of all.
    `acc` and `acc_plus` are over all rows and images. image, category: columns. An image of which an answer is missing
    (it failed, or was not asked) and none is wrong is not known to be right, and does not count in the accuracy+; where
    a category has no other image, its score is null, and so is every sum that it belongs to.
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
        return answer and (*self._place(seen.sample), answer[0] == answer[1])

    def unanswered(self, sample: Sample) -> tuple[str, str, None]:
        return (*self._place(sample), None)

    def _place(self, sample: Sample) -> tuple[str, str]:
        return str(sample.doc[self._category]), str(sample.doc[self._image])

    def measure(self, items: Sequence[Any]) -> Mapping[str, SetValue]:
        images: dict[tuple[str, str], list[bool | None]] = defaultdict(list)
        for category, image, right in items:
            images[category, image].append(right)
        answers: dict[str, list[bool]] = defaultdict(list)
        both: dict[str, list[bool | None]] = defaultdict(list)
        for (category, _), rights in images.items():
            answers[category] += [right for right in rights if right is not None]
            # A second question that was not asked is as one that failed.
            both[category].append(all_right(rights if len(rights) > 1 else [*rights, None]))
        scores = {}
        for category in both:
            total = _total((_share(answers[category]), _share(both[category])))
            scores[category] = SetValue(None if total.value is None else 100 * total.value, total.unknown)
        found = {
            self.name: _total(scores.values()),
            "acc": _share([right for of in answers.values() for right in of]),
            "acc_plus": _share([right for of in both.values() for right in of]),
        }
        for name, members in (("perception", PERCEPTION), ("cognition", COGNITION)):
            if given := [scores[category] for category in members if category in scores]:
                found[name] = _total(given)
        return found


class HallusionScores(CorpusMetric):
    """HallusionBench's accuracies: of questions (aAcc), of figures of which all questions are right (fAcc), and of
    questions that are right for all their figures (qAcc); the value is their mean (Guan et al. 2024).

    Rows as its authors have them: category, subcategory, set_id, figure_id, question_id. Questions of the category VS
    that are asked without a figure (figure_id 0) do not count in fAcc, as in their script. A figure or a question of
    which an answer failed and none is wrong is not known to be right, and does not count. Rows do not say how many
    questions a figure has: of a part of the rows (`--limit`), those count that were asked.
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

    def measure(self, items: Sequence[Any]) -> Mapping[str, SetValue]:
        figures = _all_right(
            ((*group, figure), right) for group, figure, _, right in items if (group[0], figure) != ("VS", "0")
        )
        questions = _all_right(((*group, question), right) for group, _, question, right in items)
        found = {
            "aAcc": _share([right for *_, right in items if right is not None]),
            "fAcc": _share(figures),
            "qAcc": _share(questions),
        }
        total = _total(found.values())
        return {self.name: SetValue(None if total.value is None else total.value / 3, total.unknown), **found}


def _all_right(answers: Iterable[tuple[Hashable, bool | None]]) -> list[bool | None]:
    groups: dict[Hashable, list[bool | None]] = defaultdict(list)
    for group, right in answers:
        groups[group].append(right)
    return [all_right(each) for each in groups.values()]


def _share(right: Sequence[bool | None]) -> SetValue:
    """The share of those that are right, of those that are known."""
    known = [each for each in right if each is not None]
    return SetValue(sum(known) / len(known) if known else None, len(right) - len(known))


def _total(parts: Iterable[SetValue]) -> SetValue:
    """The sum; null where a part is."""
    parts = list(parts)
    known = [part.value for part in parts if part.value is not None]
    return SetValue(sum(known) if len(known) == len(parts) else None, sum(part.unknown for part in parts))


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [YesNo]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [HallusionScores, MmeScores, YesNoScores]

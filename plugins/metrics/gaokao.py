"""GAOKAO-Bench's points (OpenLMLab/GAOKAO-Bench, `Bench/bench_function.py` and `Bench/OBJ_score_evaluation.py`).

A row is one exam question, which may have several parts; the target holds their answers, with spaces between. The task
says in its subsets which kind of question a file has and what a part is worth:

    question_type: single_choice | multi_question_choice | multi_choice | five_out_of_seven
    partial_credit: true      # physics: 6 points for all letters, 3 for some and no wrong one

and in each row, as `score`, the points of a part. The result is points earned by points possible.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness import Filter, Metric, Observation, Sample, hookimpl
from harness.scoring import gold_texts, mean_over_predictions


class GaokaoAnswer(Filter):
    """Reads the letters of all parts of a question, joined by one space: "A C D", or "ABD" for one part.

    The rules are the authors', also where they guess: the last letter of a reply is the answer of a single choice.
    Option `question_type` takes the place of the subset's field.
    """

    name = "gaokao_answer"

    def __init__(self, question_type: str | None = None) -> None:
        if question_type is not None and question_type not in _READERS:
            raise ValueError(f"question_type is '{question_type}'; it can be one of {', '.join(_READERS)}")
        self._question_type = question_type

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        question_type = self._question_type or sample.subset_fields.get("question_type")
        if question_type not in _READERS:
            raise ValueError(f"the subset's question_type is {question_type!r}, none of {', '.join(_READERS)}")
        parts = len(_answers_of_parts(sample) or ("",))
        answers = [_READERS[question_type](reply, parts) if reply is not None else [] for reply in replies]
        return [" ".join(answer) or None for answer in answers]


class GaokaoPoints(Metric):
    """Points earned by points possible, over all rows. Statistics of a row: earned, possible.

    An answer with more or fewer parts than the question earns nothing.
    """

    name = "gaokao_points"
    output_types = frozenset({"generate_until"})
    aggregation = "self"
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        golds = _answers_of_parts(seen.sample)
        if golds is None or not seen.predictions:
            return None
        worth = float(seen.sample.doc["score"])
        answers = (seen.predictions[0] or "").split()
        partial = bool(seen.sample.subset_fields.get("partial_credit", False))
        earned = 0.0
        if len(answers) == len(golds):
            for answer, gold in zip(answers, golds, strict=True):
                incomplete = 0.5 if partial and set(answer) <= set(gold) else 0.0
                earned += worth * (1.0 if answer == gold else incomplete)
        return earned, worth * len(golds)

    def from_means(self, means: tuple[float, ...]) -> float:
        return means[0] / means[1]


def _answers_of_parts(sample: Sample) -> list[str] | None:
    golds = gold_texts(sample)
    return None if golds is None else " ".join(golds).split()


class GaokaoMmAccuracy(Metric):
    """GAOKAO-MM's accuracy (OpenMOSS/GAOKAO-MM, `Bench/OBJ_score_evaluation.py`): 1 where the letters are right.

    In a subset that says `partial_credit: true`, letters that stand side by side in the right ones are 0.5.
    """

    name = "gaokao_mm_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        partial = 0.5 if seen.sample.subset_fields.get("partial_credit", False) else 0.0

        def credit(answer: str, golds: Sequence[str]) -> float:
            answer = answer or "Z"
            return 1.0 if answer == golds[0] else partial * (answer in golds[0])

        return mean_over_predictions(seen, credit, unread="")


def _single_choice(reply: str, parts: int) -> list[str]:
    """The last of A to D."""
    return re.findall(r"[A-D]", reply)[-1:]


def _multi_question_choice(reply: str, parts: int) -> list[str]:
    """One letter after each 【答案】 where there are as many as parts; else the first capital letters."""
    marked = re.findall(r"【答案】\s*[:：]*\s*([A-Z])", reply)
    return marked if len(marked) == parts else re.findall(r"[A-Z]", reply)[:parts]


def _multi_choice(reply: str, parts: int) -> list[str]:
    """All of A to D after the first 【答案】, or in the last ten characters, white space left out."""
    text = re.sub(r"\s+", "", reply)
    # A mark at the very start does not count: the authors test for a place above 0.
    start = text.find("【答案】")
    letters = re.findall(r"[A-D]", text[start:] if start > 0 else text[-10:])
    return ["".join(letters)] if letters else []


def _five_out_of_seven(reply: str, parts: int) -> list[str]:
    """The first five of A to G."""
    return re.findall(r"[A-G]", reply)[:5]


_READERS = {
    "single_choice": _single_choice,
    "multi_question_choice": _multi_question_choice,
    "multi_choice": _multi_choice,
    "five_out_of_seven": _five_out_of_seven,
}


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [GaokaoAnswer]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [GaokaoMmAccuracy, GaokaoPoints]

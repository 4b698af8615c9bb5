"""Questions about images that are answered in a few words: VQA accuracy, ANLS, relaxed accuracy and OCRBench.

A sample with several replies scores the mean over them. What no filter could read scores 0, and is counted.
"""

from __future__ import annotations

import re
from decimal import Decimal

from harness import Metric, Observation, hookimpl
from harness.scoring import gold_texts
from harness.scoring.official import anls, ocrbench_correct, relaxed_correct, vqa_accuracy


class _ShortAnswer(Metric):
    """Base of the metrics of this file: `value` scores one answer against all references."""

    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        golds = gold_texts(seen.sample)
        if golds is None or not seen.predictions:
            return None
        values = [0.0 if answer is None else self.value(answer, golds, seen) for answer in seen.predictions]
        return sum(values) / len(values)

    def value(self, answer: str, golds: tuple[str, ...], seen: Observation) -> float:
        raise NotImplementedError


class VqaAccuracy(_ShortAnswer):
    """How many of ten people agree, of whom three are enough (Antol et al. 2015), after EvalAI's normalisation.

    The target is the list of all ten answers. vlmevalkit: that project's variant, which normalises less.
    """

    name = "vqa_acc"

    def __init__(self, vlmevalkit: bool = False) -> None:
        self._vlmevalkit = vlmevalkit

    def value(self, answer: str, golds: tuple[str, ...], seen: Observation) -> float:
        return vqa_accuracy(answer, golds, vlmevalkit=self._vlmevalkit)


class Anls(_ShortAnswer):
    """Average normalised Levenshtein similarity to the best reference, 0 below 0.5 (Biten et al. 2019)."""

    name = "anls"

    def value(self, answer: str, golds: tuple[str, ...], seen: Observation) -> float:
        return anls(answer, golds)


class RelaxedAccuracy(_ShortAnswer):
    """ChartQA's: a number within 5 % of the gold, or the same text without case (Masry et al. 2022)."""

    name = "relaxed_acc"

    def value(self, answer: str, golds: tuple[str, ...], seen: Observation) -> float:
        return float(any(relaxed_correct(answer, gold) for gold in golds))


class OcrBenchAccuracy(_ShortAnswer):
    """1 where a reference stands within the answer; formulas (`dataset` is HME100k) with case and without spaces."""

    name = "ocrbench_acc"

    def value(self, answer: str, golds: tuple[str, ...], seen: Observation) -> float:
        return float(ocrbench_correct(answer, golds, seen.sample.doc.get("dataset") == "HME100k"))


class ExactAnswer(_ShortAnswer):
    """1 where the answer is the gold, but for case, quotes, spaces and a full stop; numbers are compared as such.

    As lmms-eval scores ZeroBench (`tasks/zerobench/utils.py` at 75571cf).
    """

    name = "exact_answer"

    def value(self, answer: str, golds: tuple[str, ...], seen: Observation) -> float:
        return float(any(_plain(answer) == _plain(gold) for gold in golds))


def _plain(text: str) -> str | Decimal:
    plain = re.sub(r"\s+", " ", text.strip().lower().strip("\"'`"))
    plain = plain[:-1].rstrip() if plain.endswith(".") else plain
    number = plain.replace(",", "")
    return Decimal(number) if re.fullmatch(r"-?(?:\d+\.\d+|\d+|\.\d+)", number) else plain


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [Anls, ExactAnswer, OcrBenchAccuracy, RelaxedAccuracy, VqaAccuracy]

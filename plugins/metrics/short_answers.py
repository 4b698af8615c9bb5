"""Questions about images that are answered in a few words: VQA accuracy, ANLS, relaxed accuracy and OCRBench.

A sample with several replies scores the mean over them. What no filter could read scores 0, and is counted.
"""

from __future__ import annotations

import re
from decimal import Decimal

from harness import Metric, Observation, hookimpl
from harness.scoring import mean_over_predictions
from harness.scoring.official import anls, ocrbench_correct, relaxed_correct, vqa_accuracy


class VqaAccuracy(Metric):
    """How many of ten people agree, of whom three are enough (Antol et al. 2015), after EvalAI's normalisation.

    The target is the list of all ten answers. vlmevalkit: that project's variant, which normalises less.
    """

    name = "vqa_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, vlmevalkit: bool = False) -> None:
        self._vlmevalkit = vlmevalkit

    def score(self, seen: Observation) -> float | None:
        return mean_over_predictions(
            seen, lambda answer, golds: vqa_accuracy(answer, golds, vlmevalkit=self._vlmevalkit)
        )


class Anls(Metric):
    """Average normalised Levenshtein similarity to the best reference, 0 below 0.5 (Biten et al. 2019)."""

    name = "anls"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return mean_over_predictions(seen, anls)


class RelaxedAccuracy(Metric):
    """ChartQA's: a number within 5 % of the gold, or the same text without case (Masry et al. 2022)."""

    name = "relaxed_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return mean_over_predictions(seen, lambda answer, golds: any(relaxed_correct(answer, gold) for gold in golds))


class OcrBenchAccuracy(Metric):
    """1 where a reference stands within the answer; formulas (`dataset` is HME100k) with case and without spaces.

    any_width: full-width signs are the same as ASCII's, as lmms-eval has it.
    """

    name = "ocrbench_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, any_width: bool = False) -> None:
        self._any_width = any_width

    def score(self, seen: Observation) -> float | None:
        formula = seen.sample.doc.get("dataset") == "HME100k"
        return mean_over_predictions(
            seen,
            lambda answer, golds: ocrbench_correct(
                answer, golds, handwritten_formula=formula, any_width=self._any_width
            ),
        )


class ExactAnswer(Metric):
    """1 where the answer is the gold, but for case, quotes, spaces and a full stop; numbers are compared as such.

    As lmms-eval scores ZeroBench (`tasks/zerobench/utils.py` at 75571cf).
    """

    name = "exact_answer"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return mean_over_predictions(seen, lambda answer, golds: any(_plain(answer) == _plain(gold) for gold in golds))


def _plain(text: str) -> str | Decimal:
    plain = re.sub(r"\s+", " ", text.strip().lower().strip("\"'`"))
    plain = plain[:-1].rstrip() if plain.endswith(".") else plain
    number = plain.strip().replace(",", "")
    return Decimal(number) if re.fullmatch(r"-?(?:\d+\.\d+|\d+|\.\d+)", number) else plain


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [Anls, ExactAnswer, OcrBenchAccuracy, RelaxedAccuracy, VqaAccuracy]

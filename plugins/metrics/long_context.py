"""How benchmarks of long texts compare: does the reply hold what was hidden, and how much of a text is given back."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from harness import Metric, Observation, hookimpl
from harness.scoring import gold_texts, mean_over_predictions


class StringMatch(Metric):
    """How many of the gold texts stand in the reply, in any case: RULER's string_match_all, 0 to 1.

    texts: the column that holds them, where the target is one text of them all. any: 1 where one of them does, RULER's
    string_match_part (NVIDIA/RULER, scripts/eval/synthetic/constants.py).
    """

    name = "string_match"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, texts: str = "", any: bool = False) -> None:
        self._texts = texts
        self._any = any

    def score(self, seen: Observation) -> float | None:
        golds = seen.sample.doc[self._texts] if self._texts else gold_texts(seen.sample)
        if not golds or not seen.predictions:
            return None
        held = [[gold.lower() in (reply or "").lower() for gold in golds] for reply in seen.predictions]
        return sum(float(max(each)) if self._any else sum(each) / len(each) for each in held) / len(held)


class SequenceRatio(Metric):
    """How much of the gold text the reply gives back, by difflib's ratio, 0 to 1; 0 where it does not start as told.

    prefix: the column with the text that both have to start with, which is left out of the comparison. As OpenAI's MRCR
    grades (huggingface.co/datasets/openai/mrcr, README.md).
    """

    name = "sequence_ratio"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix

    def score(self, seen: Observation) -> float | None:
        def ratio(reply: str, golds: Sequence[str]) -> float:
            start = str(seen.sample.doc[self._prefix]) if self._prefix else ""
            if not reply.startswith(start):
                return 0.0
            own = reply.removeprefix(start)
            return max(SequenceMatcher(None, own, gold.removeprefix(start)).ratio() for gold in golds)

        return mean_over_predictions(seen, ratio, unread="")


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [SequenceRatio, StringMatch]

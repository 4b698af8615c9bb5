"""A modifier that shows options in other words: does a model know what is right, or the words that it has seen?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import Asked, Metric, Modifier, Observation, RowScore, ScoreKey, View, hookimpl
from harness.scoring import ZERO_TO_ONE, MeanOfViews, averaged
from harness.tasks import options_key, read_option_texts, refusal


class ParaphraseOptions(Modifier):
    """The options of each row in other words, that a model wrote once: `paraphrase_options=FILE`, with the file that
    `harness paraphrase` wrote. The question, the order of the options and the right letter stay.

    Reported for each score: `reworded_`, of the rows whose options are in other words. `kept_options` is the share of
    rows that keep their own: those of numbers and formulas, and those whose other words were refused (empty, the same
    twice, with other numbers, or with talk around them). `harness compare runs/PLAIN runs/REWORDED` has the difference
    to the rows as they are, paired row by row, with its interval.
    """

    name = "paraphrase_options"
    needs = frozenset({"options"})

    def __init__(self, file: str) -> None:
        if not isinstance(file, str) or not file:
            raise ValueError("name the file that `harness paraphrase` wrote: paraphrase_options=FILE")
        self._file = Path(file)
        self._kept = read_option_texts(self._file)

    @property
    def label(self) -> str:
        return f"{self.name}={self._file.name.partition('.')[0]}"

    @property
    def identity(self) -> Mapping[str, Any]:
        kept = self._kept
        return {"digest": kept.digest, "model": kept.model, "form": kept.form, "day": kept.day}

    def views(self, asked: Asked) -> list[View]:
        if asked.kept_options:
            return [View(kept=asked.kept_options)]
        key = options_key(asked.question, asked.options)
        if key in self._kept.refused:
            return [View(kept=f"its options keep their words: {self._kept.refused[key]}")]
        if key not in self._kept.texts:
            return [View(kept=f"{self._file} has no other words for its options")]
        texts = self._kept.texts[key]
        if problem := refusal(asked.options, texts):
            return [View(kept=f"its options keep their words: {problem}")]
        return [View(options=texts)]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        reworded = [
            RowScore(f"reworded_{key.name}", key.name, OfReworded(key.metric.bounds), key.higher_is_better)
            for key in averaged(keys)
        ]
        return [*reworded, RowScore("kept_options", keys[0].name, KeptOptions())]


class OfReworded(Metric):
    """The score of a row whose options are in other words; not scored where they are the row's own."""

    name = "of_reworded"

    def __init__(self, bounds: tuple[float, float] | None) -> None:
        self._mean, self.bounds = MeanOfViews(bounds), bounds

    def score(self, seen: Observation) -> float | None:
        return self._mean.score(seen) if any(view.view.options for view in seen.views) else None


class KeptOptions(Metric):
    """1 where the options of a row are in their own words."""

    name = "kept_options"
    is_constant = True
    bounds = ZERO_TO_ONE

    def score(self, seen: Observation) -> float:
        return float(not any(view.view.options for view in seen.views))


@hookimpl
def harness_modifiers() -> list[type[Modifier]]:
    return [ParaphraseOptions]

"""Captions of images, scored against several references as COCO's evaluation does: CIDEr-D, BLEU-1 to 4, ROUGE-L.

metric_list: [{metric: caption}]               # `level: char` for Chinese
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness import CorpusMetric, Metric, Observation, hookimpl
from harness.scoring import gold_texts
from harness.scoring.official import caption_rouge, caption_tokens, cider, corpus_bleu


class CaptionScores(CorpusMetric):
    """CIDEr-D (0 to 10; published times 100 as 0 to 1,000), BLEU-1 to 4 and ROUGE-L (0 to 1) of a set of captions.

    CIDEr weighs n-grams by how rare they are in the references of the set: a part of a set has other weights. level:
    `word`, or `char`, where each Chinese character is a token. A caption that could not be read counts as empty.
    """

    name = "caption"
    output_types = frozenset({"generate_until"})

    def __init__(self, level: str = "word") -> None:
        if level not in ("word", "char"):
            raise ValueError(f"level is '{level}'; it can be 'word' or 'char'")
        self._level = level

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"level": self._level, "sigma": 6}

    def item(self, seen: Observation) -> tuple[list[str], list[list[str]]] | None:
        golds = gold_texts(seen.sample)
        if not golds or not seen.predictions:
            return None
        caption = caption_tokens(seen.predictions[0] or "", self._level)
        return caption, [caption_tokens(gold, self._level) for gold in golds]

    def measure(self, items: Sequence[Any]) -> Mapping[str, float]:
        bleu = corpus_bleu(items)
        return {
            "cider": sum(cider(items)) / len(items),
            **{f"bleu_{n}": value for n, value in enumerate(bleu, 1)},
            "rouge_l": sum(caption_rouge(*item) for item in items) / len(items),
        }


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [CaptionScores]

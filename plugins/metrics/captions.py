"""Captions of images, scored against several references as COCO's evaluation does: CIDEr-D, BLEU-1 to 4, ROUGE-L.

metric_list: [{metric: caption}]               # `level: char` or `jieba` for Chinese
metric_list: [{metric: dureader}]              # answers in sentences, scored alike
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from harness import CorpusMetric, MachineError, Metric, MetricOptions, Observation, hookimpl
from harness.scoring import gold_texts
from harness.scoring.official import caption_rouge, caption_tokens, cider, corpus_bleu


class CaptionScores(CorpusMetric):
    """CIDEr-D (0 to 10; published times 100 as 0 to 1,000), BLEU-1 to 4 and ROUGE-L (0 to 1) of a set of captions.

    CIDEr weighs n-grams by how rare they are in the references of the set: a part of a set has other weights. level:
    `word`, or `char`, where each Chinese character is a token, or `jieba`, Chinese words as jieba cuts them. A caption
    that could not be read counts as empty.
    """

    name = "caption"
    output_types = frozenset({"generate_until"})

    def __init__(self, level: str = "word") -> None:
        if level not in ("word", "char", "jieba"):
            raise ValueError(f"level is '{level}'; it can be 'word', 'char' or 'jieba'")
        self._level = level

    def prepare(self, options: MetricOptions) -> None:
        if self._level == "jieba" and not importlib.util.find_spec("jieba"):
            raise MachineError("needs the package jieba: pip install 'harness-eval[chinese]'")

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"level": self._level, "sigma": 6}

    def item(self, seen: Observation) -> tuple[list[str], list[list[str]]] | None:
        golds = gold_texts(seen.sample)
        if not golds or not seen.predictions:
            return None
        return self._tokens(seen.predictions[0] or ""), [self._tokens(gold) for gold in golds]

    def _tokens(self, text: str) -> list[str]:
        if self._level != "jieba":
            return caption_tokens(text, self._level)
        import jieba

        jieba.setLogLevel(60)  # it tells how long its dictionary takes to load
        return [word for word in jieba.cut(text.lower()) if any(char.isalnum() for char in word)]

    def measure(self, items: Sequence[Any]) -> Mapping[str, float]:
        bleu = corpus_bleu(items)
        return {
            "cider": sum(cider(items)) / len(items),
            **{f"bleu_{n}": value for n, value in enumerate(bleu, 1)},
            "rouge_l": sum(caption_rouge(*item) for item in items) / len(items),
        }


class DuReaderScores(CorpusMetric):
    """ROUGE-L and BLEU-4 (0 to 1) of a set of answers, every character that is no blank a token, punctuation too.

    As DuReader's script has them (baidu/DuReader, DuReader-2.0/utils/dureader_eval.py), which counts as captions are
    counted. An answer that could not be read counts as empty.
    """

    name = "dureader"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"level": "every character"}

    def item(self, seen: Observation) -> tuple[list[str], list[list[str]]] | None:
        golds = gold_texts(seen.sample)
        if not golds or not seen.predictions:
            return None
        tokens = [[char for char in text if char.strip()] for text in (seen.predictions[0] or "", *golds)]
        return tokens[0], tokens[1:]

    def measure(self, items: Sequence[Any]) -> Mapping[str, float]:
        return {
            "rouge_l": sum(caption_rouge(*item) for item in items) / len(items),
            "bleu_4": corpus_bleu(items)[3],
        }


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [CaptionScores, DuReaderScores]

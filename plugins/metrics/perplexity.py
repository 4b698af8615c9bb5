"""How surprised a model is by a text.

Natural logarithms; formulas as in lm-evaluation-harness (`lm_eval/api/metrics.py`).
"""

from __future__ import annotations

import math
import re

from harness import Metric, Observation, hookimpl


class Perplexity(Metric):
    """exp(- mean log P(continuation)), per continuation and not per token."""

    name = "perplexity"
    output_types = frozenset({"loglikelihood"})
    higher_is_better = False
    aggregation = "self"

    def score(self, seen: Observation) -> tuple[float, ...]:
        return (sum(seen.logprobs),)

    def from_means(self, means: tuple[float, ...]) -> float:
        return math.exp(-means[0])


class _PerUnit(Metric):
    """Statistics of a text: its log-probability, and its length in words or bytes."""

    output_types = frozenset({"loglikelihood_rolling"})
    higher_is_better = False
    aggregation = "self"

    def score(self, seen: Observation) -> tuple[float, ...]:
        # A sample that is scored again from a record has the text that was scored as its target alone.
        text = seen.sample.requests[0].prompt.text if seen.sample.requests else seen.sample.target
        if not isinstance(text, str):
            raise ValueError("the sample has neither a request nor a target that holds its text")
        return sum(seen.logprobs), float(self.length(text))

    def length(self, text: str) -> int:
        return len(text.encode())

    def from_means(self, means: tuple[float, ...]) -> float:
        return math.exp(-means[0] / means[1])


class WordPerplexity(_PerUnit):
    """exp(- sum log P(text) / sum words); words are what whitespace separates."""

    name = "word_perplexity"

    def length(self, text: str) -> int:
        return len(re.split(r"\s+", text))


class BytePerplexity(_PerUnit):
    """exp(- sum log P(text) / sum UTF-8 bytes)."""

    name = "byte_perplexity"


class BitsPerByte(_PerUnit):
    """- sum log2 P(text) / sum UTF-8 bytes."""

    name = "bits_per_byte"

    def from_means(self, means: tuple[float, ...]) -> float:
        return -means[0] / means[1] / math.log(2)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [BitsPerByte, BytePerplexity, Perplexity, WordPerplexity]

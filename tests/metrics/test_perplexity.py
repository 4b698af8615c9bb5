from __future__ import annotations

import math

import pytest

from harness import Observation, Response, Sample
from harness_plugins.metrics.perplexity import BitsPerByte, BytePerplexity, Perplexity, WordPerplexity

TEXTS = [("the quick brown fox", -20.0), ("今天 天气很好。", -31.5), (" leading space", -12.25)]


def value(metric, seen):
    return metric.aggregate([metric.score(each) for each in seen])


def test_word_perplexity_weighs_texts_by_their_words(rolling_seen):
    seen = [rolling_seen(*row) for row in TEXTS]
    # white space splits the texts into 4, 2 and (with an empty one in front) 3 words
    assert value(WordPerplexity(), seen) == pytest.approx(math.exp(63.75 / 9))


def test_byte_perplexity_and_bits_per_byte_count_utf8_bytes(rolling_seen):
    seen = [rolling_seen(*row) for row in TEXTS]
    size = 19 + 22 + 14
    assert value(BytePerplexity(), seen) == pytest.approx(math.exp(63.75 / size))
    assert value(BitsPerByte(), seen) == pytest.approx(63.75 / size / math.log(2))


def test_perplexity_is_the_exponential_of_the_mean_loss():
    sample = Sample("lambada", "", 0, {}, (), " dog")
    seen = [Observation(sample, (Response(logprobs=(value,)),)) for value in (-1.0, -3.0)]
    assert value(Perplexity(), seen) == pytest.approx(math.exp(2.0))


def test_a_sample_scored_again_has_its_text_as_its_target():
    sample = Sample("wikitext", "", 0, {}, (), "two words")
    assert WordPerplexity().score(Observation(sample, (Response(logprobs=(-4.0,)),))) == (-4.0, 2.0)

"""Scores of benchmarks of long texts."""

from __future__ import annotations

import pytest

from harness import Observation, Response, Sample
from harness_plugins.metrics.long_context import SequenceRatio, StringMatch


def seen(target, *replies, **doc):
    return Observation(Sample("t", "", 0, doc, (), target), tuple(Response(text=r) for r in replies), (), replies)


def test_texts_that_stand_in_the_reply_are_counted():
    assert StringMatch().score(seen(("Ab", "cd"), "x AB y", "ab CD", None)) == pytest.approx((0.5 + 1 + 0) / 3)
    assert StringMatch(any=True).score(seen(("Ab", "cd"), "x AB y")) == 1.0
    assert StringMatch(texts="outputs").score(seen("ab, cd", "cd", outputs=["ab", "cd"])) == 0.5
    assert StringMatch().score(seen(None, "ab")) is None


def test_a_text_is_given_back_in_part():
    row = {"start": "q7"}
    metric = SequenceRatio(prefix="start")
    assert metric.score(seen("q7abcd", "q7abcd", **row)) == 1.0
    assert metric.score(seen("q7abcd", "q7abxx", **row)) == 0.5
    assert metric.score(seen("q7abcd", "abcd", None, **row)) == 0.0
    assert SequenceRatio().score(seen("abcd", "ab")) == pytest.approx(2 / 3)

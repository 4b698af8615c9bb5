"""The mean over what a model predicted of one sample, compared with its gold texts."""

from __future__ import annotations

import pytest

from harness import Observation, Response, Sample
from harness.scoring import mean_over_predictions


def seen(target, *predictions, choices=()):
    responses = tuple(Response(text=prediction) for prediction in predictions)
    return Observation(Sample("t", "", 0, {}, (), target, choices), responses, (), predictions)


def length_or_gold(prediction, golds):
    return len(prediction) if prediction not in golds else 10


@pytest.mark.parametrize(
    ("observed", "unread", "mean"),
    [
        (seen("a", "a", "bc"), None, 6.0),
        (seen(("a", "bc"), "a", "bc"), None, 10.0),
        (seen(1, "z", choices=("y", "z")), None, 10.0),  # an index stands for its choice
        (seen("a", "a", None), None, 5.0),
        (seen("a", "a", None), "four", 7.0),
        (seen(None, "a"), None, None),
        (seen("a"), "four", None),
    ],
)
def test_the_mean_over_predictions(observed, unread, mean):
    assert mean_over_predictions(observed, length_or_gold, unread) == mean

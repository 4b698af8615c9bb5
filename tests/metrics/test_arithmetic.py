"""Sums and their values."""

from __future__ import annotations

import pytest

from harness.scoring import arithmetic_value
from harness_plugins.metrics.math import ArithmeticEqual


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4849+5090=", 9939),
        ("-5846*[(-90*50%)-70%]/-95.8", -5846 * ((-90 * 0.5) - 0.7) / -95.8),
        ("5--3", 8),
        ("2**3", 8),
        ("1,200", 1200),
        ("7÷2", 3.5),
        ("1/0", None),
        ("(-8)**0.5", None),
        ("9**9**9**9", None),
        ("__import__('os')", None),
        ("", None),
    ],
)
def test_a_sum_is_worked_out_and_nothing_else_is(text, value):
    assert arithmetic_value(text) == (value if value is None else pytest.approx(value))


def test_values_are_compared_at_two_places(text_seen):
    metric = ArithmeticEqual()
    assert metric.score(text_seen("10/3=", "3.33")) == 1
    assert metric.score(text_seen("10/3=", "3.3")) == 0
    assert metric.score(text_seen("10/3=", None)) == 0
    assert metric.score(text_seen(None, "3.33")) is None
    assert ArithmeticEqual(places=0).score(text_seen("10/3=", "3.3")) == 1

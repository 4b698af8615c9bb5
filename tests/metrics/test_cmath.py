"""CMATH's numbers: which of a reply count, and what is near enough."""

from __future__ import annotations

import pytest

from harness import Sample
from harness.testing import check_metric, observation
from harness_plugins.metrics.cmath import CmathMatch, CmathNumbers

SAMPLE = Sample("t", "", 0, {}, (), "12")


# What the authors' extract_digits_prediction gives for these replies, in the order in which they stand there.
@pytest.mark.parametrize(
    ("reply", "numbers"),
    [
        ("3×4=12，一共有12支。", "12;12"),
        ("先是3盒，再是4支，\n一共有1,200支。", "4;1200"),
        ("占五分之三，也就是5分之3。", "3;3/5"),
        ("答案：$\\frac{3}{4}$", "3/4"),
        ("x12y", None),
        ("不知道", None),
    ],
)
def test_the_last_two_numbers_of_a_reply_may_be_its_answer(reply, numbers):
    assert CmathNumbers().apply([reply], SAMPLE) == [numbers]


def test_one_of_them_has_to_be_the_gold_number_or_near_it():
    def score(gold, read):
        return CmathMatch().score(observation(gold, read))

    assert score("12", "4;12") == score("0.5", "1/2") == score("0.5", "50%") == score("3.14", "3.15") == 1.0
    assert score("100", "101") == score("12", "") == score("12", "x") == 0.0
    assert score("100", "100.5") == 1.0  # whole numbers alone are compared as they are
    assert score(None, "12") is None
    assert check_metric(CmathMatch(), [observation("12", "12")]) == []


def test_hundreds_of_digits_are_no_decimal_number():
    assert CmathMatch().score(observation("0.5", "9" * 400)) == 0.0
    assert CmathMatch().score(observation("9" * 400, "9" * 400)) == 1.0


def test_fractions_are_written_with_a_slash_wherever_braces_stand():
    read = {r"=\frac{1}{2}。": "1/2", r"\frac{\frac{3}{4}，": "3/4", r"\frac{}{2} =5。": "2;5", r"=\frac{7": None}
    sample = Sample("t", "", 0, {}, (), "1")
    assert CmathNumbers().apply(list(read), sample) == list(read.values())

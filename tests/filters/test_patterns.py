"""Patterns in the order in which the authors of a benchmark try them."""

from __future__ import annotations

import pytest

from harness import Sample
from harness_plugins.filters.patterns import FirstPattern

SAMPLE = Sample("t", "", 0, {}, (), "A")


def test_an_earlier_pattern_wins_over_an_earlier_place():
    read = FirstPattern(["答案是([A-D])", "([A-D])"])
    assert read.apply(["先看B，答案是C", "只有D", "没有", None], SAMPLE) == ["C", "D", None, None]


def test_the_last_occurrence_of_the_first_pattern_that_occurs():
    assert FirstPattern(["选([A-D])"], take="last").apply(["选A，不，选B"], SAMPLE) == ["B"]


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="has 2 groups"):
        FirstPattern(["(a)(b)"])
    with pytest.raises(ValueError, match="take is 'middle'"):
        FirstPattern(["(a)"], take="middle")

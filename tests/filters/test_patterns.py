"""Patterns in the order in which the authors of a benchmark try them."""

from __future__ import annotations

import pytest

from harness import Sample
from harness_plugins.filters.patterns import ChoicePattern, FindAll, FirstPattern, NumberBehind

SAMPLE = Sample("t", "", 0, {}, (), "A")


def test_an_earlier_pattern_wins_over_an_earlier_place():
    read = FirstPattern(["答案是([A-D])", "([A-D])"])
    assert read.apply(["先看B，答案是C", "只有D", "没有", None], SAMPLE) == ["C", "D", None, None]


def test_the_last_occurrence_of_the_first_pattern_that_occurs():
    assert FirstPattern(["选([A-D])"], take="last").apply(["选A，不，选B"], SAMPLE) == ["B"]


def test_the_last_number_behind_the_last_mark_as_simple_evals_reads_it():
    sample = Sample("t", "de", 0, {}, (), "12", subset_fields={"word": "Antwort"})
    read = ["Antwort: 5\nAntwort: 3*4 = 1,200.", "Antwort: **12.50**", "Antwort: -7.0"]
    unread = ["12", "Answer: 12", "Antwort:", None]
    assert NumberBehind("word").apply(read + unread, sample) == ["1200", "12.5", "7", None, None, None, None]


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="has 2 groups"):
        FirstPattern(["(a)(b)"])
    with pytest.raises(ValueError, match="take is 'middle'"):
        FirstPattern(["(a)"], take="middle")


def test_all_that_a_pattern_finds_in_order_or_as_a_set():
    assert FindAll(r"\d+").apply(["3、1，3", "没有", None], SAMPLE) == ["3 1 3", None, None]
    assert FindAll("[A-D]", separator="", as_set=True).apply(["选D和A，再说一遍：A、D"], SAMPLE) == ["AD"]
    every = FirstPattern(["([A-D])[.．]", "([A-D])"], take="all")
    assert every.apply(["A. 对，C． 也对，B错", "B"], SAMPLE) == ["AC", "B"]
    assert FindAll("[A-D]", separator="", once=True).apply(["选D和A，再说一遍：A、D"], SAMPLE) == ["DA"]
    assert FindAll(r"第(\d)空", at_most=2).apply(["第3空 第1空 第2空"], SAMPLE) == ["3 1"]
    with pytest.raises(ValueError, match="has 2 groups"):
        FindAll("(a)(b)")


def test_the_option_that_a_reply_names_by_a_pattern_by_its_text_or_behind_a_colon():
    row = {"choices": ["Guilty", "Guilty of Romance", "Innocent."]}
    sample = Sample("t", "", 0, row, (), "(A)")
    read = ChoicePattern(r"\(([A-C])\)", ignore_case=True, ignore_punctuation=True)
    replies = ["it is (B), not (A)", "GUILTY of romance!", "innocent", "The answer: C", "who knows", None]
    assert read.apply(replies, sample) == ["B", "(B)", "(C)", "(C)", None, None]
    assert ChoicePattern("x", fallback="[invalid]").apply(["nothing"], sample) == ["[invalid]"]
    with pytest.raises(ValueError, match="no column 'choices'"):
        read.apply(["a"], SAMPLE)

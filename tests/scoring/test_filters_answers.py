from __future__ import annotations

import pytest

from harness import Sample
from harness_plugins.filters.answers import ChoiceLetter, LastNumber, StripReasoning


def read(step, *replies, choices=()):
    return tuple(step.apply(replies, Sample("t", "", 0, {}, (), 0, choices)))


def test_letters_are_as_many_as_the_choices():
    assert read(ChoiceLetter(), "答案：E", None) == (None, None)
    assert read(ChoiceLetter(), "答案：E", choices=("A", "B", "C", "D", "E")) == ("E",)
    assert read(ChoiceLetter(labels="ABCDEFG"), "The answer is G.") == ("G",)


def test_a_reply_may_give_the_text_of_a_choice():
    assert read(ChoiceLetter(), "Rome", choices=("Paris", "Rome", "Oslo")) == ("B",)


def test_several_letters():
    assert read(ChoiceLetter(several=True), "故选ACD", "选A") == ("ACD", "A")


def test_labels_must_differ():
    with pytest.raises(ValueError, match="must all differ"):
        ChoiceLetter(labels="ABA")


def test_numbers_and_reasoning():
    assert read(LastNumber(), "共有 1,024 个", "没有", None) == ("1024", None, None)
    assert read(StripReasoning(), "<think>x</think>B", None) == ("B", None)

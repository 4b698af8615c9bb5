from __future__ import annotations

import pytest

from harness_plugins.metrics.instructions.ifeval_zh import CHECKS


@pytest.mark.parametrize(
    ("name", "arguments", "follows", "breaks"),
    [
        (
            "length_constraints:number_words",
            {"num_words": 6, "relation": "at least"},
            "桥长120米，很长。",
            "桥长120米。",
        ),
        ("length_constraints:number_words", {"num_words": 4, "relation": "less than"}, "one two three", "一二三四"),
        (
            "length_constraints:number_sentences",
            {"num_sentences": 3, "relation": "at least"},
            "甲。乙！“丙？”",
            "甲，乙，丙。",
        ),
        ("keywords:forbidden_words", {"forbidden_words": ["太极"]}, "打拳", "打太极拳"),
        ("keywords:forbidden_words", {"forbidden_words": ["art"]}, "一个artist", "这是 Art 吗"),
        ("punctuation:no_comma", {}, "没有、逗号。", "有，逗号"),
        ("startend:quotation", {}, "“全文在此”", "“半句”话"),
        ("detectable_format:constrained_response", {}, "我的答案是否定的。", "我觉得不对"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "太白金星"},
            "从前。\n\n太白金星来了。",
            "太白金星来了。\n\n从前。",
        ),
    ],
)
def test_chinese_replies_are_counted_in_chinese(name, arguments, follows, breaks):
    assert CHECKS[name](follows, **arguments)
    assert not CHECKS[name](breaks, **arguments)


def test_a_single_mark_is_no_quotation():
    assert not CHECKS["startend:quotation"]('"')

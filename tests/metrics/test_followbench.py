"""FollowBench's rules, on replies for which the authors' script says the same (code_zh/rule_based_evaluation.py)."""

from __future__ import annotations

import pytest

from harness.testing import observation
from harness_plugins.metrics.followbench import FollowBenchRules


def score(reply, source, level=1, target="", category="mixed", example_id=1):
    doc = {"source": source, "level": level, "target": target, "category": category, "example_id": example_id}
    return FollowBenchRules().score(observation(None, reply, doc=doc))


@pytest.mark.parametrize(
    ("source", "target", "right", "wrong"),
    [
        ("E2E", "蓝色", "蓝色", "蓝色。"),
        ("WIKIEVENTS", "甲\n乙", "乙", "丙"),
        ("CONLL2003", "['甲', '乙']", "乙", "丙"),
        ("BBH_logical", "(B)", "不是(A)而是(B)", "(B)还是(A)"),
        ("BBH_time", "01/02/2020", "答案：01/02/2020", "2020年"),
        ("gsm_8k", "30美元", "10美元加20美元是30美元", "30"),
        ("self_made_space", "东", "在东边", "在西边"),
    ],
)
def test_an_answer_is_right_as_its_source_has_it(source, target, right, wrong):
    assert (score(right, source, target=target), score(wrong, source, target=target)) == (1, 0)
    assert score(None, source, target=target) == 0


def test_a_level_has_the_constraints_of_those_below():
    assert score("我们研究激活。", "arxiv", 4) == 1
    assert score("我们研究激活。我们研究", "arxiv", 1) == 0
    assert score("研究激活。", "arxiv", 2) == 1
    assert score("研究激活。", "arxiv", 3) == 0
    assert score("我们研究transformer的激活", "arxiv", 5) == 0
    assert score("琐碎的事，好", "samsum", 5) == 1


def test_an_example_is_followed_by_the_whole_reply():
    form = "{instruction}\n答案: {answer}"
    assert score("答案: 绿", "aeslc", target=form, category="example") == 1
    assert score("答案: 绿\n因为是草", "aeslc", target=form, category="example") == 0


def test_a_source_without_rules_is_an_error():
    with pytest.raises(ValueError, match="no rule is known for the source 'quora'"):
        score("a", "quora")

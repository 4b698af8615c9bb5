from __future__ import annotations

import pytest
from sklearn.metrics import f1_score

from harness.testing import check_metric, observation
from harness_plugins.metrics.classes import MacroF1, WeightedF1
from harness_plugins.metrics.correlation import Pearson, Spearman
from harness_plugins.metrics.entities import ExtractionF1

LABELS = ["甲", "乙", "丙", "丁"]
GOLD = ["甲", "甲", "乙", "丙", "丙", "丙", "乙"]
ANSWERS = ["甲", "乙", "乙", "丙", "甲", "丙", "甲"]


@pytest.mark.parametrize(("metric", "average"), [(MacroF1, "macro"), (WeightedF1, "weighted")])
def test_f1_over_classes_is_that_of_scikit_learn(metric, average):
    asked = metric(labels=LABELS)
    scores = [asked.score(observation(gold, answer)) for gold, answer in zip(GOLD, ANSWERS, strict=True)]
    assert asked.aggregate(scores) == pytest.approx(f1_score(GOLD, ANSWERS, average=average))


def test_an_answer_that_is_no_class_is_a_miss_and_choices_are_classes():
    metric = MacroF1(labels=["是", "否"])
    scores = [metric.score(observation(gold, answer)) for gold, answer in [("是", "是"), ("否", None), ("否", "不知")]]
    assert metric.aggregate(scores) == pytest.approx(0.5)
    choices = [
        observation(gold, choices=("A", "B"), logprobs=logprobs) for gold, logprobs in [(0, (-1, -2)), (1, (-1, -2))]
    ]
    assert MacroF1().aggregate([MacroF1().score(seen) for seen in choices]) == pytest.approx((2 / 3 + 0) / 2)
    assert MacroF1(labels=["是"]).score(observation(None, "是")) is None
    with pytest.raises(ValueError, match="none of the labels"):
        MacroF1(labels=["是"]).score(observation("也许", "是"))
    assert check_metric(MacroF1(labels=LABELS), [observation("甲", "乙")]) == []


def test_correlations_are_those_of_the_numbers_that_were_read():
    pairs = [("1", "2"), ("2", "2"), ("3", "5"), ("5", "4"), ("4", None)]
    seen = [observation(gold, answer) for gold, answer in pairs]
    scores = [score for each in seen if (score := Pearson().score(each)) is not None]
    assert len(scores) == 4
    assert Pearson().aggregate(scores) == pytest.approx(0.683130)  # scipy.stats.pearsonr
    items = [item for each in seen if (item := Spearman().item(each)) is not None]
    assert Spearman().measure(items) == pytest.approx(0.737865)  # scipy.stats.spearmanr


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0, 3, 100])
def test_a_correlation_does_not_hang_on_the_unit(unit, offset):
    pairs = [(offset + x, offset + y) for x, y in [(1, 2), (2, 2), (3, 5), (5, 4)]]
    seen = [observation(repr(gold * unit), repr(answer * unit)) for gold, answer in pairs]
    assert Pearson().aggregate([Pearson().score(each) for each in seen]) == pytest.approx(0.683130, abs=1e-5)


def test_a_correlation_that_rounding_would_decide_is_no_number():
    seen = [observation(str(10_000_000 + gold), str(answer)) for gold, answer in [(1, 2), (2, 2), (3, 5), (5, 4)]]
    with pytest.raises(ValueError, match="too close together"):
        Pearson().aggregate([Pearson().score(each) for each in seen])
    same = [observation(str(gold), "3.7") for gold in (1, 2, 3)]
    assert Pearson().aggregate([Pearson().score(each) for each in same]) == 0


def test_what_is_extracted_counts_once_and_only_as_a_whole():
    gold = '{"地址": ["杭州"], "姓名": ["林一", "王二"]}'
    metric = ExtractionF1()
    assert metric.score(observation(gold, '{"姓名": ["林一", "林一", "王"], "地址": "杭州", "组织": []}')) == (2, 3, 3)
    assert metric.score(observation(gold, None)) == (0, 0, 3)
    assert metric.score(observation('[["甲", "位于", "乙"]]', '[{"h": "甲", "r": "位于", "t": "乙"}]')) == (1, 1, 1)
    assert metric.aggregate([(2, 3, 3), (0, 0, 3)]) == pytest.approx(4 / 9)

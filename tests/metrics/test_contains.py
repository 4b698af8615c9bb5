from __future__ import annotations

from harness.testing import check_metric, observation
from harness_plugins.metrics.contains import Contains


def test_a_gold_answer_may_stand_anywhere():
    assert Contains().score(observation(("1881年", "1881"), "鲁迅生于1881年。")) == 1.0
    assert Contains().score(observation("1881", "1882")) == 0.0
    assert Contains().score(observation("1881", None)) == 0.0
    assert Contains().score(observation(None, "1881")) is None
    assert check_metric(Contains()) == []


def test_all_parts_may_be_wanted():
    metric = Contains(every="、")
    assert metric.score(observation("张坤、葛兰", "葛兰和张坤")) == 1.0
    assert metric.score(observation("张坤、葛兰", "张坤")) == 0.0


def test_doubt_is_wrong_and_some_answers_must_not_be_there():
    metric = Contains(uncertain=["不知道"], negative="[not]")
    assert metric.score(observation("1881", "不知道，1881？")) == 0.0
    assert metric.score(observation("[not]王一", "李二")) == 1.0
    assert metric.score(observation("[not]王一", "王一")) == 0.0


def test_punctuation_can_be_left_out():
    assert Contains(ignore=r"[$.,，。]").score(observation("$4,345.9", "答：43459美元")) == 1.0

from __future__ import annotations

from harness.testing import check_metric, observation
from harness_plugins.metrics.longbench import NamedClass, NumberPrecision


def test_a_class_is_worth_less_the_more_are_named():
    row = {"all_classes": ["体育", "体育赛事", "财经"]}
    assert NamedClass().score(observation("体育", "体育", doc=row)) == 1.0
    assert NamedClass().score(observation("财经", "体育或财经", doc=row)) == 0.5
    assert NamedClass().score(observation("体育赛事", "体育赛事", doc=row)) == 1.0  # a part of its name does not count
    assert NamedClass().score(observation("财经", None, doc=row)) == 0.0


def test_numbers_are_right_by_their_share():
    assert NumberPrecision().score(observation("段落7", "段落7")) == 1.0
    assert NumberPrecision().score(observation("段落7", "段落7或段落8")) == 0.5
    assert NumberPrecision().score(observation("段落7", "不知道")) == 0.0
    assert check_metric(NumberPrecision()) == []

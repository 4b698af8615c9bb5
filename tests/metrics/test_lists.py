from __future__ import annotations

import pytest

from harness.testing import check_metric, observation
from harness_plugins.metrics.lists import EditSimilarity, ListedItems

NEWS = [r"新闻(\d+)，类别名：(\w+)", r"新闻\s?(\d+)[，：](\w+)"]


def test_the_share_of_items_that_are_listed():
    gold = "新闻 1：体育\n新闻 2：家居"
    metric = ListedItems(NEWS)
    assert metric.score(observation(gold, "新闻2，类别名：家居\n新闻1，体育")) == 1
    assert metric.score(observation(gold, "分类如下：\n新闻1：体育\n新闻2：体育\n新闻3：家居")) == 0.5
    assert metric.score(observation(gold, "体育，家居")) == metric.score(observation(gold, None)) == 0
    assert metric.score(observation(None, "新闻1：体育")) is None
    with pytest.raises(ValueError, match="no pattern finds an item in the gold"):
        metric.score(observation("体育", "新闻1：体育"))
    assert check_metric(ListedItems(["(.+)"])) == []


def test_some_groups_of_an_item_can_be_compared_and_a_line_be_cut():
    metric = ListedItems([r"(\d+)[，,](\w+)[，,](\w+)"], keep=2, cut="（")
    assert metric.score(observation("4，亥，还\n8，恫，东", "4，亥，气（我不确定，可能，是）\n9，恫，东")) == 0.5


def test_edit_similarity_is_one_less_the_share_of_edits():
    metric = EditSimilarity(ignore_punctuation=True)
    assert metric.score(observation("桥长，120米。", "桥长120米")) == 1
    assert metric.score(observation("kitten", "sitting")) == pytest.approx(1 - 3 / 7)
    assert metric.score(observation("。", "")) == 1
    assert EditSimilarity().score(observation("。", None)) == 0
    assert check_metric(EditSimilarity()) == []

from __future__ import annotations

import pytest

from harness.testing import observation
from harness_plugins.metrics.jieba_words import JiebaF1, JiebaRouge1, JiebaRougeL


def test_rouge_counts_words():
    seen = observation("北京大学在海淀区", "北京大学在朝阳区")
    assert JiebaRouge1().score(seen) == pytest.approx(2 / 3)  # 北京大学 在 海淀区 against 北京大学 在 朝阳区
    assert JiebaRougeL(package="rouge").score(seen) == pytest.approx(2 / 3)
    assert JiebaRougeL(package="rouge", bare=True).score(observation("北京大学", "北京 大学。")) == pytest.approx(1.0)
    assert JiebaRougeL().score(observation("北京", "")) == 0.0
    assert JiebaRougeL().score(observation(None, "北京")) is None


def test_words_of_lvevals_list_say_nothing():
    seen = observation("可以使用的方面", "可以使用的因素")
    assert JiebaRougeL(package="rouge", ignored="lveval").score(seen) == 0.0


def test_f1_leaves_punctuation_out_and_the_best_gold_answer_counts():
    assert JiebaF1().score(observation(("南京", "北京大学"), "北京大学。")) == 1.0
    assert JiebaF1().score(observation("北京大学", "我不知道")) == 0.0


def test_an_answer_without_the_keywords_scores_nothing():
    metric = JiebaF1(keywords="answer_keywords")
    row = {"answer_keywords": "海淀区"}
    assert metric.score(observation("北京大学在海淀区", "北京大学在朝阳区", doc=row)) == 0.0
    assert metric.score(observation("北京大学在海淀区", "在海淀区", doc=row)) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="package is 'rouge2'"):
        JiebaRougeL(package="rouge2")

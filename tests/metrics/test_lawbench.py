from __future__ import annotations

import pytest

from harness import Observation, Response, Sample
from harness_plugins.metrics.lawbench import LawBenchAnswer, LawBenchScore


def score(rule, gold, reply, labels=()):
    sample = Sample("lawbench", "x", 0, {}, (), gold, (), subset_fields={"rule": rule, "labels": list(labels)})
    (answer,) = LawBenchAnswer().apply([reply], sample)
    return answer, LawBenchScore().score(Observation(sample, (Response(text=reply),), predictions=(answer,)))


def test_a_choice_is_right_only_where_no_other_label_is_named():
    assert score("choice", "B", "[正确答案]B<eoa>", "ABCD") == ("B", 1.0)
    assert score("choice", "B", "B对，A错", "ABCD") == ("A;B", 0.0)
    assert score("choice", "B", "都对", "ABCD") == (None, 0.0)


def test_labels_are_those_that_a_reply_names():
    charges = ["盗窃", "诈骗", "侵占", "职务侵占"]
    assert score("labels", "盗窃;诈骗", "罪名是诈骗和盗窃", charges) == ("盗窃;诈骗", 1.0)
    assert score("labels", "盗窃;诈骗", "盗窃", charges)[1] == pytest.approx(2 / 3)
    # as in the authors' script, a name within a name counts as well
    assert score("labels", "职务侵占", "职务侵占", charges) == ("侵占;职务侵占", pytest.approx(2 / 3))


def test_articles_are_read_from_chinese_numerals():
    assert score("articles", "264、69", "刑法第二百六十四条、第六十九条") == ("264;69", 1.0)
    # the authors' pattern takes the article away with its paragraph
    assert score("articles", "264、69", "刑法第二百六十四条、第六十九条第一款")[0] == "264"
    assert score("articles", "264", "没有条文") == (None, 0.0)


def test_a_prison_term_is_scored_by_the_distance_of_logarithms():
    assert score("prison", "12个月", "有期徒刑一年") == ("12", 1.0)
    assert score("prison", "12个月", "[刑期]十二个月<eoa>") == ("12", 1.0)
    assert score("prison", "12个月", "不好说") == (None, 0.0)
    assert score("prison", "12个月", "25月")[1] == pytest.approx(0.8710491)  # 1 - log(26 / 13) / log(216)


def test_an_amount_may_stand_anywhere():
    assert score("amount", "8500.0", "共计8500元，其中现金7000元") == ("8500;7000", 1.0)
    assert score("amount", "8500.0", "7000元")[1] == 0.0


def test_entities_and_trigger_words_are_as_right_as_their_characters():
    kinds = ["受害人", "时间"]
    assert score("entities", "受害人:严某某\n时间:昨天", "受害人：严某某\n时间：昨天下午 等", kinds)[
        1
    ] == pytest.approx((1 + 2 / 3) / 2)
    assert score("entities", "受害人:严某某", "没有实体", kinds)[1] == 0.0
    assert score("triggers", "查扣;退给", "查扣;归还")[1] == pytest.approx(0.5)
    assert score("reading", "2018年", "2018年。")[1] == 1.0


def test_texts_are_compared_by_words():
    assert score("rouge", "法院驳回上诉", "法院驳回上诉")[1] == pytest.approx(1.0)
    assert score("rouge", "法院驳回上诉", "")[1] == 0.0

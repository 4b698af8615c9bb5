from __future__ import annotations

import pytest

from harness_plugins.metrics.cmrc import (
    CjrcExactMatch,
    CjrcF1,
    CmrcExactMatch,
    CmrcF1,
    DuReaderRobustExactMatch,
    DuReaderRobustF1,
    ExpMrcF1,
    cmrc_f1,
    cmrc_tokens,
    expmrc_tokens,
    robust_tokens,
    word_tokens,
)


def test_exact_match_leaves_out_listed_punctuation_only(text_seen):
    assert CmrcExactMatch().score(text_seen("《红楼梦》", " 红楼梦。")) == 1.0
    assert CmrcExactMatch().score(text_seen("NBA", "nba")) == 1.0
    assert CmrcExactMatch().score(text_seen("1,000", "1000")) == 0.0
    assert CmrcExactMatch().score(text_seen(("甲", "乙"), "乙")) == 1.0


def test_f1_is_that_of_the_longest_common_run():
    assert cmrc_f1("北京大学", "北京大学") == 1.0
    assert cmrc_f1("在北京大学读书", "北京大学") == pytest.approx(2 * (4 / 7) * 1 / (4 / 7 + 1))
    # As bags of characters these would agree; the longest run is one token.
    assert cmrc_f1("一月四日", "四月一日") == pytest.approx(0.25)
    assert cmrc_f1("", "北京") == 0.0


def test_the_best_gold_and_the_mean_over_replies_count(text_seen):
    assert CmrcF1().score(text_seen(("甲乙", "丙丁"), "丙丁", "甲戊")) == pytest.approx((1 + 0.5) / 2)
    assert CmrcF1().score(text_seen("甲乙", None)) == 0.0
    assert CmrcF1().score(text_seen(None, "甲")) is None


def test_dureader_robust_splits_at_chinese_characters_alone(text_seen):
    assert robust_tokens("在St. Louis（NBA）3=三㐀") == ["在", "st. louisnba3", "=", "三", "㐀"]
    assert DuReaderRobustExactMatch().score(text_seen("1,402年", "1402年。")) == 1.0
    assert DuReaderRobustExactMatch().score(text_seen("1.5米", "1-5米")) == 0.0
    assert DuReaderRobustF1().score(text_seen(("12 30年", "桥"), "1230年")) == 0.5


def test_expmrc_counts_a_bag_of_tokens_without_punctuation_and_articles(text_seen):
    assert expmrc_tokens("在the St. Louis，《A》…(NBA)") == ["在", "st.", "louis", "a", "nba"]
    assert ExpMrcF1().score(text_seen("一月四日", "四月一日。")) == 1.0
    assert ExpMrcF1().score(text_seen("。", "")) == 1.0
    assert ExpMrcF1().score(text_seen("甲", "")) == 0.0


def test_cjrc_leaves_each_gold_answer_out_in_turn(text_seen):
    # What CJRCEvaluator._compute_turn_score gives.
    assert CjrcExactMatch().score(text_seen(("2010年", "2010", "是"), "《2010年》")) == pytest.approx(2 / 3)
    assert CjrcF1().score(text_seen(("2010年", "2010", "是"), "2010年")) == pytest.approx((8 / 9 + 1 + 1) / 3)
    assert CjrcF1().score(text_seen(("甲乙", "甲乙", "甲乙"), "乙 甲")) == 1.0
    assert CjrcF1().score(text_seen("甲乙", "甲")) == pytest.approx(2 / 3)
    assert CjrcF1().score(text_seen(("甲", "乙"), None)) == 0.0


def test_chinese_is_split_by_character_and_english_by_word():
    assert cmrc_tokens("于1999年，在St. Louis的NBA") == ["于", "1999", "年", "在", "st.", "louis", "的", "nba"]


# Tokens by NLTK 3.9's word_tokenize with its English model.
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("j. k. rowling", "j. k. rowling"),
        ("foo. bar", "foo . bar"),
        ("st. louis, no. 5", "st. louis , no . 5"),
        ("1992. the", "1992. the"),
        ("3.14% of $1,000.5", "3.14 % of $ 1,000.5"),
        ("don't it's cannot gonna", "do n't it 's can not gon na"),
        ('lorikeet("t. rubritorquis")', "lorikeet ( `` t. rubritorquis '' )"),
        ("r.s.;", "r.s . ;"),
        ("a.;", "a. ;"),
        ("the end.", "the end ."),
        ("what?yes!...", "what ? yes ! ..."),
        ("dogs' <br> ‘x’", "dogs ' < br > ‘ x ’"),
        ("b.) cannot", "b . ) can not"),
    ],
)
def test_words_are_split_as_by_the_official_script(text, tokens):
    assert " ".join(word_tokens(text.replace("’", ""))) == tokens.replace(" ’", "")

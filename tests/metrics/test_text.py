from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import Observation, Response, Sample
from harness_plugins.metrics.text import ExactMatch, PartAccuracy, TokenF1, mixed_tokens, squad_tokens


def test_exact_match_compares_as_it_stands(text_seen):
    assert ExactMatch().score(text_seen("Paris", "Paris")) == 1.0
    assert ExactMatch().score(text_seen("Paris", "paris")) == 0.0
    assert ExactMatch().score(text_seen("Paris", " Paris")) == 0.0


def test_options_are_applied_to_answer_and_gold(text_seen):
    # the options of GSM8K in lm-evaluation-harness
    metric = ExactMatch(
        ignore_case=True, ignore_punctuation=False, regexes_to_ignore=[",", r"\$", r"(?s).*#### ", r"\.$"]
    )
    assert metric.score(text_seen("She pays 5 + 3.\n#### 1,080", "$1080.")) == 1.0
    assert metric.score(text_seen("#### 70000", "70005")) == 0.0
    assert ExactMatch(ignore_punctuation=True, ignore_numbers=True).score(text_seen("a.b1", "ab")) == 1.0


@pytest.mark.parametrize(
    ("gold", "answer", "exact", "overlap"),
    [
        ("The Nile.", "‘Nile’", 1.0, 1.0),
        ("The Nile", "The_Nile", 1.0, 1.0),
        ("cooperate", "co-operate", 0.0, 0.0),
        ("AC/DC", "It is AC/DC", 0.0, 2 / 3),
        ("New York", "newyork", 0.0, 0.0),
        ("A", "a", 1.0, 0.0),  # nothing but an article
    ],
)
def test_words_as_triviaqa_has_them(text_seen, gold, answer, exact, overlap):
    assert ExactMatch(words="triviaqa").score(text_seen(gold, answer)) == exact
    assert TokenF1("triviaqa").score(text_seen(gold, answer)) == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("script", "gold", "answer", "exact", "overlap"),
    [
        # What mlqa_evaluation_v1.py, mkqa_eval_util.py and compute_scores.py give for these answers.
        ("mlqa", "1402年", "1402年。", 1.0, 1.0),
        ("mlqa", "1.1米", "11米", 1.0, 1.0),
        ("mlqa", "德国", "德国😀", 0.0, 0.8),
        ("mlqa", "。", "。", 1.0, 0.0),
        ("mkqa", "1402年", "1402 年", 1.0, 1.0),
        ("mkqa", "1402年", "1402年。", 0.0, 10 / 11),
        ("mkqa", "Li", "l", 0.0, 2 / 3),
        ("infinitebench", "《桥》", "桥。", 0.0, 2 / 3),
        ("infinitebench", "陈三", "陈三。", 1.0, 1.0),
        ("infinitebench", "Li", "il", 0.0, 1.0),
    ],
)
def test_chinese_words_as_the_scripts_of_three_sets_have_them(text_seen, script, gold, answer, exact, overlap):
    assert ExactMatch(words=script).score(text_seen(gold, answer)) == exact
    assert TokenF1(script).score(text_seen(gold, answer)) == pytest.approx(overlap)


def test_of_several_gold_answers_one_is_enough(text_seen):
    assert ExactMatch().score(text_seen(("NYC", "New York"), "New York")) == 1.0


def test_an_unread_answer_is_wrong_and_hidden_gold_is_unscored(text_seen):
    assert ExactMatch().score(text_seen("A", None)) == 0.0
    assert ExactMatch().score(text_seen(None, "A")) is None


def test_several_replies_score_their_mean(text_seen):
    assert ExactMatch().score(text_seen("A", "A", "B", None, "A")) == 0.5


def test_an_index_stands_for_its_choice(choice_seen):
    sample = Sample("t", "", 0, {}, (), 1, ("entailment", "neutral"))
    assert ExactMatch().score(Observation(sample, (Response(text="neutral"),), (), ("neutral",))) == 1.0


def test_exact_match_on_choices_asks_for_the_greedy_continuation(choice_seen):
    assert ExactMatch().score(choice_seen(["a", "b"], 1, [-1.0, -2.0], greedy=[False, True])) == 1.0
    assert ExactMatch().score(choice_seen(["a", "b"], 0, [-1.0, -2.0], greedy=[False, True])) == 0.0


def test_word_f1_ignores_case_articles_and_punctuation(text_seen):
    assert squad_tokens("The  Eiffel-Tower, a tower.") == ["eiffeltower", "tower"]
    assert TokenF1().score(text_seen("the Eiffel Tower", "Eiffel Tower in Paris")) == pytest.approx(2 * 2 / (2 + 4))


def test_char_f1_counts_chinese_characters_and_keeps_words(text_seen):
    assert mixed_tokens("Ｇ20 峰会，于杭州。") == ["g20", "峰", "会", "于", "杭", "州"]
    metric = TokenF1(level="char")
    assert metric.score(text_seen("北京大学", "北京，大学。")) == 1.0
    assert metric.score(text_seen("北京大学", "清华大学")) == pytest.approx(0.5)


def test_two_empty_answers_agree(text_seen):
    assert TokenF1().score(text_seen("the", "a")) == 1.0
    assert TokenF1().score(text_seen("the", "cat")) == 0.0


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_f1_of_choices_is_that_of_scikit_learn(pairs):
    sklearn = pytest.importorskip("sklearn.metrics")
    metric = TokenF1.for_output_type("multiple_choice")()
    rows = []
    for gold, chosen in pairs:
        sample = Sample("t", "", 0, {}, (), gold, ("no", "yes"))
        logprobs = (-1.0, -2.0) if chosen == 0 else (-2.0, -1.0)
        rows.append(metric.score(Observation(sample, (Response(logprobs=logprobs),))))
    theirs = sklearn.f1_score([gold for gold, _ in pairs], [chosen for _, chosen in pairs], zero_division=0.0)
    assert metric.aggregate(rows) == pytest.approx(theirs)


def test_parts_count_one_by_one_at_their_places(text_seen):
    metric = PartAccuracy()
    assert metric.score(text_seen("5 8 6", "5 6 8")) == (1, 3)
    assert metric.score(text_seen("5 8 6", "5 8")) == (2, 3)
    assert metric.score(text_seen("5 8 6", None)) == (0, 3)
    assert metric.from_means((1.5, 3)) == 0.5
    assert PartAccuracy(";").score(text_seen("十;千", "十 ; 百")) == (1, 2)
    assert PartAccuracy(penalise_missing=True).score(text_seen("5 8 6", "5 8")) == (1, 3)

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import Observation, Sample
from harness.scoring.statistics import estimates as statistics
from harness_plugins.metrics.generation import Bleu, Chrf, Rouge1, Rouge2, RougeL, RougeLsum, Ter

QUICK = settings(max_examples=25, derandomize=True, deadline=None)
WORDS = st.lists(
    st.sampled_from(["the", "cat", "sat", "on", "a", "mat", ".", "猫", "坐在", "垫子上", "。"]), max_size=12
)
TEXT = WORDS.map(" ".join)
CORPUS = st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=6)


def corpus_score(metric, corpus):
    rows = [metric.score(seen((first, second), reply)) for reply, first, second in corpus]
    return metric.aggregate(rows)


def seen(target, *answers):
    return Observation(Sample("t", "", 0, {}, (), target), (), (), answers)


@pytest.mark.parametrize(
    ("ours", "peer", "options"),
    [
        (Bleu, "BLEU", {}),
        (Bleu, "BLEU", {"tokenize": "zh"}),
        (Bleu, "BLEU", {"smooth_method": "floor", "lowercase": True}),
        (Chrf, "CHRF", {}),
        (Chrf, "CHRF", {"word_order": 2}),
        (Ter, "TER", {}),
        (Ter, "TER", {"normalized": True, "asian_support": True}),
    ],
)
def test_a_corpus_has_the_score_that_sacrebleu_gives_it(ours, peer, options):
    from sacrebleu import metrics

    metric, theirs = ours(**options), getattr(metrics, peer)(**options)

    @QUICK
    @given(CORPUS)
    def compare(corpus):
        replies, first, second = (list(column) for column in zip(*corpus, strict=True))
        expected = theirs.corpus_score(replies, [first, second]).score
        assert corpus_score(metric, corpus) == pytest.approx(expected, abs=1e-6)

    compare()


def test_an_unread_reply_is_an_empty_text_and_hidden_gold_is_unscored():
    assert Bleu().score(seen("the cat", None)) == Bleu().score(seen("the cat", ""))
    assert Bleu().score(seen(None, "the cat")) is None
    assert RougeL().score(seen("the cat", None)) == 0.0
    assert RougeL().score(seen(None, "the cat")) is None


def test_an_unknown_tokeniser_is_refused():
    with pytest.raises(ValueError, match=r"tokenize is 'chinese'; sacrebleu knows .*zh"):
        Bleu(tokenize="chinese")


def test_the_bootstrap_resamples_statistics_and_not_texts():
    import numpy as np

    metric = Bleu(tokenize="zh")
    rows = [
        metric.score(seen("今天天气很好，我们去公园。", "今天天气" + "很好" * (n % 3) + "我们去。")) for n in range(40)
    ]
    table = np.array(rows)
    estimate = statistics.own_estimate(table, metric.from_sums)
    pick = np.random.default_rng(9).integers(0, 40, (300, 40))
    slow = [metric.aggregate([rows[i] for i in row]) for row in pick]
    assert estimate.stderr == pytest.approx(np.std(slow, ddof=1), rel=0.15)
    assert estimate.interval[0] < estimate.value < estimate.interval[1]


@QUICK
@given(
    st.lists(st.sampled_from(["The", "cat", "sat,", "mats", "don't", "R2-D2", "running\n"]), max_size=12).map(" ".join),
    st.lists(st.sampled_from(["the", "Cat", "sat", "mat.", "dont", "r2", "run"]), max_size=12).map(" ".join),
    st.booleans(),
)
def test_rouge_of_english_is_that_of_rouge_score(reply, gold, stem):
    from rouge_score.rouge_scorer import RougeScorer

    metrics = [cls(stem=stem) for cls in (Rouge1, Rouge2, RougeL, RougeLsum)]
    expected = RougeScorer([metric.name for metric in metrics], use_stemmer=stem).score(gold, reply)
    for metric in metrics:
        assert metric.score(seen(gold, reply)) == pytest.approx(expected[metric.name].fmeasure, abs=1e-9)


def test_rouge_of_chinese_goes_by_characters():
    # six characters and a word against five characters and a word: 5 in common, "京大" and "大学" with their neighbours
    reply, gold = "我在北京大学读PhD", "北京大学的 phd"
    assert Rouge1().score(seen(gold, reply)) == pytest.approx(2 * 5 / (8 + 6))
    assert Rouge2().score(seen(gold, reply)) == pytest.approx(2 * 3 / (7 + 5))
    assert RougeL(value="recall").score(seen(gold, reply)) == pytest.approx(5 / 6)


def test_the_best_reference_counts():
    assert Rouge1().score(seen(("猫", "狗"), "狗")) == 1.0
    with pytest.raises(ValueError, match="value is 'f2'"):
        Rouge1(value="f2")

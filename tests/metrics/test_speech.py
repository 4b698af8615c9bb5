"""Word and character error rates of whole sets of transcripts, against jiwer's own over the same texts."""

from __future__ import annotations

import random
from typing import Any

import jiwer
import pytest
from opencc import OpenCC
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from harness.registry import load_plugins
from harness.testing import check_metric, observation
from harness_plugins.metrics import speech

REGISTRY = load_plugins()
WORDS = [
    "the",
    "cat",
    "sat",
    "mat",
    "it's",
    "colour",
    "twenty-five",
    "Mr.",
    "Smith",
    "3.5",
    "don't",
    "[noise]",
    "naïve",
]
SIGNS = "今天天气很好我們去北京看長城嗎，。！ AI3"


def metric(name: str, **options: Any) -> Any:
    return REGISTRY.metric(name)(**options)


def pairs(pieces: Any, glue: str, count: int) -> list[tuple[str, str]]:
    draw = random.Random(7)
    made = []
    for _ in range(count):
        gold = [draw.choice(pieces) for _ in range(draw.randrange(1, 15))]
        reply = [piece for piece in gold if draw.random() > 0.15]
        for _ in range(draw.randrange(3)):
            reply.insert(draw.randrange(len(reply) + 1), draw.choice(pieces))
        made.append((glue.join(gold), glue.join(reply)))
    return made


def rate(scorer: Any, texts: list[tuple[str, str]]) -> float:
    scores = [scorer.score(observation(gold, reply)) for gold, reply in texts]
    return float(scorer.aggregate(scores))


PAIRS = [200, pytest.param(4000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", PAIRS)
@pytest.mark.parametrize(
    ("normalize", "peer"), [("none", str), ("basic", BasicTextNormalizer()), ("english", EnglishTextNormalizer())]
)
def test_the_word_error_rate_is_that_of_jiwer_over_the_whole_set(normalize: str, peer: Any, count: int) -> None:
    texts = [(gold, reply) for gold, reply in pairs(WORDS, " ", count) if str(peer(gold)).strip()]
    expected = jiwer.wer(
        [str(peer(gold)).strip() for gold, _ in texts], [str(peer(reply)).strip() for _, reply in texts]
    )
    assert rate(metric("wer", normalize=normalize), texts) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", PAIRS)
def test_the_character_error_rate_is_that_of_jiwer_over_the_whole_set(count: int) -> None:
    basic, simplified = BasicTextNormalizer(), OpenCC("t2s")

    def plain(text: str) -> str:
        return "".join(basic(simplified.convert(text)).split())

    texts = [(gold, reply) for gold, reply in pairs(SIGNS, "", count) if plain(gold)]
    expected = jiwer.cer([plain(gold) for gold, _ in texts], [plain(reply) for _, reply in texts])
    assert rate(metric("cer", normalize="chinese"), texts) == pytest.approx(expected, abs=1e-12)


def test_empty_replies_count_and_unread_ones_do_not() -> None:
    scorer = metric("wer")
    assert scorer.score(observation("a b", "")) == (2.0, 2.0)
    assert scorer.score(observation("a b", "a b c d e")) == (3.0, 2.0)
    assert scorer.score(observation("a b", None)) is None
    assert scorer.score(observation(("x y", "a b"), "a c")) == (1.0, 2.0)
    with pytest.raises(ValueError, match="references are empty"):
        rate(scorer, [("[noise]", "a")])


def test_asked_for_their_mean_a_sample_scores_its_own_rate_and_texts_are_compared_as_they_are() -> None:
    texts = [("A b", "a b"), ("c", "c d e"), ("f g h i", "")]
    mean = REGISTRY.metric("wer").for_aggregation("mean")
    assert [mean().score(observation(gold, reply)) for gold, reply in texts] == [1 / 2, 2 / 1, 4 / 4]
    assert mean(normalize="basic").score(observation(*texts[0])) == 0
    assert REGISTRY.metric("cer").for_aggregation("mean")().score(observation("ab", "a")) == 0.5
    check_metric(mean)


@pytest.mark.parametrize("name", ["wer", "cer"])
def test_it_is_a_metric_like_all_others(name: str) -> None:
    check_metric(REGISTRY.metric(name))
    with pytest.raises(ValueError, match="normalize is 'french'; it can be one of"):
        metric(name, normalize="french")


def test_texts_are_normalised_as_whisper_does_it_whatever_stands_in_them():
    parts = [
        "(",
        ")",
        "[",
        "]",
        "<",
        ">",
        " ",
        "   ",
        "'",
        "um",
        "'d been",
        "don",
        "'t",
        "it",
        "twenty",
        "%",
        "\n",
        "中",
    ]
    draw = random.Random(5)
    for name, official in (("english", EnglishTextNormalizer()), ("basic", BasicTextNormalizer())):
        normalize = speech.NORMALIZERS[name]()
        for _ in range(500):
            text = "".join(draw.choices(parts, k=draw.randint(1, 14)))
            assert normalize(text) == str(official(text)).strip(), text

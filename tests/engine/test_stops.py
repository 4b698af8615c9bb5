"""What ends an answer and what of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import ClassVar

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from harness.engine.stops import StopRule

VOCABULARY = dict(
    enumerate(
        ("<eos>", "a", "b\n", "\nQ", "x", "</think>", "\n\n", "<|im_end|>", "<unk>", "<think>", "[THINK]", "[/THINK]")
    )
)
SPECIAL = (0, 7, 8, 10, 11)
A, X, THINK_END, BLANK, THINK, MARK, MARK_END = 1, 4, 5, 6, 9, 10, 11


class WordTokenizer:
    added_tokens_decoder: ClassVar = {i: SimpleNamespace(content=VOCABULARY[i], special=True) for i in SPECIAL}

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(VOCABULARY[i] for i in ids if not (skip_special_tokens and i in SPECIAL))

    def convert_tokens_to_ids(self, token: str) -> int:
        return next((i for i, text in VOCABULARY.items() if text == token), 8)

    def convert_ids_to_tokens(self, token: int) -> str:
        return VOCABULARY[token]


def rule(*until: str, limit: int = 10, think_end: str | int | None = None, opened: str | None = None) -> StopRule:
    return StopRule(WordTokenizer(), until, frozenset({0}), limit, think_end, opened)


def test_a_stop_string_across_two_tokens_ends_the_row_and_is_cut() -> None:
    stop = rule("\n\n")

    assert not stop.ends([1, 2])
    assert stop.ends([1, 2, 3])
    assert stop.finish([1, 2, 3]).text == "ab"
    assert stop.finish([1, 2, 3]).finish_reason == "stop"


def test_eos_ends_the_row_and_is_no_part_of_the_text() -> None:
    found = rule().finish([1, 4, 0])

    assert (found.text, found.finish_reason, found.tokens) == ("ax", "stop", 3)


def test_a_stop_string_that_is_a_special_token_ends_the_row() -> None:
    stop = rule("no such token", "<|im_end|>")

    assert not stop.ends([1, 8])
    assert stop.ends([1, 7])
    assert (stop.finish([1, 7]).text, stop.finish([1, 7]).finish_reason) == ("a", "stop")


def test_a_special_token_may_end_the_reasoning() -> None:
    found = rule(think_end="<|im_end|>").finish([1, 7, 4, 0])

    assert (found.reasoning, found.text) == ("a", "x")


def test_the_first_of_several_stop_strings_cuts() -> None:
    assert rule("x", "\n").finish([1, 2, 4]).text == "ab"


def test_a_row_that_never_stops_ends_by_length() -> None:
    stop = rule("never", limit=2)

    assert stop.ends([1, 1])
    assert stop.finish([1, 1]).finish_reason == "length"


def test_stop_strings_in_the_reasoning_do_not_end_the_row() -> None:
    for think_end in ("</think>", 5):
        stop = rule("\n\n", think_end=think_end)

        assert not stop.ends([1, 6])
        assert stop.ends([1, 6, 5, 6, 4, 6])
        found = stop.finish([1, 6, 5, 6, 4, 6])
        assert (found.reasoning, found.text) == ("a\n\n", "x")


def test_an_answer_without_reasoning_is_judged_as_a_whole() -> None:
    found = rule("x", think_end="</think>").finish([1, 4, 4])

    assert (found.reasoning, found.text) == (None, "a")


@pytest.mark.parametrize(
    ("opened", "tokens"),
    [
        ("<think>", [A, BLANK, THINK_END, BLANK, X, BLANK]),
        (None, [THINK, A, BLANK, THINK_END, X, BLANK]),
        (None, [MARK, A, BLANK, MARK_END, X, BLANK]),
        ("[THINK]", [A, BLANK, MARK_END, X, BLANK]),
    ],
    ids=["opened by the prompt", "by the model", "special tokens", "special, opened by the prompt"],
)
def test_reasoning_is_known_by_its_marks_and_no_stop_string_in_it_counts(opened: str | None, tokens: list[int]) -> None:
    stop = rule("\n\n", opened=opened)

    assert [stop.ends(tokens[:end]) for end in range(1, len(tokens) + 1)] == [False] * (len(tokens) - 1) + [True]
    found = stop.finish(tokens)
    assert (found.text, found.reasoning, found.finish_reason) == ("x", "a", "stop")


@pytest.mark.parametrize("think_end", [None, "</think>", THINK_END])
@pytest.mark.parametrize(("opened", "tokens"), [("<think>", [A, X]), (None, [THINK, A, X])])
def test_reasoning_that_was_cut_is_no_answer(
    opened: str | None, tokens: list[int], think_end: str | int | None
) -> None:
    found = rule("x", limit=len(tokens), think_end=think_end, opened=opened).finish(tokens)

    assert (found.text, found.finish_reason) == ("", "length")
    assert found.reasoning is not None and found.reasoning.endswith("ax")


def test_marks_that_do_not_begin_the_answer_are_a_part_of_it() -> None:
    found = rule().finish([A, THINK, X, THINK_END, 0])

    assert (found.text, found.reasoning) == ("a<think>x</think>", None)


@pytest.mark.parametrize("merges", [0, 60])
@pytest.mark.parametrize("stop", ["问题：", "👍🏽", "\n\n", ". ", "Question:"])
def test_a_stop_string_of_broken_characters_ends_a_row_with_its_last_byte(stop: str, merges: int) -> None:
    text = f"一个答案👍 it is so{stop}"
    bytes_of = Tokenizer(models.BPE())
    bytes_of.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_of.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    bytes_of.train_from_iterator([text] * 2, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_of)
    tokens = tokenizer(text).input_ids
    rule = StopRule(tokenizer, (stop,), frozenset(), 999)

    assert [rule.ends(tokens[:end]) for end in range(1, len(tokens) + 1)] == [False] * (len(tokens) - 1) + [True]
    assert rule.finish(tokens).text == text.removesuffix(stop)


def test_a_row_is_decoded_only_where_its_last_token_holds_the_end_of_a_stop_string() -> None:
    stop, decoded = rule("\nQ"), []

    def decode(tokens: Sequence[int]) -> str:
        decoded.append(list(tokens))
        return StopRule._decode(stop, tokens)

    stop._decode = decode  # type: ignore[method-assign]
    tokens = [A, X, BLANK, A, 3]
    assert [stop.ends(tokens[:end]) for end in range(1, len(tokens) + 1)] == [False] * 4 + [True]
    assert next(row for row in decoded if len(set(row)) > 1) == tokens

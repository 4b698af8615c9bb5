"""What ends an answer and what of it is kept."""

from __future__ import annotations

from harness.engine.stops import StopRule

VOCABULARY = {0: "<eos>", 1: "a", 2: "b\n", 3: "\nQ", 4: "x", 5: "</think>", 6: "\n\n", 7: "<|im_end|>", 8: "<unk>"}
SPECIAL = (0, 7, 8)


class WordTokenizer:
    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(VOCABULARY[i] for i in ids if not (skip_special_tokens and i in SPECIAL))

    def convert_tokens_to_ids(self, token: str) -> int:
        return next((i for i, text in VOCABULARY.items() if text == token), 8)

    def convert_ids_to_tokens(self, token: int) -> str:
        return VOCABULARY[token]


def rule(*until: str, limit: int = 10, think_end: str | int | None = None) -> StopRule:
    return StopRule(WordTokenizer(), until, frozenset({0}), limit, think_end)


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

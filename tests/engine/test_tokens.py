"""Where a continuation begins, how a text is cut, and that BOS is written once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import GenerationParams, Prompt, Request, UsageError
from harness.engine.tokens import Encoder, TokenRules, encode_requests, scored_from, windows


class CharTokenizer:
    """One token a character, except that `merges` are one token each; writes `^` as BOS."""

    bos_token, bos_token_id, eos_token_id = "^", 1, 2

    def __init__(self, merges: tuple[str, ...] = (), writes_bos: bool = True) -> None:
        self.merges, self.writes_bos = merges, writes_bos

    def __call__(self, texts: list[str], add_special_tokens: bool, **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [self._ids(text, add_special_tokens) for text in texts]}

    def _ids(self, text: str, special: bool) -> list[int]:
        ids = [1] if special and self.writes_bos else []
        while text:
            piece = next((merge for merge in self.merges if text.startswith(merge)), text[0])
            ids.append(1 if piece == "^" else sum(map(ord, piece)) + 10 * len(piece))
            text = text[len(piece) :]
        return ids

    def decode(self, ids: list[int]) -> str:
        return "^" if ids == [1] else "".join(chr(i - 10) for i in ids)


def encode(requests: list[Request], tokenizer: CharTokenizer | None = None, **rules: Any) -> Any:
    settings = TokenRules(**{"max_length": 100, "prefix_token": 1, **rules})
    encoder = Encoder(tokenizer or CharTokenizer(), settings)
    return encode_requests(encoder, requests, lambda prompt: prompt.text, "the model")


def choice(context: str, *continuations: str) -> Request:
    return Request("loglikelihood", Prompt(context), continuations)


def ids(text: str) -> tuple[int, ...]:
    return tuple(1 if c == "^" else ord(c) + 10 for c in text)


def test_trailing_white_space_is_scored_with_the_continuation() -> None:
    (sequence,) = encode([choice("ab \n", "c")]).scores

    assert sequence.tokens == ids("^ab \nc")
    assert sequence.start == 3


def test_a_token_across_the_join_is_scored_whole() -> None:
    (sequence,) = encode([choice("ab", "cd")], CharTokenizer(merges=("bc",))).scores

    assert sequence.start == 2
    assert sequence.tokens[:2] == ids("^a")
    assert len(sequence.tokens) == 4


def test_an_empty_context_is_one_prefix_token() -> None:
    (sequence,) = encode([choice("", "ab")]).scores

    assert (sequence.tokens, sequence.start) == (ids("^ab"), 1)


def test_white_space_alone_counts_as_no_context() -> None:
    (sequence,) = encode([choice("\n", "ab")]).scores

    assert (sequence.tokens, sequence.start) == (ids("^\nab"), 1)


def test_an_empty_continuation_is_an_error_of_its_request_alone() -> None:
    encoded = encode([choice("ab", "c", ""), choice("ab", "c")])

    assert encoded.errors == {0: "continuation 1 is empty: there is nothing to score"}
    assert any(sequence.request == 1 for sequence in encoded.scores)


@pytest.mark.parametrize(
    ("text", "writes_bos", "add_bos_token", "expected"),
    [
        ("ab", True, None, "^ab"),
        ("^ab", True, None, "^ab"),
        ("ab", False, None, "ab"),
        ("ab", False, True, "^ab"),
        ("^ab", False, True, "^ab"),
        ("ab", True, False, "ab"),
    ],
)
def test_bos_is_never_doubled(text: str, writes_bos: bool, add_bos_token: bool | None, expected: str) -> None:
    encoder = Encoder(CharTokenizer(writes_bos=writes_bos), TokenRules(100, 1, add_bos_token))

    assert encoder.encode([text]) == [list(ids(expected))]


def test_a_long_context_is_cut_from_the_left_and_counted() -> None:
    encoded = encode([choice("a" * 20, "bc")], max_length=8)

    (sequence,) = encoded.scores
    assert (len(sequence.tokens), sequence.start) == (9, 7)
    assert sequence.tokens[-2:] == ids("bc")
    assert encoded.truncated == {0: 14}


def test_a_continuation_longer_than_the_window_is_an_error() -> None:
    encoded = encode([choice("a", "b" * 9)], max_length=8)

    assert "continuation 0 has 9 tokens but the model's window is 8" in encoded.errors[0]
    assert not encoded.scores


def test_overflow_can_be_skipped_or_refused() -> None:
    long = [choice("a" * 20, "b"), choice("a", "b")]

    skipped = encode(long, max_length=8, on_overflow="skip")
    assert list(skipped.errors) == [0]
    assert [sequence.request for sequence in skipped.scores] == [1]
    with pytest.raises(UsageError, match="1 request is longer than the model's window, by up to 13 tokens"):
        encode(long, max_length=8, on_overflow="error")


def test_a_prompt_leaves_room_for_its_answer() -> None:
    request = Request("generate", Prompt("a" * 30), generation=GenerationParams(max_new_tokens=5))

    encoded = encode([request], max_length=20)

    assert len(encoded.generations[0].tokens) == 15
    assert encoded.truncated == {0: 16}


def test_more_new_tokens_than_the_window_is_an_error() -> None:
    request = Request("generate", Prompt("a"), generation=GenerationParams(max_new_tokens=20))

    assert "max_new_tokens=20 leaves no room" in encode([request], max_length=20).errors[0]


def test_windows_of_a_long_text_score_each_token_once() -> None:
    cut = list(windows([10, 11, 12, 13, 14, 15, 16], prefix_token=1, max_length=3))

    assert cut == [((1, 10, 11, 12), 1), ((12, 13, 14, 15), 1), ((13, 14, 15, 16), 3)]


@given(st.lists(st.integers(2, 9), max_size=60), st.integers(1, 9))
def test_windows_cover_any_text(tokens: list[int], max_length: int) -> None:
    scored = [token for sequence, start in windows(tokens, 1, max_length) for token in sequence[start:]]

    assert scored == tokens
    assert all(2 <= len(sequence) <= max_length + 1 for sequence, _ in windows(tokens, 1, max_length))


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_at_least_one_token_is_scored_and_all_before_it_agree(context: list[int], whole: list[int]) -> None:
    start = scored_from(context, whole)

    assert 0 <= start < len(whole)
    assert whole[:start] == context[:start]


def test_options_share_the_ids_of_their_question_and_equal_ids_are_one_object() -> None:
    first, second, other = encode([choice("问题：", "甲", "乙乙"), choice("答题：", "丙")]).scores
    assert first.context is second.context is first.inputs
    assert first.context[2] == other.context[2] > 256 and first.context[2] is other.context[2]
    assert [each.tokens for each in (first, second)] == [ids("^问题：甲"), ids("^问题：乙乙")]
    assert (len(second), second.start, second.inputs) == (6, 4, ids("^问题：乙"))

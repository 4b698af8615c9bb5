"""Token ids are those of the tokenizer, whether a shared prefix is tokenised again or taken from another text."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine.prefix_tokens import PrefixTokenizer
from harness.testing import tiny_tokenizer

SHOTS = "Question: How many apples are left? Answer: 42\n题目：下列哪一项是正确的？\nA. 甲\nB. 乙\n\n" * 6
PIECES = st.sampled_from(
    ["the", " fox", "42", "7", "\n", "\n\n", "  ", "题目", "：", "A", "'s", "<|im_end|>", "<|im", "é", "e\u0301"]
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer(600)


def plain(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    found: list[list[int]] = tokenizer(texts)["input_ids"]
    return found


class CountingTokenizer(PrefixTokenizer):
    """Counts the characters that are tokenised the plain way."""

    characters = 0

    def _plain(self, texts: Any, special: bool) -> list[list[int]]:
        self.characters += sum(map(len, texts))
        return super()._plain(texts, special)


def test_a_shared_beginning_is_tokenised_once(tokenizer: Any) -> None:
    shared = CountingTokenizer(tokenizer)
    texts = [f"{SHOTS}{i} + {i} =" for i in range(300)]

    assert shared.encode(texts, True) == plain(tokenizer, texts)
    assert 0 < shared.characters < 0.1 * sum(map(len, texts))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=8).map("".join), min_size=8, max_size=24), st.lists(PIECES, min_size=1))
def test_ids_are_those_of_the_tokenizer(ends: list[str], last: list[str]) -> None:
    tokenizer = tiny_tokenizer_once()
    shared = PrefixTokenizer(tokenizer)
    contexts = [SHOTS + end for end in ends]
    continuations = ["".join(last)] * len(contexts)

    encoded = shared.encode(contexts, True)

    assert encoded == plain(tokenizer, contexts)
    wholes = [context + text for context, text in zip(contexts, continuations, strict=True)]
    assert shared.extend(contexts, encoded, continuations, True) == plain(tokenizer, wholes)
    assert shared.shares


@functools.cache
def tiny_tokenizer_once() -> Any:
    return tiny_tokenizer(600)


def test_a_tokenizer_that_looks_back_is_left_alone() -> None:
    from tokenizers import pre_tokenizers

    tokenizer = tiny_tokenizer(600)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    texts = [f"{SHOTS}{i} + {i} =" for i in range(20)]
    shared = PrefixTokenizer(tokenizer)

    assert not shared.shares
    assert shared.encode(texts, True) == plain(tokenizer, texts)


def test_a_difference_on_the_checked_texts_ends_sharing(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = PrefixTokenizer(tokenizer)
    texts = [f"{SHOTS}{i} + {i} =" for i in range(20)]
    monkeypatch.setattr(PrefixTokenizer, "_shared_prefix", lambda *_: ([1, 2, 3], 10))

    assert shared.encode(texts, True) == plain(tokenizer, texts)
    assert not shared.shares

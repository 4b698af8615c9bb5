"""Replies that a model could not end: whatever they repeat, reading them takes time that grows with their length.

A reading that looks at the rest of the text from each of 100,000 places takes minutes. What is right takes a small part
of the bound, which leaves room for a slow machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from harness import Sample
from harness.scoring import arithmetic_value, choice_letter, final_number, program_in, sanitized_code
from harness.scoring.extraction.call_dialects import as_known_form
from harness.testing import observation
from harness_plugins.filters.json_value import JsonValue
from harness_plugins.metrics.cmath import CmathNumbers
from harness_plugins.metrics.drop import DropExactMatch
from harness_plugins.metrics.instructions.ifeval import number_bullet_lists, number_placeholders
from harness_plugins.metrics.jieba_words import words
from harness_plugins.metrics.speech import NORMALIZERS

LENGTH = 100_000
SECONDS = 20.0
SAMPLE = Sample("task", "", 0, {}, (), "A")


def json_value(reply: str) -> str | None:
    return JsonValue().apply([reply], SAMPLE)[0]


def cmath_numbers(reply: str) -> str | None:
    return CmathNumbers().apply([reply], SAMPLE)[0]


def dropped(reply: str) -> float | None:
    row = {
        "answer": {"number": "", "date": {}, "spans": ["Bo", "Cy"]},
        "validated_answers": {"number": [], "date": [], "spans": []},
    }
    return DropExactMatch(split=True).score(observation("Bo", f"Bo{reply}Cy", doc=row))


@pytest.mark.parametrize(
    ("read", "parts"),
    [
        (json_value, ["[", "{", '{"a":', "[1,", '["', "\\frac{1}{"]),
        (cmath_numbers, ["1", "\\frac{", "\\frac{1}{", "=1", "1分之"]),
        (final_number, ["1", "$1", "0", "\n"]),
        (choice_letter, ["```\n", "\n", "A ", " \n"]),
        (lambda reply: choice_letter(f"A{reply}x"), [".", " \n"]),
        (arithmetic_value, ["1", "1,"]),
        (lambda reply: sanitized_code(reply, "f"), ["import x\n"]),
        (lambda reply: choice_letter(f"{reply}B"), ["<answer>", "<|begin_of_box|>"]),
        (lambda reply: program_in(f"A{reply}答案"), [" ", "<pre><code>", "<pre "]),
        (lambda reply: as_known_form(f"a{reply}x", ["a"]), ["\n", " \n", " "]),
        (lambda reply: number_placeholders(reply, 1), ["["]),
        (lambda reply: number_bullet_lists(reply, 1), ["\n", "\n "]),
        (words, ["中"]),
        (dropped, [" ", "\n "]),
        (NORMALIZERS["basic"](), ["[", "(", " ", "<("]),
        (NORMALIZERS["english"](), ["[", "(", " ", "um "]),
    ],
    ids=[
        "json_value",
        "cmath_numbers",
        "final_number",
        "choice_letter",
        "letter first",
        "arithmetic_value",
        "sanitized_code",
        "answer tags",
        "program_in",
        "calls",
        "placeholders",
        "bullets",
        "jieba",
        "drop",
        "basic",
        "english",
    ],
)
def test_endless_repetition_is_read_in_time(read: Callable[[str], object], parts: list[str]) -> None:
    begun = time.process_time()
    for part in parts:
        read((part * LENGTH)[:LENGTH])
    assert time.process_time() - begun < SECONDS


def test_a_row_of_digits_without_an_end_is_no_number() -> None:
    assert final_number("The answer is 42.") == "42"
    assert final_number("It is 7, or " + "1" * 5000) is None
    assert final_number("3." + "1" * 5000) is None
    assert final_number("1" * 5000 + ", so the answer is 5") == "5"


def test_a_number_of_thousands_of_digits_is_a_word_and_half_a_surrogate_pair_a_sign() -> None:
    assert NORMALIZERS["english"]()("1" * 5000) == "1" * 5000
    assert NORMALIZERS["chinese"]()("\ud800北京") == NORMALIZERS["chinese"]()("?北京")


def test_bullets_below_blank_lines_and_closed_brackets_are_counted() -> None:
    assert number_bullet_lists("Here: \n\n \n * one\n\t* two\n** no\n\n- three", 3)
    assert number_placeholders("[a] and [b\n c] [[d]] [", 2)

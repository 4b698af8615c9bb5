"""The table of replies in `replies.yaml` is the specification of answer extraction."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.reasoning import _PAIRS
from harness.scoring.extraction import numbers
from harness.scoring.extraction.final_answers import (
    boxed,
    chinese_number,
    choice_letter,
    choice_letters,
    final_number,
    numbers_in,
    strip_reasoning,
)

TABLE = yaml.safe_load((Path(__file__).parent / "replies.yaml").read_text(encoding="utf-8"))


def misread(kind, read):
    """Rows of the table that are read in another way: thousands of them, so that a test each would be slow."""
    rows = [(reply, reading, more[0] if more else {}) for reply, reading, *more in TABLE[kind]]
    readings = [(reply, options, reading, read(reply, **options)) for reply, reading, options in rows]
    return [row for row in readings if row[2] != row[3]]


def test_one_letter():
    assert misread("letter", choice_letter) == []


def test_several_letters():
    assert misread("letters", choice_letters) == []


def test_the_final_number():
    assert misread("number", final_number) == []


def test_reasoning_is_taken_off():
    assert misread("reasoning", lambda reply: strip_reasoning(reply)[0]) == []


def test_the_table_is_large_enough_to_mean_something():
    assert sum(map(len, TABLE.values())) >= 500


def test_the_reasoning_is_kept_apart():
    assert strip_reasoning("<think> a </think>x<think>b</think>y") == ("xy", "a\nb")
    assert strip_reasoning("plain") == ("plain", None)
    assert strip_reasoning("<think></think>B") == ("B", "")


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("analysisPeriod=3, kind=4)]", "analysisPeriod=3, kind=4)]"),
        ("analysisWe need 6*7, first 40.assistantfinalIt is 42.", "It is 42."),
        ("analysiswe need 6*7, guess 40. assistantfinal42", "42"),
        ("analysis\nWe need it.\nassistant final\n42", "42"),
        ("analysisNeed a tool, 40?assistantcommentaryNone, 41.assistantfinal42", "42"),
        ("<|channel|>analysis<|message|>40?<|end|><|start|>assistant<|channel|>final<|message|>42", "42"),
        ("<|channel|>commentary<|message|>41?<|end|><|start|>assistant<|channel|>final<|message|>42<|return|>", "42"),
        ("analysisWe need 6*7. Suppose 42 but check", ""),
        ("analysis We need 6*7 = 42", ""),
        ("analysis用户问 6*7，是 42", ""),
        ("analysiswe need 42", ""),
        ("analysis: the sum is 42", "analysis: the sum is 42"),
        ("analysis of both sides gives 42", "analysis of both sides gives 42"),
        ("Analysis shows 42", "Analysis shows 42"),
        ("analysis_of = 42", "analysis_of = 42"),
    ],
)
def test_channels_without_their_marks_are_known(reply, answer):
    assert strip_reasoning(reply)[0] == answer


def test_boxes_are_read_with_their_braces_balanced():
    assert boxed(r"\boxed{\frac{1}{2}} and \fbox{x} and \boxed{cut") == [r"\frac{1}{2}", "x"]


def test_all_numbers_of_a_text():
    assert numbers_in("第3题：1,000 元的 15% 是 150") == ["1000", "15", "150"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("零", 0), ("十", 10), ("一百零五", 105), ("一百五", 150), ("三万五", 35_000), ("一亿零三", 100_000_003)],
)
def test_chinese_numerals(text, value):
    assert chinese_number(text) == value


def test_a_text_that_is_no_chinese_numeral_is_refused():
    with pytest.raises(ValueError, match="no Chinese numeral"):
        chinese_number("三个")


@pytest.mark.parametrize(
    "part",
    [
        "A, B, ",
        "\n",
        " ",
        "(",
        "1,",
        "一",
        "答案",
        r"\boxed{",
        "<think>",
        "- ",
        "“",
        "A、",
        "A和",
        "与选项A",
        "三四",
        "12元5角",
        "3-5 ",
        "~~",
        "_a_ ",
        "answer, ",
        "除A",
        "the one that ",
        "US$",
    ],
)
def test_endless_repetition_is_read_in_linear_time(part):
    text = part * 6000
    assert choice_letter(text) in (None, "A")
    assert choice_letters(text) in (None, "A", "AB")
    assert final_number(text) is None or part in ("1,", "一", "三四", "12元5角")


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.text(st.sampled_from(list("ABCDab 答案是选不对的一二三百万亿点分之负.,:：（）()[]{}\\$*#-=/%19０９eE×^\n'\"<>")))
)
def test_any_text_can_be_read(text):
    assert choice_letter(text) in (None, *"ABCD")
    assert set(choice_letters(text) or "") <= set("ABCD")
    number = final_number(text)
    assert number is None or any(char.isdigit() for char in number)
    assert choice_letter(text) is None or choice_letters(text) == choice_letter(text)


WORDS = """
A B (A) A. B、 答案 答案是 正确 错误 不 选 除了 其余 都 ： ， 。 option answer is The correct wrong not Therefore, ~~A~~
\\text{ } \\boxed{ $ <think> </think> minus about two thirds half hundred million and twenty-five 3 3.5 1,000 - % 3-5 到
元 5角 零下 百分之 万分之 五 三十 壹佰 两 万 分之 又 点 2^ {10} × 10 / ( ) | ✅ → => Question: Human: <|im_end|> 題目
選擇 or 或 US$3k 1.2.3
"""


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(WORDS.split()), max_size=12), st.sampled_from(["", " ", "\n"]))
def test_any_words_can_be_read(words, between):
    text = between.join(words)
    assert choice_letter(text) in (None, *"ABCD")
    assert set(choice_letters(text) or "") <= set("ABCD")
    number = final_number(text)
    assert number is None or any(char.isdigit() for char in number)


def test_long_numbers_keep_all_their_digits():
    assert final_number("-" + "1234567890" * 5) == "-" + "1234567890" * 5


@pytest.mark.parametrize(("opening", "closing"), _PAIRS)
def test_every_mark_of_reasoning_is_seen_in_a_reply_that_has_no_other(opening: str, closing: str) -> None:
    assert strip_reasoning(f"{opening}6 times 7{closing}42") == ("42", "6 times 7")
    assert strip_reasoning(f"{opening}6 times") == ("", "6 times")


@pytest.mark.parametrize("unit", ["the answer is ", "答案是", "the answer is x = y ", "答案是这样的，答案："])
def test_a_cue_without_end_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    """A reply that runs in circles is no reason to read it again for each round."""
    read: list[int] = []

    def counted(text: str) -> list[str]:
        read.append(len(text))
        return numbers_in(text)

    monkeypatch.setattr(numbers, "numbers_in", counted)
    reply = unit * 500
    assert final_number(reply) is None
    assert sum(read) < 4 * len(reply)


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("The answer is 3, so the answer is", "3"),
        ("The answer is 3 = the answer is =", "3"),
        ("The answer is 2 + 1 = 3, the answer is x", "3"),
        ("The answer is 2 + 1 = 3, the answer is x = y", "2"),
        ("答案是 7，答案是", "7"),
        ("The answer is 3. The answer is unknown", "3"),
    ],
)
def test_a_cue_without_a_number_leaves_it_to_the_one_before(reply: str, number: str) -> None:
    assert final_number(reply) == number

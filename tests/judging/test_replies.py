"""The typed reply: what it tells a judge, and that it reads nothing but exactly that."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judging.replies import ReplyError, ReplyField, ReplyFormat, WrittenFormat

FORM = ReplyFormat(
    (
        ReplyField("reason", "text", "in one sentence"),
        ReplyField("score", "integer", least=1, most=10),
        ReplyField("sure", "number", least=0, most=1),
        ReplyField("safe", "boolean"),
        ReplyField("kind", "choice", choices={"right": 1.0, "half right": 0.5, "未作答": None}),
    )
)
GOOD = {"reason": "it holds", "score": 7, "sure": 0.5, "safe": True, "kind": "half right"}


def written(**changes: object) -> str:
    return json.dumps({**GOOD, **changes}, ensure_ascii=False)


def test_the_instruction_names_every_key_its_type_and_its_range() -> None:
    text = FORM.instruction()
    for part in (
        "one JSON object and nothing else",
        '"reason": a text in quotes; in one sentence',
        '"score": a whole number from 1 to 10',
        '"sure": a number from 0 to 1',
        '"safe": true or false',
        '"kind": one of "right", "half right", "未作答"',
    ):
        assert part in text
    assert "1 到 10 之间的整数" in ReplyFormat(FORM.fields, "zh").instruction()


@pytest.mark.parametrize(
    "text",
    [
        written(),
        f"\n  {written()}\n",
        f"```json\n{written()}\n```",
        f"```\n{json.dumps(GOOD, indent=2)}\n```",
        f"\ufeff{written()}",
        "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(GOOD[name])}" for name in reversed(GOOD)) + "}",
        written(score=7.0),
        written(reason='{"score": 1} ``` <think>'),
    ],
)
def test_what_was_asked_for_is_read(text: str) -> None:
    found = FORM.parse(text)
    assert {**found, "reason": "it holds"} == GOOD
    assert isinstance(found["score"], int)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("7", 'it does not begin with "{"'),
        ("I give it 7 of 10.", 'it does not begin with "{"'),
        (f"Here it is: {written()}", 'it does not begin with "{"'),
        (f"{written()} I hope this helps.", "there is text after the JSON object"),
        (f"{written(score=10)}\n{written(score=1)}", "there is text after the JSON object"),
        (f"```json\n{written()}\n```\nor rather\n```json\n{written(score=1)}\n```", "text after"),
        (f"[{written()}]", 'it does not begin with "{"'),
        (written()[:-1], "it is not valid JSON"),
        (written()[: len(written()) // 2], "it is not valid JSON"),
        (written().replace('"', "'"), "it is not valid JSON"),
        ("{}", 'the key "reason" is missing'),
        (json.dumps({**GOOD, "extra": 1}), 'there is a key "extra", which was not asked for'),
        (written().replace('"score": 7', '"score": 1, "score": 10'), 'the key "score" is given twice'),
        (written(score=11), '"score" is 11, not a whole number from 1 to 10'),
        (written(score=0), '"score" is 0'),
        (written(score=-7), '"score" is -7'),
        (written(score=7.5), '"score" is 7.5'),
        (written(score="7"), '"score" is "7"'),
        (written(score=True), '"score" is true'),
        (written(score=None), '"score" is null'),
        (written(score=[7]), '"score" is [7]'),
        (written(sure=1.01), '"sure" is 1.01, not a number from 0 to 1'),
        (written().replace("0.5", "NaN"), "NaN is no JSON number"),
        (written().replace("0.5", "Infinity"), "Infinity is no JSON number"),
        (written().replace("0.5", "1e999"), '"sure" is Infinity'),
        (written(safe="true"), '"safe" is "true", not true or false'),
        (written(safe=1), '"safe" is 1'),
        (written(kind="wrong"), '"kind" is "wrong", not one of'),
        (written(kind="Right"), '"kind" is "Right"'),
        (written(reason=None), '"reason" is null'),
        (written(reason=["x" * 200]), '"reason" is ["xxx'),
        (written().replace(": 7,", f": {'9' * 5000},"), "not JSON of a sensible size"),
        ("[" * 100_000, 'it does not begin with "{"'),
        ('{"a":' * 100_000, "not JSON of a sensible size"),
    ],
)
def test_everything_else_is_refused_and_says_why(text: str, problem: str) -> None:
    with pytest.raises(ReplyError) as refused:
        FORM.parse(text)
    assert problem in str(refused.value)
    assert len(str(refused.value)) < 250


@given(st.text())
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        found = FORM.parse(text)
    except ReplyError:
        return
    assert found.keys() == GOOD.keys()


@given(
    st.fixed_dictionaries(
        {
            "reason": st.text(),
            "score": st.integers(1, 10),
            "sure": st.floats(0, 1),
            "safe": st.booleans(),
            "kind": st.sampled_from(["right", "half right", "未作答"]),
        }
    )
)
def test_whatever_fits_comes_back_as_it_was_written(values: dict[str, object]) -> None:
    assert FORM.parse(json.dumps(values)) == values


def test_examples_are_replies_that_can_be_read_from_the_least_to_the_greatest() -> None:
    found = [FORM.parse(text) for text in FORM.examples()]
    assert [each["score"] for each in found] == list(range(1, 11))
    assert (found[0]["kind"], found[-1]["kind"]) == ("未作答", "right")
    assert (found[0]["safe"], found[-1]["sure"]) == (False, 1)


def test_values_are_worth_what_the_rubric_says() -> None:
    by_name = {each.name: each for each in FORM.fields}
    read = FORM.answers(FORM.parse(written()))
    assert read == {"score": "7", "sure": "0.5", "safe": "true", "kind": "half right"}
    assert [by_name[name].worth(text) for name, text in read.items()] == [7.0, 0.5, 1.0, 0.5]
    assert by_name["kind"].worth("未作答") is None
    assert by_name["kind"].bounds == (0.5, 1.0)
    assert not by_name["reason"].has_value


def test_a_number_in_free_text_is_read_as_the_authors_script_reads_it():
    written = WrittenFormat((ReplyField("rating", "number", least=1, most=10),), "en", ("[[{}]]", "[{}]"))
    assert written.parse("Fine, as [3] says.\nRating: [[7.5]]. Not [[2]].") == {"rating": 7.5}
    assert written.parse("Rating: [4]") == {"rating": 4}
    for unreadable in ("", "7", "Rating: [[x]]", "Rating: [[11]]", "[[ 5 ]]"):
        with pytest.raises(ReplyError):
            written.parse(unreadable)
    assert written.instruction() == ""
    assert written.parse(written.examples()[-1]) == {"rating": 10}

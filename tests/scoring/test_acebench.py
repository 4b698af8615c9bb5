"""ACEBench's own reading and comparison, oddities included."""

import pytest

from harness import Sample, SetValue
from harness.scoring import CallError, acebench_calls, acebench_correct, acebench_notices
from harness.testing import observation
from harness_plugins.metrics.acebench import AceBenchDialogues

FUNCTION = {
    "name": "book",
    "parameters": {
        "properties": {
            "city": {"type": "string"},
            "nights": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "guest": {"type": "object", "properties": {"age": {"type": "number"}}},
        },
        "required": ["city"],
    },
}


@pytest.mark.parametrize(
    ("reply", "calls"),
    [
        ("好的：[book(city='北京', nights=-2)] 完成]", [{"book": {"city": "北京", "nights": -2}}]),
        (
            "[a.book(tags=['x', (1,)], guest={'age': true})]",
            [{"a.book": {"tags": ["x", (1,)], "guest": {"age": "true"}}}],
        ),
        ("[]", []),
    ],
)
def test_the_first_part_in_square_brackets_is_read(reply: str, calls: list[object]) -> None:
    assert acebench_calls(reply, several_turns=False) == calls


def test_with_several_turns_the_whole_reply_is_read_without_its_blanks() -> None:
    assert acebench_calls("[book(city = 'New York')]\n", several_turns=True) == [{"book": {"city": "NewYork"}}]
    with pytest.raises(CallError):
        acebench_calls("OK [book()]", several_turns=True)


@pytest.mark.parametrize("reply", ["", "book()", "[book]", "[book(", "[book(a=b.c)]", "[book(a=9**9**9)]", "[" * 5000])
def test_what_is_no_list_of_calls_is_said_to_be_none(reply: str) -> None:
    with pytest.raises(CallError):
        acebench_calls(reply, several_turns=False)


@pytest.mark.parametrize(
    ("given", "wanted", "right"),
    [
        ({"city": "in New-York."}, {"city": "new york"}, True),
        ({"city": "York"}, {"city": "new york"}, False),
        ({"city": "x", "nights": 9}, {"city": "x", "nights": 2}, True),  # of a number, only the type is compared
        ({"city": "x", "nights": "2"}, {"city": "x", "nights": 2}, False),
        ({"city": "x", "tags": ["B"]}, {"city": "x", "tags": ["b"]}, True),
        ({"city": "x", "tags": ("b",)}, {"city": "x", "tags": ["b"]}, False),
        ({"city": "x", "guest": {"age": 21}}, {"city": "x", "guest": {"age": 2}}, True),
        ({"city": "x", "guest": {"age": 1}}, {"city": "x", "guest": {"age": 2}}, False),
        ({"city": "x", "guest": []}, {"city": "x", "guest": {"age": 2}}, False),
        ({"nights": 2}, {"nights": 2}, False),
        ({"city": "x", "more": 1}, {"city": "x"}, False),
        ({}, {"city": "x"}, False),
    ],
)
def test_an_argument_is_compared_as_the_script_compares_it(
    given: dict[str, object], wanted: dict[str, object], right: bool
) -> None:
    assert acebench_correct([FUNCTION], [{"book": given}], {"book": wanted}) is right


def test_numbered_calls_come_in_any_order_and_other_answers_may_be_right() -> None:
    truth = {"book_1": {"city": "a"}, "book_2": {"city": "b"}}
    assert acebench_correct([FUNCTION], [{"book": {"city": "b"}}, {"book": {"city": "a"}}], truth)
    assert not acebench_correct([FUNCTION], [{"book": {"city": "b"}}], truth)
    assert not acebench_correct([FUNCTION], [{"book": {"city": "b"}}, {"book": {"city": "b"}}], truth)
    assert acebench_correct([FUNCTION], [{"book": {"city": "c"}}], [{"book": {"city": "a"}}, {"book": {"city": "c"}}])


def test_a_notice_names_what_is_missing() -> None:
    reply = "Missing necessary parameters (city, nights) for the api (book)"
    assert acebench_notices("special_incomplete_0", reply, {"book": ["city", "nights"]})
    assert not acebench_notices("special_incomplete_0", reply, {"book": ["tags"]})
    assert not acebench_notices("special_error_param_0", reply, {"city": ["城"]})
    assert not acebench_notices("special_irrelevant_0", reply, "")


def test_a_dialogue_is_right_where_all_its_turns_are() -> None:
    metric = AceBenchDialogues()
    reply = "[{'book': {'city': 'x'}}]"

    def item(name: str, right: bool) -> object:
        doc = {"id": name, "function": [FUNCTION], "ground_truth": {"book": {"city": "x" if right else "y"}}}
        return metric.item(observation("x", reply, doc=doc))

    turns = [("multi_turn_0_0", True), ("multi_turn_0_1", False), ("multi_turn_1_0", True), ("multi_turn_1_1", True)]
    items = [item(name, right) for name, right in turns]
    assert metric.measure(items).value == 0.5
    assert metric.measure(items[2:] * 2).value == 1.0
    assert metric.measure([item("atom_0", True), item("atom_1", False)]).value == 0.5
    failed = metric.unanswered(Sample("t", "", 0, {"id": "multi_turn_1_1"}, (), None))
    assert metric.measure([*items[:3], failed]) == SetValue(0.0, 1)

"""Where a row's options are, what moves with them, and what cannot be moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_files import load

from harness import DataError, TaskError
from harness.tasks.answer_options import find_options, moved
from harness.tasks.modify import infer_options
from harness.tasks.references import place_reference
from harness.tasks.schema_entries import OptionsEntry

ROW = {"question": "哪一个是红色的？🍎", "A": "草", "B": "血", "C": "天", "D": "雪", "answer": "B"}
COLUMNS = {"columns": ["A", "B", "C", "D"], "answer": "answer"}


def turned(row: Mapping[str, Any], order: tuple[int, ...], **keys: Any) -> dict[str, Any]:
    entry = OptionsEntry.model_validate(keys)
    return dict(moved(row, entry, find_options(row, entry), order))


def test_the_answer_follows_its_option() -> None:
    shown = turned(ROW, (1, 2, 3, 0), **COLUMNS)
    assert [shown[letter] for letter in "ABCD"] == ["血", "天", "雪", "草"]
    assert (shown["answer"], shown["question"]) == ("A", ROW["question"])


@pytest.mark.parametrize(
    ("answer", "form", "expected"),
    [
        ("B", None, "D"),
        ("b", None, "d"),
        ("AC", None, "AC"),
        ("A,  c", None, "A,  c"),
        ("A B D", None, "B C D"),
        (1, None, 3),
        ("1", None, "3"),
        ([0, 1], None, [2, 3]),
        (["A", "B"], None, ["C", "D"]),
        ("血", "text", "血"),
        (None, None, None),
        ("", None, ""),
    ],
)
def test_an_answer_stays_in_the_form_that_it_has(answer: Any, form: str | None, expected: Any) -> None:
    shown = turned({**ROW, "answer": answer}, (2, 3, 0, 1), **COLUMNS, form=form)
    assert shown["answer"] == expected


def test_options_can_be_a_list_a_text_or_deep_inside() -> None:
    rows = {"choices": ["a1", "b1", "c1"], "text": "a1\nb1\nc1", "in": {"text": ["a1", "b1", "c1"], "id": 7}, "y": 0}
    order = (2, 0, 1)
    assert turned(rows, order, columns="choices", answer="y")["choices"] == ["c1", "a1", "b1"]
    assert turned(rows, order, columns="text", answer="y")["text"] == "c1\na1\nb1"
    deep = turned(rows, order, columns="in.text", answer="y")
    assert (deep["in"], deep["y"]) == ({"text": ["c1", "a1", "b1"], "id": 7}, 1)
    assert rows["in"] == {"text": ["a1", "b1", "c1"], "id": 7}  # the row itself is left alone


def test_a_letter_in_front_of_an_option_belongs_to_the_place() -> None:
    row = {"o": ["(A)春", "(B)夏", "(C)秋"], "y": "C"}
    shown = turned(row, (2, 0, 1), columns="o", answer="y", prefix=r"\([A-G]\)")
    assert shown == {"o": ["(A)秋", "(B)春", "(C)夏"], "y": "A"}


@given(st.permutations("ABCD"), st.sampled_from("ABCD"), st.lists(st.text(min_size=1), min_size=4, max_size=4))
def test_there_and_back_is_the_row_itself(order: list[str], answer: str, texts: list[str]) -> None:
    row = {**dict(zip("ABCD", texts, strict=True)), "answer": answer}
    there = tuple("ABCD".index(letter) for letter in order)
    back = tuple(there.index(place) for place in range(4))
    shown = turned(row, there, **COLUMNS)
    assert shown[shown["answer"]] == row[row["answer"]]
    assert turned(shown, back, **COLUMNS) == row


def test_options_that_are_missing_at_the_end_are_none() -> None:
    row = {**ROW, "C": None, "D": ""}
    entry = OptionsEntry.model_validate(COLUMNS)
    found = find_options(row, entry)
    assert found.texts == ("草", "血")
    assert moved(row, entry, found, (1, 0)) == {**row, "A": "血", "B": "草", "answer": "A"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"A": "x"}, "the row has no 'B'"),
        ({**ROW, "answer": "E"}, "the answer 'E' is none of the 4 options"),
        ({**ROW, "answer": 4}, "the answer 4 is none of the 4 options"),
        ({**ROW, "answer": -1}, "the answer -1 is none of the 4 options"),
        ({**ROW, "answer": "血"}, "neither letters nor an index; say what it is with options.form"),
        ({**ROW, "answer": 1.5}, "neither letters nor an index"),
    ],
)
def test_a_row_that_is_not_as_the_task_says_is_an_error(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_options(row, OptionsEntry.model_validate(COLUMNS))


@pytest.mark.parametrize(
    "option",
    [
        *(
            "以上都对",
            "以上都不是",
            "以上选项均不正确",
            "上述说法都不对",
            "以上三点都对",
            "以上",
            "A和B",
            "A、B、C均正确",
            "AC",
        ),
        *("$A，B，C$均对", r"$\mathrm{A}，\mathrm{B}$均是", "仅A和C", "选项A的一半", "前两项", "A与B"),
        *("All of the above", "none of the above.", "Both A and B", "A and C only", "Neither A nor B", "A, B and C"),
        *("both of the above are true", "the first two options", "same as option B"),
    ],
)
def test_an_option_that_means_others_by_their_place_is_found(option: str) -> None:
    assert "refers to others" in place_reference(["一种答案", "另一种答案", "再一种答案", option], "", "ABCD")


@pytest.mark.parametrize(
    "option",
    [
        *(
            "60岁以上",
            "500元以上",
            "都不对",
            "其他选项都不是",
            "none of these",
            "维生素A和维生素D",
            "以上官仪为代表的诗坛新秀",
        ),
        *(
            "A型血",
            "C",
            "A公司",
            "B细胞或T细胞",
            "A[1], A[2]",
            "$A \\cup B$",
            "36°C",
            "vitamin A and iron",
            "所有人",
            "全部",
        ),
        *("above sea level", "the first two kings", "A和B两点的距离"),
    ],
)
def test_an_option_that_means_the_same_anywhere_can_be_moved(option: str) -> None:
    assert place_reference(["一种答案", "另一种答案", "再一种答案", option], "", "ABCD") == ""


def test_blood_groups_and_line_segments_are_no_references() -> None:
    assert place_reference(["A", "B", "AB", "O"], "哪种血型？", "ABCD") == ""
    assert place_reference(["AB", "BC", "CD", "AD"], "哪条边最长？", "ABCD") == ""


def test_a_question_that_names_an_option_and_letters_in_the_texts_keep_the_order() -> None:
    assert "question refers to an option" in place_reference(["一", "二"], "选项B错在哪里？", "AB")
    assert "carry letters" in place_reference(["A．一", "B．二"], "", "AB")


LM_EVAL = """\
task: letters
dataset_path: rows
test_split: test
output_type: multiple_choice
doc_to_text: "TEXT"
doc_to_choice: CHOICE
doc_to_target: TARGET
"""


@pytest.mark.parametrize(
    ("text", "choice", "target", "expected"),
    [
        ("{{q}} {{A}} {{B}}", "[A, B]", "y", (["A", "B"], "y", "q")),
        ("{{q.strip()}} {{choices[0]}} {{choices[1]}}", "[A, B]", "'{{y}}'", ("choices", "y", "q")),
        ("Q: {{question}}", "choices", "answer", ("choices", "answer", "question")),
        ("{{q}} {{passage}} {{A}} {{B}}", "[A, B]", "y", (["A", "B"], "y", None)),
        ("{{q | upper}} {{A}} {{B}}", "[A, B]", "y", (["A", "B"], "y", None)),
    ],
)
def test_what_only_one_reading_of_the_prompt_allows_need_not_be_said(
    tmp_path: Any, text: str, choice: str, target: str, expected: tuple[Any, ...]
) -> None:
    task = load(tmp_path, LM_EVAL.replace("TEXT", text).replace("CHOICE", choice).replace("TARGET", target))
    found = infer_options(task.config)
    assert found is not None
    assert (found.columns, found.answer, found.question) == expected


@pytest.mark.parametrize(
    ("text", "choice", "target"),
    [
        ("{{q}}", "[A, B]", "y"),  # the options stand somewhere in the question
        ("{{q}} {{A}} {{B}}", "['yes', 'no']", "y"),
        ("{{q}} {{A}} {{B}}", "[A, B]", "\"{{ ['x', 'y'].index(y) }}\""),
        ("{{q}}", "'{{ [a, b] }}'", "y"),
    ],
)
def test_what_can_be_read_in_two_ways_is_not_guessed(tmp_path: Any, text: str, choice: str, target: str) -> None:
    task = load(tmp_path, LM_EVAL.replace("TEXT", text).replace("CHOICE", choice).replace("TARGET", target))
    assert infer_options(task.config) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("{columns: [A], answer: y}", r"task.yaml:8: options.columns: should be"),
        ("{columns: c, anwser: y}", r"task.yaml:8: unknown key 'anwser' in 'options'; did you mean 'answer'\?"),
        ("{columns: [B, A]}", "options: should be a mapping with columns A, B in this order, or with `labels: BA`"),
        ("{columns: [x, y], labels: A}", "options.labels: should be"),
        ("{columns: [x, y, z], labels: AB}", "options: should be a mapping with labels for all 3 columns"),
        ("{columns: c, labels: ABA}", r"task.yaml:8: options.labels: should be letters that all differ, found 'ABA'"),
        ("{columns: c, prefix: '(['}", r"task.yaml:8: options.prefix: should be a regular expression .*, found '\(\['"),
        ("{columns: c, form: word}", r"task.yaml:8: options.form: should be 'letter', 'index' or 'text'"),
    ],
)
def test_a_mistake_in_options_is_one_line_that_names_the_place(tmp_path: Any, keys: str, message: str) -> None:
    text = LM_EVAL.replace("TEXT", "{{q}}").replace("CHOICE", "choices").replace("TARGET", "y")
    with pytest.raises(TaskError, match=message):
        load(tmp_path, text + f"options: {keys}\n")

"""A task's own example: what it states must hold, and `harness check` says where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from task_files import CHOICE, REPLY, library, write

from harness.registry import load_plugins
from harness.run.check import check_task

GOOD = (
    CHOICE
    + """\
example:
  row: {q: "Is it?", a: 0}
  shots: [{q: "Was it?", a: 1}]
  prompt: "Subject.\\n\\nWas it?\\nAnswer: no\\n\\nIs it?\\nAnswer:"
  choices: ['yes', 'no']
  target: 0
  scores:
    - {logprobs: [-1.0, -2.0], acc: 1}
    - {logprobs: [-2.0, -1.0], acc: 0}
"""
)


def problems(folder: Path, text: str) -> list[str]:
    write(folder, "task.yaml", text)
    books = library(folder)
    (ref,) = books.select([entry.name for entry in books.entries()])
    return check_task(books, ref, load_plugins())


@pytest.mark.parametrize(
    ("ability", "noted"),
    [
        ("mathmatics", "ability 'mathmatics' is none that tables and maps group by"),
        ("transaltion", "group by; did you mean 'translation'?"),
        ("maths", ""),
        ("[reading, law]", ""),
    ],
)
def test_an_ability_that_nothing_groups_by_is_noted(tmp_path: Path, ability: str, noted: str) -> None:
    write(tmp_path, "task.yaml", f"{GOOD}ability: {ability}\n")
    books = library(tmp_path)
    (ref,) = books.select([entry.name for entry in books.entries()])
    notes: list[str] = []
    assert check_task(books, ref, load_plugins(), notes.append) == []
    assert len(notes) == bool(noted) and all(noted in note for note in notes)


def test_an_example_that_holds_says_nothing(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Is it?\\nAnswer:", "Is it?\\nAnswers:"), "prompt differs at character 43: should be"),
        (("choices: ['yes', 'no']\n  target", "choices: ['no', 'yes']\n  target"), "choices should be ['no', 'yes']"),
        (("target: 0", "target: 1"), "target should be 1, but is 0"),
        (("[-2.0, -1.0], acc: 0", "[-2.0, -1.0], acc: 1"), "logprobs [-2.0, -1.0] should get acc 1, but gets 0.0"),
        (("acc: 0}", "accc: 0}"), "the task has no score 'accc' (it has: acc)"),
        (('row: {q: "Is it?", a: 0}', 'row: {q: "Is it?", a: 7}'), "the index 7 is outside the 2 choices"),
    ],
)
def test_an_example_that_does_not_hold_says_what_and_where(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    assert change[0] in GOOD
    (problem,) = problems(tmp_path, GOOD.replace(*change))
    assert message in problem
    assert "task.yaml:" in problem and "\n" not in problem


def test_replies_are_scored_too(tmp_path: Path) -> None:
    text = REPLY + "example: {row: {q: a, a: b}, scores: [{reply: b, exact_match: 1}, {reply: c, exact_match: 1}]}\n"
    (problem,) = problems(tmp_path, text)
    assert "reply 'c' should get exact_match 1, but gets 0.0" in problem


def test_an_unknown_metric_is_a_problem(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD.replace("metric: acc", "metric: accc"))
    assert "unknown metric 'accc'; did you mean 'acc'?" in problem


LETTERED = """\
task: letters
dataset_path: org/letters
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}\\nA. {{A}}\\nB. {{B}}"
doc_to_choice: [A, B]
doc_to_target: y
metric_list: [{metric: acc}]
options: {columns: [A, B], answer: y}
paraphrases: ["{{q}} {{A}} {{B}}"]
example: {row: {q: "Is it?", A: yes, B: no, y: B, z: A, others: [Is it so?]}, target: 1}
"""


def test_an_example_is_also_shown_with_its_options_at_other_places_and_in_other_words(tmp_path: Path) -> None:
    assert problems(tmp_path, LETTERED) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("answer: y}", "answer: z}"), "example: options: the right answer does not follow its option"),
        (("columns: [A, B]", "columns: [A, none]"), "options: the row has no 'none'"),
        (('{{A}} {{B}}"]', '{{A}} {{C}}"]'), "task.yaml:10: doc_to_text: the row has no field 'C'"),
        (('["{{q}} {{A}} {{B}}"]', "others"), "needs 'options.question', the column that they replace"),
    ],
)
def test_options_and_paraphrases_that_do_not_fit_the_example_are_problems(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    assert change[0] in LETTERED
    (problem,) = problems(tmp_path, LETTERED.replace(*change))
    assert message in problem and "\n" not in problem

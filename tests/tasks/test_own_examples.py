"""A question that stands among its own few-shot examples would show its answer: it is left out of the draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from task_files import CHOICE, REPLY, build, load, prompts

from harness.run.describe import remarks
from harness.run.jobs import TaskJob
from harness.tasks.build_options import SubsetNotes

DEV = [{"q": f"d{n}", "a": n % 2, "id": n} for n in range(4)]
FIRST = "num_fewshot: 2\nfewshot_config: {sampler: first_n}\n"
DRAWN = "num_fewshot: 3\n"


def asked(folder: Path, text: str, row: Mapping[str, Any], shots: Sequence[Any]) -> tuple[str, SubsetNotes]:
    notes = SubsetNotes()
    (prompt,) = prompts(build(load(folder, text), [row], shots, notes))
    return prompt, notes


@pytest.mark.parametrize("sampler", [FIRST, DRAWN])
@pytest.mark.parametrize(
    "row",
    [
        {"q": "d1", "a": 0, "id": 77},  # another gold, another id
        {"q": " d1\n", "a": 1, "id": 1},  # blanks
        {"q": "d1", "a": 1, "id": 1, "source": "a column that the examples lack"},
    ],
)
def test_the_same_text_in_another_split_is_left_out_counted_and_replaced(
    tmp_path: Path, sampler: str, row: dict[str, Any]
) -> None:
    prompt, notes = asked(tmp_path, CHOICE + sampler, row, DEV)
    assert prompt.count("d1") == 1
    assert prompt.count("Answer:") == (3 if sampler == FIRST else 4)
    assert notes.fewer_examples == 0
    assert notes.own_examples == [0] or sampler == DRAWN  # which draws two others by chance


def test_a_pool_with_nothing_else_shows_fewer(tmp_path: Path) -> None:
    prompt, notes = asked(tmp_path, CHOICE + "num_fewshot: 4\n", {"q": "d1", "a": 1}, DEV)
    assert prompt.count("Answer:") == 4
    assert (notes.own_examples, notes.fewer_examples) == ([0], 1)


def test_examples_with_templates_of_their_own_are_compared_by_what_they_show(tmp_path: Path) -> None:
    own = 'fewshot_config: {doc_to_text: "{{ask}}\\nAnswer:", doc_to_target: "{{gold}}"}\n'
    shots = [{"ask": f"d{n}", "gold": n % 2} for n in range(3)]
    prompt, _ = asked(tmp_path, CHOICE + "num_fewshot: 2\n" + own, {"q": "d1", "a": 1}, shots)
    assert prompt.count("d1") == 1


def test_rows_that_show_the_same_words_and_other_choices_are_other_questions(tmp_path: Path) -> None:
    text = CHOICE.replace("['yes', 'no']", '"{{options}}"') + "num_fewshot: 1\n"
    row = {"q": "Which is true?", "a": 0, "options": ["A cat is a dog.", "A cat is no dog."]}
    shot = {"q": "Which is true?", "a": 0, "options": ["Ice is hot.", "Ice is cold."]}
    prompt, notes = asked(tmp_path, text, row, [shot])
    assert prompt.count("Which is true?") == 2
    assert notes.own_examples == []


def test_a_text_that_reads_no_column_makes_no_two_rows_alike(tmp_path: Path) -> None:
    text = REPLY.replace('"{{q}}"', '"Go on:"') + "num_fewshot: 2\nfewshot_split: dev\n"
    prompt, notes = asked(tmp_path, text, {"q": "x", "a": "y"}, [{"q": "1", "a": "2"}, {"q": "3", "a": "4"}])
    assert prompt.count("Go on:") == 3
    assert notes.own_examples == []


def test_the_run_says_how_many(tmp_path: Path) -> None:
    notes = SubsetNotes()
    task = load(tmp_path, CHOICE + "num_fewshot: 4\n")
    samples = build(task, [{"q": "other", "a": 0}, {"q": "d2", "a": 0}], DEV, notes)
    job = TaskJob(task, scorer=None, samples=samples, notes={"": notes})  # type: ignore[arg-type]
    assert [*remarks([job])] == [
        "exam: 1 of 2 rows were drawn among their own few-shot examples (the same question, first: row 1); such an "
        "example is left out, and 1 of these rows see fewer examples"
    ]

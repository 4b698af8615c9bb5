"""`sampler: lm_eval` draws what lm-eval draws: `Random(seed).sample`, one generator for all rows in their order."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from task_files import CHOICE, build, load, prompts

from harness import DataError

ROWS = [{"q": f"question {number}", "a": "yes"} for number in range(12)]
DEV = [{"q": f"example {number}", "a": "no"} for number in range(7)]


def shown(folder: Path, text: str, count: int) -> list[list[str]]:
    """The examples of each row, as their questions."""
    shots = [
        [part.split("\n")[0] for part in prompt.removeprefix("Subject.\n\n").split("\n\n")[:count]]
        for prompt in prompts(build(load(folder, text), ROWS, DEV, seed=1234))
    ]
    assert len(shots) == len(ROWS)
    return shots


def test_examples_of_another_split(tmp_path: Path) -> None:
    found = shown(tmp_path, CHOICE + "num_fewshot: 3\nfewshot_config: {sampler: lm_eval}\n", 3)
    generator = random.Random(1234)
    assert found == [[row["q"] for row in generator.sample(DEV, 3)] for _ in ROWS]


def test_examples_of_the_split_that_is_asked_are_one_more_and_never_the_row(tmp_path: Path) -> None:
    text = CHOICE.replace("fewshot_split: dev", "fewshot_split: test")
    found = shown(tmp_path, text + "num_fewshot: 2\nfewshot_config: {sampler: lm_eval}\n", 2)
    generator = random.Random(1234)
    drawn = [[other for other in generator.sample(ROWS, 3) if other != row][:2] for row in ROWS]
    assert found == [[row["q"] for row in rows] for rows in drawn]


def test_the_first_of_another_split_are_shown_whatever_is_asked(tmp_path: Path) -> None:
    text = CHOICE + "num_fewshot: 2\nfewshot_config: {sampler: lm_eval_first_n}\n"
    same = [{"q": ROWS[0]["q"], "a": "no"}, *DEV]
    asked = prompts(build(load(tmp_path, text), ROWS, same, seed=1234))
    assert all(prompt.count("question 0") == 1 + (number == 0) for number, prompt in enumerate(asked))


def test_the_first_of_the_split_that_is_asked_leave_the_row_out(tmp_path: Path) -> None:
    text = CHOICE.replace("fewshot_split: dev", "fewshot_split: test")
    found = shown(tmp_path, text + "num_fewshot: 2\nfewshot_config: {sampler: lm_eval_first_n}\n", 2)
    names = [row["q"] for row in ROWS]
    assert found == [[name for name in names if name != asked][:2] for asked in names]


def test_more_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sampler lm_eval draws 8 examples"):
        shown(tmp_path, CHOICE + "num_fewshot: 8\nfewshot_config: {sampler: lm_eval}\n", 8)

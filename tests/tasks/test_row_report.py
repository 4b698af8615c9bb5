"""`harness check --data`: every row is built, and what is wrong or odd with rows is counted and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.testing import run_harness

TASK = """\
task: rivers
dataset_path: rivers.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{ question }}"
doc_to_choice: "{{ options }}"
doc_to_target: "{{ answer }}"
metric_list:
  - metric: acc
metadata: {rows: {test: 4}}
"""
GOOD = [{"id": n, "question": f"哪一条河？{n}", "options": ["长江", "黄河"], "answer": n % 2} for n in range(4)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "t.yaml").write_text(TASK, encoding="utf-8")
    return tmp_path


def check(rows: list[Any]) -> tuple[int, str]:
    Path("rivers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = run_harness("check", "t.yaml", "--data", "mirror")
    return done.exit_code, done.output


def test_good_rows_are_counted_and_their_right_answers_shown() -> None:
    code, said = check(GOOD)
    assert code == 0
    assert "rivers, split test: 4 rows, as published" in said
    assert "right answers: 长江 50.0%, 黄河 50.0%" in said
    assert "look at" not in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": 2}, "cannot be used: t.yaml:7: doc_to_target"),
        ({"answer": None}, "1 without a gold answer"),
        ({"options": ["长江", " "]}, "look at: an option is empty: 1 row (3)"),
        ({"options": ["长江", "长江"]}, "look at: two options are the same: 1 row (3)"),
        ({"id": 0}, "look at: 'id' is there twice: 1 row (0 and 3)"),
        ({"question": " "}, "look at: 'question' is empty: 1 row (3)"),
        (GOOD[0], "look at: the row is there twice: 1 row (0 and 3)"),
    ],
)
def test_a_row_that_is_odd_is_named(change: dict[str, Any], said: str) -> None:
    assert said in check([*GOOD[:3], {**GOOD[3], **change}])[1]


def test_rows_that_cannot_be_used_are_counted_and_the_first_three_named() -> None:
    bad = [{**row, "id": 10 + row["id"], "answer": 7} for row in GOOD]
    code, said = check([*GOOD, *bad])
    assert code == 4
    assert "8 rows, but 4 were published" in said
    assert "4 rows (4, 5, 6, ...)" in said
    assert "rivers: 4 rows cannot be used" in said


def test_a_run_refuses_them_with_their_count() -> None:
    check([*GOOD, *({**row, "answer": 7} for row in GOOD)])
    done = run_harness("--tasks", "t.yaml", "--model", "dummy")
    assert done.exit_code == 4
    assert "4 rows cannot be used, the first are 4, 5, 6" in done.output


def test_a_missing_column_is_counted() -> None:
    rows = [*GOOD[:3], {key: value for key, value in GOOD[3].items() if key != "options"}]
    code, said = check(rows)
    assert code == 4
    assert "rivers: 1 row cannot be used" in said


def test_subsets_of_one_file_are_counted_once(folder: Path) -> None:
    halves = 'where: "(id % 2 | string) == subset.rest"\nsubsets: {even: {rest: "0"}, odd: {rest: "1"}}\n'
    (folder / "t.yaml").write_text(TASK + halves.replace("(id % 2 | string)", "(id % 2) | string"), encoding="utf-8")
    code, said = check(GOOD)
    assert code == 0
    assert "rivers, split test: 4 rows, as published" in said

"""A `dataset_path` that is one file: one split, no config, and no subset that would have the rows of another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.testing import run_harness

TASK = """\
task: rivers
dataset_path: rivers.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{ question }}"
doc_to_choice: [yes, no]
doc_to_target: "{{ answer }}"
""".replace("[yes, no]", "['yes', 'no']")


@pytest.fixture(autouse=True)
def _rows_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    rows = [{"question": f"q{n}", "answer": n % 2, "of": "ab"[n % 2]} for n in range(6)]
    for name in ("rivers", "hard"):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(text: str) -> str:
    """What is said to stderr; the run is right unless that begins with `error`."""
    Path("rivers.yaml").write_text(text, encoding="utf-8")
    done = run_harness("--tasks", "rivers.yaml", "--model", "dummy")
    assert done.exit_code == (4 if done.stderr.startswith("error: ") else 0), done.output
    return done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("dataset_name: main\n", "rivers.yaml:8: dataset_name: 'rivers.jsonl' is one file, which has no config 'main'"),
        ("subsets: [a, b]\n", "rivers.yaml:8: subsets: each of them would have all the rows of 'rivers.jsonl'; write"),
        ("fewshot_split: dev\nnum_fewshot: 1\n",
         "rivers.yaml:8: fewshot_split: 'rivers.jsonl' is one file, which is 'test' and cannot be 'dev' too; say"),
        ("training_split: train\nnum_fewshot: 1\n", "rivers.yaml:8: training_split: 'rivers.jsonl' is one file"),
        ("fewshot_config: {split: train}\nnum_fewshot: 1\n", "rivers.yaml:8: fewshot_config: 'rivers.jsonl' is one"),
    ],
)  # fmt: skip
def test_what_one_file_cannot_be_is_refused(change: str, said: str) -> None:
    assert said in run(TASK + change)


@pytest.mark.parametrize(
    ("split", "near"), [("tset", "did you mean 'test'"), ("hardest", "it has: test, train, valid")]
)
def test_a_split_that_no_file_is_called_is_refused(split: str, near: str) -> None:
    said = run(TASK.replace("test_split: test", f"test_split: {split}"))
    assert f"rivers.jsonl (one file): has no split '{split}'" in said
    assert near in said


@pytest.mark.parametrize(
    "text",
    [
        TASK + "num_fewshot: 2\nfewshot_split: test\n",
        TASK + "num_fewshot: 2\n",
        TASK + "fewshot_split: dev\n",  # zero-shot: no examples are read
        TASK.replace("test_split: test", "validation_split: dev"),
        TASK.replace("rivers.jsonl", "hard.jsonl").replace("test_split: test", "test_split: hard"),
        TASK + "subsets: [a, b]\nwhere: of == subset.name\n",
        TASK.replace("rivers.jsonl", "'{{ subset.name }}.jsonl'") + "subsets: [rivers, hard]\n",
    ],
)
def test_what_one_file_can_be_runs(text: str) -> None:
    assert not run(text).startswith("error")

"""What the Python of a task reads first while it scores: noted with its hash, and scored again where it has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import evaluate
from harness.testing import run_harness

pytestmark = pytest.mark.slow

YAML = """\
task: {name}
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: !function {name}_code.doc_to_text
doc_to_target: x
process_results: !function {name}_code.process_results
metric_list: [{{metric: right, aggregation: mean, higher_is_better: true}}]
"""
CODE = """\
import json
from pathlib import Path

HERE = Path(__file__).parent
WORDS = json.loads((HERE / "{name}_words.json").read_text())


def doc_to_text(doc):
    return WORDS["ask"] + str(doc["n"])


def process_results(doc, results):
    return {{"right": json.loads((HERE / "{name}_keys.json").read_text())["right"]}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(YAML.format(name=name))
        (tmp_path / f"{name}_code.py").write_text(CODE.format(name=name))
        (tmp_path / f"{name}_words.json").write_text('{"ask": "What is "}')
        (tmp_path / f"{name}_keys.json").write_text('{"right": 1}')
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    return tmp_path


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def scores(folder: Path) -> list[float]:
    return [json.loads(line)["scores"]["right"] for line in (folder / "one.jsonl").read_text().splitlines()]


def test_a_file_that_has_changed_since_is_named_and_its_scores_are_made_again(folder: Path) -> None:
    command = ["--model", "dummy", "--model_args", "mode=gold", "--tasks", "one.yaml", "--trust_task_code", "."]
    assert run_harness(*command).exit_code == 0
    (run,) = (folder / "runs").iterdir()
    assert set(manifest_of(run)["scoring_files"]["one"]) == {"one_keys.json"}
    assert "has changed since" not in run_harness(*command).stderr
    (folder / "one_keys.json").write_text('{"right": 3}')
    said = run_harness(*command)
    assert (
        "one: one_keys.json, read by its code while it scores, has changed since; its samples are scored" in said.stderr
    )
    assert scores(run) == [3.0, 3.0]
    assert "has changed since" not in run_harness(*command).stderr
    (folder / "one_keys.json").write_text('{"right": 5}')
    said = run_harness("score", str(run))
    assert "one_keys.json, read by its code while it scores, has changed since; the scores are by what" in said.stderr
    assert scores(run) == [5.0, 5.0]
    assert "has changed since" not in run_harness(*command).stderr


def test_what_a_task_is_does_not_hang_on_the_tasks_beside_it(folder: Path) -> None:
    def digests(*tasks: str) -> dict[str, str]:
        path = evaluate("dummy", {"mode": "gold"}, list(tasks), trust_task_code=".", output="runs").path
        return {name: fields["digest"] for name, fields in manifest_of(path)["tasks"].items()}

    assert digests("one.yaml", "two.yaml") == digests("one.yaml") | digests("two.yaml")
